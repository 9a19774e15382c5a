"""The journal in PostgreSQL, for several machines."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self

import anyio

from qxt_async.errors import JournalBusyError, JournalClosedError, JournalError, JournalUnavailableError
from qxt_async.tasks import in_a_task

from . import Entry, SuppressionReason
from .incoming import conflict_of, raw_push_of, reply_of, report_of, several, suppressible, suppression_of
from .moments import micros
from .postgres_campaigns import PostgresCampaigns
from .postgres_database import PostgresDatabase, storable
from .postgres_limits import PostgresLimits
from .postgres_pushes import Gathering, write_pushes
from .statements import named

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from types import TracebackType

    from qxt_async.models import DeliveryState, Reply, StatusReport
    from qxt_async.pushes import Push

    from . import Conflict, RawPush, Suppression

__all__ = ["PostgresJournal"]

# Reports in one transaction, which keeps those of all other receivers waiting for some 20 ms then.
_GROUP: Final = 1000
# What may wait in memory, about 40 MB with the tasks that wait for it. Beyond, the gateway is told to come back.
_WAITING_PUSHES: Final = 10_000
_WAITING_BYTES: Final = 16 * 1024 * 1024


class PostgresJournal:
    """`Journal` in PostgreSQL; see there for what the operations promise. On asyncio only.

    Pushes that arrive while a commit is under way are gathered, and the next transaction takes them all.

    Args:
        address: ``postgresql://USER:PASSWORD@HOST:PORT/DATABASE``; parts that are missing come from the environment
            (``PGHOST`` and so on), as libpq reads it. What it holds of ours is in the schema ``qxt``.
        connections: how many at most.

    Attributes:
        campaigns: the operations on campaigns, for no account in particular.
        limits: what accounts may do, for all processes together.

    Raises:
        InvalidConfigurationError: the address cannot be read.
    """

    def __init__(self, address: str, *, connections: int = 8) -> None:
        self.database = PostgresDatabase(address, connections=connections)
        self.campaigns = PostgresCampaigns(self.database)
        self.limits = PostgresLimits(self.database)
        self._sql = named("postgres/pushes.sql")
        self._listeners: list[Callable[[Sequence[StatusReport]], None]] = []
        self._turn = anyio.Lock()
        self._gathering: Gathering | None = None
        self._waiting_pushes = 0
        self._waiting_bytes = 0

    def campaigns_of(self, account: str) -> PostgresCampaigns:
        """The operations on campaigns for an account whose limits hold for every claim; keep it, it is not for free."""
        return PostgresCampaigns(self.database, account)

    async def open(self) -> None:
        """See `Journal.open`."""
        await self.database.open()

    async def close(self) -> None:
        """See `Journal.close`."""
        await self.database.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    # --- what came in -------------------------------------------------------------------------------------------

    async def record_push(self, push: Push, *, opted_out: Collection[Reply] = ()) -> None:
        """See `Journal.record_push`. Whoever begins a transaction, for others too, is not cut short by cancelling."""
        if self._waiting_pushes >= _WAITING_PUSHES or self._waiting_bytes >= _WAITING_BYTES:
            raise JournalBusyError(f"{self._waiting_pushes} pushes already wait to be written")
        gathering = self._gathering
        first = gathering is None or gathering.reports >= _GROUP
        if gathering is None or first:
            gathering = self._gathering = Gathering()
        before = gathering.bytes
        gathering.add(push, opted_out)
        self._waiting_pushes += 1
        self._waiting_bytes += gathering.bytes - before
        if first:
            await in_a_task(lambda: self._write(gathering))
        await gathering.done.wait()
        if gathering.error is not None:
            # Each of those who wait gets an error of its own.
            closed = isinstance(gathering.error, JournalClosedError)
            kind = JournalClosedError if closed else JournalUnavailableError
            raise kind(str(gathering.error)) from gathering.error

    async def _write(self, gathering: Gathering) -> None:
        with anyio.CancelScope(shield=True):
            try:
                async with self._turn:
                    if self._gathering is gathering:
                        self._gathering = None
                    await self.database.write(lambda transaction: write_pushes(transaction, gathering.pushes))
            except BaseException as error:
                gathering.error = error
                if not isinstance(error, JournalError):
                    raise
            finally:
                self._waiting_pushes -= len(gathering.pushes)
                self._waiting_bytes -= gathering.bytes
                gathering.done.set()
        if gathering.error is None and gathering.reports:
            reports = [report for push, _, _ in gathering.pushes for report in push.reports]
            for listener in tuple(self._listeners):
                listener(reports)

    def subscribe(self, listener: Callable[[Sequence[StatusReport]], None]) -> Callable[[], None]:
        """See `Journal.subscribe`."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def listen(self, heard: Callable[[], None]) -> None:
        """See `Journal.listen`."""
        await self.database.listen("qxt_reports", heard)

    # --- what is there ------------------------------------------------------------------------------------------

    async def _select(self, statement: str, values: dict[str, Any], filters: dict[str, Any] | None = None) -> list[Any]:
        if filters is not None:
            given = {clause: value for clause, value in filters.items() if value is not None}
            # The clauses are this module's own words, the values are bound.
            statement = statement.replace("{filter}", " AND ".join(_CLAUSES[name] for name in given) or "TRUE")
            values = values | given
        return await self.database.read(lambda transaction: transaction.rows(statement, **values))

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
        """See `Journal.reports`."""
        filters = _received(since, until) | {"mid": mid, "mobile": mobile, "state": state}
        rows = await self._select(self._sql["reports"], {"after": after, "limit": limit}, filters)
        return [Entry(row[0], report_of(row[1:])) for row in rows]

    async def report_cursor(self) -> int:
        """See `Journal.report_cursor`."""
        ((cursor,),) = await self._select(self._sql["report_cursor"], {})
        return int(cursor)

    async def find_reports(self, keys: Iterable[tuple[str, str]]) -> list[StatusReport]:
        """See `Journal.find_reports`."""
        wanted = [(storable(mid), storable(mobile)) for mid, mobile in keys]
        values = {"mids": [mid for mid, _ in wanted], "mobiles": [mobile for _, mobile in wanted]}
        return [report_of(row) for row in await self._select(self._sql["find_reports"], values)]

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
        """See `Journal.replies`."""
        filters = _received(since, until) | {"mid": mid, "mobile": mobile}
        rows = await self._select(self._sql["replies"], {"after": after, "limit": limit}, filters)
        return [Entry(row[0], reply_of(row[1:])) for row in rows]

    async def reply_cursor(self) -> int:
        """See `Journal.reply_cursor`."""
        ((cursor,),) = await self._select(self._sql["reply_cursor"], {})
        return int(cursor)

    async def conflicts(
        self, *, limit: int = 1000, mid: str | None = None, mobile: str | None = None
    ) -> list[Conflict]:
        """See `Journal.conflicts`."""
        rows = await self._select(self._sql["conflicts"], {"limit": limit}, {"mid": mid, "mobile": mobile})
        return [conflict_of(row) for row in rows]

    async def raw_pushes(self, *, after: int = 0, limit: int = 100) -> list[RawPush]:
        """See `Journal.raw_pushes`."""
        rows = await self._select(self._sql["raw_pushes"], {"after": after, "limit": limit})
        return [raw_push_of(row) for row in rows]

    # --- who wants no more texts --------------------------------------------------------------------------------

    async def suppress(
        self, numbers: Iterable[str], *, reason: SuppressionReason = SuppressionReason.MANUAL, note: str = ""
    ) -> int:
        """See `Journal.suppress`."""
        values = {
            "numbers": [suppressible(storable(number)) for number in several(numbers)],
            "reason": str(reason),
            "note": note,
            "at": micros(datetime.now(UTC)),
        }
        return await self.database.write(lambda transaction: transaction.change(self._sql["suppress"], **values))

    async def unsuppress(self, numbers: Iterable[str]) -> int:
        """See `Journal.unsuppress`."""
        values = {"numbers": [suppressible(storable(number)) for number in several(numbers)]}
        return await self.database.write(lambda transaction: transaction.change(self._sql["unsuppress"], **values))

    async def suppressions(self, *, after: str = "", limit: int = 1000) -> list[Suppression]:
        """See `Journal.suppressions`."""
        rows = await self._select(self._sql["suppressions"], {"after": after, "limit": limit})
        return [suppression_of(row) for row in rows]

    async def suppressed_numbers(self) -> frozenset[str]:
        """See `Journal.suppressed_numbers`."""
        return frozenset(number for (number,) in await self._select(self._sql["suppressed_numbers"], {}))


_CLAUSES: Final = {
    "mid": "mid = %(mid)s",
    "mobile": "mobile = %(mobile)s",
    "state": "state = %(state)s",
    "since": "received_at >= %(since)s",
    "until": "received_at < %(until)s",
}


def _received(since: datetime | None, until: datetime | None) -> dict[str, Any]:
    return {
        "since": None if since is None else micros(since),
        "until": None if until is None else micros(until),
    }
