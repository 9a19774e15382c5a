"""What the client adds to its HTTP library, and what it saves against what one would write instead.

Every pair is measured alternately in one run, as CPU time of this process; only the ratios mean anything.

    python tests/benchmarks/bench_sending.py [--rounds N] [bulk|single|written]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import gc
import hashlib
import statistics
import sys
import time
import urllib.parse
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import httpx2

sys.path.insert(0, str(Path(__file__).parent))
from gateway import serving

from qxt_async import QxtClient

TEXT = "【测试】您好，这是一条用于测量的短信，请勿回复。"
DIGEST = hashlib.md5(b"password").hexdigest()
HEADERS = {"content-type": "application/x-www-form-urlencoded; charset=GBK"}
IN_FLIGHT = 8

Run = Callable[[], Awaitable[int]]


def numbers(count: int, start: int = 0) -> list[str]:
    return [f"138{index:08d}" for index in range(start, start + count)]


def form(batch: list[str]) -> bytes:
    fields = [("user", b"user"), ("msg", TEXT.encode("gbk")), ("tele", ",".join(batch)), ("password", DIGEST)]
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


async def measured(runs: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """CPU milliseconds a request of each, round by round in turn; every other round goes backwards."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    gc.collect()
    for round_ in range(rounds + 1):
        for name in list(runs)[:: -1 if round_ % 2 else 1]:
            began = time.process_time()
            count = await runs[name]()
            if round_:  # the first one warms up
                taken[name].append((time.process_time() - began) * 1000 / count)
    return taken


def ratio(costs: dict[str, list[float]], name: str, floor: str) -> float:
    """The median of what each round gave: the machine's speed changes between rounds, not within one."""
    return statistics.median(ours / theirs for ours, theirs in zip(costs[name], costs[floor], strict=True))


def table(title: str, floor: str, costs: dict[str, list[float]]) -> None:
    print(f"\n{title}\n{'':34}{'CPU ms':>10}{'ratio':>8}")
    for name, cost in costs.items():
        print(f"{name:34}{statistics.median(cost):10.3f}{ratio(costs, name, floor):8.2f}")


async def bulk(base_url: str, rounds: int) -> None:
    """Batches of 1000: ours against the same bytes through the bare library."""
    source = numbers(100_000)
    jobs = [form(source[at : at + 1000]) for at in range(0, len(source), 1000)]
    url = f"{base_url}/smssenderv2"
    for name, lib in (("httpx", httpx), ("httpx2", httpx2), ("aiohttp", aiohttp)):

        async def ours(name: str = name) -> int:
            async with QxtClient(
                "user", "password", base_url=base_url, transport=name, max_concurrency=IN_FLIGHT
            ) as client:
                result = await client.send_bulk(source, TEXT, unique=False)
            assert len(result.accepted) == len(source)
            return len(result.batches)

        async def bare(lib: Any = lib) -> int:
            async with open_bare(lib, IN_FLIGHT) as client:
                return await shared(jobs, IN_FLIGHT, functools.partial(post_bare, client, url))

        table(
            f"batches of 1000, {name}",
            "bare, prepared bytes",
            await measured({"bare, prepared bytes": bare, "qxt_async": ours}, rounds),
        )


async def single(base_url: str, rounds: int) -> None:
    """One number a request, by clients that stay: ours against a bare post, many short rounds."""
    source = numbers(320)
    jobs = [form([number]) for number in source]
    url = f"{base_url}/smssenderv2"
    for in_flight in (1, 16, 64):
        async with contextlib.AsyncExitStack() as stack:
            runs: dict[str, Run] = {}
            for name, lib in (("httpx", httpx), ("httpx2", httpx2), ("aiohttp", aiohttp)):
                ours = QxtClient("user", "password", base_url=base_url, transport=name, max_concurrency=in_flight)
                bare = open_bare(lib, in_flight)
                await stack.enter_async_context(ours)
                await stack.enter_async_context(bare)

                async def send(client: QxtClient = ours, in_flight: int = in_flight) -> int:
                    queue = iter(source)

                    async def work() -> None:
                        for number in queue:
                            await client.send(number, TEXT)

                    await asyncio.gather(*(work() for _ in range(in_flight)))
                    return len(source)

                async def post(bare: Any = bare, in_flight: int = in_flight) -> int:
                    return await shared(jobs, in_flight, functools.partial(post_bare, bare, url))

                runs |= {f"bare {name}": post, f"qxt_async on {name}": send}
            costs = await measured(runs, rounds * 5)
        print(f"\nsingle sends, {in_flight} in flight\n{'':34}{'CPU ms':>10}{'/ same bare':>12}{'/ bare httpx':>13}")
        for name, cost in costs.items():
            same = ratio(costs, name, "bare " + name.split()[-1])
            print(f"{name:34}{statistics.median(cost):10.3f}{same:12.2f}{ratio(costs, name, 'bare httpx'):13.2f}")


async def written(base_url: str, rounds: int) -> None:
    """Bulk against what one would write instead."""
    import requests

    url = f"{base_url}/smssenderv2"
    source = numbers(50_000)

    def fields(batch: list[str]) -> dict[str, object]:
        return {"user": "user", "password": DIGEST, "tele": ",".join(batch), "msg": TEXT.encode("gbk")}

    batches = [source[at : at + 1000] for at in range(0, len(source), 1000)]

    async def ours() -> int:
        async with QxtClient("user", "password", base_url=base_url, max_concurrency=IN_FLIGHT) as client:
            return len((await client.send_bulk(source, TEXT)).batches)

    async def ours_aiohttp() -> int:
        async with QxtClient("user", "password", base_url=base_url, transport="aiohttp") as client:
            return len((await client.send_bulk(source, TEXT)).batches)

    async def with_gather() -> int:
        async with httpx.AsyncClient(timeout=30) as client:

            async def one(batch: list[str]) -> str:
                data = urllib.parse.urlencode(fields(batch), encoding="gbk")
                answer = (await client.post(url, content=data, headers=HEADERS)).text
                return answer.split(":")[1]

            return len(await asyncio.gather(*(one(batch) for batch in batches)))

    async def with_aiohttp() -> int:
        async with aiohttp.ClientSession() as session:

            async def one(batch: list[str]) -> str:
                data = urllib.parse.urlencode(fields(batch), encoding="gbk")
                async with session.post(url, data=data, headers=HEADERS) as response:
                    return (await response.text()).split(":")[1]

            return len(await asyncio.gather(*(one(batch) for batch in batches)))

    async def with_threads() -> int:
        with ThreadPoolExecutor(IN_FLIGHT) as pool, requests.Session() as session:
            session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=IN_FLIGHT))

            def one(batch: list[str]) -> str:
                return session.post(url, data=fields(batch), timeout=30).text.split(":")[1]

            return len(list(pool.map(one, batches)))

    runs: dict[str, Run] = {
        "qxt_async": ours,
        "qxt_async on aiohttp": ours_aiohttp,
        "httpx + gather + urlencode": with_gather,
        "aiohttp + gather + urlencode": with_aiohttp,
        "requests in 8 threads": with_threads,
    }
    table("50,000 numbers, against what one would write", "qxt_async", await measured(runs, rounds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["bulk", "single", "written"])
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    with serving() as base_url:
        for name in given.what:
            asyncio.run({"bulk": bulk, "single": single, "written": written}[name](base_url, given.rounds))


if __name__ == "__main__":
    main()
