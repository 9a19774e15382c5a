"""One thread that writes: many callers, few transactions.

A durable commit costs a disk flush however little it writes, so what waits is committed together. The thread is not one
of anyio's shared workers: it holds the connection for the journal's whole life, and a busy service must not be able to
starve it. It wakes the waiting tasks through their event loop, of asyncio or of trio.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

import anyio
from anyio import to_thread
from anyio.lowlevel import checkpoint

from qxt_async.errors import JournalBusyError, JournalClosedError, JournalUnavailableError
from qxt_async.journal.database import UnstorableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Sequence

    _Call = Callable[[Callable[[], object]], object]

T = TypeVar("T")

# SQLite says with the latter that it got no memory.
_REFUSALS: Final = (sqlite3.Error, MemoryError)
# The last one: half a surrogate pair, which UTF-8 cannot say.
_UNSTORABLE: Final = (sqlite3.DataError, sqlite3.IntegrityError, UnicodeEncodeError)


def unavailable(error: sqlite3.Error | MemoryError | UnicodeEncodeError) -> JournalUnavailableError:
    """The journal's error for an error of the database. It quotes no values."""
    kind = UnstorableError if isinstance(error, _UNSTORABLE) else JournalUnavailableError
    return kind(f"the journal's database refused ({type(error).__name__}: {error})")


class _Bell:
    """An event of asyncio's loop, at half the cost of anyio's: each push of a commit waits for one."""

    __slots__ = ("_loop", "_rung", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[asyncio.Future[None]] = []
        self._rung = False

    def wait(self) -> Awaitable[None]:
        if self._rung:
            return checkpoint()
        future = self._loop.create_future()
        self._waiting.append(future)
        return future

    def set(self) -> None:
        self._rung = True
        for future in self._waiting:
            if not future.done():  # whoever waited may have been cancelled
                future.set_result(None)


def _here() -> tuple[_Call, anyio.Event | _Bell]:
    """How another thread calls into the event loop that runs here, and an event of that loop."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return cast("_Call", trio.lowlevel.current_trio_token().run_sync_soon), anyio.Event()
    # anyio has no such call that does not make the thread wait for the loop.
    loop = asyncio.get_running_loop()
    return loop.call_soon_threadsafe, _Bell(loop)


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Generator[None]:
    """A transaction that is committed at the end of the block, or undone when the block raises."""
    # With the write lock from the start, only one process at a time gives a seq: they grow in the order of commits.
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(*_REFUSALS):
            # SQLite may have rolled back already, for example on a full disk.
            connection.execute("ROLLBACK")
        raise


class Job(Generic[T]):
    """A function that waits for the writer's thread, or runs in it.

    Attributes:
        function: runs inside a transaction.
        alone: runs instead of `function`, outside of any transaction, when nothing else waits.
        guarded: whether the others in the transaction are kept when it raises.
        error: what it raised, or what undid its transaction.
    """

    __slots__ = ("_announced", "_on_done", "alone", "call", "error", "function", "guarded", "value")

    def __init__(
        self,
        function: Callable[[sqlite3.Connection], T],
        alone: Callable[[sqlite3.Connection], T] | None,
        on_done: Callable[[bool], None] | None,
        *,
        guarded: bool,
    ) -> None:
        self.function = function
        self.alone = alone
        self.guarded = guarded
        self._on_done = on_done
        self.call, self._announced = _here()
        self.value: T | None = None
        self.error: BaseException | None = None

    async def result(self) -> T:
        """Wait until the transaction is committed, and return what the function returned. Several tasks may wait.

        Cancelling ends the waiting, not the writing.

        Raises:
            JournalUnavailableError: the database refused this or the whole transaction; nothing is written.
            BaseException: what the function raised; nothing of this job is written.
        """
        await self._announced.wait()
        if isinstance(self.error, (*_REFUSALS, UnicodeEncodeError)):
            raise unavailable(self.error) from self.error
        if self.error is not None:
            raise self.error
        return cast("T", self.value)

    def announce(self) -> None:
        """Wake the waiting tasks. Runs in their event loop."""
        if self._on_done is not None:
            self._on_done(self.error is None)
        self._announced.set()


class Writer:
    """Runs functions on one connection in one thread, many in one transaction.

    What arrives during one commit is the next transaction.

    Args:
        connection: in autocommit mode (``isolation_level=None``), used by the thread alone; `close` closes it.
        group_size: the most functions in one transaction.
        waiting: the most functions that wait; more are refused.
    """

    def __init__(self, connection: sqlite3.Connection, *, group_size: int = 500, waiting: int = 10_000) -> None:
        self._connection = connection
        self._group_size = group_size
        self._waiting = waiting
        self._jobs: deque[Job[Any]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        # A daemon: an interpreter that ends without `close` must not hang; what is committed is on the disk.
        self._thread = threading.Thread(target=self._work, name="qxt-journal", daemon=True)
        self._thread.start()

    def submit(
        self,
        function: Callable[[sqlite3.Connection], T],
        *,
        alone: Callable[[sqlite3.Connection], T] | None = None,
        on_done: Callable[[bool], None] | None = None,
        guarded: bool = True,
    ) -> Job[T]:
        """Queue `function` for the thread and return at once.

        Args:
            function: runs in a transaction, which it neither commits nor rolls back.
            alone: runs instead when nothing else waits. It begins its own `transaction`, or is one statement, the only
                one for which the thread then needs the interpreter: a busy event loop does not readily give it away.
                With it, the thread is woken one loop iteration later, so that more writes can join the transaction.
            on_done: called in this event loop when the transaction is over, whether or not somebody still waits, with
                whether it was committed.
            guarded: if the function raises, only what it wrote is undone. Otherwise the whole transaction is, and the
                other functions in it fail with `JournalUnavailableError`. A guard costs two statements: leave it out
                for functions that raise nothing of their own.

        Raises:
            JournalBusyError: too many functions wait already.
            JournalClosedError: the journal is closed.
        """
        job = Job(function, alone, on_done, guarded=guarded)
        with self._changed:
            if self._closed:
                raise JournalClosedError("the journal is closed")
            if len(self._jobs) >= self._waiting:
                raise JournalBusyError(f"{self._waiting} pieces of work already wait to be written")
            self._jobs.append(job)
            if alone is None:
                self._changed.notify()
        if alone is not None:
            job.call(self._wake)
        return job

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    async def close(self) -> None:
        """Write what waits, then close the connection. May be called again; cancelling does not interrupt it."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(self._thread.join)

    # --- in the thread ------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while group := self._take():
            error = self._commit(group)
            if error is not None:
                for job in group:
                    job.error = job.error or error
            self._announce(group)
        self._connection.close()

    def _take(self) -> list[Job[Any]]:
        with self._changed:
            while not (self._jobs or self._closed):
                self._changed.wait()
            return [self._jobs.popleft() for _ in range(min(len(self._jobs), self._group_size))]

    def _commit(self, group: Sequence[Job[Any]]) -> BaseException | None:
        """Write a group. Returns what undid all of it, ``None`` when it is committed."""
        connection = self._connection
        try:
            if connection.in_transaction:
                # The last rollback failed, for example for want of memory: nothing may join that transaction.
                connection.execute("ROLLBACK")
            if len(group) == 1 and group[0].alone is not None:
                group[0].value = group[0].alone(connection)
            else:
                with transaction(connection):
                    for job in group:
                        self._run(job)
        except BaseException as error:  # noqa: BLE001  (it is raised where the results are awaited)
            return error
        return None

    def _run(self, job: Job[Any]) -> None:
        connection = self._connection
        if job.guarded:
            connection.execute("SAVEPOINT job")
        try:
            job.value = job.function(connection)
        except BaseException as error:  # it is raised where the result is awaited
            job.error = error
            # Without a guard, or when SQLite or the function has ended the transaction, it is lost for all.
            if not (job.guarded and connection.in_transaction):
                raise _whole(error) from error
            connection.execute("ROLLBACK TO job")
        if job.guarded:
            connection.execute("RELEASE job")

    def _announce(self, group: Sequence[Job[Any]]) -> None:
        loops: dict[_Call, list[Job[Any]]] = {}
        for job in group:
            loops.setdefault(job.call, []).append(job)
        for call, jobs in loops.items():
            # If the loop is closed by now, asyncio and trio raise RuntimeError, and nobody waits.
            with contextlib.suppress(RuntimeError):
                call(partial(_announce, jobs))


def _announce(jobs: Sequence[Job[Any]]) -> None:
    for job in jobs:
        job.announce()


def _whole(error: BaseException) -> sqlite3.Error:
    """The error of the others in a transaction that one of them has ended."""
    # If a value was refused, only the function that wrote it is at fault.
    if isinstance(error, sqlite3.Error) and not isinstance(error, _UNSTORABLE):
        return error
    return sqlite3.OperationalError("another piece of work ended the transaction it was part of")
