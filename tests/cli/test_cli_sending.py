"""`qxt send`, `qxt bulk` and `qxt check`, against a gateway on a real socket."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command_line import TEXT, Run, numbers

from qxt_async.cli import progress
from qxt_async.cli.number_files import NumberWriter
from qxt_async.simulator import Fault, SimulatedGateway

pytestmark = pytest.mark.usefixtures("account")

KEYS = [
    *("accepted", "failed", "unknown", "invalid", "duplicates", "suppressed", "unsent", "batches"),
    *("mids", "errors", "elapsed", "interrupted"),
]


def write(path: Path, lines: list[str]) -> Path:
    """A file of lines."""
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


PLACEHOLDERS = ["尊敬的{name}", "尊敬的｛姓名｝", "${code}", "%name%"]


class TestPlaceholders:
    """What looks like a column, in commands that fill in nothing."""

    @pytest.mark.parametrize("text", PLACEHOLDERS)
    @pytest.mark.parametrize("form", ["file", "-"])
    def test_nothing_is_sent(self, run: Run, gateway: SimulatedGateway, tmp_path: Path, text: str, form: str) -> None:
        """`send`, `bulk` and `check` refuse it, with exit code 2, and name it."""
        path = write(tmp_path / "numbers.txt", numbers(3))
        stdin = path.read_bytes() if form == "-" else None
        file = path if stdin is None else "-"
        for arguments in (["bulk", file], ["check", file], ["send", *numbers(1)]):
            ended = run(*arguments, "--text", text, stdin=stdin)
            assert (ended.exit_code, "looks like a column and is none" in ended.stderr) == (2, True)
        assert json.loads(run("check", path, "--text", text, "--json").stdout)["sendable"] is False
        assert not gateway.sends

    @pytest.mark.parametrize("text", [*PLACEHOLDERS, "{name}"])
    def test_it_may_be_meant_literally(self, run: Run, gateway: SimulatedGateway, tmp_path: Path, text: str) -> None:
        """With --literal the text goes out as it stands."""
        path = write(tmp_path / "numbers.txt", numbers(3))
        for arguments in (["check", path], ["bulk", path], ["send", *numbers(1)]):
            assert run(*arguments, "--text", text, "--literal").exit_code == 0
        assert [sent.text for sent in gateway.sends] == [text, text]

    @pytest.mark.parametrize("options", [[], ["--check-balance"], ["-"]])
    def test_the_name_of_a_column_counts(
        self, run: Run, gateway: SimulatedGateway, tmp_path: Path, options: list[str]
    ) -> None:
        """Between percent signs a name that the file's header has is meant as a column, and any other is a text."""
        path = write(tmp_path / "numbers.csv", ["手机,姓名", f"{numbers(1)[0]},李"])
        stdin = path.read_bytes() if options == ["-"] else None
        arguments = ["bulk", *(options if stdin else [path, *options])]
        ended = run(*arguments, "--text", "尊敬的%姓名%", stdin=stdin)
        assert (ended.exit_code, len(gateway.sends)) == (2, 0)
        assert "'%姓名%' at position 4 of the text looks like a column and is none" in ended.stderr
        assert run("check", path, "--text", "尊敬的%姓名%").exit_code == 2
        assert run(*arguments, "--text", "满100%送50%", stdin=stdin).exit_code == 0


class TestSend:
    """`qxt send`."""

    def test_the_mid_is_printed(self, run: Run, gateway: SimulatedGateway) -> None:
        """One text to two numbers is one request; the mid is on stdout, nothing on stderr."""
        ended = run("send", *numbers(2), "--text", TEXT, "--extno", "12", "--addseqno")
        (sent,) = gateway.sends
        assert (ended.exit_code, ended.stderr) == (0, "")
        assert f"mid {sent.mid}\n1 batch in " in ended.stdout
        assert [line.split() for line in ended.stdout.splitlines()[:3]] == [
            ["accepted", "2"],
            ["failed", "0"],
            ["unknown", "0"],
        ]
        assert (sent.numbers, sent.text, sent.extno, sent.addseqno) == (tuple(numbers(2)), TEXT, "12", True)

    def test_json(self, run: Run, gateway: SimulatedGateway) -> None:
        """The JSON object has a stable shape; an invalid number is exit code 1, and told on stderr, masked."""
        ended = run("send", *numbers(1), "+86 138-0013-0000", "13800", "--text", "a€", "--substitute", "--json")
        told = json.loads(ended.stdout)
        assert list(told) == KEYS
        assert told.pop("elapsed") > 0
        assert told == {
            **dict.fromkeys(KEYS[:8], 0),
            "accepted": 1,
            "invalid": 1,
            "duplicates": 1,
            "batches": 1,
            "mids": [gateway.sends[0].mid],
            "errors": [],
            "interrupted": None,
        }
        assert ended.exit_code == 1
        assert gateway.sends[0].text == "aEUR"
        assert ended.stderr == "number 3: '1****': it has 5 digits, a mobile number has 11\n"

    @pytest.mark.parametrize(
        ("fault", "code", "state", "error"),
        [
            ("error-7", 1, "failed", "wrong-password"),
            ("fail-999", 1, "failed", "submit-failed"),
            ("mixed", 1, "failed", "submit-failed"),
            ("take-then-close", 3, "unknown", "ConnectionBrokenError"),
            ("take-then-partial", 3, "unknown", "PartialAnswerError"),
        ],
    )
    def test_what_went_wrong(
        self, run: Run, gateway: SimulatedGateway, fault: str, code: int, state: str, error: str
    ) -> None:
        """Failed is exit code 1 and unknown 3, with the reason and the numbers masked."""
        gateway.fail_next(fault)
        ended = run("send", *numbers(4), "--text", TEXT, "--json")
        told = json.loads(ended.stdout)
        assert ended.exit_code == code
        assert told[state] > 0
        assert told["accepted"] + told[state] == 4
        assert [each["error"] for each in told["errors"]] == [error]
        assert told["errors"][0]["numbers"] == told[state]
        assert f"{state}: 138****000" in ended.stderr
        assert ("sending to them again may send twice" in ended.stderr) == (state == "unknown")
        assert not [number for number in numbers(4) if number in ended.output]

    @pytest.mark.parametrize(
        ("arguments", "hint"),
        [
            ((), "Missing argument 'NUMBER…'"),
            (("13800", "--text", TEXT), "none of 1 numbers can be sent to"),
            (("13800138000", "--text", "€"), "U+20AC EURO SIGN at line 1, column 1"),
            (("13800138000", "--text", TEXT, "--extno", "x"), "extno has to be ASCII digits"),
            (("13800138000", "--text", TEXT, "--timeout", "0"), "'--timeout'"),
        ],
        ids=["no-number", "bad-number", "bad-text", "bad-extno", "bad-timeout"],
    )
    def test_bad_input_sends_nothing(
        self, run: Run, gateway: SimulatedGateway, arguments: tuple[str, ...], hint: str
    ) -> None:
        """What cannot be sent is exit code 2, one line, and no request."""
        ended = run("send", *arguments)
        assert (ended.exit_code, ended.stdout) == (2, "")
        assert hint in ended.stderr
        assert not gateway.requests


class TestBulk:
    """`qxt bulk`."""

    def test_a_file_is_sent(self, run: Run, gateway: SimulatedGateway, many: Path) -> None:
        """Every number of a file is taken once; the counts are on stdout and the progress on stderr."""
        ended = run("bulk", many, "--text", TEXT, "--concurrency", "1")
        assert ended.exit_code == 0
        assert gateway.taken == dict.fromkeys(numbers(2500), 1)
        mids = [send.mid for send in gateway.sends]
        assert f"mid {', '.join(mids)}\n3 batches in " in ended.stdout
        assert "accepted  2,500\n" in ended.stdout
        assert ended.stderr.startswith("834 of 2,500, ")
        assert ended.stderr.endswith(" numbers/s: accepted 2,500, failed 0, unknown 0\n")

    def test_what_is_left_out_is_counted(self, run: Run, gateway: SimulatedGateway, tmp_path: Path) -> None:
        """Invalid lines are named, repeated and suppressed numbers counted; none of them spoils the send."""
        good = numbers(6)
        lines = ["mobile,name", *(f"{number},x" for number in [*good, good[0], "138", "nobody"])]
        path = write(tmp_path / "numbers.csv", lines)
        suppressed = write(tmp_path / "suppressed.txt", [good[1], "+86" + good[2], "never"])
        ended = run("bulk", path, "--text", TEXT, "--column", "mobile", "--suppressed", suppressed, "--json")
        told = json.loads(ended.stdout)
        assert ended.exit_code == 0
        assert [told[key] for key in KEYS[:8]] == [4, 0, 0, 2, 1, 2, 0, 1]
        assert gateway.taken == dict.fromkeys([good[0], *good[3:]], 1)
        assert f"suppressed: {suppressed}, line 3: 'n****': unexpected character 'n'" in ended.stderr
        assert f"{path}, line 9: '1****': it has 3 digits" in ended.stderr
        assert f"{path}, line 10: 'n****': unexpected character" in ended.stderr

    def test_many_invalid_lines_are_told_briefly(self, run: Run, tmp_path: Path) -> None:
        """A file full of mistakes fills no screen."""
        path = write(tmp_path / "numbers.txt", [*numbers(1), *["138"] * 1500])
        ended = run("bulk", path, "--text", TEXT)
        assert ended.exit_code == 0
        assert ended.stderr.count("it has 3 digits") == 5
        assert f"{path}: 1,495 more lines without a valid number\n" in ended.stderr

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "gbk", "utf-16"])
    def test_encodings(self, run: Run, gateway: SimulatedGateway, tmp_path: Path, encoding: str) -> None:
        """A file may be in any of the usual encodings."""
        path = tmp_path / "numbers.csv"
        path.write_bytes(f"姓名;手机号\n张三;{numbers(1)[0]}\n".encode(encoding))
        assert run("bulk", path, "--text", TEXT, "--column", "手机号").exit_code == 0
        assert gateway.taken == {numbers(1)[0]: 1}

    def test_standard_input(self, run: Run, gateway: SimulatedGateway) -> None:
        """FILE may be -, of which nobody knows how long it is."""
        ended = run("bulk", "-", "--text", TEXT, stdin="\n".join(numbers(30)).encode())
        assert ended.exit_code == 0
        assert gateway.taken == dict.fromkeys(numbers(30), 1)

    def test_a_pipe_holds_nothing_up(
        self, start: Callable[..., subprocess.Popen[str]], gateway: SimulatedGateway
    ) -> None:
        """Numbers out of a pipe are sent while more may come."""
        process = start("bulk", "-", "--text", TEXT, "--json", stdin=subprocess.PIPE)
        stdout, stderr = process.communicate("\n".join(numbers(2500)), 60)
        assert process.returncode == 0, stderr
        assert json.loads(stdout)["accepted"] == 2500
        assert gateway.taken == dict.fromkeys(numbers(2500), 1)

    @pytest.mark.parametrize(("fault", "code", "state"), [("take-then-reset", 3, "unknown"), ("fail-999", 1, "failed")])
    def test_whole_numbers_go_to_files(
        self, run: Run, gateway: SimulatedGateway, many: Path, tmp_path: Path, fault: str, code: int, state: str
    ) -> None:
        """Whoever has to act on failed or unknown numbers gets them in files; the terminal shows them masked."""
        gateway.fail_next(fault)
        failed, unknown = tmp_path / "failed.txt", tmp_path / "unknown.txt"
        ended = run("bulk", many, "--text", TEXT, "--failed-to", failed, "--unknown-to", unknown)
        assert ended.exit_code == code
        written = {"failed": failed, "unknown": unknown}[state].read_text(encoding="ascii").split()
        assert len(written) in (833, 834)
        assert set(written) <= set(numbers(2500))
        assert failed.stat().st_size * unknown.stat().st_size == 0
        assert stat.S_IMODE(failed.stat().st_mode) == 0o600
        assert f"; all of them are in {tmp_path / state}.txt" in ended.stderr
        assert not [number for number in numbers(2500) if number in ended.output]

    def test_unknown_wins_over_failed(self, run: Run, gateway: SimulatedGateway, many: Path) -> None:
        """With both, the exit code is 3."""
        gateway.fail_next("take-then-close")
        gateway.fail_next("fail-999")
        ended = run("bulk", many, "--text", TEXT, "--json")
        assert ended.exit_code == 3
        assert {each["error"] for each in json.loads(ended.stdout)["errors"]} == {
            "ConnectionBrokenError",
            "submit-failed",
        }

    def test_a_file_with_numbers_in_it_is_never_overwritten(
        self, run: Run, gateway: SimulatedGateway, many: Path, tmp_path: Path
    ) -> None:
        """The numbers of an earlier send, or FILE itself, are safe."""
        before = many.read_bytes()
        ended = run("bulk", many, "--text", TEXT, "--unknown-to", many)
        assert ended.exit_code == 2
        assert "--unknown-to" in ended.stderr
        assert "exists and is not empty" in ended.stderr
        assert many.read_bytes() == before
        ended = run("bulk", many, "--text", TEXT, "--failed-to", tmp_path / "none" / "failed.txt")
        assert (ended.exit_code, "No such file" in ended.stderr) == (2, True)
        assert not gateway.requests

    def test_one_file_for_both_is_refused(
        self, run: Run, gateway: SimulatedGateway, many: Path, tmp_path: Path
    ) -> None:
        """Failed, unknown and unsent numbers would overwrite each other; a device has room for all."""
        (tmp_path / "link.txt").symlink_to("one.txt")
        for other in ("one.txt", "link.txt"):
            files = ("--failed-to", tmp_path / "one.txt", "--unknown-to", tmp_path / other)
            ended = run("bulk", many, "--text", TEXT, *files)
            assert ended.exit_code == 2
            assert "--failed-to and --unknown-to are one file: give two." in ended.stderr
        files = ("--failed-to", tmp_path / "two.txt", "--unsent-to", tmp_path / "two.txt")
        assert "--failed-to and --unsent-to are one file" in run("bulk", many, "--text", TEXT, *files).stderr
        assert gateway.sends == ()
        assert run("bulk", many, "--text", TEXT, "--failed-to", "/dev/null", "--unknown-to", "/dev/null").exit_code == 0

    def test_a_refused_account_stops_it(
        self, run: Run, gateway: SimulatedGateway, many: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What every batch would meet is met once; what was not tried is told."""
        monkeypatch.setenv("QXT_PASSWORD", "wrong")
        ended = run("bulk", many, "--text", TEXT, "--concurrency", "1", "--json")
        told = json.loads(ended.stdout)
        assert ended.exit_code == 1
        assert (told["accepted"], told["failed"], told["unsent"]) == (0, 834, 1666)
        assert told["errors"][0]["error"] == "wrong-password"
        assert "Error: " not in ended.stderr
        assert not gateway.sends

    def test_errors_of_one_kind_are_told_once(self, run: Run, gateway: SimulatedGateway, many: Path) -> None:
        """Many batches with the same trouble make one line."""
        gateway.fail_share("fail-999", 1.0)
        ended = run("bulk", many, "--text", TEXT)
        assert ended.exit_code == 1
        assert "2,500 numbers in 3 batches: the gateway failed to take" in ended.stderr
        assert "batches in" in ended.stdout
        assert "mid " not in ended.stdout

    def test_many_mids_are_shortened(self, run: Run, gateway: SimulatedGateway, many: Path) -> None:
        """People see the first ones, the last one and how many; machines see all."""
        gateway.fail_share("several-lines", 1.0)
        ended = run("bulk", many, "--text", TEXT)
        assert " … " in ended.stdout
        assert " (6 mids, all with --json)\n" in ended.stdout

    @pytest.mark.parametrize(("available", "code"), [(5000, 0), (4999, 1)])
    def test_the_balance_may_be_asked_first(
        self, run: Run, gateway: SimulatedGateway, many: Path, available: int, code: int
    ) -> None:
        """With --check-balance nothing is sent unless it suffices for all segments of all numbers."""
        gateway.balance = available
        ended = run("bulk", many, "--text", "€" * 30, "--substitute", "--check-balance")
        assert ended.exit_code == code
        assert len(gateway.taken) == (0 if code else 2500)
        if code:
            assert ended.stderr == "Error: 5000 credits are needed and 4999 are available: nothing was sent\n"
            assert ended.stdout == ""

    def test_a_pipe_cannot_be_read_twice(self, run: Run, gateway: SimulatedGateway) -> None:
        """The balance cannot be checked for numbers that nobody has counted."""
        ended = run("bulk", "-", "--text", TEXT, "--check-balance", stdin=b"13800138000")
        assert ended.exit_code == 2
        assert "--check-balance reads FILE twice, and this one can be read once only" in ended.stderr
        assert not gateway.requests

    @pytest.mark.parametrize(
        ("content", "arguments", "hint"),
        [
            (b"13800138000\n\xff\xff\n", (), "line 2: the byte 0xff at offset 12 is neither UTF-8 nor GBK"),
            (b"a,b\n13800138000,1\n", ("--column", "c"), "line 1: no column is named 'c'"),
            (b"13800138000\n", ("--encoding", "klingon"), "there is no encoding 'klingon'"),
            (b"13800138000\n", ("--text", "\ud83d\ude00"), "GBK cannot carry"),
            (b"13800138000\n", ("--rate", "0"), "'--rate'"),
            (b"13800138000\n", ("--suppressed", "/none"), "/none: No such file or directory"),
            (b"", (), "no number to send to"),
            (b"138\n", (), "no number to send to"),
        ],
        ids=["bytes", "column", "encoding", "text", "rate", "suppressed", "empty", "invalid"],
    )
    def test_bad_input_sends_nothing(
        self,
        run: Run,
        gateway: SimulatedGateway,
        tmp_path: Path,
        content: bytes,
        arguments: tuple[str, ...],
        hint: str,
    ) -> None:
        """What cannot be read or sent is exit code 2 before the first request, wherever in the file it stands."""
        path = tmp_path / "numbers.csv"
        path.write_bytes(content)
        ended = run("bulk", path, "--text", TEXT, *arguments)
        assert ended.exit_code == 2
        assert hint in ended.stderr
        assert not gateway.requests

    def test_a_pipe_that_breaks_off_in_the_middle(
        self, run: Run, gateway: SimulatedGateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What could be read of a pipe is told apart from what was not sent; the error names the line."""
        monkeypatch.setattr("qxt_async.files.text_files.BLOCK_BYTES", 12_000)
        good = "\n".join(numbers(4000)).encode()
        ended = run("bulk", "-", "--text", TEXT, "--concurrency", "1", "--json", stdin=good + b"\n\xff\xff\n")
        told = json.loads(ended.stdout)
        assert ended.exit_code == 2
        assert "Error: stopped: <stdin>, line 4001: the byte 0xff" in ended.stderr
        assert told["accepted"] == len(gateway.taken) == 2000
        assert told["accepted"] + told["unsent"] == 4000

    def test_unknown_wins_over_bad_input(
        self, run: Run, gateway: SimulatedGateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A pipe that breaks off after something became unknown is exit code 3."""
        monkeypatch.setattr("qxt_async.files.text_files.BLOCK_BYTES", 12_000)
        gateway.fail_share("take-then-close", 1.0)
        good = "\n".join(numbers(4000)).encode()
        assert run("bulk", "-", "--text", TEXT, stdin=good + b"\n\xff\xff\n").exit_code == 3

    def test_a_source_that_breaks_in_another_way(self, run: Run, many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever else the reading meets is told, too."""

        async def broken(_: object) -> bool:
            raise ZeroDivisionError

        monkeypatch.setattr("qxt_async.cli.number_files.NumberReader.read_async", broken)
        ended = run("bulk", many, "--text", TEXT)
        assert ended.exit_code == 1
        assert "Error: the source raised ZeroDivisionError" in ended.stderr

    def test_a_full_disk_stops_it(self, run: Run, gateway: SimulatedGateway, many: Path, tmp_path: Path) -> None:
        """Numbers that cannot be written down are a reason to send no more."""
        gateway.fail_share("fail-999", 1.0)
        ended = run("bulk", many, "--text", TEXT, "--concurrency", "1", "--failed-to", "/dev/full", "--json")
        told = json.loads(ended.stdout)
        assert ended.exit_code == 1
        assert (told["failed"], told["unsent"]) == (834, 1666)
        assert "Error: stopped: [Errno 28] No space left on device" in ended.stderr

    def test_a_rate_limit(self, run: Run, gateway: SimulatedGateway, tmp_path: Path) -> None:
        """--rate goes to the client."""
        path = write(tmp_path / "numbers.txt", numbers(20))
        assert run("bulk", path, "--text", TEXT, "--rate", "1e6").exit_code == 0
        assert len(gateway.taken) == 20

    def test_a_file_that_grows_meanwhile(
        self, run: Run, gateway: SimulatedGateway, many: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was appended after the first look is sent as well, and counted right."""
        from qxt_async.cli import number_files

        original = number_files.NumberReader.count_entries

        def grow(file: number_files.NumberReader) -> int:
            count = original(file)
            with many.open("a", encoding="utf-8") as more:
                more.write("\n13800139999")
            return count

        monkeypatch.setattr(number_files.NumberReader, "count_entries", grow)
        ended = run("bulk", many, "--text", TEXT, "--json")
        told = json.loads(ended.stdout)
        assert (ended.exit_code, told["accepted"], told["unsent"]) == (0, 2501, 0)


class TestProgress:
    """How far it is."""

    def test_half_a_minute_without_a_line_is_too_long(
        self, run: Run, many: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A pipe of unknown length tells by time."""
        monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
        ended = run("bulk", "-", "--text", TEXT, "--concurrency", "1", stdin=many.read_bytes())
        lines = ended.stderr.splitlines()
        assert len(lines) == 3
        assert lines[-1].startswith("2,500, ")

    @pytest.mark.parametrize("source", ["file", "pipe"])
    def test_a_terminal_gets_a_bar(self, run: Run, many: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
        """On a terminal there is a bar with numbers a second and what became of them; stdout stays clean."""
        monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: "stderr" in self.name)
        monkeypatch.setenv("COLUMNS", "120")
        monkeypatch.setenv("TERM", "xterm")
        if source == "file":
            ended = run("bulk", many, "--text", TEXT, "--json")
        else:
            ended = run("bulk", "-", "--text", TEXT, "--json", stdin=many.read_bytes())
        assert json.loads(ended.stdout)["accepted"] == 2500
        last = ended.stderr.split("\r")[-1]
        assert "100 %" in last
        assert "numbers/s" in last
        assert "accepted 2,500" in last
        assert "failed 0" in last
        assert "\x1b[32m" in ended.stderr  # green: something was accepted
        assert "\x1b[31m" not in ended.stderr  # red: nothing failed

    def test_a_terminal_without_rich_gets_lines(self, run: Run, many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What cannot be drawn is told, before and after the send."""
        monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: "stderr" in self.name)
        monkeypatch.setitem(sys.modules, "rich.progress", None)
        ended = run("bulk", many, "--text", TEXT)
        assert ended.exit_code == 0
        assert " of 2,500, " in ended.stderr

    def test_a_log_and_a_bar_do_not_mix(self, run: Run, many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """With --verbose there are lines even on a terminal."""
        monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: "stderr" in self.name)
        ended = run("bulk", many, "--text", TEXT, "--verbose")
        assert " of 2,500, " in ended.stderr
        assert "\r" not in ended.stderr


class TestCheck:
    """`qxt check`."""

    def test_what_would_be_sent(self, run: Run, gateway: SimulatedGateway, tmp_path: Path) -> None:
        """Counts, segments and credits for machines; nothing is sent, no account is needed."""
        good = numbers(1005)
        path = write(tmp_path / "numbers.txt", [*good, good[0], "138", "0" * 11])
        suppressed = write(tmp_path / "suppressed.txt", good[:5])
        text = "【Acme】" + "字" * 100
        ended = run("check", path, "--text", text, "--suppressed", suppressed, "--extno", "1", "--json")
        assert ended.exit_code == 0
        assert json.loads(ended.stdout) == {
            "sendable": True,
            "valid": 1000,
            "invalid": 2,
            "duplicates": 1,
            "suppressed": 5,
            "batches": 1,
            "characters": 106,
            "segments": 2,
            "credits": 2000,
            "unencodable": [],
            "invalid_lines": [
                {"line": 1007, "number": "1****", "reason": "it has 3 digits, a mobile number has 11"},
                {"line": 1008, "number": "000****0000", "reason": "mainland mobile numbers begin with 13 to 19"},
            ],
        }
        assert not gateway.requests

    def test_for_people(self, run: Run, tmp_path: Path) -> None:
        """The same as a table, with the lines that are no numbers on stderr."""
        path = write(tmp_path / "numbers.txt", [*numbers(2), "138"])
        ended = run("check", path, "--text", TEXT)
        assert ended.exit_code == 0
        rows = dict(line.split() for line in ended.stdout.splitlines())
        assert rows == {
            "valid": "2",
            "invalid": "1",
            "duplicates": "0",
            "suppressed": "0",
            "batches": "1",
            "characters": "16",
            "segments": "1",
            "credits": "2",
        }
        assert ended.stderr == f"{path}, line 3: '1****': it has 3 digits, a mobile number has 11\n"

    def test_characters_that_gbk_lacks(self, run: Run, tmp_path: Path) -> None:
        """Each is named with its place, and what --substitute would put for it."""
        path = write(tmp_path / "numbers.txt", numbers(1))
        ended = run("check", path, "--text", "a\nb€\U0001f600", "--json")
        told = json.loads(ended.stdout)
        assert (ended.exit_code, told["sendable"]) == (2, False)
        assert told["unencodable"] == [
            {"character": "€", "name": "U+20AC EURO SIGN", "line": 2, "column": 2, "substitute": "EUR"},
            {"character": "\U0001f600", "name": "U+1F600 GRINNING FACE", "line": 2, "column": 3, "substitute": None},
        ]
        assert ended.stderr.splitlines() == [
            "text, line 2, column 2: GBK has no U+20AC EURO SIGN; --substitute would put 'EUR'",
            "text, line 2, column 3: GBK has no U+1F600 GRINNING FACE",
        ]
        assert run("check", path, "--text", "a€", "--substitute").exit_code == 0

    @pytest.mark.parametrize(
        ("content", "arguments", "hint"),
        [
            ("138", ("--text", TEXT), "no number to send to"),
            ("13800138000", ("--text", " "), "text: it is empty"),
            ("13800138000", ("--text", TEXT, "--extno", "x"), "extno has to be ASCII digits"),
            ("13800138000", ("--text", TEXT, "--column", "x"), "no column is named 'x'"),
        ],
        ids=["no-number", "no-text", "extno", "column"],
    )
    def test_what_would_not_be_sent(
        self, run: Run, tmp_path: Path, content: str, arguments: tuple[str, ...], hint: str
    ) -> None:
        """Whatever `qxt bulk` would refuse is exit code 2, with the reason."""
        ended = run("check", write(tmp_path / "numbers.txt", [content]), *arguments)
        assert ended.exit_code == 2
        assert hint in ended.stderr


def test_a_numbers_file_may_be_a_pipe(tmp_path: Path) -> None:
    """What is no ordinary file has nothing to be overwritten."""
    reading, writing = os.pipe()
    try:
        file = NumberWriter(f"/dev/fd/{writing}", "--failed-to")
        file.write(["13800138000"])
        file.write([])
        file.close()
        assert os.read(reading, 100) == b"13800138000\n"
    finally:
        os.close(reading)
        os.close(writing)


def test_a_delay_is_no_harm(run: Run, gateway: SimulatedGateway) -> None:
    """--timeout is the client's: a gateway that is slower makes the outcome unknown."""
    gateway.fail_next(Fault("late", delay=30.0))
    assert run("send", *numbers(1), "--text", TEXT, "--timeout", "0.2").exit_code == 3
