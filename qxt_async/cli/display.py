"""Progress on stderr, counts on stdout. rich draws the bars, and is needed for nothing else."""

from __future__ import annotations

import importlib
import json
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from qxt_async.runtime.words import plural, share

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Generator, Sequence

    from qxt_async.cli.ledger import SendSummary
    from qxt_async.models import Progress

__all__ = ["aligned", "count_markup", "draws_bars", "json_line", "print_table", "print_tally", "progress"]

_SECONDS_BETWEEN_LINES = 30.0
_LINES = 10
_COLORS = {"accepted": "green", "failed": "red", "unknown": "yellow"}
_SHOWN_MIDS = 3


def draws_bars(*, plain: bool) -> bool:
    """Whether progress is a bar: stderr is a terminal, and rich can be imported.

    Args:
        plain: lines in any case.
    """
    if plain or not sys.stderr.isatty():
        return False
    try:
        importlib.import_module("rich.progress")
    except ImportError:
        return False
    return True


@contextmanager
def progress(total: int | None, *, plain: bool = False) -> Generator[Callable[[Progress], None]]:
    """Show how far a send is: a bar if it can be drawn, else a line for each tenth and every half minute.

    Args:
        total: entries in the source, ``None`` if nobody knows.
        plain: lines in any case.

    Yields:
        What to call with each `Progress`.
    """
    if draws_bars(plain=plain):
        with _bar(total) as show:
            yield show
    else:
        yield _lines(total)


def _done(now: Progress) -> int:
    return now.accepted + now.failed + now.unknown + now.duplicates + now.suppressed


def _rate(now: Progress) -> str:
    return f"{(now.accepted + now.failed + now.unknown) / max(now.elapsed, 1e-9):,.0f} numbers/s"


def _lines(total: int | None) -> Callable[[Progress], None]:
    last, told = time.monotonic(), 0
    step = float("inf") if total is None else total / _LINES
    of = "" if total is None else f" of {total:,}"

    def show(now: Progress) -> None:
        nonlocal last, told
        if _done(now) - told >= step or time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
            last, told = time.monotonic(), _done(now)
            click.echo(
                f"{_done(now):,}{of}, {_rate(now)}: accepted {now.accepted:,}, failed {now.failed:,}, "
                f"unknown {now.unknown:,}",
                err=True,
            )

    return show


@contextmanager
def _bar(total: int | None) -> Generator[Callable[[Progress], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        BarColumn(None),
        TextColumn("{task.fields[share]}"),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[states]}"),
        TimeRemainingColumn(compact=True),
    )
    with Bar(*columns, console=Console(stderr=True), expand=True) as bar:
        task = bar.add_task("", total=total, share="", rate="", states="")

        def show(now: Progress) -> None:
            bar.update(
                task,
                completed=_done(now),
                share="" if total is None else share(min(_done(now), total), total),
                rate=_rate(now),
                states="  ".join(count_markup(state, getattr(now, state)) for state in _COLORS),
            )

        yield show
        if total is None:
            bar.update(task, total=bar.tasks[0].completed, share=share(1, 1))


def count_markup(state: str, count: int) -> str:
    """A state and its count as rich's markup: in the state's colour only if the count is not 0."""
    return f"[{_COLORS[state] if count else 'dim'}]{state} {count:,}[/]"


def json_line(value: object) -> str:
    """A value as one line of JSON. Characters stand as they are, without escapes, for people read it, too.

    Two exceptions: characters that could steer a terminal are escaped, and if the charset of standard output lacks one,
    all but ASCII is.
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
    """Print names and values, right-aligned, on stdout.

    Args:
        rows: names with counts, or with texts.
        footer: a line below.
    """
    lines = aligned([(name, f"{value:,}" if isinstance(value, int) else value) for name, value in rows], {1})
    for line, (name, value) in zip(lines, rows, strict=True):
        click.secho(line, fg=_COLORS.get(name) if value else None, dim=not value)
    if footer:
        click.echo(footer)


def print_tally(ledger: SendSummary) -> None:
    """Print what became of the numbers on stdout, and why some are not accepted on stderr."""
    names = ("accepted", "failed", "unknown", "invalid", "duplicates", "suppressed", "unsent")
    always = ("accepted", "failed", "unknown")
    counts = [(name, count) for name in names if (count := getattr(ledger, name)) or name in always]
    mids = ledger.mids
    shown = ", ".join(mids[:_SHOWN_MIDS])
    if len(mids) > _SHOWN_MIDS:
        shown = f"{shown} … {mids[-1]} ({len(mids):,} mids, all with --json)"
    rate = f", {ledger.settled / ledger.elapsed:,.0f} numbers/s" if ledger.elapsed and ledger.batches > 1 else ""
    took = f"{plural(ledger.batches, 'batch')} in {ledger.elapsed:.2f} s{rate}"
    print_table(counts, footer=f"mid {shown}\n{took}" if mids else took)
    for line in ledger.remarks():
        click.echo(line, err=True)
