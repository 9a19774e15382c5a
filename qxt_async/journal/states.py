"""The state of a campaign, its transitions, and the events of a campaign."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qxt_async.errors import CampaignNotFoundError, CampaignStateError
from qxt_async.journal.records import CampaignState, PendingWork
from qxt_async.journal.rows import campaign_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from qxt_async.journal.database import Transaction
    from qxt_async.journal.records import Campaign

# The new state for a campaign in this state; ``None`` leaves it.
Transition: TypeAlias = "Callable[[int, CampaignState], CampaignState | None]"

NOT_SENT_AFTER_ALL: Final = "a batch that was unknown was not sent, and is planned again"
"""Why a campaign that was done is paused."""


def started(campaign: int, state: CampaignState) -> CampaignState | None:
    """It may be sent."""
    if state is CampaignState.PLANNING:
        raise CampaignStateError(campaign, state, "it is still being planned, or its planning was broken off")
    if state is CampaignState.CANCELLED:
        raise CampaignStateError(campaign, state, "resume it first")
    return None if state is CampaignState.RUNNING else CampaignState.RUNNING


def paused(_campaign: int, state: CampaignState) -> CampaignState | None:
    """No more batches of it are claimed."""
    return CampaignState.PAUSED if state is CampaignState.RUNNING else None


def resumed(campaign: int, state: CampaignState) -> CampaignState | None:
    """It may be sent again."""
    if state in (CampaignState.PAUSED, CampaignState.CANCELLED):
        return CampaignState.RUNNING
    if state is not CampaignState.RUNNING:
        raise CampaignStateError(campaign, state, "only what was paused or cancelled can be resumed")
    return None


def cancelled(campaign: int, state: CampaignState) -> CampaignState | None:
    """What is planned will not be sent."""
    if state in (CampaignState.PLANNING, CampaignState.DONE):
        raise CampaignStateError(campaign, state, "there is nothing to cancel")
    return None if state is CampaignState.CANCELLED else CampaignState.CANCELLED


async def pending_work(transaction: Transaction, campaign: int) -> PendingWork:
    """Its state, and whether something is left to do."""
    rows = await transaction.rows("pending_work", campaign=campaign)
    if not rows:
        raise CampaignNotFoundError(campaign)
    ((state, reason, planned, sending),) = rows
    return PendingWork(state=CampaignState(state), reason=reason, planned=bool(planned), sending=bool(sending))


async def hold_state(transaction: Transaction, campaign: int) -> PendingWork:
    """The same. Until the commit nobody else changes the state or claims a batch.

    Campaign 0 holds single sends, and is never run.
    """
    if not campaign:
        raise CampaignNotFoundError(campaign)
    await transaction.lock("lock_for_order", campaign=campaign)
    return await pending_work(transaction, campaign)


async def find(transaction: Transaction, campaign: int) -> Campaign:
    """One campaign."""
    rows = await transaction.rows("campaigns", where="id = :campaign", campaign=campaign)
    if not rows:
        raise CampaignNotFoundError(campaign)
    return campaign_of(rows[0])


async def log_event(
    transaction: Transaction, campaign: int, what: str, *, actor: str = "", detail: str = "", count: int = 0
) -> None:
    """Add an event."""
    await transaction.change("insert_event", campaign=campaign, what=what, actor=actor, detail=detail, count=count)


async def set_state(
    transaction: Transaction, campaign: int, state: CampaignState, *, reason: str = "", actor: str = ""
) -> None:
    """Change its state, and log it."""
    await transaction.change("set_state", campaign=campaign, state=state, reason=reason)
    await log_event(transaction, campaign, state, actor=actor, detail=reason)


async def change_state(
    transaction: Transaction, campaign: int, transition: Transition, *, reason: str, actor: str
) -> CampaignState | None:
    """Change its state; returns the new state, ``None`` if it stays."""
    wanted = transition(campaign, (await hold_state(transaction, campaign)).state)
    if wanted is not None:
        await set_state(transaction, campaign, wanted, reason=reason, actor=actor)
    return wanted


async def complete(transaction: Transaction, campaign: int) -> bool:
    """Set it to *done* if nothing is planned or being sent; returns whether it is done."""
    found = await hold_state(transaction, campaign)
    if found.state is CampaignState.RUNNING and not found.planned and not found.sending:
        await set_state(transaction, campaign, CampaignState.DONE)
        return True
    return found.state is CampaignState.DONE


async def pause_from(transaction: Transaction, campaign: int, state: CampaignState, reason: str) -> None:
    """Pause a campaign that is in this state."""
    if await transaction.change("pause_from", campaign=campaign, state=state, reason=reason):
        await log_event(transaction, campaign, CampaignState.PAUSED, detail=reason)


async def reopen(transaction: Transaction, campaign: int) -> None:
    """Pause a campaign that is done, after one of its batches was planned again."""
    await pause_from(transaction, campaign, CampaignState.DONE, NOT_SENT_AFTER_ALL)
