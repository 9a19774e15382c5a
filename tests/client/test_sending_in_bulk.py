"""`QxtClient.send_bulk` and `stream_bulk`: any number of numbers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import httpx
import pytest
from support.hand_gateway import TEXT, Gateway, client, fail, flat, numbers, ok

from qxt_async import (
    AccountRefusedError,
    AuthenticationError,
    BatchResult,
    BulkFailedError,
    BulkResult,
    BulkStoppedError,
    InsufficientBalanceError,
    InvalidConfigurationError,
    InvalidRequestError,
    InvalidTextError,
    NoValidNumberError,
    Progress,
    QxtError,
    RequestTooLargeError,
    UnexpectedStatusError,
)
from qxt_async.models import Message

pytestmark = pytest.mark.anyio


class Source:
    """A source of so many numbers that counts how far it was read."""

    def __init__(self, count: int, *, fails_after: int | None = None) -> None:
        self.count = count
        self.fails_after = fails_after
        self.read = 0

    def __iter__(self) -> Iterator[str]:
        for number in numbers(self.count):
            if self.read == self.fails_after:
                raise LookupError("the source broke at 13800138000")
            self.read += 1
            yield number


async def _stream(count: int) -> AsyncIterator[str]:
    for number in numbers(count):
        yield number


# --- what is sent ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [lambda: numbers(2505), lambda: tuple(numbers(2505)), lambda: iter(numbers(2505)), lambda: _stream(2505)],
    ids=["list", "tuple", "generator", "async generator"],
)
async def test_everything_is_sent_once_in_balanced_batches(source: Any) -> None:
    """From any source, all numbers are sent once, in batches of nearly the same size, and reported in order."""
    gateway = Gateway(ok("1"), ok("2"), ok("3"))
    async with client(gateway, max_concurrency=1) as qxt:
        result = await qxt.send_bulk(source(), TEXT)
    assert gateway.taken == numbers(2505)
    assert [len(send.tele) for send in gateway.sends] == [835, 835, 835]
    assert [batch.index for batch in result.batches] == [0, 1, 2]
    assert flat(batch.numbers for batch in result.batches) == list(result.accepted) == numbers(2505)
    assert result.mids == ("1", "2", "3")
    assert (len(result.failed), len(result.unknown), result.unsent) == (0, 0, ())
    assert result.elapsed > 0
    result.raise_for_failures()


async def test_1005_numbers_go_as_503_and_502() -> None:
    """A little more than a batch is halved (PROTOCOL 1.4)."""
    gateway = Gateway()
    async with client(gateway, max_concurrency=1) as qxt:
        await qxt.send_bulk(numbers(1005), TEXT)
    assert [len(send.tele) for send in gateway.sends] == [503, 502]


async def test_many_at_a_time_are_reported_in_order() -> None:
    """With more than eight at a time, results are in the order of the source whatever the order of the answers."""
    gateway = Gateway()
    gateway.gate = anyio.Event()
    async with client(gateway, max_concurrency=20) as qxt, anyio.create_task_group() as group:

        async def send() -> None:
            result = await qxt.send_bulk(numbers(1000), TEXT, batch_size=10)
            assert list(result.accepted) == numbers(1000)
            assert [batch.index for batch in result.batches] == list(range(100))

        group.start_soon(send)
        await anyio.wait_all_tasks_blocked()
        assert gateway.in_flight == 20
        gateway.gate.set()
    assert gateway.most == 20
    assert sorted(gateway.taken) == numbers(1000)


async def test_options_of_a_bulk_send() -> None:
    """Extension number, addseqno, method and sizes go into every request."""
    gateway = Gateway()
    async with client(gateway) as qxt:
        await qxt.send_bulk(
            numbers(25), "5€", extno="7", addseqno=True, substitute=True, method="GET", batch_size=10, min_batch=5
        )
    assert len(gateway.sends) == 3
    for send in gateway.sends:
        assert (send.method, send.fields["extno"], send.fields["addseqno"]) == ("GET", "7", "1")
        assert send.fields["msg"] == "5EUR"
        assert 5 <= len(send.tele) <= 10


async def test_what_is_left_out_is_reported() -> None:
    """Invalid, repeated and suppressed numbers are left out of the batches, and shown in the result."""
    a, b, c = numbers(3)
    gateway = Gateway()
    async with client(gateway) as qxt:
        result = await qxt.send_bulk([a, "nobody", b, a, c], TEXT, suppressed={c})
    assert gateway.taken == [a, b]
    assert (result.duplicates, result.suppressed) == (1, 1)
    ((invalid),) = result.invalid
    assert (invalid.position, invalid.raw) == (1, "nobody")


async def test_repeated_numbers_if_asked_for() -> None:
    """With `deduplicate=False` nothing is remembered and repeated numbers pass."""
    gateway = Gateway()
    async with client(gateway) as qxt:
        result = await qxt.send_bulk([*numbers(2), *numbers(2)], TEXT, deduplicate=False)
    assert gateway.taken == list(result.accepted) == [*numbers(2), *numbers(2)]
    assert result.duplicates == 0


async def test_a_stream_only_counts_the_invalid() -> None:
    """`stream_bulk` keeps nothing that grows with the campaign, unless it is asked to."""
    async with client(Gateway()) as qxt:
        for keep in (False, True):
            async with qxt.stream_bulk(["nobody", *numbers(2)], TEXT, keep_invalid=keep) as batches:
                assert [batch.accepted async for batch in batches] == [tuple(numbers(2))]
            assert batches.number_filter.invalid_count == 1
            assert len(batches.number_filter.invalid) == int(keep)
            assert (batches.unsent, batches.unconsumed) == ((), ())


# --- refused before anything is sent ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "text", "options", "error"),
    [
        ("13800138000", TEXT, {}, InvalidRequestError),
        (13800138000, TEXT, {}, InvalidRequestError),
        (["13800138000"], "", {}, InvalidTextError),
        (["13800138000"], "€", {}, InvalidTextError),
        (["13800138000"], TEXT, {"extno": "x"}, InvalidRequestError),
        (["13800138000"], Message(TEXT), {}, InvalidTextError),
        (b"13800138000", TEXT, {}, InvalidRequestError),
        (None, TEXT, {}, InvalidRequestError),
        (["13800138000"], TEXT, {"batch_size": 1001}, InvalidConfigurationError),
        (["13800138000"], TEXT, {"batch_size": 0}, InvalidConfigurationError),
        (["13800138000"], TEXT, {"min_batch": 0}, InvalidConfigurationError),
        (["13800138000"], TEXT, {"max_concurrency": 0}, InvalidConfigurationError),
        (["13800138000"], TEXT, {"method": "PUT"}, InvalidConfigurationError),
        (["13800138000"], TEXT, {"timeout": -1}, InvalidConfigurationError),
        (["13800138000"], TEXT, {"method": "GET"}, RequestTooLargeError),
        ([], TEXT, {}, NoValidNumberError),
        (["nobody"], TEXT, {}, NoValidNumberError),
    ],
)
@pytest.mark.parametrize("check_balance", [False, True])
async def test_what_cannot_be_sent(
    given: Any, text: Any, options: dict[str, Any], error: type[QxtError], check_balance: bool
) -> None:
    """What cannot be sent is refused before any I/O, even before the balance is asked for."""
    gateway = Gateway()
    async with client(gateway) as qxt:
        with pytest.raises(error):
            await qxt.send_bulk(given, text, check_balance=check_balance, **options)
    assert gateway.received == []


async def test_a_stream_of_nothing_ends() -> None:
    """`stream_bulk` has no opinion on an empty source."""
    async with client(Gateway()) as qxt, qxt.stream_bulk([], TEXT) as batches:
        assert [batch async for batch in batches] == []


async def test_bulk_by_get_with_batches_that_fit() -> None:
    """A GET refuses batches that could not fit its URL at once, and with the size it advises they all do."""
    gateway = Gateway()
    async with client(gateway, method="GET") as qxt:
        with pytest.raises(RequestTooLargeError) as caught:
            await qxt.send_bulk(numbers(5000), TEXT)
        assert gateway.received == []
        result = await qxt.send_bulk(numbers(5000), TEXT, batch_size=caught.value.fits)
    assert len(result.accepted) == 5000
    assert max(len(send.url) for send in gateway.sends) <= 8000


async def test_bulk_by_get_of_longer_numbers() -> None:
    """Where only the batches can tell, the first that does not fit stops the send, and was not sent."""
    gateway = Gateway()
    longer = [f"8613800138000{n:017d}" for n in range(800)]
    async with client(gateway, method="GET", number_pattern=r"\d{30}", max_concurrency=1) as qxt:
        with pytest.raises(RequestTooLargeError) as caught:
            await qxt.send_bulk(longer, TEXT)
    assert gateway.received == []
    result = caught.value.result
    assert isinstance(result, BulkResult)
    ((batch),) = result.batches
    assert (batch.failed, batch.attempts) == (tuple(longer), 0)


async def test_the_balance_is_asked_first() -> None:
    """With `check_balance`, what will be sent is counted in segments, without what is left out, and asked for first."""
    gateway = Gateway(balance=["ok:sms:40:mms:0", "ok:sms:39:mms:0"])
    dirty = [*numbers(21), numbers(1)[0], "nobody"]
    async with client(gateway) as qxt:
        with pytest.raises(InvalidRequestError, match="pass a list or a set"):
            await qxt.send_bulk(iter(dirty), TEXT, check_balance=True)
        assert gateway.received == []
        result = await qxt.send_bulk(dirty, "字" * 71, check_balance=True, suppressed={numbers(21)[20]})
        with pytest.raises(InsufficientBalanceError) as caught:
            await qxt.send_bulk(dirty, "字" * 71, check_balance=True, suppressed={numbers(21)[20]})
    assert [received.path[5:] for received in gateway.received] == ["surplus", "smssenderv2", "surplus"]
    assert len(result.accepted) == 20
    assert (caught.value.needed, caught.value.available) == (40, 39)


# --- what stops it, and what does not --------------------------------------------------------------------


async def test_single_batches_may_fail() -> None:
    """Whatever single batches meet is in the result, and the others go on."""
    gateway = Gateway(ok("1"), fail(), httpx.ReadError("reset"), "<html>", httpx.Response(404), "error:smg", ok("2"))
    async with client(gateway, max_concurrency=1) as qxt:
        result = await qxt.send_bulk(numbers(70), TEXT, batch_size=10)
    outcomes = [batch.outcome for batch in result.batches]
    assert outcomes == ["accepted", "failed", "unknown", "unknown", "failed", "failed", "accepted"]
    assert (len(result.accepted), len(result.failed), len(result.unknown)) == (20, 30, 20)
    with pytest.raises(BulkFailedError) as caught:
        result.raise_for_failures()
    assert caught.value.result is result


@pytest.mark.parametrize(
    ("refusal", "error", "outcome"),
    [
        ("error:无此用户或者密码不对", AuthenticationError, "failed"),
        ("error:扩展号码错误", AccountRefusedError, "failed"),
        (httpx.Response(403), UnexpectedStatusError, "unknown"),
    ],
    ids=["password", "extension number", "403"],
)
async def test_what_every_batch_would_meet_stops_it(refusal: Any, error: type[QxtError], outcome: str) -> None:
    """A wrong password or extension number or a 403 stops the send; the error has what was settled and was read."""
    gateway = Gateway(ok(), refusal)
    source = Source(100_000)
    async with client(gateway, max_concurrency=1) as qxt:
        with pytest.raises(error) as caught:
            await qxt.send_bulk(iter(source), TEXT)
    result = caught.value.result
    assert isinstance(result, BulkResult)
    assert len(gateway.sends) == 2
    assert [batch.outcome for batch in result.batches] == ["accepted", outcome]
    assert [*result.accepted, *result.failed, *result.unknown, *result.unsent] == numbers(source.read)
    assert source.read <= 6000


async def test_stopping_waits_for_what_is_under_way() -> None:
    """Batches under way when the send stops are waited for, and their results are in the error's."""
    gateway = Gateway(ok("1"), "error:无此用户或者密码不对")
    gateway.gate = anyio.Event()
    caught: list[QxtError] = []

    async with client(gateway, max_concurrency=4) as qxt, anyio.create_task_group() as group:

        async def send() -> None:
            try:
                await qxt.send_bulk(iter(Source(100_000)), TEXT)
            except AuthenticationError as error:
                caught.append(error)

        group.start_soon(send)
        await anyio.wait_all_tasks_blocked()
        gateway.gate.set()

    (error,) = caught
    assert isinstance(error.result, BulkResult)
    assert len(gateway.sends) == 4
    assert sorted(batch.outcome for batch in error.result.batches) == ["accepted", "accepted", "accepted", "failed"]
    settled = flat(batch.numbers for batch in error.result.batches)
    assert [*settled, *error.result.unsent] == numbers(len(settled) + len(error.result.unsent))


async def test_a_source_that_cannot_be_cancelled() -> None:
    """What a source still gives after the send has stopped is not sent, and is not lost."""
    refused = anyio.Event()

    async def stubborn() -> AsyncIterator[str]:
        for number in numbers(3000):
            yield number
        with anyio.CancelScope(shield=True):
            await refused.wait()
        for number in numbers(2000, 3000):
            yield number

    gateway = Gateway("error:无此用户或者密码不对")
    gateway.gate = anyio.Event()
    async with client(gateway, max_concurrency=2) as qxt, anyio.create_task_group() as group:

        async def send() -> None:
            with pytest.raises(AuthenticationError) as caught:
                await qxt.send_bulk(stubborn(), TEXT, on_result=lambda _: refused.set())
            assert isinstance(caught.value.result, BulkResult)
            assert list(caught.value.result.failed) == numbers(1000)
            assert list(caught.value.result.unsent) == numbers(len(caught.value.result.unsent), 1000)
            assert len(caught.value.result.unsent) >= 2000

        group.start_soon(send)
        await anyio.wait_all_tasks_blocked()
        gateway.gate.set()
    assert len(gateway.sends) == 1


@pytest.mark.shows_secrets("what the source raised, which is the caller's")
@pytest.mark.parametrize("after", [0, 500, 2500, 4000])
async def test_a_source_that_raises(after: int) -> None:
    """What the source raised is the cause; what was sent before is in the result, what was read and not sent too."""
    source = Source(100_000, fails_after=after)
    gateway = Gateway()
    async with client(gateway) as qxt:
        with pytest.raises(BulkStoppedError, match="the source raised LookupError") as caught:
            await qxt.send_bulk(iter(source), TEXT)
    assert isinstance(caught.value.__cause__, LookupError)
    assert "13800138000" not in str(caught.value)
    assert isinstance(caught.value.result, BulkResult)
    assert [*caught.value.result.accepted, *caught.value.result.unsent] == numbers(after)


async def test_callbacks_are_told_in_order() -> None:
    """For each batch `on_result` is told, then `on_progress`, whose counts add up."""
    told: list[BatchResult | Progress] = []
    gateway = Gateway(ok(), fail(), httpx.ReadError("reset"))
    async with client(gateway, max_concurrency=1) as qxt:
        result = await qxt.send_bulk(
            [*numbers(30), "nobody", numbers(1)[0]], TEXT, batch_size=10, on_result=told.append, on_progress=told.append
        )
    assert told[::2] == list(result.batches)
    progress = [step for step in told if isinstance(step, Progress)]
    assert progress == told[1::2]
    assert [step.batch for step in progress] == list(result.batches)
    assert [(step.batches, step.accepted, step.failed, step.unknown) for step in progress] == [
        (1, 10, 0, 0),
        (2, 10, 10, 0),
        (3, 10, 10, 10),
    ]
    assert (progress[-1].invalid, progress[-1].duplicates, progress[-1].suppressed) == (1, 1, 0)
    assert all(step.elapsed >= 0 for step in progress)


@pytest.mark.parametrize("callback", ["on_result", "on_progress"])
async def test_a_callbacks_mistake(callback: str) -> None:
    """A callback that raises stops the send without cutting off what is under way, and nothing known is lost."""
    gateway = Gateway()
    gateway.gate = anyio.Event()
    told: list[Any] = []

    def broken(news: Any) -> None:
        told.append(news)
        raise LookupError("mine")

    async with client(gateway, max_concurrency=3) as qxt, anyio.create_task_group() as group:

        async def send() -> None:
            with pytest.raises(BulkStoppedError, match="the callback raised LookupError") as caught:
                await qxt.send_bulk(numbers(1000), TEXT, batch_size=10, **{callback: broken})  # type: ignore[arg-type]
            assert isinstance(caught.value.__cause__, LookupError)
            assert caught.value.result is not None
            assert len(caught.value.result.accepted) == 30

        group.start_soon(send)
        await anyio.wait_all_tasks_blocked()
        gateway.gate.set()
    assert len(gateway.sends) == len(told) == 3


# --- as a stream -----------------------------------------------------------------------------------------


async def test_a_stream_is_entered_and_once() -> None:
    """Iterating without ``async with`` would send nothing and say nothing; a second block has nothing to send."""
    async with client(Gateway()) as qxt:
        stream = qxt.stream_bulk(numbers(10), TEXT)
        with pytest.raises(RuntimeError, match="async with"):
            await anext(stream)
        async with stream:
            pass
        with pytest.raises(RuntimeError, match="entered before"):
            await stream.__aenter__()


async def test_an_error_of_the_block_goes_before_the_streams() -> None:
    """What the block raises is not replaced by what stopped the stream, which the results tell."""
    async with client(Gateway("error:无此用户或者密码不对")) as qxt:
        stream = qxt.stream_bulk(numbers(10), TEXT)

        async def fail_in_block() -> None:
            async with stream:
                await anyio.wait_all_tasks_blocked()
                raise LookupError("mine")

        with pytest.raises(LookupError, match="mine"):
            await fail_in_block()
        assert [type(batch.error) for batch in stream.unconsumed] == [AuthenticationError]


async def test_two_consumers_of_one_stream_both_end() -> None:
    """Tasks may share a stream: each batch comes to one of them, and none waits for ever."""
    gateway = Gateway()
    gateway.gate = anyio.Event()
    taken: list[BatchResult] = []
    async with client(gateway, max_concurrency=2) as qxt, qxt.stream_bulk(numbers(40), TEXT, batch_size=10) as stream:

        async def consume() -> None:
            async for batch in stream:
                taken.append(batch)

        async with anyio.create_task_group() as group:
            group.start_soon(consume)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(consume)
            await anyio.wait_all_tasks_blocked()
            gateway.gate.set()
    assert sorted(batch.index for batch in taken) == [0, 1, 2, 3]


async def test_a_slow_consumer_slows_the_send() -> None:
    """No more batches are sent than there is room for results; each one taken makes room for one more."""
    gateway = Gateway()
    source = Source(100_000)
    async with client(gateway, max_concurrency=2) as qxt:
        async with qxt.stream_bulk(iter(source), TEXT) as batches:
            for taken in range(5):
                await anyio.wait_all_tasks_blocked()
                assert len(gateway.sends) == 4 + taken
                assert source.read <= 1000 * len(gateway.sends) + 3000
                await anext(batches)
        assert len(batches.unconsumed) <= 4
        left = [*flat(batch.numbers for batch in batches.unconsumed), *batches.unsent]
    assert left == numbers(source.read)[5000:]


async def test_leaving_a_stream_early_waits_for_what_is_under_way() -> None:
    """Leaving the block begins nothing new, and keeps the results that nobody took."""
    gateway = Gateway()
    async with client(gateway, max_concurrency=2) as qxt, anyio.create_task_group() as group:
        async with qxt.stream_bulk(numbers(100), TEXT, batch_size=10) as batches:
            first = await anext(batches)
            gateway.gate = anyio.Event()
            await anyio.wait_all_tasks_blocked()
            group.start_soon(_open, gateway)
        settled = [*first.numbers, *flat(sorted(batch.numbers for batch in batches.unconsumed))]
        assert [*settled, *batches.unsent] == numbers(100)
        assert all(batch.outcome == "accepted" for batch in batches.unconsumed)
        assert len(batches.unsent) >= 50


async def _open(gateway: Gateway) -> None:
    gateway.gate.set()


async def test_an_error_in_the_block_comes_out() -> None:
    """What the consumer raises is raised, after the batches under way."""
    gateway = Gateway()
    async with client(gateway, max_concurrency=2) as qxt:
        batches = qxt.stream_bulk(numbers(100), TEXT, batch_size=10)

        async def consume() -> None:
            async with batches:
                await anext(batches)
                raise LookupError

        with pytest.raises(LookupError):
            await consume()
        assert len(batches.unconsumed) + 1 == len(gateway.sends)


async def test_leaving_a_stopped_stream_raises_what_stopped_it() -> None:
    """A stream that was stopped and not iterated to its end says so when its block is left."""
    gateway = Gateway("error:扩展号码错误")
    async with client(gateway) as qxt:
        with pytest.raises(AccountRefusedError):
            async with qxt.stream_bulk(numbers(100), TEXT) as batches:
                await anyio.wait_all_tasks_blocked()
        assert len(batches.unconsumed) == 1


async def test_cancelling_a_stream_tells_what_became_of_each_batch() -> None:
    """A cancelled send tells `on_result` what was under way, keeps what was read, and leaves the client usable."""
    gateway = Gateway()
    gateway.gate = anyio.Event()
    told: list[BatchResult] = []
    async with client(gateway, max_concurrency=2) as qxt:
        async with anyio.create_task_group() as group:
            stream = qxt.stream_bulk(numbers(100), TEXT, batch_size=10, on_result=told.append)

            async def send() -> None:
                async with stream:
                    await anext(stream)

            group.start_soon(send)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        assert [batch.outcome for batch in told] == ["unknown", "unknown"]
        assert [*flat(sorted(batch.numbers for batch in told)), *stream.unsent] == numbers(100)
        gateway.gate.set()
        assert (await qxt.send(numbers(1), TEXT)).mid == "7"


async def test_a_base_exception_in_the_block_gives_up_at_once() -> None:
    """An interrupt in the block does not wait for answers."""

    class Interrupt(BaseException):
        pass

    gateway = Gateway()
    gateway.gate = anyio.Event()
    told: list[BatchResult] = []
    async with client(gateway, max_concurrency=2) as qxt:

        async def consume() -> None:
            async with qxt.stream_bulk(numbers(100), TEXT, batch_size=10, on_result=told.append):
                await anyio.wait_all_tasks_blocked()
                raise Interrupt

        with pytest.raises(Interrupt):
            await consume()
    assert [batch.outcome for batch in told] == ["unknown", "unknown"]
