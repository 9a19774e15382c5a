"""Every value of a campaign in its own place: what is different in the journal is different where it is read."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.steps import (
    HELLO,
    NUMBERS,
    accepted,
    claimed,
    failed,
    opened,
    order_again,
    planned,
    running,
    set_time,
    states,
    unknown,
)

from qxt_async.campaign import Campaigns
from qxt_async.errors import ConnectionBrokenError, DeadlineExceededError, PartialAnswerError
from qxt_async.journal.records import BatchState, CampaignState, ExcludedNumber, ExclusionReason, PlannedBatch
from qxt_async.models import Acceptance, BatchResult, Message, StatusReport
from qxt_async.protocol.pushes import Push

pytestmark = pytest.mark.anyio

START = datetime.now(UTC).replace(microsecond=0)


def at(place: int) -> datetime:
    """A moment of the campaign; no two have the same hour, minute, second or millisecond."""
    return START + timedelta(minutes=61 * place, seconds=place, milliseconds=100 + place)


def shown(place: int) -> str:
    """The same in a file."""
    return at(place).strftime("%Y-%m-%dT%H:%M:%S.") + f"{100 + place}Z"


def push(place: int, *reports: StatusReport) -> Push:
    """A push that came at a moment of the campaign."""
    return Push(query=b"", body=b"", reports=reports, received_at=at(place))


async def test_every_column_of_an_export(store: str, tmp_path: Path) -> None:
    """In CSV and in Parquet each column has its own value: times, mids, codes, places, errors, batches, messages."""
    other = Message("【测试】再见", extno="12")
    async with opened(store) as (journal, campaigns):
        set_time(campaigns, at(0))
        await planned(campaigns, *[1] * 7)  # keys of another campaign, so that no batch has the key of a message
        campaign = await campaigns.create()
        sizes = [(HELLO, 3), (other, 2), (HELLO, 1), (other, 2), (HELLO, 1)]
        left = iter(NUMBERS)
        batches = [PlannedBatch(message, [next(left) for _ in range(size)]) for message, size in sizes]
        await campaigns.add(campaign, batches, [ExcludedNumber(NUMBERS[20], reason=ExclusionReason.SUPPRESSED)])
        await campaigns.finish(campaign)
        await campaigns.start(campaign)
        a, b, c, d, e, f, g, h, i = (number for batch in batches for number in batch.numbers)
        await journal.suppress([h])
        for place in range(4):
            set_time(campaigns, at(1 + 2 * place))
            claim = await claimed(campaigns, campaign, f"t{place}")
            result = (
                BatchResult(
                    0,
                    claim.numbers,
                    acceptances=(Acceptance("6301", claim.numbers[:2]), Acceptance("6302", claim.numbers[2:])),
                ),
                unknown(claim),
                failed(claim),
                BatchResult(0, claim.numbers, unknown=claim.numbers, error=DeadlineExceededError("no answer")),
            )[place]
            set_time(campaigns, at(2 + 2 * place))
            await campaigns.settle(claim, result)
        set_time(campaigns, at(9))
        assert await campaigns.release(await claimed(campaigns, campaign, "t5"), None)
        await journal.record_push(push(10, StatusReport("6301", a, code="DELIVRD", area="广东", city="深圳")))
        await journal.record_push(push(11, StatusReport("6302", c, code="REJECT", area="江苏")))
        await journal.record_push(push(12, StatusReport("6303", d, code="MK:0001", city="杭州")))
        await journal.record_push(push(13, StatusReport("6303", e, code="DELIVRD")))
        set_time(campaigns, at(14))
        assert (await campaigns.reconcile(campaign)).batches == 1
        m, n = (message.id for message in await campaigns.messages(campaign))
        b1, b2, b3, b4, b5 = (batch.id for batch in await campaigns.batches(campaign))
        assert len({m, n, b1, b2, b3, b4, b5}) == 7
        stream = io.StringIO(newline="")
        assert await Campaigns(journal).export(campaign, stream) == 10
        assert await Campaigns(journal).export(campaign, tmp_path / "numbers.parquet", format="parquet") == 10
    columns = "number,state,mid,report,code,area,city,error,via_report,batch,message,sent_at,settled_at,reported_at"
    assert stream.getvalue().splitlines() == [
        columns,
        f"{a},accepted,6301,delivered,DELIVRD,广东,深圳,,,{b1},{m},{shown(1)},{shown(2)},{shown(10)}",
        f"{b},accepted,6301,,,,,,,{b1},{m},{shown(1)},{shown(2)},",
        f"{c},accepted,6302,rejected,REJECT,江苏,,,,{b1},{m},{shown(1)},{shown(2)},{shown(11)}",
        f"{d},accepted,6303,failed,MK:0001,,杭州,,yes,{b2},{n},{shown(3)},{shown(14)},{shown(12)}",
        f"{e},accepted,6303,delivered,DELIVRD,,,,yes,{b2},{n},{shown(3)},{shown(14)},{shown(13)}",
        f"{f},failed,,,,,,submit-failed,,{b3},{m},{shown(5)},{shown(6)},",
        f"{g},unknown,,,,,,DeadlineExceededError,,{b4},{n},{shown(7)},{shown(8)},",
        f"{h},suppressed,,,,,,,,{b4},{n},,{shown(8)},",
        f"{i},planned,,,,,,,,{b5},{m},,,",
        f"{NUMBERS[20]},suppressed,,,,,,,,,,,,",
    ]
    rows = pq.read_table(tmp_path / "numbers.parquet").to_pylist()
    assert list(rows[0]) == columns.split(",")
    moments = {shown(place): at(place) for place in range(15)} | {"": None}
    for row, line in zip(rows, csv.DictReader(stream.getvalue().splitlines()), strict=True):
        for column, text in line.items():
            if column.endswith("_at"):
                assert row[column] == moments[text]
            elif column == "via_report":
                assert row[column] is (text == "yes")
            else:
                assert str("" if row[column] is None else row[column]) == text


async def test_every_count_of_a_plan(store: str) -> None:
    """No two counts of this plan are equal, nor are those of its messages."""
    other = Message("【测试】再见", extno="12")
    async with opened(store) as (_, campaigns):
        campaign = await campaigns.create(name="autumn", sources=["a.csv"])
        batches = [PlannedBatch(HELLO, NUMBERS[at : at + 4], segments=3) for at in range(0, 20, 4)]
        batches.append(PlannedBatch(other, NUMBERS[20:28], segments=2))
        reasons = [ExclusionReason.INVALID] * 7 + [ExclusionReason.DUPLICATE] * 8 + [ExclusionReason.SUPPRESSED] * 9
        await campaigns.add(
            campaign, batches, [ExcludedNumber(str(place), reason=why) for place, why in enumerate(reasons)]
        )
        found = await campaigns.finish(campaign, balance=1000)
        assert (found.numbers, found.batches, found.credits, found.balance) == (28, 6, 76, 1000)
        assert (found.invalid, found.duplicates, found.suppressed) == (7, 8, 9)
        messages = await campaigns.messages(campaign)
        assert [(each.numbers, each.batches, each.segments) for each in messages] == [(20, 5, 3), (8, 1, 2)]


async def test_every_count_of_a_batch(store: str) -> None:
    """No two counts are equal, before and after some of its numbers are ordered again; it keeps its error's words."""
    async with opened(store) as (journal, campaigns):
        set_time(campaigns, at(0))
        campaign = await planned(campaigns, 16, 12, segments=7)
        await journal.suppress(NUMBERS[:2])
        await campaigns.start(campaign)
        set_time(campaigns, at(1))
        claim = await claimed(campaigns, campaign)
        taken, refused, open_ = claim.numbers[:3], claim.numbers[3:7], claim.numbers[7:]
        error = PartialAnswerError(len(open_))
        set_time(campaigns, at(2))
        result = BatchResult(
            0, claim.numbers, acceptances=(Acceptance("6301", taken),), failed=refused, unknown=open_, error=error
        )
        assert await campaigns.settle(claim, result)
        batch, waiting = await campaigns.batches(campaign)
        assert (batch.count, batch.accepted, batch.failed, batch.unknown) == (16, 3, 4, 7)
        assert (batch.suppressed, batch.superseded, batch.attempts) == (2, 0, 1)
        assert (batch.mid, batch.error, batch.detail) == ("6301", "PartialAnswerError", str(error))
        assert (batch.state, batch.claimed_at, batch.settled_at) == (BatchState.ACCEPTED, at(1), at(2))
        assert (waiting.count, waiting.error, waiting.detail, waiting.mid) == (12, "", "", None)
        assert (waiting.claimed_at, waiting.settled_at) == (None, None)
        counts = await campaigns.counts(campaign)
        assert (counts.planned, counts.sending, counts.accepted, counts.failed) == (12, 0, 3, 4)
        assert (counts.unknown, counts.suppressed, counts.credits, counts.numbers) == (7, 2, 21, 28)
        preview = await campaigns.preview_resend(campaign, BatchState.FAILED)
        assert (preview.numbers, preview.credits) == (4, 28)
        await campaigns.resend(campaign, BatchState.FAILED, expected=preview, actor="ann")
        batch, _, again = await campaigns.batches(campaign)
        assert (batch.count, batch.accepted, batch.failed, batch.unknown) == (16, 3, 0, 7)
        assert (batch.suppressed, batch.superseded, batch.attempts) == (2, 4, 1)
        assert (again.count, again.attempts, again.resend, again.superseded) == (4, 0, True, 0)
        await journal.suppress(NUMBERS[16:19])
        await claimed(campaigns, campaign, "t2")
        counts = await campaigns.counts(campaign)
        assert (counts.planned, counts.sending, counts.accepted, counts.failed) == (4, 9, 3, 0)
        assert (counts.state, counts.unknown, counts.suppressed, counts.numbers) == (CampaignState.RUNNING, 7, 5, 28)


async def test_every_count_of_deliveries(store: str) -> None:
    """Reports are counted by what they say; no two counts are equal."""
    codes = ["DELIVRD"] * 4 + ["REJECT"] * 3 + ["UNDELIV"] * 2 + [""]
    async with opened(store) as (journal, campaigns):
        campaign = await running(campaigns, 20)
        claim = await claimed(campaigns, campaign)
        await campaigns.settle(claim, accepted(claim, "6301"))
        reports = [StatusReport("6301", number, code=code) for number, code in zip(claim.numbers, codes, strict=False)]
        await journal.record_push(Push(query=b"", body=b"", reports=tuple(reports), received_at=datetime.now(UTC)))
        found = await campaigns.deliveries(campaign)
        assert (found.delivered, found.rejected, found.failed, found.unknown) == (4, 3, 2, 1)


async def test_numbers_of_a_batch_that_is_sent_again_stay_in_the_export(store: str) -> None:
    """Those whom only the first attempt left out keep their place there, in every state of the second one."""
    async with opened(store) as (journal, campaigns):
        campaign = await running(campaigns, 5)
        await journal.suppress(NUMBERS[:2])
        claim = await claimed(campaigns, campaign)
        error = ConnectionBrokenError("reset")
        await campaigns.settle(claim, BatchResult(0, claim.numbers, unknown=claim.numbers, error=error))
        await order_again(campaigns, campaign)
        first, second = await campaigns.batches(campaign)
        assert (first.successor, first.suppressed, first.superseded) == (second.id, 2, 3)

        async def exported() -> list[tuple[str, str, str]]:
            stream = io.StringIO(newline="")
            assert await Campaigns(journal).export(campaign, stream) == 5
            rows = csv.DictReader(stream.getvalue().splitlines())
            return [(row["number"], row["state"], row["batch"]) for row in rows]

        left_out = [(number, "suppressed", str(first.id)) for number in NUMBERS[:2]]
        for state in ("planned", "unknown", "accepted"):
            if state == "unknown":
                again = await claimed(campaigns, campaign, "t2")
            elif state == "accepted":
                await campaigns.settle(again, accepted(again))
            rest = [(number, state, str(second.id)) for number in NUMBERS[2:5]]
            assert await exported() == left_out + rest
        counts = await campaigns.counts(campaign)
        assert (counts.numbers, counts.suppressed, counts.accepted) == (5, 2, 3)
        assert len(await states(campaigns, campaign)) == 5
