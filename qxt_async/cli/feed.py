"""Shows a feed of the journal: its entries behind a cursor as lines, JSON or CSV, and those that come."""

from __future__ import annotations

import csv
import io
import re
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio
import attrs
import click

from qxt_async.cli.display import json_line
from qxt_async.cli.journals import existing, journal_option
from qxt_async.cli.options import bom_option
from qxt_async.files.spreadsheets import escape_formula

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from qxt_async.journal import FeedEntry, Journal

__all__ = ["Feed", "feed_options", "plain", "show", "when"]

T = TypeVar("T")
Command = TypeVar("Command", bound="Callable[..., Any]")
Values = dict[str, Any]

_PAGE = 1000
# Between looks at the journal while something comes, and when nothing does.
_PAUSE = 0.05
_LONGEST_PAUSE = 1.0

_AGO = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


# --- options ------------------------------------------------------------------------------------------------------


def _moment(_: click.Context, __: click.Parameter, value: str | None) -> datetime | None:
    """A moment, aware: in ISO 8601, local unless it says otherwise; or a time before now, such as 30m."""
    if value is None:
        return None
    ago = _AGO.fullmatch(value)
    try:
        if ago:
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        at = datetime.fromisoformat(value)
        return at.astimezone() if at.tzinfo is None else at
    except (ValueError, OverflowError):
        message = f"{value!r} is no time: 2026-01-31, 2026-01-31T18:00, or 30s, 15m, 2h, 7d ago"
        raise click.BadParameter(message) from None


def _phone(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """A phone as the journal has it."""
    from qxt_async.protocol.numbers import canonical

    return None if value is None else canonical(value)


_OPTIONS = (
    click.option("--mid", metavar="MID", help="Only of this message id."),
    click.option("--number", metavar="NUMBER", callback=_phone, help="Only of this phone."),
    click.option(
        "--since", callback=_moment, metavar="TIME", help="Received at or after: 2026-01-31T18:00, or 2h (ago)."
    ),
    click.option("--until", callback=_moment, metavar="TIME", help="Received before it."),
    click.option(
        "--after",
        type=click.IntRange(min=0),
        default=0,
        metavar="CURSOR",
        help="Go on behind this entry; each shows its cursor.",
    ),
    click.option("--limit", type=click.IntRange(min=1), metavar="N", help="No more than so many, the oldest first."),
    click.option("--follow", is_flag=True, help="Go on with what comes, until Ctrl-C."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line instead."),
    click.option("--csv", "as_csv", is_flag=True, help="Print CSV instead, in UTF-8."),
    bom_option,
    journal_option,
)


def feed_options(command: Command) -> Command:
    """The options that reports and replies share."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


# --- what is shown ------------------------------------------------------------------------------------------------


def when(at: datetime | None) -> str | None:
    """A moment for machines: ISO 8601, in UTC."""
    return None if at is None else at.isoformat(timespec="milliseconds")


def plain(text: str) -> str:
    """A text from outside for a terminal: one line, and nothing that could steer it."""
    return "".join(character if character.isprintable() else "\ufffd" for character in " ".join(text.splitlines()))


@attrs.frozen(kw_only=True)
class Feed(Generic[T]):
    """One of the journal's feeds, filtered.

    Attributes:
        read: the entries behind a cursor, so many at most.
        newest: the cursor of the newest entry of all.
        values: what machines get of an entry, beside its cursor; the keys of `columns` among them.
        columns: all keys, in order: the header of a CSV file.
        table: what people get: keys and widths; 0 at the end, for what may be wide or long.
    """

    read: Callable[[Journal, int, int], Awaitable[list[FeedEntry[T]]]]
    newest: Callable[[Journal], Awaitable[int]]
    values: Callable[[T], Values]
    columns: Sequence[str]
    table: Sequence[tuple[str, int]]


def show(
    feed: Feed[T], *, journal: str, after: int, limit: int | None, follow: bool, as_json: bool, as_csv: bool, bom: bool
) -> None:
    """Print a feed on stdout, page by page, in constant memory.

    Args:
        feed: which.
        journal: where it is.
        after: cursor to go on behind.
        limit: how many entries at most.
        follow: go on for ever.
        as_json: one JSON object a line.
        as_csv: CSV with a header.
        bom: begin the CSV with a byte order mark.

    Raises:
        click.UsageError: the options contradict each other, or the journal is not there.
        JournalError: the journal cannot be read.
    """
    if as_json and as_csv:
        raise click.UsageError("--json and --csv contradict each other.")
    if bom and not as_csv:
        raise click.UsageError("--bom is for --csv.")
    form = _as_json if as_json else _as_csv if as_csv else _as_table

    async def run() -> None:
        async with existing(journal) as opened:
            _write(("\ufeff" if bom else "") + form(feed, None), as_csv=as_csv)
            async for entries in _pages(feed, opened, after, limit, follow=follow):
                rows = [{"cursor": entry.cursor, **feed.values(entry.value)} for entry in entries]
                _write(form(feed, rows), as_csv=as_csv)

    anyio.run(run)


async def _pages(
    feed: Feed[T], journal: Journal, after: int, limit: int | None, *, follow: bool
) -> AsyncIterator[list[FeedEntry[T]]]:
    pause = _PAUSE
    while limit is None or limit > 0:
        size = _PAGE if limit is None else min(_PAGE, limit)
        # Asked first: whatever is below it and passes the filter is in the page, and need not be looked through again.
        newest = await feed.newest(journal) if follow else 0
        entries = await feed.read(journal, after, size)
        if entries:
            yield entries
            after, pause = entries[-1].cursor, _PAUSE
            limit = None if limit is None else limit - len(entries)
        if len(entries) < size:
            if not follow:
                return
            after = max(after, newest)
            await anyio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)


def _write(text: str, *, as_csv: bool) -> None:
    """To stdout, and at once; what a terminal's charset lacks is no reason to stop."""
    charset = "utf-8" if as_csv else sys.stdout.encoding
    click.echo(text.encode(charset, "replace"), nl=False)


# --- the forms; without rows the header ---------------------------------------------------------------------------


def _as_json(_: Feed[Any], rows: list[Values] | None) -> str:
    return "".join(f"{json_line(row)}\n" for row in rows or ())


def _as_csv(feed: Feed[Any], rows: list[Values] | None) -> str:
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    if rows is None:
        writer.writerow(("cursor", *feed.columns))
    else:
        writer.writerows((row["cursor"], *(escape_formula(row[name] or "") for name in feed.columns)) for row in rows)
    return written.getvalue()


def _as_table(feed: Feed[Any], rows: list[Values] | None) -> str:
    if rows is None:
        rows = [{"cursor": "cursor", **{name: name.removesuffix("_at") for name in feed.columns}}]
    else:
        rows = [{**row, "received_at": _local(row["received_at"])} for row in rows]
    lines = (
        f"{row['cursor']:>8}  " + "  ".join(plain(row[name] or "").ljust(width) for name, width in feed.table)
        for row in rows
    )
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _local(at: str) -> str:
    return f"{datetime.fromisoformat(at).astimezone():%Y-%m-%d %H:%M:%S}"
