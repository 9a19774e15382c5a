"""From a file to the numbers in it: what is none is left out, and told with its line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import anyio
import anyio.lowlevel
import attrs
import click

from qxt_async.cli.journals import opted_out
from qxt_async.files import NumberFile, TableFile
from qxt_async.files.readers import open_reader
from qxt_async.models import mask
from qxt_async.protocol.numbers import Deduplicator, NumberFilter
from qxt_async.runtime.tasks import in_a_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Container, Iterator, Sequence
    from types import TracebackType

    from qxt_async.files import NumberBlock

__all__ = ["FileNumbers", "InvalidLine", "Screen", "read_suppressed", "survey"]

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

    def __init__(self, name: str, number_filter: NumberFilter | None = None) -> None:
        self.name = name
        self.number_filter = number_filter or NumberFilter()
        self.invalid: list[InvalidLine] = []

    def filter(self, block: NumberBlock) -> Sequence[str]:
        """The valid numbers of a block, normalised."""
        before = self.number_filter.read
        numbers = self.number_filter.filter(block.numbers)
        for each in self.number_filter.invalid[: _KEPT - len(self.invalid)]:
            line = block.lines[each.position - before]
            self.invalid.append(InvalidLine(line, mask(each.raw), each.reason))
        self.number_filter.invalid.clear()
        return numbers

    def remarks(self, limit: int = _SHOWN) -> list[str]:
        """One line for each invalid number, up to a limit."""
        lines = [f"{self.name}, line {each.line}: {each.number!r}: {each.reason}" for each in self.invalid[:limit]]
        if self.number_filter.invalid_count > limit:
            lines.append(f"{self.name}: {self.number_filter.invalid_count - limit:,} more lines without a valid number")
        return lines


class FileNumbers:
    """The valid numbers of a text, CSV, XLSX or Parquet file, read once: a context manager and an async iterable.

    Args:
        file: which.
        intake: what the numbers pass; see `Screen`.
        on_header: told the names of the columns before the first number is given out; may raise.

    Attributes:
        screen: with the counts of what was read so far.

    Raises:
        SourceFileError: it cannot be opened.
        InvalidConfigurationError: an option cannot work, or the extra ``files`` is missing.
    """

    def __init__(
        self,
        file: TableFile,
        number_filter: NumberFilter | None = None,
        *,
        on_header: Callable[[Sequence[str]], None] | None = None,
    ) -> None:
        self._reader = open_reader(file)
        self._on_header = on_header
        self.screen = Screen(self._reader.name, number_filter)
        self._ready: Iterator[str] = iter(())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._reader.close()

    @property
    def header(self) -> Sequence[str]:
        """The names of the columns, as far as it was read."""
        return self._reader.header

    def count(self) -> int:
        """Read to the end, and say how many entries there are, valid or not.

        Raises:
            SourceFileError: it cannot be read.
        """
        count = 0
        while (block := self._reader.read_block()) is not None:
            count += len(block.numbers)
        return count

    def blocks(self) -> Iterator[Sequence[str]]:
        """The valid numbers that were not iterated over yet, in blocks.

        Raises:
            SourceFileError: it cannot be read.
        """
        yield self.ready()
        while self._read():
            yield self.ready()

    def ready(self) -> list[str]:
        """The valid numbers that were read, and not iterated over yet."""
        return list(self._ready)

    async def __aiter__(self) -> AsyncIterator[str]:
        """The valid numbers, without holding up whatever else runs. Left early, the others are still there.

        Raises:
            SourceFileError: it cannot be read.
        """
        while await self._read_on():
            for number in self._ready:
                yield number

    def _read(self) -> bool:
        block = self._reader.read_block()
        if block is None:
            return False
        if self._on_header is not None and block.numbers:
            self._on_header(self.header)
            self._on_header = None
        self._ready = iter(self.screen.filter(block))
        return True

    async def _read_on(self) -> bool:
        if not isinstance(self._reader, NumberFile):
            return await in_a_thread(self._read)  # may unpack much before its first row
        pipe = self._reader.pipe
        await (anyio.lowlevel.checkpoint() if pipe is None else anyio.wait_readable(pipe))
        return self._read()


def survey(file: TableFile, suppressed: Container[str]) -> tuple[FileNumbers, int]:
    """Read a whole file, and send nothing.

    Returns:
        The file, read to its end, with all counts of its screen, and how many numbers a send would send to.

    Raises:
        SourceFileError: it cannot be read.
    """
    with FileNumbers(file, NumberFilter(seen=Deduplicator(), suppressed=suppressed)) as numbers:
        return numbers, sum(map(len, numbers.blocks()))


def read_suppressed(path: str | None, journal: str | None = None) -> frozenset[str]:
    """The numbers to leave out; says on stderr which lines are none.

    Args:
        path: file of numbers.
        journal: whose suppression list counts, too.

    Raises:
        SourceFileError: the file cannot be read.
        FailedError: the journal cannot be read.
    """
    listed = frozenset[str]() if journal is None else opted_out(journal)
    if path is None:
        return listed
    with FileNumbers(TableFile(path)) as numbers:
        listed |= {number for block in numbers.blocks() for number in block}
    for line in numbers.screen.remarks():
        click.echo(f"suppressed: {line}", err=True)
    return listed
