"""Cancelling each public coroutine, at random moments.

The tables here and in the two other modules about cancelling name what each of their rows cancels; a test walks the
public names and finds those that no table has. Here are what reads, what writes, and what opens and serves.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import inspect
import io
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import anyio
import attrs
import psycopg
import pyarrow.parquet as pq
import pytest
from anyio import wait_all_tasks_blocked
from anyio.lowlevel import checkpoint
from cancellation import test_cancellation, test_cancelling_with_a_journal
from support.cancelling import SECRET, WAYS, Moments, moments_for, number_run, tasks_alive
from support.postgresql_server import plain

from qxt_async import Acceptance, BatchResult, QxtClient, Reply, StatusReport, errors
from qxt_async.campaign import Campaigns, RunOptions
from qxt_async.journal import Journal, open_journal
from qxt_async.journal.campaigns import CampaignStore
from qxt_async.journal.records import BatchState, Claim, ExcludedNumber, ExclusionReason, PlannedBatch
from qxt_async.journal.sends import SendRequest
from qxt_async.models import Message
from qxt_async.protocol.pushes import Push, PushFlag
from qxt_async.receiving import DeliveryTracker, PushReceiver
from qxt_async.sending.recorded import BatchSender
from qxt_async.simulator import SimulatedGateway, run_server
from qxt_async.workers import CampaignWorker, run_on_workers

pytestmark = pytest.mark.anyio

HELLO = Message("hello")
GATEWAY = "http://gateway.test/qxt"
every_way = pytest.mark.parametrize(("anyio_backend", "store", "way"), WAYS, indirect=["store"])


def moments_of(backend: str) -> int:
    """How many moments each row gets in each way."""
    return moments_for(backend, [way[0] for way in WAYS], few=2)


@asynccontextmanager
async def opened(backend: str, store: str, way: str) -> AsyncIterator[Journal]:
    """A journal, of which nothing is left at the end: no task, no connection."""
    before = tasks_alive(backend)
    async with open_journal(store) as journal:
        yield journal
    await wait_all_tasks_blocked()
    assert tasks_alive(backend) == before
    await nobody_has_open(store, way)


async def nobody_has_open(store: str, way: str) -> None:
    """Wait until no connection to a journal is left; who was cut off may be about to close its own."""
    with anyio.fail_after(120):
        while await connections_to(store):
            if way != "scope":
                gc.collect()  # psycopg leaves a connection half made when `Task.cancel` breaks in
            await anyio.sleep(0.01)


async def connections_to(store: str) -> int:
    """How many connections, or open files, there are."""
    if "://" not in store:
        files = []
        for entry in Path("/proc/self/fd").iterdir():  # noqa: ASYNC240
            with contextlib.suppress(OSError):  # the one that reads the directory
                files.append(str(entry.readlink()))
        return sum(file.startswith(store) for file in files)
    async with await psycopg.AsyncConnection.connect(plain(store)) as connection:
        asked = await connection.execute(b"SELECT count(*) FROM pg_stat_activity WHERE application_name = 'qxt_async'")
        ((count,),) = await asked.fetchall()
        return int(count)


def push_of(mid: str, numbers: list[str], code: str = "DELIVRD", **more: Any) -> Push:
    """Reports on some numbers."""
    reports = tuple(StatusReport(mid, number, code=code) for number in numbers)
    return Push(query=b"?", body=b"", reports=reports, received_at=datetime.now(UTC), **more)


# --- what reads


@attrs.frozen
class World:
    """A journal with something of everything, which does not change.

    Attributes:
        journal: open.
        campaign: its one campaign.
        folder: for files.
    """

    journal: Journal
    campaign: int
    folder: Path

    @property
    def campaigns(self) -> CampaignStore:
        """Of the journal."""
        return self.journal.campaigns

    @property
    def public(self) -> Campaigns:
        """The public class."""
        return Campaigns(self.journal)


async def world_in(journal: Journal, folder: Path) -> World:
    """Make one."""
    numbers = number_run(0, 8)
    campaigns = journal.campaigns
    campaign = await campaigns.create(name="autumn")
    left_out = [ExcludedNumber(numbers[7], reason=ExclusionReason.SUPPRESSED, detail="", source="", line=1)]
    batches = [PlannedBatch(HELLO, numbers[at : at + 2]) for at in (0, 2, 4)]
    await campaigns.add(campaign, batches, left_out)
    await campaigns.finish(campaign)
    await campaigns.start(campaign)
    for token in ("t1", "t2"):
        claim = await campaigns.claim(campaign, token=token, lease=-1.0)
        if token == "t1":
            await campaigns.settle(claim, accepted(claim, "m1"))
    await campaigns.expire_leases(campaign)
    send = SendRequest(key="k", message=HELLO, numbers=(numbers[6],), digest="d", ttl=60.0, limits=())
    claim = await journal.single_sends.claim(send, token="t3", lease=60.0)
    await journal.single_sends.settle(claim, accepted(claim, "m2"))
    reply = Reply("r1", numbers[0], text="yes")
    await journal.record_push(push_of("m1", numbers[:2], replies=(reply,), flags=(PushFlag.TOO_LONG,)))
    await journal.record_push(push_of("m1", numbers[:1], code="UNDELIV"))
    await journal.record_push(push_of("m2", numbers[6:7]))
    await journal.suppress(numbers[6:])
    return World(journal, campaign, folder)


def accepted(claim: Claim, mid: str) -> BatchResult:
    """All of it taken."""
    return BatchResult(0, claim.numbers, acceptances=(Acceptance(mid, claim.numbers),))


async def _all_exported(w: World) -> Any:
    return [records async for records in w.public.numbers(w.campaign)]


async def _exported(w: World) -> Any:
    stream, path = io.StringIO(newline=""), w.folder / "all.parquet"
    counts = await w.public.export(w.campaign, stream), await w.public.export(w.campaign, path, format="parquet")
    return counts, stream.getvalue(), pq.read_table(path).num_rows


async def _left_out(w: World) -> Any:
    stream = io.StringIO(newline="")
    return await w.public.export_excluded(w.campaign, stream), stream.getvalue()


async def _report(w: World) -> Any:
    path = w.folder / "report.html"
    data = await w.public.report(w.campaign, path)
    return data.counts, path.read_text(encoding="utf-8").endswith("</html>\n")


async def _data(w: World) -> Any:
    return attrs.evolve(await w.public.report_data(w.campaign), at=None)


async def _waited(w: World) -> Any:
    async with DeliveryTracker(w.journal) as tracker:
        return await tracker.wait("m1", number_run(0, 1)[0])


async def _waited_for_key(w: World) -> Any:
    async with DeliveryTracker(w.journal) as tracker:
        return await tracker.wait_for_key("k")


async def _fed(w: World) -> Any:
    async with DeliveryTracker(w.journal) as tracker:
        feed = tracker.reports()
        return [await anext(feed), await anext(feed)]


READS: dict[str, Callable[[World], Awaitable[Any]]] = {
    "Journal.reports": lambda w: w.journal.reports(mid="m1"),
    "DeliveryTracker.wait_for_key": _waited_for_key,
    "Journal.sends": lambda w: w.journal.sends(),
    "Journal.report_cursor": lambda w: w.journal.report_cursor(),
    "Journal.find_reports": lambda w: w.journal.find_reports([("m1", number_run(0, 1)[0])]),
    "Journal.replies": lambda w: w.journal.replies(),
    "Journal.reply_cursor": lambda w: w.journal.reply_cursor(),
    "Journal.conflicts": lambda w: w.journal.conflicts(),
    "Journal.raw_pushes": lambda w: w.journal.raw_pushes(),
    "Journal.suppressions": lambda w: w.journal.suppressions(),
    "Journal.suppressed_numbers": lambda w: w.journal.suppressed_numbers(),
    "Campaigns.get CampaignStore.get": lambda w: w.public.get(w.campaign),
    "Campaigns.list CampaignStore.all": lambda w: w.public.list(),
    "Campaigns.counts CampaignStore.counts": lambda w: w.public.counts(w.campaign),
    "Campaigns.deliveries CampaignStore.deliveries": lambda w: w.public.deliveries(w.campaign),
    "CampaignStore.statistics": lambda w: w.campaigns.statistics(w.campaign),
    "Campaigns.messages CampaignStore.messages": lambda w: w.public.messages(w.campaign),
    "Campaigns.batches CampaignStore.batches": lambda w: w.public.batches(w.campaign),
    "CampaignStore.numbers": lambda w: w.campaigns.numbers(w.campaign),
    "Campaigns.excluded CampaignStore.left_out": lambda w: w.public.excluded(w.campaign),
    "Campaigns.events CampaignStore.events": lambda w: w.public.events(w.campaign),
    "Campaigns.pending_work CampaignStore.pending_work": lambda w: w.public.pending_work(w.campaign),
    "CampaignStore.cost_ahead": lambda w: w.campaigns.cost_ahead(w.campaign, 2),
    "Campaigns.preview_resend CampaignStore.preview_resend": lambda w: w.public.preview_resend(
        w.campaign, BatchState.UNKNOWN
    ),
    "Campaigns.numbers": _all_exported,
    "Campaigns.export": _exported,
    "Campaigns.export_excluded": _left_out,
    "Campaigns.report_data": _data,
    "Campaigns.report": _report,
    "DeliveryTracker.__aenter__ DeliveryTracker.__aexit__ DeliveryTracker.wait": _waited,
    "ReportFeed.__anext__": _fed,
}


@every_way
async def test_what_reads(way: str, anyio_backend: str, store: str, tmp_path: Path) -> None:
    """What is read is cut off, or all there; asked again, the journal says the same as ever."""
    async with opened(anyio_backend, store, way) as journal:
        world = await world_in(journal, tmp_path)
        for row, read in READS.items():
            with naming(row):
                await cancel_reading(way, moments_of(anyio_backend), lambda read=read: read(world))


async def cancel_reading(way: str, times: int, read: Callable[[], Awaitable[Any]]) -> None:
    """Cancel one call again and again."""
    moments = Moments()
    expected = await moments.untouched(read)
    assert expected
    for _ in range(times):
        ended = await moments.cancel(way, read)
        assert ended.cut or ended.value == expected
        assert await moments.untouched(read) == expected
    moments.check()


@contextlib.contextmanager
def naming(row: str) -> Iterator[None]:
    """Say of an error in which row it was."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"in the row {row}")
        raise


# --- what writes


@attrs.define
class Subject:
    """A campaign, numbers and a message id of one row's one moment.

    Attributes:
        journal: open.
        store: where it is.
        index: which subject; nothing of it is another one's.
        campaign: its id, if there is one.
        claim: of its first batch, if it was claimed.
    """

    journal: Journal
    store: str
    index: int
    campaign: int = 0
    claim: Claim | None = None
    tokens: Iterator[int] = attrs.field(factory=lambda: count(1))

    @property
    def campaigns(self) -> CampaignStore:
        """Of the journal."""
        return self.journal.campaigns

    @property
    def public(self) -> Campaigns:
        """The public class."""
        return Campaigns(self.journal)

    @property
    def name(self) -> str:
        """A name, and a message id."""
        return f"s{self.index}"

    @property
    def numbers(self) -> list[str]:
        """Of two batches, and two that are left out."""
        return number_run(1000 + 10 * self.index, 6)

    async def reach(self, stage: str) -> None:
        """Bring it so far, step by step."""
        for step in STAGES[stage]:
            await getattr(self, step)()

    async def suppress(self) -> None:
        """Let its numbers opt out."""
        await self.journal.suppress(self.numbers)

    async def begin(self) -> None:
        """Begin a plan."""
        self.campaign = await self.campaigns.create(name=self.name)

    async def finish(self) -> None:
        """End the plan."""
        await self.campaigns.finish(self.campaign)

    async def start(self) -> None:
        """Run."""
        await self.campaigns.start(self.campaign)

    async def take(self) -> None:
        """Claim a batch."""
        self.claim = await self.claim_next()

    async def expire(self) -> None:
        """Give it up as unknown."""
        await self.campaigns.expire_leases(self.campaign)

    async def report(self) -> None:
        """Let reports on it come."""
        await self.journal.record_push(push_of(self.name, self.numbers[:2]))

    async def pause(self) -> None:
        """Pause."""
        await self.campaigns.pause(self.campaign, "enough")

    async def fill(self) -> None:
        """Two batches, and two numbers left out."""
        left_out = [
            ExcludedNumber(number, reason=ExclusionReason.INVALID, detail="", source="", line=1)
            for number in self.numbers[4:]
        ]
        batches = [PlannedBatch(HELLO, self.numbers[at : at + 2]) for at in (0, 2)]
        await self.campaigns.add(self.campaign, batches, left_out)

    async def claim_next(self) -> Claim | None:
        """With a lease that has run out already."""
        return await self.campaigns.claim(self.campaign, token=f"{self.name}-{next(self.tokens)}", lease=-1.0)

    async def seen(self) -> Any:
        """All that the journal says of it."""
        journal = self.journal
        before = f"{int(self.numbers[0]) - 1}"
        suppressed = [one.number for one in await journal.suppressions(after=before, limit=6)]
        return (
            len(await journal.find_reports([(self.name, number) for number in self.numbers])),
            len(await journal.replies(mid=self.name)),
            sum(number in self.numbers for number in suppressed),
            await (self._seen_campaign() if self.campaign else self._seen_names()),
        )

    async def _seen_names(self) -> Any:
        return [one.state for one in await self.campaigns.all() if one.name == self.name]

    async def _seen_campaign(self) -> Any:
        campaigns, campaign = self.campaigns, self.campaign
        try:
            found = await campaigns.get(campaign)
        except errors.CampaignNotFoundError:
            return None
        records, _ = await campaigns.numbers(campaign)
        return (
            (found.state, found.reason, found.numbers),
            [(one.state, one.count, one.attempts, one.error, one.resend) for one in await campaigns.batches(campaign)],
            [record.state for record in records],
            len(await campaigns.left_out(campaign)),
            # A reconciliation that is cut off between its two steps leaves no event.
            [event.what for event in await campaigns.events(campaign) if event.what != "reconciled"],
        )


_RUNNING = ("begin", "fill", "finish", "start")
STAGES = {
    "nothing": (),
    "suppressed": ("suppress",),
    "begun": ("begin",),
    "filled": ("begin", "fill"),
    "planned": ("begin", "fill", "finish"),
    "running": _RUNNING,
    "claimed": (*_RUNNING, "take"),
    "unknown": (*_RUNNING, "take", "expire"),
    "reported": (*_RUNNING, "take", "expire", "report"),
    "paused": (*_RUNNING, "pause"),
    "settled": (*_RUNNING, "take", "take", "expire"),
}


async def _resent(s: Subject) -> Any:
    shown = await s.campaigns.preview_resend(s.campaign, BatchState.UNKNOWN)
    return await s.public.resend(s.campaign, BatchState.UNKNOWN, expected=shown, actor="ann")


async def _pushed(s: Subject) -> Any:
    reply = Reply(s.name, s.numbers[0], text="no more")
    await s.journal.record_push(push_of(s.name, s.numbers, replies=(reply,)), opted_out=(reply,))


async def _received(s: Subject) -> Any:
    body = urlencode({"type": "4", "mid": s.name, "mobile": ", ".join(s.numbers), "msg": "DELIVRD"}).encode()
    said: list[bytes] = []

    async def receive() -> dict[str, Any]:
        await checkpoint()
        return {"type": "http.request", "body": body}

    async def send(message: MutableMapping[str, Any]) -> None:
        said.append(message.get("body", b""))
        await checkpoint()

    scope = {"type": "http", "method": "POST", "path": f"/{SECRET}", "query_string": b"", "headers": []}
    async with PushReceiver(s.store, path_secret=SECRET) as receiver:
        await receiver({**scope, "client": ("127.0.0.1", 1), "http_version": "1.1"}, receive, send)
    assert said[-1] == b"ok"


WRITES: dict[str, tuple[str, Callable[[Subject], Awaitable[Any]]]] = {
    "Journal.record_push": ("nothing", _pushed),
    "Journal.suppress": ("nothing", lambda s: s.journal.suppress(s.numbers)),
    "Journal.unsuppress": ("suppressed", lambda s: s.journal.unsuppress(s.numbers)),
    "PushReceiver.__aenter__ PushReceiver.__aexit__ PushReceiver.__call__": ("nothing", _received),
    "CampaignStore.create": ("nothing", lambda s: s.campaigns.create(name=s.name)),
    "CampaignStore.add": ("begun", lambda s: s.fill()),
    "CampaignStore.finish": ("filled", lambda s: s.campaigns.finish(s.campaign)),
    "Campaigns.discard CampaignStore.discard": ("planned", lambda s: s.public.discard(s.campaign)),
    "CampaignStore.log_event": ("planned", lambda s: s.campaigns.log_event(s.campaign, "looked")),
    "Campaigns.start CampaignStore.start": ("planned", lambda s: s.public.start(s.campaign)),
    "Campaigns.pause CampaignStore.pause": ("running", lambda s: s.public.pause(s.campaign, "enough")),
    "CampaignStore.plan_test": ("running", lambda s: s.campaigns.plan_test(s.campaign, ["13900139000"])),
    "Campaigns.cancel CampaignStore.cancel": ("running", lambda s: s.public.cancel(s.campaign)),
    "CampaignStore.claim": ("running", lambda s: s.claim_next()),
    "CampaignStore.settle": ("claimed", lambda s: s.campaigns.settle(s.claim, accepted(s.claim, s.name))),
    "CampaignStore.release": ("claimed", lambda s: s.campaigns.release(s.claim, None)),
    "CampaignStore.undo_claim": ("claimed", lambda s: s.campaigns.undo_claim(s.campaign, s.claim.token)),
    "CampaignStore.expire_leases": ("claimed", lambda s: s.campaigns.expire_leases(s.campaign)),
    "Campaigns.resend CampaignStore.resend": ("unknown", _resent),
    "Campaigns.reconcile CampaignStore.reconcile": ("reported", lambda s: s.public.reconcile(s.campaign)),
    "Campaigns.resume CampaignStore.resume": ("paused", lambda s: s.public.resume(s.campaign)),
    "CampaignStore.complete": ("settled", lambda s: s.campaigns.complete(s.campaign)),
}


@every_way
async def test_what_writes(way: str, anyio_backend: str, store: str) -> None:
    """What is written is written wholly or not at all; and if not, the same call does it afterwards."""
    async with opened(anyio_backend, store, way) as journal:
        indexes = count(1)
        for row, (stage, write) in WRITES.items():
            with naming(row):
                await cancel_writing(
                    way, moments_of(anyio_backend), lambda: Subject(journal, store, next(indexes)), stage, write
                )


async def cancel_writing(
    way: str, times: int, subjects: Callable[[], Subject], stage: str, write: Callable[[Subject], Awaitable[Any]]
) -> None:
    """Cancel one call again and again, each time with another subject."""
    moments = Moments()
    subject = subjects()
    await subject.reach(stage)
    before = await subject.seen()
    value = await moments.untouched(lambda: write(subject))
    after = await subject.seen()
    assert before != after
    for _ in range(times):
        subject = subjects()
        await subject.reach(stage)
        ended = await moments.cancel(way, lambda subject=subject: write(subject))
        # Cancelling ends the waiting, not the writing; what is written in turn comes after it.
        await subject.journal.unsuppress(number_run(0, 1))
        seen = await subject.seen()
        assert seen in ((before, after) if ended.cut else (after,))
        assert ended.cut or type(ended.value) is type(value)
        if seen == before:
            await write(subject)
            assert await subject.seen() == after
    moments.check()


# --- what opens, listens and serves


@every_way
async def test_opening(way: str, anyio_backend: str, store: str) -> None:
    """A journal that is cut off while it opens, works or closes opens again, and leaves no connection."""
    async with opened(anyio_backend, store, way) as journal:
        await world_in(journal, Path())

    async def open_and_look() -> Any:
        async with open_journal(store) as again:
            return await again.report_cursor()

    await cancel_reading(way, moments_of(anyio_backend), open_and_look)
    await nobody_has_open(store, way)


@pytest.mark.parametrize(
    ("anyio_backend", "store", "way"), [way for way in WAYS if way[1] == "postgresql"], indirect=["store"]
)
async def test_listening(way: str, anyio_backend: str, store: str) -> None:
    """It goes on until it is cancelled, and leaves no connection. With a file it ends at once."""
    async with opened(anyio_backend, store, way) as journal:
        moments = Moments()
        for _ in range(moments_of(anyio_backend)):
            heard = anyio.Event()
            assert (await moments.cancel(way, lambda heard=heard: journal.watch(heard.set))).cut
        async with anyio.create_task_group() as group:
            heard = anyio.Event()
            group.start_soon(journal.watch, heard.set)
            await heard.wait()
            group.cancel_scope.cancel()


SIMULATED = [("asyncio", "scope"), ("asyncio", "task"), ("asyncio", "task twice"), ("trio", "scope")]
simulated = pytest.mark.parametrize(("anyio_backend", "way"), SIMULATED)


async def _acknowledging(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await checkpoint()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


@simulated
@pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")  # which trio minds, and httpx does not
@pytest.mark.parametrize("push", ["SimulatedGateway.push_all", "SimulatedGateway.push_forever"])
async def test_pushing(push: str, way: str, anyio_backend: str) -> None:
    """What was under way is still to be pushed, and can be."""
    gateway = SimulatedGateway(push_to="http://callback.test/", push_app=_acknowledging)
    before = tasks_alive(anyio_backend)
    moments = Moments()
    async with QxtClient("user", "password", base_url=GATEWAY, transport=gateway.transport()) as client:
        for index in range(moments_for(anyio_backend, [way[0] for way in SIMULATED], few=10)):
            await client.send(number_run(10 * index, 10), "hello")
            await moments.cancel(way, getattr(gateway, push.rpartition(".")[2]))
            await gateway.push_all()
            assert not gateway.outstanding
    await wait_all_tasks_blocked()
    assert tasks_alive(anyio_backend) == before
    moments.check()


@simulated
async def test_calling_the_gateway(way: str, anyio_backend: str) -> None:
    """What a cancelled request left in its books was told as accepted or unknown, and the next is answered."""
    gateway = SimulatedGateway()
    before = tasks_alive(anyio_backend)
    moments = Moments()
    told: list[BatchResult] = []
    async with QxtClient("user", "password", base_url=GATEWAY, transport=gateway.transport()) as client:
        for index in range(moments_for(anyio_backend, [way[0] for way in SIMULATED], few=10)):
            number, after = number_run(2 * index, 2)
            await moments.cancel(way, lambda number=number: client.send(number, "hello", on_result=told.append))
            assert gateway.times_taken(number) <= len(told[index].accepted) + len(told[index].unknown)
            assert (await client.send(after, "hello")).accepted == (after,)
    await wait_all_tasks_blocked()
    assert tasks_alive(anyio_backend) == before
    moments.check()


@pytest.mark.parametrize(("anyio_backend", "way"), [way for way in SIMULATED if way[0] == "asyncio"])
async def test_running_a_server(way: str, anyio_backend: str) -> None:
    """A server that is cut off at any time has given its port back."""
    gateway = SimulatedGateway()
    moments = Moments()
    urls: list[str] = []
    for _ in range(moments_for(anyio_backend, ["asyncio"] * 3, few=10)):
        assert (await moments.cancel(way, lambda: run_server(gateway, on_listening=urls.append))).cut
    assert urls
    for port in {urlsplit(url).port for url in urls}:
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("127.0.0.1", port))


WORKERS = [way for way in WAYS if way[1] == "postgresql"]


@pytest.mark.parametrize(("anyio_backend", "store", "way"), WORKERS, indirect=["store"])
async def test_workers(way: str, anyio_backend: str, store: str) -> None:
    """A worker that is cancelled leaves nothing as being sent, and whoever waits for workers leaves them their work."""
    gateway = SimulatedGateway()
    async with (
        opened(anyio_backend, store, way) as journal,
        QxtClient("user", "password", base_url=GATEWAY, transport=gateway.transport()) as client,
    ):
        working, waiting = Moments(), Moments()
        for index in range(moments_for(anyio_backend, [way[0] for way in WORKERS], few=3)):
            subject = Subject(journal, store, index)
            await subject.reach("planned")
            campaign = subject.campaign
            options = RunOptions(poll_interval=0.01)
            ended = await waiting.cancel(way, lambda c=campaign, o=options: run_on_workers(journal, c, o))
            assert ended.cut
            await subject.campaigns.start(campaign)
            ended = await working.cancel(way, lambda: CampaignWorker(journal, client).run())
            assert ended.cut or ended.late  # it says goodbye to the database, which nothing cuts short
            assert not await subject.campaigns.batches(campaign, state=BatchState.SENDING)
        waiting.check()
        assert working.early == 0


# --- all of them

COVERED = [
    *READS,
    *WRITES,
    *test_cancellation.CALLS,
    *test_cancelling_with_a_journal.RUNS,
    "Campaigns.plan",
    "Journal.open Journal.__aenter__ Journal.close Journal.__aexit__",
    "Journal.watch",
    "SimulatedGateway.push_all",
    "SimulatedGateway.push_forever",
    "SimulatedGateway.__call__ GatewayTransport.handle_async_request",
    "run_server",
    "CampaignWorker.run run_on_workers",
]
LEFT_OUT = {
    "Transport.exchange": "a protocol; the client's rows go through each of its classes",
    "Transport.aclose": "likewise",
    "BatchSender.give_back_unclear": "only calls the store's `undo_claim`",
}


def documented() -> Iterator[Any]:
    """The functions and classes of the API reference, and what `Campaigns` is made of."""
    yield from (BatchSender, CampaignStore)
    page = Path(__file__).parents[2] / "docs" / "api.md"
    module = last = ""
    for line in page.read_text(encoding="utf-8").splitlines():
        kind, _, name = line.partition(":: ")
        if kind in {".. currentmodule", ".. automodule"}:
            module = name
        elif kind in {".. autoclass", ".. autofunction"}:
            home, _, name = name.rpartition(".")
            yield getattr(importlib.import_module(home or module), name)
        elif line.startswith("   :members:") and kind == line and last.startswith(".. automodule"):
            given = line.removeprefix("   :members:").replace(",", " ").split()
            listed = importlib.import_module(module)
            yield from (getattr(listed, name) for name in given or listed.__all__)
        last = line


def coroutines() -> set[str]:
    """The names of those that can be awaited or iterated over."""
    found: set[str] = set()
    for each in documented():
        members = [each]
        if inspect.isclass(each):
            ours = [kind for kind in each.__mro__ if kind.__module__.startswith("qxt_async")]
            members = [value for kind in ours for name, value in vars(kind).items() if not re.match("_[^_]", name)]
        for member in members:
            generates = "AsyncGenerator" in str(getattr(member, "__annotations__", {}).get("return"))
            if inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member) or generates:
                found.add(member.__qualname__)
    return found


# Covered, and not on the pages: what campaigns send with.
INTERNAL = {"ClaimedSender.send"}


def test_each_public_coroutine_is_cancelled() -> None:
    """Every one has a row, or a reason to have none."""
    rows = {name for row in COVERED for name in row.split()}
    assert not rows & LEFT_OUT.keys()
    assert coroutines() == (rows - INTERNAL) | LEFT_OUT.keys()
