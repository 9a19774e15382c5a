"""The interface between the journal and a database, implemented in `sqlite` and in `postgres`.

An operation of the journal is a coroutine over a `Transaction`, written once. PostgreSQL awaits it in the event loop.
SQLite runs it to its end in a thread, where it must never suspend: an operation awaits only its transaction and other
such coroutines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from qxt_async.errors import JournalUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable, Iterable, Mapping
    from typing import TypeAlias

T = TypeVar("T")

# An operation.
Work: TypeAlias = "Callable[[Transaction], Coroutine[Any, Any, T]]"


class UnstorableError(JournalUnavailableError):
    """The database refused a value that is too long or violates a constraint, and would refuse it again."""


class Transaction(Protocol):
    """Runs statements of the journal's SQL files, by their names, inside one transaction.

    Values are bound by name; a list is one value. If a statement needs ``now`` and it is not given, it is the clock.

    Attributes:
        kept: what work that holds a lock leaves for the work after it in the same transaction, by the lock's name. It
            may be empty for each.
    """

    kept: dict[str, Any]

    async def rows(self, name: str, /, *, where: str = "TRUE", **values: Any) -> list[Any]:
        """Run a statement and return its rows; `where` replaces its ``{where}`` and must not hold a value."""
        ...

    async def change(self, name: str, /, **values: Any) -> int:
        """Run a statement without rows; return how many rows it changed."""
        ...

    async def change_at_end(self, name: str, /, **values: Any) -> None:
        """The same, at any time before the commit; instead of what was asked for under the same name before."""
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

    async def lock(self, name: str, /, *, shared: bool = False, **values: Any) -> None:
        """Take a lock until the end of the transaction, if several transactions can write at a time.

        Args:
            name: of the statement.
            shared: several transactions may hold it, if all of them share it.
            values: for the statement.
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

    async def write(self, work: Work[T], *, group: Hashable | None = None) -> T:
        """Run `work` in a transaction, and return its result once that is committed.

        If it raises, nothing is written. Cancelling may end the waiting, not the writing.

        Args:
            work: the operation.
            group: work of the same group may share a transaction. It takes milliseconds, takes its locks first, and
                raises nothing of its own, as a claim or an outcome does. If one fails, the others are run again.
                PostgreSQL gives up after seconds if the server is frozen.
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
