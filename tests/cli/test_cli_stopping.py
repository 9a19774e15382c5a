"""Ctrl-C and SIGTERM, and `qxt simulate`: real processes."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import anyio
import click
import pytest
from support.command_line import PASSWORD, TEXT, Run, numbers

from qxt_async import NotSentError
from qxt_async.cli import stopping
from qxt_async.cli.stopping import run_until_stopped
from qxt_async.sending import batch_send
from qxt_async.simulator import Fault, SimulatedGateway, Submission

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(autouse=True)
def dispositions() -> Iterator[None]:
    """A command that was told to stop ignores signals until its process ends; this process goes on."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def told_of(gateway: SimulatedGateway, fault: Fault | str) -> threading.Event:
    """Let every send meet a fault; the event is set when the first one is there."""
    arrived = threading.Event()

    def arrive(_: Submission) -> bool:
        arrived.set()
        return True

    gateway.fail_when(arrive, fault)
    return arrived


def held(gateway: SimulatedGateway) -> tuple[threading.Event, threading.Event]:
    """Answer no send before the second event is set; the first one is set when one is there."""
    arrived, release = threading.Event(), threading.Event()

    def arrive(_: Submission) -> bool:
        arrived.set()
        return release.wait(120)

    gateway.fail_when(arrive, Fault("late"))
    return arrived, release


@pytest.mark.usefixtures("account")
class TestSignals:
    """A send that is interrupted."""

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_what_is_under_way_is_waited_for(
        self, start: Start, gateway: SimulatedGateway, many: Path, number: signal.Signals
    ) -> None:
        """The first signal begins nothing new; what is answered still counts, and the exit code is the shells' own."""
        arrived, release = held(gateway)
        process = start("bulk", many, "--text", TEXT, "--concurrency", "1", "--json")
        assert process.stderr is not None
        assert arrived.wait(120)
        process.send_signal(number)
        assert process.stderr.readline().startswith("stopping: waiting for what is under way")
        release.set()
        stdout, stderr = process.communicate(timeout=120)
        told = json.loads(stdout)
        assert process.returncode == 128 + number
        assert told["interrupted"] == number.name
        assert (told["accepted"], told["unknown"], told["unsent"]) == (834, 0, 1666)
        assert gateway.stats()["taken"] == 834
        assert "not sent: sending FILE again would text the others twice" in stderr
        assert f"Error: stopped by {number.name}\n" in stderr

    def test_a_second_signal_cuts_it_off(self, start: Start, gateway: SimulatedGateway, many: Path) -> None:
        """What may have arrived is unknown then, and written down whole."""
        arrived = told_of(gateway, "take-then-hang")
        unknown = many.with_name("unknown.txt")
        process = start("bulk", many, "--text", TEXT, "--concurrency", "1", "--json", "--unknown-to", unknown)
        assert process.stderr is not None
        assert arrived.wait(120)
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline().startswith("stopping: ")
        process.send_signal(signal.SIGINT)
        stdout, _ = process.communicate(timeout=120)
        told = json.loads(stdout)
        assert process.returncode == 130
        assert (told["accepted"], told["failed"], told["unknown"], told["unsent"]) == (0, 0, 834, 1666)
        assert set(unknown.read_text(encoding="ascii").split()) == set(gateway.taken)

    def test_what_was_not_sent_can_be_sent_later(
        self, start: Start, run: Run, gateway: SimulatedGateway, many: Path, tmp_path: Path
    ) -> None:
        """With --unsent-to the rest of the file is kept; sending that, too, texts everybody once."""
        with many.open("a", encoding="utf-8") as file:
            file.write("\n".join(["", numbers(1)[0], "138", "13800139998", numbers(2500)[-1]]))
        suppressed, unsent = tmp_path / "suppressed.txt", tmp_path / "un sent.txt"
        suppressed.write_text("13800139998", encoding="ascii")
        arrived, release = held(gateway)
        options = ("--concurrency", "1", "--json", "--suppressed", suppressed, "--unsent-to", unsent)
        process = start("bulk", many, "--text", TEXT, *options)
        assert process.stderr is not None
        assert arrived.wait(120)
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline().startswith("stopping: ")
        release.set()
        stdout, stderr = process.communicate(timeout=120)
        told = json.loads(stdout)
        kept = unsent.read_text(encoding="ascii").split()
        assert process.returncode == 130
        assert len(kept) == told["unsent"] == 2500 - told["accepted"]
        assert (told["invalid"], told["duplicates"], told["suppressed"]) == (1, 2, 1)
        assert f"not sent: {len(kept):,} numbers, all in '{unsent}'; " in stderr
        assert f"; continue with the same text: qxt bulk '{unsent}'\n" in stderr
        assert run("bulk", unsent, "--text", TEXT).exit_code == 0
        assert gateway.taken == dict.fromkeys(numbers(2500), 1)

    def test_one_send_is_interrupted_likewise(self, start: Start, gateway: SimulatedGateway) -> None:
        """`qxt send` waits for its answer, too."""
        arrived, release = held(gateway)
        process = start("send", *numbers(1), "--text", TEXT)
        assert process.stderr is not None
        assert arrived.wait(120)
        process.send_signal(signal.SIGTERM)
        assert process.stderr.readline().startswith("stopping: ")
        release.set()
        stdout, _ = process.communicate(timeout=120)
        assert process.returncode == 143
        assert "accepted  1\n" in stdout

    def test_a_slow_pipe_is_left(self, start: Start, gateway: SimulatedGateway) -> None:
        """Waiting for a pipe that gives nothing more ends by a signal, with what was read before told."""
        process = start("bulk", "-", "--text", TEXT, "--json", "--concurrency", "1", stdin=subprocess.PIPE)
        assert process.stdin is not None
        assert process.stderr is not None
        arrived = told_of(gateway, "utf-8")
        process.stdin.write("\n".join(numbers(3500)) + "\n")
        process.stdin.flush()
        assert arrived.wait(120)
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline().startswith("stopping: ")
        process.send_signal(signal.SIGINT)
        process.wait(120)
        told = json.loads(process.communicate()[0])
        assert process.returncode == 130
        assert told["accepted"] + told["failed"] + told["unknown"] + told["unsent"] == 3500

    def test_a_question_is_given_up_at_once(self, start: Start) -> None:
        """`qxt balance` sends nothing, so there is nothing to wait for."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            process = start("balance", "--base-url", f"http://127.0.0.1:{silent.getsockname()[1]}/qxt")
            silent.settimeout(30)
            connection, _ = silent.accept()
            with connection:
                process.send_signal(signal.SIGINT)
                stdout, _ = process.communicate(timeout=120)
        assert (process.returncode, stdout) == (130, "")


def test_the_grace_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not finish in time after the first signal is cut off without a second one."""
    monkeypatch.setattr(stopping, "GRACE", 0.1)
    seen: list[str] = []

    async def work(beginning: anyio.CancelScope) -> None:
        with beginning:
            signal.raise_signal(signal.SIGTERM)
            await anyio.sleep_forever()
        seen.append("asked to finish")
        await anyio.sleep_forever()

    ended = run_until_stopped(work)
    assert (ended.interrupted, ended.error, seen) == (signal.SIGTERM, None, ["asked to finish"])


def test_a_third_signal_is_one_too_many() -> None:
    """Impatience does no harm while clean-up is under way."""
    seen: list[str] = []

    async def work(_: anyio.CancelScope) -> None:
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
        try:
            await anyio.sleep_forever()
        finally:
            signal.raise_signal(signal.SIGINT)
            seen.append("cleaned up")

    with click.Context(click.Command("test")):
        assert run_until_stopped(work).interrupted is signal.SIGINT
    signal.raise_signal(signal.SIGTERM)  # while it tells what became of everything
    assert seen == ["cleaned up"]


def test_errors_are_values() -> None:
    """What the library or the system raises is told, for the counts to come first."""
    error = NotSentError("no connection")

    async def work(_: anyio.CancelScope) -> None:
        raise error

    ended = run_until_stopped(work)
    assert (ended.interrupted, ended.error) == (None, error)


def test_a_signal_before_the_first_request(
    run: Run, gateway: SimulatedGateway, many: Path, monkeypatch: pytest.MonkeyPatch, account: None
) -> None:
    """Interrupted while the balance is asked, nothing is sent."""
    from qxt_async import Balance, QxtClient

    async def interrupted(_: QxtClient) -> Balance:
        signal.raise_signal(signal.SIGINT)
        await noticed.wait()
        return Balance(10_000, mms=0)

    noticed = anyio.Event()
    monkeypatch.setattr(QxtClient, "balance", interrupted)
    monkeypatch.setattr(stopping, "click", SimpleNamespace(echo=lambda *_, **__: noticed.set()))
    ended = run("bulk", many, "--text", TEXT, "--check-balance", "--json")
    assert ended.exit_code == 130
    assert not gateway.requests


@pytest.mark.parametrize("command", ["send", "bulk"])
@pytest.mark.usefixtures("account")
def test_a_signal_before_another_attempt(
    run: Run, gateway: SimulatedGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Interrupted while it waits to try again, nothing is sent any more, and the numbers have failed."""

    async def interrupted(_: float) -> None:
        signal.raise_signal(signal.SIGINT)
        await noticed.wait()

    gateway.fail_next("throttle-429")
    (tmp_path / "one.txt").write_text(*numbers(1), encoding="utf-8")
    noticed = anyio.Event()
    monkeypatch.setattr(batch_send.anyio, "sleep", interrupted)
    monkeypatch.setattr(stopping, "click", SimpleNamespace(echo=lambda *_, **__: noticed.set()))
    source = {"send": numbers(1)[0], "bulk": tmp_path / "one.txt"}[command]
    ended = run(command, source, "--text", TEXT, "--json")
    told = json.loads(ended.stdout)
    assert (ended.exit_code, told["failed"], told["accepted"]) == (130, 1, 0)
    assert len(gateway.requests) == 1


@pytest.mark.usefixtures("account")
def test_a_number_that_provably_was_not_sent_is_kept_to_go_on_with(
    run: Run, gateway: SimulatedGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the file of --unsent-to and not also in that of --failed-to: who sends both sends it once."""

    async def interrupted(_: float) -> None:
        signal.raise_signal(signal.SIGINT)
        await noticed.wait()

    gateway.fail_next("throttle-429")
    (tmp_path / "one.txt").write_text(*numbers(1), encoding="utf-8")
    noticed = anyio.Event()
    monkeypatch.setattr(batch_send.anyio, "sleep", interrupted)
    monkeypatch.setattr(stopping, "click", SimpleNamespace(echo=lambda *_, **__: noticed.set()))
    ended = run("bulk", "one.txt", "--text", TEXT, "--unsent-to", "unsent.txt", "--failed-to", "failed.txt")
    assert ended.exit_code == 130
    assert (tmp_path / "unsent.txt").read_text(encoding="ascii") == f"{numbers(1)[0]}\n"
    assert (tmp_path / "failed.txt").read_text(encoding="ascii") == ""
    assert "not sent: 1 number, all in unsent.txt; continue with the same text: qxt bulk unsent.txt" in ended.stderr


class TestStoppedEarly:
    """What is kept when something else than a signal stops a bulk send."""

    @pytest.fixture(autouse=True)
    def wrong(self, account: None, monkeypatch: pytest.MonkeyPatch) -> None:
        """The password is wrong: the first batch is refused, and no other begins."""
        monkeypatch.setenv("QXT_PASSWORD", "wrong")

    def test_of_a_pipe_what_was_read(self, run: Run, tmp_path: Path) -> None:
        """A pipe is not read on, since it may give nothing more for hours; what was read of it is kept."""
        files = ("--failed-to", "failed.txt", "--unsent-to", "unsent.txt")
        stdin = "\n".join(numbers(2500)).encode()
        ended = run("bulk", "-", "--text", TEXT, "--concurrency", "1", *files, stdin=stdin)
        kept = [(tmp_path / name).read_text(encoding="ascii").split() for name in ("failed.txt", "unsent.txt")]
        assert ended.exit_code == 1
        assert len(kept[0]) < len(kept[1])
        assert [*kept[0], *kept[1]] == numbers(2500)

    def test_a_full_disk(self, run: Run, many: Path) -> None:
        """It is said that some are missing in the file; the counts stand."""
        ended = run("bulk", many, "--text", TEXT, "--concurrency", "1", "--json", "--unsent-to", "/dev/full")
        assert ended.exit_code == 1
        assert json.loads(ended.stdout)["unsent"] == 1666
        assert "--unsent-to /dev/full: it does not have all numbers that were not sent: [Errno 28]" in ended.stderr


class TestSimulate:
    """`qxt simulate`."""

    def ask(self, url: str, what: str) -> bytes:
        """Ask the running simulator."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{url}/_simulator/{what}", timeout=120) as answer:
            return bytes(answer.read())

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_it_serves_until_it_is_stopped(
        self, run: Run, start: Start, many: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
    ) -> None:
        """It says where it listens, takes a bulk send, tells what it took, and ends well when asked to."""
        process = start("simulate", "--port", "0", "--json", "--balance", "5000", "--min-batch", "10")
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("listening on http://127.0.0.1:")
        url = line.removeprefix("listening on ").strip()
        monkeypatch.setenv("QXT_USER", "user")
        monkeypatch.setenv("QXT_PASSWORD", "password")
        monkeypatch.setenv("QXT_BASE_URL", url)
        assert run("bulk", many, "--text", TEXT).exit_code == 0
        assert run("send", *numbers(1), "--text", TEXT).exit_code == 1
        assert json.loads(self.ask(url, "stats"))["taken"] == 2500
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=120)
        assert (process.returncode, stderr) == (0, "")
        told = json.loads(stdout)
        assert (told["taken"], told["refused"], told["balance"]) == (2500, 1, 2500)

    def test_its_account_and_faults(self, run: Run, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its account is that of the environment, and a share of the requests meets each fault."""
        monkeypatch.setenv("QXT_USER", "somebody")
        monkeypatch.setenv("QXT_PASSWORD", PASSWORD)
        process = start("simulate", "--port", "0", "--fault", "take-then-close=0.5", "--fault", "mixed=0.5")
        assert process.stderr is not None
        monkeypatch.setenv("QXT_BASE_URL", process.stderr.readline().removeprefix("listening on ").strip())
        codes = {run("send", *numbers(2), "--text", TEXT).exit_code for _ in range(20)}
        assert codes == {1, 3}
        process.terminate()
        stdout, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        assert "requests" in stdout
        assert PASSWORD not in stdout

    def test_a_restarted_simulator_gives_other_mids(
        self, run: Run, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The mids of a simulator that is started again are higher than all it gave before."""
        monkeypatch.setenv("QXT_USER", "user")
        monkeypatch.setenv("QXT_PASSWORD", "password")
        mids: list[int] = []
        for _ in range(2):
            process = start("simulate", "--port", "0")
            assert process.stderr is not None
            monkeypatch.setenv("QXT_BASE_URL", process.stderr.readline().removeprefix("listening on ").strip())
            for number in numbers(3):
                mids += map(int, json.loads(run("send", number, "--text", TEXT, "--json").stdout)["mids"])
            process.terminate()
            process.communicate(timeout=120)
        assert len(mids) == 6
        assert mids == sorted(set(mids))

    @pytest.mark.parametrize(
        ("arguments", "hint"),
        [
            (("--fault", "none=0.5"), "no fault is named 'none'"),
            (("--fault", "mixed=2"), "the share of 'mixed' is a number between 0 and 1"),
            (("--fault", "mixed=0.6", "--fault", "close=0.6"), "all shares together are at most 1"),
            (("--port", "70000"), "70000 is not in the range"),
            (("--push-to", "foo"), "push_to is an address such as http://"),
        ],
    )
    def test_wrong_usage(self, run: Run, arguments: tuple[str, ...], hint: str) -> None:
        """A fault or an option that cannot be is named."""
        ended = run("simulate", "--port", "0", *arguments)
        assert ended.exit_code == 2
        assert hint in ended.stderr

    def test_a_taken_port(self, run: Run, url: str) -> None:
        """A port that somebody has is one line and exit code 1."""
        port = url.split(":")[2].removesuffix("/qxt")
        ended = run("simulate", "--port", port)
        assert ended.exit_code == 1
        assert f"Error: cannot listen on 127.0.0.1, port {port}: " in ended.stderr
