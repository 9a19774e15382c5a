"""``qxt campaign``: plan, run and watch campaigns. A command's module is imported when the command is called."""

from __future__ import annotations

import click

from qxt_async.cli.program import LazyGroup

__all__ = ["command"]

_COMMANDS = {
    "cancel": ("state:cancel", "Send nothing more of a campaign."),
    "export": ("files:export", "Write the outcome of every number to a file."),
    "list": ("state:list_command", "List the campaigns."),
    "pause": ("state:pause", "Let no further batch begin, in any process."),
    "plan": ("plan", "Read, check and store what is to be sent; sends nothing."),
    "report": ("files:report", "Write a report to look at: one HTML page."),
    "resume": ("run:resume", "Continue after a pause or a crash, or order numbers to be sent again."),
    "run": ("run:run", "Send what is planned."),
    "status": ("state:status", "Show the progress of a campaign."),
}


@click.group("campaign", cls=LazyGroup, package=__package__, modules=_COMMANDS)
def command() -> None:
    """Send to a million numbers so that a crash, a stop or a second process never sends anything twice.

    Everything is kept in the journal (--journal, QXT_JOURNAL, else qxt.db): plan first, look at it, then run it. To
    continue a run that was interrupted, run it again.
    """
