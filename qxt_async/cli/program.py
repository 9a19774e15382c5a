"""The group of all commands, which loads each only when it is called, and turns errors into lines and exit codes."""

from __future__ import annotations

import importlib
from typing import Any

import click

from qxt_async.cli.examples import add_examples
from qxt_async.errors import InvalidRequestError, QxtError

__all__ = ["ExitCode", "FailedError", "LazyGroup", "qxt"]

_COMMANDS = {
    "balance": "Ask how many messages the account has left.",
    "bulk": "Send one text to every number in a file.",
    "campaign": "Send to a million numbers so that a crash, a stop or a second process never sends anything twice.",
    "check": "Say what a bulk send would do; sends nothing.",
    "receive": "Store what the gateway pushes: status reports and replies.",
    "replies": "Show what people wrote back.",
    "reports": "Show what became of messages: the status reports.",
    "send": "Send one text to one number or a few.",
    "simulate": "Run a simulated gateway to test against.",
    "suppressed": "See and change who gets no more texts.",
    "worker": "Send batches of all running campaigns of a journal, beside other workers, on this host or others.",
}


class ExitCode:
    """What the exit codes mean; `qxt_async.cli` has the whole table."""

    FAILED = 1
    USAGE = 2
    UNKNOWN = 3


class FailedError(click.ClickException):
    """Ends a command with one line on stderr.

    Args:
        message: the line.
        exit_code: for the shell.
    """

    def __init__(self, message: str, exit_code: int = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click's documentation says so


class LazyGroup(click.Group):
    """A group whose commands are modules, imported when called.

    Args:
        attrs: of `click.Group`.
        package: where the modules are; each has its command as `command`.
        modules: their names, which are the commands' names too, each with the sentence that the help says of it.
    """

    def __init__(self, *, package: str, modules: dict[str, str], **attrs: Any) -> None:
        super().__init__(**attrs)
        self._package = package
        self._modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The names, without loading anything."""
        return sorted(self._modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one command."""
        if cmd_name not in self._modules:
            return None
        command: click.Command = importlib.import_module(f"{self._package}.{cmd_name}").command
        add_examples(command, cmd_name if ctx.parent is None else f"{self.name} {cmd_name}")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands in the help, without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl(sorted(self._modules.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; errors of the library become one line and an exit code."""
        try:
            return super().invoke(ctx)
        except QxtError as error:
            code = ExitCode.USAGE if isinstance(error, InvalidRequestError) else ExitCode.FAILED
            raise FailedError(str(error), code) from error
        except KeyboardInterrupt:
            raise click.exceptions.Exit(130) from None


@click.group(
    cls=LazyGroup,
    package=__package__,
    modules=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="qxt_async", prog_name="qxt")
def qxt() -> None:
    """Send texts through a QXT gateway: no text twice, none lost silently.

    The account comes from the environment: QXT_USER, QXT_PASSWORD (or QXT_PASSWORD_MD5, its md5) and QXT_BASE_URL, such
    as http://HOST:PORT/qxt. A password is never an argument; on a terminal it is asked for.

    Exit codes: 0 all accepted, 1 something failed, 2 usage or bad input, 3 something unknown, 130 or 143 interrupted.
    """
    import logging

    # What the database and the engine meet is told by lines of our own.
    for name in ("procrastinate", "psycopg"):
        if not (logger := logging.getLogger(name)).handlers:
            logger.addHandler(logging.NullHandler())
