"""Values that a spreadsheet would run."""

from __future__ import annotations

import csv
import io

import pytest

from qxt_async.spreadsheets import harmless


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n", "\r\n"])
def test_a_formula_gets_an_apostrophe(start: str) -> None:
    """What a spreadsheet takes for a formula, or trims until it is one, begins with an apostrophe instead."""
    assert harmless(f"{start}1+1").startswith("'")


@pytest.mark.parametrize("value", ["", "13800138000", "退订", "a=1", "'=1"])
def test_anything_else_stays(value: str) -> None:
    """What is no formula is left as it is."""
    assert harmless(value) == value


def test_a_carriage_return_ends_no_row() -> None:
    """A value cannot smuggle a formula into the beginning of a row, whichever line end the file has."""
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerow([harmless("a\r=1\r\n=2"), "b"])
    assert "\r" not in written.getvalue()
    assert list(csv.reader(io.StringIO(written.getvalue(), newline=""))) == [["a\n=1\n=2", "b"]]
