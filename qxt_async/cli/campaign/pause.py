"""``qxt campaign pause``."""

from __future__ import annotations

import anyio
import click

from qxt_async.cli.campaign.shared import existing, id_argument, journal_option, ordered_by

__all__ = ["command"]


@click.command("pause")
@id_argument
@click.option("--reason", default="paused by hand", show_default=True, metavar="TEXT", help="Why, for the record.")
@journal_option
def command(campaign: int, reason: str, journal: str) -> None:
    """Let no further batch begin, in any process; what is under way is finished."""
    from qxt_async.campaign import Campaigns

    async def pause() -> bool:
        async with existing(journal) as opened:
            return await Campaigns(opened).pause(campaign, reason, actor=ordered_by())

    was_running = anyio.run(pause)
    click.echo(f"campaign {campaign} is paused" if was_running else f"campaign {campaign} was not running")
