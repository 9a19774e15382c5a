"""Options that the campaign commands share, the journal they speak of, and tallies in words."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NoReturn

import click

from qxt_async.cli.display import json_line
from qxt_async.cli.journals import existing, journal_option
from qxt_async.cli.program import ExitCode, FailedError

if TYPE_CHECKING:
    from qxt_async.journal import Journal
    from qxt_async.journal.records import Deliveries, Tally

__all__ = ["existing", "finish", "id_argument", "journal_option", "ordered_by", "print_state", "tally_values"]

id_argument = click.argument("campaign", metavar="ID", type=click.IntRange(min=1))


def ordered_by() -> str:
    """Who sits at the keyboard, for the record."""
    return os.environ.get("USER") or os.environ.get("USERNAME") or ""


def tally_values(campaign: int, tally: Tally, deliveries: Deliveries) -> dict[str, Any]:
    """A campaign's state as ``--json`` prints it."""
    return {
        "id": campaign,
        "state": tally.state.value,
        "reason": tally.reason,
        "numbers": tally.numbers,
        "planned": tally.planned,
        "sending": tally.sending,
        "accepted": tally.accepted,
        "failed": tally.failed,
        "unknown": tally.unknown,
        "suppressed": tally.suppressed,
        "credits": tally.credits,
        "batches": {state.value: count for state, count in tally.batches.items()},
        "delivered": deliveries.delivered,
        "rejected": deliveries.rejected,
        "undelivered": deliveries.failed + deliveries.unknown,
    }


async def print_state(journal: Journal, campaign: int, *, as_json: bool) -> Tally:
    """Print how far a campaign is, on stdout."""
    from qxt_async.cli.display import print_table

    tally = await journal.campaigns.tally(campaign)
    deliveries = await journal.campaigns.deliveries(campaign)
    if as_json:
        click.echo(json_line(tally_values(campaign, tally, deliveries)))
        return tally
    rows: list[tuple[str, int | str]] = [
        (name, getattr(tally, name))
        for name in ("planned", "sending", "accepted", "failed", "unknown", "suppressed")
        if getattr(tally, name) or name in {"accepted", "failed", "unknown"}
    ]
    reported = deliveries.delivered + deliveries.rejected + deliveries.failed + deliveries.unknown
    if reported:
        rows += [("delivered", deliveries.delivered), ("not delivered", reported - deliveries.delivered)]
    rows.append(("credits", tally.credits))
    reason = f" ({tally.reason})" if tally.reason else ""
    print_table(rows, footer=f"campaign {campaign} is {tally.state.value}{reason}")
    return tally


def finish(campaign: int, tally: Tally | None) -> NoReturn:
    """End a command that sent, with the exit code that says how it went."""
    if tally is None:
        message = f"stopped: what was under way is unknown; go on with: qxt campaign run {campaign}"
        raise FailedError(message, ExitCode.UNKNOWN)
    if tally.unknown or tally.sending:
        raise click.exceptions.Exit(ExitCode.UNKNOWN)
    if tally.planned:
        raise FailedError(f"not all is sent: go on with: qxt campaign resume {campaign}")
    raise click.exceptions.Exit(ExitCode.FAILED if tally.failed else 0)
