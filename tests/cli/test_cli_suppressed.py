"""`qxt suppressed`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.command_line import Run, numbers
from support.journals import reply, store

from qxt_async.cli import suppressed

FIRST, SECOND, THIRD = numbers(3)


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the environment says that the journal is; it is not there yet."""
    path = tmp_path / "qxt.db"
    monkeypatch.setenv("QXT_JOURNAL", str(path))
    return path


@pytest.mark.usefixtures("journal")
class TestAdding:
    """`add` and `import`."""

    def test_add(self, run: Run) -> None:
        """It says how many are new; numbers are brought to one form, and one that is known keeps its note."""
        assert run("suppressed", "add", FIRST, "--note", "by phone").stdout == "1 added, 0 known\n"
        told = json.loads(run("suppressed", "add", f"+86 {FIRST}", SECOND, SECOND, "--note", "again", "--json").stdout)
        assert told == {"added": 1, "known": 1}
        listed = [json.loads(line) for line in run("suppressed", "list", "--json").stdout.splitlines()]
        assert [(row["number"], row["reason"], row["note"]) for row in listed] == [
            (FIRST, "manual", "by phone"),
            (SECOND, "manual", "again"),
        ]

    def test_a_mistyped_number_adds_nothing(self, run: Run, journal: Path) -> None:
        """A number that is none is told, masked, and the others are not added either."""
        ended = run("suppressed", "add", FIRST, "138001300000")
        assert (ended.exit_code, ended.stdout) == (2, "")
        assert "it has 12 digits" in ended.stderr
        assert "138001300000" not in ended.stderr
        assert not journal.exists()

    def test_import(self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A CSV file is read as `qxt bulk` reads it; what is no number is told with its line."""
        monkeypatch.setattr(suppressed, "ADDED_AT_ONCE", 2)
        run("suppressed", "add", FIRST)
        path = tmp_path / "gone.csv"
        lines = [
            "who,phone",
            *(f"{place},{number}" for place, number in enumerate(numbers(5))),
            "x,13800",
            f"y,{FIRST}",
        ]
        path.write_text("\n".join(lines), encoding="utf-16")
        ended = run("suppressed", "import", path, "--column", "phone", "--note", "old system", "--json")
        assert ended.exit_code == 0
        assert json.loads(ended.stdout) == {"added": 4, "known": 1, "invalid": 1}
        assert f"{path}, line 7: '1****': it has 5 digits" in ended.stderr
        last = json.loads(run("suppressed", "list", "--json").stdout.splitlines()[-1])
        assert (last["number"], last["reason"], last["note"]) == (numbers(5)[-1], "import", "old system")

    def test_import_from_a_pipe(self, run: Run) -> None:
        """What another list exports can be piped in."""
        ended = run("suppressed", "import", "-", stdin=f"{FIRST}\n{SECOND}\n".encode())
        assert ended.stdout == "2 added, 0 known, 0 invalid\n"

    @pytest.mark.parametrize(
        ("content", "hint"),
        [(b"nobody\n", "no number to put on the list"), (b"\xff\xff" + FIRST.encode(), "")],
    )
    def test_nothing_to_import(self, run: Run, tmp_path: Path, journal: Path, content: bytes, hint: str) -> None:
        """A file without a number, or one that cannot be read, is bad input."""
        path = tmp_path / "gone.txt"
        path.write_bytes(content)
        ended = run("suppressed", "import", path)
        assert (ended.exit_code, ended.stdout) == (2, "")
        assert hint in ended.stderr
        assert not journal.exists()


@pytest.mark.usefixtures("journal")
class TestLooking:
    """`list` and `export`."""

    def test_list(self, run: Run, journal: Path) -> None:
        """People get one line for each: number, since when, why, and the note."""
        store(journal, [reply("77", FIRST, "TD")], opted_out=True)
        run("suppressed", "add", SECOND)
        first, second = (line.split() for line in run("suppressed", "list").stdout.splitlines())
        assert (first[0], first[3:]) == (FIRST, ["reply", "77"])
        assert (second[0], second[3:]) == (SECOND, ["manual"])

    def test_a_stranger_cannot_steer_the_terminal(self, run: Run, journal: Path) -> None:
        """What a push called a phone is shown without its control characters, in one line."""
        store(journal, [reply("7\x1b[1m7", f"{FIRST}\x1b[2J\n1", "TD")], opted_out=True)
        for command in ("list", "export"):
            printed = run("suppressed", command).stdout
            assert printed.count("\n") == 1
            assert "\x1b" not in printed

    def test_export(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        """One number a line, all of them, whatever fits in a page."""
        monkeypatch.setattr(suppressed, "PAGE", 2)
        run("suppressed", "add", *numbers(5))
        assert run("suppressed", "export").stdout == "".join(f"{number}\n" for number in numbers(5))

    @pytest.mark.parametrize("command", [("list",), ("export",), ("remove", FIRST)], ids=lambda command: command[0])
    def test_no_journal(self, run: Run, journal: Path, command: tuple[str, ...]) -> None:
        """To look, or to take off, makes no journal."""
        ended = run("suppressed", *command)
        assert (ended.exit_code, ended.stdout) == (2, "")
        assert "there is no journal" in ended.stderr
        assert not journal.exists()


@pytest.mark.usefixtures("journal")
def test_remove(run: Run) -> None:
    """It says how many were on the list, however the number is written."""
    run("suppressed", "add", FIRST, SECOND)
    assert run("suppressed", "remove", f"+86{FIRST}", THIRD).stdout == "1 removed\n"
    assert json.loads(run("suppressed", "remove", FIRST, SECOND, "--json").stdout) == {"removed": 1}
    assert run("suppressed", "export").stdout == ""
