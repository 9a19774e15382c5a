"""Reading what came in, and the suppression list."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from qxt_async.journal.moments import micros
from qxt_async.journal.received import (
    Conflict,
    Entry,
    RawPush,
    Suppression,
    conflict_of,
    raw_push_of,
    reply_of,
    report_of,
    several,
    suppressible,
    suppression_of,
)
from qxt_async.protocol.numbers import canonical

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qxt_async.journal.database import Transaction
    from qxt_async.journal.received import SuppressionReason
    from qxt_async.models import Reply, StatusReport

__all__ = [
    "conflicts",
    "cursor",
    "find_reports",
    "raw_pushes",
    "replies",
    "reports",
    "suppress",
    "suppressed_numbers",
    "suppressions",
    "unsuppress",
]

_CONDITIONS: Final = {
    "mid": "mid = :mid",
    "number": "number = :number",
    "state": "state = :state",
    "since": "received_at >= :since",
    "until": "received_at < :until",
}


def _filtered(*, number: Any = None, **filters: Any) -> dict[str, Any]:
    """The filters that are given, and the condition that they make."""
    if isinstance(number, str):
        filters["number"] = canonical(number)
    given = {
        name: micros(value) if isinstance(value, datetime) else value
        for name, value in filters.items()
        if value is not None
    }
    return {**given, "where": " AND ".join(_CONDITIONS[name] for name in given) or "TRUE"}


async def reports(
    transaction: Transaction, *, after: int, limit: int, **filters: str | datetime | None
) -> list[Entry[StatusReport]]:
    """Status reports behind a cursor."""
    rows = await transaction.rows("reports", after=after, limit=limit, **_filtered(**filters))
    return [Entry(row[0], report_of(row[1:])) for row in rows]


async def replies(
    transaction: Transaction, *, after: int, limit: int, **filters: str | datetime | None
) -> list[Entry[Reply]]:
    """Replies behind a cursor."""
    rows = await transaction.rows("replies", after=after, limit=limit, **_filtered(**filters))
    return [Entry(row[0], reply_of(row[1:])) for row in rows]


async def cursor(transaction: Transaction, name: str) -> int:
    """The newest cursor of a feed."""
    ((found,),) = await transaction.rows(name)
    return int(found)


async def find_reports(transaction: Transaction, keys: Iterable[tuple[str, str]]) -> list[StatusReport]:
    """The reports on these (mid, number)."""
    wanted = [(mid, canonical(number)) for mid, number in keys]
    return [report_of(row) for row in await transaction.rows("find_reports", keys=wanted)]


async def conflicts(transaction: Transaction, *, limit: int, mid: str | None, number: str | None) -> list[Conflict]:
    """Codes that lost."""
    rows = await transaction.rows("conflicts", limit=limit, **_filtered(mid=mid, number=number))
    return [conflict_of(row) for row in rows]


async def raw_pushes(transaction: Transaction, *, after: int, limit: int) -> list[RawPush]:
    """Raw pushes behind a cursor."""
    return [raw_push_of(row) for row in await transaction.rows("raw_pushes", after=after, limit=limit)]


async def suppress(transaction: Transaction, numbers: Iterable[str], *, reason: SuppressionReason, note: str) -> int:
    """Put numbers on the list; how many are new."""
    listed = [suppressible(number) for number in several(numbers)]
    return await transaction.change(
        "suppress", numbers=listed, reason=str(reason), note=note, at=micros(datetime.now(UTC))
    )


async def unsuppress(transaction: Transaction, numbers: Iterable[str]) -> int:
    """Take numbers off the list; how many were on it."""
    return await transaction.change("unsuppress", numbers=[suppressible(number) for number in several(numbers)])


async def suppressions(transaction: Transaction, *, after: str, limit: int) -> list[Suppression]:
    """The list behind a number."""
    return [suppression_of(row) for row in await transaction.rows("suppressions", after=after, limit=limit)]


async def suppressed_numbers(transaction: Transaction) -> frozenset[str]:
    """All numbers on the list."""
    return frozenset(number for (number,) in await transaction.rows("suppressed_numbers"))
