"""Values that a spreadsheet would run."""

from __future__ import annotations

import csv
import io

import pytest

from qxt_async.files.spreadsheets import escape_formula


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n", "\r\n"])
def test_a_formula_gets_an_apostrophe(start: str) -> None:
    """What a spreadsheet takes for a formula, or trims until it is one, begins with an apostrophe instead."""
    assert escape_formula(f"{start}1+1").startswith("'")


@pytest.mark.parametrize(
    "value",
    ["", "13800138000", "退订", "a=1", "a;b", "退订;谢谢", "a; b=1", "1;2", "'=1", "a;'=1", "x\ny", "好-好", "a,=1"],
)
def test_anything_else_stays(value: str) -> None:
    """What is no formula is left as it is."""
    assert escape_formula(value) == value


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("before", ["", "a;", "a;;", "a; ", 'a;"', 'a;""', "a\t", "a\n", "a\r", "a;\n", "; ", "\n\t"])
def test_no_cell_is_a_formula_however_cells_are_separated(delimiter: str, place: int, before: str) -> None:
    """A file is safe to read with semicolons or tabs, too: no cell of any row begins with a formula.

    Read in that way, a value ends where the separator stands in it, and quotes do not protect it.
    """
    for start in "=+-@＝＋－＠":
        row = ["b", "b"]
        row[place] = escape_formula(f"{before}{start}1+1,c")
        written = io.StringIO()
        csv.writer(written, lineterminator="\n").writerow(row)
        cells = [
            cell for row in csv.reader(io.StringIO(written.getvalue(), newline=""), delimiter=delimiter) for cell in row
        ]
        # A reader that knows no quotes.
        cells += [cell for line in written.getvalue().split("\n") for cell in line.split(delimiter)]
        assert any("1+1" in cell for cell in cells)
        assert [cell for cell in cells if cell.strip().strip('"').strip().startswith(start)] == []


@pytest.mark.parametrize("part", [";", "\t", "\n", ';"', "; ", '"', " "])
def test_a_long_value_takes_no_minutes(part: str) -> None:
    """A value of a million characters is looked at within a test's time, whatever they are."""
    assert escape_formula(f"a{part * 500_000}=").endswith("'=" if part not in {'"', " "} else "=")


def test_a_carriage_return_ends_no_row() -> None:
    """A value cannot smuggle a formula into the beginning of a row, whichever line end the file has."""
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerow([escape_formula("a\r=1\r\n=2"), "b"])
    assert "\r" not in written.getvalue()
    assert list(csv.reader(io.StringIO(written.getvalue(), newline=""))) == [["a\n'=1\n'=2", "b"]]
