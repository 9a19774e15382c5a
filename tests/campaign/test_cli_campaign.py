"""``qxt campaign`` from a shell's side: arguments in; files, lines and exit codes out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import attrs
import click
import pytest
from click.testing import CliRunner, Result

from qxt_async.campaign import RunProgress
from qxt_async.campaign.state import current_reason, current_state
from qxt_async.cli import progress as display
from qxt_async.cli.campaign import access, state
from qxt_async.cli.campaign import run as run_commands
from qxt_async.cli.program import qxt
from qxt_async.journal import Journal, open_journal
from qxt_async.journal.records import CampaignCounts, CampaignState, DeliveryCounts
from qxt_async.models import Acceptance, BatchResult, StatusReport
from qxt_async.protocol.pushes import Push
from qxt_async.simulator import Fault, SimulatedGateway, Submission, serve

TEXT = "【Acme】您好"
NUMBER = "13800138000"
Run = Callable[..., Result]


@pytest.fixture
def gateway() -> SimulatedGateway:
    """A gateway whose account is ``user``."""
    return SimulatedGateway("user", "password")


@pytest.fixture
def account(gateway: SimulatedGateway, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Its account is in the environment, and it listens."""
    with serve(gateway) as url:
        monkeypatch.setenv("QXT_USER", "user")
        monkeypatch.setenv("QXT_PASSWORD", "password")
        monkeypatch.setenv("QXT_BASE_URL", url)
        yield


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder and a journal of our own, and nobody's account."""
    for name in ("QXT_USER", "QXT_PASSWORD", "QXT_PASSWORD_MD5", "QXT_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("QXT_JOURNAL", str(tmp_path / "qxt.db"))
    monkeypatch.setenv("USER", "somebody")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run() -> Run:
    """Run ``qxt campaign`` in this process."""

    def run(*arguments: object, stdin: str | None = None) -> Result:
        result = CliRunner().invoke(qxt, ["campaign", *map(str, arguments)], input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return result

    return run


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    """A file of 1200 numbers with names, one of them twice, and one that is none."""
    rows = [f"{13800000000 + at},{'张三' if at % 2 else '李四'}" for at in range(1200)]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["mobile,name", *rows, rows[0], "12,x"]), encoding="utf-8")
    return path


@pytest.fixture
def planned(run: Run, numbers: Path) -> int:
    """A planned campaign of two batches."""
    result = run("plan", numbers, "--text", TEXT, "--name", "hello", "--json")
    return int(json.loads(result.stdout)["id"])


def with_journal(tmp_path: Path, work: Callable[[Journal], Any]) -> Any:
    """Do something with the journal."""

    async def do() -> Any:
        async with open_journal(tmp_path / "qxt.db") as journal:
            return await work(journal)

    return anyio.run(do)


# --- plan -------------------------------------------------------------------------------------------------------------


def test_a_plan_as_json(run: Run, numbers: Path) -> None:
    """Everything that a script wants to know, and nothing was asked of a gateway."""
    result = run("plan", numbers, "--text", "【Acme】尊敬的{name}", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (
        0,
        {
            "id": 1,
            "name": "",
            "state": "planned",
            "numbers": 1200,
            "batches": 2,
            "messages": 2,
            "credits": 1200,
            "segments": {"1": 1200},
            "invalid": 1,
            "duplicates": 1,
            "suppressed": 0,
            "faulty": 0,
            "balance": None,
            "enough": None,
            "warnings": [],
        },
    )


def test_a_plan_may_be_meant_literally(run: Run, numbers: Path) -> None:
    """With --literal what looks like a column and is none goes out as it stands."""
    result = run("plan", numbers, "--text", "【Acme】${name} %name%", "--literal", "--json")
    assert (result.exit_code, json.loads(result.stdout)["messages"]) == (0, 2)


@pytest.mark.usefixtures("account")
def test_a_plan_for_people(run: Run, numbers: Path, gateway: SimulatedGateway, tmp_path: Path) -> None:
    """A table with the balance and what to do next; warnings on stderr; nothing was sent."""
    gateway.balance = 5
    (tmp_path / "stop.txt").write_text("13800000001\n", encoding="utf-8")
    result = run("plan", numbers, "-", "--text", "您好", "--suppressed", "stop.txt", stdin="13900000000\n")
    assert result.exit_code == 0
    lines = dict(line.rsplit(None, 1) for line in result.stdout.splitlines() if line and "campaign" not in line)
    assert lines == {
        "numbers": "1,200", "batches": "2", "texts": "1", "credits": "1,200",
        "invalid": "1", "duplicates": "1", "suppressed": "1", "balance": "5",
    }  # fmt: skip
    assert "send it with: qxt campaign run 1" in result.stdout
    assert "warning: a text has no signature" in result.stderr
    assert "the balance is 5" in result.stderr
    assert not gateway.sends
    result = run("plan", numbers, "--text", TEXT, "--no-check-balance", "--json")
    assert json.loads(result.stdout)["balance"] is None


def test_a_plan_of_a_workbook(run: Run, tmp_path: Path) -> None:
    """A sheet is chosen by name or position."""
    import xlsxwriter

    with xlsxwriter.Workbook(tmp_path / "rows.xlsx") as book:
        for name, number in (("a", 13800000000), ("b", 13800000001)):
            book.add_worksheet(name).write(0, 0, number)
    for sheet in ("2", "b"):
        result = run("plan", "rows.xlsx", "--sheet", sheet, "--text", TEXT, "--json")
        assert json.loads(result.stdout)["numbers"] == 1


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["rows.csv", "--text", "{nam}"], "there is no column 'nam': there are 1 'mobile', 2 'name'"),
        (["none.csv", "--text", TEXT], "none.csv: No such file"),
        (["rows.csv", "--text", "😀"], r"U+1F600"),
        (["rows.csv", "--text", "${name}"], "'${name}' at position 1 of the text looks like a column and is none"),
        (["--text", TEXT], "Missing argument"),
    ],
)
def test_a_plan_that_cannot_be_made_is_a_usage_error(run: Run, numbers: Path, arguments: list[str], what: str) -> None:
    """Exit code 2 and one line that says what to change."""
    result = run("plan", *arguments)
    assert (result.exit_code, what in result.stderr) == (2, True)


def test_reading_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The number of rows is told while a long file is read."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with display.rows_read() as show:
        show(1234)
    capsys.readouterr()


# --- run and resume -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("account")
def test_a_run_sends_what_is_planned(run: Run, planned: int, gateway: SimulatedGateway) -> None:
    """Exit code 0 if everything was accepted, and every number was taken once."""
    result = run("run", planned, "--json")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert (told["state"], told["accepted"], told["unknown"], told["delivered"]) == ("done", 1200, 0, 0)
    assert told["batches"] == {"accepted": 2}
    assert set(gateway.taken.values()) == {1}
    assert len(gateway.taken) == 1200
    again = run("run", planned)
    assert (again.exit_code, "campaign 1 is done" in again.stdout) == (0, True)
    assert len(gateway.sends) == 2


@pytest.mark.usefixtures("account")
def test_unknown_numbers_are_sent_again_only_by_order(
    run: Run, planned: int, gateway: SimulatedGateway, tmp_path: Path
) -> None:
    """Exit code 3 says that something is unknown; a resend shows its cost and has to be confirmed."""
    gateway.fail_next("take-then-reset")
    assert run("run", planned).exit_code == 3
    assert run("resume", planned).exit_code == 3
    assert len(gateway.sends) == 2
    refused = run("resume", planned, "--resend-unknown", stdin="n\n")
    assert refused.exit_code == 1
    assert "600 unknown numbers would be sent again for 600 credits; they may have the text already" in refused.stderr
    assert len(gateway.sends) == 2
    result = run("resume", planned, "--resend-unknown", "--yes", "--json")
    assert (result.exit_code, json.loads(result.stdout)["accepted"]) == (0, 1200)
    assert len(gateway.sends) == 3
    events = with_journal(tmp_path, lambda journal: journal.campaigns.events(planned))
    assert ("resend-unknown", "somebody") in [(event.what, event.actor) for event in events]
    nothing = run("resume", planned, "--resend-failed", "--yes")
    assert (nothing.exit_code, nothing.stderr) == (1, f"Error: no number of campaign {planned} is failed\n")


@pytest.mark.usefixtures("account")
def test_unknown_and_failed_numbers_are_sent_again_together(
    run: Run, planned: int, gateway: SimulatedGateway, tmp_path: Path
) -> None:
    """Both options order both, after one question that shows both; what has no numbers is left out."""
    gateway.fail_next("take-then-reset")
    gateway.fail_next("fail-999")
    assert run("run", planned, "--concurrency", "1").exit_code == 3
    both = ("resume", planned, "--resend-failed", "--resend-unknown")
    refused = run(*both, stdin="n\n")
    assert refused.exit_code == 1
    assert "600 unknown numbers would be sent again for 600 credits; they may have the text already" in refused.stderr
    assert "600 failed numbers would be sent again for 600 credits\n" in refused.stderr
    assert len(gateway.sends) == 1
    result = run(*both, "--yes", "--json")
    assert (result.exit_code, json.loads(result.stdout)["accepted"]) == (0, 1200)
    events = with_journal(tmp_path, lambda journal: journal.campaigns.events(planned))
    assert {"resend-unknown", "resend-failed"} <= {event.what for event in events}
    nothing = run(*both, "--yes")
    assert nothing.stderr == f"Error: no number of campaign {planned} is unknown or failed\n"


@pytest.mark.usefixtures("account")
def test_one_of_both_is_enough(run: Run, planned: int, gateway: SimulatedGateway) -> None:
    """With both options and nothing unknown, what failed is sent again."""
    gateway.fail_next("fail-999")
    assert run("run", planned).exit_code == 1
    result = run("resume", planned, "--resend-failed", "--resend-unknown", "--yes")
    assert (result.exit_code, "unknown" in result.stderr) == (0, False)


@pytest.mark.usefixtures("account")
def test_failed_numbers_are_exit_code_1(run: Run, planned: int, gateway: SimulatedGateway) -> None:
    """What the gateway refused is failed, and may be ordered again."""
    gateway.fail_next("fail-999")
    assert run("run", planned).exit_code == 1
    result = run("resume", planned, "--resend-failed", stdin="y\n")
    assert result.exit_code == 0
    assert "would be sent again for 600 credits\n" in result.stderr


@pytest.mark.usefixtures("account")
def test_a_run_that_pauses_says_how_to_go_on(run: Run, planned: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong password sends nothing and pauses at once; resuming with the right one sends everything."""
    monkeypatch.setenv("QXT_PASSWORD", "wrong")
    result = run("run", planned, "--no-check-balance")
    assert result.exit_code == 1
    assert "campaign 1 is paused" in result.stdout
    assert f"not all is sent: continue with: qxt campaign resume {planned}" in result.stderr
    monkeypatch.setenv("QXT_PASSWORD", "password")
    assert run("resume", planned, "--order-only").stdout == ""
    assert json.loads(run("status", planned, "--json").stdout)["state"] == "running"
    assert run("run", planned, "--window", "00:00-24:00", "--zone", "UTC").exit_code in {0, 2}


def test_a_run_needs_a_campaign_a_journal_and_an_account(run: Run, planned: int) -> None:
    """Each is missed by name."""
    assert (run("run", planned).exit_code, "set QXT_USER" in run("run", planned).stderr) == (2, True)
    result = run("status", planned, "--journal", "none.db")
    assert (result.exit_code, "there is no journal 'none.db'" in result.stderr) == (2, True)
    assert not Path("none.db").exists()


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize("command", ["run", "resume", "pause", "cancel", "status", "report"])
def test_a_campaign_that_is_not_there(run: Run, planned: int, command: str) -> None:
    """One line and exit code 1, from every command."""
    result = run(command, 99)
    assert (result.exit_code, result.stderr) == (1, "Error: there is no campaign 99 in this journal\n")


@pytest.mark.skipif(os.name == "nt", reason="signals of this kind are not sent on Windows")
@pytest.mark.usefixtures("account")
def test_a_signal_lets_what_is_under_way_finish(planned: int, gateway: SimulatedGateway, run: Run) -> None:
    """SIGTERM: the batch under way is settled, the rest stays planned for the next run."""
    arrived, release = threading.Event(), threading.Event()

    def arrive(_: Submission) -> bool:
        arrived.set()
        return release.wait(120)

    gateway.fail_when(arrive, Fault("late"))
    arguments = ["campaign", "run", str(planned), "--concurrency", "1", "--rate", "600", "--verbose"]
    process = subprocess.Popen(
        [sys.executable, "-m", "qxt_async", *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert arrived.wait(120)
    process.send_signal(signal.SIGTERM)
    release.set()
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 143, errors
    assert "Error: stopped by SIGTERM" in errors
    told = json.loads(run("status", planned, "--json").stdout)
    assert told["accepted"] + told["planned"] == 1200
    assert told["unknown"] == told["sending"] == 0
    assert "accepted" in output


@pytest.mark.skipif(os.name == "nt", reason="signals of this kind are not sent on Windows")
@pytest.mark.usefixtures("account")
def test_a_second_signal_does_not_wait(planned: int, gateway: SimulatedGateway, run: Run) -> None:
    """The first one is answered; after the second, what is under way is unknown, and the exit code is the signal's."""
    arrived = threading.Event()

    def arrive(_: Submission) -> bool:
        arrived.set()
        return True

    gateway.fail_when(arrive, "take-then-hang")
    command = [sys.executable, "-m", "qxt_async", "campaign", "run", str(planned), "--concurrency", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert arrived.wait(120)
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline() == "stopping: waiting for what is under way; once more to cut it off\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130
    told = json.loads(run("status", planned, "--json").stdout)
    assert (told["planned"], told["unknown"], told["sending"]) == (600, 600, 0)


def counts(**changes: Any) -> CampaignCounts:
    """How far a made-up campaign is."""
    values: dict[str, Any] = {
        "state": CampaignState.DONE, "reason": "", "planned": 0, "sending": 0, "accepted": 1, "failed": 0,
        "unknown": 0, "suppressed": 0, "batches": {}, "credits": 1,
    }  # fmt: skip
    return CampaignCounts(**values | changes)


@pytest.mark.parametrize(
    ("counted", "stopped", "code", "message"),
    [
        (counts(), None, 0, ""),
        (counts(failed=1), None, 1, ""),
        (counts(planned=1), None, 1, "not all is sent: continue with: qxt campaign resume 1"),
        (counts(unknown=1, failed=1, planned=1), None, 3, ""),
        (counts(sending=1), None, 1, "1 number under way in another process: look again with: qxt campaign status 1"),
        (counts(sending=2, unknown=1), None, 3, ""),
        (counts(unknown=1, planned=1), signal.SIGINT, 130, "stopped by SIGINT; continue with: qxt campaign run 1"),
        (counts(sending=1), signal.SIGTERM, 143, "stopped by SIGTERM; continue with: qxt campaign run 1"),
        (counts(), signal.SIGTERM, 143, "stopped by SIGTERM"),
    ],
)
def test_exit_codes(counted: CampaignCounts, stopped: signal.Signals | None, code: int, message: str) -> None:
    """0 all accepted, 1 something failed or not sent, 3 something unknown; a signal wins over all."""
    with pytest.raises((click.exceptions.Exit, click.ClickException)) as raised:
        run_commands.finish(1, counted, [] if stopped is None else [stopped])
    assert raised.value.exit_code == code  # type: ignore[attr-defined]
    assert getattr(raised.value, "message", "") == message


def test_who_gives_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of the shell's user, on Windows too, or none."""
    assert access.current_user() == "somebody"
    monkeypatch.delenv("USER")
    monkeypatch.setenv("USERNAME", "else")
    assert access.current_user() == "else"
    monkeypatch.delenv("USERNAME")
    assert access.current_user() == ""


# --- progress -----------------------------------------------------------------------------------------------------


def progress(**changes: Any) -> RunProgress:
    """A look at a run."""
    deliveries = DeliveryCounts(delivered=7, rejected=0, failed=0, unknown=0)
    return attrs.evolve(
        RunProgress(
            counts=counts(planned=500, accepted=1000, failed=20),
            deliveries=deliveries,
            speed=250.0,
            seconds_left=62.0,
            balance=9000,
            waiting="",
            elapsed=4.0,
        ),
        **changes,
    )


def test_progress_in_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal, a line every half minute and not more."""
    now = [100.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    with display.show_progress(run_commands.snapshot_of) as show:
        show(progress())
        assert capsys.readouterr().err == ""
        now[0] += 31.0
        show(progress())
        show(progress())
        now[0] += 31.0
        show(progress(deliveries=None, balance=None, waiting="outside of 08:00-21:00"))
    assert capsys.readouterr().err.splitlines() == [
        "1,020 of 1,520, 250 numbers/s: accepted 1,000, failed 20, unknown 0, delivered 7, balance 9,000",
        "1,020 of 1,520, 250 numbers/s: accepted 1,000, failed 20, unknown 0, waiting: outside of 08:00-21:00",
    ]


def test_progress_as_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On a terminal a bar with the counts, the speed and the time left; what a run waits for is no markup."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    with display.show_progress(run_commands.snapshot_of) as show:
        show(progress(seconds_left=None))
        show(progress(waiting="[red]x"))
    shown = capsys.readouterr().err
    for part in ("accepted 1,000", "250 numbers/s", "1:02 left", "[red]x", "67.1 %"):
        assert part in shown


# --- orders, status, list -------------------------------------------------------------------------------------------


def test_pause_and_cancel(run: Run, planned: int, tmp_path: Path) -> None:
    """Orders are written down with who gave them, and told whether they changed anything."""
    assert run("pause", planned).stdout == "campaign 1 was not running\n"
    with_journal(tmp_path, lambda journal: journal.campaigns.start(planned))
    assert run("pause", planned, "--reason", "lunch").stdout == "campaign 1 is paused\n"
    assert "campaign 1 is paused (lunch)" in run("status", planned).stdout
    assert run("resume", planned, "--order-only").exit_code == 0
    assert run("cancel", planned, "--reason", "over").stdout == "campaign 1 is cancelled\n"
    assert run("resume", planned, "--order-only").exit_code == 0
    assert json.loads(run("status", planned, "--json").stdout)["state"] == "running"


@pytest.mark.usefixtures("account")
def test_status_counts_what_was_reported(run: Run, planned: int, tmp_path: Path) -> None:
    """DeliveryCounts come from the journal, as they come in."""
    run("run", planned)

    async def report(journal: Journal) -> None:
        (batch, _) = await journal.campaigns.batches(planned)
        reports = [
            StatusReport(batch.mid or "", str(13800000000 + at), code=code)
            for at, code in enumerate(("DELIVRD", "DELIVRD", "REJECT", "UNDELIV"))
        ]
        await journal.record_push(Push(query=b"", body=b"", reports=tuple(reports)))

    with_journal(tmp_path, report)
    told = json.loads(run("status", planned, "--json").stdout)
    assert (told["delivered"], told["rejected"], told["undelivered"]) == (2, 1, 1)
    shown = run("status", planned).stdout
    assert "not delivered" in shown
    assert "campaign 1 is done" in shown


def claimed(tmp_path: Path, campaign: int, *, lease: float) -> None:
    """Let a process begin a batch and never say what became of it."""

    async def claim(journal: Journal) -> None:
        await journal.campaigns.start(campaign)
        assert await journal.campaigns.claim(campaign, token="t", lease=lease) is not None

    with_journal(tmp_path, claim)


def test_running_is_said_of_batches_not_of_processes(run: Run, planned: int, tmp_path: Path) -> None:
    """The journal cannot tell whether a process is at it: it tells what is under way, and since when."""
    with_journal(tmp_path, lambda journal: journal.campaigns.start(planned))
    idle = "campaign 1 is not finished: nothing is being sent right now; if no process runs it: qxt campaign run 1"
    assert run("status", planned).stdout.splitlines()[-1] == idle
    assert " unfinished " in run("list").stdout
    claimed(tmp_path, planned, lease=600.0)
    shown = run("status", planned).stdout
    assert "campaign 1 is not finished: 1 batch under way, the last one since 2" in shown
    assert "is running" not in shown
    assert " sending " in run("list").stdout
    assert json.loads(run("list", "--json").stdout)["state"] == "running"


@pytest.mark.parametrize("command", ["status", "list"])
def test_what_a_dead_process_left_is_not_shown_as_being_sent(
    run: Run, planned: int, tmp_path: Path, command: str
) -> None:
    """When the lease has run out, its numbers are unknown."""
    claimed(tmp_path, planned, lease=0.0)
    arguments = [planned] if command == "status" else []
    shown = run(command, *arguments).stdout
    assert "sending" not in shown.replace("being sent", "")
    told = json.loads(run("status", planned, "--json").stdout)
    assert (told["sending"], told["unknown"], told["planned"]) == (0, 600, 600)


@pytest.mark.usefixtures("account")
def test_what_is_accepted_as_a_whole_is_done_also_when_it_was_paused(run: Run, planned: int, tmp_path: Path) -> None:
    """A pause that came while the last batch was under way leaves nothing to be resumed."""

    async def pause_and_settle(journal: Journal) -> None:
        await journal.campaigns.start(planned)
        claims = [await journal.campaigns.claim(planned, token=str(at), lease=600.0) for at in range(2)]
        await journal.campaigns.pause(planned, "lunch")
        for at, claim in enumerate(claims):
            assert claim is not None
            acceptances = (Acceptance(str(at), claim.numbers),)
            await journal.campaigns.settle(claim, BatchResult(0, claim.numbers, acceptances=acceptances))

    with_journal(tmp_path, pause_and_settle)
    assert run("status", planned).stdout.splitlines()[-1] == "campaign 1 is done"
    told = json.loads(run("status", planned, "--json").stdout)
    assert (told["state"], told["reason"]) == ("done", "")
    listed = json.loads(run("list", "--json").stdout)
    assert (listed["state"], listed["reason"]) == ("done", "")
    assert " done " in run("list").stdout
    run("report", planned, "-o", "r.html")
    page = Path("r.html").read_text("utf-8")
    assert '<span class="state done">done</span>' in page
    assert '<span class="reason">' not in page
    assert run("run", planned).exit_code == 0


def test_a_pause_is_told_with_its_reason(run: Run, planned: int, tmp_path: Path) -> None:
    """As long as something is left, in the list as well; and when something failed, also at the end."""

    async def pause(journal: Journal) -> None:
        await journal.campaigns.start(planned)
        await journal.campaigns.pause(planned, "lunch")

    with_journal(tmp_path, pause)
    listed = json.loads(run("list", "--json").stdout)
    assert (listed["state"], listed["reason"]) == ("paused", "lunch")
    failed = counts(state=CampaignState.PAUSED, reason="10 batches in a row were not accepted", failed=1)
    assert current_state(failed) is CampaignState.DONE
    assert current_reason(failed) == "10 batches in a row were not accepted"


def test_a_watch_does_not_leave_while_numbers_are_being_sent(
    run: Run, planned: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pause lets what is under way finish, and so does the watch."""
    claimed(tmp_path, planned, lease=600.0)
    with_journal(tmp_path, lambda journal: journal.campaigns.pause(planned, "lunch"))
    looks: list[float] = []

    async def look_again(seconds: float) -> None:
        looks.append(seconds)
        async with open_journal(tmp_path / "qxt.db") as journal:
            assert await journal.campaigns.undo_claim(planned, "t")

    monkeypatch.setattr(state.anyio, "sleep", look_again)
    lines = run("status", planned, "--watch", "--json").stdout.splitlines()
    told = [(found["state"], found["sending"]) for found in map(json.loads, lines)]
    assert (told, looks) == ([("paused", 600), ("paused", 0)], [2.0])


def test_status_can_be_watched(run: Run, planned: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look after look, until it is not running any more."""
    with_journal(tmp_path, lambda journal: journal.campaigns.start(planned))
    looks: list[float] = []

    async def look_again(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            async with open_journal(tmp_path / "qxt.db") as journal:
                await journal.campaigns.pause(planned, "enough")

    monkeypatch.setattr(state.anyio, "sleep", look_again)
    result = run("status", planned, "--watch", "--json", "--every", "0.5")
    states = [json.loads(line)["state"] for line in result.stdout.splitlines()]
    assert (looks, states) == ([0.5, 0.5], ["running", "running", "paused"])


def test_a_watched_terminal_is_cleared(run: Run, planned: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a look replaces the one before."""
    cleared: list[bool] = []
    monkeypatch.setattr(state.click, "clear", lambda: cleared.append(True))
    monkeypatch.setattr(state.sys, "stdout", Terminal())
    state.status.main([str(planned), "--watch"], standalone_mode=False)
    assert cleared == [True]


class Terminal:
    """A standard output that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Nobody looks."""
        return len(text)

    def flush(self) -> None:
        """Nothing waits."""


def test_campaigns_are_listed(run: Run, planned: int) -> None:
    """The newest first, as a table or one JSON object a line; names are no markup, and steer no terminal."""
    run("plan", "rows.csv", "--text", TEXT, "--name", "[red]two")
    run("plan", "rows.csv", "--text", TEXT, "--name", "\x1b[2Jthree")
    assert "\ufffd[2Jthree" in run("list").stdout
    told = [json.loads(line) for line in run("list", "--json").stdout.splitlines()]
    assert [(one["id"], one["name"], one["state"], one["numbers"]) for one in told] == [
        (3, "\x1b[2Jthree", "planned", 1200),
        (2, "[red]two", "planned", 1200),
        (1, "hello", "planned", 1200),
    ]
    shown = run("list").stdout
    assert "[red]two" in shown
    assert shown.index("two") < shown.index("hello")


def test_a_campaigns_name_cannot_steer_a_terminal(run: Run, planned: int) -> None:
    """In the list a name stands on one line, without control characters."""
    run("plan", "rows.csv", "--text", TEXT, "--name", "a\x1b[2J\x9b2J\u202eb\nforged line")
    shown = run("list").stdout
    assert all(line.isprintable() for line in shown.splitlines())
    assert len(shown.splitlines()) == 3
    assert "a\ufffd[2J\ufffd2J\ufffdb forged line" in shown


# --- files ----------------------------------------------------------------------------------------------------------


def test_an_export_to_standard_output_and_files(run: Run, planned: int, tmp_path: Path) -> None:
    """The CSV begins with the header that scripts rely on; what was left out has its line."""
    result = run("export", planned, "--csv", "-")
    assert result.stdout.splitlines()[0].startswith("number,state,mid,report,code,area,city,")
    assert len(result.stdout.splitlines()) == 1201
    result = run("export", planned, "--csv", "a.csv", "--parquet", "a.parquet", "--left-out", "out.csv")
    assert (result.exit_code, result.stdout) == (0, "")
    assert Path("a.csv").read_text("utf-8").splitlines()[1].startswith("13800000000,planned,")
    assert Path("a.parquet").read_bytes()[:4] == b"PAR1"
    assert {line.split(",")[1] for line in Path("out.csv").read_text("utf-8").splitlines()} == {
        "reason",
        "invalid",
        "duplicate",
    }


def test_an_export_for_excel(run: Run, planned: int) -> None:
    """With --bom CSV begins with a byte order mark, in a file and on standard output; Parquet has none."""
    result = run("export", planned, "--csv", "-", "--bom")
    assert result.stdout == "\ufeff" + run("export", planned, "--csv", "-").stdout
    assert run("export", planned, "--left-out", "out.csv", "--parquet", "a.parquet", "--bom").exit_code == 0
    assert Path("out.csv").read_text("utf-8").startswith("\ufeffnumber,reason,")
    assert Path("a.parquet").read_bytes()[:4] == b"PAR1"
    result = run("export", planned, "--parquet", "b.parquet", "--bom")
    assert (result.exit_code, "--bom is for CSV" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    "arguments", [("export", "--csv"), ("export", "--parquet"), ("export", "--left-out"), ("report", "-o")]
)
def test_a_file_that_is_there_is_replaced_only_by_force(run: Run, planned: int, arguments: tuple[str, str]) -> None:
    """It may be the only one of its kind; an empty one has nothing to be lost."""
    command, option = arguments
    path = Path("old")
    path.write_text("old", encoding="utf-8")
    result = run(command, planned, option, path)
    assert (result.exit_code, path.read_text("utf-8")) == (2, "old")
    assert "old exists already: give another name, or --force to replace it." in result.stderr
    assert run(command, planned, option, path, "--force").exit_code == 0
    assert path.read_bytes()[:3] != b"old"
    path.write_bytes(b"")
    assert run(command, planned, option, path).exit_code == 0
    assert run(command, planned, option, os.devnull).exit_code == 0


def test_no_file_of_several_is_written_if_one_is_there(run: Run, planned: int) -> None:
    """An export does all or nothing; and two of its files are not one."""
    Path("old").write_text("old", encoding="utf-8")
    assert run("export", planned, "--csv", "new", "--left-out", "old").exit_code == 2
    assert not Path("new").exists()
    result = run("export", planned, "--csv", "new", "--left-out", "new", "--force")
    assert (result.exit_code, "each needs a file of its own" in result.stderr) == (2, True)
    assert not Path("new").exists()


def test_an_export_to_nowhere_is_a_usage_error(run: Run, planned: int) -> None:
    """Say where to; and a file that cannot be written is told."""
    assert run("export", planned).exit_code == 2
    assert run("export", planned, "--parquet", "b.parquet").exit_code == 0
    result = run("export", planned, "--csv", "no/such/folder.csv")
    assert (result.exit_code, "no/such/folder.csv" in result.stderr) == (1, True)


@pytest.mark.parametrize("option", ["--csv", "--parquet", "--left-out"])
def test_a_campaign_that_is_not_there_replaces_no_export(run: Run, planned: int, option: str) -> None:
    """The export of another campaign stays as it is, and none is begun."""
    Path("old").write_text("old", encoding="utf-8")
    for name in ("old", "new"):
        result = run("export", 99, option, name)
        assert (result.exit_code, result.stderr) == (1, "Error: there is no campaign 99 in this journal\n")
    assert (Path("old").read_text("utf-8"), Path("new").exists()) == ("old", False)


def test_standard_output_is_utf_8(run: Run, tmp_path: Path) -> None:
    """As every file, whatever the charset of the terminal is."""
    (tmp_path / "rows.txt").write_text(f"{NUMBER}\n\U0001f600\n", encoding="utf-8")
    run("plan", "rows.txt", "--text", TEXT)
    command = [sys.executable, "-m", "qxt_async", "campaign", "export", "1", "--left-out", "-"]
    written = subprocess.run(command, stdout=subprocess.PIPE, check=True, env={**os.environ, "PYTHONIOENCODING": "gbk"})
    assert "\U0001f600,invalid," in written.stdout.decode("utf-8")


def test_a_closed_pipe_ends_an_export_quietly(run: Run, planned: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when it is piped into `head`."""
    from qxt_async.campaign import Campaigns

    async def closed(*_: Any, **__: Any) -> int:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(Campaigns, "export", closed)
    result = run("export", planned, "--csv", "-")
    assert (result.exit_code, result.stderr) == (1, "")


def test_a_report_is_written(run: Run, planned: int) -> None:
    """To the file that is asked for, or one named after the campaign, whose name is printed."""
    assert run("report", planned, "-o", "r.html", "--lang", "zh", "--zone", "UTC").stdout == "r.html\n"
    assert "群发报告" in Path("r.html").read_text("utf-8")
    assert run("report", planned).stdout == "campaign-1.html\n"
    assert "Campaign report" in Path("campaign-1.html").read_text("utf-8")
    assert run("report", planned, "-o", "-", "--lang", "zh", "--zone", "UTC").stdout.startswith("<!DOCTYPE html>")
    assert not Path("-").exists()
    result = run("report", planned, "-o", "no/such/r.html")
    assert (result.exit_code, "no/such/r.html" in result.stderr) == (1, True)


def test_help_lists_the_commands(run: Run) -> None:
    """Without loading them."""
    shown = run("--help").stdout
    for name in ("plan", "run", "resume", "pause", "cancel", "status", "list", "export", "report"):
        assert f"  {name}" in shown
