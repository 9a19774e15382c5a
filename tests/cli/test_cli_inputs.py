"""Where texts and numbers come from: options, files of every kind, standard input."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command_line import TEXT, Run, numbers

from qxt_async.simulator import SimulatedGateway

pytestmark = pytest.mark.usefixtures("account")

COMMANDS = [("send", numbers(1)[0]), ("bulk", "one.txt"), ("check", "one.txt"), ("campaign", "plan", "one.txt")]
NAMES = ["send", "bulk", "check", "plan"]


@pytest.fixture(autouse=True)
def one(tmp_path: Path) -> None:
    """A file of one number in the current folder."""
    (tmp_path / "one.txt").write_text(numbers(1)[0], encoding="ascii")


class TestText:
    """`--text -` and `--text-file`."""

    @pytest.mark.parametrize(
        ("content", "text"),
        [
            ("【Acme】您好".encode(), "【Acme】您好"),
            ("【Acme】您好\r\n第二行\r\n\r\n".encode("utf-8-sig"), "【Acme】您好\n第二行"),
            ("【Acme】您好\n".encode("utf-16"), "【Acme】您好"),
        ],
        ids=["plain", "windows", "utf-16"],
    )
    def test_it_is_sent_as_it_stands(self, run: Run, gateway: SimulatedGateway, content: bytes, text: str) -> None:
        """From a file or standard input, without byte order mark and without the line ends at its end."""
        Path("text.txt").write_bytes(content)
        assert run("send", *numbers(1), "--text-file", "text.txt").exit_code == 0
        assert run("send", *numbers(1), "--text", "-", stdin=content).exit_code == 0
        assert [send.text for send in gateway.sends] == [text, text]

    @pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
    def test_every_command_takes_it(self, run: Run, command: tuple[str, ...]) -> None:
        """Both ways, wherever a text is given."""
        Path("text.txt").write_text(TEXT, encoding="utf-8")
        assert run(*command, "--text-file", "text.txt").exit_code == 0
        assert run(*command, "--text", "-", stdin=TEXT.encode()).exit_code == 0

    @pytest.mark.parametrize(
        ("arguments", "hint"),
        [
            ((), "no text: give --text, or --text-file."),
            (("--text", TEXT, "--text-file", "text.txt"), "--text and --text-file contradict each other."),
            (("--text-file", "gbk.txt"), "gbk.txt: it is not UTF-8; save it as UTF-8."),
            (("--text-file", "long.txt"), "long.txt: it has more than 65,536 bytes"),
            (("--text-file", "none.txt"), "--text-file none.txt: No such file or directory."),
        ],
        ids=["none", "both", "gbk", "long", "missing"],
    )
    @pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
    def test_what_is_no_text(
        self, run: Run, gateway: SimulatedGateway, command: tuple[str, ...], arguments: tuple[str, ...], hint: str
    ) -> None:
        """Nothing is sent or guessed, and the error says what to do."""
        Path("text.txt").write_text(TEXT, encoding="utf-8")
        Path("gbk.txt").write_text(TEXT, encoding="gbk")
        Path("long.txt").write_text("x" * 65_537, encoding="ascii")
        ended = run(*command, *arguments)
        assert (ended.exit_code, hint in ended.stderr) == (2, True)
        assert not gateway.requests

    @pytest.mark.parametrize(
        ("arguments", "names"),
        [
            (("bulk", "-", "--text", "-"), {"FILE", "--text"}),
            (("campaign", "plan", "one.txt", "-", "--text", "-"), {"FILE", "--text"}),
            (("check", "-", "--text", TEXT, "--suppressed", "-"), {"FILE", "--suppressed"}),
        ],
        ids=["bulk", "plan", "suppressed"],
    )
    def test_standard_input_is_one_thing(self, run: Run, arguments: tuple[str, ...], names: set[str]) -> None:
        """A text and numbers cannot both be read from it."""
        ended = run(*arguments, stdin=numbers(1)[0].encode())
        said = ended.stderr.splitlines()[-1].removeprefix("Error: ")
        assert ended.exit_code == 2
        assert said.endswith(" cannot both come from standard input.")
        assert set(said.split()[:3]) == {*names, "and"}


@pytest.fixture(params=["xlsx", "parquet"])
def table(request: pytest.FixtureRequest) -> str:
    """A table whose second column has three numbers and something that is none; named after no kind of file."""
    rows = [*numbers(3), "12345"]
    if request.param == "xlsx":
        import xlsxwriter

        with xlsxwriter.Workbook("table.bin") as book:
            book.add_worksheet("about").write(0, 0, "see the next sheet")
            sheet = book.add_worksheet("rows")
            sheet.write_row(0, 0, ["name", "phone"])
            for line, number in enumerate(rows, 1):
                sheet.write_row(line, 0, ["张三", int(number)])
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"name": ["张三"] * 4, "phone": list(map(int, rows))}), "table.bin")
    return "table.bin"


class TestTables:
    """XLSX and Parquet files."""

    @pytest.mark.parametrize("column", ["phone", "2"])
    def test_they_are_read_wherever_numbers_are(
        self, run: Run, gateway: SimulatedGateway, table: str, column: str
    ) -> None:
        """By `bulk`, `check`, `campaign plan` and `suppressed import`, with a column by name or position."""
        place = ("--column", column, "--sheet", "rows")
        told = json.loads(run("check", table, *place, "--text", TEXT, "--json").stdout)
        assert (told["valid"], told["invalid"], told["invalid_lines"][0]["number"]) == (3, 1, "1****")
        told = json.loads(run("bulk", table, *place, "--text", TEXT, "--json").stdout)
        assert (told["accepted"], told["invalid"], told["unsent"]) == (3, 1, 0)
        assert gateway.taken == dict.fromkeys(numbers(3), 1)
        told = json.loads(run("campaign", "plan", table, *place, "--text", TEXT, "--json").stdout)
        assert (told["numbers"], told["invalid"]) == (3, 1)
        told = json.loads(run("suppressed", "import", table, *place, "--json").stdout)
        assert told == {"added": 3, "known": 0, "invalid": 1}

    def test_a_table_of_numbers_to_leave_out(self, run: Run) -> None:
        """`--suppressed` reads them as well, where the column is obvious."""
        import xlsxwriter

        with xlsxwriter.Workbook("gone.xlsx") as book:
            book.add_worksheet().write_column(0, 0, [int(number) for number in numbers(2)])
        Path("all.txt").write_text("\n".join(numbers(3)), encoding="ascii")
        told = json.loads(run("check", "all.txt", "--text", TEXT, "--suppressed", "gone.xlsx", "--json").stdout)
        assert (told["valid"], told["suppressed"]) == (1, 2)

    def test_the_rest_of_one_can_be_kept(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was not sent of a table is written as a text file."""
        import xlsxwriter

        with xlsxwriter.Workbook("many.xlsx") as book:
            book.add_worksheet().write_column(0, 0, [int(number) for number in numbers(6000)])
        monkeypatch.setenv("QXT_PASSWORD", "wrong")
        files = ("--unsent-to", "unsent.txt", "--failed-to", "failed.txt")
        assert run("bulk", "many.xlsx", "--text", TEXT, "--concurrency", "1", *files).exit_code == 1
        kept = [Path(name).read_text(encoding="ascii").split() for name in ("failed.txt", "unsent.txt")]
        assert kept[0] + kept[1] == numbers(6000)

    @pytest.mark.parametrize("command", [("bulk",), ("campaign", "plan")], ids=["bulk", "plan"])
    def test_without_the_extra(
        self, run: Run, table: str, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The error names what to install; nothing is sent."""
        monkeypatch.setitem(sys.modules, "python_calamine", None)
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        ended = run(*command, table, "--text", TEXT)
        assert (ended.exit_code, "pip install '.[files]', or '.[all]'" in ended.stderr) == (2, True)


@pytest.fixture
def pipe() -> Iterator[str]:
    """A pipe with three numbers in it, as the shell gives it to a command: ``<(…)``."""
    reading, writing = os.pipe()
    os.write(writing, "\n".join(numbers(3)).encode())
    os.close(writing)
    yield f"/dev/fd/{reading}"
    os.close(reading)


@pytest.mark.parametrize(
    ("command", "key"),
    [(("bulk",), "accepted"), (("check",), "valid"), (("campaign", "plan"), "numbers")],
    ids=["bulk", "check", "plan"],
)
def test_a_pipe_is_read_once(run: Run, pipe: str, command: tuple[str, ...], key: str) -> None:
    """Nothing of it is lost to a look at what kind of file it is."""
    assert json.loads(run(*command, pipe, "--text", TEXT, "--json").stdout)[key] == 3
