"""The transport on aiohttp (extra ``aiohttp``): several times less CPU a request than httpx; asyncio only."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, TypeAlias, cast
from weakref import WeakKeyDictionary

import aiohttp
import anyio
from yarl import URL

from qxt_async.errors import InvalidConfigurationError
from qxt_async.runtime.secret import Secret
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
    from aiohttp.abc import AbstractStreamWriter

CLOSE_TIME = 5.0


class _Watch:
    """Says whether a connection has received something.

    The first bytes over TLS are the server's session tickets, which are no answer: there it looks from the second
    request on.
    """

    __slots__ = ("_has_news", "used")

    def __init__(self, transport: Any) -> None:
        self._has_news = watch(transport.get_extra_info("socket").fileno())
        self.used = transport.get_extra_info("ssl_object") is None

    def has_come(self) -> bool:
        return self.used and self._has_news()


_Watches: TypeAlias = WeakKeyDictionary[Any, _Watch]


class _Body(aiohttp.BytesPayload):
    """The body of a request. It asks the exchange for the form when the connection is about to be used."""

    def __init__(self, exchange: Exchange, watches: _Watches) -> None:
        super().__init__(exchange.form.reveal(), content_type=FORM_TYPE)
        self._exchange = exchange
        self._watches = watches

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:  # noqa: ARG002
        # Nothing was sent before this point: aiohttp keeps the headers back until there is a body.
        protocol = cast("Any", writer).protocol
        watch = self._watches.get(protocol)
        if watch is None:  # a new connection in the caller's own session
            watch = self._watches[protocol] = _Watch(protocol.transport)
        await writer.write(self._exchange.pull(lambda: protocol.should_close or watch.has_come()))
        watch.used = True


def _once(exchange: Exchange) -> Any:
    """Make a middleware that lets one request through: aiohttp itself repeats a GET when the connection breaks."""

    async def send(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        exchange.begin()
        return await handler(request)

    return send


class _Connector(aiohttp.TCPConnector):
    """Closes an idle connection that has received something: the end, or an answer that nobody asked for.

    aiohttp would take such an answer for the answer to the next request. It notices an end only when the event loop
    has time.
    """

    def __init__(self, watches: _Watches, **options: Any) -> None:
        super().__init__(**options)  # pyright: ignore[reportUnknownMemberType]
        self._watches = watches

    async def connect(self, *args: Any, **options: Any) -> Any:
        """Return a new connection, or a used one that has received nothing since."""
        while True:
            connection = await super().connect(*args, **options)
            protocol: Any = connection.protocol
            watch = self._watches.get(protocol)
            if watch is None:
                self._watches[protocol] = _Watch(connection.transport)
                return connection
            watch.used = True
            if not protocol.should_close and not watch.has_come():
                return connection
            connection.close()


class _Session:
    """A session with the number of its requests in flight."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session
        self.load = 0
        self.retired = False


class AiohttpTransport:
    """Sends through aiohttp.

    Args:
        max_concurrency: the largest number of requests in flight.
        connect_timeout: seconds until a connection has to be there.
        trust_env: use the proxies of the environment; by default they are ignored.
        plain_http: has no meaning here: aiohttp builds its TLS context when it is imported.
        reuse_connections: use a connection for more than one request.
        given: the caller's own session, which the caller closes. Its connector needs room for `max_concurrency`
            connections. Use POST with it: there, only the body notices an answer that came while the connection was
            idle, and a GET has no body.

    Raises:
        InvalidConfigurationError: `reuse_connections` is ``False``, and the connector of `given` uses connections
            again.
    """

    keeps_deadline = True

    def __init__(
        self,
        *,
        max_concurrency: int = 8,
        connect_timeout: float = 10.0,
        trust_env: bool = False,
        plain_http: bool = False,  # noqa: ARG002
        reuse_connections: bool = True,
        given: aiohttp.ClientSession | None = None,
    ) -> None:
        if given is not None and not (reuse_connections or (given.connector and given.connector.force_close)):
            raise InvalidConfigurationError(
                "reuse_connections=False needs a session with aiohttp.TCPConnector(force_close=True)"
            )
        self._reuse = reuse_connections
        self._limit = max_concurrency
        self._trust_env = trust_env
        self._given = given
        self._current: _Session | None = None
        self._connect_timeout = connect_timeout
        self._timeout = self._limits(None)
        self._urls: dict[str, URL] = {}
        self._watches: _Watches = WeakKeyDictionary()
        self._headers = None if given is None else HEADERS

    def _open(self) -> _Session:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise InvalidConfigurationError("aiohttp runs on asyncio only: on trio use the httpx transport") from None
        if self._current is None:
            self._current = _Session(self._given or self._new_session())
        return self._current

    def _new_session(self) -> aiohttp.ClientSession:
        keeping: dict[str, Any] = {"keepalive_timeout": KEEPALIVE} if self._reuse else {"force_close": True}
        return aiohttp.ClientSession(
            connector=_Connector(self._watches, limit=self._limit, **keeping),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers=HEADERS,  # once, instead of merged into the defaults with each request
            trust_env=self._trust_env,
        )

    def _address(self, exchange: Exchange) -> URL:
        url = self._urls.get(exchange.url)
        if url is None:
            url = self._urls[exchange.url] = URL(exchange.url, encoded=True)
        if exchange.method == "GET":
            return URL(f"{exchange.url}?{exchange.pull().decode('ascii')}", encoded=True)
        return url

    def _limits(self, total: float | None) -> aiohttp.ClientTimeout:
        """Make the deadline, which aiohttp is not to round up to a full second. The last one is kept for reuse."""
        self._timeout = aiohttp.ClientTimeout(total, sock_connect=self._connect_timeout, ceil_threshold=math.inf)
        return self._timeout

    async def exchange(self, exchange: Exchange) -> None:
        """Send the request and read the answer, as `Transport.exchange` describes."""
        used = self._open()
        timeout = self._timeout if self._timeout.total == exchange.timeout else self._limits(exchange.timeout)
        is_post = exchange.method == "POST"
        broken = ""
        used.load += 1
        try:
            # Its repr has the address, and the address of a GET has the form.
            response = Secret(
                await used.session.request(
                    exchange.method,
                    self._address(exchange),
                    data=_Body(exchange, self._watches) if is_post else None,
                    headers=self._headers,
                    allow_redirects=False,
                    timeout=timeout,
                    middlewares=None if is_post else (_once(exchange),),
                    raise_for_status=False,
                )
            )
            if is_post and not exchange.body_started:
                response.reveal().close()
                raise exchange.refused or UnaskedAnswerError
            await self._read(exchange, response, used)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            # It may quote the address, and the address of a GET has the form.
            raise NeverConnectedError(type(error).__name__) from (error if is_post else None)
        except aiohttp.ClientResponseError as error:
            if is_post:
                raise
            broken = type(error).__name__  # it shows the address
        finally:
            used.load -= 1
            if used.retired and not used.load:
                await self._close_retired(used)
        if broken:
            raise aiohttp.ClientError(broken)

    async def _read(self, exchange: Exchange, response: Secret[aiohttp.ClientResponse], used: _Session) -> None:
        whole = False
        try:
            sent = response.reveal().headers.get
            exchange.begin_answer(response.reveal().status, sent("retry-after"), sent("content-encoding"), sent("age"))
            del sent  # a redirect's has the address
            content = response.reveal().content
            body = b""
            while not content.at_eof():
                body += await content.readany()
                if len(body) > ANSWER_LIMIT:
                    raise AnswerTooLargeError
            whole = True
            if not exchange.finish(body) and used is self._current and self._given is None:
                # aiohttp has taken the connection back at the last byte of the answer, and has no way to close an idle
                # one. So the session is closed when its other requests are done.
                self._current, used.retired = None, True
        finally:
            if not whole:
                response.reveal().close()

    async def _close_retired(self, used: _Session) -> None:
        used.retired = False
        with anyio.move_on_after(CLOSE_TIME, shield=True):
            await used.session.close()

    async def aclose(self) -> None:
        """Close the session that this transport has opened."""
        if self._given is None and (used := self._current) is not None:
            self._current = None
            await used.session.close()
