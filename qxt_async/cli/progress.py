"""Progress on stderr: a bar if stderr is a terminal and rich is installed, otherwise lines."""

from __future__ import annotations

import importlib
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click

from qxt_async.cli.options import is_verbose
from qxt_async.cli.printing import COLORS
from qxt_async.runtime.words import share

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

T = TypeVar("T")

SECONDS_BETWEEN_LINES = 30.0
_LINES = 10


@attrs.define(kw_only=True, repr=False)
class Snapshot:
    """How far a send is.

    Attributes:
        done: numbers that are settled or left out.
        total: numbers in all, ``None`` if that is not known.
        speed: numbers per second.
        seconds_left: an estimate, ``None`` if there is none.
        accepted, failed, unknown: numbers.
        notes: more to say, such as the balance.
    """

    done: int
    total: int | None
    speed: float
    accepted: int
    failed: int
    unknown: int
    seconds_left: float | None = None
    notes: tuple[str, ...] = ()


@contextmanager
def show_progress(snapshot: Callable[[T], Snapshot], *, tenths: bool = False) -> Generator[Callable[[T], None]]:
    """Show how far a send is: a bar, or a line every half minute.

    With ``--verbose`` there are always lines, so that a bar does not overwrite the log.

    Args:
        snapshot: makes a `Snapshot` of what the library reports.
        tenths: print a line for each tenth of the numbers, too.

    Yields:
        What to call with each report.
    """
    if is_verbose() or not sys.stderr.isatty() or not _has_rich():
        show = _lines(tenths=tenths)
        yield lambda now: show(snapshot(now))
    else:
        with _bar() as show:
            yield lambda now: show(snapshot(now))


def _has_rich() -> bool:
    try:
        importlib.import_module("rich.progress")
    except ImportError:
        return False
    return True


def _lines(*, tenths: bool) -> Callable[[Snapshot], None]:
    printed_at, printed = time.monotonic(), 0

    def show(now: Snapshot) -> None:
        nonlocal printed_at, printed
        is_tenth = tenths and now.total is not None and now.done - printed >= now.total / _LINES
        if not is_tenth and time.monotonic() - printed_at < SECONDS_BETWEEN_LINES:
            return
        printed_at, printed = time.monotonic(), now.done
        of = "" if now.total is None else f" of {now.total:,}"
        counts = f"accepted {now.accepted:,}, failed {now.failed:,}, unknown {now.unknown:,}"
        click.echo(", ".join((f"{now.done:,}{of}, {now.speed:,.0f} numbers/s: {counts}", *now.notes)), err=True)

    return show


@contextmanager
def _bar() -> Generator[Callable[[Snapshot], None]]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn

    fields: dict[str, Any] = dict.fromkeys(("share", "speed", "counts", "left"), "")
    columns = [TextColumn(f"{{task.fields[{name}]}}") for name in fields]
    with Progress(BarColumn(None), *columns, console=Console(stderr=True), expand=True) as bar:
        task = bar.add_task("", total=None, **fields)

        def show(now: Snapshot) -> None:
            counts = "  ".join(_count_markup(state, getattr(now, state)) for state in COLORS)
            left = now.seconds_left
            bar.update(
                task,
                total=now.total,
                completed=now.done,
                share="" if now.total is None else share(min(now.done, now.total), now.total),
                speed=f"{now.speed:,.0f} numbers/s",
                counts=counts + escape("".join(f", {note}" for note in now.notes)),
                left="" if left is None else f"{left // 60:,.0f}:{left % 60:02.0f} left",
            )

        yield show
        if bar.tasks[0].total is None:
            bar.update(task, total=bar.tasks[0].completed, share=share(1, 1))


def _count_markup(state: str, count: int) -> str:
    """A state and its count as rich's markup: in the state's colour only if the count is not 0."""
    return f"[{COLORS[state] if count else 'dim'}]{state} {count:,}[/]"


@contextmanager
def rows_read() -> Generator[Callable[[int], None]]:
    """Count the rows of files on stderr while they are read, if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    try:
        yield lambda rows: click.echo(f"\rreading … {rows:,} rows", nl=False, err=True)
    finally:
        click.echo("\r\x1b[K", nl=False, err=True)  # clear the line
