"""``qxt campaign run``."""

from __future__ import annotations

from typing import Any

import anyio
import click

from qxt_async.cli.campaign.sending import refuse_options_of_workers, send, send_on_workers, sending_options
from qxt_async.cli.campaign.shared import id_argument, journal_option
from qxt_async.cli.options import account_options, as_json, verbose

__all__ = ["command"]


@click.command("run")
@id_argument
@click.option("--on-workers", is_flag=True, help="Leave the sending to qxt worker; here only watch.")
@click.option("--priority", type=int, metavar="N", help="On workers: before campaigns with a lower one (0).")
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
    on_workers: bool,
    priority: int | None,
    journal: str,
    as_json: bool,
    verbose: bool,
    **options: Any,
) -> None:
    """Send what is planned, until nothing is left or it is paused.

    Running again takes up a run that was interrupted: what a process that died had under way becomes unknown, the rest
    is sent. Several processes may run one campaign. Ctrl-C or SIGTERM lets what is under way finish; a second one does
    not wait. From another terminal: qxt campaign pause ID.

    With --on-workers the workers of a journal on PostgreSQL send (qxt worker has the options for how), and Ctrl-C
    ends the watching only; qxt campaign resume leaves the campaign to them again.

    Exit codes: 0 all accepted, 1 something failed or is not sent yet, 2 usage, 3 something unknown, 130 or 143 stopped
    by Ctrl-C or SIGTERM.
    """
    if not on_workers:
        if priority is not None:
            raise click.UsageError("--priority is for --on-workers: here one campaign is sent.")
        anyio.run(send, campaign, journal, options, as_json, verbose)
    refuse_options_of_workers(ctx, options)
    anyio.run(send_on_workers, campaign, journal, priority, as_json, verbose)
