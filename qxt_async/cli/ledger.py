"""What became of the numbers of one command: the tally, for people and for machines."""

from __future__ import annotations

import itertools
import os
import shlex
import stat
from typing import TYPE_CHECKING, Any, TextIO

import attrs
import click

from qxt_async.cli.display import json_line
from qxt_async.cli.program import ExitCode
from qxt_async.errors import NotSentError, QxtError
from qxt_async.models import mask
from qxt_async.runtime.words import plural

if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence

    from qxt_async.models import BatchResult

__all__ = ["NumbersFile", "SendSummary", "keep_apart"]

_SHOWN = 3
_SHOWN_ERRORS = 10


class NumbersFile:
    """A file that whole numbers are written to, one a line, readable by its owner only.

    It is made at once, so that a path that cannot work is known before anything is sent. A file that has numbers in
    it is never overwritten: they may be the only trace of an earlier send.

    Args:
        path: where; ``None`` writes nothing.
        option: the option it comes from, for the error.

    Attributes:
        path, option: as given.
        count: how many were written.
    """

    def __init__(self, path: str | None, option: str) -> None:
        self.path = path
        self.count = 0
        self.option = option
        self._file: TextIO | None = None
        if path is None:
            return
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        except OSError as error:
            raise click.UsageError(f"{option} {path}: {error.strerror}.") from error
        self._file = os.fdopen(descriptor, "w", encoding="ascii")
        state = os.fstat(descriptor)
        if stat.S_ISREG(state.st_mode) and state.st_size:
            self._file.close()
            raise click.UsageError(f"{option} {path}: the file is there already, and not empty.")

    def write(self, numbers: Sequence[str]) -> None:
        """Write some numbers, and hand them to the system at once.

        Raises:
            OSError: as the system says.
        """
        if self._file is not None and numbers:
            self._file.write("\n".join(numbers) + "\n")
            self._file.flush()
            self.count += len(numbers)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def is_same(self, other: NumbersFile) -> bool:
        """Whether two are one file, in which each would overwrite what the other wrote; a device has room for both."""
        if self._file is None or other._file is None:
            return False
        state = os.fstat(self._file.fileno())
        return stat.S_ISREG(state.st_mode) and os.path.samestat(state, os.fstat(other._file.fileno()))


def keep_apart(*files: NumbersFile) -> None:
    """Refuse files of which two are one, and close all of them then.

    Raises:
        click.UsageError: two are one file.
    """
    for one, other in itertools.combinations(files, 2):
        if one.is_same(other):
            for file in files:
                file.close()
            raise click.UsageError(f"{one.option} and {other.option} are one file: give two.")


@attrs.define
class _Met:
    """One kind of error, and how much it hit."""

    name: str
    message: str
    numbers: int = 0
    batches: int = 0


@attrs.define
class SendSummary:
    """Counts results as they come, in constant memory but for the mids.

    Attributes:
        accepted, failed, unknown, invalid, duplicates, suppressed: numbers.
        unsent: numbers that were not tried, because the send stopped early.
        batches: requests' worth of numbers.
        mids: the message ids.
        elapsed: seconds.
        interrupted: the signal that stopped it.
        invalid_fails: whether an invalid number is a failure: one that a person typed, not one of a file.
        failed_to, unknown_to: where whole numbers go.
        unsent_to: where those go that provably were not sent; without it they go to `failed_to`.
    """

    failed_to: NumbersFile = attrs.field(factory=lambda: NumbersFile(None, ""))
    unknown_to: NumbersFile = attrs.field(factory=lambda: NumbersFile(None, ""))
    unsent_to: NumbersFile = attrs.field(factory=lambda: NumbersFile(None, ""))
    invalid_fails: bool = False
    accepted: int = 0
    failed: int = 0
    unknown: int = 0
    invalid: int = 0
    duplicates: int = 0
    suppressed: int = 0
    unsent: int = 0
    batches: int = 0
    mids: list[str] = attrs.Factory(list[str])
    elapsed: float = 0.0
    interrupted: signal.Signals | None = None
    _errors: dict[str, _Met] = attrs.field(factory=dict[str, _Met], repr=False)
    _examples: dict[str, list[str]] = attrs.field(factory=lambda: {"failed": [], "unknown": []})

    def add(self, result: BatchResult) -> None:
        """Take one result down; what came out of it whole goes to its file first."""
        self.batches += 1
        self.accepted += len(result.accepted)
        self.failed += len(result.failed)
        self.unknown += len(result.unknown)
        self.mids.extend(result.mids)
        for state, numbers in (("failed", result.failed), ("unknown", result.unknown)):
            examples = self._examples[state]
            examples.extend(mask(number) for number in numbers[: _SHOWN - len(examples)])
        if result.error is not None:
            met = self._errors.setdefault(result.error.label, _Met(result.error.label, str(result.error)))
            met.numbers += len(result.failed) + len(result.unknown)
            met.batches += 1
        not_sent = isinstance(result.error, NotSentError) and self.unsent_to.path is not None
        (self.unsent_to if not_sent else self.failed_to).write(result.failed)
        self.unknown_to.write(result.unknown)

    def close(self) -> None:
        """Close the files."""
        self.failed_to.close()
        self.unknown_to.close()
        self.unsent_to.close()

    @property
    def settled(self) -> int:
        """Numbers whose outcome stands."""
        return self.accepted + self.failed + self.unknown

    def tells_of(self, error: Exception) -> bool:
        """Whether a result had such an error, so that `remarks` says it."""
        return isinstance(error, QxtError) and error.label in self._errors

    def exit_code(self) -> int:
        """See the table in `qxt_async.cli`."""
        if self.interrupted is not None:
            return 128 + self.interrupted
        if self.unknown:
            return ExitCode.UNKNOWN
        return ExitCode.FAILED if self.failed or self.unsent or (self.invalid and self.invalid_fails) else 0

    def as_json(self) -> str:
        """One JSON object; its shape is stable, keys may join.

        ``accepted``, ``failed``, ``unknown``, ``invalid``, ``duplicates``, ``suppressed``, ``unsent``, ``batches``
        (counts), ``mids`` (texts), ``errors`` (a list of ``{"error", "message", "numbers", "batches"}``, one for each
        kind), ``elapsed`` (seconds), ``interrupted`` (``"SIGINT"``, ``"SIGTERM"`` or null).
        """
        shape: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("accepted", "failed", "unknown", "invalid", "duplicates", "suppressed", "unsent", "batches")
        }
        return json_line(
            {
                **shape,
                "mids": self.mids,
                "errors": [
                    {"error": met.name, "message": met.message, "numbers": met.numbers, "batches": met.batches}
                    for met in self._errors.values()
                ],
                "elapsed": round(self.elapsed, 3),
                "interrupted": None if self.interrupted is None else self.interrupted.name,
            }
        )

    def remarks(self) -> list[str]:
        """Why some are not accepted, line by line, numbers masked; and where the whole numbers are."""
        lines = [
            f"{plural(met.numbers, 'number')}{f' in {met.batches:,} batches' if met.batches > 1 else ''}: {met.message}"
            for met in list(self._errors.values())[:_SHOWN_ERRORS]
        ]
        for state, file in (("failed", self.failed_to), ("unknown", self.unknown_to)):
            count = getattr(self, state)
            if count:
                more = ", …" if count > _SHOWN else ""
                share = "all" if file.count == count else f"{file.count:,}"
                place = f"; {share} of them are in {file.path}" if file.count else ""
                lines.append(f"{state}: {', '.join(self._examples[state])}{more}{place}")
        if self.unknown:
            lines.append("unknown: may have arrived; sending to them again may send twice")
        if self.unsent_to.path and self.unsent_to.count:
            count, path = plural(self.unsent_to.count, "number"), shlex.quote(self.unsent_to.path)
            lines.append(f"not sent: {count}, all in {path}; go on with the same text: qxt bulk {path}")
        elif self.unsent and (self.accepted or self.unknown):
            lines.append(
                "not sent: to send FILE again would text the others twice; next time let --unsent-to keep these apart"
            )
        return lines
