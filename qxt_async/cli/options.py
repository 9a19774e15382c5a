"""Options that several commands have, and the account they speak of."""

from __future__ import annotations

import codecs
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import click

from qxt_async.files.text_files import STDIN

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "account",
    "account_options",
    "all_of",
    "as_json",
    "bom_option",
    "file_argument",
    "file_options",
    "force_option",
    "guard_options",
    "message_options",
    "reads_once",
    "suppressed_option",
    "text_option",
    "verbose",
]

Command = TypeVar("Command", bound="Callable[..., Any]")

# Far beyond what any channel takes, and nothing to fill the memory with.
_LONGEST_TEXT = 64 * 1024
_TEXT_FILE = f"{__name__}.text_file"
_STDIN_READER = f"{__name__}.stdin_reader"


def _turn_on_logging(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
    if value:
        # Ours alone: an HTTP library logs addresses, and with GET the digest is in them.
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
    return value


verbose = click.option(
    "--verbose", is_flag=True, callback=_turn_on_logging, help="Log what happens to stderr; never texts or secrets."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
bom_option = click.option(
    "--bom", is_flag=True, help="Begin CSV with a byte order mark, from which Excel knows that it is UTF-8."
)
force_option = click.option("--force", is_flag=True, help="Replace a file that is there already.")


def all_of(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, in the order of the help."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


account_options = all_of(
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
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=30.0,
        show_default=True,
        metavar="SECONDS",
        help="What one request may take in all.",
    ),
)

message_options = all_of(
    click.option("--extno", metavar="DIGITS", help="Extension number."),
    click.option("--addseqno", is_flag=True, help="Let a channel without long messages number the parts: 1/3)."),
    click.option(
        "--substitute", is_flag=True, help="Replace usual characters that GBK lacks (€, •, ™) instead of refusing."
    ),
    click.option(
        "--literal", is_flag=True, help="Send what looks like a column and is none (${name}, %name%) as it stands."
    ),
)


# --- standard input: of a command, one thing can come from there ------------------------------------------------------


def _claim_stdin(ctx: click.Context, what: str) -> None:
    if _STDIN_READER in ctx.meta:
        raise click.UsageError(f"{ctx.meta[_STDIN_READER]} and {what} cannot both come from standard input.")
    ctx.meta[_STDIN_READER] = what


def reads_once(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Callback of a parameter with a path, or several: only one may be standard input."""
    paths: list[str] = list(value) if parameter.nargs != 1 else [value]
    for _ in range(paths.count(STDIN)):
        _claim_stdin(ctx, parameter.opts[0] if isinstance(parameter, click.Option) else "FILE")
    return value


# --- the text ---------------------------------------------------------------------------------------------------------


def _decoded(stream: BinaryIO, name: str) -> str:
    """A text as it stands in a file, without the line end that editors put behind it.

    The encoding is not guessed: a wrong guess would be sent to everybody.
    """
    data = stream.read(_LONGEST_TEXT + 1)
    if len(data) > _LONGEST_TEXT:
        raise click.UsageError(f"{name}: it has more than {_LONGEST_TEXT:,} bytes: that is not the text of a message.")
    try:
        text = data.decode("utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig")
    except UnicodeDecodeError:
        raise click.UsageError(f"{name}: it is not UTF-8; save it as UTF-8.") from None
    return text.replace("\r\n", "\n").rstrip("\n")


def _read_text_file(ctx: click.Context, _: click.Parameter, path: str | None) -> None:
    ctx.meta[_TEXT_FILE] = None
    if path is not None:
        try:
            with Path(path).open("rb") as stream:
                ctx.meta[_TEXT_FILE] = _decoded(stream, path)
        except OSError as error:
            raise click.UsageError(f"--text-file {path}: {error.strerror}.") from error


def _text(ctx: click.Context, _: click.Parameter, text: str | None) -> str:
    from_file: str | None = ctx.meta[_TEXT_FILE]
    if text is None:
        if from_file is None:
            raise click.UsageError("no text: give --text, or --text-file.")
        return from_file
    if from_file is not None:
        raise click.UsageError("--text and --text-file contradict each other.")
    if text != STDIN:
        return text
    _claim_stdin(ctx, "--text")
    return _decoded(sys.stdin.buffer, "--text -")


text_option = all_of(
    click.option(
        "--text", metavar="T", callback=_text, help="The text, with its signature 【…】; - reads standard input."
    ),
    click.option(
        "--text-file",
        metavar="F",
        is_eager=True,
        expose_value=False,
        callback=_read_text_file,
        help="File with the text, in UTF-8, instead of --text.",
    ),
)


# --- files of numbers -------------------------------------------------------------------------------------------------


def _sheet(_: click.Context, __: click.Parameter, sheet: str) -> str | int:
    return int(sheet) if sheet.isascii() and sheet.isdigit() else sheet


file_argument = click.argument("file", metavar="FILE", callback=reads_once)

file_options = all_of(
    click.option("--column", metavar="C", help="Column of the numbers: its name, or its position from 1."),
    click.option(
        "--encoding", metavar="NAME", help="Of a text or CSV file: utf-8, gbk, utf-16 …; found out by itself otherwise."
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
    "--suppressed", metavar="FILE", callback=reads_once, help="File of numbers to leave out."
)

# When a campaign pauses by itself: for whoever sends its batches.
guard_options = all_of(
    click.option("--window", metavar="FROM-TO", help="Begin batches only then, such as 08:00-21:00."),
    click.option("--zone", default="Asia/Shanghai", show_default=True, metavar="TZ", help="Time zone of --window."),
    click.option(
        "--max-consecutive-failures",
        type=click.IntRange(min=1),
        default=10,
        show_default=True,
        metavar="N",
        help="Pause after so many batches in a row without success.",
    ),
    click.option("--min-balance", type=click.IntRange(min=0), default=0, metavar="N", help="Pause when less is left."),
    click.option("--no-check-balance", is_flag=True, help="Never ask for the balance."),
)


def account(user: str | None, base_url: str | None) -> dict[str, Any]:
    """Who sends where, as arguments for `QxtClient.from_env`; asks for the password if there is a terminal.

    Args:
        user: from ``--user`` or ``QXT_USER``.
        base_url: from ``--base-url`` or ``QXT_BASE_URL``.

    Raises:
        click.UsageError: something is missing; says what to set.
    """
    if not user:
        raise click.UsageError("no user: set QXT_USER, or give --user.")
    if not base_url:
        raise click.UsageError("no gateway: set QXT_BASE_URL, such as http://HOST:PORT/qxt, or give --base-url.")
    found: dict[str, Any] = {"user": user, "base_url": base_url}
    if not (os.environ.get("QXT_PASSWORD") or os.environ.get("QXT_PASSWORD_MD5")):
        if not sys.stdin.isatty():
            raise click.UsageError("no password: set QXT_PASSWORD, or QXT_PASSWORD_MD5 (its md5 in lowercase).")
        from qxt_async.runtime.secret import Secret

        found["password"] = Secret(click.prompt(f"Password of {user}", hide_input=True, err=True))
    return found
