"""Sending again what failed or may have arrived, at the request of a person."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from qxt_async.errors import CampaignStateError, ConfirmationRequiredError
from qxt_async.journal.batches import put_exceptions
from qxt_async.journal.planning import insert_batches
from qxt_async.journal.records import BatchState, CampaignState, ResendQuote
from qxt_async.journal.states import hold_state, log_event, pending_work, set_state

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qxt_async.journal.database import Transaction

_BATCH: Final = 1000


async def preview(transaction: Transaction, campaign: int, state: BatchState) -> ResendQuote:
    """What would be sent again."""
    _check_resendable(state)
    await pending_work(transaction, campaign)
    ((numbers, credits_),) = await transaction.rows("resend_preview", campaign=campaign, state=state)
    return ResendQuote(numbers=int(numbers), credits=int(credits_))


async def resend(
    transaction: Transaction, campaign: int, state: BatchState, *, expected: ResendQuote, actor: str
) -> ResendQuote:
    """Plan new batches for all numbers in a state."""
    _check_resendable(state)
    before = (await hold_state(transaction, campaign)).state
    if before in (CampaignState.PLANNING, CampaignState.CANCELLED):
        raise CampaignStateError(campaign, before, "nothing of it can be sent again")
    sources = await transaction.rows("resend_sources", campaign=campaign, state=state)
    found = ResendQuote(
        numbers=sum(open_ for *_, open_ in sources), credits=sum(open_ * segments for *_, segments, open_ in sources)
    )
    if found != expected:
        raise ConfirmationRequiredError(found.numbers, found.credits)
    if not found.numbers:
        return found
    await _plan_again(transaction, campaign, state, sources)
    await log_event(
        transaction, campaign, f"resend-{state}", actor=actor, detail=f"{found.credits} credits", count=found.numbers
    )
    if before is not CampaignState.RUNNING:
        reason = f"{found.numbers} {state} numbers to be sent again"
        await set_state(transaction, campaign, CampaignState.PAUSED, reason=reason, actor=actor)
    return found


async def _plan_again(transaction: Transaction, campaign: int, state: BatchState, sources: Sequence[Any]) -> None:
    """New batches: one for each source that is sent again as a whole, and by message for the numbers of the others."""
    insert = partial(insert_batches, transaction, campaign, resend=True, doubtful=state is BatchState.UNKNOWN)
    pools: defaultdict[int, list[tuple[int, str]]] = defaultdict(list)
    for batch, message, own_state, own, joined, _, open_ in sources:
        rows = await transaction.rows("exceptions_of", batches=[batch])
        others = {number: its_state for _, number, its_state, _ in rows}
        numbers = [number for number in joined.split(",") if others.get(number, own_state) == state]
        successor: int | None = None
        if open_ == own:
            (successor,) = await insert([(message, numbers)])
        else:
            pools[message] += [(batch, number) for number in numbers]
        await transaction.change("supersede", batch=batch, state=state, successor=successor)
    for message, pool in pools.items():
        for start in range(0, len(pool), _BATCH):
            part = pool[start : start + _BATCH]
            (successor,) = await insert([(message, [number for _, number in part])])
            for batch in {batch for batch, _ in part}:
                rows = [(number, "superseded", None, successor) for owner, number in part if owner == batch]
                await put_exceptions(transaction, batch, rows)


def _check_resendable(state: BatchState) -> None:
    if state not in (BatchState.UNKNOWN, BatchState.FAILED):
        raise ValueError(f"only unknown and failed numbers are sent again, not {state}")
