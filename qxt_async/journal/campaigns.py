"""The journal's second half: the operations on campaigns; the values are in `journal.records`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qxt_async.journal import (
    batches,
    figures,
    limits,
    matching,
    planning,
    reading,
    reconciling,
    resending,
    states,
    trial,
)
from qxt_async.journal.records import CampaignState, Reconciliation

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from qxt_async.errors import QxtError
    from qxt_async.journal.database import Database, Transaction
    from qxt_async.journal.figures import Figures
    from qxt_async.journal.received import Entry
    from qxt_async.journal.records import (
        Batch,
        BatchState,
        Campaign,
        CampaignEvent,
        CampaignMessage,
        Claim,
        Deliveries,
        ExcludedNumber,
        ExclusionReason,
        NumberRecord,
        Outlook,
        PlannedBatch,
        ResendQuote,
        Tally,
    )
    from qxt_async.models import BatchResult

__all__ = ["CampaignStore"]


class CampaignStore:
    """The operations on campaigns: ``journal.campaigns``.

    All raise `JournalUnavailableError` when the database refuses, `JournalClosedError` when the journal is not open,
    and `CampaignNotFoundError` where there is no campaign of that id. Cancelling an operation that writes ends the
    waiting, not the writing.

    Args:
        database: where they are.
        account: whose limits (`Journal.limits`) hold for what is claimed here; ``None`` for none.

    Attributes:
        database: where they are.
    """

    def __init__(self, database: Database, account: str | None = None) -> None:
        self.database = database
        self._account = account
        self._turns = limits.Turns()

    # --- planning -----------------------------------------------------------------------------------------------

    async def create(self, *, name: str = "", sources: Sequence[str] = ()) -> int:
        """Begin a plan, in state *planning*, and clear away plans that were broken off.

        A plan counts as broken off when nothing was added to it for an hour.

        Returns:
            The campaign's id.
        """
        return await self.database.write(partial(planning.create, name=name, sources=sources))

    async def add(
        self, campaign: int, batches: Sequence[PlannedBatch], left_out: Sequence[ExcludedNumber] = ()
    ) -> None:
        """Add to a plan, in one transaction. Batches are sent in the order in which they are added.

        Args:
            campaign: from `create`.
            batches: a few dozen at a time, so that a transaction stays short.
            left_out: numbers that are in no batch.

        Raises:
            CampaignStateError: it is not being planned (any more).
        """
        await self.database.write(partial(planning.add, campaign=campaign, batches=batches, left_out=left_out))

    async def finish(self, campaign: int, *, balance: int | None = None, warnings: Sequence[str] = ()) -> Campaign:
        """End a plan: from now on everybody sees it, and it may be run.

        Returns:
            The campaign with its counts, which are made here.

        Raises:
            CampaignStateError: it is not being planned (any more).
        """
        return await self.database.write(
            partial(planning.finish, campaign=campaign, balance=balance, warnings=warnings)
        )

    async def discard(self, campaign: int) -> None:
        """Delete a plan and all that belongs to it.

        Raises:
            CampaignStateError: sending has begun, or it was paused or cancelled: such a campaign is kept.
        """
        await self.database.write(partial(planning.discard, campaign=campaign))

    # --- what is there ------------------------------------------------------------------------------------------

    async def get(self, campaign: int) -> Campaign:
        """One campaign."""
        return await self.database.read(partial(states.find, campaign=campaign))

    async def every(self) -> list[Campaign]:
        """All campaigns, the newest first; those in state *planning* too."""
        return await self.database.read(reading.every)

    async def tally(self, campaign: int) -> Tally:
        """How far it is. Costs a walk over its batches."""
        return await self.database.read(partial(reading.tally, campaign=campaign))

    async def deliveries(self, campaign: int) -> Deliveries:
        """Status reports on it, counted. Costs a walk over its reports: about a second for a million."""
        await self._match()
        return await self.database.read(partial(reading.deliveries, campaign=campaign))

    async def figures(self, campaign: int) -> Figures:
        """What its report draws, counted. Costs some walks over its reports: some seconds for a million."""
        await self._match()
        return await self.database.read(partial(figures.figures, campaign=campaign))

    async def _match(self) -> None:
        """See to it that what is counted next counts no report on another batch's numbers."""
        if await self.database.read(matching.anything_to_match):
            while await self.database.write(matching.match):
                pass

    async def messages(self, campaign: int, *, after: int = 0, limit: int = 1000) -> list[CampaignMessage]:
        """Its messages behind a key."""
        return await self.database.read(partial(reading.messages, campaign=campaign, after=after, limit=limit))

    async def batches(
        self, campaign: int, *, after: int = 0, limit: int = 1000, state: BatchState | None = None
    ) -> list[Batch]:
        """Its batches behind a key, withdrawn ones too."""
        return await self.database.read(
            partial(reading.batches, campaign=campaign, after=after, limit=limit, state=state)
        )

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
        return await self.database.read(partial(reading.numbers, campaign=campaign, after=after, limit=limit))

    async def left_out(
        self, campaign: int, *, reason: ExclusionReason | None = None, after: int = 0, limit: int = 1000
    ) -> list[Entry[ExcludedNumber]]:
        """What the plan left out, behind a cursor."""
        return await self.database.read(
            partial(reading.left_out, campaign=campaign, reason=reason, after=after, limit=limit)
        )

    async def events(self, campaign: int) -> list[CampaignEvent]:
        """What was done to it, in order."""
        return await self.database.read(partial(states.events, campaign=campaign))

    async def outlook(self, campaign: int) -> Outlook:
        """Its state, and whether there is something left to do. Costs a few steps in an index."""
        return await self.database.read(partial(states.outlook, campaign=campaign))

    async def cost_ahead(self, campaign: int, batches: int) -> int:
        """Messages that the next so many planned batches will be billed as, with those that are being sent."""
        return await self.database.read(partial(reading.cost_ahead, campaign=campaign, batches=batches))

    async def record(self, campaign: int, what: str, *, by: str = "", detail: str = "", count: int = 0) -> None:
        """Write an event down."""

        async def record(transaction: Transaction) -> None:
            await states.outlook(transaction, campaign)
            await states.log_event(transaction, campaign, what, by=by, detail=detail, count=count)

        await self.database.write(record)

    # --- orders -------------------------------------------------------------------------------------------------

    async def _order(
        self, campaign: int, decide: states.Decision, reason: str, by: str, *, on_workers: bool | None = None
    ) -> tuple[Campaign, bool]:
        """Change the state as `decide` says; the campaign, and whether its state was changed."""

        async def order(transaction: Transaction) -> tuple[Campaign, bool]:
            wanted = await states.change_state(transaction, campaign, decide, reason=reason, by=by)
            if wanted is CampaignState.CANCELLED:
                await batches.forgo(transaction, campaign)
            if on_workers is not None:
                await transaction.change("set_on_workers", campaign=campaign, on_workers=int(on_workers))
            return await states.find(transaction, campaign), wanted is not None

        return await self.database.write(order)

    async def start(self, campaign: int, *, by: str = "", on_workers: bool = False) -> Campaign:
        """Let it be sent: *planned*, *paused*, *done* with something left → *running*.

        Args:
            campaign: which.
            by: who orders it.
            on_workers: whether workers are to send it, not the caller: `Campaign.on_workers`.

        Raises:
            CampaignStateError: it is being planned, or cancelled (`resume` takes that back).
        """
        return (await self._order(campaign, states.started, "", by, on_workers=on_workers))[0]

    async def pause(self, campaign: int, reason: str, *, by: str = "") -> bool:
        """*running* → *paused*: from the commit on no batch is claimed, by any process.

        Returns:
            Whether it was running.
        """
        return (await self._order(campaign, states.paused, reason, by))[1]

    async def resume(self, campaign: int, *, by: str = "") -> Campaign:
        """*paused* or *cancelled* → *running*. A runner that waits goes on; otherwise it waits to be run.

        Raises:
            CampaignStateError: it is neither, nor running.
        """
        return (await self._order(campaign, states.resumed, "", by))[0]

    async def cancel(self, campaign: int, reason: str = "", *, by: str = "") -> Campaign:
        """→ *cancelled*: what is planned will not be sent, unless it is resumed.

        Numbers that were unknown and to be sent again are unknown again, also when it is resumed.

        Raises:
            CampaignStateError: it is being planned, or done.
        """
        return (await self._order(campaign, states.cancelled, reason, by))[0]

    async def complete(self, campaign: int) -> bool:
        """*running* → *done* if no batch is planned or being sent.

        Returns:
            Whether it is done now.
        """
        return await self.database.write(partial(states.complete, campaign=campaign))

    async def preview_resend(self, campaign: int, state: BatchState) -> ResendQuote:
        """What `resend` would send again.

        Args:
            campaign: which.
            state: ``BatchState.UNKNOWN`` or ``BatchState.FAILED``.
        """
        return await self.database.read(partial(resending.preview, campaign=campaign, state=state))

    async def resend(self, campaign: int, state: BatchState, *, expected: ResendQuote, by: str) -> ResendQuote:
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
        return await self.database.write(
            partial(resending.resend, campaign=campaign, state=state, expected=expected, by=by)
        )

    async def plan_test(self, campaign: int, numbers: Sequence[str], *, pause_after: bool = False, by: str = "") -> int:
        """Plan the campaign's test: these numbers get the text before everybody else, in a batch like any other.

        A number of the campaign gets its own text, and is left out of the batch that it was in. The others get the
        campaign's first text. While the test is planned or being sent, no other batch is claimed. If it is not
        accepted, the campaign is paused, and the next call plans a test that failed again. Otherwise a test is made
        once.

        Args:
            campaign: which.
            numbers: normalised; those that have the text already, or may have it, are left out.
            pause_after: pause the campaign also when the test was accepted, so that somebody can look at the phone.
            by: who ordered it.

        Returns:
            How many numbers it has; 0 if there is a test already or nothing is planned.
        """
        work = partial(
            trial.plan_test,
            campaign=campaign,
            numbers=numbers,
            pause_after=pause_after,
            by=by,
        )
        return await self.database.write(work)

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
        account = self._account
        if account is None:
            free = partial(batches.claim, campaign=campaign, token=token, lease=lease, batch=batch)
            return await self.database.write(free, brief=True)
        limited = partial(limits.claim, campaign=campaign, account=account, token=token, lease=lease, batch=batch)
        return await self._turns.take(lambda: self.database.write(limited, brief=True))

    async def settle(self, claim: Claim, result: BatchResult) -> bool:
        """Write what became of a claimed batch. May be repeated.

        Args:
            claim: from `claim`.
            result: of its one attempt.

        Returns:
            Whether it was the attempt's to say: not if another outcome stands already.
        """
        return await self.database.write(partial(batches.settle, claim=claim, result=result), brief=True)

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
        work = partial(batches.put_back, claim=claim, error=error, delay=delay, attempts=attempts)
        return await self.database.write(work, brief=True)

    async def disclaim(self, campaign: int, token: str) -> bool:
        """*sending* → *planned* for a claim that failed and may have been committed all the same: it was not sent."""
        return await self.database.write(partial(batches.disclaim, campaign=campaign, token=token), brief=True)

    async def expire(self, campaign: int, *, alive: Collection[str] = ()) -> int:
        """*sending* with a lease that ran out → *unknown*.

        Args:
            campaign: which.
            alive: tokens of attempts that are known to be under way, whatever the clock says.

        Returns:
            How many batches.
        """
        return await self.database.write(partial(batches.expire, campaign=campaign, alive=alive))

    # --- reconciling --------------------------------------------------------------------------------------------

    async def reconcile(self, campaign: int, *, deadline: float | None = None) -> Reconciliation:
        """Read the reports that came since the last time, and bind unknown batches to their mids.

        The rule is in `journal.evidence`. What reports prove for other campaigns is written down as well.

        Args:
            campaign: which one to speak of.
            deadline: seconds after an attempt by which its reports should have come; what is unknown then is marked
                *overdue*, once.
        """
        bound = numbers = 0
        while True:
            news = await self.database.read(partial(reconciling.read_news, campaign=campaign))
            found = await self.database.write(partial(reconciling.write_news, campaign=campaign, news=news))
            bound, numbers = bound + found[0], numbers + found[1]
            if not news.more:
                break
        overdue = await self.database.write(
            partial(reconciling.finish, campaign=campaign, deadline=deadline, batches=bound, numbers=numbers)
        )
        return Reconciliation(
            batches=bound, numbers=numbers, ambiguous=news.ambiguous, silent=news.silent, overdue=overdue
        )
