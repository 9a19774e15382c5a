"""Progress on stderr, tallies on stdout. rich is loaded only to draw."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from qxt_async.models import Progress

    from .ledger import Ledger

__all__ = ["print_table", "print_tally", "progress"]

_SECONDS_BETWEEN_LINES = 30.0
_LINES = 10
_COLORS = {"accepted": "green", "failed": "red", "unknown": "yellow"}
_SHOWN_MIDS = 3


@contextmanager
def progress(total: int | None, *, plain: bool = False) -> Generator[Callable[[Progress], None]]:
    """Show how far a send is: a bar if stderr is a terminal, else a line for each tenth and every half minute.

    Args:
        total: entries in the source, ``None`` if nobody knows.
        plain: lines in any case.

    Yields:
        What to call with each `Progress`.
    """
    if plain or not sys.stderr.isatty():
        yield _lines(total)
    else:
        with _bar(total) as show:
            yield show


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
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    states = "  ".join(f"[{color}]{state} {{task.fields[{state}]}}[/]" for state, color in _COLORS.items())
    columns = (
        BarColumn(None),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn(states),
        TimeRemainingColumn(compact=True),
    )
    with Bar(*columns, console=Console(stderr=True), expand=True) as bar:
        task = bar.add_task("", total=total, rate="", accepted=0, failed=0, unknown=0)

        def show(now: Progress) -> None:
            bar.update(
                task,
                completed=_done(now),
                rate=_rate(now),
                accepted=f"{now.accepted:,}",
                failed=f"{now.failed:,}",
                unknown=f"{now.unknown:,}",
            )

        yield show
        bar.update(task, total=bar.tasks[0].completed if total is None else total)


def print_table(rows: Sequence[tuple[str, int | str]], *, footer: str = "") -> None:
    """Print names and values, right-aligned, on stdout.

    Args:
        rows: names with counts, or with texts.
        footer: a line below.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(justify="left")
    table.add_column(justify="right")
    for name, value in rows:
        shown = f"{value:,}" if isinstance(value, int) else value
        style: Any = _COLORS.get(name) if value else "dim"
        table.add_row(name, shown, style=style)
    console = Console(highlight=False)
    console.print(table)
    if footer:
        console.print(footer, markup=False, soft_wrap=True)


def print_tally(ledger: Ledger) -> None:
    """Print what became of the numbers on stdout, and why some are not accepted on stderr."""
    names = ("accepted", "failed", "unknown", "invalid", "duplicates", "suppressed", "unsent")
    always = ("accepted", "failed", "unknown")
    counts = [(name, count) for name in names if (count := getattr(ledger, name)) or name in always]
    mids = ledger.mids
    shown = ", ".join(mids[:_SHOWN_MIDS])
    if len(mids) > _SHOWN_MIDS:
        shown = f"{shown} … {mids[-1]} ({len(mids):,} mids, all with --json)"
    rate = f", {ledger.settled / ledger.elapsed:,.0f} numbers/s" if ledger.elapsed and ledger.batches > 1 else ""
    took = f"{ledger.batches:,} batch{'es' if ledger.batches != 1 else ''} in {ledger.elapsed:.2f} s{rate}"
    print_table(counts, footer=f"mid {shown}\n{took}" if mids else took)
    for line in ledger.remarks():
        click.echo(line, err=True)
