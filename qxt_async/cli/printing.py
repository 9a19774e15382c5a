"""Printing on stdout: JSON, aligned tables, and values from outside in one safe line."""

from __future__ import annotations

import csv
import io
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from qxt_async.files.spreadsheets import escape_formula

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence
    from datetime import datetime

COLORS = {"accepted": "green", "failed": "red", "unknown": "yellow"}


def json_line(value: object) -> str:
    """A value as one line of JSON. Characters are not escaped, because people read it, too.

    Two exceptions: characters that could control a terminal are escaped, and if the charset of standard output lacks a
    character, all characters outside ASCII are.
    """
    line = json.dumps(value, ensure_ascii=False)
    if not line.isprintable():
        # An ideographic space is ordinary in a Chinese text.
        line = "".join(each if each.isprintable() or each == "\u3000" else json.dumps(each)[1:-1] for each in line)
    try:
        line.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        line = json.dumps(value)
    return line


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on a line of its own."""
    click.echo(json_line(value))


def csv_lines(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as CSV; a spreadsheet runs no text in them as a formula. ``None`` is an empty cell."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    for row in rows:
        writer.writerow([escape_formula(cell) if isinstance(cell, str) else cell for cell in row])
    return written.getvalue()


def single_line(text: str) -> str:
    """A text from outside for a terminal: one line, without characters that could control the terminal."""
    return "".join(character if character.isprintable() else "\ufffd" for character in " ".join(text.splitlines()))


def local_time(at: datetime) -> str:
    """A time for people: local, to the second."""
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S}"


def utc_time(at: datetime | None) -> str | None:
    """A time for programs: ISO 8601, in UTC."""
    return None if at is None else at.isoformat(timespec="milliseconds")


def aligned(rows: Sequence[Sequence[str]], right: Container[int]) -> list[str]:
    """Rows of a table as lines.

    Args:
        rows: of equal length.
        right: the columns that are aligned to the right, from 0.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def print_table(rows: Sequence[tuple[str, int | str]], *, footer: str = "") -> None:
    """Print names and values on stdout, the values aligned to the right.

    Args:
        rows: names with counts, or with texts.
        footer: a line below.
    """
    lines = aligned([(name, f"{value:,}" if isinstance(value, int) else value) for name, value in rows], {1})
    for line, (name, value) in zip(lines, rows, strict=True):
        click.secho(line, fg=COLORS.get(name) if value else None, dim=not value)
    if footer:
        click.echo(footer)
