"""The journal's second half: the operations on campaigns; the values are in `journal.records`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from qxt_async.errors import QxtError
    from qxt_async.models import BatchResult

    from . import Entry
    from .figures import Figures
    from .records import (
        Batch,
        BatchState,
        Campaign,
        CampaignEvent,
        CampaignMessage,
        Claim,
        Deliveries,
        LeftOut,
        LeftOutReason,
        NumberRecord,
        Outlook,
        PlannedBatch,
        Reconciliation,
        Resend,
        Tally,
    )

__all__ = ["Campaigns"]


class Campaigns(Protocol):
    """The operations on campaigns: ``journal.campaigns``.

    All raise `JournalUnavailableError` when the database refuses, `JournalClosedError` when the journal is not open,
    and `CampaignNotFoundError` where there is no campaign of that id. Cancelling an operation that writes ends the
    waiting, not the writing.
    """

    # --- planning -----------------------------------------------------------------------------------------------

    async def create(self, *, name: str = "", sources: Sequence[str] = ()) -> int:
        """Begin a plan, in state *planning*, and clear away plans that were broken off.

        A plan counts as broken off when nothing was added to it for an hour.

        Returns:
            The campaign's id.
        """
        ...

    async def add(self, campaign: int, batches: Sequence[PlannedBatch], left_out: Sequence[LeftOut] = ()) -> None:
        """Add to a plan, in one transaction. Batches are sent in the order in which they are added.

        Args:
            campaign: from `create`.
            batches: a few dozen at a time, so that a transaction stays short.
            left_out: numbers that are in no batch.

        Raises:
            CampaignStateError: it is not being planned (any more).
        """
        ...

    async def finish(self, campaign: int, *, balance: int | None = None, warnings: Sequence[str] = ()) -> Campaign:
        """End a plan: from now on everybody sees it, and it may be run.

        Returns:
            The campaign with its counts, which are made here.

        Raises:
            CampaignStateError: it is not being planned (any more).
        """
        ...

    async def discard(self, campaign: int) -> None:
        """Delete a plan and all that belongs to it.

        Raises:
            CampaignStateError: sending has begun, or it was paused or cancelled: such a campaign is kept.
        """
        ...

    # --- what is there ------------------------------------------------------------------------------------------

    async def get(self, campaign: int) -> Campaign:
        """One campaign."""
        ...

    async def every(self) -> list[Campaign]:
        """All campaigns, the newest first; those in state *planning* too."""
        ...

    async def tally(self, campaign: int) -> Tally:
        """How far it is. Costs a walk over its batches."""
        ...

    async def deliveries(self, campaign: int) -> Deliveries:
        """Status reports on it, counted. Costs a walk over its reports: about a second for a million."""
        ...

    async def figures(self, campaign: int) -> Figures:
        """What its report draws, counted. Costs some walks over its reports: some seconds for a million."""
        ...

    async def messages(self, campaign: int, *, after: int = 0, limit: int = 1000) -> list[CampaignMessage]:
        """Its messages behind a key."""
        ...

    async def batches(
        self, campaign: int, *, after: int = 0, limit: int = 1000, state: BatchState | None = None
    ) -> list[Batch]:
        """Its batches behind a key, withdrawn ones too."""
        ...

    async def numbers(self, campaign: int, *, after: int = 0, limit: int = 10_000) -> tuple[list[NumberRecord], int]:
        """What became of its numbers, with their reports; each number once, however often it was sent.

        Args:
            campaign: which.
            after: 0 to begin with, then what the call before returned.
            limit: how many to read at a time, in whole batches.

        Returns:
            The numbers, in the order of the batches, and where to go on; with nothing left ``([], after)``.
            Numbers that the plan left out are not among them: see `left_out`.
        """
        ...

    async def left_out(
        self, campaign: int, *, reason: LeftOutReason | None = None, after: int = 0, limit: int = 1000
    ) -> list[Entry[LeftOut]]:
        """What the plan left out, behind a cursor."""
        ...

    async def events(self, campaign: int) -> list[CampaignEvent]:
        """What was done to it, in order."""
        ...

    async def outlook(self, campaign: int) -> Outlook:
        """Its state, and whether there is something left to do. Costs a few steps in an index."""
        ...

    async def cost_ahead(self, campaign: int, batches: int) -> int:
        """Messages that the next so many planned batches will be billed as, with those that are being sent."""
        ...

    async def record(self, campaign: int, what: str, *, by: str = "", detail: str = "", count: int = 0) -> None:
        """Write an event down."""
        ...

    # --- orders -------------------------------------------------------------------------------------------------

    async def start(self, campaign: int, *, by: str = "") -> Campaign:
        """Let it be sent: *planned*, *paused*, *done* with something left → *running*.

        Raises:
            CampaignStateError: it is being planned, or cancelled (`resume` takes that back).
        """
        ...

    async def pause(self, campaign: int, reason: str, *, by: str = "") -> bool:
        """*running* → *paused*: from the commit on no batch is claimed, by any process.

        Returns:
            Whether it was running.
        """
        ...

    async def resume(self, campaign: int, *, by: str = "") -> Campaign:
        """*paused* or *cancelled* → *running*. A runner that waits goes on; otherwise it waits to be run.

        Raises:
            CampaignStateError: it is neither, nor running.
        """
        ...

    async def cancel(self, campaign: int, reason: str = "", *, by: str = "") -> Campaign:
        """→ *cancelled*: what is planned will not be sent, unless it is resumed.

        Numbers that were unknown and to be sent again are unknown again, also when it is resumed.

        Raises:
            CampaignStateError: it is being planned, or done.
        """
        ...

    async def complete(self, campaign: int) -> bool:
        """*running* → *done* if no batch is planned or being sent.

        Returns:
            Whether it is done now.
        """
        ...

    async def preview_resend(self, campaign: int, state: BatchState) -> Resend:
        """What `resend` would send again.

        Args:
            campaign: which.
            state: ``BatchState.UNKNOWN`` or ``BatchState.FAILED``.
        """
        ...

    async def resend(self, campaign: int, state: BatchState, *, expected: Resend, by: str) -> Resend:
        """Plan new batches for all numbers in this state, linked to the ones before, which stay as they are.

        The campaign is *paused* then and has to be run, unless it is running.

        Args:
            campaign: which.
            state: as for `preview_resend`.
            expected: what was shown and confirmed.
            by: who ordered it.

        Raises:
            ConfirmationRequiredError: it would be something else by now than `expected`; nothing was planned.
            CampaignStateError: it is being planned, or cancelled.
        """
        ...

    # --- sending ------------------------------------------------------------------------------------------------

    async def claim(self, campaign: int, *, token: str, lease: float, batch: int | None = None) -> Claim | None:
        """Take the next planned batch of a running campaign: *planned* → *sending*, committed when this returns.

        Args:
            campaign: which.
            token: of the attempt, never used before.
            lease: seconds after which anybody may hold the attempt for dead.
            batch: take this one and no other.

        Returns:
            The batch; ``None`` if none may be sent now: the campaign is not running, everything is claimed, or what
            is left waits for its back-off. All of whose numbers have opted out since are settled on the way.

        Raises:
            JournalUnavailableError: do not send: should the commit have happened after all, the lease runs out and
                the batch becomes unknown.
        """
        ...

    async def settle(self, claim: Claim, result: BatchResult) -> bool:
        """Write what became of a claimed batch. May be repeated.

        Args:
            claim: from `claim`.
            result: of its one attempt.

        Returns:
            Whether it was the attempt's to say: not if another outcome stands already.
        """
        ...

    async def put_back(
        self, claim: Claim, error: QxtError | None, *, delay: float = 0.0, attempts: int | None = None
    ) -> bool:
        """*sending* → *planned*: the attempt provably sent nothing, or the gateway took nothing.

        Args:
            claim: from `claim`.
            error: what it met; ``None`` if it was only given up.
            delay: seconds before which it is not claimed again.
            attempts: how many such attempts make it *failed*, never sent; ``None`` if this one does not count.

        Returns:
            As `settle`.
        """
        ...

    async def disclaim(self, campaign: int, token: str) -> bool:
        """*sending* → *planned* for a claim that failed and may have been committed all the same: it was not sent."""
        ...

    async def expire(self, campaign: int, *, alive: Collection[str] = ()) -> int:
        """*sending* with a lease that ran out → *unknown*.

        Args:
            campaign: which.
            alive: tokens of attempts that are known to be under way, whatever the clock says.

        Returns:
            How many batches.
        """
        ...

    # --- reconciling --------------------------------------------------------------------------------------------

    async def reconcile(self, campaign: int, *, deadline: float | None = None) -> Reconciliation:
        """Read the reports that came since the last time, and bind unknown batches to their mids.

        The rule is in `journal.evidence`. What reports prove for other campaigns is written down as well.

        Args:
            campaign: which one to speak of.
            deadline: seconds after an attempt by which its reports should have come; what is unknown then is marked
                *overdue*, once.
        """
        ...
