"""Running campaigns against the simulated gateway: all of it sent, nothing twice, orders heeded."""

from __future__ import annotations

import math
import re
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Literal

import anyio
import attrs
import pytest
from support.runs import QUICK, SlowGateway, client_of, quick, seen
from support.steps import HELLO, NUMBERS, all_batches, claimed, failed, opened, planned, reported, states, unknown

from qxt_async import Acceptance, BatchResult, RetryPolicy, SubmitFailedError
from qxt_async.campaign import Campaigns, RunProgress, SendWindow, progress
from qxt_async.campaign import run as running
from qxt_async.campaign.guard import CampaignHealth
from qxt_async.errors import (
    CampaignNotFoundError,
    CampaignStateError,
    ClientStateError,
    JournalUnavailableError,
)
from qxt_async.journal.campaigns import CampaignStore
from qxt_async.journal.records import BatchState, CampaignCounts, CampaignState, NumberState, PlannedBatch
from qxt_async.models import Message
from qxt_async.simulator import Fault, SimulatedGateway

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress is told however long the machine takes to count: tests wait for what it says."""
    monkeypatch.setattr(progress, "ASKING_SHARE", math.inf)


async def run(campaigns: CampaignStore, gateway: SimulatedGateway, campaign: int, **changes: object) -> CampaignCounts:
    """Run it once."""
    return await Campaigns(_Journal(campaigns), client_of(gateway)).run(campaign, quick(**changes))


@attrs.frozen
class _Journal:
    """As much of a journal as a runner needs."""

    campaigns: CampaignStore

    def campaigns_of(self, _account: str) -> CampaignStore:
        """No account has limits here."""
        return self.campaigns


async def test_all_of_it_is_sent(store: str) -> None:
    """Every batch is sent once, with its own text and extension; the campaign is done, and its progress was told."""
    told: list[RunProgress] = []
    gateway = SimulatedGateway()
    async with opened(store) as (_, campaigns):
        campaign = await campaigns.create()
        other = Message("【测试】再见", extno="12")
        await campaigns.add(campaign, [PlannedBatch(HELLO, NUMBERS[:10]), PlannedBatch(other, NUMBERS[10:15])])
        await campaigns.finish(campaign)
        counts = await run(campaigns, gateway, campaign, on_progress=told.append, show_deliveries=True)
        assert (counts.state, counts.accepted) == (CampaignState.DONE, 15)
        assert {(send.text, send.extno, send.numbers) for send in gateway.sends} == {
            (HELLO.text, "", NUMBERS[:10]),
            (other.text, "12", NUMBERS[10:15]),
        }
        records, _ = await campaigns.numbers(campaign)
        mids = {number: send.mid for send in gateway.sends for number in send.numbers}
        assert {record.number: record.mid for record in records} == mids
        assert [event.what for event in await campaigns.events(campaign)] == ["planned", "running", "done"]
    assert told[-1].counts == counts
    assert told[-1].deliveries is not None
    assert told[-1].seconds_left in (0.0, None)
    assert all(each.elapsed >= 0 and each.speed >= 0 for each in told)


async def test_running_again(store: str) -> None:
    """A campaign that is done sends nothing when it is run again; one that does not exist is named."""
    gateway = SimulatedGateway()
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, 3)
        await run(campaigns, gateway, campaign)
        assert (await run(campaigns, gateway, campaign)).state is CampaignState.DONE
        assert len(gateway.sends) == 1
        with pytest.raises(CampaignNotFoundError):
            await run(campaigns, gateway, 99)
        cancelled = await planned(campaigns, 3)
        await campaigns.cancel(cancelled)
        with pytest.raises(CampaignStateError):
            await run(campaigns, gateway, cancelled)


async def test_two_runners_share(store: str) -> None:
    """Two runners of one campaign, each with a journal object of its own, never send the same batch."""
    gateway = SimulatedGateway()
    async with opened(store) as (_, one), opened(store) as (_, other):
        campaign = await planned(one, *[2] * 30)
        async with anyio.create_task_group() as group:
            group.start_soon(run, one, gateway, campaign)
            group.start_soon(run, other, gateway, campaign)
        assert (await one.counts(campaign)).state is CampaignState.DONE
    assert set(gateway.taken.values()) == {1}
    assert len(gateway.taken) == 60


async def test_what_a_dead_process_left(store: str) -> None:
    """What a process that died was sending becomes unknown when its lease has run out, and is not sent; the rest is."""
    gateway = SimulatedGateway()
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, 3, 3)
        await campaigns.start(campaign)
        await claimed(campaigns, campaign, lease=0.1)
        counts = await run(campaigns, gateway, campaign)
        assert (counts.state, counts.unknown, counts.accepted) == (CampaignState.DONE, 3, 3)
    assert set(gateway.taken) == set(NUMBERS[3:6])


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        ("take-then-reset", NumberState.UNKNOWN),
        ("take-then-502", NumberState.UNKNOWN),
        ("take-then-cut", NumberState.UNKNOWN),
        ("fail-999", NumberState.FAILED),
        ("http-404", NumberState.FAILED),
        ("error-8", NumberState.FAILED),
    ],
)
async def test_outcomes(store: str, fault: str, state: NumberState) -> None:
    """What may have arrived is unknown, what was refused has failed; neither is sent again."""
    gateway = SimulatedGateway()
    gateway.fail_next(fault)
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, 3)
        counts = await run(campaigns, gateway, campaign)
        assert counts.state is CampaignState.DONE
        assert set((await states(campaigns, campaign)).values()) == {state}
    assert len([request for request in gateway.requests if request.endpoint == "smssenderv2"]) == 1


async def test_not_sent_is_tried_again(store: str) -> None:
    """What provably was not taken is sent later, as often as allowed; then it has failed, never sent."""
    gateway = SimulatedGateway()
    gateway.fail_next(Fault.named("throttle-429", retry_after=0.01), times=2)
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, 3)
        assert (await run(campaigns, gateway, campaign)).accepted == 3
        (batch,) = await campaigns.batches(campaign)
        assert batch.attempts == 3
        gateway.fail_next(Fault.named("throttle-429", retry_after=0.01), times=3)
        never = await planned(campaigns, 3)
        assert (await run(campaigns, gateway, never)).failed == 3
        (batch,) = await campaigns.batches(never)
        assert (batch.state, batch.error) == (BatchState.FAILED, "ThrottledError")


async def test_gateway_that_is_away(store: str) -> None:
    """While the gateway cannot be reached all wait for it, and it is not every batch that pays for that."""
    gateway = SimulatedGateway()
    gateway.fail_next("refuse", times=3)
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, *[1] * 5)
        assert (await run(campaigns, gateway, campaign, retry=RetryPolicy(9, backoff=0.01))).accepted == 5


async def test_wrong_password(store: str) -> None:
    """A refusal that every batch would meet pauses at once; what was refused is planned, and sent after resuming."""
    gateway = SimulatedGateway()
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, *[2] * 20)
        wrong = client_of(gateway, password="wrong")
        counts = await Campaigns(_Journal(campaigns), wrong).run(campaign, QUICK)
        assert (counts.state, counts.planned) == (CampaignState.PAUSED, 40)
        assert "does not accept the password" in counts.reason
        assert (await campaigns.batches(campaign))[0].error == "wrong-password"
        assert (await run(campaigns, gateway, campaign)).accepted == 40
    assert set(gateway.taken.values()) == {1}


@pytest.mark.parametrize("of", ["send", "balance"])
async def test_forbidden(store: str, of: Literal["send", "balance"]) -> None:
    """A 403 pauses at once: what met it is unknown, and nothing else is begun; the balance is asked once."""
    gateway = SimulatedGateway()
    gateway.fail_next("take-then-403" if of == "send" else "http-403", of=of)
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, *[2] * 20)
        narrow = client_of(gateway, max_concurrency=1)
        options = attrs.evolve(QUICK, check_balance=of == "balance")
        counts = await Campaigns(_Journal(campaigns), narrow).run(campaign, options)
        met = 2 if of == "send" else 0
        assert (counts.state, counts.unknown, counts.planned) == (CampaignState.PAUSED, met, 40 - met)
        assert counts.reason.endswith(
            "HTTP 403: forbidden, before or after the gateway took it; check base_url and what stands between"
        )
        assert (await run(campaigns, gateway, campaign)).accepted == 40 - met
    assert len(gateway.taken) == 40
    assert set(gateway.taken.values()) == {1}


async def test_batch_that_this_client_cannot_send(store: str) -> None:
    """What the client refuses before any I/O pauses too, and stays planned."""
    gateway = SimulatedGateway()
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, 2, message=Message(HELLO.text, extno="1" * 18))
        narrow = client_of(gateway, channel_digits=4)
        counts = await Campaigns(_Journal(campaigns), narrow).run(campaign, QUICK)
        assert (counts.state, counts.planned) == (CampaignState.PAUSED, 2)
        assert "extno" in counts.reason


async def test_failures_failures(store: str) -> None:
    """So many batches in a row without an acceptance pause the campaign; one acceptance starts the count anew."""
    gateway = SimulatedGateway()
    gateway.fail_next("fail-999", times=2)
    gateway.fail_next(Fault("fine"))
    gateway.fail_next("fail-999", times=100)
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, *[1] * 50)
        one_at_a_time = client_of(gateway, max_concurrency=1)
        counts = await Campaigns(_Journal(campaigns), one_at_a_time).run(campaign, quick(max_consecutive_failures=3))
        assert (counts.state, counts.accepted) == (CampaignState.PAUSED, 1)
        assert 5 <= counts.failed <= 6  # one may have been taken from the plan ahead of its turn
        assert "in a row were not accepted: the gateway failed" in counts.reason


def test_a_full_row_is_a_reason_until_it_is_heeded() -> None:
    """An acceptance that was begun before does not take it back; what counts afterwards begins anew."""
    taken = BatchResult(0, ("1",), acceptances=(Acceptance("7", ("1",)),), failed=(), unknown=(), error=None)
    refused = BatchResult(0, ("1",), acceptances=(), failed=("1",), unknown=(), error=SubmitFailedError(("999",), 1))
    failures = CampaignHealth(quick(max_consecutive_failures=2))
    for result in (refused, taken, refused):
        failures.record(result)
    assert failures.pause_reason == ""
    failures.record(refused)
    failures.record(taken)
    assert failures.pause_reason.startswith("2 batches in a row were not accepted: ")
    failures.reset()
    failures.record(refused)
    assert failures.pause_reason == ""


async def test_a_row_ends_where_the_campaign_is_paused(store: str) -> None:
    """What failed before a campaign was paused and resumed by order is no part of the row that comes then."""
    refused = BatchResult(0, ("1",), acceptances=(), failed=("1",), unknown=(), error=SubmitFailedError(("999",), 1))
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, 1)
        await campaigns.start(campaign)
        run_of_it = running.CampaignRun(
            campaigns, client_of(SimulatedGateway()), quick(wait_while_paused=True), campaign
        )
        run_of_it._guard.health(campaign).record(refused)
        await run_of_it._look_around()
        assert run_of_it._guard.health(campaign).failures == 1
        await campaigns.pause(campaign, "look")
        await run_of_it._look_around()
        assert run_of_it._guard.health(campaign).failures == 0


async def test_journal_that_refuses_now_and_then(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two short failures of the journal, hours apart, are not one that lasted for hours; one that lasts is."""
    now = [0.0]
    monkeypatch.setattr(running.time, "monotonic", lambda: now[0])
    async with opened(store) as (_, campaigns):
        run_of_it = running.CampaignRun(campaigns, client_of(SimulatedGateway()), quick(journal_timeout=60.0), 1)
        for moment, ends in ((0, False), (3600, False), (3610, False), (3635, False), (3660, True)):
            now[0] = float(moment)
            run_of_it._journal_refused(JournalUnavailableError("away"))
            assert run_of_it.stopping == ends, moment


# --- the balance -------------------------------------------------------------------------------------------------


async def test_balance_that_does_not_suffice(store: str) -> None:
    """With less than the next batches cost nothing is begun: the gateway would take it and deliver nothing."""
    gateway = SimulatedGateway(balance=9)
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, 5, segments=2)
        counts = await run(campaigns, gateway, campaign, check_balance=True)
        assert (counts.state, counts.planned) == (CampaignState.PAUSED, 5)
        assert counts.reason == "the balance is 9, at least 10 are wanted"
        gateway.balance = 10
        told: list[RunProgress] = []
        assert (await run(campaigns, gateway, campaign, check_balance=True, on_progress=told.append)).accepted == 5
        assert told[-1].balance == 10


async def test_balance_that_runs_out(store: str) -> None:
    """The balance is asked again every so many batches, and everything that was sent is delivered."""
    gateway = SimulatedGateway(balance=25)
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, *[2] * 20)
        counts = await run(campaigns, gateway, campaign, check_balance=True, balance_every=4)
        assert counts.state is CampaignState.PAUSED
        assert 0 < counts.accepted < 25
    assert all(send.delivers for send in gateway.sends)


async def test_floor(store: str) -> None:
    """A floor of one's own holds if it is higher than what the next batches cost, and never instead."""
    gateway = SimulatedGateway(balance=99)
    async with opened(store) as (_, campaigns):
        for numbers, floor, wanted in ((5, 100, 100), (10, 1, 100)):
            campaign = await planned(campaigns, numbers, segments=10)
            counts = await run(campaigns, gateway, campaign, check_balance=True, min_balance=floor)
            assert counts.reason == f"the balance is 99, at least {wanted} are wanted"


async def test_balance_that_cannot_be_asked(store: str) -> None:
    """After a few tries the campaign pauses; one failure is no reason."""
    gateway = SimulatedGateway()
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, 5)
        gateway.fail_next("http-500", times=3, of="balance")
        counts = await run(campaigns, gateway, campaign, check_balance=True)
        assert counts.reason.startswith("the balance cannot be asked")
        gateway.fail_next("http-500", of="balance")
        assert (await run(campaigns, gateway, campaign, check_balance=True)).accepted == 5


async def test_balance_of_a_wrong_account(store: str) -> None:
    """A refusal of the account pauses before anything is sent; a runner that waits goes on when it is resumed."""
    gateway = SimulatedGateway()
    gateway.fail_next("error-7", of="balance")
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, 5)
        async with anyio.create_task_group() as group:
            told: list[RunProgress] = []
            group.start_soon(run_waiting, campaigns, gateway, campaign, told)
            await seen(lambda: bool(told) and told[-1].waiting.startswith("paused"))
            assert gateway.sends == ()
            await campaigns.resume(campaign)
        assert (await campaigns.counts(campaign)).accepted == 5


async def run_waiting(
    campaigns: CampaignStore, gateway: SimulatedGateway, campaign: int, told: list[RunProgress]
) -> None:
    """Run with a balance check, waiting while it is paused."""
    counts = await run(
        campaigns, gateway, campaign, check_balance=True, wait_while_paused=True, on_progress=told.append
    )
    assert counts.accepted == 5


# --- orders ------------------------------------------------------------------------------------------------------


async def ordered(
    campaigns: CampaignStore, campaign: int, order: Callable[[Campaigns], object], **changes: object
) -> tuple[CampaignCounts, SlowGateway]:
    """Run with a gateway that answers only after an order was given while requests were under way."""
    gateway = SlowGateway()
    runner = Campaigns(_Journal(campaigns), client_of(gateway, max_concurrency=2))
    all_counts: list[CampaignCounts] = []

    async def runs() -> None:
        all_counts.append(await runner.run(campaign, quick(**changes)))

    async with anyio.create_task_group() as group:
        group.start_soon(runs)
        await gateway.asked.wait()
        given = order(runner)
        if given is not None:
            await given  # type: ignore[misc]
        gateway.answer.set()
    return all_counts[0], gateway


async def test_pause_from_elsewhere(store: str) -> None:
    """From a pause on nothing is begun, what is under way is finished, and the run returns with the reason."""
    async with opened(store) as (_, campaigns), opened(store) as (_, elsewhere):
        campaign = await planned(campaigns, *[1] * 20)
        counts, gateway = await ordered(campaigns, campaign, lambda _: elsewhere.pause(campaign, "lunch"))
        assert (counts.state, counts.reason) == (CampaignState.PAUSED, "lunch")
        assert counts.accepted == len(gateway.sends) <= 2
        assert counts.planned == 20 - counts.accepted


async def test_cancel_from_elsewhere(store: str) -> None:
    """A cancelled campaign ends as soon; what was not sent is cancelled."""
    async with opened(store) as (_, campaigns), opened(store) as (_, elsewhere):
        campaign = await planned(campaigns, *[1] * 20)
        counts, _ = await ordered(campaigns, campaign, lambda _: elsewhere.cancel(campaign))
        assert counts.state is CampaignState.CANCELLED
        assert NumberState.CANCELLED in set((await states(campaigns, campaign)).values())


async def test_stop(store: str) -> None:
    """A stopped run finishes what is under way and leaves the campaign running, for the next run."""
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, *[1] * 20)
        told: list[RunProgress] = []

        async def stop(runner: Campaigns) -> None:
            runner.stop()
            assert runner.stopping
            before = len(told)
            await seen(lambda: len(told) > before + 2)

        counts, gateway = await ordered(campaigns, campaign, stop, on_progress=told.append)
        assert (counts.state, counts.sending, counts.unknown) == (CampaignState.RUNNING, 0, 0)
        assert counts.accepted == len(gateway.sends) <= 2
        assert (await run(campaigns, gateway, campaign)).state is CampaignState.DONE
    assert set(gateway.taken.values()) == {1}


async def test_speed_is_that_of_late(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The speed that is told forgets what was long ago."""
    told: list[RunProgress] = []
    monkeypatch.setattr(progress, "SPEED_OVER", -1.0)
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, *[1] * 5)
        await run(campaigns, SimulatedGateway(), campaign, on_progress=told.append)
    assert {each.speed for each in told} == {0.0}
    assert {each.seconds_left for each in told} == {None}


async def test_progress_rests_half_a_minute_at_most(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What took long once is asked again soon: it may have been the machine that stood still."""
    told: list[RunProgress] = []
    now = [0.0]
    monkeypatch.setattr(progress, "ASKING_SHARE", 0.05)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def takes_an_hour(news: RunProgress) -> None:
        told.append(news)
        now[0] += 3600.0

    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, 1)
        speedometer = progress.ProgressReporter(campaigns, campaign, quick(on_progress=takes_an_hour))
        for seconds, count in ((0.0, 1), (29.0, 1), (1.0, 2)):
            now[0] += seconds
            await speedometer.tell_in_time("")
            assert len(told) == count


async def test_closed_client(store: str) -> None:
    """A client that is closed ends the run with its error, and nothing was claimed."""
    gateway = SimulatedGateway()
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, 3)
        client = client_of(gateway)
        await client.aclose()
        with pytest.raises(ClientStateError, match="closed"):
            await Campaigns(_Journal(campaigns), client).run(campaign, QUICK)
        assert await all_batches(campaigns, campaign) == [BatchState.PLANNED]


async def test_pause_and_resume_from_elsewhere(store: str) -> None:
    """A runner that waits while it is paused goes on when it is resumed from elsewhere."""
    told: list[RunProgress] = []
    async with opened(store) as (_, campaigns), opened(store) as (_, elsewhere):
        campaign = await planned(campaigns, *[1] * 20)

        async def pause_for_a_while(runner: Campaigns) -> None:
            await elsewhere.pause(campaign, "lunch")
            await seen(lambda: bool(told) and told[-1].waiting == "paused: lunch")
            assert not runner.stopping
            await elsewhere.resume(campaign)

        counts, gateway = await ordered(
            campaigns, campaign, pause_for_a_while, wait_while_paused=True, on_progress=told.append
        )
        assert (counts.state, counts.accepted) == (CampaignState.DONE, 20)
    assert set(gateway.taken.values()) == {1}


async def test_cancelled_in_flight(store: str) -> None:
    """A run that is cancelled writes down what was under way as unknown; what had not begun stays planned."""
    gateway = SlowGateway()
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, *[1] * 5)
        runner = Campaigns(_Journal(campaigns), client_of(gateway, max_concurrency=1))
        async with anyio.create_task_group() as group:
            group.start_soon(runner.run, campaign, QUICK)
            await gateway.asked.wait()
            group.cancel_scope.cancel()
        assert await all_batches(campaigns, campaign) == [BatchState.UNKNOWN] + [BatchState.PLANNED] * 4
        gateway.answer.set()
        assert (await run(campaigns, gateway, campaign)).accepted == 4
    assert set(gateway.taken.values()) == {1}


async def test_on_progress_that_fails(store: str) -> None:
    """A mistake in on_progress is raised when what is under way is settled; nothing is lost with it."""
    gateway = SimulatedGateway()
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, *[1] * 5)
        with pytest.raises(ZeroDivisionError):
            await run(campaigns, gateway, campaign, on_progress=lambda _: 1 // 0)
        assert (await campaigns.counts(campaign)).sending == 0
        assert (await run(campaigns, gateway, campaign)).state is CampaignState.DONE
    assert set(gateway.taken.values()) == {1}


# --- when, and what first ----------------------------------------------------------------------------------------


async def test_window(store: str) -> None:
    """Outside of its window nothing is begun; progress says why."""
    now = datetime.now(UTC)
    closed = SendWindow.parse(f"{now + timedelta(hours=2):%H:%M}-{now + timedelta(hours=4):%H:%M}", "UTC")
    opened_now = SendWindow.parse(f"{now - timedelta(hours=2):%H:%M}-{now + timedelta(hours=2):%H:%M}", "UTC")
    gateway = SimulatedGateway()
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, 3)

        def told(news: RunProgress) -> None:
            if news.waiting == f"outside of {closed}":
                runner.stop()

        runner = Campaigns(_Journal(campaigns), client_of(gateway))
        assert (await runner.run(campaign, quick(window=closed, on_progress=told))).planned == 3
        assert gateway.sends == ()
        assert (await run(campaigns, gateway, campaign, window=opened_now)).accepted == 3


async def test_a_wait_is_told_with_its_reason_and_its_end(store: str) -> None:
    """While nothing may be begun, progress says what the gateway answered, and when it is tried again."""
    gateway = SimulatedGateway()
    gateway.fail_share(Fault.named("throttle-429", retry_after=300.0), 1.0)
    waits: list[str] = []
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, *[1] * 3)

        def told(news: RunProgress) -> None:
            if news.waiting:
                waits.append(news.waiting)
                runner.stop()

        retry = RetryPolicy(3, max_backoff=300.0)
        runner = Campaigns(_Journal(campaigns), client_of(gateway))
        assert (await runner.run(campaign, quick(retry=retry, on_progress=told))).planned == 3
    asked = "HTTP 429: the server asks to come back later in 300 s"
    assert re.fullmatch(rf"not sent: {asked}; next try in (300|29\d) s", waits[0])


async def test_the_reason_of_the_longest_wait_is_told(store: str) -> None:
    """A shorter wait that begins meanwhile changes neither the end nor the reason."""
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, 1)
        run_of_it = running.CampaignRun(campaigns, client_of(SimulatedGateway()), QUICK, campaign)
        run_of_it._guard.hold(300.0, "the gateway is away")
        run_of_it._guard.hold(0.2, "the journal refuses")
        seconds, reason = run_of_it._guard.held()
        assert 299 < seconds <= 300
        assert reason.startswith("the gateway is away; next try in ")


async def test_reconciling_before_it_runs(store: str) -> None:
    """What is ordered again and was reported before the run began is not sent again."""
    gateway = SimulatedGateway()
    async with opened(store) as (journal, campaigns):
        campaign = await planned(campaigns, 3)
        await campaigns.start(campaign)
        claim = await claimed(campaigns, campaign)
        await campaigns.settle(claim, unknown(claim))
        await campaigns.pause(campaign, "look")
        preview = await campaigns.preview_resend(campaign, BatchState.UNKNOWN)
        await campaigns.resend(campaign, BatchState.UNKNOWN, expected=preview, actor="ann")
        await reported(journal, "m1", claim.numbers)
        counts = await run(campaigns, gateway, campaign)
        assert (counts.state, counts.accepted, gateway.sends) == (CampaignState.DONE, 3, ())


async def test_reconciling_while_it_runs(store: str) -> None:
    """Unknown batches are looked at again and again while a campaign runs."""
    async with opened(store) as (journal, campaigns):
        campaign = await planned(campaigns, 3, 3)
        await campaigns.start(campaign)
        claim = await claimed(campaigns, campaign)
        await campaigns.settle(claim, unknown(claim))
        await reported(journal, "m1", claim.numbers)

        told: list[RunProgress] = []

        async def bound(_: Campaigns) -> None:
            await seen(lambda: bool(told) and not told[-1].counts.unknown)

        counts, _ = await ordered(campaigns, campaign, bound, reconcile_every=0.01, on_progress=told.append)
        assert counts.accepted == 6


# --- signals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signals", [1, 2])
async def test_signals(store: str, signals: int) -> None:
    """The first signal lets what is under way finish; the second gives it up, as unknown."""
    gateway = SlowGateway()
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, *[1] * 5)
        runner = Campaigns(_Journal(campaigns), client_of(gateway, max_concurrency=1))
        all_counts: list[CampaignCounts | None] = []

        async def runs() -> None:
            all_counts.append(await runner.run_until_signalled(campaign, QUICK))

        async with anyio.create_task_group() as group:
            group.start_soon(runs)
            await gateway.asked.wait()
            signal.raise_signal(signal.SIGTERM)
            await seen(lambda: runner.stopping)
            if signals == 2:
                signal.raise_signal(signal.SIGINT)
            else:
                gateway.answer.set()
        counts = await campaigns.counts(campaign)
        assert counts.state is CampaignState.RUNNING
        assert (counts.accepted, counts.unknown) == ((1, 0) if signals == 1 else (0, 1))
        assert all_counts == [counts if signals == 1 else None]


async def test_only_a_second_signal_cuts_off(store: str) -> None:
    """The first one waits for what is under way also if the run has stopped by itself before."""
    gateway = SlowGateway()
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, *[1] * 5)
        runner = Campaigns(_Journal(campaigns), client_of(gateway, max_concurrency=1))
        heard: list[signal.Signals] = []
        all_counts: list[CampaignCounts | None] = []

        async def runs() -> None:
            all_counts.append(await runner.run_until_signalled(campaign, QUICK, on_signal=heard.append))

        async with anyio.create_task_group() as group:
            group.start_soon(runs)
            await gateway.asked.wait()
            await campaigns.pause(campaign, "lunch")
            await seen(lambda: runner.stopping)
            signal.raise_signal(signal.SIGINT)
            await seen(lambda: bool(heard or all_counts))
            gateway.answer.set()
        assert heard == [signal.SIGINT]
        counts = await campaigns.counts(campaign)
        assert (counts.state, counts.accepted, counts.unknown) == (CampaignState.PAUSED, 1, 0)
        assert all_counts == [counts]


async def test_run_until_signalled_without_a_signal(store: str) -> None:
    """Without a signal it is a run like any other, and its errors are not in a group."""
    gateway = SimulatedGateway()
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, 3)
        runner = Campaigns(_Journal(campaigns), client_of(gateway))
        counts = await runner.run_until_signalled(campaign, QUICK)
        assert counts is not None
        assert counts.accepted == 3
        with pytest.raises(CampaignNotFoundError):
            await runner.run_until_signalled(99, QUICK)


async def test_resend_is_run(store: str) -> None:
    """What was ordered to be sent again is sent by the next run."""
    gateway = SimulatedGateway()
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, 3)
        await campaigns.start(campaign)
        claim = await claimed(campaigns, campaign)
        await campaigns.settle(claim, failed(claim))
        await campaigns.complete(campaign)
        preview = await campaigns.preview_resend(campaign, BatchState.FAILED)
        await campaigns.resend(campaign, BatchState.FAILED, expected=preview, actor="ann")
        counts = await run(campaigns, gateway, campaign)
        assert (counts.state, counts.accepted, counts.failed) == (CampaignState.DONE, 3, 0)
