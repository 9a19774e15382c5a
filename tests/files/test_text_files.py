"""Numbers out of text and CSV files."""

from __future__ import annotations

import csv
import io
import os
import pickle
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qxt_async import InvalidConfigurationError, InvalidRequestError, SourceFileError
from qxt_async.files import NumberBlock, NumberFile, file_format, open_numbers, text_files
from qxt_async.files.columns import ColumnReader
from qxt_async.files.readers import is_regular

A, B, C = "13800138000", "13800138001", "13800138002"


def read(path: Path, column: str | int | None = None, encoding: str | None = None) -> list[tuple[str, int]]:
    """Every number of a file with its line."""
    with open_numbers(path, column, encoding) as file:
        return [each for block in file.blocks() for each in zip(block.numbers, block.lines, strict=True)]


@pytest.fixture(params=[1, 2, 3, 7, 64 * 1024])
def block_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Reading in blocks of this size, so that every character and row is cut somewhere."""
    monkeypatch.setattr(text_files, "BLOCK_BYTES", request.param)
    return request.param


@pytest.mark.usefixtures("block_bytes")
class TestTextFiles:
    """One number a line."""

    def test_blank_and_comment_lines_are_skipped_and_lines_counted(self, tmp_path: Path) -> None:
        """Blank lines and lines that begin with # are no numbers, but lines all the same."""
        path = tmp_path / "numbers.txt"
        path.write_text(f"# all\n\n{A}\n  \n  # one more\n {B} \n{C}", encoding="utf-8")
        assert read(path) == [(A, 3), (B, 6), (C, 7)]

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_line_ends_of_every_system(self, tmp_path: Path, end: str) -> None:
        """Unix, Windows and old Macintosh line ends mean the same."""
        path = tmp_path / "numbers.txt"
        path.write_bytes(f"{A}{end}{B}{end}{end}{C}{end}".encode())
        assert read(path) == [(A, 1), (B, 2), (C, 4)]

    @pytest.mark.parametrize("header", ["手机号", "mobile", "phone1"])
    def test_a_header_is_left_out(self, tmp_path: Path, header: str) -> None:
        """A first line with a letter and hardly a digit is a header."""
        path = tmp_path / "numbers.txt"
        path.write_text(f"{header}\n{A}\n", encoding="utf-8")
        assert read(path) == [(A, 2)]

    @pytest.mark.parametrize("content", ["", "\n\n", "# nothing", "# nothing, at all\n", "\ufeff"])
    def test_a_file_may_have_no_numbers(self, tmp_path: Path, content: str) -> None:
        """An empty file, or one of comments, has no numbers and is no error."""
        path = tmp_path / "numbers.txt"
        path.write_text(content, encoding="utf-8")
        assert read(path) == []

    def test_what_is_no_number_is_given_as_it_is(self, tmp_path: Path) -> None:
        """Whether a number is valid is not decided here."""
        path = tmp_path / "numbers.txt"
        path.write_text("138 0013\n+86 13800138000\nnobody\n", encoding="utf-8")
        assert read(path) == [("138 0013", 1), ("+86 13800138000", 2), ("nobody", 3)]


@pytest.mark.usefixtures("block_bytes")
class TestCsvFiles:
    """One column of rows."""

    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    @pytest.mark.parametrize("column", ["mobile", " mobile ", 2, "2", None])
    def test_delimiters_and_columns(self, tmp_path: Path, delimiter: str, column: str | int | None) -> None:
        """The delimiter is found out; the column goes by name, by position, or by what is in it."""
        path = tmp_path / "numbers.csv"
        rows = [["name", "mobile", "x"], ["张三", A, ""], ["李四", B, "1"]]
        path.write_text("\n".join(delimiter.join(row) for row in rows), encoding="utf-8")
        assert read(path, column) == [(A, 2), (B, 3)]

    @pytest.mark.parametrize("column", [2, None])
    def test_without_a_header_the_first_row_counts(self, tmp_path: Path, column: int | None) -> None:
        """A first row with a number is data."""
        path = tmp_path / "numbers.csv"
        path.write_text(f"张三,{A}\n李四,{B}\n", encoding="utf-8")
        assert read(path, column) == [(A, 1), (B, 2)]

    def test_a_broken_number_in_the_first_row_is_no_header(self, tmp_path: Path) -> None:
        """A first row with most of a number is given as data, for somebody to report it."""
        path = tmp_path / "numbers.csv"
        path.write_text(f"a,1380013x\nb,{B}\n", encoding="utf-8")
        assert read(path, 2) == [("1380013x", 1), (B, 2)]

    def test_quoted_fields_may_have_everything(self, tmp_path: Path) -> None:
        """Delimiters, quotes and line ends in quotes belong to the field; a row counts from its first line."""
        path = tmp_path / "numbers.csv"
        path.write_text(f'"na,me","mo""bile"\n"a\nb,c\n# d",{A}\n\n"e","{B}"\n', encoding="utf-8")
        assert read(path, 'mo"bile') == [(A, 2), (B, 6)]

    def test_short_rows_have_an_empty_number_and_empty_rows_none(self, tmp_path: Path) -> None:
        """A row without the column is not lost; a row without anything is no row."""
        path = tmp_path / "numbers.csv"
        path.write_text(f"# list\n\nname,mobile\n,\n , \na\nb,\nc,{C}\n", encoding="utf-8")
        assert read(path, "mobile") == [("", 6), ("", 7), (C, 8)]

    def test_values_of_other_columns_and_the_header(self, tmp_path: Path) -> None:
        """The values of requested columns come beside each number."""
        path = tmp_path / "numbers.csv"
        path.write_text(f'name,mobile\n"a\nb",{A}\n', encoding="utf-8")
        with open_numbers(path, values=["name", "2"]) as file:
            rows = [row for block in file.blocks() for row in block.rows]
            assert list(file.header) == ["name", "mobile"]
        assert rows == [("a\nb", A)]

    def test_one_quoted_column(self, tmp_path: Path) -> None:
        """A file that begins with a quote is CSV, even with one column."""
        path = tmp_path / "numbers.csv"
        path.write_text(f'"mobile"\n"{A}"\n', encoding="utf-8")
        assert read(path) == [(A, 2)]

    def test_a_column_makes_it_csv(self, tmp_path: Path) -> None:
        """Whoever names a column has a CSV file, whatever it looks like."""
        path = tmp_path / "numbers.txt"
        path.write_text(f"mobile\n{A}\n", encoding="utf-8")
        assert read(path, "mobile") == [(A, 2)]

    @pytest.mark.parametrize(
        ("content", "column", "line", "reason"),
        [
            (f"name,mobile\na,{A}\n", "phone", 1, "no column is named 'phone'; there are 1 'name', 2 'mobile'"),
            (f"mobile,mobile\n{A},{B}\n", "mobile", 1, "more than one column is named 'mobile'; there are"),
            (f"a,{A}\n", "mobile", 1, "no column is named 'mobile'; there are 1 'a', 2 '138****8000'"),
            (f"a,{A}\n", 3, 1, "there is no column 3, only 2"),
            (f"x,y\n{A},{B}\n", None, 2, "several columns have a phone number: say which column of 1 'x', 2 'y'"),
            (f"{A},{B}\n", None, 1, "several columns have a phone number: say which column of 1 '138****8000'"),
            ("x,y\n1,2\n", None, 2, "no column has a phone number: say which column of 1 'x', 2 'y'"),
            (f'n,mobile\na,{A}\n"b"c,{B}\n', "mobile", 3, "the row that begins here is not CSV"),
            (f'n,mobile\na,{A}\n"b,{B}\n', "mobile", 3, "the row that begins here is not CSV"),
        ],
        ids=["name", "two-names", "no-header", "position", "two", "two-no-header", "none", "no-csv", "open-quote"],
    )
    def test_what_cannot_be_understood_is_refused(
        self, tmp_path: Path, content: str, column: str | int | None, line: int, reason: str
    ) -> None:
        """The error names file, line and reason, with numbers masked."""
        path = tmp_path / "numbers.csv"
        path.write_text(content, encoding="utf-8")
        with pytest.raises(SourceFileError) as caught:
            read(path, column)
        error = caught.value
        assert (error.file, error.line) == (str(path), line)
        assert error.reason.startswith(reason)
        assert A not in str(error)
        assert str(error) == f"{path}, line {line}: {error.reason}"
        assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize("rest", ["", "\n", "\n \n", "\n,\n", "\nx\n", "\nx,\n", f"\nx,{B},y\n", "\nx, \n"])
def test_rows_without_quotes_are_read_as_those_with(tmp_path: Path, rest: str) -> None:
    """What needs no closer look gives the same numbers and lines as what does: blank, short and long rows too."""
    found = []
    for quoted in ("", f'\n"x",{C}'):
        path = tmp_path / f"{len(quoted)}.csv"
        path.write_text(f"name,mobile\n{'x' * 70_000},{A}\nx,{A}{rest}{quoted}\n", encoding="utf-8")
        found.append([each for each in read(path, "mobile") if each[0] != C])
    assert found[0] == found[1]
    assert (A, 3) in found[0]


def test_a_quote_that_is_never_closed_ends_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What looks like one endless row is refused, naming the line where it begins."""
    monkeypatch.setattr(text_files, "MAX_ROW_CHARACTERS", 1000)
    monkeypatch.setattr(text_files, "BLOCK_BYTES", 100)
    path = tmp_path / "numbers.csv"
    path.write_text(f'n,mobile\na,{A}\n"b,{B}\n' + f"c,{C}\n" * 1000, encoding="utf-8")
    with pytest.raises(SourceFileError, match=r"line 3: the row that begins here has more than 1000 characters"):
        read(path)


def test_a_file_of_one_endless_line_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same holds before the first line ends."""
    monkeypatch.setattr(text_files, "MAX_ROW_CHARACTERS", 1000)
    path = tmp_path / "numbers.txt"
    path.write_text("1" * 2000, encoding="utf-8")
    with pytest.raises(SourceFileError, match="line 1: the row that begins here"):
        read(path)


@pytest.mark.usefixtures("block_bytes")
class TestEncodings:
    """What the bytes mean."""

    @pytest.mark.parametrize(
        ("stored", "told"),
        [
            ("utf-8", None),
            ("utf-8", "utf-8"),
            ("utf-8", "UTF-8-SIG"),
            ("utf-8-sig", None),
            ("utf-8-sig", "utf-8"),
            ("gbk", None),
            ("gbk", "gbk"),
            ("gbk", "gb18030"),
            ("utf-16", None),
            ("utf-16", "utf-16"),
            ("utf-16-le", "utf-16"),
            ("utf-16-le", "utf-16-le"),
            ("utf-16-be", "utf-16-be"),
        ],
    )
    def test_encodings(self, tmp_path: Path, stored: str, told: str | None) -> None:
        """Every encoding is found out by itself or taken as told, with or without a byte order mark."""
        path = tmp_path / "numbers.csv"
        path.write_bytes(f"姓名,手机号\r\n张三丰,{A}\r\n李四,{B}\r\n".encode(stored))
        assert read(path, "手机号", told) == [(A, 2), (B, 3)]

    @pytest.mark.parametrize("mark", ["utf-16-le", "utf-16-be"])
    def test_utf_16_by_its_mark(self, tmp_path: Path, mark: str) -> None:
        """Both byte orders are known by their mark."""
        path = tmp_path / "numbers.txt"
        path.write_bytes(f"\ufeff手机号\n{A}\n".encode(mark))
        assert read(path) == [(A, 2)]
        assert read(path, encoding="utf-16") == [(A, 2)]

    @pytest.mark.parametrize("encoding", ["utf-8", "gbk"])
    def test_the_encoding_may_show_late(self, tmp_path: Path, encoding: str) -> None:
        """It is decided by the first characters outside ASCII, wherever they come."""
        path = tmp_path / "numbers.csv"
        rows = [f"x{index},{A}" for index in range(50)]
        path.write_bytes("\n".join([*rows, f"张三,{B}"]).encode(encoding))
        assert read(path)[-1] == (B, 51)

    @pytest.mark.parametrize(
        ("content", "encoding", "line", "offset", "reason"),
        [
            (b"1\n\xe5\xbc\xa0\n12\xff\n", None, 3, None, "0xff at offset 8 is n"),
            (b"1\n12\xff\xff\n", None, 2, 4, "neither UTF-8 nor GBK"),
            (b"1\n2\n3\xe5", None, 3, 5, "neither UTF-8 nor GBK"),
            (b"1\r\n\xd5\xc5\r\n3\xff\xff\r\n", "gbk", 3, 8, "not gbk"),
            (b"1\r\n\xd5\xc5\r\n", "utf-8", 2, 3, "not utf-8"),
            (b"\xef\xbb\xbf1\n\xd5\xc5\r\n", None, 2, 5, "not utf-8"),
            ("\ufeff1\n2\n".encode("utf-16-be") + b"\xdc\x00\x00\x0a", None, 3, 10, "not utf-16-be"),
            ("张\r\n".encode("ascii", "replace") + "1€".encode(), "ascii", 2, 4, "not ascii"),
        ],
        ids=str,
    )
    def test_undecodable_bytes_are_named(
        self, tmp_path: Path, content: bytes, encoding: str | None, line: int, offset: int | None, reason: str
    ) -> None:
        """The error names the line and the offset of the byte."""
        path = tmp_path / "numbers.txt"
        path.write_bytes(content)
        with pytest.raises(SourceFileError) as caught:
            read(path, None, encoding)
        assert caught.value.line == line
        assert reason in caught.value.reason
        assert "say which encoding" in caught.value.reason
        if offset is not None:
            assert f"at offset {offset} " in caught.value.reason

    def test_utf_16_without_a_mark_is_not_guessed(self, tmp_path: Path) -> None:
        """NUL characters are refused, with the likely reason."""
        path = tmp_path / "numbers.txt"
        path.write_bytes(f"{A}\n".encode("utf-16-le"))
        with pytest.raises(SourceFileError, match=r"line 1: it has NUL characters: .* utf-16-le"):
            read(path)

    def test_a_spreadsheet_is_no_text(self, tmp_path: Path) -> None:
        """An XLSX file is refused with what to do instead."""
        path = tmp_path / "numbers.xlsx"
        path.write_bytes(b"PK\x03\x04\x14\x00\x06\x00")
        with pytest.raises(SourceFileError, match="spreadsheet or an archive: save it as CSV"):
            read(path)


FIELDS = st.text(st.characters(codec="gbk", exclude_characters="\0\x1a\r"), max_size=8)


@settings(deadline=None, max_examples=150)
@given(
    rows=st.lists(st.tuples(FIELDS, st.integers(13_000_000_000, 19_999_999_999).map(str), FIELDS), max_size=20),
    delimiter=st.sampled_from(",;\t"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "gbk", "utf-16"]),
    line_end=st.sampled_from(["\n", "\r\n"]),
    block=st.integers(1, 100),
)
def test_whatever_a_csv_writer_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str, str]],
    delimiter: str,
    encoding: str,
    line_end: str,
    block: int,
) -> None:
    """Every number of every row comes back, in order, with the line its row begins in, however the file is cut."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=line_end)
    writer.writerow(["名", "手机", "x"])
    expected = []
    for row in rows:
        lines = text.getvalue().replace("\r\n", "\n").replace("\r", "\n").count("\n") + 1
        expected.append((row[1], lines))
        writer.writerow(row)
    path = tmp_path_factory.mktemp("csv") / "numbers.csv"
    path.write_bytes(text.getvalue().encode(encoding))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "BLOCK_BYTES", block)
        assert read(path, "手机") == expected


class TestFiles:
    """Files as such."""

    def test_iterating_gives_the_numbers(self, tmp_path: Path) -> None:
        """A file is an iterable of its numbers, once."""
        path = tmp_path / "numbers.txt"
        path.write_text(f"{A}\n{B}\n", encoding="utf-8")
        with open_numbers(path) as file:
            assert file.name == str(path)
            assert is_regular(path)
            assert file.pipe is None
            assert list(file) == [A, B]
            assert file.read_block() is None

    @pytest.mark.parametrize(("name", "reason"), [("missing.txt", "No such file"), (".", "Is a directory")])
    def test_what_cannot_be_opened(self, tmp_path: Path, name: str, reason: str) -> None:
        """The error names the file and what the system says; it is the caller's fault."""
        with pytest.raises(SourceFileError, match=reason) as caught:
            open_numbers(str(tmp_path / name))
        assert caught.value.line is None
        assert isinstance(caught.value, InvalidRequestError)

    def test_the_format_is_in_the_first_bytes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever its name is; a pipe is not looked into, and a file that cannot be opened is an error."""
        path = tmp_path / "numbers.txt"
        for content, found in ((b"PK\x03\x04", "xlsx"), (b"PAR1", "parquet"), (b"PA", "text")):
            path.write_bytes(content)
            assert file_format(path) == found
        assert [file_format(other) for other in ("-", "/dev/null")] == ["text", "text"]
        with pytest.raises(SourceFileError, match="No such file"):
            file_format(tmp_path / "missing")

        def refuse(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
        with pytest.raises(SourceFileError, match="Permission denied"):
            file_format(path)

    def test_what_cannot_be_read(self) -> None:
        """An error of the disk in the middle names the file."""

        class Broken(io.BytesIO):
            def read1(self, size: int = -1, /) -> bytes:
                raise OSError

        file = NumberFile(Broken(), ColumnReader("disk"), None)  # type: ignore[arg-type]
        with pytest.raises(SourceFileError, match="disk: OSError"):
            file.read_block()
        assert file.pipe is None

    @pytest.mark.parametrize("encoding", ["no-such-encoding", "hex"])
    def test_unknown_encodings(self, tmp_path: Path, encoding: str) -> None:
        """What is no encoding of text is refused before the file is opened."""
        with pytest.raises(InvalidConfigurationError, match=f"no encoding '{encoding}'"):
            open_numbers(tmp_path / "missing", encoding=encoding)

    @pytest.mark.parametrize("column", [0, "0", -1])
    def test_columns_are_counted_from_one(self, tmp_path: Path, column: str | int) -> None:
        """A position below 1 is refused."""
        with pytest.raises(InvalidConfigurationError, match="columns are counted from 1"):
            open_numbers(tmp_path / "missing", column)

    def test_a_pipe_as_standard_input(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Standard input is read as it comes, says that it may block, and stays open."""
        reading, writing = os.pipe()
        with os.fdopen(reading) as stdin, os.fdopen(writing, "wb", 0) as other_end:
            monkeypatch.setattr(sys, "stdin", stdin)
            with open_numbers("-") as file:
                assert file.name == "<stdin>"
                assert file.pipe == reading
                other_end.write(f"{A}\n{B}".encode())
                assert file.read_block() == NumberBlock([A], range(1, 2))
                other_end.close()
                assert list(file) == [B]
            assert not stdin.closed

    def test_a_block_shows_no_numbers(self) -> None:
        """Its repr may be logged."""
        assert repr(NumberBlock([A], [1])) == "NumberBlock(numbers=<1>)"
