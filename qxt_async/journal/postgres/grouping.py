"""Brief work of several tasks in one transaction: a commit costs a flush of the disk however little it writes.

What arrives during one transaction is done in the next one. If the work fails, all of it is undone, and it is done
again with each item in a transaction of its own: nothing is committed before the end, so this repeats nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from copy import copy
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

import anyio

from qxt_async.errors import JournalError, JournalUnavailableError
from qxt_async.runtime.tasks import run_in_own_task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import TypeAlias

    from qxt_async.journal.database import SharedWork
    from qxt_async.journal.postgres.transaction import PostgresTransaction

    Transact: TypeAlias = Callable[[Callable[[PostgresTransaction], Coroutine[Any, Any, None]]], Awaitable[None]]

T = TypeVar("T")
ItemT = TypeVar("ItemT")

# The most items in one transaction.
_GROUP_SIZE: Final = 100


class _Member(Generic[ItemT]):
    """An item, and the task that waits for it."""

    def __init__(self, item: ItemT) -> None:
        self.item = item
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
    """The work failed, and the connection lives: the transaction is undone."""


class WriteGroup(Generic[ItemT, T]):
    """The items of one group. One of the tasks that wait leads: it does what waits, then the next one leads.

    Args:
        work: what is done with them.
        transact: runs a function in a transaction, and returns once that is committed.
    """

    def __init__(self, work: SharedWork[ItemT, T], transact: Transact) -> None:
        self._work = work
        self._transact = transact
        self._waiting: deque[_Member[ItemT]] = deque()
        self._leader: _Member[ItemT] | None = None

    @property
    def idle(self) -> bool:
        """Nobody waits."""
        return self._leader is None

    async def write(self, item: ItemT) -> T:
        """As `Database.write_together`. Cancelling ends the waiting; what has begun is done."""
        member = _Member(item)
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
        taken: list[_Member[ItemT]] = []
        try:
            if not await self._do_together(taken):
                with anyio.CancelScope(shield=True):
                    for member in taken:
                        await self._do_alone(member)
        finally:
            for member in taken:
                member.end()

    async def _do_together(self, taken: list[_Member[ItemT]]) -> bool:
        """Take what waits and do it in one transaction; returns whether it need not be done again."""

        async def run(transaction: PostgresTransaction) -> None:
            taken.extend(self._waiting.popleft() for _ in range(min(len(self._waiting), _GROUP_SIZE)))
            try:
                await self._do(transaction, taken)
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

    async def _do_alone(self, member: _Member[ItemT]) -> None:
        try:
            await self._transact(lambda transaction: self._do(transaction, [member]))
        except Exception as error:  # noqa: BLE001  (raised where it is awaited)
            member.error = error
        else:
            member.error = None

    async def _do(self, transaction: PostgresTransaction, members: list[_Member[ItemT]]) -> None:
        values = await self._work(transaction, [member.item for member in members])
        for member, value in zip(members, values, strict=True):
            member.value = value
