"""The engine that distributes the batches to workers: procrastinate, with its own tables beside the journal's.

A job holds the id of a campaign and nothing else. It means: send batches of this campaign for some seconds, one after
the other. The journal decides which batches those are, by its claims. So a job that is delivered twice, tried again or
taken over sends nothing twice, what a dead worker did not claim is claimed by others, and the engine's own cost is
shared by many batches. A campaign with batches that are due gets jobs until there are enough for all workers.

The tables are in the schema ``qxt_engine``, so that an application that uses procrastinate in the same database keeps
its own jobs and its own version of the tables. Everything in the schema can be made again from the journal.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import anyio
import psycopg
from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Status
from procrastinate.manager import JobManager
from procrastinate.schema import SchemaManager
from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from qxt_async.errors import JournalSchemaError, JournalUnavailableError
from qxt_async.journal.postgres.connecting import BOUNDS, unavailable
from qxt_async.journal.timestamps import CLOCK_LEEWAY

if TYPE_CHECKING:
    from types import TracebackType

    from procrastinate.connector import BaseConnector
    from procrastinate.jobs import Job
    from procrastinate.types import JSONDict
    from psycopg import AsyncConnection

    from qxt_async.journal.postgres.database import PostgresDatabase

logger = logging.getLogger("qxt_async")

BATCHES: Final = "qxt-batches"
UPKEEP: Final = "qxt-upkeep"
SEND: Final = "qxt.send"

# Jobs of a campaign before a worker has announced it.
FIRST_JOBS: Final = 100
# Seconds without a heartbeat after which a worker is taken to be dead.
SILENCE: Final = 12.0
# Seconds after which a job begins no further batch. Then batches of a campaign with a higher priority have their turn.
JOB_SECONDS: Final = 3.0
# A job that began so long ago may be lost: the worker never got it, or its end was never recorded.
_LIVELY: Final = "15 seconds"
# Seconds after the deadline for reports in which campaigns are still reconciled, so that it is recorded as passed.
_TO_TELL: Final = 3600
# Hours for which jobs that ended in an error are kept.
_KEPT: Final = 24
# Seconds between attempts to end a job.
_AGAIN: Final = 0.3
# One process at a time announces the batches of a campaign, and one makes the schema. The first key spells QXT.
_LOCK_SCHEMA: Final = b"SELECT pg_advisory_xact_lock(5331028, 4)"
LOCK_ANNOUNCEMENTS: Final = b"SELECT pg_advisory_xact_lock(5331033, hashint8(%(campaign)s::bigint))"

_VERSION: Final = b"SELECT obj_description(to_regnamespace('qxt_engine')::oid, 'pg_namespace')"
_ONLY_OURS: Final = b"SET search_path TO qxt_engine"

# The condition under which the journal's claim takes a batch: whether it is planned and due, tests first. A wait that
# is longer than any back-off comes from a clock that was set back. It is asked in the order of the claim, whose index
# knows what is planned.
_DUE: Final = """
    b.state = 'planned' AND (b.test > 0 OR NOT EXISTS (
        SELECT FROM qxt.batches AS t WHERE t.campaign = b.campaign AND t.test > 0 AND t.state IN ('planned', 'sending')
    )) AND (b.not_before <= qxt.micros(NULL) OR b.not_before > qxt.micros(NULL) + 600000000)
    AND EXISTS (SELECT FROM qxt.campaigns AS c WHERE c.id = b.campaign AND c.state = 'running')
"""

# The jobs that are missing: one for each batch that is due, up to the limit, without those that wait or run.
_MISSING: Final = f"""
SELECT
    (SELECT count(*) FROM (
        SELECT FROM qxt.batches AS b WHERE b.campaign = %(campaign)s AND {_DUE}
        ORDER BY b.test DESC, b.id LIMIT %(jobs)s
    ) AS due),
    (SELECT count(*) FROM procrastinate_jobs AS job
    WHERE job.task_name = '{SEND}' AND (job.args ->> 'campaign')::bigint = %(campaign)s AND (
        job.status = 'todo' OR (job.status = 'doing' AND EXISTS (
            SELECT FROM procrastinate_events AS event
            WHERE event.job_id = job.id AND event.type = 'started' AND event.at > now() - interval '{_LIVELY}'
        ))
    )),
    (SELECT priority FROM qxt.campaigns WHERE id = %(campaign)s)
"""  # noqa: S608  (nothing of it comes from outside)

_IS_DUE: Final = f"""
SELECT 1 FROM qxt.batches AS b WHERE b.campaign = %(campaign)s AND {_DUE} ORDER BY b.test DESC, b.id LIMIT 1
""".encode()  # noqa: S608
_PRIORITISE: Final = b"UPDATE qxt.campaigns SET priority = %(priority)s WHERE id = %(campaign)s"
_PRIORITISE_JOBS: Final = f"""
UPDATE procrastinate_jobs SET priority = %(priority)s
WHERE task_name = '{SEND}' AND status = 'todo' AND (args ->> 'campaign')::bigint = %(campaign)s
""".encode()  # noqa: S608  (nothing of it comes from outside)
_RUNNING: Final = b"SELECT id FROM qxt.campaigns WHERE state = 'running' ORDER BY id"
# A lease that begins in the future comes from a clock that was set back, too.
_EXPIRED: Final = b"""
SELECT c.id FROM qxt.campaigns AS c WHERE EXISTS (
    SELECT FROM qxt.batches AS b WHERE b.campaign = c.id AND b.state = 'sending' AND b.mid IS NULL
        AND (b.lease_until <= qxt.micros(NULL) OR b.claimed_at > qxt.micros(NULL) + %(leeway)s)
)
"""
_IN_DOUBT: Final = b"""
SELECT DISTINCT c.id FROM qxt.campaigns AS c JOIN qxt.batches AS b ON b.campaign = c.id
WHERE (c.state = 'running' OR c.changed_at > qxt.micros(NULL) - %(age)s) AND (
    (b.state IN ('sending', 'unknown') AND b.mid IS NULL) OR (b.state = 'accepted' AND b.unknown + b.superseded > 0)
)
"""
# A `CampaignWorker` is two of the engine's workers.
_WORKERS: Final = b"""
SELECT count(*) / 2 FROM procrastinate_workers WHERE last_heartbeat > now() - make_interval(secs => %(silence)s)
"""


class _PersistentManager(JobManager):
    """Tries for some seconds to end a job. procrastinate's own tries once, and loses the error.

    Args:
        connector: the app's.
        patience: for so many seconds.
    """

    def __init__(self, connector: BaseConnector, patience: float) -> None:
        super().__init__(connector)
        self._patience = patience

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:  # noqa: FBT001  (the engine's)
        until = anyio.current_time() + self._patience
        while True:
            try:
                return await super().finish_job(job, status, delete_job)
            except ConnectorException as error:
                lost = isinstance(error.__cause__, psycopg.OperationalError)
                if not lost or anyio.current_time() >= until:
                    # Another worker has ended it, or `recover` will when this worker is gone.
                    logger.info("a job has not been ended: %s", refusal_of(error))
                    return None
            await anyio.sleep(_AGAIN)


class Engine:
    """The engine beside a journal, in the same database.

    Args:
        database: the journal's, open.
        connections: at most, in addition to the one that listens for jobs.
    """

    def __init__(self, database: PostgresDatabase, *, connections: int = 4) -> None:
        self._patience = database.connect_timeout
        self._pool: AsyncConnectionPool[AsyncConnection[Any]] = AsyncConnectionPool(
            kwargs=database.parameters,
            min_size=1,
            max_size=connections,
            open=False,
            configure=_configure,
            timeout=self._patience,
            name="qxt-engine",
            # After that, the next operation connects again, and not a timer minutes later.
            reconnect_timeout=self._patience / 2,
        )
        self._app = App(connector=PsycopgConnector())

    def app(self) -> App:
        """A new `App`, which works when the engine is open and `attach` was called. Apps must not share tasks."""
        # `configure` is for the connection that listens, which is not one of the pool.
        app = App(connector=PsycopgConnector(configure=_configure))
        app.job_manager = _PersistentManager(app.connector, self._patience)
        return app

    async def open(self) -> None:
        """Connect, and migrate the engine's tables.

        Raises:
            JournalSchemaError: a newer version of procrastinate made them.
            JournalUnavailableError: the database cannot be reached, or refuses.
        """
        with anyio.CancelScope(shield=True):
            try:
                await self._pool.open(wait=True, timeout=2 * self._patience)
                async with self._pool.connection() as connection, connection.transaction():
                    await _install(connection)
                await self.attach(self._app)
            except psycopg.Error as error:
                await self._pool.close()
                raise unavailable(error) from error
            except BaseException:
                await self._pool.close()
                raise

    async def attach(self, app: App) -> None:
        """Let an `App` from `app` use the engine's connections."""
        await app.connector.open_async(self._pool)

    async def close(self) -> None:
        """Close all connections. May be called again."""
        with anyio.CancelScope(shield=True):
            await self._pool.close()

    async def __aenter__(self) -> Self:
        """`open`."""
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """`close`."""
        await self.close()

    # --- announcing ---------------------------------------------------------------------------------------------

    async def announce(self, campaign: int, *, jobs: int = FIRST_JOBS) -> int:
        """Add the jobs that a running campaign with batches that are due has too few of, in one transaction.

        Args:
            campaign: its id.
            jobs: at most, with those that wait or run already.

        Returns:
            How many were added.

        Raises:
            JournalUnavailableError: the database refuses; nothing was announced.
        """
        values = {"campaign": campaign, "jobs": jobs}
        try:
            async with self._pool.connection() as connection, connection.transaction():
                await connection.execute(LOCK_ANNOUNCEMENTS, values)
                ((due, alive, priority),) = await (await connection.execute(_MISSING.encode(), values)).fetchall()
                missing = max(0, due - alive)
                if missing:
                    task = self._app.configure_task(SEND, queue=BATCHES, connection=connection, priority=priority)
                    arguments: JSONDict = {"campaign": campaign}
                    await task.batch_defer_async(*[arguments] * missing)
        except psycopg.Error as error:
            raise unavailable(error) from error
        except ConnectorException as error:
            raise refusal_of(error) from error
        return int(missing)

    async def prioritise(self, campaign: int, priority: int) -> None:
        """Send a campaign's batches before those of campaigns with a lower priority, from now on.

        Raises:
            JournalUnavailableError: the database refuses; nothing was changed.
        """
        values = {"campaign": campaign, "priority": priority}
        try:
            async with self._pool.connection() as connection, connection.transaction():
                await connection.execute(LOCK_ANNOUNCEMENTS, values)
                await connection.execute(_PRIORITISE, values)
                await connection.execute(_PRIORITISE_JOBS, values)
        except psycopg.Error as error:
            raise unavailable(error) from error

    async def has_due(self, campaign: int) -> bool:
        """Whether a campaign is running and has a batch that may be claimed now."""
        return bool(await self._keys(_IS_DUE, campaign=campaign))

    async def running(self) -> list[int]:
        """The campaigns that are *running*."""
        return await self._keys(_RUNNING)

    # --- after a death ------------------------------------------------------------------------------------------

    async def expired(self) -> list[int]:
        """The campaigns with batches whose lease has run out."""
        return await self._keys(_EXPIRED, leeway=CLOCK_LEEWAY)

    async def in_doubt(self, age: float) -> list[int]:
        """The campaigns with unknown numbers that are running, or were within the last `age` seconds and an hour."""
        return await self._keys(_IN_DOUBT, age=round((age + _TO_TELL) * 1_000_000))

    async def recover(self) -> int:
        """Give the jobs of dead workers to others, and delete jobs that failed long ago.

        Returns:
            How many jobs were given to others.

        Raises:
            JournalUnavailableError: the database refuses.
        """
        manager = self._app.job_manager
        recovered = 0
        try:
            await manager.prune_stalled_workers(SILENCE)
            for queue in (BATCHES, UPKEEP):
                for job in await manager.get_stalled_jobs(queue=queue, seconds_since_heartbeat=SILENCE):
                    recovered += await self._retry(job)
                await manager.delete_old_jobs(
                    _KEPT, queue=queue, include_failed=True, include_cancelled=True, include_aborted=True
                )
        except ConnectorException as error:
            raise refusal_of(error) from error
        return recovered

    async def _retry(self, job: Job) -> bool:
        try:
            await self._app.job_manager.retry_job(job)
        except ConnectorException:
            # A periodic job whose next one waits already, or another worker was faster.
            await self._app.job_manager.finish_job(job, Status.FAILED, delete_job=True)
            return False
        return True

    async def workers(self) -> int:
        """How many workers are alive."""
        (count,) = await self._keys(_WORKERS, silence=SILENCE)
        return count

    async def _keys(self, statement: bytes, **values: Any) -> list[int]:
        try:
            async with self._pool.connection() as connection:
                rows = await (await connection.execute(statement, values)).fetchall()
        except psycopg.Error as error:
            raise unavailable(error) from error
        return [key for (key,) in rows]


def refusal_of(error: ConnectorException) -> JournalUnavailableError:
    """The journal's error for an error of the engine."""
    cause = error.__cause__
    return unavailable(cause) if isinstance(cause, psycopg.Error) else JournalUnavailableError(str(error))


async def _configure(connection: AsyncConnection[Any]) -> None:
    # Without autocommit each statement of a job would take two more round trips.
    await connection.set_autocommit(True)
    # `announce` takes a lock, and must see what was committed before that, whatever the database's default is.
    await connection.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)
    await connection.execute(_ONLY_OURS + b";" + BOUNDS)


async def _install(connection: AsyncConnection[Any]) -> None:
    """Migrate the engine's tables. The comment of their schema is their version."""
    scripts = await anyio.to_thread.run_sync(migrations)
    newest = max(scripts)
    await connection.execute(_LOCK_SCHEMA)
    ((found,),) = await (await connection.execute(_VERSION)).fetchall()
    if found == newest:
        return
    if found is None:
        await connection.execute(b"CREATE SCHEMA IF NOT EXISTS qxt_engine")
        await connection.execute(SchemaManager.get_schema().encode())
    elif found > newest:
        message = f"a newer procrastinate ({found}) made the engine's tables: upgrade procrastinate"
        raise JournalSchemaError(message, None, 0)
    else:
        for version in sorted(scripts):
            if version > found:
                await connection.execute(scripts[version])
    await connection.execute(sql.SQL("COMMENT ON SCHEMA qxt_engine IS {}").format(newest))


def migrations() -> dict[str, bytes]:
    """The migrations of procrastinate by their version; versions sort as text."""
    return {script.stem: script.read_bytes() for script in Path(SchemaManager.get_migrations_path()).glob("*.sql")}
