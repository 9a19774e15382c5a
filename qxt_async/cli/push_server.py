"""The server of ``qxt receive``: uvicorn with rules for connections, on h11 or, if it is installed, on httptools."""

from __future__ import annotations

import asyncio
import functools
import logging
import re
import resource
import time
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from qxt_async.runtime.server import SocketServer

try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ModuleNotFoundError:  # pragma: no cover  (the extra `receiver` brings it)
    HttpToolsProtocol = None  # type: ignore[assignment, misc]

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from qxt_async.receiving import PushReceiver

# The receiver's logger: lines about connections stand beside those about pushes.
logger = logging.getLogger("qxt_async.receiving.receiver")

# A query may have 64 KB; the other headers of a push are short.
HEAD_BYTES = 80 * 1024
_SECONDS_BETWEEN_LINES = 1.0
# Java's client offers HTTP/2 this way with each request, also with a push that has a body.
_UPGRADE = re.compile(rb"(?i)(?<=\n)upgrade(?=[ \t]*:)")


class IdleConnections:
    """The connections without a request, the one that has been idle longest first.

    Args:
        limit: connections at most, idle or not.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._idle: dict[_Rules, None] = {}
        self._closed = 0
        self._told = -_SECONDS_BETWEEN_LINES

    def add(self, connection: _Rules) -> None:
        """Add a connection that waits for a request."""
        self._idle[connection] = None

    def remove(self, connection: _Rules) -> None:
        """Remove a connection: its request has begun, or it is closed."""
        self._idle.pop(connection, None)

    def make_room(self, count: int) -> None:
        """If `count` connections are too many, close the one that has been idle longest.

        If all others have a request, that is the newest one.
        """
        if count <= self._limit:
            return
        longest = next(iter(self._idle))
        self.remove(longest)
        # `close` would wait until the client has read what was written to it.
        longest.transport.abort()
        self._closed += 1
        now = time.monotonic()
        if now - self._told >= _SECONDS_BETWEEN_LINES:
            logger.warning(
                "the limit of %d open connections is reached: closed %d that had been idle longest",
                self._limit,
                self._closed,
            )
            self._closed, self._told = 0, now


class _Rules(asyncio.Protocol):
    """The rules, for a protocol of uvicorn.

    A connection is closed if its next request does not begin in time, or if there are too many and this one has been
    idle longest. A client that half-closes the connection after a request gets its answer.
    """

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    connections: set[Any]
    # The last request whose head is complete.
    cycle: Any
    _timer: asyncio.TimerHandle

    def __init__(self, *args: Any, idle: IdleConnections, head_timeout: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self._idle = idle
        self._head_timeout = head_timeout
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._look_later()
        self._idle.add(self)
        self._idle.make_room(len(self.connections))

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._idle.remove(self)
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Note that an answer is complete. Another request may be under way."""
        super().on_response_complete()  # type: ignore[misc]
        if not self._under_way:
            self._idle.add(self)
            if self._ended:
                # No request follows: uvicorn reads the end only after it has read every request.
                self.transport.close()

    def eof_received(self) -> bool:
        """Keep the connection until a request that was received whole is answered."""
        self._ended = True
        return self._under_way and not self.cycle.more_body

    @property
    def _under_way(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def begun(self) -> None:
        """Note that the head of a request may be complete."""
        if self._under_way:
            self._idle.remove(self)

    def _look_later(self) -> None:
        self._timer = self.loop.call_later(self._head_timeout, self._look, self.cycle)

    def _look(self, before: object) -> None:
        """Close the connection if no request began since the last look.

        One timer for each connection costs requests nothing; a head may take up to twice the time.
        """
        if self.cycle is before and not self._under_way:
            self.transport.close()
        else:
            self._look_later()

    def shutdown(self) -> None:
        """Finish a push that was received whole. One that is not gets no answer, so the gateway repeats it."""
        if self.cycle is not None and self.cycle.more_body:
            self.transport.abort()
        else:
            super().shutdown()  # type: ignore[misc]


class _H11(_Rules, H11Protocol):  # type: ignore[misc]
    """On h11, in Python, which comes with uvicorn. It limits a head itself."""

    def handle_events(self) -> None:
        super().handle_events()
        self.begun()


PROTOCOLS: dict[str, Callable[..., object]] = {"h11": _H11}
"""The protocols that can be used, by the library that reads requests; the last one is the fastest."""

if HttpToolsProtocol is not None:  # pragma: no branch

    class _HttpTools(_Rules, HttpToolsProtocol):  # type: ignore[misc]
        """On httptools, in C."""

        parser: Any
        _in_head = True
        _head = 0

        def data_received(self, data: bytes) -> None:
            if self._in_head and _UPGRADE.search(data):
                head, end, rest = data.partition(b"\r\n\r\n")
                data = _UPGRADE.sub(b"x-upgrade", head) + end + rest
            super().data_received(data)
            # As h11: a head may be larger that is complete when it is read.
            self._head = self._head + len(data) if self._in_head else 0
            if self._head > HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("The head of the request is too large.")

        def _offers_upgrade(self) -> bool:
            return self.parser is not None and self.parser.should_upgrade()

        def on_headers_complete(self) -> None:
            self._in_head = False
            if self._offers_upgrade():
                # The parser would skip the body, and the push would be acknowledged without it.
                self.transport.abort()
                return
            super().on_headers_complete()
            self.begun()

        def on_message_complete(self) -> None:
            self._in_head, self._head = True, 0
            if not self._offers_upgrade():
                super().on_message_complete()

    PROTOCOLS["httptools"] = _HttpTools


# A gateway or a proxy needs some dozens. An idle connection costs about 20 KB.
_MAX_CONNECTIONS = 1000


def connection_limit() -> int:
    """How many connections may be open: half of the files that the process may open, at most 1,000.

    The other half is for the journal, and for connections that are accepted and not counted yet.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MAX_CONNECTIONS if files == resource.RLIM_INFINITY else max(1, min(_MAX_CONNECTIONS, files // 2))


class PushServer(SocketServer):
    """Serves a push receiver on a listening socket.

    Args:
        receiver: open.
        listener: bound and listening.
        library: what reads requests: ``h11``, or ``httptools``, which is faster; the faster one that is installed if
            not given.
        connections: how many may be open.
        head_timeout: seconds that the head of a request may take, at most twice.
    """

    def __init__(
        self,
        receiver: PushReceiver,
        listener: socket.socket,
        *,
        library: str | None = None,
        connections: int | None = None,
        head_timeout: float = 10.0,  # the receiver has the same limit for a body
        **options: Any,
    ) -> None:
        idle = IdleConnections(connection_limit() if connections is None else connections)
        protocol = functools.partial(PROTOCOLS[library or [*PROTOCOLS][-1]], idle=idle, head_timeout=head_timeout)
        super().__init__(
            receiver, listener, protocol, lifespan="off", h11_max_incomplete_event_size=HEAD_BYTES, **options
        )
