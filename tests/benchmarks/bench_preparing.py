"""What preparing numbers costs: read a column of a CSV file, normalise, validate, leave out repeated ones.

Beside it what one would write instead (the csv module, a regular expression for each number, a set), and reading the
file's lines alone, which no way can save. Each runs in a process of its own, in turn; a tenth of the rows come twice.

    python tests/benchmarks/bench_preparing.py [--numbers 10000000] [--dirty] [--rounds 3]
"""

from __future__ import annotations

import argparse
import csv
import random
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

from measuring import alone, peak, turns

BLOCK = 100_000
WAYS = {
    "read": "reading the lines",
    "naive": "csv, expression, set",
    "plain": "qxt_async",
    "compact": "qxt_async, extra compact",
}


def write_rows(path: Path, count: int, *, dirty: bool) -> None:
    """Rows with a number and a name; with `dirty`, one number in ten is written as people write them."""
    chance = random.Random(1)
    distinct = count - count // 10
    with path.open("w", encoding="utf-8") as stream:
        stream.write("name,mobile\n")
        for start in range(0, count, BLOCK):
            block = [start + at if start < distinct else chance.randrange(distinct) for at in range(BLOCK)]
            chance.shuffle(block)
            # Scattered over the whole range, as real numbers are: what lies close together packs better.
            for at, index in enumerate(block[: count - start]):
                number = f"13{index * 618_033_989 % 1_000_000_000:09d}"
                if dirty and at % 10 == 0:
                    number = f"+86 {number[:3]}-{number[3:7]}-{number[7:]}"
                stream.write(f"n{index},{number}\n")


def read(path: Path) -> int:
    """Only read the lines."""
    with path.open(encoding="utf-8") as stream:
        return sum(1 for _ in stream)


def naive(path: Path) -> int:
    """What one would write."""
    form = re.compile(r"1[3-9][0-9]{9}")
    seen: set[str] = set()
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            number = row["mobile"].replace(" ", "").replace("-", "").removeprefix("+86")
            if form.fullmatch(number):
                seen.add(number)
    return len(seen)


def plain(path: Path) -> int:
    """Ours, without the bitmaps."""
    sys.modules["pyroaring"] = None  # type: ignore[assignment]
    return compact(path)


def compact(path: Path) -> int:
    """Ours."""
    from qxt_async.files import open_numbers
    from qxt_async.protocol.numbers import Deduplicator, NumberFilter

    number_filter = NumberFilter(seen=Deduplicator(), keep_invalid=False)
    with open_numbers(path, "mobile") as file:
        return sum(len(number_filter.filter(block.numbers)) for block in file.blocks())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--numbers", type=int, default=10_000_000)
    parser.add_argument("--dirty", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        began = time.process_time()
        found = {"read": read, "naive": naive, "plain": plain, "compact": compact}[given.way](given.path)
        print(time.process_time() - began, peak(), found)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "numbers.csv"
        write_rows(path, given.numbers, dirty=given.dirty)
        taken: dict[str, list[list[float]]] = {way: [] for way in WAYS}
        for way in turns(WAYS, given.rounds):
            taken[way].append(alone(__file__, "--way", way, "--path", path))
    assert len({results[0][2] for way, results in taken.items() if way != "read"}) == 1
    print(f"{given.numbers:,} rows, {path.name}{', one in ten dirty' if given.dirty else ''}")
    print(f"{'':26}{'numbers/s of CPU':>18}{'/ reading':>11}{'/ naive':>9}{'peak MB':>9}")
    costs = {way: statistics.median(cpu for cpu, _, _ in results) for way, results in taken.items()}
    for way, cost in costs.items():
        speed, memory = given.numbers / cost, max(megabytes for _, megabytes, _ in taken[way])
        print(f"{WAYS[way]:26}{speed:18,.0f}{cost / costs['read']:11.1f}{cost / costs['naive']:9.2f}{memory:9,.0f}")


if __name__ == "__main__":
    main()
