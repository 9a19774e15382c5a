"""``qxt campaign list``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import attrs
import click

from qxt_async.cli.campaign.shared import existing, journal_option
from qxt_async.cli.display import aligned, json_line
from qxt_async.cli.feed import plain
from qxt_async.cli.options import as_json

if TYPE_CHECKING:
    from qxt_async.campaign import Campaigns
    from qxt_async.journal.records import Campaign

__all__ = ["command"]


@click.command("list")
@journal_option
@as_json
def command(journal: str, as_json: bool) -> None:
    """List the campaigns, the newest first.

    A campaign that is not finished is "sending" if a batch is under way, else "unfinished": the journal cannot tell
    whether a process is at it. With --json its state is "running" in both cases.

    With --json one line for each: {"id", "name", "state", "reason", "created_at", "numbers", "batches", "credits"}.
    """
    from qxt_async.campaign import Campaigns

    async def read() -> list[tuple[Campaign, str]]:
        async with existing(journal) as opened:
            campaigns = Campaigns(opened)
            return [await _described(campaigns, campaign) for campaign in await campaigns.list()]

    campaigns = anyio.run(read)
    if as_json:
        for campaign, _ in campaigns:
            click.echo(json_line(_values(campaign)))
        return
    rows = [
        (
            str(campaign.id),
            state,
            f"{campaign.created_at.astimezone():%Y-%m-%d %H:%M}",
            f"{campaign.numbers:,}",
            f"{campaign.credits:,}",
            plain(campaign.name),
        )
        for campaign, state in campaigns
    ]
    for line in aligned([("ID", "state", "planned", "numbers", "credits", "name"), *rows], {0, 3, 4}):
        click.echo(line)


async def _described(campaigns: Campaigns, campaign: Campaign) -> tuple[Campaign, str]:
    """A campaign in its current state, and that state in a word for people."""
    from qxt_async.campaign.state import current_state
    from qxt_async.journal.records import CampaignState

    if campaign.state not in {CampaignState.RUNNING, CampaignState.PAUSED}:
        return campaign, campaign.state.value
    now = await campaigns.pending_work(campaign.id)
    state = current_state(now)
    if state is CampaignState.RUNNING:
        return campaign, "sending" if now.sending else "unfinished"
    reason = campaign.reason if state is CampaignState.PAUSED else ""
    return attrs.evolve(campaign, state=state, reason=reason), state.value


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
