"""Sending and taking pushes without a pause, with faults, and nothing of it stays behind.

The long form: ``QXT_SOAK_SECONDS=1800 pytest -s tests/soak``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from support.ports import free_port

HERE = Path(__file__).parent
SECONDS = float(os.environ.get("QXT_SOAK_SECONDS", "8"))
LONG = SECONDS >= 300
ROUND = 5.0 if LONG else 1.5
SECRET = "0123456789abcdefghij"
MB = 1 << 20

# What may be more at the end than after the warm-up. Nothing is under way at a sample, so tasks and threads are
# exact. Connections that a fault has closed are opened again by whoever needs one: as many as there are in the three
# pools may be missing in one sample and be there in the other. Of memory the caches of SQLite and the allocator make a
# noise of some hundred KB; 4 MB is 40 bytes for each request of half an hour, less than any object that stays behind.
ALLOWED = {"tasks": 0, "threads": 0, "files": 0, "sockets": 12, "blocks": 3000, "rss": 4 * MB}
# In a few seconds the caches have not filled yet.
ALLOWED_SHORT = {**ALLOWED, "threads": 8, "files": 8, "blocks": 20_000, "rss": 24 * MB}


def growth(samples: Sequence[dict[str, Any]]) -> dict[str, float]:
    """How much more there is at the end than after the warm-up, by the medians of a quarter of the samples each."""
    warm = samples[len(samples) // 4 :]
    quarter = max(1, len(warm) // 4)
    return {
        name: median(sample[name] for sample in warm[-quarter:]) - median(sample[name] for sample in warm[:quarter])
        for name in ALLOWED
    }


def kept(samples: Sequence[dict[str, Any]], allowed: dict[str, int]) -> dict[str, float]:
    """What has grown by more than allowed."""
    return {name: more for name, more in growth(samples).items() if more > allowed[name]}


@contextmanager
def gateway(push_to: str) -> Iterator[str]:
    """Run the gateway until the block ends; its address."""
    command = [sys.executable, str(HERE / "soaked_gateway.py"), push_to]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def soak(folder: Path) -> list[dict[str, Any]]:
    """The samples of a whole run, each printed as it comes."""
    port = free_port()
    samples: list[dict[str, Any]] = []
    with gateway(f"http://127.0.0.1:{port}/{SECRET}") as url:
        arguments = [url, str(port), str(folder / "qxt.db"), str(SECONDS), str(ROUND)]
        command = [sys.executable, str(HERE / "soaking.py"), *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", flush=True)
                samples.append(json.loads(line))
        assert process.returncode == 0, "its books, or something else, were not as they have to be: see above"
    return samples


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts what /proc shows of a process")
@pytest.mark.timeout(SECONDS * 2 + 300)
def test_nothing_stays_behind(tmp_path: Path) -> None:
    """Sends, campaigns and pushes with faults leave no memory, file, socket, task or thread; the books agree."""
    samples = soak(tmp_path)
    requests, reports = (sum(sample[name] for sample in samples) for name in ("requests", "reports"))
    print(f"{len(samples)} rounds, {requests} requests, {reports} reports; grown by {growth(samples)}")
    assert requests > (10 * SECONDS if LONG else 20)
    assert reports > requests
    for calls in ("send", "bulk", "stream", "balance", "campaign", "stranger"):
        assert sum(sample["calls"].get(calls, 0) for sample in samples)
    assert not kept(samples, ALLOWED if LONG else ALLOWED_SHORT)


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_a_leak_is_found(name: str) -> None:
    """What grows a little in each round is found; a warm-up that ends, or a sample that is high by chance, is not."""
    even = dict.fromkeys(ALLOWED, 100 * MB)
    step = 0.025 * MB if name == "rss" else 100 if name == "blocks" else 1
    rounds = range(360)
    assert kept([{**even, name: even[name] + step * at} for at in rounds], ALLOWED).keys() == {name}
    assert not kept([{**even, name: even[name] + step * min(at, 90)} for at in rounds], ALLOWED)
    assert not kept([{**even, name: even[name] + (at % 50 == 0) * 50 * MB} for at in rounds], ALLOWED)
