"""The test batch of a campaign: sent first, once, and a batch like any other."""

from __future__ import annotations

from contextlib import asynccontextmanager

import anyio
import pytest
from support.runs import QUICK, SlowGateway, client_of, quick
from support.steps import (
    NUMBERS,
    accepted,
    all_batches,
    claimed,
    failed,
    opened,
    planned,
    reported,
    running,
    states,
    unknown,
)

from qxt_async import Acceptance, BatchResult
from qxt_async.campaign import Campaigns, RunOptions
from qxt_async.errors import InvalidNumberError
from qxt_async.journal.campaigns import CampaignStore
from qxt_async.journal.records import BatchState, CampaignCounts, CampaignState, NumberState, PlannedBatch
from qxt_async.models import Message
from qxt_async.simulator import SimulatedGateway

pytestmark = pytest.mark.anyio

STRANGER = "13900000001"


class _Journal:
    """What a runner needs of a journal."""

    def __init__(self, campaigns: CampaignStore) -> None:
        self.campaigns = campaigns

    def campaigns_of(self, account: str) -> CampaignStore:
        """The same operations for every account."""
        return self.campaigns


async def run(
    campaigns: CampaignStore, gateway: SimulatedGateway, campaign: int, *testers: str, **changes
) -> CampaignCounts:
    """Run a campaign with these testers."""
    options: RunOptions = quick(test_numbers=testers, **changes)
    return await Campaigns(_Journal(campaigns), client_of(gateway)).run(campaign, options)


@asynccontextmanager
async def campaign_with_test(store: str, *sizes: int, testers=(STRANGER,)):
    """A running campaign whose test is planned."""
    async with opened(store) as (journal, campaigns):
        campaign = await planned(campaigns, *sizes)
        await campaigns.start(campaign)
        assert await campaigns.plan_test(campaign, testers) == len(testers)
        yield journal, campaigns, campaign


async def test_the_test_is_sent_before_everything_else(store: str) -> None:
    """A tester who is in no batch gets the campaign's first text, once; the rest is sent when that is accepted."""
    gateway = SimulatedGateway()
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, 3, 3)
        counts = await run(campaigns, gateway, campaign, STRANGER, pause_after_test=True)
        assert (counts.state, counts.planned, counts.accepted) == (CampaignState.PAUSED, 6, 1)
        assert counts.reason == "the test batch was sent (mid 6398619: 1 accepted): look at it, then resume"
        assert [send.numbers for send in gateway.sends] == [(STRANGER,)]
        counts = await run(campaigns, gateway, campaign, STRANGER, pause_after_test=True)
        assert (counts.state, counts.accepted) == (CampaignState.DONE, 7)
        assert set(gateway.taken.values()) == {1}


async def test_a_tester_of_the_campaign_gets_the_own_text_and_is_left_out_of_the_rest(store: str) -> None:
    """In a campaign with a text each, a number of it is tested with its own text, and gets it once."""
    gateway = SimulatedGateway()
    async with opened(store) as (_, campaigns):
        campaign = await campaigns.create()
        texts = {number: Message(f"【测试】您好{number[-2:]}") for number in NUMBERS[:3]}
        await campaigns.add(campaign, [PlannedBatch(text, [number], segments=1) for number, text in texts.items()])
        await campaigns.finish(campaign)
        counts = await run(campaigns, gateway, campaign, NUMBERS[2], STRANGER)
        assert (counts.state, counts.accepted) == (CampaignState.DONE, 4)
        sent = {number: send.text for send in gateway.sends for number in send.numbers}
        assert sent == {number: text.text for number, text in texts.items()} | {STRANGER: texts[NUMBERS[0]].text}
        assert {send.numbers for send in gateway.sends[:2]} == {(NUMBERS[2],), (STRANGER,)}
        found = await campaigns.get(campaign)
        assert (found.numbers, found.batches, found.credits) == (4, 4, 4)


async def test_a_tester_in_another_form_is_the_same_phone(store: str) -> None:
    """A batch may have a number with its country code; its tester is taken out of it, and gets that form."""
    async with opened(store) as (_, campaigns):
        campaign = await campaigns.create()
        message = Message("【测试】您好")
        await campaigns.add(campaign, [PlannedBatch(message, ["8613800130001", NUMBERS[2]], segments=1)])
        await campaigns.finish(campaign)
        await campaigns.start(campaign)
        assert await campaigns.plan_test(campaign, ["13800130001"]) == 1
        assert (await claimed(campaigns, campaign)).numbers == ("8613800130001",)


async def test_its_credits_and_numbers_count(store: str) -> None:
    """The plan, the cost ahead, the counts and the numbers of the campaign include the test."""
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, 3, segments=2)
        await campaigns.start(campaign)
        await campaigns.plan_test(campaign, [STRANGER, NUMBERS[0]])
        found = await campaigns.get(campaign)
        assert (found.numbers, found.batches, found.credits) == (4, 2, 8)
        assert await campaigns.cost_ahead(campaign, 1) == 8
        assert (await campaigns.counts(campaign)).planned == 4
        assert await states(campaigns, campaign) == dict.fromkeys([*NUMBERS[:3], STRANGER], NumberState.PLANNED)
        assert [batch.test for batch in await campaigns.batches(campaign)] == [False, True]
        assert [event.what for event in await campaigns.events(campaign)][-1] == "test-planned"


async def test_nothing_else_is_claimed_meanwhile(store: str) -> None:
    """While the test is planned or being sent no other batch is."""
    async with campaign_with_test(store, 2, 2) as (_, campaigns, campaign):
        claim = await claimed(campaigns, campaign)
        assert claim.numbers == (STRANGER,)
        assert await campaigns.claim(campaign, token="t2", lease=60.0) is None
        await campaigns.settle(claim, accepted(claim))
        assert (await claimed(campaigns, campaign, "t3")).numbers == NUMBERS[:2]


async def test_an_opted_out_tester_gets_nothing(store: str) -> None:
    """The suppression list holds for the test; without anybody left the campaign is paused, and nothing is sent."""
    async with campaign_with_test(store, 2) as (journal, campaigns, campaign):
        await journal.suppress([STRANGER])
        assert await campaigns.claim(campaign, token="t1", lease=60.0) is None
        found = await campaigns.get(campaign)
        assert found.state is CampaignState.PAUSED
        assert "suppression list" in found.reason
        assert await all_batches(campaigns, campaign) == [BatchState.PLANNED, BatchState.FAILED]


async def test_a_refused_test_pauses_and_the_next_run_makes_a_new_one(store: str) -> None:
    """A test that provably was not taken is tried again by the next run, and nothing is sent before it."""
    gateway = SimulatedGateway()
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, 3)
        gateway.fail_next("fail-999")
        counts = await run(campaigns, gateway, campaign, STRANGER, NUMBERS[0])
        assert (counts.state, counts.planned, counts.failed) == (CampaignState.PAUSED, 2, 2)
        assert counts.reason.startswith("the test batch was not accepted")
        counts = await run(campaigns, gateway, campaign, STRANGER, NUMBERS[0])
        assert (counts.state, counts.accepted, counts.failed) == (CampaignState.DONE, 4, 0)
        assert set(gateway.taken.values()) == {1}
        assert await states(campaigns, campaign) == dict.fromkeys([*NUMBERS[:3], STRANGER], NumberState.ACCEPTED)
        assert (await campaigns.get(campaign)).numbers == 4


async def test_one_text_of_a_test_is_refused(store: str) -> None:
    """With a text each a test has several batches; one that was refused is planned again, whatever became of others."""
    async with opened(store) as (_, campaigns):
        campaign = await campaigns.create()
        texts = [Message(f"【测试】您好{number}") for number in NUMBERS[:3]]
        batches = [PlannedBatch(text, [number]) for text, number in zip(texts, NUMBERS, strict=False)]
        await campaigns.add(campaign, batches)
        await campaigns.finish(campaign)
        testers = NUMBERS[:2]
        await campaigns.start(campaign)
        assert await campaigns.plan_test(campaign, testers) == 2
        claim = await claimed(campaigns, campaign)
        await campaigns.settle(claim, failed(claim))
        await campaigns.start(campaign)
        assert await campaigns.plan_test(campaign, [*testers, STRANGER]) == 1
        assert await campaigns.plan_test(campaign, testers) == 0
        second, again = [await claimed(campaigns, campaign, token) for token in ("t2", "t3")]
        assert [second.numbers, again.numbers] == [(NUMBERS[1],), claim.numbers]
        await campaigns.settle(second, accepted(second))
        await campaigns.settle(again, failed(again))
        await campaigns.start(campaign)
        assert await campaigns.plan_test(campaign, testers) == 1
        assert (await claimed(campaigns, campaign, "t4")).numbers == claim.numbers


async def test_a_number_that_was_refused_alone_is_not_tested_again(store: str) -> None:
    """If others of the same batch of a test were accepted, that batch is not planned again."""
    async with opened(store) as (_, campaigns):
        campaign = await campaigns.create()
        batches = [
            PlannedBatch(Message("【测试】您好"), NUMBERS[:2]),
            PlannedBatch(Message("【测试】再见"), NUMBERS[2:4]),
        ]
        await campaigns.add(campaign, batches)
        await campaigns.finish(campaign)
        testers = NUMBERS[:3]
        await campaigns.start(campaign)
        assert await campaigns.plan_test(campaign, testers) == 3
        first, second = [await claimed(campaigns, campaign, token) for token in ("t1", "t2")]
        one, other = first.numbers
        partly = BatchResult(0, first.numbers, acceptances=(Acceptance("77", (one,)),), failed=(other,))
        await campaigns.settle(first, partly)
        assert await campaigns.plan_test(campaign, testers) == 0
        await campaigns.settle(second, failed(second))
        assert await campaigns.plan_test(campaign, testers) == 1
        await campaigns.start(campaign)
        assert (await claimed(campaigns, campaign, "t3")).numbers == second.numbers


async def test_an_unknown_test_pauses_and_is_not_sent_again(store: str) -> None:
    """Somebody has to look at the phone; the next run goes on without another test."""
    gateway = SimulatedGateway()
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, 3)
        gateway.fail_next("take-then-502")
        counts = await run(campaigns, gateway, campaign, STRANGER)
        assert (counts.state, counts.unknown) == (CampaignState.PAUSED, 1)
        assert counts.reason.startswith("the test batch may have been sent")
        counts = await run(campaigns, gateway, campaign, STRANGER)
        assert (counts.accepted, counts.unknown) == (3, 1)
        assert gateway.taken[STRANGER] == 1


async def test_a_test_whose_process_died_pauses_when_its_lease_is_over(store: str) -> None:
    """It is unknown, the campaign is paused in the same transaction, and its late answer still counts."""
    async with campaign_with_test(store, 2) as (_, campaigns, campaign):
        claim = await claimed(campaigns, campaign, lease=-1.0)
        assert await campaigns.expire_leases(campaign) == 1
        found = await campaigns.get(campaign)
        assert found.state is CampaignState.PAUSED
        assert "may have been sent" in found.reason
        assert await campaigns.settle(claim, accepted(claim))
        assert (await campaigns.counts(campaign)).accepted == 1


async def test_a_test_that_never_left_pauses(store: str) -> None:
    """After its last attempt that did not get through it has failed, and the campaign is paused."""
    async with campaign_with_test(store, 2) as (_, campaigns, campaign):
        claim = await claimed(campaigns, campaign)
        assert await campaigns.release(claim, failed(claim).error, attempts=1)
        found = await campaigns.get(campaign)
        assert found.state is CampaignState.PAUSED
        assert found.reason.startswith("the test batch was not sent")


async def test_its_mid_proves_nothing_for_the_others(store: str) -> None:
    """The reports on a test are the test's: they bind no batch whose answer was lost."""
    async with campaign_with_test(store, 5, testers=NUMBERS[50:55]) as (journal, campaigns, campaign):
        test = await claimed(campaigns, campaign)
        await campaigns.settle(test, accepted(test, "m1"))
        claim = await claimed(campaigns, campaign, "t2")
        await campaigns.settle(claim, unknown(claim))
        await reported(journal, "m1", claim.numbers)
        await campaigns.reconcile(campaign)
        assert await all_batches(campaigns, campaign) == [BatchState.UNKNOWN, BatchState.ACCEPTED]


async def test_two_runs_at_once_test_once(store: str) -> None:
    """Whoever comes second finds the test, waits for its outcome, and nobody gets a text twice."""
    gateway = SlowGateway()
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, 3, 3)
        async with anyio.create_task_group() as runs:
            for _ in range(2):
                runs.start_soon(run, campaigns, gateway, campaign, STRANGER)
            await gateway.asked.wait()
            assert sum(state is BatchState.SENDING for state in await all_batches(campaigns, campaign)) == 1
            gateway.answer.set()
        assert (await campaigns.counts(campaign)).accepted == 7
        assert set(gateway.taken.values()) == {1}
        assert gateway.sends[0].numbers == (STRANGER,)


async def test_whoever_has_the_text_is_not_tested(store: str) -> None:
    """A number that was sent to, or may have been, gets no second text as a tester, nor one that is sent again."""
    gateway = SimulatedGateway()
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, 1, 1, 1, 1)
        await campaigns.start(campaign)
        for place, outcome in enumerate((accepted, unknown, failed)):
            claim = await claimed(campaigns, campaign, f"t{place}")
            await campaigns.settle(claim, outcome(claim))
        await campaigns.pause(campaign, "look")
        preview = await campaigns.preview_resend(campaign, BatchState.UNKNOWN)
        await campaigns.resend(campaign, BatchState.UNKNOWN, expected=preview, actor="ann")
        assert await campaigns.plan_test(campaign, NUMBERS[:3]) == 0
        assert await campaigns.plan_test(campaign, NUMBERS[:4]) == 1
        await run(campaigns, gateway, campaign)
        assert gateway.sends[0].numbers == (NUMBERS[3],)


async def test_a_number_whose_batch_is_sent_again_without_it(store: str) -> None:
    """Who opted out before a batch was sent stays in it when the others are sent again, and is not tested."""
    async with opened(store) as (journal, campaigns):
        campaign = await running(campaigns, 2, 2)
        await journal.suppress([NUMBERS[0]])
        claim = await claimed(campaigns, campaign)
        await campaigns.settle(claim, unknown(claim))
        preview = await campaigns.preview_resend(campaign, BatchState.UNKNOWN)
        await campaigns.resend(campaign, BatchState.UNKNOWN, expected=preview, actor="ann")
        await journal.unsuppress([NUMBERS[0]])
        assert await campaigns.plan_test(campaign, NUMBERS[:2]) == 0
        others = dict.fromkeys(NUMBERS[1:4], NumberState.PLANNED)
        assert await states(campaigns, campaign) == {NUMBERS[0]: NumberState.SUPPRESSED, **others}


async def test_a_test_number_that_is_none(store: str) -> None:
    """A test number with a typing mistake is an error before anything is changed or sent."""
    gateway = SimulatedGateway()
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, 3)
        with pytest.raises(InvalidNumberError, match="10 digits"):
            await run(campaigns, gateway, campaign, "1390000001")
        assert gateway.sends == ()
        assert (await campaigns.get(campaign)).state is CampaignState.PLANNED


async def test_no_test_where_nothing_is_left(store: str) -> None:
    """A campaign that has nothing to send needs no test."""
    gateway = SimulatedGateway()
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, 3)
        await Campaigns(_Journal(campaigns), client_of(gateway)).run(campaign, QUICK)
        counts = await run(campaigns, gateway, campaign, STRANGER, pause_after_test=True)
        assert (counts.state, len(gateway.sends)) == (CampaignState.DONE, 1)
