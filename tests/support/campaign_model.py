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
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import anyio
import attrs
from anyio import to_thread

from qxt_async import BatchResult, QxtClient, RetryPolicy
from qxt_async.campaign import Campaigns, RunOptions
from qxt_async.errors import AccountRefusedError, CampaignStateError, NotSentError
from qxt_async.journal import Journal, open_journal
from qxt_async.journal.records import (
    Batch,
    BatchState,
    Campaign,
    CampaignCounts,
    CampaignState,
    Claim,
    NumberRecord,
    NumberState,
    PlannedBatch,
)
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
WRITES = ("claim", "settle", "release", "undo_claim", "expire_leases", "pause", "complete")
# A final state wins over none, and delivered over the others; else the first stays.
CODES = {"DELIVRD": 2, "UNDELIV": 1, "REJECT": 1, "EXPIRED": 1, "": 0}
OPEN = {BatchState.PLANNED, BatchState.SENDING}


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


@attrs.frozen
class Recipient:
    """Who is to get a campaign's text before everybody else.

    Attributes:
        kind: ``listed`` (a number of the campaign), ``foreign`` (none so far), ``again`` (one that was to be tested
            before), ``opted out``.
        which: of those that there are.
        prefix: what stands before the number.
    """

    kind: str
    which: int
    prefix: str


@attrs.frozen
class Trial:
    """The test that a run is to make.

    Attributes:
        recipients: who gets it.
        pause_after: pause also when it was accepted.
    """

    recipients: Sequence[Recipient] = ()
    pause_after: bool = False


NO_TRIAL = Trial()


@attrs.frozen
class View:
    """What the journal says of a campaign, read once.

    Attributes:
        campaign: itself.
        batches: by their keys, withdrawn ones too.
        records: of all numbers.
        counts: its numbers by what became of them.
    """

    campaign: Campaign
    batches: dict[int, Batch]
    records: list[NumberRecord]
    counts: CampaignCounts

    @property
    def tests(self) -> dict[int, Batch]:
        """The test batches."""
        return {key: batch for key, batch in self.batches.items() if batch.test}

    @property
    def sending(self) -> dict[int, int]:
        """Batches that are being sent, and since when."""
        return {
            key: round(batch.claimed_at.timestamp() * 1e6)
            for key, batch in self.batches.items()
            if batch.state is BatchState.SENDING and batch.claimed_at is not None
        }

    def numbers_in(self, batches: Collection[int]) -> set[str]:
        """The numbers of which these batches decide."""
        return {record.number for record in self.records if record.batch in batches}


@attrs.define(eq=False)
class Plan:
    """A campaign as the model knows it.

    Attributes:
        id: its key.
        text: no other campaign has it: in the gateway's books it stands for the campaign.
        numbers: all of them; testers who were in no batch join them.
        testers: phones that runs were told to test. A run that was given up may plan the test a moment later.
        orders: how often each may be taken: once, and once more for each order to send it again.
        taken_before: how often it had been taken when the last such order was given.
        last: what was true of each number after the step before.
        last_in_tests: the numbers that were a test's then.
        ordered: numbers that the step under way has ordered to be sent again.
        misled: numbers of batches to which the rule lets an unrecorded send speak: what is said of them proves nothing.
    """

    id: int
    text: str
    numbers: tuple[str, ...]
    orders: Counter[str]
    testers: list[str] = attrs.field(factory=list)
    taken_before: Counter[str] = attrs.field(factory=Counter)
    last: dict[str, NumberState] = attrs.field(factory=dict)
    last_in_tests: set[str] = attrs.field(factory=set)
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
            batches.append(PlannedBatch(Message(text, extno="8" if place % 2 else None), chosen[at : at + size]))
            at += size
        campaign = await self.campaigns.create()
        await self.campaigns.add(campaign, batches)
        await self.campaigns.finish(campaign)
        self.plans.append(Plan(campaign, text, tuple(chosen), Counter(chosen)))

    async def order(self, what: str, plan: Plan) -> None:
        """Start, pause, resume or cancel it; or expire what is being sent, or say that it is done."""
        arguments = ("enough",) if what == "pause" else ()
        now, before = self.now(), await self.look(plan)
        with contextlib.suppress(CampaignStateError):
            await getattr(self.campaigns, what)(plan.id, *arguments)
            after = await self.look(plan)
            if what == "expire_leases":
                self._check_leases(after, now)
            self._check_test(before, after, [], pause_after=False)

    async def resend(self, plan: Plan, state: BatchState) -> None:
        """Order what is in this state to be sent again."""
        view = await self.look(plan)
        preview = await self.campaigns.preview_resend(plan.id, state)
        assert preview.numbers == (view.counts.unknown if state is BatchState.UNKNOWN else view.counts.failed)
        sending = view.numbers_in(view.sending)
        again = {record.number for record in view.records if record.state == state and record.number not in sending}
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

    async def run(
        self,
        plan: Plan,
        faults: Sequence[str],
        *,
        how: str,
        requests: int,
        concurrency: int,
        trial: Trial = NO_TRIAL,
    ) -> None:
        """Run it for some requests that meet faults, and end that in a way.

        Args:
            plan: which.
            faults: for the first requests, one each.
            how: ``on`` (nothing ends it), ``stop``, ``pause``, ``cancel`` (the order), ``give up`` (the caller's
                cancellation), ``die before`` or ``die after`` (at a write); ``two`` runs a second process beside.
            requests: how many it gets to, or how many writes.
            concurrency: requests in flight.
            trial: the test that is to be made before.
        """
        numbers = [await self._test_number(plan, recipient) for recipient in trial.recipients]
        options = attrs.evolve(OPTIONS, test_numbers=numbers, pause_after_test=trial.pause_after)
        for name in faults:
            self.gateway.fail_next(Fault.named(name, **_haste(name)))
        dying = how.startswith("die")
        now, before, sent_before = self.now(), await self.look(plan), len(self.gateway.sends)
        campaigns = Mortal(self.campaigns, requests, after=how == "die after") if dying else self.campaigns
        began = False
        try:
            async with self._client(concurrency) as client:
                runner = Campaigns(_Journal(campaigns), client)
                limit = 1_000_000 if how == "on" or dying else requests
                await self._run_until(runner, plan, options, how, limit)
            began = how != "give up"  # that may have been before it had looked
        except* (Killed, CampaignStateError):  # the latter if it was cancelled before
            pass
        finally:
            self.gateway.clear_faults()
        await self._settle()
        if dying:
            await self.open()
        after = await self.look(plan)
        if not dying:
            assert after.sending.keys() <= before.sending.keys(), "left as being sent"
        if began:
            self._check_leases(after, now)
        if how != "two":  # the other one may begin when the test is over
            sends = [send.numbers for send in self.gateway.sends[sent_before:] if send.text == plan.text]
            self._check_test(before, after, sends, pause_after=trial.pause_after)
            if began:
                self._check_planned_test(before, after, numbers)

    async def _test_number(self, plan: Plan, recipient: Recipient) -> str:
        """A number that is to be tested, new in the campaign or not."""
        if recipient.kind == "listed":
            phone = phone_of(plan.numbers[recipient.which % len(plan.numbers)])
        elif recipient.kind == "opted out" and self.barred:
            phone = sorted(self.barred)[recipient.which % len(self.barred)]
        elif recipient.kind == "again" and plan.testers:
            phone = plan.testers[recipient.which % len(plan.testers)]
        else:
            phone = next(self._numbers)
            if recipient.kind == "opted out":
                await self.opt_out(phone, by_reply=False)
        if phone not in plan.testers:
            plan.testers.append(phone)
        return recipient.prefix + phone

    def _check_test(self, before: View, after: View, sends: Sequence[tuple[str, ...]], *, pause_after: bool) -> None:
        """What a run sent: the test first; nothing else if the test was not accepted, or somebody is to look at it."""
        new = after.tests.keys() - before.tests.keys()
        tests = new | {key for key, batch in before.tests.items() if batch.state in OPEN}
        numbers = after.numbers_in(tests)
        others = [not numbers.issuperset(its_numbers) for its_numbers in sends]
        assert not tests or others == sorted(others), "sent before the test was"
        became = {after.batches[key].state for key in tests}
        ended = became - OPEN
        if became - {BatchState.ACCEPTED} or (new and pause_after):
            assert not any(others), "sent though the test was not accepted"
        if ended - {BatchState.ACCEPTED} or (pause_after and {after.batches[key].state for key in new} - OPEN):
            assert after.campaign.state in {CampaignState.PAUSED, CampaignState.CANCELLED}, "not paused by its test"

    def _check_planned_test(self, before: View, after: View, numbers: Sequence[str]) -> None:
        """A run that had testers, and knew what became of all that was sent before, has planned their test."""
        found = {record.state for record in before.records}
        if NumberState.PLANNED not in found or NumberState.UNKNOWN in found:
            return
        due = self._due(before, numbers)
        planned = after.numbers_in(after.tests.keys() - before.tests.keys())
        tested = set(map(phone_of, planned))
        assert tested == due, f"tested {sorted(tested)}, and due were {sorted(due)}"

    def _due(self, view: View, numbers: Sequence[str]) -> set[str]:
        """Phones that the next run tests: once, and again as long as the test is refused."""
        made = {*OPEN, BatchState.ACCEPTED, BatchState.UNKNOWN}
        tested = any(batch.state in made for batch in view.tests.values())
        records = {phone_of(record.number): record for record in view.records}
        due = set()
        for phone in map(phone_of, numbers):
            record = records.get(phone)
            batch = None if record is None or record.batch is None else view.batches[record.batch]
            if batch is None or record is None:
                again = not tested
            elif record.state is NumberState.FAILED:
                again = batch.test and batch.state is BatchState.FAILED
            else:
                again = record.state is NumberState.PLANNED and not tested and not batch.resend
            if again:
                due.add(phone)
        return due

    async def _run_until(self, runner: Campaigns, plan: Plan, options: RunOptions, how: str, requests: int) -> None:
        begin = len(self.gateway.requests)

        async def end() -> None:
            ended, idle = False, 0
            while True:
                await anyio.sleep(0.003)
                pending = await self.campaigns.pending_work(plan.id)
                # What dead processes hold is waited for until its lease runs out: not here. If that is the test, what
                # is planned waits, too.
                busy = self.watched.under_way or (pending.planned and not (pending.sending and await self._tests(plan)))
                idle = 0 if busy else idle + 1
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
                    await beside.run(plan.id, options)

        async with anyio.create_task_group() as group:
            if how == "two":
                group.start_soon(other)
            watch = anyio.create_task_group()
            async with watch:
                watch.start_soon(end)
                counts = await runner.run(plan.id, options)
                assert counts.state is not CampaignState.DONE or not (counts.planned or counts.sending)
                watch.cancel_scope.cancel()

    async def _tests(self, plan: Plan) -> bool:
        """Whether a test is being sent."""
        return any(batch.test for batch in await self.campaigns.batches(plan.id, state=BatchState.SENDING))

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
        await to_thread.run_sync(lambda: urllib.request.urlopen(control, timeout=120).close())
        with anyio.fail_after(120):
            while self.watched.under_way:  # noqa: ASYNC110
                await anyio.sleep(0.002)

    # --- attempts that nobody hears of ------------------------------------------------------------------------------

    async def haunt(self, plan: Plan, fault: str | None, *, sent: bool) -> None:
        """Claim a batch, send it or not, and say nothing of it: its process has stopped there."""
        self._tokens += 1
        before = await self.look(plan)
        claim = await self.campaigns.claim(plan.id, token=f"ghost {self._tokens}", lease=MARGIN)
        if claim is None:
            return
        assert before.campaign.state is CampaignState.RUNNING
        open_tests = {key for key, batch in before.tests.items() if batch.state in OPEN}
        assert claim.batch in open_tests or not open_tests, "claimed before the test was over"
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
        mids = {record.mid for each in self.plans for record in (await self.look(each)).records if record.mid}
        known = sorted((mids | self.received) - self.unrecorded.keys())
        if known:
            mid = known[which % len(known)]
            texts = {send.text for send in self.gateway.sends[self._sends_before :] if send.mid == mid}
            # Nothing tells two sends with one mid to one phone apart.
            own = {phone_of(number) for each in self.plans if each.text in texts for number in each.numbers}
            at = begin % len(plan.numbers)
            phones = [phone_of(number) for number in plan.numbers[at : at + size]]
            await self._report(mid, [phone for phone in phones if phone not in own], code)

    async def push_beside_test(self, plan: Plan, which: int, begin: int, size: int, code: str) -> None:
        """Reports under the mid of a test that was accepted, on other numbers of the campaign."""
        view = await self.look(plan)
        tests = [
            batch
            for batch in view.tests.values()
            if batch.mid is not None and batch.mid not in self.unrecorded and batch.accepted == batch.count
        ]
        if tests:
            test = tests[which % len(tests)]
            tested = view.numbers_in({test.id})
            phones = [phone_of(number) for number in plan.numbers if number not in tested]
            at = begin % max(1, len(phones))
            assert test.mid is not None
            await self._report(test.mid, phones[at : at + size], code)

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

    async def look(self, plan: Plan) -> View:
        """Read what the journal says of a campaign, each number once: this is done after every step."""
        batches = {batch.id: batch for batch in await self.campaigns.batches(plan.id)}
        records: list[NumberRecord] = []
        more, after = True, 0
        while more and after < max(batches):
            some, after = await self.campaigns.numbers(plan.id, after=after)
            records += some
            more = bool(some)
        campaign = await self.campaigns.get(plan.id)
        return View(campaign, batches, records, await self.campaigns.counts(plan.id))

    async def reopen(self, plan: Plan) -> None:
        """Another process opens the journal, and reads what became of a campaign's numbers, a few at a time."""
        await self.open()
        records: list[NumberRecord] = []
        some, after = await self.campaigns.numbers(plan.id, limit=7)
        while some:
            records += some
            some, after = await self.campaigns.numbers(plan.id, after=after, limit=7)
        assert records == (await self.look(plan)).records, "a page was left out"

    async def check(self) -> None:
        """Everything that has to hold between two steps."""
        for plan in self.plans:
            await self._check_campaign(plan)
        stored = await self.journal.find_reports(self.reports)
        assert {(report.mid, report.number): report.code for report in stored} == self.reports, "a report was lost"
        in_all = self._taken_in_all()
        assert not [number for number, times in self.barred.items() if in_all[number] > times], "sent after opting out"

    async def _check_campaign(self, plan: Plan) -> None:
        view = await self.look(plan)
        self._adopt_testers(plan, view)
        self._find_misled(plan, view)
        records = {record.number: record.state for record in view.records}
        assert len(records) == len(view.records), "in two states"
        assert records.keys() == set(plan.numbers), "a number was lost"
        taken = self.taken(plan)
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
        plan.last, plan.last_in_tests = records, view.numbers_in(view.tests)
        plan.ordered = set()
        self._check_attempts(plan, view)
        await self._check_counts(plan, view)

    def _adopt_testers(self, plan: Plan, view: View) -> None:
        """Who was tested and in no batch is in the campaign from then on, and may be texted once."""
        new = {record.number for record in view.records} - set(plan.numbers)
        assert new <= view.numbers_in(view.tests), "in the campaign, and nobody put it there"
        assert set(map(phone_of, new)) <= set(plan.testers), "tested, and nobody asked for it"
        plan.numbers += tuple(sorted(new))
        plan.orders.update(new)

    async def _check_counts(self, plan: Plan, view: View) -> None:
        """What is counted is what the numbers say."""
        by_state = Counter(record.state for record in view.records)
        counts = view.counts
        assert counts.numbers == view.campaign.numbers == len(plan.numbers)
        assert counts.accepted == by_state[NumberState.ACCEPTED]
        assert counts.failed == by_state[NumberState.FAILED]
        assert counts.suppressed == by_state[NumberState.SUPPRESSED]
        assert counts.unknown + counts.sending == by_state[NumberState.UNKNOWN]
        assert counts.planned == by_state[NumberState.PLANNED] + by_state[NumberState.CANCELLED]
        assert counts.state is not CampaignState.DONE or not (counts.planned or counts.sending), (
            "done, with something left"
        )
        found = Counter(record.report_state for record in view.records)
        deliveries = await self.campaigns.deliveries(plan.id)
        said = {state: getattr(deliveries, str(state)) for state in DeliveryState}
        assert said == {state: found[state] for state in DeliveryState}, (
            "the counts of deliveries and the numbers differ"
        )

    def _check_change(self, plan: Plan, number: str, state: NumberState) -> None:
        before = plan.last.get(number)
        if before in {None, state} or number in plan.ordered:
            return
        assert before is not NumberState.ACCEPTED, f"accepted before, and now {state}"
        if before is NumberState.FAILED:
            # A test that was refused is made anew.
            assert number in plan.last_in_tests, f"failed before, and now {state} without an order"
            assert phone_of(number) in plan.testers, f"failed before, and now {state} without a test"

    def _check_attempts(self, plan: Plan, view: View) -> None:
        mids: defaultdict[str, set[str]] = defaultdict(set)
        for send in self.gateway.sends[self._sends_before :]:
            mids[send.mid].update(send.numbers if send.text == plan.text else ())
        for record in view.records:
            if record.number not in plan.misled:
                assert record.mid is None or record.number in mids[record.mid], "accepted under another's mid"

    def _find_misled(self, plan: Plan, view: View) -> None:
        """Which batches reports have bound though they prove nothing; only those for which the rule says that it may.

        Those of an unrecorded send, and those of a request of which the gateway took a part, if its answer was lost.
        """
        own = {send.mid: set(send.numbers) for send in self.gateway.sends[self._sends_before :]}
        took_part = any(0 < request.taken < request.numbers for request in self.gateway.requests)
        for record in view.records:
            if record.batch is None or record.mid is None:
                continue
            batch = view.batches[record.batch]
            if record.mid in self.unrecorded:
                reported = len(self.unrecorded[record.mid])
                assert reported >= min(batch.accepted, max(3, math.ceil(batch.accepted / 20))), (
                    "accepted by too few reports"
                )
                plan.misled.add(record.number)
            elif took_part and batch.via_report and own.get(record.mid, set()) & view.numbers_in({batch.id}):
                plan.misled.add(record.number)

    def _check_leases(self, view: View, now: int) -> None:
        """Who was dead at `now` holds nothing any more."""
        for since in view.sending.values():
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
