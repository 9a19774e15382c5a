"""`ClaimedSender.send`: one request for a batch that is recorded before it leaves."""

from __future__ import annotations

import itertools
import time
from typing import Any

import anyio
import httpx
import pytest
import trio
import trio.testing
from support.hand_gateway import TEXT, Gateway, Unread, client, numbers

from qxt_async import BatchResult, ClientStateError, NotSentError, RequestTooLargeError
from qxt_async.models import Message
from qxt_async.protocol.requests import Credentials, FormTemplate, send_form
from qxt_async.runtime import clocks
from qxt_async.sending import batch_send
from qxt_async.sending.claimed import ClaimedBatch


def _batch(count: int = 2, *, until: float = 60.0) -> ClaimedBatch:
    return ClaimedBatch(Message(TEXT, extno="7"), numbers(count), until=clocks.boottime() + until)


def _taking(*batches: ClaimedBatch | None) -> tuple[list[str], object]:
    """What happened in order, and a function that records and returns one batch after the other."""
    events: list[str] = []
    waiting = list(batches)

    async def take() -> ClaimedBatch | None:
        await anyio.lowlevel.checkpoint()
        events.append("recorded")
        return waiting.pop(0)

    return events, take


@pytest.mark.anyio
async def test_what_is_recorded_is_sent() -> None:
    """The batch that was recorded goes in one request, and the outcome is told and returned."""
    told: list[BatchResult] = []
    gateway = Gateway()
    _, take = _taking(_batch())
    async with client(gateway) as qxt:
        result = await qxt.claimed_sender().send(take, on_result=told.append)  # type: ignore[arg-type]
    assert told == [result]
    (sent,) = gateway.sends
    assert (sent.tele, sent.fields["msg"], sent.fields["extno"]) == (numbers(2), TEXT, "7")


@pytest.mark.anyio
async def test_the_text_of_many_batches_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A form is prepared for each text that differs from the last one, in its options too."""
    prepared: list[str] = []

    def prepare(account: Credentials, text: str, **options: Any) -> FormTemplate:
        prepared.append(text)
        return send_form(account, text, **options)

    monkeypatch.setattr("qxt_async.sending.claimed.send_form", prepare)
    messages = [Message(TEXT), Message(TEXT), Message("other"), Message("other", extno="7"), Message(TEXT)]
    batches = [ClaimedBatch(each, numbers(1), until=clocks.boottime() + 60) for each in messages]
    _, take = _taking(*batches)
    gateway = Gateway()
    async with client(gateway) as qxt:
        sender = qxt.claimed_sender()
        for _ in batches:
            await sender.send(take, on_result=lambda _: None)  # type: ignore[arg-type]
    sent = [(each.fields["msg"], each.fields.get("extno")) for each in gateway.sends]
    assert sent == [(each.text, each.extno) for each in messages]
    assert prepared == [TEXT, "other", "other", TEXT]


@pytest.mark.anyio
async def test_nothing_to_send() -> None:
    """Where nothing is recorded nothing is sent."""
    gateway = Gateway()
    _, take = _taking(None)
    async with client(gateway) as qxt:
        assert await qxt.claimed_sender().send(take, on_result=lambda _: None) is None  # type: ignore[arg-type]
    assert gateway.received == []


@pytest.mark.anyio
@pytest.mark.parametrize("broken", [httpx.ConnectError("refused"), httpx.Response(429), Unread(httpx.ReadError("x"))])
async def test_it_is_never_repeated(broken: object) -> None:
    """Whatever happens is a result, of one attempt: the record decides what is sent again."""
    gateway = Gateway(broken)
    _, take = _taking(_batch())
    async with client(gateway) as qxt:
        result = await qxt.claimed_sender().send(take, on_result=lambda _: None)  # type: ignore[arg-type]
    assert result is not None
    assert isinstance(result.error, NotSentError)
    assert (result.failed, result.attempts) == (tuple(numbers(2)), 1)
    assert gateway.script == []


@pytest.mark.anyio
async def test_too_late_to_send() -> None:
    """A batch whose time has run out when the body is asked for does not leave."""
    gateway = Gateway()
    _, take = _taking(_batch(until=-1))
    async with client(gateway) as qxt:
        result = await qxt.claimed_sender().send(take, on_result=lambda _: None)  # type: ignore[arg-type]
    assert result is not None
    assert (result.outcome, gateway.received) == ("failed", [])


@pytest.mark.anyio
async def test_a_machine_that_slept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time runs out while the machine sleeps, though `time.monotonic` stands still then."""
    monkeypatch.setattr(clocks, "BOOTTIME", 7, raising=False)
    monkeypatch.setattr(clocks.time, "clock_gettime", lambda _: time.monotonic() + slept)
    gateway, slept = Gateway(), 0.0

    async def take() -> ClaimedBatch:
        nonlocal slept
        batch = _batch()
        slept = 3600.0
        return batch

    async with client(gateway) as qxt:
        result = await qxt.claimed_sender().send(take, on_result=lambda _: None)
    assert result is not None
    assert (result.outcome, gateway.received) == ("failed", [])
    monkeypatch.setattr(clocks, "BOOTTIME", None)
    assert clocks.boottime() < time.monotonic() + slept
    assert isinstance(result.error, NotSentError)


@pytest.mark.anyio
async def test_what_cannot_be_sent() -> None:
    """A closed client records nothing; what does not fit is raised."""
    events, take = _taking(_batch(1000))
    gateway = Gateway()
    async with client(gateway, method="GET") as qxt:
        with pytest.raises(RequestTooLargeError):
            await qxt.claimed_sender().send(take, on_result=lambda _: None)  # type: ignore[arg-type]
    events.clear()
    with pytest.raises(ClientStateError, match="closed"):
        await qxt.claimed_sender().send(take, on_result=lambda _: None)  # type: ignore[arg-type]
    assert (gateway.received, events) == ([], [])


@pytest.mark.anyio
async def test_recording_waits_for_a_place() -> None:
    """Nothing is recorded before there is a connection to send it by."""
    gateway = Gateway()
    gateway.gate = anyio.Event()
    events, take = _taking(*[_batch()] * 3)
    async with client(gateway, max_concurrency=1) as qxt, anyio.create_task_group() as group:

        async def send() -> None:
            await qxt.claimed_sender().send(take, on_result=lambda _: events.append("told"))  # type: ignore[arg-type]

        for _ in range(3):
            group.start_soon(send)
        await anyio.wait_all_tasks_blocked()
        assert events == ["recorded"]
        gateway.gate.set()
    assert events == ["recorded", "told"] * 3


@pytest.mark.anyio
async def test_recording_a_little_ahead() -> None:
    """A quarter more is recorded than there are connections, so that none lies idle for as long as a commit takes."""
    gateway = Gateway()
    gateway.gate = anyio.Event()
    events, take = _taking(*[_batch()] * 20)
    async with client(gateway, max_concurrency=8) as qxt, anyio.create_task_group() as group:

        async def send() -> None:
            await qxt.claimed_sender().send(take, on_result=lambda _: events.append("told"))  # type: ignore[arg-type]

        for _ in range(20):
            group.start_soon(send)
        await anyio.wait_all_tasks_blocked()
        assert events == ["recorded"] * 10
        gateway.gate.set()
    assert events.count("told") == 20


def test_recording_keeps_the_rates() -> None:
    """Each batch takes its turn in the rate limits, by its own size, and what finds nothing uses nothing up."""
    gateway = Gateway()
    _, take = _taking(_batch(100), None, _batch(50), _batch(1), None, _batch(1))

    async def main() -> None:
        async with client(gateway, max_rate=10, max_request_rate=1) as qxt:
            for _ in range(6):
                await qxt.claimed_sender().send(take, on_result=lambda _: None)  # type: ignore[arg-type]

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    times = [arrival - gateway.arrivals[0] for arrival in gateway.arrivals]
    assert times == pytest.approx([0, 10, 15, 16])


@pytest.mark.anyio
async def test_what_waits_long_for_a_place_is_recorded_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits too long for a connection after recording gets the batch back, without an attempt."""
    monkeypatch.setattr(batch_send, "MAX_WAIT", 0.01)
    gateway = Gateway()
    gateway.gate = anyio.Event()
    _, take = _taking(*[_batch()] * 5)
    result: BatchResult | None = None
    async with client(gateway, max_concurrency=4) as qxt, anyio.create_task_group() as group:

        async def send() -> None:
            await qxt.claimed_sender().send(take, on_result=lambda _: None)  # type: ignore[arg-type]

        for _ in range(4):
            group.start_soon(send)
        await anyio.wait_all_tasks_blocked()
        result = await qxt.claimed_sender().send(take, on_result=lambda _: None)  # type: ignore[arg-type]
        gateway.gate.set()
    assert result is not None
    assert (result.failed, result.attempts, len(gateway.sends)) == (tuple(numbers(2)), 0, 4)
    assert isinstance(result.error, NotSentError)


def _in_no_time(gateway: Gateway, sends: int, opens_at: float, **limits: float) -> list[BatchResult]:
    """Record and send so many at once, on a clock that jumps, to a gateway that answers from that moment on."""
    results: list[BatchResult] = []
    _, take = _taking(*[_batch()] * sends)

    async def main() -> None:
        gateway.gate = anyio.Event()
        async with client(gateway, **limits) as qxt, anyio.create_task_group() as group:

            async def send() -> None:
                await qxt.claimed_sender().send(take, on_result=results.append)  # type: ignore[arg-type]

            for _ in range(sends):
                group.start_soon(send)
            await anyio.sleep(opens_at)
            gateway.gate.set()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return results


def test_a_place_is_waited_for_a_second_each_time() -> None:
    """While all connections are in use, what is recorded ahead is given back once a second, not in a busy loop."""
    results = _in_no_time(Gateway(), 12, 3.5, max_concurrency=4)
    assert [result.attempts for result in results].count(0) == 3


def test_turns_do_not_pile_up() -> None:
    """Batches that had their turn and waited for connections that come free together leave at the rate all the same."""
    gateway = Gateway()
    results = _in_no_time(gateway, 60, 8.95, max_concurrency=40, max_request_rate=5)
    assert len(gateway.sends) == sum(result.attempts for result in results)
    gaps = [later - earlier for earlier, later in itertools.pairwise(gateway.arrivals)]
    assert min(gaps) == pytest.approx(0.2)


def test_a_turn_that_would_come_late() -> None:
    """Where the new turn is more than a second after the recording, the batch is given back, and its place is free."""
    gateway = Gateway()
    results = _in_no_time(gateway, 6, 8.5, max_concurrency=4, max_request_rate=0.5)
    assert sorted(result.attempts for result in results) == [0, 1, 1, 1, 1, 1]
    assert [arrival - gateway.arrivals[0] for arrival in gateway.arrivals] == pytest.approx([0, 2, 4, 6, 10])
