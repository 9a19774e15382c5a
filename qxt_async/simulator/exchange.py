"""One HTTP request to the simulated gateway, and its answer, with or without a fault, over plain ASGI."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, NoReturn, TypeAlias

import anyio

from qxt_async.simulator.faults import ConnectionDroppedError, Drop, Fault

DROP_EXTENSION = "qxt_async.simulator.drop"
"""The ASGI extension with which the gateway drops a connection: a function of a `Drop`."""

# A thousand numbers and the longest text are 20 KB. The limit leaves room for any escaping, and bounds memory.
_BODY_LIMIT = 256 * 1024

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]


class ExchangeOverError(Exception):
    """No answer is possible any more: the client has closed the connection, or the answer was sent already."""


class Exchange:
    """A request and its answer."""

    def __init__(self, scope: Message, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._client_gone = False
        self.method: str = scope["method"]
        self.query: bytes = scope["query_string"]

    async def body(self) -> bytes:
        """Read the body.

        Raises:
            ExchangeOverError: it is incomplete or too large; the refusal is already sent.
            ConnectionDroppedError: it is incomplete, and the server cannot drop connections.
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
                # Read to the end, so that the client reads the answer, and keep nothing.
                too_large = True
                body.clear()
        if too_large:
            await self.answer(b"too large", status=413)
            raise ExchangeOverError
        announced = dict(self._scope["headers"]).get(b"content-length", b"0")
        if len(body) < int(announced):
            # A server detects this itself; in process only this check does. The gateway must not take half a form.
            await self.drop(Drop.CLOSE)
        return bytes(body)

    async def form(self) -> bytes:
        """Read the fields, still encoded: those of the query, then those of the body, as servlets do."""
        body = await self.body()
        return self.query + b"&" + body if body else self.query

    async def answer(
        self,
        body: bytes,
        *,
        status: int = 200,
        headers: tuple[tuple[str, str], ...] = (("content-type", "text/plain"),),
    ) -> None:
        """Send the whole answer."""
        await self._start(status, headers, len(body))
        await self._send({"type": "http.response.body", "body": body})

    async def stream(self, chunks: AsyncIterator[bytes], *, content_type: str) -> None:
        """Send the answer in chunks."""
        await self._start(200, (("content-type", content_type),), None)
        async for chunk in chunks:
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        await self._send({"type": "http.response.body", "body": b""})

    async def perform(self, fault: Fault, content: bytes) -> None:
        """Answer with `content`, changed by a fault.

        Cancelling ends it at once.

        Raises:
            ExchangeOverError: the connection was dropped, or the client closed it.
            ConnectionDroppedError: the connection is to be dropped, and the server cannot do so. The in-process
                transport maps it.
        """
        if fault.delay:
            await self._while_connected(anyio.sleep(fault.delay))
        if fault.hangs:
            await self._hang()
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
            ExchangeOverError: it is dropped.
            ConnectionDroppedError: the server cannot drop connections.
        """
        extensions: dict[str, Callable[[Drop], None]] = self._scope.get("extensions") or {}
        end = extensions.get(DROP_EXTENSION)
        if end is None:
            raise ConnectionDroppedError(drop)
        end(drop)
        await self._hang()

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

    async def _wait_until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._client_gone = True

    async def _hang(self) -> NoReturn:
        await self._wait_until_gone()
        raise ExchangeOverError

    async def _while_connected(self, work: Awaitable[None]) -> None:
        async with anyio.create_task_group() as group:

            async def cancel_when_gone() -> None:
                await self._wait_until_gone()
                group.cancel_scope.cancel()

            group.start_soon(cancel_when_gone)
            await work
            group.cancel_scope.cancel()
        if self._client_gone:
            raise ExchangeOverError
