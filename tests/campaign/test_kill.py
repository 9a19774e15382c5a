"""Runners killed at random moments, against a gateway that misbehaves in every way it knows.

The long form: ``QXT_CHAOS=1 pytest tests/campaign/test_kill.py``.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import anyio
import pytest
from support.processes import Gateway, Runner, every_number, gateway, plan

from qxt_async.journal import open_journal
from qxt_async.journal.records import CampaignState
from qxt_async.simulator import FAULTS

CHAOS = bool(os.environ.get("QXT_CHAOS"))
NUMBERS = 200_000 if CHAOS else 6_000
SIZE = 500 if CHAOS else 50
KILLS = 50 if CHAOS else 3
RATE = 4.0 if CHAOS else 10.0  # requests a second, of all runners, so that there is something left to kill
FULL_SPEED = 200.0
SHARE = 0.1
SEED = int(os.environ.get("QXT_CHAOS_SEED", "1"))

MISCHIEF = [*FAULTS, "http-404", "http-500", "http-503", "take-then-502", "error-7", "error-8"]


def misbehave(books: Gateway) -> None:
    """A tenth of all requests meet a fault, each kind as often as the others."""
    books.misbehave([{"name": name, "share": SHARE / len(MISCHIEF)} for name in MISCHIEF])


async def planned(path: Path) -> tuple[int, list[str]]:
    """A campaign in a new journal."""
    numbers = [f"138{index:08d}" for index in range(NUMBERS)]
    async with open_journal(path) as journal:
        return await plan(journal, numbers, SIZE), numbers


def run_and_kill(path: Path, campaign: int, books: Gateway, *, runners: int) -> int:
    """Run until it is done, killing as often as it takes; how many were killed."""
    chance = random.Random(SEED)
    killed = 0
    running: list[Runner] = []
    outcome = ""
    while outcome != "done":
        while len(running) < runners:
            rate = RATE / runners if killed < KILLS else FULL_SPEED
            running.append(Runner(path, campaign, books.url, rate))
            running[-1].wait_until_running()
        victim = chance.choice(running)
        # The campaign pauses by itself when it is told that the password is wrong: it is run again like the others.
        if victim.ends_within(chance.uniform(0.05, 1.2) if killed < KILLS else 120):
            outcome = victim.outcome()
        else:
            victim.kill()
            killed += 1
        running.remove(victim)
    for other in running:
        # It may have ended long ago at a pause, which another runner took back before this one read its state.
        assert other.outcome() in {"done", "paused", "running"}
    return killed


async def check(path: Path, campaign: int, books: Gateway, numbers: list[str]) -> dict[str, int]:
    """Hold the journal against the gateway's books."""
    async with open_journal(path) as journal:
        records = await every_number(journal, campaign)
        counts = await journal.campaigns.counts(campaign)
    taken = books.taken()
    assert not [number for number, times in taken.items() if times > 1], "a number was taken twice"
    assert sorted(record.number for record in records) == numbers, "every number in exactly one final state"
    states = {record.number: record.state for record in records}
    assert {states[number] for number in taken} <= {"accepted", "unknown"}
    assert {number for number, state in states.items() if state == "accepted"} <= taken.keys()
    by_state = {state: list(states.values()).count(state) for state in set(states.values())}
    assert set(by_state) <= {"accepted", "unknown", "failed"}
    assert counts.state is CampaignState.DONE
    assert (counts.accepted, counts.failed, counts.unknown) == tuple(
        by_state.get(state, 0) for state in ("accepted", "failed", "unknown")
    )
    return {str(state): count for state, count in by_state.items()}


@pytest.mark.slow
@pytest.mark.timeout(1800 if CHAOS else 300)
@pytest.mark.parametrize("runners", [1, 2])
def test_no_number_is_taken_twice_and_none_is_lost(tmp_path: Path, runners: int) -> None:
    """Runners are killed at random moments and run again until done: the gateway's books and the journal agree."""
    path = tmp_path / "qxt.db"
    campaign, numbers = anyio.run(planned, path)
    with gateway(SEED) as books:
        misbehave(books)
        killed = run_and_kill(path, campaign, books, runners=runners)
        counts = anyio.run(check, path, campaign, books, numbers)
    print(f"{killed} killed, {counts}")
    # The short form may be done before the last one on a fast machine.
    assert killed == KILLS if CHAOS else killed >= 1
    assert counts["accepted"] > 0
