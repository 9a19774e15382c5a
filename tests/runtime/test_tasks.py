"""A task of one's own."""

from __future__ import annotations

import asyncio

import pytest

from qxt_async.runtime.tasks import run_in_own_task


def test_a_task_that_is_cancelled_alone() -> None:
    """Asyncio cancels every task when its loop is made to end; whoever waits for one hears that it was cancelled."""

    async def main() -> None:
        async def work() -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

        with pytest.raises(asyncio.CancelledError):
            await run_in_own_task(work)

    asyncio.run(main())
