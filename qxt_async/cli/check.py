"""``qxt check``."""

from __future__ import annotations

import click

from qxt_async.cli.journals import opted_out_option, say_left_out
from qxt_async.cli.options import (
    as_json,
    file_argument,
    file_options,
    message_options,
    suppressed_option,
    text_option,
    verbose,
)

__all__ = ["command"]


@click.command("check")
@file_argument
@text_option
@file_options
@suppressed_option
@opted_out_option
@message_options
@as_json
@verbose
def command(
    file: str,
    text: str,
    column: str | None,
    encoding: str | None,
    sheet: str | int,
    suppressed: str | None,
    journal: str | None,
    extno: str | None,
    addseqno: bool,
    substitute: bool,
    literal: bool,
    as_json: bool,
    verbose: bool,  # noqa: ARG001
) -> None:
    """Say what a bulk send would do; sends nothing.

    FILE is read as `qxt bulk` reads it. Exit code 0 if it would be sent (invalid numbers are left out), 2 if not.

    With --json: {"sendable", "valid", "invalid", "duplicates", "suppressed", "batches", "characters", "segments",
    "credits", "unencodable": [{"character", "name", "line", "column", "substitute"}], "invalid_lines": [{"line",
    "number", "reason"}]}, the numbers masked, the first thousand lines.
    """
    from qxt_async.cli.display import json_line, print_table
    from qxt_async.cli.program import ExitCode
    from qxt_async.cli.screening import read_suppressed, survey
    from qxt_async.errors import InvalidTextError
    from qxt_async.files import TableFile
    from qxt_async.files.templates import check_no_placeholders
    from qxt_async.protocol import texts
    from qxt_async.protocol.requests import MAX_NUMBERS

    if extno is not None:
        texts.check_extno(extno)
    table = TableFile(file, column=column, encoding=encoding, sheet=sheet)
    numbers, valid = survey(table, read_suppressed(suppressed, journal))
    screen = numbers.screen
    fault = ""
    if not literal:
        try:
            check_no_placeholders(text, numbers.header)
        except InvalidTextError as error:
            fault = str(error)
    text = texts.substitute(text) if substitute else text
    bad = texts.bad_characters(text)
    segments = texts.segments(text, addseqno=addseqno)
    found = {
        "sendable": bool(valid and text.strip() and not bad and not fault),
        "valid": valid,
        "invalid": screen.number_filter.invalid_count,
        "duplicates": screen.number_filter.duplicates,
        "suppressed": screen.number_filter.suppressed_count,
        "batches": -(-valid // MAX_NUMBERS),
        "characters": len(text),
        "segments": segments,
        "credits": valid * segments,
    }
    if as_json:
        unencodable = [
            {
                "character": each.character,
                "name": each.name,
                "line": each.line,
                "column": each.column,
                "substitute": each.substitute,
            }
            for each in bad
        ]
        lines = [{"line": each.line, "number": each.number, "reason": each.reason} for each in screen.invalid]
        click.echo(json_line({**found, "unencodable": unencodable, "invalid_lines": lines}))
    else:
        print_table([(name, count) for name, count in found.items() if name != "sendable"])
        for line in screen.remarks():
            click.echo(line, err=True)
    say_left_out(screen.number_filter.suppressed_count, journal, suppressed)
    for each in bad:
        advice = "" if each.substitute is None else f"; --substitute would put {each.substitute!r}"
        click.echo(f"text, line {each.line}, column {each.column}: GBK has no {each.name}{advice}", err=True)
    if fault:
        click.echo(f"text: {fault}", err=True)
    if not text.strip():
        click.echo("text: it is empty", err=True)
    if not valid:
        click.echo(f"{screen.name}: no number to send to", err=True)
    raise click.exceptions.Exit(0 if found["sendable"] else ExitCode.USAGE)
