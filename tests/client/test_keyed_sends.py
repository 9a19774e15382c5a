"""`QxtClient.send` with an idempotency key, a limit per phone, or `record`: recorded in a journal, sent once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from support.runs import SlowGateway, client_of
from support.steps import set_time

from qxt_async import (
    Acceptance,
    AuthenticationError,
    BatchResult,
    CampaignNotFoundError,
    IdempotencyKeyReusedError,
    InvalidConfigurationError,
    InvalidRequestError,
    JournalUnavailableError,
    NotSentError,
    NoValidNumberError,
    NumberLimit,
    NumberLimitedError,
    OutcomeUnknownError,
    QxtClient,
    QxtError,
    RefusedError,
    RetryPolicy,
    SendInProgressError,
    SubmitFailedError,
)
from qxt_async.campaign import Campaigns
from qxt_async.journal import Journal, SendState, open_journal
from qxt_async.journal.records import Claim
from qxt_async.journal.sends import SendRequest, digest_of
from qxt_async.models import Message, StatusReport
from qxt_async.protocol.pushes import Push
from qxt_async.simulator import SimulatedGateway

TEXT = "【测试】您的验证码是1234"
A, B, C = "13800138000", "13800138001", "13800138002"
ONCE = RetryPolicy(1)
QUICK = RetryPolicy(3, backoff=0.01, max_backoff=0.02)


@asynccontextmanager
async def opened(
    store: str, gateway: SimulatedGateway | None = None, **options: Any
) -> AsyncIterator[tuple[Journal, QxtClient]]:
    """A journal and a client that records in it."""
    gateway = gateway or SimulatedGateway()
    async with open_journal(store) as journal, client_of(gateway, journal=journal, **options) as client:
        yield journal, client


async def reported(journal: Journal, mid: str, *numbers: str) -> None:
    """A push with reports."""
    reports = tuple(StatusReport(mid, number, code="DELIVRD", received_at=datetime.now(UTC)) for number in numbers)
    await journal.record_push(Push(query=b"", body=b"", reports=reports, received_at=datetime.now(UTC)))


def set_time_of(journal: Journal, later: float) -> None:
    """Let the journal believe that it is so many seconds later."""
    set_time(journal.campaigns, datetime.now(UTC) + timedelta(seconds=later))


def request(key: str | None = "k", numbers: Sequence[str] = (A,), text: str = TEXT) -> SendRequest:
    """What another process sends."""
    message = Message(text)
    return SendRequest(
        key=key, message=message, numbers=tuple(numbers), digest=digest_of(message, numbers), ttl=60, limits=()
    )


@pytest.mark.anyio
async def test_asked_many_times_sent_once(store: str) -> None:
    """Calls at the same time, later calls, and those of another process get the one outcome; one of them has sent."""
    gateway = SimulatedGateway()
    results: list[BatchResult] = []

    async def send(client: QxtClient) -> None:
        results.append(await client.send(A, TEXT, idempotency_key="k"))

    async with opened(store, gateway) as (_, client), opened(store, gateway) as (_, other):
        async with anyio.create_task_group() as group:
            for each in (client, other) * 5:
                group.start_soon(send, each)
        await send(other)
    async with opened(store, gateway) as (_, client):
        await send(client)
    assert gateway.taken == {A: 1}
    assert len({result.mid for result in results}) == 1
    assert [result.replayed for result in results].count(False) == 1


@pytest.mark.anyio
async def test_the_same_payload(store: str) -> None:
    """The order and the form of the numbers, and who is suppressed meanwhile, make no other payload."""
    gateway = SimulatedGateway()
    async with opened(store, gateway, number_pattern=r"(86)?1\d{10}") as (_, client):
        first = await client.send([A, B, B, "x"], TEXT, idempotency_key="k", suppressed={B})
        again = await client.send([f"86{B}", A], TEXT, idempotency_key="k")
    assert (first.numbers, first.duplicates, len(first.invalid), first.suppressed) == ((A,), 1, 1, 1)
    assert (again.numbers, again.replayed) == ((A,), True)
    assert gateway.taken == {A: 1}


@pytest.mark.anyio
@pytest.mark.parametrize(
    "other",
    [{"numbers": B}, {"text": TEXT + "5"}, {"extno": "7"}, {"addseqno": True}],
    ids=["number", "text", "extno", "addseqno"],
)
async def test_another_payload(store: str, other: dict[str, Any]) -> None:
    """The key of another text, other numbers or other options is refused, and nothing is sent."""
    gateway = SimulatedGateway()
    async with opened(store, gateway) as (_, client):
        await client.send(A, TEXT, idempotency_key="k")
        with pytest.raises(IdempotencyKeyReusedError) as raised:
            await client.send(**{"numbers": A, "text": TEXT, "idempotency_key": "k", **other})
    assert raised.value.key == "k"
    assert len(gateway.sends) == 1


@pytest.mark.anyio
@pytest.mark.parametrize(("fault", "error"), [("fail-999", SubmitFailedError), ("error-3", RefusedError)])
async def test_a_refusal_is_raised_again(store: str, fault: str, error: type[QxtError]) -> None:
    """What the gateway refused is recorded with its reason, and raised again without asking it again."""
    gateway = SimulatedGateway()
    gateway.fail_next(fault)
    async with opened(store, gateway, retry=ONCE) as (_, client):
        with pytest.raises(error) as first:
            await client.send(A, TEXT, idempotency_key="k")
        with pytest.raises(error) as again:
            await client.send(A, TEXT, idempotency_key="k")
    assert len(gateway.requests) == 1
    assert str(again.value) == str(first.value)
    assert again.value.__dict__.keys() == first.value.__dict__.keys()
    result = again.value.result
    assert isinstance(result, BatchResult)
    assert (result.failed, result.replayed) == ((A,), True)


@pytest.mark.anyio
@pytest.mark.parametrize("fault", ["mixed", "partial", "several-lines"])
async def test_an_answer_for_each_number(store: str, fault: str) -> None:
    """What an answer said of each number is replayed, with its mids and its error."""
    gateway = SimulatedGateway()
    gateway.fail_next(fault)
    async with opened(store, gateway) as (journal, client):
        first = await client.send([A, B, C], TEXT, idempotency_key="k")
        again = await client.send([A, B, C], TEXT, idempotency_key="k")
        (record,) = await journal.sends()
    assert len(gateway.requests) == 1
    assert set(again.acceptances) == set(first.acceptances)
    assert (again.failed, again.unknown, (again.error is not None)) == (
        first.failed,
        first.unknown,
        first.error is not None,
    )
    assert record.state is (SendState.ACCEPTED if fault == "several-lines" else SendState.MIXED)


@pytest.mark.anyio
async def test_a_refused_account_frees_the_key(store: str) -> None:
    """A wrong password is not about the message: the next call with the key sends it."""
    gateway = SimulatedGateway()
    gateway.fail_next("error-7")
    async with opened(store, gateway) as (journal, client):
        with pytest.raises(AuthenticationError):
            await client.send(A, TEXT, idempotency_key="k")
        assert not (await client.send(A, TEXT, idempotency_key="k")).replayed
        assert [record.state for record in await journal.sends(key="k")] == [SendState.FAILED, SendState.ACCEPTED]
    assert gateway.taken == {A: 1}


@pytest.mark.anyio
@pytest.mark.parametrize("key", ["k", None])
async def test_what_was_not_sent(store: str, key: str | None) -> None:
    """It is tried again as the policy says; then it is not sent, and the next call with the key sends it."""
    gateway = SimulatedGateway()
    gateway.fail_next("throttle-429", 3)
    retry = RetryPolicy(2, backoff=0.01, max_backoff=0.01)
    told: list[BatchResult] = []
    async with opened(store, gateway, retry=retry, record=True) as (journal, client):
        with pytest.raises(NotSentError) as raised:
            await client.send(A, TEXT, idempotency_key=key, on_result=told.append)
        (record,) = await journal.sends()
        assert record.state is SendState.NOT_SENT
        assert record.result.failed == (A,)
        assert isinstance(record.result.error, NotSentError)
        assert (await client.send(A, TEXT, idempotency_key=key)).attempts == 2
        assert len(await journal.sends()) == (1 if key else 2)
    assert [result.attempts for result in told] == [2]
    assert isinstance(raised.value.result, BatchResult)
    assert gateway.taken == {A: 1}


@pytest.mark.anyio
async def test_unknown_stays_unknown_until_it_is_reported(store: str) -> None:
    """What may have been sent is not sent again; it is accepted once a report has proven it."""
    gateway = SimulatedGateway()
    gateway.fail_next("take-then-close")
    async with opened(store, gateway) as (journal, client):
        with pytest.raises(OutcomeUnknownError):
            await client.send(A, TEXT, idempotency_key="k")
        with pytest.raises(OutcomeUnknownError) as again:
            await client.send(A, TEXT, idempotency_key="k")
        assert isinstance(again.value.result, BatchResult)
        assert (again.value.result.unknown, again.value.result.replayed) == ((A,), True)
        # The mid of a recorded send binds nothing else.
        known = await client.send(A, TEXT, idempotency_key="other")
        await reported(journal, known.mid, A)
        with pytest.raises(OutcomeUnknownError):
            await client.send(A, TEXT, idempotency_key="k")
        await reported(journal, gateway.sends[0].mid, A)
        result = await client.send(A, TEXT, idempotency_key="k")
        (record,) = await journal.sends(key="k")
    assert (result.mid, result.replayed) == (gateway.sends[0].mid, True)
    assert (record.state, record.via_report) == (SendState.ACCEPTED, True)
    assert [report.mid for report in record.reports] == [result.mid]
    assert gateway.taken == {A: 2}


@pytest.mark.anyio
async def test_another_call_is_sending(store: str) -> None:
    """A call waits for the other one, but no longer than its timeout."""
    gateway = SlowGateway()
    results: list[BatchResult] = []
    async with opened(store, gateway) as (_, client), opened(store, SimulatedGateway()) as (_, other):

        async def send(by: QxtClient) -> None:
            results.append(await by.send(A, TEXT, idempotency_key="k"))

        async with anyio.create_task_group() as group:
            group.start_soon(send, client)
            await gateway.asked.wait()
            with pytest.raises(SendInProgressError, match="'k'"):
                await other.send(A, TEXT, idempotency_key="k", timeout=0.05)
            group.start_soon(send, other)
            await anyio.wait_all_tasks_blocked()
            gateway.answer.set()
    assert sorted(result.replayed for result in results) == [False, True]
    assert gateway.taken == {A: 1}


@pytest.mark.anyio
async def test_a_process_that_died(store: str) -> None:
    """Its send is under way until its lease has run out, and then unknown; a late outcome still counts."""
    gateway = SimulatedGateway()
    async with opened(store, gateway, timeout=0.05) as (journal, client), open_journal(store) as dead:
        claim = await dead.single_sends.claim(request(), token="t", lease=30)
        assert isinstance(claim, Claim)
        with pytest.raises(SendInProgressError):
            await client.send(A, TEXT, idempotency_key="k")
        set_time_of(journal, 31)
        with pytest.raises(OutcomeUnknownError, match="never said what became of it"):
            await client.send(A, TEXT, idempotency_key="k")
        assert [record.state for record in await journal.sends()] == [SendState.UNKNOWN]
        assert await dead.single_sends.release(claim, NotSentError("late"))
        await client.send(A, TEXT, idempotency_key="k")
        assert not await dead.single_sends.settle(claim, BatchResult(0, (A,), failed=(A,)))
        assert not await dead.single_sends.release(claim, None)
    assert gateway.taken == {A: 1}


@pytest.mark.anyio
async def test_an_own_attempt_is_alive_whatever_the_clock_says(store: str) -> None:
    """A lease that has run out says nothing of an attempt of this process."""
    gateway = SlowGateway()
    async with opened(store, gateway) as (journal, client), anyio.create_task_group() as group:
        group.start_soon(lambda: client.send(A, TEXT, idempotency_key="k"))
        await gateway.asked.wait()
        set_time_of(journal, 500)
        with pytest.raises(SendInProgressError):
            await client.send(A, TEXT, idempotency_key="k", timeout=0.05)
        gateway.answer.set()
    assert gateway.taken == {A: 1}


@pytest.mark.anyio
async def test_settled_keys_expire(store: str) -> None:
    """After its time the key of what was settled or not sent may be used for anything, that of an unknown one not."""
    gateway = SimulatedGateway()
    gateway.fail_next("take-then-close")
    async with opened(store, gateway, idempotency_ttl=100, retry=ONCE) as (journal, client):
        with pytest.raises(OutcomeUnknownError):
            await client.send(B, TEXT, idempotency_key="unknown")
        gateway.fail_next("throttle-429")
        with pytest.raises(NotSentError):
            await client.send(C, TEXT, idempotency_key="not sent")
        with pytest.raises(IdempotencyKeyReusedError):
            await client.send(C, TEXT + "6", idempotency_key="not sent")
        await client.send(A, TEXT, idempotency_key="k")
        set_time_of(journal, 90)
        assert (await client.send(A, TEXT, idempotency_key="k")).replayed
        set_time_of(journal, 110)
        assert not (await client.send(A, TEXT + "5", idempotency_key="k")).replayed
        with pytest.raises(OutcomeUnknownError):
            await client.send(B, TEXT, idempotency_key="unknown")
        assert not (await client.send(C, TEXT + "6", idempotency_key="not sent")).replayed
        assert len(await journal.sends(key="k")) == 2
    assert gateway.taken == {A: 2, B: 1, C: 1}


@pytest.mark.anyio
async def test_a_limit_for_each_phone(store: str) -> None:
    """A phone gets so many texts in a time, from all processes together; nothing is sent if one number is over."""
    gateway = SimulatedGateway()
    limits = [NumberLimit(2, per=60), NumberLimit(3, per=3600)]
    async with opened(store, gateway, number_limits=limits) as (journal, client), opened(store, gateway) as (_, other):
        await client.send(A, TEXT)
        await other.send(A, TEXT, number_limits=limits)
        with pytest.raises(NumberLimitedError) as raised:
            await client.send([B, A], TEXT)
        assert raised.value.masked_number == "138****8000"
        assert 0 < raised.value.retry_after <= 60
        set_time_of(journal, 61)
        await client.send(A, TEXT)
        set_time_of(journal, 122)
        with pytest.raises(NumberLimitedError) as raised:
            await client.send(A, TEXT)
        assert 3400 < raised.value.retry_after <= 3600 - 61
        await client.send(A, TEXT, number_limits=[])
    assert gateway.taken == {A: 4}


@pytest.mark.anyio
async def test_what_a_limit_counts(store: str) -> None:
    """Replays, refusals and what was not sent do not count; what may have been sent does."""
    gateway = SimulatedGateway()
    async with opened(store, gateway, number_limits=[NumberLimit(1, per=60)], retry=ONCE) as (_, client):
        gateway.fail_next("fail-999")
        with pytest.raises(SubmitFailedError):
            await client.send(A, TEXT)
        gateway.fail_next("throttle-429")
        with pytest.raises(NotSentError):
            await client.send(A, TEXT, idempotency_key="k")
        await client.send(A, TEXT, idempotency_key="k")
        assert (await client.send(A, TEXT, idempotency_key="k")).replayed
        with pytest.raises(NumberLimitedError):
            await client.send(A, TEXT)
        gateway.fail_next("take-then-close")
        with pytest.raises(OutcomeUnknownError):
            await client.send(B, TEXT)
        with pytest.raises(NumberLimitedError):
            await client.send(B, TEXT)


@pytest.mark.anyio
async def test_a_limit_holds_for_many_at_once(store: str) -> None:
    """Of many calls at the same moment, of two processes, so many send as the limit allows."""
    gateway = SimulatedGateway()
    refused: list[QxtError] = []

    async def send(client: QxtClient) -> None:
        try:
            await client.send(A, TEXT, number_limits=[NumberLimit(3, per=60)])
        except NumberLimitedError as error:
            refused.append(error)

    async with (
        opened(store, gateway) as (_, client),
        opened(store, gateway) as (_, other),
        anyio.create_task_group() as group,
    ):
        for each in (client, other) * 8:
            group.start_soon(send, each)
    assert gateway.taken == {A: 3}
    assert len(refused) == 13


@pytest.mark.anyio
async def test_the_log(store: str) -> None:
    """Sends are found by key, mid, number, state and time, behind a cursor."""
    gateway = SimulatedGateway()
    async with opened(store, gateway, record=True, retry=ONCE) as (journal, client):
        first = await client.send(A, TEXT)
        gateway.fail_next("mixed")
        mixed = await client.send([B, C], TEXT, idempotency_key="k")
        gateway.fail_next("fail-999")
        with pytest.raises(SubmitFailedError):
            await client.send(C, TEXT)

        async def cursors(**filters: Any) -> list[int]:
            return [record.cursor for record in await journal.sends(**filters)]

        one, two, three = await cursors()
        assert await cursors(after=one, limit=1) == [two]
        assert await cursors(key="k") == [two]
        assert await cursors(mid=first.mid) == [one]
        assert await cursors(mid=mixed.mid) == [two]
        assert await cursors(number=f"86{C}") == [two, three]
        by_state = {state: await cursors(state=state) for state in SendState}
        assert {state: found for state, found in by_state.items() if found} == {
            SendState.ACCEPTED: [one],
            SendState.MIXED: [two],
            SendState.FAILED: [three],
        }
        now = datetime.now(UTC)
        assert await cursors(since=now) == []
        assert await cursors(until=now) == [one, two, three]
        records = await journal.sends()
    assert [record.key for record in records] == [None, "k", None]
    assert all(record.sent_at is not None and record.settled_at is not None for record in records)
    assert A not in repr(records)


@pytest.mark.anyio
async def test_a_send_that_is_cancelled(store: str) -> None:
    """It is recorded as unknown, and told."""
    gateway = SlowGateway()
    told: list[BatchResult] = []
    async with opened(store, gateway) as (journal, client):
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: client.send(A, TEXT, idempotency_key="k", on_result=told.append))
            await gateway.asked.wait()
            group.cancel_scope.cancel()
        (record,) = await journal.sends()
    assert record.state is SendState.UNKNOWN
    assert [result.unknown for result in told] == [(A,)]


@pytest.mark.anyio
@pytest.mark.parametrize("done", [False, True])
async def test_a_claim_that_fails(store: str, done: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not it was committed, nothing is sent, and the next call with the key sends it."""
    gateway = SimulatedGateway()
    async with opened(store, gateway) as (journal, client):
        sends = journal.single_sends
        claim = sends.claim

        async def fail(*args: Any, **options: Any) -> Any:
            if done:
                await claim(*args, **options)
            raise JournalUnavailableError("the connection was lost")

        monkeypatch.setattr(sends, "claim", fail)
        with pytest.raises(JournalUnavailableError):
            await client.send(A, TEXT, idempotency_key="k")
        monkeypatch.undo()
        assert [record.state for record in await journal.sends()] == [SendState.NOT_SENT] * done
        assert not (await client.send(A, TEXT, idempotency_key="k")).replayed
    assert gateway.taken == {A: 1}


@pytest.mark.anyio
async def test_no_connection_in_time(store: str) -> None:
    """What gets no connection after its claim is not sent."""
    gateway = SlowGateway()
    async with opened(store, gateway, max_concurrency=4) as (journal, client):
        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(client.send, f"1380013900{number}", TEXT)
            await gateway.asked.wait()
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(NotSentError, match="too long for a connection"):
                await client.send(A, TEXT, idempotency_key="k", timeout=0.5)
            gateway.answer.set()
        assert [record.state for record in await journal.sends()] == [SendState.NOT_SENT]
        await client.send(A, TEXT, idempotency_key="k")
    assert gateway.taken[A] == 1


@pytest.mark.anyio
async def test_a_connection_after_a_while(store: str) -> None:
    """What waited too long for a connection is claimed again, as long as the call has time."""
    gateway = SlowGateway()
    async with opened(store, gateway, max_concurrency=4) as (journal, client), anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(client.send, f"1380013900{number}", TEXT)
        await gateway.asked.wait()
        await anyio.wait_all_tasks_blocked()
        group.start_soon(lambda: client.send(A, TEXT, idempotency_key="k", timeout=60))
        # Claimed a second time, so the first claim was given back.
        while not any(record.result.attempts > 1 for record in await journal.sends()):  # noqa: ASYNC110
            await anyio.sleep(0.01)
        gateway.answer.set()
    assert gateway.taken[A] == 1


@pytest.mark.anyio
@pytest.mark.parametrize("key", ["", "x" * 201, "a\nb", "a\0", 17])
async def test_keys_that_are_refused(tmp_path: Any, key: Any) -> None:
    """A key has 1 to 200 printable characters."""
    async with opened(str(tmp_path / "qxt.db")) as (journal, client):
        with pytest.raises(InvalidRequestError, match="1 to 200 printable characters"):
            await client.send(A, TEXT, idempotency_key=key)
        with pytest.raises(InvalidRequestError, match="1 to 200 printable characters"):
            await journal.sends(key=key)
        assert await journal.sends() == []


@pytest.mark.anyio
async def test_everybody_is_suppressed(tmp_path: Any) -> None:
    """Nothing is recorded."""
    async with opened(str(tmp_path / "qxt.db")) as (journal, client):
        with pytest.raises(NoValidNumberError, match="all are suppressed"):
            await client.send(A, TEXT, idempotency_key="k", suppressed={A})
        assert await journal.sends() == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: client_of(SimulatedGateway(), record=True),
        lambda: client_of(SimulatedGateway(), number_limits=[NumberLimit(1, per=1)]),
        lambda: NumberLimit(0, per=1),
        lambda: NumberLimit(1, per=0),
    ],
)
def test_what_cannot_work(make: Callable[[], object]) -> None:
    """A journal is needed, and a limit is above 0."""
    with pytest.raises(InvalidConfigurationError):
        make()


@pytest.mark.anyio
async def test_a_key_without_a_journal() -> None:
    """It is refused, and nothing is sent."""
    gateway = SimulatedGateway()
    async with client_of(gateway) as client:
        with pytest.raises(InvalidConfigurationError, match="journal"):
            await client.send(A, TEXT, idempotency_key="k")
    assert gateway.requests == ()


@pytest.mark.anyio
async def test_who_is_suppressed_before_the_next_attempt(store: str) -> None:
    """What was not sent is sent without those who are suppressed by now."""
    gateway = SimulatedGateway()
    gateway.fail_next("throttle-429")
    async with opened(store, gateway, retry=ONCE) as (journal, client):
        with pytest.raises(NotSentError):
            await client.send([A, B], TEXT, idempotency_key="k")
        result = await client.send([A, B], TEXT, idempotency_key="k", suppressed={B})
        assert (await client.send([A, B], TEXT, idempotency_key="k")).mid == result.mid
        assert [record.state for record in await journal.sends()] == [SendState.NOT_SENT, SendState.ACCEPTED]
    assert gateway.taken == {A: 1}


@pytest.mark.anyio
async def test_a_key_with_unknown_numbers_does_not_expire(store: str) -> None:
    """Numbers that an answer did not mention are not sent again; a report accepts them."""
    gateway = SimulatedGateway()
    gateway.fail_next("take-then-partial")
    async with opened(store, gateway, idempotency_ttl=100) as (journal, client):
        first = await client.send([A, B, C], TEXT, idempotency_key="k")
        set_time_of(journal, 200)
        again = await client.send([A, B, C], TEXT, idempotency_key="k")
        assert (again.mid, again.replayed, again.unknown) == (first.mid, True, first.unknown)
        set_time_of(journal, 0)
        await reported(journal, first.mid, *first.unknown)
        assert (await client.send([A, B, C], TEXT, idempotency_key="k")).unknown == ()
    assert gateway.taken == {A: 1, B: 1, C: 1}


@pytest.mark.anyio
async def test_an_undone_claim_does_not_count(store: str) -> None:
    """Nothing was sent to the phone."""
    gateway = SimulatedGateway()
    async with opened(store, gateway, number_limits=[NumberLimit(1, per=60)]) as (journal, client):
        await journal.single_sends.claim(request(), token="t", lease=30)
        assert await journal.single_sends.undo_claim("t")
        assert not await journal.single_sends.undo_claim("t")
        await client.send(A, TEXT, idempotency_key="k")
    assert gateway.taken == {A: 1}


@pytest.mark.anyio
async def test_a_send_without_a_key_whose_process_died(store: str) -> None:
    """It is unknown when its lease has run out, and a report accepts it."""
    async with open_journal(store) as journal:
        claim = await journal.single_sends.claim(request(key=None), token="t", lease=30)
        assert isinstance(claim, Claim)
        await reported(journal, "m1", A)
        set_time_of(journal, 40)
        await journal.single_sends.reconcile()
        (record,) = await journal.sends()
    assert (record.state, record.result.mid) == (SendState.ACCEPTED, "m1")


@pytest.mark.anyio
async def test_a_late_refusal_leaves_the_key_of_an_accepted_send(store: str) -> None:
    """What a report has proven stays."""
    async with opened(store) as (journal, client):
        claim = await journal.single_sends.claim(request(), token="t", lease=30)
        assert isinstance(claim, Claim)
        await journal.single_sends.settle(claim, BatchResult(0, (A,), acceptances=(Acceptance("m1", (A,)),)))
        refused = AuthenticationError("wrong-password", "")
        assert not await journal.single_sends.release(claim, refused)
        assert (await client.send(A, TEXT, idempotency_key="k")).mid == "m1"


@pytest.mark.anyio
async def test_single_sends_are_no_campaign(store: str) -> None:
    """Campaign 0 cannot be run: what was not sent is sent by its callers alone."""
    gateway = SimulatedGateway()
    gateway.fail_next("throttle-429")
    async with opened(store, gateway, retry=ONCE) as (journal, client):
        with pytest.raises(NotSentError):
            await client.send(A, TEXT, idempotency_key="k")
        with pytest.raises(CampaignNotFoundError):
            await Campaigns(journal, client).run(0)
    assert gateway.taken == {}
