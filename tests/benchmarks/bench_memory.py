"""What a bulk send holds: peak memory beside the count of numbers, and what leaving out repeated ones costs.

Each figure is the peak of a process of its own, less that of the same process over 10,000 numbers.

    python tests/benchmarks/bench_memory.py [COUNT]
"""

from __future__ import annotations

import asyncio
import statistics
import sys

from measuring import aim, alone, peak, turns

FORMS = {
    "constant": "unique=False",
    "compact": "unique=True, roaring bitmap (extra compact)",
    "plain": "unique=True, plain set",
}
MOST = {"constant": 30.0, "compact": 40.0}
SMALL = 10_000


async def stream(count: int, form: str) -> None:
    """Stream so many numbers to a gateway in this process that takes all and keeps nothing."""
    import httpx

    from qxt_async import QxtClient

    if form == "plain":
        sys.modules["pyroaring"] = None  # type: ignore[assignment]

    def take(request: httpx.Request) -> httpx.Response:
        start = request.content.index(b"tele=") + 5
        return httpx.Response(200, content=b"ok:1:" + request.content[start : request.content.index(b"&", start)])

    # Scattered over the whole range, as real numbers are: what lies close together packs better.
    numbers = (f"13{index * 618_033_989 % 1_000_000_000:09d}" for index in range(count))
    taken = 0
    async with (
        QxtClient("user", "password", base_url="http://127.0.0.1:1/qxt", transport=httpx.MockTransport(take)) as client,
        client.stream_bulk(numbers, "【测试】您好", deduplicate=form != "constant") as batches,
    ):
        async for batch in batches:
            taken += len(batch.accepted)
    assert taken == count


def main() -> None:
    if sys.argv[1:2] == ["stream"]:
        asyncio.run(stream(int(sys.argv[2]), sys.argv[3]))
        print(peak())
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    taken: dict[tuple[str, int], list[float]] = {(form, size): [] for form in FORMS for size in (SMALL, count)}
    for form, size in turns(taken, 3):
        taken[form, size] += alone(__file__, "stream", size, form)
    print(f"{count:,} numbers through stream_bulk: peak memory over that of {SMALL:,}, MB")
    for form, title in FORMS.items():
        grown = statistics.median(taken[form, count]) - statistics.median(taken[form, SMALL])
        print(f"{title:50}{grown:8.1f}   {aim(grown, most=MOST[form]) if form in MOST else ''}")


if __name__ == "__main__":
    main()
