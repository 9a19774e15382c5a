"""The journal of a command, and the numbers that a send leaves out."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import click
from click.core import ParameterSource

from qxt_async.cli.exit_codes import FailedError
from qxt_async.cli.number_files import NumberReader
from qxt_async.cli.options import Command, option_group, suppressed_option
from qxt_async.errors import JournalError
from qxt_async.files import TableFile

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from qxt_async.journal import Journal

_DEFAULT = "qxt.db"
_NO_JOURNAL = f"{__name__}.no_journal"
_KEY = f"{__name__}.key"


def _make_journal_option(**options: Any) -> Callable[[Command], Command]:
    """``--journal``, the same for every command."""
    defaults: dict[str, Any] = {"show_default": True, "help": "The journal, instead of QXT_JOURNAL."}
    return click.option("--journal", envvar="QXT_JOURNAL", default=_DEFAULT, metavar="J", **(defaults | options))


journal_option = _make_journal_option()


def _exists(journal: str) -> bool:
    return "://" in journal or Path(journal).exists()


def _name(journal: str) -> str:
    """A journal's name for an error, unless it may be a mistyped address with a password."""
    if any(sign in journal.lower() for sign in ("@", "password=", "postgres")):
        return "of this name (an address is like postgresql://USER:PASSWORD@HOST/DATABASE)"
    return repr(journal)


@asynccontextmanager
async def open_existing(journal: str) -> AsyncGenerator[Journal]:
    """Open a journal that exists, and make no new one.

    Raises:
        click.UsageError: there is none.
    """
    # Sends that use no journal need not load it.
    from qxt_async.journal import open_journal

    if not await anyio.to_thread.run_sync(_exists, journal):
        raise click.UsageError(f"there is no journal {_name(journal)}: give --journal, or set QXT_JOURNAL.")
    async with open_journal(journal) as opened:
        yield opened


# --- the numbers that a send leaves out -------------------------------------------------------------------------------


@attrs.frozen(kw_only=True, repr=False)
class Exclusions:
    """Where the numbers are that a send leaves out.

    Attributes:
        journal: its suppression list; ``None`` for no journal.
        suppressed: file of numbers.
    """

    journal: str | None = None
    suppressed: str | None = None

    def read(self) -> frozenset[str]:
        """Read the numbers; print on stderr which lines of the file have none.

        Raises:
            SourceFileError: the file cannot be read.
            FailedError: the journal cannot be read.
        """
        numbers = frozenset[str]()
        if self.journal is not None and _exists(self.journal):
            numbers = anyio.run(_suppression_list, self.journal)
        if self.suppressed is None:
            return numbers
        with NumberReader(TableFile(self.suppressed)) as file:
            numbers |= {number for block in file.blocks() for number in block}
        file.print_invalid_lines("suppressed: ")
        return numbers

    def print_count(self, count: int) -> None:
        """Print on stderr how many numbers were left out, and where they are listed."""
        if not count:
            return
        lists: list[str] = []
        if self.journal is not None:
            lists.append(f"on the suppression list of {'the journal' if '://' in self.journal else self.journal}")
        if self.suppressed is not None:
            lists.append(f"in {self.suppressed}")
        are = "number is" if count == 1 else "numbers are"
        click.echo(f"{count:,} {are} left out: {', or '.join(lists)}", err=True)


async def _suppression_list(journal: str) -> frozenset[str]:
    try:
        async with open_existing(journal) as opened:
            return await opened.suppressed_numbers()
    except JournalError as error:
        raise FailedError(f"{error}; with --no-journal no suppression list is used") from error


def _remember_key(ctx: click.Context, _: click.Parameter, value: str | None) -> str | None:
    ctx.meta[_KEY] = value
    return value


def _remember(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.meta[_NO_JOURNAL] = value


def _optional(ctx: click.Context, parameter: click.Parameter, journal: str) -> str | None:
    """A journal that does not exist has an empty list; one that was given as an option is mistyped."""
    source = ctx.get_parameter_source(parameter.name or "")
    if ctx.meta[_NO_JOURNAL]:
        if source is ParameterSource.COMMANDLINE:
            raise click.UsageError("--journal and --no-journal contradict each other.")
        if ctx.meta.get(_KEY) is not None:
            raise click.UsageError("--key needs a journal, so it and --no-journal contradict each other.")
        return None
    if _exists(journal) or ctx.meta.get(_KEY) is not None:
        return journal
    if source is ParameterSource.COMMANDLINE:
        raise click.BadParameter(f"there is no journal {_name(journal)}")
    if source is ParameterSource.ENVIRONMENT:
        click.echo(f"there is no journal {_name(journal)} yet (QXT_JOURNAL): no suppression list is used", err=True)
    return None


_JOURNAL_OPTIONS = (
    _make_journal_option(
        show_default=f"{_DEFAULT}, if it exists",
        callback=_optional,
        help="Leave out the numbers on this journal's suppression list; also QXT_JOURNAL.",
    ),
    click.option(
        "--no-journal",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_remember,
        help="Use no suppression list.",
    ),
)

key_option = click.option(
    "--key",
    metavar="K",
    is_eager=True,
    callback=_remember_key,
    help="Idempotency key: however often it is given, the text is sent once. Recorded in the journal.",
)
journal_exclusions = option_group("exclusions", Exclusions, *_JOURNAL_OPTIONS)
number_exclusions = option_group("exclusions", Exclusions, suppressed_option, *_JOURNAL_OPTIONS)
