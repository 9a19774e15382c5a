"""A worker: takes batches from the engine, and sends them by the same rules as a run in one process.

The engine's own worker ends when the database goes away (procrastinate#1116); it is started again until this worker is
stopped. There are two of them, one for batches and one for upkeep (announcing, recovering), so that upkeep never waits
behind batches that may not be begun yet.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import anyio
import attrs
import psycopg
from procrastinate.exceptions import ProcrastinateException
from procrastinate.worker import Worker

from qxt_async.campaign.guard import Guard
from qxt_async.campaign.options import CampaignOptions
from qxt_async.errors import (
    InvalidConfigurationError,
    InvalidRequestError,
    JournalBusyError,
    JournalUnavailableError,
    QxtError,
)
from qxt_async.journal.postgres.database import PostgresDatabase
from qxt_async.sending.recorded import AttemptOutcome
from qxt_async.workers.engine import BATCHES, JOB_SECONDS, SEND, SILENCE, UPKEEP, Engine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from procrastinate import App

    from qxt_async.client import QxtClient
    from qxt_async.journal import Journal

logger = logging.getLogger("qxt_async")

_ANNOUNCE: Final = "* * * * * */2"
_RECOVER: Final = "* * * * * */5"
_RECONCILE: Final = "* * * * * */30"
FIRST_WAIT: Final = 0.2
_LONGEST_WAIT: Final = 5.0
_REST: Final = 0.2


@attrs.frozen(kw_only=True)
class WorkerOptions(CampaignOptions):
    """How a worker works, in addition to `CampaignOptions`. The workers of one account should have the same options.

    What a worker counts (failures, batches since the balance was checked) is counted per campaign and worker.
    """


def require_postgres(journal: Journal) -> PostgresDatabase:
    """The database of a journal that machines can share.

    Raises:
        InvalidConfigurationError: the journal is a file.
    """
    if not isinstance(journal.database, PostgresDatabase):
        raise InvalidConfigurationError("workers share a journal on PostgreSQL: give postgresql://…")
    return journal.database


class CampaignWorker:
    """Sends batches of all running campaigns of a journal, together with other workers on any host.

    It runs in the caller's event loop, which has to be asyncio's, and changes neither signal handlers nor logging.

    Args:
        journal: on PostgreSQL, open.
        client: open; its concurrency, rate and timeout hold for this worker. The limits of its account
            (``journal.limits``) hold for all workers together.
        options: see `WorkerOptions`.

    Raises:
        InvalidConfigurationError: the journal is a file.
    """

    def __init__(self, journal: Journal, client: QxtClient, options: WorkerOptions | None = None) -> None:
        self._options = options or WorkerOptions()
        database = require_postgres(journal)
        self._store = journal.campaigns_of(client.user)
        # Two jobs per connection, so that one can send while the other waits for its commit.
        self._jobs = 2 * client.max_concurrency
        self._engine = Engine(database)
        self._guard = Guard(self._store, client, self._options, self._engine.running, logging.WARNING)
        self._under_way: set[anyio.CancelScope] = set()
        self._halves: set[Worker] = set()

    @property
    def stopping(self) -> bool:
        """`stop` was called."""
        return self._guard.stopped.is_set()

    def stop(self) -> None:
        """Begin no further batch: `run` returns when those under way are settled. Call it in the event loop."""
        self._guard.stopped.set()
        for half in self._halves:
            half.stop()  # type: ignore[no-untyped-call]

    async def run(self) -> None:
        """Work until `stop`. May be called once.

        When the database goes away, nothing is begun until it is back.

        Raises:
            JournalUnavailableError: the database cannot be reached at the beginning.
            JournalSchemaError: a newer version of procrastinate made its tables.

        Cancelling: no batch is begun. Those under way are abandoned, and their outcomes are recorded.
        """
        async with self._engine, anyio.create_task_group() as group:
            batches, upkeep = self._engine.app(), self._engine.app()
            await self._engine.attach(batches)
            await self._engine.attach(upkeep)
            self._add_sending(batches)
            self._add_upkeep(upkeep)
            group.start_soon(self._give_up_when_cancelled)
            # The engine is asked to stop, not cancelled: it has to sign off from the database.
            with anyio.CancelScope(shield=True):
                async with anyio.create_task_group() as halves:
                    halves.start_soon(self._keep_working, batches, BATCHES, self._jobs)
                    halves.start_soon(self._keep_working, upkeep, UPKEEP, 1)
            group.cancel_scope.cancel()

    async def _give_up_when_cancelled(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self.stop()
            for scope in self._under_way:
                scope.cancel()

    async def _keep_working(self, app: App, queue: str, concurrency: int) -> None:
        """Run one of the engine's workers, again when it ends by itself."""
        wait = FIRST_WAIT
        while not self.stopping:
            began = anyio.current_time()
            half = Worker(
                app,
                queues=[queue],
                name=queue,
                concurrency=concurrency,
                fetch_job_polling_interval=1.0,
                abort_job_polling_interval=60.0,
                listen_notify=queue == BATCHES,
                delete_jobs="successful",
                install_signal_handlers=False,
                update_heartbeat_interval=SILENCE / 4,
                stalled_worker_timeout=SILENCE,
            )
            self._halves.add(half)
            try:
                await half.run()  # type: ignore[no-untyped-call]
            except (ProcrastinateException, psycopg.Error, OSError) as error:
                logger.warning("the engine's worker ended (%s)", type(error).__name__)
            finally:
                self._halves.discard(half)
            if anyio.current_time() - began > SILENCE:
                wait = FIRST_WAIT
            with anyio.move_on_after(wait):
                await self._guard.stopped.wait()
            wait = min(2 * wait, _LONGEST_WAIT)

    # --- sending ------------------------------------------------------------------------------------------------

    def _add_sending(self, app: App) -> None:
        @app.task(name=SEND, queue=BATCHES)
        async def send(campaign: int) -> None:
            with anyio.CancelScope() as scope:
                self._under_way.add(scope)
                try:
                    await self._send(campaign)
                finally:
                    self._under_way.discard(scope)

    async def _send(self, campaign: int) -> None:
        """Send batches of a campaign for some seconds. If any are left then, the campaign gets another job."""
        until = anyio.current_time() + JOB_SECONDS
        sent = False
        while not self.stopping and anyio.current_time() < until:
            seconds, _ = self._guard.held()
            if seconds > 0:
                await self._guard.rest(seconds)
            else:
                try:
                    if not (sent or await self._engine.has_due(campaign)) or not await self._guard.admits(campaign):
                        return
                    sent = await self._send_next(campaign)
                except (JournalUnavailableError, JournalBusyError) as error:
                    # Ending the job would fail, too: the engine has the same database.
                    logger.warning("the journal refuses, nothing is sent meanwhile: %s", error)
                    sent = False
                if not sent:
                    await anyio.sleep(_REST)

    async def _send_next(self, campaign: int) -> bool:
        """Send a batch; returns whether one was begun."""
        try:
            attempt = await self._guard.send(campaign)
        except InvalidRequestError as error:
            await self._guard.pause(campaign, str(error))
            return False
        return attempt is not None and attempt.outcome is not AttemptOutcome.GIVEN_UP

    # --- upkeep -------------------------------------------------------------------------------------------------

    def _add_upkeep(self, app: App) -> None:
        for cron, work in ((_ANNOUNCE, self._announce), (_RECOVER, self._recover), (_RECONCILE, self._reconcile)):
            self._add_periodic(app, cron, work)

    def _add_periodic(self, app: App, cron: str, work: Callable[[], Awaitable[None]]) -> None:
        name = f"qxt.{work.__name__.strip('_')}"

        async def task(timestamp: int) -> None:  # noqa: ARG001  (the engine gives it)
            try:
                await work()
            except QxtError as error:
                logger.warning("%s is tried again: %s", name, error)

        task.__name__ = name
        app.periodic(cron=cron)(app.task(name=name, queue=UPKEEP, queueing_lock=name)(task))

    async def _announce(self) -> None:
        """Give jobs to campaigns with batches that are to be sent. A campaign with nothing left is done."""
        # As many for each worker as it takes, and as many that wait.
        jobs = 2 * self._jobs * max(1, await self._engine.workers())
        for campaign in await self._engine.running():
            if not await self._engine.announce(campaign, jobs=jobs):
                pending_work = await self._store.pending_work(campaign)
                if not (pending_work.planned or pending_work.sending) and await self._store.complete(campaign):
                    await self._store.reconcile(campaign, deadline=self._options.report_deadline)

    async def _recover(self) -> None:
        """Take over from dead workers: others get their jobs, and what they were sending becomes unknown."""
        for campaign in await self._engine.expired():
            await self._store.expire_leases(campaign, alive=self._guard.sender.alive)
        await self._engine.recover()

    async def _reconcile(self) -> None:
        for campaign in await self._engine.in_doubt(self._options.report_deadline):
            await self._store.reconcile(campaign, deadline=self._options.report_deadline)
