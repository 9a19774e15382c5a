"""SIGINT and SIGTERM for a program: the first one asks to finish, the second one cuts off."""

from __future__ import annotations

import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Callable

__all__ = ["handle_signals"]


@asynccontextmanager
async def handle_signals(
    first: Callable[[signal.Signals], None], second: Callable[[signal.Signals], None]
) -> AsyncGenerator[None]:
    """Call `first` with the first signal and `second` with the second one. More are passed over until the block ends.

    The handlers stay until then, and not only until the second signal: what is cleaned up after it may take seconds,
    and a third signal in its midst would end the event loop under it.

    Args:
        first: asks what is in the block to finish.
        second: cuts it off. It may cancel a scope within the block, not one around it.
    """

    async def listen(signals: AsyncIterable[signal.Signals]) -> None:
        heard = 0
        async for number in signals:
            heard += 1
            if heard == 1:
                first(number)
            elif heard == 2:
                second(number)

    raised: Exception | None = None
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with anyio.create_task_group() as group:
            group.start_soon(listen, signals)
            try:
                yield
            except Exception as error:  # noqa: BLE001  (as it is, not as a group of one)
                raised = error
            group.cancel_scope.cancel()
        if raised is not None:
            raise raised
