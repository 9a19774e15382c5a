"""``qxt campaign list``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import click

from qxt_async.cli.display import json_line
from qxt_async.cli.options import as_json

from .shared import existing, journal_option

if TYPE_CHECKING:
    from qxt_async.journal.records import Campaign

__all__ = ["command"]


@click.command("list")
@journal_option
@as_json
def command(journal: str, as_json: bool) -> None:
    """List the campaigns, the newest first.

    With --json one line for each: {"id", "name", "state", "reason", "created_at", "numbers", "batches", "credits"}.
    """

    async def read() -> list[Campaign]:
        async with existing(journal) as opened:
            return await opened.campaigns.every()

    campaigns = anyio.run(read)
    if as_json:
        for campaign in campaigns:
            click.echo(json_line(_values(campaign)))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("ID", "state", "planned", "numbers", "credits", "name"):
        table.add_column(name, justify="right" if name in {"ID", "numbers", "credits"} else "left")
    for campaign in campaigns:
        table.add_row(
            str(campaign.id),
            campaign.state.value,
            f"{campaign.created_at.astimezone():%Y-%m-%d %H:%M}",
            f"{campaign.numbers:,}",
            f"{campaign.credits:,}",
            Text(campaign.name),
        )
    Console(highlight=False).print(table)


def _values(campaign: Campaign) -> dict[str, object]:
    return {
        "id": campaign.id,
        "name": campaign.name,
        "state": campaign.state.value,
        "reason": campaign.reason,
        "created_at": campaign.created_at.isoformat(),
        "numbers": campaign.numbers,
        "batches": campaign.batches,
        "credits": campaign.credits,
    }
