"""Sixteen callers that send to one phone with a limit, given JOURNAL URL: begins when told, prints the counts."""

from __future__ import annotations

import sys

import anyio

from qxt_async import NumberLimit, NumberLimitedError, QxtClient
from qxt_async.journal import open_journal


async def main(path: str, url: str) -> None:
    """Send, and print how many were sent and refused."""
    sent = refused = 0

    async def send() -> None:
        nonlocal sent, refused
        try:
            await client.send("13800138000", "【测试】您好", number_limits=[NumberLimit(5, per=3600)])
            sent += 1
        except NumberLimitedError:
            refused += 1

    async with open_journal(path) as journal, QxtClient("user", "password", base_url=url, journal=journal) as client:
        print("ready", flush=True)
        await anyio.to_thread.run_sync(sys.stdin.readline)
        async with anyio.create_task_group() as group:
            for _ in range(16):
                group.start_soon(send)
    print(sent, refused, flush=True)


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:3])
