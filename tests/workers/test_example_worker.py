"""The service in docs/examples/worker_fastapi.py, as a real server; and the compose file beside it."""

from __future__ import annotations

import logging
import re
import signal
from pathlib import Path

import httpx
import pytest
from support.examples import EXAMPLES, listen, load, serving

from qxt_async.simulator import SimulatedGateway, serve

pytestmark = pytest.mark.slow
NUMBERS = [f"1380013{index:04}" for index in range(50)]


@pytest.mark.shows_secrets("httpx, which plays the caller here, logs addresses")
def test_a_service_sends_with_a_worker_of_its_own(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planned by a request, sent within the service; its signals and its logging are its own."""
    gateway = SimulatedGateway()
    listener, port = listen()
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    loggers = (logging.getLogger(), logging.getLogger("procrastinate"), logging.getLogger("qxt_async"))
    handlers = [list(logger.handlers) for logger in loggers]
    with serve(gateway) as url:
        for name, value in (("USER", "user"), ("PASSWORD", "password"), ("BASE_URL", url), ("JOURNAL", database)):
            monkeypatch.setenv(f"QXT_{name}", value)
        with (
            serving(load("worker_fastapi").app, listener),
            httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as http,
        ):
            answer = http.post("/campaigns", params={"text": "【Acme】Hello."}, json=NUMBERS)
            assert answer.status_code == 202
            while (found := http.get(f"/campaigns/{answer.json()['id']}").json())["state"] == "running":
                pass
            assert {number: signal.getsignal(number) for number in signals} == signals
            assert [list(logger.handlers) for logger in loggers] == handlers
    assert found == {"state": "done", "accepted": 50, "failed": 0, "unknown": 0}
    assert gateway.taken == dict.fromkeys(NUMBERS, 1)


def test_the_compose_file_runs_commands_that_exist() -> None:
    """Every command of ours in it is one that `qxt` has, with options that it has."""
    from click.testing import CliRunner

    from qxt_async.cli.program import qxt

    commands = re.findall(
        r"^    command: (\w+) (.*)$", Path(EXAMPLES / "compose.yaml").read_text("utf-8"), re.MULTILINE
    )
    assert [name for name, _ in commands] == ["worker", "receive"]
    for name, options in commands:
        text = CliRunner().invoke(qxt, [name, "--help"]).output
        assert all(option in text for option in re.findall(r"--[\w-]+", options))
