"""The only module of the simulator that knows httpx: the in-process transport, and the caller of callback addresses."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack
from typing import Any, Self

import anyio
import httpx

from qxt_async.simulator.faults import ConnectionDroppedError, Drop

__all__ = ["ASGIApp", "Caller", "GatewayTransport"]

ASGIApp = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[MutableMapping[str, Any]]],
        Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ],
    Awaitable[None],
]

# What httpx raises over a real socket for each way to lose the connection (measured; PROTOCOL 2.3 makes it matter).
_RAISED: dict[Drop, tuple[type[httpx.TransportError], str]] = {
    Drop.CLOSE: (httpx.RemoteProtocolError, "Server disconnected without sending a response."),
    Drop.HALF_CLOSE: (httpx.RemoteProtocolError, "Server disconnected without sending a response."),
    Drop.RESET: (httpx.ReadError, "connection reset"),
    Drop.REFUSE: (httpx.ConnectError, "connection refused"),
}

_ANSWER_LIMIT = 64


class GatewayTransport(httpx.AsyncBaseTransport):
    """An httpx transport that hands requests to the gateway in this process, dropped connections included.

    The request's read timeout counts from the last byte that the gateway sent, as over a socket. Runs on asyncio and
    trio; cancelling ends a hanging request at once.

    Args:
        app: the gateway.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer as the gateway does, or raise what httpx raises when a server drops the connection."""
        read: float | None = request.extensions.get("timeout", {}).get("read")
        patience = math.inf if read is None else read

        with anyio.move_on_after(patience) as scope:

            async def app(
                asgi_scope: MutableMapping[str, Any],
                receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
                send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
            ) -> None:
                async def noted(message: MutableMapping[str, Any]) -> None:
                    scope.deadline = anyio.current_time() + patience
                    await send(message)

                await self._app(asgi_scope, receive, noted)

            try:
                return await httpx.ASGITransport(app).handle_async_request(request)
            except ConnectionDroppedError as dropped:
                error, message = _RAISED[dropped.drop]
                raise error(message, request=request) from dropped
        raise httpx.ReadTimeout("the simulated gateway does not answer", request=request)


class Caller:
    """Calls a callback address over kept connections.

    Every lane has a pool of one connection, since httpx's pool (0.28) costs more with each connection that it holds.
    Requests go straight to httpx's transport: a client would log every address, and with it every number.

    Args:
        url: ``http://…`` or ``https://…``, may have a query of its own.
        method: ``GET`` or ``POST``.
        concurrency: calls at a time; lanes are numbered from 0 below it.
        timeout: seconds for a whole call.
        app: an ASGI application to call in this process instead of a server.

    Raises:
        ValueError: the address cannot be called.
    """

    def __init__(self, url: str, *, method: str, concurrency: int, timeout: float, app: ASGIApp | None = None) -> None:
        try:
            self._url = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise ValueError("push_to is not an address") from error
        if self._url.scheme not in ("http", "https") or not self._url.host:
            raise ValueError("push_to is an address such as http://127.0.0.1:8000/callback")
        self._method = method
        self._app = app
        self._lanes = concurrency
        self._transports: list[httpx.AsyncBaseTransport] = []
        self._timeout = timeout
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for _ in range(self._lanes):
            transport: httpx.AsyncBaseTransport
            if self._app is not None:
                transport = httpx.ASGITransport(self._app)
            else:
                transport = httpx.AsyncHTTPTransport(
                    # Loading certificates takes tens of milliseconds; a plain address needs none.
                    verify=self._url.scheme == "https",
                    trust_env=False,
                    limits=httpx.Limits(max_connections=1),
                )
            self._transports.append(await self._stack.enter_async_context(transport))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._transports.clear()
        await self._stack.aclose()

    async def call(self, lane: int, form: str) -> bool:
        """Make one call.

        Args:
            lane: which of the concurrent calls this is.
            form: urlencoded fields, for the query of a GET or the body of a POST.

        Returns:
            Whether it was answered with 200 and exactly ``ok`` (PROTOCOL 4). What cannot be reached did not.
        """
        status, answer = 0, b""
        with anyio.move_on_after(self._timeout):
            try:
                response = await self._transports[lane].handle_async_request(self._request(form))
                try:
                    async for chunk in response.aiter_raw():
                        answer = (answer + chunk)[:_ANSWER_LIMIT]
                    status = response.status_code
                finally:
                    await response.aclose()
            except httpx.TransportError:
                return False
        return status == 200 and answer.strip() == b"ok"

    def _request(self, form: str) -> httpx.Request:
        if self._method == "POST":
            return httpx.Request(
                "POST",
                self._url,
                content=form.encode("ascii"),
                headers={"content-type": "application/x-www-form-urlencoded"},
            )
        query = self._url.query
        target = self._url.copy_with(query=query + b"&" * bool(query) + form.encode("ascii"))
        return httpx.Request("GET", target)
