"""A gateway on a real socket, and `qxt` in this process and in processes of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.command_line import PASSWORD, Run, numbers

from qxt_async.cli.program import qxt
from qxt_async.simulator import SimulatedGateway, serve

PATIENT = Path(__file__).parents[1] / "support" / "patient.py"


@pytest.fixture
def gateway() -> SimulatedGateway:
    """A gateway whose account is ``user``."""
    return SimulatedGateway("user", PASSWORD)


@pytest.fixture
def url(gateway: SimulatedGateway) -> Iterator[str]:
    """Where it listens."""
    with serve(gateway) as url:
        yield url


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's account is in the environment, and no journal in the current folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("QXT_USER", "QXT_PASSWORD", "QXT_PASSWORD_MD5", "QXT_BASE_URL", "QXT_JOURNAL", "QXT_PUSH_PATH"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def account(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The account is in the environment."""
    monkeypatch.setenv("QXT_USER", "user")
    monkeypatch.setenv("QXT_PASSWORD", PASSWORD)
    monkeypatch.setenv("QXT_BASE_URL", url)


@pytest.fixture
def run() -> Run:
    """Run `qxt` in this process: its exit code, stdout and stderr."""

    def run(*arguments: object, stdin: bytes | None = None) -> Result:
        result = CliRunner().invoke(qxt, [str(argument) for argument in arguments], input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return result

    return run


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `qxt` as a process of its own."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
        pipes: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            "encoding": "utf-8",
            "env": {**os.environ, "PYTHONUNBUFFERED": "1"},
            **options,
        }
        process = subprocess.Popen([sys.executable, str(PATIENT), *map(str, arguments)], **pipes)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        # A test that failed may leave a child of it, which holds its pipes.
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=10)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A file of 2500 numbers."""
    path = tmp_path / "numbers.txt"
    path.write_text("\n".join(numbers(2500)), encoding="utf-8")
    return path
