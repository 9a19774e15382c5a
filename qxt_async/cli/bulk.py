"""``qxt bulk``."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

import click

from qxt_async.cli.journals import opted_out_option, say_left_out
from qxt_async.cli.options import (
    account,
    account_options,
    as_json,
    file_argument,
    file_options,
    message_options,
    suppressed_option,
    text_option,
    verbose,
)

if TYPE_CHECKING:
    import anyio

    from qxt_async import BulkStream, QxtClient
    from qxt_async.cli.ledger import SendSummary
    from qxt_async.cli.screening import FileNumbers
    from qxt_async.cli.stopping import Ended

__all__ = ["command"]


@click.command("bulk")
@file_argument
@text_option
@file_options
@suppressed_option
@opted_out_option
@message_options
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    metavar="N",
    help="Requests in flight at most.",
)
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="N", help="Numbers a second at most.")
@click.option("--check-balance", is_flag=True, help="Ask first whether the balance suffices; not with FILE -.")
@click.option("--failed-to", metavar="FILE", help="Write the numbers that failed there, one a line.")
@click.option("--unknown-to", metavar="FILE", help="Write the numbers whose outcome is unknown there.")
@click.option(
    "--unsent-to", metavar="FILE", help="If it stops early, write the numbers that were not sent there, to go on with."
)
@account_options
@as_json
@verbose
def command(
    file: str,
    text: str,
    column: str | None,
    encoding: str | None,
    sheet: str | int,
    suppressed: str | None,
    journal: str | None,
    extno: str | None,
    addseqno: bool,
    substitute: bool,
    literal: bool,
    concurrency: int,
    rate: float | None,
    check_balance: bool,
    failed_to: str | None,
    unknown_to: str | None,
    unsent_to: str | None,
    user: str | None,
    base_url: str | None,
    transport: str,
    timeout: float,
    as_json: bool,
    verbose: bool,
) -> None:
    """Send one text to every number in a file.

    FILE is a text file (one number a line; blank lines and lines that begin with # are skipped), a CSV file with or
    without a header, in UTF-8, GBK or UTF-16, or an XLSX or Parquet file; - is standard input (text or CSV). Invalid,
    repeated and suppressed numbers are left out and counted. A file is read through once before the first text is
    sent, so that one that cannot be decoded sends nothing. A text with what looks like a column, such as {name}, is
    refused without --literal: all get the same text.

    Ctrl-C or SIGTERM: no further request is begun, those under way get 5 seconds, a second one cuts them off. With
    --unsent-to the numbers that provably were not sent, and those that were not begun, are kept in a file then:
    qxt bulk with that file and the same text goes on, and texts nobody twice.

    With --json: {"accepted", "failed", "unknown", "invalid", "duplicates", "suppressed", "unsent", "batches", "mids":
    […], "errors": [{"error", "message", "numbers", "batches"}], "elapsed", "interrupted"}.
    """
    from qxt_async import QxtClient
    from qxt_async.cli.display import progress
    from qxt_async.cli.ledger import NumbersFile, SendSummary, keep_apart
    from qxt_async.cli.reporting import finish
    from qxt_async.cli.screening import FileNumbers, read_suppressed, survey
    from qxt_async.cli.stopping import RetryingWithin, run_until_stopped
    from qxt_async.files import TableFile
    from qxt_async.files.readers import is_regular
    from qxt_async.files.templates import check_no_placeholders
    from qxt_async.protocol.texts import segments
    from qxt_async.protocol.texts import substitute as substituted

    if not literal:
        check_no_placeholders(text)
    options = account(user, base_url)
    left_out = read_suppressed(suppressed, journal)
    ledger = SendSummary(
        NumbersFile(failed_to, "--failed-to"),
        NumbersFile(unknown_to, "--unknown-to"),
        NumbersFile(unsent_to, "--unsent-to"),
    )
    keep_apart(ledger.failed_to, ledger.unknown_to, ledger.unsent_to)
    table = TableFile(file, column=column, encoding=encoding, sheet=sheet)
    regular = is_regular(file)
    needed = 0
    total: int | None = None
    if check_balance:
        if not regular:
            raise click.UsageError("--check-balance reads FILE twice, and this one can be read once only.")
        first_look, valid = survey(table, left_out)
        total = first_look.screen.number_filter.read
        needed = valid * segments(substituted(text) if substitute else text, addseqno=addseqno)
    elif regular:
        with FileNumbers(table) as to_count:
            total = to_count.count()
    streams: list[BulkStream] = []
    with FileNumbers(table, on_header=None if literal else functools.partial(check_no_placeholders, text)) as source:

        async def work(beginning: anyio.CancelScope) -> None:
            client = QxtClient.from_env(
                **options, transport=transport, timeout=timeout, max_concurrency=concurrency, max_rate=rate
            )
            with progress(total, plain=verbose) as show:
                async with client:
                    stream = client.stream_bulk(
                        source,
                        text,
                        extno=extno,
                        addseqno=addseqno,
                        substitute=substitute,
                        suppressed=left_out,
                        retry=RetryingWithin(beginning),
                        on_result=ledger.add,
                        on_progress=show,
                    )
                    if check_balance:
                        await _require(client, needed)
                    if not beginning.cancel_called:
                        streams.append(stream)
                        await _drain(stream, beginning, ledger)

        def tell(ended: Ended) -> None:
            for stream in streams:
                if ledger.unsent_to.path is not None:
                    _keep_unsent(stream, source, ledger, regular=regular)
                ledger.duplicates = stream.number_filter.duplicates
                ledger.suppressed = stream.number_filter.suppressed_count
            ledger.close()
            number_filter = source.screen.number_filter
            ledger.invalid = number_filter.invalid_count
            # What was read and not given on, or never read, was not sent either.
            handled = ledger.settled + ledger.invalid + ledger.duplicates + ledger.suppressed
            ledger.unsent = max(total or 0, number_filter.read) - handled
            for line in source.screen.remarks():
                click.echo(line, err=True)
            say_left_out(ledger.suppressed, journal, suppressed)
            finish(ledger, ended, as_json=as_json)

        tell(run_until_stopped(work))


def _keep_unsent(stream: BulkStream, source: FileNumbers, ledger: SendSummary, *, regular: bool) -> None:
    """Write down what was not begun. Of a pipe that is what was read: it may give no more for hours."""
    from qxt_async import QxtError

    file = ledger.unsent_to
    try:
        file.write(stream.unsent)
        for numbers in source.blocks() if regular else (source.ready(),):
            # Through the same gate as all before: who got the text already is not in the file.
            file.write(stream.number_filter.filter(numbers))
    except (QxtError, OSError) as error:
        click.echo(f"{file.option} {file.path}: not all of the numbers that were not sent are in it: {error}", err=True)


async def _require(client: QxtClient, needed: int) -> None:
    from qxt_async import InsufficientBalanceError

    available = (await client.balance()).sms
    if available < needed:
        raise InsufficientBalanceError(needed, available)


async def _drain(stream: BulkStream, beginning: anyio.CancelScope, ledger: SendSummary) -> None:
    """Send until the source ends; when `beginning` is cancelled, wait for what is under way."""
    from qxt_async import BulkStoppedError, QxtError

    began = time.monotonic()
    try:
        async with stream:
            with beginning:
                async for _ in stream:
                    pass
    except BulkStoppedError as error:
        if error.__cause__ is not None and (error.origin == "callback" or isinstance(error.__cause__, QxtError)):
            raise error.__cause__ from None
        raise
    finally:
        ledger.elapsed = time.monotonic() - began
