"""One client is one account: one semaphore and one rate limit, however many tasks use it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
import trio
import trio.testing
from support.hand_gateway import TEXT, Gateway, client, numbers


def _on_a_jumping_clock(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def _within(arrivals: list[tuple[float, int]], rate: float) -> None:
    """No stretch of T seconds sees more than rate x T, and one batch."""
    for first in range(len(arrivals)):
        for last in range(first, len(arrivals)):
            seconds = arrivals[last][0] - arrivals[first][0]
            assert sum(size for _, size in arrivals[first:last]) <= rate * seconds + 1e-6


@pytest.mark.parametrize(
    "limits", [{"max_rate": 100}, {"max_request_rate": 5}, {"max_rate": 100, "max_request_rate": 5}]
)
def test_rates_hold_over_all_tasks(limits: dict[str, Any]) -> None:
    """Bulk sends, single sends and balance queries of many tasks together keep both rates, in any stretch of time."""
    gateway = Gateway()

    async def main() -> None:
        async with client(gateway, **limits) as qxt, anyio.create_task_group() as group:
            for start in (0, 1000):
                group.start_soon(qxt.send_bulk, numbers(203, start), TEXT)
            for n in range(10):
                group.start_soon(qxt.send, numbers(1, 5000 + n), TEXT)
                group.start_soon(qxt.balance)

    _on_a_jumping_clock(main)
    assert len(gateway.taken) == 416
    arrivals = list(zip(gateway.arrivals, gateway.received, strict=True))
    if rate := limits.get("max_rate"):
        _within([(when, len(got.tele)) for when, got in arrivals if "tele" in got.fields], rate)
    if rate := limits.get("max_request_rate"):
        _within([(when, 1) for when, _ in arrivals], rate)


def test_a_rate_is_used() -> None:
    """A thousand numbers in batches of a hundred at a hundred a second take nine seconds and end there."""
    gateway = Gateway()

    async def main() -> None:
        async with client(gateway, max_rate=100) as qxt:
            await qxt.send_bulk(numbers(1000), TEXT, batch_size=100)

    _on_a_jumping_clock(main)
    assert gateway.arrivals[-1] - gateway.arrivals[0] == pytest.approx(9)


@pytest.mark.anyio
@pytest.mark.parametrize("limit", [1, 3, 12])
async def test_no_more_in_flight_than_allowed(limit: int) -> None:
    """However many tasks send, stream and ask, no more requests than `max_concurrency` are in flight."""
    gateway = Gateway()
    gateway.gate = anyio.Event()
    async with client(gateway, max_concurrency=limit) as qxt, anyio.create_task_group() as group:
        for n in range(20):
            group.start_soon(qxt.send, numbers(1, n), TEXT)
            group.start_soon(qxt.balance)
        group.start_soon(qxt.send_bulk, numbers(500, 1000), TEXT)
        await anyio.wait_all_tasks_blocked()
        assert gateway.in_flight == limit
        gateway.gate.set()
    assert gateway.most == limit
    assert len(gateway.taken) == 520


@pytest.mark.anyio
@pytest.mark.parametrize(("asked", "used"), [(2, 2), (50, 4), (None, 4)])
async def test_a_bulk_send_may_use_less(asked: int | None, used: int) -> None:
    """The concurrency of one bulk send may be lower than the client's, never higher."""
    gateway = Gateway()
    gateway.gate = anyio.Event()
    async with client(gateway, max_concurrency=4) as qxt, anyio.create_task_group() as group:

        async def send() -> None:
            await qxt.send_bulk(numbers(100), TEXT, batch_size=10, max_concurrency=asked)

        group.start_soon(send)
        await anyio.wait_all_tasks_blocked()
        assert gateway.in_flight == used
        gateway.gate.set()
    assert gateway.most == used


@pytest.mark.anyio
async def test_a_cancelled_call_gives_its_place_back() -> None:
    """A call that is cancelled while it waits or is under way leaves all places to the others."""
    gateway = Gateway()
    gateway.gate = anyio.Event()
    async with client(gateway, max_concurrency=2) as qxt:
        async with anyio.create_task_group() as group:
            for n in range(6):
                group.start_soon(qxt.send, numbers(1, n), TEXT)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        async with anyio.create_task_group() as group:
            for n in range(6):
                group.start_soon(qxt.send, numbers(1, n), TEXT)
            await anyio.wait_all_tasks_blocked()
            assert gateway.in_flight == 2
            gateway.gate.set()
