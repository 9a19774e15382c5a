"""An SQLite file: one connection that writes in its own thread, a few that read in worker threads.

The file is in WAL mode, so that readers and the writer do not wait for each other, with ``synchronous=FULL``: every
commit is flushed to the disk, and what was acknowledged survives a power cut and not only the death of the process.
With ``NORMAL`` the last moments before a power cut would be lost though the gateway was told ``ok`` and will not push
them again; since commits are grouped, the flush costs little.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import anyio
from anyio import to_thread

from qxt_async.errors import JournalClosedError, JournalSchemaError
from qxt_async.tasks import in_a_task

from .statements import migrations, split
from .writer import Writer, unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Database"]

T = TypeVar("T")

# How long one process waits for another one's transaction; those take milliseconds.
_BUSY_TIMEOUT_MS: Final = 5000
# Queries are short; more connections would only take turns at the same disk and the same interpreter.
_READERS: Final = 4


def _connect(path: str, pragmas: tuple[str, ...]) -> sqlite3.Connection:
    # check_same_thread: each connection is used by one thread at a time, and we see to that.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        for pragma in (f"busy_timeout={_BUSY_TIMEOUT_MS}", *pragmas):
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


def migrate(connection: sqlite3.Connection, scripts: dict[int, str]) -> None:
    """Bring the schema up to date, in one transaction.

    Args:
        connection: in autocommit mode.
        scripts: what leads to each version, from 1.

    Raises:
        JournalSchemaError: the database is no journal, or newer than `scripts`.
        sqlite3.Error: the database refused; nothing is changed.
    """
    known = max(scripts)
    if _version(connection, known) == known:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Read again: another process may have done it while this one waited for the lock.
        found = _version(connection, known)
        if found == 0:
            connection.execute("CREATE TABLE schema_version (version INTEGER NOT NULL)")
            connection.execute("INSERT INTO schema_version (version) VALUES (0)")
        for version in range(found + 1, known + 1):
            for statement in split(scripts[version]):
                connection.execute(statement)
        connection.execute("UPDATE schema_version SET version = ?", (known,))
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _version(connection: sqlite3.Connection, known: int) -> int:
    """The schema's version, 0 for an empty database."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return 0
    if "schema_version" not in tables:
        raise JournalSchemaError("the database holds something else than a journal: give another path", None, known)
    (version,) = connection.execute("SELECT version FROM schema_version").fetchone()
    if version > known:
        message = f"the journal has schema {version}, this version of qxt_async knows {known}: upgrade qxt_async"
        raise JournalSchemaError(message, version, known)
    return int(version)


class Database:
    """A file with a writer and readers.

    Args:
        path: where it is; created for its owner alone if it does not exist.
    """

    def __init__(self, path: str) -> None:
        # Readers connect later, when the working directory may be another one.
        self._path = str(Path(path).absolute())
        self._writer: Writer | None = None
        self._readers: list[sqlite3.Connection] = []
        self._reading = anyio.CapacityLimiter(_READERS)

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
        """Open the file and bring its schema up to date. Does nothing when it is open.

        Raises:
            JournalSchemaError: it is no journal, or a newer version wrote it.
            JournalUnavailableError: it cannot be opened or written.
        """
        if self._writer is not None:
            return
        try:
            await in_a_task(self._open_writer)
        except BaseException:
            await self.close()  # cancelled just as it was open
            raise

    async def _open_writer(self) -> None:
        # Cut off, it would stay open, and nobody would know of it.
        with anyio.CancelScope(shield=True):
            self._writer = Writer(await to_thread.run_sync(self._open))

    async def close(self) -> None:
        """Write what waits, then close all connections. May be called again."""
        await in_a_task(self._close)

    async def _close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        with anyio.CancelScope(shield=True):
            # All places taken: no reader is at work any more.
            for _ in range(_READERS):
                await self._reading.acquire_on_behalf_of(object())
            await writer.close()
        while self._readers:
            self._readers.pop().close()
        self._reading = anyio.CapacityLimiter(_READERS)

    async def read(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run `function` in a worker thread on a connection that cannot write.

        Cancelling waits for it to end; a ``Task.cancel()`` of asyncio's own does not.

        Raises:
            JournalClosedError: not open.
            JournalUnavailableError: the database refused.
        """
        _ = self.writer
        return await to_thread.run_sync(self._read, function, limiter=self._reading)

    def _open(self) -> sqlite3.Connection:
        try:
            # Phone numbers and texts are nobody else's business; SQLite gives its -wal and -shm files the same mode.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            connection = _connect(self._path, ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"))
            try:
                migrate(connection, migrations())
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise unavailable(error) from error
        except OSError as error:
            raise unavailable(sqlite3.OperationalError(error.strerror)) from error
        return connection

    def _read(self, function: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection = self._readers.pop() if self._readers else _connect(self._path, ("query_only=ON",))
            try:
                return function(connection)
            finally:
                # A Task.cancel() of asyncio's own does not wait for this thread, so the journal may be closed by now.
                if self._writer is None:
                    connection.close()
                else:
                    self._readers.append(connection)
        except sqlite3.Error as error:
            raise unavailable(error) from error
