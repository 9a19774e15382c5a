"""What workers on one PostgreSQL cost and reach: each row beside its floor.

- `batches`: of 1,000 numbers. Batches a second of 1, 2 and 4 workers, and the CPU time that one batch costs, beside
  SQLite. The gateway answers after 50 ms, so that waiting dominates; each worker has 2 requests in flight.
- `texts`: one number each, each another text, on aiohttp, beside `send` and a campaign in one process.
- `limit`: the requests a second that workers use of the limit of their account.

Only ratios mean anything: gateway, database and workers share this machine. All have their turn in each round.

    python tests/benchmarks/bench_workers.py [--batches N] [--texts N] [--workers 1,2,4] [--rounds N] [WHAT ...]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from bench_campaign import IN_FLIGHT, different, run_texts, sent
from gateway import serving
from measuring import aim, turns
from support.postgresql_server import Server, programs, server
from support.worker_processes import workers

from qxt_async import QxtClient
from qxt_async.campaign import Campaigns, RunOptions
from qxt_async.journal import AccountLimits, Journal, open_journal
from qxt_async.journal.records import PlannedBatch
from qxt_async.models import Message
from qxt_async.workers import run_on_workers

LATENCY = 0.05
CONCURRENCY = 2
SIZE = 1000
RATE = 1000


async def plan(journal: Journal, batches: int) -> int:
    campaign = await journal.campaigns.create()
    for at in range(0, batches, 50):
        numbers = ([f"138{n:08d}" for n in range(b * SIZE, (b + 1) * SIZE)] for b in range(at, min(at + 50, batches)))
        await journal.campaigns.add(campaign, [PlannedBatch(Message("【测试】您好"), each) for each in numbers])
    await journal.campaigns.finish(campaign)
    return campaign


async def watched(address: str, campaign: int) -> float:
    async with open_journal(address) as journal:
        began = time.perf_counter()
        await run_on_workers(journal, campaign, RunOptions(poll_interval=0.1))
        return time.perf_counter() - began


async def planned(address: str, batches: int) -> int:
    async with open_journal(address) as journal:
        return await plan(journal, batches)


def on_postgresql(postgresql: Server, url: str, count: int, batches: int) -> tuple[float, float]:
    """Seconds and CPU seconds of the workers."""
    with postgresql.database() as address:
        small = asyncio.run(planned(address, 8))
        campaign = asyncio.run(planned(address, batches))
        with workers(address, url, count, concurrency=CONCURRENCY, timeout=30.0) as running:
            asyncio.run(watched(address, small))
            idle = sum(_cpu_of(worker.process.pid) for worker in running)
            took = asyncio.run(watched(address, campaign))
            spent = sum(_cpu_of(worker.process.pid) for worker in running) - idle
    return took, spent


def _cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


async def on_sqlite(url: str, batches: int) -> tuple[float, float]:
    """Seconds and CPU seconds of an embedded run."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            open_journal(f"{folder}/qxt.db") as journal,
            QxtClient("user", "password", base_url=url, max_concurrency=CONCURRENCY) as client,
        ):
            campaign = await plan(journal, batches)
            began, cpu = time.perf_counter(), time.process_time()
            await Campaigns(journal, client).run(campaign, RunOptions(check_balance=False))
            return time.perf_counter() - began, time.process_time() - cpu


def batches_of_thousand(postgresql: Server, rounds: int, batches: int, counts: list[int]) -> None:
    taken: dict[int, list[tuple[float, float]]] = {count: [] for count in (0, *counts)}
    with serving(LATENCY) as url:
        for count in turns(taken, rounds):
            if count:
                taken[count].append(on_postgresql(postgresql, url, count, batches))
            else:
                taken[count].append(asyncio.run(on_sqlite(url, batches)))
    print(f"{batches} batches of {SIZE}\n{'':18}{'batches/s':>10}{'ratio':>7}{'CPU ms a batch':>16}")
    for count, results in taken.items():
        name = f"{count} workers" if count else "embedded, SQLite"
        took, spent = (statistics.median(column) for column in zip(*results, strict=True))
        ratio = statistics.median(floor[0] / one[0] for floor, one in zip(taken[0], results, strict=True))
        said = f"   {aim(1000 * spent / batches, most=4)}" if count else ""
        print(f"{name:18}{batches / took:10.0f}{ratio:7.2f}{1000 * spent / batches:16.1f}{said}")


async def plan_texts(address: str, texts: int) -> int:
    async with open_journal(address) as journal:
        batches = [PlannedBatch(Message(text), [number]) for number, text in different(texts)]
        campaign = await journal.campaigns.create()
        for at in range(0, texts, 500):
            await journal.campaigns.add(campaign, batches[at : at + 500])
        await journal.campaigns.finish(campaign)
        return campaign


def texts_on_workers(
    postgresql: Server, url: str, count: int, texts: int, *, rate: float | None = None
) -> tuple[float, float]:
    """Seconds and CPU seconds of the workers, for texts of one number each."""
    with postgresql.database() as address:
        small = asyncio.run(plan_texts(address, 100))
        campaign = asyncio.run(plan_texts(address, texts))
        asyncio.run(_limit(address, rate))
        with workers(address, url, count, concurrency=IN_FLIGHT // count, timeout=30.0, transport="aiohttp") as running:
            asyncio.run(watched(address, small))
            idle = sum(_cpu_of(worker.process.pid) for worker in running)
            took = asyncio.run(watched(address, campaign))
            spent = sum(_cpu_of(worker.process.pid) for worker in running) - idle
    return took, spent


async def _limit(address: str, rate: float | None) -> None:
    async with open_journal(address) as journal:
        await journal.limits.set("user", AccountLimits(max_request_rate=rate))


def one_text_a_person(postgresql: Server, rounds: int, texts: int) -> None:
    names = ("send alone", "embedded, SQLite", "embedded, PostgreSQL", "1 worker", "2 workers", "4 workers")
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    with serving() as url:
        for name in turns(taken, rounds):
            if name == "send alone":
                taken[name].append(asyncio.run(sent(url, texts)))
            elif name == "embedded, SQLite":
                with tempfile.TemporaryDirectory() as folder:
                    taken[name].append(asyncio.run(run_texts(url, texts, f"{folder}/qxt.db")))
            elif name == "embedded, PostgreSQL":
                with postgresql.database() as address:
                    taken[name].append(asyncio.run(run_texts(url, texts, address)))
            else:
                taken[name].append(texts_on_workers(postgresql, url, int(name[0]), texts))
    print(f"{texts} texts, one number each, aiohttp, {IN_FLIGHT} in flight\n{'':22}{'/s':>8}{'CPU µs':>8}{'/ send':>8}")
    for name, costs in taken.items():
        wall, cpu = (statistics.median(column) for column in zip(*costs, strict=True))
        ratio = statistics.median(one[1] / floor[1] for one, floor in zip(costs, taken["send alone"], strict=True))
        said = {"embedded, PostgreSQL": aim(ratio, most=4), "1 worker": aim(ratio, most=6)}.get(name, "")
        print(f"{name:22}{texts / wall:8,.0f}{1e6 * cpu / texts:8.0f}{ratio:8.2f}   {said}")
    best = min(names[3:], key=lambda name: statistics.median(one[0] for one in taken[name]))
    pairs = zip(taken["embedded, SQLite"], taken[best], strict=True)
    ratio = statistics.median(floor[0] / one[0] for floor, one in pairs)
    print(f"messages/s of {best} beside embedded SQLite: {ratio:.2f}   {aim(ratio, least=0.5)}")


def limited_account(postgresql: Server, rounds: int, texts: int) -> None:
    taken: dict[int, list[tuple[float, float]]] = {count: [] for count in (1, 2, 4)}
    with serving() as url:
        for count in turns(taken, rounds):
            taken[count].append(texts_on_workers(postgresql, url, count, texts, rate=RATE))
    print(f"{texts} texts, one number each, limit {RATE}/s")
    for count, costs in taken.items():
        used = texts / statistics.median(took for took, _ in costs)
        print(f"{count} workers{'':12}{used:8,.0f}/s   {aim(used, least=0.9 * RATE)}")


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("what", nargs="*", default=["batches", "texts", "limit"])
    arguments.add_argument("--batches", type=int, default=400)
    arguments.add_argument("--texts", type=int, default=8000)
    arguments.add_argument("--workers", default="1,2,4")
    arguments.add_argument("--rounds", type=int, default=3)
    given = arguments.parse_args()
    binaries = programs()
    if binaries is None:
        print("no PostgreSQL server is installed")
        return
    with server(binaries, durable=True) as postgresql:
        for what in given.what:
            if what == "batches":
                counts = [int(count) for count in given.workers.split(",")]
                batches_of_thousand(postgresql, given.rounds, given.batches, counts)
            elif what == "texts":
                one_text_a_person(postgresql, given.rounds, given.texts)
            else:
                limited_account(postgresql, given.rounds, given.texts)


if __name__ == "__main__":
    main()
