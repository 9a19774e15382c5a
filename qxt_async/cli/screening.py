"""From a file to the numbers in it: what is none is left out, and told with its line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import attrs
import click

from qxt_async.models import masked
from qxt_async.phones import Intake, SeenNumbers
from qxt_async.sources import open_numbers

from .journals import opted_out

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Container, Sequence

    from qxt_async.sources import NumberBlock, NumberFile

__all__ = ["InvalidLine", "Screen", "numbers_of", "read_suppressed", "survey"]

_KEPT = 1000
_SHOWN = 5


@attrs.frozen
class InvalidLine:
    """What stands in a line and is no number.

    Attributes:
        line: from 1.
        number: masked.
        reason: what is wrong with it.
    """

    line: int
    number: str
    reason: str


class Screen:
    """What the numbers of one file pass. It keeps the first thousand that were invalid, and counts the others.

    Args:
        name: of the file.
        intake: what the valid numbers pass, too; lets repeated ones pass by default.
    """

    def __init__(self, name: str, intake: Intake | None = None) -> None:
        self.name = name
        self.intake = intake or Intake()
        self.invalid: list[InvalidLine] = []

    def admit(self, block: NumberBlock) -> Sequence[str]:
        """The valid numbers of a block, normalised."""
        before = self.intake.read
        numbers = self.intake.admit(block.numbers)
        for each in self.intake.invalid[: _KEPT - len(self.invalid)]:
            line = block.lines[each.position - before]
            self.invalid.append(InvalidLine(line, masked(each.raw), each.reason))
        self.intake.invalid.clear()
        return numbers

    def remarks(self, limit: int = _SHOWN) -> list[str]:
        """One line for each invalid number, up to a limit."""
        lines = [f"{self.name}, line {each.line}: {each.number!r}: {each.reason}" for each in self.invalid[:limit]]
        if self.intake.invalid_count > limit:
            lines.append(f"{self.name}: {self.intake.invalid_count - limit:,} more lines without a valid number")
        return lines


async def numbers_of(file: NumberFile, screen: Screen) -> AsyncIterator[str]:
    """The valid numbers of an open file, without holding up whatever else runs.

    Raises:
        SourceFileError: it cannot be read.
    """
    pipe = file.pipe
    while True:
        await (anyio.lowlevel.checkpoint() if pipe is None else anyio.wait_readable(pipe))
        block = file.read_block()
        if block is None:
            return
        for number in screen.admit(block):
            yield number


def survey(path: str, column: str | None, encoding: str | None, suppressed: Container[str]) -> tuple[Screen, int]:
    """Read a whole file, and send nothing.

    Returns:
        The screen, with all its counts, and how many numbers a send would send to.

    Raises:
        SourceFileError: it cannot be read.
    """
    with open_numbers(path, column, encoding) as file:
        screen = Screen(file.name, Intake(seen=SeenNumbers(), suppressed=suppressed))
        return screen, sum(len(screen.admit(block)) for block in file.blocks())


def read_suppressed(path: str | None, journal: str | None = None) -> frozenset[str]:
    """The numbers to leave out; says on stderr which lines are none.

    Args:
        path: file of numbers.
        journal: whose suppression list counts, too.

    Raises:
        SourceFileError: the file cannot be read.
        JournalError: the journal cannot be read.
    """
    listed = frozenset[str]() if journal is None else opted_out(journal)
    if path is None:
        return listed
    with open_numbers(path) as file:
        screen = Screen(file.name)
        numbers = frozenset(number for block in file.blocks() for number in screen.admit(block))
    for line in screen.remarks():
        click.echo(f"suppressed: {line}", err=True)
    return listed | numbers
