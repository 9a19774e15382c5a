"""A PostgreSQL database: a pool of connections, and transactions on them.

Everything of ours is in the schema ``qxt``, so that other programs, such as procrastinate, may use the same
database.

A connection that is dead when it is taken from the pool (the server was restarted meanwhile) is replaced by another
one: nothing was sent on it yet. If one dies later, the operation raises `JournalUnavailableError`. It is not repeated,
since nobody knows whether a commit that was under way happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio
import psycopg
from anyio.lowlevel import checkpoint_if_cancelled
from psycopg_pool import AsyncConnectionPool

from qxt_async.errors import JournalClosedError, JournalError, JournalUnavailableError
from qxt_async.journal.postgres.connecting import (
    Connection,
    configure,
    connection_parameters,
    migrate,
    quotes_values,
    require_asyncio,
    require_utf8,
    unavailable,
)
from qxt_async.journal.postgres.grouping import WriteGroup
from qxt_async.journal.postgres.transaction import CHANNEL, DIALECT, PostgresTransaction
from qxt_async.journal.statements import migrations
from qxt_async.runtime.tasks import run_in_own_task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Hashable
    from typing import TypeAlias

    from qxt_async.journal.database import Pending, SharedWork, Work

    Pool: TypeAlias = AsyncConnectionPool[Connection]
    _InTransaction: TypeAlias = Callable[[PostgresTransaction], Coroutine[Any, Any, "T"]]

logger = logging.getLogger("qxt_async")

T = TypeVar("T")
ItemT = TypeVar("ItemT")

# A claim takes its lock and sees what was committed before, whatever the default isolation of the database is.
_BEGIN_WRITE: Final = b"BEGIN ISOLATION LEVEL READ COMMITTED"
_BEGIN_READ: Final = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# Seconds after which work that may take long gives up on a server that keeps the connection and answers nothing. Longer
# than the server's own limits.
_LONG_TIMEOUT: Final = 130.0
# Seconds between attempts to listen.
_FIRST_WAIT: Final = 0.1
_LONGEST_WAIT: Final = 5.0


async def _shielded(work: Awaitable[T]) -> T:
    """Await something that cancelling must not interrupt."""
    returned: list[T] = []
    with anyio.CancelScope(shield=True):
        returned.append(await work)
    return returned[0]


class _Deadline:
    """Ends an operation that takes too long by cutting its connection: what waits for the server then raises.

    Cancelling would not help: psycopg then asks the server to cancel, and waits for its answer.
    """

    __slots__ = ("_connection", "_loop", "_seconds", "_timer", "at", "over")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._connection: Connection | None = None
        self.over = False
        self._loop = asyncio.get_running_loop()
        self.at = self._loop.time() + seconds
        self._timer = self._loop.call_at(self.at, self._end)

    async def acquire(self, places: anyio.Semaphore) -> None:
        """Take one of the places in time, or raise `error`."""
        try:
            places.acquire_nowait()
        except anyio.WouldBlock:
            with anyio.CancelScope(deadline=self.at):
                await places.acquire()
                return
            raise self.error from None

    def watch(self, connection: Connection | None) -> None:
        """Use this connection from now on."""
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
        """Seconds that are left."""
        return max(self.at - self._loop.time(), 0.001)

    def stop(self) -> None:
        """The operation has ended."""
        self._timer.cancel()

    @property
    def error(self) -> JournalUnavailableError:
        """What an operation raises whose time is over."""
        return JournalUnavailableError(f"the journal's database did not answer within {self._seconds:g} seconds")

    def error_for(self, error: psycopg.Error) -> JournalUnavailableError:
        """What an operation raises that met an error of the database: it may come from the cut."""
        return self.error if self.over else unavailable(error)


class _Pending:
    """Work for several tasks: the first one that waits for the result does it. Cancelling does not interrupt it."""

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
            # Each waiting task gets an error of its own.
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

    Cancelling an operation waits for its end, which comes within the time limits. Cancelling interrupts waiting for a
    connection that others use. (A ``Task.cancel()`` of asyncio's own interrupts a read, too.)

    Args:
        address: ``postgresql://…``, as libpq reads it, and with ``answer_timeout`` as one more parameter. The schema
            ``qxt`` holds the journal.
        connections: the most connections at a time.

    Raises:
        InvalidConfigurationError: the address cannot be read.
    """

    def __init__(self, address: str, *, connections: int = 8) -> None:
        self._parameters, self._brief_timeout = connection_parameters(address)
        self._long_timeout = max(_LONG_TIMEOUT, self._brief_timeout)
        self._size = connections
        self._places = anyio.Semaphore(connections)
        self._turn = anyio.Semaphore(1)
        self._pool: Pool | None = None
        self._groups: dict[Hashable, WriteGroup[Any, Any]] = {}
        # None stands for the database's own clock, which is the same for all machines.
        self.clock: Callable[[], int | None] = lambda: None

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of a connection. There may be a password among them."""
        return dict(self._parameters)

    @property
    def connect_timeout(self) -> float:
        """Seconds that an operation waits for a connection."""
        return float(self._parameters["connect_timeout"])

    # --- opening and closing ------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect and bring the schema up to date."""
        if self._pool is not None:
            return
        require_asyncio()
        try:
            await run_in_own_task(lambda: _shielded(self._open()))
        except BaseException:
            await self.aclose()  # cancelled just when it was open
            raise

    async def _open(self) -> None:
        pool: Pool = AsyncConnectionPool(
            connection_class=Connection,
            kwargs={**self._parameters, "autocommit": True},
            min_size=1,
            max_size=self._size,
            open=False,
            configure=configure,
            name="qxt-journal",
            # After that the next operation tries anew, instead of minutes later.
            reconnect_timeout=self.connect_timeout / 2,
        )
        deadline = _Deadline(self._long_timeout)
        try:
            connection = await self._connect(deadline)
            try:
                require_utf8(connection)
                await migrate(connection, migrations(DIALECT))
            finally:
                await connection.close()
            await pool.open()
        except psycopg.Error as error:
            raise deadline.error_for(error) from error
        finally:
            deadline.stop()
        self._pool = pool

    async def _connect(self, deadline: _Deadline) -> Connection:
        """A connection outside of the pool, in autocommit mode."""
        connection = await Connection.connect(**self._parameters, autocommit=True)
        deadline.watch(connection)
        await configure(connection)
        return connection

    async def aclose(self) -> None:
        """Wait for the operations under way, then close all connections."""
        await run_in_own_task(lambda: _shielded(self._close()))

    async def _close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is None:
            return
        # With all places taken, no operation is under way.
        for _ in range(self._size):
            await self._places.acquire()
        await pool.close()
        self._places = anyio.Semaphore(self._size)

    # --- transactions -------------------------------------------------------------------------------------------

    async def write(self, work: Work[T]) -> T:
        """Run `work`.

        Raises:
            JournalUnavailableError: also when the connection died. Then nothing is written, unless it died during the
                commit itself.
        """
        return await run_in_own_task(lambda: self._run(_BEGIN_WRITE, work, self._long_timeout))

    async def write_together(self, work: SharedWork[ItemT, T], item: ItemT) -> T:
        """Run `work` with the items of other tasks that wait. Raises what `write` does."""
        shared: WriteGroup[ItemT, T] | None = self._groups.get(work)
        if shared is None:
            shared = self._groups[work] = WriteGroup(work, self._transact)
        try:
            return await shared.write(item)
        finally:
            if shared.idle:
                self._groups.pop(work, None)

    async def _transact(self, run: _InTransaction[None]) -> None:
        await self._run(_BEGIN_WRITE, run, self._brief_timeout)

    async def read(self, work: Work[T]) -> T:
        """Run `work` in a transaction that only reads."""
        return await self._run(_BEGIN_READ, work, self._long_timeout)

    def submit(
        self,
        work: Work[None],
        *,
        shortcut: Work[bool] | None = None,  # noqa: ARG002  (a statement costs what a transaction does)
        on_done: Callable[[bool], None],
    ) -> Pending:
        """Let the first task that waits do `work`, after the work submitted before."""
        self._open_pool()
        return _Pending(lambda: self._run(_BEGIN_WRITE, work, self._brief_timeout, self._turn), on_done)

    async def _run(self, begin: bytes, work: _InTransaction[T], seconds: float, *before: anyio.Semaphore) -> T:
        self._open_pool()
        await checkpoint_if_cancelled()
        deadline = _Deadline(seconds)
        held: list[anyio.Semaphore] = []
        try:
            for places in (*before, self._places):
                await deadline.acquire(places)
                held.append(places)
            return await _shielded(self._in_transaction(self._open_pool(), begin, work, deadline))
        except psycopg.Error as error:
            raise deadline.error_for(error) from (None if quotes_values(error) else error)
        finally:
            deadline.stop()
            for places in held:
                places.release()

    def _open_pool(self) -> Pool:
        if self._pool is None:
            raise JournalClosedError("the journal is not open: use `async with open_journal(…)`, or await its open()")
        return self._pool

    async def _in_transaction(self, pool: Pool, begin: bytes, work: _InTransaction[T], deadline: _Deadline) -> T:
        connection = await self._begin(pool, begin, deadline)
        try:
            try:
                result = await work(PostgresTransaction(connection, self.clock))
                committed = await connection.execute(b"COMMIT", prepare=False)
            except BaseException:
                # On a broken connection there is nothing to roll back, and the first error says more.
                with contextlib.suppress(psycopg.Error):
                    await connection.execute(b"ROLLBACK")
                raise
        finally:
            deadline.watch(None)
            await pool.putconn(connection)
        if committed.statusmessage != "COMMIT":
            # The work ignored an error: it may rely on statements that are undone now.
            raise psycopg.InternalError("the transaction was rolled back")
        return result

    async def _begin(self, pool: Pool, begin: bytes, deadline: _Deadline) -> Connection:
        """A transaction on a connection that is alive: all connections in the pool may have died at once."""
        dead = 0
        while True:
            connection = await pool.getconn(min(self.connect_timeout, deadline.left))
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
        """Listen on a connection outside of the pool, which is made again when it dies."""
        wait = _FIRST_WAIT
        while True:
            deadline = _Deadline(self._long_timeout)
            try:
                # If cancelling interrupted this, a half-made connection would be left behind.
                connection = await _shielded(self._connect(deadline))
                try:
                    await connection.execute(f"LISTEN {CHANNEL}".encode())
                    deadline.stop()
                    callback()
                    wait = _FIRST_WAIT
                    async for _ in connection.notifies():
                        callback()
                finally:
                    await _shielded(connection.close())
            except psycopg.Error as error:
                logger.warning("cannot listen to the journal, trying again: %s", unavailable(error))
            finally:
                deadline.stop()
            await anyio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)
