"""Pushes in PostgreSQL: what was gathered, written in one transaction."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import anyio

from qxt_async.models import DeliveryState
from qxt_async.pushes import PushFlag

from .incoming import digest, outranks, suppressible
from .moments import micros
from .postgres_database import storable
from .statements import named

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from qxt_async.models import Reply, StatusReport
    from qxt_async.pushes import Push

    from .postgres_database import Transaction

__all__ = ["Gathering", "write_pushes"]


def _storable(text: str | None) -> str | None:
    return None if text is None else storable(text)


class Gathering:
    """Pushes that are written together.

    Attributes:
        done: set when the transaction is over.
        error: why it was not committed.
    """

    def __init__(self) -> None:
        self.pushes: list[tuple[Push, Collection[Reply], int]] = []
        self.reports = 0
        self.bytes = 0
        self.done = anyio.Event()
        self.error: BaseException | None = None

    def add(self, push: Push, opted_out: Collection[Reply]) -> None:
        """Put one more in."""
        at = micros(push.received_at or datetime.now(UTC))
        self.pushes.append((push, opted_out, at))
        self.reports += len(push.reports)
        self.bytes += len(push.query) + len(push.body)


async def write_pushes(transaction: Transaction, pushes: Sequence[tuple[Push, Collection[Reply], int]]) -> None:
    """Write pushes: reports and replies to their tables, what has flags as it came.

    Args:
        transaction: in which.
        pushes: each with those of its replies that opt out, and when it came, in microseconds.
    """
    await _Writing(transaction).all(pushes)


class _Writing:
    def __init__(self, transaction: Transaction) -> None:
        self.transaction = transaction
        self.sql = named("postgres/pushes.sql")

    async def rows(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        return await self.transaction.rows(self.sql[statement], **values)

    async def change(self, statement: str, **values: Any) -> int:
        return await self.transaction.change(self.sql[statement], **values)

    async def all(self, pushes: Sequence[tuple[Push, Collection[Reply], int]]) -> None:
        await self.rows("lock_feeds")
        reports: list[tuple[StatusReport, int]] = []
        wishes: list[tuple[str, str, int]] = []
        for push, opted_out, at in pushes:
            reports.extend((report, at) for report in push.reports)
            for reply in push.replies:
                new = await self.reply(reply, at)
                # Without a mid a second wish cannot be told from a first one that came twice: better to honour it.
                if reply in opted_out and (new or not reply.mid):
                    wishes.append((suppressible(storable(reply.mobile)), storable(reply.mid), at))
            if push.flags and push.flags != (PushFlag.EMPTY,):
                await self.raw(push, at)
        if wishes:
            numbers, notes, ats = (list(column) for column in zip(*wishes, strict=True))
            await self.change("opt_out", numbers=numbers, notes=notes, ats=ats)
        if reports:
            await self.reports(reports)
            await self.rows("tell")

    async def reply(self, reply: Reply, at: int) -> int:
        text = storable(reply.text)
        return await self.change(
            "insert_reply",
            mid=reply.mid,
            mobile=reply.mobile,
            digest=digest(text.encode()),
            text=text,
            port=reply.port,
            extno=reply.extno,
            area=reply.area,
            city=reply.city,
            at=at,
        )

    async def raw(self, push: Push, at: int) -> None:
        await self.change(
            "keep_raw",
            digest=digest(push.query, push.body),
            query=push.query,
            body=push.body,
            flags=" ".join(push.flags),
            at=at,
        )

    async def reports(self, reports: Sequence[tuple[StatusReport, int]]) -> None:
        rows = [
            (
                storable(report.mid),
                storable(report.mobile),
                storable(report.code),
                report.state,
                _storable(report.port),
                _storable(report.area),
                _storable(report.city),
                at,
            )
            for report, at in reports
        ]
        array = json.dumps(rows, ensure_ascii=False)
        if await self.change("insert_reports", rows=array) == len(rows):
            return
        for found in await self.rows("contradicting_reports", rows=array):
            place: int = found[0]
            await self.settle(rows[place])

    async def settle(self, row: Sequence[Any]) -> None:
        """A report that says something else than the stored one: the rule of the package's docstring."""
        mid, mobile, code, state, *_, at = row
        key = {"mid": mid, "mobile": mobile}
        ((stored_code, stored_state, stored_at),) = await self.rows("stored_report", **key)
        if stored_code == code:
            return  # another one of this group has brought it already
        loser, lost_at = code, at
        if outranks(state, DeliveryState(stored_state)):
            await self.change("delete_report", **key)
            await self.change("insert_reports", rows=json.dumps([row], ensure_ascii=False))
            loser, lost_at = stored_code, stored_at
        if loser:
            await self.change("keep_conflict", **key, code=loser, at=lost_at)
