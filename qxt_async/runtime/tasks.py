"""Running a function in a task or thread of its own, and finding out which event loop runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

import anyio
from anyio import get_cancelled_exc_class, to_thread
from anyio.lowlevel import current_token

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


def current_loop() -> object:
    """The running event loop, of asyncio or trio, to compare by identity."""
    try:
        # This takes a third of the time of `current_token`. On trio, asyncio may not be imported.
        return sys.modules["asyncio"].get_running_loop()
    except (KeyError, RuntimeError):
        return current_token().native_token


async def run_in_own_task(function: Callable[[], Awaitable[T]]) -> T:
    """Run `function` in a task of a task group.

    asyncio's own ``Task.cancel()`` ignores anyio's shields: it interrupts any await, such as a commit or the clean-up
    of a connection. In a task group it becomes a cancellation of anyio, which shields delay.

    Raises:
        Exception: what `function` raised, outside of any exception group.
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
        # Only the task was cancelled: asyncio does that to every task when its loop ends.
        raise get_cancelled_exc_class()
    return returned[0]


async def in_a_thread(function: Callable[[], T]) -> T:
    """Run `function` in a worker thread, and return only when it has ended, also when cancelled.

    Use it for a function with an object that the caller closes afterwards: some libraries crash when they are closed
    while they work.
    """
    return await run_in_own_task(lambda: run_in_thread(function))


async def run_in_thread(function: Callable[[], T], *, limiter: anyio.CapacityLimiter | None = None) -> T:
    """Run `function` in a worker thread of anyio.

    The result or the error is not passed through the event loop: in debug mode asyncio logs callbacks that take long,
    with their arguments.

    Args:
        function: runs to its end, also when the waiting is cancelled.
        limiter: limits how many threads run at a time; anyio's default limiter if ``None``.

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
