"""A real receiver in a process of its own, and a load generator that speaks HTTP over plain sockets.

``python serving.py DATABASE PORT [OPTION=JSON …]`` runs the receiver under uvicorn.
"""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import ByteStream

from support.ports import free_port

SECRET = "0123456789abcdefghij"


class Receiver:
    """`PushReceiver` under uvicorn, restarted on the same port and journal as often as wanted."""

    def __init__(self, database: Path, **options: Any) -> None:
        self.port = free_port()
        arguments = [f"{name}={json.dumps(value)}" for name, value in options.items()]
        self._command = [sys.executable, __file__, str(database), str(self.port), *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it accepts connections."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"listening\n"

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it, by whatever signal."""
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(120)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None

    @contextmanager
    def running(self) -> Iterator[Receiver]:
        """Start it, and stop it in the end if it still runs."""
        self.start()
        try:
            yield self
        finally:
            if self._process is not None:
                self.stop()


class Pusher:
    """Pushes until everything is acknowledged, as the gateway does, over so many connections."""

    def __init__(self, port: int, pushes: Sequence[bytes], *, connections: int = 8, seed: int = 0) -> None:
        self.port = port
        self.waiting = list(range(len(pushes)))
        self.acknowledged: list[int] = []
        self.failures = 0
        self._pushes = pushes
        self._connections = connections
        self._random = random.Random(seed)
        self._random.shuffle(self.waiting)

    async def run(self) -> None:
        """Push everything."""
        async with anyio.create_task_group() as tasks:
            for _ in range(self._connections):
                tasks.start_soon(self._work)

    async def _work(self) -> None:
        while self.waiting:
            try:
                async with await anyio.connect_tcp("127.0.0.1", self.port) as stream:
                    while self.waiting:
                        await self._push(stream)
            except (OSError, anyio.EndOfStream, anyio.BrokenResourceError):
                # It was killed: it comes back on the same port.
                self.failures += 1
                await anyio.sleep(0.01)

    async def _push(self, stream: ByteStream) -> None:
        place = self.waiting.pop()
        try:
            status, body = await exchange(stream, self._request(self._pushes[place]))
        except BaseException:
            self.waiting.insert(0, place)
            raise
        if (status, body) == (200, b"ok"):
            self.acknowledged.append(place)
        else:
            self.failures += 1
            self.waiting.insert(0, place)

    def _request(self, fields: bytes) -> bytes:
        if self._random.random() < 0.5:
            return b"GET /%b?%b HTTP/1.1\r\nHost: x\r\n\r\n" % (SECRET.encode(), fields.replace(b" ", b"%20"))
        return b"POST /%b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (SECRET.encode(), len(fields), fields)


async def exchange(stream: ByteStream, request: bytes) -> tuple[int, bytes]:
    """One request, one answer with a content-length."""
    await stream.send(request)
    received = b""
    while b"\r\n\r\n" not in received:
        received += await stream.receive()
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += await stream.receive()
    return int(head.split(b" ")[1]), body


def serve(database: str, port: str, *arguments: str) -> None:
    """Run the receiver, and say on stdout when it listens."""
    import uvicorn

    from qxt_async.receiving import PushReceiver

    options = {name: json.loads(value) for name, _, value in (argument.partition("=") for argument in arguments)}

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            print("listening", flush=True)

    receiver = PushReceiver(database, path_secret=SECRET, **options)
    config = uvicorn.Config(
        receiver, port=int(port), log_level="error", access_log=False, proxy_headers=False, timeout_keep_alive=60
    )
    Server(config).run()


if __name__ == "__main__":
    serve(*sys.argv[1:])
