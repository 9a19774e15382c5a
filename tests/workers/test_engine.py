"""The engine's tables, and what becomes of its errors."""

from __future__ import annotations

import importlib
import sys
from collections.abc import AsyncIterator

import anyio
import psycopg
import pytest
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager
from support.postgresql_server import Server, name_of, plain
from support.steps import accepted, claimed, running, set_clock, unknown

from qxt_async.errors import InvalidConfigurationError, JournalSchemaError, JournalUnavailableError
from qxt_async.journal import Journal, open_journal
from qxt_async.models import Acceptance, BatchResult
from qxt_async.workers import engine as module
from qxt_async.workers import require_postgres
from qxt_async.workers.engine import Engine

pytestmark = pytest.mark.anyio


@pytest.fixture
async def journal(database: str) -> AsyncIterator[Journal]:
    """An empty journal."""
    async with open_journal(database) as opened:
        yield opened


def version(postgresql: Server, database: str) -> str:
    """What the schema's comment says."""
    statement = "SELECT obj_description('qxt_engine'::regnamespace, 'pg_namespace')"
    return str(postgresql.ask(statement, name_of(database))[0][0])


async def test_several_make_the_tables_once(journal: Journal, postgresql: Server, database: str) -> None:
    """Whoever is first makes them; they are beside the journal's, in a schema of their own."""

    async def make() -> None:
        async with Engine(require_postgres(journal)):
            pass

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(make)
    assert version(postgresql, database) == max(module.migrations())


async def test_older_tables_are_brought_up_to_date(journal: Journal, postgresql: Server, database: str) -> None:
    """The scripts that are missing are run, in their order."""
    async with Engine(require_postgres(journal)):
        pass
    *_, before, _ = sorted(module.migrations())
    name = name_of(database)
    postgresql.ask(f"COMMENT ON SCHEMA qxt_engine IS '{before}'", name)
    async with Engine(require_postgres(journal)):
        pass
    assert version(postgresql, database) == max(module.migrations())


async def test_newer_tables_are_left_alone(journal: Journal, postgresql: Server, database: str) -> None:
    """It says what to upgrade."""
    async with Engine(require_postgres(journal)):
        pass
    postgresql.ask("COMMENT ON SCHEMA qxt_engine IS '99.00.00'", name_of(database))
    with pytest.raises(JournalSchemaError, match="upgrade procrastinate"):
        async with Engine(require_postgres(journal)):
            pass


async def test_campaigns_are_looked_at_until_their_unknown_numbers_are_overdue(journal: Journal) -> None:
    """For as long as they run, and until a little after the deadline; single numbers count."""
    campaigns, deadline = journal.campaigns, 72 * 3600
    async with Engine(require_postgres(journal)) as engine:
        set_clock(campaigns, hours=-100)
        campaign = await running(campaigns, 2, 2)
        first = await claimed(campaigns, campaign, "t1")
        await campaigns.settle(first, accepted(first))
        assert await engine.in_doubt(deadline) == []
        second = await claimed(campaigns, campaign, "t2")
        a, b = second.numbers
        await campaigns.settle(second, BatchResult(0, (a, b), acceptances=(Acceptance("78", (a,)),), unknown=(b,)))
        assert await engine.in_doubt(deadline) == [campaign]
        other = await running(campaigns, 2)
        set_clock(campaigns, hours=-72)
        third = await claimed(campaigns, other, "t3")
        await campaigns.settle(third, unknown(third))
        await campaigns.complete(campaign)
        await campaigns.complete(other)
        assert await engine.in_doubt(deadline) == [campaign, other]
        assert await engine.in_doubt(deadline - 2 * 3600) == []
        set_clock(campaigns, hours=0)
        assert (await campaigns.reconcile(other, deadline=deadline)).overdue == 2


async def test_leases_are_over_though_the_clock_was_set_back(journal: Journal) -> None:
    """A lease that begins in an hour is nobody's; one that has begun has its time."""
    campaigns = journal.campaigns
    async with Engine(require_postgres(journal)) as engine:
        for hours, lease, over in ((0, 3600.0, False), (0, -1.0, True), (1, 60.0, True)):
            set_clock(campaigns, hours=hours)
            campaign = await running(campaigns, 2)
            await claimed(campaigns, campaign, lease=lease)
            assert (campaign in await engine.expired()) == over


async def test_what_the_database_refuses_is_one_error(journal: Journal, postgresql: Server, database: str) -> None:
    """Ours, whoever met it."""
    campaign = await running(journal.campaigns, 2)
    async with Engine(require_postgres(journal)) as engine:
        postgresql.ask("DROP FUNCTION qxt_engine.procrastinate_defer_jobs_v1", name_of(database))
        with pytest.raises(JournalUnavailableError, match="UndefinedFunction"):
            await engine.announce(campaign)
        postgresql.ask("DROP SCHEMA qxt_engine CASCADE", name_of(database))
        for operation in (
            engine.announce(campaign),
            engine.prioritise(campaign, 1),
            engine.recover(),
            engine.workers(),
        ):
            with pytest.raises(JournalUnavailableError):
                await operation


async def test_who_is_cut_off_while_announcing_holds_up_nobody(journal: Journal) -> None:
    """The database ends a transaction whose next statement does not come."""
    campaign = await running(journal.campaigns, 2)
    async with (
        Engine(require_postgres(journal)) as lost,
        Engine(require_postgres(journal)) as other,
        lost._pool.connection() as connection,
    ):
        bound = await connection.execute(b"SHOW idle_in_transaction_session_timeout")
        assert await bound.fetchone() == ("15s",)
        await connection.execute(b"BEGIN")
        await connection.execute(module.LOCK_ANNOUNCEMENTS, {"campaign": campaign})
        await connection.execute(b"SET LOCAL idle_in_transaction_session_timeout = '300ms'")
        assert await other.announce(campaign) == 1
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
            await connection.execute(b"COMMIT\0")


async def test_who_waits_to_announce_sees_what_was_announced(
    journal: Journal, postgresql: Server, database: str
) -> None:
    """Whatever isolation the database has as its default: no batch gets a second job, and nobody is refused."""
    name = name_of(database)
    postgresql.ask(f"ALTER DATABASE {name} SET default_transaction_isolation TO 'repeatable read'")
    campaign = await running(journal.campaigns, 2)
    waiting = f"SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = '{name}'"
    announced: list[int] = []

    async def announce(engine: Engine) -> None:
        announced.append(await engine.announce(campaign))

    async with (
        Engine(require_postgres(journal)) as first,
        Engine(require_postgres(journal)) as second,
        Engine(require_postgres(journal)) as holding,
        holding._pool.connection() as connection,
        anyio.create_task_group() as group,
        connection.transaction(),
    ):
        await connection.execute(module.LOCK_ANNOUNCEMENTS, {"campaign": campaign})
        group.start_soon(announce, first)
        group.start_soon(announce, second)
        while await anyio.to_thread.run_sync(postgresql.ask, waiting) != [(2,)]:  # noqa: ASYNC110
            await anyio.sleep(0.005)
    assert sorted(announced) == [0, 1]


async def test_a_job_is_ended_though_the_database_was_away(
    journal: Journal, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tried again for a while; what somebody else ended is left, and nothing is raised into the engine."""
    met: list[Exception | None] = [psycopg.OperationalError("away"), None, psycopg.errors.RaiseException("gone")]
    tries: list[int] = []

    async def finish(_: JobManager, job: Job, status: Status, delete_job: bool) -> None:
        tries.append(1)
        if (error := met.pop(0)) is not None:
            raise ConnectorException from error

    monkeypatch.setattr(JobManager, "finish_job", finish)
    manager = Engine(require_postgres(journal)).app().job_manager
    job = Job(id=1, queue="q", lock=None, queueing_lock=None, task_name="t")
    await manager.finish_job(job, Status.SUCCEEDED, delete_job=True)
    assert len(tries) == 2
    await manager.finish_job(job, Status.SUCCEEDED, delete_job=True)
    assert len(tries) == 3
    impatient = open_journal(f"{plain(database)}?connect_timeout=1e-9")
    manager = Engine(require_postgres(impatient)).app().job_manager
    met.append(psycopg.OperationalError("away"))
    await manager.finish_job(job, Status.SUCCEEDED, delete_job=True)
    assert len(tries) == 4
    assert str(module.refusal_of(ConnectorException("alone"))) == "alone"


def test_without_the_extra_it_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a missing module of somebody else's."""
    for name in [name for name in sys.modules if name.startswith("qxt_async.workers")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "procrastinate", None)
    with pytest.raises(InvalidConfigurationError, match=r"pip install '\.\[postgres\]'"):
        importlib.import_module("qxt_async.workers")
