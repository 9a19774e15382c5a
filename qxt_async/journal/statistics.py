"""The statistics of a campaign's report: counts over time, by delay, by place, by code.

The database counts everything, so the statistics of a million numbers are a few hundred rows.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs

from qxt_async.journal.timestamps import CLOCK_STEP, moment

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime
    from typing import TypeAlias

    from qxt_async.journal.database import Transaction

Rows: TypeAlias = "Callable[..., Awaitable[list[Any]]]"

_SECOND: Final = 1_000_000
# Seconds that a bar over time may stand for.
_WIDTHS: Final = (1, 2, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600, 3 * 3600, 6 * 3600, 24 * 3600, 7 * 24 * 3600)
# The most bars, and the most rows of a table.
_BARS: Final = 60
_LISTED: Final = 12


@attrs.frozen(kw_only=True)
class Interval:
    """What happened in one stretch of time.

    Attributes:
        at: its beginning, aware, UTC.
        accepted: numbers that the gateway took.
        delivered: reports that say delivered.
        other: reports that say anything else.
    """

    at: datetime
    accepted: int
    delivered: int
    other: int


@attrs.frozen(kw_only=True)
class ReportStatistics:
    """What a report draws, beside a campaign's `CampaignCounts` and `DeliveryCounts`.

    Attributes:
        width: seconds of one `Interval`.
        over_time: from the first to the last moment at which anything happened, without gaps; at most some sixty.
        delays: seconds from a request to the report of its delivery, and how many; by seconds.
        areas: province (empty: not told), how many delivered and how many not; the most reports first.
        codes: what reports said instead of delivered: code, `DeliveryState`, how many; the most frequent ones.
        troubles: batches that failed or are unknown: state, name of the error, batches, numbers.
        segments: messages that a number is billed as, and how many numbers are.
        messages: how many different messages.
        healed: batches that are known as accepted only from their reports.
    """

    width: int
    over_time: tuple[Interval, ...]
    delays: tuple[tuple[int, int], ...]
    areas: tuple[tuple[str, int, int], ...]
    codes: tuple[tuple[str, str, int], ...]
    troubles: tuple[tuple[str, str, int, int], ...]
    segments: tuple[tuple[int, int], ...]
    messages: int
    healed: int


async def report_statistics(transaction: Transaction, campaign: int) -> ReportStatistics:
    """Read them, each in one statement."""
    rows = partial(transaction.rows, campaign=campaign, clock_step=CLOCK_STEP)
    ((first, last),) = await rows("span")
    width = _WIDTHS[0]
    over_time: tuple[Interval, ...] = ()
    if first is not None:
        fitting = (width for width in _WIDTHS if (last - first) / (width * _SECOND) < _BARS)
        width = next(fitting, _WIDTHS[-1])
        over_time = await _over_time(rows, first, last, width * _SECOND)
    ((messages, healed),) = await rows("message_count")
    return ReportStatistics(
        width=width,
        over_time=over_time,
        delays=tuple(await rows("delays")),
        areas=_areas(await rows("areas")),
        codes=tuple(await rows("codes", limit=_LISTED)),
        troubles=tuple(await rows("troubles", limit=_LISTED)),
        segments=tuple(await rows("segments")),
        messages=messages,
        healed=healed,
    )


async def _over_time(rows: Rows, first: int, last: int, width: int) -> tuple[Interval, ...]:
    accepted: dict[int, int] = dict(await rows("accepted_over_time", width=width))
    delivered: Counter[int] = Counter()
    other: Counter[int] = Counter()
    for place, state, count in await rows("reports_over_time", width=width):
        (delivered if state == "delivered" else other)[place] += count
    return tuple(
        Interval(
            at=moment(place * width),
            accepted=accepted.get(place, 0),
            delivered=delivered[place],
            other=other[place],
        )
        for place in range(first // width, last // width + 1)
    )


def _areas(rows: list[tuple[str, str, int]]) -> tuple[tuple[str, int, int], ...]:
    counts: dict[str, list[int]] = {}
    for area, state, count in rows:
        counts.setdefault(area, [0, 0])[state != "delivered"] += count
    ordered = sorted(counts.items(), key=lambda item: (-sum(item[1]), item[0]))
    return tuple((area, delivered, other) for area, (delivered, other) in ordered)
