"""A gateway that costs next to nothing, in a process of its own, for measuring clients against."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator


class _Gateway(asyncio.Protocol):
    """Takes every send: no checks, no books, one answer a request."""

    mid = 0
    delay = float(sys.argv[1]) if __name__ == "__main__" and len(sys.argv) > 1 else 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        while True:
            head, found, rest = self.data.partition(b"\r\n\r\n")
            if not found:
                return
            lowered = head.lower()
            at = lowered.find(b"content-length:")
            length = int(lowered[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(rest) < length:
                return
            form, self.data = rest[:length], rest[length:]
            start = form.find(b"tele=") + 5
            end = form.find(b"&", start)
            _Gateway.mid += 1
            tele = form[start : end if end >= 0 else len(form)].replace(b"%2C", b",")
            answer = b"ok:%d:%s" % (_Gateway.mid, tele)
            whole = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(answer), answer)
            if self.delay:
                asyncio.get_running_loop().call_later(self.delay, self.transport.write, whole)  # type: ignore[attr-defined]
            else:
                self.transport.write(whole)  # type: ignore[attr-defined]


@contextlib.contextmanager
def serving(delay: float = 0.0) -> Iterator[str]:
    """Run the gateway in another process; gives its base URL. It answers after `delay` seconds."""
    process = subprocess.Popen([sys.executable, __file__, str(delay)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(_Gateway, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/qxt", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
