"""The interface between the journal and a database, implemented in `sqlite` and in `postgres`.

An operation of the journal is a coroutine over a `Transaction`, written once. PostgreSQL awaits it in the event loop.
SQLite runs it to its end in a thread, where it must never suspend: an operation awaits only its transaction and other
such coroutines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from qxt_async.errors import JournalUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
    from typing import TypeAlias

T = TypeVar("T")
ItemT = TypeVar("ItemT")

# An operation.
Work: TypeAlias = "Callable[[Transaction], Coroutine[Any, Any, T]]"
# An operation on the items of several callers; it returns a result for each.
SharedWork: TypeAlias = "Callable[[Transaction, Sequence[ItemT]], Coroutine[Any, Any, Sequence[T]]]"


class UnstorableError(JournalUnavailableError):
    """The database refused a value that is too long or violates a constraint, and would refuse it again."""


class Transaction(Protocol):
    """Runs statements of the journal's SQL files, by their names, inside one transaction.

    Values are bound by name; a list is one value. If a statement needs ``now`` and it is not given, it is the clock.
    """

    async def rows(self, name: str, /, *, where: str = "TRUE", **values: Any) -> list[Any]:
        """Run a statement and return its rows; `where` replaces its ``{where}`` and must not hold a value."""
        ...

    async def rows_for_each(self, name: str, /, values: Sequence[dict[str, Any]]) -> Sequence[list[Any]]:
        """Run a statement once for each of these values, in their order, and return the rows of each.

        PostgreSQL is told the values as part of the statement, which its log quotes when it fails: no numbers or texts.
        """
        ...

    async def change(self, name: str, /, **values: Any) -> int:
        """Run a statement without rows; return how many rows it changed."""
        ...

    async def insert(self, name: str, /, rows: Iterable[Mapping[str, Any]]) -> None:
        """Run an ``INSERT INTO table (columns) VALUES (…)`` for each row, in the fastest way that the database has."""
        ...

    async def merge(self, name: str, /, values: list[Any], columns: int) -> int:
        """Insert many rows at once, without those whose key exists; return how many are new.

        Args:
            name: of the statement.
            values: of all rows, one row after the other, since a list for each of thousands of rows would be work for
                the garbage collector.
            columns: how many values a row has.
        """
        ...

    async def lock(self, name: str, /, **values: Any) -> None:
        """Take a lock until the end of the transaction, if several transactions can write at a time.

        All take their locks in one order, before any row is locked, so that they never wait for each other in a circle.
        """
        ...

    async def notify(self) -> None:
        """Wake all that watch, in this process and others, once this is committed."""
        ...


class Pending(Protocol):
    """Work that several callers wait for."""

    async def result(self) -> None:
        """Wait until it is committed.

        Raises:
            JournalUnavailableError: the database refused; nothing is written.
            UnstorableError: it refused a value.
        """
        ...


class Database(Protocol):
    """A database of the journal.

    Its operations raise `JournalUnavailableError` when the database refuses and `JournalClosedError` when it is not
    open.

    Attributes:
        clock: gives microseconds since 1970, or ``None`` for the database's own time; safety does not rest on it.
    """

    clock: Callable[[], int | None]

    async def open(self) -> None:
        """Connect and bring the schema up to date. Does nothing when it is open.

        Raises:
            JournalSchemaError: it is not a journal, or it has a newer version.
            InvalidConfigurationError: a journal cannot be stored there.
        """
        ...

    async def aclose(self) -> None:
        """Finish the operations under way, then close all connections. May be called again."""
        ...

    async def write(self, work: Work[T]) -> T:
        """Run `work` in a transaction, and return its result once that is committed.

        If it raises, nothing is written. Cancelling may end the waiting, not the writing.
        """
        ...

    async def write_together(self, work: SharedWork[ItemT, T], item: ItemT) -> T:
        """Run brief work on `item` as `write` does, in one transaction with the items of others that wait for it.

        A commit costs a flush of the disk however little it writes. PostgreSQL gives up after seconds if the server is
        frozen.

        Args:
            work: the operation; callers that give the same share transactions. It raises nothing of its own. If it
                fails with several items, it is run again with each.
            item: what this caller wants done.
        """
        ...

    async def read(self, work: Work[T]) -> T:
        """Run `work` on one state of the database; it cannot write."""
        ...

    def submit(
        self, work: Work[None], *, shortcut: Work[bool] | None = None, on_done: Callable[[bool], None]
    ) -> Pending:
        """Queue brief work. It begins after the work submitted before it has ended.

        Args:
            work: may run at any time after this, in this thread or another one.
            shortcut: if nothing else shares the transaction, a database may run this single statement first. If it
                returns true, it has done everything; otherwise `work` runs, too.
            on_done: called in this event loop when the transaction is over, with whether it was committed.
        """
        ...

    async def watch(self, callback: Callable[[], None]) -> None:
        """Call `callback` in this event loop after each `Transaction.notify`, and when one may have been missed.

        Runs until cancelled. A database that cannot notify returns at once.
        """
        ...
