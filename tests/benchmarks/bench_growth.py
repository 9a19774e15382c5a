"""Whether what a number costs stays the same as the campaign grows: stream, plan, run and report.

Each step of each size runs in a process of its own, which has done the same for a thousand numbers before. The gateway
is a process of its own, too, and costs next to nothing. Prints CPU time a number and peak memory, the median of so many
rounds (fewer above a million), and in brackets what each number beyond the size before has cost, without what every
campaign costs once. With --plot also draws the CPU time (extra `report`).

    python tests/benchmarks/bench_growth.py [--largest 1000000] [--rounds 3] [--plain] [--plot docs/images/growth.svg]
"""

from __future__ import annotations

import argparse
import asyncio
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from gateway import serving

TEXT = "【测试】您好，这是一条用于测量的短信，请勿回复。"
FIRST = 1000
STEPS = ("stream", "plan", "run", "report")


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


def peak() -> float:
    """Megabytes this process had at the most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def stream(count: int, url: str, folder: Path) -> None:
    """`stream_bulk`, repeated numbers left out."""
    from qxt_async import QxtClient
    from qxt_async.sources import open_numbers

    taken = 0
    async with (
        QxtClient("user", "password", base_url=url, transport="aiohttp") as client,
        client.stream_bulk(open_numbers(folder / "numbers"), TEXT) as batches,
    ):
        async for batch in batches:
            taken += len(batch.accepted)
    assert taken == count


async def plan(count: int, url: str, folder: Path) -> None:
    """Plan a campaign over a file."""
    from qxt_async.campaign import plan as make
    from qxt_async.journal import open_journal

    async with open_journal(folder / "qxt.db") as journal:
        assert (await make(journal, None, folder / "numbers", TEXT)).campaign.numbers == count


async def run(count: int, url: str, folder: Path) -> None:
    """Send what was planned."""
    from qxt_async import QxtClient
    from qxt_async.campaign import CampaignRunner, RunOptions
    from qxt_async.journal import open_journal

    async with (
        open_journal(folder / "qxt.db") as journal,
        QxtClient("user", "password", base_url=url, transport="aiohttp") as client,
    ):
        tally = await CampaignRunner(journal, client, RunOptions(check_balance=False)).run(1)
        assert tally.accepted == count


async def report(count: int, url: str, folder: Path) -> None:
    """Count and draw what became of it."""
    from qxt_async.campaign import render_report, report_data
    from qxt_async.journal import open_journal

    async with open_journal(folder / "qxt.db") as journal:
        render_report(await report_data(journal, 1))


def measure(step: str, count: int, url: str, folder: Path, *, plain: bool) -> tuple[float, float]:
    """CPU seconds and peak megabytes of one step, in a process of its own."""
    command = [sys.executable, __file__, "--step", step, "--count", str(count), "--url", url, "--folder", str(folder)]
    command += ["--plain"] * plain
    cpu, memory = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(cpu), float(memory)


def draw(path: Path, sizes: list[int], costs: dict[str, list[float]]) -> None:
    """A plot of CPU microseconds a number over the count of numbers."""
    import pygal

    config = pygal.Config(js=[], show_legend=True, include_x_axis=True, logarithmic=False, width=720, height=360)
    chart = pygal.Line(config, disable_xml_declaration=True)
    chart.title = "CPU time a number, microseconds"
    chart.x_labels = [f"{size:,}" for size in sizes]
    for step, values in costs.items():
        chart.add(step, [round(value, 2) for value in values])
    # Without the script that nothing needs, the remarks, and the name that differs each time.
    drawn = re.sub(r"<script.*?</script>|<!--.*?-->", "", chart.render(), flags=re.DOTALL)
    path.write_text(drawn.replace(f"chart-{chart.uuid}", "growth") + "\n", encoding="utf-8")


def told(step: str, sizes: list[int], costs: list[float], memory: list[float]) -> str:
    """What has been measured last."""
    further = ""
    if (place := len(costs) - 1) > 0:
        more = costs[place] * sizes[place] - costs[place - 1] * sizes[place - 1]
        further = f" ({more / (sizes[place] - sizes[place - 1]):.2f})"
    return f"  {step} {costs[-1]:.2f}{further} µs {memory[-1]:.0f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--largest", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--plain", action="store_true", help="without the extra compact")
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        if given.plain:
            sys.modules["pyroaring"] = None  # type: ignore[assignment]
        step = {"stream": stream, "plan": plan, "run": run, "report": report}[given.step]
        asyncio.run(step(FIRST, given.url, given.folder / "first"))  # what a process loads is no cost of a number
        began = time.process_time()
        asyncio.run(step(given.count, given.url, given.folder))
        print(time.process_time() - began, peak())
        return
    sizes = [size for power in range(4, 9) for size in (10**power, 3 * 10**power) if size <= given.largest]
    costs: dict[str, list[float]] = {step: [] for step in STEPS}
    memory: dict[str, list[float]] = {step: [] for step in STEPS}
    with serving() as url:
        for size in sizes:
            taken: dict[str, list[tuple[float, float]]] = {step: [] for step in STEPS}
            for _ in range(max(1, min(given.rounds, 3_000_000 // size))):
                with tempfile.TemporaryDirectory() as name:
                    folder = Path(name)
                    for place, count in ((folder, size), (folder / "first", FIRST)):
                        place.mkdir(exist_ok=True)
                        write_numbers(place / "numbers", count)
                    for step in STEPS:
                        taken[step].append(measure(step, size, url, folder, plain=given.plain))
            for step, results in taken.items():
                costs[step].append(statistics.median(cpu for cpu, _ in results) / size * 1e6)
                memory[step].append(max(megabytes for _, megabytes in results))
            print(f"{size:12,}" + "".join(told(s, sizes, costs[s], memory[s]) for s in STEPS), flush=True)
    if given.plot:
        draw(given.plot, sizes, costs)


if __name__ == "__main__":
    main()
