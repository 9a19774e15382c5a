"""The HTTP client of the simulated gateway's pushes."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self

import anyio
import httpx

if TYPE_CHECKING:
    from qxt_async.simulator.exchange import ASGIApp

_ANSWER_LIMIT = 64


class PushClient:
    """Calls a callback address over connections that it keeps open.

    Each worker has a transport with one connection, since httpx's pool (0.28) costs more with each connection. Requests
    go directly to the transport: httpx's client would log every address, and with it every number.

    Args:
        url: ``http://…`` or ``https://…``, may have a query of its own.
        method: ``GET`` or ``POST``.
        concurrency: how many workers there are; they are numbered from 0.
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
        self._concurrency = concurrency
        self._transports: list[httpx.AsyncBaseTransport] = []
        self._timeout = timeout
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for _ in range(self._concurrency):
            transport: httpx.AsyncBaseTransport
            if self._app is not None:
                transport = httpx.ASGITransport(self._app)
            else:
                transport = httpx.AsyncHTTPTransport(
                    # Loading certificates takes tens of milliseconds; http:// needs none.
                    verify=self._url.scheme == "https",
                    trust_env=False,
                    limits=httpx.Limits(max_connections=1),
                )
            self._transports.append(await self._stack.enter_async_context(transport))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._transports.clear()
        await self._stack.aclose()

    async def push(self, worker: int, form: str) -> bool:
        """Push once.

        Args:
            worker: the number of the calling worker.
            form: urlencoded fields, for the query of a GET or the body of a POST.

        Returns:
            Whether the answer was 200 and exactly ``ok`` (PROTOCOL 4); ``False`` if there was none.
        """
        status, answer = 0, b""
        with anyio.move_on_after(self._timeout):
            try:
                response = await self._transports[worker].handle_async_request(self._request(form))
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
