"""A store that refuses, a process that is stopped, a clock that jumps: nothing is sent without its row."""

from __future__ import annotations

import os
import random
import resource
import signal
import sqlite3
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
from support.processes import Runner, every_number, gateway, plan
from support.runs import Troubled, client_of, times
from support.steps import HELLO, NUMBERS, all_batches, opened, planned, states

from qxt_async import QxtClient, RetryPolicy
from qxt_async.campaign import Campaigns, RunOptions
from qxt_async.campaign.options import CampaignOptions
from qxt_async.errors import JournalBusyError, JournalClosedError, JournalUnavailableError, NotSentError
from qxt_async.journal import open_journal
from qxt_async.journal.records import BatchState, CampaignState, NumberState
from qxt_async.models import BatchResult
from qxt_async.sending.claimed import ClaimedBatch
from qxt_async.sending.recorded import AttemptOutcome, BatchSender
from qxt_async.simulator import SimulatedGateway

QUICK = RunOptions(check_balance=False, poll_interval=0.01, journal_timeout=0.3)


def campaigns_of(journal: Any, gateway: SimulatedGateway) -> Campaigns:
    """Campaigns in this process."""
    return Campaigns(journal, client_of(gateway))


# --- in this process ---------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize(
    "operation", ["claim", "settle", "pending_work", "complete", "cost_ahead", "pause", "reconcile"]
)
@pytest.mark.parametrize("done", [False, True])
async def test_refusals_that_pass(tmp_path: Path, operation: str, done: bool) -> None:
    """Whatever the journal refuses for a moment, with or without having done it, all is sent once and the run ends."""
    gateway = SimulatedGateway()
    async with opened(tmp_path) as (_, campaigns):
        campaign = await planned(campaigns, *[1] * 10)
        troubled = Troubled(campaigns)
        options = RunOptions(balance_every=3, poll_interval=0.01, journal_timeout=120, reconcile_every=0.01)
        troubled.trouble[operation] = times(2, done=done)
        if operation == "pause":
            gateway.fail_next("error-7")
            while (await campaigns_of(troubled, gateway).run(campaign, options)).state is not CampaignState.DONE:
                pass
        await campaigns_of(troubled, gateway).run(campaign, options)
        assert set((await states(campaigns, campaign)).values()) == {NumberState.ACCEPTED}
    assert set(gateway.taken.values()) == {1}
    assert len(gateway.taken) == 10


@pytest.mark.anyio
async def test_unclear_commit(tmp_path: Path) -> None:
    """A claim whose commit is in doubt is not followed by a request; it is planned again and sent once."""
    gateway = SimulatedGateway()
    async with opened(tmp_path) as (_, campaigns):
        campaign = await planned(campaigns, 2)
        await campaigns.start(campaign)
        troubled = Troubled(campaigns)
        troubled.trouble["claim"] = times(1, done=True)
        sender = BatchSender(
            troubled,
            client_of(gateway).claimed_sender(),
            CampaignOptions(retry=RetryPolicy(3), lease_margin=60, journal_timeout=60),
        )  # type: ignore[arg-type]
        with pytest.raises(JournalUnavailableError):
            await sender.send(campaign)
        assert await all_batches(campaigns, campaign) == [BatchState.SENDING]
        assert gateway.sends == ()
        attempt = await sender.send(campaign)
        assert attempt is not None
        assert attempt.outcome is AttemptOutcome.SETTLED
        assert sender.alive == set()
    assert set(gateway.taken.values()) == {1}


@pytest.mark.anyio
@pytest.mark.parametrize("operation", ["claim", "settle", "pending_work"])
async def test_refusal_that_lasts(tmp_path: Path, operation: str) -> None:
    """When the journal refuses for too long, the run ends with its error, and has sent nothing more."""
    gateway = SimulatedGateway()
    async with opened(tmp_path) as (_, campaigns):
        campaign = await planned(campaigns, *[1] * 40)
        troubled = Troubled(campaigns)
        troubled.trouble[operation] = times(10**9, done=False)
        one = client_of(gateway, max_concurrency=1, timeout=0.5)
        with pytest.raises(JournalUnavailableError):
            await Campaigns(troubled, one).run(campaign, attrs.evolve(QUICK, lease_margin=0.5))  # type: ignore[arg-type]
        found = await states(campaigns, campaign)
        assert {found[number] for number in gateway.taken} <= {NumberState.UNKNOWN, NumberState.ACCEPTED}
        assert len(gateway.taken) <= {"claim": 0, "settle": 2, "pending_work": 40}[operation]
        assert (await campaigns_of(Troubled(campaigns), gateway).run(campaign, QUICK)).planned == 0
    assert set(gateway.taken.values()) == {1}


@pytest.mark.anyio
async def test_other_errors_of_the_journal(tmp_path: Path) -> None:
    """A journal that was closed ends the run with that error; one that is busy is asked again."""
    gateway = SimulatedGateway()
    async with opened(tmp_path) as (_, campaigns):
        campaign = await planned(campaigns, *[1] * 4)
        troubled = Troubled(campaigns)

        def closed(_: bool) -> None:
            raise JournalClosedError("the journal is closed")

        troubled.trouble["claim"] = closed
        with pytest.raises(JournalClosedError):
            await campaigns_of(troubled, gateway).run(campaign, QUICK)
        busy = [True, True]

        def is_busy(_: bool) -> None:
            if busy:
                busy.pop()
                raise JournalBusyError("too much")

        troubled.trouble["claim"] = is_busy
        assert (
            await campaigns_of(troubled, gateway).run(campaign, RunOptions(check_balance=False, poll_interval=0.01))
        ).accepted == 4


@pytest.mark.anyio
async def test_read_only(tmp_path: Path) -> None:
    """A database that turns read-only stops the campaign with its reason before anything more is sent."""
    gateway = SimulatedGateway()
    async with opened(tmp_path) as (journal, campaigns):
        campaign = await planned(campaigns, *[1] * 4)
        await campaigns.start(campaign)
        writer = journal.database.writer  # type: ignore[attr-defined]
        await writer.submit(lambda connection: connection.execute("PRAGMA query_only=ON")).result()
        with pytest.raises(JournalUnavailableError, match="readonly"):
            await campaigns_of(journal, gateway).run(campaign, QUICK)
    assert gateway.sends == ()


@pytest.mark.anyio
async def test_locked(tmp_path: Path) -> None:
    """While another process holds the lock nothing is sent; afterwards everything is, once."""
    gateway = SimulatedGateway()
    async with opened(tmp_path) as (journal, campaigns):
        campaign = await planned(campaigns, *[1] * 4)
        await campaigns.start(campaign)
        writer = journal.database.writer  # type: ignore[attr-defined]
        await writer.submit(lambda connection: connection.execute("PRAGMA busy_timeout=10")).result()
        other = sqlite3.connect(tmp_path / "qxt.db", isolation_level=None)
        troubled = Troubled(campaigns)
        tries = []

        def release(_: bool) -> None:
            tries.append(len(gateway.sends))
            if len(tries) == 1:
                other.execute("BEGIN IMMEDIATE")
            if len(tries) == 10:
                other.execute("ROLLBACK")

        troubled.trouble["claim"] = troubled.trouble["undo_claim"] = release
        options = RunOptions(check_balance=False, poll_interval=0.01)
        runner = campaigns_of(troubled, gateway)
        assert (await runner.run(campaign, options)).accepted == 4
        assert set(tries[:10]) == {0}
        other.close()
    assert set(gateway.taken.values()) == {1}


@pytest.mark.anyio
async def test_clock_that_jumps(tmp_path: Path) -> None:
    """With a wall clock that steps an hour forward and back all the time, all is sent once and nothing stalls."""
    gateway = SimulatedGateway()
    gateway.fail_share("throttle-429", 0.1)
    chance = random.Random(1)
    async with opened(tmp_path) as (_, campaigns):
        campaign = await planned(campaigns, *[1] * 50)
        now = campaigns.database.clock()  # type: ignore[attr-defined]
        campaigns.database.clock = lambda: now + chance.choice([-1, 0, 1]) * 3_600_000_000  # type: ignore[attr-defined]
        options = RunOptions(
            check_balance=False, poll_interval=0.01, retry=RetryPolicy(30, backoff=0.01, max_backoff=0.01)
        )
        counts = await Campaigns(Troubled(campaigns), client_of(gateway)).run(campaign, options)  # type: ignore[arg-type]
        assert (counts.state, counts.accepted) == (CampaignState.DONE, 50)
    assert set(gateway.taken.values()) == {1}


# --- too late ----------------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("transport", ["httpx", "httpx2", "aiohttp"])
async def test_too_late_to_send(transport: str, anyio_backend: str) -> None:
    """A body that is asked for after its time does not leave: the process may have been stopped for minutes."""
    if transport == "aiohttp" and anyio_backend == "trio":
        return
    with gateway(1) as books:
        async with QxtClient("user", "password", base_url=books.url, transport=transport) as client:
            told: list[BatchResult] = []

            async def take() -> ClaimedBatch:
                return ClaimedBatch(HELLO, NUMBERS[:3], until=0.0)

            result = await client.claimed_sender().send(take, on_result=told.append)
            assert told == [result]
            assert isinstance(result.error, NotSentError)  # type: ignore[union-attr]
        assert books.taken() == {}


@pytest.mark.anyio
async def test_claim_that_took_too_long(tmp_path: Path) -> None:
    """A claim that came back after its margin is given up, and its batch planned again."""
    gateway = SimulatedGateway()
    async with opened(tmp_path) as (_, campaigns):
        campaign = await planned(campaigns, 2)
        await campaigns.start(campaign)
        sender = BatchSender(
            campaigns,
            client_of(gateway).claimed_sender(),
            CampaignOptions(retry=RetryPolicy(3), lease_margin=0.0, journal_timeout=60),
        )
        attempt = await sender.send(campaign)
        assert attempt is not None
        assert attempt.outcome is AttemptOutcome.GIVEN_UP
        assert await all_batches(campaigns, campaign) == [BatchState.PLANNED]
    assert gateway.requests == ()


@pytest.mark.anyio
async def test_cancelled_before_it_began(tmp_path: Path) -> None:
    """A cancelled attempt that provably sent nothing leaves its batch planned, and counts as no attempt."""
    gateway = SimulatedGateway()
    async with opened(tmp_path) as (_, campaigns):
        campaign = await planned(campaigns, 2)
        await campaigns.start(campaign)
        troubled = Troubled(campaigns)
        sender = BatchSender(
            troubled,
            client_of(gateway).claimed_sender(),
            CampaignOptions(retry=RetryPolicy(3), lease_margin=5, journal_timeout=60),
        )  # type: ignore[arg-type]
        async with anyio.create_task_group() as group:
            troubled.trouble["claim"] = lambda done: group.cancel_scope.cancel() if done else None
            group.start_soon(sender.send, campaign)
        (batch,) = await campaigns.batches(campaign)
        assert (batch.state, batch.error) == (BatchState.PLANNED, "")
        del troubled.trouble["claim"]
        async with anyio.create_task_group() as group:
            group.cancel_scope.cancel()
            group.start_soon(sender.send, campaign)
        assert await all_batches(campaigns, campaign) == [BatchState.PLANNED]
    assert gateway.requests == ()


# --- processes ---------------------------------------------------------------------------------------------------


async def planned_in(path: Path, numbers: list[str], size: int) -> int:
    """A campaign in a new journal."""
    async with open_journal(path) as journal:
        return await plan(journal, numbers, size)


async def fates(path: Path, campaign: int) -> dict[str, NumberState]:
    """What became of every number."""
    async with open_journal(path) as journal:
        return {record.number: record.state for record in await every_number(journal, campaign)}


@pytest.mark.slow
def test_disk_full(tmp_path: Path) -> None:
    """On a full disk the run ends with an error; what was sent is recorded or unknown, the next run does the rest."""
    path = tmp_path / "qxt.db"
    numbers = [f"138{index:08d}" for index in range(2000)]
    campaign = anyio.run(planned_in, path, numbers, 20)
    with gateway(1) as books:
        runner = Runner(path, campaign, books.url, 5.0, journal_timeout=0.5)
        runner.wait_until_running()
        while books.requests() < 10:
            assert not runner.ends_within(0.01)
        # No file of this process may grow any more.
        full = max(file.stat().st_size for file in tmp_path.iterdir())
        resource.prlimit(runner.process.pid, resource.RLIMIT_FSIZE, (full, full))
        _, err = runner.process.communicate(timeout=120)
        assert "JournalUnavailableError" in err
        found = anyio.run(fates, path, campaign)
        taken = books.taken()
        assert 0 < len(taken) < 2000
        assert {found[number] for number in taken} <= {NumberState.ACCEPTED, NumberState.UNKNOWN}
        again = Runner(path, campaign, books.url, 500.0)
        assert again.outcome() == "done"
        taken = books.taken()
        found = anyio.run(fates, path, campaign)
    assert set(taken.values()) == {1}
    assert NumberState.PLANNED not in found.values()
    assert {number for number, state in found.items() if state == "accepted"} <= taken.keys()


@pytest.mark.slow
def test_stopped_past_its_lease(tmp_path: Path) -> None:
    """A process that was stopped while another one finished its campaign sends only what was under way."""
    path = tmp_path / "qxt.db"
    numbers = [f"138{index:08d}" for index in range(1000)]
    campaign = anyio.run(planned_in, path, numbers, 10)
    with gateway(1) as books:
        frozen = Runner(path, campaign, books.url, 5.0)
        frozen.wait_until_running()
        while books.requests() < 5:
            assert not frozen.ends_within(0.01)
        # Not in the middle of a transaction: everybody would wait for it.
        while not stopped_outside_of_a_transaction(frozen, path):
            frozen.process.send_signal(signal.SIGCONT)
        other = Runner(path, campaign, books.url, 500.0)
        assert other.outcome() == "done"
        before = books.taken()
        frozen.process.send_signal(signal.SIGCONT)
        # What it claimed and did not send is planned again, which pauses a campaign that was done.
        outcome = frozen.outcome()
        assert len(books.taken()) <= len(before) + 10
        if outcome == "paused":
            outcome = Runner(path, campaign, books.url, 500.0).outcome()
        assert outcome == "done"
        taken = books.taken()
        found = anyio.run(fates, path, campaign)
    # It may have been stopped when a request had begun and not left: that is one batch, which is unknown.
    assert set(taken.values()) == {1}
    assert set(found) == set(numbers)
    assert set(found.values()) <= {NumberState.ACCEPTED, NumberState.UNKNOWN}


def stopped_outside_of_a_transaction(runner: Runner, path: Path) -> bool:
    """Stop it; whether the journal is free then."""
    runner.process.send_signal(signal.SIGSTOP)
    # A thread that waits for the disk stops when that is done, and may hold the lock by then.
    os.waitpid(runner.process.pid, os.WUNTRACED)
    connection = sqlite3.connect(path, isolation_level=None, timeout=0.3)
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return True
