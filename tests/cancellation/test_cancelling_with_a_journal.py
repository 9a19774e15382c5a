"""Cancelling what works on a journal, at random moments: campaigns, plans, pushes, waiting for reports."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from anyio.lowlevel import checkpoint
from support.cancelling import SECRET, SEED, WAYS, Moments, moments_for, number_run, tasks_alive

from qxt_async import OutcomeUnknownError, QxtClient, RefusedError, RetryPolicy
from qxt_async.campaign import Campaigns, RunOptions
from qxt_async.campaign.options import CampaignOptions
from qxt_async.journal import Journal, SendState, open_journal
from qxt_async.journal.records import BatchState, CampaignState, PlannedBatch
from qxt_async.models import Message, StatusReport
from qxt_async.protocol.pushes import Push
from qxt_async.receiving import DeliveryTracker, PushReceiver
from qxt_async.sending.recorded import BatchSender
from qxt_async.simulator import Fault, SimulatedGateway, serve

OPTIONS = RunOptions(check_balance=False, poll_interval=0.005, retry=RetryPolicy(9, backoff=0.001, max_backoff=0.002))
FAULTS = ("take-then-reset", "take-then-502", "fail-999", "refuse", "partial", "http-500")

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize(("anyio_backend", "store", "way"), WAYS, indirect=["store"]),
]


def moments_of(backend: str, few: int = 10) -> int:
    """How many moments a call gets in each way."""
    return moments_for(backend, [way[0] for way in WAYS], few)


def push_of(mid: str, numbers: list[str]) -> Push:
    """Reports on some numbers."""
    reports = tuple(StatusReport(mid, number, code="DELIVRD") for number in numbers)
    return Push(query=b"", body=b"", reports=reports, received_at=datetime.now(UTC))


async def states_of(journal: Journal, campaign: int) -> dict[str, str]:
    """What became of every number, each once."""
    states: dict[str, str] = {}
    after = 0
    while True:
        records, after = await journal.campaigns.numbers(campaign, after=after, limit=1000)
        if not records:
            return states
        assert states.keys().isdisjoint(record.number for record in records)
        states.update({record.number: record.state.value for record in records})


def _run(journal: Journal, client: QxtClient, campaign: int) -> Awaitable[Any]:
    return Campaigns(journal, client).run(campaign, OPTIONS)


def _run_until_signalled(journal: Journal, client: QxtClient, campaign: int) -> Awaitable[Any]:
    return Campaigns(journal, client).run_until_signalled(campaign, OPTIONS)


async def _execute(journal: Journal, client: QxtClient, campaign: int) -> None:
    await journal.campaigns.start(campaign)
    sender = BatchSender(
        journal.campaigns,
        client.claimed_sender(),
        CampaignOptions(retry=OPTIONS.retry, lease_margin=15.0, journal_timeout=60.0),
    )
    for _ in range(4):
        await sender.send(campaign)


RUNS: dict[str, Callable[[Journal, QxtClient, int], Awaitable[Any]]] = {
    "Campaigns.run": _run,
    "Campaigns.run_until_signalled": _run_until_signalled,
    "BatchSender.send": _execute,
}


@contextmanager
def reached(gateway: SimulatedGateway, through: str) -> Iterator[dict[str, Any]]:
    """How a client reaches the gateway: in this process, or through sockets."""
    if through == "process":
        yield {"base_url": "http://gateway.test/qxt", "transport": gateway.transport()}
        return
    with serve(gateway) as url:
        yield {"base_url": url}


@pytest.mark.parametrize("through", ["process", "sockets"])
@pytest.mark.parametrize("run", RUNS)
async def test_campaign_runs(run: str, through: str, way: str, anyio_backend: str, store: str) -> None:
    """A run that is cancelled leaves nothing as being sent; the next goes on, and nobody gets the text twice."""
    dice = random.Random(SEED)
    gateway = SimulatedGateway()
    slow = Fault("slow", delay=0.004)
    before = tasks_alive(anyio_backend)
    moments = Moments()
    with reached(gateway, through) as reach:
        async with open_journal(store) as journal, QxtClient("user", "password", max_concurrency=3, **reach) as client:
            campaigns = journal.campaigns
            numbers: list[str] = []
            campaign = 0
            for index in range(-(-moments_of(anyio_backend, few=8) // 2)):
                if index % 8 == 0:
                    numbers = number_run(index * 1000, 60)
                    campaign = await campaigns.create()
                    batches = [PlannedBatch(Message("hello"), numbers[at : at + 2]) for at in range(0, 60, 2)]
                    await campaigns.add(campaign, batches)
                    await campaigns.finish(campaign)
                for _ in range(3):
                    gateway.fail_next(slow)
                gateway.fail_next(dice.choice(FAULTS))
                await moments.cancel(way, lambda campaign=campaign: RUNS[run](journal, client, campaign))
                gateway.clear_faults()
                assert not await campaigns.batches(campaign, state=BatchState.SENDING)
                states = await states_of(journal, campaign)
                taken = Counter(number for number in gateway.taken.elements() if number in states)
                assert sorted(states) == numbers
                assert not taken or max(taken.values()) == 1, "taken twice"
                assert {states[number] for number in taken} <= {"accepted", "unknown"}, "taken, and not told"
                assert {number for number, state in states.items() if state == "accepted"} <= taken.keys()
            assert (await Campaigns(journal, client).run(campaign, OPTIONS)).state is CampaignState.DONE
    await wait_all_tasks_blocked()
    assert tasks_alive(anyio_backend) == before
    moments.check()


async def test_keyed_sends(way: str, anyio_backend: str, store: str) -> None:
    """A send with a key that is cancelled leaves nothing as being sent; the next call sends it at most once."""
    dice = random.Random(SEED)
    gateway = SimulatedGateway()
    moments = Moments()
    async with (
        open_journal(store) as journal,
        QxtClient(
            "user",
            "password",
            base_url="http://gateway.test/qxt",
            transport=gateway.transport(),
            journal=journal,
            retry=OPTIONS.retry,
        ) as client,
    ):

        async def send(number: str, key: str) -> None:
            with contextlib.suppress(OutcomeUnknownError, RefusedError):
                await client.send(number, "hello", idempotency_key=key)

        for index, number in enumerate(number_run(0, moments_of(anyio_backend, few=24))):
            gateway.fail_next(dice.choice(FAULTS))
            key = str(index)
            await moments.cancel(way, lambda n=number, k=key: send(n, k))
            gateway.clear_faults()
            assert not await journal.sends(state=SendState.SENDING)
            await send(number, key)
            assert gateway.times_taken(number) <= 1
            (record,) = await journal.sends(number=number)
            assert (record.state is SendState.ACCEPTED) <= (gateway.times_taken(number) == 1)
            assert (gateway.times_taken(number) == 1) <= (record.state in {SendState.ACCEPTED, SendState.UNKNOWN})
    moments.check()


async def test_plans(way: str, anyio_backend: str, store: str) -> None:
    """A plan that is cancelled is none: nobody sees it, and it can never be run."""
    before = tasks_alive(anyio_backend)
    moments = Moments()
    async with open_journal(store) as journal:
        for index in range(moments_of(anyio_backend)):
            numbers = number_run(index, 2000)
            ended = await moments.cancel(
                way, lambda numbers=numbers: Campaigns(journal).plan(numbers, "hello", batch_size=20)
            )
            # Cancelling ends the waiting, not the writing; what is written in turn comes after it.
            await journal.unsuppress(numbers[:1])
            planned = [each for each in await journal.campaigns.all() if each.state is not CampaignState.PLANNING]
            assert len(planned) == (not ended.cut)
            for campaign in planned:
                assert campaign.numbers == 2000
                await journal.campaigns.discard(campaign.id)
    assert tasks_alive(anyio_backend) == before
    moments.check()


async def test_pushes(way: str, anyio_backend: str, store: str) -> None:
    """A push whose request is cancelled was not acknowledged, or is stored; those after it are served."""
    times = moments_of(anyio_backend)
    moments = Moments()
    before = tasks_alive(anyio_backend)
    acknowledged: list[str] = []

    async def push(receiver: PushReceiver, mid: str) -> None:
        body = f"type=4&mid={mid}&mobile=13800138000&msg=DELIVRD".encode()
        scope = {"type": "http", "method": "POST", "path": f"/{SECRET}", "query_string": b"", "headers": []}

        async def receive() -> dict[str, Any]:
            await checkpoint()
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            if message.get("body") == b"ok":
                acknowledged.append(mid)
            await checkpoint()

        await receiver({**scope, "client": ("127.0.0.1", 1), "http_version": "1.1"}, receive, send)

    async with open_journal(store) as journal:
        receiver = PushReceiver(journal, path_secret=SECRET)
        for index in range(times):
            await moments.cancel(way, lambda index=index: push(receiver, str(index)))
        await push(receiver, "last")
        stored = {entry.value.mid for entry in await journal.reports(limit=times + 1)}
    assert acknowledged[-1] == "last"
    assert stored >= set(acknowledged)
    moments.check()
    assert tasks_alive(anyio_backend) == before


async def test_waiting_for_a_report(way: str, anyio_backend: str, store: str) -> None:
    """Who stops waiting leaves nothing behind, and takes nothing from those who wait for the same report."""
    dice = random.Random(SEED)
    moments = Moments()
    before = tasks_alive(anyio_backend)
    async with open_journal(store) as journal:
        async with DeliveryTracker(journal, interval=0.001, idle_interval=0.005) as tracker:
            for index in range(moments_of(anyio_backend)):
                told: list[StatusReport] = []

                async def wait(mid: str = str(index), told: list[StatusReport] = told) -> None:
                    told.append(await tracker.wait(mid, "13800138000", timeout=120))

                async with anyio.create_task_group() as others:
                    others.start_soon(wait)
                    if dice.random() < 0.5:
                        others.start_soon(journal.record_push, push_of(str(index), ["13800138000"]))
                    await moments.cancel(way, wait)
                    await journal.record_push(push_of(str(index), ["13800138000"]))
                assert 1 <= len(told) <= 2
            assert not tracker._waiting
            moments.check()
        await wait_all_tasks_blocked()
    assert tasks_alive(anyio_backend) == before
