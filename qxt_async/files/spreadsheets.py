"""Values that spreadsheets write, and values that spreadsheets read."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any, Final

from qxt_async.errors import InvalidNumberError
from qxt_async.models import mask

_ROUNDED: Final = re.compile(r"([0-9]+)\.0+")
_SCIENTIFIC: Final = re.compile(r"([0-9])(?:\.([0-9]+))?[eE]\+?([0-9]{1,2})")

# The start of a cell, the characters that a spreadsheet strips there, and the sign that begins a formula. Our files use
# commas, and quotes protect a value only behind a comma. A spreadsheet that splits at semicolons or tabs begins cells
# and rows in the middle of values, quoted or not. Some spreadsheets in Chinese and Japanese convert full-width signs to
# the plain ones. The sign is optional in the pattern, so that each character is examined once.
_CELL_START: Final = re.compile(r"""((?:^|[;\t\n])[;\s"]*)([=+\-@＝＋－＠]?)""")


def cell_to_text(value: object) -> str:
    """Convert a cell to text: whole numbers without a fraction, dates as in ISO 8601, an empty cell as ``""``."""
    if isinstance(value, str):
        return value
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, dt.datetime):
        return value.isoformat(" ", "minutes") if value.time() != dt.time() else value.date().isoformat()
    return str(value)


def restore_digits(raw: Any) -> Any:
    """Restore the digits of a phone number that a spreadsheet reformatted.

    ``13800138000.0`` and ``1.3800138000E+10`` have all digits. ``1.38E+10`` has lost some.

    Returns:
        The digits; `raw` itself if it has another form.

    Raises:
        InvalidNumberError: digits are lost.
    """
    text = raw.strip() if isinstance(raw, str) else ""
    if match := _ROUNDED.fullmatch(text):
        return match[1]
    if match := _SCIENTIFIC.fullmatch(text):
        fraction, exponent = match[2] or "", int(match[3])
        if len(fraction.rstrip("0")) <= exponent <= len(fraction):
            return match[1] + fraction[:exponent]
        reason = "a spreadsheet has rounded it; make the column a text column there and export again"
        raise InvalidNumberError(mask(raw), reason)
    return raw


def escape_formula(value: str) -> str:
    """Change a value so that no spreadsheet runs it as a formula, split at commas, semicolons or tabs.

    An apostrophe is put in front of each formula sign at the start of a cell, and in front of a leading tab or line
    feed. A carriage return becomes a line feed: spreadsheets end a row there, and `csv` quotes only its own line end.
    """
    if value.isalnum():
        return value
    value = value.replace("\r\n", "\n").replace("\r", "\n")
    value = _CELL_START.sub(lambda start: f"{start[1]}'{start[2]}" if start[2] else start[0], value)
    return "'" + value if value.startswith(("\t", "\n")) else value
