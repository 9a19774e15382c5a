"""Opening a journal: creation, migrations, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import stat
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from qxt_async.errors import (
    InvalidConfigurationError,
    JournalClosedError,
    JournalSchemaError,
    JournalUnavailableError,
)
from qxt_async.journal import open_journal
from qxt_async.journal.database import Transaction
from qxt_async.journal.sqlite.database import DIALECT, SqliteDatabase, migrate, use_wal
from qxt_async.journal.statements import migrations, split

SCRIPTS = migrations(DIALECT)
NEWEST = max(SCRIPTS)


def _schema(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()


def _version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT version FROM schema_version").fetchone()[0]


def _modes(folder: Path) -> set[int]:
    return {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


@pytest.mark.anyio
async def test_created(tmp_path: Path) -> None:
    """A new journal has the newest schema, WAL with full flushes, and is its owner's alone."""
    path = tmp_path / "qxt.sqlite"
    database = SqliteDatabase(str(path))
    await database.open()
    await database.open()
    pragmas = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
    found = await database.writer.submit(
        lambda connection: [connection.execute(f"PRAGMA {pragma}").fetchone()[0] for pragma in pragmas]
    ).result()
    assert _modes(tmp_path) == {0o600}
    await database.aclose()
    assert found == ["wal", 2, 1, 5000]
    assert _version(path) == NEWEST


@pytest.mark.anyio
async def test_opened_again(tmp_path: Path) -> None:
    """Opening an existing journal changes nothing."""
    path = tmp_path / "qxt.sqlite"
    async with open_journal(path) as journal:
        await journal.suppress(["13800138000"])
    before = _schema(path)
    async with open_journal(str(path)) as journal:
        assert await journal.suppressed_numbers() == {"13800138000"}
    assert _schema(path) == before


def test_the_journal_mode_is_busy(tmp_path: Path) -> None:
    """It is set as soon as the other process lets go, and given up after a time."""
    path = tmp_path / "qxt.sqlite"

    class Counted(sqlite3.Connection):
        attempts = 0

        def execute(self, *arguments: Any) -> sqlite3.Cursor:
            self.attempts += 1
            if self.attempts == 4:
                other.execute("ROLLBACK")
            return super().execute(*arguments)

    with (
        closing(sqlite3.connect(path, isolation_level=None)) as other,
        closing(sqlite3.connect(path, isolation_level=None, timeout=0, factory=Counted)) as connection,
    ):
        other.execute("CREATE TABLE held (value)")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            use_wal(connection, timeout=0)
        use_wal(connection, timeout=60)
        assert connection.attempts == 4
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_step_by_step(tmp_path: Path) -> None:
    """Going from version to version leads to the same schema as going there at once, and keeps what is stored."""
    assert list(SCRIPTS) == list(range(1, NEWEST + 1))
    steps, at_once = tmp_path / "steps.sqlite", tmp_path / "at-once.sqlite"
    with closing(sqlite3.connect(steps, isolation_level=None)) as connection:
        for version in SCRIPTS:
            migrate(connection, {number: script for number, script in SCRIPTS.items() if number <= version})
            if version == 1:
                connection.execute("INSERT INTO suppressions VALUES ('13800138000', 'manual', '', 1)")
        assert connection.execute("SELECT number FROM suppressions").fetchall() == [("13800138000",)]
    with closing(sqlite3.connect(at_once, isolation_level=None)) as connection:
        migrate(connection, SCRIPTS)
        migrate(connection, SCRIPTS)
    assert _schema(steps) == _schema(at_once)


def test_failed_migration(tmp_path: Path) -> None:
    """A migration that fails leaves the schema as it was."""
    path = tmp_path / "qxt.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, SCRIPTS)
        broken = {**SCRIPTS, NEWEST + 1: "CREATE TABLE more (id INTEGER);\nCREATE TABLE reports (id INTEGER);\n"}
        with pytest.raises(sqlite3.OperationalError, match="already exists"):
            migrate(connection, broken)
    assert _version(path) == NEWEST
    assert "more" not in dict(_schema(path))


def test_split() -> None:
    """A script is cut into its statements, comments and triggers whole."""
    script = "-- a; b\nSELECT 1;\n\nCREATE TRIGGER t AFTER INSERT ON x BEGIN\n  SELECT 1;\nEND;\n-- the end\n"
    assert [statement.strip().splitlines()[-1] for statement in split(script)] == ["SELECT 1;", "END;"]


@pytest.mark.anyio
async def test_newer(tmp_path: Path) -> None:
    """A journal that a newer version wrote is not touched, and the error says what to do."""
    path = tmp_path / "qxt.sqlite"
    async with open_journal(path):
        pass
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE schema_version SET version = 999")
    with pytest.raises(JournalSchemaError, match="upgrade qxt_async") as caught:
        await open_journal(path).open()
    assert (caught.value.found, caught.value.known) == (999, NEWEST)


@pytest.mark.anyio
async def test_something_else(tmp_path: Path) -> None:
    """A database with other tables is no journal, and gets none of ours."""
    path = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE mine (id INTEGER)")
    with pytest.raises(JournalSchemaError, match="something else"):
        await open_journal(path).open()
    assert [name for name, _ in _schema(path)] == ["mine"]


@pytest.mark.anyio
async def test_cannot_be_opened(tmp_path: Path) -> None:
    """A file that is no database, and a folder that does not exist, are refused in our words."""
    path = tmp_path / "notes.txt"
    path.write_text("no database at all, and long enough to be looked at" * 10)
    with pytest.raises(JournalUnavailableError, match="not a database"):
        await open_journal(path).open()
    with pytest.raises(JournalUnavailableError, match="No such file"):
        await open_journal(tmp_path / "nowhere" / "qxt.sqlite").open()


@pytest.mark.anyio
async def test_closed(tmp_path: Path) -> None:
    """A journal that is not open says so; closing twice and opening again are fine."""
    journal = open_journal(tmp_path / "qxt.sqlite")
    with pytest.raises(JournalClosedError, match="not open"):
        await journal.reports()
    await journal.open()
    assert await journal.reports() == []
    await journal.close()
    await journal.close()
    with pytest.raises(JournalClosedError):
        await journal.suppress(["13800138000"])
    async with journal:
        assert await journal.suppress(["13800138000"]) == 1


@pytest.mark.anyio
async def test_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path means the place where it was given, wherever the process goes then."""
    monkeypatch.chdir(tmp_path)
    async with open_journal("qxt.sqlite") as journal:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert await journal.reports() == []
    assert not list((tmp_path / "elsewhere").iterdir())


def _works(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("SELECT 1")
    except sqlite3.ProgrammingError:
        return False
    return True


def _is_open(file: Path) -> bool:
    """Whether this process has the file open."""
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # it may be closed by now
            if descriptor.readlink() == file:
                return True
    return False


def test_closed_while_a_reader_is_at_work(tmp_path: Path) -> None:
    """A reader that asyncio cancelled ends after the journal, and leaves no connection open."""
    begun, goes_on = threading.Event(), threading.Event()
    kept: list[sqlite3.Connection] = []

    async def slowly(transaction: Transaction) -> None:
        kept.append(transaction.connection)  # type: ignore[attr-defined]
        begun.set()
        goes_on.wait(120)

    async def close_meanwhile() -> None:
        database = SqliteDatabase(str(tmp_path / "qxt.sqlite"))
        await database.open()
        reading = asyncio.create_task(database.read(slowly))
        await asyncio.to_thread(begun.wait)
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
        await database.aclose()
        goes_on.set()

    asyncio.run(close_meanwhile())
    # Not by using the connection: SQLite would crash if its own thread closed it meanwhile.
    while _is_open(tmp_path / "qxt.sqlite"):
        time.sleep(0.001)
    assert not _works(kept[0])


@pytest.mark.parametrize(
    "target",
    ["mysql://user:secret@host/db", "", ":memory:", "file:qxt.db?mode=memory", "host=db password=secret"],
)
def test_not_a_path(target: str) -> None:
    """What cannot hold a journal is refused before anything is opened, without showing a password."""
    with pytest.raises(InvalidConfigurationError, match=r"path of a file|as an address") as caught:
        open_journal(target)
    assert "secret" not in str(caught.value)
