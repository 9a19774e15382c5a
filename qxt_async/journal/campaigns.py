"""The operations on campaigns. Their values are in `journal.records`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qxt_async.journal import (
    batches,
    limits,
    matching,
    outcomes,
    planning,
    reconciling,
    resending,
    states,
    statistics,
    trial,
)
from qxt_async.journal.records import CampaignState
from qxt_async.journal.rows import (
    batch_of,
    campaign_of,
    counts_of,
    delivery_counts_of,
    event_of,
    left_out_of,
    message_of,
    read_all,
)
from qxt_async.journal.timestamps import CLOCK_STEP

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from qxt_async.errors import QxtError
    from qxt_async.journal import records
    from qxt_async.journal.database import Database, Transaction
    from qxt_async.journal.received import FeedEntry
    from qxt_async.journal.records import Batch, BatchState, Campaign, Claim, ExcludedNumber, PlannedBatch
    from qxt_async.journal.statistics import ReportStatistics
    from qxt_async.models import BatchResult


class CampaignStore:
    """The operations on campaigns: ``journal.campaigns``, which `Campaigns` makes public.

    Where `Campaigns` has a method of the same name, arguments and errors are described there. All raise
    `JournalUnavailableError` when the database refuses, `JournalClosedError` when the journal is not open, and
    `CampaignNotFoundError` when there is no such campaign. Cancelling an operation that writes ends the waiting, not
    the writing.

    Args:
        database: where the campaigns are stored.
        account: the account whose limits (`Journal.limits`) hold for each claim; ``None`` for no limits.

    Attributes:
        database: where the campaigns are stored.
    """

    def __init__(self, database: Database, account: str | None = None) -> None:
        self.database = database
        self._claims = limits.AccountClaims(database, account)

    # --- planning -----------------------------------------------------------------------------------------------

    async def create(self, *, name: str = "", sources: Sequence[str] = ()) -> int:
        """Begin a plan, in state *planning*, and delete plans to which nothing was added for an hour.

        Returns:
            The id of the campaign.
        """
        return await self.database.write(partial(planning.create, name=name, sources=sources))

    async def add(
        self, campaign: int, batches: Sequence[PlannedBatch], left_out: Sequence[ExcludedNumber] = ()
    ) -> None:
        """Add to a plan, in one transaction. Batches are sent in the order in which they are added.

        Args:
            campaign: from `create`.
            batches: a few dozen at a time, so that the transaction stays short.
            left_out: numbers that are in no batch.

        Raises:
            CampaignStateError: it is not being planned (any more).
        """
        await self.database.write(partial(planning.add, campaign=campaign, batches=batches, left_out=left_out))

    async def finish(self, campaign: int, *, balance: int | None = None, warnings: Sequence[str] = ()) -> Campaign:
        """End a plan and count it. From now on the campaign can be run.

        Raises:
            CampaignStateError: it is not being planned (any more).
        """
        work = partial(planning.finish, campaign=campaign, balance=balance, warnings=warnings)
        return await self.database.write(work)

    async def discard(self, campaign: int) -> None:
        """Delete a plan and everything that belongs to it."""
        await self.database.write(partial(planning.discard, campaign=campaign))

    # --- reading ------------------------------------------------------------------------------------------------

    async def get(self, campaign: int) -> Campaign:
        """One campaign."""
        return await self.database.read(partial(states.find, campaign=campaign))

    async def all(self) -> list[Campaign]:
        """All campaigns, the newest first, including those in state *planning*."""
        return await read_all(self.database, campaign_of, "campaigns")

    async def counts(self, campaign: int) -> records.CampaignCounts:
        """How far it is. Reads all of its batches."""

        async def read(transaction: Transaction) -> records.CampaignCounts:
            found = await states.pending_work(transaction, campaign)
            return counts_of(found.state, found.reason, await transaction.rows("counts", campaign=campaign))

        return await self.database.read(read)

    async def deliveries(self, campaign: int) -> records.DeliveryCounts:
        """Its status reports, counted by state. Reads all of them: about a second for a million."""
        await matching.match_all(self.database)
        rows = await read_all(self.database, tuple, "deliveries", campaign=campaign, clock_step=CLOCK_STEP)
        return delivery_counts_of(rows)

    async def statistics(self, campaign: int) -> ReportStatistics:
        """What its report draws, counted. Reads all of its reports: some seconds for a million."""
        await matching.match_all(self.database)
        return await self.database.read(partial(statistics.report_statistics, campaign=campaign))

    async def messages(self, campaign: int, *, after: int = 0, limit: int = 1000) -> list[records.CampaignMessage]:
        """Its messages behind a key."""
        return await read_all(self.database, message_of, "messages", campaign=campaign, after=after, limit=limit)

    async def batches(
        self, campaign: int, *, after: int = 0, limit: int = 1000, state: BatchState | None = None
    ) -> list[Batch]:
        """Its batches behind a key, including withdrawn ones."""
        values = {"campaign": campaign, "after": after, "limit": limit, "state": state}
        where = "TRUE" if state is None else "state = :state"
        return await read_all(self.database, batch_of, "batches", where=where, **values)

    async def numbers(
        self, campaign: int, *, after: int = 0, limit: int = 10_000
    ) -> tuple[list[records.NumberRecord], int]:
        """What became of its numbers, with their reports; each number once, however often it was sent.

        Args:
            campaign: which.
            after: 0 at first, then what the call before returned.
            limit: how many to read at a time, in whole batches.

        Returns:
            The numbers, in the order of the batches, and where to go on; at the end ``([], after)``. Numbers that the
            plan left out are not among them: see `left_out`.
        """
        return await self.database.read(partial(outcomes.numbers, campaign=campaign, after=after, limit=limit))

    async def left_out(
        self, campaign: int, *, reason: records.ExclusionReason | None = None, after: int = 0, limit: int = 1000
    ) -> list[FeedEntry[ExcludedNumber]]:
        """What the plan left out, behind a cursor."""
        values = {"campaign": campaign, "after": after, "limit": limit, "reason": reason}
        where = "TRUE" if reason is None else "reason = :reason"
        return await read_all(self.database, left_out_of, "left_out", where=where, **values)

    async def events(self, campaign: int) -> list[records.CampaignEvent]:
        """What happened to it, in order."""
        return await read_all(self.database, event_of, "events", campaign=campaign)

    async def pending_work(self, campaign: int) -> records.PendingWork:
        """Its state, and whether something is left to do. Costs a few steps in an index."""
        return await self.database.read(partial(states.pending_work, campaign=campaign))

    async def cost_ahead(self, campaign: int, batches: int) -> int:
        """Messages that will be billed for its next planned batches, so many, and for those that are being sent."""
        ((cost,),) = await read_all(self.database, tuple, "cost_ahead", campaign=campaign, limit=batches)
        return int(cost)

    # --- states -------------------------------------------------------------------------------------------------

    async def log_event(self, campaign: int, what: str, *, actor: str = "", detail: str = "", count: int = 0) -> None:
        """Add to its events."""

        async def record(transaction: Transaction) -> None:
            await states.pending_work(transaction, campaign)
            await states.log_event(transaction, campaign, what, actor=actor, detail=detail, count=count)

        await self.database.write(record)

    async def _order(
        self, campaign: int, transition: states.Transition, reason: str, actor: str, *, on_workers: bool | None = None
    ) -> bool:
        """Change the state; returns whether it was changed."""

        async def order(transaction: Transaction) -> bool:
            wanted = await states.change_state(transaction, campaign, transition, reason=reason, actor=actor)
            if wanted is CampaignState.CANCELLED:
                await batches.drop_second_attempts(transaction, campaign)
            if on_workers is not None:
                await transaction.change("set_on_workers", campaign=campaign, on_workers=int(on_workers))
            return wanted is not None

        return await self.database.write(order)

    async def start(self, campaign: int, *, actor: str = "", on_workers: bool = False) -> bool:
        """Let it be sent: *planned*, *paused*, *done* with something left → *running*. Returns whether it was not."""
        return await self._order(campaign, states.started, "", actor, on_workers=on_workers)

    async def pause(self, campaign: int, reason: str, *, actor: str = "") -> bool:
        """*running* → *paused*: after the commit no process claims another batch. Returns whether it was running."""
        return await self._order(campaign, states.paused, reason, actor)

    async def resume(self, campaign: int, *, actor: str = "") -> bool:
        """*paused* or *cancelled* → *running*. Returns whether it was not running."""
        return await self._order(campaign, states.resumed, "", actor)

    async def cancel(self, campaign: int, reason: str = "", *, actor: str = "") -> bool:
        """→ *cancelled*: planned batches are not sent, unless it is resumed. Returns whether it was not cancelled."""
        return await self._order(campaign, states.cancelled, reason, actor)

    async def complete(self, campaign: int) -> bool:
        """*running* → *done* if no batch is planned or being sent.

        Returns:
            Whether it is done now.
        """
        return await self.database.write(partial(states.complete, campaign=campaign))

    async def preview_resend(self, campaign: int, state: BatchState) -> records.ResendQuote:
        """What `resend` would send again."""
        return await self.database.read(partial(resending.preview, campaign=campaign, state=state))

    async def resend(
        self, campaign: int, state: BatchState, *, expected: records.ResendQuote, actor: str
    ) -> records.ResendQuote:
        """Plan new batches for all numbers in this state. The batches before stay as they are."""
        work = partial(resending.resend, campaign=campaign, state=state, expected=expected, actor=actor)
        return await self.database.write(work)

    async def plan_test(
        self, campaign: int, numbers: Sequence[str], *, pause_after: bool = False, actor: str = ""
    ) -> int:
        """Plan a test batch: these numbers get the text before all others.

        A number of the campaign gets its own text, and is removed from its batch. Other numbers get the campaign's
        first text. While the test is planned or being sent, no other batch is claimed. If it is not accepted, the
        campaign is paused, and the next call plans each of its batches that failed again. Otherwise there is one test.

        Args:
            campaign: which.
            numbers: normalised; those that have the text already, or may have it, are left out.
            pause_after: pause the campaign after an accepted test, too, so that somebody can look at the phone.
            actor: who requests it.

        Returns:
            How many numbers were planned; 0 if there is a test already or nothing else is planned.
        """
        work = partial(
            trial.plan_test,
            campaign=campaign,
            numbers=numbers,
            pause_after=pause_after,
            actor=actor,
        )
        return await self.database.write(work)

    # --- sending ------------------------------------------------------------------------------------------------

    async def claim(self, campaign: int, *, token: str, lease: float) -> Claim | None:
        """Take the next planned batch of a running campaign: *planned* → *sending*, committed when this returns.

        Args:
            campaign: which.
            token: of the attempt, never used before.
            lease: seconds after which the attempt counts as dead.

        Returns:
            The batch; ``None`` if none may be sent now: the campaign is not running, every batch is claimed, or the
            others wait for their back-off. A batch whose numbers have all opted out is settled on the way.

        Raises:
            JournalUnavailableError: do not send. If the commit has happened all the same, the lease runs out and the
                batch becomes unknown.
        """
        return await self._claims.claim(campaign, token=token, lease=lease)

    async def settle(self, claim: Claim, result: BatchResult) -> bool:
        """Write the outcome of a claimed batch. May be repeated.

        Args:
            claim: from `claim`.
            result: of its one attempt.

        Returns:
            Whether it was written: not if the batch has another outcome already.
        """
        return await self.database.write_together(batches.settle, (claim, result))

    async def release(
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
        item = batches.NotSent(claim, error, delay, attempts)
        return await self.database.write_together(batches.release, item)

    async def undo_claim(self, campaign: int, token: str) -> bool:
        """*sending* → *planned* after a claim that failed and may have been committed all the same: it was not sent."""
        return await self.database.write_together(batches.undo_claims, (campaign, token))

    async def expire_leases(self, campaign: int, *, alive: Collection[str] = ()) -> int:
        """*sending* with a lease that ran out → *unknown*.

        Args:
            campaign: which.
            alive: tokens of attempts that are known to be under way, whatever the clock says.

        Returns:
            How many batches.
        """
        return await self.database.write(partial(batches.expire_leases, campaign=campaign, alive=alive))

    # --- reconciling --------------------------------------------------------------------------------------------

    async def reconcile(self, campaign: int, *, deadline: float | None = None) -> records.Reconciliation:
        """Bind unknown batches, of all campaigns, to the mids of new reports; the rule is in `journal.evidence`."""
        return await reconciling.reconcile(self.database, campaign, deadline)
