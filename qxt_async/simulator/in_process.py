"""An httpx transport that reaches the gateway in the same process, without a socket."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import anyio
import httpx

from qxt_async.simulator.faults import ConnectionDroppedError, Drop

if TYPE_CHECKING:
    from qxt_async.simulator.exchange import ASGIApp, Message, Receive, Send

# What httpx raises over a real socket for each way to drop the connection (measured; PROTOCOL 2.3 depends on it).
_RAISED: dict[Drop, tuple[type[httpx.TransportError], str]] = {
    Drop.CLOSE: (httpx.RemoteProtocolError, "Server disconnected without sending a response."),
    Drop.HALF_CLOSE: (httpx.RemoteProtocolError, "Server disconnected without sending a response."),
    Drop.RESET: (httpx.ReadError, "connection reset"),
    Drop.REFUSE: (httpx.ConnectError, "connection refused"),
}


class GatewayTransport(httpx.AsyncBaseTransport):
    """An httpx transport that passes requests to the gateway in this process, and simulates dropped connections.

    The request's read timeout counts from the last byte that the gateway sent, as over a socket. Runs on asyncio and
    trio; cancelling ends a hanging request at once.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the gateway's answer, or raise what httpx raises when a server drops the connection."""
        timeout: float | None = request.extensions.get("timeout", {}).get("read")
        read_timeout = math.inf if timeout is None else timeout

        with anyio.move_on_after(read_timeout) as scope:

            async def app(asgi_scope: Message, receive: Receive, send: Send) -> None:
                async def send_and_extend(message: Message) -> None:
                    scope.deadline = anyio.current_time() + read_timeout
                    await send(message)

                await self._app(asgi_scope, receive, send_and_extend)

            try:
                return await httpx.ASGITransport(app).handle_async_request(request)
            except ConnectionDroppedError as dropped:
                error, message = _RAISED[dropped.drop]
                raise error(message, request=request) from dropped
        raise httpx.ReadTimeout("the simulated gateway does not answer", request=request)
