"""Files of numbers: reading them, with the lines that have no valid number, and writing them."""

from __future__ import annotations

import itertools
import os
import stat
from typing import TYPE_CHECKING, Self, TextIO

import anyio
import anyio.lowlevel
import attrs
import click

from qxt_async.files import NumberFile
from qxt_async.files.readers import open_reader
from qxt_async.models import mask
from qxt_async.protocol.numbers import Deduplicator, NumberFilter
from qxt_async.runtime.tasks import in_a_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Container, Iterator, Sequence

    from qxt_async.files import NumberBlock, TableFile

_KEPT_LINES = 1000
_SHOWN_LINES = 5


@attrs.frozen
class InvalidLine:
    """A line without a valid number.

    Attributes:
        line: from 1.
        number: what it has instead, masked.
        reason: what is wrong with it.
    """

    line: int
    number: str
    reason: str


class NumberReader:
    """The valid numbers of a text, CSV, XLSX or Parquet file, read once: a context manager and an async iterable.

    Args:
        file: which file.
        number_filter: what the numbers pass; by default repeated numbers stay.
        on_header: called with the names of the columns before the first number; may raise.

    Attributes:
        name: of the file.
        number_filter: with the counts of what was read so far.
        invalid: the first thousand lines without a valid number.

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
        self.name = self._reader.name
        self.number_filter = number_filter or NumberFilter()
        self.invalid: list[InvalidLine] = []
        self._ready: Iterator[str] = iter(())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._reader.close()

    @property
    def header(self) -> Sequence[str]:
        """The names of the columns, once the first row is read."""
        return self._reader.header

    def count_entries(self) -> int:
        """Read to the end and count the entries, valid or not.

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
        """The valid numbers that were read and not iterated over yet."""
        return list(self._ready)

    async def __aiter__(self) -> AsyncIterator[str]:
        """The valid numbers, without blocking the event loop. After leaving early, `blocks` has the rest.

        Raises:
            SourceFileError: it cannot be read.
        """
        while await self.read_async():
            for number in self._ready:
                yield number

    def print_invalid_lines(self, prefix: str = "") -> None:
        """Print the first lines without a valid number on stderr, and how many more there are."""
        for each in self.invalid[:_SHOWN_LINES]:
            click.echo(f"{prefix}{self.name}, line {each.line}: {each.number!r}: {each.reason}", err=True)
        if (more := self.number_filter.invalid_count - _SHOWN_LINES) > 0:
            click.echo(f"{prefix}{self.name}: {more:,} more lines without a valid number", err=True)

    def _read(self) -> bool:
        block = self._reader.read_block()
        if block is None:
            return False
        if self._on_header is not None and block.numbers:
            self._on_header(self.header)
            self._on_header = None
        self._ready = iter(self._filter(block))
        return True

    def _filter(self, block: NumberBlock) -> Sequence[str]:
        before = self.number_filter.read
        numbers = self.number_filter.filter(block.numbers)
        for each in self.number_filter.invalid[: _KEPT_LINES - len(self.invalid)]:
            line = block.lines[each.position - before]
            self.invalid.append(InvalidLine(line, mask(each.raw), each.reason))
        self.number_filter.invalid.clear()
        return numbers

    async def read_async(self) -> bool:
        """Read a part; whether there was one."""
        if not isinstance(self._reader, NumberFile):
            return await in_a_thread(self._read)  # it may unpack much before its first row
        pipe = self._reader.pipe
        await (anyio.lowlevel.checkpoint() if pipe is None else anyio.wait_readable(pipe))
        return self._read()


def read_all(file: TableFile, suppressed: Container[str]) -> tuple[NumberReader, int]:
    """Read a whole file without sending.

    Returns:
        The file, with all its counts, and how many numbers a send would send to.

    Raises:
        SourceFileError: it cannot be read.
    """
    with NumberReader(file, NumberFilter(seen=Deduplicator(), suppressed=suppressed)) as numbers:
        return numbers, sum(map(len, numbers.blocks()))


class NumberWriter:
    """A file for whole numbers, one a line, that only its owner can read.

    It is opened at once, so that a path that cannot work is found before anything is sent. A file with numbers in it is
    never overwritten: they may be the only trace of an earlier send.

    Args:
        path: where; ``None`` writes nothing.
        option: the option it comes from, for errors.

    Attributes:
        path, option: as given.
        count: how many numbers were written.
    """

    def __init__(self, path: str | None = None, option: str = "") -> None:
        self.path = path
        self.option = option
        self.count = 0
        self._file: TextIO | None = None
        if path is None:
            return
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        except OSError as error:
            raise click.UsageError(f"{option} {path}: {error.strerror}.") from error
        self._file = os.fdopen(descriptor, "w", encoding="ascii")
        state = os.fstat(descriptor)
        if stat.S_ISREG(state.st_mode) and state.st_size:
            self._file.close()
            raise click.UsageError(f"{option} {path}: the file exists and is not empty.")

    def write(self, numbers: Sequence[str]) -> None:
        """Write some numbers, and give them to the operating system at once.

        Raises:
            OSError: they cannot be written.
        """
        if self._file is not None and numbers:
            self._file.write("\n".join(numbers) + "\n")
            self._file.flush()
            self.count += len(numbers)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def is_same_file(self, other: NumberWriter) -> bool:
        """Whether two write to one file, and would overwrite each other. Devices do not count."""
        if self._file is None or other._file is None:
            return False
        state = os.fstat(self._file.fileno())
        return stat.S_ISREG(state.st_mode) and os.path.samestat(state, os.fstat(other._file.fileno()))


def refuse_same_file(*files: NumberWriter) -> None:
    """Refuse files of which two are the same, and close all of them then.

    Raises:
        click.UsageError: two are the same.
    """
    for one, other in itertools.combinations(files, 2):
        if one.is_same_file(other):
            for file in files:
                file.close()
            raise click.UsageError(f"{one.option} and {other.option} are one file: give two.")
