"""Feeds of a journal, for the commands that show them: filters, paging, tables, JSON and CSV."""

from __future__ import annotations

import enum
import re
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import click

from qxt_async.cli.journals import journal_option, open_existing
from qxt_async.cli.options import at_least_one, bom_option, check_formats, csv_option, option_group
from qxt_async.cli.printing import csv_lines, json_line, local_time, single_line, utc_time
from qxt_async.protocol.numbers import canonical

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from qxt_async.journal import FeedEntry, Journal

Row = dict[str, Any]

PAGE = 1000
# Seconds between two looks at the journal, while entries come and when none come.
SHORTEST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0

_AGO = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


# --- options ----------------------------------------------------------------------------------------------------------


def _time(_: click.Context, __: click.Parameter, value: str | None) -> datetime | None:
    """A time in ISO 8601, local unless it has an offset; or how long ago, such as 30m."""
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


def _number(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """A number in the form of the journal."""
    return None if value is None else canonical(value)


@attrs.frozen(kw_only=True, repr=False)
class FeedOptions:
    """Which entries are shown, and how."""

    mid: str | None
    number: str | None
    since: datetime | None
    until: datetime | None
    after: int
    limit: int | None
    follow: bool
    as_json: bool
    as_csv: bool
    bom: bool
    journal: str

    def check(self) -> None:
        """Refuse options that contradict each other."""
        check_formats(as_json=self.as_json, as_csv=self.as_csv, bom=self.bom)

    def filters(self) -> dict[str, Any]:
        """The filters, as arguments for the journal."""
        return {"mid": self.mid, "number": self.number, "since": self.since, "until": self.until}


feed_options = option_group(
    "options",
    FeedOptions,
    click.option("--mid", metavar="MID", help="Only of this message id."),
    click.option("--number", metavar="NUMBER", callback=_number, help="Only of this number."),
    click.option(
        "--since", callback=_time, metavar="TIME", help="Received at or after: 2026-01-31T18:00, or 2h (ago)."
    ),
    click.option("--until", callback=_time, metavar="TIME", help="Received before it."),
    click.option(
        "--after",
        type=click.IntRange(min=0),
        default=0,
        metavar="CURSOR",
        help="Continue after this entry; each one shows its cursor.",
    ),
    click.option("--limit", type=at_least_one, metavar="N", help="No more than N, the oldest first."),
    click.option("--follow", is_flag=True, help="Wait for more, until Ctrl-C."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line instead."),
    csv_option,
    bom_option,
    journal_option,
)


@attrs.frozen(kw_only=True, repr=False)
class Feed:
    """One of the journal's feeds.

    Attributes:
        read: reads the entries after a cursor, up to a limit.
        newest: reads the cursor of the newest entry.
        columns: the attributes of an entry for programs, beside the cursor; the header of CSV.
        table: the columns for people, with their widths; 0 at the end, for what may be long.
    """

    read: Callable[..., Awaitable[Sequence[FeedEntry[Any]]]]
    newest: Callable[[Journal], Awaitable[int]]
    columns: Sequence[str]
    table: Sequence[tuple[str, int]]


# --- reading and printing ---------------------------------------------------------------------------------------------


def show_feed(feed: Feed, options: FeedOptions) -> None:
    """Print a feed on stdout, page by page, in constant memory."""
    options.check()
    render = _as_json if options.as_json else _as_csv if options.as_csv else _as_table
    # A character that the terminal's charset lacks is replaced; it does not stop the command.
    charset = "utf-8" if options.as_csv else sys.stdout.encoding

    def write(text: str) -> None:
        click.echo(text.encode(charset, "replace"), nl=False)

    async def run() -> None:
        async with open_existing(options.journal) as opened:
            write(("\ufeff" if options.bom else "") + render(feed, None))
            async for entries in _pages(feed, opened, options):
                write(render(feed, [_row(feed, entry) for entry in entries]))

    anyio.run(run)


async def _pages(feed: Feed, journal: Journal, options: FeedOptions) -> AsyncIterator[Sequence[FeedEntry[Any]]]:
    after, limit, pause = options.after, options.limit, SHORTEST_PAUSE
    while limit is None or limit > 0:
        size = PAGE if limit is None else min(PAGE, limit)
        # Read before the page: entries up to this cursor are in the page, unless the filter leaves them out.
        newest = await feed.newest(journal) if options.follow else 0
        entries = await feed.read(journal, after=after, limit=size)
        if entries:
            yield entries
            after, pause = entries[-1].cursor, SHORTEST_PAUSE
            limit = None if limit is None else limit - len(entries)
        if len(entries) < size:
            if not options.follow:
                return
            after = max(after, newest)
            await anyio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)


def _row(feed: Feed, entry: FeedEntry[Any]) -> Row:
    return {"cursor": entry.cursor, **{name: _plain(getattr(entry.value, name)) for name in feed.columns}}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return utc_time(value)
    return value.value if isinstance(value, enum.Enum) else value


# Each of these renders some rows; without rows the header.


def _as_json(_: Feed, rows: list[Row] | None) -> str:
    return "".join(f"{json_line(row)}\n" for row in rows or ())


def _as_csv(feed: Feed, rows: list[Row] | None) -> str:
    if rows is None:
        return csv_lines([("cursor", *feed.columns)])
    return csv_lines((row["cursor"], *(row[name] for name in feed.columns)) for row in rows)


def _local(name: str, value: Any) -> Any:
    return local_time(datetime.fromisoformat(value)) if name.endswith("_at") and value else value


def _as_table(feed: Feed, rows: list[Row] | None) -> str:
    if rows is None:
        rows = [{"cursor": "cursor", **{name: name.removesuffix("_at") for name in feed.columns}}]
    else:
        rows = [{name: _local(name, value) for name, value in row.items()} for row in rows]
    lines = (
        f"{row['cursor']:>8}  " + "  ".join(single_line(row[name] or "").ljust(width) for name, width in feed.table)
        for row in rows
    )
    return "".join(f"{line.rstrip()}\n" for line in lines)
