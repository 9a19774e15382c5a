"""``qxt campaign run``."""

from __future__ import annotations

from typing import Any

import anyio
import click

from qxt_async.cli.options import account_options, as_json, verbose

from .sending import send, sending_options
from .shared import id_argument, journal_option

__all__ = ["command"]


@click.command("run")
@id_argument
@sending_options
@account_options
@journal_option
@as_json
@verbose
def command(campaign: int, journal: str, as_json: bool, verbose: bool, **options: Any) -> None:
    """Send what is planned, until nothing is left or it is paused.

    Running again takes up a run that was interrupted: what a process that died had under way becomes unknown, the rest
    is sent. Several processes may run one campaign. Ctrl-C or SIGTERM lets what is under way finish; a second one does
    not wait. From another terminal: qxt campaign pause ID.

    Exit codes: 0 all accepted, 1 something failed or is not sent yet, 2 usage, 3 something unknown.
    """
    anyio.run(send, campaign, journal, options, as_json, verbose)
