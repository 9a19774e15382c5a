"""What the gateway pushes: status reports and replies (PROTOCOL 4)."""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING

import anyio
import attrs

from qxt_async.models import Reply, StatusReport
from qxt_async.simulator.codec import encode_form
from qxt_async.simulator.push_client import PushClient

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from random import Random

    from qxt_async.simulator.account import Account
    from qxt_async.simulator.exchange import ASGIApp
    from qxt_async.simulator.push_plan import PushPlan
    from qxt_async.simulator.request_log import RequestLog, SimulatedSend

# Seconds until an idle worker checks for additions from another thread and for failed pushes: short beside a test.
_TICK = 0.02

# Without additions from outside it may sleep longer.
_LONG_TICK = 1.0


@attrs.frozen(order=True)
class _Due:
    at: float
    place: float
    pushed: StatusReport | Reply = attrs.field(order=False)
    attempt: int = attrs.field(default=1, order=False)


def push_form(pushed: Sequence[StatusReport] | Reply) -> str:
    """The urlencoded fields of one push: a reply, or reports (PROTOCOL 4.2, 4.3).

    The fields ``port``, ``area`` and ``city`` are sent once if they are the same for all reports, else as lists.
    """
    values: dict[str, Sequence[str | None]] = {}
    if isinstance(pushed, Reply):
        kind = "1"
        values |= {"mid": [pushed.mid], "mobile": [pushed.number], "msg": [pushed.text]}
        places: Sequence[StatusReport | Reply] = (pushed,)
    else:
        kind, places = "4", pushed
        values |= {
            "mid": [report.mid for report in pushed],
            "mobile": [report.number for report in pushed],
            "msg": [report.code for report in pushed],
        }
    for name in ("port", "area", "city"):
        found: list[str | None] = [getattr(one, name) for one in places]
        values[name] = found[:1] if len(set(found)) == 1 else found
    fields = {name: ", ".join([value or "" for value in found]) for name, found in values.items()}
    return encode_form((("type", kind), *fields.items()))


class PushRun:
    """Pushes reports and replies until each is answered ``ok`` or has had all its attempts.

    Args:
        plan: how.
        random: decides about delays, duplicates and order.
        acknowledged: (mid, mobile) of each one that is answered ``ok`` is added to it.
    """

    def __init__(self, plan: PushPlan, random: Random, acknowledged: set[tuple[str, str]]) -> None:
        self._plan = plan
        self._random = random
        self._acknowledged = acknowledged
        # Another thread may add to a gateway that serves in a thread, so new ones go through this deque.
        self._added: deque[tuple[float, float, StatusReport | Reply]] = deque()
        self._waiting: list[_Due] = []
        self._in_flight = 0
        self._place = 0
        self.calls = 0

    def add(self, pushed: StatusReport | Reply) -> None:
        """Push a report or reply after its delay, perhaps twice. May be called from any thread."""
        copies = 1 + (self._plan.duplicates > 0 and self._random.random() < self._plan.duplicates)
        for _ in range(copies):
            self._place += 1
            place = self._random.random() if self._plan.shuffle else self._place
            self._added.append((self._random.uniform(*self._plan.delay), place, pushed))

    def clear(self) -> None:
        """Drop what was not pushed yet."""
        self._added.clear()
        self._waiting.clear()

    async def run(self, client: PushClient, *, forever: bool = False) -> None:
        """Push over an open `client` until nothing is left or, with `forever`, until cancelled.

        A push that is cancelled counts as not acknowledged.
        """
        async with anyio.create_task_group() as group:
            for worker in range(self._plan.concurrency):
                group.start_soon(self._work, client, worker, forever)

    async def _work(self, client: PushClient, worker: int, forever: bool) -> None:  # noqa: FBT001
        while True:
            batch = self._next_batch()
            if batch:
                self._in_flight += 1
                try:
                    await self._push(client, worker, batch)
                finally:
                    self._in_flight -= 1
            elif self._waiting and not forever:
                await anyio.sleep(min(max(self._waiting[0].at - anyio.current_time(), 0.0), _LONG_TICK))
            elif forever or self._in_flight:
                await anyio.sleep(_TICK)
            else:
                return

    def _next_batch(self) -> list[_Due]:
        now = anyio.current_time()
        while self._added:
            delay, place, pushed = self._added.popleft()
            heapq.heappush(self._waiting, _Due(now + delay, place, pushed))
        batch: list[_Due] = []
        while self._waiting and self._waiting[0].at <= now and len(batch) < self._plan.batch_size:
            if isinstance(self._waiting[0].pushed, Reply):
                return batch or [heapq.heappop(self._waiting)]
            batch.append(heapq.heappop(self._waiting))
        return batch

    async def _push(self, client: PushClient, worker: int, batch: list[_Due]) -> None:
        self.calls += 1
        first = batch[0].pushed
        form = push_form(
            first if isinstance(first, Reply) else [due.pushed for due in batch if isinstance(due.pushed, StatusReport)]
        )
        if await client.push(worker, form):
            self._acknowledged.update((due.pushed.mid, due.pushed.number) for due in batch)
            return
        for due in batch:
            if due.attempt < self._plan.attempts:
                pause = min(self._plan.backoff * 2 ** (due.attempt - 1), 5.0)
                heapq.heappush(
                    self._waiting, attrs.evolve(due, at=anyio.current_time() + pause, attempt=due.attempt + 1)
                )


class Pusher:
    """Pushes the reports and replies of a gateway.

    Attributes:
        acknowledged: (mid, mobile) of each report and reply that was answered ``ok``.

    Raises:
        ValueError: the address cannot be called.
    """

    def __init__(
        self, log: RequestLog, account: Account, plan: PushPlan, random: Random, *, to: str | None, app: ASGIApp | None
    ) -> None:
        self.plan = plan
        self.acknowledged: set[tuple[str, str]] = set()
        self._log = log
        self._account = account
        self._random = random
        self.to = to
        self._app = app
        self._run = PushRun(plan, random, self.acknowledged)
        if to is not None:
            self._client(to, app, plan)  # refuses an address that cannot be called

    @property
    def calls(self) -> int:
        """How many calls the continuous push has made."""
        return self._run.calls

    def clear(self) -> None:
        """Forget all acknowledgements and what was not pushed yet."""
        self.acknowledged.clear()
        self._run.clear()

    def outstanding(self) -> frozenset[tuple[str, str]]:
        """(mid, mobile) of every report and reply that was not acknowledged yet."""
        return frozenset(
            {
                *((send.mid, mobile) for send in self._log.sends if send.delivers for mobile in send.numbers),
                *((reply.mid, reply.number) for reply in self._log.replies),
            }
            - self.acknowledged
        )

    async def push_all(self, to: str | None, app: ASGIApp | None, plan: PushPlan | None) -> int:
        """Push everything outstanding; return how many were acknowledged."""
        everything: list[StatusReport | Reply] = [
            *(report for send in tuple(self._log.sends) for report in self._reports(send)),
            *self._log.replies,
        ]
        pushed = [each for each in everything if (each.mid, each.number) not in self.acknowledged]
        return await self._push(pushed, to, app, plan or self.plan)

    async def push_forever(self) -> None:
        """Push what is added, until cancelled."""
        async with self._client(None, None, self.plan) as client:
            await self._run.run(client, forever=True)

    def add_reply(self, reply: Reply) -> None:
        """Push a reply, if there is a callback address. May be called from any thread."""
        if self.to is not None:
            self._run.add(reply)

    async def add_reports(self, sends: list[SimulatedSend]) -> None:
        """Push the reports on new sends, if there is a callback address; some of them before the send's answer."""
        if self.to is None:
            return
        reports = [report for send in sends for report in self._reports(send)]
        if self.plan.early and self._random.random() < self.plan.early:
            await self._push(reports, None, None, attrs.evolve(self.plan, delay=(0.0, 0.0), attempts=1))
        for report in reports:
            if (report.mid, report.number) not in self.acknowledged:
                self._run.add(report)

    async def _push(
        self, pushed: Iterable[StatusReport | Reply], to: str | None, app: ASGIApp | None, plan: PushPlan
    ) -> int:
        before = len(self.acknowledged)
        run = PushRun(plan, self._random, self.acknowledged)
        for each in pushed:
            run.add(each)
        async with self._client(to, app, plan) as client:
            await run.run(client)
        return len(self.acknowledged) - before

    def _client(self, to: str | None, app: ASGIApp | None, plan: PushPlan) -> PushClient:
        to = to or self.to
        if to is None:
            raise ValueError("no callback address: give `to`, or the gateway `push_to`")
        return PushClient(
            to, method=plan.method, concurrency=plan.concurrency, timeout=plan.timeout, app=app or self._app
        )

    def _reports(self, send: SimulatedSend) -> Iterator[StatusReport]:
        plan, port = self.plan, self._account.port(send.extno)
        for mobile in send.numbers if send.delivers else ():
            code = plan.code_of(send.mid, mobile)
            yield StatusReport(send.mid, mobile, code=code, port=port, area=plan.area, city=plan.city)
