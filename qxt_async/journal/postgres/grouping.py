"""Brief work of several tasks in one transaction: a commit costs a flush of the disk however little it writes.

What arrives during one transaction is done in the next one: the locks of all work first, then each piece of work, one
after the other. If one fails, all is undone, and each is done again in a transaction of its own: nothing is committed
before the end, so this repeats nothing.

Locks are taken in one order by all processes, before any row is locked, so that they do not wait for each other in a
circle. Each statement waits for the answer to the one before. In a pipeline they would cost a third, but a client that
is cut off in the middle of a pipeline would keep its locks: PostgreSQL ends a transaction that is idle, and one whose
pipeline has no end counts as active.
"""

from __future__ import annotations

import asyncio
from collections import deque
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

import anyio

from qxt_async.errors import JournalError, JournalUnavailableError
from qxt_async.journal.postgres.transaction import PostgresTransaction
from qxt_async.runtime.tasks import run_in_own_task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Mapping
    from typing import TypeAlias

    from qxt_async.journal.database import Work
    from qxt_async.journal.postgres.connecting import Connection
    from qxt_async.journal.postgres.transaction import Cursor

    _Statements: TypeAlias = dict[str, Callable[[], Awaitable[Cursor]]]
    Clock: TypeAlias = Callable[[], int | None]
    _Transact: TypeAlias = Callable[[Callable[[PostgresTransaction], Coroutine[Any, Any, None]]], Awaitable[None]]

T = TypeVar("T")

# The most work in one transaction.
_GROUP_SIZE: Final = 100


class _Request(Generic[T]):
    """What work waits for: the group makes the call, and sends its result into the coroutine."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], Awaitable[T]]) -> None:
        self.call = call

    def __await__(self) -> Generator[_Request[T], T, T]:
        return (yield self)


class _GroupedTransaction(PostgresTransaction):
    """`Transaction` of one piece of work in a group."""

    __slots__ = ("_at_end", "_begun", "_cursor", "locks", "shared")

    def __init__(self, cursor: Cursor, clock: Clock, kept: dict[str, Any], at_end: _Statements) -> None:
        super().__init__(cursor.connection, clock)
        # One for all: each result is read before the next statement, and a cursor costs a third of a statement.
        self._cursor = cursor
        self.kept = kept
        self._at_end = at_end
        self.locks: _Statements = {}
        self.shared = True
        self._begun = False

    async def _execute(self, name: str, where: str, values: dict[str, Any]) -> Cursor:
        self._begun = True
        call = partial(self._cursor.execute, *self._bound(name, where, values))
        cursor: Cursor = await _Request(call)
        return cursor

    async def change_at_end(self, name: str, /, **values: Any) -> None:
        """Once, after all work."""
        self._at_end[name] = partial(self._cursor.execute, *self._bound(name, "TRUE", values))

    async def insert(self, name: str, /, rows: Iterable[Mapping[str, Any]]) -> None:
        """As without a group."""
        self._begun = True
        await _Request(partial(super().insert, name, rows))

    async def lock(self, name: str, /, *, shared: bool = False, **values: Any) -> None:
        """Have the lock taken before the first statement, or pass if it is held.

        Raises:
            RuntimeError: there was a statement already.
        """
        query, values = self._bound(name, "TRUE", values)
        key = f"{name} {values}"
        if key in self.locks:
            return
        if self._begun:
            raise RuntimeError("work of a group takes its locks first")
        self.locks[key] = partial(self._cursor.execute, query, values)
        self.shared = self.shared and shared


class _Member:
    """A piece of work, and the task that waits for it."""

    def __init__(self, work: Work[Any]) -> None:
        self.work = work
        self.done = False
        self.value: Any = None
        # What it is told if nothing becomes known.
        self.error: Exception | None = JournalUnavailableError("the transaction was interrupted")
        self.woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake(self) -> None:
        """Let its task go on: it is done, or it is to lead."""
        if not self.woken.done():  # its task may have been cancelled
            self.woken.set_result(None)

    def end(self) -> None:
        """It is done."""
        self.done = True
        self.wake()


class _UndoneError(Exception):
    """Work failed, and the connection lives: the transaction is undone."""


class _Running:
    """A piece of work that has begun in a transaction."""

    def __init__(self, member: _Member, transaction: _GroupedTransaction) -> None:
        self.transaction = transaction
        self.request: _Request[Any] | None = None
        self._member = member
        self._coroutine: Coroutine[Any, Any, Any] = member.work(transaction)

    def restart(self) -> None:
        """Run it from the beginning: what it saw may have changed."""
        self._coroutine.close()
        self._coroutine = self._member.work(self.transaction)
        self.go_on(None)

    async def ask(self) -> Any:
        """Make the call that it waits for."""
        return await cast("_Request[Any]", self.request).call()

    def close(self) -> None:
        """End it, wherever it is."""
        self._coroutine.close()

    def go_on(self, answer: Any) -> None:
        """Run it with the result of the call that it waited for until the next one, or to its end."""
        try:
            request = self._coroutine.send(answer)
        except StopIteration as end:
            self.request = None
            self._member.value = end.value
        else:
            if not isinstance(request, _Request):
                raise RuntimeError(  # noqa: TRY004
                    "an operation of the journal awaits something else than its transaction"
                )
            self.request = request


async def _run(members: Iterable[_Member], connection: Connection, clock: Clock) -> None:
    kept: dict[str, Any] = {}
    at_end: _Statements = {}
    locks: _Statements = {}
    running: list[_Running] = []
    excluded: set[_Running] = set()
    cursor = connection.cursor()
    try:
        for member in members:
            one = _Running(member, _GroupedTransaction(cursor, clock, kept, at_end))
            running.append(one)
            one.go_on(None)
            its = one.transaction
            if not (its.shared or locks.keys().isdisjoint(its.locks)):
                excluded.add(one)
            locks.update(its.locks)
        for name in sorted(locks):
            await locks[name]()
        for one in running:
            if one in excluded:
                one.restart()
            while one.request is not None:
                one.go_on(await one.ask())
        for statement in at_end.values():
            await statement()
    finally:
        for one in running:
            one.close()


class WriteGroup:
    """The work of one group. One of the tasks that wait leads: it does what waits, then the next one leads.

    Args:
        transact: runs a function in a transaction, and returns once that is committed.
        clock: as `Database.clock`.
    """

    def __init__(self, transact: _Transact, clock: Clock) -> None:
        self._transact = transact
        self._clock = clock
        self._waiting: deque[_Member] = deque()
        self._leader: _Member | None = None

    @property
    def idle(self) -> bool:
        """Nobody waits."""
        return self._leader is None

    async def write(self, work: Work[T]) -> T:
        """Do `work`, as `Database.write`. Cancelling ends the waiting; what has begun is done."""
        member = _Member(work)
        self._waiting.append(member)
        try:
            if self._leader is None:
                self._leader = member
            else:
                await member.woken
            if not member.done:
                await run_in_own_task(self._lead)
        finally:
            if member in self._waiting:
                self._waiting.remove(member)
            if self._leader is member:
                self._leader = self._waiting[0] if self._waiting else None
                if self._leader is not None:
                    self._leader.wake()
        if member.error is not None:
            raise member.error
        return cast("T", member.value)

    async def _lead(self) -> None:
        taken: list[_Member] = []
        try:
            if not await self._do_together(taken):
                with anyio.CancelScope(shield=True):
                    for member in taken:
                        await self._do_alone(member)
        finally:
            for member in taken:
                member.end()

    async def _do_together(self, taken: list[_Member]) -> bool:
        """Take what waits and do it in one transaction; returns whether it need not be done again."""

        async def run(transaction: PostgresTransaction) -> None:
            taken.extend(self._waiting.popleft() for _ in range(min(len(self._waiting), _GROUP_SIZE)))
            try:
                await _run(taken, transaction.connection, self._clock)
            except Exception:
                if transaction.connection.closed:
                    raise
                raise _UndoneError from None

        try:
            await self._transact(run)
        except _UndoneError:
            return False
        except JournalError as error:
            if not taken:
                taken.extend(self._waiting)
                self._waiting.clear()
            for member in taken:
                # Each waiting task gets an error of its own.
                member.error = copy(error)
        else:
            for member in taken:
                member.error = None
        return True

    async def _do_alone(self, member: _Member) -> None:
        try:
            await self._transact(lambda transaction: _run([member], transaction.connection, self._clock))
        except Exception as error:  # noqa: BLE001  (raised where it is awaited)
            member.error = error
        else:
            member.error = None
