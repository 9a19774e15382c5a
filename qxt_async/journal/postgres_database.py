"""A PostgreSQL database: a pool of connections, transactions, what to do when one dies.

Everything of ours is in the schema ``qxt``, so that other programs may use the same database, the engine's tables too.

A connection that is dead when it is taken from the pool (the server was restarted meanwhile) is replaced by another
one; nothing was sent on it yet. One that dies later ends the operation with `JournalUnavailableError`: whether a commit
that was under way happened cannot be known, and it is not done again.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio
import psycopg
from psycopg import conninfo, sql
from psycopg_pool import AsyncConnectionPool

from qxt_async.errors import (
    InvalidConfigurationError,
    JournalClosedError,
    JournalSchemaError,
    JournalUnavailableError,
)
from qxt_async.tasks import in_a_task

from .statements import migrations

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from psycopg import AsyncConnection

__all__ = ["BOUNDS", "PostgresDatabase", "Transaction", "connection_parameters", "storable", "unavailable"]

logger = logging.getLogger("qxt_async")

T = TypeVar("T")

FOLDER: Final = "postgres"
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
# What is acknowledged has to be on the disk; a stricter setting of the database stays.
_CONFIGURE: Final = b"""
    SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') IN ('off', 'local')
"""
# Seconds that an operation waits for a connection.
_PATIENCE: Final = 5.0
_FIRST_WAIT: Final = 0.1
_LONGEST_WAIT: Final = 5.0
# 22: data exceptions, 23: violated constraints. Their messages quote values.
_QUOTING: Final = ("22", "23")


def unavailable(error: psycopg.Error) -> JournalUnavailableError:
    """The one place where an error of the database becomes one of ours. Its text names no values."""
    state = error.sqlstate or ""
    if state.startswith(_QUOTING):
        return JournalUnavailableError(f"the journal's database refused ({type(error).__name__}, {state})")
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


def storable(text: str) -> str:
    """A text as PostgreSQL keeps it: it has no NUL, and nothing that UTF-8 cannot say."""
    text = text.replace("\0", "\ufffd")
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _storable(values: dict[str, Any]) -> dict[str, Any]:
    return {name: storable(value) if type(value) is str else value for name, value in values.items()}


def _only_asyncio() -> None:
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        raise InvalidConfigurationError(
            "a journal on PostgreSQL needs asyncio, since psycopg does; on trio keep it in an SQLite file"
        )


class Transaction:
    """What a function that reads or writes works with.

    Texts are made `storable`; in lists, that is up to the caller.

    Attributes:
        connection: the open connection; committing and rolling back are not the function's.
    """

    __slots__ = ("connection",)

    def __init__(self, connection: AsyncConnection[tuple[Any, ...]]) -> None:
        self.connection = connection

    async def rows(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        """Run a statement that gives rows."""
        return await (await self.connection.execute(statement.encode(), _storable(values))).fetchall()

    async def change(self, statement: str, **values: Any) -> int:
        """Run a statement that does not; how many rows it changed."""
        return (await self.connection.execute(statement.encode(), _storable(values))).rowcount


class PostgresDatabase:
    """A database with a pool of connections.

    An operation is not cut short by cancelling: that waits for it to end, and nothing waits for ever. Waiting for a
    connection that others use is cut short. (A ``Task.cancel()`` of asyncio's own cuts a read short.)

    Args:
        address: ``postgresql://…``, as libpq reads it.
        connections: how many at most.
    """

    def __init__(self, address: str, *, connections: int = 8) -> None:
        self._parameters = connection_parameters(address)
        self._size = connections
        self._places = anyio.CapacityLimiter(connections)
        self._pool: AsyncConnectionPool[AsyncConnection[tuple[Any, ...]]] | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        """What a connection is made with; it may hold a password."""
        return dict(self._parameters)

    # --- opening and closing ------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect and bring the schema up to date. Does nothing when it is open.

        Raises:
            JournalSchemaError: the schema ``qxt`` is no journal, or a newer version wrote it.
            JournalUnavailableError: it cannot be reached, or refuses.
            InvalidConfigurationError: this is trio.
        """
        if self._pool is not None:
            return
        _only_asyncio()
        try:
            await in_a_task(self._open)
        except BaseException:
            await self.close()  # cancelled just as it was open
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
        with anyio.CancelScope(shield=True):
            try:
                connection = await self.connect()
                try:
                    await migrate(connection, migrations(FOLDER))
                finally:
                    await connection.close()
                await pool.open()
            except psycopg.Error as error:
                raise unavailable(error) from error
        self._pool = pool

    async def connect(self) -> AsyncConnection[tuple[Any, ...]]:
        """A connection of one's own, in autocommit mode."""
        connection = await psycopg.AsyncConnection.connect(**self._parameters, autocommit=True)
        await _configure(connection)
        return connection

    async def close(self) -> None:
        """Wait for what is under way, then close all connections. May be called again."""
        await in_a_task(self._close)

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

    async def write(self, function: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run `function` inside a transaction, and return its result once that is committed.

        If it raises, nothing is written.

        Raises:
            JournalClosedError: not open.
            JournalUnavailableError: the database refused and nothing is written; or the connection died, and then
                nothing is written unless it died during the commit itself.
        """
        return await in_a_task(lambda: self._run(b"BEGIN", function))

    async def read(self, function: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run `function` on one state of the database, where it cannot write.

        Raises:
            JournalClosedError: not open.
            JournalUnavailableError: the database refused.
        """
        return await self._run(b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", function)

    async def _run(self, begin: bytes, function: Callable[[Transaction], Awaitable[T]]) -> T:
        # A function may return nothing: what is returned has to be told from that it did.
        returned: list[T] = []
        self._open_pool()
        async with self._places:
            pool = self._open_pool()
            with anyio.CancelScope(shield=True):
                try:
                    returned.append(await self._in_transaction(pool, begin, function))
                except psycopg.Error as error:
                    raise unavailable(error) from (error if _is_discreet(error) else None)
        return returned[0]

    def _open_pool(self) -> AsyncConnectionPool[AsyncConnection[tuple[Any, ...]]]:
        if self._pool is None:
            raise JournalClosedError("the journal is not open: use `async with open_journal(…)`, or await its open()")
        return self._pool

    async def _in_transaction(
        self,
        pool: AsyncConnectionPool[AsyncConnection[tuple[Any, ...]]],
        begin: bytes,
        function: Callable[[Transaction], Awaitable[T]],
    ) -> T:
        connection = await self._begin(pool, begin)
        try:
            try:
                result = await function(Transaction(connection))
                committed = await connection.execute(b"COMMIT")
            except BaseException:
                # Where it is broken there is nothing to roll back, and the first error says more.
                with contextlib.suppress(psycopg.Error):
                    await connection.execute(b"ROLLBACK")
                raise
        finally:
            await pool.putconn(connection)
        if committed.statusmessage != "COMMIT":
            # The function passed over an error: it may have relied on what is undone now.
            raise psycopg.InternalError("the transaction was rolled back")
        return result

    async def _begin(
        self, pool: AsyncConnectionPool[AsyncConnection[tuple[Any, ...]]], begin: bytes
    ) -> AsyncConnection[tuple[Any, ...]]:
        """A transaction on a connection that is alive: all that lie in the pool may have died at once."""
        dead = 0
        while True:
            connection = await pool.getconn(_PATIENCE)
            try:
                await connection.execute(begin)
            except BaseException as error:
                await pool.putconn(connection)
                dead += 1
                if dead > self._size or not isinstance(error, psycopg.OperationalError):
                    raise
            else:
                return connection

    # --- listening ----------------------------------------------------------------------------------------------

    async def listen(self, channel: str, heard: Callable[[], None]) -> None:
        """Call `heard` at each notification, and whenever some may have been missed, until cancelled."""
        wait = _FIRST_WAIT
        while True:
            try:
                # Cut off, it would be left behind half made.
                made: list[AsyncConnection[tuple[Any, ...]]] = []
                with anyio.CancelScope(shield=True):
                    made.append(await self.connect())
                (connection,) = made
                try:
                    await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
                    heard()
                    wait = _FIRST_WAIT
                    async for _ in connection.notifies():
                        heard()
                finally:
                    with anyio.CancelScope(shield=True):
                        await connection.close()
            except psycopg.Error as error:
                logger.warning("cannot listen to the journal, trying again: %s", unavailable(error))
            await anyio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)


def _is_discreet(error: psycopg.Error) -> bool:
    return not (error.sqlstate or "").startswith(_QUOTING)


async def _configure(connection: AsyncConnection[Any]) -> None:
    await connection.execute(BOUNDS + b";" + _CONFIGURE)


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
        # Another process may do it at this moment: one at a time.
        await connection.execute(b"SELECT pg_advisory_xact_lock(5331028, 0)")
        found = await _version(connection, known)
        if found == 0:
            # IF NOT EXISTS would ask for the right to create it though an administrator has done so.
            if not await _one(connection, "SELECT count(*) FROM pg_namespace WHERE nspname = 'qxt'"):
                await connection.execute(b"CREATE SCHEMA qxt")
            await connection.execute(b"CREATE TABLE qxt.schema_version (version integer NOT NULL)")
            await connection.execute(b"INSERT INTO qxt.schema_version (version) VALUES (0)")
        for version in range(found + 1, known + 1):
            await connection.execute(scripts[version].encode())
        await connection.execute(b"UPDATE qxt.schema_version SET version = %s", (known,))


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
