"""Whether what a number costs stays the same as the campaign grows: stream, plan, run and report.

Each step of each size runs in a process of its own, which has done the same for a thousand numbers before; all sizes
have their turn in each round. The gateway is a process of its own, too, and costs next to nothing. Prints CPU time a
number and peak memory, the medians of the rounds, and in brackets what each number beyond the size before has cost,
without what every campaign costs once. `repeated` is stream with `deduplicate=False`. With --plot also draws both
(extra `report`), as growth.svg and growth-memory.svg.

    python tests/benchmarks/bench_growth.py [--largest 1000000] [--rounds 3] [--plain] [--plot docs/images]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

from gateway import serving
from measuring import TEXT, aim, alone, peak, turns

FIRST = 1000
FLAT = 1.1 / 0.9  # within a tenth of the middle


def write_numbers(path: Path, count: int) -> None:
    """Made-up numbers in no order, each once, scattered over a thousand million."""
    with path.open("w", encoding="ascii") as file:
        for index in range(count):
            # Two rounds of what can be undone: a shuffled order that needs no memory, which a child would inherit.
            mixed = index
            for _ in range(2):
                mixed = (mixed * 0x9E3779B1 + 0x7F4A7C15) & 0x3FFFFFFF
                mixed ^= mixed >> 15
            file.write(f"1{3_000_000_000 + mixed}\n")


async def stream(count: int, url: str, folder: Path, *, deduplicate: bool = True) -> None:
    """`stream_bulk`, repeated numbers left out."""
    from qxt_async import QxtClient
    from qxt_async.files import open_numbers

    taken = 0
    async with (
        QxtClient("user", "password", base_url=url, transport="aiohttp") as client,
        client.stream_bulk(open_numbers(folder / "numbers"), TEXT, deduplicate=deduplicate) as batches,
    ):
        async for batch in batches:
            taken += len(batch.accepted)
    assert taken == count


async def repeated(count: int, url: str, folder: Path) -> None:
    """`stream_bulk`, repeated numbers sent, too."""
    await stream(count, url, folder, deduplicate=False)


async def plan(count: int, url: str, folder: Path) -> None:
    """Plan a campaign over a file."""
    from qxt_async.campaign import Campaigns
    from qxt_async.journal import open_journal

    async with open_journal(folder / "qxt.db") as journal:
        assert (await Campaigns(journal).plan(folder / "numbers", TEXT)).campaign.numbers == count


async def run(count: int, url: str, folder: Path) -> None:
    """Send what was planned."""
    from qxt_async import QxtClient
    from qxt_async.campaign import Campaigns, RunOptions
    from qxt_async.journal import open_journal

    async with (
        open_journal(folder / "qxt.db") as journal,
        QxtClient("user", "password", base_url=url, transport="aiohttp") as client,
    ):
        counts = await Campaigns(journal, client).run(1, RunOptions(check_balance=False))
        assert counts.accepted == count


async def report(count: int, url: str, folder: Path) -> None:
    """Count and draw what became of it."""
    from qxt_async.campaign import Campaigns
    from qxt_async.campaign.report import render_report
    from qxt_async.journal import open_journal

    async with open_journal(folder / "qxt.db") as journal:
        render_report(await Campaigns(journal).report_data(1))


STEPS = {step.__name__: step for step in (stream, repeated, plan, run, report)}


def measure(step: str, count: int, url: str, folder: Path) -> None:
    """Print CPU seconds and peak megabytes of one step; what a process loads is no cost of a number."""
    asyncio.run(STEPS[step](FIRST, url, folder / "first"))
    began = time.process_time()
    asyncio.run(STEPS[step](count, url, folder))
    print(time.process_time() - began, peak())


def measured(sizes: list[int], rounds: int, url: str, *, plain: bool) -> dict[tuple[str, int], list[list[float]]]:
    """CPU seconds and peak megabytes of each step of each size, round by round."""
    taken: dict[tuple[str, int], list[list[float]]] = {(step, size): [] for step in STEPS for size in sizes}
    with tempfile.TemporaryDirectory() as name:
        for size in (FIRST, *sizes):
            write_numbers(Path(name, str(size)), size)
        for size in turns(sizes, rounds):
            with tempfile.TemporaryDirectory() as place:
                folder = Path(place)
                (folder / "first").mkdir()
                (folder / "numbers").symlink_to(Path(name, str(size)))
                (folder / "first" / "numbers").symlink_to(Path(name, str(FIRST)))
                for step in STEPS:
                    options = ("--step", step, size, url, folder, *["--plain"] * plain)
                    taken[step, size].append(alone(__file__, *options))
    return taken


def draw(path: Path, title: str, sizes: list[int], figures: dict[str, list[float]]) -> None:
    """A plot of what was measured over the count of numbers."""
    import pygal

    # Five that can be told apart: the first and the fifth of pygal's own look alike.
    style = pygal.style.DefaultStyle(colors=("#F44336", "#3F51B5", "#009688", "#FFC107", "#795548"))
    config = pygal.Config(js=[], style=style, include_x_axis=True, width=720, height=360)
    chart = pygal.Line(config, disable_xml_declaration=True)
    chart.title = title
    chart.range = (0, max(map(max, figures.values())))
    chart.x_labels = [f"{size:,}" for size in sizes]
    for step, values in figures.items():
        chart.add(step, [round(value, 2) for value in values])
    # Without the script that nothing needs, the remarks, and the name that differs each time.
    drawn = re.sub(r"<script.*?</script>|<!--.*?-->", "", chart.render(), flags=re.DOTALL)
    path.write_text(drawn.replace(f"chart-{chart.uuid}", path.stem) + "\n", encoding="utf-8")


def told(place: int, sizes: list[int], cpu: list[float], memory: list[float]) -> str:
    """What a step costs at one size."""
    further = ""
    if place > 0:
        more = (cpu[place] * sizes[place] - cpu[place - 1] * sizes[place - 1]) / (sizes[place] - sizes[place - 1])
        further = f" ({more:.2f})"
    return f"{cpu[place]:.2f}{further} µs {memory[place]:.0f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--plain", action="store_true", help="without the extra compact")
    parser.add_argument("--step", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        if given.plain:
            sys.modules["pyroaring"] = None  # type: ignore[assignment]
        step, count, url, folder = given.step
        measure(step, int(count), url, Path(folder))
        return
    sizes = [size for power in range(4, 9) for size in (10**power, 3 * 10**power) if size <= given.largest]
    with serving() as url:
        taken = measured(sizes, given.rounds, url, plain=given.plain)
    cpu: dict[str, list[float]] = {step: [] for step in STEPS}
    memory: dict[str, list[float]] = {step: [] for step in STEPS}
    for (step, size), results in taken.items():
        cpu[step].append(statistics.median(seconds for seconds, _ in results) / size * 1e6)
        memory[step].append(statistics.median(megabytes for _, megabytes in results))
    print(f"{'':12}" + "".join(f"{step:24}" for step in STEPS))
    for place, size in enumerate(sizes):
        print(f"{size:10,}  " + "".join(f"{told(place, sizes, cpu[step], memory[step]):24}" for step in STEPS))
    for title, figures in (("CPU time", cpu), ("peak memory", memory)):
        for step, values in figures.items():
            rise = max((larger / smaller for smaller, larger in itertools.combinations(values, 2)), default=1.0)
            print(f"{title} of {step}, beside a smaller size: {rise:.2f} at most   {aim(rise, most=FLAT)}")
    if given.plot:
        draw(given.plot / "growth.svg", "CPU time a number, microseconds", sizes, cpu)
        draw(given.plot / "growth-memory.svg", "Peak memory, MB", sizes, memory)


if __name__ == "__main__":
    main()
