"""``qxt bulk``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import attrs
import click

from qxt_async import BulkStoppedError, InsufficientBalanceError, QxtError
from qxt_async.cli.journals import Exclusions, number_exclusions
from qxt_async.cli.message_options import MessageOptions, message_options
from qxt_async.cli.number_files import NumberReader, NumberWriter, read_all, refuse_same_file
from qxt_async.cli.options import (
    AccountOptions,
    FileOptions,
    ThroughputOptions,
    account_options,
    as_json,
    file_argument,
    file_options,
    option_group,
    throughput_options,
    verbose,
)
from qxt_async.cli.progress import Snapshot, show_progress
from qxt_async.cli.stopping import RetryingWithin, run_until_stopped
from qxt_async.cli.summary import SendSummary, finish
from qxt_async.files.readers import is_regular
from qxt_async.protocol import texts

if TYPE_CHECKING:
    from collections.abc import Container

    import anyio

    from qxt_async import BulkStream, Progress, QxtClient
    from qxt_async.files import TableFile


@attrs.frozen(kw_only=True, repr=False)
class OutputOptions:
    """Files for the numbers that were not accepted."""

    failed_to: str | None
    unknown_to: str | None
    unsent_to: str | None

    def open(self) -> SendSummary:
        """Open the files, in a summary that is empty."""
        summary = SendSummary(
            failed_to=NumberWriter(self.failed_to, "--failed-to"),
            unknown_to=NumberWriter(self.unknown_to, "--unknown-to"),
            unsent_to=NumberWriter(self.unsent_to, "--unsent-to"),
        )
        refuse_same_file(summary.failed_to, summary.unknown_to, summary.unsent_to)
        return summary


output_options = option_group(
    "outputs",
    OutputOptions,
    click.option("--failed-to", metavar="FILE", help="Write the numbers that failed there, one a line."),
    click.option("--unknown-to", metavar="FILE", help="Write the numbers whose outcome is unknown there."),
    click.option(
        "--unsent-to",
        metavar="FILE",
        help="If the send stops early, write the numbers that were not sent there, to continue with.",
    ),
)


@click.command("bulk")
@file_argument
@message_options
@file_options
@number_exclusions
@throughput_options
@click.option("--check-balance", is_flag=True, help="Ask first whether the balance suffices; not with FILE -.")
@output_options
@account_options
@as_json
@verbose
def command(
    file: str,
    message: MessageOptions,
    reading: FileOptions,
    exclusions: Exclusions,
    throughput: ThroughputOptions,
    check_balance: bool,
    outputs: OutputOptions,
    account: AccountOptions,
    as_json: bool,
) -> None:
    """Send one text to every number in a file.

    FILE is a text file (one number a line; blank lines and lines that begin with # are skipped), a CSV file with or
    without a header, in UTF-8, GBK or UTF-16, or an XLSX or Parquet file; - is standard input (text or CSV). Invalid,
    repeated and suppressed numbers are left out and counted. A file is read through once before the first text is
    sent, so that one that cannot be decoded sends nothing. A text with what looks like a column, such as {name}, is
    refused without --literal: all get the same text.

    Ctrl-C or SIGTERM: no further request is begun, those under way get 5 seconds, a second signal cancels them. With
    --unsent-to the numbers that provably were not sent, and those that were not begun, are then kept in a file:
    qxt bulk with that file and the same text continues, and texts nobody twice.

    With --json: {"accepted", "failed", "unknown", "invalid", "duplicates", "suppressed", "unsent", "batches", "mids":
    […], "errors": [{"error", "message", "numbers", "batches"}], "elapsed", "interrupted"}.
    """
    message.check_columns()
    make_client = account.sign_in()
    excluded = exclusions.read()
    summary = outputs.open()
    table = reading.table(file)
    total, needed = _first_reading(table, message, excluded, check_balance=check_balance)
    with NumberReader(table, on_header=message.check_columns) as source:
        bulk = _BulkSend(source, message, excluded, summary, total=total, needed=needed)
        ended = run_until_stopped(
            lambda beginning: bulk.run(
                beginning, make_client(max_concurrency=throughput.concurrency, max_rate=throughput.rate)
            )
        )
        bulk.count_the_rest()
        source.print_invalid_lines()
        exclusions.print_count(summary.counts.suppressed)
        finish(summary, ended, as_json=as_json)


def _first_reading(
    table: TableFile, message: MessageOptions, excluded: Container[str], *, check_balance: bool
) -> tuple[int | None, int]:
    """Read a file that can be read again: how many entries it has, and the credits that have to be there."""
    if not is_regular(table.path):
        if check_balance:
            raise click.UsageError("--check-balance reads FILE twice, and this one can be read once only.")
        return None, 0
    if not check_balance:
        with NumberReader(table) as entries:
            return entries.count_entries(), 0
    numbers, valid = read_all(table, excluded)
    text = texts.substitute(message.text) if message.substitute else message.text
    return numbers.number_filter.read, valid * texts.segments(text, addseqno=message.addseqno)


@attrs.define(repr=False)
class _BulkSend:
    """One bulk send of numbers from a file.

    Attributes:
        source: the file.
        message: what is sent.
        excluded: numbers to leave out.
        summary: gets the results.
        total: entries in the file, ``None`` if that is not known.
        needed: credits that the balance must have; 0 does not ask.
    """

    source: NumberReader
    message: MessageOptions
    excluded: Container[str]
    summary: SendSummary
    total: int | None = attrs.field(kw_only=True)
    needed: int = attrs.field(kw_only=True)
    _stream: BulkStream | None = attrs.field(default=None, init=False)

    async def run(self, beginning: anyio.CancelScope, client: QxtClient) -> None:
        """Send until the file ends; when `beginning` is cancelled, wait for the requests under way."""
        with show_progress(self._snapshot, tenths=True) as show:
            async with client:
                stream = client.stream_bulk(
                    self.source,
                    self.message.text,
                    extno=self.message.extno,
                    addseqno=self.message.addseqno,
                    substitute=self.message.substitute,
                    suppressed=self.excluded,
                    retry=RetryingWithin(beginning=beginning),
                    on_result=self.summary.add,
                    on_progress=show,
                )
                if self.needed:
                    await _require_balance(client, self.needed)
                if not beginning.cancel_called:
                    self._stream = stream
                    await self._drain(stream, beginning)

    async def _drain(self, stream: BulkStream, beginning: anyio.CancelScope) -> None:
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
            self.summary.elapsed = time.monotonic() - began

    def _snapshot(self, now: Progress) -> Snapshot:
        settled = now.accepted + now.failed + now.unknown
        done = settled + now.duplicates + now.suppressed
        elapsed = max(now.elapsed, 1e-9)
        return Snapshot(
            done=done,
            total=self.total,
            speed=settled / elapsed,
            seconds_left=None if self.total is None or not done else max(self.total - done, 0) * elapsed / done,
            accepted=now.accepted,
            failed=now.failed,
            unknown=now.unknown,
        )

    def count_the_rest(self) -> None:
        """Count the numbers that were left out or not sent, write the latter to their file, and close the files."""
        summary, stream = self.summary, self._stream
        if stream is not None:
            if summary.unsent_to.path is not None:
                self._write_unsent(stream)
            summary.counts.duplicates = stream.number_filter.duplicates
            summary.counts.suppressed = stream.number_filter.suppressed_count
        summary.close()
        counts, read = summary.counts, self.source.number_filter
        counts.invalid = read.invalid_count
        # Numbers that were read and not given to the client, or never read, were not sent either.
        counts.unsent = max(self.total or 0, read.read) - (
            counts.settled + counts.invalid + counts.duplicates + counts.suppressed
        )

    def _write_unsent(self, stream: BulkStream) -> None:
        """Write the numbers that were not begun. A pipe is not read on: it may give no more for hours."""
        file = self.summary.unsent_to
        try:
            file.write(stream.unsent)
            for numbers in self.source.blocks() if self.total is not None else (self.source.ready(),):
                # The filter of the send leaves out repeated numbers: those that got the text already.
                file.write(stream.number_filter.filter(numbers))
        except (QxtError, OSError) as error:
            click.echo(f"{file.option} {file.path}: it does not have all numbers that were not sent: {error}", err=True)


async def _require_balance(client: QxtClient, needed: int) -> None:
    available = (await client.balance()).sms
    if available < needed:
        raise InsufficientBalanceError(needed, available)
