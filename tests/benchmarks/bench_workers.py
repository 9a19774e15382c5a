"""Batches a second of 1, 2 and 4 workers on one PostgreSQL, and the CPU time that one batch costs, beside SQLite.

The gateway answers after 50 ms, so that waiting dominates; each worker has 2 requests in flight. Only ratios mean
anything: gateway, database and workers share this machine. All have their turn in each round.

    python tests/benchmarks/bench_workers.py [--batches N] [--workers 1,2,4] [--rounds N]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from gateway import serving
from measuring import turns
from support.postgresql_server import Server, programs, server
from support.worker_processes import workers

from qxt_async import QxtClient
from qxt_async.campaign import Campaigns, RunOptions
from qxt_async.journal import Journal, open_journal
from qxt_async.journal.records import PlannedBatch
from qxt_async.models import Message
from qxt_async.workers import run_on_workers

LATENCY = 0.05
CONCURRENCY = 2
SIZE = 1000


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


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--batches", type=int, default=400)
    arguments.add_argument("--workers", default="1,2,4")
    arguments.add_argument("--rounds", type=int, default=3)
    given = arguments.parse_args()
    binaries = programs()
    if binaries is None:
        print("no PostgreSQL server is installed")
        return
    taken: dict[int, list[tuple[float, float]]] = {count: [] for count in (0, *map(int, given.workers.split(",")))}
    with server(binaries, durable=True) as postgresql, serving(LATENCY) as url:
        for count in turns(taken, given.rounds):
            if count:
                taken[count].append(on_postgresql(postgresql, url, count, given.batches))
            else:
                taken[count].append(asyncio.run(on_sqlite(url, given.batches)))
    print(f"{given.batches} batches\n{'':18}{'batches/s':>10}{'ratio':>7}{'CPU ms a batch':>16}")
    for count, results in taken.items():
        name = f"{count} workers" if count else "embedded, SQLite"
        took, spent = (statistics.median(column) for column in zip(*results, strict=True))
        ratio = statistics.median(floor[0] / one[0] for floor, one in zip(taken[0], results, strict=True))
        print(f"{name:18}{given.batches / took:10.0f}{ratio:7.2f}{1000 * spent / given.batches:16.1f}")


if __name__ == "__main__":
    main()
