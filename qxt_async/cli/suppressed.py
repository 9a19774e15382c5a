"""``qxt suppressed``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import click

from qxt_async.cli.exit_codes import ExitCode, FailedError
from qxt_async.cli.journals import journal_option, open_existing
from qxt_async.cli.number_files import NumberReader
from qxt_async.cli.options import FileOptions, as_json, file_argument, file_options
from qxt_async.cli.printing import local_time, print_json, single_line, utc_time
from qxt_async.errors import InvalidNumberError
from qxt_async.journal import SuppressionReason, open_journal
from qxt_async.protocol.numbers import normalize

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from qxt_async.journal import Journal, Suppression

PAGE = 1000
# Numbers of one transaction: it takes some milliseconds, so that a receiver with the same journal need not wait long.
ADDED_AT_ONCE = 5000

numbers_argument = click.argument("numbers", nargs=-1, required=True, metavar="NUMBER…")
note_option = click.option("--note", default="", metavar="TEXT", help="Why, for the record.")


@click.group("suppressed")
def command() -> None:
    """Show and change the suppression list: who gets no more texts.

    The receiver puts a number that replies R, T, TD, N, 退订, 拒收 or 取消订阅 on the journal's suppression list.
    Campaigns, qxt send, bulk and check leave these numbers out. All use the same journal: --journal, else QXT_JOURNAL,
    else qxt.db.
    """


# --- show ---------------------------------------------------------------------------------------------------------


async def _pages(journal: Journal) -> AsyncIterator[list[Suppression]]:
    after = ""
    while page := await journal.suppressions(after=after, limit=PAGE):
        yield page
        after = page[-1].number


@command.command("list")
@journal_option
@as_json
def list_command(journal: str, as_json: bool) -> None:
    """Show the list, by number.

    With --json a line for each: {"number", "reason", "note", "added_at"}. reason is reply, manual or import; the note
    of a reply is its mid; added_at is UTC.
    """

    async def run() -> None:
        async with open_existing(journal) as opened:
            async for page in _pages(opened):
                for each in page:
                    if as_json:
                        row = {"number": each.number, "reason": each.reason.value, "note": each.note}
                        print_json({**row, "added_at": utc_time(each.added_at)})
                    else:
                        added = f"{local_time(each.added_at)}  {each.reason.value:6}  {single_line(each.note)}"
                        click.echo(f"{single_line(each.number):11}  {added}".rstrip())

    anyio.run(run)


@command.command("export")
@journal_option
def export_command(journal: str) -> None:
    """Print the numbers, one a line: for another system, or for `qxt suppressed import` elsewhere."""

    async def run() -> None:
        async with open_existing(journal) as opened:
            async for page in _pages(opened):
                click.echo("\n".join(single_line(each.number) for each in page))

    anyio.run(run)


# --- change ------------------------------------------------------------------------------------------------------


async def _add(journal: str, numbers: Iterable[str], reason: SuppressionReason, note: str) -> int:
    remaining, added = list(numbers), 0
    async with open_journal(journal) as opened:
        while remaining:
            added += await opened.suppress(remaining[:ADDED_AT_ONCE], reason=reason, note=note)
            del remaining[:ADDED_AT_ONCE]
    return added


def _print(counts: dict[str, int], *, as_json: bool) -> None:
    if as_json:
        print_json(counts)
    else:
        click.echo(", ".join(f"{count:,} {name}" for name, count in counts.items()))


@command.command("add")
@numbers_argument
@note_option
@journal_option
@as_json
def add_command(numbers: tuple[str, ...], note: str, journal: str, as_json: bool) -> None:
    """Put numbers on the list; says how many are new.

    A number that is on the list already keeps its reason, note and date. If one number is invalid, nothing is changed.

    With --json: {"added", "known"}.
    """
    try:
        wanted = {normalize(number): None for number in numbers}
    except InvalidNumberError as error:
        raise click.UsageError(str(error)) from None
    added = anyio.run(_add, journal, wanted, SuppressionReason.MANUAL, note)
    _print({"added": added, "known": len(wanted) - added}, as_json=as_json)


@command.command("import")
@file_argument
@file_options
@note_option
@journal_option
@as_json
def import_command(file: str, reading: FileOptions, note: str, journal: str, as_json: bool) -> None:
    """Put the numbers of a file on the list; says how many are new.

    FILE is read as `qxt bulk` reads it, to its end before the first number is stored; - is standard input. Lines
    without a valid number are counted and printed.

    With --json: {"added", "known", "invalid"}.
    """
    with NumberReader(reading.table(file)) as source:
        wanted = {number: None for block in source.blocks() for number in block}
    source.print_invalid_lines()
    if not wanted:
        raise FailedError(f"{source.name}: no number to put on the list", ExitCode.USAGE)
    added = anyio.run(_add, journal, wanted, SuppressionReason.IMPORT, note)
    invalid = source.number_filter.invalid_count
    _print({"added": added, "known": len(wanted) - added, "invalid": invalid}, as_json=as_json)


@command.command("remove")
@numbers_argument
@journal_option
@as_json
def remove_command(numbers: tuple[str, ...], journal: str, as_json: bool) -> None:
    """Take numbers off the list; says how many were on it.

    With --json: {"removed"}.
    """

    async def run() -> int:
        async with open_existing(journal) as opened:
            return await opened.unsuppress(numbers)

    _print({"removed": anyio.run(run)}, as_json=as_json)
