"""What the client adds to its HTTP library: batches of 1000 numbers, and one number a request; and what a key adds.

Every pair is measured alternately in one run, as CPU time of this process; only the ratios mean anything. With
--profile ours alone, and what costs most in it.

    python tests/benchmarks/bench_sending.py [--rounds N] [--profile] [bulk|single|keyed]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import gc
import statistics
import tempfile
import time
import urllib.parse
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import aiohttp
import httpx
import httpx2
from gateway import serving
from measuring import DIGEST, HEADERS, TEXT, aim, profiled, turns
from support.postgresql_server import programs, server

from qxt_async import QxtClient
from qxt_async.campaign import Campaigns, RunOptions
from qxt_async.journal import open_journal
from qxt_async.journal.records import PlannedBatch
from qxt_async.models import Message

IN_FLIGHT = 8
KEYED = 1500
LIBRARIES = {"httpx": httpx, "httpx2": httpx2, "aiohttp": aiohttp}
CODE = "【测试】您的验证码是{:06}，五分钟内有效。"
NAME = "【测试】客户{}，您的订单已发货。"
ALERT = "【测试】{}号机房温度过高。"
FLAT = 1.25 / 0.75  # within a quarter of the middle

Run = Callable[[], Awaitable[int]]


def numbers(count: int, start: int = 0) -> list[str]:
    return [f"138{index:08d}" for index in range(start, start + count)]


def form(batch: list[str], text: str = TEXT) -> bytes:
    fields = [("user", b"user"), ("msg", text.encode("gbk")), ("tele", ",".join(batch)), ("password", DIGEST)]
    return urllib.parse.urlencode(fields, safe=",").encode()


async def shared(jobs: list[bytes], in_flight: int, post: Callable[[bytes], Awaitable[bytes]]) -> int:
    """Post prepared bytes, so many at a time: the least that any client does."""
    queue = iter(jobs)

    async def work() -> None:
        for body in queue:
            assert (await post(body)).startswith(b"ok:")

    await asyncio.gather(*(work() for _ in range(in_flight)))
    return len(jobs)


def open_bare(lib: Any, in_flight: int) -> Any:
    """An HTTP library's own client."""
    if lib is aiohttp:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=in_flight))
    limits = lib.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    return lib.AsyncClient(limits=limits, timeout=30, trust_env=False, verify=False)


async def post_bare(client: Any, url: str, body: bytes) -> bytes:
    """Post and read the answer, as the library's documentation does."""
    if isinstance(client, aiohttp.ClientSession):
        async with client.post(url, data=body, headers=HEADERS) as response:
            return await response.read()
    return (await client.post(url, content=body, headers=HEADERS)).content


class Cost(NamedTuple):
    """Microseconds a request, of this process's CPU and by the clock."""

    cpu: float
    wall: float


async def measured(runs: dict[str, Run], rounds: int) -> dict[str, list[Cost]]:
    """What a request of each costs, round by round in turn."""
    taken: dict[str, list[Cost]] = {name: [] for name in runs}
    gc.collect()
    for name in turns(runs, rounds + 1):
        began, cpu = time.perf_counter(), time.process_time()
        each = 1e6 / await runs[name]()
        taken[name].append(Cost((time.process_time() - cpu) * each, (time.perf_counter() - began) * each))
    return {name: costs[1:] for name, costs in taken.items()}  # the first one warms up


async def profile(runs: dict[str, Run]) -> None:
    for name, run in runs.items():
        if name.startswith("qxt_async"):
            await run()
            with profiled(name):
                for _ in range(3):
                    await run()


def table(title: str, costs: dict[str, list[Cost]], same: dict[str, float], of_httpx: dict[str, float]) -> None:
    """Costs beside those of the bare library and of bare httpx, and the aims."""
    print(f"\n{title}\n{'':24}{'requests/s':>10}{'CPU µs':>9}{'/ same bare':>12}{'/ bare httpx':>13}")
    for name, taken in costs.items():
        cpu, wall = (statistics.median(column) for column in zip(*taken, strict=True))
        line = f"{name:24}{1e6 / wall:10,.0f}{cpu:9.0f}"
        aims = []
        for floor, width, most in (("bare " + name.split()[-1], 12, same), ("bare httpx", 13, of_httpx)):
            # The median of what each round gave: the machine's speed changes between rounds, not within one.
            ratio = statistics.median(a.cpu / b.cpu for a, b in zip(taken, costs[floor], strict=True))
            line += f"{ratio:{width}.2f}"
            aims += [f"of {floor}: {aim(ratio, most=most[name])}"] if name in most else []
        print("   ".join([line, *aims]))


async def bulk(base_url: str, rounds: int, *, profiling: bool) -> None:
    """Batches of 1000: ours against the same bytes through the bare library."""
    source = numbers(100_000)
    jobs = [form(source[at : at + 1000]) for at in range(0, len(source), 1000)]
    runs: dict[str, Run] = {}
    for name, lib in LIBRARIES.items():

        async def ours(name: str = name) -> int:
            async with QxtClient(
                "user", "password", base_url=base_url, transport=name, max_concurrency=IN_FLIGHT
            ) as client:
                result = await client.send_bulk(source, TEXT, deduplicate=False)
            assert len(result.accepted) == len(source)
            return len(result.batches)

        async def bare(lib: Any = lib) -> int:
            async with open_bare(lib, IN_FLIGHT) as client:
                return await shared(jobs, IN_FLIGHT, functools.partial(post_bare, client, f"{base_url}/smssenderv2"))

        runs |= {f"bare {name}": bare, f"qxt_async on {name}": ours}
    if profiling:
        await profile(runs)
    else:
        table("batches of 1000", await measured(runs, rounds), {"qxt_async on httpx": 1.1}, {})


async def single(base_url: str, rounds: int, *, profiling: bool) -> None:
    """One number a request, by clients that stay, each text another: ours against a bare post, many short rounds."""
    source = [(number, (CODE, NAME, ALERT)[at % 3].format(at)) for at, number in enumerate(numbers(320))]
    jobs = [form([number], text) for number, text in source]
    every: dict[str, list[float]] = {}
    for in_flight in (16,) if profiling else (1, 16, 64):
        async with contextlib.AsyncExitStack() as stack:
            runs: dict[str, Run] = {}
            for name, lib in LIBRARIES.items():
                ours = QxtClient("user", "password", base_url=base_url, transport=name, max_concurrency=in_flight)
                bare = open_bare(lib, in_flight)
                await stack.enter_async_context(ours)
                await stack.enter_async_context(bare)

                async def send(client: QxtClient = ours, in_flight: int = in_flight) -> int:
                    queue = iter(source)

                    async def work() -> None:
                        for number, text in queue:
                            await client.send(number, text)

                    await asyncio.gather(*(work() for _ in range(in_flight)))
                    return len(source)

                async def post(bare: Any = bare, in_flight: int = in_flight) -> int:
                    return await shared(jobs, in_flight, functools.partial(post_bare, bare, f"{base_url}/smssenderv2"))

                runs |= {f"bare {name}": post, f"qxt_async on {name}": send}
            if profiling:
                await profile(runs)
                return
            costs = await measured(runs, rounds * 5)
        same = {"qxt_async on httpx": 1.1, "qxt_async on httpx2": 1.1, "qxt_async on aiohttp": 1.3}
        of_httpx = {"qxt_async on aiohttp": 0.25} if in_flight == 16 else {}
        table(f"single sends, {in_flight} in flight", costs, same, of_httpx)
        for name, taken in costs.items():
            every.setdefault(name, []).append(statistics.median(cost.cpu for cost in taken))
    print("\nsingle sends, CPU with 1, 16 and 64 in flight")
    for name, figures in every.items():
        times = max(figures) / min(figures)
        print(f"{name:24}largest / smallest {times:.2f}   {aim(times, most=FLAT)}")


async def keyed(base_url: str, rounds: int, *, profiling: bool) -> None:
    """Sends with an idempotency key beside `send` without one, and beside a campaign of single texts, on aiohttp."""
    if profiling:
        with tempfile.TemporaryDirectory() as folder, profiled("keyed on SQLite"):
            await one_way(base_url, 16, f"{folder}/qxt.db", campaign=False)
        return
    binaries = programs()
    with contextlib.ExitStack() as stack:
        postgresql = None if binaries is None else stack.enter_context(server(binaries, durable=True))
        for in_flight in (16, 64):
            ways = {"send": None, "keyed on SQLite": "sqlite", "campaign on SQLite": "campaign"}
            if postgresql is not None:
                ways["keyed on PostgreSQL"] = "postgresql"
            costs: dict[str, list[Cost]] = {way: [] for way in ways}
            for way in turns(ways, rounds + 1):
                with contextlib.ExitStack() as journals:
                    where = f"{journals.enter_context(tempfile.TemporaryDirectory())}/qxt.db"
                    if ways[way] == "postgresql" and postgresql is not None:
                        where = journals.enter_context(postgresql.database())
                    costs[way].append(await one_way(base_url, in_flight, ways[way] and where, ways[way] == "campaign"))
            print(f"\n{KEYED} sends, {in_flight} in flight, aiohttp, {rounds} rounds")
            floor = costs["send"][1:]
            for way, measured_ in costs.items():
                taken = measured_[1:]  # the first round only warms up
                ratio = statistics.median(one.cpu / least.cpu for one, least in zip(taken, floor, strict=True))
                rate = KEYED / statistics.median(one.wall for one in taken)
                said = aim(ratio, most=3.5) if way == "keyed on SQLite" else ""
                cpu = statistics.median(one.cpu for one in taken) / KEYED * 1e6
                print(f"{way:20}{rate:8.0f}/s {cpu:7.0f} us of CPU each   {ratio:.2f} of send   {said}")
            pairs = zip(costs["campaign on SQLite"][1:], costs["keyed on SQLite"][1:], strict=True)
            ratio = statistics.median(campaign.wall / key.wall for campaign, key in pairs)
            print(f"sends/s, keyed / campaign on SQLite {ratio:.2f}   {aim(ratio, least=0.85)}")


async def one_way(base_url: str, in_flight: int, where: str | None, campaign: bool) -> Cost:
    """Send once in one of the ways, with a new journal."""
    source = [(number, CODE.format(at)) for at, number in enumerate(numbers(KEYED))]
    async with contextlib.AsyncExitStack() as stack:
        journal = None if where is None else await stack.enter_async_context(open_journal(where))
        client = QxtClient(
            "user",
            "password",
            base_url=base_url,
            transport="aiohttp",
            max_concurrency=in_flight,
            journal=journal,
        )
        await stack.enter_async_context(client)
        planned = 0
        if campaign and journal is not None:
            batches = [PlannedBatch(Message(text), [number]) for number, text in source]
            planned = await journal.campaigns.create()
            await journal.campaigns.add(planned, batches)
            await journal.campaigns.finish(planned)
        queue = iter(source)

        async def work() -> None:
            for number, text in queue:
                await client.send(number, text, idempotency_key=None if journal is None else number)

        gc.collect()
        wall, cpu = time.perf_counter(), time.process_time()
        if campaign and journal is not None:
            await Campaigns(journal, client).run(planned, RunOptions(check_balance=False))
        else:
            await asyncio.gather(*(work() for _ in range(in_flight)))
        return Cost(cpu=time.process_time() - cpu, wall=time.perf_counter() - wall)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["bulk", "single", "keyed"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    with serving() as base_url:
        for name in given.what:
            asyncio.run(
                {"bulk": bulk, "single": single, "keyed": keyed}[name](base_url, given.rounds, profiling=given.profile)
            )


if __name__ == "__main__":
    main()
