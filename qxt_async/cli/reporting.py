"""The end of a command that sends: the tally, the error, the exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from qxt_async.cli.display import print_tally
from qxt_async.cli.program import ExitCode, FailedError
from qxt_async.errors import InvalidRequestError

if TYPE_CHECKING:
    from qxt_async.cli.ledger import SendSummary
    from qxt_async.cli.stopping import Ended

__all__ = ["finish"]


def finish(ledger: SendSummary, ended: Ended, *, as_json: bool) -> None:
    """Print the tally and end the command. Without any result and without a signal, an error stands alone.

    Args:
        ledger: what became of the numbers.
        ended: how the sending ended.
        as_json: print one JSON object.

    Raises:
        QxtError: nothing was begun, for this reason.
        FailedError: what stopped it early, with the exit code.
        click.exceptions.Exit: with the exit code.
    """
    ledger.interrupted = ended.interrupted
    error = ended.error
    if error is not None and ended.interrupted is None and not ledger.batches:
        raise error
    if as_json:
        click.echo(ledger.as_json())
        for line in ledger.remarks():
            click.echo(line, err=True)
    else:
        print_tally(ledger)
    code = ledger.exit_code()
    if ended.interrupted is not None:
        raise FailedError(f"stopped by {ended.interrupted.name}", code)
    if error is not None and not ledger.tells_of(error):
        if code != ExitCode.UNKNOWN:
            code = ExitCode.USAGE if isinstance(error, InvalidRequestError) else ExitCode.FAILED
        raise FailedError(f"stopped: {error}", code)
    if not ledger.batches:
        raise FailedError("no number to send to", ExitCode.USAGE)
    raise click.exceptions.Exit(code)
