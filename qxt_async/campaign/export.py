"""Every number of a campaign to a file: CSV or, with the extra ``files``, Parquet. Streamed, whatever the size.

The columns of both::

    number,state,mid,report,code,area,city,error,via_report,batch,message,sent_at,settled_at,reported_at

`state` is what became of the sending (accepted, failed, unknown, planned, cancelled, suppressed), `report` what a
status report says of the delivery (delivered, rejected, failed, unknown; empty without one), `code` the carrier's word.
Times are ISO 8601 in UTC. In a CSV file, a value from outside that a spreadsheet would take for a formula has an
apostrophe in front. `number` is the phone in its canonical form, as reports and replies have it (`phones.canonical`).
"""

from __future__ import annotations

import csv
import functools
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, TextIO

from qxt_async.files.spreadsheets import escape_formula
from qxt_async.journal.records import ExclusionReason, NumberRecord, NumberState
from qxt_async.protocol.numbers import canonical
from qxt_async.runtime.tasks import in_a_thread

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, Sequence
    from datetime import datetime

    from qxt_async.journal import Journal

__all__ = ["COLUMNS", "LEFT_OUT_COLUMNS", "export_csv", "export_left_out", "export_parquet", "numbers"]

_KINDS: Final = {
    "number": "text",
    "state": "text",
    "mid": "text",
    "report": "text",
    "code": "text",
    "area": "text",
    "city": "text",
    "error": "text",
    "via_report": "yes",
    "batch": "whole",
    "message": "whole",
    "sent_at": "time",
    "settled_at": "time",
    "reported_at": "time",
}
COLUMNS: Final = tuple(_KINDS)
LEFT_OUT_COLUMNS: Final = ("number", "reason", "detail", "source", "line")

_NUMBERS: Final = 10_000  # at a time: some megabytes
_LEFT_OUT: Final = 5_000


async def numbers(journal: Journal, campaign: int) -> AsyncGenerator[list[NumberRecord], None]:
    """What became of every number, some thousands at a time; what the plan left out as suppressed comes last.

    Raises:
        CampaignNotFoundError: there is none of that id.
    """
    after = 0
    while True:
        records, after = await journal.campaigns.numbers(campaign, after=after, limit=_NUMBERS)
        if not records:
            break
        yield records
    after = 0
    while entries := await journal.campaigns.left_out(
        campaign, reason=ExclusionReason.SUPPRESSED, after=after, limit=_LEFT_OUT
    ):
        after = entries[-1].cursor
        yield [_suppressed(entry.value.raw) for entry in entries]


def _suppressed(raw: str) -> NumberRecord:
    return NumberRecord(
        canonical(raw),
        state=NumberState.SUPPRESSED,
        mid=None,
        batch=None,
        message=None,
        error="",
        via_report=False,
        sent_at=None,
        settled_at=None,
    )


def _values(record: NumberRecord) -> tuple[object, ...]:
    return (
        canonical(record.number),
        record.state.value,
        record.mid,
        record.report_state,
        record.report,
        record.area,
        record.city,
        record.error,
        record.via_report,
        record.batch,
        record.message,
        record.sent_at,
        record.settled_at,
        record.reported_at,
    )


def _moment(at: datetime | None) -> str:
    return "" if at is None else at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _line(record: NumberRecord) -> tuple[object, ...]:
    return (
        escape_formula(canonical(record.number)),
        record.state.value,
        escape_formula(record.mid or ""),
        record.report_state or "",
        escape_formula(record.report or ""),
        escape_formula(record.area or ""),
        escape_formula(record.city or ""),
        record.error,
        "yes" if record.via_report else "",
        "" if record.batch is None else record.batch,
        "" if record.message is None else record.message,
        _moment(record.sent_at),
        _moment(record.settled_at),
        _moment(record.reported_at),
    )


async def export_csv(journal: Journal, campaign: int, stream: TextIO) -> int:
    """Write every number as CSV.

    Args:
        journal: where the campaign is.
        campaign: its id.
        stream: open for text, with ``newline=""``; written in worker threads. Excel reads it as UTF-8 only if it begins
            with a byte order mark, as with ``encoding="utf-8-sig"``.

    Returns:
        How many numbers.

    Raises:
        CampaignNotFoundError: there is none of that id; nothing was written.
    """
    await journal.campaigns.get(campaign)
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    count = 0
    async with aclosing(numbers(journal, campaign)) as blocks:
        async for records in blocks:
            count += len(records)
            lines = map(_line, records)
            await in_a_thread(functools.partial(writer.writerows, lines))
    return count


async def export_parquet(journal: Journal, campaign: int, path: str | os.PathLike[str]) -> int:
    """Write every number to a Parquet file, where values are as they came.

    Args:
        journal: where the campaign is.
        campaign: its id.
        path: the file; replaced if it exists.

    Returns:
        How many numbers.

    Raises:
        CampaignNotFoundError: there is none of that id; nothing was written.
        InvalidConfigurationError: the extra ``files`` is missing.
    """
    from qxt_async.files.parquet import ParquetWriter

    await journal.campaigns.get(campaign)
    writer = ParquetWriter(path, _KINDS)
    count = 0
    try:
        async with aclosing(numbers(journal, campaign)) as blocks:
            async for records in blocks:
                count += len(records)
                values = [_values(record) for record in records]
                await in_a_thread(functools.partial(writer.write, values))
    finally:
        writer.close()
    return count


async def export_left_out(
    journal: Journal, campaign: int, stream: TextIO, *, reason: ExclusionReason | None = None
) -> int:
    """Write as CSV what the plan left out, and why: ``number,reason,detail,source,line``.

    Args:
        journal: where the campaign is.
        campaign: its id.
        stream: as for `export_csv`.
        reason: only this one.

    Returns:
        How many rows.

    Raises:
        CampaignNotFoundError: there is none of that id; nothing was written.
    """
    await journal.campaigns.get(campaign)
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(LEFT_OUT_COLUMNS)
    count, after = 0, 0
    while entries := await journal.campaigns.left_out(campaign, reason=reason, after=after, limit=_LEFT_OUT):
        after = entries[-1].cursor
        count += len(entries)
        rows: Sequence[Any] = [
            (
                escape_formula(one.raw),
                one.reason.value,
                escape_formula(one.detail),
                escape_formula(one.source),
                one.line,
            )
            for one in (entry.value for entry in entries)
        ]
        await in_a_thread(functools.partial(writer.writerows, rows))
    return count
