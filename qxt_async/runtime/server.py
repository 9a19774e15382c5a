"""An HTTP server, made with uvicorn, that serves an ASGI application on a listening socket. Needs the extra ``cli``."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any, cast

import uvicorn

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_BACKLOG = 2048
# Connections that asyncio accepts in one iteration of its loop. When the process runs out of files it tries so many
# more, with a line in the log and a later attempt for each: with 2,048 that made 2.4 million lines in a minute.
_ACCEPTED_AT_ONCE = 1


def listen(host: str, port: int) -> tuple[socket.socket, str]:
    """Open a listening socket.

    Args:
        host: the address to listen on.
        port: 0 for a free one.

    Returns:
        The socket, and its address as ``http://HOST:PORT``.

    Raises:
        OSError: there is no such address, or the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    # A socket made from a descriptor knows that it speaks TCP. asyncio turns Nagle's algorithm off only then; with
    # Nagle's algorithm every answer takes 40 ms.
    listener = socket.socket(fileno=bound.detach())
    name = f"[{host}]" if family == socket.AF_INET6 else host
    return listener, f"http://{name}:{listener.getsockname()[1]}"


class SocketServer(uvicorn.Server):
    """Serves an ASGI application until `should_exit` is set. Needs asyncio, and handles no signals."""

    _on_listening: Callable[[], object]

    def __init__(self, app: object, listener: socket.socket, protocol: Callable[..., object], **options: Any) -> None:
        config = uvicorn.Config(
            cast("Any", app),
            http=cast("Any", protocol),
            backlog=_ACCEPTED_AT_ONCE,
            ws="none",
            # With GET the address contains secrets, numbers and texts.
            access_log=False,
            log_config=None,
            log_level="warning",
            # The application decides itself which proxies it trusts.
            proxy_headers=False,
            server_header=False,
            **options,
        )
        super().__init__(config)
        self._listener = listener

    async def run_until_stopped(self, on_listening: Callable[[], object]) -> None:
        """Serve until `should_exit` is set, then finish what was received whole.

        Args:
            on_listening: called once requests are served.
        """
        self._on_listening = on_listening
        await self.serve(sockets=[self._listener])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then call `on_listening`."""
        await super().startup(sockets)
        # asyncio uses `backlog` for both: connections accepted in one iteration, and connections that wait.
        self._listener.listen(_BACKLOG)
        self._on_listening()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave the signals to the program."""
        yield
