"""The fault matrix once more, for campaigns: what each fault makes of a batch in the journal, and of those after it."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path

import pytest
from anyio import to_thread
from faults.test_fault_matrix import (
    CALLS,
    DEADLINE,
    PATIENCE,
    RETRY,
    Row,
    attempts_of,
    bounded,
    check_met,
    in_turn_or_at_once,
    marked,
    number_run,
    served,
)
from support import addresses
from support import fault_results as results
from support.fault_server import DIGEST, FaultServer

from qxt_async import QxtClient, errors
from qxt_async.campaign import Campaigns, RunOptions
from qxt_async.journal import Journal, open_journal
from qxt_async.journal.records import BatchState, CampaignState, PlannedBatch
from qxt_async.models import Message

BATCHES, SIZE = 3, 20
OPTIONS = RunOptions(check_balance=False, retry=RETRY, poll_interval=0.01)


async def plan(journal: Journal, numbers: list[str], size: int = SIZE) -> int:
    """A campaign of these numbers, in batches of this size."""
    campaigns = journal.campaigns
    campaign = await campaigns.create()
    cuts = range(0, len(numbers), size)
    await campaigns.add(campaign, [PlannedBatch(Message("【Acme】你好"), numbers[at : at + size]) for at in cuts])
    await campaigns.finish(campaign)
    return campaign


async def _meet(row: Row, transport: str, path: Path, times: int, *, measured: bool = False) -> None:
    with served(row) as (server, address):
        client = QxtClient(
            "someone",
            password_md5=DIGEST,
            base_url=address,
            transport=transport,
            timeout=DEADLINE if row.hangs else PATIENCE,
            connect_timeout=0.1 if row.at is addresses.full_backlog else PATIENCE,
            max_concurrency=1,
        )
        async with open_journal(path) as journal, client:
            for turn in range(times):
                server.begin(*row.plan)
                with bounded(server) if measured else contextlib.nullcontext():
                    outcome = await _meet_once(row, journal, client, server, turn)
                results.note(row.number, row.fault, "campaign", transport, outcome)


async def _meet_once(row: Row, journal: Journal, client: QxtClient, server: FaultServer, turn: int) -> str:
    numbers = number_run(10_000 * turn, BATCHES * SIZE)
    campaign = await plan(journal, numbers)
    if row.warm:
        # aiohttp makes nothing of an answer with bytes behind it that are none: that is not the matter here.
        with contextlib.suppress(errors.OutcomeUnknownError):
            await client.send(number_run(10_000 * turn + 1000, 1), "before")
    with marked(row, server):
        counts = await Campaigns(journal, client).run(campaign, OPTIONS)
    batches = await journal.campaigns.batches(campaign)
    records, _ = await journal.campaigns.numbers(campaign)
    await to_thread.run_sync(server.settle)
    assert counts.state is (CampaignState.PAUSED if row.stops else CampaignState.DONE)
    met, *others = batches
    states = {record.number: record.state.value for record in records}
    of_met = {record.number: record.state.value for record in records if record.batch == met.id}
    _check_books(server, numbers, states, lies=set(of_met) if row.number == 11 else set())
    outcome = check_met(row, server, of_met, row.in_campaign)
    if row.stops:
        # Every batch would meet that: no other one is begun.
        assert {batch.state for batch in others} == {BatchState.PLANNED}
        assert sum(batch.attempts for batch in batches) == 1
    else:
        assert met.attempts == attempts_of(row, outcome)
        if row.number != 11:  # the reset may come when the connection has the next batch
            assert {batch.state.value for batch in others} == {"accepted" if row.at is None else row.outcome}
    if outcome != "accepted" and row.error is not None:
        assert met.error == row.error.label
    return outcome


def _check_books(server: FaultServer, numbers: list[str], states: dict[str, str], lies: set[str]) -> None:
    """Compare what the server took with what the journal says; in counts, which name no number."""
    taken = set(server.taken).intersection(numbers)
    accepted = {number for number, state in states.items() if state == "accepted"}
    assert sum(count > 1 for count in server.taken.values()) == 0, "taken twice"
    assert sorted(states) == numbers, "lost"
    assert {states[number] for number in taken} <= {"accepted", "unknown"}, "taken, and not told"
    assert len(accepted.difference(taken, lies)) == 0, "accepted, and not taken"


CASES = [
    pytest.param(row, backend, transport, id=f"{row.number}-{row.fault}-campaign-{transport}-{backend}")
    for row, call, backend, transport in CALLS
    if call == "campaign"
]


@pytest.mark.anyio
@pytest.mark.parametrize(("row", "anyio_backend", "transport"), CASES)
async def test_campaign_matrix(row: Row, anyio_backend: str, transport: str, tmp_path: Path) -> None:
    """A fault makes of its batch what the row says, the other batches are sent, and nobody gets the text twice."""
    paths = (tmp_path / f"{place}.db" for place in itertools.count())
    if row.bounded:
        await _meet(row, transport, next(paths), 1, measured=True)
    await in_turn_or_at_once(lambda times: _meet(row, transport, next(paths), times), row, (anyio_backend, transport))
