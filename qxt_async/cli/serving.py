"""A push receiver as a server: the only module of the command line that knows uvicorn."""

from __future__ import annotations

import contextlib
import functools
import logging
import resource
import socket
import time
from typing import TYPE_CHECKING, Any, cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Generator

    from uvicorn.protocols.http.h11_impl import RequestResponseCycle

    from qxt_async.receiving.receiver import PushReceiver

__all__ = ["PushServer", "connection_limit", "listen"]

# The receiver's own: what it says of connections belongs to what it says of pushes.
logger = logging.getLogger("qxt_async.receiving.receiver")

_BACKLOG = 2048
# Connections that asyncio accepts in one iteration of its loop. When the process runs out of files it tries so many
# more, with a line in the log and a later attempt for each: with 2,048 that made 2.4 million lines in a minute.
_ACCEPTED_AT_ONCE = 1
# A gateway, or a proxy, needs some dozens. An idle one costs about 20 KB.
_MOST_CONNECTIONS = 1000
_SECONDS_BETWEEN_LINES = 1.0
# A query may have 64 KB; the other headers of a push are short.
_HEAD_BYTES = 80 * 1024
# The receiver gives a body as long.
_HEAD_SECONDS = 10.0


def listen(host: str, port: int) -> tuple[socket.socket, str]:
    """A listening socket, and its address as ``http://HOST:PORT``.

    Raises:
        OSError: there is no such address, or the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    # Taken over by its number, it knows that it speaks TCP. asyncio turns Nagle's algorithm off only then, and with it
    # every answer takes 40 ms.
    listener = socket.socket(fileno=bound.detach())
    shown = f"[{host}]" if family == socket.AF_INET6 else host
    return listener, f"http://{shown}:{listener.getsockname()[1]}"


def connection_limit() -> int:
    """How many connections may be open: half of the files that the process may have, and 1,000 at most.

    The other half is for the journal, and for connections that are accepted and not yet counted.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_CONNECTIONS if files == resource.RLIM_INFINITY else max(1, min(_MOST_CONNECTIONS, files // 2))


class _IdleConnections:
    """The connections without a request under way, the one that has been idle longest first.

    Args:
        limit: connections in all, idle or not.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._idle: dict[_PushProtocol, None] = {}
        self._closed = 0
        self._told = -_SECONDS_BETWEEN_LINES

    def add(self, connection: _PushProtocol) -> None:
        """It waits for a request from now on."""
        self._idle[connection] = None

    def remove(self, connection: _PushProtocol) -> None:
        """Its request is under way, or it is closed."""
        self._idle.pop(connection, None)

    def make_room(self, count: int) -> None:
        """Close the one that has been idle longest if `count` connections are too many.

        That is the newest one if all others have a request under way.
        """
        if count <= self._limit:
            return
        longest = next(iter(self._idle))
        self.remove(longest)
        # Not closed gently: that waits until the other side has read what was written to it.
        longest.transport.abort()
        self._closed += 1
        now = time.monotonic()
        if now - self._told >= _SECONDS_BETWEEN_LINES:
            logger.warning(
                "%d connections are open, the most that may be: closed %d that had been idle longest",
                self._limit,
                self._closed,
            )
            self._closed, self._told = 0, now


class _PushProtocol(H11Protocol):
    """A connection of uvicorn's, with what uvicorn lacks.

    It is closed if its next request does not begin in time, or if there are too many and it has been idle longest. A
    client that ends its side after a request is answered.
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
            # Nothing follows: while there is another request to read, uvicorn does not read on to the end.
            self.transport.close()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection until a request that is there whole is answered."""
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
        """The last one whose head was complete."""
        return self.cycle

    def _look(self, before: RequestResponseCycle | None) -> None:
        """One timer a connection, and nothing to do for a request; so a head may take up to twice the time."""
        if self._request is before and not self._under_way:
            self.transport.close()
        else:
            self._look_later()

    def shutdown(self) -> None:
        """Finish a push that is there; one that is still coming was told nothing, and comes again."""
        if self._request is not None and self._request.more_body:
            self.transport.abort()
        else:
            super().shutdown()


class PushServer(uvicorn.Server):
    """Serves a receiver on a listening socket until `should_exit` is set. Needs asyncio; leaves signals alone.

    Args:
        receiver: open.
        listener: bound and listening.
        on_listening: called once pushes are served.
    """

    def __init__(self, receiver: PushReceiver, listener: socket.socket, on_listening: Callable[[], None]) -> None:
        config = uvicorn.Config(
            cast("Any", receiver),
            http=cast("Any", functools.partial(_PushProtocol, idle=_IdleConnections(connection_limit()))),
            backlog=_ACCEPTED_AT_ONCE,
            ws="none",
            lifespan="off",
            # With GET the secret, the phone and the text are in the address.
            access_log=False,
            log_config=None,
            log_level="warning",
            # The receiver decides itself whom to believe about addresses.
            proxy_headers=False,
            server_header=False,
            h11_max_incomplete_event_size=_HEAD_BYTES,
        )
        super().__init__(config)
        self._listener = listener
        self._on_listening = on_listening

    async def run_until_stopped(self) -> None:
        """Serve, and in the end finish what was received whole."""
        await self.serve(sockets=[self._listener])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell."""
        await super().startup(sockets)
        # asyncio takes the same number for how many may wait to be accepted.
        self._listener.listen(_BACKLOG)
        self._on_listening()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Somebody else listens for them."""
        yield
