"""Writing pushes: those that arrive during a commit are gathered, and the next commit has them all."""

from __future__ import annotations

import hashlib
import threading
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final

import attrs

from qxt_async.errors import JournalBusyError
from qxt_async.journal.database import UnstorableError
from qxt_async.journal.timestamps import micros
from qxt_async.models import DeliveryState
from qxt_async.protocol.numbers import canonical
from qxt_async.protocol.pushes import PushFlag

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from qxt_async.journal.database import Database, Pending, Transaction
    from qxt_async.models import Reply, StatusReport
    from qxt_async.protocol.pushes import Push

# The most reports in a group: its commit takes about 10 ms.
MAX_GROUP: Final = 1000
# What may wait in memory, about 40 MB with the waiting tasks. More is refused: the gateway pushes it again.
MAX_WAITING_PUSHES: Final = 10_000
MAX_WAITING_BYTES: Final = 16 * 1024 * 1024
# Columns of ``insert_reports``.
_COLUMNS: Final = 9
# Microseconds after which a repeated report may be on another send with the same mid: a restarted gateway may count
# mids from the beginning. A gateway repeats its own pushes within minutes.
_REPEATED: Final = 3_600_000_000

# Of two different reports on one message the higher one stays, the first of equals: the package's docstring.
_RANK: Final = {
    DeliveryState.UNKNOWN: 0,
    DeliveryState.FAILED: 1,
    DeliveryState.REJECTED: 1,
    DeliveryState.DELIVERED: 2,
}


@lru_cache(maxsize=256)
def _state_of(code: str) -> str:
    """The state of a code, as it is stored. Codes are few."""
    return DeliveryState.from_code(code).value


def _digest(*parts: bytes) -> str:
    """The SHA-256 of these parts, in hex, different for different ways to cut the same bytes."""
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "big") + part)
    return found.hexdigest()


@attrs.define(eq=False)
class PushGroup:
    """Pushes that are written together.

    Attributes:
        pending: what the tasks wait for.
        reports: the reports.
        values: the rows of the reports, one row after the other.
        others: pushes with replies or flags, those of their replies that opt out, and when they came.
        repeating: whether a push has two reports on one message, of which nobody must see only the first.
        pushes, bytes: how many they are, and how large.
    """

    pending: Pending = attrs.field(init=False)
    reports: list[StatusReport] = attrs.field(factory=list["StatusReport"], init=False)
    values: list[str | int | None] = attrs.field(factory=list["str | int | None"], init=False, repr=False)
    others: list[tuple[Push, Collection[Reply], int]] = attrs.field(
        factory=list["tuple[Push, Collection[Reply], int]"], init=False, repr=False
    )
    repeating: bool = attrs.field(default=False, init=False)
    pushes: int = attrs.field(default=0, init=False)
    bytes: int = attrs.field(default=0, init=False)

    def add(self, push: Push, opted_out: Collection[Reply]) -> None:
        """Add a push."""
        at = micros(push.received_at or datetime.now(UTC))
        for report in push.reports:
            code = report.code
            number = canonical(report.number)
            self.values += (report.mid, number, code, _state_of(code), report.port, report.area, report.city, at, at)
        self.reports += push.reports
        if len(push.reports) > 1:
            keys = {(report.mid, canonical(report.number)) for report in push.reports}
            self.repeating |= len(keys) < len(push.reports)
        if push.replies or push.flags:
            self.others.append((push, opted_out, at))
        self.pushes += 1
        self.bytes += len(push.query) + len(push.body)


class PushWriter:
    """Gathers pushes, writes them, and calls the listeners after each commit."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._listeners: list[Callable[[Sequence[StatusReport]], None]] = []
        # Held by the event loop while it adds to a group, and by the thread that begins to write it.
        self._lock = threading.Lock()
        self._group: PushGroup | None = None
        self._waiting_pushes = 0
        self._waiting_bytes = 0

    async def record(self, push: Push, opted_out: Collection[Reply]) -> None:
        """Store a push, together with others; it is committed when this returns.

        If the database refuses a value of one of them, each is written alone. A push that is refused alone is kept raw,
        since the gateway would push it again and again.
        """
        try:
            await self._queue(push, opted_out)
        except UnstorableError:
            try:
                await self._queue(push, opted_out, alone=True)
            except UnstorableError:
                flags = tuple(sorted({*push.flags, PushFlag.UNSTORABLE}))
                await self._queue(attrs.evolve(push, reports=(), replies=(), flags=flags), (), alone=True)

    async def _queue(self, push: Push, opted_out: Collection[Reply], *, alone: bool = False) -> None:
        with self._lock:
            if self._waiting_pushes >= MAX_WAITING_PUSHES or self._waiting_bytes >= MAX_WAITING_BYTES:
                raise JournalBusyError(f"{self._waiting_pushes} pushes already wait to be written")
            group = None if alone else self._group
            if group is None or len(group.reports) >= MAX_GROUP:
                group = self._begin()
            if not alone:
                self._group = group
            before = group.bytes
            group.add(push, opted_out)
            self._waiting_pushes += 1
            self._waiting_bytes += group.bytes - before
            pending = group.pending
        await pending.result()

    def subscribe(self, listener: Callable[[Sequence[StatusReport]], None]) -> Callable[[], None]:
        """Call `listener` with the reports of each commit; returns a function that ends it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _begin(self) -> PushGroup:
        group = PushGroup()
        # The caller holds the lock, so nobody takes the group before the first push is in it.
        group.pending = self._database.submit(
            partial(self._write, group=group),
            shortcut=partial(self._write_in_one, group=group),
            on_done=lambda done: self._written(group, done=done),
        )
        return group

    def _close(self, group: PushGroup) -> None:
        """Add nothing to this group any more."""
        with self._lock:
            if self._group is group:
                self._group = None

    def _written(self, group: PushGroup, *, done: bool) -> None:
        """The transaction is over. Runs in the event loop."""
        self._close(group)
        self._waiting_pushes -= group.pushes
        self._waiting_bytes -= group.bytes
        if done and group.reports:
            for listener in tuple(self._listeners):
                listener(group.reports)

    # --- where the database works: in a thread, or in the event loop ----------------------------------------------

    async def _write_in_one(self, transaction: Transaction, *, group: PushGroup) -> bool:
        """Write a group of reports in one statement; returns whether that was all, which is so if all are new."""
        self._close(group)
        count = len(group.reports)
        if group.others or group.repeating or not 0 < count <= MAX_GROUP:
            return False
        return await transaction.merge("insert_reports", group.values, _COLUMNS) == count

    async def _write(self, transaction: Transaction, *, group: PushGroup) -> None:
        self._close(group)
        await write_group(transaction, group)


async def write_group(transaction: Transaction, group: PushGroup) -> None:
    """Write pushes: reports and replies to their tables, the raw bytes of a push with flags."""
    await transaction.lock("lock_feeds")
    wishes: list[dict[str, Any]] = []
    for push, opted_out, at in group.others:
        for reply in push.replies:
            number, digest = canonical(reply.number), _digest(reply.text.encode("utf-8", "replace"))
            values = {name: getattr(reply, name) for name in ("mid", "text", "port", "extno", "area", "city")}
            new = await transaction.change("insert_reply", **values, number=number, digest=digest, at=at)
            # Without a mid, a second wish cannot be told from a repeated push of the first one: honour it.
            if reply in opted_out and (new or not reply.mid):
                wishes.append({"number": number, "note": reply.mid, "at": at})
        if push.flags and push.flags != (PushFlag.EMPTY,):
            await transaction.change(
                "keep_raw",
                digest=_digest(push.query, push.body),
                query=push.query,
                body=push.body,
                flags=" ".join(push.flags),
                at=at,
            )
    if wishes:
        # Ordered by number: two transactions that write the same numbers must not wait for each other.
        await transaction.insert("opt_out", sorted(wishes, key=lambda wish: str(wish["number"])))
    if group.values:
        await _write_reports(transaction, group.values)
        await transaction.notify()


async def _write_reports(transaction: Transaction, values: list[Any]) -> None:
    rows = [values[start : start + _COLUMNS] for start in range(0, len(values), _COLUMNS)]
    if await transaction.merge("insert_reports", values, _COLUMNS) == len(rows):
        return
    for (place,) in await transaction.rows("reports_with_news", rows=rows, repeated=_REPEATED):
        await _settle(transaction, rows[place])


async def _settle(transaction: Transaction, row: list[Any]) -> None:
    """Write a report with another code than the stored one, or with the same code much later."""
    mid, number, code, state, *details, _, at = row
    key = {"mid": mid, "number": number}
    ((stored_code, stored_state, first_at, stored_at),) = await transaction.rows("stored_report", **key)
    if stored_code == code:
        # Another report of this group may have moved it already.
        if at - stored_at > _REPEATED:
            await transaction.change("report_again", **key, at=at)
        return
    loser, lost_at = code, at
    if _RANK[DeliveryState(state)] > _RANK[DeliveryState(stored_state)]:
        await transaction.change("delete_report", **key)
        await transaction.merge("insert_reports", [mid, number, code, state, *details, first_at, at], _COLUMNS)
        loser, lost_at = stored_code, stored_at
    if loser:
        await transaction.change("keep_conflict", **key, code=loser, at=lost_at)
