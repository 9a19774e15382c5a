"""The transport on httpx, the default.

httpx's pool looks through all of its connections and waiting requests for each request, and loses connections when
waiting requests are cancelled. So nothing waits in a pool of ours (the client's semaphore is never larger), and above
eight connections the work is shared over several small pools.
"""

from __future__ import annotations

import logging
import ssl
import sys
from typing import TYPE_CHECKING, Any, ClassVar

import anyio
import httpx

from .seam import ANSWER_LIMIT, KEEPALIVE, AnswerTooLargeError, Exchange, NeverConnectedError, headers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import ModuleType

__all__ = ["HttpxTransport"]

_POOL_SIZE = 8
_CLOSE_TIME = 5.0


class _QueryRedactor(logging.Filter):
    """Cuts the query off the URLs that an ``AsyncClient`` logs at INFO: with GET it carries the digest."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(_without_query(value) for value in record.args)
        return True


def _without_query(value: Any) -> Any:
    return value.copy_with(query=None) if hasattr(value, "copy_with") and hasattr(value, "query") else value


_redactor = _QueryRedactor()


class _Pool:
    """A few connections, and how many are in use."""

    def __init__(self, send: Callable[[Any], Any]) -> None:
        self.send = send
        self.load = 0


class HttpxTransport:
    """Sends through httpx.

    Args:
        max_concurrency: requests in flight at most.
        connect_timeout: seconds until a connection has to stand.
        trust_env: use proxies from the environment; otherwise they are ignored.
        plain_http: no address of ours is ``https://``, so no TLS context is built (20 to 40 ms of a blocked loop).
    """

    library: ClassVar[ModuleType] = httpx

    def __init__(
        self,
        *,
        max_concurrency: int = 8,
        connect_timeout: float = 10.0,
        trust_env: bool = False,
        plain_http: bool = False,
    ) -> None:
        self._prepare(connect_timeout, min(max_concurrency, _POOL_SIZE))
        # The name "httpx" stands for httpx2 as well: the two share their interface.
        lib: Any = self.library
        verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain_http else lib.create_ssl_context()
        limits = lib.Limits(
            max_connections=self._limit, max_keepalive_connections=self._limit, keepalive_expiry=KEEPALIVE
        )
        for _ in range(-(-max_concurrency // _POOL_SIZE)):
            if trust_env:
                client = lib.AsyncClient(verify=verify, limits=limits, trust_env=True, timeout=None)
                self._use_client(client)
                self._closers.append(client.aclose)
            else:
                transport = lib.AsyncHTTPTransport(verify=verify, limits=limits, trust_env=False)
                self._pools.append(_Pool(transport.handle_async_request))
                self._closers.append(transport.aclose)

    @classmethod
    def wrapping(cls, given: Any, *, connect_timeout: float = 10.0) -> HttpxTransport:
        """Send through the caller's own ``AsyncClient`` or transport, which stays the caller's to close.

        Its pool has to have room for the client's ``max_concurrency``.
        """
        self = cls.__new__(cls)
        self._prepare(connect_timeout, sys.maxsize)
        if hasattr(given, "handle_async_request"):
            self._pools.append(_Pool(given.handle_async_request))
        else:
            self._use_client(given)
        return self

    def _prepare(self, connect_timeout: float, limit: int) -> None:
        lib: Any = self.library
        self._pools: list[_Pool] = []
        self._closers: list[Callable[[], Any]] = []
        self._limit = limit
        self._timeouts = {"connect": connect_timeout, "read": None, "write": None, "pool": connect_timeout}
        self._urls: dict[str, Any] = {}
        self._never_connected = (
            lib.ConnectError,
            lib.ConnectTimeout,
            lib.PoolTimeout,
            lib.UnsupportedProtocol,
            lib.ProxyError,
            lib.InvalidURL,
        )

        class Body(lib.AsyncByteStream):  # type: ignore[misc]
            """The body, which notes when it is first pulled."""

            def __init__(self, exchange: Exchange) -> None:
                self.exchange = exchange

            async def __aiter__(self) -> AsyncIterator[bytes]:
                yield self.exchange.pull()

        self._body = Body
        self._no_body = lib.ByteStream(b"")

    def _use_client(self, client: Any) -> None:
        logging.getLogger(self.library.__name__).addFilter(_redactor)

        async def send(request: Any) -> Any:
            # What the client adds of its own (authentication, cookies, headers) it is meant to add.
            merged = client.build_request(
                request.method, request.url, headers=request.headers, extensions=request.extensions
            )
            merged.stream = request.stream
            return await client.send(merged, stream=True, follow_redirects=False)

        self._pools.append(_Pool(send))

    def _build(self, exchange: Exchange) -> Any:
        lib: Any = self.library
        url = self._urls.get(exchange.url)
        if url is None:
            url = self._urls[exchange.url] = lib.URL(exchange.url)
        sent = {"host": url.netloc.decode("ascii"), **headers(exchange)}
        if exchange.request.method == "GET":
            url, stream = url.copy_with(query=exchange.request.form), self._no_body
        else:
            stream = self._body(exchange)
        return lib.Request(
            exchange.request.method, url, headers=sent, stream=stream, extensions={"timeout": self._timeouts}
        )

    async def exchange(self, exchange: Exchange) -> None:
        """See `Transport.exchange`."""
        pool = next(pool for pool in self._pools if pool.load < self._limit)
        pool.load += 1
        try:
            try:
                response = await pool.send(self._build(exchange))
            except self._never_connected as error:
                raise NeverConnectedError(f"{type(error).__name__}: {error}") from error
            await self._read(exchange, response)
        finally:
            pool.load -= 1

    async def _read(self, exchange: Exchange, response: Any) -> None:
        try:
            sent = response.headers
            exchange.begin_answer(response.status_code, sent.get("retry-after"), sent.get("content-encoding"))
            body = bytearray()
            # The stream below the response: as it came, not unpacked, and not given back at its end.
            async for part in response.stream:
                body += part
                if len(body) > ANSWER_LIMIT:
                    raise AnswerTooLargeError
            if not exchange.finish(body) and (stream := response.extensions.get("network_stream")) is not None:
                await stream.aclose()
        finally:
            with anyio.move_on_after(_CLOSE_TIME, shield=True):
                await response.aclose()

    async def aclose(self) -> None:
        """Close the pools that are ours."""
        closers, self._closers = self._closers, []
        for close in closers:
            await close()
