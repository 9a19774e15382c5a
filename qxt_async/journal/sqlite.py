"""The journal in an SQLite file."""

from __future__ import annotations

import json
import sqlite3
import threading
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Self

from qxt_async.errors import JournalBusyError
from qxt_async.models import DeliveryState
from qxt_async.pushes import PushFlag

from . import Entry, SuppressionReason
from .database import Database
from .incoming import (
    conflict_of,
    digest,
    outranks,
    raw_push_of,
    reply_of,
    report_of,
    several,
    state_of,
    suppressible,
    suppression_of,
)
from .moments import micros
from .sqlite_campaigns import SqliteCampaigns
from .statements import named
from .writer import transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from types import TracebackType

    from qxt_async.models import Reply, StatusReport
    from qxt_async.pushes import Push

    from . import Conflict, RawPush, Suppression
    from .writer import Job

__all__ = ["SqliteJournal"]

# Reports in one statement; a commit of so many takes about 10 ms, as long as a push may well wait.
_GROUP: Final = 1000
# What may wait in memory, about 40 MB with the tasks that wait for it. Beyond, the gateway is told to come back.
_WAITING_PUSHES: Final = 10_000
_WAITING_BYTES: Final = 16 * 1024 * 1024


# The columns of ``reports``, without its seq, in the order in which they are written.
_COLUMNS: Final = 8


class _Gathering:
    """Pushes that are written together, by one job.

    Attributes:
        reports: their reports.
        values: what is written of these, row after row. One flat list: thousands of rows alive are work for the
            collector of garbage.
        others: pushes of which more is to be written, with those of their replies that opt out, and when they came.
        repeating: one of the pushes speaks twice of a message, which nobody is to see half of.
        pushes, bytes: how many they are, and how large.
    """

    job: Job[None]

    def __init__(self) -> None:
        self.reports: list[StatusReport] = []
        self.values: list[str | int | None] = []
        self.others: list[tuple[Push, Collection[Reply], int]] = []
        self.repeating = False
        self.pushes = 0
        self.bytes = 0

    def add(self, push: Push, opted_out: Collection[Reply]) -> None:
        at = micros(push.received_at or datetime.now(UTC))
        for report in push.reports:
            code = report.code
            self.values += (
                report.mid,
                report.mobile,
                code,
                state_of(code),
                report.port,
                report.area,
                report.city,
                at,
            )
        self.reports += push.reports
        if len(push.reports) > 1:
            self.repeating |= len({(report.mid, report.mobile) for report in push.reports}) < len(push.reports)
        if push.replies or push.flags:
            self.others.append((push, opted_out, at))
        self.pushes += 1
        self.bytes += len(push.query) + len(push.body)


@cache
def _inserting(rows: int) -> str:
    """The statement that inserts so many reports."""
    row = f"({', '.join('?' * _COLUMNS)})"
    return named("pushes.sql")["insert_reports"].format(rows=", ".join([row] * rows))


def _most_rows(connection: sqlite3.Connection) -> int:
    """How many reports go into one statement: what `_insert` makes of it is a quarter more at most."""
    return min(_GROUP, connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) * 4 // 5 // _COLUMNS)


def _insert(connection: sqlite3.Connection, values: list[str | int | None]) -> int:
    """Insert reports in one statement, except where there is one. Returns how many are new."""
    rows = len(values) // _COLUMNS
    # Preparing costs more than inserting, so sizes are few: at most a quarter is the last row again, and passed over.
    surplus = -rows % (1 << max(rows.bit_length() - 3, 0))
    return connection.execute(_inserting(rows + surplus), values + values[-_COLUMNS:] * surplus).rowcount


class SqliteJournal:
    """`Journal` in an SQLite file; see there for what the operations promise.

    Pushes that arrive while a commit is under way are gathered, and the next transaction takes them all.

    Args:
        path: where it is.
    """

    def __init__(self, path: str) -> None:
        self.database = Database(path)
        self.campaigns = SqliteCampaigns(self.database)
        self._sql = named("pushes.sql")
        self._listeners: list[Callable[[Sequence[StatusReport]], None]] = []
        # Between the event loop, which adds to what is gathered, and the writer's thread, which takes it.
        self._lock = threading.Lock()
        self._gathering: _Gathering | None = None
        self._waiting_pushes = 0
        self._waiting_bytes = 0

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
        """See `Journal.record_push`."""
        with self._lock:
            if self._waiting_pushes >= _WAITING_PUSHES or self._waiting_bytes >= _WAITING_BYTES:
                raise JournalBusyError(f"{self._waiting_pushes} pushes already wait to be written")
            gathering = self._gathering
            if gathering is None or len(gathering.reports) >= _GROUP:
                gathering = self._start()
            before = gathering.bytes
            gathering.add(push, opted_out)
            self._waiting_pushes += 1
            self._waiting_bytes += gathering.bytes - before
            job = gathering.job
        await job.result()

    def _start(self) -> _Gathering:
        gathering = _Gathering()
        # The lock is held: the thread cannot take it before the first push is in.
        gathering.job = self.database.writer.submit(
            lambda connection: self._write(connection, gathering),
            lambda done: self._written(gathering, done=done),
            bare=True,
        )
        self._gathering = gathering
        return gathering

    def _leave(self, gathering: _Gathering) -> None:
        """Nothing is added to it any more."""
        with self._lock:
            if self._gathering is gathering:
                self._gathering = None

    def _written(self, gathering: _Gathering, *, done: bool) -> None:
        """In the event loop: the transaction is over."""
        self._leave(gathering)
        self._waiting_pushes -= gathering.pushes
        self._waiting_bytes -= gathering.bytes
        if done and gathering.reports:
            for listener in tuple(self._listeners):
                listener(gathering.reports)

    def subscribe(self, listener: Callable[[Sequence[StatusReport]], None]) -> Callable[[], None]:
        """See `Journal.subscribe`."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def listen(self, heard: Callable[[], None]) -> None:
        """See `Journal.listen`: a file does not tell what other processes write into it."""

    # --- in the writer's thread ---------------------------------------------------------------------------------

    def _write(self, connection: sqlite3.Connection, gathering: _Gathering) -> None:
        self._leave(gathering)
        if connection.in_transaction:
            self._write_all(connection, gathering)
            return
        count = len(gathering.reports)
        if (
            not gathering.others
            and not gathering.repeating
            and 0 < count <= _most_rows(connection)
            and _insert(connection, gathering.values) == count
        ):
            return  # one statement is a transaction, and as a rule all that there is to do
        with transaction(connection):
            self._write_all(connection, gathering)

    def _write_all(self, connection: sqlite3.Connection, gathering: _Gathering) -> None:
        for push, opted_out, at in gathering.others:
            for reply in push.replies:
                self._write_reply(connection, reply, at, opted_out=reply in opted_out)
            if push.flags and push.flags != (PushFlag.EMPTY,):
                values = {
                    "digest": digest(push.query, push.body),
                    "query": push.query,
                    "body": push.body,
                    "flags": " ".join(push.flags),
                    "at": at,
                }
                connection.execute(self._sql["keep_raw"], values)
        self._write_reports(connection, gathering.values)

    def _write_reports(self, connection: sqlite3.Connection, values: list[str | int | None]) -> None:
        size = _most_rows(connection) * _COLUMNS
        for start in range(0, len(values), size):
            some = values[start : start + size]
            rows = [some[place : place + _COLUMNS] for place in range(0, len(some), _COLUMNS)]
            if _insert(connection, some) < len(rows):
                array = {"rows": json.dumps(rows, ensure_ascii=False)}
                places: list[tuple[int]] = connection.execute(self._sql["contradicting_reports"], array).fetchall()
                for (place,) in places:
                    self._settle(connection, rows[place])

    def _settle(self, connection: sqlite3.Connection, row: list[Any]) -> None:
        """A report that says something else than the stored one: the rule of the package's docstring."""
        mid, mobile, code, state, *_, at = row
        key = {"mid": mid, "mobile": mobile}
        stored_code, stored_state, stored_at = connection.execute(self._sql["stored_report"], key).fetchone()
        if stored_code == code:
            return  # another one of this group has brought it already
        loser, lost_at = code, at
        if outranks(DeliveryState(state), DeliveryState(stored_state)):
            connection.execute(self._sql["delete_report"], key)
            _insert(connection, row)
            loser, lost_at = stored_code, stored_at
        if loser:
            connection.execute(self._sql["keep_conflict"], {**key, "code": loser, "at": lost_at})

    def _write_reply(self, connection: sqlite3.Connection, reply: Reply, at: int, *, opted_out: bool) -> None:
        values = {
            "mid": reply.mid,
            "mobile": reply.mobile,
            "digest": digest(reply.text.encode()),
            "text": reply.text,
            "port": reply.port,
            "extno": reply.extno,
            "area": reply.area,
            "city": reply.city,
            "at": at,
        }
        new = connection.execute(self._sql["insert_reply"], values).rowcount
        # Without a mid a second wish cannot be told from a first one that came twice: better to honour it.
        if opted_out and (new or not reply.mid):
            self._write_suppressions(connection, [suppressible(reply.mobile)], SuppressionReason.REPLY, reply.mid, at)

    def _write_suppressions(
        self, connection: sqlite3.Connection, numbers: Iterable[str], reason: SuppressionReason, note: str, at: int
    ) -> int:
        values = {"numbers": json.dumps(list(numbers), ensure_ascii=False), "reason": reason, "note": note, "at": at}
        return connection.execute(self._sql["suppress"], values).rowcount

    # --- what is there ------------------------------------------------------------------------------------------

    async def _select(self, statement: str, values: dict[str, Any], filters: dict[str, Any] | None = None) -> list[Any]:
        if filters is not None:
            given = {clause: value for clause, value in filters.items() if value is not None}
            # The clauses are this module's own words, the values are bound.
            statement = statement.format(filter=" AND ".join(given) or "TRUE")
            values = values | {clause.rpartition(":")[2]: value for clause, value in given.items()}
        return await self.database.read(lambda connection: connection.execute(statement, values).fetchall())

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
        filters = _received(since, until) | {"mid = :mid": mid, "mobile = :mobile": mobile, "state = :state": state}
        rows = await self._select(self._sql["reports"], {"after": after, "limit": limit}, filters)
        return [Entry(row[0], report_of(row[1:])) for row in rows]

    async def report_cursor(self) -> int:
        """See `Journal.report_cursor`."""
        ((cursor,),) = await self._select(self._sql["report_cursor"], {})
        return int(cursor)

    async def find_reports(self, keys: Iterable[tuple[str, str]]) -> list[StatusReport]:
        """See `Journal.find_reports`."""
        rows = await self._select(self._sql["find_reports"], {"keys": json.dumps(list(keys), ensure_ascii=False)})
        return [report_of(row) for row in rows]

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
        filters = _received(since, until) | {"mid = :mid": mid, "mobile = :mobile": mobile}
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
        filters = {"mid = :mid": mid, "mobile = :mobile": mobile}
        rows = await self._select(self._sql["conflicts"], {"limit": limit}, filters)
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
        listed, at = [suppressible(number) for number in several(numbers)], micros(datetime.now(UTC))
        return await self.database.writer.run(
            lambda connection: self._write_suppressions(connection, listed, reason, note, at)
        )

    async def unsuppress(self, numbers: Iterable[str]) -> int:
        """See `Journal.unsuppress`."""
        values = {"numbers": json.dumps([suppressible(number) for number in several(numbers)], ensure_ascii=False)}
        return await self.database.writer.run(
            lambda connection: connection.execute(self._sql["unsuppress"], values).rowcount
        )

    async def suppressions(self, *, after: str = "", limit: int = 1000) -> list[Suppression]:
        """See `Journal.suppressions`."""
        rows = await self._select(self._sql["suppressions"], {"after": after, "limit": limit})
        return [suppression_of(row) for row in rows]

    async def suppressed_numbers(self) -> frozenset[str]:
        """See `Journal.suppressed_numbers`."""
        return frozenset(number for (number,) in await self._select(self._sql["suppressed_numbers"], {}))


def _received(since: datetime | None, until: datetime | None) -> dict[str, Any]:
    return {
        "received_at >= :since": None if since is None else micros(since),
        "received_at < :until": None if until is None else micros(until),
    }
