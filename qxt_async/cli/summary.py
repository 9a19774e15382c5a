"""The outcomes of one send, summed up for people and for programs, and the end of a command that sends."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import attrs
import click

from qxt_async.cli.exit_codes import ExitCode, FailedError, code_of_error, code_of_outcome, code_of_signal
from qxt_async.cli.number_files import NumberWriter
from qxt_async.cli.printing import print_json, print_table
from qxt_async.errors import NotSentError, QxtError
from qxt_async.models import mask
from qxt_async.runtime.words import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qxt_async.cli.stopping import Ended
    from qxt_async.models import BatchResult

_SHOWN_NUMBERS = 3
_SHOWN_ERRORS = 10
_SHOWN_MIDS = 3


@attrs.define(kw_only=True)
class NumberCounts:
    """Numbers by outcome.

    Attributes:
        unsent: numbers that were not tried, because the send stopped early.
    """

    accepted: int = 0
    failed: int = 0
    unknown: int = 0
    invalid: int = 0
    duplicates: int = 0
    suppressed: int = 0
    unsent: int = 0

    @property
    def settled(self) -> int:
        """Numbers with an outcome."""
        return self.accepted + self.failed + self.unknown


@attrs.define(kw_only=True)
class _ErrorCount:
    """One kind of error, and what it met."""

    error: str
    message: str
    numbers: int = 0
    batches: int = 0


@attrs.define(kw_only=True)
class SendSummary:
    """Sums up results as they come, in constant memory except for the mids.

    Attributes:
        failed_to, unknown_to: where whole numbers go.
        unsent_to: where numbers go that provably were not sent; without it they go to `failed_to`.
        invalid_fails: whether an invalid number is a failure: one that a person typed, not one of a file.
        counts: the numbers.
        batches: results.
        mids: the message ids.
        elapsed: seconds.
    """

    failed_to: NumberWriter = attrs.Factory(NumberWriter)
    unknown_to: NumberWriter = attrs.Factory(NumberWriter)
    unsent_to: NumberWriter = attrs.Factory(NumberWriter)
    invalid_fails: bool = False
    counts: NumberCounts = attrs.Factory(NumberCounts)
    batches: int = 0
    mids: list[str] = attrs.Factory(list[str])
    elapsed: float = 0.0
    _errors: dict[str, _ErrorCount] = attrs.field(factory=dict[str, _ErrorCount], repr=False)
    _examples: dict[str, list[str]] = attrs.field(factory=lambda: {"failed": [], "unknown": []})

    def add(self, result: BatchResult) -> None:
        """Add one result, and write its whole numbers to the files."""
        self.batches += 1
        self.counts.accepted += len(result.accepted)
        self.counts.failed += len(result.failed)
        self.counts.unknown += len(result.unknown)
        self.mids.extend(result.mids)
        for state, numbers in (("failed", result.failed), ("unknown", result.unknown)):
            examples = self._examples[state]
            examples.extend(mask(number) for number in numbers[: _SHOWN_NUMBERS - len(examples)])
        if (error := result.error) is not None:
            met = self._errors.setdefault(error.label, _ErrorCount(error=error.label, message=str(error)))
            met.numbers += len(result.failed) + len(result.unknown)
            met.batches += 1
        not_sent = isinstance(error, NotSentError) and self.unsent_to.path is not None
        (self.unsent_to if not_sent else self.failed_to).write(result.failed)
        self.unknown_to.write(result.unknown)

    def close(self) -> None:
        """Close the files."""
        for file in (self.failed_to, self.unknown_to, self.unsent_to):
            file.close()

    def has_error(self, error: Exception) -> bool:
        """Whether a result had an error of this kind, so that it is printed with the results."""
        return isinstance(error, QxtError) and error.label in self._errors

    def exit_code(self) -> ExitCode:
        """The exit code, unless a signal or an error stopped the send."""
        failed = self.counts.failed or self.counts.unsent or (self.invalid_fails and self.counts.invalid)
        return code_of_outcome(failed=bool(failed), unknown=bool(self.counts.unknown))

    def as_json(self, ended: Ended) -> dict[str, Any]:
        """What ``--json`` prints. The keys are stable; others may be added."""
        return {
            **attrs.asdict(self.counts),
            "batches": self.batches,
            "mids": self.mids,
            "errors": [attrs.asdict(met) for met in self._errors.values()],
            "elapsed": round(self.elapsed, 3),
            "interrupted": None if ended.interrupted is None else ended.interrupted.name,
        }

    def print(self) -> None:
        """Print the counts, the mids and the time on stdout."""
        shown = [
            (name, count)
            for name, count in attrs.asdict(self.counts).items()
            if count or name in {"accepted", "failed", "unknown"}
        ]
        mids = ", ".join(self.mids[:_SHOWN_MIDS])
        if len(self.mids) > _SHOWN_MIDS:
            mids = f"{mids} … {self.mids[-1]} ({len(self.mids):,} mids, all with --json)"
        rate = f", {self.counts.settled / self.elapsed:,.0f} numbers/s" if self.elapsed and self.batches > 1 else ""
        took = f"{plural(self.batches, 'batch')} in {self.elapsed:.2f} s{rate}"
        print_table(shown, footer=f"mid {mids}\n{took}" if mids else took)

    def remarks(self) -> Iterator[str]:
        """Why some numbers are not accepted, line by line, masked; and where the whole numbers are."""
        counts = self.counts
        for met in list(self._errors.values())[:_SHOWN_ERRORS]:
            batches = f" in {met.batches:,} batches" if met.batches > 1 else ""
            yield f"{plural(met.numbers, 'number')}{batches}: {met.message}"
        for state, count, file in (
            ("failed", counts.failed, self.failed_to),
            ("unknown", counts.unknown, self.unknown_to),
        ):
            if count:
                more = ", …" if count > _SHOWN_NUMBERS else ""
                share = "all" if file.count == count else f"{file.count:,}"
                place = f"; {share} of them are in {file.path}" if file.count else ""
                yield f"{state}: {', '.join(self._examples[state])}{more}{place}"
        if counts.unknown:
            yield "unknown: they may have arrived; sending to them again may send twice"
        if self.unsent_to.path and self.unsent_to.count:
            numbers, path = plural(self.unsent_to.count, "number"), shlex.quote(self.unsent_to.path)
            yield f"not sent: {numbers}, all in {path}; continue with the same text: qxt bulk {path}"
        elif counts.unsent and (counts.accepted or counts.unknown):
            yield (
                "not sent: sending FILE again would text the others twice; "
                "next time, keep the numbers that were not sent with --unsent-to"
            )


def finish(summary: SendSummary, ended: Ended, *, as_json: bool) -> None:
    """Print the results and end the command. If nothing was sent and no signal came, only the error is printed.

    Raises:
        QxtError: nothing was begun, for this reason.
        FailedError: what stopped it early, with the exit code.
        click.exceptions.Exit: with the exit code.
    """
    error = ended.error
    if error is not None and ended.interrupted is None and not summary.batches:
        raise error
    if as_json:
        print_json(summary.as_json(ended))
    else:
        summary.print()
    for line in summary.remarks():
        click.echo(line, err=True)
    code = summary.exit_code()
    if ended.interrupted is not None:
        raise FailedError(f"stopped by {ended.interrupted.name}", code_of_signal(ended.interrupted))
    if error is not None and not summary.has_error(error):
        raise FailedError(f"stopped: {error}", code if code is ExitCode.UNKNOWN else code_of_error(error))
    if not summary.batches:
        raise FailedError("no number to send to", ExitCode.USAGE)
    raise click.exceptions.Exit(code)
