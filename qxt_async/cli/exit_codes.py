"""The exit codes of all commands, and the error that ends a command with one of them."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import click

from qxt_async.errors import InvalidRequestError

if TYPE_CHECKING:
    import signal


class ExitCode(enum.IntEnum):
    """What an exit code says; 128 and more say which signal stopped the command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNKNOWN = 3


def code_of_error(error: Exception) -> ExitCode:
    """The exit code of an error of the library: bad input, or something else that failed."""
    return ExitCode.USAGE if isinstance(error, InvalidRequestError) else ExitCode.FAILED


def code_of_outcome(*, failed: bool, unknown: bool) -> ExitCode:
    """The exit code of a command that sent. *Unknown* is more important than *failed*."""
    return ExitCode.UNKNOWN if unknown else ExitCode.FAILED if failed else ExitCode.OK


def code_of_signal(number: signal.Signals) -> int:
    """The exit code of a command that a signal stopped."""
    return 128 + number


class FailedError(click.ClickException):
    """Ends a command with one line on stderr."""

    def __init__(self, message: str, exit_code: int = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click documents that it can be set
