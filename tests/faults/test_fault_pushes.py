"""Rows of the fault matrix that come from outside: strange pushes, huge ones, and a store that fails or loses power."""

from __future__ import annotations

import itertools
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import attrs
import pytest

from qxt_async import NoValidNumberError, QxtClient
from qxt_async.campaign import Campaigns, RunOptions
from qxt_async.journal import open_journal
from qxt_async.journal.records import PlannedBatch
from qxt_async.models import Message
from qxt_async.receiving import DeliveryTracker, PushReceiver
from qxt_async.simulator import PushPlan, SimulatedGateway

SECRET = "0123456789abcdefghij"
MB = 1 << 20


@attrs.frozen
class Served:
    """``qxt receive`` in a process of its own."""

    process: subprocess.Popen[str]
    address: tuple[str, int]
    journal: Path

    def push(self, fields: str, body: bytes | None = None, path: str = SECRET) -> tuple[int, bytes]:
        """Push over a connection of its own."""
        with closing(HTTPConnection(*self.address, timeout=120)) as connection:
            connection.request("GET" if body is None else "POST", f"/{path}?{fields.replace(' ', '%20')}", body)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def stored(self) -> list[tuple[str, str, str]]:
        """The reports in its journal, which it goes on writing."""
        with closing(sqlite3.connect(self.journal)) as connection:
            return connection.execute("SELECT mid, number, code FROM reports ORDER BY seq").fetchall()

    def peak(self) -> int:
        """Bytes of memory that it had at most."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines()
        (kilobytes,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
        return int(kilobytes) * 1024


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A receiver that listens."""
    with _served(tmp_path) as running:
        yield running


@contextmanager
def _served(folder: Path, *prefix: str) -> Iterator[Served]:
    journal = folder / "qxt.db"
    arguments = ["receive", "--port", "0", "--path", SECRET, "--journal", str(journal)]
    command = [*prefix, sys.executable, "-m", "qxt_async", *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            parts = urlsplit(process.stderr.readline().split()[-1])
            assert parts.hostname is not None
            assert parts.port is not None
            yield Served(process, (parts.hostname, parts.port), journal)
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=120)


@pytest.mark.slow
def test_row_31_strange_pushes(served: Served) -> None:
    """A thousand duplicates are one report; what cannot be understood is kept raw; all of it is answered ``ok``."""
    report = "type=4&mid=7&mobile=13800138000&msg=DELIVRD"

    def push_often(times: int) -> None:
        with closing(HTTPConnection(*served.address, timeout=120)) as connection:
            for _ in range(times):
                connection.request("GET", f"/{SECRET}?{report}")
                assert connection.getresponse().read() == b"ok"

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(push_often, [125] * 8))
    assert served.stored() == [("7", "13800138000", "DELIVRD")]
    strange = [
        "type=4&mid=8, 9&mobile=13800138001&msg=DELIVRD,REJECT,DELIVRD",
        "type=1&mid=3&mobile=13800138002&msg=%ff%ff%81",
        "type=4&mid=8&mid=9&mobile=13800138003&msg=DELIVRD",
        "&".join(f"field{place}={place}" for place in range(2000)),
    ]
    many = "&".join(f"f{place}=1" for place in range(10_000)).encode()[: 60 * 1024]
    assert {served.push(fields) for fields in strange} | {served.push("", many)} == {(200, b"ok")}
    with closing(sqlite3.connect(served.journal)) as connection:
        flags = {flag for (row,) in connection.execute("SELECT flags FROM raw_pushes") for flag in row.split()}
    assert {"unequal-lists", "undecodable", "doubled-field", "too-many-fields"} <= flags
    # A mid that nobody has sent under is stored like any other.
    assert ("8", "13800138003", "DELIVRD") in served.stored()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads what /proc says of a process")
def test_row_32_huge_and_slow_pushes(served: Served) -> None:
    """300 MB of body and 10 MB of address are refused in bounded memory; others are served while a slow one sits."""
    assert served.push("type=4&mid=1&mobile=13800138000&msg=DELIVRD") == (200, b"ok")
    before = served.peak()
    with socket.create_connection(served.address, 30) as slow:
        slow.sendall(b"GET /%b?type=4 HTTP/1.1\r\nHost: x\r\nX-Slow: " % SECRET.encode())
        path = SECRET.encode()
        for head, piece, count in (
            (b"POST /%b HTTP/1.1\r\nHost: x\r\nContent-Length: 314572800\r\n\r\n" % path, b"x" * MB, 300),
            (
                b"POST /%b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % path,
                b"100000\r\n" + b"x" * MB + b"\r\n",
                300,
            ),
            (b"GET /%b?" % path, b"x" * MB, 10),
        ):
            assert _poured(served.address, head, piece, count) in {413, 414, 400}
            slow.sendall(b"and slower ")
            assert served.push("type=4&mid=1&mobile=13800138000&msg=DELIVRD") == (200, b"ok")
    assert served.push("type=4&mid=2&mobile=13800138000&msg=DELIVRD", path="somewhere")[0] == 404
    assert served.peak() - before < 16 * MB
    assert served.stored() == [("1", "13800138000", "DELIVRD")]


_FILES = 1024
_STRANGERS = 1500


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process have a file for each stranger."""
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < 2 * _STRANGERS:
        pytest.skip("too few files for so many connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before, 2 * _STRANGERS), most))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


@pytest.mark.slow
@pytest.mark.usefixtures("many_files")
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads what /proc says of a process")
def test_row_41_idle_connections_of_strangers(tmp_path: Path) -> None:
    """A receiver with 1,024 files answers pushes beside 1,500 idle connections, and says so once a second at most."""
    began = time.monotonic()
    with (
        _served(tmp_path, "sh", "-c", f'ulimit -n {_FILES}; exec "$@"', "sh") as served,
        ExitStack() as opened,
        closing(HTTPConnection(*served.address, timeout=120)) as gateway,
    ):

        def push_often(times: int) -> None:
            for _ in range(times):
                gateway.request("GET", f"/{SECRET}?type=4&mid=1&mobile=13800138000&msg=DELIVRD")
                assert gateway.getresponse().read() == b"ok"

        strangers = []
        for _ in range(_STRANGERS):
            strangers.append(opened.enter_context(socket.create_connection(served.address, 30)))
        for place in range(8):
            assert served.push(f"type=4&mid={place}&mobile=13800138000&msg=DELIVRD") == (200, b"ok")
        push_often(8)
        assert len(list(Path(f"/proc/{served.process.pid}/fd").iterdir())) < _FILES * 2 // 3
        # The ones that came last are still there, and all can be used.
        strangers[-1].sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert strangers[-1].recv(4096).startswith(b"HTTP/1.1 404 ")
        assert len(served.stored()) == 8
        served.process.terminate()
        assert served.process.stderr is not None
        first, *lines = served.process.stderr.read().splitlines()
    assert "the limit of 512 open connections is reached" in first
    assert [line for line in lines if "the limit of 512" not in line and "stopping" not in line] == []
    assert len(lines) <= time.monotonic() - began + 2


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", True, 400),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", True, 400),
        ("Transfer-Encoding: chunked\r\n", True, 200),
        ("", False, 411),
    ],
    ids=["length 0 first", "length 0 last", "chunked", "no length"],
)
def test_row_41_a_body_with_two_lengths_or_none(served: Served, headers: str, body: bool, status: int) -> None:
    """What is answered ``ok`` was read whole: two lengths are 400, and a POST with neither a length nor a query 411."""
    report = b"type=4&mid=7&mobile=13800138000&msg=DELIVRD"
    with socket.create_connection(served.address, 30) as connection:
        connection.sendall(f"POST /{SECRET} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
        if body:
            connection.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(report), report))
        assert connection.recv(4096).startswith(b"HTTP/1.1 %d " % status)
    assert len(served.stored()) == (status == 200)


def _poured(address: tuple[str, int], head: bytes, piece: bytes, count: int) -> int:
    """Send as much as is taken; the status of the answer."""
    with socket.create_connection(address, 30) as connection:
        try:
            connection.sendall(head)
            for _ in range(count):
                connection.sendall(piece)
        except OSError:  # refused, and closed under our hands
            return 413
        return int(connection.recv(4096).split(b" ")[1])


@pytest.mark.anyio
async def test_row_33_the_store_fails_while_pushes_wait(tmp_path: Path) -> None:
    """What cannot be stored is answered 503 and pushed again: in the end all is acknowledged and stored, once."""
    path = tmp_path / "qxt.db"
    gateway = SimulatedGateway(push=PushPlan(attempts=1))
    numbers = [f"1380013{place:04d}" for place in range(50)]
    async with open_journal(path) as journal:
        await journal.database.writer.submit(lambda connection: connection.execute("PRAGMA busy_timeout=0")).result()  # type: ignore[attr-defined]
        receiver = PushReceiver(journal, path_secret=SECRET)
        async with QxtClient(
            "user", "password", base_url="http://gateway.test/qxt", transport=gateway.transport()
        ) as client:
            await client.send(numbers, "hello")
        to = f"http://receiver.test/{SECRET}"
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert await gateway.push_all(to, app=receiver) == 0
            assert await journal.reports() == []
            other.execute("ROLLBACK")
        assert await gateway.push_all(to, app=receiver) == 50
        assert sorted(entry.value.number for entry in await journal.reports()) == numbers


@pytest.mark.anyio
async def test_row_39_one_phone_in_several_forms(tmp_path: Path) -> None:
    """It gets one text, its report meets what was sent, and its opt-out stops every form, whatever form each names."""
    gateway = SimulatedGateway(number_pattern=r"(86)?1[3-9]\d{9}")
    first, second = "13800138000", "13800138001"
    async with (
        open_journal(tmp_path / "qxt.db") as journal,
        DeliveryTracker(journal) as tracker,
        QxtClient(
            "user",
            "password",
            base_url="http://gateway.test/qxt",
            transport=gateway.transport(),
            number_pattern=r"(86)?1[3-9]\d{9}",
        ) as client,
    ):
        receiver = PushReceiver(journal, path_secret=SECRET)
        sent = await client.send([f"86{first}", first, f"+86 {second}", second], "hello")
        assert gateway.taken == {f"86{first}": 1, second: 1}
        assert sent.duplicates == 2

        assert sent.mid is not None
        gateway.reply(first, "TD")
        gateway.reply(f"86{second}", "TD")
        await gateway.push_all(f"http://receiver.test/{SECRET}", app=receiver)
        for number in sent.accepted:
            assert (await tracker.wait(sent.mid, number, timeout=120)).number in {first, second}

        suppressed = await journal.suppressed_numbers()
        assert suppressed == {first, second}
        every = [form + number for number in (first, second) for form in ("", "86", "0086", "+86 ", "０")]
        for numbers in (every, every[::-1]):
            with pytest.raises(NoValidNumberError):
                await client.send_bulk(numbers, "hello", suppressed=suppressed)
            with pytest.raises(NoValidNumberError):
                await Campaigns(journal).plan(numbers, "hello", number_pattern=r"(86)?1[3-9]\d{9}")
    assert gateway.taken == {f"86{first}": 1, second: 1}


def test_row_24_power_cut(tmp_path: Path) -> None:
    """Whatever moment the power goes: what had reached the gateway is on the disk as being sent, if not as sent.

    The journal flushes at every commit (``synchronous=FULL``, see the tests of its schema), so what stands in its files
    when a request arrives is what a disk has then, at least. Of what was written later any part may be missing.
    """
    path = tmp_path / "qxt.db"
    cuts: list[tuple[Path, frozenset[str]]] = []
    gateway = SimulatedGateway()

    def cut(submission: object) -> bool:
        folder = tmp_path / f"cut {len(cuts)}"
        folder.mkdir()
        for file in (path, path.with_name("qxt.db-wal")):
            shutil.copy(file, folder / file.name)
        cuts.append((folder, frozenset({*gateway.taken, *submission.numbers})))  # type: ignore[attr-defined]
        return False

    gateway.fail_when(cut, "http-500")
    gateway.fail_next("take-then-502")
    numbers = [f"1380013{place:04d}" for place in range(60)]

    async def run() -> None:
        async with (
            open_journal(path) as journal,
            QxtClient(
                "user",
                "password",
                base_url="http://gateway.test/qxt",
                transport=gateway.transport(),
                max_concurrency=2,
            ) as client,
        ):
            campaign = await journal.campaigns.create()
            batches = [PlannedBatch(Message("hello"), numbers[at : at + 5]) for at in range(0, 60, 5)]
            await journal.campaigns.add(campaign, batches)
            await journal.campaigns.finish(campaign)
            await Campaigns(journal, client).run(campaign, RunOptions(check_balance=False))

    async def check(folder: Path, reached: frozenset[str]) -> None:
        async with open_journal(folder / "qxt.db") as journal:
            records, _ = await journal.campaigns.numbers(1)
            states = {record.number: record.state.value for record in records}
            assert sorted(states) == numbers
            assert {states[number] for number in reached} <= {"accepted", "unknown"}

    anyio.run(run)
    assert len(cuts) == 11  # the first request met another fault before it was looked at
    dice = itertools.cycle([0, 1, 7, 4096, 100_000])
    for folder, reached in cuts:
        # What was under way to the disk besides: a torn end, which the next start has to see through.
        with (folder / "qxt.db-wal").open("ab") as file:
            file.write(b"\x5a" * next(dice))
        anyio.run(check, folder, reached)
