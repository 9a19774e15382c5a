"""What holds a run back: the hour, a reason to pause, a gateway or a journal that is away, the balance."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from support.runs import SlowGateway, Troubled, client_of, quick, seen, times
from support.steps import all_batches, opened, planned, set_time

from qxt_async import RetryPolicy
from qxt_async.campaign import Campaigns, RunProgress, SendWindow, guard
from qxt_async.campaign import run as running
from qxt_async.campaign.options import CampaignOptions
from qxt_async.errors import JournalUnavailableError
from qxt_async.journal.campaigns import CampaignStore
from qxt_async.journal.limits import AccountLimits
from qxt_async.journal.records import BatchState, CampaignCounts, CampaignState
from qxt_async.sending import batch_send, recorded
from qxt_async.sending.recorded import AttemptOutcome, BatchSender
from qxt_async.simulator import Fault, SimulatedGateway

pytestmark = pytest.mark.anyio

MINUTES = RetryPolicy(5, backoff=500.0, max_backoff=500.0)


def is_held(news: RunProgress) -> bool:
    """Whether the run waits before it tries the gateway again."""
    return news.waiting.startswith("not sent: ") and "; next try in " in news.waiting


async def run(journal: Any, gateway: SimulatedGateway, campaign: int, **changes: object) -> CampaignCounts:
    """Run a campaign with one connection: two workers, of which one waits for its turn."""
    runner = Campaigns(journal, client_of(gateway, max_concurrency=1))
    with anyio.fail_after(120):
        return await runner.run(campaign, quick(**changes))


class Gated(SimulatedGateway):
    """A gateway whose requests wait before they are dealt with, and whose answers wait before they are given.

    Attributes:
        before, after: called with the endpoint and which request to it this is, from 1.
        asked: how often each endpoint was asked.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.asked = {"smssenderv2": 0, "surplus": 0}
        self.before: Callable[[str, int], Awaitable[None]] = self._at_once
        self.after: Callable[[str, int], Awaitable[None]] = self._at_once

    async def _at_once(self, endpoint: str, count: int) -> None:
        pass

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Wait, deal with it, wait, answer."""
        endpoint = scope["path"].rpartition("/")[2]
        self.asked[endpoint] += 1
        count = self.asked[endpoint]
        waited = False

        async def later(message: Any) -> None:
            nonlocal waited
            if not waited:
                waited = True
                await self.after(endpoint, count)
            await send(message)

        await self.before(endpoint, count)
        await super().__call__(scope, receive, later)


class Outcomes:
    """A journal that counts the outcomes that were written into it."""

    def __init__(self, campaigns: CampaignStore) -> None:
        self.troubled = self.campaigns = Troubled(campaigns)
        self.written = 0
        self.troubled.trouble = dict.fromkeys(("settle", "release"), self._count)

    def campaigns_of(self, _account: str) -> Troubled:
        """No account has limits here."""
        return self.campaigns

    def _count(self, done: bool) -> None:
        self.written += done

    async def one_by_one(self, endpoint: str, count: int) -> None:
        """Let a request wait until what became of those before is written, and whoever sent them waits as well."""
        await seen(lambda: self.written >= count - 1)
        await anyio.wait_all_tasks_blocked()


# --- the hour ----------------------------------------------------------------------------------------------------


async def test_nothing_is_sent_while_the_window_is_closed(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the workers rest and look again; when it opens, all is sent."""
    sent: list[int] = []
    gateway = SimulatedGateway()

    def closed_for(_: SendWindow, now: datetime) -> float:
        sent.append(len(gateway.sends))
        return 0.002 if len(sent) <= 20 else 0.0

    monkeypatch.setattr(SendWindow, "closed_for", closed_for)
    async with opened(store) as (journal, campaigns):
        campaign = await planned(campaigns, *[1] * 5)
        counts = await run(journal, gateway, campaign, window=SendWindow.parse("09:00-20:00", "UTC"))
        assert (counts.state, counts.accepted) == (CampaignState.DONE, 5)
    assert sent[:20] == [0] * 20


async def test_window_that_is_closed_for_hours_is_looked_at_again(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rest lasts a moment only, since the clock may be set meanwhile; stopping ends it."""
    looks: list[datetime] = []
    gateway = SimulatedGateway()
    monkeypatch.setattr(guard, "LONGEST_REST", 0.002)

    def closed_for(_: SendWindow, now: datetime) -> float:
        looks.append(now)
        if len(looks) == 20:
            runner.stop()
        return 3600.0

    monkeypatch.setattr(SendWindow, "closed_for", closed_for)
    async with opened(store) as (journal, campaigns):
        campaign = await planned(campaigns, *[1] * 5)
        options = quick(window=SendWindow.parse("09:00-20:00", "UTC"))
        runner = Campaigns(journal, client_of(gateway, max_concurrency=1))
        with anyio.fail_after(120):
            counts = await runner.run(campaign, options)
        assert (counts.state, counts.planned, gateway.sends) == (CampaignState.RUNNING, 5, ())


# --- a reason to pause -------------------------------------------------------------------------------------------


async def test_whoever_waits_for_its_turn_sees_the_reason_to_pause(store: str) -> None:
    """When the row of failures is full, not even the batch is begun whose worker had passed all checks before."""
    gateway = SimulatedGateway()
    gateway.fail_next("fail-999", times=100)
    async with opened(store) as (journal, campaigns):
        campaign = await planned(campaigns, *[1] * 20)
        counts = await run(journal, gateway, campaign, max_consecutive_failures=3)
        assert (counts.state, counts.failed, counts.planned) == (CampaignState.PAUSED, 3, 17)
        assert counts.reason.startswith("3 batches in a row were not accepted: ")
        assert (await all_batches(campaigns, campaign))[3:] == [BatchState.PLANNED] * 17
    assert len(gateway.requests) == 3


async def test_whoever_waits_for_its_turn_sees_that_it_is_stopped(store: str) -> None:
    """Of two workers one has the connection when the run is stopped: the other one begins nothing any more."""
    gateway = SlowGateway()
    async with opened(store) as (journal, campaigns):
        campaign = await planned(campaigns, *[1] * 20)
        runner = Campaigns(journal, client_of(gateway, max_concurrency=1))
        async with anyio.create_task_group() as group:
            group.start_soon(runner.run, campaign, quick())
            await gateway.asked.wait()
            await anyio.wait_all_tasks_blocked()
            runner.stop()
            gateway.answer.set()
        counts = await campaigns.counts(campaign)
        assert (counts.accepted, counts.planned) == (1, 19)
    assert len(gateway.requests) == 1


async def test_whoever_waits_for_its_turn_sees_that_the_gateway_is_given_time(store: str) -> None:
    """Four workers, two connections: what waits when the gateway asks for minutes is not begun within it."""
    told: list[RunProgress] = []
    gateway = Gated()
    gateway.fail_next(Fault.named("throttle-429", retry_after=500))

    async def until_held(_: str, count: int) -> None:
        if count > 1:
            await seen(lambda: bool(told) and is_held(told[-1]))

    gateway.before = until_held
    async with opened(store) as (journal, campaigns):
        campaign = await planned(campaigns, *[1] * 20)
        options = quick(retry=MINUTES, on_progress=told.append)
        runner = Campaigns(journal, client_of(gateway, max_concurrency=2))
        async with anyio.create_task_group() as group:
            group.start_soon(runner.run, campaign, options)
            await seen(lambda: bool(told) and told[-1].counts.accepted == 2)
            runner.stop()
        counts = await campaigns.counts(campaign)
        assert (counts.accepted, counts.planned, counts.unknown) == (2, 18, 0)
    assert gateway.asked["smssenderv2"] == 3


async def test_callback_that_fails_once_ends_the_run(store: str) -> None:
    """The watch stops the run at once: what is under way is settled, nothing more is begun, the error is raised."""
    gateway = SlowGateway()
    failures: list[RunProgress] = []

    def fails_once(news: RunProgress) -> None:
        if gateway.asked.is_set() and not failures:
            failures.append(news)
            gateway.answer.set()
            raise ZeroDivisionError

    async with opened(store) as (journal, campaigns):
        campaign = await planned(campaigns, *[1] * 20)
        with pytest.raises(ZeroDivisionError):
            await run(journal, gateway, campaign, on_progress=fails_once)
        counts = await campaigns.counts(campaign)
        assert (counts.state, counts.accepted, counts.planned) == (CampaignState.RUNNING, 1, 19)
    assert len(gateway.requests) == 1


# --- a gateway that cannot be reached ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "tried"),
    # One is tried by the worker whose turn came before the outcome of the last one was written.
    [(Fault.named("refuse"), 2 + 1), (Fault.named("throttle-429", retry_after=500), 1 + 1)],
    ids=["refuse", "throttle"],
)
async def test_how_many_batches_are_tried_on_a_gateway_that_is_away(
    store: str, fault: Fault, tried: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that did not get through, or one refusal with a time, and nothing is tried before the wait is over."""
    told: list[RunProgress] = []
    monkeypatch.setattr(guard, "LONGEST_REST", 0.002)
    gateway = Gated()
    gateway.fail_next(fault, times=100)
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, *[1] * 20)
        outcomes = Outcomes(campaigns)
        gateway.before = outcomes.one_by_one
        options = quick(retry=MINUTES, on_progress=told.append)
        runner = Campaigns(outcomes, client_of(gateway, max_concurrency=1))  # type: ignore[arg-type]
        async with anyio.create_task_group() as group:
            group.start_soon(runner.run, campaign, options)
            await seen(lambda: len(told) >= 10 and all(map(is_held, told[-10:])))
            runner.stop()
        assert [batch.attempts for batch in await campaigns.batches(campaign)] == [1] * tried + [0] * (20 - tried)
        counts = await campaigns.counts(campaign)
        assert (counts.state, counts.planned, counts.failed) == (CampaignState.RUNNING, 20, 0)
    assert gateway.asked["smssenderv2"] == tried


async def test_one_that_gets_through_begins_the_count_anew(store: str) -> None:
    """Single batches that do not get through, now and then, are no reason to wait."""
    gateway = Gated()
    for _ in range(4):
        gateway.fail_next("refuse")
        gateway.fail_next(Fault("fine"))
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, *[1] * 8)
        outcomes = Outcomes(campaigns)
        gateway.before = outcomes.one_by_one
        told: list[RunProgress] = []
        options = quick(retry=MINUTES, on_progress=told.append)
        runner = Campaigns(outcomes, client_of(gateway, max_concurrency=1))  # type: ignore[arg-type]
        async with anyio.create_task_group() as group:
            group.start_soon(runner.run, campaign, options)
            await seen(lambda: bool(told) and told[-1].counts.accepted == 4)
            runner.stop()
        assert not any(map(is_held, told))
    assert gateway.asked["smssenderv2"] == 8


async def test_waits_of_a_batch_that_does_not_get_through_grow(store: str) -> None:
    """Each is up to twice the one before, it is not claimed earlier, and after the last attempt it has failed."""
    gateway = SimulatedGateway()
    gateway.fail_next("refuse", times=100)
    now = datetime.now(UTC)
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, 3)
        await campaigns.start(campaign)
        retry = RetryPolicy(5, backoff=1.0, max_backoff=60.0)
        batch_sender = BatchSender(
            campaigns,
            client_of(gateway).claimed_sender(),
            CampaignOptions(retry=retry, lease_margin=60, journal_timeout=60),
        )
        for full in (1.0, 2.0, 4.0, 8.0):
            set_time(campaigns, now)
            attempt = await batch_sender.send(campaign)
            assert attempt is not None
            assert attempt.outcome is AttemptOutcome.NOT_SENT
            assert full / 2 <= attempt.delay <= full
            set_time(campaigns, now + timedelta(seconds=attempt.delay - 0.01))
            assert await batch_sender.send(campaign) is None
            now += timedelta(seconds=attempt.delay + 0.01)
        set_time(campaigns, now)
        attempt = await batch_sender.send(campaign)
        assert attempt is not None
        assert attempt.outcome is AttemptOutcome.SETTLED
        assert await all_batches(campaigns, campaign) == [BatchState.FAILED]
    assert gateway.sends == ()


async def test_campaign_whose_gateway_stays_away_is_paused(store: str) -> None:
    """It is not the whole campaign that fails: after some batches without a way it waits, and what is left is planned.

    Run again, it goes on.
    """
    gateway = SimulatedGateway()
    gateway.fail_next("refuse", times=1000)
    async with opened(store) as (journal, campaigns):
        campaign = await planned(campaigns, *[1] * 30)
        retry = RetryPolicy(3, backoff=0.001, max_backoff=0.002)
        counts = await run(journal, gateway, campaign, retry=retry, max_consecutive_failures=2)
        assert counts.state is CampaignState.PAUSED
        assert counts.reason.startswith("2 batches in a row were not accepted: ")
        assert 2 <= counts.failed <= 3  # the other worker may be at its last try, too
        assert counts.planned == 30 - counts.failed
        batches = await campaigns.batches(campaign)
        assert {batch.attempts for batch in batches if batch.state is BatchState.FAILED} == {3}
        assert (await run(journal, SimulatedGateway(), campaign, retry=retry)).accepted == 30 - counts.failed


# --- a journal that refuses an outcome ---------------------------------------------------------------------------


class Clock:
    """Seconds that pass when somebody sleeps.

    Attributes:
        waits: how long was slept.
        meanwhile: called in each sleep.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self.waits: list[float] = []
        self.meanwhile: list[Callable[[], Awaitable[None]]] = []

    def monotonic(self) -> float:
        """The time."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Let the time pass. The rest of anyio is as it is."""
        self.waits.append(seconds)
        self._now += seconds
        while self.meanwhile:
            await self.meanwhile.pop()()

    def __getattr__(self, name: str) -> Any:
        return getattr(anyio, name)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What an batch_sender waits by, and measures its timeout with."""
    found = Clock()
    monkeypatch.setattr(recorded, "time", found)
    monkeypatch.setattr(recorded, "anyio", found)
    return found


async def test_outcome_that_is_refused_three_times_is_written_at_the_fourth(store: str, clock: Clock) -> None:
    """The text is sent once, and until its outcome is written no other batch is begun."""
    gateway = SimulatedGateway()
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, 3, 3)
        await campaigns.start(campaign)
        troubled = Troubled(campaigns)
        troubled.trouble["settle"] = times(3, done=False)
        batch_sender = BatchSender(
            troubled,
            client_of(gateway).claimed_sender(),
            CampaignOptions(retry=RetryPolicy(3), lease_margin=60, journal_timeout=60),
        )  # type: ignore[arg-type]

        async def another() -> None:
            assert (batch_sender.unwritten, batch_sender.lost) == (1, False)
            attempt = await batch_sender.send(campaign)
            assert attempt is not None
            assert (attempt.outcome, attempt.numbers) == (AttemptOutcome.GIVEN_UP, ())
            assert await all_batches(campaigns, campaign) == [BatchState.SENDING, BatchState.PLANNED]

        clock.meanwhile.append(another)
        attempt = await batch_sender.send(campaign)
        assert attempt is not None
        assert attempt.outcome is AttemptOutcome.SETTLED
        assert clock.meanwhile == []
        assert (batch_sender.unwritten, batch_sender.lost, len(clock.waits)) == (0, False, 3)
        assert await all_batches(campaigns, campaign) == [BatchState.ACCEPTED, BatchState.PLANNED]
        attempt = await batch_sender.send(campaign)
        assert attempt is not None
        assert attempt.outcome is AttemptOutcome.SETTLED
    assert set(gateway.taken.values()) == {1}
    assert len(gateway.taken) == 6


async def test_waits_for_the_journal_grow(store: str, clock: Clock) -> None:
    """Each is twice the one before, up to five seconds."""
    gateway = SimulatedGateway()
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, 3)
        await campaigns.start(campaign)
        troubled = Troubled(campaigns)
        troubled.trouble["settle"] = times(10, done=False)
        batch_sender = BatchSender(
            troubled,
            client_of(gateway).claimed_sender(),
            CampaignOptions(retry=RetryPolicy(3), lease_margin=60, journal_timeout=60),
        )  # type: ignore[arg-type]
        await batch_sender.send(campaign)
        assert await all_batches(campaigns, campaign) == [BatchState.ACCEPTED]
    assert clock.waits == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


@pytest.mark.parametrize(("journal_timeout", "waits"), [(0.0, 0), (3.0, 6)])
async def test_outcome_that_is_lost_is_told(store: str, clock: Clock, journal_timeout: float, waits: int) -> None:
    """Refused for too long, it is an error; the batch is left to its lease, and sent no other time."""
    gateway = SimulatedGateway()
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, 3)
        await campaigns.start(campaign)
        troubled = Troubled(campaigns)
        troubled.trouble["settle"] = times(10**9, done=False)
        batch_sender = BatchSender(
            troubled,
            client_of(gateway).claimed_sender(),
            CampaignOptions(retry=RetryPolicy(3), lease_margin=60, journal_timeout=journal_timeout),
        )  # type: ignore[arg-type]
        with pytest.raises(JournalUnavailableError):
            await batch_sender.send(campaign)
        assert (batch_sender.lost, batch_sender.unwritten, len(clock.waits)) == (True, 0, waits)
        assert await all_batches(campaigns, campaign) == [BatchState.SENDING]
        assert await batch_sender.send(campaign) is None
    assert set(gateway.taken.values()) == {1}


async def test_run_whose_outcome_is_lost_ends(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the journal's error, and at once: it is not known how much more would be lost."""
    gateway = SimulatedGateway()
    monkeypatch.setattr(running, "time", SimpleNamespace(monotonic=lambda: 0.0))
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, *[1] * 20)
        troubled = Troubled(campaigns)
        troubled.trouble["settle"] = times(10**9, done=False)
        with pytest.raises(JournalUnavailableError):
            await run(troubled, gateway, campaign, journal_timeout=0.001)
        assert (await campaigns.counts(campaign)).planned >= 18  # one more may have had its turn
    assert 1 <= len(gateway.requests) <= 2
    assert set(gateway.taken.values()) == {1}


# --- the balance -------------------------------------------------------------------------------------------------


async def test_balance_is_asked_before_the_first_batch_and_every_so_many(store: str) -> None:
    """Neither more often nor at other batches: the last one that was begun may not be there yet."""
    gateway = Gated()
    sent: list[int] = []

    async def note(endpoint: str, _: int) -> None:
        if endpoint == "surplus":
            sent.append(len(gateway.sends))

    gateway.before = note
    async with opened(store) as (journal, campaigns):
        campaign = await planned(campaigns, *[1] * 18)
        counts = await run(journal, gateway, campaign, check_balance=True, balance_every=4)
        assert counts.accepted == 18
    missing = [4 * place - count for place, count in enumerate(sent)]
    assert len(missing) == 5
    assert missing[0] == 0
    assert set(missing) <= {0, 1}


class Calculated(Troubled):
    """A journal that says what the next batches cost when the gateway has taken both batches that are under way."""

    def __init__(self, campaigns: CampaignStore, gateway: SimulatedGateway) -> None:
        super().__init__(campaigns)
        self._gateway = gateway
        self._asked = 0

    async def cost_ahead(self, campaign: int, batches: int) -> int:
        """Wait, calculate."""
        self._asked += 1
        await seen(lambda: len(self._gateway.sends) >= min(2 * (self._asked // 2), 6))
        return await self.real.cost_ahead(campaign, batches)


async def test_balance_is_used_to_the_last_credit(store: str) -> None:
    """What is under way may be in the balance already: where that matters, it is waited for and asked again."""
    gateway = Gated(balance=6)
    answered = 0

    async def after(endpoint: str, count: int) -> None:
        nonlocal answered
        if endpoint == "surplus":
            answered = count
        else:
            await seen(lambda: answered >= 2 * ((count + 1) // 2))

    gateway.after = after
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, *[1] * 8)
        options = quick(check_balance=True, balance_every=2)
        client = client_of(gateway, max_concurrency=3)
        with anyio.fail_after(120):
            counts = await Campaigns(Calculated(campaigns, gateway), client).run(campaign, options)  # type: ignore[arg-type]
        assert (counts.state, counts.accepted, counts.planned) == (CampaignState.PAUSED, 6, 2)
        assert counts.reason == "the balance is 0, at least 2 are wanted"
    assert gateway.asked["smssenderv2"] == 6
    assert all(send.delivers for send in gateway.sends)


async def test_failures_to_ask_for_the_balance_are_counted_in_a_row(store: str) -> None:
    """Two, an answer and two more are not four: one answer begins anew."""
    gateway = SimulatedGateway()
    async with opened(store) as (journal, campaigns):
        campaign = await planned(campaigns, *[1] * 7)
        for _ in range(3):
            gateway.fail_next("http-500", times=2, of="balance")
            gateway.fail_next(Fault("fine"), of="balance")
        counts = await run(journal, gateway, campaign, check_balance=True, balance_every=3)
        assert (counts.state, counts.accepted) == (CampaignState.DONE, 7)
    assert [request.endpoint for request in gateway.requests].count("surplus") == 9


async def test_failures_to_ask_for_the_balance_begin_anew_after_a_pause(store: str) -> None:
    """A run that waits while it is paused asks as often again when it is resumed."""
    gateway = SimulatedGateway()
    told: list[RunProgress] = []
    async with opened(store) as (journal, campaigns):
        campaign = await planned(campaigns, *[1] * 3)
        gateway.fail_next("http-500", times=3, of="balance")

        async def runs() -> None:
            counts = await run(
                journal, gateway, campaign, check_balance=True, wait_while_paused=True, on_progress=told.append
            )
            assert counts.accepted == 3

        async with anyio.create_task_group() as group:
            group.start_soon(runs)
            await seen(lambda: bool(told) and told[-1].waiting.startswith("paused: the balance cannot be asked"))
            gateway.fail_next("http-500", times=2, of="balance")
            await campaigns.resume(campaign)
        events = [event.what for event in await campaigns.events(campaign)]
        assert events == ["planned", "running", "paused", "running", "done"]


async def test_who_opts_out_while_a_batch_waits_for_a_connection(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim that waits long is given back, however often, without an attempt, and claimed anew: a TD is heeded."""
    monkeypatch.setattr(batch_send, "MAX_WAIT", 0.02)
    gateway = SlowGateway()
    claims = 0

    def count(done: bool) -> None:
        nonlocal claims
        claims += done

    async with opened(store) as (journal, campaigns):
        campaign = await planned(campaigns, *[1] * 5)
        troubled = Troubled(campaigns)
        troubled.trouble["claim"] = count
        client = client_of(gateway, max_concurrency=4)
        runner = Campaigns(troubled, client)  # type: ignore[arg-type]
        async with anyio.create_task_group() as group:
            group.start_soon(runner.run, campaign, quick(retry=RetryPolicy(1)))
            await seen(lambda: claims >= 8)
            sent = {number for batch in gateway.sends for number in batch.numbers}
            records, _ = await campaigns.numbers(campaign)
            (waiting,) = {record.number for record in records} - sent
            await journal.suppress([waiting])
            before = claims
            await seen(lambda: claims >= before + 2)
            gateway.answer.set()
        counts = await campaigns.counts(campaign)
        assert (counts.state, counts.accepted, counts.suppressed) == (CampaignState.DONE, 4, 1)
    assert waiting not in gateway.taken


async def test_limits_of_the_account_hold_here_too(store: str) -> None:
    """A run in this process keeps the limits that the journal has for its account, and asks again, if slowly."""
    gateway = SimulatedGateway()
    async with opened(store) as (journal, campaigns):
        await journal.limits.set("user", AccountLimits(max_request_rate=2))
        campaign = await planned(campaigns, *[1] * 5)
        counts = await run(journal, gateway, campaign)
        assert (counts.state, counts.accepted) == (CampaignState.DONE, 5)
        batches = await campaigns.batches(campaign)
    claimed = sorted(batch.claimed_at for batch in batches if batch.claimed_at is not None)
    assert all(later - earlier > timedelta(seconds=1) for earlier, later in zip(claimed, claimed[2:], strict=False))


async def test_limits_that_allow_little(store: str) -> None:
    """A turn that is further away than a claim waits is asked for about once a second."""
    gateway = SimulatedGateway()
    claims = 0

    def count(done: bool) -> None:
        nonlocal claims
        claims += done

    async with opened(store) as (journal, campaigns):
        await journal.limits.set("user", AccountLimits(max_request_rate=0.4))
        campaign = await planned(campaigns, 1, 1)
        troubled = Troubled(journal.campaigns_of("user"))
        troubled.trouble["claim"] = count
        counts = await run(troubled, gateway, campaign)
        assert (counts.state, counts.accepted) == (CampaignState.DONE, 2)
    assert claims < 12
