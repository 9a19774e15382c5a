"""`Journal`: the operations on what came in, and the way to those on campaigns."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Self

from qxt_async.journal import feeds
from qxt_async.journal.campaigns import CampaignStore
from qxt_async.journal.limits import Limits
from qxt_async.journal.pushes import PushWriter
from qxt_async.journal.received import SuppressionReason, several

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from datetime import datetime
    from types import TracebackType

    from qxt_async.journal.database import Database
    from qxt_async.journal.received import Conflict, Entry, RawPush, Suppression
    from qxt_async.models import DeliveryState, Reply, StatusReport
    from qxt_async.protocol.pushes import Push

__all__ = ["Journal"]


class Journal:
    """The operations on a store.

    One object belongs to one event loop; several objects, also of several processes, may share a store.
    All raise `JournalUnavailableError` when the database refuses and `JournalClosedError` when the journal is not open.
    Cancelling an operation that writes ends the waiting, not the writing: it may still happen.

    Args:
        database: where it is; `open_journal` makes one.

    Attributes:
        database: where it is.
        campaigns: the operations on campaigns, for no account in particular.
        limits: what accounts may do, for all processes together.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.campaigns = CampaignStore(database)
        self.limits = Limits(database)
        self._pushes = PushWriter(database)

    def campaigns_of(self, account: str) -> CampaignStore:
        """The operations on campaigns for an account whose limits hold for every claim; keep it, it is not for free.

        Where the account has limits, a claim waits for its turn, about a second at most, and is ``None`` if that does
        not come. It returns at the moment at which the request may leave; that is the time of the claim.
        """
        return CampaignStore(self.database, account)

    async def open(self) -> None:
        """Open the store, creating it or bringing its schema up to date.

        Raises:
            JournalSchemaError: it is no journal, or a newer version wrote it.
        """
        await self.database.open()

    async def close(self) -> None:
        """Write what waits and close. May be called again; cancelling does not cut it short."""
        await self.database.aclose()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    # --- what came in -------------------------------------------------------------------------------------------

    async def record_push(self, push: Push, *, opted_out: Collection[Reply] = ()) -> None:
        """Store a push; when this returns it is committed, and will survive.

        May be called again with the same push: reports are idempotent by (mid, number), replies by (mid, number, text).

        Args:
            push: reports and replies go to their tables, the raw bytes are kept if it has flags.
            opted_out: those of its replies whose numbers go on the suppression list, in the same transaction. A reply
                that is known already does not put its number on the list again: somebody may have taken it off since.

        Raises:
            JournalBusyError: more waits to be written than memory should hold; nothing was written.
        """
        await self._pushes.record(push, opted_out)

    def subscribe(self, listener: Callable[[Sequence[StatusReport]], None]) -> Callable[[], None]:
        """Call `listener` with the reports of every commit of this object, in its event loop; it must return at once.

        Reports that other objects or processes store are not told: see `listen`; they are in `reports`.

        Returns:
            A function that ends it.
        """
        return self._pushes.subscribe(listener)

    async def listen(self, heard: Callable[[], None]) -> None:
        """Call `heard` in this event loop when anybody, here or elsewhere, has stored reports, until cancelled.

        It is also called when some may have been missed. A store that cannot tell returns at once: then they have to be
        looked for.
        """
        await self.database.watch(heard)

    # --- what is there ------------------------------------------------------------------------------------------

    async def reports(
        self,
        *,
        after: int = 0,
        limit: int = 1000,
        mid: str | None = None,
        number: str | None = None,
        state: DeliveryState | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[Entry[StatusReport]]:
        """The status reports behind a cursor, in the order of commits.

        Args:
            after: cursor of the last entry seen; 0 for all.
            limit: how many at most.
            mid: only of this message.
            number: only of this phone.
            state: only in this state.
            since: only what was received at or after it; aware.
            until: only what was received before it; aware.
        """
        work = partial(
            feeds.reports, after=after, limit=limit, mid=mid, number=number, state=state, since=since, until=until
        )
        return await self.database.read(work)

    async def report_cursor(self) -> int:
        """The cursor of the newest report, 0 if there is none. Costs one step in an index."""
        return await self.database.read(partial(feeds.cursor, name="report_cursor"))

    async def find_reports(self, keys: Iterable[tuple[str, str]]) -> list[StatusReport]:
        """The reports on these (mid, number), in no order. One query, however many keys."""
        return await self.database.read(partial(feeds.find_reports, keys=keys))

    async def replies(
        self,
        *,
        after: int = 0,
        limit: int = 1000,
        mid: str | None = None,
        number: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[Entry[Reply]]:
        """The replies behind a cursor, in the order of commits. Arguments as for `reports`."""
        work = partial(feeds.replies, after=after, limit=limit, mid=mid, number=number, since=since, until=until)
        return await self.database.read(work)

    async def reply_cursor(self) -> int:
        """The cursor of the newest reply, 0 if there is none. Costs one step in an index."""
        return await self.database.read(partial(feeds.cursor, name="reply_cursor"))

    async def conflicts(
        self, *, limit: int = 1000, mid: str | None = None, number: str | None = None
    ) -> list[Conflict]:
        """Codes that lost against another report on the same message."""
        return await self.database.read(partial(feeds.conflicts, limit=limit, mid=mid, number=number))

    async def raw_pushes(self, *, after: int = 0, limit: int = 100) -> list[RawPush]:
        """Pushes that were not understood whole, behind a cursor."""
        return await self.database.read(partial(feeds.raw_pushes, after=after, limit=limit))

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
        work = partial(feeds.suppress, numbers=several(numbers), reason=reason, note=note)
        return await self.database.write(work)

    async def unsuppress(self, numbers: Iterable[str]) -> int:
        """Take numbers off the list. Returns how many were on it; raises as `suppress`."""
        return await self.database.write(partial(feeds.unsuppress, numbers=several(numbers)))

    async def suppressions(self, *, after: str = "", limit: int = 1000) -> list[Suppression]:
        """The list by number, behind the number `after`."""
        return await self.database.read(partial(feeds.suppressions, after=after, limit=limit))

    async def suppressed_numbers(self) -> frozenset[str]:
        """All numbers on the list, as they are now: for ``send_bulk(…, suppressed=…)``."""
        return await self.database.read(feeds.suppressed_numbers)
