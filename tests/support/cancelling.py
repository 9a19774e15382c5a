"""Cancelling a call at a moment, and telling how it ended.

``QXT_CANCEL_MOMENTS`` says how many random moments each public coroutine gets on asyncio, and how many on trio; without
it they are a few.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import attrs
import trio
from anyio.lowlevel import checkpoint

SEED = 20231
SECRET = "0123456789abcdefghij"  # the receiver's path
# Event loop, journal, and how it is cancelled.
WAYS = [
    ("asyncio", "sqlite", "scope"),
    ("asyncio", "sqlite", "task"),
    ("asyncio", "sqlite", "task twice"),
    ("trio", "sqlite", "scope"),
    ("asyncio", "postgresql", "scope"),
    ("asyncio", "postgresql", "task twice"),
]
_GIVEN = os.environ.get("QXT_CANCEL_MOMENTS")


def moments_for(backend: str, backends: Sequence[str], few: int) -> int:
    """How many moments a call gets in one of the ways whose backends these are; a few if nobody asks for more."""
    return few if _GIVEN is None else -(-int(_GIVEN) // list(backends).count(backend))


def number_run(start: int, count: int) -> list[str]:
    """Phone numbers, made up."""
    return [f"1390{number:07d}" for number in range(start, start + count)]


def tasks_alive(backend: str) -> int:
    """How many tasks the event loop has."""
    if backend == "asyncio":
        return len(asyncio.all_tasks())
    return trio.lowlevel.current_statistics().tasks_living


@attrs.define
class Ended:
    """How a call ended that was to be cancelled.

    Attributes:
        cut: by the cancellation.
        late: by itself, after it was cancelled: it had its result in hand.
        value: what it returned, if it was not cut.
    """

    cut: bool = False
    late: bool = False
    value: Any = None


async def cancel_at(way: str, call: Callable[[], Awaitable[Any]], moment: Callable[[], Awaitable[Any]]) -> Ended:
    """Run a call and cancel it at a moment.

    A scope cancels whatever comes next: if the call ended by itself all the same, the next step has to be cut.
    `Task.cancel` comes once, so a call that is under way has to let it through.

    Anything that the call raises but the cancellation is raised here.
    """
    return await (_cancel_scope(call, moment) if way == "scope" else _cancel_task(way, call, moment))


async def _cancel_scope(call: Callable[[], Awaitable[Any]], moment: Callable[[], Awaitable[Any]]) -> Ended:
    ended = Ended(cut=True)
    went_on = False

    async def run() -> None:
        nonlocal ended, went_on
        value = await call()
        ended = Ended(late=group.cancel_scope.cancel_called, value=value)
        if ended.late:
            await checkpoint()
            went_on = True
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await moment()
        group.cancel_scope.cancel()
    assert not went_on, "the cancellation was used up"
    return ended


async def _cancel_task(way: str, call: Callable[[], Awaitable[Any]], moment: Callable[[], Awaitable[Any]]) -> Ended:
    task = asyncio.ensure_future(call())
    timer = asyncio.ensure_future(moment())
    await asyncio.wait([task, timer], return_when=asyncio.FIRST_COMPLETED)
    timer.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await timer
    late = task.cancel()
    if way == "task twice":
        for _ in range(random.Random(SEED).randrange(6)):
            await asyncio.sleep(0)
        task.cancel()
    try:
        value = await task
    except asyncio.CancelledError:
        return Ended(cut=True)
    return Ended(late=late, value=value)


class Moments:
    """Random moments for one call: every fourth at once, others after a few turns of the event loop or a while.

    Attributes:
        cut, late, early: how many calls ended in which way.
    """

    def __init__(self, seed: int = SEED) -> None:
        self._dice = random.Random(seed)
        self._took = 0.02
        self.cut = self.late = self.early = 0

    @property
    def count(self) -> int:
        """How many there were."""
        return self.cut + self.late + self.early

    async def untouched(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """What a call returns that is let be; how long it takes says when the others are cancelled."""
        began = time.perf_counter()
        value = await call()
        self._took = min(self._took, time.perf_counter() - began)
        return value

    async def cancel(self, way: str, call: Callable[[], Awaitable[Any]]) -> Ended:
        """Cancel a call at the next moment, and count how it ended."""
        kind = ("at once", "time", "turns", "time")[self.count % 4]
        turns, seconds = self._dice.randrange(1, 40), self._dice.random() * self._took

        async def moment() -> None:
            if kind == "time":
                await anyio.sleep(seconds)
            elif kind == "turns":
                for _ in range(turns):
                    await checkpoint()

        ended = await cancel_at(way, call, moment)
        if ended.cut:
            self.cut += 1
        elif ended.late:
            self.late += 1
        else:
            self.early += 1
        assert not (ended.late and way != "scope"), "`Task.cancel` was used up"
        return ended

    def check(self) -> None:
        """What was cancelled at once was cut off."""
        assert self.cut >= self.count // 4, f"{self.cut} of {self.count} calls were cut off"
