"""One thread that writes: many callers, few transactions.

A durable commit costs a disk flush however little it writes, so what waits is committed together. The thread is our own
and not one of anyio's shared workers: it holds the connection for the journal's whole life, and a busy service must not
be able to starve it. It wakes the waiting tasks through their event loop, asyncio's or trio's.
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

__all__ = ["Job", "Writer", "transaction", "unavailable"]

T = TypeVar("T")

# SQLite says with the latter that it got no memory.
_REFUSALS: Final = (sqlite3.Error, MemoryError)
# The last one: half a surrogate pair, which UTF-8 cannot say.
_UNSTORABLE: Final = (sqlite3.DataError, sqlite3.IntegrityError, UnicodeEncodeError)


def unavailable(error: sqlite3.Error | MemoryError | UnicodeEncodeError) -> JournalUnavailableError:
    """The one place where an error of the database becomes one of ours. Its text names no values."""
    kind = UnstorableError if isinstance(error, _UNSTORABLE) else JournalUnavailableError
    return kind(f"the journal's database refused ({type(error).__name__}: {error})")


class _Bell:
    """An event of asyncio's loop. As many wait for one as a commit has pushes, and anyio's costs twice as much."""

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
    """How another thread calls into the event loop that runs here, and something to wait for in it."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return cast("_Call", trio.lowlevel.current_trio_token().run_sync_soon), anyio.Event()
    # anyio has no such call that does not make the thread wait for the loop.
    loop = asyncio.get_running_loop()
    return loop.call_soon_threadsafe, _Bell(loop)


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Generator[None]:
    """A transaction: committed in the end, undone when something is raised."""
    # The write lock first: a seq is given while no other process can give one, so they are in commit order.
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(*_REFUSALS):
            # On a full disk, for one, SQLite has rolled back already.
            connection.execute("ROLLBACK")
        raise


class Job(Generic[T]):
    """A piece of writing under way. The lower half is the thread's side of it."""

    __slots__ = ("_announced", "_function", "_on_done", "_value", "bare", "call", "error", "guarded")

    def __init__(
        self,
        function: Callable[[sqlite3.Connection], T],
        on_done: Callable[[bool], None] | None,
        *,
        guarded: bool,
        bare: bool,
    ) -> None:
        self.guarded = guarded
        self.bare = bare
        self._function = function
        self._on_done = on_done
        self.call, self._announced = _here()
        self._value: T | None = None
        self.error: BaseException | None = None

    async def result(self) -> T:
        """Wait until the transaction is committed, and return what the function returned. Several tasks may wait.

        Raises:
            JournalUnavailableError: the database refused this or the whole transaction; nothing is written.
            BaseException: what the function raised; nothing of this job is written.
        """
        await self._announced.wait()
        if isinstance(self.error, (*_REFUSALS, UnicodeEncodeError)):
            raise unavailable(self.error) from self.error
        if self.error is not None:
            raise self.error
        return cast("T", self._value)

    def run(self, connection: sqlite3.Connection) -> None:
        """Do it, in the thread."""
        self._value = self._function(connection)

    def announce(self) -> None:
        """Say that it is over, in the event loop."""
        if self._on_done is not None:
            self._on_done(self.error is None)
        self._announced.set()


class Writer:
    """Runs functions on one connection in one thread, many in one transaction.

    Args:
        connection: in autocommit mode (``isolation_level=None``), used by the thread alone; `close` closes it.
        group_size: functions in one transaction at most.
        group_delay: seconds that the first function waits for others. 0 still groups: whatever arrives during one
            commit is the next group.
        waiting: functions that may wait; more are refused.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        group_size: int = 500,
        group_delay: float = 0.0,
        waiting: int = 10_000,
    ) -> None:
        self._connection = connection
        self._group_size = group_size
        self._group_delay = group_delay
        self._waiting = waiting
        self._jobs: deque[Job[Any]] = deque()
        self._news = threading.Condition()
        self._closed = False
        # A daemon: an interpreter that ends without `close` must not hang; what is committed is on the disk.
        self._thread = threading.Thread(target=self._work, name="qxt-journal", daemon=True)
        self._thread.start()

    async def run(self, function: Callable[[sqlite3.Connection], T], *, guarded: bool = True) -> T:
        """Run `function` in the writer's thread, inside a transaction, and return its result once that is committed.

        The function must neither commit nor roll back. If it raises, what it wrote is undone and nothing else of the
        transaction is. Without `guarded` all of the transaction is undone, and the others that it served see
        `JournalUnavailableError`: for functions that raise nothing of their own, since a guard costs two statements, at
        each of which the thread may have to wait for the interpreter.

        Cancelling ends the waiting, not the writing: it may still happen. Whoever has to know asks the journal.

        Raises:
            JournalBusyError: too many functions wait already.
            JournalClosedError: the journal is closed.
            JournalUnavailableError: the database refused; nothing is written.
        """
        return await self.submit(function, guarded=guarded).result()

    def submit(
        self,
        function: Callable[[sqlite3.Connection], T],
        on_done: Callable[[bool], None] | None = None,
        *,
        guarded: bool = True,
        bare: bool = False,
    ) -> Job[T]:
        """Queue `function` and return at once.

        Args:
            function: as for `run`.
            on_done: called in the submitting event loop when the transaction is over, whether or not somebody still
                waits, with whether it was committed.
            guarded: as for `run`.
            bare: when nothing else waits, run `function` outside of any transaction; it asks the connection which it
                is, and begins its own in `transaction`, or is one statement. That statement is all that the thread
                needs the interpreter for, which a busy event loop does not give away readily. The thread is woken a
                turn of the loop later.

        Raises:
            JournalBusyError: too many functions wait already.
            JournalClosedError: the journal is closed.
        """
        job = Job(function, on_done, guarded=guarded, bare=bare)
        with self._news:
            if self._closed:
                raise JournalClosedError("the journal is closed")
            if len(self._jobs) >= self._waiting:
                raise JournalBusyError(f"{self._waiting} pieces of work already wait to be written")
            self._jobs.append(job)
            if not bare:
                self._news.notify()
        if bare:
            # Not before the event loop has gone once around: what it does meanwhile may join.
            job.call(self._wake)
        return job

    def _wake(self) -> None:
        with self._news:
            self._news.notify()

    async def close(self) -> None:
        """Write what waits, then close the connection. May be called again; cancelling does not cut it short."""
        with self._news:
            self._closed = True
            self._news.notify()
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
        with self._news:
            self._news.wait_for(lambda: self._jobs or self._closed)
            if self._group_delay:
                self._news.wait_for(
                    lambda: len(self._jobs) >= self._group_size or self._closed, timeout=self._group_delay
                )
            return [self._jobs.popleft() for _ in range(min(len(self._jobs), self._group_size))]

    def _commit(self, group: Sequence[Job[Any]]) -> BaseException | None:
        """Write a group. Returns what undid all of it, ``None`` when it is committed."""
        try:
            if self._connection.in_transaction:
                # Undoing the one before failed, as without memory it may: nothing may join it.
                self._connection.execute("ROLLBACK")
            if len(group) == 1 and group[0].bare:
                group[0].run(self._connection)
            else:
                with transaction(self._connection):
                    for job in group:
                        self._run(job)
        except BaseException as error:  # noqa: BLE001  (it is raised where the results are awaited)
            return error
        return None

    def _run(self, job: Job[Any]) -> None:
        database = self._connection
        if not job.guarded:
            try:
                job.run(database)
            except BaseException as error:
                job.error = error
                raise _whole(error) from error
            return
        database.execute("SAVEPOINT job")
        try:
            job.run(database)
        except BaseException as error:  # it is raised where the result is awaited
            job.error = error
            if not database.in_transaction:
                # SQLite, or the function, has undone the others' work with it.
                raise _whole(error) from error
            database.execute("ROLLBACK TO job")
        database.execute("RELEASE job")

    def _announce(self, group: Sequence[Job[Any]]) -> None:
        loops: dict[_Call, list[Job[Any]]] = {}
        for job in group:
            loops.setdefault(job.call, []).append(job)
        for call, jobs in loops.items():
            # The loop may be closed by now: asyncio and trio both say so with a RuntimeError, and nobody waits.
            with contextlib.suppress(RuntimeError):
                call(partial(_announce, jobs))


def _announce(jobs: Sequence[Job[Any]]) -> None:
    for job in jobs:
        job.announce()


def _whole(error: BaseException) -> sqlite3.Error:
    # A value that was refused is the fault of the one that wrote it.
    if isinstance(error, sqlite3.Error) and not isinstance(error, _UNSTORABLE):
        return error
    return sqlite3.OperationalError("another piece of work ended the transaction it was part of")
