"""What it costs to keep what is pushed: against a server that keeps nothing, and what one would write instead.

Servers with uvicorn, one process each, are pushed to in turn by a load generator in a process of
its own; every push is another report. Only the ratios mean anything. Beside each rate stands the processor time of the
server process for a push, over all its threads (on Linux): its ratio holds on a busy machine too, where rates do not.

    python tests/benchmarks/bench_receiving.py [--rounds N] [--seconds S] [--connections C] [--folder F] [--profile]

- `nothing`: answers `ok`. uvicorn with httptools and uvloop, as the next one.
- `receiver`: the server of `qxt receive` with its journal, every commit flushed.
- `h11`: the same where httptools and uvloop are not installed.
- `postgresql`: the receiver with its journal in PostgreSQL, if a server is installed.
- `written`: a FastAPI route with one flushed SQLite commit per request.

With --profile the receiver alone, and what costs most in it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import attrs
from measuring import aim, profiled, turns
from support.postgresql_server import programs, server

SECRET = "0123456789abcdefghij"
KINDS = ("nothing", "receiver", "h11", "postgresql", "written")
# The least that the project asks of itself: of what the server does at all, and of what one would write.
FLOOR, AGAINST_H11, AGAINST_WRITTEN = 0.5, 1.3, 5.0


# --- the servers ------------------------------------------------------------------------------------------------------


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """Answer `ok` and keep nothing."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def written(database: str) -> Any:
    """A route as one would write it."""
    from fastapi import FastAPI
    from fastapi.responses import PlainTextResponse

    app = FastAPI()
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE reports (mid TEXT, mobile TEXT, msg TEXT, port TEXT, UNIQUE (mid, mobile))")

    @app.get(f"/{SECRET}", response_class=PlainTextResponse)
    async def push(type: str, mid: str, mobile: str, msg: str, port: str = "") -> str:  # noqa: A002
        with connection:
            connection.execute("INSERT OR IGNORE INTO reports VALUES (?, ?, ?, ?)", (mid, mobile, msg, port))
        return "ok"

    return app


def serve(kind: str, database: str, port: str, *profiling: str) -> None:
    """Run one of them."""
    import uvicorn

    def listening() -> None:
        print("listening", flush=True)

    if kind in ("receiver", "h11", "postgresql"):
        with profiled(kind) if profiling else contextlib.nullcontext():
            asynchronous = functools.partial(receive, database, int(port), kind, listening)
            anyio.run(asynchronous, backend_options={"use_uvloop": kind != "h11"})
        return

    class Announcing(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            listening()

    app = {"nothing": lambda _: nothing, "written": written}[kind](database)
    config = uvicorn.Config(app, port=int(port), log_level="error", access_log=False, proxy_headers=False)
    Announcing(config).run()


async def receive(database: str, port: int, kind: str, on_listening: Callable[[], object]) -> None:
    """The project's own, as the command runs it, until it is terminated."""
    from qxt_async.cli.push_server import PushServer
    from qxt_async.receiving import PushReceiver
    from qxt_async.runtime.server import listen
    from qxt_async.runtime.signals import run_until_signalled

    listener, _ = listen("127.0.0.1", port)
    with listener:
        async with PushReceiver(database, path_secret=SECRET) as receiver:
            server = PushServer(receiver, listener, library="h11" if kind == "h11" else "httptools")

            def stop(_: object) -> None:
                server.should_exit = True

            await run_until_signalled(lambda: server.run_until_stopped(on_listening), stop)


# --- the load ---------------------------------------------------------------------------------------------------------


class _Load(asyncio.Protocol):
    """One connection: the next push when the last one is acknowledged."""

    acknowledged = 0
    sent = 0
    until = 0.0
    failed = False
    answer = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.push()

    def push(self) -> None:
        _Load.sent += 1
        line = b"GET /%b?type=4&mid=%d&mobile=13800138000&msg=DELIVRD&port=106900001 HTTP/1.1\r\nHost: x\r\n\r\n"
        self.transport.write(line % (SECRET.encode(), _Load.sent))

    def data_received(self, data: bytes) -> None:
        self.answer += data
        if not self.answer.endswith(b"\r\n\r\nok"):
            # Servers may send the head by itself.
            if self.answer.startswith(b"HTTP/1.1 200 ") and self.answer.endswith(b"\r\n\r\n"):
                return
            _Load.failed = True
            raise RuntimeError(self.answer)
        self.answer = b""
        if time.perf_counter() >= _Load.until:
            self.transport.close()
            return
        _Load.acknowledged += 1
        self.push()


async def load(port: int, seconds: float, connections: int, first: int) -> None:
    """Push for so long, and print how many were acknowledged and the next mid."""
    _Load.sent = first
    _Load.until = time.perf_counter() + seconds
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(_Load, "127.0.0.1", port)
    await asyncio.sleep(seconds + 0.2)
    print(_Load.acknowledged, _Load.sent)
    if _Load.failed:
        # A connection less would pass for a slower server.
        sys.exit("a push was not acknowledged")


# --- the comparison ---------------------------------------------------------------------------------------------------


@attrs.frozen
class Server:
    """One of the servers, running."""

    port: int
    pid: int

    def busy(self) -> float:
        """Seconds of processor time so far."""
        # The process's own times count in ticks of 10 ms; these are nanoseconds.
        spent = (file.read_text().split()[0] for file in Path(f"/proc/{self.pid}/task").glob("*/schedstat"))
        return sum(map(int, spent)) / 1e9


@attrs.frozen
class Measured:
    """One round of one server: acknowledged reports a second, seconds of its processor time for each."""

    rate: float
    cost: float


@contextlib.contextmanager
def serving(kind: str, database: str, *profiling: str) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, __file__, "serve", kind, database, str(port), *profiling]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"listening\n"
        try:
            yield Server(port, process.pid)
        finally:
            process.terminate()


def pushed(server: Server, seconds: float, connections: int, first: int) -> tuple[int, int]:
    """Push to a server for so long: how many were acknowledged, and the next mid."""
    command = [sys.executable, __file__, "load", server.port, seconds, connections, first]
    output = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
    acknowledged, next_ = map(int, output.stdout.split())
    return acknowledged, next_


def compare(rounds: int, seconds: float, connections: int, folder: Path) -> dict[str, list[Measured]]:
    """What was measured, round by round."""
    databases = {kind: str(folder / f"{kind}.sqlite") for kind in KINDS}
    with contextlib.ExitStack() as stack:
        binaries = programs()
        if binaries is None:
            del databases["postgresql"]
        else:
            postgresql = stack.enter_context(server(binaries, durable=True))
            databases["postgresql"] = stack.enter_context(postgresql.database())
        servers = {kind: stack.enter_context(serving(kind, database)) for kind, database in databases.items()}
        found: dict[str, list[Measured]] = {kind: [] for kind in servers}
        first = dict.fromkeys(servers, 0)
        for kind in turns(servers, rounds + 1):
            before = servers[kind].busy()
            acknowledged, first[kind] = pushed(servers[kind], seconds, connections, first[kind])
            found[kind].append(Measured(acknowledged / seconds, (servers[kind].busy() - before) / acknowledged))
    # The first round only warms up.
    return {kind: measured[1:] for kind, measured in found.items()}


def main() -> None:
    """Print the rates, the processor times and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--folder", type=Path, help="where the databases are kept: the disk counts")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if options.profile:
            with serving("receiver", str(Path(folder) / "receiver.sqlite"), "profiled") as profiled_server:
                pushed(profiled_server, options.seconds, options.connections, 0)
            return
        found = compare(options.rounds, options.seconds, options.connections, Path(folder))
    for kind, measured in found.items():
        rates = [one.rate for one in measured]
        cost = statistics.median(one.cost for one in measured) * 1e6
        spread = f"({min(rates):.0f} to {max(rates):.0f})"
        print(f"{kind:10} {statistics.median(rates):8.0f}/s   {spread:20} {cost:6.0f} us of processor time each")
    floor = _median_ratio(found, "receiver", "nothing")
    h11 = _median_ratio(found, "receiver", "h11")
    against = _median_ratio(found, "receiver", "written")
    if "postgresql" in found:
        shared = _median_ratio(found, "postgresql", "nothing")
        said = aim(shared.rate, least=FLOOR)
        print(f"postgresql / nothing {shared.rate:.2f}  processor time {shared.cost:.2f}   {said}")
    print(f"receiver / nothing  {floor.rate:.2f}   processor time {floor.cost:.2f}   {aim(floor.rate, least=FLOOR)}")
    print(f"receiver / h11      {h11.rate:.2f}   processor time {h11.cost:.2f}   {aim(h11.rate, least=AGAINST_H11)}")
    said = aim(against.rate, least=AGAINST_WRITTEN)
    print(f"receiver / written  {against.rate:.2f}   processor time {against.cost:.2f}   {said}")


def _median_ratio(found: Mapping[str, Sequence[Measured]], one: str, other: str) -> Measured:
    pairs = list(zip(found[one], found[other], strict=True))
    return Measured(
        statistics.median(a.rate / b.rate for a, b in pairs), statistics.median(a.cost / b.cost for a, b in pairs)
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(*sys.argv[2:])
    elif sys.argv[1:2] == ["load"]:
        asyncio.run(load(int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])))
    else:
        main()
