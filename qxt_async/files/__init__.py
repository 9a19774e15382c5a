"""Files of phone numbers (text, CSV, XLSX, Parquet), and texts with placeholders for their columns."""

from typing import TYPE_CHECKING

from qxt_async.runtime.lazy import lazy_names

if TYPE_CHECKING:  # the public names, as type checkers read them
    from qxt_async.files.columns import NumberBlock as NumberBlock
    from qxt_async.files.readers import TableFile as TableFile
    from qxt_async.files.readers import file_format as file_format
    from qxt_async.files.tables import RowSource as RowSource
    from qxt_async.files.templates import Template as Template
    from qxt_async.files.text_files import NumberFile as NumberFile
    from qxt_async.files.text_files import open_numbers as open_numbers

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "columns": "NumberBlock",
        "readers": "TableFile file_format",
        "tables": "RowSource",
        "templates": "Template",
        "text_files": "NumberFile open_numbers",
    },
)
