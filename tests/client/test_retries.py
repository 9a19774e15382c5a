"""The contract of a send, row by row: what is tried again, what never is, and how attempts add up."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any, ClassVar

import anyio
import httpx
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from support.hand_gateway import TEXT, Gateway, Received, Unread, client, fail, numbers, ok

from qxt_async import (
    BatchResult,
    ConnectionBrokenError,
    NotSentError,
    OutcomeUnknownError,
    QxtError,
    RetryPolicy,
    SubmitFailedError,
    ThrottledError,
    UnexpectedStatusError,
    UnusableAnswerError,
)
from qxt_async.models import Message
from qxt_async.protocol.answers import Answer
from qxt_async.runtime import clocks
from qxt_async.sending import dispatcher
from qxt_async.sending.claimed import ClaimedBatch

A, B, C = numbers(3)

NOT_SENT = {
    "refused": httpx.ConnectError("refused"),
    "connect timeout": httpx.ConnectTimeout("slow"),
    "full pool": httpx.PoolTimeout("full"),
    "no such proxy": httpx.ProxyError("gone"),
    "closed before the body": Unread(httpx.ReadError("closed")),
    "reset before the body": Unread(httpx.RemoteProtocolError("reset")),
    "429": httpx.Response(429),
    "429 with Retry-After": httpx.Response(429, headers={"retry-after": "0"}),
    "429 with a date": httpx.Response(429, headers={"retry-after": "Mon, 01 Jan 2024 00:00:00 GMT"}),
    "429 with a date of no time zone": httpx.Response(429, headers={"retry-after": "Fri, 31 Dec 9999 23:59:59 -2359"}),
    "429 with nonsense": httpx.Response(429, headers={"retry-after": "soon"}),
    "429 with nonsense digits": httpx.Response(429, headers={"retry-after": "²".encode()}),
}

UNKNOWN = {
    "read error": httpx.ReadError("reset"),
    "write error": httpx.WriteError("reset"),
    "protocol error": httpx.RemoteProtocolError("closed"),
    "read timeout": httpx.ReadTimeout("slow"),
    "anything else": OSError("odd"),
    **{
        str(status): httpx.Response(status)
        for status in (100, 300, 301, 302, 303, 307, 308, 403, 418, 500, 502, 503, 504)
    },
    "503 with Retry-After": httpx.Response(503, headers={"retry-after": "0"}),
    "an answer nobody understands": "<html>",
    "an empty answer": "",
    "an answer for other numbers": "ok:7:13999999999",
    "an answer that leaves numbers out": "ok:7:",
}

FAILED = {
    "fail:999": fail(),
    "wrong password": "error:无此用户或者密码不对",
    "extension number": "error:扩展号码错误",
    "too few": "error:moblie 提交数小于10，请重新提交!",
    "unlisted": "error:通道关闭",
    **{str(status): httpx.Response(status) for status in (400, 401, 404, 405, 411, 413, 414)},
}


@pytest.mark.anyio
@pytest.mark.parametrize("what", NOT_SENT)
async def test_what_was_not_sent_is_tried_again(what: str) -> None:
    """What provably never left, or was not taken, is sent again by itself, and arrives once."""
    gateway = Gateway(NOT_SENT[what], NOT_SENT[what])
    async with client(gateway) as qxt:
        sent = await qxt.send([A, B], TEXT)
    assert (sent.accepted, sent.attempts, sent.error) == ((A, B), 3, None)
    assert gateway.script == []


@pytest.mark.anyio
@pytest.mark.parametrize("what", NOT_SENT)
async def test_what_is_never_sent_fails_in_the_end(what: str) -> None:
    """When the attempts are used up, the numbers have failed as not sent."""
    gateway = Gateway(*[NOT_SENT[what]] * 9)
    async with client(gateway, retry=RetryPolicy(4, backoff=0)) as qxt:
        with pytest.raises(NotSentError) as caught:
            await qxt.send([A, B], TEXT)
    result = caught.value.result
    assert isinstance(result, BatchResult)
    assert (result.failed, result.unknown, result.attempts) == ((A, B), (), 4)
    assert len(gateway.script) == 5


@pytest.mark.anyio
@pytest.mark.parametrize("what", UNKNOWN)
async def test_what_may_have_arrived_is_never_sent_again(what: str) -> None:
    """After the body was pulled, whatever happens but a clear answer is unknown, and one request is all there is."""
    gateway = Gateway(UNKNOWN[what])
    async with client(gateway) as qxt:
        with pytest.raises(OutcomeUnknownError) as caught:
            await qxt.send([A, B], TEXT, retry=RetryPolicy(backoff=0, retry_failed=True))
    result = caught.value.result
    assert isinstance(result, BatchResult)
    assert (result.failed, result.unknown, result.attempts) == ((), (A, B), 1)
    assert len(gateway.sends) == 1


@pytest.mark.anyio
async def test_the_body_of_a_status_300_is_not_believed() -> None:
    """Under any status from 200 to 299 the body is the answer; under 300 it is not, whatever it says."""
    gateway = Gateway(*[httpx.Response(status, text=f"ok:7:{A},{B}") for status in (200, 299, 300)])
    async with client(gateway) as qxt:
        assert [(await qxt.send([A, B], TEXT)).mid for _ in range(2)] == ["7", "7"]
        with pytest.raises(UnexpectedStatusError, match="a redirect") as caught:
            await qxt.send([A, B], TEXT)
    assert isinstance(caught.value.result, BatchResult)
    assert caught.value.result.unknown == (A, B)


@pytest.mark.anyio
async def test_429_is_unknown_on_demand() -> None:
    """With `treat_429_as_unknown` the numbers of a 429 are unknown in each kind of send, and none is sent again."""
    gateway = Gateway(*[httpx.Response(429, headers={"retry-after": "0"}) for _ in range(3)])
    async with client(gateway, treat_429_as_unknown=True) as qxt:
        with pytest.raises(UnexpectedStatusError) as caught:
            await qxt.send([A, B], TEXT)
        bulk = await qxt.send_bulk([C], TEXT)

        async def take() -> ClaimedBatch:
            return ClaimedBatch(Message(TEXT), numbers(1, 5), until=clocks.boottime() + 60)

        recorded = await qxt.claimed_sender().send(take, on_result=lambda _: None)
    assert isinstance(caught.value.result, BatchResult)
    assert (caught.value.status, caught.value.result.unknown) == (429, (A, B))
    assert recorded is not None
    assert ((*bulk.unknown,), recorded.unknown) == ((C,), (*numbers(1, 5),))
    assert len(gateway.sends) == 3


@pytest.mark.anyio
@pytest.mark.parametrize("what", UNKNOWN)
async def test_the_option_that_may_send_twice(what: str) -> None:
    """Only the option that says so sends again what may have arrived."""
    gateway = Gateway(UNKNOWN[what])
    async with client(gateway, retry=RetryPolicy(backoff=0, retry_unknown_may_send_twice=True)) as qxt:
        sent = await qxt.send([A, B], TEXT)
    assert (sent.accepted, sent.attempts) == ((A, B), 2)
    assert gateway.taken == [A, B, A, B]


@pytest.mark.anyio
@pytest.mark.parametrize("what", FAILED)
async def test_what_was_refused_is_not_sent_again(what: str) -> None:
    """A clear no is taken for one, by default and with the option for what is unknown."""
    for retry in (RetryPolicy(backoff=0), RetryPolicy(backoff=0, retry_unknown_may_send_twice=True)):
        gateway = Gateway(FAILED[what])
        async with client(gateway, retry=retry) as qxt:
            with pytest.raises(QxtError) as caught:
                await qxt.send([A, B], TEXT)
        result = caught.value.result
        assert isinstance(result, BatchResult)
        assert (result.failed, result.unknown, result.attempts) == ((A, B), (), 1)
        assert len(gateway.sends) == 1


@pytest.mark.anyio
async def test_failed_numbers_are_tried_again_on_demand_and_only_they() -> None:
    """With `retry_failed` the numbers of ``fail:`` lines are sent again, a refusal as a whole is not."""
    retry = RetryPolicy(backoff=0, retry_failed=True)
    gateway = Gateway(fail(B, C), fail(C), ok("9"))
    async with client(gateway, retry=retry) as qxt:
        sent = await qxt.send([A, B, C], TEXT)
        gateway.script = ["error:smg"]
        with pytest.raises(QxtError):
            await qxt.send([A], TEXT)
    assert [received.tele for received in gateway.sends] == [[A, B, C], [B, C], [C], [A]]
    assert (sent.accepted, sent.mids, sent.failed, sent.error, sent.attempts) == (
        (A, B, C),
        ("8", "8", "9"),
        (),
        None,
        3,
    )


@pytest.mark.anyio
async def test_a_policy_may_change_its_mind_while_it_waits() -> None:
    """A policy is asked again after the wait: a program that is being stopped begins no further attempt."""

    class Once(RetryPolicy):
        """Allows another attempt once, and not any more after the wait."""

        asked: ClassVar[list[Answer]] = []

        def retryable_numbers(self, answer: Answer) -> frozenset[str]:
            self.asked.append(answer)
            return super().retryable_numbers(answer) if len(self.asked) == 1 else frozenset()

    gateway = Gateway(httpx.ConnectError("refused"))
    async with client(gateway, retry=Once(backoff=0)) as qxt:
        with pytest.raises(NotSentError) as caught:
            await qxt.send(A, TEXT)
    assert isinstance(caught.value.result, BatchResult)
    assert caught.value.result.attempts == 1
    assert len(Once.asked) == 2


@pytest.mark.anyio
async def test_what_keeps_failing_has_failed() -> None:
    """When the attempts are used up, what failed last has failed, and what was accepted stays."""
    gateway = Gateway(fail(B), fail(B), fail(B))
    async with client(gateway, retry=RetryPolicy(3, backoff=0, retry_failed=True)) as qxt:
        sent = await qxt.send([A, B], TEXT)
    assert (sent.accepted, sent.failed, sent.attempts) == ((A,), (B,), 3)
    assert isinstance(sent.error, SubmitFailedError)


@pytest.mark.anyio
async def test_a_failed_number_whose_second_attempt_is_unknown() -> None:
    """A number that failed and then may have arrived is unknown; the others keep what they had."""
    gateway = Gateway(fail(B), httpx.ReadError("reset"))
    async with client(gateway, retry=RetryPolicy(backoff=0, retry_failed=True)) as qxt:
        sent = await qxt.send([A, B], TEXT)
    assert (sent.accepted, sent.failed, sent.unknown) == ((A,), (), (B,))
    assert isinstance(sent.error, ConnectionBrokenError)


@pytest.mark.anyio
@pytest.mark.parametrize("second", [httpx.ConnectError("refused"), fail(), "error:smg", httpx.Response(404)])
async def test_a_doubt_stays_a_doubt(second: Any) -> None:
    """What may have arrived by one attempt does not become failed because the next one is, and the error says so."""
    gateway = Gateway(httpx.ReadError("reset"), second)
    async with client(gateway, retry=RetryPolicy(2, backoff=0, retry_unknown_may_send_twice=True)) as qxt:
        with pytest.raises(ConnectionBrokenError) as caught:
            await qxt.send([A, B], TEXT)
    result = caught.value.result
    assert isinstance(result, BatchResult)
    assert (sorted(result.unknown), result.failed, result.attempts) == ([A, B], (), 2)


@pytest.mark.anyio
async def test_a_doubt_that_is_settled_leaves_what_failed() -> None:
    """When what was unknown has been taken after all, the error is that of the numbers that the gateway refused."""
    again, other = numbers(2, 3)
    gateway = Gateway(f"fail:999:{A}\nok:1:{B}\nfail:7:{other}\nfail:999:{again}", ok())
    async with client(gateway, retry=RetryPolicy(2, backoff=0, retry_unknown_may_send_twice=True)) as qxt:
        result = await qxt.send([A, B, C, again, other], TEXT)
    assert (result.accepted, result.failed, result.unknown) == ((B, C), (A, again, other), ())
    assert isinstance(result.error, SubmitFailedError)
    assert (result.error.codes, result.error.count) == (("999", "7"), 3)


@pytest.mark.anyio
async def test_a_get_that_is_too_late_is_not_sent() -> None:
    """A GET has no body to witness, but it has to get its address, and when it is too late it gets none."""
    gateway = Gateway()

    async def take() -> ClaimedBatch:
        return ClaimedBatch(Message(TEXT), [A], until=clocks.boottime())

    async with client(gateway, method="GET") as qxt:
        result = await qxt.claimed_sender().send(take, on_result=lambda _: None)
    assert result is not None
    assert isinstance(result.error, NotSentError)
    assert (result.failed, gateway.received) == ((A,), [])


@pytest.mark.anyio
async def test_elapsed_is_from_the_first_attempt_to_the_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for a place does not count, and what comes between two attempts does; a bulk send's has everything."""
    now = 100.0

    def clock() -> float:
        return now

    def takes(seconds: float, answer: Any) -> Any:
        def answered(received: Received) -> Any:
            nonlocal now
            now += seconds
            return answer(received) if callable(answer) else answer

        return answered

    monkeypatch.setattr("qxt_async.sending.batch_send.time", SimpleNamespace(perf_counter=clock))
    monkeypatch.setattr("qxt_async.client.time", SimpleNamespace(perf_counter=clock))
    gateway = Gateway(takes(1, httpx.Response(429)), takes(2, ok()), takes(4, ok()))
    told: dict[str, float] = {}

    async with client(gateway, max_concurrency=1) as qxt:

        async def send(number: str) -> None:
            told[number] = (await qxt.send(number, TEXT)).elapsed

        async with anyio.create_task_group() as group:
            gateway.gate = anyio.Event()
            group.start_soon(send, A)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(send, B)  # waits for its place while A's first attempt is under way
            await anyio.wait_all_tasks_blocked()
            gateway.gate.set()
        gateway.script = [takes(16, ok()), takes(32, ok())]
        bulk = await qxt.send_bulk([C, *numbers(19, 3)], TEXT, batch_size=10)
    assert told == {A: 1 + 2 + 4, B: 2}  # B was sent between A's two attempts
    assert ([batch.elapsed for batch in bulk.batches], bulk.elapsed) == ([16, 32], 48)


@pytest.mark.anyio
async def test_a_get_has_no_witness() -> None:
    """By GET only what failed before a connection stood counts as not sent; the rest is unknown."""
    gateway = Gateway(httpx.ConnectError("refused"), Unread(httpx.ReadError("closed")))
    async with client(gateway, method="GET") as qxt:
        with pytest.raises(ConnectionBrokenError) as caught:
            await qxt.send([A], TEXT)
    assert isinstance(caught.value.result, BatchResult)
    assert (caught.value.result.unknown, caught.value.result.attempts) == ((A,), 2)
    assert "closed" not in str(caught.value)  # the library's words might hold the address, and with it the digest


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("method", "age", "believed"),
    [("GET", "1", False), ("GET", "0", True), ("GET", "", True), ("POST", "1", True)],
)
async def test_an_answer_to_a_get_that_has_an_age(method: Any, age: str, believed: bool) -> None:
    """What a cache has kept for a while is no answer to this GET, whatever it says; the balance can be asked again."""
    headers = {"age": age}
    answers = [httpx.Response(200, text=f"ok:7:{A}", headers=headers), httpx.Response(404, headers=headers)]
    gateway = Gateway(*answers, balance=httpx.Response(200, text="ok:sms:5:mms:0", headers=headers))
    told: list[BatchResult] = []
    async with client(gateway, method=method) as qxt:
        for _ in answers:
            with contextlib.suppress(QxtError):
                await qxt.send([A], TEXT, on_result=told.append)
        if believed:
            assert (await qxt.balance()).sms == 5
        else:
            with pytest.raises(UnusableAnswerError, match="cache"):
                await qxt.balance()
    assert [result.outcome for result in told] == (["accepted", "failed"] if believed else ["unknown", "unknown"])
    assert believed or "cache" in str(told[0].error)


@pytest.mark.anyio
async def test_a_get_is_not_given_the_same_mid_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mid that the same address was given before is a cache's; of the mids, so many are remembered, the last ones."""
    monkeypatch.setattr(dispatcher, "GIVEN_MIDS", 2)
    gateway = Gateway(*[ok("7")] * 8)
    outcomes: list[str] = []
    async with client(gateway, method="GET") as qxt:
        for number in (A, B, A, C, A, B):  # A is remembered anew each time, so that C drives out B
            with contextlib.suppress(UnusableAnswerError):
                await qxt.send([number], TEXT, on_result=lambda result: outcomes.append(result.outcome))
        gateway.script = [f"ok:8:{A}\nok:9:{B}", f"ok:9:{A}\nok:8:{B}", f"ok:8:{A}\nok:10:{B}"]
        for _ in range(3):
            with contextlib.suppress(UnusableAnswerError):
                await qxt.send([A, B], TEXT, on_result=lambda result: outcomes.append(result.outcome))
        gateway.script = [ok("7"), ok("7")]
        for _ in range(2):
            await qxt.send([A], TEXT, method="POST", on_result=lambda result: outcomes.append(result.outcome))
    assert outcomes[:6] == ["accepted", "accepted", "unknown", "accepted", "unknown", "accepted"]
    assert outcomes[6:] == ["accepted", "unknown", "unknown", "accepted", "accepted"]


@pytest.mark.anyio
async def test_a_bulk_send_tries_each_batch_by_itself() -> None:
    """In a bulk send one batch waits for its next attempt while the others go on."""
    gateway = Gateway(httpx.ConnectError("refused"), ok(), httpx.Response(429), httpx.ReadError("reset"))
    async with client(gateway, max_concurrency=2) as qxt:
        result = await qxt.send_bulk(numbers(50), TEXT, batch_size=10)
    assert sum(batch.attempts for batch in result.batches) == 7
    assert (len(result.accepted), len(result.unknown)) == (40, 10)


@pytest.mark.anyio
async def test_a_deadline_before_the_body_is_not_sent() -> None:
    """A deadline that runs out before the body was pulled leaves nothing sent."""

    class Stuck(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            """Wait for ever."""
            await anyio.sleep_forever()
            raise AssertionError

    async with client(Stuck(), timeout=0.01, retry=RetryPolicy(2, backoff=0)) as qxt:
        with pytest.raises(NotSentError, match=r"TimeoutError: no answer in 0\.01 s") as caught:
            await qxt.send([A], TEXT)
    assert isinstance(caught.value.result, BatchResult)
    assert caught.value.result.attempts == 2


# --- waiting, on a clock that jumps ----------------------------------------------------------------------


def _arrivals(gateway: Gateway, retry: RetryPolicy) -> list[float]:
    """Seconds from the first attempt to each further one, up to the one that is taken."""
    times: list[float] = []

    class Clocked(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            """Note the time."""
            times.append(anyio.current_time())
            return await gateway.handle_async_request(request)

    async def main() -> None:
        async with client(Clocked(), retry=retry) as qxt:
            await qxt.send([A], TEXT)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return [time - times[0] for time in times[1:]]


def test_attempts_are_spaced_with_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting doubles, and half of it is random."""
    monkeypatch.setattr("random.random", lambda: 0.5)
    gateway = Gateway(*[httpx.ConnectError("refused")] * 4)
    assert _arrivals(gateway, RetryPolicy()) == pytest.approx([0.375, 1.125, 2.625, 5.625])


def test_a_server_says_when() -> None:
    """``Retry-After`` is waited as told, in seconds, and at most `max_backoff`."""
    gateway = Gateway(
        httpx.Response(429, headers={"retry-after": "7"}), httpx.Response(429, headers={"retry-after": "3600"})
    )
    assert _arrivals(gateway, RetryPolicy(max_backoff=20)) == pytest.approx([7, 27])


@pytest.mark.anyio
@pytest.mark.parametrize("hours", [1, -1])
async def test_retry_after_as_a_date(hours: int) -> None:
    """A date is read as the time until then, or as none if it has passed."""
    date = format_datetime(datetime.now(UTC) + timedelta(hours=hours), usegmt=True)
    gateway = Gateway(httpx.Response(429, headers={"retry-after": date}))
    async with client(gateway, retry=RetryPolicy(1)) as qxt:
        with pytest.raises(ThrottledError) as caught:
            await qxt.send([A], TEXT)
    assert caught.value.retry_after is not None
    assert (3500 < caught.value.retry_after <= 3600) if hours > 0 else (caught.value.retry_after == 0)


# --- attempts add up -------------------------------------------------------------------------------------

WHOLE = ["refused", "429", "reset", "500", "error"]
EACH = st.lists(st.sampled_from(["ok", "fail", "silent"]), min_size=3, max_size=3)


@given(st.lists(st.one_of(st.sampled_from(WHOLE), EACH), min_size=1, max_size=5))
def test_attempts_add_up_to_the_truth(attempts: list[Any]) -> None:
    """Over any attempts, a number is accepted if the gateway took it, else unknown if it may have, else failed."""
    truth = dict.fromkeys((A, B, C), "failed")

    def answered(attempt: Any) -> Any:
        def answer(received: Received) -> Any:
            if attempt in ("reset", "500"):
                truth.update(dict.fromkeys(received.tele, "unknown"))
                return httpx.ReadError("reset") if attempt == "reset" else httpx.Response(500)
            if attempt == "429":
                return httpx.Response(429)
            if attempt == "error":
                return "error:通道关闭"
            fates = dict(zip((A, B, C), attempt, strict=True))
            lines = []
            for number in received.tele:
                if fates[number] == "ok":
                    truth[number] = "accepted"
                    lines.append(f"ok:1:{number}")
                elif fates[number] == "fail":
                    lines.append(f"fail:999:{number}")
                else:
                    truth[number] = "unknown"
            return "\n".join(lines)

        return httpx.ConnectError("refused") if attempt == "refused" else answer

    gateway = Gateway(*[answered(attempt) for attempt in attempts])
    retry = RetryPolicy(len(attempts), backoff=0, retry_failed=True, retry_unknown_may_send_twice=True)

    async def send() -> BatchResult:
        async with client(gateway, retry=retry) as qxt:
            results: list[BatchResult] = []
            with contextlib.suppress(QxtError):
                await qxt.send([A, B, C], TEXT, on_result=results.append)
            return results[0]

    result = anyio.run(send)

    told = dict.fromkeys(result.accepted, "accepted")
    told |= dict.fromkeys(result.failed, "failed") | dict.fromkeys(result.unknown, "unknown")
    assert len(result.accepted) + len(result.failed) + len(result.unknown) == 3
    assert told == truth
    assert bool(result.unknown) == isinstance(result.error, OutcomeUnknownError)
    assert (result.error is None) == (set(truth.values()) == {"accepted"})


def test_statuses_are_named() -> None:
    """The status that made an outcome unknown is an attribute."""
    assert UnexpectedStatusError(500).status == 500
