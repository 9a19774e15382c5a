"""Rows with phone numbers, of whatever kind of source, as one kind of table.

Text and CSV files are read by `qxt_async.files.sources`, with its rules for columns and encodings; XLSX and Parquet
files by libraries of the extra ``files``; in Python any iterable or async iterable of numbers or of mappings is a
source too.

What a spreadsheet made of a phone number is taken back where nothing is lost, and only there:

- A numeric cell is its whole digits: 13800138000.0 is ``13800138000``.
- Text such as ``13800138000.0`` or ``1.3800138000E+10`` is the digits it spells out, all of them.
- Text such as ``1.38E+10`` has lost digits. It is invalid, and the reason says so.
"""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

import anyio.lowlevel
import attrs
from anyio import to_thread

from qxt_async.errors import InvalidNumberError, InvalidRequestError, SourceFileError
from qxt_async.files.columns import NumberColumn, column_position
from qxt_async.files.sources import NumberBlock, TableFile, file_format, open_numbers
from qxt_async.files.templates import find_column
from qxt_async.models import mask
from qxt_async.runtime.tasks import in_a_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Row", "RowSource", "Table", "TableFile", "open_reader", "open_table", "restored"]

Row: TypeAlias = Mapping[str, object]

_SLICE = 1000
_ROUNDED = re.compile(r"([0-9]+)\.0+")
_SCIENTIFIC = re.compile(r"([0-9])(?:\.([0-9]+))?[eE]\+?([0-9]{1,2})")


RowSource: TypeAlias = (
    TableFile | os.PathLike[str] | Iterable[str] | AsyncIterable[str] | Iterable[Row] | AsyncIterable[Row]
)


class Reader(Protocol):
    """What knows one kind of file. It blocks, so it is used in a worker thread."""

    @property
    def header(self) -> Sequence[str]:
        """The names of the columns, as far as they are known."""
        ...

    def read_block(self) -> NumberBlock | None:
        """Some more numbers with their rows; ``None`` at the end."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class Table(Protocol):
    """Rows to be read one after the other.

    Attributes:
        name: of the file, or ``source N``.
    """

    name: str

    @property
    def header(self) -> Sequence[str]:
        """The names of the columns, as far as they are known."""
        ...

    async def read(self) -> NumberBlock | None:
        """Read on.

        Returns:
            Numbers with their lines, and in `rows` for each of them the values of the wanted columns in the wanted
            order (empty if none are wanted). ``None`` at the end.

        Raises:
            SourceFileError: it cannot be read; says where.
            InvalidTextError: a wanted column is not there; lists those that are.
        """
        ...

    async def aclose(self) -> None:
        """Close what was opened."""
        ...


async def open_table(source: RowSource, *, wanted: Sequence[str] = (), name: str = "source 1") -> Table:
    """Open a source.

    Args:
        source: a file (`TableFile` or a path object), or any iterable or async iterable of numbers or mappings. A
            mapping's number is found like a CSV file's column.
        wanted: columns whose values are wanted beside the number, each a name or a position from 1.
        name: what to call a source that is no file.

    Raises:
        SourceFileError: it cannot be opened; or the extra ``files`` is not installed and it is a spreadsheet.
        InvalidRequestError: it is no source.
    """
    if isinstance(source, str | bytes):
        raise InvalidRequestError("a source is one string: pass Path(…) for a file, or a list of numbers")
    if isinstance(source, os.PathLike):
        source = TableFile(source)
    if isinstance(source, TableFile):
        return _FileTable(await to_thread.run_sync(open_reader, source), os.fspath(source.path), wanted)
    if isinstance(source, AsyncIterable | Iterable):
        return _ItemTable(source, name, wanted)
    raise InvalidRequestError(f"a source is {type(source).__name__}: pass a path or an iterable")


def open_reader(file: TableFile) -> Reader:
    """Open a file of any kind. It blocks.

    Raises:
        SourceFileError: it cannot be opened.
        InvalidConfigurationError: the extra ``files`` is missing, or an option cannot work.
    """
    path, column = os.fspath(file.path), column_position(file.column)
    found = file_format(path)
    if found == "xlsx":
        from qxt_async.files.workbooks import WorkbookReader

        return WorkbookReader(path, column, file.sheet)
    if found == "parquet":
        from qxt_async.files.parquet import ParquetReader

        return ParquetReader(path, column)
    return open_numbers(path, column, file.encoding, rows=True)


def cell_to_text(value: object) -> str:
    """A cell as text: whole numbers without a fraction, dates as in ISO 8601, nothing as an empty text."""
    if isinstance(value, str):
        return value
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, dt.datetime):
        return value.isoformat(" ", "minutes") if value.time() != dt.time() else value.date().isoformat()
    return str(value)


def restored(raw: Any) -> Any:
    """The digits of a number that a spreadsheet wrote as another kind of number; see the module's rule.

    Raises:
        InvalidNumberError: digits are lost.
    """
    text = raw.strip() if isinstance(raw, str) else ""
    if match := _ROUNDED.fullmatch(text):
        return match[1]
    if match := _SCIENTIFIC.fullmatch(text):
        fraction, exponent = match[2] or "", int(match[3])
        if len(fraction.rstrip("0")) <= exponent <= len(fraction):
            return match[1] + fraction[:exponent]
        reason = "a spreadsheet has rounded it; make the column a text column there and export again"
        raise InvalidNumberError(mask(raw), reason)
    return raw


class _Selection:
    """The wanted columns of rows whose header is known only while reading."""

    def __init__(self, wanted: Sequence[str]) -> None:
        self._wanted = wanted
        self._indices: list[int] | None = None

    def __call__(self, block: NumberBlock, header: Sequence[str]) -> NumberBlock:
        if not self._wanted or not block.numbers:
            return attrs.evolve(block, rows=())
        if self._indices is None:
            existing = header or ([""] * len(block.rows[0]) if block.rows else [])
            self._indices = [find_column(name, existing) for name in self._wanted]
        indices, enough = self._indices, max(self._indices) + 1
        rows = [
            tuple([row[index] for index in indices])
            if len(row) >= enough
            else tuple([row[index] if index < len(row) else "" for index in indices])
            for row in block.rows
        ]
        return attrs.evolve(block, rows=rows)


class _FileTable:
    """A file, read in worker threads."""

    def __init__(self, reader: Reader, name: str, wanted: Sequence[str]) -> None:
        self.name = name
        self._reader = reader
        self._select = _Selection(wanted)

    @property
    def header(self) -> Sequence[str]:
        return self._reader.header

    async def read(self) -> NumberBlock | None:
        return await in_a_thread(self._read)

    def _read(self) -> NumberBlock | None:
        block = self._reader.read_block()
        return None if block is None else self._select(block, self._reader.header)

    async def aclose(self) -> None:
        self._reader.close()


class _ItemTable:
    """An iterable of numbers or mappings, read in the event loop."""

    def __init__(self, source: Iterable[Any] | AsyncIterable[Any], name: str, wanted: Sequence[str]) -> None:
        self.name = name
        self._source: Iterator[Any] | AsyncIterator[Any] = (
            aiter(source) if isinstance(source, AsyncIterable) else iter(source)
        )
        self._select = _Selection(wanted)
        self._taken = 0
        self._rows: RowCutter | None = None
        self._keys: tuple[str, ...] = ()

    @property
    def header(self) -> Sequence[str]:
        return self._keys

    async def aclose(self) -> None:
        pass  # whoever made the iterable ends it

    async def read(self) -> NumberBlock | None:
        items = await self._items()
        if not items:
            return None
        first = self._taken + 1
        self._taken += len(items)
        if not isinstance(items[0], Mapping) and self._rows is None:
            return self._select(NumberBlock(items, range(first, first + len(items))), ())
        if self._rows is None:
            self._keys = tuple(map(str, cast("Row", items[0])))
            self._rows = RowCutter(self.name, None, first=first)
            self._rows.column.begins(self._keys, 0)
        block = self._rows.cut([self._row(item, line) for line, item in enumerate(items, first)])
        return self._select(block, self._keys)

    def _row(self, item: Mapping[str, object], line: int) -> list[str]:
        if not isinstance(item, Mapping):
            raise SourceFileError(self.name, line, "this item is no mapping, as those before are")
        return [cell_to_text(item.get(key)) for key in self._keys]

    async def _items(self) -> list[Any]:
        items: list[Any] = []
        if isinstance(self._source, AsyncIterator):
            async for item in self._source:
                items.append(item)
                if len(items) == _SLICE:
                    break
            return items
        await anyio.lowlevel.checkpoint()
        for item in self._source:
            items.append(item)
            if len(items) == _SLICE:
                break
        return items


class RowCutter:
    """Rows of values to numbers with rows: finds the column by the rules of `qxt_async.files.sources`.

    Args:
        name: of the table, for errors.
        column: as `NumberColumn`.
        first: line of the first row.
    """

    def __init__(self, name: str, column: str | int | None, *, first: int = 1) -> None:
        self.column = NumberColumn(name, column)
        self._line = first

    def cut(self, rows: Sequence[Sequence[Any]], *, convert: Callable[[Any], str] | None = None) -> NumberBlock:
        """Take the next rows; blank ones are left out."""
        numbers: list[str] = []
        lines: list[int] = []
        kept: list[Sequence[str]] = []
        for line, raw in enumerate(rows, self._line):
            row = [convert(value) for value in raw] if convert else raw
            if not any(map(str.strip, row)):
                continue
            if self.column.index is None and not self.column.begins(row, line):
                continue
            index = self.column.index or 0
            numbers.append(row[index] if index < len(row) else "")
            lines.append(line)
            kept.append(row)
        self._line += len(rows)
        return NumberBlock(numbers, lines, kept)
