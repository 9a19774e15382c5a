"""Running a campaign from the command line: options, progress, the end."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from qxt_async.cli.campaign.shared import existing, finish, ordered_by, print_state
from qxt_async.cli.display import draws_bars
from qxt_async.cli.options import account, all_of, guard_options
from qxt_async.cli.stopping import run_stoppable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from qxt_async.campaign import RunProgress

__all__ = ["refuse_options_of_workers", "send", "send_on_workers", "sending_options", "shown_progress"]

_SECONDS_BETWEEN_LINES = 30.0

sending_options = all_of(
    click.option(
        "--concurrency",
        type=click.IntRange(min=1),
        default=8,
        show_default=True,
        metavar="N",
        help="Requests in flight at most.",
    ),
    click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="N", help="Numbers a second at most."),
    click.option("--test", "test_numbers", multiple=True, metavar="NUMBER", help="Send to this number first."),
    click.option("--pause-after-test", is_flag=True, help="Pause then, to look at the phone."),
    guard_options,
)


async def send(campaign: int, journal: str, options: dict[str, Any], as_json: bool, verbose: bool) -> None:
    """Run a campaign, show how far it is, and end the command with its exit code."""
    from qxt_async import QxtClient
    from qxt_async.campaign import Campaigns, RunOptions, SendWindow

    window = SendWindow.parse(options["window"], options["zone"]) if options["window"] else None
    client = QxtClient.from_env(
        **account(options["user"], options["base_url"]),
        transport=options["transport"],
        timeout=options["timeout"],
        max_concurrency=options["concurrency"],
        max_rate=options["rate"],
    )
    async with existing(journal) as opened, client:
        with shown_progress(plain=verbose) as show:
            run_options = RunOptions(
                check_balance=not options["no_check_balance"],
                min_balance=options["min_balance"],
                max_consecutive_failures=options["max_consecutive_failures"],
                window=window,
                test_numbers=options["test_numbers"],
                pause_after_test=options["pause_after_test"],
                on_progress=show,
                show_deliveries=True,
                actor=ordered_by(),
            )
            campaigns = Campaigns(opened, client)
            signals = await run_stoppable(lambda: campaigns.run(campaign, run_options), campaigns.stop)
        counts = await print_state(opened, campaign, as_json=as_json)
    finish(campaign, counts, *signals[:1])


def refuse_options_of_workers(ctx: click.Context, options: Iterable[str]) -> None:
    """Raise a usage error for what was given for sending here, though workers send."""
    for name in options:
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"--{name.replace('_', '-')} is an option of qxt worker: workers send this campaign."
            )


async def send_on_workers(campaign: int, journal: str, priority: int | None, as_json: bool, verbose: bool) -> None:
    """Let workers elsewhere send a campaign, show how far it is, and end the command with its exit code."""
    from qxt_async.campaign import RunOptions
    from qxt_async.workers import run_on_workers

    async with existing(journal) as opened:
        with shown_progress(plain=verbose) as show:
            options = RunOptions(on_progress=show, show_deliveries=True, actor=ordered_by())
            await run_on_workers(opened, campaign, options, priority=priority)
        counts = await print_state(opened, campaign, as_json=as_json)
    finish(campaign, counts)


@contextmanager
def shown_progress(*, plain: bool) -> Generator[Callable[[RunProgress], None]]:
    """Show how far a run is, on stderr: a bar if it can be drawn, else a line every half minute."""
    if draws_bars(plain=plain):
        with _bar() as show:
            yield show
    else:
        yield _lines()


def _settled(now: RunProgress) -> int:
    return now.counts.numbers - now.counts.planned - now.counts.sending


def _lines() -> Callable[[RunProgress], None]:
    last = time.monotonic()

    def show(now: RunProgress) -> None:
        nonlocal last
        if time.monotonic() - last < _SECONDS_BETWEEN_LINES:
            return
        last = time.monotonic()
        counts = now.counts
        click.echo(
            f"{_settled(now):,} of {counts.numbers:,}, {now.speed:,.0f} numbers/s: accepted {counts.accepted:,}, "
            f"failed {counts.failed:,}, unknown {counts.unknown:,}{_asides(now)}",
            err=True,
        )

    return show


def _asides(now: RunProgress) -> str:
    delivered = now.deliveries.delivered if now.deliveries is not None else 0
    asides = [
        f"delivered {delivered:,}" if delivered else "",
        f"balance {now.balance:,}" if now.balance is not None else "",
        f"waiting: {now.waiting}" if now.waiting else "",
    ]
    return "".join(f", {aside}" for aside in asides if aside)


@contextmanager
def _bar() -> Generator[Callable[[RunProgress], None]]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn

    from qxt_async.cli.display import count_markup
    from qxt_async.runtime.words import share

    columns = (
        BarColumn(None),
        TextColumn("{task.fields[share]}"),
        TextColumn("{task.fields[speed]}"),
        TextColumn("{task.fields[states]}"),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=Console(stderr=True), expand=True) as bar:
        task = bar.add_task("", total=None, share="", speed="", states="", left="")

        def show(now: RunProgress) -> None:
            counts = now.counts
            left = (
                "" if now.seconds_left is None else f"{now.seconds_left // 60:,.0f}:{now.seconds_left % 60:02.0f} left"
            )
            bar.update(
                task,
                total=counts.numbers,
                completed=_settled(now),
                share=share(_settled(now), counts.numbers),
                speed=f"{now.speed:,.0f}/s",
                states="  ".join(
                    count_markup(name, getattr(counts, name)) for name in ("accepted", "failed", "unknown")
                )
                + escape(_asides(now)),
                left=left,
            )

        yield show
