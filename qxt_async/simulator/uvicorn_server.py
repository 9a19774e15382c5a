"""A server whose connections the gateway can drop.

ASGI cannot close a connection without an answer, so the protocol class gives the application a function for it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

from qxt_async.runtime.server import SocketServer
from qxt_async.simulator.exchange import DROP_EXTENSION
from qxt_async.simulator.faults import Drop

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope

    from qxt_async.simulator.exchange import ASGIApp

# SO_LINGER of 0 seconds: closing sends RST instead of FIN.
_NO_LINGER = struct.pack("ii", 1, 0)

# Servers of this kind close a connection that is idle for this long.
_KEEP_ALIVE_SECONDS = 20


class _DroppingProtocol(H11Protocol):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        app = self.app

        async def with_drop(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
            cast("dict[str, Any]", scope)["extensions"] = {DROP_EXTENSION: self._drop}
            await app(scope, receive, send)

        self.app = with_drop

    def _drop(self, drop: Drop) -> None:
        if self.transport.is_closing():  # the client has closed it already
            return
        if drop is Drop.CLOSE:
            self.transport.close()
        elif drop is Drop.HALF_CLOSE:
            self.transport.write_eof()
        else:
            # A connection that stands cannot be refused any more; a reset is the nearest.
            raw: socket.socket = self.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self.transport.abort()


class GatewayServer(SocketServer):
    """Serves a gateway on a listening socket."""

    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
        super().__init__(app, listener, _DroppingProtocol, lifespan="on", timeout_keep_alive=_KEEP_ALIVE_SECONDS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop at once, without waiting for requests that a fault holds up."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        # Let the requests under way see that their connection is gone.
        await asyncio.sleep(0)
        await super().shutdown(sockets)
