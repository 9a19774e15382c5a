"""`Journal`: the operations on what the gateway pushed, and on the suppression list."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self

from qxt_async.errors import InvalidRequestError
from qxt_async.journal.campaigns import CampaignStore
from qxt_async.journal.limits import Limits
from qxt_async.journal.pushes import PushWriter
from qxt_async.journal.received import SuppressionReason
from qxt_async.journal.rows import (
    conflict_of,
    raw_push_of,
    read_all,
    reply_entry_of,
    report_entry_of,
    report_of,
    suppression_of,
)
from qxt_async.journal.send_records import SendState
from qxt_async.journal.sends import SendStore, require_key
from qxt_async.journal.timestamps import micros
from qxt_async.protocol.numbers import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from types import TracebackType

    from qxt_async.journal.database import Database, Transaction
    from qxt_async.journal.received import Conflict, FeedEntry, RawPush, Suppression
    from qxt_async.journal.send_records import SendRecord
    from qxt_async.models import DeliveryState, Reply, StatusReport
    from qxt_async.protocol.pushes import Push

_CONDITIONS: Final = {
    "mid": "mid = :mid",
    "number": "number = :number",
    "state": "state = :state",
    "since": "received_at >= :since",
    "until": "received_at < :until",
}


_SEND_CONDITIONS: Final = {
    "key": "s.key = :key",
    "mid": "s.batch IN (SELECT id FROM batches WHERE mid = :mid"
    " UNION SELECT batch FROM batch_exceptions WHERE mid = :mid)",
    "number": "s.batch IN (SELECT batch FROM send_numbers WHERE number = :number)",
    "since": "b.claimed_at >= :since",
    "until": "b.claimed_at < :until",
}
_SEND_STATES: Final = {
    SendState.SENDING: "b.state = 'sending'",
    SendState.ACCEPTED: "b.state = 'accepted' AND b.accepted = b.count",
    SendState.FAILED: "b.state = 'failed'",
    SendState.UNKNOWN: "b.state = 'unknown' AND b.failed = 0",
    SendState.MIXED: "(b.state = 'accepted' AND b.accepted < b.count OR b.state = 'unknown' AND b.failed > 0)",
    SendState.NOT_SENT: "b.state = 'planned'",
}


def _filtered(*, number: str | None, **filters: str | datetime | None) -> dict[str, Any]:
    """The filters that are not ``None``, and the condition that they make."""
    filters["number"] = None if number is None else canonical(number)
    given = {
        name: micros(value) if isinstance(value, datetime) else value
        for name, value in filters.items()
        if value is not None
    }
    return {**given, "where": " AND ".join(_CONDITIONS[name] for name in given) or "TRUE"}


def _listed(numbers: Iterable[str]) -> list[str]:
    """Numbers in the form in which the suppression list stores them."""
    if isinstance(numbers, str):
        raise InvalidRequestError("numbers is one string: pass a list with one number each")
    return list(map(canonical, numbers))


class Journal:
    """The durable store: pushes, the suppression list, campaigns.

    One object belongs to one event loop. Several objects, also of several processes, may share a database.
    All operations raise `JournalUnavailableError` when the database refuses and `JournalClosedError` when the journal
    is not open. Cancelling an operation that writes ends the waiting, not the writing: it may still happen.

    Args:
        database: where it is stored; `open_journal` makes one.

    Attributes:
        database: where it is stored.
        campaigns: the operations on campaigns, without limits.
        limits: the limits of accounts, for all processes together.
        single_sends: what `QxtClient.send` records; see `sends`.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.campaigns = CampaignStore(database)
        self.limits = Limits(database)
        self.single_sends = SendStore(database)
        self._pushes = PushWriter(database)

    def campaigns_of(self, account: str) -> CampaignStore:
        """The operations on campaigns for an account whose limits hold for each claim. Make one for each account.

        If the account has limits, a claim waits for its turn, for about a second at most, and is ``None`` if the turn
        does not come. It returns at the moment at which the request may leave, which is the time of the claim.
        """
        return CampaignStore(self.database, account)

    async def open(self) -> None:
        """Open the database; create it or bring its schema up to date.

        Raises:
            JournalSchemaError: it is not a journal, or a newer version wrote it.
        """
        await self.database.open()

    async def close(self) -> None:
        """Write what waits and close. May be called again; cancelling does not interrupt it."""
        await self.database.aclose()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    # --- what the gateway pushed --------------------------------------------------------------------------------

    async def record_push(self, push: Push, *, opted_out: Collection[Reply] = ()) -> None:
        """Store a push; it is committed when this returns.

        May be called again with the same push: reports are idempotent by (mid, number), replies by (mid, number, text).

        Args:
            push: reports and replies go to their tables, the raw bytes are kept if it has flags.
            opted_out: those of its replies whose numbers go on the suppression list, in the same transaction. A known
                reply does not put its number on the list again: somebody may have removed it since.

        Raises:
            JournalBusyError: too many pushes wait to be written; nothing was written.
        """
        await self._pushes.record(push, opted_out)

    def subscribe(self, listener: Callable[[Sequence[StatusReport]], None]) -> Callable[[], None]:
        """Call `listener` with the reports of each commit of this object, in its event loop; it must return at once.

        For the reports that other objects and processes store, see `watch` and `reports`.

        Returns:
            A function that ends it.
        """
        return self._pushes.subscribe(listener)

    async def watch(self, callback: Callable[[], None]) -> None:
        """Call `callback` in this event loop when somebody, here or elsewhere, has stored reports, until cancelled.

        It is also called when some may have been missed. On SQLite this returns at once: then look at `reports` from
        time to time.
        """
        await self.database.watch(callback)

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
    ) -> list[FeedEntry[StatusReport]]:
        """The status reports behind a cursor, in the order of commits.

        Args:
            after: cursor of the last entry seen; 0 for all.
            limit: the most entries.
            mid: only of this message.
            number: only of this phone.
            state: only in this state.
            since: only what was received at or after it; aware.
            until: only what was received before it; aware.
        """
        filters = _filtered(mid=mid, number=number, state=state, since=since, until=until)
        return await read_all(self.database, report_entry_of, "reports", after=after, limit=limit, **filters)

    async def report_cursor(self) -> int:
        """The cursor of the newest report, 0 if there is none. Costs one step in an index."""
        return await self._cursor("report_cursor")

    async def find_reports(self, keys: Iterable[tuple[str, str]]) -> list[StatusReport]:
        """The reports on these (mid, number), in no order. One query, however many keys."""
        wanted = [(mid, canonical(number)) for mid, number in keys]
        return await read_all(self.database, report_of, "find_reports", keys=wanted)

    async def replies(
        self,
        *,
        after: int = 0,
        limit: int = 1000,
        mid: str | None = None,
        number: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[FeedEntry[Reply]]:
        """The replies behind a cursor, in the order of commits. Arguments as for `reports`."""
        filters = _filtered(mid=mid, number=number, since=since, until=until)
        return await read_all(self.database, reply_entry_of, "replies", after=after, limit=limit, **filters)

    async def reply_cursor(self) -> int:
        """The cursor of the newest reply, 0 if there is none. Costs one step in an index."""
        return await self._cursor("reply_cursor")

    async def _cursor(self, statement: str) -> int:
        ((cursor,),) = await read_all(self.database, tuple, statement)
        return int(cursor)

    async def conflicts(
        self, *, limit: int = 1000, mid: str | None = None, number: str | None = None
    ) -> list[Conflict]:
        """Codes that lost against another report on the same message."""
        filters = _filtered(mid=mid, number=number)
        return await read_all(self.database, conflict_of, "conflicts", limit=limit, **filters)

    async def raw_pushes(self, *, after: int = 0, limit: int = 100) -> list[RawPush]:
        """Pushes that were not fully understood, behind a cursor."""
        return await read_all(self.database, raw_push_of, "raw_pushes", after=after, limit=limit)

    # --- single sends -------------------------------------------------------------------------------------------

    async def sends(
        self,
        *,
        after: int = 0,
        limit: int = 1000,
        key: str | None = None,
        mid: str | None = None,
        number: str | None = None,
        state: SendState | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[SendRecord]:
        """The single sends that `QxtClient.send` has recorded, in the order of their first claims.

        Args:
            after: cursor of the last entry seen; 0 for all.
            limit: the most entries.
            key: only with this idempotency key, also those that no longer have it.
            mid: only of this message.
            number: only to this phone.
            state: only in this state.
            since: only what was last begun at or after it; aware.
            until: only what was last begun before it; aware.

        Raises:
            InvalidRequestError: the key can be none.
        """
        if key is not None:
            require_key(key)
        filters = {
            "key": key,
            "mid": mid,
            "number": None if number is None else canonical(number),
            "since": None if since is None else micros(since),
            "until": None if until is None else micros(until),
        }
        given = {name: value for name, value in filters.items() if value is not None}
        conditions = [_SEND_CONDITIONS[name] for name in given]
        if state is not None:
            conditions.append(_SEND_STATES[state])
        where = " AND ".join(conditions) or "TRUE"
        return await self.single_sends.list(after=after, limit=limit, where=where, **given)

    # --- the suppression list -----------------------------------------------------------------------------------

    async def suppress(
        self, numbers: Iterable[str], *, reason: SuppressionReason = SuppressionReason.MANUAL, note: str = ""
    ) -> int:
        """Put numbers on the suppression list. A number that is on it keeps its reason, note and time.

        Args:
            numbers: mobile numbers are stored in the form in which `send_bulk` compares them, others as they are.
            reason: why.
            note: free text.

        Returns:
            How many are new.

        Raises:
            InvalidRequestError: `numbers` is one string.
        """
        values = {"numbers": _listed(numbers), "reason": str(reason), "note": note, "at": micros(datetime.now(UTC))}
        return await self.database.write(lambda transaction: transaction.change("suppress", **values))

    async def unsuppress(self, numbers: Iterable[str]) -> int:
        """Take numbers off the list. Returns how many were on it; raises as `suppress`."""
        listed = _listed(numbers)
        return await self.database.write(lambda transaction: transaction.change("unsuppress", numbers=listed))

    async def suppressions(self, *, after: str = "", limit: int = 1000) -> list[Suppression]:
        """The list by number, behind the number `after`."""
        return await read_all(self.database, suppression_of, "suppressions", after=after, limit=limit)

    async def suppressed_numbers(self) -> frozenset[str]:
        """All numbers on the list, as they are now: for ``send_bulk(…, suppressed=…)``."""

        async def read(transaction: Transaction) -> frozenset[str]:
            return frozenset(number for (number,) in await transaction.rows("suppressed_numbers"))

        return await self.database.read(read)
