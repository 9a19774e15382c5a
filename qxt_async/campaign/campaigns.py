"""`Campaigns`: everything that an application does with campaigns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qxt_async.campaign import export, report
from qxt_async.campaign.messages import MessageRules
from qxt_async.campaign.options import RunOptions
from qxt_async.campaign.plan import plan_campaign
from qxt_async.campaign.planner import Planner
from qxt_async.campaign.run import CampaignRun
from qxt_async.errors import InvalidConfigurationError
from qxt_async.protocol.numbers import MOBILE_PATTERN
from qxt_async.protocol.requests import MAX_NUMBERS
from qxt_async.runtime.signals import run_until_signalled

if TYPE_CHECKING:
    import os
    import signal
    from collections.abc import AsyncGenerator, Awaitable, Callable, Container, Sequence
    from typing import TextIO, TypeVar

    from qxt_async.campaign.export import ExportFormat
    from qxt_async.campaign.plan import CampaignPlan, Sources
    from qxt_async.campaign.report import Language, ReportData
    from qxt_async.client import QxtClient
    from qxt_async.journal import Journal
    from qxt_async.journal.received import FeedEntry
    from qxt_async.journal.records import (
        Batch,
        BatchState,
        Campaign,
        CampaignCounts,
        CampaignEvent,
        CampaignMessage,
        DeliveryCounts,
        ExcludedNumber,
        ExclusionReason,
        NumberRecord,
        PendingWork,
        Reconciliation,
        ResendQuote,
    )

    Counts = TypeVar("Counts", CampaignCounts, PendingWork)


class Campaigns:
    """The campaigns of a journal.

    All methods raise `JournalUnavailableError` when the database refuses and `JournalClosedError` when the journal is
    not open. Those that take the id of a campaign raise `CampaignNotFoundError` if there is none of this id.
    Cancelling a method that writes ends the waiting, not the writing, unless the method says otherwise.

    Args:
        journal: open.
        client: the account that sends, open. Its concurrency, rate and timeout hold, and the limits of its account
            (``journal.limits``). `run` and `run_until_signalled` need it, `plan` asks it for the balance; all other
            methods work without.
    """

    def __init__(self, journal: Journal, client: QxtClient | None = None) -> None:
        self._journal = journal
        self._client = client
        self._store = journal.campaigns if client is None else journal.campaigns_of(client.user)
        self._runs: set[CampaignRun] = set()

    # --- plan ---------------------------------------------------------------------------------------------------

    async def plan(
        self,
        sources: Sources,
        text: str,
        *,
        name: str = "",
        extno: str | None = None,
        extno_column: str | None = None,
        addseqno: bool = False,
        suppressed: Container[str] = (),
        substitute: bool = False,
        literal: bool = False,
        skip_faulty: bool = False,
        batch_size: int = MAX_NUMBERS,
        channel_digits: int | None = None,
        number_pattern: str | None = None,
        check_balance: bool = True,
        on_progress: Callable[[int], None] | None = None,
    ) -> CampaignPlan:
        """Plan a campaign: read the sources, check every row, store batches. Sends nothing.

        Numbers on the journal's suppression list are left out.

        Args:
            sources: a file (a path object, or a `TableFile` with options), an iterable or async iterable of numbers
                or of mappings, or a list of such sources.
            text: the text, with columns as in ``尊敬的{name}``; ``{{`` and ``}}`` are braces.
            name: what to call the campaign.
            extno: extension number of the whole campaign.
            extno_column: column with the extension number of each row. Where it is empty, `extno` is used.
            addseqno: see `Message`.
            suppressed: numbers to leave out, in addition to the journal's suppression list.
            substitute: replace the usual characters outside GBK instead of refusing them.
            literal: send what looks like a column and is none (``｛name｝``, ``${name}``, ``%name%``) as it is, instead
                of refusing it. ``{name}`` is a column in any case.
            skip_faulty: leave out rows whose text cannot be made, instead of refusing the plan.
            batch_size: numbers in a batch at most, 1 to 1000.
            channel_digits: digits of extension that the channel has already; the client's if ``None``, 0 without one.
            number_pattern: regular expression for a valid number; the client's if ``None``, without one 11 digits.
            check_balance: ask the client for the balance, if there is a client.
            on_progress: called after every few thousand rows with the number of rows read.

        Returns:
            The plan, committed. Before the commit nobody can see or run it.

        Raises:
            InvalidTextError: the text cannot be sent; it has a column that a source does not have; or it has something
                that looks like a column and is none.
            InvalidExtnoError: the extension number cannot be used.
            SourceFileError: a source cannot be read, or has rows that cannot be sent; says file, line and reason. No
                campaign is planned, but its id is used up.
            NoValidNumberError: no number is left to send to.

        Cancelling: the plan is discarded.
        """
        client = self._client
        digits, pattern = (0, MOBILE_PATTERN) if client is None else (client.channel_digits, client.number_pattern)
        rules = MessageRules(
            text,
            literal=literal,
            extno=extno,
            extno_column=extno_column,
            addseqno=addseqno,
            substitute=substitute,
            channel_digits=digits if channel_digits is None else channel_digits,
        )
        planner = Planner(
            rules,
            number_pattern=number_pattern or pattern,
            suppressed=(await self._journal.suppressed_numbers(), suppressed),
            batch_size=batch_size,
            skip_faulty=skip_faulty,
            on_progress=on_progress,
        )
        asked = client if check_balance else None
        return await plan_campaign(self._store, asked, planner, sources, name=name)

    # --- run ----------------------------------------------------------------------------------------------------

    async def run(self, campaign: int, options: RunOptions | None = None) -> CampaignCounts:
        """Send what is planned, until nothing is left, or the campaign is paused, cancelled or `stop` is called.

        Running again resumes a run that was interrupted. Any number of processes may run one campaign.

        Returns:
            Its counts. ``state`` is *done*; or *paused* or *cancelled*, with ``reason``; or *running* after `stop`.

        Raises:
            InvalidConfigurationError: there is no client.
            CampaignStateError: it is being planned, or cancelled.
            InvalidNumberError: a test number is not valid; nothing was changed or sent.
            JournalUnavailableError: the journal refused for longer than `RunOptions.journal_timeout`. What was sent and
                could not be recorded becomes unknown.

        Cancelling: no batch is begun. Those under way are abandoned, and their outcomes are recorded. The campaign
        stays *running*, for the next run.
        """
        if self._client is None:
            raise InvalidConfigurationError("running a campaign needs a client: Campaigns(journal, client)")
        run = CampaignRun(self._store, self._client, options or RunOptions(), campaign)
        self._runs.add(run)
        try:
            return await run.run()
        finally:
            self._runs.discard(run)

    async def run_until_signalled(
        self,
        campaign: int,
        options: RunOptions | None = None,
        *,
        on_signal: Callable[[signal.Signals], None] | None = None,
    ) -> CampaignCounts | None:
        """`run` for a program: the first SIGINT or SIGTERM lets the batches under way finish, a second one does not.

        Only in the main thread, and not on Windows. `on_signal` is called with the first signal, and with the second.

        Returns:
            As `run`; ``None`` if the second signal cut it short. After a signal the campaign stays *running*: run it
            again to continue.

        Raises:
            Exception: as `run`.
        """

        def tell(number: signal.Signals) -> None:
            if on_signal is not None:
                on_signal(number)

        def stop(number: signal.Signals) -> None:
            self.stop()
            tell(number)

        return await run_until_signalled(lambda: self.run(campaign, options), stop, tell)

    @property
    def stopping(self) -> bool:
        """`stop` was called, and batches are still under way."""
        return any(run.stopping for run in self._runs)

    def stop(self) -> None:
        """Begin no further batch: `run` returns when those under way are settled. Call it in the event loop."""
        for run in self._runs:
            run.stop()

    # --- orders -------------------------------------------------------------------------------------------------

    async def start(self, campaign: int, *, on_workers: bool = False, actor: str = "") -> Campaign:
        """Change the state to *running*, so that workers send it. `run` does this itself.

        With `on_workers` its last run is remembered as left to workers. The actor is who requested the change.

        Raises:
            CampaignStateError: it is being planned, or cancelled (`resume` takes that back).
        """
        await self._store.start(campaign, actor=actor, on_workers=on_workers)
        return await self._store.get(campaign)

    async def pause(self, campaign: int, reason: str, *, actor: str = "") -> bool:
        """*running* → *paused*: from the commit on no process begins a batch. Batches under way are finished.

        The reason and the actor, who requested the change, are for the record. Returns whether it was running.
        """
        return await self._store.pause(campaign, reason, actor=actor)

    async def resume(self, campaign: int, *, actor: str = "") -> Campaign:
        """*paused* or *cancelled* → *running*. Sends nothing itself: a run that waits continues, or call `run`.

        Raises:
            CampaignStateError: it is being planned, planned or done.
        """
        await self._store.resume(campaign, actor=actor)
        return await self._store.get(campaign)

    async def cancel(self, campaign: int, reason: str = "", *, actor: str = "") -> Campaign:
        """→ *cancelled*: what is planned is not sent, unless it is resumed.

        Numbers that were unknown and planned to be sent again are unknown again, also when it is resumed.

        Raises:
            CampaignStateError: it is being planned, or done.
        """
        await self._store.cancel(campaign, reason, actor=actor)
        return await self._store.get(campaign)

    async def preview_resend(self, campaign: int, state: BatchState) -> ResendQuote:
        """Count what `resend` would send again in this state, ``BatchState.UNKNOWN`` or ``BatchState.FAILED``."""
        return await self._store.preview_resend(campaign, state)

    async def resend(self, campaign: int, state: BatchState, *, expected: ResendQuote, actor: str) -> ResendQuote:
        """Plan new batches for all numbers in this state. The old batches stay, linked to the new ones.

        The campaign is *paused* afterwards and has to be run, unless it is running.

        Args:
            campaign: its id.
            state: ``BatchState.UNKNOWN``, which may send a text twice, or ``BatchState.FAILED``.
            expected: the result of `preview_resend` that was confirmed.
            actor: who requested it.

        Raises:
            ConfirmationRequiredError: the numbers or credits have changed since; nothing was planned.
            CampaignStateError: it is being planned, or cancelled.
        """
        return await self._store.resend(campaign, state, expected=expected, actor=actor)

    async def reconcile(self, campaign: int, *, report_deadline: float | None = None) -> Reconciliation:
        """Accept unknown batches and numbers whose arrival is proven by status reports. `run` does this by itself.

        An unknown batch without a report is marked *overdue* when its attempt is `report_deadline` seconds old.
        """
        return await self._store.reconcile(campaign, deadline=report_deadline)

    async def discard(self, campaign: int) -> None:
        """Delete a plan.

        Raises:
            CampaignStateError: sending has begun, or it was paused or cancelled: such a campaign is kept.
        """
        await self._store.discard(campaign)

    # --- read ---------------------------------------------------------------------------------------------------

    async def list(self) -> Sequence[Campaign]:
        """All campaigns, the newest first; also those that are being planned."""
        return await self._store.all()

    async def get(self, campaign: int) -> Campaign:
        """One campaign, with the counts of its plan."""
        return await self._store.get(campaign)

    async def counts(self, campaign: int) -> CampaignCounts:
        """Its numbers by state. Batches of a process that died become unknown when their lease has run out.

        Cost: reads all of its batches.
        """
        return await self._current(campaign, self._store.counts)

    async def pending_work(self, campaign: int) -> PendingWork:
        """Its state, and whether batches are planned or being sent. Costs less than `counts`."""
        return await self._current(campaign, self._store.pending_work)

    async def _current(self, campaign: int, read: Callable[[int], Awaitable[Counts]]) -> Counts:
        found = await read(campaign)
        if found.sending and await self._store.expire_leases(campaign):
            found = await read(campaign)
        return found

    async def deliveries(self, campaign: int) -> DeliveryCounts:
        """Its status reports, counted. Takes about a second for a million."""
        return await self._store.deliveries(campaign)

    async def messages(self, campaign: int, *, after: int = 0, limit: int = 1000) -> Sequence[CampaignMessage]:
        """Its messages with an id above `after`."""
        return await self._store.messages(campaign, after=after, limit=limit)

    async def batches(
        self, campaign: int, *, after: int = 0, limit: int = 1000, state: BatchState | None = None
    ) -> Sequence[Batch]:
        """Its batches with an id above `after`, of this state only if one is given."""
        return await self._store.batches(campaign, after=after, limit=limit, state=state)

    def numbers(self, campaign: int) -> AsyncGenerator[Sequence[NumberRecord]]:
        """Every number and its outcome, some thousands at a time.

        Numbers on the suppression list come last. Close the generator if you leave it early (`contextlib.aclosing`).
        """
        return export.numbers(self._store, campaign)

    async def excluded(
        self, campaign: int, *, reason: ExclusionReason | None = None, after: int = 0, limit: int = 1000
    ) -> Sequence[FeedEntry[ExcludedNumber]]:
        """What its plan left out, after a cursor."""
        return await self._store.left_out(campaign, reason=reason, after=after, limit=limit)

    async def events(self, campaign: int) -> Sequence[CampaignEvent]:
        """What was done to it, in order of time."""
        return await self._store.events(campaign)

    # --- files --------------------------------------------------------------------------------------------------

    async def export(
        self,
        campaign: int,
        target: str | os.PathLike[str] | TextIO,
        *,
        format: ExportFormat = "csv",  # noqa: A002  (the word that users look for)
        bom: bool = False,
    ) -> int:
        """Write every number and its outcome to a file.

        Args:
            campaign: its id.
            target: path of a file, which is replaced if it exists and which only its owner can read; or, for CSV, a
                stream open for text with ``newline=""``. It is written in worker threads.
            format: ``csv``, or ``parquet`` (extra ``files``).
            bom: begin a CSV file with a byte order mark, from which Excel knows that it is UTF-8.

        Returns:
            How many numbers.

        Raises:
            CampaignNotFoundError: there is none of this id; nothing was written.
            InvalidConfigurationError: there is no such format, or the extra is missing.
        """
        return await export.write_numbers(self._store, campaign, target, format=format, bom=bom)

    async def export_excluded(
        self,
        campaign: int,
        target: str | os.PathLike[str] | TextIO,
        *,
        reason: ExclusionReason | None = None,
        bom: bool = False,
    ) -> int:
        """Write as CSV what the plan left out, and why: ``number,reason,detail,source,line``.

        With a `reason` only what was left out for it. The other arguments are those of `export`.

        Returns:
            How many rows.

        Raises:
            CampaignNotFoundError: there is none of this id; nothing was written.
        """
        return await export.write_excluded(self._store, campaign, target, reason=reason, bom=bom)

    async def report(
        self,
        campaign: int,
        target: str | os.PathLike[str] | TextIO,
        *,
        language: Language = "en",
        time_zone: str = "Asia/Shanghai",
    ) -> ReportData:
        """Write a report: one HTML page that loads nothing and runs nothing. Needs the extra ``report``.

        The target is the path of a file, which is replaced if it exists, or a stream open for text. The time zone is
        that of the times in it.

        Returns:
            What it shows.

        Raises:
            InvalidConfigurationError: there is no such language or zone, or the extra is missing.
        """
        return await report.write_report(self._store, campaign, target, language=language, time_zone=time_zone)

    async def report_data(self, campaign: int) -> ReportData:
        """Read what a report shows."""
        return await report.read_report_data(self._store, campaign)
