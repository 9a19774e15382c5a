"""Campaigns in a journal of a test, step by step."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from qxt_async.errors import ConnectionBrokenError, PartialAnswerError, SubmitFailedError
from qxt_async.journal import Journal, open_journal
from qxt_async.journal.campaigns import CampaignStore
from qxt_async.journal.records import BatchState, Claim, NumberState, PlannedBatch
from qxt_async.journal.timestamps import micros
from qxt_async.models import Acceptance, BatchResult, Message, StatusReport
from qxt_async.protocol.pushes import Push

HELLO = Message("【测试】您好")
NUMBERS = tuple(f"1380013{index:04d}" for index in range(100))


@asynccontextmanager
async def opened(store: str | Path) -> AsyncIterator[tuple[Journal, CampaignStore]]:
    """A journal, in a file of this folder or wherever it is said to be, and its campaigns."""
    async with open_journal(store / "qxt.db" if isinstance(store, Path) else store) as journal:
        yield journal, journal.campaigns


def set_clock(campaigns: CampaignStore, *, hours: int) -> None:
    """Let the journal believe that it is so many hours later."""
    at = time.time_ns() // 1000 + hours * 3_600_000_000
    campaigns.database.clock = lambda: at  # type: ignore[attr-defined]


def set_time(campaigns: CampaignStore, at: datetime) -> None:
    """Let the journal believe that it is this moment."""
    campaigns.database.clock = lambda: micros(at)  # type: ignore[attr-defined]


async def planned(
    campaigns: CampaignStore, *sizes: int, message: Message = HELLO, segments: int = 1, numbers: Sequence[str] = NUMBERS
) -> int:
    """A planned campaign with batches of these sizes."""
    campaign = await campaigns.create(name="autumn")
    batches = []
    at = 0
    for size in sizes:
        batches.append(PlannedBatch(message, numbers[at : at + size], segments=segments))
        at += size
    await campaigns.add(campaign, batches)
    await campaigns.finish(campaign)
    return campaign


async def running(campaigns: CampaignStore, *sizes: int, numbers: Sequence[str] = NUMBERS) -> int:
    """The same, started."""
    campaign = await planned(campaigns, *sizes, numbers=numbers)
    await campaigns.start(campaign)
    return campaign


async def claimed(campaigns: CampaignStore, campaign: int, token: str = "t1", lease: float = 60.0) -> Claim:
    """The next batch, claimed."""
    claim = await campaigns.claim(campaign, token=token, lease=lease)
    assert claim is not None
    return claim


def accepted(claim: Claim, mid: str = "77") -> BatchResult:
    """All of it taken."""
    return BatchResult(0, claim.numbers, acceptances=(Acceptance(mid, claim.numbers),))


def unknown(claim: Claim) -> BatchResult:
    """Nothing known of it."""
    return BatchResult(0, claim.numbers, unknown=claim.numbers, error=ConnectionBrokenError("reset"))


def failed(claim: Claim) -> BatchResult:
    """All of it refused."""
    return BatchResult(0, claim.numbers, failed=claim.numbers, error=SubmitFailedError(("999",), len(claim.numbers)))


async def states(campaigns: CampaignStore, campaign: int) -> dict[str, NumberState]:
    """What became of every number, read in small steps."""
    found: dict[str, NumberState] = {}
    after = 0
    while True:
        records, after = await campaigns.numbers(campaign, after=after, limit=3)
        if not records:
            return found
        for record in records:
            assert record.number not in found, "a number has one state"
            found[record.number] = record.state


async def reported(
    journal: Journal, mid: str, numbers: Sequence[str], code: str = "DELIVRD", at: datetime | None = None
) -> None:
    """Status reports as a push brings them, now or at another time."""
    reports = tuple(StatusReport(mid, number, code=code) for number in numbers)
    await journal.record_push(Push(query=b"", body=b"", reports=reports, received_at=at or datetime.now(UTC)))


async def all_batches(campaigns: CampaignStore, campaign: int) -> list[BatchState]:
    """The states of the batches, in order."""
    return [batch.state for batch in await campaigns.batches(campaign)]


async def expired_and_ordered_again(campaigns: CampaignStore) -> tuple[int, Claim]:
    """A batch whose lease ran out and that somebody ordered to be sent again, with its first claim."""
    campaign = await running(campaigns, 2)
    claim = await claimed(campaigns, campaign, lease=-1.0)
    await campaigns.expire_leases(campaign)
    await order_again(campaigns, campaign)
    return campaign, claim


async def order_again(campaigns: CampaignStore, campaign: int) -> None:
    """Order what is unknown to be sent again, and run it."""
    preview = await campaigns.preview_resend(campaign, BatchState.UNKNOWN)
    await campaigns.resend(campaign, BatchState.UNKNOWN, expected=preview, actor="ann")
    await campaigns.start(campaign)


async def ordered_again(campaigns: CampaignStore, *, part: bool) -> int:
    """Three unknown numbers that somebody ordered to be sent again: a batch, or a part of one whose mid is 77."""
    campaign = await running(campaigns, 3 + part)
    claim = await claimed(campaigns, campaign)
    half = BatchResult(
        0,
        claim.numbers,
        acceptances=(Acceptance("77", claim.numbers[3:]),),
        unknown=claim.numbers[:3],
        error=PartialAnswerError(3),
    )
    await campaigns.settle(claim, half if part else unknown(claim))
    await order_again(campaigns, campaign)
    return campaign
