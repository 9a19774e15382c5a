"""`qxt send --key` and `qxt sends`: single sends that the journal records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.command_line import TEXT, Run, numbers
from support.journals import report, store

from qxt_async.simulator import SimulatedGateway

A, B = numbers(2)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Where a journal will be."""
    return tmp_path / "qxt.db"


def test_a_key_sends_once(run: Run, account: None, gateway: SimulatedGateway, journal: Path) -> None:
    """The journal is made; the second call says that nothing was sent and has the same mid."""
    arguments = ("send", A, "--text", TEXT, "--key", "k", "--journal", journal, "--json")
    first, second = run(*arguments), run(*arguments)
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert json.loads(first.stdout)["mids"] == json.loads(second.stdout)["mids"]
    assert "nothing was sent now" not in first.stderr
    assert "this key was used before: nothing was sent now" in second.stderr
    assert gateway.taken == {A: 1}


def test_a_key_of_another_text(run: Run, account: None, gateway: SimulatedGateway, journal: Path) -> None:
    """It is refused as wrong usage."""
    assert run("send", A, "--text", TEXT, "--key", "k", "--journal", journal).exit_code == 0
    again = run("send", A, "--text", TEXT + "!", "--key", "k", "--journal", journal)
    assert again.exit_code == 2
    assert "idempotency key 'k'" in again.stderr
    assert gateway.taken == {A: 1}


def test_who_opted_out_is_left_out(run: Run, account: None, gateway: SimulatedGateway, journal: Path) -> None:
    """The journal of the key is the one whose suppression list holds."""
    assert run("suppressed", "add", B, "--journal", journal).exit_code == 0
    assert run("send", A, B, "--text", TEXT, "--key", "k", "--journal", journal).exit_code == 0
    assert gateway.taken == {A: 1}


def test_a_key_without_a_journal(run: Run, account: None) -> None:
    """A key needs a journal."""
    result = run("send", A, "--text", TEXT, "--key", "k", "--no-journal")
    assert result.exit_code == 2
    assert "--key needs a journal" in result.stderr


def test_the_list(run: Run, account: None, gateway: SimulatedGateway, journal: Path) -> None:
    """A line for each, for people and for programs; filters and --csv as for the other feeds."""
    run("send", A, B, "--text", TEXT, "--key", "first", "--journal", journal)
    gateway.fail_next("take-then-close")
    run("send", A, "--text", TEXT, "--key", "second", "--journal", journal)
    store(journal, [report(gateway.sends[0].mid, A)])
    lines = run("sends", "list", "--journal", journal).stdout.splitlines()
    assert lines[0].split() == ["cursor", "sent", "state", "numbers", "mid", "report", "key"]
    assert [line.split()[3] for line in lines[1:]] == ["accepted", "unknown"]
    assert f"{A} +1" in lines[1]
    unknown = run("sends", "list", "--journal", journal, "--state", "unknown", "--json")
    (row,) = [json.loads(line) for line in unknown.stdout.splitlines()]
    assert (row["key"], row["mid"], row["report"], row["error"]) == ("second", None, None, "OutcomeUnknownError")
    header, *rows = run("sends", "list", "--journal", journal, "--key", "first", "--csv").stdout.splitlines()
    assert header == "cursor,key,state,numbers,mid,report,error,sent_at,settled_at"
    assert [each.split(",")[5] for each in rows] == ["DELIVRD"]
    followed = run("sends", "list", "--journal", journal, "--follow", "--limit", "2", "--json")
    assert len(followed.stdout.splitlines()) == 2


def test_one_of_them(run: Run, account: None, gateway: SimulatedGateway, journal: Path) -> None:
    """Each number with its state, its mid and its report."""
    gateway.fail_next("mixed")
    run("send", A, B, "--text", TEXT, "--key", "k", "--journal", journal)
    (sent,) = gateway.sends
    store(journal, [report(sent.mid, A), report(sent.mid, B)])
    shown = run("sends", "show", "k", "--journal", journal).stdout
    assert shown.startswith("k: mixed, begun ")
    assert "report DELIVRD" in shown
    assert "failed" in shown
    found = json.loads(run("sends", "show", "k", "--journal", journal, "--json").stdout)
    assert sorted(number["state"] for number in found["numbers"]) == ["accepted", "failed"]
    assert found["state"] == "mixed"
    assert found["error"]
    table = run("sends", "show", "k", "--journal", journal, "--csv", "--bom").stdout
    assert table.startswith("\ufeffnumber,state,mid,report\n")
    rows = sorted(row.split(",") for row in table.splitlines()[1:])
    assert rows == sorted([cell or "" for cell in number.values()] for number in found["numbers"])
    refused = run("sends", "show", "k", "--journal", journal, "--csv", "--json")
    assert "contradict" in refused.stderr


def test_one_that_is_proven_or_not_begun(run: Run, account: None, gateway: SimulatedGateway, journal: Path) -> None:
    """It says that a report has proven it; what is not there is an error."""
    gateway.fail_next("take-then-close")
    arguments = ("send", A, "--text", TEXT, "--key", "k", "--journal", journal)
    assert run(*arguments).exit_code == 3
    assert "unknown" in run("sends", "show", "k", "--journal", journal).stdout
    store(journal, [report(gateway.sends[0].mid, B)])
    assert run(*arguments).exit_code == 3
    assert run("send", B, "--text", TEXT, "--key", "whole", "--journal", journal).exit_code == 0
    assert "not yet" in run("sends", "show", "whole", "--journal", journal).stdout
    missing = run("sends", "show", "other", "--journal", journal)
    assert missing.exit_code == 1
    assert "no send with this key" in missing.stderr
