"""Campaigns in any order of events, against a model: hypothesis looks for an order that breaks a promise.

The long form: ``QXT_MODEL_EXAMPLES=2000 pytest tests/campaign/test_model.py``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.campaign_model import (
    CODES,
    HOUR,
    NUMBER_PATTERN,
    Plan,
    Recipient,
    Trial,
    Watched,
    World,
    number_run,
)

from qxt_async.journal.records import BatchState
from qxt_async.simulator import FAULTS, SimulatedGateway, serve

EXAMPLES = int(os.environ.get("QXT_MODEL_EXAMPLES", "0"))
MINUTES = 60_000_000
MISCHIEF = [*FAULTS, "http-404", "http-500", "http-503", "take-then-502", "error-7", "error-8"]

PLANS = 3

indices = st.integers(0, 9)
counts = st.integers(0, 8)
faults = st.lists(st.sampled_from(MISCHIEF), max_size=4)
fault_or_none = st.sampled_from([None, *MISCHIEF]) | st.none()
doubts = st.sampled_from(["take-then-close", "take-then-partial", "close"])
concurrencies = st.sampled_from([1, 3])
# Of 70 numbers four have to be reported, of the others three, or all.
sizes = st.lists(st.integers(1, 6) | st.just(70), min_size=1, max_size=5)
forms = st.sampled_from(["", "86", "mixed"])
recipients = st.builds(
    Recipient,
    st.sampled_from(["listed", "listed", "foreign", "again", "opted out"]),
    st.integers(0, 99),
    st.sampled_from(["", "86"]),
)
some_trials = st.builds(Trial, st.lists(recipients, min_size=1, max_size=3), st.booleans())
trials = st.just(Trial()) | some_trials


class Life(RuleBasedStateMachine):
    """What may happen to campaigns, in any order."""

    backend: ClassVar[str]
    watched: ClassVar[Watched]
    url: ClassVar[str]
    places: ClassVar[Callable[[], AbstractContextManager[str]]]
    numbers: ClassVar[Iterator[str]]

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.portal = self.stack.enter_context(start_blocking_portal(self.backend))
        place = self.stack.enter_context(self.places())
        self.watched.gateway.reset()
        self.world = World(self.watched, self.url, place, self.numbers)
        self.do(self.world.open)

    def teardown(self) -> None:
        """Close what was opened."""
        self.do(self.world.close)
        self.stack.close()

    def do(self, step: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Take a step in the event loop."""
        return self.portal.call(lambda: step(*arguments, **options))

    def a_plan(self, index: int) -> Plan:
        """One of those that there are."""
        return self.world.plans[index % len(self.world.plans)]

    # --- what people do ---------------------------------------------------------------------------------------------

    @initialize(sizes=sizes, form=forms)
    def begin(self, sizes: list[int], form: str) -> None:
        """There is a campaign."""
        self.do(self.world.plan, sizes, again=False, form=form)

    @precondition(lambda self: len(self.world.plans) < PLANS)
    @rule(sizes=sizes, again=st.booleans(), form=forms)
    def plan(self, sizes: list[int], again: bool, form: str) -> None:
        """Plan another one."""
        self.do(self.world.plan, sizes, again=again, form=form)

    @rule(at=indices, faults=faults, concurrency=concurrencies, trial=trials)
    def run(self, at: int, faults: list[str], concurrency: int, trial: Trial) -> None:
        """Run one until nothing is left that this process may send."""
        self.do(self.world.run, self.a_plan(at), faults, how="on", requests=0, concurrency=concurrency, trial=trial)

    @rule(at=indices, faults=faults, requests=counts, concurrency=concurrencies, trial=trials)
    def run_beside_another(self, at: int, faults: list[str], requests: int, concurrency: int, trial: Trial) -> None:
        """Two processes run it, with the same test."""
        self.do(
            self.world.run, self.a_plan(at), faults, how="two", requests=requests, concurrency=concurrency, trial=trial
        )

    @rule(
        at=indices,
        faults=faults,
        how=st.sampled_from(["stop", "pause", "cancel", "give up"]),
        requests=counts,
        concurrency=concurrencies,
        trial=trials,
    )
    def run_and_end(self, at: int, faults: list[str], how: str, requests: int, concurrency: int, trial: Trial) -> None:
        """Run one, and somebody ends that."""
        self.do(
            self.world.run, self.a_plan(at), faults, how=how, requests=requests, concurrency=concurrency, trial=trial
        )

    @rule(
        at=indices,
        faults=faults,
        how=st.sampled_from(["die before", "die after"]),
        writes=counts,
        concurrency=concurrencies,
        trial=trials,
    )
    def run_and_die(self, at: int, faults: list[str], how: str, writes: int, concurrency: int, trial: Trial) -> None:
        """Run one, and its process is gone, at one of its writes."""
        self.do(self.world.run, self.a_plan(at), faults, how=how, requests=writes, concurrency=concurrency, trial=trial)

    @rule(at=indices, what=st.sampled_from(["start", "pause", "resume", "cancel", "complete", "expire_leases"]))
    def order(self, at: int, what: str) -> None:
        """Give an order."""
        self.do(self.world.order, what, self.a_plan(at))

    @rule(at=indices, state=st.sampled_from([BatchState.UNKNOWN, BatchState.FAILED]))
    def resend(self, at: int, state: BatchState) -> None:
        """Have it sent again."""
        self.do(self.world.resend, self.a_plan(at), state)

    @rule(at=indices, deadline=st.sampled_from([None, 0.0, 3600.0]))
    def reconcile(self, at: int, deadline: float | None) -> None:
        """Look at the reports."""
        self.do(self.world.reconcile, self.a_plan(at), deadline)

    @rule(at=indices, which=indices, by_reply=st.booleans())
    def opt_out(self, at: int, which: int, by_reply: bool) -> None:
        """Somebody wants no more texts."""
        numbers = self.a_plan(at).numbers
        self.do(self.world.opt_out, numbers[which % len(numbers)], by_reply=by_reply)

    @precondition(lambda self: self.world.barred)
    @rule(which=indices)
    def opt_in(self, which: int) -> None:
        """Somebody wants them again."""
        barred = sorted(self.world.barred)
        self.do(self.world.opt_in, barred[which % len(barred)])

    # --- what happens to processes and machines ---------------------------------------------------------------------

    @rule(at=indices, fault=fault_or_none, sent=st.booleans(), start=st.booleans())
    def haunt(self, at: int, fault: str | None, sent: bool, start: bool) -> None:
        """A process stops with a batch in its hands."""
        plan = self.a_plan(at)
        if start:
            self.do(self.world.order, "start", plan)
        self.do(self.world.haunt, plan, fault, sent=sent)

    # No precondition: whether there is one may be a race's affair, and hypothesis wants the same choices every time.
    @rule(at=indices, keep=st.booleans())
    def heal(self, at: int, keep: bool) -> None:
        """It goes on, if there is one."""
        ghosts = self.world.ghosts
        if ghosts:
            self.do(self.world.heal, ghosts[at % len(ghosts)], keep=keep)

    @rule(
        sizes=sizes, fault=fault_or_none, sent=st.booleans(), meanwhile=st.sampled_from(["", "run", "haunt", "finish"])
    )
    def oversleep(self, sizes: list[int], fault: str | None, sent: bool, meanwhile: str) -> None:
        """It was held for dead, its batch was ordered again and perhaps sent, or all was done, and then it goes on."""
        if len(self.world.plans) >= PLANS:
            return
        self.plan(sizes, again=False, form="mixed")
        plan = self.world.plans[-1]
        self.haunt(-1, fault, sent, start=True)
        self.pass_time(2 * MINUTES)
        self.order(-1, "expire_leases")
        if meanwhile == "finish":
            self.do(self.world.run, plan, [], how="on", requests=0, concurrency=1)
        else:
            self.resend(-1, BatchState.UNKNOWN)
        self.all_is_well()
        if meanwhile == "run":
            self.do(self.world.run, plan, [], how="stop", requests=9, concurrency=1)
        elif meanwhile == "haunt":
            for _ in sizes:
                self.haunt(-1, None, sent, start=True)
        self.all_is_well()
        self.heal(-1 - len(sizes) * (meanwhile == "haunt"), keep=sent)

    @rule(sizes=sizes, trial=some_trials, fault=fault_or_none, then=faults)
    def try_again(self, sizes: list[int], trial: Trial, fault: str | None, then: list[str]) -> None:
        """A test meets a fault, or its process stops with it in its hands; then the campaign is run again."""
        if len(self.world.plans) >= PLANS:
            return
        self.plan(sizes, again=False, form="mixed")
        plan = self.world.plans[-1]
        if fault is None:
            # Its second write is the claim of the test.
            self.do(self.world.run, plan, [], how="die before", requests=1, concurrency=1, trial=trial)
            self.haunt(-1, None, sent=False, start=False)
            self.pass_time(2 * MINUTES)
            self.order(-1, "expire_leases")
        else:
            self.do(self.world.run, plan, [fault], how="on", requests=0, concurrency=1, trial=trial)
        self.all_is_well()
        again = [Recipient("again", which, "") for which in range(len(trial.recipients))]
        self.do(self.world.run, plan, then, how="on", requests=0, concurrency=1, trial=Trial(again))

    @rule(sizes=sizes, fault=doubts, then=faults, out=st.integers(0, 6))
    def think_again(self, sizes: list[int], fault: str, then: list[str], out: int) -> None:
        """What is unknown was ordered again, somebody opted out since, and it is run."""
        if len(self.world.plans) >= PLANS:
            return
        self.plan(sizes, again=False, form="mixed")
        plan = self.world.plans[-1]
        self.do(self.world.run, plan, [fault] * len(sizes), how="on", requests=0, concurrency=1)
        self.resend(-1, BatchState.UNKNOWN)
        for number in plan.numbers[:out]:
            self.do(self.world.opt_out, number, by_reply=True)
        self.all_is_well()
        self.do(self.world.run, plan, then, how="on", requests=0, concurrency=1)

    @rule(at=indices)
    def reopen(self, at: int) -> None:
        """Another process opens the journal."""
        self.do(self.world.reopen, self.a_plan(at))

    @rule(step=st.sampled_from([2 * MINUTES, 2 * MINUTES, HOUR, -HOUR]))
    def pass_time(self, step: int) -> None:
        """Time passes, or somebody sets the clock."""
        # Who opted out is looked for within a day of the plan.
        self.world.offset = max(-6 * HOUR, min(6 * HOUR, self.world.offset + step))

    # --- what the gateway pushes ------------------------------------------------------------------------------------

    @rule(
        which=st.integers(0, 99),
        share=st.sampled_from([0.0, 0.5, 1.0]),
        code=st.sampled_from(sorted(CODES)),
        times=st.integers(1, 3),
    )
    def push(self, which: int, share: float, code: str, times: int) -> None:
        """It reports on what it took."""
        self.do(self.world.push, which, share, code, times=times)

    @rule(at=indices, size=st.integers(1, 4), code=st.sampled_from(sorted(CODES)))
    def push_foreign(self, at: int, size: int, code: str) -> None:
        """It reports on what somebody else sent."""
        self.do(self.world.push_foreign, self.a_plan(at), size, code)

    @rule(at=indices, begin=st.integers(0, 99), size=st.integers(1, 4), code=st.sampled_from(sorted(CODES)))
    def push_unrecorded(self, at: int, begin: int, size: int, code: str) -> None:
        """It reports on what somebody else sent, to people of ours only."""
        self.do(self.world.push_unrecorded, self.a_plan(at), begin, size, code)

    @rule(which=st.integers(0, 99), code=st.sampled_from(sorted(CODES)))
    def push_unrecorded_again(self, which: int, code: str) -> None:
        """It reports once more on that, or on what somebody sent yesterday."""
        self.do(self.world.push_unrecorded_again, which, code)

    @rule(
        at=indices, which=indices, begin=st.integers(0, 99), size=st.integers(1, 6), code=st.sampled_from(sorted(CODES))
    )
    def push_beside_test(self, at: int, which: int, begin: int, size: int, code: str) -> None:
        """It reports, under the mid of a test, on others."""
        self.do(self.world.push_beside_test, self.a_plan(at), which, begin, size, code)

    @rule(
        which=st.integers(0, 99),
        at=indices,
        begin=st.integers(0, 99),
        size=st.integers(1, 6),
        code=st.sampled_from(sorted(CODES)),
    )
    def push_second_gateway(self, which: int, at: int, begin: int, size: int, code: str) -> None:
        """Another gateway reports, under a mid that ours has given, on people of ours."""
        self.do(self.world.push_second_gateway, which, self.a_plan(at), begin, size, code)

    # --- what must be true ------------------------------------------------------------------------------------------

    @invariant()
    def all_is_well(self) -> None:
        """The promises."""
        self.do(self.world.check)


@pytest.mark.slow
@pytest.mark.timeout(0 if EXAMPLES else 300)
@pytest.mark.parametrize(("backend", "form"), [("asyncio", "sqlite"), ("trio", "sqlite"), ("asyncio", "postgresql")])
def test_any_order_of_events(backend: str, form: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Whatever happens in whatever order: nothing twice without an order, nothing lost, and the books agree."""

    @contextmanager
    def file() -> Iterator[str]:
        with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
            yield f"{folder}/qxt.db"

    places = file if form == "sqlite" else request.getfixturevalue("postgresql").journal
    watched = Watched(SimulatedGateway(number_pattern=NUMBER_PATTERN))
    with serve(watched) as url:  # type: ignore[arg-type]
        members = {"backend": backend, "watched": watched, "url": url, "numbers": number_run()}
        members["places"] = staticmethod(places)
        run_state_machine_as_test(
            type("Life", (Life,), members),
            settings=settings(
                max_examples=EXAMPLES or 6,
                stateful_step_count=40 if EXAMPLES else 20,
                derandomize=not EXAMPLES,
                database=None,
                deadline=None,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
