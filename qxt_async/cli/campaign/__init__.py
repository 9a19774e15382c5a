"""``qxt campaign``: plan, run and watch campaigns that survive anything. Each command is a module of its own."""

from __future__ import annotations

import click

from qxt_async.cli.program import LazyGroup

__all__ = ["command"]

_COMMANDS = {
    "cancel": "Send nothing more of a campaign.",
    "export": "Write what became of every number to a file.",
    "list": "List the campaigns.",
    "pause": "Let no further batch begin, in any process.",
    "plan": "Read, check and store what is to be sent; sends nothing.",
    "report": "Write a report to look at: one HTML page.",
    "resume": "Go on after a pause or a crash, or order numbers to be sent again.",
    "run": "Send what is planned.",
    "status": "Say how far a campaign is.",
}


@click.group("campaign", cls=LazyGroup, package=__package__, modules=_COMMANDS)
def command() -> None:
    """Send to a million numbers so that a crash, a stop or a second process never sends anything twice.

    Everything is kept in the journal (--journal, QXT_JOURNAL, else qxt.db): plan first, look at it, then run it. A run
    that was interrupted is taken up by running it again.
    """
