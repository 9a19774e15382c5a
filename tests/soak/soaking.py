"""Sends and takes pushes for as long as told, given URL PORT JOURNAL SECONDS ROUND; a JSON object a round on stdout.

Clients of every transport, a receiver, a tracker and a journal live in this one process, and what they leave behind is
counted between two rounds, when nothing is under way: memory, open files, sockets, tasks, threads. The gateway is in
another process, misbehaves in every way it knows, and its books are compared with what was told in every round.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import logging
import os
import random
import socket
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import attrs
import uvicorn
from anyio import to_thread

from qxt_async import BatchResult, QxtClient, QxtError, RetryPolicy
from qxt_async.campaign import Campaigns, RunOptions
from qxt_async.journal import Journal, open_journal
from qxt_async.journal.records import CampaignState, PlannedBatch
from qxt_async.models import Message, StatusReport
from qxt_async.protocol.pushes import Push
from qxt_async.receiving import DeliveryTracker, PushReceiver
from qxt_async.simulator import FAULTS

SECRET = "0123456789abcdefghij"
TEXT = "【测试】您好"
TRANSPORTS = (None, "httpx2", "aiohttp")
CONCURRENCY = 4
# Of each client: on two cores that leaves something to whoever works there besides.
RATE = 25.0
SHARE = 0.1
MISCHIEF = [*FAULTS, "http-404", "http-500", "http-503", "take-then-502", "error-7", "error-8"]
# However slow the machine, there is something to compare.
LEAST_ROUNDS = 4
LONG = 300.0
CANCELLED = 0.1
OPTIONS = RunOptions(
    check_balance=False,
    max_consecutive_failures=1_000_000,
    retry=RetryPolicy(50, backoff=0.02, max_backoff=0.1),
    lease_margin=5.0,
    poll_interval=0.05,
)
STRANGERS = (
    b"GET /somewhere HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /%b HTTP/1.1\r\nHost: x\r\nContent-Length: 300000000\r\n\r\nx" % SECRET.encode(),
    b"POST /%b HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\ntype=4" % SECRET.encode(),
    b"GET /%b?%%ff%%fe=1&&&type=9 HTTP/1.1\r\nHost: x\r\n\r\n" % SECRET.encode(),
    b"GET /%b?%b HTTP/1.1\r\nHost: x\r\n\r\n" % (SECRET.encode(), b"a" * 10_000),
    b"\x16\x03\x01 nothing like HTTP\r\n\r\n",
)


class Gateway:
    """The gateway's own addresses."""

    def __init__(self, url: str) -> None:
        self._control = url.removesuffix("/qxt") + "/_simulator"

    async def ask(self, action: str) -> bytes:
        """GET one."""
        return await to_thread.run_sync(self._call, action, None)

    async def tell(self, action: str, value: Any) -> None:
        """POST to one."""
        await to_thread.run_sync(self._call, action, json.dumps(value).encode())

    def _call(self, action: str, body: bytes | None) -> bytes:
        with urllib.request.urlopen(f"{self._control}/{action}", body, timeout=120) as answer:
            return answer.read()

    async def misbehave(self) -> None:
        """A tenth of all requests meet a fault, each kind as often as the others."""
        share = SHARE / len(MISCHIEF)
        await self.tell("faults", [{"name": name, "share": share, **_haste(name)} for name in MISCHIEF])


def _haste(name: str) -> dict[str, float]:
    return {"retry_after": 0.05} if name.startswith("throttle") else {"delay": 0.1} if name == "slow" else {}


@attrs.define
class Told:
    """What was told in one round."""

    calls: Counter[str] = attrs.field(factory=Counter)
    states: dict[str, str] = attrs.field(factory=dict)

    def tell(self, result: BatchResult) -> None:
        """For ``on_result``."""
        for state in ("accepted", "failed", "unknown"):
            for number in getattr(result, state):
                assert number not in self.states, "told twice"
                self.states[number] = state


class Soak:
    """The load.

    Args:
        journal: open.
        clients: one for each transport.
        tracker: entered.
        port: of the receiver in this process.
    """

    def __init__(self, journal: Journal, clients: list[QxtClient], tracker: DeliveryTracker, port: int) -> None:
        self._journal = journal
        self._clients = clients
        self._tracker = tracker
        self._port = port
        self._random = random.Random(1)
        self._numbers = (f"138{number:08d}" for number in itertools.count())
        self._until = 0.0
        self.told = Told()

    def _some(self, count: int) -> list[str]:
        return list(itertools.islice(self._numbers, count))

    async def round(self, seconds: float) -> None:
        """Send and take for so long; returns when nothing is under way."""
        self.told = Told()
        self._until = anyio.current_time() + seconds
        async with anyio.create_task_group() as group:
            for client in self._clients:
                for call in (self._send, self._send, self._bulk, self._stream, self._balance):
                    group.start_soon(self._again, client, call)
                group.start_soon(self._campaigns, client)
            group.start_soon(self._strangers)

    async def _again(self, client: QxtClient, call: Callable[[QxtClient], Awaitable[None]]) -> None:
        while anyio.current_time() < self._until:
            seconds = self._random.random() * 0.1 if self._random.random() < CANCELLED else None
            with anyio.move_on_after(seconds), contextlib.suppress(QxtError):
                await call(client)
            self.told.calls[call.__name__.strip("_")] += 1

    async def _send(self, client: QxtClient) -> None:
        sent = await client.send(self._some(10), TEXT, on_result=self.told.tell)
        acceptance = sent.acceptances[0]
        await self._tracker.wait(acceptance.mid, acceptance.numbers[0], timeout=1.0)

    async def _bulk(self, client: QxtClient) -> None:
        await client.send_bulk(self._some(40), TEXT, batch_size=10, on_result=self.told.tell)

    async def _stream(self, client: QxtClient) -> None:
        numbers = self._some(40)
        async with client.stream_bulk(numbers, TEXT, batch_size=10, on_result=self.told.tell) as batches:
            async for _ in batches:
                pass

    async def _balance(self, client: QxtClient) -> None:
        await client.balance()
        await anyio.sleep(0.2)

    async def _campaigns(self, client: QxtClient) -> None:
        campaigns = self._journal.campaigns
        while anyio.current_time() < self._until:
            campaign = await campaigns.create()
            await campaigns.add(campaign, [PlannedBatch(Message(TEXT), self._some(10)) for _ in range(5)])
            await campaigns.finish(campaign)
            state = CampaignState.PLANNED
            while state is not CampaignState.DONE:
                # The gateway pretends not to know the password now and then; somebody runs it again.
                state = (await Campaigns(self._journal, client).run(campaign, OPTIONS)).state
            records, _ = await campaigns.numbers(campaign)
            self.told.states.update({record.number: record.state.value for record in records})
            self.told.calls["campaign"] += 1

    async def _strangers(self) -> None:
        for request in itertools.cycle(STRANGERS):
            if anyio.current_time() >= self._until:
                return
            async with await anyio.connect_tcp("127.0.0.1", self._port) as stream:
                await stream.send(request)
                with anyio.move_on_after(0.2), contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                    await stream.receive()
            self.told.calls["stranger"] += 1


async def fill(journal: Journal, parts: int) -> None:
    """Put so much into the journal that SQLite's caches are full from the start: 2 MB for each of its connections."""
    for part in range(parts):
        reports = tuple(StatusReport(f"old{part}", f"139{number:08d}", code="DELIVRD") for number in range(1000))
        await journal.record_push(Push(query=b"", body=b"", reports=reports))
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(lambda: journal.reports(number="nobody's"))


async def settle(gateway: Gateway) -> dict[str, int]:
    """Wait until everything that the gateway took was reported."""
    with anyio.fail_after(120):
        while (stats := json.loads(await gateway.ask("stats")))["pushes_outstanding"]:  # noqa: ASYNC110
            await anyio.sleep(0.05)
    return stats


async def check_books(gateway: Gateway, journal: Journal, told: Told) -> int:
    """Compare what the gateway took, what was told and what was stored; how many reports there are."""
    taken: Counter[str] = Counter()
    keys: list[tuple[str, str]] = []
    for line in (await gateway.ask("sends?after=0&limit=1000000")).splitlines():
        send = json.loads(line)
        taken.update(send["numbers"])
        keys += [(send["mid"], number) for number in send["numbers"] if send["delivers"]]
    assert not [number for number, times in taken.items() if times > 1], "taken twice"
    assert {told.states.get(number) for number in taken} <= {"accepted", "unknown"}, "taken, and not told"
    accepted = {number for number, state in told.states.items() if state == "accepted"}
    assert accepted <= taken.keys(), "accepted, and not taken"
    assert len(await journal.find_reports(keys)) == len(keys), "acknowledged, and not stored"
    return len(keys)


def left_behind() -> dict[str, int]:
    """What this process holds."""
    gc.collect()
    files: list[str] = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that reads the directory
            files.append(str(entry.readlink()))
    resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return {
        "rss": resident * os.sysconf("SC_PAGE_SIZE"),
        "blocks": sys.getallocatedblocks(),
        "files": sum(not name.startswith("socket:") for name in files),
        "sockets": sum(name.startswith("socket:") for name in files),
        "tasks": len(asyncio.all_tasks()),
        "threads": threading.active_count(),
    }


async def tasks_end(expected: int) -> None:
    """Wait for tasks that are about to end; what stays for half a minute is counted."""
    with anyio.move_on_after(30):
        while len(asyncio.all_tasks()) > expected:  # noqa: ASYNC110  (the loop tells nobody)
            await anyio.sleep(0.01)


@contextlib.asynccontextmanager
async def serving(receiver: PushReceiver, port: int) -> Any:
    """Serve a receiver in this event loop."""
    listener = socket.create_server(("127.0.0.1", port))
    config = uvicorn.Config(receiver, log_level="critical", access_log=False, proxy_headers=False, ws="none")
    server = uvicorn.Server(config)
    async with anyio.create_task_group() as group:
        group.start_soon(server.serve, [listener])
        yield
        server.should_exit = True


async def main(url: str, port: int, path: str, seconds: float, round_seconds: float) -> None:
    """Run rounds, one line for each."""
    logging.getLogger("qxt_async").setLevel(logging.ERROR)  # refused pushes and gateways that are away are meant here
    gateway = Gateway(url)
    await gateway.misbehave()
    options = {"timeout": 1.0, "max_concurrency": CONCURRENCY, "max_request_rate": RATE}
    async with contextlib.AsyncExitStack() as stack:
        journal = await stack.enter_async_context(open_journal(path))
        await fill(journal, 100 if seconds >= LONG else 5)
        receiver = PushReceiver(journal, path_secret=SECRET, body_limit=8192, read_timeout=0.3)
        await stack.enter_async_context(serving(receiver, port))
        clients = [
            await stack.enter_async_context(
                QxtClient(
                    "user",
                    "password",
                    base_url=url,
                    transport=transport,
                    retry=RetryPolicy(4, backoff=0.02, max_backoff=0.1),
                    **options,  # type: ignore[arg-type]
                )
            )
            for transport in TRANSPORTS
        ]
        tracker = await stack.enter_async_context(DeliveryTracker(journal))
        soak = Soak(journal, clients, tracker, port)
        began = time.monotonic()
        rounds = 0
        tasks = len(asyncio.all_tasks())
        while rounds < LEAST_ROUNDS or time.monotonic() - began < seconds:
            rounds += 1
            await soak.round(round_seconds)
            stats = await settle(gateway)
            reports = await check_books(gateway, journal, soak.told)
            outcomes = Counter(soak.told.states.values())
            told = {"calls": dict(soak.told.calls), "outcomes": dict(outcomes), "reports": reports}
            soak.told = Told()
            # Its books would grow, and its pushes with them; what it does is in the journal.
            await gateway.tell("reset", {})
            await gateway.misbehave()
            await tasks_end(tasks)
            at = round(time.monotonic() - began, 1)
            line = {"at": at, "requests": stats["requests"], "pushes": stats["push_calls"], **told, **left_behind()}
            print(json.dumps(line), flush=True)


def _arguments() -> Iterator[Any]:
    for convert, argument in zip((str, int, str, float, float), sys.argv[1:], strict=True):
        yield convert(argument)


if __name__ == "__main__":
    anyio.run(main, *_arguments())
