"""``qxt check``."""

from __future__ import annotations

import attrs
import click

from qxt_async.cli.exit_codes import ExitCode
from qxt_async.cli.journals import Exclusions, number_exclusions
from qxt_async.cli.message_options import MessageOptions, message_options
from qxt_async.cli.number_files import read_all
from qxt_async.cli.options import (
    FileOptions,
    as_json,
    file_argument,
    file_options,
    verbose,
)
from qxt_async.cli.printing import print_json, print_table
from qxt_async.errors import InvalidTextError
from qxt_async.protocol import texts
from qxt_async.protocol.requests import MAX_NUMBERS


@click.command("check")
@file_argument
@message_options
@file_options
@number_exclusions
@as_json
@verbose
def command(file: str, message: MessageOptions, reading: FileOptions, exclusions: Exclusions, as_json: bool) -> None:
    """Say what a bulk send would do; sends nothing.

    FILE is read as `qxt bulk` reads it. Exit code 0 if it would be sent (invalid numbers are left out), 2 if not.

    With --json: {"sendable", "valid", "invalid", "duplicates", "suppressed", "batches", "characters", "segments",
    "credits", "unencodable": [{"character", "name", "line", "column", "substitute"}], "invalid_lines": [{"line",
    "number", "reason"}]}, the numbers masked, the first thousand lines.
    """
    if message.extno is not None:
        texts.check_extno(message.extno)
    numbers, valid = read_all(reading.table(file), exclusions.read())
    fault = ""
    try:
        message.check_columns(numbers.header)
    except InvalidTextError as error:
        fault = str(error)
    text = texts.substitute(message.text) if message.substitute else message.text
    unencodable = texts.bad_characters(text)
    segments = texts.segments(text, addseqno=message.addseqno)
    sendable = bool(valid and text.strip() and not unencodable and not fault)
    counts = {
        "valid": valid,
        "invalid": numbers.number_filter.invalid_count,
        "duplicates": numbers.number_filter.duplicates,
        "suppressed": numbers.number_filter.suppressed_count,
        "batches": -(-valid // MAX_NUMBERS),
        "characters": len(text),
        "segments": segments,
        "credits": valid * segments,
    }
    if as_json:
        characters = [
            {name: getattr(each, name) for name in ("character", "name", "line", "column", "substitute")}
            for each in unencodable
        ]
        lines = [attrs.asdict(each) for each in numbers.invalid]
        print_json({"sendable": sendable, **counts, "unencodable": characters, "invalid_lines": lines})
    else:
        print_table(list(counts.items()))
        numbers.print_invalid_lines()
    exclusions.print_count(counts["suppressed"])
    for each in unencodable:
        advice = "" if each.substitute is None else f"; --substitute would put {each.substitute!r}"
        click.echo(f"text, line {each.line}, column {each.column}: GBK has no {each.name}{advice}", err=True)
    if fault:
        click.echo(f"text: {fault}", err=True)
    if not text.strip():
        click.echo("text: it is empty", err=True)
    if not valid:
        click.echo(f"{numbers.name}: no number to send to", err=True)
    raise click.exceptions.Exit(ExitCode.OK if sendable else ExitCode.USAGE)
