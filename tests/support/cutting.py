"""A line to a server that is cut at a chosen word."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import ByteStream, SocketAttribute


class Line:
    """Passes bytes on between clients and a server.

    Attributes:
        port: where clients connect.
        cut_at: a word; when a client has said it, the line is cut.
        times: how often that is still done.
        after_the_answer: the server hears the word, and its answer is lost; otherwise it does not hear it.
        cuts: how often that was done.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self.port = 0
        self.cut_at: bytes | None = None
        self.times = 1
        self.after_the_answer = True
        self.cuts = 0

    def address(self, address: str) -> str:
        """The same database, through this line."""
        return re.sub(r":\d+/", f":{self.port}/", address)

    async def serve(self, client: ByteStream) -> None:
        """Serve one connection."""
        cut = anyio.Event()
        server = await anyio.connect_tcp("127.0.0.1", self._server_port)
        async with client, server, anyio.create_task_group() as both:

            async def ask() -> None:
                try:
                    async for heard in client:
                        if self.cut_at is not None and self.times and self.cut_at in heard:
                            self.times -= 1
                            self.cuts += 1
                            cut.set()
                            if not self.after_the_answer:
                                break
                        await server.send(heard)
                        if cut.is_set():
                            return
                except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                    pass
                both.cancel_scope.cancel()

            async def answer() -> None:
                try:
                    async for said in server:
                        if cut.is_set():
                            break
                        await client.send(said)
                except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                    pass
                both.cancel_scope.cancel()

            both.start_soon(ask)
            both.start_soon(answer)


@asynccontextmanager
async def line(server_port: int) -> AsyncIterator[Line]:
    """A line to a server on the loopback."""
    passing = Line(server_port)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    passing.port = listener.extra(SocketAttribute.local_port)
    async with anyio.create_task_group() as connections:
        # First nobody comes any more: who is cut off comes again at once, and asyncio would trip over it.
        async with listener, anyio.create_task_group() as coming:
            coming.start_soon(listener.serve, passing.serve, connections)
            yield passing
            coming.cancel_scope.cancel()
        connections.cancel_scope.cancel()
