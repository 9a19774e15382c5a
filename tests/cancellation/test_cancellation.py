"""Cancelling, at every moment: nothing that the gateway said is lost, and the client is whole afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from itertools import count
from math import inf
from typing import Any

import anyio
import httpx
import pytest
from anyio import to_thread, wait_all_tasks_blocked
from anyio.lowlevel import checkpoint
from support import addresses
from support import catalogue as c
from support.cancelling import SEED, Moments, cancel_at, moments_for, number_run, tasks_alive
from support.fault_server import DIGEST, FaultServer, Wire, http, ok_line

from qxt_async import Balance, BatchResult, BulkResult, QxtClient, RetryPolicy, errors
from qxt_async.models import Message
from qxt_async.sending.claimed import ClaimedBatch
from qxt_async.transports import Exchange

CONCURRENCY = 3
LANES = (("asyncio", "httpx"), ("trio", "httpx"), ("asyncio", "httpx2"), ("trio", "httpx2"), ("asyncio", "aiohttp"))
WAYS = [
    pytest.param(backend, transport, way, id=f"{transport}-{backend}-{way}")
    for backend, transport in LANES
    for way in (("scope", "task", "task twice") if backend == "asyncio" else ("scope",))
]
Call = Callable[[list[str]], Awaitable[Any]]
CALLS = (
    "QxtClient.send",
    "ClaimedSender.send",
    "QxtClient.send_bulk",
    "BulkStream.__aenter__ BulkStream.__anext__ BulkStream.__aexit__",
    "QxtClient.balance",
    "QxtClient.__aenter__ QxtClient.__aexit__ QxtClient.aclose",
)

pytestmark = pytest.mark.anyio
every_way = pytest.mark.parametrize(("anyio_backend", "transport", "way"), WAYS)


def client_for(server: FaultServer, transport: Any, **options: Any) -> QxtClient:
    """A client with a few connections."""
    options = {"timeout": 30, "max_concurrency": CONCURRENCY, "retry": RetryPolicy(3, backoff=0.002), **options}
    return QxtClient("someone", password_md5=DIGEST, base_url=server.base_url, transport=transport, **options)


class RequestLog:
    """What the client told of each number, against what the server took."""

    def __init__(self) -> None:
        self.results: list[BatchResult] = []

    def tell(self, result: BatchResult) -> None:
        """For ``on_result``."""
        self.results.append(result)

    @property
    def outcomes(self) -> list[str]:
        """Of the batches, in the order of telling."""
        return [result.outcome for result in self.results]

    def check(self, server: FaultServer) -> None:
        """Compare, when nothing is under way any more; in counts, which name no number."""
        accepted = [number for result in self.results for number in result.accepted]
        failed = [number for result in self.results for number in result.failed]
        unknown = [number for result in self.results for number in result.unknown]
        told = [*accepted, *failed, *unknown]
        taken = set(server.taken)
        assert sum(count > 1 for count in server.taken.values()) == 0, "taken twice"
        assert len(told) == len(set(told)), "told twice"
        assert len(taken.intersection(failed)) == 0, "failed, and taken all the same"
        assert set(accepted) <= taken, "accepted, and not taken"
        assert taken <= {*accepted, *unknown}, "taken, and not told"


def leisurely(seed: int) -> Callable[[Wire], Awaitable[None]]:
    """A server that behaves, taking its time in different places."""
    dice = random.Random(seed)

    async def fault(wire: Wire) -> None:
        pauses = [dice.choice((0.0, 0.0, 0.001, 0.004)) for _ in range(3)]
        await asyncio.sleep(pauses[0])
        request = await wire.request()
        balance = request.target.endswith("/surplus")
        answer = http(b"ok:sms:7:mms:0" if balance else ok_line(wire.take(request), request.numbers))
        await asyncio.sleep(pauses[1])
        cut = dice.randrange(len(answer))
        await wire.send(answer[:cut])
        await asyncio.sleep(pauses[2])
        await wire.send(answer[cut:])
        if dice.random() < 0.1:
            wire.close()

    return fault


async def check_pool(client: QxtClient, server: FaultServer, books: RequestLog) -> None:
    """All of the client's requests in flight are possible at once, each is answered, and no connection is left over."""
    after = set(number_run(9_000_000, CONCURRENCY))
    server.default = c.answer_late
    async with anyio.create_task_group() as group:
        for number in after:
            group.start_soon(lambda number=number: client.send(number, "after", on_result=books.tell))
        await to_thread.run_sync(
            server.wait_for,
            lambda: sum(not after.isdisjoint(request.numbers) for request in server.requests) == CONCURRENCY,
        )
        server.release()
    assert books.outcomes[-CONCURRENCY:] == ["accepted"] * CONCURRENCY
    await to_thread.run_sync(server.wait_for, lambda: server.open <= CONCURRENCY)


def calls_of(server: FaultServer, transport: Any, client: QxtClient, books: RequestLog) -> dict[str, Call]:
    """What is done to some numbers under each of the names."""
    options: dict[str, Any] = {"batch_size": 4, "min_batch": 1, "on_result": books.tell}

    async def send_claimed(numbers: list[str]) -> Any:
        async def take() -> ClaimedBatch:
            await checkpoint()
            return ClaimedBatch(Message("hello"), numbers, until=inf)

        return await client.claimed_sender().send(take, on_result=books.tell)

    async def stream_bulk(numbers: list[str]) -> Any:
        async with client.stream_bulk(numbers, "hello", **options) as batches:
            return [batch async for batch in batches]

    async def send_with_another(numbers: list[str]) -> Any:
        async with client_for(server, transport) as another:
            return await another.send(numbers, "hello", on_result=books.tell)

    calls: tuple[Call, ...] = (
        lambda numbers: client.send(numbers, "hello", on_result=books.tell),
        send_claimed,
        lambda numbers: client.send_bulk(numbers, "hello", **options),
        stream_bulk,
        lambda _: client.balance(),
        send_with_another,
    )
    return dict(zip(CALLS, calls, strict=True))


def was_cancelled(error: BaseException | None) -> bool:
    """Whether the error says that the request was cancelled while it was under way."""
    return type(error) is errors.OutcomeUnknownError and error.reason == "cancelled while under way"


def whole(value: Any) -> bool:
    """Whether a result is what it would be without a cancellation: of all numbers, and none given up."""
    if isinstance(value, Balance):
        return True
    if isinstance(value, BatchResult):
        return not (was_cancelled(value.error) or isinstance(value.error, errors.NotSentError))
    batches = value.batches if isinstance(value, BulkResult) else value
    return all(map(whole, batches)) and sum(len(batch.numbers) for batch in batches) == 24


@contextlib.contextmanager
def broken_connections() -> Iterator[None]:
    """The server may close a connection just as a request is written: told, and not the matter here."""
    try:
        yield
    except* errors.OutcomeUnknownError as group:
        if group.subgroup(was_cancelled) is not None:
            raise


@every_way
async def test_any_moment(transport, way, anyio_backend):
    """At any moment: no number is taken that is not told of, no other error comes, every slot is usable after."""
    books = RequestLog()
    times = moments_for(anyio_backend, [each.values[0] for each in WAYS], few=8)
    with FaultServer(leisurely(SEED)) as server:
        before = tasks_alive(anyio_backend)
        async with client_for(server, transport) as client:
            calls = calls_of(server, transport, client, books)
            numbers = (number_run(start, 24) for start in count(0, 100))
            for call in calls.values():
                moments = Moments()
                for _ in range(times):
                    with broken_connections():
                        ended = await moments.cancel(way, partial(call, next(numbers)))
                        assert ended.cut or whole(ended.value)
                moments.check()
            await check_pool(client, server, books)
        await to_thread.run_sync(server.settle)
        await wait_all_tasks_blocked()
        assert tasks_alive(anyio_backend) == before
        books.check(server)


# --- moments that are known


@pytest.fixture
def at(monkeypatch):
    """Run something at a step of the next exchange: ``pull``, ``begin_answer`` or ``finish``."""

    def arrange(step: str, action: Callable[[], Any]) -> None:
        real = getattr(Exchange, step)

        def stepped(self: Exchange, *args: Any) -> Any:
            result = real(self, *args)
            monkeypatch.setattr(Exchange, step, real)
            action()
            return result

        monkeypatch.setattr(Exchange, step, stepped)

    return arrange


@every_way
@pytest.mark.parametrize(
    ("step", "outcome"), [("pull", "unknown"), ("begin_answer", "unknown"), ("finish", "accepted")]
)
async def test_at_a_step_of_the_exchange(transport, way, step, outcome, at):
    """From the first pull of the body it may have arrived; from the answer's last byte the answer counts."""
    books = RequestLog()
    with FaultServer() as server:
        async with client_for(server, transport) as client:
            reached = anyio.Event()
            at(step, reached.set)
            # The answer's head comes alone, so that there is a moment after it.
            go_on = threading.Event()
            server.default = partial(_head_first, go_on)
            if step == "finish":
                go_on.set()
            ended = await cancel_at(
                way, lambda: client.send("13800138000", "hello", on_result=books.tell), reached.wait
            )
            go_on.set()
            assert ended.cut or step == "finish"  # after which there may be nothing left to cut off
            assert books.outcomes == [outcome]
            error = books.results[0].error
            assert error is None if outcome == "accepted" else was_cancelled(error)
            await check_pool(client, server, books)
        await to_thread.run_sync(server.settle)
        books.check(server)


@every_way
@pytest.mark.parametrize("step", ["begin", "pull", "finish"])
async def test_every_turn(transport, way, step, at):
    """At each turn of the event loop from a step on, one after the other: told, and the slot is usable after."""
    books = RequestLog()
    with FaultServer() as server:
        async with client_for(server, transport) as client:
            for turns in range(36):
                reached = anyio.Event()
                if step == "begin":
                    reached.set()
                else:
                    at(step, reached.set)

                async def moment(reached: anyio.Event = reached, turns: int = turns) -> None:
                    await reached.wait()
                    for _ in range(turns):
                        await checkpoint()

                (number,) = number_run(turns, 1)
                await cancel_at(way, lambda n=number: client.send(n, "hello", on_result=books.tell), moment)
                assert step == "begin" or len(books.results) == turns + 1
                assert step != "finish" or set(books.outcomes) == {"accepted"}
            await check_pool(client, server, books)
        await to_thread.run_sync(server.settle)
        books.check(server)


async def _head_first(go_on: threading.Event, wire: Wire) -> None:
    request = await wire.request()
    answer = http(ok_line(wire.take(request), request.numbers))
    head = answer.index(b"ok:")
    await wire.send(answer[:head])
    await asyncio.to_thread(go_on.wait)
    await wire.send(answer[head:])


@pytest.mark.parametrize(("anyio_backend", "transport"), LANES)
async def test_with_the_last_result(transport):
    """A send that is cancelled while its last result is told does not end as if nothing were."""
    books = RequestLog()
    with FaultServer() as server:
        async with client_for(server, transport) as client:
            with anyio.CancelScope() as scope:

                def tell(result: BatchResult) -> None:
                    books.tell(result)
                    scope.cancel()

                await client.send_bulk(number_run(0, 4), "hello", min_batch=1, on_result=tell)
            assert scope.cancelled_caught
    assert books.outcomes == ["accepted"]


@every_way
async def test_while_connecting(transport, way):
    """Before a connection stands nothing has left: not sent, and told so."""
    books = RequestLog()
    with FaultServer() as server, addresses.full_backlog(server) as base_url:
        async with QxtClient("someone", password_md5=DIGEST, base_url=base_url, transport=transport) as client:
            ended = await cancel_at(
                way, lambda: client.send("13800138000", "hello", on_result=books.tell), lambda: anyio.sleep(0.02)
            )
            assert ended.cut
    assert books.outcomes == ["failed"]
    assert isinstance(books.results[0].error, errors.NotSentError)


@every_way
async def test_while_backing_off(transport, way):
    """Between two attempts nothing is under way: not sent."""
    books = RequestLog()
    with FaultServer() as server, addresses.closed_port(server) as base_url:
        client = QxtClient(
            "someone", password_md5=DIGEST, base_url=base_url, transport=transport, retry=RetryPolicy(9, backoff=9)
        )
        async with client:
            call = cancel_at(
                way, lambda: client.send("13800138000", "hello", on_result=books.tell), lambda: anyio.sleep(0.1)
            )
            assert (await call).cut
    assert books.outcomes == ["failed"]
    assert books.results[0].attempts == 1


@every_way
async def test_while_waiting_for_a_slot(transport, way):
    """Who waits for a connection is not sent, and those before and after him are not the worse for it."""
    books = RequestLog()
    with FaultServer(c.answer_late) as server:
        async with client_for(server, transport, max_concurrency=1) as client, anyio.create_task_group() as group:
            group.start_soon(lambda: client.send("13800138000", "first", on_result=books.tell))
            await to_thread.run_sync(server.wait_for, lambda: len(server.requests) == 1)
            second = number_run(0, 3)
            ended = await cancel_at(
                way, lambda: client.send(second, "second", on_result=books.tell), wait_all_tasks_blocked
            )
            assert ended.cut
            assert books.outcomes == ["failed"]
            assert books.results[0].attempts == 0
            server.release()
            await client.send("13800138002", "third", on_result=books.tell)
        assert books.outcomes == ["failed", "accepted", "accepted"]
        assert not set(second).intersection(server.taken)


@every_way
async def test_while_waiting_for_the_rate(transport, way):
    """The rate limit's turn goes to the next, and nothing is used up."""
    books = RequestLog()
    with FaultServer() as server:
        async with client_for(server, transport, max_request_rate=0.001) as client:
            await client.send("13800138000", "hello", on_result=books.tell)
            for number in ("13800138001", "13800138002"):
                ended = await cancel_at(
                    way, lambda n=number: client.send(n, "hello", on_result=books.tell), lambda: anyio.sleep(0.01)
                )
                assert ended.cut
        assert books.outcomes == ["accepted", "failed", "failed"]
        assert len(server.requests) == 1


@pytest.mark.parametrize(("anyio_backend", "transport", "way"), [w for w in WAYS if w.values[1] == "httpx"])
async def test_while_the_answer_is_being_closed(transport, way, monkeypatch):
    """The answer was there: accepted; and a close that hangs holds nobody up for longer than it may."""
    monkeypatch.setattr("qxt_async.transports.httpx.CLOSE_TIME", 0.05)
    closing = anyio.Event()

    class Body(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"ok:7:13800138000"

        async def aclose(self) -> None:
            closing.set()
            await anyio.sleep_forever()

    class Slow(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            async for _ in request.stream:  # type: ignore[union-attr]
                pass
            return httpx.Response(200, stream=Body())

    books = RequestLog()
    with FaultServer() as server:
        async with client_for(server, Slow()) as client:
            await cancel_at(way, lambda: client.send("13800138000", "hello", on_result=books.tell), closing.wait)
            assert client._dispatcher.slots.value == CONCURRENCY
    assert books.outcomes == ["accepted"]
