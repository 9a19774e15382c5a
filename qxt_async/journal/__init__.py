"""What must survive a crash: what was pushed, who wants no more texts, campaigns.

`open_journal` gives a `Journal`, a small set of operations; how a store keeps them is its own affair.

::

    async with open_journal("qxt.db") as journal:
        for entry in await journal.reports(state=DeliveryState.FAILED):
            print(entry.value)

**Conflicting reports.** The key of a report is (mid, mobile) (PROTOCOL 4.4). A report that repeats what is known
changes nothing. Of two that differ, a final state wins over none, and *delivered* wins over *failed* and *rejected*: a
phone that has the text has it, whatever a carrier's timer said before. Otherwise the first stays. What lost is kept
(`Journal.conflicts`), and a report that won over another one appears in the feed again, with a new cursor.

**Raw bytes** are kept for every push with a flag, each once with a count. Those of a clean push are not: the rows say
all that it said, and keeping them would double what is written.
"""

from __future__ import annotations

import enum
import os
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

import attrs

from qxt_async.errors import InvalidConfigurationError
from qxt_async.models import Reply, StatusReport, masked

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from datetime import datetime
    from types import TracebackType

    from qxt_async.models import DeliveryState
    from qxt_async.pushes import Push, PushFlag

    from .campaigns import Campaigns

__all__ = ["Conflict", "Entry", "Journal", "RawPush", "Suppression", "SuppressionReason", "open_journal"]

T_co = TypeVar("T_co", covariant=True)


@attrs.frozen
class Entry(Generic[T_co]):
    """Something stored, with its place in the feed.

    Attributes:
        cursor: grows in the order of commits; ``after=cursor`` continues behind this entry.
        value: a `StatusReport` or a `Reply`.
    """

    cursor: int
    value: T_co


@attrs.frozen(kw_only=True)
class Conflict:
    """A code that was reported for a message whose stored report says something else.

    Attributes:
        mid, mobile: the report's key.
        code: the code that lost.
        times: how often it came.
        first_at, last_at: when it came, aware, UTC.
    """

    mid: str
    mobile: str = attrs.field(repr=masked)
    code: str
    times: int
    first_at: datetime
    last_at: datetime


@attrs.frozen(kw_only=True)
class RawPush:
    """A push that was not understood whole, as it came.

    Attributes:
        cursor: ``after=cursor`` continues behind it.
        query, body: its bytes.
        flags: why it is kept; the values of `pushes.PushFlag`.
        times: how often the same bytes came.
        first_at, last_at: when they came, aware, UTC.
    """

    cursor: int
    query: bytes = attrs.field(repr=lambda raw: f"<{len(raw)} bytes>")
    body: bytes = attrs.field(repr=lambda raw: f"<{len(raw)} bytes>")
    flags: tuple[PushFlag, ...]
    times: int
    first_at: datetime
    last_at: datetime


class SuppressionReason(enum.StrEnum):
    """Why a number is on the suppression list."""

    REPLY = "reply"
    MANUAL = "manual"
    IMPORT = "import"


@attrs.frozen
class Suppression:
    """A number that gets no more texts.

    Attributes:
        number: the phone.
        reason: why it is on the list.
        note: what was written down with it; for a reply its mid.
        added_at: since when, aware, UTC.
    """

    number: str = attrs.field(repr=masked)
    reason: SuppressionReason = attrs.field(kw_only=True)
    note: str = attrs.field(kw_only=True)
    added_at: datetime = attrs.field(kw_only=True)


class Journal(Protocol):
    """The operations on a store.

    One object belongs to one event loop; several objects, also of several processes, may share a store.
    All raise `JournalUnavailableError` when the database refuses and `JournalClosedError` when the journal is not open.
    Cancelling an operation that writes ends the waiting, not the writing: it may still happen.
    """

    @property
    def campaigns(self) -> Campaigns:
        """The operations on campaigns."""
        ...

    async def open(self) -> None:
        """Open the store, creating it or bringing its schema up to date.

        Raises:
            JournalSchemaError: it is no journal, or a newer version wrote it.
        """
        ...

    async def close(self) -> None:
        """Write what waits and close. May be called again; cancelling does not cut it short."""
        ...

    async def __aenter__(self) -> Self:
        """`open`."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """`close`."""
        ...

    # --- what came in -------------------------------------------------------------------------------------------

    async def record_push(self, push: Push, *, opted_out: Collection[Reply] = ()) -> None:
        """Store a push; when this returns it is committed, and will survive.

        May be called again with the same push: reports are idempotent by (mid, mobile), replies by (mid, mobile, text).

        Args:
            push: reports and replies go to their tables, the raw bytes are kept if it has flags.
            opted_out: those of its replies whose numbers go on the suppression list, in the same transaction. A reply
                that is known already does not put its number on the list again: somebody may have taken it off since.

        Raises:
            JournalBusyError: more waits to be written than memory should hold; nothing was written.
        """
        ...

    def subscribe(self, listener: Callable[[Sequence[StatusReport]], None]) -> Callable[[], None]:
        """Call `listener` with the reports of every commit of this object, in its event loop; it must return at once.

        Reports that other objects or processes store are not told: see `listen`; they are in `reports`.

        Returns:
            A function that ends it.
        """
        ...

    async def listen(self, heard: Callable[[], None]) -> None:
        """Call `heard` in this event loop when anybody, here or elsewhere, has stored reports, until cancelled.

        It is also called when some may have been missed. A store that cannot tell returns at once: then they have to be
        looked for.
        """
        ...

    # --- what is there ------------------------------------------------------------------------------------------

    async def reports(
        self,
        *,
        after: int = 0,
        limit: int = 1000,
        mid: str | None = None,
        mobile: str | None = None,
        state: DeliveryState | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[Entry[StatusReport]]:
        """The status reports behind a cursor, in the order of commits.

        Args:
            after: cursor of the last entry seen; 0 for all.
            limit: how many at most.
            mid: only of this message.
            mobile: only of this phone.
            state: only in this state.
            since: only what was received at or after it; aware.
            until: only what was received before it; aware.
        """
        ...

    async def report_cursor(self) -> int:
        """The cursor of the newest report, 0 if there is none. Costs one step in an index."""
        ...

    async def find_reports(self, keys: Iterable[tuple[str, str]]) -> list[StatusReport]:
        """The reports on these (mid, mobile), in no order. One query, however many keys."""
        ...

    async def replies(
        self,
        *,
        after: int = 0,
        limit: int = 1000,
        mid: str | None = None,
        mobile: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[Entry[Reply]]:
        """The replies behind a cursor, in the order of commits. Arguments as for `reports`."""
        ...

    async def reply_cursor(self) -> int:
        """The cursor of the newest reply, 0 if there is none. Costs one step in an index."""
        ...

    async def conflicts(
        self, *, limit: int = 1000, mid: str | None = None, mobile: str | None = None
    ) -> list[Conflict]:
        """Codes that lost against another report on the same message."""
        ...

    async def raw_pushes(self, *, after: int = 0, limit: int = 100) -> list[RawPush]:
        """Pushes that were not understood whole, behind a cursor."""
        ...

    # --- who wants no more texts --------------------------------------------------------------------------------

    async def suppress(
        self, numbers: Iterable[str], *, reason: SuppressionReason = SuppressionReason.MANUAL, note: str = ""
    ) -> int:
        """Put numbers on the suppression list. One that is there already keeps its reason, note and time.

        Args:
            numbers: brought to the form in which `send_bulk` compares them, where they are mobile numbers.
            reason: why.
            note: whatever helps later.

        Returns:
            How many are new.

        Raises:
            InvalidRequestError: `numbers` is one string.
        """
        ...

    async def unsuppress(self, numbers: Iterable[str]) -> int:
        """Take numbers off the list. Returns how many were on it; raises as `suppress`."""
        ...

    async def suppressions(self, *, after: str = "", limit: int = 1000) -> list[Suppression]:
        """The list by number, behind the number `after`."""
        ...

    async def suppressed_numbers(self) -> frozenset[str]:
        """All numbers on the list, as they are now: for ``send_bulk(…, suppressed=…)``."""
        ...


def open_journal(target: str | os.PathLike[str]) -> Journal:
    """The journal in a file or in a PostgreSQL database. Nothing is opened before ``async with`` or `Journal.open`.

    Args:
        target: path of an SQLite database, created, readable by its owner alone, if it does not exist; or
            ``postgresql://USER:PASSWORD@HOST:PORT/DATABASE`` (extra ``postgres``), whose schema ``qxt`` is created.

    Raises:
        InvalidConfigurationError: `target` is an address of a database that is not supported or cannot be read, or in
            memory; or the extra is not installed.
    """
    path = os.fspath(target)
    kind, is_address, _ = path.partition("://")
    if is_address and kind in {"postgresql", "postgres"}:
        try:
            from .postgres import PostgresJournal
        except ImportError as error:
            raise InvalidConfigurationError("a journal on PostgreSQL: pip install 'qxt_async[postgres]'") from error
        return PostgresJournal(path)
    if is_address:
        # The address may carry a password.
        message = f"{kind}:// is no kind of journal that this version knows; give postgresql://… or the path of a file"
        raise InvalidConfigurationError(message)
    if path in {"", ":memory:"} or path.startswith("file:"):
        raise InvalidConfigurationError("a journal has to survive its process: give the path of a file")
    if "password=" in path or "host=" in path:
        raise InvalidConfigurationError("give a journal on PostgreSQL as an address: postgresql://…")
    from .sqlite import SqliteJournal

    return SqliteJournal(path)
