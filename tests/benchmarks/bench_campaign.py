"""What the journal adds to a campaign: the same batches or texts without it, and journaled, claimed and settled.

- `batches`: batches of 1000 numbers beside `stream_bulk`. The gateway answers after 10 ms; eight are in flight.
- `texts`: one number each, each another text, beside `send`, on aiohttp, on SQLite and on PostgreSQL. The gateway
  answers at once; 16 are in flight. Processor time is that of this process, over all its threads: that of the
  PostgreSQL server is not in it.

Measured alternately in one run; only the ratios mean anything.

    python tests/benchmarks/bench_campaign.py [--rounds N] [--batches N] [--texts N] [--directory D] [batches|texts]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import statistics
import tempfile
import time
from collections.abc import Iterable

from gateway import serving
from measuring import TEXT, aim, turns
from support.postgresql_server import Server, programs, server

from qxt_async import QxtClient
from qxt_async.campaign import Campaigns, RunOptions
from qxt_async.journal import Journal, open_journal
from qxt_async.journal.records import PlannedBatch
from qxt_async.models import Message

MESSAGE = Message(TEXT)
SIZE = 1000
LATENCY = 0.01
IN_FLIGHT = 16


def numbers(batches: int) -> list[str]:
    return [f"138{index:08d}" for index in range(batches * SIZE)]


async def streamed(url: str, batches: int) -> float:
    everything = numbers(batches)
    async with QxtClient("user", "password", base_url=url) as client:
        began = time.perf_counter()
        async with client.stream_bulk(everything, MESSAGE) as stream:
            async for batch in stream:
                assert batch.outcome == "accepted"
        return time.perf_counter() - began


async def plan(journal: Journal, batches: Iterable[PlannedBatch]) -> int:
    campaign = await journal.campaigns.create()
    planned = list(batches)
    for at in range(0, len(planned), 50):
        await journal.campaigns.add(campaign, planned[at : at + 50])
    await journal.campaigns.finish(campaign)
    return campaign


async def journaled(url: str, batches: int, directory: str | None) -> float:
    everything = numbers(batches)
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        async with open_journal(f"{folder}/qxt.db") as journal, QxtClient("user", "password", base_url=url) as client:
            cut = (everything[at : at + SIZE] for at in range(0, len(everything), SIZE))
            campaign = await plan(journal, (PlannedBatch(MESSAGE, each) for each in cut))
            runner = Campaigns(journal, client)
            began = time.perf_counter()
            counts = await runner.run(campaign, RunOptions(check_balance=False))
            took = time.perf_counter() - began
            assert counts.accepted == batches * SIZE
            return took


def compare_batches(rounds: int, batches: int, directory: str | None) -> None:
    plain: list[float] = []
    kept: list[float] = []
    with serving(LATENCY) as url:
        for _ in range(rounds):
            gc.collect()
            plain.append(asyncio.run(streamed(url, batches)))
            gc.collect()
            kept.append(asyncio.run(journaled(url, batches, directory)))
    each = 1000 / batches
    print(f"{batches} batches of {SIZE}, gateway {LATENCY * 1000:.0f} ms, 8 in flight, {rounds} rounds")
    print(f"stream_bulk  {statistics.median(plain) * each:6.2f} ms a batch")
    print(f"campaign     {statistics.median(kept) * each:6.2f} ms a batch")
    ratios = sorted(one / other for one, other in zip(kept, plain, strict=True))
    ratio = statistics.median(ratios)
    print(f"ratio        {ratio:6.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})   {aim(ratio, most=1.3)}")


def different(texts: int) -> list[tuple[str, str]]:
    return [(f"138{index:08d}", f"【测试】客户{index}，您的订单已发货。") for index in range(texts)]


def sender(url: str) -> QxtClient:
    return QxtClient("user", "password", base_url=url, transport="aiohttp", max_concurrency=IN_FLIGHT)


async def sent(url: str, texts: int) -> tuple[float, float]:
    """Seconds and processor seconds of `send` alone."""
    queue = iter(different(texts))
    async with sender(url) as client:

        async def work() -> None:
            for number, text in queue:
                await client.send(number, text)

        gc.collect()
        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
        return time.perf_counter() - began, time.process_time() - cpu


async def run_texts(url: str, texts: int, address: str) -> tuple[float, float]:
    """Seconds and processor seconds of a campaign, planned already."""
    async with open_journal(address) as journal, sender(url) as client:
        batches = (PlannedBatch(Message(text), [number]) for number, text in different(texts))
        campaign = await plan(journal, batches)
        runner = Campaigns(journal, client)
        gc.collect()
        began, cpu = time.perf_counter(), time.process_time()
        counts = await runner.run(campaign, RunOptions(check_balance=False))
        took = time.perf_counter() - began, time.process_time() - cpu
        assert counts.accepted == texts
        return took


def compare_texts(rounds: int, texts: int, directory: str | None) -> None:
    taken: dict[str, list[tuple[float, float]]] = {"send": [], "campaign on SQLite": []}
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(serving())
        postgresql: Server | None = None
        if (binaries := programs()) is not None:
            postgresql = stack.enter_context(server(binaries, durable=True))
            taken["campaign on PostgreSQL"] = []
        for name in turns(taken, rounds):
            if name == "send":
                taken[name].append(asyncio.run(sent(url, texts)))
            elif name == "campaign on SQLite":
                with tempfile.TemporaryDirectory(dir=directory) as folder:
                    taken[name].append(asyncio.run(run_texts(url, texts, f"{folder}/qxt.db")))
            elif postgresql is not None:
                with postgresql.database() as address:
                    taken[name].append(asyncio.run(run_texts(url, texts, address)))
    print(f"{texts} texts, one number each, aiohttp, {IN_FLIGHT} in flight, {rounds} rounds")
    print(f"{'':22}{'messages/s':>11}{'CPU µs a message':>18}{'/ send':>8}")
    for name, costs in taken.items():
        wall, cpu = (statistics.median(column) for column in zip(*costs, strict=True))
        ratio = statistics.median(one[1] / floor[1] for one, floor in zip(costs, taken["send"], strict=True))
        print(f"{name:22}{texts / wall:11,.0f}{1e6 * cpu / texts:18.0f}{ratio:8.2f}")


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("what", nargs="*", default=["batches", "texts"])
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--batches", type=int, default=400)
    arguments.add_argument("--texts", type=int, default=4000)
    arguments.add_argument("--directory", default=None, help="where the SQLite journal is, to measure a disk")
    given = arguments.parse_args()
    for what in given.what:
        if what == "batches":
            compare_batches(given.rounds, given.batches, given.directory)
        else:
            compare_texts(given.rounds, given.texts, given.directory)


if __name__ == "__main__":
    main()
