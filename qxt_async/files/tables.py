"""Rows with phone numbers out of any source: a file, or an iterable of numbers or mappings."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

import anyio.lowlevel
from anyio import to_thread

from qxt_async.errors import InvalidRequestError, SourceFileError
from qxt_async.files.columns import ColumnReader
from qxt_async.files.readers import TableFile, open_reader
from qxt_async.files.spreadsheets import cell_to_text
from qxt_async.runtime.tasks import in_a_thread

if TYPE_CHECKING:
    from qxt_async.files.columns import NumberBlock
    from qxt_async.files.readers import Reader

Row: TypeAlias = Mapping[str, object]

RowSource: TypeAlias = (
    TableFile | os.PathLike[str] | Iterable[str] | AsyncIterable[str] | Iterable[Row] | AsyncIterable[Row]
)

_BLOCK_ITEMS = 1000


class Table(Protocol):
    """An open source."""

    @property
    def name(self) -> str:
        """The file, or ``source N``."""
        ...

    @property
    def header(self) -> Sequence[str]:
        """The names of the columns, once they were read."""
        ...

    async def read(self) -> NumberBlock | None:
        """Read the next block of rows; ``None`` at the end.

        Raises:
            SourceFileError: it cannot be read; says where.
            InvalidTextError: a wanted column is not there; lists the existing ones.
        """
        ...

    async def aclose(self) -> None:
        """Close the file."""
        ...


async def open_table(source: RowSource, *, wanted: Sequence[str] = (), name: str = "source 1") -> Table:
    """Open a source.

    Args:
        source: a file (`TableFile` or a path object), or any iterable or async iterable of numbers or mappings. The
            number column of mappings is found as in a CSV file.
        wanted: columns whose values are wanted beside the number, each a name or a position from 1.
        name: the name of a source that is no file, for errors.

    Raises:
        SourceFileError: it cannot be opened.
        InvalidConfigurationError: it is a spreadsheet, and the extra ``files`` is not installed.
        InvalidRequestError: it is no source.
    """
    if isinstance(source, str | bytes):
        raise InvalidRequestError("a source is one string: pass Path(…) for a file, or a list of numbers")
    if isinstance(source, os.PathLike):
        source = TableFile(source)
    if isinstance(source, TableFile):
        return _FileTable(await to_thread.run_sync(open_reader, source, wanted))
    if isinstance(source, AsyncIterable | Iterable):
        return _IterableTable(source, ColumnReader(name, values=wanted))
    raise InvalidRequestError(f"a source is {type(source).__name__}: pass a path or an iterable")


class _FileTable:
    """A file, read in worker threads."""

    def __init__(self, reader: Reader) -> None:
        self.name = reader.name
        self._reader = reader

    @property
    def header(self) -> Sequence[str]:
        return self._reader.header

    async def read(self) -> NumberBlock | None:
        return await in_a_thread(self._reader.read_block)

    async def aclose(self) -> None:
        self._reader.close()


class _IterableTable:
    """An iterable of numbers or mappings, read in the event loop."""

    def __init__(self, source: Iterable[Any] | AsyncIterable[Any], columns: ColumnReader) -> None:
        self.name = columns.name
        self._source: Iterator[Any] | AsyncIterator[Any] = (
            aiter(source) if isinstance(source, AsyncIterable) else iter(source)
        )
        self._columns = columns
        self._count = 0
        self._keys: tuple[str, ...] | None = None

    @property
    def header(self) -> Sequence[str]:
        return self._columns.header

    async def aclose(self) -> None:
        pass  # the caller owns the iterable

    async def read(self) -> NumberBlock | None:
        items = await self._next_items()
        if not items:
            return None
        lines = range(self._count + 1, self._count + len(items) + 1)
        self._count += len(items)
        if self._keys is None and isinstance(items[0], Mapping):
            self._keys = tuple(map(str, cast("Row", items[0])))
            self._columns.use_header(self._keys)
        if self._keys is None:
            return self._columns.read_single(items, lines)
        return self._columns.read((line, self._row(item, line)) for line, item in zip(lines, items, strict=True))

    def _row(self, item: Row, line: int) -> list[str]:
        if not isinstance(item, Mapping):
            raise SourceFileError(self.name, line, "this item is no mapping, as those before are")
        return [cell_to_text(item.get(key)) for key in self._keys or ()]

    async def _next_items(self) -> list[Any]:
        if not isinstance(self._source, AsyncIterator):
            await anyio.lowlevel.checkpoint()
            return list(islice(self._source, _BLOCK_ITEMS))
        items: list[Any] = []
        async for item in self._source:
            items.append(item)
            if len(items) == _BLOCK_ITEMS:
                break
        return items
