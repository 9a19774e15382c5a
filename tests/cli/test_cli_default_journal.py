"""Which journal `qxt send`, `qxt bulk` and `qxt check` honour: the one of all commands."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.command_line import TEXT, Run, numbers

from qxt_async.simulator import SimulatedGateway

pytestmark = pytest.mark.usefixtures("account")

GONE, STAYS = numbers(2)
COMMANDS: list[tuple[str, ...]] = [("send", GONE, STAYS), ("bulk", "both.txt"), ("check", "both.txt")]


@pytest.fixture(autouse=True)
def both(tmp_path: Path) -> None:
    """A file of both numbers in the current folder."""
    (tmp_path / "both.txt").write_text(f"{GONE}\n{STAYS}\n", encoding="ascii")


def counts(run: Run, *arguments: str) -> tuple[int, int, str]:
    """How many would get a text and how many are left out; and what was said."""
    ended = run(*arguments, "--text", TEXT, "--json")
    told = json.loads(ended.stdout)
    return told["valid" if arguments[0] == "check" else "accepted"], told["suppressed"], ended.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
class TestDefaultJournal:
    """`qxt.db` in the current folder."""

    def test_its_list_is_honoured(self, run: Run, gateway: SimulatedGateway, command: Sequence[str]) -> None:
        """Whoever was put on the list without saying which journal is left out, and that is said."""
        assert run("suppressed", "add", GONE).exit_code == 0
        sent, left_out, said = counts(run, *command)
        assert (sent, left_out) == (1, 1)
        assert "1 number is left out: on the suppression list of qxt.db\n" in said
        assert GONE not in gateway.taken

    def test_it_can_be_turned_off(self, run: Run, command: Sequence[str]) -> None:
        """With --no-journal nobody is left out."""
        run("suppressed", "add", GONE)
        sent, left_out, said = counts(run, *command, "--no-journal")
        assert (sent, left_out, "left out" in said) == (2, 0, False)

    def test_one_that_is_not_there_is_not_made(self, run: Run, tmp_path: Path, command: Sequence[str]) -> None:
        """Nothing is said about it either."""
        sent, left_out, said = counts(run, *command)
        assert (sent, left_out, "journal" in said) == (2, 0, False)
        assert [path.name for path in tmp_path.iterdir()] == ["both.txt"]

    def test_one_that_cannot_be_read_sends_nothing(
        self, run: Run, gateway: SimulatedGateway, tmp_path: Path, command: Sequence[str]
    ) -> None:
        """Nobody knows who has opted out; the error says how to send all the same."""
        (tmp_path / "qxt.db").write_text("this is no journal at all" * 1000, encoding="ascii")
        ended = run(*command, "--text", TEXT)
        assert (ended.exit_code, ended.stdout) == (1, "")
        assert "; with --no-journal no suppression list is used\n" in ended.stderr
        assert not gateway.requests

    def test_the_environment_names_another(
        self, run: Run, monkeypatch: pytest.MonkeyPatch, command: Sequence[str]
    ) -> None:
        """QXT_JOURNAL wins over `qxt.db`, and --no-journal over QXT_JOURNAL."""
        run("suppressed", "add", STAYS)
        run("suppressed", "add", GONE, STAYS, "--journal", "other.db")
        run("suppressed", "remove", STAYS, "--journal", "other.db")
        monkeypatch.setenv("QXT_JOURNAL", "other.db")
        assert counts(run, *command)[2].endswith("left out: on the suppression list of other.db\n")
        assert counts(run, *command, "--no-journal")[:2] == (2, 0)


def test_a_send_to_nobody_says_why(run: Run, gateway: SimulatedGateway) -> None:
    """If all numbers are on the list, the journal is named beside the error."""
    run("suppressed", "add", GONE)
    ended = run("send", f"+86 {GONE}", GONE, "--text", TEXT)
    assert ended.exit_code == 2
    assert ended.stderr.startswith("1 number is left out: on the suppression list of qxt.db\nError: none of 2 numbers")
    assert not gateway.requests


def test_a_journal_and_none_is_a_contradiction(run: Run) -> None:
    """Both options together are a mistake."""
    run("suppressed", "add", GONE)
    ended = run("send", GONE, "--text", TEXT, "--journal", "qxt.db", "--no-journal")
    assert (ended.exit_code, "--journal and --no-journal contradict each other" in ended.stderr) == (2, True)


def test_both_lists_are_named(run: Run, tmp_path: Path) -> None:
    """A file of numbers to leave out counts beside the journal."""
    run("suppressed", "add", GONE)
    (tmp_path / "gone.txt").write_text(STAYS, encoding="ascii")
    said = run("check", "both.txt", "--text", TEXT, "--suppressed", "gone.txt").stderr
    assert "2 numbers are left out: on the suppression list of qxt.db, or in gone.txt\n" in said
    said = run("check", "both.txt", "--text", TEXT, "--suppressed", "gone.txt", "--no-journal").stderr
    assert "1 number is left out: in gone.txt\n" in said


def test_a_journal_on_postgresql(run: Run, journals: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address is always asked, and never shown: it may have a password."""
    monkeypatch.setenv("QXT_JOURNAL", journals)
    run("suppressed", "add", GONE)
    sent, left_out, said = counts(run, "send", GONE, STAYS)
    assert (sent, left_out, said) == (1, 1, "1 number is left out: on the suppression list of the journal\n")
