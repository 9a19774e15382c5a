"""The receiver as a process: load over sockets, and `kill -9` while it is under way.

``QXT_TEST_KILLS`` and ``QXT_TEST_REPORTS`` lengthen both; the long form is 20 kills and 20,000 reports.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from anyio import to_thread
from support.serving import Pusher, Receiver

KILLS = int(os.environ.get("QXT_TEST_KILLS", "3"))
REPORTS = int(os.environ.get("QXT_TEST_REPORTS", "1000"))


def make_pushes(count: int, seed: int) -> tuple[list[bytes], dict[tuple[str, str], str]]:
    """Pushes of one report and of many, in any order, some again, and the one report that is to stay for each key."""
    choose = random.Random(seed)
    keys = [(str(place // 10), f"1380013{place % 10:04}") for place in range(count)]
    expected = {key: choose.choice(["DELIVRD", "DELIVRD", "REJECT", "MB:0041"]) for key in keys}
    reports = [(*key, code) for key, code in expected.items()]
    reports += choose.sample(reports, count // 5)
    choose.shuffle(reports)
    pushes = []
    while reports:
        some, reports = reports[: (size := choose.choice([1, 1, 1, 2, 50]))], reports[size:]
        pushes.append("type=4&mid={}&mobile={}&msg={}".format(*map(", ".join, zip(*some, strict=True))).encode())
    return pushes, expected


def stored(database: Path) -> list[tuple[str, str, str]]:
    """The reports in the file."""
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("SELECT mid, number, code FROM reports").fetchall()


def acknowledged(pushes: Sequence[bytes], places: Sequence[int]) -> set[tuple[str, str]]:
    """The keys in the pushes that were answered `ok`."""
    keys: set[tuple[str, str]] = set()
    for place in places:
        fields = dict(field.split("=") for field in pushes[place].decode().split("&"))
        keys.update(zip(fields["mid"].split(", "), fields["mobile"].split(", "), strict=True))
    return keys


def test_every_report_once(tmp_path: Path) -> None:
    """Repeated, in lists, in any order, over several connections: each report is stored once."""
    database = tmp_path / "qxt.sqlite"
    pushes, expected = make_pushes(REPORTS, seed=1)
    with Receiver(database).running() as receiver:
        pusher = Pusher(receiver.port, pushes)
        anyio.run(pusher.run)
    assert pusher.failures == 0
    found = stored(database)
    assert len(found) == len(expected)
    assert {(mid, number): code for mid, number, code in found} == expected


def test_kill(tmp_path: Path) -> None:
    """Killed at random moments, with all that was not acknowledged pushed again: nothing acknowledged is lost."""
    database = tmp_path / "qxt.sqlite"
    pushes, expected = make_pushes(REPORTS, seed=2)
    choose = random.Random(3)
    moments = sorted(choose.sample(range(1, int(len(pushes) * 0.9)), KILLS))
    receiver = Receiver(database)
    pusher = Pusher(receiver.port, pushes)
    lost: list[set[tuple[str, str]]] = []

    async def kill() -> None:
        for moment in moments:
            while len(pusher.acknowledged) < moment:
                await anyio.lowlevel.checkpoint()
            await to_thread.run_sync(receiver.stop, signal.SIGKILL)
            told = acknowledged(pushes, pusher.acknowledged)
            found = await to_thread.run_sync(stored, database)
            lost.append(told - {(mid, number) for mid, number, _ in found})
            await to_thread.run_sync(receiver.start)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kill)
            tasks.start_soon(pusher.run)

    with receiver.running():
        anyio.run(main)
    assert lost == [set()] * KILLS
    found = stored(database)
    assert len(found) == len(expected)
    assert {(mid, number): code for mid, number, code in found} == expected
    assert pusher.failures > 0


def test_a_stranger_does_not_hold_up_the_others(tmp_path: Path) -> None:
    """While senders push endless bodies, stall, and scan, the gateway is served."""
    database = tmp_path / "qxt.sqlite"
    pushes, expected = make_pushes(200, seed=4)

    async def flood(port: int, request: bytes, piece: bytes) -> None:
        with anyio.CancelScope():
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                try:
                    await stream.send(request)
                    while piece:
                        await stream.send(piece)
                    await stream.receive()
                except (OSError, anyio.EndOfStream, anyio.BrokenResourceError):
                    pass

    async def main(port: int) -> None:
        secret = b"/0123456789abcdefghij"
        huge = b" HTTP/1.1\r\nHost: x\r\nContent-Length: 300000000\r\n\r\n"
        chunked = b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(flood, port, b"POST " + secret + huge, b"x" * 65536)
            tasks.start_soon(flood, port, b"POST /wrong" + huge, b"x" * 65536)
            tasks.start_soon(flood, port, b"POST " + secret + chunked, b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
            tasks.start_soon(flood, port, b"POST " + secret + huge.replace(b"300000000", b"10"), b"")
            await pusher.run()
            tasks.cancel_scope.cancel()

    with Receiver(database, read_timeout=0.5).running() as receiver:
        pusher = Pusher(receiver.port, pushes)
        anyio.run(main, receiver.port)
    assert pusher.failures == 0
    assert len(stored(database)) == len(expected)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_shutdown(tmp_path: Path, sent: signal.Signals) -> None:
    """A receiver that is asked to stop closes its journal: no write-ahead file is left."""
    with Receiver(tmp_path / "qxt.sqlite").running() as receiver:
        receiver.stop(sent)
    assert [path.name for path in tmp_path.iterdir()] == ["qxt.sqlite"]
