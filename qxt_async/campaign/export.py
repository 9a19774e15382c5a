"""Write every number of a campaign to a CSV or Parquet file, in constant memory.

The columns of both::

    number,state,mid,report,code,area,city,error,via_report,batch,message,sent_at,settled_at,reported_at

`state` is the outcome of sending (accepted, failed, unknown, planned, cancelled, suppressed). `report` is the delivery
according to its status report (delivered, rejected, failed, unknown; empty without one), `code` is the carrier's code.
Times are ISO 8601 in UTC. In a CSV file, a value that a spreadsheet would take for a formula gets an apostrophe in
front. `number` is in canonical form, as in reports and replies (`protocol.canonical`).
"""

from __future__ import annotations

import csv
import functools
import os
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TextIO

from qxt_async.errors import InvalidConfigurationError
from qxt_async.files.spreadsheets import escape_formula
from qxt_async.journal.records import ExclusionReason, NumberRecord, NumberState
from qxt_async.protocol.numbers import canonical
from qxt_async.runtime.tasks import in_a_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from datetime import datetime

    from qxt_async.journal.campaigns import CampaignStore
    from qxt_async.journal.records import ExcludedNumber

ExportFormat = Literal["csv", "parquet"]

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
EXCLUDED_COLUMNS: Final = ("number", "reason", "detail", "source", "line")

_NUMBERS: Final = 10_000  # at a time: some megabytes
_EXCLUDED: Final = 5_000


async def numbers(store: CampaignStore, campaign: int) -> AsyncGenerator[list[NumberRecord]]:
    """Result and errors as for `Campaigns.numbers`."""
    after = 0
    while True:
        records, after = await store.numbers(campaign, after=after, limit=_NUMBERS)
        if not records:
            break
        yield records
    async with aclosing(_excluded(store, campaign, ExclusionReason.SUPPRESSED)) as blocks:
        async for found in blocks:
            yield [_suppressed(one.raw) for one in found]


async def _excluded(
    store: CampaignStore, campaign: int, reason: ExclusionReason | None
) -> AsyncGenerator[list[ExcludedNumber]]:
    after = 0
    while entries := await store.left_out(campaign, reason=reason, after=after, limit=_EXCLUDED):
        after = entries[-1].cursor
        yield [entry.value for entry in entries]


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


async def write_numbers(
    store: CampaignStore,
    campaign: int,
    target: str | os.PathLike[str] | TextIO,
    *,
    format: ExportFormat,  # noqa: A002
    bom: bool,
) -> int:
    """Arguments, result and errors as for `Campaigns.export`."""
    if format not in ("csv", "parquet"):
        raise InvalidConfigurationError(f"there is no export in {format!r}: give csv or parquet")
    await store.get(campaign)
    if format == "parquet":
        return await _write_parquet(store, campaign, target)
    with _open(target, bom=bom) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        count = 0
        async with aclosing(numbers(store, campaign)) as blocks:
            async for records in blocks:
                count += len(records)
                await in_a_thread(functools.partial(writer.writerows, map(_line, records)))
    return count


async def _write_parquet(store: CampaignStore, campaign: int, target: str | os.PathLike[str] | TextIO) -> int:
    from qxt_async.files.parquet import ParquetWriter

    if not isinstance(target, str | os.PathLike):
        raise InvalidConfigurationError("Parquet needs the path of a file")
    make_private(target)
    writer = ParquetWriter(target, _KINDS)
    count = 0
    try:
        async with aclosing(numbers(store, campaign)) as blocks:
            async for records in blocks:
                count += len(records)
                values = [_values(record) for record in records]
                await in_a_thread(functools.partial(writer.write, values))
    finally:
        writer.close()
    return count


async def write_excluded(
    store: CampaignStore,
    campaign: int,
    target: str | os.PathLike[str] | TextIO,
    *,
    reason: ExclusionReason | None,
    bom: bool,
) -> int:
    """Arguments, result and errors as for `Campaigns.export_excluded`."""
    await store.get(campaign)
    with _open(target, bom=bom) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(EXCLUDED_COLUMNS)
        count = 0
        async with aclosing(_excluded(store, campaign, reason)) as blocks:
            async for found in blocks:
                count += len(found)
                await in_a_thread(functools.partial(writer.writerows, map(_excluded_line, found)))
    return count


def _excluded_line(one: ExcludedNumber) -> tuple[object, ...]:
    return escape_formula(one.raw), one.reason.value, escape_formula(one.detail), escape_formula(one.source), one.line


def make_private(path: str | os.PathLike[str]) -> None:
    """Make a file that only its owner can read, if there is none: whole phone numbers are written into it."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


@contextmanager
def _open(target: str | os.PathLike[str] | TextIO, *, bom: bool) -> Generator[TextIO]:
    if isinstance(target, str | os.PathLike):
        make_private(target)
        with Path(target).open("w", encoding="utf-8-sig" if bom else "utf-8", newline="") as stream:
            yield stream
        return
    if bom:
        target.write("\ufeff")
    yield target
