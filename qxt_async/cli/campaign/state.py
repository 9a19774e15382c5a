"""``qxt campaign status``, ``list``, ``pause`` and ``cancel``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import click

from qxt_async.campaign import BatchState, CampaignState
from qxt_async.campaign.state import current_reason, current_state
from qxt_async.cli.campaign.access import current_user, id_argument, use_campaigns
from qxt_async.cli.journals import journal_option
from qxt_async.cli.options import above_zero, as_json
from qxt_async.cli.printing import aligned, local_time, print_json, print_table, single_line
from qxt_async.runtime.words import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qxt_async.campaign import Batch, Campaign, CampaignCounts, Campaigns, DeliveryCounts


@click.command("pause")
@id_argument
@click.option("--reason", default="paused by hand", show_default=True, metavar="TEXT", help="Why, for the record.")
@journal_option
def pause(campaign: int, reason: str, journal: str) -> None:
    """Let no further batch begin, in any process; batches under way are finished."""
    was_running = use_campaigns(journal, lambda campaigns: campaigns.pause(campaign, reason, actor=current_user()))
    click.echo(f"campaign {campaign} is paused" if was_running else f"campaign {campaign} was not running")


@click.command("cancel")
@id_argument
@click.option("--reason", default="", metavar="TEXT", help="Why, for the record.")
@journal_option
def cancel(campaign: int, reason: str, journal: str) -> None:
    """Send nothing more of a campaign; batches under way are finished. `qxt campaign resume` takes it back."""
    use_campaigns(journal, lambda campaigns: campaigns.cancel(campaign, reason, actor=current_user()))
    click.echo(f"campaign {campaign} is cancelled")


# --- status -----------------------------------------------------------------------------------------------------------


@click.command("status")
@id_argument
@click.option("--watch", is_flag=True, help="Again and again, until nothing is being sent or left to send.")
@click.option("--every", type=above_zero, default=2.0, show_default=True, metavar="SECONDS", help="With --watch.")
@journal_option
@as_json
def status(campaign: int, watch: bool, every: float, journal: str, as_json: bool) -> None:
    """Show the progress of a campaign: numbers by state, and their status reports.

    Running says that something is left to be sent. The journal knows batches, not processes: it says how many batches
    are under way, and since when. When a process has died, its batches become unknown after their lease has run out.

    With --json one line for each look: {"id", "state", "reason", "numbers", "planned", "sending", "accepted", "failed",
    "unknown", "suppressed", "credits", "batches": {…}, "delivered", "rejected", "undelivered"}.
    """

    async def look(campaigns: Campaigns) -> None:
        while True:
            if watch and not as_json and sys.stdout.isatty():
                click.clear()
            counts = await print_state(campaigns, campaign, as_json=as_json)
            if not watch or not (counts.sending or current_state(counts) is CampaignState.RUNNING):
                return
            await anyio.sleep(every)

    use_campaigns(journal, look)


async def print_state(campaigns: Campaigns, campaign: int, *, as_json: bool) -> CampaignCounts:
    """Print the progress of a campaign on stdout."""
    counts = await campaigns.counts(campaign)
    deliveries = await campaigns.deliveries(campaign)
    if as_json:
        print_json(_as_json(campaign, counts, deliveries))
        return counts
    rows: list[tuple[str, int | str]] = [
        (name, getattr(counts, name))
        for name in ("planned", "sending", "accepted", "failed", "unknown", "suppressed")
        if getattr(counts, name) or name in {"accepted", "failed", "unknown"}
    ]
    undelivered = deliveries.rejected + deliveries.failed + deliveries.unknown
    if deliveries.delivered or undelivered:
        rows += [("delivered", deliveries.delivered), ("not delivered", undelivered)]
    rows.append(("credits", counts.credits))
    under_way = await campaigns.batches(campaign, state=BatchState.SENDING)
    print_table(rows, footer=_headline(await campaigns.get(campaign), counts, under_way))
    return counts


def _as_json(campaign: int, counts: CampaignCounts, deliveries: DeliveryCounts) -> dict[str, Any]:
    names = ("numbers", "planned", "sending", "accepted", "failed", "unknown", "suppressed", "credits")
    return {
        "id": campaign,
        "state": current_state(counts).value,
        "reason": current_reason(counts),
        **{name: getattr(counts, name) for name in names},
        "batches": {state.value: count for state, count in counts.batches.items()},
        "delivered": deliveries.delivered,
        "rejected": deliveries.rejected,
        "undelivered": deliveries.failed + deliveries.unknown,
    }


def _headline(campaign: Campaign, counts: CampaignCounts, under_way: Sequence[Batch]) -> str:
    """A campaign's state in words. Of a campaign that is *running* it says what the journal knows about batches."""
    state, reason = current_state(counts), current_reason(counts)
    if state is not CampaignState.RUNNING:
        return f"campaign {campaign.id} is {state.value}{f' ({reason})' if reason else ''}"
    sending = "nothing is being sent right now"
    if begun := [batch.claimed_at for batch in under_way if batch.claimed_at is not None]:
        sending = f"{plural(len(begun), 'batch')} under way, the last one since {local_time(max(begun))}"
    again = f"run {campaign.id} --on-workers" if campaign.on_workers else f"run {campaign.id}"
    return f"campaign {campaign.id} is not finished: {sending}; if no process runs it: qxt campaign {again}"


# --- list -------------------------------------------------------------------------------------------------------------


@click.command("list")
@journal_option
@as_json
def list_command(journal: str, as_json: bool) -> None:
    """List the campaigns, the newest first.

    A campaign that is not finished is "sending" if a batch is under way, else "unfinished": the journal does not know
    whether a process is sending it. With --json its state is "running" in both cases.

    With --json one line for each: {"id", "name", "state", "reason", "created_at", "numbers", "batches", "credits"}.
    """

    async def read(campaigns: Campaigns) -> list[tuple[Campaign, str]]:
        return [await _with_state(campaigns, campaign) for campaign in await campaigns.list()]

    found = use_campaigns(journal, read)
    if as_json:
        for campaign, _ in found:
            names = ("id", "name", "reason", "numbers", "batches", "credits")
            row = {name: getattr(campaign, name) for name in names}
            print_json({**row, "state": campaign.state.value, "created_at": campaign.created_at.isoformat()})
        return
    rows = [
        (
            str(campaign.id),
            state,
            local_time(campaign.created_at)[:-3],
            f"{campaign.numbers:,}",
            f"{campaign.credits:,}",
            single_line(campaign.name),
        )
        for campaign, state in found
    ]
    for line in aligned([("ID", "state", "planned", "numbers", "credits", "name"), *rows], {0, 3, 4}):
        click.echo(line)


async def _with_state(campaigns: Campaigns, campaign: Campaign) -> tuple[Campaign, str]:
    """A campaign with its current state, and that state in a word for people."""
    if campaign.state not in {CampaignState.RUNNING, CampaignState.PAUSED}:
        return campaign, campaign.state.value
    now = await campaigns.pending_work(campaign.id)
    state = current_state(now)
    if state is CampaignState.RUNNING:
        return campaign, "sending" if now.sending else "unfinished"
    reason = campaign.reason if state is CampaignState.PAUSED else ""
    return attrs.evolve(campaign, state=state, reason=reason), state.value
