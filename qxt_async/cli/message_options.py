"""The options for the text of a message, and how the text is read."""

from __future__ import annotations

import codecs
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import attrs
import click

from qxt_async.cli.options import claim_stdin, option_group
from qxt_async.files.templates import check_no_placeholders
from qxt_async.files.text_files import STDIN

if TYPE_CHECKING:
    from collections.abc import Sequence

# Far more than any channel takes, and too little to fill the memory.
_LONGEST_TEXT = 64 * 1024
_TEXT_FILE = f"{__name__}.text_file"


@attrs.frozen(kw_only=True, repr=False)
class MessageOptions:
    """What is sent."""

    text: str
    extno: str | None
    addseqno: bool
    substitute: bool
    literal: bool

    def check_columns(self, header: Sequence[str] = ()) -> None:
        """Refuse a text with what looks like a column, unless it is meant to be sent as it is.

        Raises:
            InvalidTextError: says what it is.
        """
        if not self.literal:
            check_no_placeholders(self.text, header)


def _decode(stream: BinaryIO, name: str) -> str:
    """Read a text, without the line ends that editors put at its end.

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
                ctx.meta[_TEXT_FILE] = _decode(stream, path)
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
    claim_stdin(ctx, "--text")
    return _decode(sys.stdin.buffer, "--text -")


message_options = option_group(
    "message",
    MessageOptions,
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
    click.option("--extno", metavar="DIGITS", help="Extension number."),
    click.option("--addseqno", is_flag=True, help="Let a channel without long messages number the parts: 1/3)."),
    click.option(
        "--substitute", is_flag=True, help="Replace usual characters that GBK lacks (€, •, ™) instead of refusing them."
    ),
    click.option(
        "--literal", is_flag=True, help="Send what looks like a column and is none (${name}, %name%) as it is."
    ),
)
