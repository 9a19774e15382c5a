"""A campaign while it is being run: workers that execute batches, a watch that notices orders."""

from __future__ import annotations

import logging
import math
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import anyio

from qxt_async.campaign.execute import AttemptOutcome, BatchSender, Failures
from qxt_async.campaign.progress import ProgressReporter
from qxt_async.errors import (
    JournalBusyError,
    JournalUnavailableError,
    NotSentError,
    OutcomeUnknownError,
    QxtError,
    RefusedError,
    ThrottledError,
)
from qxt_async.journal.records import CampaignState
from qxt_async.protocol.numbers import normalize

if TYPE_CHECKING:
    from qxt_async.campaign.execute import AttemptResult
    from qxt_async.campaign.options import RunOptions
    from qxt_async.client import QxtClient
    from qxt_async.journal.campaigns import CampaignStore
    from qxt_async.journal.records import CampaignCounts

__all__ = ["Run"]

logger = logging.getLogger("qxt_async")

_BALANCE_TRIES: Final = 3
_LONGEST_REST: Final = 1.0
_JOURNAL_REST: Final = 0.2
_JOURNAL_QUIET: Final = 30.0  # seconds: an operation that is refused takes ten at most


class Run:
    """One campaign being run by this process; see `CampaignRunner`."""

    def __init__(self, campaigns: CampaignStore, client: QxtClient, options: RunOptions, campaign: int) -> None:
        self._campaigns = campaigns
        self._client = client
        self._options = options
        self._campaign = campaign
        self._executor = BatchSender(
            campaigns,
            client,
            retry=options.retry,
            lease_margin=options.lease_margin,
            journal_timeout=options.journal_timeout,
        )
        self._speedometer = ProgressReporter(campaigns, campaign, options)
        self._stopped = anyio.Event()
        self._look = anyio.Event()
        self._work_to_do = anyio.Event()
        self._busy = 0
        self._quiet = anyio.Event()
        self._failures = Failures(options.max_consecutive_failures)
        self._unreached = 0
        self._hold_until = float("-inf")
        self._held_for = ""
        self._asking = anyio.Lock()
        self._unasked = options.balance_every
        self._balance_failures = 0
        self._short = ""
        self._journal_refuses_since: float | None = None
        self._journal_refused_last = 0.0
        self._error: Exception | None = None

    @property
    def stopping(self) -> bool:
        """No further batch is begun."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """Begin no further batch."""
        self._stopped.set()
        self._work_to_do.set()
        self._look.set()

    async def run(self) -> CampaignCounts:
        """See `CampaignRunner.run`."""
        testers = [normalize(number, pattern=self._client.number_pattern) for number in self._options.test_numbers]
        await self._campaigns.start(self._campaign, actor=self._options.actor)
        await self._campaigns.expire_leases(self._campaign)
        await self._reconcile()  # what is planned again may be proven by now
        if testers:
            await self._campaigns.plan_test(
                self._campaign, testers, pause_after=self._options.pause_after_test, actor=self._options.actor
            )
        async with anyio.create_task_group() as watch:
            watch.start_soon(self._watch)
            watch.start_soon(self._keep_reconciling)
            async with anyio.create_task_group() as workers:
                # Each place is worth two: while the outcome of one is written, the other sends.
                for _ in range(2 * self._client.max_concurrency):
                    workers.start_soon(self._work)
            watch.cancel_scope.cancel()
        if self._error is not None:
            raise self._error
        await self._reconcile()
        return await self._speedometer.tell()

    # --- sending ------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while not self.stopping:
            try:
                await self._work_on()
            except (JournalUnavailableError, JournalBusyError) as error:
                self._journal_refused(error)
            except QxtError as error:
                self._fail(error)

    def _fail(self, error: Exception) -> None:
        """End the run with an error, when what is under way is settled."""
        self._error = self._error or error
        self.stop()

    async def _work_on(self) -> None:
        while not self.stopping:
            if not await self._may_begin():
                continue
            self._unasked += 1
            self._busy += 1
            try:
                execution = await self._executor.execute(
                    self._campaign, still=self._still, on_result=self._failures.record
                )
            finally:
                self._busy -= 1
                if not self._busy:
                    self._quiet.set()
            if execution is None:
                await self._idle()
            elif execution.fate is AttemptOutcome.GIVEN_UP:
                self._unasked -= 1
                if self._executor.unwritten:
                    self._hold(_JOURNAL_REST, "the journal does not take an outcome")
            else:
                self._journal_refuses_since = None
                await self._account_for(execution)

    def _still(self) -> bool:
        """Asked when a worker that may begin has waited for its turn."""
        return not self.stopping and not self._failures.reason and self._hold_until <= anyio.current_time()

    async def _idle(self) -> None:
        """Nothing can be claimed: wait until the watch has seen something."""
        self._unasked -= 1
        self._journal_refuses_since = None
        if not self._busy:
            self._look.set()
        await self._work_to_do.wait()

    async def _account_for(self, execution: AttemptResult) -> None:
        if execution.fate is AttemptOutcome.REFUSED:
            await self._pause(str(execution.error))
        elif execution.fate is AttemptOutcome.NOT_SENT:
            self._unreached += 1
            # Once is an accident, twice a gateway that cannot be reached: no use in trying every batch on it.
            if self._unreached > 1 or isinstance(execution.error, ThrottledError):
                self._hold(execution.delay, str(execution.error))
        else:
            self._unreached = 0
            self._failures.heed_settled(execution)

    # --- what holds it back -------------------------------------------------------------------------------------

    async def _may_begin(self) -> bool:
        """Whether the next batch may be begun now; if not, some time has passed."""
        if self._failures.reason:
            await self._pause(self._failures.reason)
            self._failures.begin_anew()
            return False
        held = self._hold_until - anyio.current_time()
        if held > 0:
            await self._rest(held, f"{self._held_for}; next try in {math.ceil(held)} s")
            return False
        if self._options.window is not None:
            closed = self._options.window.closed_for(datetime.now(UTC))
            if closed > 0:
                await self._rest(closed, f"outside of {self._options.window}")
                return False
        if self._options.check_balance and self._unasked >= self._options.balance_every:
            await self._check_balance()
            return False
        self._speedometer.waiting = ""
        return True

    async def _rest(self, seconds: float, why: str) -> None:
        # Not longer than a second at a time: the clock may be set meanwhile.
        self._speedometer.waiting = why
        with anyio.move_on_after(min(seconds, _LONGEST_REST)):
            await self._stopped.wait()

    def _hold(self, seconds: float, why: str) -> None:
        until = anyio.current_time() + seconds
        if until > self._hold_until:
            self._hold_until, self._held_for = until, why

    async def _pause(self, reason: str) -> None:
        await self._campaigns.pause(self._campaign, reason, actor=self._options.actor)
        self._look.set()

    async def _check_balance(self) -> None:
        """Ask for the balance, one worker for all, and pause if it does not suffice."""
        every = self._options.balance_every
        async with self._asking:
            if self._unasked < every or self.stopping:
                return
            try:
                # What is under way may be in the balance already, or not yet: if that matters, it has to end first.
                if not await self._suffices(every + self._busy) and self._busy:
                    self._quiet = anyio.Event()
                    await self._quiet.wait()
                    await self._suffices(every)
            except (NotSentError, OutcomeUnknownError, RefusedError) as error:
                if error.concerns_every_batch:
                    self._short = str(error)
                else:
                    self._balance_failures += 1
                    self._hold(self._options.retry.backoff, f"the balance cannot be asked: {error}")
                    if self._balance_failures < _BALANCE_TRIES:
                        return
                    self._short = f"the balance cannot be asked: {error}"
            if not self._short:
                self._unasked = self._balance_failures = 0
                return
            await self._pause(self._short)
            self._short, self._balance_failures = "", 0
            await self._work_to_do.wait()

    async def _suffices(self, batches: int) -> bool:
        cost = await self._campaigns.cost_ahead(self._campaign, batches)
        self._short = ""
        if cost:
            floor = max(cost, self._options.min_balance)
            balance = self._speedometer.balance = (await self._client.balance()).sms
            if balance < floor:
                self._short = f"the balance is {balance}, at least {floor} are wanted"
        return not self._short

    def _journal_refused(self, error: QxtError) -> None:
        now = time.monotonic()
        # Idle workers do not see that it is there again: what is long after the last refusal is another failure.
        if self._journal_refuses_since is None or now - self._journal_refused_last > _JOURNAL_QUIET:
            self._journal_refuses_since = now
            logger.warning("the journal refuses, nothing is sent meanwhile: %s", error)
        self._journal_refused_last = now
        if self._executor.lost or now - self._journal_refuses_since >= self._options.journal_timeout:
            self._fail(error)
        self._hold(_JOURNAL_REST, f"the journal refuses: {error}")

    # --- watching -----------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            try:
                await self._look_around()
                await self._speedometer.tell_in_time()
            except (JournalUnavailableError, JournalBusyError) as error:
                self._journal_refused(error)
            # A mistake in on_progress must not take with it what is paid for: it is raised when that is settled.
            except Exception as error:  # noqa: BLE001
                self._fail(error)
            if self.stopping:
                await anyio.sleep(self._options.poll_interval)
                continue
            with anyio.move_on_after(self._options.poll_interval):
                await self._look.wait()
            if not self.stopping:
                self._look = anyio.Event()

    async def _look_around(self) -> None:
        """See what the journal says, and act on it."""
        pending_work = await self._campaigns.pending_work(self._campaign)
        if pending_work.state is CampaignState.PAUSED and self._options.wait_while_paused:
            self._speedometer.waiting = f"paused: {pending_work.reason}"
            self._failures.begin_anew()  # what is answered now was begun before
        elif pending_work.state is not CampaignState.RUNNING:
            self.stop()
        elif self.stopping:
            return
        elif pending_work.planned:
            self._work_to_do.set()
            self._work_to_do = anyio.Event()
        elif pending_work.sending:
            # Another process may have died with it.
            await self._campaigns.expire_leases(self._campaign, alive=self._executor.alive)
        elif not self._busy and await self._campaigns.complete(self._campaign):
            self.stop()

    async def _keep_reconciling(self) -> None:
        while True:
            await anyio.sleep(self._options.reconcile_every)
            await self._reconcile()

    async def _reconcile(self) -> None:
        try:
            await self._campaigns.reconcile(self._campaign, deadline=self._options.report_deadline)
        except (JournalUnavailableError, JournalBusyError) as error:
            logger.warning("unknown batches are looked at later: %s", error)
