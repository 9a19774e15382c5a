"""Files of phone numbers (text, CSV, XLSX, Parquet), and texts with placeholders for their columns."""

from typing import TYPE_CHECKING

from qxt_async.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from qxt_async.files.columns import NumberBlock
    from qxt_async.files.readers import TableFile, file_format
    from qxt_async.files.tables import RowSource
    from qxt_async.files.templates import Template
    from qxt_async.files.text_files import NumberFile, open_numbers

__all__ = ["NumberBlock", "NumberFile", "RowSource", "TableFile", "Template", "file_format", "open_numbers"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "columns": ("NumberBlock",),
        "readers": ("TableFile", "file_format"),
        "tables": ("RowSource",),
        "templates": ("Template",),
        "text_files": ("NumberFile", "open_numbers"),
    },
)
