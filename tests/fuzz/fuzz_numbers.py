"""Fuzzing target: files of phone numbers.

The first byte chooses the options, the second where the first read ends; the rest is the file.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from qxt_async.errors import InvalidTextError, SourceFileError
from qxt_async.files import NumberFile
from qxt_async.files.columns import ColumnReader
from qxt_async.protocol.numbers import Deduplicator, NumberFilter

SAMPLES = Path(__file__).parents[1] / "samples" / "numbers"

COLUMNS: list[str | int | None] = [None, None, None, 1, 2, "mobile", "手机号", ""]
ENCODINGS = [None, None, "utf-8", "gbk", "utf-16", "utf-16-le", "gb18030", "ascii"]
LONGEST = 300
WORDS = [
    *(b"13800138000", b"13800138001", b"+86 138-0013-8002", b"mobile,name\n", b'"', b'""', b"\r\n", b";", b"\t"),
    *(
        "手机号,姓名\n".encode(),
        "手机号,姓名\n".encode("gbk"),
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\xfe\xff",
        b"PK\x03\x04",
    ),
    *("１３８００１３８０００".encode(), "１３８００１３８０００".encode("gbk"), b"#", b"\0", b"\x1a", b"\xe2\x80\xa8"),
]
WHOLE = re.compile(r"1[3-9][0-9]{9}", re.ASCII)


class Cut(io.BytesIO):
    """A stream whose first read ends somewhere."""

    def __init__(self, content: bytes, first: int) -> None:
        super().__init__(content)
        self.first = first

    def read1(self, size: int | None = -1, /) -> bytes:
        """The first bytes, then all the others."""
        size, self.first = self.first, -1
        return self.read(size)


def check(data: bytes) -> None:
    """Read one file, and check what every file has to keep."""
    options, place, content = *(data[:2] + b"\0\0")[:2], data[2:]
    column, encoding, values = COLUMNS[options & 7], ENCODINGS[options >> 3 & 7], ("1",) if options & 64 else ()
    numbers = _read(content, column, encoding, values, place or -1)
    if numbers:
        _admit(numbers, content)
    if not options & 128 or not 0 < place < len(content):
        return
    # What is not said about the encoding is decided by the first read that is not ASCII, so only then they may differ.
    if encoding or content.isascii() or content.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        again = _read(content, column, encoding, values, -1)
        # A quote within a field that is not quoted is no CSV: where a row ends is then a guess, and a wrong one refuses
        # the file. It never makes another number of it.
        assert again == numbers or (b'"' in content and None in (again, numbers))


def _read(
    content: bytes, column: str | int | None, encoding: str | None, values: tuple[str, ...], first: int
) -> list[tuple[str, int]] | None:
    """The numbers with their lines, or none if the file is refused."""
    stream = cast("io.BufferedReader", Cut(content, first))
    found: list[tuple[str, int]] = []
    try:
        with NumberFile(stream, ColumnReader("numbers", column, values), encoding) as file:
            for block in file.blocks():
                assert len(block.numbers) == len(block.lines)
                assert len(block.rows) in (0, len(block.numbers))
                assert all(len(row) == len(values) for row in block.rows)
                found += zip(block.numbers, block.lines, strict=True)
    except SourceFileError as error:
        _complains(error)
        return None
    except InvalidTextError:
        assert values  # the requested column is not there
        return None
    lines = [line for _, line in found]
    assert lines == sorted(set(lines))
    assert not lines or 1 <= lines[0] <= lines[-1] <= content.count(b"\n") + content.count(b"\r") + 1
    return found


def _admit(found: list[tuple[str, int]], content: bytes) -> None:
    numbers = [number for number, _ in found]
    number_filter = NumberFilter(seen=Deduplicator(few=True))
    admitted = number_filter.filter(numbers)
    assert len(admitted) + number_filter.invalid_count + number_filter.duplicates == number_filter.read == len(numbers)
    assert len(set(admitted)) == len(admitted)
    for number in admitted:
        assert WHOLE.fullmatch(number)
    for invalid in number_filter.invalid:
        assert invalid.raw == numbers[invalid.position]
        assert not WHOLE.fullmatch(invalid.raw)
        assert not re.search(r"[0-9]{11}", invalid.reason)
    # Nothing is made up: without separators, full-width digits or two bytes a character its digits are in the file.
    plain = [number for number in numbers if WHOLE.fullmatch(number)]
    assert set(plain) <= set(admitted)
    if b"\0" not in content:
        assert all(number.encode() in content for number in plain)


def _complains(error: SourceFileError) -> None:
    """An error names a line, and masks what is no column's name."""
    assert error.line is None or error.line >= 1
    assert not WHOLE.search(str(error))


def seeds() -> Iterator[bytes]:
    """Each sample, with each of the options."""
    for path in sorted(SAMPLES.glob("*.bin")):
        for options in range(0, 256, 5):
            yield bytes([options, options >> 1]) + path.read_bytes()
