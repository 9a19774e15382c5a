"""A PostgreSQL database: a pool of connections, transactions, what to do when one dies.

Everything of ours is in the schema ``qxt``, so that other programs may use the same database, the engine's tables too.

A connection that is dead when it is taken from the pool (the server was restarted meanwhile) is replaced by another
one; nothing was sent on it yet. One that dies later ends the operation with `JournalUnavailableError`: whether a commit
that was under way happened cannot be known, and it is not done again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import socket
import sys
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import anyio
import psycopg
from psycopg import IsolationLevel, conninfo
from psycopg_pool import AsyncConnectionPool

from qxt_async.errors import (
    InvalidConfigurationError,
    JournalClosedError,
    JournalError,
    JournalSchemaError,
    JournalUnavailableError,
)
from qxt_async.journal.database import UnstorableError
from qxt_async.journal.statements import Dialect, Statements, migrations
from qxt_async.runtime.tasks import run_in_own_task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from psycopg import AsyncConnection

    from qxt_async.journal.database import Pending, Work

__all__ = ["BOUNDS", "PostgresDatabase", "PostgresTransaction", "connection_parameters", "migrate", "unavailable"]

logger = logging.getLogger("qxt_async")

T = TypeVar("T")

FOLDER: Final = "postgres"
_STATEMENTS: Final = Statements(
    Dialect(
        folder=FOLDER,
        parameter="%({0})s",
        clock="micros(:now)",
        in_list="= ANY(CAST({0} AS {1}[]))",
        from_list="unnest(CAST({0} AS {1}[])) AS each (value)",
    )
)
_INSERT: Final = re.compile(r"INSERT INTO (\w+) \(([\w, ]+)\)")
_CHANNEL: Final = "qxt_reports"
# For those that the address does not set. A peer that is gone is noticed within half a minute, whether we wait for it
# (keepalives) or have sent it something (user timeout, milliseconds).
_CONNECTION: Final = {
    "application_name": "qxt_async",
    "client_encoding": "UTF8",  # of a database in SQL_ASCII, texts would come back as bytes
    "connect_timeout": "5",
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
# Walks over millions of rows take seconds, everything else milliseconds. Nothing is waited for within a transaction: if
# the next statement does not come, the client was cut off, and is to lose its locks before who waits for them gives up.
BOUNDS: Final = b"""
    SET statement_timeout = '120s'; SET lock_timeout = '30s'; SET idle_in_transaction_session_timeout = '15s'
"""
# Tables are named without their schema. What is acknowledged has to be on the disk; a stricter setting of the database
# stays.
_CONFIGURE: Final = b"""
    SET search_path TO qxt;
    SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') IN ('off', 'local')
"""
# A claim takes its lock and sees what was committed before that, whatever the database's default is.
_BEGIN_WRITE: Final = b"BEGIN ISOLATION LEVEL READ COMMITTED"
_BEGIN_READ: Final = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# Seconds that an operation waits for a connection.
_PATIENCE: Final = 5.0
# Seconds after which the server is held for dead, though it keeps the connection: it may have been stopped. Longer than
# the server's own bounds, and for brief work shorter than the gateway waits for its `ok` and than a lease lasts.
_BRIEF: Final = 8.0
_LONG: Final = 130.0
_FIRST_WAIT: Final = 0.1
_LONGEST_WAIT: Final = 5.0
# 22: data exceptions, 23: violated constraints. Their messages quote values.
_QUOTING: Final = ("22", "23")
# 54: beyond a limit of the server, such as a key of more than 2,704 bytes.
_UNSTORABLE: Final = (*_QUOTING, "54")


def unavailable(error: psycopg.Error) -> JournalUnavailableError:
    """The one place where an error of the database becomes one of ours. Its text names no values."""
    state = error.sqlstate or ""
    if state.startswith(_UNSTORABLE):
        return UnstorableError(f"the journal's database refused a value ({type(error).__name__}, {state})")
    text = error.diag.message_primary or str(error).partition("\n")[0]
    return JournalUnavailableError(f"the journal's database refused ({type(error).__name__}: {text})")


def connection_parameters(address: str) -> dict[str, Any]:
    """The parameters of an address for libpq, with our own for what it leaves open.

    Raises:
        InvalidConfigurationError: it is none. Nothing of it is in the error: it may carry a password.
    """
    authority, _, rest = address.partition("://")[2].partition("?")[0].partition("/")
    if "@" in rest or authority.count("@") > 1:
        raise InvalidConfigurationError(
            "the journal's address has an @ where none belongs: in a password, write %40 for @, %2F for / and %3F for ?"
        )
    try:
        given = conninfo.conninfo_to_dict(address)
    except psycopg.Error:
        raise InvalidConfigurationError(
            "the journal's address cannot be read: write postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
        ) from None
    return {**_CONNECTION, **given}


def _storable(value: Any) -> Any:
    """A value as PostgreSQL keeps it: a text has no NUL, and nothing that UTF-8 cannot say."""
    if type(value) is not str:
        return value
    text = value.replace("\0", "\ufffd")
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _only_asyncio() -> None:
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        raise InvalidConfigurationError(
            "a journal on PostgreSQL needs asyncio, since psycopg does; on trio keep it in an SQLite file"
        )


@cache
def _bytes(name: str, where: str) -> bytes:
    return _STATEMENTS.get(name, where).text.encode()


@cache
def _copying(name: str) -> tuple[bytes, tuple[str, ...]]:
    """The COPY that does the same as a statement that inserts one row, and its columns."""
    match = _INSERT.match(_STATEMENTS.get(name).text)
    assert match is not None  # noqa: S101  (our own words)
    return f"COPY {match[1]} ({match[2]}) FROM STDIN".encode(), tuple(match[2].split(", "))


class PostgresTransaction:
    """`Transaction` on a connection of the pool. Texts are made such as PostgreSQL can keep.

    Attributes:
        connection: the open connection; committing and rolling back are not the work's.
    """

    __slots__ = ("_clock", "connection")

    def __init__(self, connection: AsyncConnection[tuple[Any, ...]], clock: Callable[[], int | None]) -> None:
        self.connection = connection
        self._clock = clock

    async def _execute(self, name: str, where: str, values: dict[str, Any]) -> psycopg.AsyncCursor[tuple[Any, ...]]:
        statement = _STATEMENTS.get(name, where)
        if statement.clock and "now" not in values:
            values["now"] = self._clock()
        for key, value in values.items():
            if key in statement.json:
                values[key] = json.dumps([[_storable(item) for item in row] for row in value], ensure_ascii=False)
            elif isinstance(value, list):
                values[key] = [_storable(item) for item in cast("Sequence[Any]", value)]
            else:
                values[key] = _storable(value)
        return await self.connection.execute(_bytes(name, where), values)

    async def rows(self, name: str, /, *, where: str = "TRUE", **values: Any) -> list[Any]:
        """One round trip."""
        return await (await self._execute(name, where, values)).fetchall()

    async def change(self, name: str, /, **values: Any) -> int:
        """One round trip."""
        return (await self._execute(name, "TRUE", values)).rowcount

    async def insert(self, name: str, /, rows: Iterable[Mapping[str, Any]]) -> None:
        """COPY, unless a row may be there already: then a pipeline."""
        async with self.connection.cursor() as cursor:
            if " ON CONFLICT " in _STATEMENTS.get(name).text.replace("\n", " "):
                storable = [{key: _storable(value) for key, value in row.items()} for row in rows]
                await cursor.executemany(_bytes(name, "TRUE"), storable)
                return
            statement, columns = _copying(name)
            async with cursor.copy(statement) as copy:
                for row in rows:
                    await copy.write_row([_storable(row[column]) for column in columns])

    async def merge(self, name: str, /, values: list[Any], columns: int) -> int:
        """One statement."""
        rows = [values[start : start + columns] for start in range(0, len(values), columns)]
        return await self.change(name, rows=rows)

    async def lock(self, name: str, /, **values: Any) -> None:
        """Wait for a lock that ends with the transaction."""
        await self._execute(name, "TRUE", values)

    async def notify(self) -> None:
        """NOTIFY tells everybody who listens, at the commit."""
        await self.connection.execute(b"SELECT pg_notify(%s, '')", (_CHANNEL,))


class _Deadline:
    """Ends an operation whose time is over by cutting its connection: what waits for the server then raises.

    Cancelling would not do: psycopg asks the server to cancel, too, and waits for its answer.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._connection: AsyncConnection[Any] | None = None
        self.over = False
        loop = asyncio.get_running_loop()
        self.at = loop.time() + seconds
        self._timer = loop.call_at(self.at, self._end)

    def watch(self, connection: AsyncConnection[Any] | None) -> None:
        """This is the connection in use now."""
        self._connection = connection
        if self.over:
            self._cut()

    def _end(self) -> None:
        self.over = True
        self._cut()

    def _cut(self) -> None:
        if self._connection is not None and not self._connection.closed:
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._connection.fileno())) as end:
                end.shutdown(socket.SHUT_RDWR)

    @property
    def left(self) -> float:
        """Seconds until it is over."""
        return max(self.at - asyncio.get_running_loop().time(), 0.001)

    def stop(self) -> None:
        """It ended in time."""
        self._timer.cancel()

    @property
    def error(self) -> JournalUnavailableError:
        """What is raised for whatever came of the cut."""
        return JournalUnavailableError(f"the journal's database did not answer within {self._seconds:g} seconds")


class _Pending:
    """Work that the first task to wait for it does, for the others too, not cut short by cancelling."""

    def __init__(self, run: Callable[[], Awaitable[None]], on_done: Callable[[bool], None]) -> None:
        self._run = run
        self._on_done = on_done
        self._begun = False
        self._done = anyio.Event()
        self._error: BaseException | None = None

    async def result(self) -> None:
        """Do the work, or wait until it is done."""
        if not self._begun:
            self._begun = True
            await run_in_own_task(self._work)
        await self._done.wait()
        if self._error is not None:
            # Each of those who wait gets an error of its own.
            kind = type(self._error) if isinstance(self._error, JournalError) else JournalUnavailableError
            raise kind(str(self._error)) from self._error

    async def _work(self) -> None:
        with anyio.CancelScope(shield=True):
            try:
                await self._run()
            except BaseException as error:
                self._error = error
                if not isinstance(error, JournalError):
                    raise
            finally:
                self._on_done(self._error is None)
                self._done.set()


class PostgresDatabase:
    """`Database` with a pool of connections. On asyncio only.

    An operation is not cut short by cancelling: that waits for it to end, and nothing waits for ever. Waiting for a
    connection that others use is cut short. (A ``Task.cancel()`` of asyncio's own cuts a read short.)

    Args:
        address: ``postgresql://…``, as libpq reads it. What it holds of ours is in the schema ``qxt``.
        connections: how many at most.

    Raises:
        InvalidConfigurationError: the address cannot be read.
    """

    def __init__(self, address: str, *, connections: int = 8) -> None:
        self._parameters = connection_parameters(address)
        self._size = connections
        self._places = anyio.CapacityLimiter(connections)
        self._turn = anyio.Lock()
        self._pool: AsyncConnectionPool[AsyncConnection[tuple[Any, ...]]] | None = None
        # The database's own time, which is that of all machines.
        self.clock: Callable[[], int | None] = lambda: None

    @property
    def parameters(self) -> dict[str, Any]:
        """What a connection is made with; it may hold a password."""
        return dict(self._parameters)

    # --- opening and closing ------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect and bring the schema up to date."""
        if self._pool is not None:
            return
        _only_asyncio()
        try:
            await run_in_own_task(self._open)
        except BaseException:
            await self.aclose()  # cancelled just as it was open
            raise

    async def _open(self) -> None:
        pool: AsyncConnectionPool[AsyncConnection[tuple[Any, ...]]] = AsyncConnectionPool(
            kwargs={**self._parameters, "autocommit": True},
            min_size=1,
            max_size=self._size,
            open=False,
            configure=_configure,
            name="qxt-journal",
            # Attempts that fail begin anew with the next operation, and not minutes later.
            reconnect_timeout=_PATIENCE / 2,
        )
        deadline = _Deadline(_LONG)
        with anyio.CancelScope(shield=True):
            try:
                connection = await self._connect(deadline)
                try:
                    _check_encoding(connection)
                    await migrate(connection, migrations(FOLDER))
                finally:
                    await connection.close()
                await pool.open()
            except psycopg.Error as error:
                raise deadline.error if deadline.over else unavailable(error) from error
            finally:
                deadline.stop()
        self._pool = pool

    async def _connect(self, deadline: _Deadline) -> AsyncConnection[tuple[Any, ...]]:
        """A connection of one's own, in autocommit mode."""
        connection = await psycopg.AsyncConnection.connect(**self._parameters, autocommit=True)
        deadline.watch(connection)
        await _configure(connection)
        return connection

    async def aclose(self) -> None:
        """Wait for what is under way, then close all connections."""
        await run_in_own_task(self._close)

    async def _close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is None:
            return
        with anyio.CancelScope(shield=True):
            # All places taken: nobody is at work any more.
            for _ in range(self._size):
                await self._places.acquire_on_behalf_of(object())
            await pool.close()
        self._places = anyio.CapacityLimiter(self._size)

    # --- working ------------------------------------------------------------------------------------------------

    async def write(self, work: Work[T], *, brief: bool = False) -> T:
        """Run `work`.

        Raises:
            JournalUnavailableError: also when the connection died: then nothing is written, unless it died during the
                commit itself.
        """
        return await run_in_own_task(lambda: self._run(_BEGIN_WRITE, work, _BRIEF if brief else _LONG))

    async def read(self, work: Work[T]) -> T:
        """Run `work` in a transaction that only reads."""
        return await self._run(_BEGIN_READ, work, _LONG)

    def submit(
        self,
        work: Work[None],
        *,
        shortcut: Work[bool] | None = None,  # noqa: ARG002  (a statement costs what a transaction does)
        on_done: Callable[[bool], None],
    ) -> Pending:
        """Let the first who waits do `work`, when its turn has come."""
        self._open_pool()
        return _Pending(lambda: self._run(_BEGIN_WRITE, work, _BRIEF, turn=self._turn), on_done)

    async def _run(self, begin: bytes, work: Work[T], seconds: float, *, turn: anyio.Lock | None = None) -> T:
        # Work may return nothing: what is returned has to be told from that it did.
        returned: list[T] = []
        self._open_pool()
        deadline = _Deadline(seconds)
        try:
            async with contextlib.AsyncExitStack() as held:
                with anyio.CancelScope(deadline=deadline.at):
                    if turn is not None:
                        await held.enter_async_context(turn)
                    await held.enter_async_context(self._places)
                    pool = self._open_pool()
                    with anyio.CancelScope(shield=True):
                        returned.append(await self._in_transaction(pool, begin, work, deadline))
        except psycopg.Error as error:
            raise deadline.error if deadline.over else unavailable(error) from (error if _is_discreet(error) else None)
        finally:
            deadline.stop()
        if not returned:
            raise deadline.error
        return returned[0]

    def _open_pool(self) -> AsyncConnectionPool[AsyncConnection[tuple[Any, ...]]]:
        if self._pool is None:
            raise JournalClosedError("the journal is not open: use `async with open_journal(…)`, or await its open()")
        return self._pool

    async def _in_transaction(
        self,
        pool: AsyncConnectionPool[AsyncConnection[tuple[Any, ...]]],
        begin: bytes,
        work: Work[T],
        deadline: _Deadline,
    ) -> T:
        connection = await self._begin(pool, begin, deadline)
        try:
            try:
                result = await work(PostgresTransaction(connection, self.clock))
                committed = await connection.execute(b"COMMIT", prepare=False)
            except BaseException:
                # Where it is broken there is nothing to roll back, and the first error says more.
                with contextlib.suppress(psycopg.Error):
                    await connection.execute(b"ROLLBACK")
                raise
        finally:
            deadline.watch(None)
            await pool.putconn(connection)
        if committed.statusmessage != "COMMIT":
            # The work passed over an error: it may have relied on what is undone now.
            raise psycopg.InternalError("the transaction was rolled back")
        return result

    async def _begin(
        self, pool: AsyncConnectionPool[AsyncConnection[tuple[Any, ...]]], begin: bytes, deadline: _Deadline
    ) -> AsyncConnection[tuple[Any, ...]]:
        """A transaction on a connection that is alive: all that lie in the pool may have died at once."""
        dead = 0
        while True:
            connection = await pool.getconn(min(_PATIENCE, deadline.left))
            try:
                deadline.watch(connection)
                await connection.execute(begin, prepare=False)
            except BaseException as error:
                deadline.watch(None)
                await pool.putconn(connection)
                dead += 1
                if dead > self._size or deadline.over or not isinstance(error, psycopg.OperationalError):
                    raise
            else:
                return connection

    # --- watching -----------------------------------------------------------------------------------------------

    async def watch(self, callback: Callable[[], None]) -> None:
        """Listen on a connection of its own, which is made again when it dies."""
        wait = _FIRST_WAIT
        while True:
            deadline = _Deadline(_LONG)
            try:
                # Cut off, it would be left behind half made.
                made: list[AsyncConnection[tuple[Any, ...]]] = []
                with anyio.CancelScope(shield=True):
                    made.append(await self._connect(deadline))
                (connection,) = made
                try:
                    await connection.execute(f"LISTEN {_CHANNEL}".encode())
                    deadline.stop()
                    callback()
                    wait = _FIRST_WAIT
                    async for _ in connection.notifies():
                        callback()
                finally:
                    with anyio.CancelScope(shield=True):
                        await connection.close()
            except psycopg.Error as error:
                logger.warning("cannot listen to the journal, trying again: %s", unavailable(error))
            finally:
                deadline.stop()
            await anyio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)


def _is_discreet(error: psycopg.Error) -> bool:
    return not (error.sqlstate or "").startswith(_QUOTING)


async def _configure(connection: AsyncConnection[Any]) -> None:
    await connection.set_isolation_level(IsolationLevel.READ_COMMITTED)
    await connection.execute(BOUNDS + b";" + _CONFIGURE)


def _check_encoding(connection: AsyncConnection[Any]) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise InvalidConfigurationError(
            f"the journal's database has the encoding {encoding}, which cannot keep every text: "
            "make one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        )


async def migrate(connection: AsyncConnection[tuple[Any, ...]], scripts: Mapping[int, str]) -> None:
    """Bring the schema up to date, in one transaction.

    Args:
        connection: in autocommit mode.
        scripts: what leads to each version, from 1.

    Raises:
        JournalSchemaError: the schema ``qxt`` is no journal, or newer than `scripts`.
        psycopg.Error: the database refused; nothing is changed.
    """
    known = max(scripts)
    if await _version(connection, known) == known:
        return
    async with connection.transaction():
        await connection.execute(b"SET LOCAL search_path TO qxt")
        # Another process may do it at this moment: one at a time.
        await connection.execute(b"SELECT pg_advisory_xact_lock(5331028, 0)")
        found = await _version(connection, known)
        if found == 0:
            # IF NOT EXISTS would ask for the right to create it though an administrator has done so.
            if not await _one(connection, "SELECT count(*) FROM pg_namespace WHERE nspname = 'qxt'"):
                await connection.execute(b"CREATE SCHEMA qxt")
            await connection.execute(b"CREATE TABLE schema_version (version integer NOT NULL)")
            await connection.execute(b"INSERT INTO schema_version (version) VALUES (0)")
        for version in range(found + 1, known + 1):
            await connection.execute(scripts[version].encode())
        await connection.execute(b"UPDATE schema_version SET version = %s", (known,))


async def _one(connection: AsyncConnection[tuple[Any, ...]], statement: str) -> Any:
    ((value,),) = await (await connection.execute(statement.encode())).fetchall()
    return value


async def _version(connection: AsyncConnection[tuple[Any, ...]], known: int) -> int:
    """The schema's version, 0 where there is none."""
    # From the catalogue itself: to_regclass would answer from a cache that is behind.
    tables = await connection.execute(b"SELECT tablename FROM pg_tables WHERE schemaname = 'qxt'")
    names = {name for (name,) in await tables.fetchall()}
    if not names:
        return 0
    if "schema_version" not in names:
        message = "the schema qxt of the database holds something else than a journal: give another database"
        raise JournalSchemaError(message, None, known)
    version = int(await _one(connection, "SELECT version FROM qxt.schema_version"))
    if version > known:
        message = f"the journal has schema {version}, this version of qxt_async knows {known}: upgrade qxt_async"
        raise JournalSchemaError(message, version, known)
    return version
