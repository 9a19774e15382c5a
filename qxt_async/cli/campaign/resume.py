"""``qxt campaign resume``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import click

from qxt_async.cli.campaign.sending import refuse_options_of_workers, send, send_on_workers, sending_options
from qxt_async.cli.campaign.shared import existing, id_argument, journal_option, ordered_by
from qxt_async.cli.options import account_options, as_json, verbose
from qxt_async.cli.program import FailedError
from qxt_async.runtime.words import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qxt_async.journal.records import ResendQuote

__all__ = ["command"]


@click.command("resume")
@id_argument
@click.option("--resend-unknown", is_flag=True, help="Send unknown numbers again; may text twice.")
@click.option("--resend-failed", is_flag=True, help="Send failed numbers again.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation of a resend.")
@click.option("--order-only", is_flag=True, help="Write the order down for a runner elsewhere; send nothing here.")
@sending_options
@account_options
@journal_option
@as_json
@verbose
@click.pass_context
def command(
    ctx: click.Context,
    /,
    campaign: int,
    resend_unknown: bool,
    resend_failed: bool,
    yes: bool,
    order_only: bool,
    journal: str,
    as_json: bool,
    verbose: bool,
    **options: Any,
) -> None:
    """Go on after a pause, a cancellation or a crash, and send what is planned.

    What is unknown or failed is sent again only if ordered, with --resend-unknown, --resend-failed or both, after it
    was shown how many numbers that is and how many credits it costs. People may get the text twice.

    A campaign whose last run was left to workers (qxt campaign run --on-workers) is left to them again.
    """
    states = [state for state, wanted in (("unknown", resend_unknown), ("failed", resend_failed)) if wanted]
    on_workers = anyio.run(_is_on_workers, campaign, journal)
    if on_workers:
        refuse_options_of_workers(ctx, options)
    if states:
        _order_resend(campaign, journal, states, yes=yes)
    anyio.run(_resume, campaign, journal)
    if order_only:
        return
    if on_workers:
        anyio.run(send_on_workers, campaign, journal, None, as_json, verbose)
    else:
        anyio.run(send, campaign, journal, options, as_json, verbose)


def _order_resend(campaign: int, journal: str, states: Sequence[str], *, yes: bool) -> None:
    """Show what would be sent again, have it confirmed, and order it; what has no numbers is left out."""
    from qxt_async.campaign import Campaigns
    from qxt_async.journal.records import BatchState

    async def preview() -> dict[BatchState, ResendQuote]:
        async with existing(journal) as opened:
            campaigns = Campaigns(opened)
            found = {state: await campaigns.preview_resend(campaign, state) for state in map(BatchState, states)}
        return {state: resend for state, resend in found.items() if resend.numbers}

    async def order() -> None:
        async with existing(journal) as opened:
            for state, found in expected.items():
                await Campaigns(opened).resend(campaign, state, expected=found, actor=ordered_by())

    expected = anyio.run(preview)
    if not expected:
        raise FailedError(f"no number of campaign {campaign} is {' or '.join(states)}")
    for state, found in expected.items():
        twice = "; they may have the text already" if state is BatchState.UNKNOWN else ""
        numbers, credits_ = plural(found.numbers, f"{state.value} number"), plural(found.credits, "credit")
        click.echo(f"{numbers} would be sent again for {credits_}{twice}", err=True)
    if not yes:
        click.confirm("Send them again?", abort=True, err=True)
    anyio.run(order)


async def _is_on_workers(campaign: int, journal: str) -> bool:
    from qxt_async.campaign import Campaigns

    async with existing(journal) as opened:
        return (await Campaigns(opened).get(campaign)).on_workers


async def _resume(campaign: int, journal: str) -> None:
    from qxt_async.campaign import Campaigns
    from qxt_async.journal.records import CampaignState

    async with existing(journal) as opened:
        found = await Campaigns(opened).get(campaign)
        if found.state in {CampaignState.PAUSED, CampaignState.CANCELLED}:
            await Campaigns(opened).resume(campaign, actor=ordered_by())
