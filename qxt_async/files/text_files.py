"""Phone numbers out of text and CSV files, in constant memory, each with its line.

- A file is a CSV file if its first line has a comma, a semicolon or a tab (the most frequent one is the delimiter), if
  the line begins with a quote, or if the caller names a column. Otherwise it is a text file with one number per line.
- Blank lines are skipped. Lines that begin with ``#`` are skipped everywhere in a text file, and before the first row
  of a CSV file. Further down in a CSV file they could be part of a quoted field.

`qxt_async.files.columns` finds the number column, `qxt_async.files.decoding` the encoding.
"""

from __future__ import annotations

import csv
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

from qxt_async.errors import SourceFileError
from qxt_async.files.columns import ColumnReader, NumberBlock, column_position, looks_like_header
from qxt_async.files.decoding import TextDecoder, check_encoding

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator, Sequence

STDIN = "-"
"""The path that stands for standard input."""

BLOCK_BYTES = 64 * 1024
# A longer row has a quote that is never closed, or the file is not text at all.
MAX_ROW_CHARACTERS = 1024 * 1024
_DELIMITERS = ",;\t"


def open_numbers(
    path: str | os.PathLike[str],
    column: str | int | None = None,
    encoding: str | None = None,
    *,
    values: Sequence[str] = (),
) -> NumberFile:
    """Open a text or CSV file of phone numbers.

    Args:
        path: the file; ``-`` for standard input.
        column: the number column of a CSV file: its name in the header, or its position from 1 (an ``int``, or digits).
        encoding: any text encoding that Python knows; ``None`` to find it.
        values: further columns of a CSV file to read, each a name or a position from 1.

    Returns:
        The open file. Close it, or use it as a context manager.

    Raises:
        SourceFileError: it cannot be opened.
        InvalidConfigurationError: there is no such encoding, or the position is below 1.
    """
    encoding, column = check_encoding(encoding), column_position(column)
    if path == STDIN:
        stream = cast("io.BufferedReader", sys.stdin.buffer)
        return NumberFile(stream, ColumnReader("<stdin>", column, values), encoding, owned=False)
    try:
        stream = Path(path).open("rb")  # noqa: SIM115  (closed by the NumberFile)
    except OSError as error:
        raise read_failure(path, error) from error
    return NumberFile(stream, ColumnReader(os.fspath(path), column, values), encoding)


def read_failure(path: str | os.PathLike[str], error: OSError) -> SourceFileError:
    """The error for a file that the operating system cannot open or read."""
    return SourceFileError(os.fspath(path), None, error.strerror or type(error).__name__)


class NumberFile:
    """An open file of phone numbers. Iterate over it for the numbers, or over `blocks` for their lines as well.

    Attributes:
        name: the path as given, ``<stdin>`` for standard input.
    """

    def __init__(
        self, stream: io.BufferedReader, columns: ColumnReader, encoding: str | None, *, owned: bool = True
    ) -> None:
        self.name = columns.name
        self._stream = stream
        self._owned = owned
        self._decoder = TextDecoder(columns.name, encoding)
        self._rows = _RowReader(columns)
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, unless it is standard input."""
        if self._owned:
            self._stream.close()

    @property
    def header(self) -> Sequence[str]:
        """The names of a CSV file's columns, once they were read; empty if it has none."""
        return self._rows.columns.header

    @property
    def pipe(self) -> int | None:
        """The file descriptor to wait for before `read_block`, if reading may block: a pipe, a socket, a terminal."""
        try:
            descriptor = self._stream.fileno()
        except OSError:  # a stream in memory
            return None
        mode = os.fstat(descriptor).st_mode
        return descriptor if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor) else None

    def __iter__(self) -> Iterator[str]:
        for block in self.blocks():
            yield from block.numbers

    def blocks(self) -> Iterator[NumberBlock]:
        """The numbers in blocks of some thousands. Raises like `read_block`."""
        while (block := self.read_block()) is not None:
            yield block

    def read_block(self) -> NumberBlock | None:
        """Read at most 64 KB.

        Returns:
            The numbers whose rows are complete, perhaps none; ``None`` at the end.

        Raises:
            SourceFileError: it cannot be read or decoded, or the number column is not there; names the line.
            InvalidTextError: a requested column is not there.
        """
        if self._ended:
            return None
        try:
            data = self._stream.read1(BLOCK_BYTES)
        except OSError as error:
            raise read_failure(self.name, error) from error
        self._ended = not data
        return self._rows.read(self._decoder.decode(data, final=self._ended), final=self._ended)


class _RowReader:
    """Splits text into lines or CSV rows, and reads the numbers in them."""

    def __init__(self, columns: ColumnReader) -> None:
        self.columns = columns
        self._delimiter: str | None = None  # "" in a text file, None until it is known
        self._started = False
        self._tail = ""
        self._line = 1  # of the tail's first character

    def read(self, text: str, *, final: bool) -> NumberBlock:
        """Read some more text, as far as its rows are complete."""
        text = self._tail + text
        if self._delimiter is None:
            text = self._skip_head(text, final=final)
            end = text.find("\n")
            if end >= 0 or (final and text):
                self._delimiter = self._find_delimiter(text[:end] if end >= 0 else text)
        cut = len(text) if final else self._complete_length(text)
        text, self._tail = text[:cut], text[cut:]
        if len(self._tail) > MAX_ROW_CHARACTERS:
            reason = f"the row that begins here has more than {MAX_ROW_CHARACTERS} characters: is a quote not closed?"
            raise SourceFileError(self.columns.name, self._line + text.count("\n"), reason)
        if not text:
            return NumberBlock([], [])
        lines = text.removesuffix("\n").split("\n")
        first, self._line = self._line, self._line + text.count("\n")
        return self._read_csv(lines, first) if self._delimiter else self._read_text(lines, first)

    def _skip_head(self, text: str, *, final: bool) -> str:
        """Skip the blank and comment lines before the first row."""
        start = 0
        while (end := text.find("\n", start)) >= 0 and _is_skipped(text[start:end]):
            start = end + 1
            self._line += 1
        text = text[start:]
        return "" if final and end < 0 and _is_skipped(text) else text

    def _find_delimiter(self, line: str) -> str:
        outside = "".join(line.split('"')[::2])
        delimiter = max(_DELIMITERS, key=outside.count)
        quoted = line.lstrip().startswith('"')
        return delimiter if delimiter in outside or quoted or self.columns.column_given else ""

    def _complete_length(self, text: str) -> int:
        """The length of the complete rows. A line end within quotes does not end a row."""
        if self._delimiter is None:
            return 0
        cut = text.rfind("\n") + 1
        odd = text.count('"', 0, cut) % 2 if self._delimiter else 0
        # The quotes are counted once, then line by line: counting anew for each line would be quadratic.
        while odd:
            before = text.rfind("\n", 0, text.rindex('"', 0, cut)) + 1
            odd = (odd + text.count('"', before, cut)) % 2
            cut = before
        return cut

    def _read_text(self, lines: list[str], first: int) -> NumberBlock:
        numbers = [number for line in lines if (number := line.strip()) and number[0] != "#"]
        numbered: Sequence[int] = range(first, first + len(lines))
        if len(numbers) < len(lines):
            numbered = [number for number, line in enumerate(lines, first) if not _is_skipped(line)]
        if not self._started and numbers:
            self._started = True
            if looks_like_header(numbers[0]):
                numbers, numbered = numbers[1:], numbered[1:]
        return self.columns.read_single(numbers, numbered)

    def _read_csv(self, lines: list[str], first: int) -> NumberBlock:
        if (numbers := self._split(lines)) is not None:
            return NumberBlock(numbers, range(first, first + len(lines)))
        return self.columns.read(self._csv_rows(lines, first))

    def _split(self, lines: list[str]) -> list[str] | None:
        """The fast way: the numbers of rows without quotes and blank numbers; ``None`` if there are others."""
        index = self.columns.index
        if index is None or self.columns.values or '"' in "".join(lines):
            return None
        try:
            numbers = [line.split(self._delimiter, index + 1)[index] for line in lines]
        except IndexError:
            return None
        return numbers if all(map(str.strip, numbers)) else None

    def _csv_rows(self, lines: list[str], first: int) -> Iterator[tuple[int, list[str]]]:
        # A line end within quotes is part of a value, but is dropped from a number.
        ended = [line + "\n" for line in lines] if self.columns.values else lines
        reader = csv.reader(ended, delimiter=self._delimiter or ",", strict=True)
        line = first
        try:
            for row in reader:
                yield line, row
                line = first + reader.line_num
        except csv.Error as error:
            reason = f"the row that begins here is not CSV: {error}"
            raise SourceFileError(self.columns.name, line, reason) from None


def _is_skipped(line: str) -> bool:
    line = line.strip()
    return not line or line[0] == "#"
