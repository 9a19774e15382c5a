"""The only module of the simulator that knows uvicorn: a server whose connections the gateway can drop.

ASGI has no way to close a connection without an answer, so the protocol class hands one to the application. Runs on
asyncio's own loop.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Any, cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from qxt_async.simulator.answering import EXTENSION
from qxt_async.simulator.faults import Drop

if TYPE_CHECKING:
    from collections.abc import Callable

    from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope

    from qxt_async.simulator.over_httpx import ASGIApp

__all__ = ["GatewayServer"]

# Linger on, for no time: closing sends RST instead of FIN.
_NO_LINGER = struct.pack("ii", 1, 0)

# Servers of this kind close a connection that is idle for so long.
_KEEP_ALIVE_SECONDS = 20


class _DroppingProtocol(H11Protocol):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        app = self.app

        async def with_drop(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
            cast("dict[str, Any]", scope)["extensions"] = {EXTENSION: self._drop}
            await app(scope, receive, send)

        self.app = with_drop

    def _drop(self, drop: Drop) -> None:
        if self.transport.is_closing():  # the client was faster, and the socket is gone
            return
        if drop is Drop.CLOSE:
            self.transport.close()
        elif drop is Drop.HALF_CLOSE:
            self.transport.write_eof()
        else:
            # Nothing can be refused any more once there is a connection; a reset comes nearest.
            raw: socket.socket = self.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self.transport.abort()


class GatewayServer(uvicorn.Server):
    """Serves a gateway on a listening socket.

    Args:
        app: the gateway.
        listener: bound and listening.
        on_listening: called once requests are served.
    """

    def __init__(self, app: ASGIApp, listener: socket.socket, on_listening: Callable[[], None]) -> None:
        config = uvicorn.Config(
            cast("Any", app),
            http=_DroppingProtocol,
            loop="asyncio",
            ws="none",
            lifespan="on",
            # With GET the digest and all numbers are in the address.
            access_log=False,
            log_config=None,
            log_level="warning",
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        )
        super().__init__(config)
        self._listener = listener
        self._on_listening = on_listening

    async def run_until_stopped(self) -> None:
        """Serve until `should_exit` is set, or a signal comes in the main thread."""
        await self.serve(sockets=[self._listener])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell."""
        await super().startup(sockets)
        self._on_listening()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop at once: whoever hangs or drips would be waited for."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        # Lets the requests under way notice.
        await asyncio.sleep(0)
        await super().shutdown(sockets)
