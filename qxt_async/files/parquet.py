"""Parquet files, through pyarrow (extra ``files``): read and written in pieces, whatever their size."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from qxt_async.errors import InvalidConfigurationError, SourceFileError
from qxt_async.files.columns import shown_column
from qxt_async.files.tables import RowCutter, cell_to_text
from qxt_async.runtime.words import missing_extra

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from qxt_async.files.sources import NumberBlock

__all__ = ["ParquetReader", "ParquetWriter"]

_ROWS: Final = 2000
# Of a row group, unpacked, as the footer says; what writes rows makes groups of some hundred megabytes at most.
_GROUP: Final = 1 << 30


def _pyarrow() -> tuple[Any, Any]:
    try:
        # By name, since it comes without types.
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise InvalidConfigurationError(missing_extra("files", "a Parquet file")) from None


class ParquetReader:
    """The rows of a file; "lines" are row numbers from 1.

    Args:
        path: the file.
        column: as `NumberColumn`.

    Raises:
        SourceFileError: it is no Parquet file, or wants to be unpacked by the gigabyte.
        InvalidConfigurationError: the extra is missing.
    """

    def __init__(self, path: str, column: str | int | None) -> None:
        self._arrow, parquet = _pyarrow()
        self._path = path
        try:
            self._file = parquet.ParquetFile(path)
        except (self._arrow.ArrowException, OSError) as error:
            raise self._damaged(error) from error
        groups = self._file.metadata
        if any(groups.row_group(place).total_byte_size > _GROUP for place in range(groups.num_row_groups)):
            reason = f"a row group unpacks to more than {_GROUP >> 20} MB: write it with smaller ones"
            raise SourceFileError(path, None, reason)
        self._names = tuple(self._file.schema_arrow.names)
        self._cutter = RowCutter(path, column)
        self._known = False
        self._batches: Iterator[Any] = self._file.iter_batches(batch_size=_ROWS)

    def _damaged(self, error: Exception) -> SourceFileError:
        return SourceFileError(self._path, None, f"it cannot be read as Parquet ({type(error).__name__})")

    @property
    def header(self) -> Sequence[str]:
        """See `Reader`."""
        return self._names

    def read_block(self) -> NumberBlock | None:
        """See `Reader`."""
        try:
            batch = next(self._batches, None)
        except (self._arrow.ArrowException, OSError) as error:
            raise self._damaged(error) from error
        if batch is None:
            return None
        if not self._known:
            self._known = True
            self._cutter.column.begins(self._names, 0)
        columns = [self._values(place, column) for place, column in enumerate(batch.columns)]
        return self._cutter.cut(list(zip(*columns, strict=True)), convert=cell_to_text)

    def _values(self, place: int, column: Any) -> list[Any]:
        try:
            return list(column.to_pylist())
        except Exception as error:  # of many kinds: nanoseconds, years and time zones that Python has not
            name = shown_column(place + 1, self._names[place])
            reason = f"column {name} has a value that cannot be read ({type(error).__name__}): make it text"
            raise SourceFileError(self._path, None, reason) from error

    def close(self) -> None:
        """See `Reader`."""
        self._file.close()


class ParquetWriter:
    """Rows of text and times to a file, a row group at a time.

    Args:
        path: the file to write.
        columns: name and kind (``text``, ``time``, ``whole``, ``yes``) of each.

    Raises:
        InvalidConfigurationError: the extra is missing.
    """

    def __init__(self, path: str | os.PathLike[str], columns: Mapping[str, str]) -> None:
        self._arrow, parquet = _pyarrow()
        arrow = self._arrow
        kinds = {
            "text": arrow.string(),
            "time": arrow.timestamp("us", tz="UTC"),
            "whole": arrow.int64(),
            "yes": arrow.bool_(),
        }
        self._schema = arrow.schema([(name, kinds[kind]) for name, kind in columns.items()])
        self._writer = parquet.ParquetWriter(path, self._schema, compression="zstd")

    def write(self, rows: Sequence[Sequence[object]]) -> None:
        """Write some thousands of rows; each call makes a row group."""
        columns = zip(*rows, strict=True)
        arrays = [self._arrow.array(values, field.type) for values, field in zip(columns, self._schema, strict=True)]
        self._writer.write_batch(self._arrow.record_batch(arrays, schema=self._schema))

    def close(self) -> None:
        """Write the end of the file, without which it cannot be read."""
        self._writer.close()
