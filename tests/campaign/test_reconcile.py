"""What status reports prove about unknown batches: the rule, and what the journal makes of it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.steps import (
    NUMBERS,
    accepted,
    all_batches,
    claimed,
    expired_and_ordered_again,
    opened,
    order_again,
    ordered_again,
    planned,
    reported,
    running,
    states,
    unknown,
)

from qxt_async.errors import CampaignNotFoundError, ConnectionBrokenError, PartialAnswerError
from qxt_async.journal import reconciling
from qxt_async.journal.campaigns import CampaignStore
from qxt_async.journal.evidence import UnresolvedBatch, match_reports, needed_reports
from qxt_async.journal.records import BatchState, CampaignState, PlannedBatch, Reconciliation
from qxt_async.models import Acceptance, BatchResult, Message


def unresolved(batch: int, numbers: Sequence[str], *, since: int = 100, being_sent: bool = False) -> UnresolvedBatch:
    """A batch without an outcome."""
    return UnresolvedBatch(batch, not being_sent, since, ",".join(numbers))


def under(mid: str, numbers: Sequence[str], at: int = 200) -> dict[str, dict[str, int]]:
    """Reports on these numbers."""
    return {mid: dict.fromkeys(numbers, at)}


# --- the rule ----------------------------------------------------------------------------------------------------


def test_three_numbers_bind() -> None:
    """Three numbers of a batch under a mid that nobody has are enough; two are not, and are remembered."""
    batch = unresolved(1, NUMBERS[:10])
    assert match_reports([batch], under("m", NUMBERS[:3])).bound == {1: "m"}
    matches = match_reports([batch], under("m", NUMBERS[:2]))
    assert matches.bound == {}
    assert matches.ambiguous == {1}
    assert matches.relevant == {"m"}


def test_report_of_the_moment_an_attempt_began() -> None:
    """A report that was received at the very microsecond an attempt began counts; one from before it does not."""
    batch = unresolved(1, NUMBERS[:3], since=100)
    assert match_reports([batch], under("m", NUMBERS[:3], at=100)).bound == {1: "m"}
    assert match_reports([batch], under("m", NUMBERS[:3], at=99)).bound == {}


def test_small_batch_needs_all() -> None:
    """A batch of two needs both, a batch of one its only number."""
    assert match_reports([unresolved(1, NUMBERS[:2])], under("m", NUMBERS[:1])).bound == {}
    assert match_reports([unresolved(1, NUMBERS[:2])], under("m", NUMBERS[:2])).bound == {1: "m"}
    assert match_reports([unresolved(1, NUMBERS[:1])], under("m", NUMBERS[:1])).bound == {1: "m"}


@pytest.mark.parametrize(
    ("sent", "needed"), [(1, 1), (2, 2), (3, 3), (4, 3), (60, 3), (61, 4), (100, 5), (101, 6), (1000, 50)]
)
def test_three_and_five_in_a_hundred(sent: int, needed: int) -> None:
    """A batch needs reports on three of its numbers, and on five in a hundred, rounded up; a small one on all."""
    numbers = [f"138{place:08d}" for place in range(sent)]
    assert needed_reports(sent) == needed
    assert match_reports([unresolved(1, numbers)], under("m", numbers[:needed])).bound == {1: "m"}
    assert match_reports([unresolved(1, numbers)], under("m", numbers[: needed - 1])).bound == {}


def test_only_what_was_sent_is_counted() -> None:
    """Of a hundred numbers of which half were refused, three are enough; of those that were sent, five in a hundred."""
    refused = UnresolvedBatch(1, bindable=True, since=100, numbers=",".join(NUMBERS), others=",".join(NUMBERS[60:]))
    assert match_reports([refused], under("m", NUMBERS[:3])).bound == {1: "m"}
    assert match_reports([unresolved(1, NUMBERS)], under("m", NUMBERS[:3])).bound == {}


def test_numbers_are_compared_as_phones() -> None:
    """A batch may have been sent to 86138…, and its reports name 138…; one that was refused in that form counts so."""
    batch = UnresolvedBatch(1, bindable=True, since=100, numbers=",".join(f"86{number}" for number in NUMBERS[:5]))
    assert match_reports([batch], under("m", NUMBERS[:3])).bound == {1: "m"}
    assert match_reports([attrs.evolve(batch, others=f"86{NUMBERS[0]}")], under("m", NUMBERS[:3])).bound == {}


def test_foreign_number_speaks_against() -> None:
    """A mid under which another number is reported, or one that was not sent, is that of another send."""
    assert match_reports([unresolved(1, NUMBERS[:10])], under("m", NUMBERS[5:15])).bound == {}
    left_out = UnresolvedBatch(1, bindable=True, since=100, numbers=",".join(NUMBERS[:10]), others=NUMBERS[9])
    assert match_reports([left_out], under("m", NUMBERS[5:9])).bound == {1: "m"}
    assert match_reports([left_out], under("m", NUMBERS[5:10])).bound == {}


def test_reports_before_the_attempt_do_not_count() -> None:
    """A mid that was reported on before the attempt began cannot be its mid."""
    matches = match_reports([unresolved(1, NUMBERS[:10], since=300)], under("m", NUMBERS[:5], at=200))
    assert matches.bound == {}
    assert matches.relevant == set()
    mixed = {"m": {**dict.fromkeys(NUMBERS[:4], 400), NUMBERS[4]: 200}}
    assert match_reports([unresolved(1, NUMBERS[:10], since=300)], mixed).bound == {}


def test_rivals() -> None:
    """Two batches that fit one mid, or two mids that fit one batch, prove nothing; nor does one that is being sent."""
    same = [unresolved(1, NUMBERS[:10]), unresolved(2, NUMBERS[:10])]
    matches = match_reports(same, under("m", NUMBERS[:5]))
    assert (matches.bound, matches.ambiguous) == ({}, {1, 2})
    two = {**under("m", NUMBERS[:5]), **under("n", NUMBERS[5:10])}
    assert match_reports(same[:1], two).bound == {}
    being_sent = [unresolved(1, NUMBERS[:10]), unresolved(2, NUMBERS[:10], being_sent=True)]
    assert match_reports(being_sent, under("m", NUMBERS[:5])).bound == {}
    assert match_reports([unresolved(2, NUMBERS[:10], being_sent=True)], under("m", NUMBERS[:5])).bound == {}


@given(st.data())
def test_nothing_false_is_proven(data: st.DataObject) -> None:
    """Of disjoint batches with mids of their own, whatever part of the reports is there, only true mids are bound."""
    sizes = data.draw(st.lists(st.integers(1, 8), min_size=1, max_size=6))
    batches: list[UnresolvedBatch] = []
    reports: dict[str, dict[str, int]] = {}
    at = 0
    for batch, size in enumerate(sizes):
        numbers = NUMBERS[at : at + size]
        at += size
        batches.append(unresolved(batch, numbers))
        if seen := data.draw(st.sets(st.sampled_from(numbers))):
            reports[f"m{batch}"] = dict.fromkeys(seen, 200)
    matches = match_reports(batches, reports)
    for batch, size in enumerate(sizes):
        enough = len(reports.get(f"m{batch}", {})) >= min(3, size)
        assert matches.bound.get(batch) == (f"m{batch}" if enough else None)


# --- in the journal ----------------------------------------------------------------------------------------------


async def doubtful(campaigns: CampaignStore, *sizes: int, numbers: Sequence[str] = NUMBERS) -> int:
    """A running campaign whose batches are all unknown."""
    campaign = await planned(campaigns, *sizes, numbers=numbers)
    await campaigns.start(campaign)
    for index in range(len(sizes)):
        claim = await claimed(campaigns, campaign, f"t{index}")
        await campaigns.settle(claim, unknown(claim))
    return campaign


@pytest.mark.anyio
async def test_bound_by_reports(store: str) -> None:
    """An unknown batch becomes accepted with its mid, via report; the one without evidence stays unknown."""
    async with opened(store) as (journal, campaigns):
        campaign = await doubtful(campaigns, 5, 5, 5)
        await reported(journal, "m1", NUMBERS[:4])
        await reported(journal, "m2", NUMBERS[5:6])
        done = await campaigns.reconcile(campaign)
        assert done == Reconciliation(batches=1, numbers=5, ambiguous=1, silent=1)
        first, second, third = await campaigns.batches(campaign)
        assert (first.state, first.mid, first.via_report, first.accepted) == ("accepted", "m1", True, 5)
        assert (second.state, third.state) == ("unknown", "unknown")
        records, _ = await campaigns.numbers(campaign)
        assert [record.via_report for record in records] == [True] * 5 + [False] * 10
        assert records[0].report == "DELIVRD"
        assert (await campaigns.deliveries(campaign)).delivered == 4
        assert [event.what for event in await campaigns.events(campaign)][-1] == "reconciled"


async def _orphans(campaigns: CampaignStore) -> list[tuple[str]]:
    """The mids that are remembered."""
    return await campaigns.database.read(lambda transaction: transaction.rows("orphans", after=10**9, until=10**9))


@pytest.mark.anyio
async def test_evidence_that_grows(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports that did not suffice are remembered until more come; what cannot matter is forgotten."""
    monkeypatch.setattr(reconciling, "REPORTS_AT_A_TIME", 2)
    async with opened(store) as (journal, campaigns):
        campaign = await doubtful(campaigns, 5)
        await reported(journal, "other", NUMBERS[50:60])
        await reported(journal, "m1", NUMBERS[:2])
        assert (await campaigns.reconcile(campaign)).ambiguous == 1
        kept = await _orphans(campaigns)
        assert kept == [("m1",)]
        await reported(journal, "m1", NUMBERS[2:3])
        assert (await campaigns.reconcile(campaign)).batches == 1
        assert await campaigns.reconcile(campaign) == Reconciliation()
        assert await _orphans(campaigns) == []


@pytest.mark.anyio
@pytest.mark.parametrize("code", ["DELIVRD", ""])
async def test_report_that_replaced_another_is_no_evidence(store: str, code: str) -> None:
    """Reports under yesterday's mid that come again, with a better code or the same, do not bind today's batch."""
    async with opened(store) as (journal, campaigns):
        await reported(journal, "m1", NUMBERS[:5], code="", at=datetime.now(UTC) - timedelta(days=1))
        campaign = await doubtful(campaigns, 5)
        await reported(journal, "m1", NUMBERS[:5], code=code)
        assert (await campaigns.reconcile(campaign)).batches == 0
        assert await all_batches(campaigns, campaign) == [BatchState.UNKNOWN]


@pytest.mark.anyio
async def test_report_before_the_lease_ran_out(store: str) -> None:
    """Reports that come while a batch is being sent are weighed when it has become unknown."""
    async with opened(store) as (journal, campaigns):
        campaign = await running(campaigns, 5)
        await claimed(campaigns, campaign, lease=-1.0)
        await reported(journal, "m1", NUMBERS[:4])
        assert await campaigns.reconcile(campaign) == Reconciliation()
        await campaigns.expire_leases(campaign)
        assert (await campaigns.reconcile(campaign)).batches == 1
        assert await all_batches(campaigns, campaign) == [BatchState.ACCEPTED]


@pytest.mark.anyio
async def test_answer_is_better_than_reports(store: str) -> None:
    """The late answer replaces what reports have said, unless it does not know either."""
    async with opened(store) as (journal, campaigns):
        campaign = await running(campaigns, 5)
        claim = await claimed(campaigns, campaign, lease=-1.0)
        await campaigns.expire_leases(campaign)
        await reported(journal, "m1", NUMBERS[:4])
        await campaigns.reconcile(campaign)
        assert not await campaigns.settle(claim, unknown(claim))
        assert await campaigns.settle(claim, accepted(claim, "m9"))
        (batch,) = await campaigns.batches(campaign)
        assert (batch.mid, batch.via_report, batch.accepted) == ("m9", False, 5)


@pytest.mark.anyio
async def test_mid_of_another_batch(store: str) -> None:
    """A mid that a batch has proves nothing for another, also when it got it after the reports were read."""
    async with opened(store) as (journal, campaigns):
        campaign = await running(campaigns, 5, 5)
        first = await claimed(campaigns, campaign, "t1")
        second = await claimed(campaigns, campaign, "t2")
        await campaigns.settle(first, accepted(first, "m1"))
        await campaigns.settle(second, unknown(second))
        await reported(journal, "m1", NUMBERS[5:9])
        assert (await campaigns.reconcile(campaign)).silent == 1
        step = reconciling.ReconcileStep(
            cursor=9,
            more=False,
            bound={second.batch: "m1"},
            keep=frozenset(),
            forget=frozenset(),
            ambiguous=0,
            silent=0,
        )
        write_step = functools.partial(reconciling.write_step, campaign=campaign, step=step)
        late = await campaigns.database.write(write_step)
        assert late == (0, 0)


@pytest.mark.anyio
async def test_who_was_not_sent_to_is_not_asked_for(store: str) -> None:
    """Of a batch of three of whom one opted out, reports on the other two are all that can come."""
    async with opened(store) as (journal, campaigns):
        campaign = await running(campaigns, 3)
        await journal.suppress(NUMBERS[:1])
        claim = await claimed(campaigns, campaign)
        await campaigns.settle(claim, unknown(claim))
        await reported(journal, "m1", claim.numbers)
        assert await campaigns.reconcile(campaign) == Reconciliation(batches=1, numbers=2)
        assert list((await states(campaigns, campaign)).values()) == ["suppressed", "accepted", "accepted"]


@pytest.mark.anyio
async def test_who_was_refused_is_not_asked_for(store: str) -> None:
    """The same for numbers that the answer refused."""
    async with opened(store) as (journal, campaigns):
        campaign = await running(campaigns, 3)
        claim = await claimed(campaigns, campaign)
        a, b, c = claim.numbers
        half = BatchResult(0, claim.numbers, failed=(a,), unknown=(b, c), error=PartialAnswerError(2))
        await campaigns.settle(claim, half)
        await reported(journal, "m1", [b, c])
        assert await campaigns.reconcile(campaign) == Reconciliation(batches=1, numbers=2)
        counts = await campaigns.counts(campaign)
        assert (counts.accepted, counts.failed, counts.unknown) == (2, 1, 0)


@pytest.mark.anyio
async def test_other_campaigns(store: str) -> None:
    """What the reports prove for another campaign is written down, and counted where it belongs."""
    async with opened(store) as (journal, campaigns):
        campaign = await doubtful(campaigns, 5)
        idle = await campaigns.create()
        await campaigns.add(idle, [PlannedBatch(Message("【测试】"), NUMBERS[:1])])
        await reported(journal, "m1", NUMBERS[:4])
        assert await campaigns.reconcile(idle) == Reconciliation()
        assert await all_batches(campaigns, campaign) == [BatchState.ACCEPTED]
        with pytest.raises(CampaignNotFoundError):
            await campaigns.reconcile(99)


@pytest.mark.anyio
async def test_single_numbers(store: str) -> None:
    """A number that the answer did not mention is accepted when it is reported under the answer's mid."""
    async with opened(store) as (journal, campaigns):
        campaign = await running(campaigns, 4)
        claim = await claimed(campaigns, campaign)
        a, b, c, d = claim.numbers
        partial = BatchResult(
            0, claim.numbers, acceptances=(Acceptance("m1", (a, b)),), unknown=(c, d), error=PartialAnswerError(2)
        )
        await campaigns.settle(claim, partial)
        await reported(journal, "m1", [c])
        assert await campaigns.reconcile(campaign) == Reconciliation()
        assert (await states(campaigns, campaign))[c] == "accepted"
        counts = await campaigns.counts(campaign)
        assert (counts.accepted, counts.unknown) == (3, 1)


@pytest.mark.anyio
async def test_single_numbers_under_any_mid_of_the_answer(store: str) -> None:
    """An answer of several lines has several mids, and a number may be reported under two of them."""
    async with opened(store) as (journal, campaigns):
        campaign = await running(campaigns, 4)
        claim = await claimed(campaigns, campaign)
        a, b, c, d = claim.numbers
        acceptances = (Acceptance("m5", (a,)), Acceptance("m6", (b,)))
        partial = BatchResult(0, claim.numbers, acceptances=acceptances, unknown=(c, d), error=PartialAnswerError(2))
        await campaigns.settle(claim, partial)
        await reported(journal, "m6", [c, d])
        await reported(journal, "m5", [d])
        await campaigns.reconcile(campaign)
        assert set((await states(campaigns, campaign)).values()) == {"accepted"}
        counts = await campaigns.counts(campaign)
        assert (counts.accepted, counts.unknown) == (4, 0)


@pytest.mark.anyio
async def test_single_numbers_that_are_to_be_sent_again(store: str) -> None:
    """What is reported before the second attempt begins is left out of it, and nothing is left if that is all."""
    async with opened(store) as (journal, campaigns):
        campaign = await ordered_again(campaigns, part=True)
        await reported(journal, "77", NUMBERS[1:2])
        await campaigns.reconcile(campaign)
        await campaigns.reconcile(campaign)
        assert [event.count for event in await campaigns.events(campaign) if event.what == "reconciled"] == [1]
        assert list((await states(campaigns, campaign)).values()) == ["accepted"] * 2 + ["planned"] * 2
        counts = await campaigns.counts(campaign)
        assert (counts.accepted, counts.planned, counts.numbers) == (2, 2, 4)
        second = await claimed(campaigns, campaign, "t2")
        assert second.numbers == (NUMBERS[0], NUMBERS[2])
        await reported(journal, "77", NUMBERS[2:3])
        await campaigns.release(second, None)
        await campaigns.reconcile(campaign)
        assert (await claimed(campaigns, campaign, "t3")).numbers == NUMBERS[:1]
        await campaigns.undo_claim(campaign, "t3")
        await reported(journal, "77", NUMBERS[:1])
        await campaigns.reconcile(campaign)
        assert await all_batches(campaigns, campaign) == ["accepted", "withdrawn"]
        assert set((await states(campaigns, campaign)).values()) == {"accepted"}
        assert await campaigns.complete(campaign)


@pytest.mark.anyio
async def test_single_numbers_that_are_being_sent_again(store: str) -> None:
    """When the second attempt has begun, its word counts."""
    async with opened(store) as (journal, campaigns):
        campaign = await ordered_again(campaigns, part=True)
        second = await claimed(campaigns, campaign, "t2")
        await reported(journal, "77", NUMBERS[:3])
        await campaigns.reconcile(campaign)
        assert (await campaigns.counts(campaign)).sending == 3
        await campaigns.settle(second, accepted(second, "78"))
        assert (await campaigns.counts(campaign)).accepted == 4


@pytest.mark.anyio
async def test_mid_of_an_outcome_that_came_too_late(store: str) -> None:
    """A mid that an attempt received is known, though its outcome is refused: reports under it bind nothing else."""
    async with opened(store) as (journal, campaigns):
        campaign = await running(campaigns, 5)
        late = await claimed(campaigns, campaign, "t1", lease=-1.0)
        await campaigns.expire_leases(campaign)
        await campaigns.release(late, None)
        now = await claimed(campaigns, campaign, "t2")
        await campaigns.settle(now, unknown(now))
        assert not await campaigns.settle(late, accepted(late, "m1"))
        await reported(journal, "m1", NUMBERS[:5])
        assert await campaigns.reconcile(campaign) == Reconciliation(silent=1)
        assert await all_batches(campaigns, campaign) == [BatchState.UNKNOWN]


@pytest.mark.anyio
async def test_mids_of_an_outcome_whose_numbers_are_being_sent_again(store: str) -> None:
    """A late answer of several lines has several mids: all are known, though the numbers are a second attempt's."""
    async with opened(store) as (journal, campaigns):
        campaign, late = await expired_and_ordered_again(campaigns)
        second = await claimed(campaigns, campaign, "t2")
        acceptances = (Acceptance("m1", late.numbers[:1]), Acceptance("m2", late.numbers[1:]))
        assert await campaigns.settle(late, BatchResult(0, late.numbers, acceptances=acceptances))
        await campaigns.settle(second, accepted(second, "m3"))
        other = await doubtful(campaigns, 1, numbers=late.numbers[1:])
        await reported(journal, "m2", late.numbers[1:])
        assert (await campaigns.reconcile(other)).batches == 0
        assert await all_batches(campaigns, other) == [BatchState.UNKNOWN]


@pytest.mark.anyio
@pytest.mark.parametrize("again", [False, True])
async def test_what_an_answer_did_not_mention_explains_reports(store: str, again: bool) -> None:
    """It may have been taken under a mid that nobody knows: such a mid binds no other batch."""
    async with opened(store) as (journal, campaigns):
        part = await running(campaigns, 4)
        claim = await claimed(campaigns, part)
        acceptances = (Acceptance("m1", claim.numbers[:1]),)
        await campaigns.settle(
            claim,
            BatchResult(
                0, claim.numbers, acceptances=acceptances, unknown=claim.numbers[1:], error=PartialAnswerError(3)
            ),
        )
        if again:
            await order_again(campaigns, part)
        whole = await doubtful(campaigns, 3, numbers=NUMBERS[1:4])
        await reported(journal, "m2", NUMBERS[1:4])
        assert (await campaigns.reconcile(whole)).ambiguous == 1
        assert await all_batches(campaigns, whole) == [BatchState.UNKNOWN]


@pytest.mark.anyio
async def test_what_an_answer_did_not_mention_explains_reports_while_it_is_sent_again(store: str) -> None:
    """A second attempt has what two answers did not mention: reports on what one of these was about do not bind it."""
    async with opened(store) as (journal, campaigns):
        campaign = await running(campaigns, 4, 4)
        for mid in ("m1", "m2"):
            claim = await claimed(campaigns, campaign)
            half = BatchResult(
                0,
                claim.numbers,
                acceptances=(Acceptance(mid, claim.numbers[:1]),),
                unknown=claim.numbers[1:],
                error=PartialAnswerError(3),
            )
            await campaigns.settle(claim, half)
        await order_again(campaigns, campaign)
        second = await claimed(campaigns, campaign, "t2")
        await campaigns.settle(second, unknown(second))
        await reported(journal, "m3", NUMBERS[1:4])
        assert await campaigns.reconcile(campaign) == Reconciliation(ambiguous=1)
        assert await all_batches(campaigns, campaign) == ["accepted", "accepted", "unknown"]


@pytest.mark.anyio
async def test_numbers_in_another_form(store: str) -> None:
    """Reports name 138…, whatever form the batch has: it is bound, single numbers are confirmed, or not sent again."""
    async with opened(store) as (journal, campaigns):
        forms = [f"86{number}" for number in NUMBERS[:4]]
        whole = await doubtful(campaigns, 4, numbers=forms)
        await reported(journal, "m1", NUMBERS[:4])
        assert (await campaigns.reconcile(whole)).batches == 1
        part = await planned(campaigns, 4, numbers=forms)
        await campaigns.start(part)
        claim = await claimed(campaigns, part)
        a, b, c, d = claim.numbers
        half = BatchResult(
            0, forms, acceptances=(Acceptance("m2", (a,)),), unknown=(b, c, d), error=PartialAnswerError(3)
        )
        await campaigns.settle(claim, half)
        await reported(journal, "m2", NUMBERS[1:2])
        await campaigns.reconcile(part)
        assert list((await states(campaigns, part)).values()) == ["accepted", "accepted", "unknown", "unknown"]
        await order_again(campaigns, part)
        await reported(journal, "m2", NUMBERS[2:3])
        await campaigns.reconcile(part)
        assert (await claimed(campaigns, part, "t2")).numbers == (d,)


@pytest.mark.anyio
async def test_single_numbers_need_a_mid_of_their_own(store: str) -> None:
    """Under a mid that two recorded sends have, from two gateways, no single number is confirmed."""
    async with opened(store) as (journal, campaigns):
        other = await running(campaigns, 2)
        claim = await claimed(campaigns, other, "t0")
        acceptances = (Acceptance("m1", claim.numbers[:1]), Acceptance("m2", claim.numbers[1:]))
        await campaigns.settle(claim, BatchResult(0, claim.numbers, acceptances=acceptances))
        for mid in ("m1", "m2"):
            campaign = await running(campaigns, 2)
            claim = await claimed(campaigns, campaign)
            a, b = claim.numbers
            half = BatchResult(
                0, claim.numbers, acceptances=(Acceptance(mid, (a,)),), unknown=(b,), error=PartialAnswerError(1)
            )
            await campaigns.settle(claim, half)
            await reported(journal, mid, [b])
            await campaigns.reconcile(campaign)
            assert (await states(campaigns, campaign))[b] == "unknown"


@pytest.mark.anyio
async def test_single_numbers_need_a_report_from_after_the_attempt(store: str) -> None:
    """A gateway that was restarted gives a mid again: yesterday's report under it says nothing of today's number."""
    async with opened(store) as (journal, campaigns):
        await reported(journal, "m1", NUMBERS[1:2])
        campaign = await running(campaigns, 3)
        claim = await claimed(campaigns, campaign)
        a, b, c = claim.numbers
        half = BatchResult(
            0, claim.numbers, acceptances=(Acceptance("m1", (a,)),), unknown=(b, c), error=PartialAnswerError(2)
        )
        await campaigns.settle(claim, half)
        await reported(journal, "m1", [c])
        await campaigns.reconcile(campaign)
        assert list((await states(campaigns, campaign)).values()) == ["accepted", "unknown", "accepted"]


@pytest.mark.anyio
async def test_deadline(store: str) -> None:
    """What no report has spoken of by the deadline stays unknown, and is said to be overdue, once."""
    async with opened(store) as (_, campaigns):
        campaign = await doubtful(campaigns, 3)
        assert (await campaigns.reconcile(campaign, deadline=3600)).overdue == 0
        assert (await campaigns.reconcile(campaign, deadline=0)).overdue == 3
        assert (await campaigns.reconcile(campaign, deadline=0)).overdue == 0
        (batch,) = await campaigns.batches(campaign)
        assert (batch.state, batch.overdue) == ("unknown", True)
        event = (await campaigns.events(campaign))[-1]
        assert (event.what, event.count) == ("overdue", 3)


@pytest.mark.anyio
async def test_bound_while_it_is_sent_again(store: str) -> None:
    """When the second attempt has begun, each number is counted where it is being sent, and once."""
    async with opened(store) as (journal, campaigns):
        campaign = await doubtful(campaigns, 5)
        preview = await campaigns.preview_resend(campaign, BatchState.UNKNOWN)
        await campaigns.resend(campaign, BatchState.UNKNOWN, expected=preview, actor="ann")
        begun = await claimed(campaigns, campaign, "t9")
        await reported(journal, "m1", NUMBERS[:5])
        await campaigns.reconcile(campaign)
        counts = await campaigns.counts(campaign)
        assert (counts.sending, counts.accepted, counts.numbers) == (5, 0, 5)
        await campaigns.settle(begun, accepted(begun, "m9"))
        await campaigns.reconcile(campaign)
        assert await all_batches(campaigns, campaign) == ["accepted", "accepted"]
        counts = await campaigns.counts(campaign)
        assert (counts.accepted, counts.numbers) == (5, 5)


@pytest.mark.anyio
async def test_bound_after_a_resend_was_ordered(store: str) -> None:
    """Reports on the first attempt withdraw the second if that has not begun, and count though it has failed."""
    async with opened(store) as (journal, campaigns):
        campaign = await doubtful(campaigns, 5, 5)
        preview = await campaigns.preview_resend(campaign, BatchState.UNKNOWN)
        await campaigns.resend(campaign, BatchState.UNKNOWN, expected=preview, actor="ann")
        begun = await claimed(campaigns, campaign, "t9")
        await campaigns.settle(
            begun, BatchResult(0, begun.numbers, failed=begun.numbers, error=ConnectionBrokenError(""))
        )
        await reported(journal, "m1", NUMBERS[:4])
        await reported(journal, "m2", NUMBERS[5:9])
        done = await campaigns.reconcile(campaign)
        assert (done.batches, done.numbers) == (2, 10)
        assert await all_batches(campaigns, campaign) == ["accepted", "accepted", "withdrawn", "withdrawn"]
        assert set((await states(campaigns, campaign)).values()) == {"accepted"}
        counts = await campaigns.counts(campaign)
        assert (counts.accepted, counts.failed, counts.numbers) == (10, 0, 10)
        assert counts.state is CampaignState.RUNNING
