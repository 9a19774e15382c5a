"""Phone numbers out of text and CSV files: streamed in constant memory, each with the line it stands in.

What is read how:

- A file whose first line has a comma, a semicolon or a tab (the most frequent one counts), or begins with a quote, is a
  CSV file; any other is a text file with one number a line. Asking for a column makes it a CSV file in any case.
- Blank lines, and rows without anything in any field, are skipped. So are lines that begin with ``#``: everywhere in a
  text file, before the first row in a CSV file (further down they could be inside of a quoted field).
- The first row is a header if its field in the column has a letter and fewer than five digits.
- Without a given column, a CSV file has to have one column, or exactly one field with a phone number in its first row
  (below the header). Nothing is guessed beyond that.
- A byte order mark says UTF-8 or UTF-16. Without one a file is UTF-8 if the first characters outside ASCII are, else
  GBK. GBK never swallows a digit, a delimiter or a line end, so a wrong guess cannot change a number.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, cast

import attrs

from qxt_async.errors import InvalidConfigurationError, SourceFileError
from qxt_async.files.columns import NumberColumn, column_position, is_header

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

__all__ = ["STDIN", "NumberBlock", "NumberFile", "TableFile", "file_format", "is_regular", "open_numbers"]

STDIN = "-"
"""The path that stands for standard input."""

_BLOCK_BYTES = 64 * 1024
# No row of numbers comes near: it is a quote that is never closed, or no text at all.
_ROW_CHARACTERS = 1024 * 1024
_DELIMITERS = ",;\t"
_MARK_BYTES = 4
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_ZIP = b"PK\x03\x04"
_PARQUET = b"PAR1"


@attrs.frozen
class NumberBlock:
    """Some numbers of a file, as they are written there, in order.

    Attributes:
        numbers: not checked, not normalised.
        lines: for each of them the line it stands in (where its row begins), from 1.
        rows: for each of them its row, if rows were asked for and the file has columns; else empty.
    """

    numbers: Sequence[str] = attrs.field(repr=lambda numbers: f"<{len(numbers)}>")
    lines: Sequence[int] = attrs.field(repr=False)
    rows: Sequence[Sequence[str]] = attrs.field(default=(), repr=False)


@attrs.frozen
class TableFile:
    """A file as a source of rows.

    Attributes:
        path: text, CSV, XLSX or Parquet, told apart by what is in it; ``-`` for standard input (text or CSV).
        column: where the phone numbers are: a name in the header, or a position from 1. ``None`` to find out.
        encoding: of a text or CSV file; ``None`` to find out.
        sheet: name of a workbook's sheet, or its position from 1.
    """

    path: str | os.PathLike[str]
    column: str | int | None = attrs.field(default=None, kw_only=True)
    encoding: str | None = attrs.field(default=None, kw_only=True)
    sheet: str | int = attrs.field(default=1, kw_only=True)


def is_regular(path: str | os.PathLike[str]) -> bool:
    """Whether it is an ordinary file, which can be opened and read a second time; a pipe cannot.

    Raises:
        SourceFileError: there is none.
    """
    try:
        return path != STDIN and stat.S_ISREG(Path(path).stat().st_mode)
    except OSError as error:
        raise SourceFileError(os.fspath(path), None, _reason(error)) from error


def file_format(path: str | os.PathLike[str]) -> Literal["text", "xlsx", "parquet"]:
    """What kind of file it is, by its first bytes; what is no ordinary file is text.

    Raises:
        SourceFileError: it cannot be opened.
    """
    if not is_regular(path):
        return "text"
    try:
        with Path(path).open("rb") as stream:
            magic = stream.read(_MARK_BYTES)
    except OSError as error:
        raise SourceFileError(os.fspath(path), None, _reason(error)) from error
    return "xlsx" if magic == _ZIP else "parquet" if magic == _PARQUET else "text"


def open_numbers(
    path: str | os.PathLike[str],
    column: str | int | None = None,
    encoding: str | None = None,
    *,
    rows: bool = False,
) -> NumberFile:
    """Open a file of phone numbers.

    Args:
        path: the file; ``-`` for standard input.
        column: the column of a CSV file: its name in the header, or its position from 1 (an ``int``, or digits).
        encoding: any text encoding that Python knows; ``None`` to find out.
        rows: keep the rows of a CSV file beside the numbers.

    Returns:
        The open file; close it, or use it as a context manager.

    Raises:
        SourceFileError: it cannot be opened.
        InvalidConfigurationError: there is no such encoding, or the position is below 1.
    """
    known = _known_encoding(encoding)
    wanted = column_position(column)
    if path == STDIN:
        return NumberFile(cast("io.BufferedReader", sys.stdin.buffer), "<stdin>", wanted, known, owned=False, rows=rows)
    try:
        stream = Path(path).open("rb")  # noqa: SIM115  (closed by the NumberFile)
    except OSError as error:
        raise SourceFileError(os.fspath(path), None, _reason(error)) from error
    return NumberFile(stream, os.fspath(path), wanted, known, rows=rows)


def _known_encoding(encoding: str | None) -> str | None:
    if encoding is None:
        return None
    try:
        b"0000".decode(encoding, "ignore")  # refuses those that are no text encodings, too
    except LookupError:
        raise InvalidConfigurationError(f"there is no encoding {encoding!r}; try utf-8, gbk or utf-16") from None
    name = codecs.lookup(encoding).name
    return "utf-8" if name == "utf-8-sig" else name


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


class NumberFile:
    """An open file of phone numbers: iterate over it for the numbers, or over `blocks` for the lines as well.

    Attributes:
        name: the path as given, ``<stdin>`` for standard input.
    """

    def __init__(
        self,
        stream: io.BufferedReader,
        name: str,
        column: str | int | None,
        encoding: str | None,
        *,
        owned: bool = True,
        rows: bool = False,
    ) -> None:
        self.name = name
        self._stream = stream
        self._owned = owned
        self._decoder = _Decoder(name, encoding)
        self._rows = _Rows(NumberColumn(name, column), keep=rows)
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, unless it is standard input."""
        if self._owned:
            self._stream.close()

    @property
    def header(self) -> Sequence[str]:
        """The names of a CSV file's columns, as far as it was read; empty if it has none."""
        return self._rows.column.header

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
        """Read once, at most 64 KB.

        Returns:
            The numbers that are complete by now, perhaps none; ``None`` at the end.

        Raises:
            SourceFileError: it cannot be read or decoded, or has not the column; names the line.
        """
        if self._ended:
            return None
        try:
            data = self._stream.read1(_BLOCK_BYTES)
        except OSError as error:
            raise SourceFileError(self.name, None, _reason(error)) from error
        self._ended = not data
        return self._rows.feed(self._decoder.decode(data, final=self._ended), final=self._ended)


class _Decoder:
    """Bytes to text with plain line ends; finds the encoding out if it is not known."""

    def __init__(self, name: str, encoding: str | None) -> None:
        self._name = name
        self._encoding = encoding
        self._decoder: codecs.IncrementalDecoder | None = None
        self._newlines = io.IncrementalNewlineDecoder(None, translate=True)
        self._begun = False
        self._held = b""
        self._offset = 0  # of the first byte that no decoder has seen
        self._line = 1

    def decode(self, data: bytes, *, final: bool) -> str:
        """The text of some more bytes, as far as it is complete."""
        data, self._held = self._held + data, b""
        if not self._begun:
            if len(data) < _MARK_BYTES and not final:
                self._held = data
                return ""
            data = self._begin(data)
        try:
            text = self._decode(data, final=final)
        except UnicodeDecodeError as error:
            raise self._failed(error, len(data)) from None
        self._offset += len(data) - len(self._held)
        text = self._newlines.decode(text, final=final)
        if "\0" in text:
            reason = "it has NUL characters: no text, or UTF-16 without a byte order mark (then say encoding utf-16-le)"
            raise SourceFileError(self._name, self._line + text[: text.index("\0")].count("\n"), reason)
        self._line += text.count("\n")
        return text

    def _begin(self, data: bytes) -> bytes:
        self._begun = True
        if data.startswith(_ZIP):
            raise SourceFileError(self._name, 1, "it is a spreadsheet or an archive: save it as CSV")
        mark, marked = next(((mark, encoding) for mark, encoding in _MARKS if data.startswith(mark)), (b"", None))
        if self._encoding in (None, "utf-16"):
            self._encoding = marked or ("utf-16-le" if self._encoding else None)
        if self._encoding is not None:
            self._decoder = codecs.getincrementaldecoder(self._encoding)()
        if self._encoding != marked:
            return data
        self._offset = len(mark)
        return data[len(mark) :]

    def _decode(self, data: bytes, *, final: bool) -> str:
        if self._decoder is not None:
            return self._decoder.decode(data, final)
        if data.isascii():
            return data.decode("ascii")
        decoder: codecs.IncrementalDecoder = codecs.getincrementaldecoder("utf-8")()
        try:
            text = decoder.decode(data, final)
        except UnicodeDecodeError as not_utf_8:
            decoder = codecs.getincrementaldecoder("gbk")()
            try:
                text = decoder.decode(data, final)
            except UnicodeDecodeError as not_gbk:
                # What got farther is what it was meant to be.
                raise max(not_utf_8, not_gbk, key=lambda error: error.start) from None
        if text.isascii():
            # All that is not ASCII is a character whose end is still to come: too little to decide.
            self._held = data[len(text) :]
            return text
        self._decoder = decoder
        return text

    def _failed(self, error: UnicodeDecodeError, fed: int) -> SourceFileError:
        good = error.object[: error.start].decode(error.encoding, "ignore")
        line = self._line + self._newlines.decode(good, final=True).count("\n")
        # A decoder may have kept the first bytes of a character from before.
        offset = self._offset - (len(error.object) - fed) + error.start
        tried = f"not {self._encoding}" if self._encoding else "neither UTF-8 nor GBK"
        return SourceFileError(
            self._name,
            line,
            f"the byte 0x{error.object[error.start]:02x} at offset {offset} is {tried}; say which encoding",
        )


class _Rows:
    """Text to numbers: lines, or one column of CSV rows."""

    def __init__(self, column: NumberColumn, *, keep: bool = False) -> None:
        self.column = column
        self._keep = keep
        self._delimiter: str | None = None  # "" in a text file, None as long as nobody knows
        self._begun = False
        self._tail = ""
        self._line = 1  # of the tail's first character

    def feed(self, text: str, *, final: bool) -> NumberBlock:
        """The numbers of some more text, as far as their rows are complete."""
        text = self._tail + text
        if self._delimiter is None:
            text = self._without_head(text, final=final)
            end = text.find("\n")
            if end >= 0 or (final and text):
                self._delimiter = self._sniff(text[:end] if end >= 0 else text)
        cut = len(text) if final else self._complete(text)
        text, self._tail = text[:cut], text[cut:]
        if len(self._tail) > _ROW_CHARACTERS:
            raise SourceFileError(
                self.column.name,
                self._line + text.count("\n"),
                f"the row that begins here has more than {_ROW_CHARACTERS} characters: is a quote not closed?",
            )
        if not text:
            return NumberBlock([], [])
        lines = text.removesuffix("\n").split("\n")
        first, self._line = self._line, self._line + text.count("\n")
        return self._read_csv(lines, first) if self._delimiter else self._read_lines(lines, first)

    def _without_head(self, text: str, *, final: bool) -> str:
        """Leave out the blank and comment lines before the first row."""
        start = 0
        while (end := text.find("\n", start)) >= 0 and _skipped(text[start:end]):
            start = end + 1
            self._line += 1
        text = text[start:]
        return "" if final and end < 0 and _skipped(text) else text

    def _sniff(self, line: str) -> str:
        outside = "".join(line.split('"')[::2])
        delimiter = max(_DELIMITERS, key=outside.count)
        quoted = line.lstrip().startswith('"')
        return delimiter if delimiter in outside or quoted or self.column.given else ""

    def _complete(self, text: str) -> int:
        """Where the last complete row ends; the line ends within quotes end none."""
        if self._delimiter is None:
            return 0
        cut = text.rfind("\n") + 1
        odd = text.count('"', 0, cut) % 2 if self._delimiter else 0
        # Counted once and then line by line: a stranger's file must not be counted again for each of its lines.
        while odd:
            before = text.rfind("\n", 0, text.rindex('"', 0, cut)) + 1
            odd = (odd + text.count('"', before, cut)) % 2
            cut = before
        return cut

    def _read_lines(self, lines: list[str], first: int) -> NumberBlock:
        numbers = [number for line in lines if (number := line.strip()) and number[0] != "#"]
        at: Sequence[int] = range(first, first + len(lines))
        if len(numbers) < len(lines):
            at = [number for number, line in enumerate(lines, first) if not _skipped(line)]
        if not self._begun and numbers:
            self._begun = True
            if is_header(numbers[0]):
                return NumberBlock(numbers[1:], at[1:])
        return NumberBlock(numbers, at)

    def _plain(self, lines: list[str]) -> list[str] | None:
        """The numbers of rows of which none has a quote or a blank number: most of them; ``None`` if it takes more."""
        index = self.column.index
        if index is None or self._keep or '"' in "".join(lines):
            return None
        try:
            numbers = [line.split(self._delimiter, index + 1)[index] for line in lines]
        except IndexError:
            return None
        return numbers if all(map(str.strip, numbers)) else None

    def _read_csv(self, lines: list[str], first: int) -> NumberBlock:
        if (plain := self._plain(lines)) is not None:
            return NumberBlock(plain, range(first, first + len(lines)))
        numbers: list[str] = []
        at: list[int] = []
        rows: list[list[str]] = []
        # A line end within quotes is part of a value; in a number it is nothing.
        whole = [line + "\n" for line in lines] if self._keep else lines
        reader = csv.reader(whole, delimiter=self._delimiter or ",", strict=True)
        line = first
        try:
            for row in reader:
                index = self.column.index
                if index is None and any(map(str.strip, row)) and self.column.begins(row, line):
                    index = self.column.index
                if index is not None:
                    number = row[index] if index < len(row) else ""
                    if number.strip() or any(map(str.strip, row)):
                        numbers.append(number)
                        at.append(line)
                        if self._keep:
                            rows.append(row)
                line = first + reader.line_num
        except csv.Error as error:
            reason = f"the row that begins here is not CSV: {error}"
            raise SourceFileError(self.column.name, line, reason) from None
        return NumberBlock(numbers, at, rows)


def _skipped(line: str) -> bool:
    line = line.strip()
    return not line or line[0] == "#"
