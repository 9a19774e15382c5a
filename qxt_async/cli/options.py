"""The options that several commands have. Options that belong together reach a command as one value.

The help of an option describes the attribute of the same name. These values have no `repr`: they hold texts, numbers,
and addresses that may contain a password.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
from typing import TYPE_CHECKING, Any, TypeVar, cast

import attrs
import click

from qxt_async.files.text_files import STDIN

if TYPE_CHECKING:
    from collections.abc import Callable

    from qxt_async import QxtClient
    from qxt_async.files import TableFile

Command = TypeVar("Command", bound="Callable[..., Any]")

_STDIN_READER = f"{__name__}.stdin_reader"
_VERBOSE = f"{__name__}.verbose"

above_zero = click.FloatRange(min=0, min_open=True)
at_least_one = click.IntRange(min=1)


def combine(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, in the order of the help."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def option_group(name: str, make: Any, *options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options that reach the command as one value.

    Args:
        name: the command's parameter.
        make: an attrs class; its attributes are named like the options.
        options: in the order of the help.
    """
    fields = [field.alias for field in attrs.fields(make)]

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def call(*args: Any, **values: Any) -> Any:
            values[name] = make(**{field: values.pop(field) for field in fields if field in values})
            return command(*args, **values)

        return combine(*options)(cast("Command", call))

    return decorate


# --- what many commands have ------------------------------------------------------------------------------------------


def _turn_on_logging(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.meta[_VERBOSE] = value
    if not value:
        return
    # Only the logger of this library: an HTTP library logs addresses, and with GET they contain the digest.
    logger = logging.getLogger("qxt_async")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)

    def turn_off() -> None:
        logger.removeHandler(handler)
        logger.setLevel(level)

    ctx.call_on_close(turn_off)


def is_verbose() -> bool:
    """Whether the command that runs was given ``--verbose``."""
    ctx = click.get_current_context(silent=True)
    return ctx is not None and bool(ctx.meta.get(_VERBOSE))


verbose = click.option(
    "--verbose",
    is_flag=True,
    expose_value=False,
    callback=_turn_on_logging,
    help="Log what happens to stderr; never texts or secrets.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
csv_option = click.option("--csv", "as_csv", is_flag=True, help="Print CSV instead, in UTF-8.")
bom_option = click.option(
    "--bom", is_flag=True, help="Begin CSV with a byte order mark, so that Excel reads it as UTF-8."
)
force_option = click.option("--force", is_flag=True, help="Replace a file that exists.")
port_option = click.option(
    "--port", type=click.IntRange(0, 65535), required=True, metavar="P", help="0 for a free one."
)


def check_formats(*, as_json: bool, as_csv: bool, bom: bool) -> None:
    """Refuse options of the output that contradict each other."""
    if as_json and as_csv:
        raise click.UsageError("--json and --csv contradict each other.")
    if bom and not as_csv:
        raise click.UsageError("--bom is for --csv.")


# --- standard input: only one argument or option can read it ----------------------------------------------------------


def claim_stdin(ctx: click.Context, reader: str) -> None:
    """Refuse a second reader of standard input."""
    if _STDIN_READER in ctx.meta:
        raise click.UsageError(f"{ctx.meta[_STDIN_READER]} and {reader} cannot both come from standard input.")
    ctx.meta[_STDIN_READER] = reader


def use_stdin_once(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Callback of a parameter with one path or several: only one of a command may be standard input."""
    paths: list[str] = list(value) if parameter.nargs != 1 else [value]
    for _ in range(paths.count(STDIN)):
        claim_stdin(ctx, parameter.opts[0] if isinstance(parameter, click.Option) else "FILE")
    return value


# --- the account ------------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True, repr=False)
class AccountOptions:
    """Which account sends, and how."""

    user: str | None
    base_url: str | None
    transport: str
    timeout: float

    def sign_in(self) -> Callable[..., QxtClient]:
        """Check that nothing is missing, and ask for the password if there is a terminal.

        Returns:
            What makes the client; it takes more options of `QxtClient`.

        Raises:
            click.UsageError: something is missing; the message says what to set.
        """
        if not self.user:
            raise click.UsageError("no user: set QXT_USER, or give --user.")
        if not self.base_url:
            raise click.UsageError("no gateway: set QXT_BASE_URL, such as http://HOST:PORT/qxt, or give --base-url.")
        from qxt_async import QxtClient
        from qxt_async.runtime.secret import Secret

        password: Any = None
        if not (os.environ.get("QXT_PASSWORD") or os.environ.get("QXT_PASSWORD_MD5")):
            if not sys.stdin.isatty():
                raise click.UsageError("no password: set QXT_PASSWORD, or QXT_PASSWORD_MD5 (its md5 in lowercase).")
            password = Secret(click.prompt(f"Password of {self.user}", hide_input=True, err=True))
        return functools.partial(
            QxtClient.from_env,
            user=self.user,
            base_url=self.base_url,
            password=password,
            transport=self.transport,
            timeout=self.timeout,
        )


account_options = option_group(
    "account",
    AccountOptions,
    click.option("--user", envvar="QXT_USER", metavar="NAME", help="Login name, instead of QXT_USER."),
    click.option("--base-url", envvar="QXT_BASE_URL", metavar="URL", help="Gateway, instead of QXT_BASE_URL."),
    click.option(
        "--transport",
        type=click.Choice(["httpx", "httpx2", "aiohttp"]),
        default="httpx",
        show_default=True,
        help="HTTP library; all but httpx are extras.",
    ),
    click.option(
        "--timeout", type=above_zero, default=30.0, show_default=True, metavar="SECONDS", help="Limit for one request."
    ),
)


# --- files of numbers -------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True, repr=False)
class FileOptions:
    """How to read a file of numbers."""

    column: str | None
    encoding: str | None
    sheet: str | int

    def table(self, path: str) -> TableFile:
        """A file that is read with these options."""
        from qxt_async.files import TableFile

        return TableFile(path, column=self.column, encoding=self.encoding, sheet=self.sheet)


def _sheet(_: click.Context, __: click.Parameter, sheet: str) -> str | int:
    return int(sheet) if sheet.isascii() and sheet.isdigit() else sheet


file_argument = click.argument("file", metavar="FILE", callback=use_stdin_once)

file_options = option_group(
    "reading",
    FileOptions,
    click.option("--column", metavar="C", help="Column of the numbers: its name, or its position from 1."),
    click.option(
        "--encoding", metavar="NAME", help="Of a text or CSV file: utf-8, gbk, utf-16 …; detected if not given."
    ),
    click.option(
        "--sheet",
        metavar="S",
        default="1",
        callback=_sheet,
        help="Sheet of an XLSX file: its name, or its position from 1.",
    ),
)

suppressed_option = click.option(
    "--suppressed", metavar="FILE", callback=use_stdin_once, help="File of numbers to leave out."
)


# --- how fast, and when to pause --------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True, repr=False)
class ThroughputOptions:
    """How fast one process sends."""

    concurrency: int
    rate: float | None


throughput_options = option_group(
    "throughput",
    ThroughputOptions,
    click.option(
        "--concurrency",
        type=at_least_one,
        default=8,
        show_default=True,
        metavar="N",
        help="Requests in flight at most, of this process.",
    ),
    click.option("--rate", type=above_zero, metavar="N", help="Numbers per second at most, of this process."),
)


@attrs.frozen(kw_only=True, repr=False)
class GuardOptions:
    """When a campaign pauses by itself."""

    window: str | None
    zone: str
    max_consecutive_failures: int
    min_balance: int
    no_check_balance: bool

    def options(self) -> dict[str, Any]:
        """These options, for a run or a worker."""
        from qxt_async.campaign import SendWindow

        return {
            "window": SendWindow.parse(self.window, self.zone) if self.window else None,
            "max_consecutive_failures": self.max_consecutive_failures,
            "min_balance": self.min_balance,
            "check_balance": not self.no_check_balance,
        }


guard_options = option_group(
    "guard",
    GuardOptions,
    click.option("--window", metavar="FROM-TO", help="Begin batches only in this time of day, such as 08:00-21:00."),
    click.option("--zone", default="Asia/Shanghai", show_default=True, metavar="TZ", help="Time zone of --window."),
    click.option(
        "--max-consecutive-failures",
        type=at_least_one,
        default=10,
        show_default=True,
        metavar="N",
        help="Pause after N batches in a row without success.",
    ),
    click.option(
        "--min-balance", type=click.IntRange(min=0), default=0, metavar="N", help="Pause when the balance is lower."
    ),
    click.option("--no-check-balance", is_flag=True, help="Never ask for the balance."),
)
