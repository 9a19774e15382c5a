"""Campaigns in the journal: plans, states, claims, outcomes."""

from __future__ import annotations

import pytest
from support.steps import (
    HELLO,
    NUMBERS,
    accepted,
    all_batches,
    claimed,
    expired_and_ordered_again,
    failed,
    opened,
    order_again,
    ordered_again,
    planned,
    reported,
    running,
    set_clock,
    states,
    unknown,
)

from qxt_async.errors import (
    CampaignNotFoundError,
    CampaignStateError,
    ConfirmationRequiredError,
    ConnectionBrokenError,
    NotSentError,
    PartialAnswerError,
)
from qxt_async.journal.records import (
    BatchState,
    CampaignState,
    Claim,
    ExcludedNumber,
    ExclusionReason,
    NumberState,
    PlannedBatch,
    ResendQuote,
)
from qxt_async.journal.states import NOT_SENT_AFTER_ALL
from qxt_async.models import Acceptance, BatchResult, Message

pytestmark = pytest.mark.anyio

# --- planning ----------------------------------------------------------------------------------------------------


async def test_plan(store: str) -> None:
    """A finished plan has its counts, its messages stored once, and what it left out with file and line."""
    async with opened(store) as (_, campaigns):
        campaign = await campaigns.create(name="autumn", sources=["a.csv", "b.csv"])
        other = Message("【测试】再见", extno="12", addseqno=True)
        await campaigns.add(campaign, [PlannedBatch(HELLO, NUMBERS[:3]), PlannedBatch(other, NUMBERS[3:5], segments=2)])
        out = [
            ExcludedNumber("12", reason=ExclusionReason.INVALID, detail="too short", source="a.csv", line=7),
            ExcludedNumber(NUMBERS[0], reason=ExclusionReason.DUPLICATE, source="b.csv", line=1),
            ExcludedNumber(NUMBERS[9], reason=ExclusionReason.SUPPRESSED),
        ]
        await campaigns.add(campaign, [PlannedBatch(HELLO, NUMBERS[5:6])], out)
        found = await campaigns.finish(campaign, balance=1000, warnings=["no signature"])
        assert (found.numbers, found.batches, found.credits) == (6, 3, 8)
        assert (found.invalid, found.duplicates, found.suppressed) == (1, 1, 1)
        assert (found.balance, found.sources, found.warnings) == (1000, ("a.csv", "b.csv"), ("no signature",))
        assert (found.name, found.state) == ("autumn", CampaignState.PLANNED)
        assert await campaigns.all() == [found] == [await campaigns.get(campaign)]
        messages = await campaigns.messages(campaign)
        assert [(each.message, each.numbers, each.batches, each.segments) for each in messages] == [
            (HELLO, 4, 2, 1),
            (other, 2, 1, 2),
        ]
        assert [entry.value for entry in await campaigns.left_out(campaign)] == out
        (invalid,) = await campaigns.left_out(campaign, reason=ExclusionReason.INVALID)
        assert await campaigns.left_out(campaign, after=invalid.cursor, limit=1) != []
        assert await states(campaigns, campaign) == dict.fromkeys(NUMBERS[:6], NumberState.PLANNED)
        assert [event.what for event in await campaigns.events(campaign)] == ["planned"]
        counts = await campaigns.counts(campaign)
        assert (counts.planned, counts.numbers, counts.credits) == (6, 6, 0)


async def test_unfinished_plan(store: str) -> None:
    """A plan that is not finished cannot be run, resumed or cancelled; a later plan clears it away when it is old."""
    async with opened(store) as (_, campaigns):
        broken_off = await campaigns.create()
        await campaigns.add(broken_off, [PlannedBatch(HELLO, NUMBERS[:3])])
        for order in (campaigns.start, campaigns.resume, campaigns.cancel):
            with pytest.raises(CampaignStateError, match="planning"):
                await order(broken_off)
        assert await campaigns.claim(broken_off, token="t", lease=1) is None
        fresh = await campaigns.create()
        assert [campaign.id for campaign in await campaigns.all()] == [fresh, broken_off]
        set_clock(campaigns, hours=2)
        later = await campaigns.create()
        assert [campaign.id for campaign in await campaigns.all()] == [later]
        with pytest.raises(CampaignNotFoundError):
            await campaigns.add(broken_off, [])


async def test_finished_plan_is_closed(store: str) -> None:
    """Nothing is added to a finished plan; one that was not begun can be deleted with all that belongs to it."""
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, 3)
        with pytest.raises(CampaignStateError, match="planned"):
            await campaigns.add(campaign, [PlannedBatch(HELLO, NUMBERS[3:6])])
        with pytest.raises(CampaignStateError, match="planned"):
            await campaigns.finish(campaign)
        begun = await running(campaigns, 3)
        with pytest.raises(CampaignStateError, match="running"):
            await campaigns.discard(begun)
        await campaigns.discard(campaign)
        with pytest.raises(CampaignNotFoundError):
            await campaigns.get(campaign)
        assert await campaigns.batches(campaign) == []


async def test_unknown_campaign(store: str) -> None:
    """Every operation says that there is no such campaign."""
    async with opened(store) as (_, campaigns):
        with pytest.raises(CampaignNotFoundError, match="no campaign 5"):
            await campaigns.counts(5)
        for operation in (campaigns.pending_work, campaigns.start, campaigns.complete, campaigns.numbers):
            with pytest.raises(CampaignNotFoundError):
                await operation(5)


# --- orders ------------------------------------------------------------------------------------------------------


async def test_orders(store: str) -> None:
    """A campaign is started, paused, resumed, cancelled and taken back; each order is on record with who gave it."""
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, 3)
        assert not await campaigns.pause(campaign, "not yet")
        with pytest.raises(CampaignStateError, match="planned"):
            await campaigns.resume(campaign)
        await campaigns.start(campaign, actor="ann")
        await campaigns.start(campaign)
        await campaigns.resume(campaign)
        assert await campaigns.pause(campaign, "lunch", actor="bob")
        found = await campaigns.get(campaign)
        assert (found.state, found.reason) == (CampaignState.PAUSED, "lunch")
        assert await campaigns.claim(campaign, token="t", lease=1) is None
        await campaigns.resume(campaign, actor="ann")
        await campaigns.cancel(campaign, "wrong text", actor="ann")
        await campaigns.cancel(campaign)
        with pytest.raises(CampaignStateError, match="resume it first"):
            await campaigns.start(campaign)
        assert set((await states(campaigns, campaign)).values()) == {NumberState.CANCELLED}
        await campaigns.resume(campaign)
        assert set((await states(campaigns, campaign)).values()) == {NumberState.PLANNED}
        events = await campaigns.events(campaign)
        assert {event.count for event in events[1:]} == {0}  # they change the state, and concern no single numbers
        done = [(event.what, event.actor, event.detail) for event in events]
        assert done == [
            ("planned", "", "3 credits"),
            ("running", "ann", ""),
            ("paused", "bob", "lunch"),
            ("running", "ann", ""),
            ("cancelled", "ann", "wrong text"),
            ("running", "", ""),
        ]


async def test_done(store: str) -> None:
    """A campaign is done when nothing is planned or being sent; then there is nothing to cancel."""
    async with opened(store) as (_, campaigns):
        campaign = await running(campaigns, 3)
        assert not await campaigns.complete(campaign)
        claim = await claimed(campaigns, campaign)
        assert not await campaigns.complete(campaign)
        await campaigns.settle(claim, accepted(claim))
        assert await campaigns.complete(campaign)
        assert await campaigns.complete(campaign)
        with pytest.raises(CampaignStateError, match="nothing to cancel"):
            await campaigns.cancel(campaign)
        assert await campaigns.start(campaign)


# --- claims and outcomes -----------------------------------------------------------------------------------------


async def test_claims(store: str) -> None:
    """Batches are claimed in their order, each once; what is being sent counts as unknown in an export."""
    async with opened(store) as (_, campaigns):
        campaign = await running(campaigns, 3, 2)
        first = await claimed(campaigns, campaign, "t1")
        second = await claimed(campaigns, campaign, "t2")
        assert (first.numbers, second.numbers) == (NUMBERS[:3], NUMBERS[3:5])
        assert first.message == HELLO
        assert await campaigns.claim(campaign, token="t3", lease=1) is None
        assert set((await states(campaigns, campaign)).values()) == {NumberState.UNKNOWN}
        pending_work = await campaigns.pending_work(campaign)
        assert (pending_work.planned, pending_work.sending) == (False, True)
        assert await campaigns.cost_ahead(campaign, 10) == 5
        assert (await campaigns.counts(campaign)).sending == 5


async def test_two_journals_on_one_file(store: str) -> None:
    """Of two that claim, each gets batches of its own."""
    async with opened(store) as (_, one), opened(store) as (_, other):
        campaign = await running(one, *[1] * 20)
        got = []
        for index in range(10):
            got += [await claimed(one, campaign, f"a{index}"), await claimed(other, campaign, f"b{index}")]
        assert sorted(claim.numbers for claim in got) == [(number,) for number in NUMBERS[:20]]


async def test_mixed_outcome(store: str) -> None:
    """A batch that met several fates is accepted; the numbers that were not, and other mids, have rows of their own."""
    async with opened(store) as (_, campaigns):
        campaign = await running(campaigns, 6)
        claim = await claimed(campaigns, campaign)
        a, b, c, d, e, f = claim.numbers
        result = BatchResult(
            0, claim.numbers, acceptances=(Acceptance("1", (a, b)), Acceptance("2", (c,))), failed=(d,), unknown=(e, f),
            error=PartialAnswerError(2),
        )  # fmt: skip
        assert await campaigns.settle(claim, result)
        (batch,) = await campaigns.batches(campaign, state=BatchState.ACCEPTED)
        assert (batch.mid, batch.accepted, batch.failed, batch.unknown) == ("1", 3, 1, 2)
        assert batch.error == "PartialAnswerError"
        records, _ = await campaigns.numbers(campaign)
        assert [(record.number, record.state, record.mid) for record in records] == [
            (a, "accepted", "1"), (b, "accepted", "1"), (c, "accepted", "2"),
            (d, "failed", None), (e, "unknown", None), (f, "unknown", None),
        ]  # fmt: skip
        counts = await campaigns.counts(campaign)
        assert (counts.accepted, counts.failed, counts.unknown, counts.credits) == (3, 1, 2, 3)


async def test_failed_and_unknown(store: str) -> None:
    """Without anything accepted a batch is unknown if any number may have arrived, else failed."""
    async with opened(store) as (_, campaigns):
        campaign = await running(campaigns, 2, 2)
        first = await claimed(campaigns, campaign, "t1")
        second = await claimed(campaigns, campaign, "t2")
        half = BatchResult(
            0, first.numbers, failed=first.numbers[:1], unknown=first.numbers[1:], error=PartialAnswerError(1)
        )
        await campaigns.settle(first, half)
        await campaigns.settle(second, failed(second))
        assert await all_batches(campaigns, campaign) == [BatchState.UNKNOWN, BatchState.FAILED]
        assert list((await states(campaigns, campaign)).values()) == ["failed", "unknown", "failed", "failed"]


async def test_outcome_is_written_once(store: str) -> None:
    """An outcome may be written again, changes nothing then, and is refused without the attempt's token."""
    async with opened(store) as (_, campaigns):
        campaign = await running(campaigns, 2)
        claim = await claimed(campaigns, campaign)
        foreign = Claim(
            batch=claim.batch, campaign=campaign, token="x", unsent=0, since=0.0, message=HELLO, numbers=claim.numbers
        )
        assert not await campaigns.settle(foreign, accepted(foreign))
        assert not await campaigns.release(foreign, None)
        assert await campaigns.settle(claim, unknown(claim))
        assert not await campaigns.settle(claim, unknown(claim))
        assert await all_batches(campaigns, campaign) == [BatchState.UNKNOWN]


async def test_lease(store: str) -> None:
    """A lease that ran out makes a batch unknown, never planned; the late answer with its token heals it."""
    async with opened(store) as (_, campaigns):
        campaign = await running(campaigns, 2, 2)
        claim = await claimed(campaigns, campaign, "t1", lease=-1.0)
        alive = await claimed(campaigns, campaign, "t2", lease=-1.0)
        assert await campaigns.expire_leases(campaign, alive=["t2"]) == 1
        assert await all_batches(campaigns, campaign) == [BatchState.UNKNOWN, BatchState.SENDING]
        assert (await campaigns.batches(campaign))[0].error == "LeaseExpired"
        assert await campaigns.claim(campaign, token="t3", lease=1) is None
        assert await campaigns.settle(claim, accepted(claim))
        assert await campaigns.settle(alive, failed(alive))
        assert await campaigns.expire_leases(campaign) == 0
        assert await all_batches(campaigns, campaign) == [BatchState.ACCEPTED, BatchState.FAILED]


async def test_late_word_that_nothing_was_sent(store: str) -> None:
    """A thawed attempt that did not send makes its batch planned again."""
    async with opened(store) as (_, campaigns):
        campaign = await running(campaigns, 2)
        claim = await claimed(campaigns, campaign, lease=-1.0)
        await campaigns.expire_leases(campaign)
        assert await campaigns.release(claim, None)
        assert (await campaigns.counts(campaign)).planned == 2
        assert (await claimed(campaigns, campaign, "t2")).unsent == 0


async def test_late_word_that_nothing_was_sent_when_all_is_done(store: str) -> None:
    """Then the campaign is not done, but paused, and says why; it can be run."""
    async with opened(store) as (_, campaigns):
        campaign = await running(campaigns, 2)
        claim = await claimed(campaigns, campaign, lease=-1.0)
        await campaigns.expire_leases(campaign)
        assert await campaigns.complete(campaign)
        assert await campaigns.release(claim, None)
        found = await campaigns.get(campaign)
        assert (found.state, found.reason) == (CampaignState.PAUSED, NOT_SENT_AFTER_ALL)
        event = (await campaigns.events(campaign))[-1]
        assert (event.what, event.detail) == ("paused", NOT_SENT_AFTER_ALL)
        await campaigns.start(campaign)
        await claimed(campaigns, campaign, "t2")
        assert await campaigns.release(claim, None) is False


async def test_clock_that_jumps(store: str) -> None:
    """A clock set back delays neither a lease nor a back-off by the step; one set forward sends nothing twice."""
    async with opened(store) as (_, campaigns):
        campaign = await running(campaigns, 2, 2)
        set_clock(campaigns, hours=1)
        sent = await claimed(campaigns, campaign, "t1", lease=60)
        backed_off = await claimed(campaigns, campaign, "t2")
        await campaigns.release(backed_off, NotSentError("refused"), delay=30, attempts=9)
        assert await campaigns.claim(campaign, token="t3", lease=1) is None
        set_clock(campaigns, hours=0)
        again = await claimed(campaigns, campaign, "t4")
        assert again.numbers == backed_off.numbers
        assert again.unsent == 1
        assert await campaigns.expire_leases(campaign, alive=["t4"]) == 1
        set_clock(campaigns, hours=2)
        assert await campaigns.expire_leases(campaign) == 1
        assert await campaigns.claim(campaign, token="t5", lease=1) is None
        assert await campaigns.settle(sent, accepted(sent, "1"))
        assert await campaigns.settle(again, accepted(again, "2"))
        assert (await campaigns.counts(campaign)).accepted == 4


async def test_never_sent(store: str) -> None:
    """A batch that provably was not sent waits for its back-off, and has failed after so many attempts."""
    async with opened(store) as (_, campaigns):
        campaign = await running(campaigns, 2)
        for attempt in range(2):
            claim = await claimed(campaigns, campaign, f"t{attempt}")
            assert claim.unsent == attempt
            assert await campaigns.release(claim, NotSentError("refused"), attempts=3)
        last = await claimed(campaigns, campaign, "t9")
        assert await campaigns.release(last, NotSentError("refused"), attempts=3)
        (batch,) = await campaigns.batches(campaign)
        assert (batch.state, batch.failed, batch.error, batch.attempts) == ("failed", 2, "NotSentError", 3)
        assert "refused" in batch.detail


async def test_disclaim(store: str) -> None:
    """A claim whose commit was in doubt is planned again by its token, if it happened."""
    async with opened(store) as (_, campaigns):
        campaign = await running(campaigns, 2)
        await claimed(campaigns, campaign, "t1")
        assert not await campaigns.undo_claim(campaign, "t2")
        assert await campaigns.undo_claim(campaign, "t1")
        assert (await campaigns.counts(campaign)).planned == 2


async def test_opted_out_in_another_form(store: str) -> None:
    """Who opted out since the plan is left out, whatever form the batch has the number in."""
    async with opened(store) as (journal, campaigns):
        campaign = await planned(campaigns, 3, numbers=[f"86{number}" for number in NUMBERS[:3]])
        await campaigns.start(campaign)
        await journal.suppress(NUMBERS[:1])
        claim = await claimed(campaigns, campaign)
        assert (claim.numbers, claim.suppressed) == ((f"86{NUMBERS[1]}", f"86{NUMBERS[2]}"), (f"86{NUMBERS[0]}",))


async def test_opted_out_since_the_plan(store: str) -> None:
    """Who opts out between the plan and the sending gets nothing, and the export says so."""
    async with opened(store) as (journal, campaigns):
        campaign = await running(campaigns, 2, 3)
        await journal.suppress(NUMBERS[:3])
        claim = await claimed(campaigns, campaign)
        assert (claim.numbers, claim.suppressed) == (NUMBERS[3:5], NUMBERS[2:3])
        assert (await campaigns.counts(campaign)).suppressed == 3
        await campaigns.release(claim, None)
        await journal.unsuppress(NUMBERS[2:3])
        claim = await claimed(campaigns, campaign, "t2")
        assert claim.numbers == NUMBERS[2:5]
        await campaigns.settle(claim, accepted(claim))
        found = await states(campaigns, campaign)
        assert [found[number] for number in NUMBERS[:5]] == ["suppressed"] * 2 + ["accepted"] * 3
        counts = await campaigns.counts(campaign)
        assert (counts.suppressed, counts.accepted, counts.numbers) == (2, 3, 5)


async def test_deliveries(store: str) -> None:
    """Status reports are counted and exported by (mid, mobile), those for a second mid of a batch too."""
    async with opened(store) as (journal, campaigns):
        campaign = await running(campaigns, 4)
        claim = await claimed(campaigns, campaign)
        a, b, c, d = claim.numbers
        await campaigns.settle(
            claim, BatchResult(0, claim.numbers, acceptances=(Acceptance("1", (a, b)), Acceptance("2", (c, d))))
        )
        await reported(journal, "1", [a])
        await reported(journal, "2", [c], "REJECT")
        await reported(journal, "2", [d], "MK:0001")
        await reported(journal, "3", [b])
        found = await campaigns.deliveries(campaign)
        assert (found.delivered, found.rejected, found.failed, found.unknown) == (1, 1, 1, 0)
        records, _ = await campaigns.numbers(campaign)
        assert [(record.report, record.report_state) for record in records] == [
            ("DELIVRD", "delivered"), (None, None), ("REJECT", "rejected"), ("MK:0001", "failed"),
        ]  # fmt: skip
        assert records[0].reported_at is not None


async def test_record(store: str) -> None:
    """Events can be added by whoever does something to a campaign."""
    async with opened(store) as (_, campaigns):
        campaign = await planned(campaigns, 1)
        await campaigns.log_event(campaign, "looked-at", actor="ann", detail="fine", count=1)
        (_, event) = await campaigns.events(campaign)
        assert (event.what, event.actor, event.detail, event.count) == ("looked-at", "ann", "fine", 1)


# --- sending again -----------------------------------------------------------------------------------------------


async def test_resend_unknown(store: str) -> None:
    """Unknown numbers are sent again on order only, in batches linked to the first ones, each counted once."""
    async with opened(store) as (_, campaigns):
        campaign = await running(campaigns, 3, 2)
        first = await claimed(campaigns, campaign, "t1")
        await campaigns.settle(first, unknown(first))
        second = await claimed(campaigns, campaign, "t2")
        await campaigns.settle(second, accepted(second))
        await campaigns.complete(campaign)
        with pytest.raises(ValueError, match="only unknown and failed"):
            await campaigns.preview_resend(campaign, BatchState.ACCEPTED)
        preview = await campaigns.preview_resend(campaign, BatchState.UNKNOWN)
        assert preview == ResendQuote(numbers=3, credits=3)
        with pytest.raises(ConfirmationRequiredError, match="3 numbers"):
            await campaigns.resend(
                campaign, BatchState.UNKNOWN, expected=ResendQuote(numbers=2, credits=2), actor="ann"
            )
        assert await campaigns.resend(campaign, BatchState.UNKNOWN, expected=preview, actor="ann") == preview
        old, _, new = await campaigns.batches(campaign)
        assert (old.state, old.successor, old.superseded, old.unknown) == ("unknown", new.id, 3, 0)
        assert (new.state, new.resend, new.count) == ("planned", True, 3)
        found = await campaigns.get(campaign)
        assert (found.state, found.numbers) == (CampaignState.PAUSED, 5)
        assert (await campaigns.messages(campaign))[0].numbers == 5
        event = next(event for event in await campaigns.events(campaign) if event.what == "resend-unknown")
        assert (event.actor, event.count, event.detail) == ("ann", 3, "3 credits")
        nothing = ResendQuote(numbers=0, credits=0)
        assert await campaigns.resend(campaign, BatchState.UNKNOWN, expected=nothing, actor="ann") == nothing
        await campaigns.start(campaign)
        again = await claimed(campaigns, campaign, "t3")
        await campaigns.settle(again, accepted(again, "88"))
        assert set((await states(campaigns, campaign)).values()) == {NumberState.ACCEPTED}
        assert (await campaigns.counts(campaign)).numbers == 5


async def test_resend_failed(store: str) -> None:
    """Single failed numbers of several batches are sent again together; unknown ones among them are left alone."""
    async with opened(store) as (_, campaigns):
        campaign = await running(campaigns, 3, 3, 2)
        for token in ("t1", "t2"):
            claim = await claimed(campaigns, campaign, token)
            a, b, c = claim.numbers
            await campaigns.settle(
                claim,
                BatchResult(0, (a, b, c), acceptances=(Acceptance(token, (a,)),), failed=(b,), unknown=(c,)),
            )
        claim = await claimed(campaigns, campaign, "t3")
        await campaigns.settle(
            claim, BatchResult(0, claim.numbers, failed=claim.numbers[:1], unknown=claim.numbers[1:])
        )
        preview = await campaigns.preview_resend(campaign, BatchState.FAILED)
        assert preview == ResendQuote(numbers=3, credits=3)
        await campaigns.resend(campaign, BatchState.FAILED, expected=preview, actor="ann")
        assert (await campaigns.pending_work(campaign)).state is CampaignState.RUNNING
        again = await claimed(campaigns, campaign, "t4")
        assert again.numbers == (NUMBERS[1], NUMBERS[4], NUMBERS[6])
        await campaigns.settle(again, failed(again))
        preview = await campaigns.preview_resend(campaign, BatchState.UNKNOWN)
        assert preview.numbers == 3
        await campaigns.resend(campaign, BatchState.UNKNOWN, expected=preview, actor="ann")
        found = list((await states(campaigns, campaign)).values())
        assert sorted(found) == ["accepted"] * 2 + ["failed"] * 3 + ["planned"] * 3
        assert (await campaigns.counts(campaign)).numbers == 8


@pytest.mark.parametrize("state", [CampaignState.PLANNING, CampaignState.CANCELLED])
async def test_resend_is_refused(store: str, state: CampaignState) -> None:
    """What is still planned, or cancelled, is not sent again."""
    async with opened(store) as (_, campaigns):
        campaign = await campaigns.create() if state == "planning" else await planned(campaigns, 2)
        if state == "cancelled":
            await campaigns.cancel(campaign)
        with pytest.raises(CampaignStateError):
            await campaigns.resend(campaign, BatchState.FAILED, expected=ResendQuote(numbers=0, credits=0), actor="ann")


async def test_late_answer_withdraws_a_resend(store: str) -> None:
    """When the first attempt's answer comes before the second is begun, the second is withdrawn."""
    async with opened(store) as (_, campaigns):
        campaign, claim = await expired_and_ordered_again(campaigns)
        half = BatchResult(
            0, claim.numbers, acceptances=(Acceptance("5", claim.numbers[:1]),), failed=claim.numbers[1:]
        )
        assert await campaigns.settle(claim, half)
        assert await all_batches(campaigns, campaign) == [BatchState.ACCEPTED, BatchState.WITHDRAWN]
        assert await campaigns.claim(campaign, token="t2", lease=1) is None
        assert list((await states(campaigns, campaign)).values()) == ["accepted", "failed"]
        assert (await campaigns.counts(campaign)).numbers == 2


async def test_cancelled_before_it_was_sent_again(store: str) -> None:
    """A resend that is cancelled leaves unknown what was unknown: the first attempt may have arrived."""
    async with opened(store) as (journal, campaigns):
        campaign, claim = await expired_and_ordered_again(campaigns)
        assert set((await states(campaigns, campaign)).values()) == {"planned"}
        await campaigns.cancel(campaign)
        assert set((await states(campaigns, campaign)).values()) == {"unknown"}
        assert await all_batches(campaigns, campaign) == [BatchState.UNKNOWN, BatchState.WITHDRAWN]
        counts = await campaigns.counts(campaign)
        assert (counts.numbers, counts.unknown, counts.planned) == (2, 2, 0)
        await campaigns.resume(campaign)
        assert await campaigns.claim(campaign, token="t2", lease=1) is None
        await reported(journal, "77", claim.numbers)
        assert (await campaigns.reconcile(campaign)).numbers == 2


@pytest.mark.parametrize("way", ["put back", "undo_claim"])
async def test_cancelled_while_it_was_to_be_sent_again(store: str, way: str) -> None:
    """The same if its process had it when that happened, and says that nothing was sent."""
    async with opened(store) as (_, campaigns):
        campaign, _ = await expired_and_ordered_again(campaigns)
        second = await claimed(campaigns, campaign, "t2")
        await campaigns.cancel(campaign)
        assert await (campaigns.release(second, None) if way == "put back" else campaigns.undo_claim(campaign, "t2"))
        assert set((await states(campaigns, campaign)).values()) == {"unknown"}
        assert await all_batches(campaigns, campaign) == [BatchState.UNKNOWN, BatchState.WITHDRAWN]


async def test_cancelled_before_a_part_was_sent_again(store: str) -> None:
    """The same for numbers that were only a part of their batches."""
    async with opened(store) as (_, campaigns):
        campaign = await running(campaigns, 3, 3)
        for token in ("t1", "t2"):
            claim = await claimed(campaigns, campaign, token)
            acceptances = (Acceptance(token, claim.numbers[:2]),)
            error = ConnectionBrokenError("reset")
            await campaigns.settle(
                claim, BatchResult(0, claim.numbers, acceptances=acceptances, unknown=claim.numbers[2:], error=error)
            )
        preview = await campaigns.preview_resend(campaign, BatchState.UNKNOWN)
        await campaigns.resend(campaign, BatchState.UNKNOWN, expected=preview, actor="ann")
        await campaigns.cancel(campaign)
        assert list((await states(campaigns, campaign)).values()) == ["accepted"] * 4 + ["unknown"] * 2
        counts = await campaigns.counts(campaign)
        assert (counts.numbers, counts.accepted, counts.unknown, counts.planned) == (6, 4, 2, 0)
        assert (await campaigns.reconcile(campaign)).silent == 1


async def test_late_answer_after_a_resend(store: str) -> None:
    """When the second attempt has begun, its word counts; but that it failed says nothing of the first one."""
    async with opened(store) as (_, campaigns):
        campaign, claim = await expired_and_ordered_again(campaigns)
        again = await claimed(campaigns, campaign, "t2")
        assert await campaigns.settle(claim, accepted(claim, "5"))
        await campaigns.settle(again, failed(again))
        assert set((await states(campaigns, campaign)).values()) == {NumberState.UNKNOWN}
        counts = await campaigns.counts(campaign)
        assert (counts.accepted, counts.failed, counts.unknown, counts.numbers) == (0, 0, 2, 2)


async def test_second_attempt_that_fails_in_part(store: str) -> None:
    """Of those whom the gateway refuses the second time, nobody knows more than before; of the others one does."""
    async with opened(store) as (_, campaigns):
        campaign, _ = await expired_and_ordered_again(campaigns)
        again = await claimed(campaigns, campaign, "t2")
        half = BatchResult(
            0, again.numbers, acceptances=(Acceptance("5", again.numbers[:1]),), failed=again.numbers[1:]
        )
        await campaigns.settle(again, half)
        assert list((await states(campaigns, campaign)).values()) == ["accepted", "unknown"]
        preview = await campaigns.preview_resend(campaign, BatchState.UNKNOWN)
        await campaigns.resend(campaign, BatchState.UNKNOWN, expected=preview, actor="ann")
        third = await claimed(campaigns, campaign, "t3")
        await campaigns.settle(third, failed(third))
        assert list((await states(campaigns, campaign)).values()) == ["accepted", "unknown"]
        assert (await campaigns.counts(campaign)).unknown == 1


async def test_second_attempt_that_never_leaves(store: str) -> None:
    """Given up after its tries: the numbers are as unknown as they were; what had failed before has failed again."""
    async with opened(store) as (_, campaigns):
        campaign, _ = await expired_and_ordered_again(campaigns)
        again = await claimed(campaigns, campaign, "t2")
        assert await campaigns.release(again, NotSentError("no way"), attempts=1)
        assert set((await states(campaigns, campaign)).values()) == {NumberState.UNKNOWN}
        other = await running(campaigns, 2)
        first = await claimed(campaigns, other, "t3")
        await campaigns.settle(first, failed(first))
        preview = await campaigns.preview_resend(other, BatchState.FAILED)
        await campaigns.resend(other, BatchState.FAILED, expected=preview, actor="ann")
        await campaigns.start(other)
        second = await claimed(campaigns, other, "t4")
        await campaigns.settle(second, failed(second))
        assert set((await states(campaigns, other)).values()) == {NumberState.FAILED}


OUTCOMES = {
    "accepted": ["unknown", "accepted", "accepted"],
    "unknown": ["unknown"] * 3,
    "refused": ["unknown"] * 3,
    "given up": ["unknown"] * 3,
    "expired": ["unknown"] * 3,
    "put back": ["planned"] * 3,
}


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("part", [False, True])
async def test_opted_out_before_a_second_attempt(store: str, outcome: str, part: bool) -> None:
    """Who opts out before the second attempt may have got the first one: unknown, and counted once."""
    async with opened(store) as (journal, campaigns):
        campaign = await ordered_again(campaigns, part=part)
        await journal.suppress(NUMBERS[:1])
        second = await claimed(campaigns, campaign, "t2", lease=-1.0)
        assert (second.numbers, second.suppressed) == (NUMBERS[1:3], NUMBERS[:1])
        assert list((await states(campaigns, campaign)).values())[-3:] == ["unknown"] * 3
        if outcome == "given up":
            await campaigns.release(second, NotSentError("no way"), attempts=1)
        elif outcome == "expired":
            await campaigns.expire_leases(campaign)
        elif outcome == "put back":
            await campaigns.release(second, None)
        else:
            result = {"accepted": accepted, "unknown": unknown, "refused": failed}[outcome](second)
            await campaigns.settle(second, result)
        found = await states(campaigns, campaign)
        assert [found[number] for number in NUMBERS[:3]] == OUTCOMES[outcome]
        counts = await campaigns.counts(campaign)
        assert (counts.numbers, counts.suppressed) == (3 + part, 0)
        assert counts.unknown == OUTCOMES[outcome].count("unknown")
        assert (await campaigns.preview_resend(campaign, BatchState.UNKNOWN)).numbers == counts.unknown


@pytest.mark.parametrize("part", [False, True])
async def test_all_opted_out_before_a_second_attempt(store: str, part: bool) -> None:
    """The same if nobody is left; then reports on the first attempt count again."""
    async with opened(store) as (journal, campaigns):
        campaign = await ordered_again(campaigns, part=part)
        await journal.suppress(NUMBERS[:3])
        assert await campaigns.claim(campaign, token="t2", lease=60.0) is None
        counts = await campaigns.counts(campaign)
        assert (counts.numbers, counts.unknown, counts.suppressed) == (3 + part, 3, 0)
        found = await states(campaigns, campaign)
        assert [found[number] for number in NUMBERS[:3]] == ["unknown"] * 3
        if not part:
            await reported(journal, "77", NUMBERS[:3])
            assert (await campaigns.reconcile(campaign)).numbers == 3


async def test_reports_on_a_second_attempt_that_left_some_out(store: str) -> None:
    """They speak for those whom it was sent to; the others stay unknown, and are sent again once, by a third one."""
    async with opened(store) as (journal, campaigns):
        campaign = await ordered_again(campaigns, part=False)
        await journal.suppress(NUMBERS[:1])
        second = await claimed(campaigns, campaign, "t2", lease=-1.0)
        # The first attempt's, all of it: it explains no other mid from now on.
        await reported(journal, "77", NUMBERS[:3])
        assert (await campaigns.reconcile(campaign)).batches == 1
        await campaigns.expire_leases(campaign)
        await order_again(campaigns, campaign)
        assert list((await states(campaigns, campaign)).values()) == ["planned"] * 3
        await reported(journal, "88", second.numbers)
        assert (await campaigns.reconcile(campaign)).numbers == 2
        assert list((await states(campaigns, campaign)).values()) == ["unknown", "accepted", "accepted"]
        assert (await campaigns.counts(campaign)).unknown == 1
        await order_again(campaigns, campaign)
        await campaigns.settle(second, accepted(second, "88"))
        assert sorted((await states(campaigns, campaign)).values()) == ["accepted"] * 2 + ["planned"]
        counts = await campaigns.counts(campaign)
        assert (counts.numbers, counts.accepted, counts.planned) == (3, 2, 1)


async def test_word_that_nothing_was_sent_after_a_resend(store: str) -> None:
    """An attempt that proves unsent after its numbers were ordered again has failed: they are planned once only."""
    async with opened(store) as (_, campaigns):
        campaign, claim = await expired_and_ordered_again(campaigns)
        assert await campaigns.release(claim, NotSentError("too late"))
        assert await all_batches(campaigns, campaign) == [BatchState.FAILED, BatchState.PLANNED]
        counts = await campaigns.counts(campaign)
        assert (counts.planned, counts.failed) == (2, 0)
