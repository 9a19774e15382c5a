"""Row 40 of the fault matrix: PostgreSQL that is stopped, in the middle of pushes and of campaigns; real processes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from urllib.parse import urlsplit

import anyio
import pytest
from support.postgresql_server import Server, name_of, plain
from support.processes import plan

from qxt_async.journal import open_journal
from qxt_async.simulator import SimulatedGateway, serve

pytestmark = pytest.mark.slow

SECRET = "0123456789abcdefghij"
NUMBERS = [f"1380013{index:04}" for index in range(400)]


@contextmanager
def _program(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """``qxt`` in a process of its own."""
    command = [sys.executable, "-m", "qxt_async", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _signal_thrice(process: subprocess.Popen[str]) -> str:
    """Ask it to end, and again; what it says until it has ended."""
    assert process.stderr is not None
    process.send_signal(signal.SIGTERM)
    while "stopping" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGTERM)
    try:
        _, said = process.communicate(timeout=2)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    return said


def _push(address: tuple[str, int], mid: str) -> tuple[int, bytes]:
    with closing(HTTPConnection(*address, timeout=120)) as connection:
        connection.request("GET", f"/{SECRET}?type=4&mid={mid}&mobile=13800138000&msg=DELIVRD")
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_row_40_pushes_while_the_database_is_frozen(postgresql: Server, database: str) -> None:
    """A push is answered 503 in time and stored when it comes again; two signals end the process meanwhile."""
    database = f"{plain(database)}?answer_timeout=2"
    arguments = ("receive", "--port", "0", "--path", SECRET, "--journal", database)
    with _program(*arguments) as process:
        assert process.stderr is not None
        parts = urlsplit(process.stderr.readline().split()[-1])
        assert parts.hostname is not None
        assert parts.port is not None
        address = (parts.hostname, parts.port)
        assert _push(address, "1") == (200, b"ok")
        with postgresql.frozen():
            assert _push(address, "2")[0] == 503
        assert _push(address, "2") == (200, b"ok")
        with postgresql.frozen():
            with closing(HTTPConnection(*address, timeout=120)) as connection:
                connection.request("GET", f"/{SECRET}?type=4&mid=3&mobile=13800138000&msg=DELIVRD")
                said = _signal_thrice(process)
            assert "IndexError" not in said
    assert postgresql.ask("SELECT mid FROM qxt.reports ORDER BY mid", name_of(database)) == [("1",), ("2",)]


@pytest.mark.parametrize("program", ["campaign run", "worker"])
def test_row_40_campaigns_while_the_database_is_frozen(
    postgresql: Server, database: str, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two signals end a run and a worker; nothing was sent without a claim that was committed, and nothing twice."""
    gateway = SimulatedGateway()

    async def begin() -> int:
        async with open_journal(database) as journal:
            campaign = await plan(journal, NUMBERS, 1)
            if program == "worker":
                await journal.campaigns.start(campaign)
            return campaign

    async def begun(campaign: int) -> int:
        async with open_journal(database) as journal:
            counts = await journal.campaigns.counts(campaign)
            return counts.sending + counts.accepted + counts.unknown

    campaign = anyio.run(begin)
    arguments = {"campaign run": ("campaign", "run", str(campaign)), "worker": ("worker",)}[program]
    with serve(gateway) as url:
        for name, value in (("USER", "user"), ("PASSWORD", "password"), ("BASE_URL", url), ("JOURNAL", database)):
            monkeypatch.setenv(f"QXT_{name}", value)
        with _program(*arguments, "--rate", "5") as process:
            while not gateway.taken:
                assert process.poll() is None
                time.sleep(0.01)
            with postgresql.frozen():
                said = _signal_thrice(process)
            assert "IndexError" not in said
        assert set(gateway.taken.values()) == {1}
        assert len(gateway.taken) <= anyio.run(begun, campaign) < len(NUMBERS)
