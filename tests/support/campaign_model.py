"""What `test_model` drives: a journal and a gateway on a socket, one step a call, with what must be true.

The oracle is not a second journal: it is the gateway's books, the orders that were given, and the rules that hold
between them whatever happened in between.
"""

from __future__ import annotations

import contextlib
import math
import random
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import anyio
import attrs
from anyio import to_thread

from qxt_async import BatchResult, QxtClient, RetryPolicy
from qxt_async.campaign import Campaigns, RunOptions
from qxt_async.errors import AccountRefusedError, CampaignStateError, NotSentError
from qxt_async.journal import Journal, open_journal
from qxt_async.journal.records import BatchState, CampaignState, Claim, NumberState, PlannedBatch
from qxt_async.models import DeliveryState, Message, Reply, StatusReport
from qxt_async.protocol.pushes import Push
from qxt_async.runtime.clocks import boottime
from qxt_async.sending.claimed import ClaimedBatch
from qxt_async.simulator import Fault, SimulatedGateway

NUMBER_PATTERN = r"(86)?1[3-9][0-9]{9}"
MARGIN = 60.0
HOUR = 3_600_000_000
OPTIONS = RunOptions(
    check_balance=False,
    lease_margin=MARGIN,
    poll_interval=0.005,
    retry=RetryPolicy(3, backoff=0.001, max_backoff=0.002),
)
TIMEOUT = 0.25
WRITES = ("claim", "settle", "release", "disclaim", "expire_leases", "pause", "complete")
# A final state wins over none, and delivered over the others; else the first stays.
CODES = {"DELIVRD": 2, "UNDELIV": 1, "REJECT": 1, "EXPIRED": 1, "": 0}


class Killed(BaseException):
    """The process is gone: nothing that it held writes any more."""


class Mortal:
    """A journal's campaigns as a process sees them that dies at one of its writes.

    Args:
        campaigns: the real ones.
        writes: how many it lives to see.
        after: the last one is committed, and its process does not learn of it.
    """

    def __init__(self, campaigns: Any, writes: int, *, after: bool) -> None:
        self._campaigns = campaigns
        self._left = writes
        self._after = after
        self.dead = False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        operation = getattr(self._campaigns, name)

        async def called(*args: Any, **kwargs: Any) -> Any:
            if self.dead:
                raise Killed
            if name in WRITES:
                self._left -= 1
                if self._left < 0:
                    self.dead = True
                    if self._after:
                        with anyio.CancelScope(shield=True):
                            await operation(*args, **kwargs)
                    raise Killed
            return await operation(*args, **kwargs)

        return called


class Watched:
    """A gateway that knows how many requests it is at."""

    def __init__(self, gateway: SimulatedGateway) -> None:
        self.gateway = gateway
        self.under_way = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass it on."""
        counts = scope["type"] == "http" and "_simulator" not in scope["path"]
        self.under_way += counts
        try:
            await self.gateway(scope, receive, send)
        finally:
            self.under_way -= counts


@attrs.define(eq=False)
class Ghost:
    """An attempt whose process has not been heard of since.

    Attributes:
        claim: what it holds.
        result: what the gateway told it, ``None`` if it never asked.
    """

    claim: Claim
    result: BatchResult | None


@attrs.define(eq=False)
class Plan:
    """A campaign as the model knows it.

    Attributes:
        id: its key.
        text: no other campaign has it: in the gateway's books it stands for the campaign.
        numbers: all of them.
        orders: how often each may be taken: once, and once more for each order to send it again.
        taken_before: how often it had been taken when the last such order was given.
        last: what was true of each number after the step before.
        ordered: numbers that the step under way has ordered to be sent again.
        misled: numbers of batches to which the rule lets an unrecorded send speak: what is said of them proves nothing.
    """

    id: int
    text: str
    numbers: tuple[str, ...]
    orders: Counter[str]
    taken_before: Counter[str] = attrs.field(factory=Counter)
    last: dict[str, NumberState] = attrs.field(factory=dict)
    ordered: set[str] = attrs.field(factory=set)
    misled: set[str] = attrs.field(factory=set)


class World:
    """Everything there is; each public coroutine is a step.

    Args:
        watched: the gateway, served.
        url: its address.
        place: of the journal.
        numbers: never given out before.
    """

    def __init__(self, watched: Watched, url: str, place: str, numbers: Iterator[str]) -> None:
        self.watched = watched
        self.gateway = watched.gateway
        self.url = url
        self.place = place
        self.offset = 0
        self.plans: list[Plan] = []
        self.ghosts: list[Ghost] = []
        self.reports: dict[tuple[str, str], str] = {}
        self.barred: dict[str, int] = {}
        # What nobody recorded: the phones under each mid. That of yesterday can prove nothing.
        self.unrecorded: dict[str, tuple[str, ...]] = {}
        self.yesterday: dict[str, tuple[str, ...]] = {}
        # Mids that attempts were told and wrote down, whether it was theirs to say or not.
        self.received: set[str] = set()
        self._numbers = numbers
        self._sends_before = len(self.gateway.sends)
        self._journal: Journal | None = None
        self._tokens = 0

    @property
    def journal(self) -> Journal:
        """Open."""
        assert self._journal is not None
        return self._journal

    @property
    def campaigns(self) -> Any:
        """Its campaigns."""
        return self.journal.campaigns

    def now(self) -> int:
        """Microseconds since 1970, as the clock of this machine has it."""
        return time.time_ns() // 1000 + self.offset

    async def open(self) -> None:
        """Open the journal, as a new process does."""
        await self.close()
        self._journal = open_journal(self.place)
        await self._journal.open()
        self._journal.campaigns.database.clock = self.now  # type: ignore[attr-defined]

    async def close(self) -> None:
        """Close the journal."""
        if self._journal is not None:
            await self._journal.close()
            self._journal = None

    # --- plans and orders -------------------------------------------------------------------------------------------

    async def plan(self, sizes: Sequence[int], *, again: bool, form: str) -> None:
        """A campaign with batches of these sizes; with new numbers, or those of the campaign before.

        Yesterday somebody else sent to the people of its first batch.
        """
        text = f"【测试】您好{len(self.plans)}"
        known = [phone_of(number) for number in self.plans[-1].numbers] if again and self.plans else []
        phones = [*known, *(next(self._numbers) for _ in range(sum(sizes) - len(known)))][: sum(sizes)]
        chosen = [
            f"86{phone}" if form == "86" or (form == "mixed" and at % 2) else phone for at, phone in enumerate(phones)
        ]
        mid = self._new_mid("yesterday")
        self.yesterday[mid] = tuple(phones[: sizes[0]])
        await self._report(mid, self.yesterday[mid], "", hours_ago=24)
        batches, at = [], 0
        for place, size in enumerate(sizes):
            # Some with another extension, so that sending again has messages to keep apart.
            batches.append(PlannedBatch(Message(text, extno="8" if place % 3 == 2 else None), chosen[at : at + size]))
            at += size
        campaign = await self.campaigns.create()
        await self.campaigns.add(campaign, batches)
        await self.campaigns.finish(campaign)
        self.plans.append(Plan(campaign, text, tuple(chosen), Counter(chosen)))

    async def order(self, what: str, plan: Plan) -> None:
        """Start, pause, resume or cancel it; or expire what is being sent, or say that it is done."""
        arguments = ("enough",) if what == "pause" else ()
        with contextlib.suppress(CampaignStateError):
            now = self.now()
            await getattr(self.campaigns, what)(plan.id, *arguments)
            if what == "expire_leases":
                await self._check_leases(plan, now)

    async def resend(self, plan: Plan, state: BatchState) -> None:
        """Order what is in this state to be sent again."""
        records = await self.records(plan)
        preview = await self.campaigns.preview_resend(plan.id, state)
        counts = await self.campaigns.counts(plan.id)
        assert preview.numbers == (counts.unknown if state is BatchState.UNKNOWN else counts.failed)
        sending = await self._numbers_being_sent(plan)
        again = {number for number, now in records.items() if now == state and number not in sending}
        try:
            await self.campaigns.resend(plan.id, state, expected=preview, actor="ann")
        except CampaignStateError:
            return
        assert len(again) == preview.numbers
        taken = self.taken(plan)
        for number in again:
            plan.orders[number] += 1
            plan.taken_before[number] = taken[number]
        plan.ordered |= again

    # --- running ----------------------------------------------------------------------------------------------------

    async def run(self, plan: Plan, faults: Sequence[str], *, how: str, requests: int, concurrency: int) -> None:
        """Run it for some requests that meet faults, and end that in a way.

        Args:
            plan: which.
            faults: for the first requests, one each.
            how: ``on`` (nothing ends it), ``stop``, ``pause``, ``cancel`` (the order), ``give up`` (the caller's
                cancellation), ``die before`` or ``die after`` (at a write); ``two`` runs a second process beside.
            requests: how many it gets to, or how many writes.
            concurrency: requests in flight.
        """
        for name in faults:
            self.gateway.fail_next(Fault.named(name, **_haste(name)))
        dying = how.startswith("die")
        now, before = self.now(), await self._sending(plan)
        campaigns = Mortal(self.campaigns, requests, after=how == "die after") if dying else self.campaigns
        try:
            async with self._client(concurrency) as client:
                runner = Campaigns(_Journal(campaigns), client)
                limit = 1_000_000 if how == "on" or dying else requests
                await self._run_until(runner, plan, how, limit)
            if not dying:
                assert (await self._sending(plan)).keys() <= before.keys(), "left as being sent"
                if how != "give up":  # perhaps before it had looked
                    await self._check_leases(plan, now)
        except* (Killed, CampaignStateError):  # the latter if it was cancelled before
            pass
        finally:
            self.gateway.clear_faults()
        await self._settle()
        if dying:
            await self.open()

    async def _run_until(self, runner: Campaigns, plan: Plan, how: str, requests: int) -> None:
        begin = len(self.gateway.requests)

        async def end() -> None:
            ended, idle = False, 0
            while True:
                await anyio.sleep(0.003)
                pending_work = await self.campaigns.pending_work(plan.id)
                # What dead processes hold is waited for until its lease runs out: not here.
                idle = 0 if pending_work.planned or self.watched.under_way else idle + 1
                stuck = idle > 10
                if (ended or len(self.gateway.requests) < begin + requests) and not stuck:
                    continue
                if stuck or how in {"stop", "two"}:
                    runner.stop()
                elif how == "give up":
                    group.cancel_scope.cancel()
                else:
                    await self.order(how, plan)
                ended = True

        async def other() -> None:
            async with (
                open_journal(self.place) as journal,
                self._client(1) as client,
            ):
                journal.campaigns.database.clock = self.now  # type: ignore[attr-defined]
                beside = Campaigns(journal, client)
                with anyio.move_on_after(0.1), contextlib.suppress(CampaignStateError):
                    await beside.run(plan.id, OPTIONS)

        async with anyio.create_task_group() as group:
            if how == "two":
                group.start_soon(other)
            watch = anyio.create_task_group()
            async with watch:
                watch.start_soon(end)
                counts = await runner.run(plan.id, OPTIONS)
                assert counts.state is not CampaignState.DONE or not (counts.planned or counts.sending)
                watch.cancel_scope.cancel()

    def _client(self, concurrency: int) -> QxtClient:
        return QxtClient(
            "user",
            "password",
            base_url=self.url,
            timeout=TIMEOUT,
            max_concurrency=concurrency,
            number_pattern=NUMBER_PATTERN,
        )

    async def _settle(self) -> None:
        """Wait until the gateway is through with what has arrived: what it reads after this, nobody has sent."""
        control = self.url.removesuffix("/qxt") + "/_simulator/stats"
        # It comes after what was sent before, on whichever connection: the server looks at all of them in turn.
        await to_thread.run_sync(lambda: urllib.request.urlopen(control, timeout=30).close())
        with anyio.fail_after(30):
            while self.watched.under_way:  # noqa: ASYNC110
                await anyio.sleep(0.002)

    # --- attempts that nobody hears of ------------------------------------------------------------------------------

    async def haunt(self, plan: Plan, fault: str | None, *, sent: bool) -> None:
        """Claim a batch, send it or not, and say nothing of it: its process has stopped there."""
        self._tokens += 1
        state = (await self.campaigns.get(plan.id)).state
        claim = await self.campaigns.claim(plan.id, token=f"ghost {self._tokens}", lease=MARGIN)
        assert claim is None or state is CampaignState.RUNNING
        if claim is None:
            return
        ghost = Ghost(claim, None)
        if sent:
            if fault is not None:
                self.gateway.fail_next(Fault.named(fault, **_haste(fault)))
            results: list[BatchResult] = []

            async def take() -> ClaimedBatch:
                return ClaimedBatch(claim.message, claim.numbers, until=boottime() + MARGIN)

            async with self._client(1) as client:
                await client.claimed_sender().send(take, on_result=results.append)
            self.gateway.clear_faults()
            await self._settle()
            (ghost.result,) = results
        self.ghosts.append(ghost)

    async def heal(self, ghost: Ghost, *, keep: bool) -> None:
        """It was only asleep, and writes down what it knows; perhaps not for the last time."""
        error = None if ghost.result is None else ghost.result.error
        if ghost.result is None or isinstance(error, NotSentError | AccountRefusedError):
            await self.campaigns.release(ghost.claim, error)
        else:
            await self.campaigns.settle(ghost.claim, ghost.result)
            self.received.update(acceptance.mid for acceptance in ghost.result.acceptances)
        if not keep:
            self.ghosts.remove(ghost)

    # --- what comes back --------------------------------------------------------------------------------------------

    async def push(self, send: int, share: float, code: str, *, times: int) -> None:
        """Reports on some numbers of something that the gateway took, whatever the journal knows of it by now."""
        sends = [each for each in self.gateway.sends[self._sends_before :] if each.delivers]
        if sends:
            chosen = sends[send % len(sends)]
            numbers = chosen.numbers[: max(1, round(share * chosen.count))]
            for _ in range(times):
                await self._report(chosen.mid, numbers, code)

    async def push_foreign(self, plan: Plan, size: int, code: str) -> None:
        """Reports on something that somebody else has sent to some of our numbers, and to others."""
        await self._report(self._new_mid("foreign"), (*plan.numbers[:size], next(self._numbers)), code)

    async def push_unrecorded(self, plan: Plan, begin: int, size: int, code: str) -> None:
        """Reports on something that somebody else has sent to some of our numbers only."""
        mid, at = self._new_mid("unrecorded"), begin % len(plan.numbers)
        self.unrecorded[mid] = tuple(phone_of(number) for number in plan.numbers[at : at + size])
        await self._report(mid, self.unrecorded[mid], code)

    async def push_unrecorded_again(self, which: int, code: str) -> None:
        """The same once more, perhaps better: it is as old as it was."""
        elsewhere = [*self.yesterday.items(), *self.unrecorded.items()]
        await self._report(*elsewhere[which % len(elsewhere)], code)

    async def push_second_gateway(self, which: int, plan: Plan, begin: int, size: int, code: str) -> None:
        """Reports by another gateway, of what nobody recorded, under a mid that a send of the journal has received."""
        mids = {record.mid for each in self.plans async for record in self._every_record(each) if record.mid}
        known = sorted((mids | self.received) - self.unrecorded.keys())
        if known:
            mid = known[which % len(known)]
            texts = {send.text for send in self.gateway.sends[self._sends_before :] if send.mid == mid}
            # Nothing tells two sends with one mid to one phone apart.
            own = {phone_of(number) for each in self.plans if each.text in texts for number in each.numbers}
            at = begin % len(plan.numbers)
            phones = [phone_of(number) for number in plan.numbers[at : at + size]]
            await self._report(mid, [phone for phone in phones if phone not in own], code)

    def _new_mid(self, whose: str) -> str:
        self._tokens += 1
        return f"{whose}{self._tokens}"

    async def _report(self, mid: str, numbers: Sequence[str], code: str, *, hours_ago: int = 0) -> None:
        phones = [phone_of(number) for number in numbers]
        received_at = datetime.fromtimestamp((self.now() - hours_ago * HOUR) / 1e6, UTC)
        reports = tuple(StatusReport(mid, phone, code=code, received_at=received_at) for phone in phones)
        push = Push(query=b"", body=b"", reports=reports, received_at=received_at)
        await self.journal.record_push(push)
        for phone in phones:
            before = self.reports.get((mid, phone))
            if before is None or CODES[code] > CODES[before]:
                self.reports[mid, phone] = code

    async def reconcile(self, plan: Plan, deadline: float | None) -> None:
        """Look at the reports."""
        counts = await self.campaigns.counts(plan.id)
        found = await self.campaigns.reconcile(plan.id, deadline=deadline)
        after = await self.campaigns.counts(plan.id)
        assert after.accepted - counts.accepted >= found.numbers

    async def opt_out(self, number: str, *, by_reply: bool) -> None:
        """Somebody wants no more texts."""
        if by_reply:
            self._tokens += 1
            reply = Reply(f"reply{self._tokens}", phone_of(number), text="TD", port=None, area=None, city=None)
            push = Push(query=b"", body=b"", replies=(reply,), received_at=datetime.now(UTC))
            await self.journal.record_push(push, opted_out=(reply,))
        else:
            await self.journal.suppress([number])
        phone = phone_of(number)
        self.barred.setdefault(phone, self._taken_in_all()[phone])

    async def opt_in(self, number: str) -> None:
        """Somebody wants them again."""
        await self.journal.unsuppress([number])
        self.barred.pop(number, None)

    # --- what must be true ------------------------------------------------------------------------------------------

    def taken(self, plan: Plan) -> Counter[str]:
        """How often the gateway took each number of a campaign."""
        ours = self.gateway.sends[self._sends_before :]
        return Counter(number for send in ours if send.text == plan.text for number in send.numbers)

    def _taken_in_all(self) -> Counter[str]:
        return Counter(phone_of(number) for send in self.gateway.sends[self._sends_before :] for number in send.numbers)

    async def _every_record(self, plan: Plan) -> AsyncIterator[Any]:
        after = 0
        while True:
            records, after = await self.campaigns.numbers(plan.id, after=after, limit=7)
            if not records:
                return
            for record in records:
                yield record

    async def records(self, plan: Plan) -> dict[str, NumberState]:
        """What became of each number; each in one state."""
        found: dict[str, NumberState] = {}
        async for record in self._every_record(plan):
            assert record.number not in found, "in two states"
            found[record.number] = record.state
        return found

    async def _numbers_being_sent(self, plan: Plan) -> set[str]:
        sending = await self._sending(plan)
        return {record.number async for record in self._every_record(plan) if record.batch in sending}

    async def check(self) -> None:
        """Everything that has to hold between two steps."""
        for plan in self.plans:
            await self._check_campaign(plan)
        stored = await self.journal.find_reports(self.reports)
        assert {(report.mid, report.number): report.code for report in stored} == self.reports, "a report was lost"
        in_all = self._taken_in_all()
        assert not [number for number, times in self.barred.items() if in_all[number] > times], "sent after opting out"

    async def _check_campaign(self, plan: Plan) -> None:
        await self._find_misled(plan)
        records = await self.records(plan)
        taken = self.taken(plan)
        counts = await self.campaigns.counts(plan.id)
        assert records.keys() == set(plan.numbers), "a number was lost"
        for number, state in records.items():
            assert taken[number] <= plan.orders[number], "taken more often than ordered"
            if number in plan.misled:
                continue
            if taken[number] > plan.taken_before[number]:
                assert state in {NumberState.ACCEPTED, NumberState.UNKNOWN}, f"taken, and {state}"
            assert state is not NumberState.ACCEPTED or taken[number], "accepted, and not taken"
            assert state is not NumberState.CANCELLED or not taken[number], "cancelled, and taken by an earlier attempt"
            assert state is not NumberState.FAILED or not taken[number], "failed, and taken by an earlier attempt"
            assert state is not NumberState.SUPPRESSED or not taken[number], (
                "suppressed, and taken by an earlier attempt"
            )
            self._check_change(plan, number, state)
        plan.last, plan.ordered = records, set()
        by_state = Counter(records.values())
        assert counts.numbers == len(plan.numbers)
        assert counts.accepted == by_state[NumberState.ACCEPTED]
        assert counts.failed == by_state[NumberState.FAILED]
        assert counts.suppressed == by_state[NumberState.SUPPRESSED]
        assert counts.unknown + counts.sending == by_state[NumberState.UNKNOWN]
        assert counts.planned == by_state[NumberState.PLANNED] + by_state[NumberState.CANCELLED]
        assert counts.state is not CampaignState.DONE or not (counts.planned or counts.sending), (
            "done, with something left"
        )
        await self._check_attempts(plan)
        await self._check_deliveries(plan)

    async def _check_deliveries(self, plan: Plan) -> None:
        """What is counted is what the numbers say."""
        found = Counter([record.report_state async for record in self._every_record(plan)])
        repr_count = await self.campaigns.deliveries(plan.id)
        said = {state: getattr(repr_count, str(state)) for state in DeliveryState}
        assert said == {state: found[state] for state in DeliveryState}, (
            "the counts of deliveries and the numbers differ"
        )

    def _check_change(self, plan: Plan, number: str, state: NumberState) -> None:
        before = plan.last.get(number)
        if before in {None, state} or number in plan.ordered:
            return
        assert before is not NumberState.ACCEPTED, f"accepted before, and now {state}"
        if before is NumberState.FAILED:
            raise AssertionError(f"failed before, and now {state} without an order")

    async def _check_attempts(self, plan: Plan) -> None:
        mids: defaultdict[str, set[str]] = defaultdict(set)
        for send in self.gateway.sends[self._sends_before :]:
            mids[send.mid].update(send.numbers if send.text == plan.text else ())
        async for record in self._every_record(plan):
            if record.number not in plan.misled:
                assert record.mid is None or record.number in mids[record.mid], "accepted under another's mid"

    async def _find_misled(self, plan: Plan) -> None:
        """Which batches an unrecorded send has bound; only those for which the rule says that it may."""
        batches = {batch.id: batch for batch in await self.campaigns.batches(plan.id)}
        async for record in self._every_record(plan):
            if record.mid in self.unrecorded:
                sent = batches[record.batch].accepted
                reported = len(self.unrecorded[record.mid])
                assert reported >= min(sent, max(3, math.ceil(sent / 20))), "accepted by too few reports"
                plan.misled.add(record.number)

    async def _sending(self, plan: Plan) -> dict[int, int]:
        """Batches that are being sent, as far as the journal knows, and since when."""
        batches = await self.campaigns.batches(plan.id, state=BatchState.SENDING)
        return {batch.id: round(batch.claimed_at.timestamp() * 1e6) for batch in batches}

    async def _check_leases(self, plan: Plan, now: int) -> None:
        """Who was dead at `now` holds nothing any more."""
        for since in (await self._sending(plan)).values():
            assert now - (MARGIN + TIMEOUT) * 1e6 < since < now + HOUR // 2, "being sent, by nobody"


@attrs.frozen
class _Journal:
    """As much of a journal as a runner needs."""

    campaigns: Any

    def campaigns_of(self, _account: str) -> Any:
        """No account has limits here."""
        return self.campaigns


def _haste(name: str) -> dict[str, float]:
    return {"retry_after": 0.002} if name.startswith("throttle") else {"delay": 0.01} if name == "slow" else {}


def phone_of(number: str) -> str:
    """Which phone a number is."""
    return number[-11:]


def number_run() -> Iterator[str]:
    """Phone numbers, made up, never the same one twice."""
    start = random.Random(0).randrange(1000)
    return (f"138{number:08d}" for number in range(start, 100_000_000))
