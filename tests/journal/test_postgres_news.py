"""Pushes in PostgreSQL under many hands: the order of the feed, and who is told of what comes."""

from __future__ import annotations

import asyncio
import contextlib

import anyio
import pytest
from support.postgresql_server import Server, name_of
from support.raw import raw

from qxt_async.errors import JournalClosedError, JournalUnavailableError
from qxt_async.journal import Journal
from qxt_async.journal.database import Transaction
from qxt_async.journal.postgres.database import PostgresDatabase
from qxt_async.journal.pushes import PushGroup, write_group
from qxt_async.models import DeliveryState, Reply, StatusReport
from qxt_async.protocol.pushes import Push, parse_push
from qxt_async.receiving import DeliveryTracker

pytestmark = pytest.mark.anyio

A = "13800138000"
NEVER = 1e6


@pytest.fixture
def store(journals: str) -> str:
    """Of PostgreSQL alone."""
    return journals


@pytest.fixture
def anyio_backend() -> str:
    """What psycopg knows."""
    return "asyncio"


def _report(mid: str, code: str = "DELIVRD") -> Push:
    return parse_push(f"type=4&mid={mid}&mobile={A}&msg={code}".encode(), b"")


async def _until_somebody_waits(postgresql: Server, database: str, count: int) -> None:
    statement = (
        f"SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = '{name_of(database)}'"
    )
    while await anyio.to_thread.run_sync(postgresql.ask, statement) != [(count,)]:  # noqa: ASYNC110
        await anyio.sleep(0.005)


# --- the feed ----------------------------------------------------------------------------------------------------


async def test_no_cursor_before_a_lower_one(
    journal: Journal, elsewhere: Journal, postgresql: Server, journals: str
) -> None:
    """While one has drawn a cursor and has not committed it, nobody commits a higher one."""
    order: list[str] = []

    async def later() -> None:
        await elsewhere.record_push(_report("later"))
        order.append("later")

    async def first(transaction: Transaction) -> None:
        group = PushGroup()
        group.add(_report("first"), ())
        await write_group(transaction, group)
        tasks.start_soon(later)
        await _until_somebody_waits(postgresql, journals, 1)
        assert await elsewhere.report_cursor() == 0
        order.append("first")

    async with anyio.create_task_group() as tasks:
        await journal.database.write(first)
    assert order == ["first", "later"]
    assert [entry.value.mid for entry in await journal.reports()] == ["first", "later"]


async def test_readers_of_the_feed_miss_nothing(journals: str) -> None:
    """Three that follow the cursor while six commit see everything, each in the same order."""
    journals = [Journal(PostgresDatabase(journals, connections=2)) for _ in range(6)]
    for journal in journals:
        await journal.open()
    seen: list[list[str]] = [[], [], []]

    async def write(name: int) -> None:
        for place in range(20):
            await journals[name].record_push(_report(f"{name}-{place}"))

    async def read(place: int) -> None:
        cursor = 0
        while len(seen[place]) < 120:
            for entry in await journals[place].reports(after=cursor, limit=7):
                assert entry.cursor > cursor
                cursor = entry.cursor
                seen[place].append(entry.value.mid)

    async with anyio.create_task_group() as tasks:
        for name in range(6):
            tasks.start_soon(write, name)
        for place in range(3):
            tasks.start_soon(read, place)
    assert len(set(seen[0])) == 120
    assert seen[0] == seen[1] == seen[2]
    for journal in journals:
        await journal.close()


async def test_same_reports_from_many(journals: str) -> None:
    """The same and contradicting reports, received by several at once, are stored once, by the rule, without error."""
    journals = [Journal(PostgresDatabase(journals, connections=2)) for _ in range(4)]
    for journal in journals:
        await journal.open()
    async with anyio.create_task_group() as tasks:
        for place, journal in enumerate(journals):
            for mid in range(10):
                tasks.start_soon(journal.record_push, _report(str(mid), "DELIVRD" if place else "UNDELIV"))
    stored = await journals[0].reports()
    assert sorted(entry.value.mid for entry in stored) == sorted(map(str, range(10)))
    assert {entry.value.state for entry in stored} == {DeliveryState.DELIVERED}
    assert len(await journals[0].conflicts()) == 10
    for journal in journals:
        await journal.close()


async def test_wishes_and_orders_that_cross(journal: Journal, elsewhere: Journal) -> None:
    """Many opt out in one transaction while somebody puts the same numbers on the list by hand."""
    numbers = [f"1380013{place:04}" for place in range(60)]

    async def opt_out(number: str) -> None:
        push = parse_push(f"type=1&mid={number[-2:]}&mobile={number}&msg=TD".encode(), b"")
        await journal.record_push(push, opted_out=push.replies)

    async with anyio.create_task_group() as tasks:
        for number in reversed(numbers):
            tasks.start_soon(opt_out, number)
        for _ in range(3):
            tasks.start_soon(elsewhere.suppress, numbers)
    assert await journal.suppressed_numbers() == set(numbers)


async def test_what_postgresql_cannot_keep(journal: Journal) -> None:
    """A NUL or half a character in a report or a reply is stored as a replacement, and found by what was pushed."""
    report = StatusReport("1\0", A, code="\0", area="\ud800广", city=None)
    reply = Reply("\0", A, text="\ud800\0好")
    await journal.record_push(Push(query=b"\0", body=b"", reports=(report,), replies=(reply,)), opted_out=[reply])
    (found,) = await journal.find_reports([("1\0", A)])
    assert (found.mid, found.code, found.area) == ("1\ufffd", "\ufffd", "?广")
    (entry,) = await journal.replies(mid="\0")
    assert entry.value.text == "?\ufffd好"
    assert (await journal.suppressions())[0].note == "\ufffd"
    assert await journal.suppress(["\0"], note="\0") == 1


# --- the group ---------------------------------------------------------------------------------------------------


async def test_what_waits_is_one_transaction(journal: Journal, postgresql: Server, journals: str) -> None:
    """Pushes that arrive during a commit share the next one."""
    heard: list[int] = []
    journal.subscribe(lambda reports: heard.append(len(reports)))
    async with anyio.create_task_group() as tasks:
        for mid in range(100):
            tasks.start_soon(journal.record_push, _report(str(mid)))
    assert sum(heard) == 100
    assert len(heard) <= 3


async def test_failure_of_a_group(journal: Journal) -> None:
    """When a transaction fails, each of those who wait for it has an error of its own, and nothing is held back."""
    await journal.database.write(lambda transaction: raw(transaction, "ALTER TABLE qxt.reports RENAME TO away"))
    errors: list[BaseException] = []

    async def record(mid: str) -> None:
        with pytest.raises(JournalUnavailableError, match="does not exist") as caught:
            await journal.record_push(_report(mid))
        errors.append(caught.value)

    async with anyio.create_task_group() as tasks:
        for mid in "1234":
            tasks.start_soon(record, mid)
    assert len({id(error) for error in errors}) == 4
    await journal.database.write(lambda transaction: raw(transaction, "ALTER TABLE qxt.away RENAME TO reports"))
    await journal.record_push(_report("1"))
    assert (journal._pushes._waiting_pushes, journal._pushes._waiting_bytes) == (0, 0)


async def test_group_of_a_closed_journal(journal: Journal) -> None:
    """All who push into a closed journal hear that it is closed."""
    await journal.close()

    async def record(mid: str) -> None:
        with pytest.raises(JournalClosedError):
            await journal.record_push(_report(mid))

    async with anyio.create_task_group() as tasks:
        for mid in "12":
            tasks.start_soon(record, mid)


async def test_a_mistake_of_ours_is_not_hidden(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else goes wrong is raised as it is, and the others do not wait for ever."""
    outcomes: list[str] = []

    async def mistaken(*_: object) -> None:
        raise LookupError("a mistake")

    monkeypatch.setattr("qxt_async.journal.pushes.write_group", mistaken)

    async def record(mid: str) -> None:
        try:
            await journal.record_push(_report(mid))
        except (LookupError, JournalUnavailableError) as error:
            outcomes.append(type(error).__name__)

    async with anyio.create_task_group() as tasks:
        for mid in "12":
            tasks.start_soon(record, mid)
    assert sorted(outcomes) == ["JournalUnavailableError", "LookupError"]


@pytest.mark.parametrize("turns", range(5))
async def test_whoever_is_cancelled_holds_up_nobody(journal: Journal, turns: int) -> None:
    """``Task.cancel()`` of the push that writes for others, at any moment, loses neither its push nor theirs."""
    writing = asyncio.create_task(journal.record_push(_report("1")))
    for _ in range(turns):
        await asyncio.sleep(0)
    joined = asyncio.create_task(journal.record_push(_report("2")))
    await asyncio.sleep(0)
    writing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await writing
    await joined
    await journal.record_push(_report("3"))
    assert {entry.value.mid for entry in await journal.reports()} >= {"2", "3"}
    assert (journal._pushes._waiting_pushes, journal._pushes._waiting_bytes) == (0, 0)


# --- who is told -------------------------------------------------------------------------------------------------


async def test_told_of_what_others_store(journal: Journal, elsewhere: Journal) -> None:
    """Whoever waits for a report that another process stores is woken by it, without looking in between."""
    got: list[str] = []

    async def wait() -> None:
        got.append((await tracker.wait("1", A, timeout=None)).mid)

    async with DeliveryTracker(journal, interval=NEVER) as tracker, anyio.create_task_group() as tasks:
        with anyio.fail_after(120):
            while not tracker._told:  # it listens
                await anyio.lowlevel.checkpoint()
            tasks.start_soon(wait)
            while tracker._told:  # it looks, and then never again by itself
                await anyio.lowlevel.checkpoint()
            tracker.interval = 0.0
            await elsewhere.record_push(_report("1"))
            while not got:
                await anyio.lowlevel.checkpoint()
    assert got == ["1"]


async def test_feed_is_told(journal: Journal, elsewhere: Journal) -> None:
    """A feed at its end is woken by what another process stores."""
    async with DeliveryTracker(journal, interval=NEVER) as tracker, anyio.create_task_group() as tasks:
        feed = tracker.reports()

        @tasks.start_soon
        async def _() -> None:
            await anyio.wait_all_tasks_blocked()
            await elsewhere.record_push(_report("1"))

        with anyio.fail_after(120):
            assert (await anext(feed)).value.mid == "1"


async def test_listening_begins_again(
    journal: Journal,
    postgresql: Server,
    journals: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """When the connection that listens dies it is made anew, and everybody looks for what was missed meanwhile."""
    heard = anyio.Event()

    def hear() -> None:
        heard.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.watch, hear)
        for _ in range(2):
            with anyio.fail_after(120):
                await heard.wait()
            heard = anyio.Event()
            statement = (
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                f"WHERE datname = '{name_of(journals)}' AND query LIKE 'LISTEN%'"
            )
            assert await anyio.to_thread.run_sync(postgresql.ask, statement) == [(True,)]
        with anyio.fail_after(120):
            await heard.wait()
        heard = anyio.Event()
        await journal.record_push(_report("1"))
        with anyio.fail_after(120):
            await heard.wait()
        tasks.cancel_scope.cancel()
    assert "cannot listen" in caplog.text
