"""Claims of many processes at the same time, and the limits of accounts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.steps import NUMBERS, accepted, all_batches, claimed, planned, running, unknown

from qxt_async.errors import InvalidConfigurationError
from qxt_async.journal import AccountLimits, Journal, open_journal
from qxt_async.journal import limits as limits_module
from qxt_async.journal.batches import Attempt
from qxt_async.journal.campaigns import CampaignStore
from qxt_async.journal.database import Transaction
from qxt_async.journal.records import BatchState, Claim
from qxt_async.runtime.clocks import boottime

pytestmark = pytest.mark.anyio

ACCOUNT = "acme"
SECOND = 1_000_000


async def test_each_batch_is_claimed_once(journal: Journal, elsewhere: Journal) -> None:
    """However many claim at the same time, each batch is given to one of them, and none waits for another."""
    campaign = await running(journal.campaigns, *[1] * 60)
    got: list[Claim] = []

    async def work(campaigns: CampaignStore, name: str) -> None:
        place = 0
        while True:
            place += 1
            claim = await campaigns.claim(campaign, token=f"{name}{place}", lease=60)
            if claim is None:
                return
            got.append(claim)

    async with anyio.create_task_group() as tasks:
        for place in range(8):
            tasks.start_soon(work, (journal, elsewhere)[place % 2].campaigns, f"{place}-")
    assert sorted(claim.numbers for claim in got) == [(number,) for number in NUMBERS[:60]]
    assert len({claim.batch for claim in got}) == 60


async def test_done_by_one_of_many(journal: Journal, elsewhere: Journal) -> None:
    """Of those who find a campaign finished, one says so."""
    campaign = await running(journal.campaigns, 1)
    claim = await claimed(journal.campaigns, campaign)
    await journal.campaigns.settle(claim, unknown(claim))
    async with anyio.create_task_group() as tasks:
        for each in (journal, elsewhere, journal, elsewhere):
            tasks.start_soon(each.campaigns.complete, campaign)
    assert [event.what for event in await journal.campaigns.events(campaign)].count("done") == 1


async def test_a_claim_from_a_long_campaign(tmp_path: Path) -> None:
    """A claim reads no other planned batch: with hundreds of them it takes SQLite no more steps than with a few."""
    steps: dict[int, int] = {}
    async with open_journal(tmp_path / "qxt.db") as journal:

        def count(campaign: int) -> int:
            steps[campaign] += 1
            return 0

        async def watch(transaction: Transaction, watched: Callable[[], int] | None) -> None:
            transaction.connection.set_progress_handler(watched, 10)  # type: ignore[attr-defined]

        for size in (3, 300):
            campaign = await running(journal.campaigns, *[1] * size, numbers=[f"1380013{n:04d}" for n in range(size)])
            steps[campaign] = 0
            await journal.campaigns.database.write(partial(watch, watched=partial(count, campaign)))
            await claimed(journal.campaigns, campaign, f"t{campaign}")
            await journal.campaigns.database.write(partial(watch, watched=None))
    few, many = steps.values()
    assert 0 < many < few + 10


# --- limits -------------------------------------------------------------------------------------------------------


async def test_limits_are_set_and_unset(journal: Journal, elsewhere: Journal) -> None:
    """Limits are one row an account, the same for all; without any there is no row."""
    limits = AccountLimits(max_request_rate=10, max_rate=2000.5, max_concurrency=3)
    await journal.limits.set(ACCOUNT, limits)
    assert await elsewhere.limits.get(ACCOUNT) == limits
    assert await elsewhere.limits.get("another") == AccountLimits()
    await elsewhere.limits.set(ACCOUNT, AccountLimits())
    assert await journal.limits.get(ACCOUNT) == AccountLimits()
    with pytest.raises(InvalidConfigurationError, match="max_rate is 0"):
        await journal.limits.set(ACCOUNT, AccountLimits(max_rate=0))


async def test_without_limits_nothing_is_held(journal: Journal) -> None:
    """An account without limits claims like no account."""
    campaign = await running(journal.campaigns, *[1] * 5)
    campaigns = journal.campaigns_of(ACCOUNT)
    for place in range(5):
        assert await campaigns.claim(campaign, token=str(place), lease=60) is not None
    assert await campaigns.claim(campaign, token="none", lease=60) is None


async def test_concurrency_of_all_together(
    journal: Journal, elsewhere: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many claim at the same time, no more are being sent than allowed; what is settled makes room."""
    monkeypatch.setattr(limits_module, "TURN_TIMEOUT", 0.0)
    campaign = await running(journal.campaigns, *[1] * 30)
    await journal.limits.set(ACCOUNT, AccountLimits(max_concurrency=3))
    many = [each.campaigns_of(ACCOUNT) for each in (journal, elsewhere) * 5]
    got: list[Claim] = []

    async def work(campaigns: CampaignStore, token: str) -> None:
        if claim := await campaigns.claim(campaign, token=token, lease=60):
            got.append(claim)

    async with anyio.create_task_group() as tasks:
        for place, campaigns in enumerate(many):
            tasks.start_soon(work, campaigns, str(place))
    assert len(got) == 3
    await many[0].settle(got[0], accepted(got[0]))
    assert await many[1].claim(campaign, token="room", lease=60) is not None
    assert await many[1].claim(campaign, token="none", lease=60) is None
    assert await journal.campaigns.claim(campaign, token="of no account", lease=60) is not None


@pytest.mark.parametrize(("limits", "size", "most"), [
    (AccountLimits(max_request_rate=50), 1, 50),
    (AccountLimits(max_rate=100), 2, 100),
    (AccountLimits(max_request_rate=1000, max_rate=60, max_concurrency=100), 1, 60),
])  # fmt: skip
async def test_rate_of_all_together(
    journal: Journal, elsewhere: Journal, limits: AccountLimits, size: int, most: int
) -> None:
    """With several processes claiming as fast as they can, no window of a second has more, nor much less."""
    monkey = [size] * (most // size * 2)
    campaign = await running(journal.campaigns, *monkey[:50])
    await journal.limits.set(ACCOUNT, limits)

    async def work(campaigns: CampaignStore, name: str) -> None:
        place = 0
        while (await campaigns.pending_work(campaign)).planned:
            place += 1
            await campaigns.claim(campaign, token=f"{name}-{place}", lease=60)

    async with anyio.create_task_group() as tasks:
        for place in range(6):
            tasks.start_soon(work, (journal, elsewhere)[place % 2].campaigns_of(ACCOUNT), str(place))
    records = await journal.campaigns.batches(campaign)
    sent = sorted((record.claimed_at, record.count) for record in records if record.claimed_at is not None)
    assert len(sent) == min(50, len(monkey))
    for start, _ in sent:
        assert sum(count for at, count in sent if start <= at < start + timedelta(seconds=1)) <= most
    total, span = sum(count for _, count in sent[:-1]), (sent[-1][0] - sent[0][0]).total_seconds()
    print(f"{total / span:.1f} a second of {most}")


async def test_clock_that_was_set_back(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A moment that lies further ahead than any request puts it is not waited for."""
    monkeypatch.setattr(limits_module, "TURN_TIMEOUT", 0.0)
    campaign = await running(journal.campaigns, *[1] * 4)
    await journal.limits.set(ACCOUNT, AccountLimits(max_request_rate=1, max_rate=1000))
    campaigns = journal.campaigns_of(ACCOUNT)
    hour = 3600 * SECOND
    campaigns.database.clock = lambda: 10 * hour
    assert await campaigns.claim(campaign, token="t1", lease=60) is not None
    assert await campaigns.claim(campaign, token="t2", lease=60) is None
    campaigns.database.clock = lambda: 9 * hour
    assert await campaigns.claim(campaign, token="t3", lease=60) is not None
    assert await campaigns.claim(campaign, token="t4", lease=60) is None
    campaigns.database.clock = lambda: 9 * hour + 2 * SECOND
    assert await campaigns.claim(campaign, token="t5", lease=60) is not None


async def test_changing_a_rate(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Setting the same rate again gives no extra request; another one counts from now on."""
    monkeypatch.setattr(limits_module, "TURN_TIMEOUT", 0.0)
    campaign = await running(journal.campaigns, *[1] * 4)
    campaigns = journal.campaigns_of(ACCOUNT)
    slow = AccountLimits(max_request_rate=0.01)
    await journal.limits.set(ACCOUNT, slow)
    assert await campaigns.claim(campaign, token="t1", lease=60) is not None
    await journal.limits.set(ACCOUNT, slow)
    assert await campaigns.claim(campaign, token="t2", lease=60) is None
    await journal.limits.set(ACCOUNT, AccountLimits(max_request_rate=0.02))
    assert await campaigns.claim(campaign, token="t3", lease=60) is not None


async def test_limits_that_another_process_sets(
    journal: Journal, elsewhere: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They hold from the next claim on, also for who has claimed without any."""
    monkeypatch.setattr(limits_module, "TURN_TIMEOUT", 0.0)
    campaign = await running(journal.campaigns, *[1] * 4)
    here, there = journal.campaigns_of(ACCOUNT), elsewhere.campaigns_of(ACCOUNT)
    assert await here.claim(campaign, token="t1", lease=60) is not None
    await elsewhere.limits.set(ACCOUNT, AccountLimits(max_request_rate=0.01))
    assert await there.claim(campaign, token="t2", lease=60) is not None
    assert await here.claim(campaign, token="t3", lease=60) is None
    await elsewhere.limits.set(ACCOUNT, AccountLimits())
    assert await here.claim(campaign, token="t4", lease=60) is not None


async def test_first_request_in_a_while(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request after the first one waits a tenth of a second longer than its share; the ones after that do not."""
    monkeypatch.setattr(limits_module, "TURN_TIMEOUT", 0.0)
    campaign = await running(journal.campaigns, *[1] * 4)
    await journal.limits.set(ACCOUNT, AccountLimits(max_request_rate=1))
    campaigns = journal.campaigns_of(ACCOUNT)
    now = 1_000 * SECOND

    async def is_claimed(token: str, moment: float) -> bool:
        campaigns.database.clock = lambda: now + round(moment * SECOND)
        return await campaigns.claim(campaign, token=token, lease=60) is not None

    assert await is_claimed("t1", 0)
    assert not await is_claimed("t2", 1.07)
    assert await is_claimed("t3", 1.18)
    assert not await is_claimed("t4", 2.15)
    assert await is_claimed("t5", 2.27)


async def test_lease_does_not_count_the_wait_for_a_turn(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a claim waited, its lease is whole: it counts from the turn."""
    monkeypatch.setattr(limits_module, "TURN_TIMEOUT", 60.0)
    campaign = await running(journal.campaigns, 1, 1)
    await journal.limits.set(ACCOUNT, AccountLimits(max_request_rate=2))
    campaigns = journal.campaigns_of(ACCOUNT)
    tries: list[float] = []
    write = journal.database.write_together

    async def noted(work: Any, item: Any) -> Any:
        tries.append(boottime())
        return await write(work, item)

    monkeypatch.setattr(journal.database, "write_together", noted)
    first = await claimed(campaigns, campaign, "t1")
    assert tries[0] <= first.since
    second = await claimed(campaigns, campaign, "t2")
    assert tries[-1] <= second.since <= boottime()


async def test_waiting_for_a_turn_ends(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim waits for its turn for a while only, also behind another one that waits."""
    monkeypatch.setattr(limits_module, "TURN_TIMEOUT", 0.3)
    campaign = await running(journal.campaigns, *[1] * 4)
    campaigns = journal.campaigns_of(ACCOUNT)
    await journal.limits.set(ACCOUNT, AccountLimits(max_concurrency=1))
    first = await claimed(campaigns, campaign)
    got: list[Claim | None] = []

    async def work(token: str) -> None:
        got.append(await campaigns.claim(campaign, token=token, lease=60))

    async with anyio.create_task_group() as tasks:
        for token in "abc":
            tasks.start_soon(work, token)
    assert got == [None] * 3
    monkeypatch.setattr(limits_module, "TURN_TIMEOUT", 60.0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work, "d")
        tasks.start_soon(work, "e")
        await campaigns.settle(first, accepted(first))
        while not any(got):
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert sum(claim is not None for claim in got) == 1
    assert (await all_batches(campaigns, campaign)).count(BatchState.SENDING) == 1


async def test_claims_in_one_transaction_keep_the_limits(journal: Journal) -> None:
    """What one uses is used for the next, in the same transaction and in a later one."""
    campaign = await running(journal.campaigns, 1, 1)
    await journal.limits.set(ACCOUNT, AccountLimits(max_request_rate=0.01))
    outcomes: list[object] = []
    for tokens in ("ab", "c"):
        attempts = [Attempt(campaign, token, 60) for token in tokens]
        outcomes += await journal.database.write(partial(limits_module.claim, attempts=attempts, account=ACCOUNT))
    assert [type(outcome).__name__ for outcome in outcomes] == ["Turn", "RateLimited", "RateLimited"]


async def test_nothing_to_claim_spends_nothing(journal: Journal) -> None:
    """A claim that finds nothing leaves the turn to the next."""
    campaign = await planned(journal.campaigns, 1)
    campaigns = journal.campaigns_of(ACCOUNT)
    await journal.limits.set(ACCOUNT, AccountLimits(max_request_rate=0.01))
    assert await campaigns.claim(campaign, token="t1", lease=60) is None
    assert await campaigns.start(campaign)
    assert await campaigns.claim(campaign, token="t2", lease=60) is not None
