"""The transport on httpx, the default.

For each request, the pool of httpx looks through all its connections and all waiting requests. It loses connections
when waiting requests are cancelled. So no request waits in a pool here: there is one pool of one connection for each
request that may be in flight, and the pool used last is used next.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import socket
import ssl
from typing import TYPE_CHECKING, Any, ClassVar, Self
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
    from collections.abc import Awaitable, Callable
    from types import ModuleType

CLOSE_TIME = 5.0


class _QueryRedactor(logging.Filter):
    """Removes the query from the URLs that an ``AsyncClient`` logs at INFO: the query of a GET has the digest."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(_without_query(value) for value in record.args)
        return True


def _without_query(value: Any) -> Any:
    return value.copy_with(query=None) if hasattr(value, "copy_with") else value


class _EchoRedactor(logging.Filter):
    """Masks what an answer repeats of our request where httpcore logs the answer at DEBUG.

    The ``Location`` of a redirect has the whole query of a GET. A broken status line may have anything.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if record.msg.startswith("receive_response"):
            record.msg = mask_secrets(record.msg)
        return True


_redactor = _QueryRedactor()
_echo_redactor = _EchoRedactor()


def _connection_of(transport: Any, body: Any) -> Any:
    """Find the HTTP/1 connection that sends the request with this body.

    httpcore has no public way to ask, so this looks into its pool. Returns ``None`` for a caller's own transport, and
    for HTTP/2, where each answer names its request.
    """
    for asked in getattr(getattr(transport, "_pool", None), "_requests", ()):
        if asked.request.stream is body:
            connection = asked.connection
            while connection is not None and not hasattr(connection, "_h11_state"):
                connection = getattr(connection, "_connection", None)
            return connection
    return None


def _tracer(exchange: Exchange) -> Callable[[str, Any], Awaitable[None]]:
    """Make a trace that notes each time httpcore begins to send the request: a caller's client may repeat it.

    The body's own stream does not see every repetition: a client may read it into memory first, and a GET has none.
    """
    begins = "send_request_headers.started" if exchange.method == "GET" else "send_request_body.started"

    async def trace(event: str, _: Any) -> None:
        if event.endswith(begins):
            exchange.begin()

    return trace


def _is_followed(response: Any, *, over_tls: bool) -> bool:
    """Say whether more bytes came than this answer has: httpcore would take them for the next request's answer.

    httpcore has no public way to ask, so this looks into the buffers of its parser and of the layers below. Where it
    cannot find them, the connection is not used again: slower, but never wrong.
    """
    layer = response.stream
    while layer is not None:
        if (parser := getattr(layer, "_h11_state", None)) is not None:
            return bool(parser.trailing_data[0]) or _is_buffered(layer, over_tls=over_tls)
        inner = None
        for name in ("_stream", "_httpcore_stream", "_connection"):
            inner = getattr(layer, name, None) if inner is None else inner
        layer = inner
    return True


def _is_buffered(connection: Any, *, over_tls: bool) -> bool:
    """Say whether bytes wait between the socket and the parser: in anyio's queue, or still encrypted."""
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


async def _read_body(response: Any) -> bytearray:
    """Read the answer's body as it came."""
    body = bytearray()
    try:
        # The stream below the response: not unpacked, and not given back at its end.
        async for part in response.stream:
            if len(body) > ANSWER_LIMIT:
                continue
            body += part
            if len(body) > ANSWER_LIMIT and (stream := response.extensions.get("network_stream")) is not None:
                # The generators of httpcore clean up only at their end: closing the stream ends them.
                await stream.aclose()
    except Exception:
        if len(body) <= ANSWER_LIMIT:
            raise
    if len(body) > ANSWER_LIMIT:
        raise AnswerTooLargeError
    return body


def _hang_up(response: Any) -> None:
    """Shut the connection down below httpcore, which then takes it for one that the server has closed."""
    stream = response.extensions.get("network_stream")
    connected = None if stream is None else stream.get_extra_info("socket")
    if connected is not None:
        # A copy of the socket, since the sockets of some event loops have no shutdown. Not closed: httpcore on trio
        # fails on a closed socket when it next looks for a connection.
        with contextlib.suppress(OSError), socket.fromfd(connected.fileno(), connected.family, connected.type) as copy:
            copy.shutdown(socket.SHUT_RDWR)


class OneTimeBody:
    """The body of a request. It asks the exchange for the form, and so the form is given out once.

    It is its own iterator, not a generator: a sender that stops early leaves nothing that has to be closed.

    Args:
        exchange: the request.
        transport: the transport of httpx that sends it.
        watches: for each connection, a function that says whether it has something to read.
    """

    def __init__(self, exchange: Exchange, transport: Any, watches: WeakKeyDictionary[Any, Callable[[], bool]]) -> None:
        self._exchange = exchange
        self._transport = transport
        self._watches = watches
        self._given = False

    def __aiter__(self) -> Self:
        self._given = False  # whoever begins again asks the exchange again, which refuses
        return self

    async def __anext__(self) -> bytes:
        if self._given:
            raise StopAsyncIteration
        self._given = True
        return self._exchange.pull(self._has_come)

    def _has_come(self) -> bool:
        """Say whether the connection that is about to get this body has something to read."""
        connection = _connection_of(self._transport, self)
        if connection is None:
            return False
        has_news = self._watches.get(connection)
        if has_news is None:
            stream = connection._network_stream
            has_news = self._watches[connection] = watch(stream.get_extra_info("socket").fileno())
            if stream.get_extra_info("ssl_object") is not None:
                # The first bytes over TLS are the server's session tickets, which are no answer.
                return False
        return has_news()


class _Body(OneTimeBody, httpx.AsyncByteStream):
    pass


class HttpxTransport:
    """Sends through httpx.

    Args:
        max_concurrency: the largest number of requests in flight.
        connect_timeout: seconds until a connection has to be there.
        trust_env: use the proxies of the environment; by default they are ignored.
        plain_http: no address is ``https://``, so no TLS context is built, which would block the loop for 20 to 40 ms.
        reuse_connections: use a connection for more than one request.
        given: the caller's own ``AsyncClient`` or transport, which the caller closes. Its pool needs room for
            `max_concurrency` connections. `trust_env` and `plain_http` have no meaning then.
    """

    library: ClassVar[ModuleType] = httpx
    body_type: ClassVar[type[OneTimeBody]] = _Body

    def __init__(
        self,
        *,
        max_concurrency: int = 8,
        connect_timeout: float = 10.0,
        trust_env: bool = False,
        plain_http: bool = False,
        reuse_connections: bool = True,
        given: Any = None,
    ) -> None:
        # The name "httpx" stands for httpx2 as well: the two share their interface.
        lib: Any = self.library
        core = lib.__name__.replace("httpx", "httpcore")
        for protocol in ("http11", "http2"):  # the latter if the caller's own client speaks it
            logging.getLogger(f"{core}.{protocol}").addFilter(_echo_redactor)
        self._given = given
        self._through_client: bool = trust_env if given is None else not hasattr(given, "handle_async_request")
        if self._through_client:
            logging.getLogger(lib.__name__).addFilter(_redactor)
        self._own = [] if given is not None else self._open(max_concurrency, plain_http=plain_http)
        self._free = [*self._own]
        self._reuse = reuse_connections
        self._timeouts = {"connect": connect_timeout, "read": None, "write": None, "pool": connect_timeout}
        self._urls: dict[str, Any] = {}
        self._watches: WeakKeyDictionary[Any, Callable[[], bool]] = WeakKeyDictionary()
        self._no_body = lib.ByteStream(b"")
        self._never_connected = (
            lib.ConnectError,
            lib.ConnectTimeout,
            lib.PoolTimeout,
            lib.UnsupportedProtocol,
            lib.ProxyError,
            lib.InvalidURL,
        )

    def _open(self, count: int, *, plain_http: bool) -> list[Any]:
        """Open transports of one connection each; or clients of such, which know the proxies of the environment."""
        lib: Any = self.library
        verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain_http else lib.create_ssl_context()
        limits = lib.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEEPALIVE)
        if self._through_client:
            return [lib.AsyncClient(verify=verify, limits=limits, trust_env=True, timeout=None) for _ in range(count)]
        return [lib.AsyncHTTPTransport(verify=verify, limits=limits, trust_env=False) for _ in range(count)]

    async def exchange(self, exchange: Exchange) -> None:
        """Send the request and read the answer, as `Transport.exchange` describes."""
        sender = self._given if self._given is not None else self._free.pop()
        try:
            # httpcore loses a connection for good if its clean-up is cancelled.
            await run_in_own_task(functools.partial(self._exchange, exchange, sender))
        finally:
            if self._given is None:
                self._free.append(sender)

    async def _exchange(self, exchange: Exchange, sender: Any) -> None:
        try:
            url = self._urls.get(exchange.url)
            if url is None:
                url = self._urls[exchange.url] = self.library.URL(exchange.url)
            if self._through_client:
                transport = sender._transport_for_url(url)
                request = self._merge_client(sender, self._build(exchange, url, transport))
                response = await sender.send(request, stream=True, follow_redirects=False)
            else:
                response = await sender.handle_async_request(self._build(exchange, url, sender))
        except self._never_connected as error:
            raise NeverConnectedError(f"{type(error).__name__}: {error}") from error
        await self._read(exchange, response)

    def _build(self, exchange: Exchange, url: Any, transport: Any) -> Any:
        headers = {"host": url.netloc.decode("ascii"), **HEADERS}
        if exchange.method == "GET":
            url, stream = url.copy_with(query=exchange.pull()), self._no_body
        else:
            stream = self.body_type(exchange, transport, self._watches)
            headers["content-type"] = FORM_TYPE
            headers["content-length"] = str(len(exchange.form.reveal()))
        extensions: dict[str, Any] = {"timeout": self._timeouts}
        if self._given is not None:  # our own transports repeat nothing
            extensions["trace"] = _tracer(exchange)
        return self.library.Request(exchange.method, url, headers=headers, stream=stream, extensions=extensions)

    def _merge_client(self, client: Any, request: Any) -> Any:
        """Add what the client adds to each request: authentication, cookies, headers."""
        merged = client.build_request(
            request.method, request.url, headers=request.headers, extensions=request.extensions
        )
        # The stream is given from the beginning, or the request would count as one whose empty body was read.
        return self.library.Request(
            merged.method, merged.url, headers=merged.headers, stream=request.stream, extensions=merged.extensions
        )

    async def _read(self, exchange: Exchange, response: Any) -> None:
        extensions = response.extensions
        try:
            if exchange.method == "POST" and not exchange.body_started and "network_stream" in extensions:
                # The headers could not be written any more, and something was there to be read.
                raise exchange.refused or UnaskedAnswerError
            exchange.begin_answer(
                response.status_code,
                response.headers.get("retry-after"),
                response.headers.get("content-encoding"),
                response.headers.get("age"),
            )
            trusted = exchange.finish(await _read_body(response))
            # In HTTP/1, only their order tells answers apart. An answer without a connection has no version.
            if extensions.get("http_version", b"").startswith(b"HTTP/1") and (
                not (trusted and self._reuse) or _is_followed(response, over_tls=exchange.url.startswith("https:"))
            ):
                _hang_up(response)
        finally:
            with anyio.move_on_after(CLOSE_TIME, shield=True):
                await response.aclose()

    async def aclose(self) -> None:
        """Close the pools that this transport has opened."""
        own, self._own = self._own, []
        for each in own:
            await each.aclose()
