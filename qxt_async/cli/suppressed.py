"""``qxt suppressed``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import click

from qxt_async.cli.display import json_line
from qxt_async.cli.journals import existing, journal_option
from qxt_async.cli.options import as_json, file_argument, file_options

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from qxt_async.journal import Journal, Suppression, SuppressionReason

__all__ = ["command"]

_PAGE = 1000
# Numbers of one transaction, some milliseconds: a receiver may be at work on the same journal.
_GROUP = 5000

numbers_argument = click.argument("numbers", nargs=-1, required=True, metavar="NUMBER…")
note_option = click.option("--note", default="", metavar="TEXT", help="Whatever helps later.")


@click.group("suppressed")
def command() -> None:
    """See and change who gets no more texts.

    The receiver puts whoever replies R, T, TD, N, 退订, 拒收 or 取消订阅 on the journal's suppression list. Campaigns
    leave them out, and so do qxt send, bulk and check. All of them take the same journal: --journal, else QXT_JOURNAL,
    else qxt.db.
    """


# --- to see -------------------------------------------------------------------------------------------------------


async def _pages(journal: Journal) -> AsyncIterator[list[Suppression]]:
    after = ""
    while page := await journal.suppressions(after=after, limit=_PAGE):
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
    from qxt_async.cli.feed import plain, when

    async def run() -> None:
        async with existing(journal) as opened:
            async for page in _pages(opened):
                for each in page:
                    if as_json:
                        row = {"number": each.number, "reason": each.reason.value, "note": each.note}
                        click.echo(json_line({**row, "added_at": when(each.added_at)}))
                    else:
                        since = f"{each.added_at.astimezone():%Y-%m-%d %H:%M:%S}"
                        click.echo(
                            f"{plain(each.number):11}  {since}  {each.reason.value:6}  {plain(each.note)}".rstrip()
                        )

    anyio.run(run)


@command.command("export")
@journal_option
def export_command(journal: str) -> None:
    """Print the numbers, one a line: for another system, or for `qxt suppressed import` elsewhere."""
    from qxt_async.cli.feed import plain

    async def run() -> None:
        async with existing(journal) as opened:
            async for page in _pages(opened):
                click.echo("\n".join(plain(each.number) for each in page))

    anyio.run(run)


# --- to change ----------------------------------------------------------------------------------------------------


async def _add(journal: str, numbers: Iterable[str], reason: SuppressionReason, note: str) -> int:
    from qxt_async.journal import open_journal

    remaining, added = list(numbers), 0
    async with open_journal(journal) as opened:
        while remaining:
            added += await opened.suppress(remaining[:_GROUP], reason=reason, note=note)
            del remaining[:_GROUP]
    return added


def _tell(counts: dict[str, Any], *, as_json: bool) -> None:
    click.echo(json_line(counts) if as_json else ", ".join(f"{count:,} {name}" for name, count in counts.items()))


@command.command("add")
@numbers_argument
@note_option
@journal_option
@as_json
def add_command(numbers: tuple[str, ...], note: str, journal: str, as_json: bool) -> None:
    """Put numbers on the list; says how many are new.

    Whoever is on it already keeps reason, note and date. If one of the numbers is none, nothing is done.

    With --json: {"added", "known"}.
    """
    from qxt_async.errors import InvalidNumberError
    from qxt_async.journal import SuppressionReason
    from qxt_async.protocol.numbers import normalize

    try:
        wanted = {normalize(number): None for number in numbers}
    except InvalidNumberError as error:
        raise click.UsageError(str(error)) from None
    added = anyio.run(_add, journal, wanted, SuppressionReason.MANUAL, note)
    _tell({"added": added, "known": len(wanted) - added}, as_json=as_json)


@command.command("import")
@file_argument
@file_options
@note_option
@journal_option
@as_json
def import_command(
    file: str, column: str | None, encoding: str | None, sheet: str | int, note: str, journal: str, as_json: bool
) -> None:
    """Put the numbers of a file on the list; says how many are new.

    FILE is read as `qxt bulk` reads it, whole before the first number is stored; - is standard input. Lines without a
    valid number are counted and told.

    With --json: {"added", "known", "invalid"}.
    """
    from qxt_async.cli.program import ExitCode, FailedError
    from qxt_async.cli.screening import FileNumbers
    from qxt_async.files import TableFile
    from qxt_async.journal import SuppressionReason

    with FileNumbers(TableFile(file, column=column, encoding=encoding, sheet=sheet)) as source:
        wanted = {number: None for block in source.blocks() for number in block}
    screen = source.screen
    for line in screen.remarks():
        click.echo(line, err=True)
    if not wanted:
        raise FailedError(f"{screen.name}: no number to put on the list", ExitCode.USAGE)
    added = anyio.run(_add, journal, wanted, SuppressionReason.IMPORT, note)
    invalid = screen.number_filter.invalid_count
    _tell({"added": added, "known": len(wanted) - added, "invalid": invalid}, as_json=as_json)


@command.command("remove")
@numbers_argument
@journal_option
@as_json
def remove_command(numbers: tuple[str, ...], journal: str, as_json: bool) -> None:
    """Take numbers off the list; says how many were on it.

    With --json: {"removed"}.
    """

    async def run() -> int:
        async with existing(journal) as opened:
            return await opened.unsuppress(numbers)

    _tell({"removed": anyio.run(run)}, as_json=as_json)
