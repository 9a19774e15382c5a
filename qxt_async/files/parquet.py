"""Parquet files, through pyarrow (extra ``files``): read and written piece by piece."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from qxt_async.errors import InvalidConfigurationError, SourceFileError
from qxt_async.files.columns import describe_column
from qxt_async.files.spreadsheets import cell_to_text
from qxt_async.runtime.words import missing_extra

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from qxt_async.files.columns import ColumnReader, NumberBlock

_ROWS: Final = 2000
# Unpacked bytes of a row group, as the footer says. Programs write groups of some hundred megabytes at most.
MAX_ROW_GROUP: Final = 1 << 30


def _pyarrow() -> tuple[Any, Any]:
    try:
        # By name, since it has no types.
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise InvalidConfigurationError(missing_extra("files", "a Parquet file")) from None


class ParquetReader:
    """The rows of a file. Their lines are row numbers from 1.

    Args:
        columns: for the rows; its name is the path of the file.

    Raises:
        SourceFileError: the file is no Parquet file, a row group is too large, or the number column is not there.
        InvalidConfigurationError: the extra is missing.
    """

    def __init__(self, columns: ColumnReader) -> None:
        self._arrow, parquet = _pyarrow()
        self.name = columns.name
        try:
            self._file = parquet.ParquetFile(self.name)
        except (self._arrow.ArrowException, OSError) as error:
            raise self._damaged(error) from error
        groups = self._file.metadata
        if any(groups.row_group(place).total_byte_size > MAX_ROW_GROUP for place in range(groups.num_row_groups)):
            reason = f"a row group unpacks to more than {MAX_ROW_GROUP >> 20} MB: write it with smaller ones"
            raise SourceFileError(self.name, None, reason)
        columns.use_header(tuple(self._file.schema_arrow.names))
        self._columns = columns
        self._count = 0
        self._batches: Iterator[Any] = self._file.iter_batches(batch_size=_ROWS)

    def _damaged(self, error: Exception) -> SourceFileError:
        return SourceFileError(self.name, None, f"it cannot be read as Parquet ({type(error).__name__})")

    @property
    def header(self) -> Sequence[str]:
        """The names of the columns."""
        return self._columns.header

    def read_block(self) -> NumberBlock | None:
        """Read some more rows; ``None`` at the end."""
        try:
            batch = next(self._batches, None)
        except (self._arrow.ArrowException, OSError) as error:
            raise self._damaged(error) from error
        if batch is None:
            return None
        columns = [self._values(place, column) for place, column in enumerate(batch.columns)]
        rows = enumerate(zip(*columns, strict=True), self._count + 1)
        self._count += batch.num_rows
        return self._columns.read((line, list(map(cell_to_text, row))) for line, row in rows)

    def _values(self, place: int, column: Any) -> list[Any]:
        try:
            return list(column.to_pylist())
        except Exception as error:  # of many types: nanoseconds, years and time zones that Python does not have
            name = describe_column(place + 1, self.header[place])
            reason = f"column {name} has a value that cannot be read ({type(error).__name__}): make it text"
            raise SourceFileError(self.name, None, reason) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class ParquetWriter:
    """Writes rows to a file.

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
        """Write rows, as one row group: pass some thousands at a time."""
        columns = zip(*rows, strict=True)
        arrays = [self._arrow.array(values, field.type) for values, field in zip(columns, self._schema, strict=True)]
        self._writer.write_batch(self._arrow.record_batch(arrays, schema=self._schema))

    def close(self) -> None:
        """Write the footer and close the file; without the footer it cannot be read."""
        self._writer.close()
