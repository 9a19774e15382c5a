"""The group of all commands. It imports a command when it is called, and turns errors into lines and exit codes."""

from __future__ import annotations

import importlib
from typing import Any

import click

from qxt_async.cli.examples import add_examples
from qxt_async.cli.exit_codes import FailedError, code_of_error
from qxt_async.errors import QxtError

COMMANDS = {
    "balance": ("balance", "Ask how many messages the account has left."),
    "bulk": ("bulk", "Send one text to every number in a file."),
    "campaign": (
        "campaign",
        "Send to a million numbers so that a crash, a stop or a second process never sends anything twice.",
    ),
    "check": ("check", "Say what a bulk send would do; sends nothing."),
    "receive": ("receive", "Store what the gateway pushes: status reports and replies."),
    "replies": ("received:replies", "Show what people replied."),
    "reports": ("received:reports", "Show the status reports: whether messages were delivered."),
    "send": ("send", "Send one text to one number or a few."),
    "sends": ("sends", "Show the single sends that a journal has recorded."),
    "simulate": ("simulate", "Run a simulated gateway to test against."),
    "suppressed": ("suppressed", "Show and change the suppression list: who gets no more texts."),
    "worker": (
        "worker",
        "Send batches of all running campaigns of a journal, together with other workers.",
    ),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called.

    Args:
        package: the package of their modules.
        modules: by the name of each command, its module (``module`` or ``module:attribute``; the attribute is
            ``command`` if not given), and its line in the help.
        **attrs: more options of `click.Group`.
    """

    def __init__(self, *, package: str, modules: dict[str, tuple[str, str]], **attrs: Any) -> None:
        super().__init__(**attrs)
        self._package = package
        self._modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The names, without an import."""
        return sorted(self._modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in self._modules:
            return None
        module, _, attribute = self._modules[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(f"{self._package}.{module}"), attribute or "command")
        add_examples(command, cmd_name if ctx.parent is None else f"{self.name} {cmd_name}")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands in the help, without an import."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in sorted(self._modules.items())])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. Errors of the library become one line and an exit code."""
        try:
            return super().invoke(ctx)
        except QxtError as error:
            raise FailedError(str(error), code_of_error(error)) from error
        except KeyboardInterrupt:
            raise click.exceptions.Exit(130) from None


@click.group(
    cls=LazyGroup,
    package=__package__,
    modules=COMMANDS,
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

    # The commands print lines of their own about the database and the workers' engine.
    for name in ("procrastinate", "psycopg"):
        if not (logger := logging.getLogger(name)).handlers:
            logger.addHandler(logging.NullHandler())
