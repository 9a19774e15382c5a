"""Claims of other processes, and second attempts at numbers of which nobody knows whether the first one arrived."""

from __future__ import annotations

import attrs
import pytest
from support.steps import (
    NUMBERS,
    accepted,
    all_batches,
    claimed,
    expired_and_ordered_again,
    opened,
    order_again,
    ordered_again,
    reported,
    running,
    set_clock,
    states,
    unknown,
)

from qxt_async.errors import NotSentError, PartialAnswerError
from qxt_async.journal.records import BatchState
from qxt_async.models import BatchResult

pytestmark = pytest.mark.anyio


async def test_fresh_claim_of_another_process_is_not_expired(store: str) -> None:
    """As long as its lease lasts, a batch is left to the process that claimed it, whoever else is known to be alive."""
    async with opened(store) as (_, one), opened(store) as (_, other):
        campaign = await running(one, 2)
        claim = await claimed(one, campaign, lease=60.0)
        assert await other.expire_leases(campaign) == 0
        assert await other.expire_leases(campaign, alive=["somebody else"]) == 0
        assert await all_batches(other, campaign) == [BatchState.SENDING]
        assert (await one.counts(campaign)).sending == 2
        assert await one.settle(claim, accepted(claim))


async def test_claim_whose_lease_is_over_is_expired_whatever_the_leeway(store: str) -> None:
    """A lease that ran out a moment ago has run out: the leeway is for clocks that were set back, not for leases."""
    async with opened(store) as (_, one), opened(store) as (_, other):
        campaign = await running(one, 2)
        set_clock(one, hours=0)
        await claimed(one, campaign, lease=60.0)
        set_clock(other, hours=1)
        assert await other.expire_leases(campaign) == 1
        assert await all_batches(other, campaign) == [BatchState.UNKNOWN]


@pytest.mark.parametrize("attempts", [None, 1])
@pytest.mark.parametrize("token", ["foreign", "stale"])
async def test_second_attempt_is_put_back_by_its_own_token_only(store: str, token: str, attempts: int | None) -> None:
    """With the token of another attempt nothing changes: it is under way, and its outcome counts."""
    async with opened(store) as (_, campaigns):
        campaign, _ = await expired_and_ordered_again(campaigns)
        second = await claimed(campaigns, campaign, "stale")
        assert second.doubtful
        assert await campaigns.release(second, None)
        again = await claimed(campaigns, campaign, "own")
        wrong = attrs.evolve(again, token=token)
        assert not await campaigns.release(wrong, NotSentError("no way"), attempts=attempts)
        first, now = await campaigns.batches(campaign)
        assert (first.state, first.successor, first.superseded) == (BatchState.UNKNOWN, now.id, 2)
        assert (now.state, now.error, now.unknown) == (BatchState.SENDING, "", 0)
        counts = await campaigns.counts(campaign)
        assert (counts.numbers, counts.sending, counts.unknown) == (2, 2, 0)
        assert await campaigns.settle(again, accepted(again))
        assert not await campaigns.release(wrong, NotSentError("no way"), attempts=attempts)
        assert set((await states(campaigns, campaign)).values()) == {"accepted"}
        assert (await campaigns.counts(campaign)).accepted == 2


async def test_second_attempt_that_is_given_up_leaves_the_first_one(store: str) -> None:
    """It is withdrawn: the first one speaks for the numbers again, and a late answer or reports on it count."""
    async with opened(store) as (journal, campaigns):
        campaign, _ = await expired_and_ordered_again(campaigns)
        second = await claimed(campaigns, campaign, "t2")
        assert await campaigns.release(second, NotSentError("no way"), attempts=1)
        first, given_up = await campaigns.batches(campaign)
        assert (first.state, first.successor, first.superseded, first.unknown) == (BatchState.UNKNOWN, None, 0, 2)
        assert (given_up.state, given_up.error) == (BatchState.WITHDRAWN, "NotSentError")
        assert (given_up.unknown, given_up.failed) == (0, 0)
        assert set((await states(campaigns, campaign)).values()) == {"unknown"}
        counts = await campaigns.counts(campaign)
        assert (counts.numbers, counts.unknown, counts.failed) == (2, 2, 0)
        await reported(journal, "77", second.numbers)
        assert (await campaigns.reconcile(campaign)).numbers == 2
        assert set((await states(campaigns, campaign)).values()) == {"accepted"}


async def test_second_attempt_at_a_part_that_is_given_up(store: str) -> None:
    """Where the numbers are a part of their batch, they are unknown and not failed; they can be sent again."""
    async with opened(store) as (_, campaigns):
        campaign = await ordered_again(campaigns, part=True)
        second = await claimed(campaigns, campaign, "t2")
        assert await campaigns.release(second, NotSentError("no way"), attempts=1)
        assert list((await states(campaigns, campaign)).values()) == ["accepted"] + ["unknown"] * 3
        counts = await campaigns.counts(campaign)
        assert (counts.numbers, counts.accepted, counts.unknown, counts.failed) == (4, 1, 3, 0)
        assert (await campaigns.preview_resend(campaign, BatchState.UNKNOWN)).numbers == 3


@pytest.mark.parametrize("attempts", [None, 1])
async def test_second_attempt_that_is_given_up_after_a_third_was_ordered(store: str, attempts: int | None) -> None:
    """Then the third one speaks for the numbers; they are counted and planned once."""
    async with opened(store) as (_, campaigns):
        campaign, _ = await expired_and_ordered_again(campaigns)
        second = await claimed(campaigns, campaign, "t2", lease=-1.0)
        await campaigns.expire_leases(campaign)
        await order_again(campaigns, campaign)
        assert await campaigns.release(second, NotSentError("no way"), attempts=attempts)
        assert await all_batches(campaigns, campaign) == [BatchState.UNKNOWN, BatchState.UNKNOWN, BatchState.PLANNED]
        assert set((await states(campaigns, campaign)).values()) == {"planned"}
        counts = await campaigns.counts(campaign)
        assert (counts.numbers, counts.planned, counts.unknown, counts.failed) == (2, 2, 0, 0)
        assert (await claimed(campaigns, campaign, "t3")).numbers == second.numbers
        assert await campaigns.claim(campaign, token="t4", lease=60.0) is None


@pytest.mark.parametrize("doubtful", [False, True])
async def test_disclaimed_claim_leaves_no_trace(store: str, doubtful: bool) -> None:
    """Who opted out before a claim that is taken back, and opted in again, is sent to and accepted with the others."""
    async with opened(store) as (journal, campaigns):
        campaign = await ordered_again(campaigns, part=False) if doubtful else await running(campaigns, 3)
        await journal.suppress(NUMBERS[:1])
        claim = await claimed(campaigns, campaign, "t2")
        assert (claim.numbers, claim.suppressed) == (NUMBERS[1:3], NUMBERS[:1])
        assert await campaigns.undo_claim(campaign, "t2")
        await journal.unsuppress(NUMBERS[:1])
        assert set((await states(campaigns, campaign)).values()) == {"planned"}
        counts = await campaigns.counts(campaign)
        assert (counts.numbers, counts.planned, counts.suppressed) == (3, 3, 0)
        again = await claimed(campaigns, campaign, "t3")
        assert (again.numbers, again.unsent) == (NUMBERS[:3], 0)
        await campaigns.settle(again, accepted(again))
        assert set((await states(campaigns, campaign)).values()) == {"accepted"}
        assert (await campaigns.counts(campaign)).accepted == 3


async def test_disclaim_takes_back_its_own_claim_only(store: str) -> None:
    """Neither a claim with another token, nor that of another campaign, nor one whose outcome is known."""
    async with opened(store) as (_, campaigns):
        campaign = await running(campaigns, 2, 2)
        other = await running(campaigns, 2)
        first = await claimed(campaigns, campaign, "t1")
        await claimed(campaigns, campaign, "t2")
        assert not await campaigns.undo_claim(other, "t1")
        await campaigns.settle(first, accepted(first))
        assert not await campaigns.undo_claim(campaign, "t1")
        assert await all_batches(campaigns, campaign) == [BatchState.ACCEPTED, BatchState.SENDING]


@pytest.mark.parametrize("refused", [0, 1])
async def test_late_word_that_it_is_unknown_leaves_what_was_ordered(store: str, refused: int) -> None:
    """A thawed attempt that knows nothing, or little, does not withdraw the second one, which sends to all."""
    async with opened(store) as (_, campaigns):
        campaign, claim = await expired_and_ordered_again(campaigns)
        late = BatchResult(
            0, claim.numbers, failed=claim.numbers[:refused], unknown=claim.numbers[refused:],
            error=PartialAnswerError(2 - refused),
        )  # fmt: skip
        assert await campaigns.settle(claim, late if refused else unknown(claim))
        first, second = await campaigns.batches(campaign)
        assert (first.state, first.successor, first.superseded) == (BatchState.UNKNOWN, second.id, 2)
        assert (first.unknown, first.failed, second.state) == (0, 0, BatchState.PLANNED)
        assert set((await states(campaigns, campaign)).values()) == {"planned"}
        counts = await campaigns.counts(campaign)
        assert (counts.numbers, counts.planned, counts.unknown, counts.failed) == (2, 2, 0, 0)
        again = await claimed(campaigns, campaign, "t2")
        assert again.numbers == claim.numbers
        await campaigns.settle(again, accepted(again))
        assert list((await states(campaigns, campaign)).values()) == ["accepted"] * 2
