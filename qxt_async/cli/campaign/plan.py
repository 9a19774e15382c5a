"""``qxt campaign plan``."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import anyio
import click

from qxt_async import QxtClient
from qxt_async.campaign import Campaigns
from qxt_async.cli.journals import Exclusions, journal_option
from qxt_async.cli.message_options import MessageOptions, message_options
from qxt_async.cli.options import (
    FileOptions,
    as_json,
    file_options,
    suppressed_option,
    use_stdin_once,
    verbose,
)
from qxt_async.cli.printing import print_json, print_table
from qxt_async.cli.progress import rows_read
from qxt_async.journal import open_journal

if TYPE_CHECKING:
    from collections.abc import Callable

    from qxt_async.campaign import CampaignPlan


@click.command("plan")
@click.argument("files", metavar="FILE…", nargs=-1, required=True, callback=use_stdin_once)
@message_options
@click.option("--name", default="", metavar="NAME", help="What to call the campaign.")
@file_options
@suppressed_option
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
    message: MessageOptions,
    name: str,
    reading: FileOptions,
    suppressed: str | None,
    extno_column: str | None,
    skip_faulty: bool,
    check_balance: bool,
    journal: str,
    as_json: bool,
) -> None:
    """Read, check and store what is to be sent; sends nothing.

    FILE is a text, CSV, XLSX or Parquet file; - is standard input (text or CSV). Invalid numbers, numbers that are
    repeated in any of the files, and suppressed numbers are left out, counted, and kept with file and line
    (qxt campaign export ID --left-out FILE).

    The text may have columns: 尊敬的{name}; braces themselves are {{ and }}. What looks like a column and is none, such
    as ${name} or %name%, is refused without --literal. Every row is checked before there is a campaign; a plan that is
    refused uses up its ID.

    With --json: {"id", "name", "state", "numbers", "batches", "messages", "credits", "segments": {"1": …}, "invalid",
    "duplicates", "suppressed", "faulty", "balance", "enough", "warnings": […]}.
    """
    excluded = Exclusions(suppressed=suppressed).read()
    ask = check_balance and _has_account()

    async def plan(on_progress: Callable[[int], None]) -> CampaignPlan:
        async with AsyncExitStack() as stack:
            opened = await stack.enter_async_context(open_journal(journal))
            client = await stack.enter_async_context(QxtClient.from_env()) if ask else None
            return await Campaigns(opened, client).plan(
                [reading.table(file) for file in files],
                message.text,
                name=name,
                extno=message.extno,
                extno_column=extno_column,
                addseqno=message.addseqno,
                suppressed=excluded,
                substitute=message.substitute,
                literal=message.literal,
                skip_faulty=skip_faulty,
                on_progress=on_progress,
            )

    with rows_read() as on_progress:
        planned = anyio.run(plan, on_progress)
    if as_json:
        print_json(_as_json(planned))
    else:
        _print(planned)


def _has_account() -> bool:
    """Whether the environment has a whole account."""
    password = os.environ.get("QXT_PASSWORD") or os.environ.get("QXT_PASSWORD_MD5")
    return bool(password and os.environ.get("QXT_USER") and os.environ.get("QXT_BASE_URL"))


def _as_json(plan: CampaignPlan) -> dict[str, object]:
    campaign = plan.campaign
    names = ("id", "name", "numbers", "batches", "credits", "invalid", "duplicates", "suppressed", "balance")
    return {
        **{name: getattr(campaign, name) for name in names},
        "state": campaign.state.value,
        "messages": plan.messages,
        "segments": {str(segments): numbers for segments, numbers in plan.segments.items()},
        "faulty": plan.faulty,
        "enough": plan.enough,
        "warnings": list(campaign.warnings),
    }


def _print(plan: CampaignPlan) -> None:
    campaign = plan.campaign
    rows: list[tuple[str, int | str]] = [
        ("numbers", campaign.numbers),
        ("batches", campaign.batches),
        ("texts", plan.messages),
        ("credits", campaign.credits),
    ]
    left_out = ("invalid", "duplicates", "suppressed")
    rows += [(name, count) for name in left_out if (count := getattr(campaign, name))]
    if campaign.balance is not None:
        rows.append(("balance", campaign.balance))
    print_table(rows, footer=f"campaign {campaign.id} is planned; send it with: qxt campaign run {campaign.id}")
    for warning in campaign.warnings:
        click.echo(f"warning: {warning}", err=True)
