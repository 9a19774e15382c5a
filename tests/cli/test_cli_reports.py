"""`qxt reports` and `qxt replies`."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from support.command_line import Run, numbers
from support.journals import NOON, reply, report, store

from qxt_async.cli import feed
from qxt_async.cli.printing import utc_time
from qxt_async.errors import JournalUnavailableError
from qxt_async.journal import Journal

Start = Callable[..., "subprocess.Popen[str]"]

FIRST, SECOND, THIRD = numbers(3)


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A journal with four reports and two replies, hours apart; the environment names it."""
    path = tmp_path / "qxt.db"
    monkeypatch.setenv("QXT_JOURNAL", str(path))
    store(path, [report("0001", FIRST), report("0001", SECOND, "MK:0001", port="1069000007", area="广东", city="深圳")])
    store(path, [report("2", FIRST, "REJECT"), report("2", THIRD, "")], at=NOON + timedelta(hours=2))
    store(path, [reply("7", FIRST, "谢谢", port="1069000007")])
    store(path, [reply("8", SECOND, "几点\n关门？\x1b[2J")], at=NOON + timedelta(hours=2))
    return path


def rows(ended: Result) -> list[dict[str, Any]]:
    """What a command printed as JSON."""
    assert (ended.exit_code, ended.stderr) == (0, "")
    return [json.loads(line) for line in ended.stdout.splitlines()]


def shown(ended: Result) -> list[list[str]]:
    """What a command printed as CSV."""
    assert (ended.exit_code, ended.stderr) == (0, "")
    return list(csv.reader(io.StringIO(ended.stdout, newline="")))


@pytest.mark.usefixtures("journal")
class TestForms:
    """Lines for people, JSON and CSV for machines."""

    def test_json(self, run: Run) -> None:
        """One object a line, with every key; a mid is text, and what the gateway did not say is null."""
        assert rows(run("reports", "--json"))[:2] == [
            {
                "cursor": 1,
                "number": FIRST,
                "state": "delivered",
                "mid": "0001",
                "code": "DELIVRD",
                "port": None,
                "area": None,
                "city": None,
                "received_at": "2026-03-01T12:00:00.000+00:00",
            },
            {
                "cursor": 2,
                "number": SECOND,
                "state": "failed",
                "mid": "0001",
                "code": "MK:0001",
                "port": "1069000007",
                "area": "广东",
                "city": "深圳",
                "received_at": "2026-03-01T12:00:00.000+00:00",
            },
        ]

    def test_json_of_replies(self, run: Run) -> None:
        """The same for replies, with the extension number apart and the text as it came."""
        first, second = rows(run("replies", "--json"))
        assert first == {
            "cursor": 1,
            "number": FIRST,
            "text": "谢谢",
            "mid": "7",
            "port": "1069000007",
            "extno": "07",
            "area": None,
            "city": None,
            "received_at": "2026-03-01T12:00:00.000+00:00",
        }
        assert second["text"] == "几点\n关门？\x1b[2J"

    def test_json_is_readable(self, run: Run, start: Start) -> None:
        """Characters are not escaped, unless the charset of standard output lacks them."""
        assert '"text": "谢谢"' in run("replies", "--json").stdout
        process = start("replies", "--limit", "1", "--json", env={**os.environ, "PYTHONIOENCODING": "ascii"})
        stdout = process.communicate(timeout=120)[0]
        assert stdout.isascii()
        assert json.loads(stdout)["text"] == "谢谢"

    def test_csv(self, run: Run) -> None:
        """The columns are the keys of the JSON, in its order; what is null there is empty here."""
        for command in ("reports", "replies"):
            header, *lines = shown(run(command, "--csv"))
            entries = rows(run(command, "--json"))
            assert header == list(entries[0])
            assert lines == [[str(value or "") for value in entry.values()] for entry in entries]

    def test_lines(self, run: Run) -> None:
        """People get the local time, and one line for each report."""
        header, first, second, *_ = run("reports").stdout.splitlines()
        at = f"{NOON.astimezone():%Y-%m-%d %H:%M:%S}"
        assert header.split() == ["cursor", "received", "state", "number", "mid", "code", "area", "city"]
        assert first.split() == ["1", *at.split(), "delivered", FIRST, "0001", "DELIVRD"]
        assert second.split()[-3:] == ["MK:0001", "广东", "深圳"]

    def test_a_text_cannot_steer_the_terminal(self, run: Run) -> None:
        """Control characters are shown as such, and a text of two lines in one."""
        lines = run("replies").stdout.splitlines()
        assert len(lines) == 3
        assert lines[2].endswith("几点 关门？\ufffd[2J")

    def test_a_narrow_charset_is_no_obstacle(self, start: Start) -> None:
        """What the terminal's charset lacks is shown as a question mark; CSV is UTF-8 in any case."""
        environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
        for form, text in (((), "??"), (("--csv",), "谢谢")):
            process = start("replies", "--limit", "1", *form, env=environment)
            assert text in process.communicate(timeout=120)[0]

    def test_csv_for_excel(self, run: Run) -> None:
        """With --bom the CSV begins with a byte order mark; nothing else does."""
        for command in ("reports", "replies"):
            assert run(command, "--csv", "--bom").stdout == "\ufeff" + run(command, "--csv").stdout
            ended = run(command, "--bom")
            assert (ended.exit_code, "--bom is for --csv" in ended.stderr) == (2, True)

    def test_two_forms(self, run: Run) -> None:
        """--json and --csv together are wrong usage."""
        ended = run("reports", "--json", "--csv")
        assert (ended.exit_code, ended.stdout) == (2, "")
        assert "contradict each other" in ended.stderr


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "＝1+1", "\t=1", "\r=1", "x\r=1", '"=1', "x\n=1"])
def test_no_reply_becomes_a_formula(run: Run, tmp_path: Path, text: str) -> None:
    """Whatever somebody writes back, no cell of the CSV begins like a formula, and no row is added."""
    store(tmp_path / "qxt.db", [reply("1", FIRST, text)])
    ended = run("replies", "--csv", "--journal", tmp_path / "qxt.db")
    assert "\r" not in ended.stdout
    header, line = shown(ended)
    assert len(line) == len(header)
    assert not [value for value in line if value.startswith(("=", "+", "-", "@", "＝", "\t", "\n"))]


@pytest.mark.usefixtures("journal")
class TestFilters:
    """Which entries are shown."""

    @pytest.mark.parametrize(
        ("arguments", "cursors"),
        [
            ((), [1, 2, 3, 4]),
            (("--mid", "0001"), [1, 2]),
            (("--mid", "1"), []),
            (("--number", FIRST), [1, 3]),
            (("--number", "+86 138-0013-0000"), [1, 3]),
            (("--number", " x "), []),
            (("--state", "delivered"), [1]),
            (("--state", "failed"), [2]),
            (("--state", "rejected"), [3]),
            (("--state", "unknown"), [4]),
            (("--since", "2026-03-01T14:00:00Z"), [3, 4]),
            (("--until", "2026-03-01T14:00:00Z"), [1, 2]),
            (("--since", "2026-03-01T21:00:00+09:00", "--until", "2026-03-01T12:00:01Z"), [1, 2]),
            (("--since", "30m"), []),
            (("--until", "0s"), [1, 2, 3, 4]),
            (("--after", "2"), [3, 4]),
            (("--limit", "3"), [1, 2, 3]),
            (("--after", "1", "--limit", "1", "--mid", "0001", "--number", SECOND), [2]),
        ],
    )
    def test_reports(self, run: Run, arguments: tuple[str, ...], cursors: list[int]) -> None:
        """By mid, number (however it is written), state and time; behind a cursor; and so many at most."""
        assert [row["cursor"] for row in rows(run("reports", "--json", *arguments))] == cursors

    @pytest.mark.parametrize(
        ("arguments", "cursors"),
        [
            (("--mid", "8"), [2]),
            (("--number", FIRST), [1]),
            (("--since", "2026-03-01T13:00:00Z"), [2]),
            (("--until", "2026-03-01T13:00:00Z"), [1]),
            (("--after", "1"), [2]),
        ],
    )
    def test_replies(self, run: Run, arguments: tuple[str, ...], cursors: list[int]) -> None:
        """Replies have no state, and all the other filters."""
        assert [row["cursor"] for row in rows(run("replies", "--json", *arguments))] == cursors

    def test_times_are_local(self, run: Run) -> None:
        """A time without a zone is that of the machine."""
        local = (NOON + timedelta(hours=1)).astimezone().replace(tzinfo=None)
        assert [row["cursor"] for row in rows(run("reports", "--json", "--since", local.isoformat()))] == [3, 4]

    @pytest.mark.parametrize("time", ["yesterday", "2026-13-01", "5", "-1h", "999999d", "0001-01-01x"])
    def test_no_time(self, run: Run, time: str) -> None:
        """What is no time is wrong usage, with examples."""
        ended = run("reports", "--since", time)
        assert ended.exit_code == 2
        assert "is no time: 2026-01-31" in ended.stderr

    def test_pages(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        """More than fits in memory comes page by page, with nothing left out or twice at the seams."""
        monkeypatch.setattr(feed, "PAGE", 2)
        assert [row["cursor"] for row in rows(run("reports", "--json"))] == [1, 2, 3, 4]
        assert [row["cursor"] for row in rows(run("reports", "--json", "--limit", "3"))] == [1, 2, 3]
        assert [row["cursor"] for row in rows(run("reports", "--json", "--limit", "4"))] == [1, 2, 3, 4]


@pytest.mark.slow
class TestFollowing:
    """`--follow`."""

    @pytest.mark.parametrize("command", ["reports", "replies"])
    def test_what_comes_is_shown(self, start: Start, journal: Path, command: str) -> None:
        """What is there comes first, then what another process stores, through the same filter."""
        process = start(command, "--follow", "--json", "--number", SECOND)
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["cursor"] == 2
        for count in range(3):
            # Only one of the two passes the filter.
            store(journal, [report(f"n{count}", FIRST), report(f"n{count}", SECOND)])
            store(journal, [reply(f"n{count}", FIRST, "hi"), reply(f"n{count}", SECOND, "hi")])
            row = json.loads(process.stdout.readline())
            assert (row["mid"], row["number"]) == (f"n{count}", SECOND)
        process.send_signal(signal.SIGINT)
        stdout, _ = process.communicate(timeout=120)
        assert (process.returncode, stdout) == (130, "")

    def test_it_goes_on_behind_a_cursor(self, start: Start, journal: Path) -> None:
        """Who comes back with the last cursor misses nothing; a report that changed its mind comes again."""
        process = start("reports", "--follow", "--csv", "--after", "3", "--limit", "2")
        assert process.stdout is not None
        assert process.stdout.readline().startswith("cursor,number,")
        assert process.stdout.readline().startswith(f"4,{THIRD},unknown,")
        store(journal, [report("0001", SECOND)])
        assert f",{SECOND},delivered,0001," in process.stdout.readline()
        assert process.wait(120) == 0

    def test_a_closed_pipe_ends_it(self, start: Start, journal: Path) -> None:
        """`| head` leaves no traceback."""
        process = start("reports", "--follow", "--json")
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        store(journal, [report("9", FIRST)])
        assert process.wait(120) == 1
        assert process.stderr is not None
        assert process.stderr.read() == ""
        process.stdout = None


@pytest.mark.parametrize("command", ["reports", "replies"])
def test_what_the_filter_drops_is_looked_at_once(
    run: Run, journal: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """A follower whose filter drops everything begins each look behind the newest entry of the last one."""
    looks: list[int] = []
    read = getattr(Journal, command)

    async def repr_count(self: Journal, *, after: int, **filters: Any) -> list[Any]:
        looks.append(after)
        if len(looks) == 3:
            raise JournalUnavailableError("enough")
        entries: list[Any] = await read(self, after=after, **filters)
        return entries

    monkeypatch.setattr(Journal, command, repr_count)
    monkeypatch.setattr(feed, "SHORTEST_PAUSE", 0)
    assert "enough" in run(command, "--follow", "--mid", "none such").stderr
    newest = {"reports": 4, "replies": 2}[command]
    assert looks == [0, newest, newest]


@pytest.mark.parametrize("command", ["reports", "replies"])
def test_no_journal(run: Run, tmp_path: Path, command: str) -> None:
    """A journal that is not there is wrong usage; to look makes none."""
    path = tmp_path / "none.db"
    ended = run(command, "--journal", path)
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert "there is no journal" in ended.stderr
    assert not path.exists()


def test_an_address_is_no_file(run: Run) -> None:
    """The address of a database is not looked for on the disk, and its password is not repeated."""
    ended = run("reports", "--journal", "nonesuch://user:hunter2@db.invalid/qxt")
    assert ended.exit_code == 2
    assert "nonesuch://" in ended.stderr
    assert "hunter2" not in ended.output


@pytest.mark.parametrize(
    "journal",
    [
        "postgresql:/qxt:hunter2@db.invalid/qxt",
        "postgres:hunter2",
        "host=db.invalid password=hunter2",
        "qxt:hunter2@db",
    ],
)
@pytest.mark.parametrize("command", [("reports",), ("send", "13800138000", "--text", "x")])
def test_a_mistyped_address_keeps_its_password(
    run: Run, monkeypatch: pytest.MonkeyPatch, journal: str, command: tuple[str, ...]
) -> None:
    """What may be an address is not repeated, whether it is an option or in the environment."""
    ended = run(*command, "--journal", journal)
    assert (ended.exit_code, "there is no journal of this name" in ended.stderr) == (2, True)
    monkeypatch.setenv("QXT_JOURNAL", journal)
    told = run(*command)
    assert "there is no journal of this name" in told.stderr
    assert "hunter2" not in ended.output + told.output


def test_a_moment_for_machines() -> None:
    """ISO 8601 with the zone, to the millisecond; nothing for nothing."""
    assert utc_time(None) is None
    told = utc_time(NOON)
    assert told is not None
    assert datetime.fromisoformat(told) == NOON
