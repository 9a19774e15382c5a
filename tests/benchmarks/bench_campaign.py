"""What the journal adds to a campaign: the same batches through `stream_bulk`, and journaled, claimed and settled.

The gateway answers after 10 ms; eight requests are in flight. Measured alternately in one run; only the ratio means
anything.

    python tests/benchmarks/bench_campaign.py [--rounds N] [--batches N] [--directory D]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import tempfile
import time

from gateway import serving
from measuring import TEXT, aim

from qxt_async import Message, QxtClient
from qxt_async.campaign import CampaignRunner, RunOptions
from qxt_async.journal import Journal, open_journal
from qxt_async.journal.records import PlannedBatch

MESSAGE = Message(TEXT)
SIZE = 1000
LATENCY = 0.01


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


async def plan(journal: Journal, batches: int) -> int:
    everything = numbers(batches)
    campaign = await journal.campaigns.create()
    planned = [PlannedBatch(MESSAGE, everything[at : at + SIZE]) for at in range(0, len(everything), SIZE)]
    for at in range(0, len(planned), 50):
        await journal.campaigns.add(campaign, planned[at : at + 50])
    await journal.campaigns.finish(campaign)
    return campaign


async def journaled(url: str, batches: int, directory: str | None) -> float:
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        async with open_journal(f"{folder}/qxt.db") as journal, QxtClient("user", "password", base_url=url) as client:
            campaign = await plan(journal, batches)
            runner = CampaignRunner(journal, client, RunOptions(check_balance=False))
            began = time.perf_counter()
            tally = await runner.run(campaign)
            took = time.perf_counter() - began
            assert tally.accepted == batches * SIZE
            return took


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--batches", type=int, default=400)
    arguments.add_argument("--directory", default=None, help="where the journal is, to measure a disk")
    given = arguments.parse_args()
    plain: list[float] = []
    kept: list[float] = []
    with serving(LATENCY) as url:
        for _ in range(given.rounds):
            gc.collect()
            plain.append(asyncio.run(streamed(url, given.batches)))
            gc.collect()
            kept.append(asyncio.run(journaled(url, given.batches, given.directory)))
    each = 1000 / given.batches
    print(f"{given.batches} batches of {SIZE}, gateway {LATENCY * 1000:.0f} ms, 8 in flight, {given.rounds} rounds")
    print(f"stream_bulk  {statistics.median(plain) * each:6.2f} ms a batch")
    print(f"campaign     {statistics.median(kept) * each:6.2f} ms a batch")
    ratios = sorted(one / other for one, other in zip(kept, plain, strict=True))
    ratio = statistics.median(ratios)
    print(f"ratio        {ratio:6.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})   {aim(ratio, most=1.3)}")


if __name__ == "__main__":
    main()
