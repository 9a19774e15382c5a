"""Rows with numbers from every kind of source."""

from __future__ import annotations

import datetime as dt
import sys
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xlsxwriter

from qxt_async.errors import (
    InvalidConfigurationError,
    InvalidNumberError,
    InvalidRequestError,
    InvalidTextError,
    SourceFileError,
)
from qxt_async.files import TableFile, workbooks
from qxt_async.files.columns import ColumnReader
from qxt_async.files.spreadsheets import cell_to_text, restore_digits
from qxt_async.files.tables import open_table

pytestmark = pytest.mark.anyio

NUMBER = "13800138000"


async def read(source: Any, **options: Any) -> list[tuple[str, int, tuple[str, ...]]]:
    """All rows of a source: number, line, wanted values."""
    table = await open_table(source, **options)
    rows: list[tuple[str, int, tuple[str, ...]]] = []
    try:
        while (block := await table.read()) is not None:
            values = block.rows or [()] * len(block.numbers)
            rows += [(*two, tuple(own)) for *two, own in zip(block.numbers, block.lines, values, strict=True)]  # type: ignore[misc]
    finally:
        await table.aclose()
    return rows


def workbook(path: Path, *sheets: tuple[str, list[list[Any]]]) -> Path:
    """Write a workbook with sheets of rows."""
    with xlsxwriter.Workbook(path, {"default_date_format": "yyyy-mm-dd hh:mm", "strings_to_formulas": False}) as book:
        for name, rows in sheets:
            sheet = book.add_worksheet(name)
            for place, row in enumerate(rows):
                sheet.write_row(place, 0, row)
    return path


# --- text and CSV ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gbk", "utf-16"])
async def test_a_csv_file_gives_wanted_columns(tmp_path: Path, encoding: str) -> None:
    """The wanted columns come in the wanted order, by name or position, in every encoding that people use."""
    path = tmp_path / "rows.csv"
    path.write_bytes(f"name,mobile,code\r\n张三,{NUMBER},8\r\n李四,13800138001\r\n".encode(encoding))
    assert await read(path, wanted=("code", "name", "1")) == [
        (NUMBER, 2, ("8", "张三", "张三")),
        ("13800138001", 3, ("", "李四", "李四")),
    ]


async def test_a_line_end_within_quotes_is_part_of_the_value(tmp_path: Path) -> None:
    """A value may have several lines, and the lines below are counted right."""
    path = tmp_path / "rows.csv"
    path.write_text(f'mobile,name\n{NUMBER},"a\nb"\n13800138001,c\n', encoding="utf-8")
    assert await read(path, wanted=("name",)) == [(NUMBER, 2, ("a\nb",)), ("13800138001", 4, ("c",))]


async def test_a_file_without_a_header_has_positions(tmp_path: Path) -> None:
    """Without a header columns have no names, and the error says so."""
    path = tmp_path / "rows.csv"
    path.write_text(f"{NUMBER},x\n", encoding="utf-8")
    assert await read(path, wanted=("2",)) == [(NUMBER, 1, ("x",))]
    with pytest.raises(InvalidTextError, match="'name': there are number 1, number 2"):
        await read(path, wanted=("name",))


async def test_a_text_file_has_no_columns(tmp_path: Path) -> None:
    """A list of numbers works, but not with a text that needs more."""
    path = tmp_path / "rows.txt"
    path.write_text(f"{NUMBER}\n", encoding="utf-8")
    assert await read(TableFile(path)) == [(NUMBER, 1, ())]
    with pytest.raises(InvalidTextError, match="has only numbers and no columns"):
        await read(path, wanted=("name",))


async def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """The error names the file."""
    with pytest.raises(SourceFileError, match="No such file"):
        await read(tmp_path / "none.csv")


async def test_standard_input_is_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``-`` is read like a text or CSV file."""
    path = tmp_path / "rows.csv"
    path.write_text(f"mobile,name\n{NUMBER},x\n", encoding="utf-8")
    with path.open(encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        assert await read(TableFile("-"), wanted=("name",)) == [(NUMBER, 2, ("x",))]


# --- XLSX -------------------------------------------------------------------------------------------------------------


async def test_a_workbook_gives_numbers_as_digits(tmp_path: Path) -> None:
    """Numbers stored as numbers lose nothing; dates, yes and no, fractions and gaps become text."""
    day = dt.datetime(2026, 11, 3)  # noqa: DTZ001  (workbooks know no zones)
    rows = [
        ["name", "mobile", "since", "vip", "points"],
        ["张三", 13800138000, day, True, 1.5],
        [],
        ["李四", "13800138001", day.replace(hour=8, minute=30), False, 7.0],
        ["王五", 13800138002],
    ]
    path = workbook(tmp_path / "rows.xlsx", ("customers", rows))
    assert await read(path, wanted=("name", "since", "vip", "points")) == [
        (NUMBER, 2, ("张三", "2026-11-03", "TRUE", "1.5")),
        ("13800138001", 4, ("李四", "2026-11-03 08:30", "FALSE", "7")),
        ("13800138002", 5, ("王五", "", "", "")),
    ]


async def test_a_sheet_is_chosen_by_name_or_position(tmp_path: Path) -> None:
    """An unknown sheet is an error that lists those there are; positions count empty columns on the left."""
    rows = [["", "", 13800138001, "x"]]
    path = workbook(tmp_path / "rows.xlsx", ("one", [[NUMBER]]), ("two", rows), ("three", []))
    assert await read(TableFile(path)) == [(NUMBER, 1, ())]
    assert await read(TableFile(path, sheet="two", column=3), wanted=("4",)) == [("13800138001", 1, ("x",))]
    assert await read(TableFile(path, sheet=3)) == []
    for sheet in (4, "four"):
        with pytest.raises(SourceFileError, match="there are 1 'one', 2 'two', 3 'three'"):
            await read(TableFile(path, sheet=sheet))


async def test_a_workbook_of_many_rows_is_read_in_blocks(tmp_path: Path) -> None:
    """No block holds more than some thousand rows."""
    path = workbook(tmp_path / "rows.xlsx", ("one", [[13800000000 + at] for at in range(4500)]))
    table = await open_table(path)
    sizes: list[int] = []
    while (block := await table.read()) is not None:
        sizes.append(len(block.numbers))
    await table.aclose()
    assert sizes == [2000, 2000, 500]


def zipped(path: Path, **members: bytes) -> Path:
    """An archive that looks like a workbook, with one worksheet as given."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
        for name, data in members.items():
            archive.writestr(f"xl/worksheets/{name}.xml", data)
    return path


def sheet_xml(cells: str) -> bytes:
    """A worksheet's XML."""
    return f"<x:worksheet xmlns:x='urn:x'><x:sheetData>{cells}</x:sheetData></x:worksheet>".encode()


@pytest.mark.parametrize(
    "cells",
    [
        "<x:row r='1'><x:c r='A1'/></x:row><x:row r='1048576'><x:c r='XFD1048576'/></x:row>",
        "<x:row r='1'><x:c r='A1'/><x:c r='XFD1048576'/></x:row>",
        "<x:row r='99'><x:c r='ZZZZZZZZ99'/></x:row>",
        "<x:row r='99999999999999'><x:c r='A1'/></x:row>",
        "<x:row>" + "<x:c/>" * 5000 + "</x:row>",
    ],
)
async def test_cells_far_apart_are_refused(tmp_path: Path, cells: str) -> None:
    """Calamine lays out the whole rectangle, so a file of a few bytes must not span millions of places."""
    path = zipped(tmp_path / "bomb.xlsx", sheet1=sheet_xml(cells))
    with pytest.raises(SourceFileError, match="its cells span more than 20,000,000 places"):
        await read(path)


async def test_a_member_that_unpacks_to_gigabytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is unpacked is counted, whatever the archive says about sizes, and whatever the member is."""
    monkeypatch.setattr(workbooks, "MAX_UNPACKED", 1 << 20)
    path = zipped(tmp_path / "bomb.xlsx", sheet1=b"\x00" * (4 << 20))
    raw = path.read_bytes().replace((4 << 20).to_bytes(4, "little"), (1 << 10).to_bytes(4, "little"))
    path.write_bytes(raw)
    with pytest.raises(SourceFileError, match="unpacks to more than 1 MB"):
        await read(path)


async def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million empty members are a bomb, too."""
    monkeypatch.setattr(workbooks, "MAX_MEMBERS", 1)
    with pytest.raises(SourceFileError, match="it has 2 parts"):
        await read(zipped(tmp_path / "bomb.xlsx", sheet1=b"x"))


async def test_what_is_no_workbook_is_told(tmp_path: Path) -> None:
    """Other archives, other spreadsheets, damaged files: an error that names the file, never a crash."""
    other = tmp_path / "other.xlsx"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("content.xml", "<x/>")
    with pytest.raises(SourceFileError, match="no XLSX workbook"):
        await read(other)
    for sheet in (b"<a><b></a>", b"<x/>"):
        with pytest.raises(SourceFileError, match="damaged or locked"):
            await read(zipped(tmp_path / "bad.xlsx", sheet1=sheet))
    cut = tmp_path / "cut.xlsx"
    cut.write_bytes(workbook(tmp_path / "rows.xlsx", ("one", [[NUMBER]])).read_bytes()[:300])
    with pytest.raises(SourceFileError, match="damaged or locked"):
        await read(cut)


async def test_a_cell_in_a_column_of_no_letters_we_know_is_told(tmp_path: Path) -> None:
    """Letters that are two in upper case are no reason to crash."""
    with pytest.raises(SourceFileError, match=r"\(CalamineError\)"):
        await read(zipped(tmp_path / "bad.xlsx", sheet1=sheet_xml("<x:row r='2'><x:c r='ß2'/></x:row>")))


@pytest.mark.parametrize("packed", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
async def test_damage_in_any_way_to_pack_is_told(tmp_path: Path, packed: int) -> None:
    """Each has errors of its own."""
    path = tmp_path / "bad.xlsx"
    with zipfile.ZipFile(path, "w", packed) as archive:
        archive.writestr("xl/workbook.xml", "<workbook>" + "x" * 500 + "</workbook>")
    raw = path.read_bytes()
    begin = raw.index(b"workbook.xml") + len(b"workbook.xml") + 9
    path.write_bytes(raw[:begin] + b"\xff" * 16 + raw[begin + 16 :])
    with pytest.raises(SourceFileError, match=r"bad\.xlsx: "):
        await read(path)


async def test_a_workbook_that_goes_away_is_told(tmp_path: Path) -> None:
    """A file that cannot be opened any more is an error of ours."""
    with pytest.raises(SourceFileError, match="No such file"):
        workbooks.WorkbookReader(ColumnReader(str(tmp_path / "none.xlsx")), 1)


# --- Parquet ----------------------------------------------------------------------------------------------------------


async def test_a_parquet_file_gives_rows(tmp_path: Path) -> None:
    """Numbers may be text, whole or floating; values that are missing are empty."""
    path = tmp_path / "rows.parquet"
    columns = {
        "name": ["张三", None],
        "mobile": [13800138000, 13800138001],
        "share": [float("nan"), 0.5],
        "day": [dt.date(2026, 11, 3), None],
    }
    pq.write_table(pa.table(columns), path)
    assert await read(path, wanted=("name", "share", "day")) == [
        (NUMBER, 1, ("张三", "", "2026-11-03")),
        ("13800138001", 2, ("", "0.5", "")),
    ]
    assert [row[0] for row in await read(TableFile(path, column="name"))] == ["张三", ""]
    pq.write_table(pa.table({"mobile": [str(13800000000 + at) for at in range(2500)]}), path)
    assert (await read(path))[-1] == ("13800002499", 2500, ())


async def test_a_damaged_parquet_file_is_told(tmp_path: Path) -> None:
    """Damage at the end is found when it is opened, damage in the middle when it is read."""
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"PAR1 and nothing else PAR1")
    with pytest.raises(SourceFileError, match="cannot be read as Parquet"):
        await read(path)
    pq.write_table(pa.table({"mobile": [str(13800000000 + at) for at in range(5000)]}), path, compression="zstd")
    raw = bytearray(path.read_bytes())
    raw[20:4000] = b"\xff" * 3980
    path.write_bytes(raw)
    with pytest.raises(SourceFileError, match="cannot be read as Parquet"):
        await read(path)


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1234567890123456789], pa.timestamp("ns")),
        pa.array([10**18], pa.timestamp("us")),
        pa.array([10**8], pa.date32()),
        pa.array([1], pa.timestamp("us", tz="Mars/Base")),
    ],
    ids=["nanoseconds", "year", "day", "zone"],
)
async def test_a_value_that_python_has_not_is_told(tmp_path: Path, values: pa.Array) -> None:
    """The error names the file and the column, and says what to do."""
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"mobile": [NUMBER], "since": values}), path)
    with pytest.raises(SourceFileError, match=r"rows\.parquet: column 2 'since' has a value .+: make it text$"):
        await read(path)


@pytest.mark.parametrize(("module", "name"), [("python_calamine", "rows.xlsx"), ("pyarrow", "rows.parquet")])
async def test_a_missing_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str
) -> None:
    """Without its library a file is refused with the name of the extra."""
    path = tmp_path / name
    path.write_bytes(b"PK\x03\x04" if name.endswith("xlsx") else b"PAR1")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InvalidConfigurationError, match=r"pip install '\.\[files\]'"):
        await read(path)


# --- iterables -------------------------------------------------------------------------------------------------------


async def many(count: int) -> AsyncIterator[str]:
    """Numbers, one after the other."""
    for at in range(count):
        yield str(13800000000 + at)


async def test_iterables_of_numbers_are_tables() -> None:
    """Lists, generators and async generators, in blocks; their lines are their places."""
    assert await read([NUMBER, "x"]) == [(NUMBER, 1, ()), ("x", 2, ())]
    assert await read(()) == []
    for source in ((str(13800000000 + at) for at in range(2001)), many(2001)):
        rows = await read(source)
        assert [len(rows), rows[-1]] == [2001, ("13800002000", 2001, ())]


async def test_iterables_of_mappings_are_tables() -> None:
    """The number is found like a column of a file; what a mapping lacks is empty."""
    source = [{"name": "张三", "mobile": 13800138000.0}, {"mobile": "13800138001"}]
    assert await read(source, wanted=("name",)) == [(NUMBER, 1, ("张三",)), ("13800138001", 2, ("",))]
    source = [{"mobile": str(13800000000 + at)} for at in range(1500)]
    assert len(await read(source)) == 1500


async def test_numbers_without_columns_have_none_to_give() -> None:
    """A text with columns needs rows."""
    with pytest.raises(InvalidTextError, match="only numbers and no columns"):
        await read([NUMBER], wanted=("name",))


async def test_items_of_two_kinds_are_refused() -> None:
    """The error says which item, counted from 1, and which source."""
    with pytest.raises(SourceFileError, match=r"^source 3, line 2: this item is no mapping"):
        await read([{"mobile": NUMBER}, NUMBER], name="source 3")


@pytest.mark.parametrize("source", [NUMBER, b"13800138000", 13800138000])
async def test_what_is_no_source_is_refused(source: Any) -> None:
    """One string is most likely a path, one number a mistake."""
    with pytest.raises(InvalidRequestError, match="pass "):
        await read(source)


# --- what spreadsheets do to numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "number"),
    [
        ("13800138000.0", NUMBER),
        (" 13800138000.00 ", NUMBER),
        ("1.3800138000E+10", NUMBER),
        ("1.3800138e7", "13800138"),
        ("13800138000", NUMBER),
        ("+86 138-0013-8000", "+86 138-0013-8000"),
        ("1.5", "1.5"),
        (5, 5),
    ],
)
def test_numbers_are_restored_where_nothing_is_lost(raw: Any, number: Any) -> None:
    """Digits that are all spelled out are taken; everything else stays as it is."""
    assert restore_digits(raw) == number


@pytest.mark.parametrize("raw", ["1.38E+10", "1.3800138E+10", "1E10", "1.55E+1"])
def test_numbers_with_lost_digits_are_invalid(raw: str) -> None:
    """Digits that a spreadsheet rounded away are never guessed: zeros might be right, and might be somebody else."""
    with pytest.raises(InvalidNumberError, match="a spreadsheet has rounded it"):
        restore_digits(raw)


def test_values_as_text() -> None:
    """Whole numbers have no fraction, other things are what Python calls them."""
    assert [cell_to_text(value) for value in (7, 2.50, None, float("inf"), dt.time(8, 30))] == [
        "7",
        "2.5",
        "",
        "inf",
        "08:30:00",
    ]
