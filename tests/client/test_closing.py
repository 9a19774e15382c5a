"""What a client that is closed does with what has not left yet."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
from anyio import to_thread
from faults.test_fault_matrix import EACH_ONCE
from support.catalogue import take_and_stall
from support.fault_server import DIGEST, FaultServer
from support.hand_gateway import TEXT, Gateway, client, numbers

from qxt_async import (
    BatchResult,
    BulkResult,
    NotSentError,
    OutcomeUnknownError,
    QxtClient,
    QxtError,
    RetryPolicy,
    ThrottledError,
)
from qxt_async.models import Message
from qxt_async.runtime import clocks
from qxt_async.sending.claimed import ClaimedBatch

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("rate", [None, 1000.0], ids=["place", "rate"])
async def test_what_waits_when_the_client_is_closed_is_not_sent(method: Any, rate: float | None) -> None:
    """After `aclose` no send goes out that waits for a place: it ends as not sent; what is under way is answered."""
    gateway = Gateway()
    gateway.gate = anyio.Event()
    told: dict[str, list[BatchResult]] = {"first": [], "send": [], "bulk": [], "recorded": []}
    errors: dict[str, QxtError] = {}
    qxt = client(gateway, max_concurrency=1, method=method, max_request_rate=rate, retry=RetryPolicy(3, backoff=60))

    async def take() -> ClaimedBatch:
        return ClaimedBatch(Message(TEXT), numbers(1, 20), until=clocks.boottime() + 60)

    async def record() -> None:
        await qxt.claimed_sender().send(take, on_result=told["recorded"].append)

    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "first": lambda: qxt.send(numbers(1), TEXT, on_result=told["first"].append),
        "send": lambda: qxt.send(numbers(1, 1), TEXT, on_result=told["send"].append),
        "bulk": lambda: qxt.send_bulk(iter(numbers(90, 100)), TEXT, batch_size=10, on_result=told["bulk"].append),
        "recorded": record,
        "balance": qxt.balance,
    }

    async def call(name: str) -> None:
        try:
            await calls[name]()
        except QxtError as error:
            errors[name] = error

    async with anyio.create_task_group() as group:
        for name in calls:
            group.start_soon(call, name)
            if name == "first":
                while not gateway.received:
                    await anyio.lowlevel.checkpoint()
        await anyio.wait_all_tasks_blocked()
        await qxt.aclose()
        gateway.gate.set()

    assert len(gateway.received) == 1
    assert {name: [result.outcome for result in results] for name, results in told.items()} == {
        "first": ["accepted"],
        "send": ["failed"],
        "bulk": ["failed"],
        "recorded": ["failed"],
    }
    assert {name: type(error) for name, error in errors.items()} == {
        "send": NotSentError,
        "bulk": NotSentError,
        "balance": NotSentError,
    }
    assert isinstance(told["recorded"][0].error, NotSentError)
    assert "the client was closed" in str(errors["send"])
    bulk = errors["bulk"].result
    assert isinstance(bulk, BulkResult)
    assert [*bulk.failed, *bulk.unsent] == numbers(90, 100)


async def test_what_waits_for_its_next_attempt_when_the_client_is_closed_is_not_sent() -> None:
    """A client that is closed makes no further attempt, and no further batch of a bulk send is begun."""
    gateway = Gateway()

    class Closing(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            """Close the client, then ask to come later."""
            await gateway.handle_async_request(request)
            await qxt.aclose()
            return httpx.Response(429)

    def opened() -> QxtClient:
        return client(Closing(), max_concurrency=1, retry=RetryPolicy(3, backoff=60))

    qxt = opened()
    with pytest.raises(ThrottledError):
        await qxt.send(numbers(1), TEXT)
    qxt = opened()
    with pytest.raises(ThrottledError):
        await qxt.balance()
    qxt = opened()
    with pytest.raises(ThrottledError) as caught:
        await qxt.send_bulk(iter(numbers(30)), TEXT, batch_size=10)
    assert isinstance(caught.value.result, BulkResult)
    assert ([*caught.value.result.failed], [*caught.value.result.unsent]) == (numbers(10), numbers(20, 10))
    assert len(gateway.received) == 3


@pytest.mark.parametrize(("anyio_backend", "transport"), EACH_ONCE)
async def test_no_connection_is_opened_after_closing(transport: str) -> None:
    """Over sockets: what was under way is unknown, what waited for its place is not sent, and nothing is left open."""
    errors: list[QxtError] = []
    with FaultServer() as server:
        server.plan(take_and_stall)
        qxt = QxtClient(
            "someone", password_md5=DIGEST, base_url=server.base_url, transport=transport, max_concurrency=1, timeout=9
        )

        async def send(number: str) -> None:
            try:
                await qxt.send(number, TEXT)
            except QxtError as error:
                errors.append(error)

        async with anyio.create_task_group() as group:
            for number in numbers(3):
                group.start_soon(send, number)
            await to_thread.run_sync(server.wait_for, lambda: server.taken.total() == 1)
            await qxt.aclose()
            await to_thread.run_sync(server.settle)
        assert (server.connections, server.taken.total()) == (1, 1)
    assert [isinstance(error, OutcomeUnknownError) for error in errors] == [True, False, False]
    assert [isinstance(error, NotSentError) for error in errors] == [False, True, True]
