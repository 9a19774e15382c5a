"""The journal that a command speaks of."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import click
from click.core import ParameterSource

from qxt_async.cli.options import all_of
from qxt_async.cli.program import FailedError
from qxt_async.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from qxt_async.journal import Journal

__all__ = ["existing", "journal_option", "opted_out", "opted_out_option", "say_left_out"]

_DEFAULT = "qxt.db"
_NO_JOURNAL = f"{__name__}.no_journal"

journal_option = click.option(
    "--journal",
    envvar="QXT_JOURNAL",
    default=_DEFAULT,
    show_default=True,
    metavar="J",
    help="The journal, instead of QXT_JOURNAL.",
)


def _there(journal: str) -> bool:
    return "://" in journal or Path(journal).exists()


def _named(journal: str) -> str:
    """A journal's name for an error, but for one that may be a mistyped address with a password."""
    if any(sign in journal.lower() for sign in ("@", "password=", "postgres")):
        return "of this name (an address is like postgresql://USER:PASSWORD@HOST/DATABASE)"
    return repr(journal)


def _remember(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.meta[_NO_JOURNAL] = value


def _consulted(ctx: click.Context, parameter: click.Parameter, journal: str) -> str | None:
    """A journal that is not there has nobody on its list; one that was asked for by name is mistyped."""
    source = ctx.get_parameter_source(parameter.name or "")
    if ctx.meta[_NO_JOURNAL]:
        if source is ParameterSource.COMMANDLINE:
            raise click.UsageError("--journal and --no-journal contradict each other.")
        return None
    if _there(journal):
        return journal
    if source is ParameterSource.COMMANDLINE:
        raise click.BadParameter(f"there is no journal {_named(journal)}")
    if source is ParameterSource.ENVIRONMENT:
        click.echo(
            f"there is no journal {_named(journal)} yet (QXT_JOURNAL): nobody is left out for opting out", err=True
        )
    return None


# For commands that send or count: the journal whose suppression list is honoured, None for none.
opted_out_option = all_of(
    click.option(
        "--journal",
        envvar="QXT_JOURNAL",
        default=_DEFAULT,
        show_default=f"{_DEFAULT}, if it is there",
        metavar="J",
        callback=_consulted,
        help="Leave out who is on this journal's suppression list; also QXT_JOURNAL.",
    ),
    click.option(
        "--no-journal",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_remember,
        help="Leave nobody out for opting out.",
    ),
)


@asynccontextmanager
async def existing(journal: str) -> AsyncGenerator[Journal]:
    """Open a journal that is there, and make no new one.

    Raises:
        click.UsageError: there is none.
    """
    from qxt_async.journal import open_journal

    if not await anyio.to_thread.run_sync(_there, journal):
        raise click.UsageError(f"there is no journal {_named(journal)}: give --journal, or set QXT_JOURNAL.")
    async with open_journal(journal) as opened:
        yield opened


def opted_out(journal: str) -> frozenset[str]:
    """Who is on a journal's suppression list now.

    Raises:
        FailedError: it cannot be read.
    """

    async def read() -> frozenset[str]:
        try:
            async with existing(journal) as opened:
                return await opened.suppressed_numbers()
        except JournalError as error:
            raise FailedError(f"{error}; with --no-journal nobody is left out for opting out") from error

    return anyio.run(read)


def say_left_out(count: int, journal: str | None, file: str | None = None) -> None:
    """Say on stderr how many numbers were left out, and on whose list they are.

    Args:
        count: how many.
        journal: whose suppression list was honoured.
        file: of numbers to leave out.
    """
    if count:
        listed = None if journal is None else "the journal" if "://" in journal else journal
        lists = [f"on the suppression list of {listed}"] if listed else []
        lists += [f"in {file}"] if file else []
        are = "number is" if count == 1 else "numbers are"
        click.echo(f"{count:,} {are} left out: {', or '.join(lists)}", err=True)
