"""What is there of a campaign: its counts, messages, batches, numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qxt_async.journal.moments import CLOCK_STEP
from qxt_async.journal.records import CampaignState
from qxt_async.journal.rows import (
    batch_of,
    campaign_of,
    deliveries_of,
    left_out_of,
    message_of,
    mids_of,
    number_records,
    tally_of,
)
from qxt_async.journal.states import outlook

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qxt_async.journal.database import Transaction
    from qxt_async.journal.received import Entry
    from qxt_async.journal.records import (
        Batch,
        BatchState,
        Campaign,
        CampaignMessage,
        Deliveries,
        ExcludedNumber,
        ExclusionReason,
        NumberRecord,
        Tally,
    )

__all__ = ["batches", "cost_ahead", "deliveries", "every", "left_out", "messages", "numbers", "tally"]


async def every(transaction: Transaction) -> list[Campaign]:
    """All campaigns, the newest first."""
    return [campaign_of(row) for row in await transaction.rows("campaigns")]


async def tally(transaction: Transaction, campaign: int) -> Tally:
    """How far it is."""
    found = await outlook(transaction, campaign)
    return tally_of(found.state, found.reason, await transaction.rows("tally", campaign=campaign))


async def cost_ahead(transaction: Transaction, campaign: int, batches: int) -> int:
    """Messages that the next batches, and those that are being sent, are billed as."""
    ((cost,),) = await transaction.rows("cost_ahead", campaign=campaign, limit=batches)
    return int(cost)


async def deliveries(transaction: Transaction, campaign: int) -> Deliveries:
    """Status reports on it, counted."""
    return deliveries_of(await transaction.rows("deliveries", campaign=campaign, clock_step=CLOCK_STEP))


async def messages(transaction: Transaction, campaign: int, *, after: int, limit: int) -> list[CampaignMessage]:
    """Its messages behind a key."""
    rows = await transaction.rows("messages", campaign=campaign, after=after, limit=limit)
    return [message_of(row) for row in rows]


async def batches(
    transaction: Transaction, campaign: int, *, after: int, limit: int, state: BatchState | None = None
) -> list[Batch]:
    """Its batches behind a key."""
    if state is None:
        rows = await transaction.rows("batches", campaign=campaign, after=after, limit=limit)
    else:
        where = "state = :state"
        rows = await transaction.rows("batches", where=where, campaign=campaign, after=after, limit=limit, state=state)
    return [batch_of(row) for row in rows]


async def left_out(
    transaction: Transaction, campaign: int, *, reason: ExclusionReason | None, after: int, limit: int
) -> list[Entry[ExcludedNumber]]:
    """What its plan left out, behind a cursor."""
    where = "TRUE" if reason is None else "reason = :reason"
    rows = await transaction.rows("left_out", where=where, campaign=campaign, after=after, limit=limit, reason=reason)
    return [left_out_of(row) for row in rows]


async def numbers(transaction: Transaction, campaign: int, *, after: int, limit: int) -> tuple[list[NumberRecord], int]:
    """What became of its numbers, and where to go on."""
    state = (await outlook(transaction, campaign)).state
    records: list[NumberRecord] = []
    # A stretch may give none: what was withdrawn, or sent again in later batches.
    while not records:
        found: list[Batch] = []
        held = 0
        for batch in await batches(transaction, campaign, after=after, limit=min(limit, 1000)):
            if held >= limit:
                break
            found.append(batch)
            held += batch.count
        if not found:
            break
        after = found[-1].id
        records = await _number_records(transaction, found, cancelled=state is CampaignState.CANCELLED)
    return records, after


async def _number_records(transaction: Transaction, found: Sequence[Batch], *, cancelled: bool) -> list[NumberRecord]:
    keys = [batch.id for batch in found]
    joined: dict[int, str] = dict(await transaction.rows("numbers_of", batches=keys))
    exceptions = await transaction.rows("exceptions_of", batches=keys)
    reports = await transaction.rows("reports_on", mids=mids_of(found, exceptions))
    return number_records(found, joined, exceptions, reports, cancelled=cancelled)
