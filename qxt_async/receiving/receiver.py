"""The other end of the gateway's pushes: a raw ASGI application.

::

    receiver = PushReceiver("qxt.db", path_secret=os.environ["QXT_PUSH_PATH"], allow=["192.0.2.10"])

runs alone (``uvicorn module:receiver``), opening and closing its journal, or mounted in any ASGI framework, whose
own start-up then enters ``async with receiver``. The gateway gets the address ``https://host/<mount>/<path_secret>``.

**Who may push** (nothing signs a push, PROTOCOL 4): whoever knows the secret path and, with `allow`, comes from one
of those addresses. Everybody else gets the same 404. Behind a proxy the sender is the right-most address of
``X-Forwarded-For`` that is not a trusted proxy; the header is believed only when a trusted proxy hands it over. A
server that rewrites the client's address itself has to leave that to the receiver: ``uvicorn --no-proxy-headers``.
Slow headers and idle connections are the server's and the proxy's business.

**What is answered**: ``ok`` once everything is committed and the handlers have returned; 503 when that failed or the
journal cannot keep up, so that the gateway pushes again (PROTOCOL 4.5). So handlers see a report at least once, and may
see it twice.

Log lines (``qxt_async.receiving.receiver``) have neither the secret, nor a number, nor a text.
"""

from __future__ import annotations

import functools
import hmac
import inspect
import ipaddress
import logging
import os
import re
import secrets
import traceback
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias, TypeVar, cast

import anyio

from qxt_async.errors import InvalidConfigurationError, JournalBusyError, JournalError
from qxt_async.journal import open_journal
from qxt_async.models import Reply, StatusReport
from qxt_async.protocol.pushes import DEFAULT_LIMITS, OptOut, parse_push
from qxt_async.runtime.tasks import run_in_thread

if TYPE_CHECKING:
    from types import TracebackType

    from qxt_async.journal import Journal
    from qxt_async.protocol.pushes import Push, PushLimits

__all__ = ["PushReceiver", "new_secret"]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ReportHandler: TypeAlias = Callable[[StatusReport], Awaitable[object] | object]
ReplyHandler: TypeAlias = Callable[[Reply], Awaitable[object] | object]
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

V = TypeVar("V", StatusReport, Reply)

logger = logging.getLogger(__name__)

# 96 bits at four to six a character: out of reach of guessing over a network.
_SECRET: Final = re.compile(r"[A-Za-z0-9_-]{20,}")
_GUESSABLE: Final = re.compile(r"[A-Za-z0-9._~/-]+")
_UNIX: Final = "unix"
_OPT_OUT: Final = OptOut()
_CONTENT_TYPE: Final = (b"content-type", b"text/plain; charset=utf-8")


def new_secret() -> str:
    """A path segment that nobody guesses: 160 random bits in hex."""
    return secrets.token_hex(20)


class _Refusal(Exception):  # noqa: N818  (an answer, not an error)
    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.body = body


class PushReceiver:
    """Takes the gateway's pushes, over GET and POST (PROTOCOL 4).

    Args:
        journal: where pushes are kept: a path, or a `Journal` that the caller opens and closes. ``None`` keeps nothing
            and leaves all to the handlers.
        path_secret: the last segment of the address, at least 20 letters, digits, ``-`` or ``_``; see `new_secret`.
        on_report: called with each status report, after it is stored; ``async`` or not (then in a worker thread).
        on_reply: the same for each reply.
        allow: addresses and networks that may push; empty allows all.
        trusted_proxies: addresses and networks whose ``X-Forwarded-For`` is believed; ``"unix"`` for a proxy that comes
            over a Unix socket.
        channel_number: the channel's own number, to split the extension off a reply's port.
        opt_out: which replies put their number on the journal's suppression list; ``None`` for none.
        body_limit: bytes of body, and of query, at most; more is answered 413, or 414.
        read_timeout: seconds for the body to arrive; later is answered 408.
        limits: how much of one push is looked at.
        allow_weak_secret: take any path as the secret. For trying out, where no stranger can reach it.

    Attributes:
        allow_weak_secret: the secret is none.

    Raises:
        InvalidConfigurationError: the secret is too short, an address is none, or neither a journal nor a handler is
            there to take what comes.
    """

    def __init__(
        self,
        journal: Journal | str | os.PathLike[str] | None = None,
        *,
        path_secret: str,
        on_report: ReportHandler | None = None,
        on_reply: ReplyHandler | None = None,
        allow: Iterable[str] = (),
        trusted_proxies: Iterable[str] = (),
        channel_number: str | None = None,
        opt_out: OptOut | None = _OPT_OUT,
        body_limit: int = 64 * 1024,
        read_timeout: float = 10.0,
        limits: PushLimits = DEFAULT_LIMITS,
        allow_weak_secret: bool = False,
    ) -> None:
        self.allow_weak_secret = not _SECRET.fullmatch(path_secret)
        if self.allow_weak_secret and not (allow_weak_secret and _GUESSABLE.fullmatch(path_secret)):
            raise InvalidConfigurationError("path_secret has to be 20 or more of A-Z a-z 0-9 - _: take new_secret()")
        if journal is None and on_report is None and on_reply is None:
            raise InvalidConfigurationError(
                "with neither a journal nor a handler pushes would be acknowledged and lost"
            )
        self._owned: Journal | None = None
        if isinstance(journal, (str, os.PathLike)):
            journal = self._owned = open_journal(journal)
        self._journal = journal
        self._secret = path_secret.encode()
        self._on_report = on_report
        self._on_reply = on_reply
        self._allow = _Networks(allow)
        self._trusted = _Networks(trusted_proxies)
        self._channel_number = channel_number
        self._opt_out = opt_out
        self._body_limit = body_limit
        self._read_timeout = read_timeout
        self._limits = limits

    async def __aenter__(self) -> Self:
        """Open the journal if it was given as a path."""
        if self._owned is not None:
            await self._owned.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the journal if it was given as a path."""
        if self._owned is not None:
            await self._owned.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: ``http`` and ``lifespan``; a websocket is closed."""
        kind = scope["type"]
        if kind == "http":
            try:
                status, body = await self._answer(scope, receive)
            except _Refusal as refusal:
                status, body = refusal.status, refusal.body
            await _respond(scope, send, status, body)
        elif kind == "lifespan":
            await self._lifespan(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.__aenter__()
        except JournalError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        try:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        finally:
            await self.__aexit__(None, None, None)
        await send({"type": "lifespan.shutdown.complete"})

    # --- who may ------------------------------------------------------------------------------------------------

    def _admit(self, scope: Scope) -> None:
        """Raise the one 404 unless path and address are right; both are looked at in any case."""
        path: str = scope["path"]
        root: str = scope.get("root_path", "").rstrip("/")
        # Some servers and frameworks leave the mount's path in front, others take it away.
        path = path.removeprefix(root).strip("/")
        knows = hmac.compare_digest(path.encode("utf-8", "replace"), self._secret)
        sender = self._sender(scope) if self._allow else None
        allowed = not self._allow or (sender is not None and sender in self._allow)
        if knows and allowed:
            return
        if knows:
            # Either the gateway has moved or the secret is known to others: somebody should look.
            logger.warning("refused: the path is right, and the address %s is not allowed", sender or "(unknown)")
        raise _Refusal(404, b"not found")

    def _sender(self, scope: Scope) -> Address | None:
        """Who sent the request, as far as that can be believed; ``None`` if it cannot be known."""
        client = scope.get("client")
        if client and client[0]:
            sender = _address(client[0])
            if sender is None or sender not in self._trusted:
                return sender
        elif self._trusted.unix:
            sender = None
        else:
            return None
        hops = [
            hop
            for name, value in scope["headers"]
            if name == b"x-forwarded-for"
            for hop in value.decode("latin-1").split(",")
        ]
        for hop in reversed(hops):
            sender = _address(hop)
            if sender is None or sender not in self._trusted:
                return sender
        return sender

    # --- what comes ---------------------------------------------------------------------------------------------

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        self._admit(scope)
        if scope["method"] not in {"GET", "POST"}:
            return 405, b"GET or POST"
        query: bytes = scope["query_string"]
        if len(query) > self._body_limit:
            logger.warning("refused: a query of %d bytes", len(query))
            return 414, b"query too long"
        length = _announced(scope)
        body = b"" if length == 0 else await self._body(length, receive)
        if length is None and not query and not body and not _chunked(scope):
            # Over HTTP/2 a body needs no length, so it was looked for. Over HTTP/1 this is a client that forgot it.
            logger.warning("refused: a POST with neither a length nor a query")
            return 411, b"Content-Length or Transfer-Encoding"
        push = parse_push(
            query,
            body,
            limits=self._limits,
            channel_number=self._channel_number,
            received_at=datetime.now(UTC),
        )
        if push.flags:
            logger.info("a push was not understood whole, and is kept raw: %s", ", ".join(push.flags))
        try:
            if self._journal is not None:
                await self._journal.record_push(push, opted_out=self._opted_out(push) if push.replies else ())
        except JournalBusyError as error:
            logger.warning("not acknowledged: %s", error)
            return 503, b"busy"
        except JournalError as error:
            logger.error("not acknowledged: %s", error)  # noqa: TRY400  (nothing of the push may be in the log)
            return 503, b"unavailable"
        if self._on_report is not None or self._on_reply is not None:
            try:
                await self._tell(push)
            except Exception as error:  # noqa: BLE001  (whatever the caller's code raises: the gateway has to come again)
                logger.error("not acknowledged: a handler raised %s", _where(error))  # noqa: TRY400
                return 503, b"unavailable"
        return 200, b"ok"

    async def _body(self, length: int | None, receive: Receive) -> bytes:
        if length is not None and length > self._body_limit:
            self._too_large()
        body = bytearray()
        with anyio.move_on_after(self._read_timeout):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    # Half a push is none; whoever sent it was told nothing.
                    raise _Refusal(400, b"body cut")
                body += message.get("body", b"")
                if len(body) > self._body_limit:
                    self._too_large()
                if not message.get("more_body", False):
                    return bytes(body)
        logger.warning("refused: the body did not come within %g s", self._read_timeout)
        raise _Refusal(408, b"too slow")

    def _too_large(self) -> None:
        logger.warning("refused: a body of more than %d bytes", self._body_limit)
        raise _Refusal(413, b"body too large")

    def _opted_out(self, push: Push) -> Sequence[Reply]:
        opt_out = self._opt_out
        return [reply for reply in push.replies if opt_out.matches(reply.text)] if opt_out else ()

    async def _tell(self, push: Push) -> None:
        if self._on_report is not None and push.reports:
            await _handle(self._on_report, push.reports)
        if self._on_reply is not None and push.replies:
            await _handle(self._on_reply, push.replies)


# --- handlers -------------------------------------------------------------------------------------------------------


async def _handle(handler: Callable[[V], Awaitable[object] | object], values: Sequence[V]) -> None:
    target = handler
    while isinstance(target, functools.partial):
        target = target.func
    if not inspect.iscoroutinefunction(target) and not inspect.iscoroutinefunction(type(target).__call__):
        # It may block; one thread for all values of a push, in their order.
        results = await run_in_thread(lambda: [handler(value) for value in values])
        for result in results:
            if inspect.isawaitable(result):
                await result
        return
    for value in values:
        await cast("Awaitable[object]", handler(value))


def _where(error: BaseException) -> str:
    """The error's type and place, without its text, which may quote the push."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {place.filename}:{place.lineno}"


# --- HTTP -----------------------------------------------------------------------------------------------------------


async def _respond(scope: Scope, send: Send, status: int, body: bytes) -> None:
    # Whatever stands around the application may write into the list, so it is a new one each time.
    headers = [_CONTENT_TYPE, (b"content-length", b"%d" % len(body))]
    if status == 405:
        headers.append((b"allow", b"GET, POST"))
    if status >= 400 and status != 503 and scope.get("http_version", "1.1").startswith("1"):
        # Whatever of the body is still under way is not worth reading.
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _chunked(scope: Scope) -> bool:
    return any(name == b"transfer-encoding" for name, _ in scope["headers"])


def _announced(scope: Scope) -> int | None:
    """How many bytes of body are said to come; ``None`` if that is not said.

    Raises:
        _Refusal: both headers of a body's length are there. Servers differ in which one they follow, so the body that
            they hand over may be a part of what was sent.
    """
    length = None
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            # No more digits than tell that it is too much: Python refuses to read thousands of them.
            length = int(value.lstrip(b"0")[:18] or b"0")
    if _chunked(scope):
        if length is not None:
            logger.warning("refused: Content-Length beside Transfer-Encoding")
            raise _Refusal(400, b"Content-Length beside Transfer-Encoding")
        return None
    return 0 if length is None and scope["method"] == "GET" else length


# --- addresses ------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1024)
def _address(text: str) -> Address | None:
    """An address as servers and proxies write it: with a port, in brackets, with a zone, IPv4 within IPv6."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _network(text: str) -> Network:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise InvalidConfigurationError(f"{text!r} is neither an address nor a network: {error}") from None
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    return network


class _Networks:
    """A list of addresses and networks."""

    def __init__(self, entries: Iterable[str]) -> None:
        if isinstance(entries, str):
            raise InvalidConfigurationError("addresses are to be given as a list of strings, not as one string")
        given = list(entries)
        self.unix = _UNIX in given
        self._networks = [_network(entry) for entry in given if entry != _UNIX]

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, address: Address) -> bool:
        return any(address in network for network in self._networks)
