"""``qxt worker``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import attrs
import click

from qxt_async import AccountRefusedError, QxtError
from qxt_async.cli.exit_codes import FailedError, code_of_signal
from qxt_async.cli.journals import journal_option, open_existing
from qxt_async.cli.options import (
    AccountOptions,
    GuardOptions,
    ThroughputOptions,
    above_zero,
    account_options,
    at_least_one,
    guard_options,
    option_group,
    throughput_options,
    verbose,
)
from qxt_async.cli.stopping import run_stoppable
from qxt_async.journal import AccountLimits
from qxt_async.workers import CampaignWorker, WorkerOptions

if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence

    from qxt_async import QxtClient


@attrs.frozen(kw_only=True, repr=False)
class LimitOptions:
    """Limits of the account, for all workers together."""

    account_rate: float | None
    account_request_rate: float | None
    account_concurrency: int | None
    no_account_limits: bool

    def limits(self) -> AccountLimits | None:
        """The limits to set, ``None`` to leave them as they are."""
        limits = AccountLimits(
            max_rate=self.account_rate,
            max_request_rate=self.account_request_rate,
            max_concurrency=self.account_concurrency,
        )
        if self.no_account_limits:
            if limits != AccountLimits():
                raise click.UsageError("--no-account-limits and limits contradict each other.")
            return limits
        return None if limits == AccountLimits() else limits


limit_options = option_group(
    "account_limits",
    LimitOptions,
    click.option("--account-rate", type=above_zero, metavar="N", help="Numbers per second, all workers together."),
    click.option(
        "--account-request-rate", type=above_zero, metavar="N", help="Requests per second, all workers together."
    ),
    click.option(
        "--account-concurrency", type=at_least_one, metavar="N", help="Requests in flight, all workers together."
    ),
    click.option("--no-account-limits", is_flag=True, help="Remove the three limits of all workers together."),
)


@click.command("worker")
@throughput_options
@limit_options
@guard_options
@account_options
@journal_option
@verbose
def command(
    throughput: ThroughputOptions,
    account_limits: LimitOptions,
    guard: GuardOptions,
    account: AccountOptions,
    journal: str,
) -> None:
    """Send batches of all running campaigns of a journal, together with other workers.

    The workers may run on many hosts. The journal has to be postgresql://…; campaigns are started with
    qxt campaign run ID --on-workers. The limits for all workers together are kept in the journal: one worker sets them
    for all, and they hold until others are set.

    Says "working" on stderr when it is ready; before that it asks for the balance, which finds a wrong password at once
    (not with --no-check-balance). Ctrl-C or SIGTERM lets the batches under way finish, then it ends with exit code 0; a
    second signal does not wait, and ends it with 130 or 143.
    """
    options = WorkerOptions(**guard.options())
    make_client = account.sign_in()

    async def work() -> list[signal.Signals]:
        client = make_client(max_concurrency=throughput.concurrency, max_rate=throughput.rate)
        return await _work(journal, client, options, account_limits.limits())

    _finish(anyio.run(work))


def _finish(signals: Sequence[signal.Signals]) -> None:
    """End the command with an error if a second signal has cut it off."""
    for number in signals[1:]:
        raise FailedError(f"stopped by {number.name}: what was under way may be unknown", code_of_signal(number))


async def _work(
    journal: str, client: QxtClient, options: WorkerOptions, limits: AccountLimits | None
) -> list[signal.Signals]:
    """Run a worker until signals stop it; returns them."""
    async with open_existing(journal) as opened, client:
        if limits is not None:
            await opened.limits.set(client.user, limits)
        worker = CampaignWorker(opened, client, options)
        signing_in = anyio.CancelScope()

        def stop() -> None:
            signing_in.cancel()
            worker.stop()

        async def work() -> None:
            if options.check_balance:
                with signing_in:
                    await _check_account(client)
            if not worker.stopping:
                click.echo("working", err=True)
                await worker.run()

        return await run_stoppable(work, stop)


async def _check_account(client: QxtClient) -> None:
    """Have the account checked. A gateway that cannot be asked now is left to the worker, which waits for it.

    Raises:
        AccountRefusedError: the gateway refuses the account.
    """
    try:
        await client.balance()
    except AccountRefusedError:
        raise
    except QxtError as error:
        click.echo(f"the account is not checked yet: {error}", err=True)
