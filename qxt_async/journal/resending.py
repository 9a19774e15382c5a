"""Sending again what failed or may have arrived, by order of a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from qxt_async.errors import CampaignStateError, ConfirmationRequiredError
from qxt_async.journal.batches import put_exceptions
from qxt_async.journal.planning import insert_batches
from qxt_async.journal.records import BatchState, CampaignState, ResendQuote
from qxt_async.journal.states import hold_state, log_event, outlook, set_state

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qxt_async.journal.database import Transaction

__all__ = ["preview", "resend"]

_BATCH: Final = 1000


@attrs.frozen
class _Source:
    """A batch with numbers to be sent again: a row of ``resend_sources``."""

    batch: int
    message: int
    state: str
    own: int
    numbers: str = attrs.field(repr=False)
    segments: int
    open: int


async def preview(transaction: Transaction, campaign: int, state: BatchState) -> ResendQuote:
    """What sending again would mean."""
    _check_resendable(state)
    await outlook(transaction, campaign)
    ((numbers, credits_),) = await transaction.rows("resend_preview", campaign=campaign, state=state)
    return ResendQuote(numbers=int(numbers), credits=int(credits_))


async def resend(
    transaction: Transaction, campaign: int, state: BatchState, *, expected: ResendQuote, by: str
) -> ResendQuote:
    """Plan new batches for all numbers in a state."""
    _check_resendable(state)
    before = (await hold_state(transaction, campaign)).state
    if before in (CampaignState.PLANNING, CampaignState.CANCELLED):
        raise CampaignStateError(campaign, before, "nothing of it can be sent again")
    rows = await transaction.rows("resend_sources", campaign=campaign, state=state)
    sources = [_Source(*row) for row in rows]
    found = ResendQuote(
        numbers=sum(source.open for source in sources),
        credits=sum(source.open * source.segments for source in sources),
    )
    if found != expected:
        raise ConfirmationRequiredError(found.numbers, found.credits)
    if not found.numbers:
        return found
    await _plan_again(transaction, campaign, state, sources)
    await log_event(
        transaction, campaign, f"resend-{state}", by=by, detail=f"{found.credits} credits", count=found.numbers
    )
    if before is not CampaignState.RUNNING:
        reason = f"{found.numbers} {state} numbers to be sent again"
        await set_state(transaction, campaign, CampaignState.PAUSED, reason=reason, by=by)
    return found


async def _plan_again(transaction: Transaction, campaign: int, state: BatchState, sources: Sequence[_Source]) -> None:
    """New batches: one for each that is open as a whole, the others' numbers together by message."""
    doubtful = state is BatchState.UNKNOWN
    pools: dict[int, list[tuple[int, str]]] = {}
    for source in sources:
        numbers = await _numbers_in(transaction, source, state)
        successor: int | None = None
        if source.open == source.own:
            (successor,) = await insert_batches(
                transaction, campaign, [(source.message, numbers)], resend=True, doubtful=doubtful
            )
        else:
            pools.setdefault(source.message, []).extend((source.batch, number) for number in numbers)
        await transaction.change("supersede", batch=source.batch, state=state, successor=successor)
    for message, pool in pools.items():
        for start in range(0, len(pool), _BATCH):
            part = pool[start : start + _BATCH]
            again = [number for _, number in part]
            (successor,) = await insert_batches(
                transaction, campaign, [(message, again)], resend=True, doubtful=doubtful
            )
            for batch in {batch for batch, _ in part}:
                rows = [(number, "superseded", None, successor) for owner, number in part if owner == batch]
                await put_exceptions(transaction, batch, rows)


async def _numbers_in(transaction: Transaction, source: _Source, state: BatchState) -> list[str]:
    rows = await transaction.rows("exceptions_of", batches=[source.batch])
    others = {number: its_state for _, number, its_state, _ in rows}
    return [number for number in source.numbers.split(",") if others.get(number, source.state) == state]


def _check_resendable(state: BatchState) -> None:
    if state not in (BatchState.UNKNOWN, BatchState.FAILED):
        raise ValueError(f"only unknown and failed numbers are sent again, not {state}")
