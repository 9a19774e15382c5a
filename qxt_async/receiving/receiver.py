"""The ASGI application that receives the gateway's pushes.

::

    receiver = PushReceiver("qxt.db", path_secret=os.environ["QXT_PUSH_PATH"], allow=["192.0.2.10"])

It runs alone (``uvicorn module:receiver``) and then opens and closes its journal itself. Or it is mounted in an ASGI
framework, whose start-up code enters ``async with receiver``. The gateway pushes to
``https://host/<mount>/<path_secret>``.

**Who may push.** Nothing signs a push (PROTOCOL 4). A push is accepted from everybody who knows the secret path and,
with `allow`, has one of those addresses. Everybody else gets the same 404. Behind a proxy, `trusted_proxies` says whose
``X-Forwarded-For`` is believed. The server must not rewrite the client's address (``uvicorn --no-proxy-headers``). The
server or the proxy must close slow and idle connections.

**The answer.** ``ok`` after everything is committed and the handlers have returned. 503 if that failed or the journal
cannot keep up; the gateway then pushes again (PROTOCOL 4.5). So handlers see a report at least once, and may see it
twice.

Log lines (``qxt_async.receiving.receiver``) contain no secret, no number and no text.
"""

from __future__ import annotations

import functools
import inspect
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
from qxt_async.receiving.admission import Admission, RefusalError, Scope
from qxt_async.runtime.tasks import run_in_thread

if TYPE_CHECKING:
    from qxt_async.journal import Journal
    from qxt_async.protocol.pushes import Push, PushLimits

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ReportHandler: TypeAlias = Callable[[StatusReport], Awaitable[object] | object]
ReplyHandler: TypeAlias = Callable[[Reply], Awaitable[object] | object]

V = TypeVar("V", StatusReport, Reply)

logger = logging.getLogger(__name__)

# 96 bits at least, with four to six bits per character: too many to guess over a network.
_STRONG_SECRET: Final = re.compile(r"[A-Za-z0-9_-]{20,}")
_WEAK_SECRET: Final = re.compile(r"[A-Za-z0-9._~/-]+")
_OPT_OUT: Final = OptOut()
_CONTENT_TYPE: Final = (b"content-type", b"text/plain; charset=utf-8")


def new_secret() -> str:
    """Return a new secret path segment: 160 random bits in hex."""
    return secrets.token_hex(20)


class PushReceiver:
    """Receives the gateway's pushes, over GET and POST (PROTOCOL 4).

    Args:
        journal: stores the pushes: a path, or a `Journal` that the caller opens and closes. ``None`` stores nothing and
            leaves all to the handlers.
        path_secret: the last segment of the address, at least 20 letters, digits, ``-`` or ``_``; `new_secret` makes
            one.
        on_report: called with each status report after it is stored; ``async``, or a function that then runs in a
            worker thread.
        on_reply: the same for each reply.
        allow: addresses and networks that may push; empty allows all.
        trusted_proxies: addresses and networks whose ``X-Forwarded-For`` is believed; ``"unix"`` for a proxy that
            connects over a Unix socket.
        channel_number: the channel's own number, to split the extension number off a reply's port.
        opt_out: which replies put their number on the journal's suppression list; ``None`` for none.
        body_limit: largest body, and largest query, in bytes; a larger one is answered with 413 or 414.
        read_timeout: seconds for the body to arrive; a slower one is answered with 408.
        limits: how much of one push is parsed.
        allow_weak_secret: accept any path as the secret, for trials that no stranger can reach.

    Attributes:
        allow_weak_secret: the secret is weak, and that is allowed.

    Raises:
        InvalidConfigurationError: the secret is too short, an address is invalid, or there is neither a journal nor a
            handler.
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
        self.allow_weak_secret = not _STRONG_SECRET.fullmatch(path_secret)
        if self.allow_weak_secret and not (allow_weak_secret and _WEAK_SECRET.fullmatch(path_secret)):
            raise InvalidConfigurationError("path_secret must be 20 or more of A-Z a-z 0-9 - _: new_secret() makes one")
        if journal is None and on_report is None and on_reply is None:
            raise InvalidConfigurationError("pass a journal or a handler: pushes would be acknowledged and lost")
        self._owned_journal: Journal | None = None
        if isinstance(journal, (str, os.PathLike)):
            journal = self._owned_journal = open_journal(journal)
        self._journal = journal
        self._admission = Admission(path_secret, allow, trusted_proxies)
        self._on_report = on_report
        self._on_reply = on_reply
        self._opt_out = opt_out
        self._body_limit = body_limit
        self._read_timeout = read_timeout
        self._parse = functools.partial(parse_push, limits=limits, channel_number=channel_number)

    async def __aenter__(self) -> Self:
        """Open the journal if it was given as a path."""
        if self._owned_journal is not None:
            await self._owned_journal.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Close the journal if it was given as a path."""
        if self._owned_journal is not None:
            await self._owned_journal.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve ASGI's ``http`` and ``lifespan``; close a websocket."""
        kind = scope["type"]
        if kind == "http":
            try:
                self._admission.check(scope)
                push = await self._read_push(scope, receive)
                status, body = await self._store(push)
            except RefusalError as refusal:
                if refusal.reason:
                    logger.warning("refused: %s", refusal.reason)
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
            await self.__aexit__()
        await send({"type": "lifespan.shutdown.complete"})

    async def _read_push(self, scope: Scope, receive: Receive) -> Push:
        if scope["method"] not in {"GET", "POST"}:
            raise RefusalError(405, b"GET or POST")
        query: bytes = scope["query_string"]
        if len(query) > self._body_limit:
            raise RefusalError(414, b"query too long", f"a query of {len(query)} bytes")
        length = _content_length(scope)
        body = b"" if length == 0 else await self._read_body(length, receive)
        if length is None and not query and not body and not _is_chunked(scope):
            # Over HTTP/2 a body needs no length, so the receiver has tried to read one. Over HTTP/1 it is missing.
            reason = "a POST with neither a length nor a query"
            raise RefusalError(411, b"Content-Length or Transfer-Encoding", reason)
        return self._parse(query, body, received_at=datetime.now(UTC))

    async def _read_body(self, length: int | None, receive: Receive) -> bytes:
        body = bytearray()
        received = length or 0
        with anyio.move_on_after(self._read_timeout):
            while received <= self._body_limit:
                message = await receive()
                if message["type"] == "http.disconnect":
                    # A part of a push must not be parsed. The sender got no answer and pushes again.
                    raise RefusalError(400, b"body cut")
                body += message.get("body", b"")
                received = len(body)
                if received <= self._body_limit and not message.get("more_body", False):
                    return bytes(body)
            raise RefusalError(413, b"body too large", f"a body of more than {self._body_limit} bytes")
        raise RefusalError(408, b"too slow", f"the body did not come within {self._read_timeout:g} s")

    async def _store(self, push: Push) -> tuple[int, bytes]:
        """Store a push and call the handlers; return status and body of the answer."""
        if push.flags:
            logger.info("a push was not understood whole, and is kept raw: %s", ", ".join(push.flags))
        opt_out = self._opt_out
        opted_out = [reply for reply in push.replies if opt_out.matches(reply.text)] if opt_out else []
        try:
            if self._journal is not None:
                await self._journal.record_push(push, opted_out=opted_out)
        except JournalBusyError as error:
            logger.warning("not acknowledged: %s", error)
            return 503, b"busy"
        except JournalError as error:
            logger.error("not acknowledged: %s", error)  # noqa: TRY400  (a traceback could show parts of the push)
            return 503, b"unavailable"
        try:
            if self._on_report is not None and push.reports:
                await _call(self._on_report, push.reports)
            if self._on_reply is not None and push.replies:
                await _call(self._on_reply, push.replies)
        except Exception as error:  # noqa: BLE001  (whatever the handler raises, the gateway must push again)
            logger.error("not acknowledged: a handler raised %s", _type_and_place(error))  # noqa: TRY400
            return 503, b"unavailable"
        return 200, b"ok"


async def _call(handler: Callable[[V], Awaitable[object] | object], values: Sequence[V]) -> None:
    function = handler
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
        for value in values:
            await cast("Awaitable[object]", handler(value))
        return
    # It may block; one thread handles all values of a push, in their order.
    for result in await run_in_thread(lambda: [handler(value) for value in values]):
        if inspect.isawaitable(result):
            await result


def _type_and_place(error: BaseException) -> str:
    """The type and the line of an error, without its text, which may quote the push."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {place.filename}:{place.lineno}"


async def _respond(scope: Scope, send: Send, status: int, body: bytes) -> None:
    # Middleware may add to the list, so each answer needs a new one.
    headers = [_CONTENT_TYPE, (b"content-length", b"%d" % len(body))]
    if status == 405:
        headers.append((b"allow", b"GET, POST"))
    if status >= 400 and status != 503 and scope.get("http_version", "1.1").startswith("1"):
        # Do not read the rest of a refused body.
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _is_chunked(scope: Scope) -> bool:
    return any(name == b"transfer-encoding" for name, _ in scope["headers"])


def _content_length(scope: Scope) -> int | None:
    """The announced length of the body; ``None`` if none is announced.

    Raises:
        RefusalError: both headers of a body's length are there. Servers differ in which one they follow, so the body
            could be a part of what was sent.
    """
    length = None
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            # 18 digits are enough to see that it is too large; Python refuses to convert thousands of digits.
            length = int(value.lstrip(b"0")[:18] or b"0")
    if _is_chunked(scope):
        if length is not None:
            reason = "Content-Length beside Transfer-Encoding"
            raise RefusalError(400, reason.encode(), reason)
        return None
    return 0 if length is None and scope["method"] == "GET" else length
