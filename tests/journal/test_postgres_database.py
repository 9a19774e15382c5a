"""The journal in PostgreSQL: opening, migrations, and what happens when connections and the server die."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import NoReturn

import anyio
import psycopg
import pytest
from psycopg import conninfo
from support.cutting import line
from support.postgresql_server import Server, name_of, plain, programs, server
from support.raw import raw

from qxt_async.errors import (
    InvalidConfigurationError,
    JournalClosedError,
    JournalSchemaError,
    JournalUnavailableError,
)
from qxt_async.journal import Journal, open_journal
from qxt_async.journal.database import Transaction
from qxt_async.journal.postgres.connecting import connection_parameters, migrate
from qxt_async.journal.postgres.database import PostgresDatabase
from qxt_async.journal.postgres.transaction import DIALECT
from qxt_async.journal.statements import migrations
from qxt_async.protocol.pushes import parse_push

pytestmark = pytest.mark.anyio

A, B = "13800138000", "13800138001"
SCRIPTS = migrations(DIALECT)
NEWEST = max(SCRIPTS)
REPORT = parse_push(b"type=4&mid=1&mobile=13800138000&msg=DELIVRD", b"")


@pytest.fixture
def anyio_backend() -> str:
    """What psycopg knows."""
    return "asyncio"


@pytest.fixture(scope="module")
def mortal() -> Iterator[Server]:
    """A server that a test may kill; it flushes to the disk, as one in earnest does."""
    binaries = programs()
    if binaries is None:
        pytest.skip("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    with server(binaries, durable=True) as running:
        yield running


def _schema(postgresql: Server, address: str) -> list[tuple[object, ...]]:
    columns = "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns"
    return postgresql.ask(f"{columns} WHERE table_schema = 'qxt' ORDER BY 1, 2", _name(address))


def _name(address: str) -> str:
    return name_of(address)


async def _kill_connections(postgresql: Server, address: str) -> None:
    statement = f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{_name(address)}'"
    await anyio.to_thread.run_sync(postgresql.ask, statement)


# --- opening -----------------------------------------------------------------------------------------------------


async def test_created(postgresql: Server, database: str) -> None:
    """A new journal has the newest schema, in a schema of its own, and opening it again changes nothing."""
    journal = open_journal(database)
    assert isinstance(journal.database, PostgresDatabase)
    async with journal:
        await journal.open()
        assert await journal.suppress([A]) == 1
    before = _schema(postgresql, database)
    async with open_journal(database.replace("postgresql://", "postgres://")) as journal:
        assert await journal.suppressed_numbers() == {A}
    assert _schema(postgresql, database) == before
    others = postgresql.ask("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", _name(database))
    assert others == [(0,)]


async def test_settings(database: str) -> None:
    """Every commit is flushed, whatever the database's default, and nothing waits for ever."""
    admin = await psycopg.AsyncConnection.connect(plain(database), autocommit=True)
    await admin.execute(f"ALTER DATABASE {_name(database)} SET synchronous_commit = off".encode())
    await admin.close()
    async with Journal(PostgresDatabase(database)) as journal:
        names = ("synchronous_commit", "statement_timeout", "tcp_user_timeout", "application_name")
        limits = ("idle_in_transaction_session_timeout", "lock_timeout")
        found = await journal.database.read(
            lambda transaction: raw(transaction, "SELECT " + ", ".join(f"current_setting('{name}')" for name in names))
        )
        ((lost, waited),) = await journal.database.read(
            lambda transaction: raw(
                transaction, "SELECT " + ", ".join(f"current_setting('{name}')::interval" for name in limits)
            )
        )
    assert found[0][0] == "on"
    assert found[0][1] != "0"
    # Who is cut off in mid-transaction loses its locks before those who wait for them give up.
    assert timedelta() < lost < waited
    assert found[0][3] == "qxt_async"


@pytest.mark.parametrize(
    ("query", "connect_timeout", "answer_timeout"),
    [
        ("", "5", 8.0),
        ("&connect_timeout=9", "9", 8.0),
        ("&answer_timeout=0.5", "5", 0.5),
        ("&answer_timeout=30&connect_timeout=9", "9", 30.0),
        ("&connect_timeout=9&answer_timeout=30", "9", 30.0),
    ],
)
async def test_parameters_of_an_address(query: str, connect_timeout: str, answer_timeout: float) -> None:
    """An address may set what libpq knows, and how long an answer may take; the rest is set by us."""
    parameters, seconds = connection_parameters(f"postgresql://host/db?tcp_user_timeout=7{query}")
    assert (parameters["tcp_user_timeout"], parameters["keepalives"]) == ("7", "1")
    assert (parameters["connect_timeout"], seconds) == (connect_timeout, answer_timeout)


@pytest.mark.parametrize("said", ["0", "-1", "soon", "", "inf", "nan"])
@pytest.mark.parametrize("name", ["answer_timeout", "connect_timeout"])
async def test_seconds_that_are_none(name: str, said: str) -> None:
    """A time limit that could not hold is refused before anything is opened, and nothing of the address is quoted."""
    with pytest.raises(InvalidConfigurationError, match=f"{name} in the journal's address") as caught:
        open_journal(f"postgresql://qxt:open-sesame@host/db?{name}={said}")
    assert "open-sesame" not in str(caught.value)


async def test_step_by_step(postgresql: Server, database: str) -> None:
    """Going from version to version leads to the same schema as going there at once, and keeps what is stored."""
    assert list(SCRIPTS) == list(range(1, NEWEST + 1))
    async with await psycopg.AsyncConnection.connect(plain(database), autocommit=True) as connection:
        for version in SCRIPTS:
            await migrate(connection, {number: script for number, script in SCRIPTS.items() if number <= version})
            if version == 1:
                await connection.execute("INSERT INTO qxt.suppressions VALUES ('13800138000', 'manual', '', 1)")
    async with open_journal(database) as journal:
        assert await journal.suppressed_numbers() == {A}
    with postgresql.database() as at_once:
        async with open_journal(at_once):
            pass
        assert _schema(postgresql, database) == _schema(postgresql, at_once)


async def test_opened_by_many_at_once(database: str) -> None:
    """Of processes that find no schema, one creates it and the others wait for that."""
    journals = [open_journal(database) for _ in range(5)]
    async with anyio.create_task_group() as tasks:
        for journal in journals:
            tasks.start_soon(journal.open)
    for journal in journals:
        assert await journal.reports() == []
        await journal.close()


async def test_schema_made_by_an_administrator(postgresql: Server, database: str) -> None:
    """An empty schema that somebody made beforehand is taken."""
    postgresql.ask("CREATE SCHEMA qxt", _name(database))
    async with open_journal(database) as journal:
        assert await journal.reports() == []


async def test_failed_migration(postgresql: Server, database: str) -> None:
    """A migration that fails leaves the schema as it was."""
    async with open_journal(database):
        pass
    before = _schema(postgresql, database)
    broken = {**SCRIPTS, NEWEST + 1: "CREATE TABLE qxt.more (id integer); CREATE TABLE qxt.reports (id integer);"}
    async with await psycopg.AsyncConnection.connect(plain(database), autocommit=True) as connection:
        with pytest.raises(psycopg.errors.DuplicateTable):
            await migrate(connection, broken)
    assert _schema(postgresql, database) == before


async def test_newer(postgresql: Server, database: str) -> None:
    """A journal that a newer version wrote is not touched, and the error says what to do."""
    async with open_journal(database):
        pass
    postgresql.ask("UPDATE qxt.schema_version SET version = 999", _name(database))
    with pytest.raises(JournalSchemaError, match="upgrade qxt_async") as caught:
        await open_journal(database).open()
    assert (caught.value.found, caught.value.known) == (999, NEWEST)


async def test_something_else(postgresql: Server, database: str) -> None:
    """A schema of our name with other tables is no journal, and gets none of ours."""
    postgresql.ask("CREATE SCHEMA qxt", _name(database))
    postgresql.ask("CREATE TABLE qxt.mine (id integer)", _name(database))
    with pytest.raises(JournalSchemaError, match="something else"):
        await open_journal(database).open()
    assert {row[0] for row in _schema(postgresql, database)} == {"mine"}


async def test_closed(database: str) -> None:
    """A journal that is not open says so; closing twice and opening again are fine."""
    journal = open_journal(database)
    with pytest.raises(JournalClosedError, match="not open"):
        await journal.reports()
    await journal.open()
    await journal.close()
    await journal.close()
    with pytest.raises(JournalClosedError):
        await journal.record_push(REPORT)
    async with journal:
        assert await journal.reports() == []


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_not_on_trio() -> None:
    """On trio the error says what to do instead, before anything is connected to."""
    with pytest.raises(InvalidConfigurationError, match="asyncio"):
        await open_journal("postgresql://nobody@192.0.2.1/nothing").open()


async def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without psycopg the error names the extra."""
    monkeypatch.setitem(__import__("sys").modules, "qxt_async.journal.postgres.database", None)
    with pytest.raises(InvalidConfigurationError, match=r"pip install '\.\[postgres\]'"):
        open_journal("postgresql://host/db")


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://user:se@cret@host/db",
        "postgresql://user:se/cret@host/db",
        "postgresql://user:secret@host/db?nonsense=secret",
        "postgresql://user:secret@[host/db",
    ],
)
async def test_addresses_that_cannot_be_read(address: str) -> None:
    """An address that libpq would read wrongly is refused without showing any of it."""
    with pytest.raises(InvalidConfigurationError, match="the journal's address") as caught:
        open_journal(address)
    assert "cret" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_password_is_never_shown(
    postgresql: Server, database: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither errors nor logs nor what is printed of a journal show the password, whether it is right or wrong."""
    caplog.set_level(logging.DEBUG)
    postgresql.ask("DROP ROLE IF EXISTS guarded")
    postgresql.ask("CREATE ROLE guarded LOGIN SUPERUSER PASSWORD 'open-sesame'")
    address = conninfo.make_conninfo(plain(database), user="guarded")
    right = f"postgresql://guarded:open%2Dsesame@127.0.0.1:{postgresql.port}/{_name(database)}"
    assert "guarded" in address
    async with Journal(PostgresDatabase(right)) as journal:
        assert await journal.reports() == []
        print(journal, repr(journal), repr(journal.database))
        await _kill_connections(postgresql, database)
        await journal.reports()
    with pytest.raises(JournalUnavailableError, match="authentication failed") as caught:
        await open_journal(right.replace("sesame", "wrong")).open()
    shown = caplog.text + str(caught.value) + str(caught.value.__cause__) + capsys.readouterr().out
    assert "sesame" not in shown
    assert "open-wrong" not in shown


async def test_values_are_not_in_errors(database: str) -> None:
    """What the database refuses because of a value is told without the value."""
    async with Journal(PostgresDatabase(database)) as journal:
        for statement in (
            f"INSERT INTO qxt.suppressions VALUES ('{A}', 'nonsense', '', 1)",
            f"SELECT '{A}'::date",
        ):
            with pytest.raises(JournalUnavailableError) as caught:
                await journal.database.write(lambda transaction, text=statement: raw(transaction, text))
            assert A not in str(caught.value)
            assert caught.value.__cause__ is None


# --- transactions ------------------------------------------------------------------------------------------------


async def test_reading_cannot_write(database: str) -> None:
    """What reads cannot write by mistake."""
    async with Journal(PostgresDatabase(database)) as journal:
        with pytest.raises(JournalUnavailableError, match="read-only"):
            await journal.database.read(lambda transaction: raw(transaction, "DELETE FROM qxt.reports"))


async def test_what_raises_writes_nothing(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """A function that raises has its error raised and nothing written; the connection is fine afterwards."""

    async def fail(transaction: Transaction) -> NoReturn:
        await raw(transaction, "DELETE FROM qxt.suppressions")
        raise LookupError

    async with Journal(PostgresDatabase(database, connections=1)) as journal:
        await journal.suppress([A])
        with pytest.raises(LookupError):
            await journal.database.write(fail)
        assert await journal.suppressed_numbers() == {A}
    assert caplog.text == ""


async def test_what_passes_over_an_error_is_not_believed(database: str) -> None:
    """A transaction that was undone although its function returned is an error."""

    async def careless(transaction: Transaction) -> None:
        with contextlib.suppress(psycopg.Error):
            await raw(transaction, "SELECT nonsense")

    async with Journal(PostgresDatabase(database)) as journal:
        with pytest.raises(JournalUnavailableError, match="rolled back"):
            await journal.database.write(careless)


async def test_cancelling_waits_for_the_end(database: str) -> None:
    """An operation that has begun is not cut short; one that waits for a connection is."""
    begun, go_on = anyio.Event(), anyio.Event()

    async def slow(transaction: Transaction) -> None:
        await raw(transaction, "DELETE FROM qxt.reports")
        begun.set()
        await go_on.wait()

    async with Journal(PostgresDatabase(database, connections=1)) as journal, anyio.create_task_group() as tasks:
        await journal.record_push(REPORT)
        tasks.start_soon(journal.database.write, slow)
        await begun.wait()
        with anyio.move_on_after(0.01) as waiting:
            await journal.suppress([A])
        assert waiting.cancelled_caught
        tasks.cancel_scope.cancel()
        go_on.set()
        with anyio.CancelScope(shield=True):
            assert await journal.reports() == []
            assert await journal.suppressed_numbers() == frozenset()


async def test_waiting_for_a_connection_has_a_deadline(database: str) -> None:
    """An operation that gets no connection in its time ends as unavailable, and nothing of it is written."""
    address = f"{plain(database)}?answer_timeout=0.2"
    begun, go_on = anyio.Event(), anyio.Event()

    async def slow(transaction: Transaction) -> None:
        begun.set()
        await go_on.wait()

    async with Journal(PostgresDatabase(address, connections=1)) as journal, anyio.create_task_group() as tasks:
        tasks.start_soon(journal.database.write, slow)
        await begun.wait()
        with pytest.raises(JournalUnavailableError, match=r"did not answer within 0\.2 seconds"):
            await journal.record_push(REPORT)
        go_on.set()
        assert await journal.reports() == []


async def test_closing_waits_for_what_is_under_way(database: str) -> None:
    """What has begun is finished; who waits for a connection, or comes later, hears that the journal is closed."""
    begun, go_on = anyio.Event(), anyio.Event()

    async def slow(transaction: Transaction) -> None:
        begun.set()
        await go_on.wait()
        await raw(transaction, "INSERT INTO qxt.suppressions VALUES ('1', 'manual', '', 1)")

    async def too_late() -> None:
        with pytest.raises(JournalClosedError):
            await journal.suppress([A])

    journal = Journal(PostgresDatabase(database, connections=1))
    await journal.open()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.database.write, slow)
        await begun.wait()
        tasks.start_soon(too_late)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(journal.close)
        await anyio.wait_all_tasks_blocked()
        await too_late()
        go_on.set()
    async with journal:
        assert await journal.suppressed_numbers() == {"1"}


# --- dying connections -------------------------------------------------------------------------------------------


async def test_connections_that_died_in_the_pool(postgresql: Server, database: str) -> None:
    """After all idle connections were ended, the next operations just work."""
    async with Journal(PostgresDatabase(database, connections=3)) as journal:
        async with anyio.create_task_group() as tasks:
            for _ in range(9):
                tasks.start_soon(journal.reports)
        await _kill_connections(postgresql, database)
        async with anyio.create_task_group() as tasks:
            for _ in range(9):
                tasks.start_soon(journal.record_push, REPORT)
        assert len(await journal.reports()) == 1


async def test_connection_that_dies_in_a_transaction(postgresql: Server, database: str) -> None:
    """What was under way is an error and not written; the next operation works."""

    async def killed(transaction: Transaction) -> None:
        await raw(transaction, "INSERT INTO qxt.suppressions VALUES ('1', 'manual', '', 1)")
        await _kill_connections(postgresql, database)
        await raw(transaction, "SELECT 1")

    async with Journal(PostgresDatabase(database)) as journal:
        with pytest.raises(JournalUnavailableError):
            await journal.database.write(killed)
        assert await journal.suppressed_numbers() == frozenset()


@pytest.mark.parametrize("happened", [True, False])
async def test_commit_in_doubt(postgresql: Server, database: str, happened: bool) -> None:
    """A connection that is lost during the commit is an error, and the work is not done again by itself."""
    async with line(postgresql.port) as cut, Journal(PostgresDatabase(cut.address(database))) as journal:
        times = 0

        async def write(transaction: Transaction) -> None:
            nonlocal times
            times += 1
            await raw(transaction, "INSERT INTO qxt.suppressions VALUES ('1', 'manual', '', 1)")
            cut.cut_at, cut.after_the_answer = b"COMMIT\0", happened

        with pytest.raises(JournalUnavailableError):
            await journal.database.write(write)
        assert (times, cut.cuts) == (1, 1)
        assert len(await journal.suppressed_numbers()) == happened


async def test_line_that_is_cut_again_and_again(postgresql: Server, database: str) -> None:
    """A database that ends every connection as soon as it is used is an error, after all in the pool were tried."""
    async with line(postgresql.port) as cut, Journal(PostgresDatabase(cut.address(database), connections=2)) as journal:
        cut.cut_at, cut.times = b"BEGIN", 3
        await _expect_unavailable(journal)
        assert cut.cuts == 3
        assert await journal.reports() == []


async def test_unreachable(database: str, postgresql: Server) -> None:
    """A server that is not there is told in our words, when opening and later."""
    with pytest.raises(JournalUnavailableError, match="refused"):
        await open_journal("postgresql://nobody@127.0.0.1:1/nothing").open()
    async with line(postgresql.port) as cut:
        journal = Journal(PostgresDatabase(f"{cut.address(plain(database))}?connect_timeout=1"))
        await journal.open()
        assert await journal.reports() == []  # it is connected: asyncio cannot be stopped from accepting just then
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_expect_unavailable, journal)
        tasks.start_soon(_expect_unavailable, journal)
    await journal.close()


async def _expect_unavailable(journal: Journal) -> None:
    with pytest.raises(JournalUnavailableError):
        await journal.reports()


@pytest.mark.slow
async def test_server_that_is_killed_and_restarted(mortal: Server) -> None:
    """What was acknowledged before a crash is there after it; work goes on by itself as soon as the server does."""
    acknowledged: list[str] = []
    restarts = 0

    async def push(journal: Journal, name: str) -> None:
        place = 0
        while restarts < 2 or place < 20:
            place += 1
            mid = f"{name}{place}"
            try:
                await journal.record_push(parse_push(f"type=4&mid={mid}&mobile={A}&msg=DELIVRD".encode(), b""))
            except JournalUnavailableError:
                continue  # or it waited until the server was there again
            acknowledged.append(mid)

    with mortal.database() as address:
        async with Journal(PostgresDatabase(address)) as journal:
            async with anyio.create_task_group() as tasks:
                for name in "abc":
                    tasks.start_soon(push, journal, name)
                for _ in range(2):
                    so_far = len(acknowledged)
                    while len(acknowledged) < so_far + 50:
                        await anyio.lowlevel.checkpoint()
                    await anyio.to_thread.run_sync(mortal.stop)
                    await anyio.to_thread.run_sync(mortal.start)
                    restarts += 1
            stored = [entry.value.mid for entry in await journal.reports(limit=100_000)]
    assert len(set(stored)) == len(stored)
    assert set(acknowledged) <= set(stored)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
async def test_database_of_another_encoding(postgresql: Server, encoding: str) -> None:
    """A database that cannot keep every text is refused at once, with what to do, and gets no table of ours."""
    postgresql.ask(f"CREATE DATABASE bytes ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    try:
        with pytest.raises(InvalidConfigurationError, match=f"{encoding}.*UTF8"):
            await open_journal(postgresql.address("bytes")).open()
        assert postgresql.ask("SELECT count(*) FROM pg_namespace WHERE nspname = 'qxt'", "bytes") == [(0,)]
    finally:
        postgresql.ask("DROP DATABASE bytes WITH (FORCE)")


async def test_database_can_be_used_alone(database: str) -> None:
    """The database knows nothing of campaigns or pushes."""
    alone = PostgresDatabase(database)
    await alone.open()
    assert await alone.read(lambda transaction: raw(transaction, "SELECT 1")) == [(1,)]
    await alone.aclose()
