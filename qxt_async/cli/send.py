"""``qxt send``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from qxt_async.cli.journals import Exclusions, journal_exclusions, key_option
from qxt_async.cli.message_options import MessageOptions, message_options
from qxt_async.cli.options import AccountOptions, account_options, as_json, verbose
from qxt_async.cli.stopping import RetryingWithin, run_until_stopped
from qxt_async.cli.summary import SendSummary, finish
from qxt_async.models import mask
from qxt_async.protocol.numbers import Deduplicator, NumberFilter

if TYPE_CHECKING:
    import anyio

    from qxt_async import BatchResult
    from qxt_async.journal import Journal


@click.command("send")
@click.argument("numbers", nargs=-1, required=True, metavar="NUMBER…")
@message_options
@key_option
@journal_exclusions
@account_options
@as_json
@verbose
def command(
    numbers: tuple[str, ...],
    message: MessageOptions,
    key: str | None,
    exclusions: Exclusions,
    account: AccountOptions,
    as_json: bool,
) -> None:
    """Send one text to one number or a few.

    At most 1000 numbers, in one request. Invalid, repeated and suppressed numbers are left out and reported; if one was
    invalid, the exit code is 1. A text with what looks like a column, such as {name}, is refused without --literal.
    Prints the mid.
    """
    message.check_columns()
    make_client = account.sign_in()
    excluded = exclusions.read()
    summary = SendSummary(invalid_fails=True)
    number_filter = NumberFilter(seen=Deduplicator(few=True), suppressed=excluded)
    number_filter.filter(numbers)
    exclusions.print_count(number_filter.suppressed_count)

    def add(result: BatchResult) -> None:
        if result.replayed:
            click.echo("this key was used before: nothing was sent now", err=True)
        summary.add(result)
        summary.counts.invalid = len(result.invalid)
        summary.counts.duplicates = result.duplicates
        summary.counts.suppressed = result.suppressed
        summary.elapsed = result.elapsed
        for each in result.invalid:
            click.echo(f"number {each.position + 1}: {mask(each.raw)!r}: {each.reason}", err=True)

    async def send(beginning: anyio.CancelScope, journal: Journal | None) -> None:
        async with make_client(journal=journal) as client:
            await client.send(
                numbers,
                message.text,
                extno=message.extno,
                addseqno=message.addseqno,
                substitute=message.substitute,
                suppressed=excluded,
                retry=RetryingWithin(beginning=beginning),
                on_result=add,
                idempotency_key=key,
            )

    async def work(beginning: anyio.CancelScope) -> None:
        if key is None:
            await send(beginning, None)
            return
        from qxt_async.journal import open_journal

        async with open_journal(str(exclusions.journal)) as journal:
            await send(beginning, journal)

    finish(summary, run_until_stopped(work), as_json=as_json)
