"""What starting costs: the client beside its dependencies, the command line beside its library.

Every line is a fresh interpreter, run in turn with the others, as CPU time of its process without that of an empty one;
the least of all rounds, since whatever else the machine does only adds to it. httpx imports its command line with it
where click and rich are installed, so the first ratio is the larger, the less is installed.

    python tests/benchmarks/bench_start.py [--rounds 25]
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys

from measuring import aim, turns

CASES = {
    "import httpx, anyio, attrs": "import httpx, anyio, attrs",
    "… from qxt_async import QxtClient": "import httpx, anyio, attrs; from qxt_async import QxtClient",
    "from qxt_async import QxtClient": "from qxt_async import QxtClient",
    "import click": "import click",
    "qxt --help": "import sys; sys.argv[1:] = ['--help']; from qxt_async.cli import main; main()",
}
FLOORS = {"import click": "import click", "qxt --help": "import click"}
MOST = {"… from qxt_async import QxtClient": 1.3, "from qxt_async import QxtClient": 1.3, "qxt --help": 1.5}
# What was installed is compiled, and only a checkout on a machine that is told not to keep it would compile each time.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def used() -> float:
    """CPU milliseconds of all children so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (usage.ru_utime + usage.ru_stime) * 1000


def run(code: str) -> float:
    before = used()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
    return used() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    rounds = parser.parse_args().rounds
    empty = float("inf")
    least = dict.fromkeys(CASES, float("inf"))
    for name in turns(CASES, rounds):
        empty = min(empty, run("pass"))
        least[name] = min(least[name], run(CASES[name]))
    print(f"an empty interpreter: {empty:.0f} ms\n{'':36}{'CPU ms':>8}{'ratio':>8}")
    for name, cost in least.items():
        ratio = (cost - empty) / (least[FLOORS.get(name, "import httpx, anyio, attrs")] - empty)
        said = aim(ratio, most=MOST[name]) if name in MOST else ""
        print(f"{name:36}{cost - empty:8.1f}{ratio:8.2f}   {said}")


if __name__ == "__main__":
    main()
