"""A web service that sends with keys, killed at random moments, before a gateway that misbehaves in every way it knows.

The long form: ``QXT_CHAOS=1 pytest tests/client/test_keyed_service_kill.py``.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from support.ports import free_port
from support.processes import Gateway, gateway

from qxt_async.journal import SendState, open_journal
from qxt_async.simulator import FAULTS

CHAOS = bool(os.environ.get("QXT_CHAOS"))
KEYS = 4000 if CHAOS else 400
KILLS = 50 if CHAOS else 3
CALLERS = 64
SHARE = 0.1
SEED = int(os.environ.get("QXT_CHAOS_SEED", "1"))
MISCHIEF = [*FAULTS, "http-404", "http-500", "http-503", "take-then-502", "error-7", "error-8"]
SERVICE = Path(__file__).parents[1] / "support" / "service_process.py"


class Service:
    """The service in a process of its own, on one port however often it is started."""

    def __init__(self, journal: str, url: str) -> None:
        self.port = free_port()
        self._command = [sys.executable, str(SERVICE), journal, url, str(self.port)]
        self.start()

    def start(self) -> None:
        """Start it. It listens a while later."""
        self._process = subprocess.Popen(self._command)

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()


class Callers:
    """They ask for each key, two for each, until they are told what became of it.

    Attributes:
        told: what callers were told, by key, in order.
    """

    def __init__(self, services: list[Service]) -> None:
        self._services = services
        self._chance = random.Random(SEED)
        self._waiting = [key for key in range(KEYS) for _ in range(2)]
        self.told: defaultdict[int, list[str]] = defaultdict(list)

    @property
    def answers(self) -> int:
        """How many callers were told something."""
        return 2 * KEYS - len(self._waiting)

    async def run(self) -> None:
        """Ask for all of them."""
        async with anyio.create_task_group() as group:
            for _ in range(CALLERS):
                group.start_soon(self._work)

    async def _work(self) -> None:
        while self._waiting:
            key = self._waiting.pop(0)
            while (outcome := await self._ask(key)) is None:  # noqa: ASYNC110  (another process)
                await anyio.sleep(0.02)
            self.told[key].append(outcome)

    async def _ask(self, key: int) -> str | None:
        """Ask once; ``None`` if the service is away, or does not know yet."""
        request = f"GET /send/{key}/{number(key)} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        received = b""
        try:
            async with await anyio.connect_tcp("127.0.0.1", self._chance.choice(self._services).port) as stream:
                await stream.send(request.encode())
                while True:
                    received += await stream.receive()
        except anyio.EndOfStream:
            head, _, body = received.partition(b"\r\n\r\n")
            return json.loads(body)["outcome"] if body and b" 200 " in head.splitlines()[0] else None
        except (OSError, anyio.BrokenResourceError):
            return None


def number(key: int) -> str:
    """Each key has a number of its own."""
    return f"138{key:08d}"


async def ask_and_kill(callers: Callers, services: list[Service]) -> None:
    """Let all of them ask, and kill a service whenever so many were told something."""
    chance = random.Random(SEED)
    moments = sorted(chance.sample(range(1, int(1.6 * KEYS)), KILLS))

    async def kill() -> None:
        for moment in moments:
            while callers.answers < moment:  # noqa: ASYNC110  (a few hundred looks)
                await anyio.sleep(0.005)
            victim = chance.choice(services)
            await to_thread.run_sync(victim.kill)
            victim.start()

    async with anyio.create_task_group() as group:
        group.start_soon(kill)
        group.start_soon(callers.run)


async def check(journal: str, callers: Callers, books: Gateway) -> None:
    """Hold what callers were told, and the journal, against the gateway's books."""
    taken = books.taken()
    assert not [each for each, times in taken.items() if times > 1], "a text was sent twice"
    assert sorted(callers.told) == list(range(KEYS))
    for key, told in callers.told.items():
        definite = {outcome for outcome in told if outcome != "unknown"}
        assert len(definite) <= 1, (key, told)
        if definite:
            assert definite.pop().startswith("accepted") == (taken[number(key)] == 1), (key, told)
    async with open_journal(journal) as opened:
        records = []
        while page := await opened.sends(after=records[-1].cursor if records else 0):
            records += page
    # Keys that a refused account has freed have several records.
    states = {str(record.key): record.state for record in records}
    assert len(states) == KEYS
    assert set(states.values()) <= {SendState.ACCEPTED, SendState.FAILED, SendState.UNKNOWN}
    assert list(states.values()).count(SendState.ACCEPTED) > KEYS / 2


@pytest.mark.slow
@pytest.mark.timeout(1800 if CHAOS else 300)
@pytest.mark.parametrize("store", ["sqlite", "postgresql"], indirect=True)
def test_no_key_is_sent_twice(store: str) -> None:
    """Callers repeat each request until they are told: no key is sent twice, and none has two definite outcomes."""
    with gateway(SEED) as books:
        books.misbehave([{"name": name, "share": SHARE / len(MISCHIEF)} for name in MISCHIEF])
        services = [Service(store, books.url) for _ in range(2 if store.startswith("postgresql") else 1)]
        callers = Callers(services)
        try:
            anyio.run(ask_and_kill, callers, services)
        finally:
            for service in services:
                service.kill()
        anyio.run(check, store, callers, books)


@pytest.mark.slow
@pytest.mark.parametrize("store", ["sqlite", "postgresql"], indirect=True)
def test_a_limit_holds_over_processes(store: str) -> None:
    """Of 64 callers in four processes so many send to one phone as the limit allows."""
    command = [sys.executable, str(SERVICE.with_name("limited_process.py")), store]
    with gateway(SEED) as books, contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen([*command, books.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(4)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        counts = [process.communicate(timeout=240)[0].split() for process in processes]
        assert books.taken() == {"13800138000": 5}
    assert sum(int(sent) for sent, _ in counts) == 5
    assert sum(int(refused) for _, refused in counts) == 59
