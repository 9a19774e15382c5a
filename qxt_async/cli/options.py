"""Options that several commands have, and the account they speak of."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "account",
    "account_options",
    "all_of",
    "as_json",
    "bom_option",
    "file_options",
    "force_option",
    "guard_options",
    "message_options",
    "text_option",
    "verbose",
]

Command = TypeVar("Command", bound="Callable[..., Any]")


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
text_option = click.option("--text", required=True, metavar="T", help="The text, with its signature 【…】.")


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
)

file_options = all_of(
    click.option("--column", metavar="C", help="Column of a CSV file: its name, or its position from 1."),
    click.option("--encoding", metavar="NAME", help="utf-8, gbk, utf-16 …; found out by itself otherwise."),
    click.option("--suppressed", metavar="FILE", help="File of numbers to leave out."),
)

# When a campaign pauses by itself: for whoever sends its batches.
guard_options = all_of(
    click.option("--window", metavar="FROM-TO", help="Begin batches only then, such as 08:00-21:00."),
    click.option("--zone", default="Asia/Shanghai", show_default=True, metavar="TZ", help="Time zone of --window."),
    click.option(
        "--pause-after",
        type=click.IntRange(min=1),
        default=10,
        show_default=True,
        metavar="N",
        help="Pause after so many batches in a row without success.",
    ),
    click.option(
        "--balance-floor", type=click.IntRange(min=0), default=0, metavar="N", help="Pause when less is left."
    ),
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
        from qxt_async.values import Secret

        found["password"] = Secret(click.prompt(f"Password of {user}", hide_input=True, err=True))
    return found
