"""Cancelling what works on a journal, at random moments: campaigns, plans, pushes, waiting for reports, operations.

``QXT_CANCEL_MOMENTS`` says how many moments are tried, as for `test_cancellation`; a thirty-second of them for each
call and way.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from anyio.lowlevel import checkpoint
from test_cancellation import SEED, cancel_at, tasks_alive

from qxt_async import Message, QxtClient, RetryPolicy
from qxt_async.campaign import CampaignRunner, RunOptions
from qxt_async.campaign.plan import plan
from qxt_async.journal import Journal, open_journal
from qxt_async.journal.records import BatchState, CampaignState, PlannedBatch
from qxt_async.models import StatusReport
from qxt_async.pushes import Push
from qxt_async.receiver import PushReceiver
from qxt_async.simulator import Fault, SimulatedGateway
from qxt_async.tracking import DeliveryTracker

MOMENTS = int(os.environ.get("QXT_CANCEL_MOMENTS", "500")) // 32
SECRET = "0123456789abcdefghij"
OPTIONS = RunOptions(check_balance=False, poll=0.005, retry=RetryPolicy(9, backoff=0.001, max_backoff=0.002))
FAULTS = ("take-then-reset", "take-then-502", "fail-999", "refuse", "partial", "http-500")

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize(
        ("anyio_backend", "store", "way"),
        [
            ("asyncio", "sqlite", "scope"),
            ("asyncio", "sqlite", "task"),
            ("asyncio", "sqlite", "task twice"),
            ("trio", "sqlite", "scope"),
            ("asyncio", "postgresql", "scope"),
            ("asyncio", "postgresql", "task twice"),
        ],
        indirect=["store"],
    ),
]


def moments(dice: random.Random) -> Callable[[], Awaitable[None]]:
    """A random moment: after so many turns of the event loop, or milliseconds."""
    turns, seconds = dice.randrange(80), dice.random() * 0.02

    async def moment() -> None:
        if dice.random() < 0.5:
            await anyio.sleep(seconds)
        else:
            for _ in range(turns):
                await checkpoint()

    return moment


def number_run(start: int, count: int) -> list[str]:
    """Phone numbers, made up."""
    return [f"1390{number:07d}" for number in range(start, start + count)]


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


async def test_campaign_runs(way: str, anyio_backend: str, store: str) -> None:
    """A run that is cancelled leaves nothing as being sent; the next goes on, and nobody gets the text twice."""
    dice = random.Random(SEED)
    gateway = SimulatedGateway()
    slow = Fault("slow", delay=0.004)
    before = tasks_alive(anyio_backend)
    cut = 0
    async with open_journal(store) as journal:
        client = QxtClient(
            "user", "password", base_url="http://gateway.test/qxt", transport=gateway.transport(), max_concurrency=3
        )
        campaigns = journal.campaigns
        numbers: list[str] = []
        campaign = 0
        for index in range(MOMENTS):
            if index % 8 == 0:
                numbers = number_run(index * 1000, 60)
                campaign = await campaigns.create()
                batches = [PlannedBatch(Message("hello"), numbers[at : at + 2]) for at in range(0, 60, 2)]
                await campaigns.add(campaign, batches)
                await campaigns.finish(campaign)
            for _ in range(3):
                gateway.fail_next(slow)
            gateway.fail_next(dice.choice(FAULTS))
            runner = CampaignRunner(journal, client, OPTIONS)
            cut += await cancel_at(way, lambda runner=runner, campaign=campaign: runner.run(campaign), moments(dice))
            gateway.behave()
            assert not await campaigns.batches(campaign, state=BatchState.SENDING)
            states = await states_of(journal, campaign)
            taken = Counter(number for number in gateway.taken.elements() if number in states)
            assert sorted(states) == numbers
            assert not taken or max(taken.values()) == 1, "taken twice"
            assert {states[number] for number in taken} <= {"accepted", "unknown"}, "taken, and not told"
            assert {number for number, state in states.items() if state == "accepted"} <= taken.keys()
        assert (await CampaignRunner(journal, client, OPTIONS).run(campaign)).state is CampaignState.DONE
        await client.aclose()
    await wait_all_tasks_blocked()
    assert tasks_alive(anyio_backend) == before
    assert cut


async def test_plans(way: str, anyio_backend: str, store: str) -> None:
    """A plan that is cancelled is none: nobody sees it, and it can never be run."""
    dice = random.Random(SEED)
    before = tasks_alive(anyio_backend)
    async with open_journal(store) as journal:
        for index in range(MOMENTS):
            numbers = number_run(index, 2000)
            cut = await cancel_at(
                way, lambda numbers=numbers: plan(journal, None, numbers, "hello", batch_size=20), moments(dice)
            )
            # Cancelling ends the waiting, not the writing; what is written in turn comes after it.
            await journal.unsuppress(numbers[:1])
            planned = [each for each in await journal.campaigns.every() if each.state is not CampaignState.PLANNING]
            assert len(planned) == (not cut)
            for campaign in planned:
                assert campaign.numbers == 2000
                await journal.campaigns.discard(campaign.id)
    assert tasks_alive(anyio_backend) == before


async def test_pushes(way: str, anyio_backend: str, store: str) -> None:
    """A push whose request is cancelled was not acknowledged, or is stored; those after it are served."""
    dice = random.Random(SEED)
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
        for index in range(MOMENTS):
            await cancel_at(way, lambda index=index: push(receiver, str(index)), moments(dice))
        await push(receiver, "last")
        stored = {entry.value.mid for entry in await journal.reports(limit=MOMENTS + 1)}
    assert acknowledged[-1] == "last"
    assert stored >= set(acknowledged)
    assert tasks_alive(anyio_backend) == before


async def test_waiting_for_a_report(way: str, anyio_backend: str, store: str) -> None:
    """Who stops waiting leaves nothing behind, and takes nothing from those who wait for the same report."""
    dice = random.Random(SEED)
    before = tasks_alive(anyio_backend)
    async with open_journal(store) as journal:
        async with DeliveryTracker(journal, interval=0.001, idle_interval=0.005) as tracker:
            for index in range(MOMENTS):
                told: list[StatusReport] = []

                async def wait(mid: str = str(index), told: list[StatusReport] = told) -> None:
                    told.append(await tracker.wait(mid, "13800138000", timeout=30))

                async with anyio.create_task_group() as others:
                    others.start_soon(wait)
                    if dice.random() < 0.5:
                        others.start_soon(journal.record_push, push_of(str(index), ["13800138000"]))
                    await cancel_at(way, wait, moments(dice))
                    await journal.record_push(push_of(str(index), ["13800138000"]))
                assert 1 <= len(told) <= 2
            assert not tracker._waiting
        await wait_all_tasks_blocked()
    assert tasks_alive(anyio_backend) == before


async def test_operations(way: str, anyio_backend: str, store: str) -> None:
    """An operation of the journal that is cancelled is done whole or not at all, and the journal goes on."""
    dice = random.Random(SEED)
    before = tasks_alive(anyio_backend)
    async with open_journal(store) as journal:
        campaigns = journal.campaigns
        campaign = await campaigns.create()
        numbers = number_run(0, 3 * MOMENTS + 3)
        batches = [PlannedBatch(Message("hello"), numbers[at : at + 3]) for at in range(0, len(numbers), 3)]
        await campaigns.add(campaign, batches)
        await campaigns.finish(campaign)
        await campaigns.start(campaign)
        for index in range(MOMENTS):
            mid, some = f"m{index}", number_run(5_000_000 + index * 10, 3)
            token = f"t{index}"
            operations: list[Callable[[], Awaitable[Any]]] = [
                lambda token=token: campaigns.claim(campaign, token=token, lease=60.0),
                lambda mid=mid, some=some: journal.record_push(push_of(mid, some)),
                lambda some=some: journal.suppress(some),
                lambda some=some: journal.unsuppress(some),
                lambda: campaigns.reconcile(campaign),
                lambda: campaigns.tally(campaign),
                lambda: campaigns.numbers(campaign),
                lambda: journal.reports(limit=10_000),
                lambda: campaigns.expire(campaign),
                lambda: campaigns.pause(campaign, "enough"),
                lambda: campaigns.resume(campaign),
            ]
            await cancel_at(way, operations[index % len(operations)], moments(dice))
            tally = await campaigns.tally(campaign)
            assert tally.numbers == len(numbers)
            assert tally.sending % 3 == 0
            assert len(await journal.find_reports([(mid, number) for number in some])) in {0, 3}
            assert sum(each.number in some for each in await journal.suppressions(limit=10_000)) in {0, 3}
    assert tasks_alive(anyio_backend) == before
