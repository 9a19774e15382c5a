"""``qxt send``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from qxt_async.cli.journals import opted_out, opted_out_option, say_left_out
from qxt_async.cli.options import account, account_options, as_json, message_options, text_option, verbose

if TYPE_CHECKING:
    import anyio

__all__ = ["command"]


@click.command("send")
@click.argument("numbers", nargs=-1, required=True, metavar="NUMBER…")
@text_option
@opted_out_option
@message_options
@account_options
@as_json
@verbose
def command(
    numbers: tuple[str, ...],
    text: str,
    journal: str | None,
    extno: str | None,
    addseqno: bool,
    substitute: bool,
    literal: bool,
    user: str | None,
    base_url: str | None,
    transport: str,
    timeout: float,
    as_json: bool,
    verbose: bool,  # noqa: ARG001
) -> None:
    """Send one text to one number or a few.

    At most 1000 numbers, in one request. Invalid, repeated and suppressed ones are left out and reported; if one was
    invalid, the exit code is 1. A text with what looks like a column, such as {name}, is refused without --literal.
    Prints the mid.
    """
    from qxt_async import BatchResult, QxtClient
    from qxt_async.cli.ledger import SendSummary
    from qxt_async.cli.reporting import finish
    from qxt_async.cli.stopping import RetryingWithin, run_until_stopped
    from qxt_async.files.templates import check_no_placeholders
    from qxt_async.models import mask
    from qxt_async.protocol.numbers import Deduplicator, NumberFilter

    if not literal:
        check_no_placeholders(text)
    options = account(user, base_url)
    left_out = frozenset[str]() if journal is None else opted_out(journal)
    ledger = SendSummary(invalid_fails=True)
    number_filter = NumberFilter(seen=Deduplicator(few=True), suppressed=left_out)
    number_filter.filter(numbers)
    say_left_out(number_filter.suppressed_count, journal)

    def take(result: BatchResult) -> None:
        ledger.add(result)
        ledger.invalid = len(result.invalid)
        ledger.duplicates = result.duplicates
        ledger.suppressed = result.suppressed
        ledger.elapsed = result.elapsed
        for each in result.invalid:
            click.echo(f"number {each.position + 1}: {mask(each.raw)!r}: {each.reason}", err=True)

    async def work(beginning: anyio.CancelScope) -> None:
        async with QxtClient.from_env(**options, transport=transport, timeout=timeout) as client:
            await client.send(
                numbers,
                text,
                extno=extno,
                addseqno=addseqno,
                substitute=substitute,
                suppressed=left_out,
                retry=RetryingWithin(beginning),
                on_result=take,
            )

    finish(ledger, run_until_stopped(work), as_json=as_json)
