"""Every command as a process in which rich cannot be imported: on a terminal, and not."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pytest
from support.command_line import TEXT, numbers
from support.journals import report

from qxt_async.simulator import SimulatedGateway

pytestmark = pytest.mark.usefixtures("account")

# Runs one command after the other, and prints what each printed on stdout, and an end that nothing else prints. A
# process for each would take most of its time for its imports.
WITHOUT = """
import json, sys
sys.modules["rich"] = None
from qxt_async.cli import main
for arguments in json.loads(sys.argv.pop()):
    sys.argv[1:] = arguments
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            raise
    print("\\0", end="", flush=True)
    print("\\0", end="", flush=True, file=sys.stderr)
"""
Start = Callable[..., "subprocess.Popen[str]"]
Ended = Callable[..., list[str]]


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start a process in which `qxt` without rich is run with each of these arguments."""
    started: list[subprocess.Popen[str]] = []
    monkeypatch.setenv("PYTHONUTF8", "1")

    def begin(*commands: tuple[object, ...], stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
        given = json.dumps([list(map(str, arguments)) for arguments in commands])
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [sys.executable, "-c", WITHOUT, given],
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=stderr,
            text=True,
            encoding="utf-8",
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def ended(begin: Start) -> Ended:
    """Run `qxt` without rich to its end, once for each command; what each printed on stdout."""

    def run(*commands: tuple[object, ...]) -> list[str]:
        process = begin(*commands)
        stdout, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
        assert "Traceback" not in stderr
        return stdout.split("\0")[:-1]

    return run


@pytest.fixture
def on_a_terminal(begin: Start) -> Ended:
    """The same, with a terminal as stderr; what each showed on that."""

    def run(*commands: tuple[object, ...]) -> list[str]:
        controller, terminal = pty.openpty()
        with os.fdopen(terminal, "w"):
            process = begin(*commands, stderr=terminal)
        shown = b""
        with os.fdopen(controller, "rb", buffering=0) as screen, suppress(OSError):  # nobody has it open any more
            while read := screen.read(4096):
                shown += read
        process.communicate(timeout=120)
        assert process.returncode == 0, shown
        return shown.decode().split("\0")[:-1]

    return run


def test_sending_prints_plainly(ended: Ended, gateway: SimulatedGateway, many: Path) -> None:
    """`balance`, `send`, `bulk` and `check` do what they do, and end with exit code 0."""
    balance, sent, bulk, checked = ended(
        ("balance",),
        ("send", *numbers(1), "--text", TEXT),
        ("bulk", many, "--text", TEXT),
        ("check", many, "--text", TEXT),
    )
    assert balance.startswith("sms 10,000,000\n")
    assert sent.startswith("accepted  1\nfailed    0\nunknown   0\nmid ")
    assert bulk.startswith("accepted  2,500\nfailed        0\n")
    assert "credits     2,500\n" in checked
    assert sum(gateway.taken.values()) == 2501


def test_campaigns_print_plainly(ended: Ended, many: Path) -> None:
    """Every campaign command does what it does."""
    planned, listed, status, paused, resumed, cancelled, resumed_again = ended(
        ("campaign", "plan", many, "--text", TEXT, "--name", "spring"),
        ("campaign", "list"),
        ("campaign", "status", 1),
        ("campaign", "pause", 1),
        ("campaign", "resume", 1, "--order-only"),
        ("campaign", "cancel", 1),
        ("campaign", "resume", 1, "--order-only"),
    )
    assert "campaign 1 is planned" in planned
    assert listed.splitlines()[1].split()[::5] == ["1", "2,500"]
    assert "planned" in status
    assert paused
    assert cancelled
    assert resumed == resumed_again == ""


def test_bars_become_lines(on_a_terminal: Ended, gateway: SimulatedGateway, many: Path) -> None:
    """On a terminal, too: what cannot be drawn is told in lines."""
    bulk, planned, *_ = on_a_terminal(
        ("bulk", many, "--text", TEXT),
        ("campaign", "plan", many, "--text", TEXT),
        ("campaign", "run", 1),
        ("campaign", "resume", 1),
        ("campaign", "export", 1, "--csv", "out.csv"),
        ("campaign", "report", 1),
    )
    assert "2,500, " in bulk
    assert "reading … 2,500 rows" in planned
    assert gateway.taken == dict.fromkeys(numbers(2500), 2)


def test_what_comes_back_is_received_and_shown(begin: Start, ended: Ended) -> None:
    """`receive`, `reports`, `replies` and `suppressed`."""
    receiver = begin(("receive", "--port", "0", "--path", "secret"))
    assert receiver.stderr is not None
    address = receiver.stderr.readline().removeprefix("listening on ").strip()
    opener = build_opener(ProxyHandler({}))
    with opener.open(f"{address}?{report('7', numbers(1)[0])}", timeout=120) as answer:
        assert answer.read() == b"ok"
    receiver.send_signal(signal.SIGTERM)
    receiver.communicate(timeout=120)
    assert receiver.returncode == 0
    reports, replies, added, listed, exported = ended(
        ("reports",), ("replies",), ("suppressed", "add", *numbers(1)), ("suppressed", "list"), ("suppressed", "export")
    )
    assert numbers(1)[0] in reports
    assert len(replies.splitlines()) == 1
    assert added == "1 added, 0 known\n"
    assert numbers(1)[0] in listed
    assert exported == f"{numbers(1)[0]}\n"


def test_a_simulator_says_what_it_did(begin: Start) -> None:
    """`simulate`."""
    process = begin(("simulate", "--port", "0"))
    assert process.stderr is not None
    assert process.stderr.readline().startswith("listening on ")
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stderr) == (0, "\0")
    assert "requests" in stdout


def test_json_is_the_same(ended: Ended) -> None:
    """Machines never needed it."""
    (sent,) = ended(("send", *numbers(1), "--text", TEXT, "--json"))
    assert json.loads(sent)["accepted"] == 1
