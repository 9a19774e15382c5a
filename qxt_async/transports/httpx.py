"""The transport on httpx, the default.

httpx's pool looks through all of its connections and waiting requests for each request, and loses connections when
waiting requests are cancelled. So nothing ever waits in a pool of ours: there are as many as requests may be in flight,
each of one connection, and the one used last is the first to be used again.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import socket
import ssl
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias
from weakref import WeakKeyDictionary

import anyio
import httpx

from qxt_async.protocol.answers import mask_secrets
from qxt_async.runtime.tasks import run_in_own_task
from qxt_async.transports.base import (
    ANSWER_LIMIT,
    FORM_TYPE,
    HEADERS,
    KEEPALIVE,
    AnswerTooLargeError,
    Exchange,
    NeverConnectedError,
    UnaskedAnswerError,
    watch,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from types import ModuleType

    _Send: TypeAlias = Callable[[Exchange], Awaitable[Any]]

__all__ = ["HttpxTransport"]

_CLOSE_TIME = 5.0


class _QueryRedactor(logging.Filter):
    """Cuts the query off the URLs that an ``AsyncClient`` logs at INFO: with GET it carries the digest."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(_without_query(value) for value in record.args)
        return True


def _without_query(value: Any) -> Any:
    return value.copy_with(query=None) if hasattr(value, "copy_with") else value


class _EchoRedactor(logging.Filter):
    """Masks what a server repeats of our request in what httpcore logs of its answers at DEBUG.

    A redirect's ``Location`` has the whole query of a GET, and a broken status line may have anything.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if record.msg.startswith("receive_response"):
            record.msg = mask_secrets(record.msg)
        return True


_redactor = _QueryRedactor()
_echo_redactor = _EchoRedactor()


class _Once:
    """One part, pulled when it is asked for. Not a generator: who stops after it leaves nothing behind to be closed."""

    def __init__(self, pull: Callable[[], bytes]) -> None:
        self._pull: Callable[[], bytes] | None = pull

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        pull, self._pull = self._pull, None
        if pull is None:
            raise StopAsyncIteration
        return pull()


def _connection_of(transport: Any, body: Any) -> Any:
    """The HTTP/1 connection on which a request with this body is being sent.

    httpcore offers no public way to ask, so this goes down from its pool. ``None`` where the way ends elsewhere: in a
    caller's own transport, or on HTTP/2, where answers cannot be mistaken.
    """
    for asked in getattr(getattr(transport, "_pool", None), "_requests", ()):
        if asked.request.stream is body:
            connection = asked.connection
            while connection is not None and not hasattr(connection, "_h11_state"):
                connection = getattr(connection, "_connection", None)
            return connection
    return None


def _tracer(exchange: Exchange) -> Callable[[str, Any], Awaitable[None]]:
    """Sees each time that httpcore begins to send a request: a caller's client or transport may repeat it.

    A body's own stream does not see all: it may have been read into memory before. And a GET has none.
    """
    begins = "send_request_headers.started" if exchange.request.method == "GET" else "send_request_body.started"

    async def trace(event: str, _: Any) -> None:
        if event.endswith(begins):
            exchange.begin()

    return trace


def _is_http1(response: Any) -> bool:
    """Whether answers are told apart by their order alone; an answer without a connection has no version."""
    version: bytes = response.extensions.get("http_version", b"")
    return version.startswith(b"HTTP/1")


def _is_followed(response: Any, *, over_tls: bool) -> bool:
    """Whether more bytes came than this answer has: httpcore would take them for the next request's answer.

    It offers no public way to ask, so this goes down to the buffers of the parser and of what is below. Where the way
    ends elsewhere, the connection is not used again: slower, but never wrong.
    """
    layer = response.stream
    while layer is not None:
        if (parser := getattr(layer, "_h11_state", None)) is not None:
            return bool(parser.trailing_data[0]) or _is_buffered(layer, over_tls=over_tls)
        inner = (getattr(layer, name, None) for name in ("_stream", "_httpcore_stream", "_connection"))
        layer = next((found for found in inner if found is not None), None)
    return True


def _is_buffered(connection: Any, *, over_tls: bool) -> bool:
    """Whether bytes wait between the socket and the parser: in anyio's queue, or still encrypted."""
    layer, seen_tls = getattr(connection._network_stream, "_stream", None), False
    while layer is not None:
        # The names are anyio's and trio's.
        encrypted = getattr(layer, "_read_bio", None) or getattr(layer, "_incoming", None)
        if encrypted is not None:
            seen_tls = True
        queue = getattr(getattr(layer, "_protocol", None), "read_queue", ())
        if queue or (encrypted is not None and encrypted.pending):
            return True
        layer = getattr(layer, "transport_stream", None)
    return over_tls and not seen_tls


async def _whole(response: Any) -> bytearray:
    """The answer's body, as it came."""
    body = bytearray()
    try:
        # The stream below the response: not unpacked, and not given back at its end.
        async for part in response.stream:
            if len(body) > ANSWER_LIMIT:
                continue
            body += part
            if len(body) > ANSWER_LIMIT and (stream := response.extensions.get("network_stream")) is not None:
                # Left here, the generators of httpcore would be cleaned up by nobody: the closed stream ends them.
                await stream.aclose()
    except Exception:
        if len(body) <= ANSWER_LIMIT:
            raise
    if len(body) > ANSWER_LIMIT:
        raise AnswerTooLargeError
    return body


def _hang_up(response: Any) -> None:
    """End the connection below httpcore, which then finds it ended, and not broken."""
    stream = response.extensions.get("network_stream")
    connected = None if stream is None else stream.get_extra_info("socket")
    if connected is not None:
        # A copy, since not every event loop's socket can do it; and shut down, not closed, since httpcore on trio
        # stumbles over a closed one when it next looks for a connection.
        with contextlib.suppress(OSError), socket.fromfd(connected.fileno(), connected.family, connected.type) as copy:
            copy.shutdown(socket.SHUT_RDWR)


class HttpxTransport:
    """Sends through httpx.

    Args:
        max_concurrency: requests in flight at most.
        connect_timeout: seconds until a connection has to stand.
        trust_env: use proxies from the environment; otherwise they are ignored.
        plain_http: no address of ours is ``https://``, so no TLS context is built (20 to 40 ms of a blocked loop).
        reuse_connections: use a connection for more than one request.
    """

    library: ClassVar[ModuleType] = httpx

    def __init__(
        self,
        *,
        max_concurrency: int = 8,
        connect_timeout: float = 10.0,
        trust_env: bool = False,
        plain_http: bool = False,
        reuse_connections: bool = True,
    ) -> None:
        self._prepare(connect_timeout, reuse_connections=reuse_connections)
        # The name "httpx" stands for httpx2 as well: the two share their interface.
        lib: Any = self.library
        verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain_http else lib.create_ssl_context()
        limits = lib.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEEPALIVE)
        for _ in range(max_concurrency):
            if trust_env:
                client = lib.AsyncClient(verify=verify, limits=limits, trust_env=True, timeout=None)
                self._lanes.append(self._through(client))
                self._closers.append(client.aclose)
            else:
                transport = lib.AsyncHTTPTransport(verify=verify, limits=limits, trust_env=False)
                self._lanes.append(self._straight(transport))
                self._closers.append(transport.aclose)

    @classmethod
    def wrapping(cls, given: Any, *, connect_timeout: float = 10.0, reuse_connections: bool = True) -> HttpxTransport:
        """Send through the caller's own ``AsyncClient`` or transport, which stays the caller's to close.

        Its pool has to have room for the client's ``max_concurrency``.
        """
        self = cls.__new__(cls)
        self._prepare(connect_timeout, reuse_connections=reuse_connections)
        is_transport = hasattr(given, "handle_async_request")
        self._shared = self._straight(given) if is_transport else self._through(given)
        return self

    def _prepare(self, connect_timeout: float, *, reuse_connections: bool) -> None:
        lib: Any = self.library
        core = lib.__name__.replace("httpx", "httpcore")
        for protocol in ("http11", "http2"):  # the latter if the caller's own client speaks it
            logging.getLogger(f"{core}.{protocol}").addFilter(_echo_redactor)
        self._reuse = reuse_connections
        self._lanes: list[_Send] = []
        self._shared: _Send | None = None
        self._closers: list[Callable[[], Any]] = []
        self._timeouts = {"connect": connect_timeout, "read": None, "write": None, "pool": connect_timeout}
        self._urls: dict[str, Any] = {}
        self._watches: WeakKeyDictionary[Any, Callable[[], bool]] = WeakKeyDictionary()
        self._never_connected = (
            lib.ConnectError,
            lib.ConnectTimeout,
            lib.PoolTimeout,
            lib.UnsupportedProtocol,
            lib.ProxyError,
            lib.InvalidURL,
        )

        class Body(lib.AsyncByteStream):  # type: ignore[misc]
            """The body, which notes when it is pulled, and stays here if something has come before."""

            def __init__(self, exchange: Exchange, has_come: Callable[[Any], bool]) -> None:
                self.exchange = exchange
                self.has_come = has_come

            def __aiter__(self) -> AsyncIterator[bytes]:
                return _Once(lambda: self.exchange.pull(lambda: self.has_come(self)))

        self._body = Body
        self._no_body = lib.ByteStream(b"")

    def _has_come(self, transport: Any, body: Any) -> bool:
        """Whether something is to be read on the connection that is about to get this body."""
        connection = _connection_of(transport, body)
        if connection is None:
            return False
        has_news = self._watches.get(connection)
        if has_news is None:
            stream = connection._network_stream
            has_news = self._watches[connection] = watch(stream.get_extra_info("socket").fileno())
            if stream.get_extra_info("ssl_object") is not None:
                # What comes first over TLS are the server's session tickets, which are no answer.
                return False
        return has_news()

    def _straight(self, transport: Any) -> _Send:
        """A way to send through a transport."""

        async def send(exchange: Exchange) -> Any:
            has_come = functools.partial(self._has_come, transport)
            return await transport.handle_async_request(self._build(exchange, has_come))

        return send

    def _through(self, client: Any) -> _Send:
        """A way to send through a client."""
        logging.getLogger(self.library.__name__).addFilter(_redactor)

        def build(exchange: Exchange) -> Any:
            def has_come(body: Any) -> bool:
                return self._has_come(client._transport_for_url(request.url), body)

            request = self._build(exchange, has_come)
            # What the client adds of its own (authentication, cookies, headers) it is meant to add.
            merged = client.build_request(
                request.method, request.url, headers=request.headers, extensions=request.extensions
            )
            # As a stream from the first, or the request would count as one that was read and is empty.
            return self.library.Request(
                merged.method, merged.url, headers=merged.headers, stream=request.stream, extensions=merged.extensions
            )

        async def send(exchange: Exchange) -> Any:
            return await client.send(build(exchange), stream=True, follow_redirects=False)

        return send

    def _build(self, exchange: Exchange, has_come: Callable[[Any], bool]) -> Any:
        lib: Any = self.library
        url = self._urls.get(exchange.url)
        if url is None:
            url = self._urls[exchange.url] = lib.URL(exchange.url)
        sent = {"host": url.netloc.decode("ascii"), **HEADERS}
        if exchange.request.method == "GET":
            url, stream = url.copy_with(query=exchange.pull()), self._no_body
        else:
            stream = self._body(exchange, has_come)
            sent["content-type"] = FORM_TYPE
            sent["content-length"] = str(exchange.length)
        extensions: dict[str, Any] = {"timeout": self._timeouts}
        if self._shared is not None:  # ours repeat nothing
            extensions["trace"] = _tracer(exchange)
        return lib.Request(exchange.request.method, url, headers=sent, stream=stream, extensions=extensions)

    async def exchange(self, exchange: Exchange) -> None:
        """See `Transport.exchange`."""
        send = self._shared or self._lanes.pop()
        try:
            # A connection whose clean-up in httpcore is broken into is lost for good.
            await run_in_own_task(lambda: self._exchange(exchange, send))
        finally:
            if self._shared is None:
                self._lanes.append(send)

    async def _exchange(self, exchange: Exchange, send: _Send) -> None:
        try:
            response = await send(exchange)
        except self._never_connected as error:
            raise NeverConnectedError(f"{type(error).__name__}: {error}") from error
        await self._read(exchange, response)

    async def _read(self, exchange: Exchange, response: Any) -> None:
        try:
            if (
                exchange.request.method == "POST"
                and not exchange.body_started
                and "network_stream" in response.extensions
            ):
                # The headers could not be written any more, and something was there to be read.
                raise exchange.refused or UnaskedAnswerError
            exchange.begin_answer(
                response.status_code,
                response.headers.get("retry-after"),
                response.headers.get("content-encoding"),
                response.headers.get("age"),
            )
            trusted = exchange.finish(await _whole(response))
            over_tls = exchange.base_url.startswith("https:")
            if _is_http1(response) and (not (trusted and self._reuse) or _is_followed(response, over_tls=over_tls)):
                _hang_up(response)
        finally:
            with anyio.move_on_after(_CLOSE_TIME, shield=True):
                await response.aclose()

    async def aclose(self) -> None:
        """Close the pools that are ours."""
        closers, self._closers = self._closers, []
        for close in closers:
            await close()
