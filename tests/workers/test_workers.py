"""Workers in one process, over a real database and a simulated gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import anyio
import attrs
import psycopg
import pytest
from procrastinate.exceptions import ConnectorException
from procrastinate.worker import Worker
from support.postgresql_server import Server, name_of, plain
from support.processes import plan
from support.steps import accepted, claimed

from qxt_async import BatchResult, QxtClient, RetryPolicy, SubmitFailedError
from qxt_async.campaign import RunOptions, SendWindow
from qxt_async.campaign.guard import Guard
from qxt_async.errors import (
    CampaignNotFoundError,
    InvalidConfigurationError,
    InvalidTextError,
    JournalUnavailableError,
    NotSentError,
    ThrottledError,
)
from qxt_async.journal import AccountLimits, Journal, open_journal
from qxt_async.journal.campaigns import CampaignStore
from qxt_async.journal.records import BatchState, CampaignState
from qxt_async.sending.claimed import ClaimedSender
from qxt_async.sending.recorded import AttemptOutcome, AttemptResult, BatchSender
from qxt_async.simulator import Fault, SimulatedGateway, serve
from qxt_async.workers import CampaignWorker, WorkerOptions, require_postgres, run_on_workers
from qxt_async.workers.engine import BATCHES, SEND, UPKEEP, Engine

pytestmark = pytest.mark.anyio

OPTIONS = WorkerOptions(retry=RetryPolicy(3, backoff=0.01, max_backoff=0.01))
WATCHING = RunOptions(poll_interval=0.05)
# What the worker makes of no silence at all would be a heartbeat without a pause.
UNHURRIED = {"update_heartbeat_interval": 3.0, "stalled_worker_timeout": 12.0}
NUMBERS = [f"1380013{index:04}" for index in range(300)]


@attrs.define
class Setting:
    """A journal with workers that come and go, and a gateway."""

    journal: Journal
    gateway: SimulatedGateway
    url: str

    async def plan(self, count: int = 100, size: int = 10) -> int:
        """A planned campaign."""
        return await plan(self.journal, NUMBERS[:count], size)

    async def running(self) -> list[int]:
        """The campaigns that are running."""
        found = await self.journal.campaigns.all()
        return [one.id for one in found if one.state is CampaignState.RUNNING]

    async def state(self, campaign: int) -> tuple[CampaignState, str]:
        """A campaign's state, with the reason."""
        found = await self.journal.campaigns.get(campaign)
        return found.state, found.reason

    async def batches(self, campaign: int) -> list[BatchState]:
        """The states of its batches."""
        return [batch.state for batch in await self.journal.campaigns.batches(campaign)]

    @asynccontextmanager
    async def working(
        self, options: WorkerOptions = OPTIONS, password: str = "password", **client: Any
    ) -> AsyncIterator[CampaignWorker]:
        """A worker for the length of the block."""
        async with (
            QxtClient("user", password, base_url=self.url, **client) as opened,
            anyio.create_task_group() as group,
        ):
            worker = CampaignWorker(self.journal, opened, options)
            group.start_soon(worker.run)
            yield worker
            worker.stop()


@pytest.fixture
async def setting(database: str) -> AsyncIterator[Setting]:
    """An empty journal and a gateway."""
    gateway = SimulatedGateway()
    with serve(gateway) as url:
        async with open_journal(database) as journal:
            yield Setting(journal, gateway, url)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Look until it is so; the test's timeout is the limit."""
    while not await condition():  # noqa: ASYNC110  (what it looks for happens in a database)
        await anyio.sleep(0.02)


async def ordered(order: Callable[[], Awaitable[object]]) -> None:
    """Give an order until the journal takes it: its database was away."""

    async def taken() -> bool:
        try:
            await order()
        except JournalUnavailableError:
            return False
        return True

    await until(taken)


def jobs(postgresql: Server, database: str) -> list[tuple[object, ...]]:
    """The engine's jobs for batches: their arguments, and how they are."""
    statement = f"SELECT args, status FROM qxt_engine.procrastinate_jobs WHERE task_name = '{SEND}' ORDER BY id"
    return postgresql.ask(statement, name_of(database))


# --- the work ---------------------------------------------------------------------------------------------------------


async def test_a_campaign_is_sent_by_several_workers(setting: Setting) -> None:
    """Two workers share it; each number is taken once, and whoever waits hears how far it is."""
    heard: list[int] = []
    options = attrs.evolve(WATCHING, on_progress=lambda now: heard.append(now.counts.accepted))
    campaign = await setting.plan(200)
    async with setting.working(), setting.working():
        counts = await run_on_workers(setting.journal, campaign, options)
    assert (counts.state, counts.accepted) == (CampaignState.DONE, 200)
    assert setting.gateway.taken == dict.fromkeys(NUMBERS[:200], 1)
    assert heard[-1] == 200


async def test_without_a_worker_it_says_so(setting: Setting) -> None:
    """Nobody is there: the progress says what to start. Cancelling ends the waiting, not the campaign."""
    campaign = await setting.plan()
    heard = anyio.Event()
    with anyio.CancelScope() as scope:

        def look(now: Any) -> None:
            if "qxt worker" in now.waiting:
                heard.set()
                scope.cancel()

        await run_on_workers(setting.journal, campaign, attrs.evolve(WATCHING, on_progress=look))
    assert heard.is_set()
    assert (await setting.state(campaign))[0] is CampaignState.RUNNING


async def test_a_worker_ends_what_nobody_watches(setting: Setting) -> None:
    """Started and left alone, a campaign is announced, sent and done all the same."""
    campaign = await setting.plan(20)
    await setting.journal.campaigns.start(campaign)

    async def done() -> bool:
        return (await setting.state(campaign))[0] is CampaignState.DONE

    async with setting.working():
        await until(done)
    assert setting.gateway.taken == dict.fromkeys(NUMBERS[:20], 1)


async def test_a_job_names_a_campaign_and_nothing_else(setting: Setting, postgresql: Server, database: str) -> None:
    """One for each batch up to a limit, with those that there are, and none for a paused campaign."""
    campaign = await setting.plan()
    async with Engine(require_postgres(setting.journal)) as engine:
        assert await engine.announce(campaign) == 0
        await setting.journal.campaigns.start(campaign)
        found: list[int] = []

        async def announce() -> None:
            found.append(await engine.announce(campaign, jobs=4))

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(announce)
        assert sorted(found) == [0, 0, 4]
        assert jobs(postgresql, database) == [({"campaign": campaign}, "todo")] * 4
        assert await engine.announce(campaign, jobs=6) == 2
        assert await engine.announce(campaign) == len(await setting.batches(campaign)) - 6
        await setting.journal.campaigns.pause(campaign, "")
        assert await engine.announce(campaign) == 0


async def test_a_queue_that_was_long_and_is_empty_costs_little(
    setting: Setting, postgresql: Server, database: str
) -> None:
    """The database plans with the statistics of an empty queue; a job is seconds of work, so the queue stays short."""
    name = name_of(database)
    queue = "qxt_engine.procrastinate_jobs"
    async with Engine(require_postgres(setting.journal)):
        pass
    postgresql.ask(
        f"INSERT INTO {queue} (queue_name, task_name, args, status) "
        f"SELECT '{BATCHES}', '{SEND}', '{{\"campaign\": 999}}', 'succeeded' FROM generate_series(1, 20000)",
        name,
    )
    with psycopg.connect(plain(database), autocommit=True) as connection:
        connection.execute("SET search_path TO qxt_engine")  # for the triggers
        connection.execute(f"DELETE FROM {queue}".encode())
        connection.execute(f"VACUUM ANALYZE {queue}".encode())
    numbers = [f"1380014{index:04}" for index in range(1500)]
    campaign = await plan(setting.journal, numbers, 1)
    async with setting.working():
        await run_on_workers(setting.journal, campaign, WATCHING)
    assert setting.gateway.taken == dict.fromkeys(numbers, 1)
    ((made,),) = postgresql.ask("SELECT last_value - 20000 FROM qxt_engine.procrastinate_jobs_id_seq", name)
    assert made <= 200  # of 1500


async def test_the_higher_priority_goes_first(setting: Setting, postgresql: Server, database: str) -> None:
    """Of two campaigns, also for what waits already, and for what is announced later."""
    first, urgent = await setting.plan(60), await setting.plan(60)
    async with Engine(require_postgres(setting.journal)) as engine:
        for campaign in (first, urgent):
            await setting.journal.campaigns.start(campaign)
            assert await engine.announce(campaign, jobs=4) == 4
        await engine.prioritise(urgent, 7)
        for campaign in (first, urgent):
            assert await engine.announce(campaign) == 2
        app = engine.app()
        await engine.attach(app)
        worker = await app.job_manager.register_worker()
        taken = [await app.job_manager.fetch_job([BATCHES], worker) for _ in range(12)]
    assert [job.task_kwargs["campaign"] for job in taken if job] == [urgent] * 6 + [first] * 6


# --- what the engine may do -------------------------------------------------------------------------------------------


async def test_a_job_that_comes_again_sends_nothing_again(setting: Setting, postgresql: Server, database: str) -> None:
    """There are four jobs for each batch, more of them after the end: every number is taken once."""
    campaign = await setting.plan()
    await setting.journal.campaigns.start(campaign)
    async with Engine(require_postgres(setting.journal)) as engine:
        app = engine.app()
        await engine.attach(app)
        send = app.configure_task(SEND, queue=BATCHES)
        await send.batch_defer_async(*({"campaign": campaign} for _ in range(40)))
        async with setting.working():
            await run_on_workers(setting.journal, campaign, WATCHING)
            await send.batch_defer_async({"campaign": campaign}, {"campaign": 10**9})

            async def gone() -> bool:
                return not jobs(postgresql, database)

            await until(gone)
    assert setting.gateway.taken == dict.fromkeys(NUMBERS[:100], 1)


async def test_a_dead_workers_jobs_come_back_and_what_it_sent_does_not(
    setting: Setting, postgresql: Server, database: str
) -> None:
    """A worker dies with two jobs and one batch claimed: the engine hands out both jobs, the journal one batch."""
    campaign = await setting.plan(20)
    await setting.journal.campaigns.start(campaign)
    claim = await claimed(setting.journal.campaigns, campaign, lease=0.5)
    async with Engine(require_postgres(setting.journal)) as engine:
        app = engine.app()
        await engine.attach(app)
        jobs_of = app.configure_task(SEND, queue=BATCHES)
        await jobs_of.batch_defer_async({"campaign": campaign}, {"campaign": campaign})
        dead = await app.job_manager.register_worker()
        for _ in range(2):
            assert await app.job_manager.fetch_job([BATCHES], dead) is not None
        name = name_of(database)
        assert await engine.workers() == 0
        postgresql.ask("UPDATE qxt_engine.procrastinate_workers SET last_heartbeat = now() - interval '1 hour'", name)
        assert await engine.recover() == 2
        assert [status for _, status in jobs(postgresql, database)] == ["todo", "todo"]
        assert await engine.recover() == 0
    async with setting.working():
        counts = await run_on_workers(setting.journal, campaign, WATCHING)
    assert await setting.batches(campaign) == [BatchState.UNKNOWN, BatchState.ACCEPTED]
    assert (counts.state, counts.unknown) == (CampaignState.DONE, 10)
    assert setting.gateway.taken == dict.fromkeys(NUMBERS[10:20], 1)
    assert await setting.journal.campaigns.settle(claim, accepted(claim))


async def test_a_periodic_job_that_waits_already_is_not_handed_out_again(setting: Setting) -> None:
    """What a dead worker was at is dropped where the next one of its kind waits."""
    async with Engine(require_postgres(setting.journal)) as engine:
        app = engine.app()
        await engine.attach(app)
        upkeep = app.configure_task("qxt.announce", queue="qxt-upkeep", queueing_lock="qxt.announce")
        await upkeep.defer_async(timestamp=1)
        dead = await app.job_manager.register_worker()
        assert await app.job_manager.fetch_job(["qxt-upkeep"], dead) is not None
        await app.job_manager.unregister_worker(dead)
        await upkeep.defer_async(timestamp=2)
        assert await engine.recover() == 0
        (left,) = await app.job_manager.list_jobs_async(queue="qxt-upkeep")
        assert left.task_kwargs == {"timestamp": 2}


async def test_workers_survive_the_loss_of_the_database(setting: Setting, postgresql: Server, database: str) -> None:
    """The database is gone in the middle and comes back: the worker goes on, nothing is taken twice."""
    campaign = await setting.plan(300, size=5)
    limits = setting.journal.limits
    await limits.set("user", AccountLimits(max_request_rate=20))
    options = attrs.evolve(OPTIONS, lease_margin=2.0, check_balance=False)

    async with setting.working(options, timeout=1.0):
        await setting.journal.campaigns.start(campaign)

        async def begun() -> bool:
            return len(setting.gateway.sends) >= 5

        await until(begun)
        await anyio.to_thread.run_sync(postgresql.stop)
        await anyio.to_thread.run_sync(postgresql.start)
        await ordered(lambda: limits.set("user", AccountLimits()))

        async def done() -> bool:
            return (await setting.state(campaign))[0] is CampaignState.DONE

        await until(done)
    assert set(setting.gateway.taken.values()) == {1}
    counts = await setting.journal.campaigns.counts(campaign)
    assert counts.accepted + counts.unknown == 300


# --- orders, limits, refusals -----------------------------------------------------------------------------------------


async def test_a_pause_stops_all_and_resuming_goes_on(setting: Setting) -> None:
    """Paused in the middle, nothing more is claimed; the rest is sent after it is resumed."""
    campaign = await setting.plan(300, size=5)
    await setting.journal.limits.set("user", AccountLimits(max_request_rate=40, max_concurrency=1))
    async with setting.working(), setting.working():
        await setting.journal.campaigns.start(campaign)

        async def begun() -> bool:
            return len(setting.gateway.sends) >= 3

        await until(begun)
        await setting.journal.campaigns.pause(campaign, "lunch")

        async def settled() -> bool:
            return not (await setting.journal.campaigns.pending_work(campaign)).sending

        await until(settled)
        taken = len(setting.gateway.sends)
        assert taken < 60
        await anyio.sleep(0.3)
        assert len(setting.gateway.sends) == taken
        await setting.journal.limits.set("user", AccountLimits())
        counts = await run_on_workers(setting.journal, campaign, WATCHING)
    assert counts.accepted == 300
    assert setting.gateway.taken == dict.fromkeys(NUMBERS, 1)


async def test_a_wrong_password_pauses_every_campaign(setting: Setting) -> None:
    """One refusal of the account is enough for all that run."""
    campaigns = [await setting.plan(20), await setting.plan(20)]
    for campaign in campaigns:
        await setting.journal.campaigns.start(campaign)

    async def paused() -> bool:
        states = [await setting.state(campaign) for campaign in campaigns]
        return all(state is CampaignState.PAUSED and "password" in reason for state, reason in states)

    for check_balance in (False, True):
        for campaign in campaigns:
            await setting.journal.campaigns.start(campaign)
        async with setting.working(attrs.evolve(OPTIONS, check_balance=check_balance), password="wrong"):
            await until(paused)
    assert not setting.gateway.taken


@pytest.mark.parametrize("of", ["send", "balance"])
async def test_a_403_pauses_every_campaign(setting: Setting, of: Literal["send", "balance"]) -> None:
    """One is enough for all that run; what met it is unknown."""
    campaigns = [await setting.plan(20), await setting.plan(20)]
    for campaign in campaigns:
        await setting.journal.campaigns.start(campaign)
    setting.gateway.fail_share("take-then-403", 1.0, of="send")
    setting.gateway.fail_share("http-403", 1.0, of="balance")

    async def paused() -> bool:
        states = [await setting.state(campaign) for campaign in campaigns]
        return all(state is CampaignState.PAUSED and "HTTP 403" in reason for state, reason in states)

    async with setting.working(attrs.evolve(OPTIONS, check_balance=of == "balance")):
        await until(paused)
    assert bool(setting.gateway.taken) == (of == "send")
    all_counts = [await setting.journal.campaigns.counts(campaign) for campaign in campaigns]
    assert sum(counts.unknown for counts in all_counts) == setting.gateway.taken.total()


async def test_a_campaign_that_cannot_be_paid_is_paused(setting: Setting) -> None:
    """The balance is asked for before the first batch."""
    setting.gateway.balance = 5
    campaign = await setting.plan(20)
    async with setting.working():
        counts = await run_on_workers(setting.journal, campaign, WATCHING)
    assert (counts.state, counts.reason) == (CampaignState.PAUSED, "the balance is 5, at least 20 are wanted")
    assert not setting.gateway.taken


async def test_a_balance_that_cannot_be_asked_pauses(setting: Setting) -> None:
    """After three tries."""
    campaign = await setting.plan(20)
    setting.gateway.fail_next("http-500", times=3, of="balance")
    async with setting.working():
        counts = await run_on_workers(setting.journal, campaign, WATCHING)
    assert counts.state is CampaignState.PAUSED
    assert counts.reason.startswith("the balance cannot be asked")


async def test_failures_in_a_row_pause(setting: Setting) -> None:
    """Batches of which nothing is accepted, one after the other; a job that waits for its turn begins none then."""
    setting.gateway.fail_share("fail-999", 1.0)
    campaign = await setting.plan()
    async with setting.working(
        attrs.evolve(OPTIONS, max_consecutive_failures=3, check_balance=False), max_concurrency=1
    ):
        counts = await run_on_workers(setting.journal, campaign, WATCHING)
    assert (counts.state, counts.failed, counts.planned) == (CampaignState.PAUSED, 30, 70)
    assert counts.reason.startswith("3 batches in a row were not accepted: ")
    assert len(setting.gateway.requests) == 3


async def test_a_pause_that_the_journal_refuses_is_tried_again(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many failed in a row: whoever comes next pauses, and the count begins anew."""
    campaign = await setting.plan()
    campaigns = setting.journal.campaigns
    await campaigns.start(campaign)
    async with QxtClient("user", "password", base_url=setting.url) as client:
        guard = Guard(
            campaigns, client, attrs.evolve(OPTIONS, max_consecutive_failures=1, check_balance=False), setting.running
        )
        failed = BatchResult(0, ("1",), acceptances=(), failed=("1",), unknown=(), error=SubmitFailedError(("999",), 1))
        guard.health(campaign).record(failed)
        with monkeypatch.context() as refusing:
            refusing.setattr(CampaignStore, "pause", refused)
            with pytest.raises(JournalUnavailableError):
                await guard.admits(campaign)
        assert (await campaigns.get(campaign)).state is CampaignState.RUNNING
        assert not await guard.admits(campaign)
        assert (await campaigns.get(campaign)).state is CampaignState.PAUSED
        assert await guard.admits(campaign)


async def refused(*_: object, **__: object) -> bool:
    """The journal is away."""
    raise JournalUnavailableError("the database is away")


async def test_a_gateway_that_cannot_be_reached_is_given_time(setting: Setting) -> None:
    """What is not sent is planned again and tried again, until its attempts are used up."""
    campaign = await setting.plan(30)
    setting.url = "http://127.0.0.1:9/qxt"
    options = attrs.evolve(
        OPTIONS, check_balance=False, max_consecutive_failures=100, retry=RetryPolicy(2, backoff=0.01)
    )
    async with setting.working(options):
        counts = await run_on_workers(setting.journal, campaign, WATCHING)
    assert (counts.state, counts.failed) == (CampaignState.DONE, 30)


async def test_a_campaign_whose_gateway_stays_away_is_paused(setting: Setting) -> None:
    """It is not the whole campaign that fails: after some batches without a way it waits, and the rest is planned."""
    campaign = await setting.plan(100, size=5)
    setting.url = "http://127.0.0.1:9/qxt"
    options = attrs.evolve(OPTIONS, check_balance=False, max_consecutive_failures=2, retry=RetryPolicy(2, backoff=0.01))
    async with setting.working(options, max_concurrency=1):
        counts = await run_on_workers(setting.journal, campaign, WATCHING)
    assert counts.state is CampaignState.PAUSED
    assert counts.reason.startswith("2 batches in a row were not accepted: ")
    assert 10 <= counts.failed <= 15  # another job may be at its last try, too
    assert counts.planned == 100 - counts.failed


async def test_two_that_do_not_get_through_hold_all_back(setting: Setting) -> None:
    """Or one refusal with a time; one that gets through begins the count anew."""
    campaign = await setting.plan()
    away = AttemptResult(outcome=AttemptOutcome.NOT_SENT, numbers=(), error=NotSentError("refused"), delay=600.0)
    later = attrs.evolve(away, error=ThrottledError(429, 600.0))
    fine = AttemptResult(outcome=AttemptOutcome.SETTLED, numbers=())
    async with QxtClient("user", "password", base_url=setting.url) as client:
        for executions, held in (
            ([away], False),
            ([away, away], True),
            ([away, fine, away], False),
            ([away, fine, away, away], True),
            ([later], True),
        ):
            guard = Guard(setting.journal.campaigns, client, OPTIONS, setting.running)
            for attempt in executions:
                await guard.act_on(campaign, attempt)
            assert (guard.held()[0] > 0) is held


async def test_the_balance_is_asked_every_so_many_batches(setting: Setting) -> None:
    """Before the first one, and again when so many were admitted; not more often, and failures are counted in a row."""
    campaign = await setting.plan()
    asked: list[int] = []
    async with QxtClient("user", "password", base_url=setting.url) as client:
        guard = Guard(setting.journal.campaigns, client, attrs.evolve(OPTIONS, balance_every=3), setting.running)
        for batch in range(1, 10):
            before = len(setting.gateway.requests)
            assert await guard.admits(campaign)
            if len(setting.gateway.requests) > before:
                asked.append(batch)
        assert asked == [1, 4, 7]
        await setting.journal.campaigns.start(campaign)
        for _ in range(3):
            setting.gateway.fail_next("http-500", times=2, of="balance")
            assert [await guard.admits(campaign) for _ in range(5)] == [False, False, True, True, True]
        assert (await setting.journal.campaigns.get(campaign)).state is CampaignState.RUNNING


async def test_nothing_is_begun_outside_of_the_window(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs wait for the window for a while, are given back, and come again."""
    closed = 1.0
    asked = 0

    def closed_for(*_: Any) -> float:
        nonlocal asked
        asked += 1
        return closed

    async def given_back() -> bool:
        return asked > 2

    monkeypatch.setattr(SendWindow, "closed_for", closed_for)
    monkeypatch.setattr("qxt_async.workers.worker.JOB_SECONDS", 0.1)
    campaign = await setting.plan(20)
    options = attrs.evolve(OPTIONS, window=SendWindow.parse("08:00-21:00", "Asia/Shanghai"))
    async with setting.working(options):
        await setting.journal.campaigns.start(campaign)
        await until(given_back)
        assert not setting.gateway.requests
        closed = 0.0
        counts = await run_on_workers(setting.journal, campaign, WATCHING)
    assert counts.accepted == 20


async def test_a_text_that_cannot_be_sent_pauses(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """By this client, at least: the campaign is paused with the reason."""

    async def refuse(*_: Any, **__: Any) -> None:
        raise InvalidConfigurationError("the client says no")

    monkeypatch.setattr(ClaimedSender, "send", refuse)
    campaign = await setting.plan(20)
    async with setting.working():
        counts = await run_on_workers(setting.journal, campaign, WATCHING)
    assert (counts.state, counts.reason) == (CampaignState.PAUSED, "the client says no")


# --- beginning and ending ---------------------------------------------------------------------------------------------


async def test_stopping_finishes_what_is_under_way(setting: Setting) -> None:
    """A request that the gateway has is waited for, no other begins."""
    setting.gateway.fail_share(Fault.named("slow", delay=0.5), 1.0)
    campaign = await setting.plan(100)
    await setting.journal.campaigns.start(campaign)
    async with setting.working(max_concurrency=2):

        async def begun() -> bool:
            return (await setting.journal.campaigns.pending_work(campaign)).sending

        await until(begun)
    states = await setting.batches(campaign)
    assert states.count(BatchState.ACCEPTED) == len(setting.gateway.sends) > 0
    assert states.count(BatchState.PLANNED) == 10 - len(setting.gateway.sends)


async def test_cancelling_gives_up_what_is_under_way(setting: Setting) -> None:
    """What is being sent becomes unknown at once, not when its lease has run out."""
    setting.gateway.fail_share(Fault.named("slow", delay=60.0), 1.0)
    campaign = await setting.plan(100)
    await setting.journal.campaigns.start(campaign)
    async with (
        QxtClient("user", "password", base_url=setting.url, max_concurrency=1) as client,
        anyio.create_task_group() as group,
    ):
        group.start_soon(CampaignWorker(setting.journal, client, attrs.evolve(OPTIONS, check_balance=False)).run)

        async def begun() -> bool:
            return (await setting.journal.campaigns.pending_work(campaign)).sending

        await until(begun)
        group.cancel_scope.cancel()
    states = await setting.batches(campaign)
    assert BatchState.SENDING not in states
    assert states.count(BatchState.PLANNED) >= 9


async def test_a_file_cannot_be_shared(tmp_path: Path) -> None:
    """Workers want a journal on PostgreSQL."""
    client = QxtClient("user", "password", base_url="http://127.0.0.1:9/qxt")
    with pytest.raises(InvalidConfigurationError, match="postgresql://"):
        CampaignWorker(open_journal(tmp_path / "qxt.db"), client)


async def test_a_database_that_is_away_is_an_error_at_first(
    setting: Setting, postgresql: Server, database: str
) -> None:
    """A worker that cannot begin says so."""
    impatient = open_journal(f"{plain(database)}?connect_timeout=1")
    async with impatient, QxtClient("user", "password", base_url=setting.url) as client:
        worker = CampaignWorker(impatient, client)
        postgresql.stop()
        try:
            with pytest.raises(JournalUnavailableError):
                async with Engine(require_postgres(impatient)):
                    pass
            with pytest.raises(JournalUnavailableError):
                await worker.run()
        finally:
            postgresql.start()


async def test_watching_survives_the_database(
    setting: Setting, postgresql: Server, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Who waits for the workers waits on while the database is away, and gives up when that takes too long."""
    campaign = await setting.plan()
    seen = anyio.Event()
    options = attrs.evolve(WATCHING, progress_every=0.01, on_progress=lambda _: seen.set())

    async def restart() -> None:
        await seen.wait()
        await anyio.to_thread.run_sync(postgresql.stop)
        while "trying again" not in caplog.text:  # noqa: ASYNC110  (a log has no event)
            await anyio.sleep(0.01)
        await anyio.to_thread.run_sync(postgresql.start)
        await ordered(lambda: setting.journal.campaigns.cancel(campaign))

    async with anyio.create_task_group() as group:
        group.start_soon(restart)
        async with open_journal(f"{plain(database)}?connect_timeout=2") as journal:
            counts = await run_on_workers(journal, campaign, options)
    assert counts.state is CampaignState.CANCELLED
    await setting.journal.campaigns.resume(campaign)
    seen = anyio.Event()
    try:
        with pytest.RaisesGroup(JournalUnavailableError):
            async with (
                open_journal(f"{plain(database)}?connect_timeout=2") as journal,
                anyio.create_task_group() as group,
            ):
                group.start_soon(run_on_workers, journal, campaign, attrs.evolve(options, journal_timeout=0.0))
                await seen.wait()
                await anyio.to_thread.run_sync(postgresql.stop)
    finally:
        postgresql.start()


async def test_a_refusal_of_one_campaign_leaves_the_others(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """What only its batches would meet pauses that campaign; a campaign that is gone is nobody's trouble."""
    campaign = await setting.plan(20)
    other = await setting.plan(20)
    await setting.journal.campaigns.start(other)
    both = anyio.Event()

    async def execute(_: BatchSender, number: int, **__: Any) -> AttemptResult:
        if number == other:
            both.set()
            raise CampaignNotFoundError(number)
        return AttemptResult(outcome=AttemptOutcome.REFUSED, numbers=(), error=InvalidTextError("no text for them"))

    monkeypatch.setattr(BatchSender, "send", execute)
    async with setting.working():
        counts = await run_on_workers(setting.journal, campaign, WATCHING)
        await both.wait()
    assert (counts.state, counts.reason) == (CampaignState.PAUSED, "no text for them")
    assert (await setting.state(other))[0] is CampaignState.RUNNING


async def test_a_journal_that_refuses_is_asked_again(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The engine is not told of it: it has the same database. The batch stays with the worker, which tries again."""
    execute, refused = BatchSender.send, False

    async def refuse_once(sender: BatchSender, *which: Any, **options: Any) -> AttemptResult | None:
        nonlocal refused
        if not refused:
            refused = True
            raise JournalUnavailableError("the database is away")
        return await execute(sender, *which, **options)

    monkeypatch.setattr(BatchSender, "send", refuse_once)
    campaign = await setting.plan(20)
    async with setting.working():
        counts = await run_on_workers(setting.journal, campaign, WATCHING)
    assert counts.accepted == 20
    assert "nothing is sent meanwhile: the database is away" in caplog.text


async def test_the_engines_worker_is_started_again(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends when the database goes away, with an error or without: both halves come back."""
    began: list[str] = []
    run = Worker.run
    monkeypatch.setattr("qxt_async.workers.worker.SILENCE", 0.0)
    monkeypatch.setattr("qxt_async.workers.worker.FIRST_WAIT", 0.01)

    async def end_first(half: Worker) -> None:
        began.append(str(half.worker_name))
        if began.count(str(half.worker_name)) == 1:
            raise ConnectorException
        if began.count(str(half.worker_name)) > 2:
            await run(half)

    monkeypatch.setattr(Worker, "run", end_first)
    monkeypatch.setattr("qxt_async.workers.worker.Worker", lambda *a, **k: Worker(*a, **k | UNHURRIED))
    campaign = await setting.plan(20)
    async with setting.working():
        counts = await run_on_workers(setting.journal, campaign, WATCHING)
    assert counts.accepted == 20
    assert {name: began.count(name) for name in began} == {BATCHES: 3, UPKEEP: 3}


async def test_upkeep_that_fails_is_tried_again(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A journal that refuses one look at what is to be sent delays it, and the log says so."""
    campaign = await setting.plan(20)
    await setting.journal.campaigns.start(campaign)
    announce, refused = Engine.announce, False

    async def refusing(engine: Engine, *which: Any, **options: Any) -> int:
        nonlocal refused
        if not refused:
            refused = True
            raise JournalUnavailableError("the database is away")
        return await announce(engine, *which, **options)

    monkeypatch.setattr(Engine, "announce", refusing)

    async def done() -> bool:
        return (await setting.state(campaign))[0] is CampaignState.DONE

    async with setting.working():
        await until(done)
    assert "qxt.announce is tried again: the database is away" in caplog.text
    assert setting.gateway.taken == dict.fromkeys(NUMBERS[:20], 1)
