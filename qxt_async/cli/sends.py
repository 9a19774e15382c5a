"""``qxt sends``: the single sends that a journal has recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import click

from qxt_async.cli.exit_codes import FailedError
from qxt_async.cli.feed import Feed, FeedOptions, feed_options, show_feed
from qxt_async.cli.journals import journal_option, open_existing
from qxt_async.cli.options import as_json as json_option
from qxt_async.cli.options import bom_option, check_formats, csv_option
from qxt_async.cli.printing import csv_lines, json_line, local_time, utc_time
from qxt_async.journal.send_records import SendState

if TYPE_CHECKING:
    from qxt_async.journal import Journal, SendRecord


@click.group("sends")
def command() -> None:
    """Show the single sends that a journal has recorded.

    Those with a key, with a limit per phone, or all: `qxt send --key` and `QxtClient(journal=…)` record them.
    """


@command.command("list")
@click.option("--key", metavar="K", help="Only with this idempotency key.")
@click.option("--state", type=click.Choice([state.value for state in SendState]), help="Only in this state.")
@feed_options
def list_sends(key: str | None, state: str | None, options: FeedOptions) -> None:
    """List them, in the order in which they were first begun.

    With --json a line for each: {"cursor", "key", "state", "numbers", "mid", "report", "error", "sent_at",
    "settled_at"}. state is sending, accepted, failed, unknown, mixed or not-sent. numbers is the first number, and how
    many more there are. report is the code of the first status report. Times are UTC. --csv has the same columns.
    """

    async def read(journal: Journal, **page: Any) -> list[Any]:
        wanted = None if state is None else SendState(state)
        records = await journal.sends(key=key, state=wanted, **options.filters(), **page)
        return [_Entry(record) for record in records]

    feed = Feed(
        read=read,
        newest=_newest,
        columns=("key", "state", "numbers", "mid", "report", "error", "sent_at", "settled_at"),
        table=(("sent_at", 19), ("state", 9), ("numbers", 16), ("mid", 12), ("report", 10), ("key", 0)),
    )
    show_feed(feed, options)


async def _newest(_: Journal) -> int:
    """A page that is not full ends at its last entry: sends that are begun later come behind it."""
    return 0


class _Entry:
    """A send with its columns."""

    def __init__(self, record: SendRecord) -> None:
        self.cursor = record.cursor
        self.value = self
        result = record.result
        more = len(result.numbers) - 1
        self.key = record.key
        self.state = record.state
        self.numbers = result.numbers[0] + (f" +{more}" if more else "")
        self.mid = result.mid
        self.report = record.reports[0].code if record.reports else None
        self.error = None if result.error is None else result.error.label
        self.sent_at = record.sent_at
        self.settled_at = record.settled_at


@command.command("show")
@click.argument("key")
@json_option
@csv_option
@bom_option
@journal_option
def show(key: str, as_json: bool, as_csv: bool, bom: bool, journal: str) -> None:
    """Show what became of each number of the newest send with an idempotency key.

    With --json one object: {"cursor", "key", "state", "via_report", "sent_at", "settled_at", "error", "numbers"};
    numbers is a list of {"number", "state", "mid", "report"}. --csv has these four columns, a row for each number.
    """
    check_formats(as_json=as_json, as_csv=as_csv, bom=bom)

    async def find() -> list[SendRecord]:
        async with open_existing(journal) as opened:
            return await opened.sends(key=key)

    found = anyio.run(find)
    if not found:
        raise FailedError("no send with this key is recorded in the journal")
    record = found[-1]
    numbers = _numbers_of(record)
    if as_json:
        values = {
            "cursor": record.cursor,
            "key": record.key,
            "state": record.state.value,
            "via_report": record.via_report,
            "sent_at": None if record.sent_at is None else utc_time(record.sent_at),
            "settled_at": None if record.settled_at is None else utc_time(record.settled_at),
            "error": None if record.result.error is None else str(record.result.error),
            "numbers": numbers,
        }
        click.echo(json_line(values))
    elif as_csv:
        rows = [tuple(numbers[0]), *(tuple(number.values()) for number in numbers)]
        click.echo((("\ufeff" if bom else "") + csv_lines(rows)).encode(), nl=False)
    else:
        _show(record, numbers)


def _numbers_of(record: SendRecord) -> list[dict[str, str | None]]:
    """What became of each number."""
    reports = {(report.mid, report.number): report.code for report in record.reports}
    mids = {number: acceptance.mid for acceptance in record.result.acceptances for number in acceptance.numbers}
    failed = frozenset(record.result.failed)
    numbers: list[dict[str, str | None]] = []
    for number in record.result.numbers:
        mid = mids.get(number)
        state = "accepted" if mid is not None else "failed" if number in failed else "unknown"
        numbers.append({"number": number, "state": state, "mid": mid, "report": reports.get((mid or "", number))})
    return numbers


def _show(record: SendRecord, numbers: list[dict[str, str | None]]) -> None:
    """Print a send for people."""
    began = "" if record.sent_at is None else f", begun {local_time(record.sent_at)}"
    proven = ", proven by a status report" if record.via_report else ""
    click.echo(f"{record.key}: {record.state.value}{proven}{began}")
    if record.result.error is not None:
        click.echo(str(record.result.error))
    for one in numbers:
        said = f"mid {one['mid']}, report {one['report'] or 'not yet'}" if one["mid"] else one["state"]
        click.echo(f"{one['number']}  {said}")
