"""What the journal asks of a database: a small seam, with one implementation for each in `sqlite` and `postgres`.

An operation of the journal is a coroutine over a `Transaction`, written once. PostgreSQL awaits it on the event loop.
SQLite runs it to its end inside a thread, where nothing that it awaits ever suspends: an operation awaits its
transaction and other such coroutines, and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from qxt_async.errors import JournalUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping
    from typing import TypeAlias

__all__ = ["Database", "Pending", "Transaction", "UnstorableError"]

T = TypeVar("T")

# What an operation is: a coroutine over a transaction.
Work: TypeAlias = "Callable[[Transaction], Coroutine[Any, Any, T]]"


class UnstorableError(JournalUnavailableError):
    """The database refused a value, and would refuse it again: too long, or against a constraint."""


class Transaction(Protocol):
    """Runs the statements of the journal's SQL files, by their names, inside one transaction.

    Values are bound by name. A list is one value. ``now``, where a statement needs it, is the database's clock unless
    it is given.
    """

    async def rows(self, name: str, /, *, where: str = "TRUE", **values: Any) -> list[Any]:
        """Run a statement that gives rows.

        Args:
            name: of the statement.
            where: a condition for its ``{where}``, in our own words.
            values: by their names.
        """
        ...

    async def change(self, name: str, /, **values: Any) -> int:
        """Run a statement that does not; how many rows it changed."""
        ...

    async def insert(self, name: str, /, rows: Iterable[Mapping[str, Any]]) -> None:
        """Run a statement that inserts one row for each of many, in the fastest way that the database has.

        Args:
            name: of an ``INSERT INTO table (columns) VALUES (…)``.
            rows: values by their names.
        """
        ...

    async def merge(self, name: str, /, values: list[Any], columns: int) -> int:
        """Insert many rows at once, except those whose key is there already.

        Args:
            name: of the statement.
            values: of all rows, one row after the other in one flat list: thousands of rows alive are work for the
                garbage collector.
            columns: how many values a row has.

        Returns:
            How many are new.
        """
        ...

    async def lock(self, name: str, /, **values: Any) -> None:
        """Take a lock until the end of the transaction. Nothing where only one transaction writes at a time."""
        ...

    async def notify(self) -> None:
        """Wake whoever watches, here and elsewhere, once this is committed."""
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
    """Connects, runs transactions, brings the schema up to date, watches.

    Its operations raise `JournalUnavailableError` when the database refuses and `JournalClosedError` when it is not
    open.

    Attributes:
        clock: gives microseconds since 1970, or ``None`` for the database's own time; safety does not rest on it.
    """

    clock: Callable[[], int | None]

    async def open(self) -> None:
        """Connect and bring the schema up to date. Does nothing when it is open.

        Raises:
            JournalSchemaError: it holds no journal, or one of a newer version.
            InvalidConfigurationError: a journal cannot be kept there.
        """
        ...

    async def aclose(self) -> None:
        """Finish what is under way, then close all connections. May be called again."""
        ...

    async def write(self, work: Work[T], *, brief: bool = False) -> T:
        """Run `work` in a transaction, and return its result once that is committed.

        If it raises, nothing is written. Cancelling may end the waiting, not the writing.

        Args:
            work: the operation.
            brief: it takes milliseconds and raises nothing of its own (a claim, an outcome): where transactions are
                shared it needs no savepoint, and where a server may be frozen it is given up after seconds.
        """
        ...

    async def read(self, work: Work[T]) -> T:
        """Run `work` on one state of the database, where it cannot write."""
        ...

    def submit(
        self, work: Work[None], *, shortcut: Work[bool] | None = None, on_done: Callable[[bool], None]
    ) -> Pending:
        """Queue brief work, which does not begin before the work submitted before it has ended.

        Args:
            work: may run at any time after this, also in another thread.
            shortcut: one statement that does, where nothing else shares the transaction, all that there is to do: then
                it returns true, and else `work` runs as well. A database may pass it over.
            on_done: called in this event loop when it is over, with whether it was committed.
        """
        ...

    async def watch(self, callback: Callable[[], None]) -> None:
        """Call `callback` in this event loop after each `Transaction.notify`, and when one may have been missed.

        Runs until cancelled; a database that cannot tell returns at once.
        """
        ...
