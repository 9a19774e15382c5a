"""A push receiver as a server: the only module of the command line that knows uvicorn."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any, cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Generator

    from uvicorn.protocols.http.h11_impl import RequestResponseCycle

    from qxt_async.receiver import PushReceiver

__all__ = ["PushServer", "listen"]

_BACKLOG = 2048
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


class _PushProtocol(H11Protocol):
    """Closes a connection whose next request does not begin in time; uvicorn itself waits for slow headers for ever."""

    _timer: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    def _look_later(self) -> None:
        self._timer = self.loop.call_later(_HEAD_SECONDS, self._look, self._request)

    @property
    def _request(self) -> RequestResponseCycle | None:
        """The last one whose head was complete."""
        return self.cycle

    def _look(self, before: RequestResponseCycle | None) -> None:
        """One timer a connection, and nothing to do for a request; so a head may take up to twice the time."""
        if self._request is before and (before is None or before.response_complete):
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
            http=_PushProtocol,
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
        self._on_listening()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Somebody else listens for them."""
        yield
