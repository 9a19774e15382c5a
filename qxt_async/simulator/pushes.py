"""What the gateway pushes: status reports and replies, to whoever asked for them (PROTOCOL 4)."""

from __future__ import annotations

import heapq
import zlib
from collections import deque
from typing import TYPE_CHECKING

import anyio
import attrs

from qxt_async.models import Reply, StatusReport
from qxt_async.simulator.codec import encode_form

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from qxt_async.simulator.over_httpx import Caller

__all__ = ["PushPlan", "PushRun", "push_form"]

# How long an idle lane waits before it looks for what another thread or a failed push added: short beside a test.
_TICK = 0.02

# With nothing to come from outside it may wait longer for what it knows of.
_LONG_TICK = 1.0


def _share(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{attribute.name} is a share between 0 and 1, not {value}")


@attrs.frozen(kw_only=True)
class PushPlan:
    """How the gateway pushes. The defaults push each report once, at once, by itself.

    Attributes:
        method: ``GET``, as most deployments do, or ``POST``.
        delay: shortest and longest time from the send to its report, seconds.
        duplicates: share of the reports that are pushed twice.
        batch_size: reports in one push; above 1 they come as lists with a space after each comma (PROTOCOL 4.2).
        shuffle: push in any order.
        early: share of the sends whose reports come before the send's own answer (PROTOCOL 4.4).
        rejected: share of the reports that say ``REJECT``.
        failed: share of the reports that say one of `failure_codes`.
        failure_codes: carriers' codes.
        area: province in each push.
        city: city in each push.
        attempts: how often something is pushed until it is answered ``ok``.
        backoff: seconds before the second attempt; doubles up to 5 seconds.
        concurrency: pushes at a time.
        timeout: seconds for a whole push.
    """

    method: str = attrs.field(default="GET", validator=attrs.validators.in_(("GET", "POST")))
    delay: tuple[float, float] = (0.0, 0.0)
    duplicates: float = attrs.field(default=0.0, validator=_share)
    batch_size: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    shuffle: bool = False
    early: float = attrs.field(default=0.0, validator=_share)
    rejected: float = attrs.field(default=0.0, validator=_share)
    failed: float = attrs.field(default=0.0, validator=_share)
    failure_codes: tuple[str, ...] = attrs.field(
        default=("UNDELIV", "EXPIRED", "MK:0001"), validator=attrs.validators.min_len(1)
    )
    area: str = ""
    city: str = ""
    attempts: int = attrs.field(default=10, validator=attrs.validators.ge(1))
    backoff: float = attrs.field(default=0.1, validator=attrs.validators.ge(0.0))
    concurrency: int = attrs.field(default=8, validator=attrs.validators.ge(1))
    timeout: float = attrs.field(default=10.0, validator=attrs.validators.gt(0.0))

    def __attrs_post_init__(self) -> None:
        if not 0.0 <= self.delay[0] <= self.delay[1]:
            raise ValueError("delay is the shortest and the longest time in seconds")
        if self.rejected + self.failed > 1.0:
            raise ValueError("rejected and failed are shares that together are at most 1")

    def code_of(self, mid: str, mobile: str) -> str:
        """What the report on a phone says: always the same for the same phone and mid, however often it is pushed."""
        fate = zlib.crc32(f"{mid}:{mobile}".encode())
        point = fate / 2**32
        if point < self.rejected:
            return "REJECT"
        if point < self.rejected + self.failed:
            return self.failure_codes[fate % len(self.failure_codes)]
        return "DELIVRD"


@attrs.frozen(order=True)
class _Due:
    at: float
    place: float
    pushed: StatusReport | Reply = attrs.field(order=False)
    attempt: int = attrs.field(default=1, order=False)


def push_form(pushed: Sequence[StatusReport] | Reply) -> str:
    """The urlencoded fields of one push: a reply, whose text is never a list (PROTOCOL 4.3), or reports.

    Fields that several reports share come once if they are the same for all, else as lists too (PROTOCOL 4.2).
    """
    if isinstance(pushed, Reply):
        return encode_form(
            (
                ("type", "1"),
                ("mid", pushed.mid),
                ("mobile", pushed.number),
                ("msg", pushed.text),
                ("port", pushed.port or ""),
                ("area", pushed.area or ""),
                ("city", pushed.city or ""),
            )
        )

    def shared(values: list[str | None]) -> str:
        return ", ".join(value or "" for value in (values[:1] if len(set(values)) == 1 else values))

    return encode_form(
        (
            ("type", "4"),
            ("mid", ", ".join([report.mid for report in pushed])),
            ("mobile", ", ".join([report.number for report in pushed])),
            ("msg", ", ".join([report.code for report in pushed])),
            ("port", shared([report.port for report in pushed])),
            ("area", shared([report.area for report in pushed])),
            ("city", shared([report.city for report in pushed])),
        )
    )


class PushRun:
    """Pushes what it is given until each is answered ``ok`` or was tried often enough.

    Args:
        plan: how.
        random: decides about delays, duplicates and order; seeded by its owner.
        acknowledged: (mid, mobile) of what was answered ``ok`` is added to it.
    """

    def __init__(self, plan: PushPlan, random: Random, acknowledged: set[tuple[str, str]]) -> None:
        self._plan = plan
        self._random = random
        self._acknowledged = acknowledged
        # Another thread may add (a test talks to a gateway that serves in a thread), so additions pass through here.
        self._added: deque[tuple[float, float, StatusReport | Reply]] = deque()
        self._waiting: list[_Due] = []
        self._in_flight = 0
        self._place = 0
        self.calls = 0

    def add(self, pushed: StatusReport | Reply) -> None:
        """Push this after its delay, perhaps twice. May be called from any thread."""
        copies = 1 + (self._plan.duplicates > 0 and self._random.random() < self._plan.duplicates)
        for _ in range(copies):
            self._place += 1
            place = self._random.random() if self._plan.shuffle else self._place
            self._added.append((self._random.uniform(*self._plan.delay), place, pushed))

    def clear(self) -> None:
        """Forget what was not pushed yet."""
        self._added.clear()
        self._waiting.clear()

    async def run(self, caller: Caller, *, forever: bool = False) -> None:
        """Push over an open `caller`, until nothing is left or, if `forever`, until cancelled.

        A push that is cancelled under way counts as not acknowledged.
        """
        async with anyio.create_task_group() as group:
            for lane in range(self._plan.concurrency):
                group.start_soon(self._lane, caller, lane, forever)

    async def _lane(self, caller: Caller, lane: int, forever: bool) -> None:  # noqa: FBT001
        while True:
            batch = self._next_batch()
            if batch:
                self._in_flight += 1
                try:
                    await self._push(caller, lane, batch)
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

    async def _push(self, caller: Caller, lane: int, batch: list[_Due]) -> None:
        self.calls += 1
        first = batch[0].pushed
        form = push_form(
            first if isinstance(first, Reply) else [due.pushed for due in batch if isinstance(due.pushed, StatusReport)]
        )
        if await caller.call(lane, form):
            self._acknowledged.update((due.pushed.mid, due.pushed.number) for due in batch)
            return
        for due in batch:
            if due.attempt < self._plan.attempts:
                pause = min(self._plan.backoff * 2 ** (due.attempt - 1), 5.0)
                heapq.heappush(
                    self._waiting, attrs.evolve(due, at=anyio.current_time() + pause, attempt=due.attempt + 1)
                )
