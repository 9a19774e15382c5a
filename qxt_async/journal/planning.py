"""Storing a plan."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import attrs

from qxt_async.errors import CampaignStateError
from qxt_async.journal.records import BatchState, CampaignState
from qxt_async.journal.rows import message_digest
from qxt_async.journal.states import find, hold_state, log_event

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qxt_async.journal.database import Transaction
    from qxt_async.journal.records import Campaign, ExcludedNumber, PlannedBatch
    from qxt_async.models import Message

# Microseconds without an addition after which a plan counts as broken off.
_BROKEN_OFF: Final = 3600 * 1_000_000


async def create(transaction: Transaction, *, name: str, sources: Sequence[str]) -> int:
    """Begin a plan, and delete those that were broken off; returns the id of the campaign."""
    await transaction.change("clear_broken_off", age=_BROKEN_OFF)
    listed = json.dumps(list(sources), ensure_ascii=False)
    ((campaign,),) = await transaction.rows("create", name=name, sources=listed)
    return int(campaign)


async def add(
    transaction: Transaction, campaign: int, batches: Sequence[PlannedBatch], left_out: Sequence[ExcludedNumber]
) -> None:
    """Add to a plan."""
    await _check_planning(transaction, campaign)
    await transaction.change("touch_plan", campaign=campaign)
    if batches:
        keys = await _message_keys(transaction, campaign, batches)
        await insert_batches(transaction, campaign, [(keys[batch.message], batch.numbers) for batch in batches])
    if left_out:
        await transaction.insert("insert_left_out", ({"campaign": campaign, **attrs.asdict(out)} for out in left_out))


async def finish(transaction: Transaction, campaign: int, *, balance: int | None, warnings: Sequence[str]) -> Campaign:
    """End a plan; returns the campaign with its counts."""
    await _check_planning(transaction, campaign)
    listed = json.dumps(list(warnings), ensure_ascii=False)
    await transaction.change("finish", campaign=campaign, balance=balance, warnings=listed)
    found = await find(transaction, campaign)
    await log_event(transaction, campaign, "planned", detail=f"{found.credits} credits", count=found.numbers)
    return found


async def discard(transaction: Transaction, campaign: int) -> None:
    """Delete a plan and everything that belongs to it."""
    state = (await hold_state(transaction, campaign)).state
    if state not in (CampaignState.PLANNING, CampaignState.PLANNED):
        raise CampaignStateError(campaign, state, "it was begun, so it is kept")
    await transaction.change("discard", campaign=campaign)


async def insert_batches(
    transaction: Transaction,
    campaign: int,
    batches: Sequence[tuple[int, Sequence[str]]],
    *,
    resend: bool = False,
    doubtful: bool = False,
    test: int = 0,
) -> list[int]:
    """Insert planned batches: for each the key of its message, and its numbers. Returns their keys, in order."""
    ids = [key for (key,) in await transaction.rows("new_batch_ids", count=len(batches))]
    same = {"campaign": campaign, "state": BatchState.PLANNED, "resend": resend, "doubtful": doubtful, "test": test}
    rows = [
        {**same, "id": key, "message": message, "count": len(numbers), "numbers": ",".join(numbers)}
        for key, (message, numbers) in zip(ids, batches, strict=True)
    ]
    await transaction.insert("insert_batches", rows)
    return ids


async def _check_planning(transaction: Transaction, campaign: int) -> None:
    state = (await hold_state(transaction, campaign)).state
    if state is not CampaignState.PLANNING:
        raise CampaignStateError(campaign, state, "its plan is finished, nothing can be added")


async def _message_keys(transaction: Transaction, campaign: int, batches: Sequence[PlannedBatch]) -> dict[Message, int]:
    """The keys of the messages. New messages are inserted; nobody else adds to this plan meanwhile."""
    segments = {batch.message: batch.segments for batch in batches}
    digests = {message: message_digest(message) for message in segments}
    keys = dict(await transaction.rows("message_keys", campaign=campaign, digests=list(digests.values())))
    new = [message for message, digest in digests.items() if digest not in keys]
    if new:
        ids = [key for (key,) in await transaction.rows("new_message_ids", count=len(new))]
        await transaction.insert(
            "insert_messages",
            [
                {"id": key, "campaign": campaign, "digest": digests[message], "segments": segments[message]}
                | {"text": message.text, "extno": message.extno, "addseqno": message.addseqno}
                for key, message in zip(ids, new, strict=True)
            ],
        )
        keys |= {digests[message]: key for key, message in zip(ids, new, strict=True)}
    return {message: int(keys[digest]) for message, digest in digests.items()}
