"""``qxt worker`` and ``qxt campaign run --on-workers``, as processes and in this one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import anyio
import anyio.lowlevel
import pytest
from click.testing import CliRunner, Result
from support.processes import plan

from qxt_async.cli import worker as worker_command
from qxt_async.cli.program import qxt
from qxt_async.errors import JournalUnavailableError
from qxt_async.journal import AccountLimits, open_journal
from qxt_async.simulator import Fault, SimulatedGateway, Submission, serve
from qxt_async.workers import CampaignWorker

pytestmark = pytest.mark.slow
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def gateway() -> SimulatedGateway:
    """A gateway whose account is ``user``."""
    return SimulatedGateway()


@pytest.fixture
def account(gateway: SimulatedGateway, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Account and journal are in the environment."""
    with serve(gateway) as url:
        for name, value in (("USER", "user"), ("PASSWORD", "password"), ("BASE_URL", url), ("JOURNAL", database)):
            monkeypatch.setenv(f"QXT_{name}", value)
        yield


@pytest.fixture
def start(account: None) -> Iterator[Start]:
    """Start ``qxt worker``, and wait until it works."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "qxt_async", "worker", *arguments]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stderr is not None
        assert process.stderr.readline() == "working\n"
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def planned(database: str, count: int = 20) -> int:
    """A planned campaign of batches of ten."""

    async def run() -> int:
        async with open_journal(database) as journal:
            return await plan(journal, [f"1380013{index:04}" for index in range(count)], 10)

    return anyio.run(run)


def started(database: str, campaign: int) -> None:
    """Start a campaign, and leave it to the workers."""

    async def run() -> None:
        async with open_journal(database) as journal:
            await journal.campaigns.start(campaign)

    anyio.run(run)


def limits(database: str) -> AccountLimits:
    """The account's limits."""

    async def run() -> AccountLimits:
        async with open_journal(database) as journal:
            return await journal.limits.get("user")

    return anyio.run(run)


def test_a_campaign_on_workers(start: Start, gateway: SimulatedGateway, database: str) -> None:
    """A worker sends what the command watches; SIGTERM ends the worker; limits stay until they are taken away."""
    worker = start("--account-rate", "1000", "--account-concurrency", "3")
    result = CliRunner().invoke(
        qxt, ["campaign", "run", str(planned(database)), "--on-workers", "--priority", "3", "--json"]
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["accepted"] == 20
    assert sum(gateway.taken.values()) == 20
    worker.send_signal(signal.SIGTERM)
    _, err = worker.communicate(timeout=120)
    assert worker.returncode == 0
    assert "stopping: " in err
    assert limits(database) == AccountLimits(max_rate=1000, max_concurrency=3)
    start("--no-account-limits", "--verbose")
    assert limits(database) == AccountLimits()


def test_a_campaign_goes_back_to_the_workers(start: Start, gateway: SimulatedGateway, database: str) -> None:
    """What was left to workers is left to them again by resume; status names the command; a run here ends that."""
    campaign = str(planned(database))

    async def order(*, on_workers: bool) -> None:
        async with open_journal(database) as journal:
            await journal.campaigns.start(int(campaign), on_workers=on_workers)

    def command(*arguments: str) -> Result:
        return CliRunner().invoke(qxt, ["campaign", *arguments])

    anyio.run(lambda: order(on_workers=False))
    assert f"qxt campaign run {campaign}\n" in command("status", campaign).output
    anyio.run(lambda: order(on_workers=True))
    assert f"qxt campaign run {campaign} --on-workers" in command("status", campaign).output
    assert command("pause", campaign).exit_code == 0
    refused = command("resume", campaign, "--max-consecutive-failures", "3")
    assert "--max-consecutive-failures is an option of qxt worker" in refused.stderr
    assert command("resume", campaign, "--order-only").exit_code == 0
    assert gateway.sends == ()
    start()
    result = command("resume", campaign, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["accepted"] == 20
    assert sum(gateway.taken.values()) == 20


def test_a_second_signal_does_not_wait(start: Start, gateway: SimulatedGateway, database: str) -> None:
    """What is under way becomes unknown at once, and the exit code is that of the signal."""
    arrived = threading.Event()

    def arrive(_: Submission) -> bool:
        arrived.set()
        return True

    gateway.fail_when(arrive, Fault("late", delay=60.0))
    campaign = planned(database)
    started(database, campaign)
    worker = start("--no-check-balance")
    assert arrived.wait(120)
    worker.send_signal(signal.SIGTERM)
    assert worker.stderr is not None
    assert any(line.startswith("stopping: ") for line in worker.stderr)
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=120)
    assert worker.returncode == 143
    result = CliRunner().invoke(qxt, ["campaign", "status", str(campaign), "--json"])
    found = json.loads(result.stdout)
    assert found["sending"] == 0
    assert found["unknown"] > 0


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["worker", "--no-account-limits", "--account-rate", "5"], "contradict each other"),
        (
            ["campaign", "run", "1", "--on-workers", "--max-consecutive-failures", "3"],
            "--max-consecutive-failures is an option of qxt worker: workers send",
        ),
        (["campaign", "run", "1", "--on-workers"], "there is no campaign 1"),
        (["campaign", "run", "1", "--priority", "3"], "--priority is for --on-workers"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], problem: str) -> None:
    """With a sentence that says what does."""
    result = CliRunner().invoke(qxt, arguments)
    assert result.exit_code != 0
    assert problem in result.stderr


def test_a_file_is_no_journal_for_workers(account: None, tmp_path: object) -> None:
    """It says which kind is."""
    path = f"{tmp_path}/qxt.db"

    async def make() -> None:
        async with open_journal(path):
            pass

    anyio.run(make)
    result = CliRunner().invoke(qxt, ["worker", "--journal", path])
    assert (result.exit_code, "postgresql://" in result.stderr) == (2, True)


def test_a_worker_that_cannot_work_says_why(account: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the library is one line, not a group."""

    async def refuse(_: CampaignWorker) -> None:
        await anyio.lowlevel.checkpoint()
        raise JournalUnavailableError("the journal's database refused")

    monkeypatch.setattr(CampaignWorker, "run", refuse)
    result = CliRunner().invoke(qxt, ["worker"])
    assert (result.exit_code, result.stderr) == (1, "working\nError: the journal's database refused\n")


@pytest.mark.usefixtures("account")
def test_a_wrong_password_is_found_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that could send nothing says why, ends with exit code 1, and never says that it works."""
    monkeypatch.setenv("QXT_PASSWORD", "wrong")
    result = CliRunner().invoke(qxt, ["worker"])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: the gateway does not accept the password")


def test_a_gateway_that_cannot_be_asked_yet_is_waited_for(
    gateway: SimulatedGateway, account: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker says that the account is not checked yet, and works."""

    async def ended(_: CampaignWorker) -> None:
        pass

    monkeypatch.setattr(CampaignWorker, "run", ended)
    gateway.fail_next("take-then-html", of="balance")
    result = CliRunner().invoke(qxt, ["worker"])
    assert result.exit_code == 0
    first, second = result.stderr.splitlines()
    assert first.startswith("the account is not checked yet: ")
    assert second == "working"


def test_a_signal_ends_the_check_of_the_account(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that still waits for the gateway ends at once, and never says that it works."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/qxt"
        for name, value in (("USER", "user"), ("PASSWORD", "password"), ("BASE_URL", address), ("JOURNAL", database)):
            monkeypatch.setenv(f"QXT_{name}", value)
        process = subprocess.Popen([sys.executable, "-m", "qxt_async", "worker"], stderr=subprocess.PIPE, text=True)
        silent.settimeout(60)
        connection, _ = silent.accept()
        with connection:
            process.send_signal(signal.SIGTERM)
            _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "working" not in stderr


@pytest.mark.usefixtures("account")
def test_limits_are_set_and_taken_away(monkeypatch: pytest.MonkeyPatch, database: str) -> None:
    """Before the worker works; with --verbose the engine's own lines are seen."""

    async def run(_: CampaignWorker) -> None:
        pass

    monkeypatch.setattr(CampaignWorker, "run", run)
    assert CliRunner().invoke(qxt, ["worker", "--account-request-rate", "7"]).exit_code == 0
    assert limits(database) == AccountLimits(max_request_rate=7)
    assert CliRunner().invoke(qxt, ["worker", "--no-check-balance"]).exit_code == 0
    assert limits(database) == AccountLimits(max_request_rate=7)
    assert CliRunner().invoke(qxt, ["worker", "--verbose", "--no-account-limits"]).exit_code == 0
    assert limits(database) == AccountLimits()


@pytest.mark.usefixtures("account")
def test_what_was_cut_short_may_be_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code is that of the signal, in this process too."""

    async def run(worker: CampaignWorker) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            while not worker.stopping:  # noqa: ASYNC110  (a signal sets it)
                await anyio.sleep(0.01)
        await anyio.sleep_forever()

    monkeypatch.setattr(CampaignWorker, "run", run)
    result = CliRunner().invoke(qxt, ["worker"])
    assert (result.exit_code, "stopped by SIGTERM: what was under way may be unknown" in result.stderr) == (143, True)


def test_the_command_is_documented() -> None:
    """Its help names the limits of all workers together."""
    assert worker_command.command.help is not None
    assert "--account-request-rate" in CliRunner().invoke(qxt, ["worker", "--help"]).output
