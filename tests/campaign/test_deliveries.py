"""Which status reports count for a campaign: those on its numbers, under the mids that these have, since the attempt.

Status, report and export say the same of it, whatever comes in which order.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from support.steps import (
    HELLO,
    NUMBERS,
    accepted,
    claimed,
    expired_and_ordered_again,
    opened,
    order_again,
    reported,
    running,
    set_time,
    unknown,
)

from qxt_async.errors import PartialAnswerError
from qxt_async.journal import matching
from qxt_async.journal.campaigns import CampaignStore
from qxt_async.journal.records import PlannedBatch
from qxt_async.models import Acceptance, BatchResult, Reply
from qxt_async.protocol.pushes import Push

pytestmark = pytest.mark.anyio

DAY = timedelta(days=1)


async def delivered(campaigns: CampaignStore, campaign: int) -> dict[str, int]:
    """The reports on a campaign by what they say, as the status, the report and the export have them."""
    found = await campaigns.deliveries(campaign)
    counts = {
        state: count for state in ("delivered", "rejected", "failed", "unknown") if (count := getattr(found, state))
    }
    statistics = await campaigns.statistics(campaign)
    over_time = Counter[bool]()
    for moment in statistics.over_time:
        over_time += Counter({True: moment.delivered, False: moment.other})
    by_area = Counter[bool]()
    for _, good, bad in statistics.areas:
        by_area += Counter({True: good, False: bad})
    whole = counts.get("delivered", 0)
    assert over_time == by_area == +Counter({True: whole, False: sum(counts.values()) - whole})
    assert sum(count for _, count in statistics.delays) == whole
    assert sum(count for *_, count in statistics.codes) == sum(counts.values()) - whole
    exported: Counter[str] = Counter()
    after = 0
    while True:
        records, after = await campaigns.numbers(campaign, after=after, limit=3)
        if not records:
            break
        exported.update(record.report_state for record in records if record.report_state is not None)
    assert exported == counts, "the export says something else"
    return counts


async def campaign_of(campaigns: CampaignStore, *batches: tuple[str, ...]) -> int:
    """A running campaign with batches of these numbers."""
    campaign = await campaigns.create()
    await campaigns.add(campaign, [PlannedBatch(HELLO, numbers) for numbers in batches])
    await campaigns.finish(campaign)
    await campaigns.start(campaign)
    return campaign


async def sent(campaigns: CampaignStore, numbers: tuple[str, ...], mid: str, at: datetime | None = None) -> int:
    """A campaign with one batch that the gateway took under this mid, now or at another time."""
    set_time(campaigns, at or datetime.now(UTC))
    campaign = await campaign_of(campaigns, numbers)
    claim = await claimed(campaigns, campaign)
    await campaigns.settle(claim, accepted(claim, mid))
    return campaign


@pytest.mark.parametrize("looked", [True, False])
async def test_equal_mids_of_a_restarted_gateway(store: str, looked: bool) -> None:
    """Two campaigns of which batches have one mid: each counts its own numbers, whoever looks when."""
    async with opened(store) as (journal, campaigns):
        first = await sent(campaigns, NUMBERS[:5], "1")
        await reported(journal, "1", NUMBERS[:4])
        if looked:
            assert await delivered(campaigns, first) == {"delivered": 4}
        second = await sent(campaigns, NUMBERS[5:10], "1")
        if looked:
            assert await delivered(campaigns, second) == {}
        await reported(journal, "1", NUMBERS[5:8])
        await reported(journal, "1", NUMBERS[8:9], "UNDELIV")
        assert await delivered(campaigns, second) == {"delivered": 3, "failed": 1}
        assert await delivered(campaigns, first) == {"delivered": 4}


async def test_equal_mids_and_numbers_on_another_day(store: str) -> None:
    """Yesterday's reports say nothing of today's text, though mid and phone are the same; today's do."""
    yesterday = datetime.now(UTC) - DAY
    async with opened(store) as (journal, campaigns):
        first = await sent(campaigns, NUMBERS[:5], "1", at=yesterday)
        await reported(journal, "1", NUMBERS[:4], at=yesterday)
        second = await sent(campaigns, NUMBERS[:5], "1")
        assert await delivered(campaigns, second) == {}
        assert await delivered(campaigns, first) == {"delivered": 4}
        await reported(journal, "1", NUMBERS[:3])
        assert await delivered(campaigns, second) == {"delivered": 3}


async def test_yesterdays_report_confirms_no_number(store: str) -> None:
    """A number that the answer did not mention stays unknown, if the report under the answer's mid is an older one."""
    async with opened(store) as (journal, campaigns):
        await reported(journal, "1", NUMBERS[1:2], at=datetime.now(UTC) - DAY)
        campaign = await running(campaigns, 2)
        claim = await claimed(campaigns, campaign)
        await campaigns.settle(claim, _in_part(claim.numbers, claim.numbers[:1]))
        await reported(journal, "1", NUMBERS[1:2])
        await campaigns.reconcile(campaign)
        assert (await campaigns.counts(campaign)).unknown == 1
        assert await delivered(campaigns, campaign) == {}


def _in_part(numbers: tuple[str, ...], taken: tuple[str, ...], mid: str = "1") -> BatchResult:
    """An answer that mentions some of the numbers."""
    rest = tuple(number for number in numbers if number not in taken)
    error = PartialAnswerError(len(rest))
    return BatchResult(0, numbers, acceptances=(Acceptance(mid, taken),), unknown=rest, error=error)


async def test_reports_that_come_before_the_answer(store: str) -> None:
    """They count once the mid is known, but for those on other numbers, also when somebody has looked before."""
    async with opened(store) as (journal, campaigns):
        campaign = await running(campaigns, 5)
        claim = await claimed(campaigns, campaign)
        await reported(journal, "1", NUMBERS[3:8])
        assert await delivered(campaigns, campaign) == {}
        await campaigns.settle(claim, accepted(claim, "1"))
        assert await delivered(campaigns, campaign) == {"delivered": 2}


async def test_reports_on_other_numbers(store: str) -> None:
    """Under a mid of the batch: foreign numbers, those that were refused, those that have another mid."""
    async with opened(store) as (journal, campaigns):
        campaign = await running(campaigns, 5)
        claim = await claimed(campaigns, campaign)
        a, b, c, d, e = claim.numbers
        await campaigns.settle(
            claim,
            BatchResult(0, claim.numbers, acceptances=(Acceptance("1", (a, b)), Acceptance("2", (c, d))), failed=(e,)),
        )
        await reported(journal, "1", [a, c, e, NUMBERS[50]])
        await reported(journal, "2", [b, d, e, NUMBERS[50]])
        assert await delivered(campaigns, campaign) == {"delivered": 2}


async def test_confirmed_numbers(store: str) -> None:
    """A report on a number that the answer did not mention counts as soon as it has made the number accepted."""
    async with opened(store) as (journal, campaigns):
        campaign = await running(campaigns, 4)
        claim = await claimed(campaigns, campaign)
        await campaigns.settle(claim, _in_part(claim.numbers, claim.numbers[:2]))
        await reported(journal, "1", [*claim.numbers[1:3], NUMBERS[50]])
        assert await delivered(campaigns, campaign) == {"delivered": 1}
        await campaigns.reconcile(campaign)
        assert await delivered(campaigns, campaign) == {"delivered": 2}


async def test_a_batch_bound_by_its_reports(store: str) -> None:
    """Its reports count from then on; a late answer with another mid makes them those of something else."""
    async with opened(store) as (journal, campaigns):
        campaign = await running(campaigns, 5)
        claim = await claimed(campaigns, campaign, lease=-1.0)
        await campaigns.expire_leases(campaign)
        await reported(journal, "1", NUMBERS[:5])
        assert await delivered(campaigns, campaign) == {}
        await campaigns.reconcile(campaign)
        assert await delivered(campaigns, campaign) == {"delivered": 5}
        await reported(journal, "1", NUMBERS[5:6])
        await reported(journal, "2", NUMBERS[4:7])
        assert await delivered(campaigns, campaign) == {"delivered": 5}
        await campaigns.settle(claim, accepted(claim, "2"))
        assert await delivered(campaigns, campaign) == {"delivered": 1}


async def test_numbers_that_another_batch_speaks_for(store: str) -> None:
    """Once a second attempt has begun, the reports on the first one do not count, even if its answer comes late."""
    async with opened(store) as (journal, campaigns):
        campaign, claim = await expired_and_ordered_again(campaigns)
        again = await claimed(campaigns, campaign, "t2")
        await campaigns.settle(claim, accepted(claim, "1"))
        await reported(journal, "1", claim.numbers)
        assert await delivered(campaigns, campaign) == {}
        await campaigns.settle(again, accepted(again, "2"))
        await reported(journal, "2", claim.numbers[:1])
        assert await delivered(campaigns, campaign) == {"delivered": 1}


async def test_a_late_answer_to_what_reports_had_settled(store: str) -> None:
    """Of a batch with several mids each number counts under the one that it has in the end."""
    async with opened(store) as (journal, campaigns):
        campaign = await running(campaigns, 4)
        claim = await claimed(campaigns, campaign)
        await campaigns.settle(claim, unknown(claim))
        await order_again(campaigns, campaign)
        again = await claimed(campaigns, campaign, "t2")
        await campaigns.settle(again, _in_part(again.numbers, again.numbers[:3], "2"))
        await reported(journal, "2", again.numbers)
        assert await delivered(campaigns, campaign) == {"delivered": 3}
        await campaigns.reconcile(campaign)
        assert await delivered(campaigns, campaign) == {"delivered": 4}


@pytest.mark.parametrize(("hours", "repr_count"), [(-3, 0), (-1, 4), (1, 4)])
async def test_clocks_that_step(store: str, hours: int, repr_count: int) -> None:
    """A report counts that seems to have come up to two hours before its attempt: a clock was set back since."""
    async with opened(store) as (journal, campaigns):
        campaign = await sent(campaigns, NUMBERS[:5], "1")
        await reported(journal, "1", NUMBERS[:4], at=datetime.now(UTC) + timedelta(hours=hours))
        assert sum((await delivered(campaigns, campaign)).values()) == repr_count


async def test_numbers_in_other_forms(store: str) -> None:
    """A batch's number with a country code is the phone that reports and opt-outs speak of, in whatever form."""
    wire = tuple(f"86{number}" for number in NUMBERS[:4])
    async with opened(store) as (journal, campaigns):
        campaign = await campaign_of(campaigns, wire, NUMBERS[4:6])
        reply = Reply("9", f"+86{NUMBERS[0]}", text="TD", port=None, area=None, city=None)
        await journal.record_push(Push(query=b"", body=b"", replies=(reply,)), opted_out=(reply,))
        claim = await claimed(campaigns, campaign)
        assert (claim.numbers, claim.suppressed) == (wire[1:], wire[:1])
        await campaigns.settle(claim, accepted(claim, "1"))
        await reported(journal, "1", [NUMBERS[1], wire[2], NUMBERS[5]])
        assert await delivered(campaigns, campaign) == {"delivered": 2}
        (record, *_), _ = await campaigns.numbers(campaign)
        assert (record.number, record.state) == (wire[0], "suppressed")


async def test_many_reports_in_small_steps(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many reports, mids and batches one transaction takes, the counts are the same."""
    monkeypatch.setattr(matching, "REPORTS_AT_A_TIME", 3)
    monkeypatch.setattr(matching, "MIDS_AT_A_TIME", 1)
    monkeypatch.setattr(matching, "BATCHES_AT_A_TIME", 1)
    async with opened(store) as (journal, campaigns):
        campaign = await running(campaigns, 5, 5, 5)
        claims = [await claimed(campaigns, campaign, f"t{place}") for place in range(3)]
        for place in (0, 1):
            await reported(journal, str(place), NUMBERS[3:8])
        assert await delivered(campaigns, campaign) == {}
        for place, claim in enumerate(claims):
            await campaigns.settle(claim, accepted(claim, str(place)))
        await reported(journal, "2", NUMBERS[8:14])
        await reported(journal, "1", NUMBERS[:10])
        assert await delivered(campaigns, campaign) == {"delivered": 2 + 5 + 4}
        assert not await campaigns.database.read(matching.anything_to_match)
