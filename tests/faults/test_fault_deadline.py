"""Row 7 of the fault matrix, on a clock that moves only when it is told: a busy machine makes nothing late."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import anyio
import pytest
import trio.testing
from anyio import to_thread
from faults.test_fault_matrix import LANES, number_run
from support.catalogue import drip
from support.fault_server import DIGEST, FaultServer

from qxt_async import BatchResult, QxtClient, errors

DEADLINE = 100.0


class StillLoop(asyncio.SelectorEventLoop):
    """asyncio's event loop on such a clock."""

    now = 0.0

    def time(self) -> float:
        """What the clock says."""
        return self.now

    def jump(self, seconds: float) -> None:
        """Move it."""
        self.now += seconds


async def _drips(server: FaultServer) -> None:
    """Wait for three more bytes."""
    wanted = len(server.marks) + 3
    await to_thread.run_sync(server.wait_for, lambda: len(server.marks) >= wanted)


async def _meet(call: str, transport: Any, jump: Callable[[float], None]) -> None:
    told: list[BatchResult] = []
    with FaultServer() as server:
        server.plan(drip)
        async with (
            QxtClient(
                "someone", password_md5=DIGEST, base_url=server.base_url, transport=transport, timeout=DEADLINE
            ) as client,
            anyio.create_task_group() as group,
        ):

            async def make() -> None:
                with pytest.raises(errors.DeadlineExceededError) if call == "send" else contextlib.nullcontext():
                    await getattr(client, call)(number_run(0, 20), "hello", on_result=told.append)

            group.start_soon(make)
            await _drips(server)
            jump(DEADLINE * 0.9)
            await _drips(server)
            assert not told
            jump(DEADLINE * 0.2)
            await to_thread.run_sync(server.wait_for, lambda: not server.open)
    assert [(result.outcome, type(result.error)) for result in told] == [("unknown", errors.DeadlineExceededError)]


@pytest.mark.parametrize("call", ["send", "send_bulk"])
@pytest.mark.parametrize(("backend", "transport"), LANES)
def test_row_7_the_deadline_is_for_the_whole_answer(backend: str, transport: str, call: str) -> None:
    """An answer that drips ends the call when 90 to 110 % of its deadline are over, however much of it has come."""
    clock = StillLoop() if backend == "asyncio" else trio.testing.MockClock()
    options = {"loop_factory": lambda: clock} if backend == "asyncio" else {"clock": clock}
    anyio.run(_meet, call, transport, clock.jump, backend=backend, backend_options=options)
