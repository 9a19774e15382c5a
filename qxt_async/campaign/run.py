"""One campaign that this process runs: workers that send batches, and a watch that notices orders."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

import anyio

from qxt_async.campaign.guard import Guard
from qxt_async.campaign.progress import ProgressReporter
from qxt_async.errors import JournalBusyError, JournalUnavailableError, QxtError
from qxt_async.journal.records import CampaignState
from qxt_async.protocol.numbers import normalize
from qxt_async.sending.recorded import AttemptOutcome

if TYPE_CHECKING:
    from collections.abc import Collection

    from qxt_async.campaign.options import RunOptions
    from qxt_async.client import QxtClient
    from qxt_async.journal.campaigns import CampaignStore
    from qxt_async.journal.records import CampaignCounts

logger = logging.getLogger("qxt_async")

_JOURNAL_REST: Final = 0.2
_JOURNAL_QUIET: Final = 30.0  # seconds: an operation that is refused takes ten at most


class CampaignRun:
    """One campaign that this process runs."""

    def __init__(self, store: CampaignStore, client: QxtClient, options: RunOptions, campaign: int) -> None:
        self._store = store
        self._client = client
        self._options = options
        self._campaign = campaign
        self._guard = Guard(store, client, options, self._itself)
        self._reporter = ProgressReporter(store, campaign, options)
        self._waiting = ""
        self._look = anyio.Event()
        self._work_to_do = anyio.Event()
        self._refused_since: float | None = None  # ``None`` while the journal works
        self._refused_last = 0.0
        self._error: Exception | None = None

    async def _itself(self) -> Collection[int]:
        return (self._campaign,)

    @property
    def stopping(self) -> bool:
        """No further batch is begun."""
        return self._guard.stopped.is_set()

    def stop(self) -> None:
        """Begin no further batch."""
        self._guard.stopped.set()
        self._work_to_do.set()
        self._look.set()

    async def run(self) -> CampaignCounts:
        """Result, errors and cancellation as for `Campaigns.run`."""
        options = self._options
        testers = [normalize(number, pattern=self._client.number_pattern) for number in options.test_numbers]
        await self._store.start(self._campaign, actor=options.actor)
        await self._store.expire_leases(self._campaign)
        await self._reconcile()  # what is planned again may be proven by now
        if testers:
            await self._store.plan_test(
                self._campaign, testers, pause_after=options.pause_after_test, actor=options.actor
            )
        async with anyio.create_task_group() as watch:
            watch.start_soon(self._watch)
            watch.start_soon(self._keep_reconciling)
            async with anyio.create_task_group() as workers:
                # Two workers per connection, so that one can send while the other waits for its commit.
                for _ in range(2 * self._client.max_concurrency):
                    workers.start_soon(self._work)
            watch.cancel_scope.cancel()
        if self._error is not None:
            raise self._error
        await self._reconcile()
        return await self._reporter.tell(self._waiting, self._guard.balance)

    # --- sending ------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while not self.stopping:
            try:
                await self._begin_next()
            except (JournalUnavailableError, JournalBusyError) as error:
                self._journal_refused(error)
            except QxtError as error:
                self._fail(error)

    async def _begin_next(self) -> None:
        seconds, self._waiting = self._guard.held()
        if seconds > 0:
            await self._guard.rest(seconds)
            return
        admitted = await self._guard.admits(self._campaign)
        attempt = await self._guard.send(self._campaign) if admitted else None
        if attempt is None or attempt.outcome is not AttemptOutcome.GIVEN_UP:
            self._refused_since = None
        if attempt is None and not self.stopping:
            # Nothing can be claimed or begun: wait until the watch has seen something.
            if not self._guard.health(self._campaign).under_way:
                self._look.set()
            await self._work_to_do.wait()

    def _fail(self, error: Exception) -> None:
        """End the run with an error, when what is under way is settled."""
        self._error = self._error or error
        self.stop()

    def _journal_refused(self, error: QxtError) -> None:
        now = time.monotonic()
        # Idle workers do not notice that the journal works again: a refusal long after the last one is a new outage.
        if self._refused_since is None or now - self._refused_last > _JOURNAL_QUIET:
            self._refused_since = now
            logger.warning("the journal refuses, nothing is sent meanwhile: %s", error)
        self._refused_last = now
        if self._guard.sender.lost or now - self._refused_since >= self._options.journal_timeout:
            self._fail(error)
        self._guard.hold(_JOURNAL_REST, f"the journal refuses: {error}")

    # --- watching -----------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            try:
                await self._look_around()
                await self._reporter.tell_in_time(self._waiting, self._guard.balance)
            except (JournalUnavailableError, JournalBusyError) as error:
                self._journal_refused(error)
            # A mistake in on_progress must not cut off what is paid for: it is raised when that is settled.
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
        """Read the state of the campaign, and act on it."""
        pending = await self._store.pending_work(self._campaign)
        health = self._guard.health(self._campaign)
        if pending.state is CampaignState.PAUSED and self._options.wait_while_paused:
            self._waiting = f"paused: {pending.reason}"
            health.reset()  # what is answered now was begun before
        elif pending.state is not CampaignState.RUNNING:
            self.stop()
        elif self.stopping:
            return
        elif pending.planned:
            self._work_to_do.set()
            self._work_to_do = anyio.Event()
        elif pending.sending:
            # Another process may have died with it.
            await self._store.expire_leases(self._campaign, alive=self._guard.sender.alive)
        elif not health.under_way and await self._store.complete(self._campaign):
            self.stop()

    async def _keep_reconciling(self) -> None:
        while True:
            await anyio.sleep(self._options.reconcile_every)
            await self._reconcile()

    async def _reconcile(self) -> None:
        try:
            await self._store.reconcile(self._campaign, deadline=self._options.report_deadline)
        except (JournalUnavailableError, JournalBusyError) as error:
            logger.warning("unknown batches are looked at later: %s", error)
