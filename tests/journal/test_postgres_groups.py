"""Brief work in PostgreSQL shares transactions: what that gives, and what one piece of work cannot do to the others."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import anyio
import psycopg
import pytest
from support.cutting import line
from support.postgresql_server import Server, name_of, plain
from support.steps import accepted, claimed, running

from qxt_async.errors import JournalClosedError, JournalUnavailableError
from qxt_async.journal import Journal, open_journal
from qxt_async.journal.database import Transaction
from qxt_async.journal.records import Claim
from qxt_async.journal.sends import FoundSend, SendRequest, digest_of
from qxt_async.models import Message

pytestmark = pytest.mark.anyio


@pytest.fixture
def store(journals: str) -> str:
    """Of PostgreSQL alone."""
    return journals


@pytest.fixture
def anyio_backend() -> str:
    """What psycopg knows."""
    return "asyncio"


FAILS = "fails"
REFUSED = "refused"
LOCKED = "locked "


async def note(transaction: Transaction, whats: Sequence[str]) -> Sequence[str]:
    """Write an event for each; first take the lock of campaign 1 if one of them asks for it."""
    if any(what.startswith(LOCKED) for what in whats):
        await transaction.lock("lock_for_order", campaign=1)
    for what in whats:
        await transaction.change("insert_event", campaign=0, what=what, actor="", detail="", count=0)
        if what == FAILS:
            raise LookupError
        if what == REFUSED:
            await transaction.change("set_state", campaign=0, state="nonsense", reason="")
    return whats


def notes(postgresql: Server, database: str) -> dict[str, object]:
    """What was written, each with the transaction that wrote it."""
    return dict(postgresql.ask("SELECT what, xmin::text FROM qxt.campaign_events", name_of(database)))  # type: ignore[arg-type]


async def write(journal: Journal, told: dict[str, object], what: str) -> None:
    """Write with the others, and keep what came of it."""
    try:
        told[what] = await journal.database.write_together(note, what)
    except Exception as error:  # noqa: BLE001
        told[what] = error


async def test_what_comes_at_once_shares_a_transaction(journal: Journal, postgresql: Server, store: str) -> None:
    """Each is told its own result; more than a hundred are two transactions."""
    told: dict[str, object] = {}
    async with anyio.create_task_group() as tasks:
        for number in range(150):
            tasks.start_soon(write, journal, told, f"n{number}")
    assert told == {f"n{number}": f"n{number}" for number in range(150)}
    written = notes(postgresql, store)
    assert written.keys() == told.keys()
    assert len(set(written.values())) == 2


async def test_other_work_has_its_own(journal: Journal, postgresql: Server, store: str) -> None:
    """Items of two operations do not share a transaction."""
    async with anyio.create_task_group() as tasks:
        for what in "ab":
            tasks.start_soon(journal.database.write_together, partial(note), what)
    assert len(set(notes(postgresql, store).values())) == 2


@pytest.mark.parametrize("bad", [FAILS, REFUSED])
async def test_one_that_fails_takes_no_others_with_it(
    journal: Journal, postgresql: Server, store: str, bad: str
) -> None:
    """It is told its error, and nothing of it is written; the others are committed, once."""
    told: dict[str, object] = {}
    async with anyio.create_task_group() as tasks:
        for what in ("first", bad, "last"):
            tasks.start_soon(write, journal, told, what)
    error = told.pop(bad)
    assert isinstance(error, LookupError if bad == FAILS else JournalUnavailableError)
    assert told == {"first": "first", "last": "last"}
    assert sorted(postgresql.ask("SELECT what FROM qxt.campaign_events", name_of(store))) == [("first",), ("last",)]


async def test_a_lost_connection_is_told_to_all(postgresql: Server, journals: str) -> None:
    """Nobody knows whether the commit happened, and nothing is done again."""
    told: dict[str, object] = {}
    async with line(postgresql.port) as cut, open_journal(cut.address(journals)) as journal:
        cut.cut_at, cut.after_the_answer = b"COMMIT\0", True
        async with anyio.create_task_group() as tasks:
            for what in "abc":
                tasks.start_soon(write, journal, told, what)
    assert all(isinstance(error, JournalUnavailableError) for error in told.values())
    assert len({id(error) for error in told.values()}) == 3
    assert len(postgresql.ask("SELECT what FROM qxt.campaign_events", name_of(journals))) == 3


async def test_a_connection_that_dies_before_the_commit(postgresql: Server, journals: str) -> None:
    """Nothing is written, and each is told that."""
    told: dict[str, object] = {}
    async with line(postgresql.port) as cut, open_journal(cut.address(journals)) as journal:
        cut.cut_at = b"INSERT INTO campaign_events"
        async with anyio.create_task_group() as tasks:
            for what in "abc":
                tasks.start_soon(write, journal, told, what)
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
            for what in "abc":
                writers.start_soon(write, journal, told, what)
        go_on.set()
    assert len(told) == 3
    assert all(isinstance(error, JournalUnavailableError) for error in told.values())


async def test_closed(journals: str) -> None:
    """A journal that is not open says so."""
    async with open_journal(journals) as journal:
        pass
    with pytest.raises(JournalClosedError):
        await journal.database.write_together(note, "late")


async def _waits_for_a_lock(postgresql: Server, database: str) -> None:
    """Wait until somebody waits for a lock in this database."""
    statement = (
        f"SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = '{name_of(database)}'"
    )
    while await anyio.to_thread.run_sync(postgresql.ask, statement) == [(0,)]:  # noqa: ASYNC110
        await anyio.sleep(0.005)


async def test_cancelled_while_it_waits(journal: Journal, postgresql: Server, store: str) -> None:
    """What has begun is written, also if its task is cancelled; what waits for the next transaction is not."""
    told: dict[str, object] = {}
    async with await psycopg.AsyncConnection.connect(plain(store), autocommit=False) as other:
        await other.execute("SELECT pg_advisory_xact_lock(5331029, hashint8(1))")
        async with anyio.create_task_group() as tasks, anyio.create_task_group() as cancelled:
            cancelled.start_soon(write, journal, told, LOCKED)
            await _waits_for_a_lock(postgresql, store)
            cancelled.start_soon(write, journal, told, "waits")
            tasks.start_soon(write, journal, told, "stays")
            await anyio.wait_all_tasks_blocked()
            cancelled.cancel_scope.cancel()
            tasks.start_soon(other.commit)
    assert told == {"stays": "stays"}
    assert notes(postgresql, store).keys() == {LOCKED, "stays"}


async def test_cancelled_when_it_is_to_lead(journal: Journal, postgresql: Server, store: str) -> None:
    """Whoever is cancelled in the moment in which the next transaction is its task leaves that to the next one."""
    told: dict[str, object] = {}
    scope = anyio.CancelScope()

    async def first() -> None:
        await journal.database.write_together(note, LOCKED)
        scope.cancel()  # the next one was woken just now

    async def second() -> None:
        with scope:
            await journal.database.write_together(note, "second")

    async with await psycopg.AsyncConnection.connect(plain(store), autocommit=False) as other:
        await other.execute("SELECT pg_advisory_xact_lock(5331029, hashint8(1))")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first)
            await _waits_for_a_lock(postgresql, store)
            tasks.start_soon(second)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(write, journal, told, "third")
            tasks.start_soon(other.commit)
    assert told == {"third": "third"}
    assert notes(postgresql, store).keys() == {LOCKED, "third"}


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
