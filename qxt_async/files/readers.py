"""Files of phone numbers of every kind: text, CSV, XLSX and Parquet, told apart by their first bytes."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs

from qxt_async.files.columns import ColumnReader, column_position
from qxt_async.files.decoding import ZIP_MAGIC
from qxt_async.files.text_files import STDIN, open_numbers, read_failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qxt_async.files.parquet import ParquetReader
    from qxt_async.files.text_files import NumberFile
    from qxt_async.files.workbooks import WorkbookReader

    # Their methods block, so they run in a worker thread.
    Reader: TypeAlias = NumberFile | WorkbookReader | ParquetReader

_PARQUET_MAGIC = b"PAR1"


@attrs.frozen
class TableFile:
    """A file as a source of rows.

    Attributes:
        path: text, CSV, XLSX or Parquet; ``-`` for standard input (text or CSV).
        column: the number column: a name in the header, or a position from 1. ``None`` to find it.
        encoding: of a text or CSV file; ``None`` to find it.
        sheet: name of a workbook's sheet, or its position from 1.
    """

    path: str | os.PathLike[str]
    column: str | int | None = attrs.field(default=None, kw_only=True)
    encoding: str | None = attrs.field(default=None, kw_only=True)
    sheet: str | int = attrs.field(default=1, kw_only=True)


def is_regular(path: str | os.PathLike[str]) -> bool:
    """Whether it is an ordinary file, which can be read a second time; a pipe cannot.

    Raises:
        SourceFileError: there is no such file.
    """
    try:
        return path != STDIN and stat.S_ISREG(Path(path).stat().st_mode)
    except OSError as error:
        raise read_failure(path, error) from error


def file_format(path: str | os.PathLike[str]) -> Literal["text", "xlsx", "parquet"]:
    """The kind of a file, by its first bytes. Text and CSV are both ``text``, and so is every pipe.

    Raises:
        SourceFileError: it cannot be opened.
    """
    if not is_regular(path):
        return "text"
    try:
        with Path(path).open("rb") as stream:
            magic = stream.read(len(ZIP_MAGIC))
    except OSError as error:
        raise read_failure(path, error) from error
    return "xlsx" if magic == ZIP_MAGIC else "parquet" if magic == _PARQUET_MAGIC else "text"


def open_reader(file: TableFile, values: Sequence[str] = ()) -> Reader:
    """Open a file of any kind. It blocks.

    Raises:
        SourceFileError: it cannot be opened.
        InvalidConfigurationError: the extra ``files`` is missing, or an option cannot work.
    """
    kind = file_format(file.path)
    if kind == "text":
        return open_numbers(file.path, file.column, file.encoding, values=values)
    columns = ColumnReader(os.fspath(file.path), column_position(file.column), values)
    if kind == "xlsx":
        from qxt_async.files.workbooks import WorkbookReader

        return WorkbookReader(columns, file.sheet)
    from qxt_async.files.parquet import ParquetReader

    return ParquetReader(columns)
