"""``qxt campaign status``."""

from __future__ import annotations

import sys

import anyio
import click

from qxt_async.cli.campaign.shared import existing, id_argument, journal_option, print_state
from qxt_async.cli.options import as_json

__all__ = ["command"]


@click.command("status")
@id_argument
@click.option("--watch", is_flag=True, help="Again and again, until nothing is being sent or left to send.")
@click.option(
    "--every",
    type=click.FloatRange(min=0, min_open=True),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="With --watch.",
)
@journal_option
@as_json
def command(campaign: int, watch: bool, every: float, journal: str, as_json: bool) -> None:
    """Say how far a campaign is: numbers by state, and what was reported of them.

    Running says that something is left to be sent. The journal knows batches, not processes: it says how many are under
    way, and since when. What a process that died had under way becomes unknown when its lease runs out.

    With --json one line for each look: {"id", "state", "reason", "numbers", "planned", "sending", "accepted", "failed",
    "unknown", "suppressed", "credits", "batches": {…}, "delivered", "rejected", "undelivered"}.
    """
    from qxt_async.campaign.state import current_state
    from qxt_async.journal.records import CampaignState

    async def look() -> None:
        async with existing(journal) as opened:
            while True:
                if watch and not as_json and sys.stdout.isatty():
                    click.clear()
                counts = await print_state(opened, campaign, as_json=as_json)
                if not watch or not (counts.sending or current_state(counts) is CampaignState.RUNNING):
                    return
                await anyio.sleep(every)

    anyio.run(look)
