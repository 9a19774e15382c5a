"""What a million numbers take: ours beside what one would write instead.

Numbers in a file, one a line, leave in batches of 1000, eight at a time, for a gateway that answers after 20 ms. Each
way runs in a process of its own, in turn with the others, after a thousand numbers for what it loads. The others check
each number by an expression, leave repeated ones out by a set, and believe any answer.

    python tests/benchmarks/bench_million.py [--numbers 1000000] [--rounds 3] [--plain]
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import re
import statistics
import sys
import tempfile
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gateway import serving
from measuring import DIGEST, HEADERS, TEXT, alone, peak, turns

IN_FLIGHT = 8
LATENCY = 0.02
NUMBER = re.compile(r"1[3-9][0-9]{9}")


def write_numbers(path: Path, count: int) -> None:
    """Scattered over the whole range, as real numbers are."""
    path.write_text("".join(f"13{index * 618_033_989 % 1_000_000_000:09d}\n" for index in range(count)))


def checked(path: Path) -> list[list[str]]:
    """Batches of the valid numbers, each once, as one would write it."""
    with path.open(encoding="utf-8") as file:
        found = list({number for line in file if NUMBER.fullmatch(number := line.strip())})
    return [found[at : at + 1000] for at in range(0, len(found), 1000)]


def fields(batch: list[str]) -> dict[str, object]:
    return {"user": "user", "password": DIGEST, "tele": ",".join(batch), "msg": TEXT.encode("gbk")}


async def ours(path: Path, base_url: str, transport: str) -> list[str | None]:
    from qxt_async import QxtClient
    from qxt_async.files import open_numbers

    async with (
        QxtClient("user", "password", base_url=base_url, transport=transport, max_concurrency=IN_FLIGHT) as client,
        client.stream_bulk(open_numbers(path), TEXT) as batches,
    ):
        return [batch.mid async for batch in batches]


async def with_httpx(path: Path, base_url: str) -> list[str]:
    import httpx

    places = asyncio.Semaphore(IN_FLIGHT)
    async with httpx.AsyncClient(timeout=30) as client:

        async def one(batch: list[str]) -> str:
            async with places:
                data = urllib.parse.urlencode(fields(batch))
                response = await client.post(f"{base_url}/smssenderv2", content=data, headers=HEADERS)
                return response.text.split(":")[1]

        return await asyncio.gather(*(one(batch) for batch in checked(path)))


async def with_aiohttp(path: Path, base_url: str) -> list[str]:
    import aiohttp

    places = asyncio.Semaphore(IN_FLIGHT)
    async with aiohttp.ClientSession() as session:

        async def one(batch: list[str]) -> str:
            async with places:
                data = urllib.parse.urlencode(fields(batch))
                async with session.post(f"{base_url}/smssenderv2", data=data, headers=HEADERS) as response:
                    return (await response.text()).split(":")[1]

        return await asyncio.gather(*(one(batch) for batch in checked(path)))


async def with_requests(path: Path, base_url: str) -> list[str]:
    import requests

    with ThreadPoolExecutor(IN_FLIGHT) as pool, requests.Session() as session:

        def one(batch: list[str]) -> str:
            return session.post(f"{base_url}/smssenderv2", data=fields(batch), timeout=30).text.split(":")[1]

        return list(pool.map(one, checked(path)))


WAYS = {
    "qxt_async": functools.partial(ours, transport="httpx"),
    "qxt_async on aiohttp": functools.partial(ours, transport="aiohttp"),
    "requests in 8 threads": with_requests,
    "httpx + gather + urlencode": with_httpx,
    "aiohttp + gather + urlencode": with_aiohttp,
}


def measure(way: str, folder: Path, base_url: str) -> None:
    """Run one way, and print seconds, CPU seconds, megabytes at the most, batches."""
    asyncio.run(WAYS[way](folder / "first", base_url))
    began, cpu = time.perf_counter(), time.process_time()
    sent = len(set(asyncio.run(WAYS[way](folder / "numbers", base_url))))
    print(time.perf_counter() - began, time.process_time() - cpu, peak(), sent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--numbers", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plain", action="store_true", help="without the extra compact")
    parser.add_argument("--way", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.plain:
        sys.modules["pyroaring"] = None  # type: ignore[assignment]
    if given.way:
        measure(given.way[0], Path(given.way[1]), given.way[2])
        return
    taken: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    with serving(LATENCY) as base_url, tempfile.TemporaryDirectory() as folder:
        write_numbers(Path(folder) / "first", 1000)
        write_numbers(Path(folder) / "numbers", given.numbers)
        for way in turns(WAYS, given.rounds):
            taken[way].append(alone(__file__, *["--plain"] * given.plain, "--way", way, folder, base_url))
    assert len({results[0][3] for results in taken.values()}) == 1
    print(f"{given.numbers:,} numbers, {IN_FLIGHT} batches in flight, gateway {LATENCY * 1000:.0f} ms")
    print(f"{'':30}{'seconds':>9}{'ratio':>7}{'CPU s':>9}{'ratio':>7}{'peak MB':>9}{'ratio':>7}")
    middle = {way: list(map(statistics.median, zip(*results, strict=True))) for way, results in taken.items()}
    for way, figures in middle.items():
        ratios = [figure / floor for figure, floor in zip(figures, middle["qxt_async"], strict=True)]
        columns = zip(figures[:3], ratios[:3], (".2f", ".2f", ".0f"), strict=True)
        print(f"{way:30}" + "".join(f"{figure:9{form}}{ratio:7.2f}" for figure, ratio, form in columns))


if __name__ == "__main__":
    main()
