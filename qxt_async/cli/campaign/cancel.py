"""``qxt campaign cancel``."""

from __future__ import annotations

import anyio
import click

from qxt_async.cli.campaign.shared import existing, id_argument, journal_option, ordered_by

__all__ = ["command"]


@click.command("cancel")
@id_argument
@click.option("--reason", default="", metavar="TEXT", help="Why, for the record.")
@journal_option
def command(campaign: int, reason: str, journal: str) -> None:
    """Send nothing more of a campaign; what is under way is finished. `qxt campaign resume` takes it back."""
    from qxt_async.campaign import Campaigns

    async def cancel() -> None:
        async with existing(journal) as opened:
            await Campaigns(opened).cancel(campaign, reason, actor=ordered_by())

    anyio.run(cancel)
    click.echo(f"campaign {campaign} is cancelled")
