"""TLS in front of a fault server, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from typing import Self

import trustme


def server_context(authority: trustme.CA) -> ssl.SSLContext:
    """A server's context with a certificate for 127.0.0.1 from this authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def client_context(authority: trustme.CA) -> ssl.SSLContext:
    """A client's context that trusts this authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


class TlsFront:
    """Takes TLS off, and passes on what is below.

    Attributes:
        base_url: its address.
        received: bytes that arrived after a handshake.
        tickets_sent: set when a handshake is done, after which the server's session tickets come.
        passed_on: what the server said, once it has been written to a client.
    """

    def __init__(self, context: ssl.SSLContext, port: int) -> None:
        self.received = 0
        self.base_url = ""
        self.tickets_sent = threading.Event()
        self.passed_on = b""
        self._passing = threading.Condition()
        self._context = context
        self._target = port
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(120)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()
        self._loop.close()

    def wait_until_passed_on(self, end: bytes) -> None:
        """Wait until the last that was written to a client is this."""
        with self._passing:
            assert self._passing.wait_for(lambda: self.passed_on.endswith(end), 120)

    async def _run(self) -> None:
        self._ended = asyncio.Event()
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0, ssl=self._context)
        self.base_url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/qxt"
        self._ready.set()
        await self._ended.wait()
        server.close()
        relays = asyncio.all_tasks() - {asyncio.current_task()}
        for relay in relays:
            relay.cancel()
        await asyncio.gather(*relays, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tickets_sent.set()
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._target)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, count: bool) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(1 << 16):
                    self.received += len(data) * count
                    sink.write(data)
                    await sink.drain()
                    if not count:
                        with self._passing:
                            self.passed_on += data
                            self._passing.notify_all()
            sink.close()

        try:
            await asyncio.gather(pump(reader, inner_writer, count=True), pump(inner_reader, writer, count=False))
        finally:
            writer.close()
            inner_writer.close()
