"""Campaigns in PostgreSQL: locks that are waited for, lost connections, the database's clock, what it cannot keep."""

from __future__ import annotations

import re
from itertools import pairwise
from threading import Thread
from typing import Any

import anyio
import pytest
from support.cutting import line
from support.postgresql_server import Server, name_of
from support.raw import raw
from support.steps import NUMBERS, accepted, all_batches, claimed, reported, running

from qxt_async import Acceptance, BatchResult
from qxt_async.errors import JournalUnavailableError, PartialAnswerError
from qxt_async.journal import Journal, batches, open_journal, resending, states
from qxt_async.journal.database import Transaction
from qxt_async.journal.postgres.database import PostgresDatabase
from qxt_async.journal.postgres.transaction import DIALECT, PostgresTransaction
from qxt_async.journal.records import BatchState, Claim, ExcludedNumber, ExclusionReason
from qxt_async.journal.statements import Statements
from qxt_async.journal.states import hold_state

pytestmark = pytest.mark.anyio

ACCOUNT = "acme"
SECOND = 1_000_000


@pytest.fixture
def store(journals: str) -> str:
    """Of PostgreSQL alone."""
    return journals


@pytest.fixture
def anyio_backend() -> str:
    """What psycopg knows."""
    return "asyncio"


async def _waits_for_a_lock(postgresql: Server, database: str) -> None:
    """Wait until somebody waits for a lock in this database."""
    statement = (
        f"SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = '{name_of(database)}'"
    )
    while await anyio.to_thread.run_sync(postgresql.ask, statement) == [(0,)]:  # noqa: ASYNC110
        await anyio.sleep(0.005)


async def _nobody_is_in_a_transaction(postgresql: Server, database: str) -> None:
    """Wait until the server has noticed who was cut off in this database."""
    statement = (
        f"SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = '{name_of(database)}'"
    )
    while await anyio.to_thread.run_sync(postgresql.ask, statement) != [(0,)]:  # noqa: ASYNC110
        await anyio.sleep(0.005)


async def test_nothing_is_claimed_after_a_pause(
    journal: Journal, elsewhere: Journal, postgresql: Server, journals: str
) -> None:
    """A pause is committed after the claims that were under way, and before all others."""
    campaign = await running(journal.campaigns, 1, 1)
    paused = anyio.Event()

    async def pause() -> None:
        assert await elsewhere.campaigns.pause(campaign, "stop")
        paused.set()

    async def claiming(transaction: Transaction) -> None:
        await batches.lock_for_claims(transaction, [campaign])
        (claim,) = await batches.claim(transaction, [batches.Attempt(campaign, "t1", 60)])
        assert claim is not None
        tasks.start_soon(pause)
        await _waits_for_a_lock(postgresql, journals)
        assert not paused.is_set()

    async with anyio.create_task_group() as tasks:
        await journal.database.write(claiming)
    assert await journal.campaigns.claim(campaign, token="t2", lease=60) is None
    assert await all_batches(journal.campaigns, campaign) == [BatchState.SENDING, BatchState.PLANNED]


@pytest.mark.parametrize("statement", ["claim", "pending_work"])
async def test_what_is_planned_is_not_looked_for_among_what_was_sent(
    journal: Journal, postgresql: Server, journals: str, statement: str
) -> None:
    """Also if the database has its statistics from when nothing was sent, as right after a plan."""
    campaign = await running(journal.campaigns, *[1] * 20)
    name = name_of(journals)
    values = {"token": "'t'", "now": "NULL", "lease": "1", "leeway": "1", "account": "NULL", "unlimited": "NULL"}
    values["campaign"] = str(campaign)
    text = re.sub(r"%\((\w+)\)s", lambda match: values[match[1]], Statements(DIALECT).get(statement).text)
    copy = (
        "INSERT INTO qxt.batches (campaign, message, state, count, numbers) "
        "SELECT campaign, message, state, count, numbers FROM qxt.batches, generate_series(1, 200) LIMIT 3000"
    )
    postgresql.ask(copy, name)
    postgresql.ask("ANALYZE qxt.batches", name)
    sent = "UPDATE qxt.batches SET state = 'accepted' WHERE id < (SELECT max(id) - 100 FROM qxt.batches)"
    postgresql.ask(sent, name)
    plan = await journal.database.write(lambda transaction: raw(transaction, f"EXPLAIN {text}"))
    lines = [str(line) for (line,) in plan]
    looks = [line for line, condition in pairwise(lines) if "state = 'planned'" in condition and " on batches" in line]
    assert all("Index" in look and "batches_by_state" in look for look in looks if "_pkey on batches " not in look)
    assert looks


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_nothing_is_claimed_after_a_pause_whatever_the_default_isolation(
    postgresql: Server, database: str, isolation: str
) -> None:
    """A claim that waited for the pause's commit sees it, though the database's default shows older states."""
    name = name_of(database)
    postgresql.ask(f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'")
    async with Journal(PostgresDatabase(database)) as journal:
        campaign = await running(journal.campaigns, 1, 1, 1)
        claims: list[Claim | None] = []

        async def claim(token: str) -> None:
            claims.append(await journal.campaigns.claim(campaign, token=token, lease=60))

        async def pausing(transaction: Transaction) -> None:
            await states.change_state(transaction, campaign, states.paused, reason="stop", actor="")
            for token in ("t1", "t2", "t3"):
                tasks.start_soon(claim, token)
            await _waits_for_a_lock(postgresql, database)

        async with anyio.create_task_group() as tasks:
            await journal.database.write(pausing)
        assert claims == [None, None, None]
        assert await all_batches(journal.campaigns, campaign) == [BatchState.PLANNED] * 3


async def test_the_databases_clock_holds(journals: str) -> None:
    """Leases and back-offs are those of the database, whatever a machine believes."""
    async with Journal(PostgresDatabase(journals)) as journal:
        campaign = await running(journal.campaigns, 1)
        await claimed(journal.campaigns, campaign, lease=0.0)
        now = "SELECT claimed_at, qxt.micros(NULL), lease_until FROM qxt.batches"
        ((claimed_at, at, lease_until),) = await journal.database.read(lambda transaction: raw(transaction, now))
        assert claimed_at <= lease_until <= at < claimed_at + 60 * SECOND
        assert await journal.campaigns.expire_leases(campaign) == 1


@pytest.mark.parametrize("happened", [True, False])
async def test_claim_whose_commit_is_in_doubt(postgresql: Server, journals: str, happened: bool) -> None:
    """A claim that was cut off is an error; its token takes back whatever it left, and the batch is planned once."""
    async with line(postgresql.port) as cut, Journal(PostgresDatabase(cut.address(journals))) as journal:
        campaign = await running(journal.campaigns, 2)
        cut.cut_at, cut.after_the_answer = b"COMMIT\0", happened
        with pytest.raises(JournalUnavailableError):
            # More than one, since a statement that is used often is not sent by its words.
            await journal.campaigns.claim(campaign, token="t1", lease=60)
        assert cut.cuts == 1
        state = BatchState.SENDING if happened else BatchState.PLANNED
        assert await all_batches(journal.campaigns, campaign) == [state]
        assert await journal.campaigns.undo_claim(campaign, "t1") is happened
        await _nobody_is_in_a_transaction(postgresql, journals)
        assert (await claimed(journal.campaigns, campaign, "t2")).numbers == NUMBERS[:2]


async def test_outcome_may_be_repeated_after_a_lost_commit(postgresql: Server, journals: str) -> None:
    """An outcome whose commit was lost is written again, to the same effect."""
    async with line(postgresql.port) as cut, Journal(PostgresDatabase(cut.address(journals))) as journal:
        campaign = await running(journal.campaigns, 2)
        claim = await claimed(journal.campaigns, campaign)
        cut.cut_at = b"COMMIT\0"
        with pytest.raises(JournalUnavailableError):
            await journal.campaigns.settle(claim, accepted(claim))
        assert not await journal.campaigns.settle(claim, accepted(claim))
        assert await all_batches(journal.campaigns, campaign) == [BatchState.ACCEPTED]


async def test_sending_again_while_an_answer_comes(
    journal: Journal, elsewhere: Journal, postgresql: Server, journals: str
) -> None:
    """An answer that comes while its batch is being planned again waits, and then withdraws what was planned."""
    campaign = await running(journal.campaigns, 3)
    claim = await claimed(journal.campaigns, campaign, lease=-1.0)
    await journal.campaigns.expire_leases(campaign)
    preview = await journal.campaigns.preview_resend(campaign, BatchState.UNKNOWN)

    async def resend(transaction: Transaction) -> None:
        # As far as it goes before it plans anything.
        await hold_state(transaction, campaign)
        await transaction.rows("resend_sources", campaign=campaign, state=BatchState.UNKNOWN)
        tasks.start_soon(elsewhere.campaigns.settle, claim, accepted(claim))
        await _waits_for_a_lock(postgresql, journals)
        await resending.resend(transaction, campaign, BatchState.UNKNOWN, expected=preview, actor="ann")

    async with anyio.create_task_group() as tasks:
        await journal.database.write(resend)
    assert await all_batches(journal.campaigns, campaign) == [BatchState.ACCEPTED, BatchState.WITHDRAWN]


async def test_nothing_that_postgresql_cannot_keep(journal: Journal) -> None:
    """A raw value with a NUL, or with half a character, from a file of numbers does not spoil the plan."""
    campaign = await journal.campaigns.create(name="a\0b")
    await journal.campaigns.add(
        campaign, [], [ExcludedNumber("1\0\ud800", reason=ExclusionReason.INVALID, source="\0.csv")]
    )
    (entry,) = await journal.campaigns.left_out(campaign)
    assert (entry.value.raw, entry.value.source) == ("1\ufffd?", "\ufffd.csv")
    assert (await journal.campaigns.get(campaign)).name == "a\ufffdb"


async def test_sending_again_while_a_report_is_read(
    journal: Journal, elsewhere: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second attempt that begins just as its number is found reported goes its way, and its word counts."""
    campaign = await running(journal.campaigns, 2)
    claim = await claimed(journal.campaigns, campaign)
    a, b = claim.numbers
    partial = BatchResult(
        0, claim.numbers, acceptances=(Acceptance("m1", (a,)),), unknown=(b,), error=PartialAnswerError(1)
    )
    await journal.campaigns.settle(claim, partial)
    preview = await journal.campaigns.preview_resend(campaign, BatchState.UNKNOWN)
    await journal.campaigns.resend(campaign, BatchState.UNKNOWN, expected=preview, actor="ann")
    await reported(journal, "m1", [b])
    change = PostgresTransaction.change
    second: list[Claim] = []

    async def late(transaction: PostgresTransaction, name: str, /, **values: Any) -> int:
        if name == "leave_out":
            second.append(await claimed(elsewhere.campaigns, campaign, "t2"))
        return await change(transaction, name, **values)

    monkeypatch.setattr(PostgresTransaction, "change", late)
    await journal.campaigns.reconcile(campaign)
    assert (await journal.campaigns.counts(campaign)).sending == 1
    await elsewhere.campaigns.settle(second[0], accepted(second[0], "m2"))
    counts = await journal.campaigns.counts(campaign)
    assert (counts.accepted, counts.numbers) == (2, 2)


async def test_a_claim_that_somebody_settled_is_not_taken_back(
    journal: Journal, journals: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outcome that is written while the claim is being taken back stays."""
    campaign = await running(journal.campaigns, 2)
    claim = await claimed(journal.campaigns, campaign, "t1")
    change = PostgresTransaction.change

    def settle() -> None:
        async def settled() -> None:
            async with open_journal(journals) as another:
                await another.campaigns.settle(claim, accepted(claim))

        anyio.run(settled)

    async def late(transaction: PostgresTransaction, name: str, /, **values: Any) -> int:
        if name == "release":
            # In another thread: work awaits nothing but its transaction.
            other = Thread(target=settle)
            other.start()
            other.join()
        return await change(transaction, name, **values)

    monkeypatch.setattr(PostgresTransaction, "change", late)
    assert not await journal.campaigns.undo_claim(campaign, "t1")
    assert await all_batches(journal.campaigns, campaign) == [BatchState.ACCEPTED]
