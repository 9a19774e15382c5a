"""A server that misbehaves exactly as told, on bare sockets, and knows what it took.

It runs an event loop of its own in a thread, so that tests on asyncio and on trio use it alike, and it parses HTTP and
forms with code of its own, so that it shares no bug with the client or with the simulator. A *fault* is an
asynchronous function that gets one connection and does something to it; `FaultServer.plan` says which come in which
order, and once they are used up the server behaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import socket
import struct
import threading
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Self
from urllib.parse import unquote_to_bytes

import attrs

__all__ = ["Fault", "FaultServer", "GoneError", "Request", "Wire", "at_accept", "http", "normal", "ok_line"]

DIGEST = "5f4dcc3b5aa765d61d8327deb882cf99"
"""What the server takes as the password: the digest of a password that everybody knows."""

Fault = Callable[["Wire"], Awaitable[None]]


class GoneError(Exception):
    """The client closed or reset the connection."""


def at_accept(fault: Fault) -> Fault:
    """Mark a fault that begins when the connection stands, not when its first byte is there."""
    fault.at_accept = True  # type: ignore[attr-defined]
    return fault


def http(
    body: bytes = b"",
    status: str = "200 OK",
    headers: Sequence[str] = (),
    *,
    length: int | None = -1,
    version: str = "1.1",
) -> bytes:
    """An HTTP answer; `length` -1 tells the truth, ``None`` leaves the header out."""
    lines = [f"HTTP/{version} {status}", "Content-Type: text/plain; charset=GBK", *headers]
    if length is not None:
        lines.append(f"Content-Length: {len(body) if length < 0 else length}")
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


@attrs.frozen
class Request:
    """What arrived of one request.

    Attributes:
        connection: which connection, from 0.
        method, target: of the request line.
        headers: in order, names as they came.
        raw_head: the head's bytes.
        body: what there was of the body.
        whole: whether the body is as long as its head said.
        fields: the form's fields in order, decoded from GBK.
    """

    connection: int
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    raw_head: bytes
    body: bytes
    whole: bool
    fields: tuple[tuple[str, str], ...]

    @property
    def numbers(self) -> tuple[str, ...]:
        """What stands in the field ``tele``."""
        told = dict(self.fields).get("tele", "")
        return tuple(told.split(",")) if told else ()

    @property
    def valid(self) -> bool:
        """Whether a gateway would take it: whole, all fields in order, the password last."""
        names = [name for name, _ in self.fields]
        values = dict(self.fields)
        return (
            self.whole
            and len(names) == len(set(names))
            and bool(names)
            and names[-1] == "password"
            and values["password"] == DIGEST
            and bool(values.get("user"))
            and bool(values.get("msg"))
            and 1 <= len(self.numbers) <= 1000
            and all(re.fullmatch("1[0-9]{10}", number) for number in self.numbers)
        )


def _fields(form: bytes) -> tuple[tuple[str, str], ...]:
    pairs: list[tuple[str, str]] = []
    for part in form.split(b"&"):
        if part:
            name, _, value = part.partition(b"=")
            decoded = unquote_to_bytes(value.replace(b"+", b" ")).decode("gbk", "replace")
            pairs.append((name.decode("ascii", "replace"), decoded))
    return tuple(pairs)


def _reset(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Wire:
    """One accepted connection, as a fault sees it."""

    def __init__(self, server: FaultServer, sock: socket.socket, number: int) -> None:
        self.server = server
        self.number = number
        self.closed = False
        self._socket = sock
        self._buffer = b""
        self._loop = asyncio.get_running_loop()

    # --- reading

    async def has_more(self) -> bool:
        """Wait for the next request's first byte, and leave it where it is; false if the client is gone."""
        while not self._buffer:
            readable = asyncio.Event()
            self._loop.add_reader(self._socket, readable.set)
            try:
                await readable.wait()
            finally:
                self._loop.remove_reader(self._socket)
            try:
                return bool(self._socket.recv(1, socket.MSG_PEEK))
            except BlockingIOError:
                continue
            except OSError:
                return False
        return True

    async def _more(self) -> None:
        try:
            data = await self._loop.sock_recv(self._socket, 1 << 16)
        except OSError:
            data = b""
        if not data:
            raise GoneError
        self._buffer += data

    async def read(self, count: int) -> bytes:
        """Exactly so many bytes."""
        while len(self._buffer) < count:
            await self._more()
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    async def head(self) -> bytes:
        """A request's head, up to and with its empty line."""
        while b"\r\n\r\n" not in self._buffer:
            await self._more()
        return await self.read(self._buffer.index(b"\r\n\r\n") + 4)

    async def request(self, *, leave: int = 0) -> Request:
        """A request; the last `leave` bytes of its body are not read. What is cut off is noted as not whole."""
        head = await self.head()
        wanted = max(0, _content_length(head) - leave)
        while len(self._buffer) < wanted:
            try:
                await self._more()
            except GoneError:
                self.server.note(self.number, head, self._buffer, whole=False)
                raise
        return self.server.note(self.number, head, await self.read(wanted), whole=not leave)

    async def until_gone(self) -> None:
        """Read and throw away until the client is gone."""
        with contextlib.suppress(GoneError):
            while True:
                self._buffer = b""
                await self._more()

    # --- writing

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        try:
            await self._loop.sock_sendall(self._socket, data)
        except OSError as error:
            raise GoneError from error

    def half_close(self) -> None:
        """Say that nothing more comes, and go on listening."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close; the kernel makes a reset of it if bytes are unread."""
        self.closed = True
        self._socket.close()

    def reset(self) -> None:
        """Reset."""
        self.closed = True
        _reset(self._socket)

    # --- taking

    def take(self, request: Request, numbers: Iterable[str] | None = None) -> str:
        """Count what a gateway would have taken, under a new mid."""
        return self.server.take(request, numbers)


def _content_length(head: bytes) -> int:
    found = re.search(rb"(?i)\r\ncontent-length:\s*(\d+)\r\n", head)
    return int(found[1]) if found else 0


def ok_line(mid: str, numbers: Iterable[str]) -> bytes:
    """The answer's line for what was taken."""
    return f"ok:{mid}:{','.join(numbers)}\n".encode("ascii")


async def normal(wire: Wire) -> None:
    """Take what is valid and answer as the protocol says."""
    request = await wire.request()
    if request.target.partition("?")[0].endswith("/surplus"):
        await wire.send(http(b"ok:sms:1000000:mms:5"))
    elif request.valid:
        mid = wire.take(request)
        await wire.send(http(ok_line(mid, request.numbers)))
    else:
        await wire.send(http("error:无此用户或者密码不对".encode("gbk")))


class FaultServer:
    """The server, in a thread of its own. Use it as a context manager.

    Attributes:
        base_url: where a client finds it.
        requests: what arrived, in order, cut-off requests too.
        taken: how often each number was taken.
        acceptances: the numbers under each mid that was given out.
        connections: how many were accepted.
        most_open: how many were open at once at most.
        errors: what went wrong in the faults themselves.
        events: how many things have happened, for moments that are counted.
        marks: what faults have told that they did, for `wait_for`.
        elsewhere: an address for redirects.
        released: an event of the server's loop that faults may wait for; see `release`.
        default: what is done when nothing is planned.
        measured: whether somebody measures the memory, so that it has to be much that is thrown at the client.
    """

    def __init__(self, default: Fault = normal) -> None:
        self.default = default
        self.requests: list[Request] = []
        self.taken: Counter[str] = Counter()
        self.acceptances: dict[str, tuple[str, ...]] = {}
        self.connections = 0
        self.open = 0
        self.most_open = 0
        self.errors: list[BaseException] = []
        self.marks: list[str] = []
        self.events = 0
        self.elsewhere = ""
        self.measured = False
        self.released = asyncio.Event()
        self._planned: deque[Fault] = deque()
        self._mids = itertools.count(1)
        self._changed = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self.port}/qxt"
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle: set[asyncio.Task[None]] = set()
        self._settling = False
        self._thread = threading.Thread(target=self._run, name="fault server", daemon=True)

    # --- for the tests: from any thread

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        assert not self.errors, self.errors

    def plan(self, *faults: Fault) -> None:
        """Say what to do next; each is used once, for a connection or a request as `at_accept` says."""
        self._planned.extend(faults)

    @property
    def planned(self) -> int:
        """How many faults have not happened yet."""
        return len(self._planned)

    def release(self) -> None:
        """Let the faults go on that wait for `released`."""
        self._loop.call_soon_threadsafe(self.released.set)

    def wait_for(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        """Block the calling thread until the condition holds; it is looked at after each thing that happens here."""
        with self._changed:
            assert self._changed.wait_for(condition, seconds), "the server waited in vain"

    def settle(self) -> None:
        """Let everything go on, hang up where nothing is asked for, and wait until no connection is left.

        What is not taken now never will be. A connection that its client forgot to close is waited for in vain.
        """
        self.call(self._hang_up)
        self.wait_for(lambda: not self.open)

    def begin(self, *faults: Fault) -> None:
        """Forget what was planned and what has come, when all is settled; what was taken stays in the books."""
        assert not self.open
        self._planned.clear()
        self.requests.clear()
        self.marks.clear()
        self._settling = False
        self.call(self.released.clear)
        self.plan(*faults)

    def call(self, function: Callable[[], Any]) -> None:
        """Run something in the server's loop."""
        self._loop.call_soon_threadsafe(function)

    # --- for the faults: in the server's loop

    def note(self, connection: int, head: bytes, body: bytes, *, whole: bool) -> Request:
        """Keep what arrived."""
        first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ")
        headers = tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
        form = body if method == "POST" else target.partition("?")[2].encode("ascii")
        request = Request(connection, method, target, headers, head, body, whole, _fields(form))
        self.requests.append(request)
        self.changed()
        return request

    def take(self, request: Request, numbers: Iterable[str] | None = None) -> str:
        """Count numbers as taken."""
        mid = f"{next(self._mids):08d}"
        if request.valid:
            told = request.numbers if numbers is None else tuple(numbers)
            self.taken.update(told)
            self.acceptances[mid] = told
            self.changed()
        return mid

    def mark(self, name: str) -> None:
        """Tell the tests that something was done."""
        self.marks.append(name)
        self.changed()

    def changed(self) -> None:
        """Tell those who wait."""
        with self._changed:
            self.events += 1
            self._changed.notify_all()

    # --- the thread

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        accepting = self._loop.create_task(self._accept())
        self._loop.run_forever()
        tasks = [accepting, *self._tasks]
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._listener.close()
        self._loop.close()

    async def _accept(self) -> None:
        while True:
            sock, _ = await self._loop.sock_accept(self._listener)
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wire = Wire(self, sock, self.connections)
            self.connections += 1
            self.open += 1
            self.most_open = max(self.most_open, self.open)
            self.changed()
            task = self._loop.create_task(self._serve(wire))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _next(self, *, accepted: bool) -> Fault | None:
        if self._planned and getattr(self._planned[0], "at_accept", False) is accepted:
            return self._planned.popleft()
        return None

    def _hang_up(self) -> None:
        self.released.set()
        self._settling = True
        for task in self._idle:
            task.cancel()

    async def _asked(self, wire: Wire) -> bool:
        """Wait for another request."""
        if wire.closed or self._settling:
            return False
        task = asyncio.current_task()
        assert task is not None
        self._idle.add(task)
        try:
            return await wire.has_more()
        except asyncio.CancelledError:
            return False
        finally:
            self._idle.discard(task)

    async def _serve(self, wire: Wire) -> None:
        try:
            if (fault := self._next(accepted=True)) is not None:
                await fault(wire)
            while await self._asked(wire):
                await (self._next(accepted=False) or self.default)(wire)
        except GoneError:
            pass
        except Exception as error:  # noqa: BLE001
            self.errors.append(error)
        finally:
            wire.close()
            self.open -= 1
            self.changed()
