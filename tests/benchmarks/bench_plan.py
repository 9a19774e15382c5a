"""What a plan costs: numbers a second and memory, beside a naive set of strings. Each runs in a process of its own.

They run in turn. A tenth of the numbers come twice, in shuffled blocks, so that de-duplication has something to do.

    python tests/benchmarks/bench_plan.py [--numbers 10000000] [--texts 0] [--rounds 3]
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import anyio
from measuring import TEXT, alone, peak, turns

BLOCK = 100_000
WAYS = ("read", "naive", "plan")


def write_numbers(path: Path, count: int, texts: int) -> None:
    """`count` different numbers, a tenth of them once more at the end; with `texts` a CSV file with names."""
    chance = random.Random(1)
    with path.open("w", encoding="utf-8") as stream:
        stream.write("mobile,name\n" if texts else "")
        for start in range(0, count + count // 10, BLOCK):
            block = [start + at if start < count else chance.randrange(count) for at in range(BLOCK)]
            chance.shuffle(block)
            if texts:
                stream.writelines(f"{13_000_000_000 + number * 7},客户{number % texts}\n" for number in block)
            else:
                stream.writelines(f"{13_000_000_000 + number * 7}\n" for number in block)


def read(path: Path, texts: int, folder: Path) -> int:
    """Only read the lines: what no way can save."""
    with path.open(encoding="utf-8") as stream:
        return sum(1 for _ in stream)


def naive(path: Path, texts: int, folder: Path) -> int:
    """What one would write: a set of strings."""
    with path.open(encoding="utf-8") as stream:
        return len({line.split(",")[0].strip() for line in stream})


def plan(path: Path, texts: int, folder: Path) -> int:
    """A plan, checked and stored in a new journal."""
    from qxt_async.campaign import Campaigns
    from qxt_async.journal import open_journal

    async def work() -> int:
        async with open_journal(folder / "bench.db") as journal:
            made = await Campaigns(journal).plan(path, TEXT + ("{name}" if texts else ""))
            return made.campaign.numbers

    for old in folder.glob("bench.db*"):
        old.unlink()
    return anyio.run(work)


def measure(way: Callable[[Path, int, Path], int], path: Path, texts: int, folder: Path) -> None:
    """Run one way, and print seconds, CPU seconds, megabytes at the most, numbers."""
    began, cpu = time.perf_counter(), time.process_time()
    found = way(path, texts, folder)
    print(time.perf_counter() - began, time.process_time() - cpu, peak(), found)


def main() -> None:
    """Write the file, run every way in a process of its own, print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--numbers", type=int, default=10_000_000)
    parser.add_argument("--texts", type=int, default=0, help="different texts; 0 for one text and no column")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        measure(
            {"read": read, "naive": naive, "plan": plan}[given.way], given.folder / "numbers", given.texts, given.folder
        )
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_numbers(folder / "numbers", given.numbers, given.texts)
        taken: dict[str, list[list[float]]] = {way: [] for way in WAYS}
        for way in turns(WAYS, given.rounds):
            taken[way].append(alone(__file__, "--way", way, "--folder", folder, "--texts", given.texts))
        print(f"{given.numbers:,} numbers, {given.texts or 'one'} text(s)")
        for way, results in taken.items():
            seconds, cpu, memory, found = (statistics.median(column) for column in zip(*results, strict=True))
            floor = statistics.median(result[1] for result in taken["read"])
            print(
                f"{way:6} {given.numbers / seconds:12,.0f} numbers/s  {cpu:7.1f} s CPU ({cpu / floor:5.1f} x reading)  "
                f"{memory:6,.0f} MB  {found:,.0f} numbers"
            )
        print(f"journal: {(folder / 'bench.db').stat().st_size / 1e6:,.0f} MB")


if __name__ == "__main__":
    main()
