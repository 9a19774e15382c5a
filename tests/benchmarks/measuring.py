"""What the benchmarks have in common: a text, turns, processes of their own, aims, profiles."""

from __future__ import annotations

import contextlib
import cProfile
import hashlib
import pstats
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

TEXT = "【测试】您好，这是一条用于测量的短信，请勿回复。"
DIGEST = hashlib.md5(b"password").hexdigest()
HEADERS = {"content-type": "application/x-www-form-urlencoded; charset=GBK"}

Name = TypeVar("Name")


def turns(names: Iterable[Name], rounds: int) -> Iterator[Name]:
    """Each once a round, every other round backwards: what else the machine does meets all of them."""
    order = list(names)
    for round_ in range(rounds):
        yield from reversed(order) if round_ % 2 else order


def alone(*arguments: object) -> list[float]:
    """What a script prints in a process of its own: figures."""
    command = [sys.executable, *map(str, arguments)]
    return [float(figure) for figure in subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.split()]


def peak() -> float:
    """Megabytes this process had at the most (on Linux). `ru_maxrss` would begin with what its parent had."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def aim(figure: float, *, most: float | None = None, least: float | None = None) -> str:
    """What the project asks of a figure, and whether it was missed."""
    said = f"aim <= {most:.2f}" if most is not None else f"aim >= {least:.2f}"
    missed = (most is not None and figure > most) or (least is not None and figure < least)
    return said + ", missed" * missed


class _Profile(cProfile.Profile):
    def create_stats(self) -> None:
        self.snapshot_stats()  # without an end, which only its own thread can give it


@contextlib.contextmanager
def profiled(title: str) -> Iterator[None]:
    """Print the 15 functions that cost most by themselves, by the processor's time. Threads only on Python 3.11."""
    profiles = [_Profile(time.thread_time)]

    def begin(*_: Any) -> None:
        profiles.append(_Profile(time.thread_time))
        profiles[-1].enable()

    if sys.version_info < (3, 12):  # later ones have one profiler in a process
        threading.setprofile(begin)
    profiles[0].enable()
    try:
        yield
    finally:
        profiles[0].disable()
        threading.setprofile(None)
        print(f"\n{title}: top costs", file=sys.stderr)
        pstats.Stats(*profiles, stream=sys.stderr).strip_dirs().sort_stats("tottime").print_stats(15)
