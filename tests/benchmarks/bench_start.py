"""What starting costs: the client beside httpx, the command line beside its library.

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

CASES = {
    "import httpx": "import httpx",
    "import httpx, qxt_async": "import httpx, qxt_async",
    "… from qxt_async import QxtClient": "import httpx; from qxt_async import QxtClient",
    "import click": "import click",
    "qxt --help": "import sys; sys.argv[1:] = ['--help']; from qxt_async.cli import main; main()",
}
FLOORS = {"qxt --help": "import click"}
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
    for _ in range(rounds):
        empty = min(empty, run("pass"))
        for name, code in CASES.items():
            least[name] = min(least[name], run(code))
    print(f"an empty interpreter: {empty:.0f} ms\n{'':36}{'CPU ms':>8}{'ratio':>8}")
    for name, cost in least.items():
        floor = least[FLOORS.get(name, "import click" if name == "import click" else "import httpx")]
        print(f"{name:36}{cost - empty:8.1f}{(cost - empty) / (floor - empty):8.2f}")


if __name__ == "__main__":
    main()
