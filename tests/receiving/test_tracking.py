"""Waiting for reports and following them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from support.runs import client_of

from qxt_async.errors import DeliveryTimeoutError, JournalUnavailableError, OutcomeUnknownError
from qxt_async.journal import FeedEntry, Journal, open_journal
from qxt_async.models import DeliveryState, StatusReport
from qxt_async.protocol.pushes import parse_push
from qxt_async.receiving import DeliveryTracker
from qxt_async.simulator import SimulatedGateway

pytestmark = pytest.mark.anyio
A, B = "13800138000", "13800138001"
NEVER = 1e6


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    """An open journal of its own."""
    async with open_journal(tmp_path / "qxt.sqlite") as opened:
        yield opened


@pytest.fixture
async def elsewhere(journal: Journal, tmp_path: Path) -> AsyncIterator[Journal]:
    """The same journal, opened as another process would."""
    async with open_journal(tmp_path / "qxt.sqlite") as opened:
        yield opened


async def store(journal: Journal, mid: str, code: str = "DELIVRD", number: str = A) -> None:
    """Receive one report."""
    await journal.record_push(parse_push(f"type=4&mid={mid}&mobile={number}&msg={code}".encode(), b""))


class Counting:
    """A journal that counts its queries, and fails when told to."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.queries: list[tuple[str, int]] = []
        self.failures = 0
        self.failed = anyio.Event()

    def subscribe(self, listener: Any) -> Any:
        """Pass on."""
        return self.journal.subscribe(listener)

    async def watch(self, callback: Any) -> None:
        """Pass on."""
        await self.journal.watch(callback)

    async def report_cursor(self) -> int:
        """Count."""
        if self.failures:
            self.failures -= 1
            self.failed.set()
            raise JournalUnavailableError("disk on fire")
        self.queries.append(("cursor", 1))
        return await self.journal.report_cursor()

    async def find_reports(self, keys: Iterable[tuple[str, str]]) -> list[StatusReport]:
        """Count."""
        keys = list(keys)
        self.queries.append(("find", len(keys)))
        return await self.journal.find_reports(keys)

    async def reports(self, *, after: int, limit: int) -> list[FeedEntry[StatusReport]]:
        """Count."""
        self.queries.append(("reports", limit))
        return await self.journal.reports(after=after, limit=limit)


@pytest.mark.parametrize("awaited", [A, f"86{A}", f"+86 {A}"])
@pytest.mark.parametrize("reported", [A, f"86{A}"])
async def test_a_phone_is_waited_for_in_any_form(journal: Journal, awaited: str, reported: str) -> None:
    """The report is found in whatever form the caller and the gateway name the phone, before and while awaited."""
    await store(journal, "1", number=reported)
    async with DeliveryTracker(journal, interval=NEVER) as tracker, anyio.create_task_group() as tasks:
        assert (await tracker.wait("1", awaited, timeout=None)).number == A
        tasks.start_soon(tracker.wait, "2", awaited, None)
        await wait_all_tasks_blocked()
        await store(journal, "2", number=reported)


async def test_came_before(journal: Journal) -> None:
    """A report that came before anybody asked is found at once."""
    await store(journal, "1", "REJECT")
    async with DeliveryTracker(journal, interval=NEVER) as tracker:
        report = await tracker.wait("1", A, timeout=None)
    assert report.state is DeliveryState.REJECTED


async def test_woken_in_this_process(journal: Journal) -> None:
    """A report that this journal object stores wakes those who wait for it, several too, and nobody else."""
    seen: list[str] = []

    async def wait(mid: str) -> None:
        report = await tracker.wait(mid, A, timeout=None)
        seen.append(report.mid)

    async with DeliveryTracker(journal, interval=NEVER) as tracker, anyio.create_task_group() as tasks:
        for mid in ("1", "1", "2"):
            tasks.start_soon(wait, mid)
        await wait_all_tasks_blocked()
        await store(journal, "1", number=B)
        await store(journal, "1")
        with anyio.fail_after(120):
            while len(seen) < 2:
                await anyio.lowlevel.checkpoint()
        assert seen == ["1", "1"]
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(("others", "waiting"), [(2, 10), (5, 0)], ids=["followed", "looked-up"])
async def test_received_by_another_process(journal: Journal, elsewhere: Journal, others: int, waiting: int) -> None:
    """A report that another process stores is found by looking, however many others come with it."""
    counting: Any = Counting(journal)
    async with DeliveryTracker(counting, interval=0.001) as tracker, anyio.create_task_group() as tasks:
        for place in range(waiting):
            tasks.start_soon(tracker.wait, f"never{place}", A, None)
        await wait_all_tasks_blocked()
        mids = [f"other{place}" for place in range(others)] + ["1"]
        fields = "type=4&mid={}&mobile={}&msg={}".format(
            *map(",".join, (mids, [A] * len(mids), ["DELIVRD"] * len(mids)))
        )
        tasks.start_soon(elsewhere.record_push, parse_push(fields.encode(), b""))
        report = await tracker.wait("1", A, timeout=120)
        tasks.cancel_scope.cancel()
    assert report.state is DeliveryState.DELIVERED


async def test_who_left_meanwhile_is_not_missed(journal: Journal) -> None:
    """A report is found just when the one who waits for it gives up: the others get theirs."""
    gone = anyio.Event()
    scope = anyio.CancelScope()

    async def wait_a_little() -> None:
        with scope:
            await tracker.wait("1", A, timeout=None)
        gone.set()

    class Leaving(Counting):
        async def find_reports(self, keys: Iterable[tuple[str, str]]) -> list[StatusReport]:
            found = await super().find_reports(keys)
            if len(found) == 2:
                scope.cancel()
                await gone.wait()
            return found

    leaving: Any = Leaving(journal)
    async with DeliveryTracker(leaving, interval=NEVER) as tracker, anyio.create_task_group() as tasks:
        tasks.start_soon(wait_a_little)
        await wait_all_tasks_blocked()
        tasks.start_soon(
            journal.record_push, parse_push(b"type=4&mid=1,2&mobile=%b,%b&msg=0,0" % ((A.encode(),) * 2), b"")
        )
        assert (await tracker.wait("2", A, timeout=120)).mid == "2"
    assert gone.is_set()


async def test_a_better_report_counts(journal: Journal) -> None:
    """What this process stores is looked up: a report that lost against a stored one is not told."""
    async with DeliveryTracker(journal, interval=NEVER) as tracker, anyio.create_task_group() as tasks:

        @tasks.start_soon
        async def _() -> None:
            await wait_all_tasks_blocked()
            push = b"type=4&mid=1,1&mobile=13800138000,13800138000&msg=UNDELIV,DELIVRD"
            await journal.record_push(parse_push(push, b""))

        assert (await tracker.wait("1", A, timeout=None)).code == "DELIVRD"


async def test_no_state_yet(journal: Journal) -> None:
    """A report that says nothing is waited out."""
    await store(journal, "1", "")
    async with DeliveryTracker(journal, interval=NEVER) as tracker:
        with pytest.raises(DeliveryTimeoutError):
            await tracker.wait("1", A, timeout=0.01)
        await store(journal, "1", "MB:1")
        assert (await tracker.wait("1", A, timeout=None)).code == "MB:1"


async def test_timeout(journal: Journal) -> None:
    """Without a report in time the error says so, and shows no whole number; the others wait on."""
    results: list[str] = []

    async def wait() -> None:
        results.append((await tracker.wait("7", A, timeout=None)).mid)

    async with DeliveryTracker(journal, interval=0.001) as tracker, anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await wait_all_tasks_blocked()
        with pytest.raises(DeliveryTimeoutError, match=r"mid 7, 138\*{4}8000, within 0\.01 s") as caught:
            await tracker.wait("7", A, timeout=0.01)
        assert (caught.value.mid, caught.value.timeout) == ("7", 0.01)
        await store(journal, "7")
    assert results == ["7"]


async def test_asked_again(journal: Journal) -> None:
    """Whoever asks anew, after a timeout or after others were told, gets the report."""
    async with DeliveryTracker(journal, interval=NEVER) as tracker:
        for _ in range(2):
            with pytest.raises(DeliveryTimeoutError):
                await tracker.wait("1", A, timeout=0)
        await store(journal, "1")
        for _ in range(2):
            assert (await tracker.wait("1", A, timeout=None)).mid == "1"


async def test_many_wait_for_one_query(journal: Journal, elsewhere: Journal) -> None:
    """Thousands of waiting tasks are looked up together, and cost a query a look and not one each."""
    counting: Any = Counting(journal)
    count = 2_000
    async with DeliveryTracker(counting, interval=NEVER) as tracker, anyio.create_task_group() as tasks:
        for place in range(count):
            tasks.start_soon(tracker.wait, str(place), A, None)
        await wait_all_tasks_blocked()
        mids, phones, codes = (",".join(items) for items in (map(str, range(count)), [A] * count, ["DELIVRD"] * count))
        for start in range(0, count, 1000):
            part = slice(start, start + 1000)
            query = "type=4&mid={}&mobile={}&msg={}".format(
                *(",".join(items.split(",")[part]) for items in (mids, phones, codes))
            )
            await journal.record_push(parse_push(query.encode(), b""))
    assert max(keys for kind, keys in counting.queries if kind == "find") == count
    assert len(counting.queries) < 20


async def test_idle(journal: Journal) -> None:
    """While nothing comes each look is twice as far from the last one."""
    looks: list[float] = []
    enough = anyio.Event()

    class Noting(Counting):
        async def report_cursor(self) -> int:
            looks.append(anyio.current_time())
            if len(looks) == 8:
                enough.set()
            return await super().report_cursor()

    noting: Any = Noting(journal)
    async with (
        DeliveryTracker(noting, interval=0.001, idle_interval=NEVER) as tracker,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(tracker.wait, "1", A, None)
        with anyio.fail_after(120):
            await enough.wait()
        tasks.cancel_scope.cancel()
    assert all(after - before >= 0.001 * 2**place for place, (before, after) in enumerate(pairwise(looks)))


async def test_the_journal_fails_for_a_while(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    """A journal that cannot be read is asked again; those who wait do not hear of it."""
    counting: Any = Counting(journal)
    counting.failures = 2
    await store(journal, "1")
    async with DeliveryTracker(counting, interval=0.001) as tracker:
        assert (await tracker.wait("1", A, timeout=None)).mid == "1"
    assert caplog.text.count("disk on fire") == 2


async def test_not_entered(journal: Journal) -> None:
    """Outside of `async with` nobody would look."""
    tracker = DeliveryTracker(journal)
    with pytest.raises(RuntimeError, match="async with"):
        await tracker.wait("1", A)


async def test_leaving_ends_the_looking(journal: Journal) -> None:
    """The tracker leaves nothing behind, also when its body raises, and may be entered again."""
    tracker = DeliveryTracker(journal)
    with pytest.raises(LookupError):
        async with tracker:
            raise LookupError
    async with tracker:
        await store(journal, "1")
        assert (await tracker.wait("1", A)).mid == "1"
    await store(journal, "2")


async def test_feed_resumes(journal: Journal) -> None:
    """A consumer that stops and goes on from its last cursor gets every report once, in order."""
    for place in range(5):
        await store(journal, str(place))
    feed = DeliveryTracker(journal).reports()
    first = [await anext(feed), await anext(feed)]
    assert feed.cursor == first[-1].cursor
    rest = DeliveryTracker(journal).reports(feed.cursor)
    mids = [entry.value.mid for entry in first] + [(await anext(rest)).value.mid for _ in range(3)]
    assert mids == ["0", "1", "2", "3", "4"]


async def test_feed_waits(journal: Journal, elsewhere: Journal) -> None:
    """At its end the feed waits: for what this process stores without looking, for what others store by looking."""
    seen: list[str] = []

    async def follow(tracker: DeliveryTracker, cursor: int) -> None:
        async for entry in tracker.reports(cursor):
            seen.append(entry.value.mid)
            if entry.value.mid == "last":
                break

    async with DeliveryTracker(journal, interval=NEVER) as tracker, anyio.create_task_group() as tasks:
        tasks.start_soon(follow, tracker, await journal.report_cursor())
        await wait_all_tasks_blocked()
        await store(journal, "1")
        await store(journal, "last")
    assert seen == ["1", "last"]

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follow, DeliveryTracker(journal, interval=0.001), await journal.report_cursor())
        await wait_all_tasks_blocked()
        await store(elsewhere, "last", number=B)
    assert seen[-1] == "last"


async def test_feed_cancelled(journal: Journal) -> None:
    """Cancelling a waiting consumer loses nothing."""
    feed = DeliveryTracker(journal, interval=NEVER).reports()
    with anyio.move_on_after(0.01):
        await anext(feed)
    await store(journal, "1")
    assert (await anext(feed)).value.mid == "1"


_OTHER = """
import sys, anyio
from qxt_async.journal import open_journal
from qxt_async.protocol.pushes import parse_push

async def main(path):
    async with open_journal(path) as journal:
        await journal.record_push(parse_push(b"type=4&mid=1&mobile=13800138000&msg=DELIVRD", b""))

anyio.run(main, sys.argv[1])
"""


def _start(path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", _OTHER, str(path)])


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_real_process(journal: Journal, tmp_path: Path) -> None:
    """The report may be received by another process."""
    process = _start(tmp_path / "qxt.sqlite")
    async with DeliveryTracker(journal) as tracker:
        assert (await tracker.wait("1", A, timeout=60)).state is DeliveryState.DELIVERED
    assert await anyio.to_thread.run_sync(process.wait) == 0


async def test_a_send_is_waited_for_by_its_key(journal: Journal, elsewhere: Journal) -> None:
    """Before it is begun, while its outcome is unknown, and when it is accepted."""
    gateway = SimulatedGateway()
    gateway.fail_next("take-then-close")
    found: list[StatusReport] = []
    async with (
        client_of(gateway, journal=elsewhere) as client,
        DeliveryTracker(journal, interval=0.01, idle_interval=0.01) as tracker,
        anyio.create_task_group() as group,
    ):

        async def wait(key: str) -> None:
            found.append(await tracker.wait_for_key(key))

        group.start_soon(wait, "k")
        await wait_all_tasks_blocked()
        with pytest.raises(OutcomeUnknownError):
            await client.send(A, "【测试】您好", idempotency_key="k")
        await store(elsewhere, gateway.sends[0].mid)
        sent = await client.send(B, "【测试】您好", idempotency_key="other")
        group.start_soon(wait, "other")
        await store(elsewhere, sent.mid, number=B)
    assert {report.number for report in found} == {A, B}


async def test_nothing_comes_for_a_key(journal: Journal) -> None:
    """Neither a send nor a report."""
    async with DeliveryTracker(journal, interval=0.01) as tracker:
        with pytest.raises(DeliveryTimeoutError, match="of the key 'k', none"):
            await tracker.wait_for_key("k", timeout=0.05)
        async with client_of(SimulatedGateway(), journal=journal) as client:
            sent = await client.send(A, "【测试】您好", idempotency_key="k")
        with pytest.raises(DeliveryTimeoutError, match=rf"mid {sent.mid}, 138\*\*\*\*8000"):
            await tracker.wait_for_key("k", timeout=0.05)
