"""Which column of a table has the phone numbers; the rules stand in `qxt_async.files.sources`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qxt_async.errors import InvalidConfigurationError, InvalidNumberError, SourceFileError
from qxt_async.models import mask
from qxt_async.protocol.numbers import normalize

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["NumberColumn", "column_position", "is_header", "shown_column", "shown_columns"]

_HEADER_DIGITS = 5
_NUMBER_DIGITS = 11
# In an error; a row may have half a million fields, or one of a megabyte.
_SHOWN_COLUMNS = 20
_SHOWN_CHARACTERS = 60


class NumberColumn:
    """Which column of a table has the numbers: the one asked for, or the one that its first rows show.

    Args:
        name: of the table, for errors.
        column: its name in the header, or its position from 1.

    Attributes:
        index: from 0; ``None`` as long as it is not known.
        header: the names of the columns; empty if they have none, or it is not known yet.
        given: whether the caller said which column.
    """

    def __init__(self, name: str, column: str | int | None) -> None:
        self.name = name
        self.given = column is not None
        self.index: int | None = None
        self.header: Sequence[str] = ()
        self._column = column.strip() if isinstance(column, str) else column

    def begins(self, row: Sequence[str], line: int) -> bool:
        """Look at one of the first rows, until `index` is known.

        Returns:
            Whether this row has a number already, and is no header.

        Raises:
            SourceFileError: the column is not there, or no or several columns have numbers.
        """
        names = [field.strip() for field in row]
        if isinstance(self._column, str):
            if names.count(self._column) != 1:
                many = "more than one column is" if self._column in names else "no column is"
                raise SourceFileError(
                    self.name, line, f"{many} named {self._column!r}; there are {shown_columns(names)}"
                )
            self.index, self.header = names.index(self._column), names
            return False
        if self._column is not None or len(row) == 1:
            index = (self._column or 1) - 1
            if index >= len(row):
                raise SourceFileError(self.name, line, f"there is no column {self._column}, only {len(row)}")
            self.index = index
            if is_header(row[index]):
                self.header = names
                return False
            return True
        found = [index for index, field in enumerate(row) if _is_number(field)]
        if len(found) == 1:
            self.index = found[0]
            return True
        if not found and not self.header:
            self.header = names
            return False
        reason = f"{'several columns have' if found else 'no column has'} a phone number"
        raise SourceFileError(self.name, line, f"{reason}: say which column of {shown_columns(self.header or names)}")


def column_position(column: str | int | None) -> str | int | None:
    """A column as `NumberColumn` takes it: digits are a position.

    Raises:
        InvalidConfigurationError: the position is below 1.
    """
    wanted = int(column) if isinstance(column, str) and column.isascii() and column.isdigit() else column
    if isinstance(wanted, int) and wanted < 1:
        raise InvalidConfigurationError(f"column {wanted}: columns are counted from 1")
    return wanted


def _digits(field: str) -> int:
    return sum(map(str.isdigit, field))


def is_header(field: str) -> bool:
    """Whether a field above or among numbers is the name of their column: it has a letter and few digits."""
    return _digits(field) < _HEADER_DIGITS and any(map(str.isalpha, field))


def _is_number(field: str) -> bool:
    # A row may have half a million fields, and saying why each is no number takes longer than seeing it.
    if len(field) < _NUMBER_DIGITS:
        return False
    try:
        normalize(field)
    except InvalidNumberError:
        return False
    return True


def shown_columns(names: Sequence[str]) -> str:
    """Columns by name and position; what may be a number instead of a name is masked."""
    shown = [shown_column(position, name.strip()) for position, name in enumerate(names[:_SHOWN_COLUMNS], 1)]
    return ", ".join(shown) + (f" and {len(names) - _SHOWN_COLUMNS} more" if len(names) > _SHOWN_COLUMNS else "")


def shown_column(position: int, name: str) -> str:
    """One of `shown_columns`."""
    if not name:
        return f"number {position}"
    return f"{position} {mask(name) if _digits(name) >= _HEADER_DIGITS else name[:_SHOWN_CHARACTERS]!r}"
