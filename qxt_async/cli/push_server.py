"""The server of ``qxt receive``: it limits connections, and the time that a request's head may take."""

from __future__ import annotations

import functools
import logging
import resource
import time
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from qxt_async.runtime.server import SocketServer

if TYPE_CHECKING:
    import asyncio
    import socket

    from uvicorn.protocols.http.h11_impl import RequestResponseCycle

    from qxt_async.receiving import PushReceiver

__all__ = ["PushServer", "connection_limit"]

# The receiver's logger: lines about connections stand beside those about pushes.
logger = logging.getLogger("qxt_async.receiving.receiver")

# A gateway or a proxy needs some dozens. An idle connection costs about 20 KB.
_MAX_CONNECTIONS = 1000
_SECONDS_BETWEEN_LINES = 1.0
# A query may have 64 KB; the other headers of a push are short.
_HEAD_BYTES = 80 * 1024
# The receiver has the same limit for a body.
_HEAD_SECONDS = 10.0


def connection_limit() -> int:
    """How many connections may be open: half of the files that the process may open, at most 1,000.

    The other half is for the journal, and for connections that are accepted and not counted yet.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MAX_CONNECTIONS if files == resource.RLIM_INFINITY else max(1, min(_MAX_CONNECTIONS, files // 2))


class _IdleConnections:
    """The connections without a request, the one that has been idle longest first.

    Args:
        limit: connections at most, idle or not.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._idle: dict[_PushProtocol, None] = {}
        self._closed = 0
        self._told = -_SECONDS_BETWEEN_LINES

    def add(self, connection: _PushProtocol) -> None:
        """Add a connection that waits for a request."""
        self._idle[connection] = None

    def remove(self, connection: _PushProtocol) -> None:
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


class _PushProtocol(H11Protocol):
    """uvicorn's protocol, with more rules.

    A connection is closed if its next request does not begin in time, or if there are too many and this one has been
    idle longest. A client that half-closes the connection after a request gets its answer.
    """

    _timer: asyncio.TimerHandle

    def __init__(self, *args: Any, idle: _IdleConnections, **options: Any) -> None:
        super().__init__(*args, **options)
        self._idle = idle
        self._ended = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._look_later()
        self._idle.add(self)
        self._idle.make_room(len(self.connections))

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._idle.remove(self)
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        if self._under_way:
            self._idle.remove(self)

    def on_response_complete(self) -> None:
        self._idle.add(self)
        super().on_response_complete()
        if self._ended:
            # No request follows: uvicorn reads the end only after it has read every request.
            self.transport.close()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection until a request that was received whole is answered."""
        self._ended = True
        request = self._request
        return self._under_way and request is not None and not request.more_body

    @property
    def _under_way(self) -> bool:
        return self._request is not None and not self._request.response_complete

    def _look_later(self) -> None:
        self._timer = self.loop.call_later(_HEAD_SECONDS, self._look, self._request)

    @property
    def _request(self) -> RequestResponseCycle | None:
        """The last request whose head is complete."""
        return self.cycle

    def _look(self, before: RequestResponseCycle | None) -> None:
        """Close the connection if no request began since the last look.

        One timer for each connection costs requests nothing; a head may take up to twice the time.
        """
        if self._request is before and not self._under_way:
            self.transport.close()
        else:
            self._look_later()

    def shutdown(self) -> None:
        """Finish a push that was received whole. One that is not gets no answer, so the gateway repeats it."""
        if self._request is not None and self._request.more_body:
            self.transport.abort()
        else:
            super().shutdown()


class PushServer(SocketServer):
    """Serves a push receiver on a listening socket.

    Args:
        receiver: open.
        listener: bound and listening.
    """

    def __init__(self, receiver: PushReceiver, listener: socket.socket) -> None:
        protocol = functools.partial(_PushProtocol, idle=_IdleConnections(connection_limit()))
        super().__init__(receiver, listener, protocol, lifespan="off", h11_max_incomplete_event_size=_HEAD_BYTES)
