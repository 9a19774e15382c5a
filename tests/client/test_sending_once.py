"""`QxtClient.send`: one request, up to a thousand numbers."""

from __future__ import annotations

import tracemalloc
from typing import Any

import httpx
import pytest
from support.hand_gateway import TEXT, Gateway, client, fail, numbers, ok

from qxt_async import (
    NO_RETRIES,
    Acceptance,
    AuthenticationError,
    BatchResult,
    ConnectionBrokenError,
    DeadlineExceededError,
    InsufficientBalanceError,
    InvalidConfigurationError,
    InvalidExtnoError,
    InvalidRequestError,
    InvalidTextError,
    NoValidNumberError,
    PartialAnswerError,
    QxtError,
    RefusedError,
    RequestTooLargeError,
    SubmitFailedError,
    UnexpectedStatusError,
    UnusableAnswerError,
)
from qxt_async.transports import ANSWER_LIMIT

pytestmark = pytest.mark.anyio

A, B, C = numbers(3)


class Bloated(httpx.AsyncByteStream):
    """An answer far larger than any of a gateway."""

    def __init__(self) -> None:
        self.parts = 100

    def __aiter__(self) -> Bloated:
        return self

    async def __anext__(self) -> bytes:
        if not self.parts:
            raise StopAsyncIteration
        self.parts -= 1
        return b"x" * 10_000


async def test_one_number() -> None:
    """The mid is there after one request."""
    gateway = Gateway(ok("0042"))
    async with client(gateway) as qxt:
        sent = await qxt.send(A, TEXT)
    assert (sent.mid, sent.accepted, sent.error, sent.attempts, sent.outcome) == ("0042", (A,), None, 1, "accepted")
    assert sent.elapsed > 0
    (received,) = gateway.received
    assert (received.method, received.fields["tele"], received.fields["msg"]) == ("POST", A, TEXT)
    assert received.headers["content-type"] == "application/x-www-form-urlencoded; charset=GBK"
    assert received.headers["accept-encoding"] == "identity"


async def test_a_thousand_numbers_in_one_request() -> None:
    """A thousand go, in order, from any iterable; one more is too many and nothing is sent."""
    gateway = Gateway()
    async with client(gateway) as qxt:
        sent = await qxt.send(iter(numbers(1000)), TEXT)
        with pytest.raises(RequestTooLargeError) as caught:
            await qxt.send(numbers(1001), TEXT)
    assert list(sent.accepted) == gateway.taken == numbers(1000)
    assert (caught.value.size, caught.value.limit, caught.value.fits) == (1001, 1000, 1000)
    assert len(gateway.received) == 1


async def test_what_is_left_out_is_reported() -> None:
    """Invalid, repeated and suppressed numbers do not spoil the send: they are left out, counted, and shown."""
    gateway = Gateway()
    async with client(gateway) as qxt:
        sent = await qxt.send([A, "+86 " + A, "12345", B, C], TEXT, suppressed={C})
    assert gateway.taken == [A, B]
    assert (sent.numbers, sent.duplicates, sent.suppressed) == ((A, B), 1, 1)
    ((invalid),) = sent.invalid
    assert (invalid.position, invalid.raw) == (2, "12345")


@pytest.mark.parametrize(
    ("given", "options", "complaint"),
    [
        ([], {}, "no numbers were given"),
        ([""], {}, "none of 1 numbers can be sent to: 1 are invalid, the first of them: it is empty"),
        ("12345", {}, "it has 5 digits"),
        ([A, A], {"suppressed": {A}}, "none of 2 numbers can be sent to: 0 are invalid; 1 are suppressed"),
    ],
)
async def test_nothing_to_send(given: Any, options: dict[str, Any], complaint: str) -> None:
    """Where no number is left, the error says why, and nothing is sent."""
    gateway = Gateway()
    async with client(gateway) as qxt:
        with pytest.raises(NoValidNumberError, match=complaint):
            await qxt.send(given, TEXT, **options)
    assert gateway.received == []


async def test_extension_number_and_addseqno() -> None:
    """Both go as fields of their own."""
    gateway = Gateway()
    async with client(gateway, channel_digits=17) as qxt:
        await qxt.send(A, TEXT, extno="007", addseqno=True)
        with pytest.raises(InvalidExtnoError, match="with the channel's 17"):
            await qxt.send(A, TEXT, extno="1234")
    for received in gateway.received:
        assert (received.fields["extno"], received.fields["addseqno"]) == ("007", "1")
        assert received.names[-1] == "password"
    assert len(gateway.received) == 1


async def test_substitution_only_if_asked_for() -> None:
    """A character outside GBK is refused, or replaced on demand, and the other fields are kept."""
    gateway = Gateway()
    async with client(gateway) as qxt:
        with pytest.raises(InvalidTextError, match="EURO SIGN"):
            await qxt.send(A, "5€")
        await qxt.send(A, "5€", substitute=True)
        await qxt.send(A, "5€", extno="1", addseqno=True, substitute=True)
    assert [received.fields["msg"] for received in gateway.received] == ["5EUR", "5EUR"]
    assert (gateway.received[1].fields["extno"], gateway.received[1].fields["addseqno"]) == ("1", "1")


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (13800138000, "the numbers are int: pass a str .the digits in quotes."),
        (b"13800138000", "the numbers are bytes: pass a str"),
        (None, "the numbers are NoneType: pass a str"),
        ([13800138000], "the first of them: it is int, not str"),
    ],
)
async def test_numbers_are_texts(given: Any, complaint: str) -> None:
    """A number that is no text is refused with advice, alone and in a list."""
    gateway = Gateway()
    async with client(gateway) as qxt:
        with pytest.raises(InvalidRequestError, match=complaint):
            await qxt.send(given, TEXT)
    assert gateway.received == []


async def test_another_pattern_takes_other_numbers() -> None:
    """With a pattern of the caller's the gateway is sent what matches it."""
    gateway = Gateway()
    async with client(gateway, number_pattern=r"852\d{8}") as qxt:
        sent = await qxt.send(["85291234567", A], TEXT)
    assert gateway.taken == ["85291234567"]
    assert len(sent.invalid) == 1


async def test_one_phone_in_several_forms_gets_one_text() -> None:
    """The first form that the pattern admits goes on the wire as it is; the others are repeated numbers."""
    gateway = Gateway()
    async with client(gateway, number_pattern=r"(86)?1\d{10}") as qxt:
        sent = await qxt.send([f"86{A}", A, B, f"+86{B}"], TEXT)
        result = await qxt.send_bulk([A, f"86{A}", f"86{B}"], TEXT, suppressed=frozenset({B}))
        with pytest.raises(NoValidNumberError, match="1 are suppressed"):
            await qxt.send(f"86{A}", TEXT, suppressed={A})
    assert gateway.taken == [f"86{A}", B, A]
    assert sent.duplicates == 2
    assert (result.duplicates, result.suppressed) == (1, 1)


@pytest.mark.parametrize(
    ("pattern", "number", "reason"),
    [
        (r"1\d{10}", "1\u06638001380000"[:11], "unexpected character"),
        (r"\+?[0-9]{8,15}", "+85291234567", "only digits and ASCII letters"),
    ],
)
async def test_a_pattern_cannot_admit_what_would_change_the_form(pattern: str, number: str, reason: str) -> None:
    """Digits of other scripts and signs are left out and told, whatever the pattern says; the others are sent to."""
    gateway = Gateway()
    async with client(gateway, number_pattern=pattern) as qxt:
        sent = await qxt.send([number, A], TEXT)
    assert gateway.taken == [A]
    assert [reason in invalid.reason for invalid in sent.invalid] == [True]


@pytest.mark.parametrize("substitute", [True, False])
async def test_a_text_that_is_none(substitute: bool) -> None:
    """What is not a str is refused as any other text that cannot be sent."""
    async with client(Gateway()) as qxt:
        with pytest.raises(InvalidTextError, match="the text is int, not str"):
            await qxt.send(A, 5, substitute=substitute)  # type: ignore[arg-type]


async def test_overrides_for_one_call() -> None:
    """Method, timeout and retries of one call win over the client's."""
    gateway = Gateway()
    async with client(gateway) as qxt:
        await qxt.send(A, TEXT, method="GET")
        await qxt.send(A, TEXT)
        gateway.script = [httpx.ConnectError("refused")]
        with pytest.raises(QxtError) as caught:
            await qxt.send(A, TEXT, retry=NO_RETRIES)
        gateway.gate = type(gateway.gate)()  # nothing is answered from here on
        with pytest.raises(DeadlineExceededError, match=r"no answer in 0\.01 s"):
            await qxt.send(A, TEXT, timeout=0.01)
    assert isinstance(caught.value.result, BatchResult)
    assert caught.value.result.attempts == 1
    assert [received.method for received in gateway.received[:2]] == ["GET", "POST"]
    assert gateway.received[0].url.startswith("http://gateway.test:8080/qxt/smssenderv2?user=demo&msg=%A1%BE")


@pytest.mark.parametrize(
    ("options", "complaint"), [({"method": "PUT"}, "'POST' or 'GET'"), ({"timeout": 0}, "timeout is")]
)
async def test_overrides_that_cannot_work(options: dict[str, Any], complaint: str) -> None:
    """Overrides are checked like the client's own, before anything is asked of the gateway."""
    gateway = Gateway()
    async with client(gateway) as qxt:
        with pytest.raises(InvalidConfigurationError, match=complaint):
            await qxt.send(A, TEXT, check_balance=True, **options)
        with pytest.raises(InvalidConfigurationError, match=complaint):
            await qxt.send_bulk([A], TEXT, check_balance=True, **options)
    assert gateway.received == []


async def test_a_get_too_long_for_its_url() -> None:
    """Beyond 8,000 bytes of URL nothing is sent or asked; the number that would fit, as advised, does."""
    gateway = Gateway()
    async with client(gateway, method="GET") as qxt:
        with pytest.raises(RequestTooLargeError, match="use method='POST'") as caught:
            await qxt.send(numbers(1000), TEXT, check_balance=True)
        assert gateway.received == []
        fits = caught.value.fits
        await qxt.send(numbers(fits), TEXT)
        with pytest.raises(RequestTooLargeError):
            await qxt.send(numbers(fits + 1), TEXT)
        await qxt.send(numbers(1000), TEXT, method="POST")
    assert 8000 - 12 < len(gateway.received[0].url) <= 8000


# --- results and errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "error", "outcome"),
    [
        ("error:无此用户或者密码不对", AuthenticationError, "failed"),
        (fail(), SubmitFailedError, "failed"),
        (httpx.Response(404), RefusedError, "failed"),
        (httpx.Response(413), RefusedError, "failed"),
        (httpx.Response(500), UnexpectedStatusError, "unknown"),
        (httpx.Response(302, headers={"location": "http://other.test/"}), UnexpectedStatusError, "unknown"),
        (httpx.ReadError("reset"), ConnectionBrokenError, "unknown"),
        ("<html>", UnusableAnswerError, "unknown"),
        (
            httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"x")),
            UnusableAnswerError,
            "unknown",
        ),
        (lambda _: httpx.Response(200, stream=Bloated()), UnusableAnswerError, "unknown"),
        ("fail:999:13800000000", PartialAnswerError, "mixed"),
    ],
)
async def test_send_raises_when_nothing_was_accepted(answer: Any, error: type[QxtError], outcome: str) -> None:
    """The error says what happened, and its `result` what became of each number."""
    gateway = Gateway(answer)
    async with client(gateway) as qxt:
        with pytest.raises(error) as caught:
            await qxt.send([A, B], TEXT)
    result = caught.value.result
    assert isinstance(result, BatchResult)
    assert result.error is caught.value
    assert (result.outcome, result.attempts) == (outcome, 1)
    assert sorted(result.failed + result.unknown) == [A, B]
    assert len(gateway.sends) == 1


@pytest.mark.parametrize(
    ("answer", "failed", "unknown", "error"),
    [(fail(B), (B,), (), SubmitFailedError), (f"ok:1:{A}", (), (B,), PartialAnswerError)],
)
async def test_send_returns_when_anything_was_accepted(answer: Any, failed: Any, unknown: Any, error: Any) -> None:
    """What is not accepted is in the result, with the reason, and nothing is raised."""
    async with client(Gateway(answer)) as qxt:
        sent = await qxt.send([A, B], TEXT)
    assert (sent.accepted, sent.failed, sent.unknown) == ((A,), failed, unknown)
    assert isinstance(sent.error, error)


async def test_an_answer_that_grows_beyond_the_limit_is_not_kept() -> None:
    """Where there is no connection to end, the rest is read and thrown away: memory stays within a few limits."""
    stream = Bloated()
    stream.parts = 3000
    async with client(Gateway(httpx.Response(200, stream=stream))) as qxt:
        tracemalloc.start()
        with pytest.raises(UnusableAnswerError, match="larger than any answer"):
            await qxt.send([A, B], TEXT)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 8 * ANSWER_LIMIT
    assert stream.parts == 0


async def test_several_mids() -> None:
    """An answer of several lines keeps each line's mid."""
    async with client(Gateway(f"ok:1:{B}\nok:2:{A}")) as qxt:
        sent = await qxt.send([A, B], TEXT)
    assert sent.acceptances == (Acceptance("1", (B,)), Acceptance("2", (A,)))


async def test_on_result_is_told() -> None:
    """The callback is told the outcome, also when the call raises."""
    told: list[BatchResult] = []
    async with client(Gateway(ok(), "error:smg")) as qxt:
        sent = await qxt.send(A, TEXT, on_result=told.append)
        with pytest.raises(QxtError) as caught:
            await qxt.send(A, TEXT, on_result=told.append)
    assert told == [sent, caught.value.result]


async def test_a_callbacks_mistake_is_the_callers_to_see() -> None:
    """What `on_result` raises comes out of `send`."""

    def broken(result: BatchResult) -> None:
        raise LookupError(result.outcome)

    async with client(Gateway()) as qxt:
        with pytest.raises(LookupError, match="accepted"):
            await qxt.send(A, TEXT, on_result=broken)


async def test_the_balance_is_asked_first() -> None:
    """With `check_balance` a balance that suffices to the message lets the send go, one less stops it."""
    gateway = Gateway(balance=["ok:sms:4:mms:0", "ok:sms:3:mms:0"])
    async with client(gateway) as qxt:
        await qxt.send([A, B, A], "字" * 71, check_balance=True)
        with pytest.raises(InsufficientBalanceError) as caught:
            await qxt.send([A, B], "字" * 71, check_balance=True)
    assert [received.path for received in gateway.received] == ["/qxt/surplus", "/qxt/smssenderv2", "/qxt/surplus"]
    assert (caught.value.needed, caught.value.available) == (4, 3)
