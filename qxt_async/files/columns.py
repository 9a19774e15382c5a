"""The columns of a table: which one has the phone numbers, and which further values are wanted.

The number column is found by these rules:

- The first row is a header if its field in the number column has a letter and fewer than five digits.
- Without a given column, the table must have one column, or exactly one field with a phone number in its first row
  (below the header). The library guesses nothing beyond that.
- Rows in which every field is blank are skipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from qxt_async.errors import InvalidConfigurationError, InvalidNumberError, InvalidTextError, SourceFileError
from qxt_async.models import mask
from qxt_async.protocol.numbers import normalize

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_HEADER_DIGITS = 5
_NUMBER_DIGITS = 11
_POSITION_DIGITS = 6  # no table has more columns; Python refuses to convert thousands of digits
# Limits for error messages: a row may have half a million fields, or a field of a megabyte.
_SHOWN_COLUMNS = 20
_SHOWN_CHARACTERS = 60


@attrs.frozen
class NumberBlock:
    """Some numbers of a table, as they are written there, in order.

    Attributes:
        numbers: not checked, not normalised.
        lines: for each number the line where its row begins, from 1.
        rows: for each number the values of the requested columns; empty if none were requested.
    """

    numbers: Sequence[str] = attrs.field(repr=lambda numbers: f"<{len(numbers)}>")
    lines: Sequence[int] = attrs.field(repr=False)
    rows: Sequence[Sequence[str]] = attrs.field(default=(), repr=False, kw_only=True)


class ColumnReader:
    """Reads the phone numbers and the requested values out of the rows of one table.

    Args:
        name: of the table, for errors.
        column: the number column: its name in the header, or its position from 1; ``None`` to find it in the first
            rows.
        values: further columns to read, each a name or a position from 1.

    Attributes:
        header: the names of the columns; empty if they have none or the header was not read yet.
        index: of the number column, from 0; ``None`` until it is known.
        values: as given.
        column_given: whether the caller named the number column.
    """

    def __init__(self, name: str, column: str | int | None = None, values: Sequence[str] = ()) -> None:
        self.name = name
        self.values = values
        self.header: Sequence[str] = ()
        self.index: int | None = None
        self.column_given = column is not None
        self._column = column.strip() if isinstance(column, str) else column
        self._value_indices: list[int] | None = None

    def use_header(self, names: Sequence[str]) -> None:
        """Use these names, for a table that stores them apart from its rows.

        Raises:
            SourceFileError: the number column is not there.
        """
        self._is_data(names, 0)
        self.header = names

    def read(self, rows: Iterable[tuple[int, Sequence[str]]]) -> NumberBlock:
        """Read the next rows.

        Raises:
            SourceFileError: the number column is not there, or no column or several have phone numbers.
            InvalidTextError: a requested column is not there; lists the existing ones.
        """
        numbers: list[str] = []
        lines: list[int] = []
        kept: list[Sequence[str]] = []
        for line, row in rows:
            if self.index is None and not (any(map(str.strip, row)) and self._is_data(row, line)):
                continue
            index = self.index or 0
            number = row[index] if index < len(row) else ""
            if not number.strip() and not any(map(str.strip, row)):
                continue
            numbers.append(number)
            lines.append(line)
            if self.values:
                kept.append(row)
        return NumberBlock(numbers, lines, rows=self._select(kept) if kept else ())

    def read_single(self, numbers: Sequence[str], lines: Sequence[int]) -> NumberBlock:
        """Read numbers of a source that has no columns.

        Raises:
            InvalidTextError: further columns are requested.
        """
        if numbers and self.values:
            find_column(self.values[0], ())
        return NumberBlock(numbers, lines)

    def _select(self, rows: list[Sequence[str]]) -> Sequence[Sequence[str]]:
        if self._value_indices is None:
            existing = self.header or [""] * len(rows[0])
            self._value_indices = [find_column(name, existing) for name in self.values]
        indices, enough = self._value_indices, max(self._value_indices) + 1
        return [
            tuple([row[index] for index in indices])
            if len(row) >= enough
            else tuple([row[index] if index < len(row) else "" for index in indices])
            for row in rows
        ]

    def _is_data(self, row: Sequence[str], line: int) -> bool:
        """Find the number column in one of the first rows; whether the row is data and no header."""
        names = [field.strip() for field in row]
        if isinstance(self._column, str):
            if names.count(self._column) != 1:
                many = "more than one column is" if self._column in names else "no column is"
                reason = f"{many} named {self._column!r}; there are {_describe_columns(names)}"
                raise SourceFileError(self.name, line, reason)
            self.index, self.header = names.index(self._column), names
            return False
        if self._column is not None or len(row) == 1:
            index = (self._column or 1) - 1
            if index >= len(row):
                raise SourceFileError(self.name, line, f"there is no column {self._column}, only {len(row)}")
            self.index = index
            if looks_like_header(row[index]):
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
        columns = _describe_columns(self.header or names)
        raise SourceFileError(self.name, line, f"{reason}: say which column of {columns}")


def column_position(column: str | int | None) -> str | int | None:
    """Convert a column given as digits to a position.

    Raises:
        InvalidConfigurationError: the position is below 1.
    """
    position = int(column) if isinstance(column, str) and column.isascii() and column.isdigit() else column
    if isinstance(position, int) and position < 1:
        raise InvalidConfigurationError(f"column {position}: columns are counted from 1")
    return position


def find_column(name: str, existing: Sequence[str]) -> int:
    """Find a column by its name or, if no column has that name, by its position from 1.

    Returns:
        Its index, from 0.

    Raises:
        InvalidTextError: there is no such column, or more than one of that name; lists the existing ones.
    """
    if existing.count(name) > 1:
        reason = f"more than one column is named {name!r}, so give its position"
        raise InvalidTextError(f"{reason}: there are {_describe_columns(existing)}")
    if name in existing:
        return existing.index(name)
    position = int(name) if name.isascii() and name.isdigit() and len(name) < _POSITION_DIGITS else 0
    if 1 <= position <= len(existing):
        return position - 1
    there = f"there are {_describe_columns(existing)}" if existing else "the source has only numbers and no columns"
    raise InvalidTextError(f"there is no column {name!r}: {there}")


def looks_like_header(field: str) -> bool:
    """Whether a field is the name of the number column: it has a letter and few digits."""
    return _count_digits(field) < _HEADER_DIGITS and any(map(str.isalpha, field))


def _count_digits(field: str) -> int:
    return sum(map(str.isdigit, field))


def _is_number(field: str) -> bool:
    # A row may have half a million fields. Checking the length is much cheaper than explaining why each is no number.
    if len(field) < _NUMBER_DIGITS:
        return False
    try:
        normalize(field)
    except InvalidNumberError:
        return False
    return True


def _describe_columns(names: Sequence[str]) -> str:
    shown = [describe_column(position, name.strip()) for position, name in enumerate(names[:_SHOWN_COLUMNS], 1)]
    return ", ".join(shown) + (f" and {len(names) - _SHOWN_COLUMNS} more" if len(names) > _SHOWN_COLUMNS else "")


def describe_column(position: int, name: str) -> str:
    """Position and name of a column, for an error; masks a name that may be a phone number."""
    if not name:
        return f"number {position}"
    return f"{position} {mask(name) if _count_digits(name) >= _HEADER_DIGITS else name[:_SHOWN_CHARACTERS]!r}"
