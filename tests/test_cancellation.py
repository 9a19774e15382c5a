"""Cancelling, at every moment: nothing that the gateway said is lost, and the client is whole afterwards.

``QXT_CANCEL_MOMENTS`` says how many random moments are tried, over all transports, backends and calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import httpx
import pytest
import trio
from anyio import to_thread, wait_all_tasks_blocked
from anyio.lowlevel import checkpoint
from faults import addresses
from faults import catalogue as c
from faults.server import DIGEST, FaultServer, Wire, http, ok_line

from qxt_async import BatchResult, QxtClient, RetryPolicy, errors
from qxt_async.transports import Exchange

SEED = 20231
MOMENTS = int(os.environ.get("QXT_CANCEL_MOMENTS", "500"))
CONCURRENCY = 3
LANES = (("asyncio", "httpx"), ("trio", "httpx"), ("asyncio", "httpx2"), ("trio", "httpx2"), ("asyncio", "aiohttp"))
WAYS = [
    pytest.param(backend, transport, way, id=f"{transport}-{backend}-{way}")
    for backend, transport in LANES
    for way in (("scope", "task", "task twice") if backend == "asyncio" else ("scope",))
]
CALLS = ("send", "send_bulk", "stream_bulk", "balance")

pytestmark = pytest.mark.anyio
every_way = pytest.mark.parametrize(("anyio_backend", "transport", "way"), WAYS)


def number_run(start: int, count: int) -> list[str]:
    """Phone numbers, made up."""
    return [f"1390{number:07d}" for number in range(start, start + count)]


def client_for(server: FaultServer, transport: Any, **options: Any) -> QxtClient:
    """A client with a few connections."""
    options = {"timeout": 30, "max_concurrency": CONCURRENCY, "retry": RetryPolicy(3, backoff=0.002), **options}
    return QxtClient("someone", password_md5=DIGEST, base_url=server.base_url, transport=transport, **options)


class Books:
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


async def cancel_at(way: str, call: Callable[[], Awaitable[Any]], moment: Callable[[], Awaitable[Any]]) -> bool:
    """Run a call and cancel it at a moment.

    Returns:
        Whether it was cut off. Anything that it raises but the cancellation is raised here.
    """
    if way == "scope":
        done = False

        async def run() -> None:
            nonlocal done
            await call()
            done = True
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await moment()
            group.cancel_scope.cancel()
        return not done
    task = asyncio.ensure_future(call())
    timer = asyncio.ensure_future(moment())
    await asyncio.wait([task, timer], return_when=asyncio.FIRST_COMPLETED)
    timer.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await timer
    task.cancel()
    if way == "task twice":
        for _ in range(random.Random(SEED).randrange(6)):
            await asyncio.sleep(0)
        task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return True
    return False


def tasks_alive(backend: str) -> int:
    """How many tasks the event loop has."""
    if backend == "asyncio":
        return len(asyncio.all_tasks())
    return trio.lowlevel.current_statistics().tasks_living


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


def moments(dice: random.Random, server: FaultServer) -> Callable[[], Awaitable[None]]:
    """A random moment: after so many turns of the event loop, things that the server saw, or milliseconds."""
    kind = dice.choice(("turns", "events", "seconds"))
    turns, events, seconds = dice.randrange(120), dice.randrange(1, 9), dice.random() * 0.015

    async def moment() -> None:
        if kind == "turns":
            for _ in range(turns):
                await checkpoint()
        elif kind == "seconds":
            await anyio.sleep(seconds)
        else:
            begin = server.events
            with anyio.move_on_after(0.1):
                while server.events < begin + events:  # noqa: ASYNC110 (the server is in another thread)
                    await anyio.sleep(0.0005)

    return moment


async def check_pool(client: QxtClient, server: FaultServer, books: Books) -> None:
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


@every_way
async def test_any_moment(transport, way, anyio_backend):
    """At any moment: no number is taken that is not told of, no other error comes, every slot is usable after."""
    dice = random.Random(SEED)
    books = Books()
    with FaultServer(leisurely(SEED)) as server:
        before = tasks_alive(anyio_backend)
        cut = 0
        async with client_for(server, transport) as client:
            for index in range(-(-MOMENTS // len(WAYS))):
                numbers = number_run(index * 100, 24)

                async def send(numbers: list[str] = numbers) -> None:
                    await client.send(numbers, "hello", on_result=books.tell)

                async def send_bulk(numbers: list[str] = numbers) -> None:
                    await client.send_bulk(numbers, "hello", batch_size=4, min_batch=1, on_result=books.tell)

                async def stream_bulk(numbers: list[str] = numbers) -> None:
                    async with client.stream_bulk(
                        numbers, "hello", batch_size=4, min_batch=1, on_result=books.tell
                    ) as batches:
                        async for _ in batches:
                            await checkpoint()

                calls = {"send": send, "send_bulk": send_bulk, "stream_bulk": stream_bulk, "balance": client.balance}
                call = calls[CALLS[index % len(CALLS)]]
                try:
                    cut += await cancel_at(way, call, moments(dice, server))
                except* errors.OutcomeUnknownError:
                    pass  # the server closed a connection just as a request was written: told, and not the matter here
            await check_pool(client, server, books)
        await to_thread.run_sync(server.settle)
        await wait_all_tasks_blocked()
        assert tasks_alive(anyio_backend) == before
        assert cut > 5
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
    books = Books()
    with FaultServer() as server:
        async with client_for(server, transport) as client:
            reached = anyio.Event()
            at(step, reached.set)
            # The answer's head comes alone, so that there is a moment after it.
            go_on = threading.Event()
            server.default = partial(_head_first, go_on)
            if step == "finish":
                go_on.set()
            cut = await cancel_at(way, lambda: client.send("13800138000", "hello", on_result=books.tell), reached.wait)
            go_on.set()
            assert cut or step == "finish"  # after which there may be nothing left to cut off
            assert books.outcomes == [outcome]
            error = books.results[0].error
            assert error is None if outcome == "accepted" else isinstance(error, errors.CancelledInFlightError)
            await check_pool(client, server, books)
        await to_thread.run_sync(server.settle)
        books.check(server)


@every_way
@pytest.mark.parametrize("step", ["begin", "pull", "finish"])
async def test_every_turn(transport, way, step, at):
    """At each turn of the event loop from a step on, one after the other: told, and the slot is usable after."""
    books = Books()
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


@every_way
async def test_while_connecting(transport, way):
    """Before a connection stands nothing has left: not sent, and told so."""
    books = Books()
    with FaultServer() as server, addresses.full_backlog(server) as base_url:
        async with QxtClient("someone", password_md5=DIGEST, base_url=base_url, transport=transport) as client:
            assert await cancel_at(
                way, lambda: client.send("13800138000", "hello", on_result=books.tell), lambda: anyio.sleep(0.02)
            )
    assert books.outcomes == ["failed"]
    assert isinstance(books.results[0].error, errors.NotSentError)


@every_way
async def test_while_backing_off(transport, way):
    """Between two attempts nothing is under way: not sent."""
    books = Books()
    with FaultServer() as server, addresses.closed_port(server) as base_url:
        client = QxtClient(
            "someone", password_md5=DIGEST, base_url=base_url, transport=transport, retry=RetryPolicy(9, backoff=9)
        )
        async with client:
            call = cancel_at(
                way, lambda: client.send("13800138000", "hello", on_result=books.tell), lambda: anyio.sleep(0.1)
            )
            assert await call
    assert books.outcomes == ["failed"]
    assert books.results[0].attempts == 1


@every_way
async def test_while_waiting_for_a_slot(transport, way):
    """Who waits for a connection is not sent, and those before and after him are not the worse for it."""
    books = Books()
    with FaultServer(c.answer_late) as server:
        async with client_for(server, transport, max_concurrency=1) as client, anyio.create_task_group() as group:
            group.start_soon(lambda: client.send("13800138000", "first", on_result=books.tell))
            await to_thread.run_sync(server.wait_for, lambda: len(server.requests) == 1)
            second = number_run(0, 3)
            assert await cancel_at(
                way, lambda: client.send(second, "second", on_result=books.tell), wait_all_tasks_blocked
            )
            assert books.outcomes == ["failed"]
            assert books.results[0].attempts == 0
            server.release()
            await client.send("13800138002", "third", on_result=books.tell)
        assert books.outcomes == ["failed", "accepted", "accepted"]
        assert not set(second).intersection(server.taken)


@every_way
async def test_while_waiting_for_the_rate(transport, way):
    """The rate limit's turn goes to the next, and nothing is used up."""
    books = Books()
    with FaultServer() as server:
        async with client_for(server, transport, max_request_rate=0.001) as client:
            await client.send("13800138000", "hello", on_result=books.tell)
            for number in ("13800138001", "13800138002"):
                assert await cancel_at(
                    way, lambda n=number: client.send(n, "hello", on_result=books.tell), lambda: anyio.sleep(0.01)
                )
        assert books.outcomes == ["accepted", "failed", "failed"]
        assert len(server.requests) == 1


@pytest.mark.parametrize(("anyio_backend", "transport", "way"), [w for w in WAYS if w.values[1] == "httpx"])
async def test_while_the_answer_is_being_closed(transport, way, monkeypatch):
    """The answer was there: accepted; and a close that hangs holds nobody up for longer than it may."""
    monkeypatch.setattr("qxt_async.transports.httpx._CLOSE_TIME", 0.05)
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

    books = Books()
    with FaultServer() as server:
        async with client_for(server, Slow()) as client:
            await cancel_at(way, lambda: client.send("13800138000", "hello", on_result=books.tell), closing.wait)
            assert client._line.slots.value == CONCURRENCY
    assert books.outcomes == ["accepted"]
