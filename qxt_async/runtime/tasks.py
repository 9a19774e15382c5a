"""A task of one's own, for what must not be cut short; and which event loop this is."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

import anyio
from anyio import get_cancelled_exc_class, to_thread
from anyio.lowlevel import current_token

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["current_loop", "in_a_thread", "run_in_own_task", "run_in_thread"]

T = TypeVar("T")


def current_loop() -> object:
    """The running event loop, of asyncio or of trio, to be compared by identity."""
    try:
        # A third of the time of the general way; who runs on trio may never have loaded it.
        return sys.modules["asyncio"].get_running_loop()
    except (KeyError, RuntimeError):
        return current_token().native_token


async def run_in_own_task(function: Callable[[], Awaitable[T]]) -> T:
    """Run `function` in a task of a group of anyio.

    A ``Task.cancel()`` of asyncio's own does not care for anyio's shields: it breaks into whatever is awaited, be it
    the clean-up of a connection or a commit. In a task group it arrives as one of anyio, which they hold off.

    Raises:
        Exception: what `function` raised, as it is and not as a group of one.
    """
    returned: list[T] = []
    raised: list[Exception] = []

    async def run() -> None:
        try:
            returned.append(await function())
        except Exception as error:  # noqa: BLE001
            raised.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(run)
    if raised:
        raise raised[0]
    if not returned:
        # Cancelled alone, as asyncio does with every task when its loop is made to end.
        raise get_cancelled_exc_class()
    return returned[0]


async def in_a_thread(function: Callable[[], T]) -> T:
    """Run `function` in a worker thread, and go on only when it is done, however one is cancelled.

    For what uses something that the caller closes afterwards: some libraries crash when they are closed at work.
    """
    return await run_in_own_task(lambda: run_in_thread(function))


async def run_in_thread(function: Callable[[], T], *, limiter: anyio.CapacityLimiter | None = None) -> T:
    """Run `function` in a worker thread of anyio's.

    What it returns or raises is handed over beside the event loop: asyncio in debug mode logs the callbacks that take
    long, and with them what they are called with.

    Args:
        function: runs to its end, also when the waiting is cancelled.
        limiter: how many such threads work at a time; anyio's default one if ``None``.

    Raises:
        Exception: what `function` raised.
    """
    returned: list[T] = []
    raised: list[Exception] = []

    def run() -> None:
        try:
            returned.append(function())
        except Exception as error:  # noqa: BLE001  (raised where the result is awaited)
            raised.append(error)

    await to_thread.run_sync(run, limiter=limiter)
    if raised:
        raise raised[0]
    return returned[0]
