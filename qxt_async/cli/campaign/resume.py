"""``qxt campaign resume``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import click

from qxt_async.cli.options import account_options, as_json, verbose
from qxt_async.cli.program import FailedError
from qxt_async.words import plural

from .sending import send, sending_options
from .shared import existing, id_argument, journal_option, ordered_by

if TYPE_CHECKING:
    from qxt_async.journal.records import Resend

__all__ = ["command"]


@click.command("resume")
@id_argument
@click.option("--resend-unknown", "resend", flag_value="unknown", help="Send unknown numbers again; may text twice.")
@click.option("--resend-failed", "resend", flag_value="failed", help="Send failed numbers again.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation of a resend.")
@click.option("--order-only", is_flag=True, help="Write the order down for a runner elsewhere; send nothing here.")
@sending_options
@account_options
@journal_option
@as_json
@verbose
def command(
    campaign: int,
    resend: str | None,
    yes: bool,
    order_only: bool,
    journal: str,
    as_json: bool,
    verbose: bool,
    **options: Any,
) -> None:
    """Go on after a pause, a cancellation or a crash, and send what is planned.

    What is unknown or failed is sent again only if ordered, with --resend-unknown or --resend-failed, after it was
    shown how many numbers that is and how many credits it costs. People may get the text twice.
    """
    if resend is not None:
        _order_resend(campaign, journal, resend, yes=yes)
    anyio.run(_resume, campaign, journal)
    if not order_only:
        anyio.run(send, campaign, journal, options, as_json, verbose)


def _order_resend(campaign: int, journal: str, state: str, *, yes: bool) -> None:
    from qxt_async.journal.records import BatchState

    async def preview() -> Resend:
        async with existing(journal) as opened:
            return await opened.campaigns.preview_resend(campaign, BatchState(state))

    async def order() -> None:
        async with existing(journal) as opened:
            await opened.campaigns.resend(campaign, BatchState(state), expected=expected, by=ordered_by())

    expected = anyio.run(preview)
    if not expected.numbers:
        raise FailedError(f"no number of campaign {campaign} is {state}")
    twice = "; they may have the text already" if state == BatchState.UNKNOWN else ""
    click.echo(
        f"{plural(expected.numbers, 'number')} would be sent again for {plural(expected.credits, 'credit')}{twice}",
        err=True,
    )
    if not yes:
        click.confirm("Send them again?", abort=True, err=True)
    anyio.run(order)


async def _resume(campaign: int, journal: str) -> None:
    from qxt_async.journal.records import CampaignState

    async with existing(journal) as opened:
        found = await opened.campaigns.get(campaign)
        if found.state in {CampaignState.PAUSED, CampaignState.CANCELLED}:
            await opened.campaigns.resume(campaign, by=ordered_by())
