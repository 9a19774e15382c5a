"""One HTTP exchange of the simulated gateway, answered well or badly, over plain ASGI."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, NoReturn

import anyio

from qxt_async.simulator.faults import ConnectionDroppedError, Drop, Fault

__all__ = ["EXTENSION", "Exchange", "ExchangeOverError", "Receive", "Send"]

EXTENSION = "qxt_async.simulator.drop"
"""The ASGI extension by which our server lets the gateway drop a connection: called with a `Drop`."""

# A thousand numbers and the longest text are 20 KB; this leaves room for any escaping, and bounds memory.
_BODY_LIMIT = 256 * 1024

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class ExchangeOverError(Exception):
    """Nothing more can be said in this exchange: the client left, or it was answered early."""


class Exchange:
    """A request and the way to answer it.

    Args:
        scope: of ASGI.
        receive: of ASGI.
        send: of ASGI.
    """

    def __init__(self, scope: Message, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self.method: str = scope["method"]
        self.query: bytes = scope["query_string"]

    async def body(self) -> bytes:
        """Read the body.

        Raises:
            ExchangeOverError: it is incomplete or too large; what was to be answered is answered.
        """
        body = bytearray()
        too_large = False
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ExchangeOverError
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > _BODY_LIMIT:
                # Read on, so that the client gets to the answer, and keep nothing.
                too_large = True
                body.clear()
        if too_large:
            await self.answer(b"too large", status=413)
            raise ExchangeOverError
        announced = dict(self._scope["headers"]).get(b"content-length", b"0")
        if len(body) < int(announced):
            # A server notices this itself; in process nobody else does, and half a form must never be taken.
            await self.drop(Drop.CLOSE)
        return bytes(body)

    async def form(self) -> bytes:
        """The fields, still encoded: those of the query, then those of the body, as servlets see them."""
        body = await self.body()
        return self.query + b"&" + body if body else self.query

    async def answer(
        self,
        body: bytes,
        *,
        status: int = 200,
        headers: tuple[tuple[str, str], ...] = (("content-type", "text/plain"),),
    ) -> None:
        """Answer at once."""
        await self._start(status, headers, len(body))
        await self._send({"type": "http.response.body", "body": body})

    async def stream(self, chunks: AsyncIterator[bytes], *, content_type: str) -> None:
        """Answer piece by piece, without holding the whole."""
        await self._start(200, (("content-type", content_type),), None)
        async for chunk in chunks:
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        await self._send({"type": "http.response.body", "body": b""})

    async def perform(self, fault: Fault, content: bytes) -> None:
        """Answer with `content` in the way the fault wants it.

        A client that leaves ends it; cancelling ends it at once.

        Raises:
            ExchangeOverError: the connection was dropped, or the client left.
            ConnectionDroppedError: it is to be dropped, and the server has no way to: the in-process transport maps it.
        """
        if fault.delay:
            await self._while_connected(anyio.sleep(fault.delay))
        if fault.hangs:
            await self._until_gone()
        body = content if fault.body is None else fault.body
        headers = fault.headers
        if not any(name == "content-type" for name, _ in headers):
            headers = (("content-type", f"text/plain; charset={fault.charset}"), *headers)
        if fault.drop is not None:
            if fault.cut:
                await self._start(fault.status, headers, len(body))
                half = body[: len(body) // 2]
                await self._send({"type": "http.response.body", "body": half, "more_body": True})
            await self.drop(fault.drop)
        elif fault.drip:
            await self._while_connected(self._drip(fault, headers, body))
        else:
            await self.answer(body, status=fault.status, headers=headers)

    async def drop(self, drop: Drop) -> NoReturn:
        """End the connection without an answer.

        Raises:
            ExchangeOverError: it was ended.
            ConnectionDroppedError: the server has no way to.
        """
        extensions: dict[str, Callable[[Drop], None]] = self._scope.get("extensions") or {}
        end = extensions.get(EXTENSION)
        if end is None:
            raise ConnectionDroppedError(drop)
        end(drop)
        await self._until_gone()

    async def _drip(self, fault: Fault, headers: tuple[tuple[str, str], ...], body: bytes) -> None:
        await self._start(fault.status, headers, len(body))
        for place in range(len(body)):
            await self._send({"type": "http.response.body", "body": body[place : place + 1], "more_body": True})
            await anyio.sleep(fault.drip)
        await self._send({"type": "http.response.body", "body": b""})

    async def _start(self, status: int, headers: tuple[tuple[str, str], ...], length: int | None) -> None:
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        if length is not None:
            encoded.append((b"content-length", b"%d" % length))
        await self._send({"type": "http.response.start", "status": status, "headers": encoded})

    async def _until_gone(self) -> NoReturn:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        raise ExchangeOverError

    async def _while_connected(self, work: Awaitable[None]) -> None:
        gone = False
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                nonlocal gone
                try:
                    await self._until_gone()
                except ExchangeOverError:
                    gone = True
                    group.cancel_scope.cancel()

            group.start_soon(watch)
            await work
            group.cancel_scope.cancel()
        if gone:
            raise ExchangeOverError
