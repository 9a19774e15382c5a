"""An SQLite file: one connection that writes in its own thread, a few that read in worker threads.

The file is in WAL mode, so that readers and the writer do not wait for each other, with ``synchronous=FULL``: each
commit is flushed to the disk, and what was acknowledged survives a power cut, not only the death of the process. With
``NORMAL`` a power cut would lose the last commits, although the gateway was answered ``ok`` and will not push them
again. Since commits are grouped, the flush costs little.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio
from anyio import to_thread

from qxt_async.errors import JournalClosedError
from qxt_async.journal.migrating import schema_version, upgrade
from qxt_async.journal.sqlite.writer import Writer, transaction, unavailable
from qxt_async.journal.statements import Dialect, Statements, migrations, split
from qxt_async.runtime.tasks import run_in_own_task, run_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping, Sequence

    from qxt_async.journal.database import Pending, SharedWork, Transaction, Work

T = TypeVar("T")
ItemT = TypeVar("ItemT")

DIALECT: Final = Dialect(
    folder="sqlite",
    parameter=":{0}",
    clock=":now",
    in_list="IN (SELECT value FROM json_each({0}))",
    from_list="json_each({0})",
    types={"SERIAL_KEY": "integer PRIMARY KEY AUTOINCREMENT", "KEY_TEXT": "text", "BYTES": "blob"},
)
_STATEMENTS: Final = Statements(DIALECT)
_TABLES: Final = "SELECT name FROM sqlite_master WHERE type = 'table';"
# How long one process waits for another one's transaction; those take milliseconds.
BUSY_TIMEOUT_MS: Final = 5000
# Queries are short, and more connections would share the same disk and the same interpreter.
_READERS: Final = 4
# Rows in one statement: with a quarter more, of ten columns, it has fewer than the 32,766 parameters that SQLite
# allows.
MERGED_ROWS: Final = 1000


def drive(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends to its end, where no event loop is.

    Raises:
        RuntimeError: it awaited something that suspends.
    """
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    work.close()
    raise RuntimeError("an operation of the journal awaits something else than its transaction")


@cache
def _merging(name: str, columns: int, rows: int) -> str:
    """The statement that inserts so many rows."""
    row = f"({', '.join('?' * columns)})"
    return _STATEMENTS.get(name).text.format(rows=", ".join([row] * rows))


@cache
def _inserting(name: str) -> tuple[str, ...]:
    """A row may be several statements."""
    return tuple(split(_STATEMENTS.get(name).text + ";\n"))


class SqliteTransaction:
    """`Transaction` on a connection of this thread.

    Args:
        connection: in a transaction.
        clock: gives microseconds since 1970.
    """

    __slots__ = ("_clock", "connection")

    def __init__(self, connection: sqlite3.Connection, clock: Callable[[], int | None]) -> None:
        self.connection = connection
        self._clock = clock

    def _execute(self, name: str, where: str, values: dict[str, Any]) -> sqlite3.Cursor:
        statement = _STATEMENTS.get(name, where)
        if statement.clock and "now" not in values:
            values["now"] = self._clock()
        for key in statement.json:
            values[key] = json.dumps(values[key], ensure_ascii=False)
        return self.connection.execute(statement.text, values)

    async def rows(self, name: str, /, *, where: str = "TRUE", **values: Any) -> list[Any]:
        """All of them: RETURNING gives its rows only when they are all fetched."""
        return self._execute(name, where, values).fetchall()

    async def rows_for_each(self, name: str, /, values: Sequence[dict[str, Any]]) -> list[list[Any]]:
        """One statement after the other."""
        return [self._execute(name, "TRUE", one).fetchall() for one in values]

    async def change(self, name: str, /, **values: Any) -> int:
        """One statement."""
        return self._execute(name, "TRUE", values).rowcount

    async def insert(self, name: str, /, rows: Iterable[Mapping[str, Any]]) -> None:
        """One statement, prepared once, or each of several."""
        rows = list(rows)
        for statement in _inserting(name):
            self.connection.executemany(statement, rows)

    async def merge(self, name: str, /, values: list[Any], columns: int) -> int:
        """One statement for a thousand rows."""
        new = 0
        for start in range(0, len(values), MERGED_ROWS * columns):
            some = values[start : start + MERGED_ROWS * columns]
            rows = len(some) // columns
            # Preparing a statement costs more than inserting, so there are few sizes. To fill one up, at most a quarter
            # more, the last row is repeated, which changes nothing.
            surplus = -rows % (1 << max(rows.bit_length() - 3, 0))
            statement = _merging(name, columns, rows + surplus)
            new += self.connection.execute(statement, some + some[-columns:] * surplus).rowcount
        return new

    async def lock(self, name: str, /, **values: Any) -> None:
        """Nothing: one connection writes at a time."""

    async def notify(self) -> None:
        """Nothing: a file tells nobody."""


@contextlib.contextmanager
def _closed_on_error(connection: sqlite3.Connection) -> Generator[sqlite3.Connection]:
    try:
        yield connection
    except BaseException:
        connection.close()
        raise


def _connect(path: str, *pragmas: str) -> sqlite3.Connection:
    # check_same_thread: each connection is used by one thread at a time, which SQLite cannot know.
    with _closed_on_error(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
        for pragma in (f"busy_timeout={BUSY_TIMEOUT_MS}", *pragmas):
            connection.execute(f"PRAGMA {pragma}")
        return connection


def use_wal(connection: sqlite3.Connection, *, timeout: float = BUSY_TIMEOUT_MS / 1000) -> None:
    """Set the journal mode. If another process sets it in the same moment, SQLite fails at once: it is asked again.

    Args:
        connection: in autocommit mode.
        timeout: seconds after which it is not asked again.

    Raises:
        sqlite3.Error: the database refused.
    """
    until = time.monotonic() + timeout
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
            time.sleep(0.01)


def migrate(connection: sqlite3.Connection, scripts: dict[int, str]) -> None:
    """Bring the schema up to date, in one transaction.

    Args:
        connection: in autocommit mode.
        scripts: for each version the script that leads to it, from 1.

    Raises:
        JournalSchemaError: the database is not a journal, or it is newer than `scripts`.
        sqlite3.Error: the database refused; nothing is changed.
    """

    async def execute(script: str) -> list[Any]:
        rows: list[Any] = []
        for statement in split(script):
            rows = connection.execute(statement).fetchall()
        return rows

    known = max(scripts)
    # Without waiting for the write lock, as a rule.
    if drive(schema_version(execute, _TABLES, known)) != known:
        with transaction(connection):
            drive(upgrade(execute, _TABLES, scripts))


class SqliteDatabase:
    """`Database` in a file with a writer and readers.

    Args:
        path: where it is; created for its owner alone if it does not exist.
    """

    def __init__(self, path: str) -> None:
        # Readers connect later, when the working directory may be another one.
        self._path = str(Path(path).absolute())
        self._writer: Writer | None = None
        self._readers: list[sqlite3.Connection] = []
        self._reading = anyio.CapacityLimiter(_READERS)
        self.clock: Callable[[], int | None] = lambda: time.time_ns() // 1000

    @property
    def writer(self) -> Writer:
        """The thread that writes.

        Raises:
            JournalClosedError: not open.
        """
        if self._writer is None:
            raise JournalClosedError("the journal is not open: use `async with open_journal(…)`, or await its open()")
        return self._writer

    async def open(self) -> None:
        """Open the file and bring its schema up to date."""
        if self._writer is not None:
            return
        try:
            await run_in_own_task(self._open_writer)
        except BaseException:
            await self.aclose()  # cancelled just when it was open
            raise

    async def _open_writer(self) -> None:
        # If cancelling interrupted this, the connection would stay open.
        with anyio.CancelScope(shield=True):
            self._writer = Writer(await to_thread.run_sync(self._open))

    async def aclose(self) -> None:
        """Write what waits, then close all connections."""
        await run_in_own_task(self._close)

    async def _close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        with anyio.CancelScope(shield=True):
            # With all places taken, no reader is at work.
            for _ in range(_READERS):
                await self._reading.acquire_on_behalf_of(object())
            await writer.close()
        while self._readers:
            self._readers.pop().close()
        self._reading = anyio.CapacityLimiter(_READERS)

    def _run(self, work: Work[T], connection: sqlite3.Connection) -> T:
        return drive(work(SqliteTransaction(connection, self.clock)))

    async def write(self, work: Work[T]) -> T:
        """Run `work` in the writer's thread; cancelling ends the waiting, not the writing.

        Raises:
            JournalBusyError: too much waits already.
        """
        return await self.writer.submit(partial(self._run, work)).result()

    async def write_together(self, work: SharedWork[ItemT, T], item: ItemT) -> T:
        """The same: all that waits for the thread shares a transaction."""

        async def alone(transaction: Transaction) -> T:
            (result,) = await work(transaction, (item,))
            return result

        return await self.writer.submit(partial(self._run, alone), guarded=False).result()

    async def read(self, work: Work[T]) -> T:
        """Run `work` in a worker thread. Cancelling waits for it to end; a ``Task.cancel()`` of asyncio's does not."""
        return await run_in_thread(partial(self._read, self.writer, work), limiter=self._reading)

    def submit(
        self, work: Work[None], *, shortcut: Work[bool] | None = None, on_done: Callable[[bool], None]
    ) -> Pending:
        """Queue `work` for the writer's thread.

        Raises:
            JournalBusyError: too much waits already.
        """

        def alone(connection: sqlite3.Connection) -> None:
            # One statement is a transaction.
            if shortcut is None or not self._run(shortcut, connection):
                with transaction(connection):
                    self._run(work, connection)

        return self.writer.submit(partial(self._run, work), alone=alone, on_done=on_done)

    async def watch(self, callback: Callable[[], None]) -> None:
        """Return: a file does not tell what other processes write into it."""

    def _open(self) -> sqlite3.Connection:
        try:
            # Only the owner may read phone numbers and texts; SQLite gives its -wal and -shm files the same mode.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            connection = _connect(self._path, "synchronous=FULL", "foreign_keys=ON")
            with _closed_on_error(connection):
                use_wal(connection)
                migrate(connection, migrations(DIALECT))
        except sqlite3.Error as error:
            raise unavailable(error) from error
        except OSError as error:
            raise unavailable(sqlite3.OperationalError(error.strerror)) from error
        return connection

    def _read(self, opened: Writer, work: Work[T]) -> T:
        try:
            connection = self._readers.pop() if self._readers else _connect(self._path, "query_only=ON")
            try:
                connection.execute("BEGIN")
                try:
                    return self._run(work, connection)
                finally:
                    connection.execute("ROLLBACK")
            finally:
                # A Task.cancel() of asyncio's own does not wait for this thread, so the journal may be closed by now.
                if self._writer is opened:
                    self._readers.append(connection)
                else:
                    connection.close()
        except sqlite3.Error as error:
            raise unavailable(error) from error
