"""Options that the campaign commands share, the journal they speak of, and counts in words."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, cast

import click

from qxt_async.cli.display import json_line, print_table
from qxt_async.cli.journals import existing, journal_option
from qxt_async.cli.program import ExitCode, FailedError
from qxt_async.runtime.words import plural

if TYPE_CHECKING:
    import io
    import signal
    from collections.abc import Sequence
    from datetime import datetime

    from qxt_async.journal import Journal
    from qxt_async.journal.records import Campaign, CampaignCounts, DeliveryCounts

__all__ = [
    "STDOUT",
    "count_values",
    "existing",
    "finish",
    "id_argument",
    "journal_option",
    "ordered_by",
    "output_target",
    "print_state",
    "refuse_overwriting",
]

STDOUT = "-"

id_argument = click.argument("campaign", metavar="ID", type=click.IntRange(min=1))


def ordered_by() -> str:
    """Who sits at the keyboard, for the record."""
    return os.environ.get("USER") or os.environ.get("USERNAME") or ""


def output_target(path: str) -> str | TextIO:
    """The path, or for ``-`` standard output as a stream of UTF-8."""
    if path != STDOUT:
        return path
    cast("io.TextIOWrapper", sys.stdout).reconfigure(encoding="utf-8", newline="")
    return sys.stdout


def refuse_overwriting(path: str) -> None:
    """Refuse to write to a file that has something in it.

    Raises:
        click.UsageError: says what to do.
    """
    try:
        state = Path(path).stat()
    except OSError:
        return  # it is not there, or opening it says more
    if stat.S_ISREG(state.st_mode) and state.st_size:
        raise click.UsageError(f"{path} is there already: give another name, or --force to replace it.")


def count_values(campaign: int, counts: CampaignCounts, deliveries: DeliveryCounts) -> dict[str, Any]:
    """A campaign's state as ``--json`` prints it."""
    from qxt_async.campaign.state import current_reason, current_state

    return {
        "id": campaign,
        "state": current_state(counts).value,
        "reason": current_reason(counts),
        "numbers": counts.numbers,
        "planned": counts.planned,
        "sending": counts.sending,
        "accepted": counts.accepted,
        "failed": counts.failed,
        "unknown": counts.unknown,
        "suppressed": counts.suppressed,
        "credits": counts.credits,
        "batches": {state.value: count for state, count in counts.batches.items()},
        "delivered": deliveries.delivered,
        "rejected": deliveries.rejected,
        "undelivered": deliveries.failed + deliveries.unknown,
    }


async def print_state(journal: Journal, campaign: int, *, as_json: bool) -> CampaignCounts:
    """Print how far a campaign is, on stdout."""
    from qxt_async.campaign import Campaigns
    from qxt_async.journal.records import BatchState

    campaigns = Campaigns(journal)
    counts = await campaigns.counts(campaign)
    found = await campaigns.get(campaign)
    deliveries = await campaigns.deliveries(campaign)
    if as_json:
        click.echo(json_line(count_values(campaign, counts, deliveries)))
        return counts
    rows: list[tuple[str, int | str]] = [
        (name, getattr(counts, name))
        for name in ("planned", "sending", "accepted", "failed", "unknown", "suppressed")
        if getattr(counts, name) or name in {"accepted", "failed", "unknown"}
    ]
    reported = deliveries.delivered + deliveries.rejected + deliveries.failed + deliveries.unknown
    if reported:
        rows += [("delivered", deliveries.delivered), ("not delivered", reported - deliveries.delivered)]
    rows.append(("credits", counts.credits))
    under_way = await campaigns.batches(campaign, state=BatchState.SENDING)
    begun = [batch.claimed_at for batch in under_way if batch.claimed_at is not None]
    print_table(rows, footer=_headline(found, counts, begun))
    return counts


def _headline(campaign: Campaign, counts: CampaignCounts, begun: Sequence[datetime]) -> str:
    """A campaign's state in words: of one that is *running*, what the journal knows, which is batches, not processes.

    Args:
        campaign: which.
        counts: how far it is.
        begun: when the batches began that are under way.
    """
    from qxt_async.campaign.state import current_reason, current_state
    from qxt_async.journal.records import CampaignState

    state, reason = current_state(counts), current_reason(counts)
    if state is not CampaignState.RUNNING:
        return f"campaign {campaign.id} is {state.value}{f' ({reason})' if reason else ''}"
    sending = "nothing is being sent right now"
    if begun:
        sending = (
            f"{plural(len(begun), 'batch')} under way, the last one since {max(begun).astimezone():%Y-%m-%d %H:%M:%S}"
        )
    again = f"run {campaign.id} --on-workers" if campaign.on_workers else f"run {campaign.id}"
    return f"campaign {campaign.id} is not finished: {sending}; if no process is at it: qxt campaign {again}"


def finish(campaign: int, counts: CampaignCounts, stopped: signal.Signals | None = None) -> NoReturn:
    """End a command that sent, with the exit code that says how it went.

    Args:
        campaign: which.
        counts: how far it is.
        stopped: the first signal that asked it to stop.
    """
    if stopped is not None:
        advice = f"; go on with: qxt campaign run {campaign}" if counts.planned or counts.sending else ""
        raise FailedError(f"stopped by {stopped.name}{advice}", 128 + stopped)
    if counts.unknown:
        raise click.exceptions.Exit(ExitCode.UNKNOWN)
    if counts.planned:
        raise FailedError(f"not all is sent: go on with: qxt campaign resume {campaign}")
    if counts.sending:
        numbers = plural(counts.sending, "number")
        raise FailedError(f"{numbers} under way in another process: look again with: qxt campaign status {campaign}")
    raise click.exceptions.Exit(ExitCode.FAILED if counts.failed else 0)
