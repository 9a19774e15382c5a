"""What a bulk send holds: peak memory beside the count of numbers, and what leaving out repeated ones costs.

Each figure is the peak of a process of its own, less that of the same process over 10,000 numbers.

    python tests/benchmarks/bench_memory.py [COUNT]
"""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys

FORMS = {
    "unique=False": "constant",
    "unique=True, roaring bitmap (extra compact)": "compact",
    "unique=True, plain set": "plain",
}


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
        client.stream_bulk(numbers, "【测试】您好", unique=form != "constant") as batches,
    ):
        async for batch in batches:
            taken += len(batch.accepted)
    assert taken == count


def peak(count: int, form: str) -> float:
    """Megabytes at the most in a process that streams so many numbers."""
    answer = subprocess.run(
        [sys.executable, __file__, "stream", str(count), form], capture_output=True, text=True, check=True
    )
    return float(answer.stdout)


def main() -> None:
    if sys.argv[1:2] == ["stream"]:
        asyncio.run(stream(int(sys.argv[2]), sys.argv[3]))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    print(f"{count:,} numbers through stream_bulk: peak memory over that of 10,000, MB")
    for title, form in FORMS.items():
        print(f"{title:50}{peak(count, form) - peak(10_000, form):8.1f}")


if __name__ == "__main__":
    main()
