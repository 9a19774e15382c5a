"""``qxt campaign run`` and ``resume``: sending here, or on workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import anyio
import attrs
import click
from click.core import ParameterSource

from qxt_async.campaign import BatchState, Campaigns, CampaignState, RunOptions
from qxt_async.cli.campaign.access import current_user, id_argument, use_campaigns
from qxt_async.cli.campaign.state import print_state
from qxt_async.cli.exit_codes import FailedError, code_of_outcome, code_of_signal
from qxt_async.cli.journals import journal_option, open_existing
from qxt_async.cli.options import (
    AccountOptions,
    GuardOptions,
    ThroughputOptions,
    account_options,
    as_json,
    guard_options,
    option_group,
    throughput_options,
    verbose,
)
from qxt_async.cli.progress import Snapshot, show_progress
from qxt_async.cli.stopping import run_stoppable
from qxt_async.runtime.words import plural

if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence

    from qxt_async.campaign import CampaignCounts, ResendQuote, RunProgress


@attrs.frozen(kw_only=True, repr=False)
class TestOptions:
    """The test before a run."""

    test_numbers: tuple[str, ...]
    pause_after_test: bool


@attrs.frozen(repr=False)
class SendingOptions:
    """How this process sends a campaign; workers have options of their own."""

    throughput: ThroughputOptions
    test: TestOptions
    guard: GuardOptions
    account: AccountOptions

    async def send(self, campaign: int, journal: str, *, as_json: bool) -> None:
        """Run a campaign, show its progress, and end the command with its exit code."""
        guard = self.guard.options()
        client = self.account.sign_in()(max_concurrency=self.throughput.concurrency, max_rate=self.throughput.rate)
        async with open_existing(journal) as opened, client:
            campaigns = Campaigns(opened, client)
            with show_progress(snapshot_of) as show:
                options = RunOptions(
                    **guard,
                    test_numbers=self.test.test_numbers,
                    pause_after_test=self.test.pause_after_test,
                    on_progress=show,
                    show_deliveries=True,
                    actor=current_user(),
                )
                signals = await run_stoppable(lambda: campaigns.run(campaign, options), campaigns.stop)
            counts = await print_state(campaigns, campaign, as_json=as_json)
        finish(campaign, counts, signals)


sending_options = option_group(
    "sending",
    SendingOptions,
    throughput_options,
    option_group(
        "test",
        TestOptions,
        click.option("--test", "test_numbers", multiple=True, metavar="NUMBER", help="Send to this number first."),
        click.option("--pause-after-test", is_flag=True, help="Pause then, to look at the phone."),
    ),
    guard_options,
    account_options,
)


def _refuse_sending_options(ctx: click.Context) -> None:
    """Refuse options for sending here, because workers send."""
    for group in (ThroughputOptions, TestOptions, GuardOptions, AccountOptions):
        for field in attrs.fields(group):
            if ctx.get_parameter_source(field.name) is ParameterSource.COMMANDLINE:
                option = field.name.replace("_", "-")
                raise click.UsageError(f"--{option} is an option of qxt worker: workers send this campaign.")


@click.command("run")
@id_argument
@click.option("--on-workers", is_flag=True, help="Leave the sending to qxt worker; only watch here.")
@click.option("--priority", type=int, metavar="N", help="On workers: before campaigns with a lower one (0).")
@sending_options
@journal_option
@as_json
@verbose
@click.pass_context
def run(
    ctx: click.Context,
    /,
    campaign: int,
    on_workers: bool,
    priority: int | None,
    sending: SendingOptions,
    journal: str,
    as_json: bool,
) -> None:
    """Send what is planned, until nothing is left or it is paused.

    Running again continues a run that was interrupted: batches that a process had under way when it died become
    unknown, the rest is sent. Several processes may run one campaign. Ctrl-C or SIGTERM lets the batches under way
    finish; a second signal does not wait. From another terminal: qxt campaign pause ID.

    With --on-workers the workers of a journal on PostgreSQL send (qxt worker has the options for how), and Ctrl-C ends
    only the watching; qxt campaign resume leaves the campaign to them again.

    Exit codes: 0 all accepted, 1 something failed or is not sent yet, 2 usage, 3 something unknown, 130 or 143 stopped
    by Ctrl-C or SIGTERM.
    """
    if on_workers:
        _refuse_sending_options(ctx)
        anyio.run(_watch_workers, campaign, journal, priority, as_json)
    if priority is not None:
        raise click.UsageError("--priority is for --on-workers: here one campaign is sent.")
    anyio.run(lambda: sending.send(campaign, journal, as_json=as_json))


@click.command("resume")
@id_argument
@click.option("--resend-unknown", is_flag=True, help="Send unknown numbers again; may text twice.")
@click.option("--resend-failed", is_flag=True, help="Send failed numbers again.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation of a resend.")
@click.option("--order-only", is_flag=True, help="Record the order for a process elsewhere; send nothing here.")
@sending_options
@journal_option
@as_json
@verbose
@click.pass_context
def resume(
    ctx: click.Context,
    /,
    campaign: int,
    resend_unknown: bool,
    resend_failed: bool,
    yes: bool,
    order_only: bool,
    sending: SendingOptions,
    journal: str,
    as_json: bool,
) -> None:
    """Continue after a pause, a cancellation or a crash, and send what is planned.

    Unknown or failed numbers are sent again only if that is ordered, with --resend-unknown, --resend-failed or both.
    The command first shows how many numbers that is, and how many credits it costs. People may get the text twice.

    A campaign whose last run was left to workers (qxt campaign run --on-workers) is left to them again.
    """
    on_workers = use_campaigns(journal, lambda campaigns: campaigns.get(campaign)).on_workers
    if on_workers:
        _refuse_sending_options(ctx)
    wanted = ((BatchState.UNKNOWN, resend_unknown), (BatchState.FAILED, resend_failed))
    if states := [state for state, is_wanted in wanted if is_wanted]:
        _order_resend(campaign, journal, states, yes=yes)
    use_campaigns(journal, lambda campaigns: _resume(campaigns, campaign))
    if order_only:
        return
    if on_workers:
        anyio.run(_watch_workers, campaign, journal, None, as_json)
    anyio.run(lambda: sending.send(campaign, journal, as_json=as_json))


def _order_resend(campaign: int, journal: str, states: Sequence[BatchState], *, yes: bool) -> None:
    """Show what would be sent again, have it confirmed, and order it."""

    async def preview(campaigns: Campaigns) -> dict[BatchState, ResendQuote]:
        quotes = {state: await campaigns.preview_resend(campaign, state) for state in states}
        return {state: quote for state, quote in quotes.items() if quote.numbers}

    async def order(campaigns: Campaigns) -> None:
        for state, quote in quotes.items():
            await campaigns.resend(campaign, state, expected=quote, actor=current_user())

    quotes = use_campaigns(journal, preview)
    if not quotes:
        raise FailedError(f"no number of campaign {campaign} is {' or '.join(state.value for state in states)}")
    for state, quote in quotes.items():
        twice = "; they may have the text already" if state is BatchState.UNKNOWN else ""
        numbers, credits_ = plural(quote.numbers, f"{state.value} number"), plural(quote.credits, "credit")
        click.echo(f"{numbers} would be sent again for {credits_}{twice}", err=True)
    if not yes:
        click.confirm("Send them again?", abort=True, err=True)
    use_campaigns(journal, order)


async def _resume(campaigns: Campaigns, campaign: int) -> None:
    found = await campaigns.get(campaign)
    if found.state in {CampaignState.PAUSED, CampaignState.CANCELLED}:
        await campaigns.resume(campaign, actor=current_user())


async def _watch_workers(campaign: int, journal: str, priority: int | None, as_json: bool) -> None:
    """Let workers send a campaign, show its progress, and end the command with its exit code."""
    from qxt_async.workers import run_on_workers

    async with open_existing(journal) as opened:
        with show_progress(snapshot_of) as show:
            options = RunOptions(on_progress=show, show_deliveries=True, actor=current_user())
            await run_on_workers(opened, campaign, options, priority=priority)
        counts = await print_state(Campaigns(opened), campaign, as_json=as_json)
    finish(campaign, counts)


def snapshot_of(now: RunProgress) -> Snapshot:
    """What is shown of a run."""
    counts = now.counts
    delivered = 0 if now.deliveries is None else now.deliveries.delivered
    notes = (
        f"delivered {delivered:,}" if delivered else "",
        f"balance {now.balance:,}" if now.balance is not None else "",
        f"waiting: {now.waiting}" if now.waiting else "",
    )
    return Snapshot(
        done=counts.numbers - counts.planned - counts.sending,
        total=counts.numbers,
        speed=now.speed,
        seconds_left=now.seconds_left,
        accepted=counts.accepted,
        failed=counts.failed,
        unknown=counts.unknown,
        notes=tuple(filter(None, notes)),
    )


def finish(campaign: int, counts: CampaignCounts, signals: Sequence[signal.Signals] = ()) -> NoReturn:
    """End a command that sent with its exit code."""
    for number in signals[:1]:
        advice = f"; continue with: qxt campaign run {campaign}" if counts.planned or counts.sending else ""
        raise FailedError(f"stopped by {number.name}{advice}", code_of_signal(number))
    if counts.planned and not counts.unknown:
        raise FailedError(f"not all is sent: continue with: qxt campaign resume {campaign}")
    if counts.sending and not counts.unknown:
        numbers = plural(counts.sending, "number")
        raise FailedError(f"{numbers} under way in another process: look again with: qxt campaign status {campaign}")
    raise click.exceptions.Exit(code_of_outcome(failed=bool(counts.failed), unknown=bool(counts.unknown)))
