"""What spreadsheets do to CSV files."""

from __future__ import annotations

from typing import Final

__all__ = ["harmless"]

# Full-width ones are folded to their plain form by some spreadsheets in Chinese and Japanese.
_FORMULA: Final = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\n")


def harmless(value: str) -> str:
    """A value that no spreadsheet takes for a formula: an apostrophe goes in front of one that looks like it.

    A carriage return becomes a line feed. Spreadsheets take one for the end of a row, so that what follows would begin
    a cell, and `csv` quotes only the line end that it writes itself.
    """
    value = value.replace("\r\n", "\n").replace("\r", "\n")
    return "'" + value if value.startswith(_FORMULA) else value
