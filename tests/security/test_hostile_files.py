"""Files that somebody made to do harm."""

from __future__ import annotations

import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qxt_async.errors import SourceFileError
from qxt_async.files import TableFile, open_numbers, parquet, workbooks
from qxt_async.files.tables import open_table

NUMBER = "13800138000"


async def _read(path: Path, **options: str | int) -> list[str]:
    table = await open_table(TableFile(path, **options))
    numbers: list[str] = []
    try:
        while (block := await table.read()) is not None:
            numbers += block.numbers
    finally:
        await table.aclose()
    return numbers


def _gigabyte(path: Path) -> Path:
    """A workbook of a megabyte whose sheet unpacks to a gigabyte."""
    blank = zlib.compressobj(9, zlib.DEFLATED, -15)
    whole = blank.compress(b" " * (1 << 20)) + blank.flush(zlib.Z_FULL_FLUSH)
    packed = zlib.compressobj(9, zlib.DEFLATED, -15)
    sheet = packed.compress(b"<worksheet>") + packed.flush(zlib.Z_FULL_FLUSH) + whole * 1024 + packed.flush()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
        archive.writestr("xl/worksheets/sheet1.xml", sheet)
        member = archive.getinfo("xl/worksheets/sheet1.xml")
        # Both of its headers say that it is packed; the file itself holds the packed bytes.
        member.compress_type = zipfile.ZIP_DEFLATED
        member.file_size = 1024
    raw = bytearray(path.read_bytes())
    local = raw.index(b"xl/worksheets/sheet1.xml") - 30
    raw[local + 8 : local + 10] = zipfile.ZIP_DEFLATED.to_bytes(2, "little")
    path.write_bytes(raw)
    return path


@pytest.mark.slow
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_workbook_that_unpacks_to_a_gigabyte_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given up at the limit, in the memory of some pieces."""
    assert workbooks.MAX_UNPACKED == 512 << 20
    monkeypatch.setattr(workbooks, "MAX_UNPACKED", 64 << 20)
    path = _gigabyte(tmp_path / "bomb.xlsx")
    assert path.stat().st_size < 3 << 20
    tracemalloc.start()
    try:
        with pytest.raises(SourceFileError, match="unpacks to more than 64 MB"):
            await _read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 32 << 20


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_entities_of_a_workbook_are_not_multiplied(tmp_path: Path) -> None:
    """XML that refers to itself a billion times is refused, or read as nothing."""
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    cell = "<row r='1'><c r='A1' t='inlineStr'><is><t>&l9;</t></is></c></row>"
    sheet = f'<!DOCTYPE w [<!ENTITY l0 "lol">{laughs}]><worksheet><sheetData>{cell}</sheetData></worksheet>'
    with zipfile.ZipFile(tmp_path / "laughs.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
        archive.writestr("xl/worksheets/sheet1.xml", sheet)
    with pytest.raises(SourceFileError, match="damaged or locked"):
        await _read(tmp_path / "laughs.xlsx")


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_parquet_file_that_unpacks_to_gigabytes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row group larger than any reader wants is refused by what the footer says of it."""
    path = tmp_path / "bomb.parquet"
    pq.write_table(pa.table({"mobile": [NUMBER], "text": ["x" * (4 << 20)]}), path, compression="zstd")
    assert path.stat().st_size < 1 << 20
    assert await _read(path) == [NUMBER]
    monkeypatch.setattr(parquet, "MAX_ROW_GROUP", 1 << 20)
    with pytest.raises(SourceFileError, match="a row group unpacks to more than 1 MB"):
        await _read(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "refused"),
    [
        (b'"\n' + b'""\n' * 360_000, "is a quote not closed"),
        (b'mobile,name\n"' + b'""\n,' * 360_000, "is a quote not closed"),
        (b"\n" * 1_000_000, None),
        (b"#\n" * 500_000, None),
        (b"a," * 200_000 + b"\n" + b"b," * 200_000 + b"\n", "no column has a phone number"),
        (b"," * 1_100_000, "has more than 1048576 characters"),
        (b"a" * 1_100_000, "has more than 1048576 characters"),
        (b"13800138000 " * 80_000 + b"\n", None),
        (b"\xb0" * 2_200_001, "has more than 1048576 characters"),
    ],
    ids=["quotes", "quoted rows", "blank lines", "comments", "columns", "commas", "letters", "digits", "cut"],
)
def test_no_file_of_a_megabyte_takes_minutes(tmp_path: Path, content: bytes, refused: str | None) -> None:
    """What makes a careless reader count the same again for each line ends long before a test's time is over."""
    path = tmp_path / "numbers.csv"
    path.write_bytes(content)
    values = ["1"] if b"," in content or b'"' in content else []  # a text file has no columns
    with open_numbers(path, values=values) as numbers:
        if refused is None:
            assert len(list(numbers)) <= 1
            return
        with pytest.raises(SourceFileError, match=refused) as caught:
            list(numbers)
    assert len(str(caught.value)) < 4000


@pytest.mark.parametrize("name", ["{a.__class__}", "../../x", "'; DROP TABLE x; --", "\x1b[2J", "a" * 200])
def test_a_column_of_any_name_is_a_column(tmp_path: Path, name: str) -> None:
    """A header is text, whatever it looks like."""
    path = tmp_path / "numbers.csv"
    path.write_text(f'"{name}",mobile\nx,{NUMBER}\n', encoding="utf-8")
    with open_numbers(path, "mobile", values=["1"]) as numbers:
        assert list(numbers) == [NUMBER]
        assert numbers.header[0] == name
