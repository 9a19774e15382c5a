"""``qxt worker``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import click

from qxt_async.cli.journals import existing, journal_option
from qxt_async.cli.options import account, account_options, guard_options, verbose
from qxt_async.cli.program import FailedError
from qxt_async.cli.stopping import run_stoppable

if TYPE_CHECKING:
    import signal

    from qxt_async import QxtClient
    from qxt_async.journal import AccountLimits
    from qxt_async.workers import CampaignWorker

__all__ = ["command"]

_above_0 = click.FloatRange(min=0, min_open=True)


@click.command("worker")
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    metavar="N",
    help="Requests in flight at most, of this worker.",
)
@click.option("--rate", type=_above_0, metavar="N", help="Numbers a second at most, of this worker.")
@click.option("--account-rate", type=_above_0, metavar="N", help="Numbers a second, all workers together.")
@click.option("--account-request-rate", type=_above_0, metavar="N", help="Requests a second, all workers together.")
@click.option(
    "--account-concurrency", type=click.IntRange(min=1), metavar="N", help="Requests in flight, all workers together."
)
@click.option("--no-account-limits", is_flag=True, help="Take the three limits of all workers together away.")
@guard_options
@account_options
@journal_option
@verbose
def command(journal: str, **options: Any) -> None:
    """Send batches of all running campaigns of a journal, beside other workers, on this host or others.

    The journal has to be postgresql://…; campaigns are started with qxt campaign run ID --on-workers. The limits for
    all workers together are kept in the journal: given at one worker, they hold for all, until others are given.
    Says "working" on stderr when it is ready; before that it asks for the balance, which shows a wrong password at once
    (not with --no-check-balance). Ctrl-C or SIGTERM lets what is under way finish, then it ends with exit code 0; a
    second one does not wait, and ends it with 130 or 143.
    """
    anyio.run(_work, journal, options, _limits(options))


def _limits(options: dict[str, Any]) -> AccountLimits | None:
    """The limits to set, ``None`` to leave them as they are."""
    from qxt_async.journal import AccountLimits

    given = AccountLimits(
        max_rate=options["account_rate"],
        max_request_rate=options["account_request_rate"],
        max_concurrency=options["account_concurrency"],
    )
    if options["no_account_limits"]:
        if given != AccountLimits():
            raise click.UsageError("--no-account-limits and limits contradict each other.")
        return given
    return None if given == AccountLimits() else given


async def _work(journal: str, options: dict[str, Any], limits: AccountLimits | None) -> None:
    from qxt_async import QxtClient
    from qxt_async.campaign import SendWindow
    from qxt_async.workers import CampaignWorker, WorkerOptions

    client = QxtClient.from_env(
        **account(options["user"], options["base_url"]),
        transport=options["transport"],
        timeout=options["timeout"],
        max_concurrency=options["concurrency"],
        max_rate=options["rate"],
    )
    worker_options = WorkerOptions(
        check_balance=not options["no_check_balance"],
        min_balance=options["min_balance"],
        max_consecutive_failures=options["max_consecutive_failures"],
        window=SendWindow.parse(options["window"], options["zone"]) if options["window"] else None,
    )
    async with existing(journal) as opened, client:
        if limits is not None:
            await opened.limits.set(client.user, limits)
        worker = CampaignWorker(opened, client, worker_options)
        signals = await _run(worker, None if options["no_check_balance"] else client)
    for number in signals[1:]:
        raise FailedError(f"stopped by {number.name}: what was under way may be unknown", 128 + number)


async def _sign_in(client: QxtClient) -> None:
    """Have the account checked; a gateway that cannot be asked now is waited for by the worker.

    Raises:
        AccountRefusedError: it is refused.
    """
    from qxt_async import AccountRefusedError, QxtError

    try:
        await client.balance()
    except AccountRefusedError:
        raise
    except QxtError as error:
        click.echo(f"the account is not checked yet: {error}", err=True)


async def _run(worker: CampaignWorker, client: QxtClient | None) -> list[signal.Signals]:
    """Run a worker until it is stopped; `client` is the one whose account is checked before, if any."""
    signing_in = anyio.CancelScope()

    def stop() -> None:
        signing_in.cancel()
        worker.stop()

    async def work() -> None:
        with signing_in:
            if client is not None:
                await _sign_in(client)
        if not worker.stopping:
            click.echo("working", err=True)
            await worker.run()

    return await run_stoppable(work, stop)
