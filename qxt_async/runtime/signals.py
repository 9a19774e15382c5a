"""SIGINT and SIGTERM for a program: the first one asks to stop, the second one cancels."""

from __future__ import annotations

import math
import signal
from typing import TYPE_CHECKING, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable

T = TypeVar("T")


async def run_until_signalled(
    work: Callable[[], Awaitable[T]],
    stop: Callable[[signal.Signals], None],
    cut_off: Callable[[signal.Signals], None] = lambda _: None,
    *,
    grace: float = math.inf,
) -> T | None:
    """Run `work` to its end. SIGINT and SIGTERM stop it in two steps; more than two signals change nothing.

    Only in the main thread, and not on Windows. The handlers stay until `work` has ended, clean-up included.

    Args:
        work: what to run.
        stop: called with the first signal; asks `work` to finish.
        cut_off: called with the second signal, when `work` has been cancelled.
        grace: seconds after the first signal until `work` is cancelled without a second one.

    Returns:
        What `work` returned, or ``None`` if it was cancelled.

    Raises:
        Exception: what `work` raised, outside of any exception group.
    """
    whole = anyio.CancelScope()
    returned: T | None = None
    raised: Exception | None = None

    async def listen(signals: AsyncIterable[signal.Signals]) -> None:
        count = 0
        async for number in signals:
            count += 1
            if count == 1:
                whole.deadline = anyio.current_time() + grace
                stop(number)
            elif count == 2:
                whole.cancel()
                cut_off(number)

    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with anyio.create_task_group() as group:
            group.start_soon(listen, signals)
            with whole:
                try:
                    returned = await work()
                except Exception as error:  # noqa: BLE001  (raised below, outside of the group)
                    raised = error
            group.cancel_scope.cancel()
    if raised is not None:
        raise raised
    return returned
