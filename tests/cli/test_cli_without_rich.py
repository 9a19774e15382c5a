"""Every command as a process in which rich cannot be imported: on a terminal, and not."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pytest
from support.command_line import TEXT, numbers
from support.journals import report

from qxt_async.simulator import SimulatedGateway

pytestmark = pytest.mark.usefixtures("account")

WITHOUT = "import sys; sys.modules['rich'] = None; from qxt_async.cli import main; main()"
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start `qxt` without rich."""
    started: list[subprocess.Popen[str]] = []
    monkeypatch.setenv("PYTHONUTF8", "1")

    def begin(*arguments: object, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WITHOUT, *map(str, arguments)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=stderr, text=True, encoding="utf-8"
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def ended(begin: Start) -> Callable[..., str]:
    """Run `qxt` without rich to its end, and say what it printed on stdout."""

    def run(*arguments: object) -> str:
        process = begin(*arguments)
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr
        assert "Traceback" not in stderr
        return stdout

    return run


@pytest.fixture
def on_a_terminal(begin: Start) -> Callable[..., str]:
    """The same, with a terminal as stderr; says what that shows."""

    def run(*arguments: object) -> str:
        controller, terminal = pty.openpty()
        try:
            process = begin(*arguments, stderr=terminal)
            process.communicate(timeout=60)
            os.set_blocking(controller, False)
            shown = os.read(controller, 4096).decode()
        except BlockingIOError:
            shown = ""
        finally:
            os.close(controller)
            os.close(terminal)
        assert process.returncode == 0, shown
        return shown

    return run


def test_sending_prints_plainly(ended: Callable[..., str], gateway: SimulatedGateway, many: Path) -> None:
    """`balance`, `send`, `bulk` and `check` do what they do, and end with exit code 0."""
    assert ended("balance").startswith("sms 10,000,000\n")
    assert ended("send", *numbers(1), "--text", TEXT).startswith("accepted  1\nfailed    0\nunknown   0\nmid ")
    assert ended("bulk", many, "--text", TEXT).startswith("accepted  2,500\nfailed        0\n")
    assert "credits     2,500\n" in ended("check", many, "--text", TEXT)
    assert sum(gateway.taken.values()) == 2501


def test_campaigns_print_plainly(ended: Callable[..., str], gateway: SimulatedGateway, many: Path) -> None:
    """Every campaign command does what it does."""
    gateway.fail_next("fail-999")
    assert "campaign 1 is planned" in ended("campaign", "plan", many, "--text", TEXT, "--name", "spring")
    assert ended("campaign", "list").splitlines()[1].split()[::5] == ["1", "2,500"]
    assert "planned" in ended("campaign", "status", 1)
    assert ended("campaign", "pause", 1)
    assert ended("campaign", "resume", 1, "--order-only") == ""
    assert ended("campaign", "cancel", 1)
    assert ended("campaign", "resume", 1, "--order-only") == ""


def test_bars_become_lines(on_a_terminal: Callable[..., str], gateway: SimulatedGateway, many: Path) -> None:
    """On a terminal, too: what cannot be drawn is told in lines."""
    assert "2,500, " in on_a_terminal("bulk", many, "--text", TEXT)
    assert "reading … 2,500 rows" in on_a_terminal("campaign", "plan", many, "--text", TEXT)
    on_a_terminal("campaign", "run", 1)
    on_a_terminal("campaign", "resume", 1)
    assert gateway.taken == dict.fromkeys(numbers(2500), 2)
    on_a_terminal("campaign", "export", 1, "--csv", "out.csv")
    on_a_terminal("campaign", "report", 1)


def test_what_comes_back_is_received_and_shown(begin: Start, ended: Callable[..., str]) -> None:
    """`receive`, `reports`, `replies` and `suppressed`."""
    receiver = begin("receive", "--port", "0", "--path", "secret")
    assert receiver.stderr is not None
    address = receiver.stderr.readline().removeprefix("listening on ").strip()
    opener = build_opener(ProxyHandler({}))
    with opener.open(f"{address}?{report('7', numbers(1)[0])}", timeout=30) as answer:
        assert answer.read() == b"ok"
    receiver.send_signal(signal.SIGTERM)
    receiver.communicate(timeout=60)
    assert receiver.returncode == 0
    assert numbers(1)[0] in ended("reports")
    assert len(ended("replies").splitlines()) == 1
    assert ended("suppressed", "add", *numbers(1)) == "1 added, 0 known\n"
    assert numbers(1)[0] in ended("suppressed", "list")
    assert ended("suppressed", "export") == f"{numbers(1)[0]}\n"


def test_a_simulator_says_what_it_did(begin: Start) -> None:
    """`simulate`."""
    process = begin("simulate", "--port", "0")
    assert process.stderr is not None
    assert process.stderr.readline().startswith("listening on ")
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (0, "")
    assert "requests" in stdout


def test_json_is_the_same(ended: Callable[..., str]) -> None:
    """Machines never needed it."""
    assert json.loads(ended("send", *numbers(1), "--text", TEXT, "--json"))["accepted"] == 1
