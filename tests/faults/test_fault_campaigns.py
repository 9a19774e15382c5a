"""The fault matrix once more, for campaigns: what each fault makes of a batch in the journal, and of those after it."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread
from faults import addresses
from faults.server import DIGEST, FaultServer
from faults.test_fault_matrix import (
    DEADLINE,
    EACH_ONCE,
    LONG,
    PATIENCE,
    RETRY,
    ROWS,
    Row,
    in_turn_or_at_once,
    number_run,
    served,
)

from qxt_async import Message, QxtClient, errors
from qxt_async.campaign import CampaignRunner, RunOptions
from qxt_async.journal import Journal, open_journal
from qxt_async.journal.records import Batch, BatchState, CampaignState, NumberRecord, PlannedBatch

BATCHES, SIZE = 3, 20
OPTIONS = RunOptions(check_balance=False, retry=RETRY, poll=0.01)


async def _plan(journal: Journal, numbers: list[str]) -> int:
    campaigns = journal.campaigns
    campaign = await campaigns.create()
    cuts = range(0, len(numbers), SIZE)
    await campaigns.add(campaign, [PlannedBatch(Message("【Acme】你好"), numbers[at : at + SIZE]) for at in cuts])
    await campaigns.finish(campaign)
    return campaign


async def _meet(row: Row, transport: Any, path: Path, times: int) -> None:
    with served(row) as (server, address):
        # What every batch would meet, every batch meets: the next one may be on its way already.
        stopped = row.error is not None and issubclass(row.error, errors.AccountRefusedError)
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
                server.begin(*row.plan * (9 if stopped else 1))
                await _meet_once(row, journal, client, server, turn, stopped=stopped)


async def _meet_once(
    row: Row, journal: Journal, client: QxtClient, server: FaultServer, turn: int, *, stopped: bool
) -> None:
    numbers = number_run(10_000 * turn, BATCHES * SIZE)
    campaign = await _plan(journal, numbers)
    if row.warm:
        # aiohttp makes nothing of an answer with bytes behind it that are none: that is not the matter here.
        with contextlib.suppress(errors.OutcomeUnknownError):
            await client.send(number_run(10_000 * turn + 1000, 1), "before")
    if row.mark:
        server.release()
        # Blocks the event loop on purpose: it has no chance to notice before the request.
        server.wait_for(lambda: row.mark in server.marks)
    tally = await CampaignRunner(journal, client, OPTIONS).run(campaign)
    batches = await journal.campaigns.batches(campaign)
    records, _ = await journal.campaigns.numbers(campaign)
    await to_thread.run_sync(server.settle)
    assert tally.state is (CampaignState.PAUSED if stopped else CampaignState.DONE)
    _check_books(server, numbers, records)
    _check_batches(row, batches, records, stopped=stopped)


def _check_books(server: FaultServer, numbers: list[str], records: list[NumberRecord]) -> None:
    """Compare what the server took with what the journal says; in counts, which name no number."""
    states = {record.number: record.state.value for record in records}
    taken = set(server.taken).intersection(numbers)
    assert sum(count > 1 for count in server.taken.values()) == 0, "taken twice"
    assert sorted(states) == numbers, "lost"
    assert {states[number] for number in taken} <= {"accepted", "unknown"}, "taken, and not told"


def _check_batches(row: Row, batches: list[Batch], records: list[NumberRecord], *, stopped: bool) -> None:
    met, *others = batches
    outcomes = {record.state.value for record in records if record.batch == met.id}
    if stopped:
        # Every batch would meet that: nothing of it is lost, and it is sent when the account is right again.
        assert {batch.state for batch in batches} == {BatchState.PLANNED}
        assert met.error == row.error.__name__
    else:
        outcome = outcomes.pop() if len(outcomes) == 1 else "mixed"
        assert outcome in row.outcome.split("|")
        if row.number != 11:  # the reset may come when the connection has the next batch
            expected = row.outcome if row.at is not None else "accepted"
            assert {batch.state.value for batch in others} == {expected}
        if outcome == "unknown":
            assert met.attempts == 1
        if outcome != "accepted" and row.error is not None:
            assert met.error == row.error.__name__
    if row.attempts is not None and not stopped:  # until it is paused, it may be tried again
        assert met.attempts == row.attempts


CASES = [
    pytest.param(row, backend, transport, id=f"{row.number}-{row.fault}-campaign-{transport}-{backend}")
    for row in ROWS
    for backend, transport in (row.lanes if LONG else EACH_ONCE)
]


@pytest.mark.anyio
@pytest.mark.parametrize(("row", "anyio_backend", "transport"), CASES)
async def test_campaign_matrix(row: Row, anyio_backend: str, transport: str, tmp_path: Path) -> None:
    """A fault makes of its batch what the row says, the other batches are sent, and nobody gets the text twice."""
    paths = (tmp_path / f"{place}.db" for place in itertools.count())
    await in_turn_or_at_once(lambda times: _meet(row, transport, next(paths), times), row, (anyio_backend, transport))
