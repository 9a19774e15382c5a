"""Brief work in PostgreSQL shares transactions: what that gives, and what one piece of work cannot do to the others."""

from __future__ import annotations

from typing import Any, NoReturn

import anyio
import psycopg
import pytest
from support.cutting import line
from support.postgresql_server import Server, name_of, plain
from support.raw import raw
from support.steps import accepted, claimed, running

from qxt_async.errors import JournalClosedError, JournalUnavailableError
from qxt_async.journal import Journal, open_journal
from qxt_async.journal.database import Transaction
from qxt_async.journal.records import Claim
from qxt_async.journal.sends import FoundSend, SendRequest, digest_of
from qxt_async.models import Message

pytestmark = pytest.mark.anyio

GROUP = "group"


@pytest.fixture
def store(journals: str) -> str:
    """Of PostgreSQL alone."""
    return journals


@pytest.fixture
def anyio_backend() -> str:
    """What psycopg knows."""
    return "asyncio"


def noting(what: str, campaign: int = 0) -> Any:
    """Work that writes an event."""

    async def note(transaction: Transaction) -> str:
        await transaction.change("insert_event", campaign=campaign, what=what, actor="", detail="", count=0)
        return what

    return note


async def fail(transaction: Transaction) -> NoReturn:
    """Work that raises after it wrote."""
    await noting("failed")(transaction)
    raise LookupError


async def refused(transaction: Transaction) -> None:
    """Work whose statement the database refuses."""
    await transaction.change("set_state", campaign=0, state="nonsense", reason="")


def notes(postgresql: Server, database: str) -> dict[str, object]:
    """What was written, each with the transaction that wrote it."""
    return dict(postgresql.ask("SELECT what, xmin::text FROM qxt.campaign_events", name_of(database)))  # type: ignore[arg-type]


async def write(journal: Journal, work: Any, told: dict[str, object], name: str) -> None:
    """Write with the others of a group, and note what came of it."""
    try:
        told[name] = await journal.database.write(work, group=GROUP)
    except Exception as error:  # noqa: BLE001
        told[name] = error


async def test_what_comes_at_once_shares_a_transaction(journal: Journal, postgresql: Server, store: str) -> None:
    """Each is told its own result; more than a hundred are two transactions."""
    told: dict[str, object] = {}
    async with anyio.create_task_group() as tasks:
        for number in range(150):
            tasks.start_soon(write, journal, noting(f"n{number}"), told, f"n{number}")
    assert told == {f"n{number}": f"n{number}" for number in range(150)}
    written = notes(postgresql, store)
    assert written.keys() == told.keys()
    assert len(set(written.values())) == 2


async def test_another_group_has_its_own(journal: Journal, postgresql: Server, store: str) -> None:
    """Work of two groups does not share a transaction."""
    async with anyio.create_task_group() as tasks:
        for group in "ab":
            tasks.start_soon(lambda name=group: journal.database.write(noting(name), group=name))
    assert len(set(notes(postgresql, store).values())) == 2


@pytest.mark.parametrize("bad", [fail, refused])
async def test_one_that_fails_takes_no_others_with_it(
    journal: Journal, postgresql: Server, store: str, bad: Any
) -> None:
    """It is told its error, and nothing of it is written; the others are committed, once."""
    told: dict[str, object] = {}
    async with anyio.create_task_group() as tasks:
        for name, work in (("first", noting("first")), ("bad", bad), ("last", noting("last"))):
            tasks.start_soon(write, journal, work, told, name)
    error = told.pop("bad")
    assert isinstance(error, LookupError if bad is fail else JournalUnavailableError)
    assert told == {"first": "first", "last": "last"}
    assert sorted(postgresql.ask("SELECT what FROM qxt.campaign_events", name_of(store))) == [("first",), ("last",)]


async def test_a_lost_connection_is_told_to_all(postgresql: Server, journals: str) -> None:
    """Nobody knows whether the commit happened, and nothing is done again."""
    told: dict[str, object] = {}
    times = 0

    async def count(transaction: Transaction) -> None:
        nonlocal times
        times += 1
        await noting("counted")(transaction)

    async with line(postgresql.port) as cut, open_journal(cut.address(journals)) as journal:
        cut.cut_at, cut.after_the_answer = b"COMMIT\0", True
        async with anyio.create_task_group() as tasks:
            for name in "abc":
                tasks.start_soon(write, journal, count, told, name)
    assert all(isinstance(error, JournalUnavailableError) for error in told.values())
    assert len({id(error) for error in told.values()}) == times == 3
    assert len(postgresql.ask("SELECT what FROM qxt.campaign_events", name_of(journals))) == 3


async def test_a_connection_that_dies_before_the_commit(postgresql: Server, journals: str) -> None:
    """Nothing is written, and each is told that."""
    told: dict[str, object] = {}
    async with line(postgresql.port) as cut, open_journal(cut.address(journals)) as journal:
        cut.cut_at = b"INSERT INTO campaign_events"
        async with anyio.create_task_group() as tasks:
            for name in "abc":
                tasks.start_soon(write, journal, noting(name), told, name)
    assert all(isinstance(error, JournalUnavailableError) for error in told.values())
    assert notes(postgresql, journals) == {}


async def test_without_a_connection_all_that_wait_are_told(journals: str) -> None:
    """They do not wait for it one after the other."""
    told: dict[str, object] = {}
    go_on = anyio.Event()
    begun = anyio.Event()

    async def hold(_: Transaction) -> None:
        begun.set()
        await go_on.wait()

    async with open_journal(f"{plain(journals)}?answer_timeout=0.2") as journal, anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(journal.database.write, hold)
        await begun.wait()
        async with anyio.create_task_group() as writers:
            for name in "abc":
                writers.start_soon(write, journal, noting(name), told, name)
        go_on.set()
    assert len(told) == 3
    assert all(isinstance(error, JournalUnavailableError) for error in told.values())


async def test_closed(journals: str) -> None:
    """A journal that is not open says so."""
    async with open_journal(journals) as journal:
        pass
    with pytest.raises(JournalClosedError):
        await journal.database.write(noting("late"), group=GROUP)


async def _waits_for_a_lock(postgresql: Server, database: str) -> None:
    """Wait until somebody waits for a lock in this database."""
    statement = (
        f"SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = '{name_of(database)}'"
    )
    while await anyio.to_thread.run_sync(postgresql.ask, statement) == [(0,)]:  # noqa: ASYNC110
        await anyio.sleep(0.005)


def locked(name: str) -> Any:
    """Work that holds the lock of campaign 1 alone."""

    async def note(transaction: Transaction) -> str:
        await transaction.lock("lock_for_order", campaign=1)
        return str(await noting(name)(transaction))

    return note


async def test_cancelled_while_it_waits(journal: Journal, postgresql: Server, store: str) -> None:
    """What has begun is written, also if its task is cancelled; what waits for the next transaction is not."""
    told: dict[str, object] = {}
    async with await psycopg.AsyncConnection.connect(plain(store), autocommit=False) as other:
        await other.execute("SELECT pg_advisory_xact_lock(5331029, hashint8(1))")
        async with anyio.create_task_group() as tasks, anyio.create_task_group() as cancelled:
            cancelled.start_soon(write, journal, locked("begun"), told, "begun")
            await _waits_for_a_lock(postgresql, store)
            cancelled.start_soon(write, journal, noting("waits"), told, "waits")
            tasks.start_soon(write, journal, noting("stays"), told, "stays")
            await anyio.wait_all_tasks_blocked()
            cancelled.cancel_scope.cancel()
            tasks.start_soon(other.commit)
    assert told == {"stays": "stays"}
    assert notes(postgresql, store).keys() == {"begun", "stays"}


async def test_cancelled_when_it_is_to_lead(journal: Journal, postgresql: Server, store: str) -> None:
    """Whoever is cancelled in the moment in which the next transaction is its task leaves that to the next one."""
    told: dict[str, object] = {}
    scope = anyio.CancelScope()

    async def first() -> None:
        await journal.database.write(locked("first"), group=GROUP)
        scope.cancel()  # the next one was woken just now

    async def second() -> None:
        with scope:
            await journal.database.write(noting("second"), group=GROUP)

    async with await psycopg.AsyncConnection.connect(plain(store), autocommit=False) as other:
        await other.execute("SELECT pg_advisory_xact_lock(5331029, hashint8(1))")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first)
            await _waits_for_a_lock(postgresql, store)
            tasks.start_soon(second)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(write, journal, noting("third"), told, "third")
            tasks.start_soon(other.commit)
    assert told == {"third": "third"}
    assert notes(postgresql, store).keys() == {"first", "third"}


async def test_what_excludes_each_other_runs_one_after_the_other(journal: Journal) -> None:
    """Two sends with one key in one transaction: the second finds the first."""
    message = Message("【测试】您好")
    numbers = ("13800138000",)
    request = SendRequest(
        key="order-1", numbers=numbers, message=message, digest=digest_of(message, numbers), ttl=60.0, limits=()
    )
    found: list[Claim | FoundSend] = []

    async def claim(token: str) -> None:
        found.append(await journal.single_sends.claim(request, token=token, lease=60.0))

    async with anyio.create_task_group() as tasks:
        for token in ("t1", "t2", "t3"):
            tasks.start_soon(claim, token)
    assert sorted(type(one).__name__ for one in found) == ["Claim", "FoundSend", "FoundSend"]


async def test_claims_of_one_moment(journal: Journal, postgresql: Server, store: str) -> None:
    """Each gets a batch of its own, in one transaction; so do their outcomes."""
    campaign = await running(journal.campaigns, *[1] * 5)
    found: list[Claim] = []

    async def claim(token: str) -> None:
        found.append(await claimed(journal.campaigns, campaign, token))

    async with anyio.create_task_group() as tasks:
        for token in ("t1", "t2", "t3", "t4"):
            tasks.start_soon(claim, token)
    assert len({one.batch for one in found}) == 4
    written = "SELECT count(DISTINCT xmin::text) FROM qxt.batches WHERE state = '{}'"
    assert postgresql.ask(written.format("sending"), name_of(store)) == [(1,)]
    async with anyio.create_task_group() as tasks:
        for one in found:
            tasks.start_soon(journal.campaigns.settle, one, accepted(one))
    assert postgresql.ask(written.format("accepted"), name_of(store)) == [(1,)]


async def test_locks_come_first(journal: Journal) -> None:
    """Work that takes a lock after a statement could wait in a circle with another process."""

    async def late(transaction: Transaction) -> None:
        await noting("early")(transaction)
        await transaction.lock("lock_for_claim", shared=True, campaign=1)

    with pytest.raises(RuntimeError, match="locks first"):
        await journal.database.write(late, group=GROUP)


async def test_awaits_its_transaction_alone(journal: Journal) -> None:
    """An operation that waits for something else would let the others wait."""
    with pytest.raises(RuntimeError, match="something else"):
        await journal.database.write(lambda transaction: raw(transaction, "SELECT 1"), group=GROUP)
