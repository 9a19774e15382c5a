"""Limits of an account, kept by four workers in processes of their own, read from the gateway's books."""

from __future__ import annotations

import json
import os
from bisect import bisect_left
from collections.abc import Iterable
from datetime import datetime

import anyio
import pytest
from support.processes import gateway, plan
from support.worker_processes import workers

from qxt_async.campaign import RunOptions
from qxt_async.journal import AccountLimits, open_journal
from qxt_async.journal.records import CampaignState
from qxt_async.workers import run_on_workers

CHAOS = bool(os.environ.get("QXT_CHAOS"))
RATE = 20 if CHAOS else 10
SECONDS = 30 if CHAOS else 6


def most_within(moments: Iterable[float], seconds: float) -> int:
    """The largest number of moments in any window of that length."""
    ordered = sorted(moments)
    return max(bisect_left(ordered, start + seconds) - at for at, start in enumerate(ordered))


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_four_workers_keep_one_rate(database: str) -> None:
    """No window of a second sees more than the rate, of all together; in the long form it is nearly used up, too.

    The journal lets requests go; how long each is on its way to the gateway's books varies, on a busy machine by much.
    So much shorter is the window in which the books must not show more; the long form, which wants a machine of its
    own, holds them to the second.
    """
    count = RATE * SECONDS

    async def run() -> dict[str | None, float]:
        async with open_journal(database) as journal:
            await journal.limits.set("user", AccountLimits(max_request_rate=RATE))
            campaign = await plan(journal, [f"138{index:08d}" for index in range(count)], 1)
            counts = await run_on_workers(journal, campaign, RunOptions(poll_interval=0.2))
            assert (counts.state, counts.accepted) == (CampaignState.DONE, count)
            batches = await journal.campaigns.batches(campaign, limit=count)
            return {batch.mid: batch.claimed_at.timestamp() for batch in batches if batch.claimed_at is not None}

    with gateway(1) as books, workers(database, books.url, 4, timeout=30.0):
        left = anyio.run(run)
        sends = [json.loads(line) for line in books.ask(f"sends?limit={count}").splitlines()]
    arrived = {send["mid"]: datetime.fromisoformat(send["when"]).timestamp() for send in sends}
    on_the_way = [arrived[mid] - moment for mid, moment in left.items() if mid is not None]
    spread = max(on_the_way) - min(on_the_way)
    used = (count - 1) / (max(arrived.values()) - min(arrived.values())) / RATE
    print(f"{used:.3f} of the rate, {most_within(arrived.values(), 1.0)} of {RATE} in a second, {spread:.3f} s apart")
    assert len(arrived) == count
    assert most_within(left.values(), 1.0) <= RATE
    assert most_within(arrived.values(), 1.0 - spread) <= RATE
    assert not CHAOS or (used >= 0.9 and most_within(arrived.values(), 1.0) <= RATE)
