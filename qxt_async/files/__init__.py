"""Numbers and rows out of text, CSV, XLSX and Parquet files; texts with columns in them; safe CSV files."""

from typing import TYPE_CHECKING

from qxt_async.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from qxt_async.files.sources import NumberBlock, NumberFile, TableFile, file_format, open_numbers
    from qxt_async.files.tables import RowSource
    from qxt_async.files.templates import Template

__all__ = [
    "NumberBlock",
    "NumberFile",
    "RowSource",
    "TableFile",
    "Template",
    "file_format",
    "open_numbers",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "sources": (
            "NumberBlock",
            "NumberFile",
            "TableFile",
            "file_format",
            "open_numbers",
        ),
        "tables": ("RowSource",),
        "templates": ("Template",),
    },
)
