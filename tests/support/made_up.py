"""A campaign that was sent, in a journal, with clocks and fates of our choosing."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

from qxt_async.errors import ConnectionBrokenError, SubmitFailedError
from qxt_async.journal.records import ExcludedNumber, ExclusionReason, PlannedBatch
from qxt_async.models import Acceptance, BatchResult, Message, StatusReport
from qxt_async.protocol.pushes import Push

START = datetime(2026, 11, 3, 0, 55, tzinfo=UTC)
AREAS = {
    "广东": 18, "江苏": 13, "浙江": 12, "山东": 10, "四川": 9, "河南": 8, "北京": 7, "上海": 7,
    "湖北": 6, "湖南": 5, "福建": 5, "安徽": 4, "陕西": 3, "辽宁": 3, "": 2,
}  # fmt: skip
CODES = {"REJECT": 40, "UNDELIV": 30, "EXPIRED": 22, "MK:0001": 9, "SGIP:2:54": 5, "": 2}


async def sent_campaign(
    journal, count, *, text="【某某商城】您好，双十一订单已发货。拒收请回复R", name="双十一发货通知", seed=7, size=1000
):
    """Plan, send and report on `count` numbers in batches of `size`; deterministic. Returns the campaign's id."""
    chance = random.Random(seed)
    operations = journal.campaigns
    now = START

    def clock():
        return int(now.timestamp() * 1_000_000)

    operations.database.clock = clock
    campaign = await operations.create(name=name, sources=["customers.xlsx", "vip.csv"])
    numbers = [str(13800000000 + place) for place in range(count)]
    messages = [Message(text), Message(text + "感谢您一直以来的支持。" * 6, extno="08")]
    batches = [
        PlannedBatch(messages[at % 9 == 8], numbers[start : start + size], segments=1 + (at % 9 == 8))
        for at, start in enumerate(range(0, count, size))
    ]
    left_out = [
        ExcludedNumber(f"1390000{place:04}", reason=reason, source="vip.csv", line=place + 1)
        for reason, share in zip(ExclusionReason, (count // 160, count // 70, count // 300), strict=True)
        for place in range(share)
    ]
    await operations.add(campaign, batches, left_out)
    await operations.finish(campaign, balance=count * 2, warnings=["some rows' texts are longer than others"])
    now += timedelta(minutes=5)
    await operations.start(campaign, actor="ops")
    place = 0
    while (claim := await operations.claim(campaign, token=f"attempt-{place}", lease=60.0)) is not None:
        place += 1
        sent_at = now
        now += timedelta(seconds=chance.uniform(4, 40))
        mid = f"{7_000_000 + place:010}"
        result = BatchResult(claim.batch, claim.numbers, acceptances=(Acceptance(mid, claim.numbers),))
        if place % 41 == 17:
            error = ConnectionBrokenError("the connection was reset")
            result = BatchResult(claim.batch, claim.numbers, unknown=claim.numbers, error=error)
        elif place % 53 == 30:
            result = BatchResult(
                claim.batch, claim.numbers, failed=claim.numbers, error=SubmitFailedError(("999",), len(claim.numbers))
            )
        await operations.settle(claim, result)
        if result.acceptances:
            for push in _reports(chance, mid, claim.numbers, sent_at):
                await journal.record_push(push)
    await operations.complete(campaign)
    return campaign


def _reports(chance, mid, numbers, sent_at):
    areas, codes = list(AREAS), list(CODES)
    found = []
    for number in numbers:
        fate = chance.random()
        if fate < 0.012:
            continue
        code = "DELIVRD" if fate > 0.055 else chance.choices(codes, CODES.values())[0]
        (area,) = chance.choices(areas, AREAS.values())
        found.append(StatusReport(mid, number, code=code, area=area or None, city=None))
    # Reports come in waves; one push has one time, so a batch's are cut into some.
    pushes = []
    for cut in range(0, len(found), 40):
        late = timedelta(seconds=min(chance.lognormvariate(2.6, 1.3), 3 * 3600))
        pushes.append(Push(query=b"", body=b"", reports=tuple(found[cut : cut + 40]), received_at=sent_at + late))
    return pushes
