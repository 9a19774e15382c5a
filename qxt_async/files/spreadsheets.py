"""What spreadsheets do to CSV files."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["escape_formula"]

# Where a cell may begin, what is cut away there, and what begins a formula. The files are separated by commas, and
# quotes protect a value only where it begins behind one: read with semicolons or tabs, cells and rows begin in the
# middle of values, quoted or not. Full-width signs are folded to the plain ones by some spreadsheets in Chinese and
# Japanese. The sign is optional, so that each character is looked at once.
_BEGINNING: Final = re.compile(r"""((?:^|[;\t\n])[;\s"]*)([=+\-@＝＋－＠]?)""")


def escape_formula(value: str) -> str:
    """A value that no spreadsheet takes for a formula, whichever of comma, semicolon and tab separates the cells.

    An apostrophe goes in front of what looks like one, and in front of a leading tab or line feed.

    A carriage return becomes a line feed. Spreadsheets take one for the end of a row, so that what follows would begin
    a cell, and `csv` quotes only the line end that it writes itself.
    """
    if value.isalnum():
        return value
    value = value.replace("\r\n", "\n").replace("\r", "\n")
    value = _BEGINNING.sub(lambda begun: f"{begun[1]}'{begun[2]}" if begun[2] else begun[0], value)
    return "'" + value if value.startswith(("\t", "\n")) else value
