"""The journal that a command speaks of."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from qxt_async.journal import Journal

__all__ = ["existing", "journal_option", "opted_out", "opted_out_option"]

journal_option = click.option(
    "--journal",
    envvar="QXT_JOURNAL",
    default="qxt.db",
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


def _consulted(ctx: click.Context, parameter: click.Parameter, journal: str | None) -> str | None:
    """A journal that is not there has nobody on its list; one that was asked for by name is mistyped."""
    if journal is None or _there(journal):
        return journal
    if ctx.get_parameter_source(parameter.name or "") is ParameterSource.ENVIRONMENT:
        click.echo(
            f"there is no journal {_named(journal)} yet (QXT_JOURNAL): nobody is left out for opting out", err=True
        )
        return None
    raise click.BadParameter(f"there is no journal {_named(journal)}")


opted_out_option = click.option(
    "--journal",
    envvar="QXT_JOURNAL",
    metavar="J",
    callback=_consulted,
    help="Leave out who is on this journal's suppression list; also QXT_JOURNAL.",
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
        JournalError: it cannot be read.
    """

    async def read() -> frozenset[str]:
        async with existing(journal) as opened:
            return await opened.suppressed_numbers()

    return anyio.run(read)
