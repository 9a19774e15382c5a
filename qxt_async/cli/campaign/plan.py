"""``qxt campaign plan``."""

from __future__ import annotations

import os
import sys
from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING

import anyio
import click

from qxt_async.cli.campaign.shared import journal_option
from qxt_async.cli.display import json_line, print_table
from qxt_async.cli.options import (
    as_json,
    file_options,
    message_options,
    reads_once,
    suppressed_option,
    text_option,
    verbose,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from qxt_async.campaign import CampaignPlan

__all__ = ["command"]


@click.command("plan")
@click.argument("files", metavar="FILE…", nargs=-1, required=True, callback=reads_once)
@text_option
@click.option("--name", default="", metavar="NAME", help="What to call the campaign.")
@file_options
@suppressed_option
@message_options
@click.option("--extno-column", metavar="C", help="Column with each row's own extension number.")
@click.option("--skip-faulty", is_flag=True, help="Leave out rows whose text cannot be made, instead of refusing.")
@click.option(
    "--check-balance/--no-check-balance",
    default=True,
    help="Ask for the balance, if the account is in the environment (the default), or do not.",
)
@journal_option
@as_json
@verbose
def command(
    files: tuple[str, ...],
    text: str,
    name: str,
    column: str | None,
    encoding: str | None,
    sheet: str | int,
    suppressed: str | None,
    extno: str | None,
    addseqno: bool,
    substitute: bool,
    literal: bool,
    extno_column: str | None,
    skip_faulty: bool,
    check_balance: bool,
    journal: str,
    as_json: bool,
    verbose: bool,  # noqa: ARG001
) -> None:
    """Read, check and store what is to be sent; sends nothing.

    FILE is a text, CSV, XLSX or Parquet file; - is standard input (text or CSV). Invalid numbers, numbers that come
    again in any of the files, and suppressed ones are left out, counted, and kept with file and line
    (qxt campaign export ID --left-out FILE).

    The text may have columns: 尊敬的{name}; braces themselves are {{ and }}. What looks like a column and is none, such
    as ${name} or %name%, is refused without --literal. Every row is checked before there is a campaign; a plan that is
    refused uses up its ID.

    With --json: {"id", "name", "state", "numbers", "batches", "messages", "credits", "segments": {"1": …}, "invalid",
    "duplicates", "suppressed", "faulty", "balance", "enough", "warnings": […]}.
    """
    from qxt_async import QxtClient
    from qxt_async.campaign import Campaigns
    from qxt_async.cli.screening import read_suppressed
    from qxt_async.files import TableFile
    from qxt_async.journal import open_journal

    sources = [TableFile(file, column=column, encoding=encoding, sheet=sheet) for file in files]
    left_out = read_suppressed(suppressed)
    known = ("QXT_USER", "QXT_BASE_URL") if check_balance else ()
    ask = bool(known) and all(map(os.environ.get, known))
    ask = ask and bool(os.environ.get("QXT_PASSWORD") or os.environ.get("QXT_PASSWORD_MD5"))

    async def make(show: Callable[[int], None]) -> CampaignPlan:
        async with AsyncExitStack() as stack:
            opened = await stack.enter_async_context(open_journal(journal))
            client = await stack.enter_async_context(QxtClient.from_env()) if ask else None
            return await Campaigns(opened, client).plan(
                sources,
                text,
                name=name,
                extno=extno,
                extno_column=extno_column,
                addseqno=addseqno,
                suppressed=left_out,
                substitute=substitute,
                literal=literal,
                skip_faulty=skip_faulty,
                on_progress=show,
            )

    with _reading() as show:
        made = anyio.run(make, show)
    if as_json:
        click.echo(json_line(_values(made)))
    else:
        _print(made)


@contextmanager
def _reading() -> Generator[Callable[[int], None]]:
    """Count the rows on stderr, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    try:
        yield lambda rows: click.echo(f"\rreading … {rows:,} rows", nl=False, err=True)
    finally:
        click.echo("\r\x1b[K", nl=False, err=True)  # the line is empty again


def _values(made: CampaignPlan) -> dict[str, object]:
    campaign = made.campaign
    return {
        "id": campaign.id,
        "name": campaign.name,
        "state": campaign.state.value,
        "numbers": campaign.numbers,
        "batches": campaign.batches,
        "messages": made.messages,
        "credits": campaign.credits,
        "segments": {str(segments): numbers for segments, numbers in made.segments.items()},
        "invalid": campaign.invalid,
        "duplicates": campaign.duplicates,
        "suppressed": campaign.suppressed,
        "faulty": made.faulty,
        "balance": campaign.balance,
        "enough": made.enough,
        "warnings": list(campaign.warnings),
    }


def _print(made: CampaignPlan) -> None:
    campaign = made.campaign
    rows: list[tuple[str, int | str]] = [
        ("numbers", campaign.numbers),
        ("batches", campaign.batches),
        ("texts", made.messages),
        ("credits", campaign.credits),
    ]
    rows += [
        (name, count) for name in ("invalid", "duplicates", "suppressed") if (count := int(getattr(campaign, name)))
    ]
    if campaign.balance is not None:
        rows.append(("balance", campaign.balance))
    print_table(rows, footer=f"campaign {campaign.id} is planned; send it with: qxt campaign run {campaign.id}")
    for warning in campaign.warnings:
        click.echo(f"warning: {warning}", err=True)
