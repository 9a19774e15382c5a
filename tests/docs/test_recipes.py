"""The recipes for task queues and frameworks that have no event loop of their own, each run by the real thing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qxt_async.simulator import SimulatedGateway, serve

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "tests" / "support" / "recipes"


def run(program: str, gateway: SimulatedGateway, folder: Path) -> Any:
    """Run a program with an example on its path: what it prints."""
    with serve(gateway) as url:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT / "docs" / "examples"),
            "QXT_USER": "user",
            "QXT_PASSWORD": "password",
            "QXT_BASE_URL": url,
            "QXT_JOURNAL": str(folder / "qxt.db"),
        }
        command = [sys.executable, str(RECIPES / program)]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.slow
def test_celery(tmp_path: Path) -> None:
    """A task that is delivered twice sends one text, and both deliveries have its mid."""
    gateway = SimulatedGateway()
    results = run("celery_process.py", gateway, tmp_path)
    assert results == [gateway.sends[0].mid] * 2
    assert gateway.taken == {"13800138000": 1}


@pytest.mark.slow
def test_django(tmp_path: Path) -> None:
    """A request that is repeated sends one text; the key of another number is refused; doubt is said."""
    gateway = SimulatedGateway()
    gateway.fail_when(lambda submission: "13800138002" in submission.numbers, "take-then-close")
    answers = run("django_process.py", gateway, tmp_path)
    accepted = [200, {"state": "accepted", "mid": gateway.sends[0].mid}]
    assert answers == [
        accepted,
        accepted,
        [409, {"state": "another request"}],
        [200, {"state": "unknown"}],
        [503, {"state": "unknown"}],
    ]
    assert gateway.taken == {"13800138000": 1, "13800138002": 1}
