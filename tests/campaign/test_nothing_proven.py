"""Row 38 of the fault matrix: reports on something else than an unknown batch do not make it accepted."""

from __future__ import annotations

import pytest
from support.runs import client_of, quick
from support.steps import NUMBERS, opened, planned

from qxt_async.campaign import Campaigns
from qxt_async.journal import Journal
from qxt_async.receiving import PushReceiver
from qxt_async.simulator import SimulatedGateway

pytestmark = pytest.mark.anyio

SECRET = "0123456789abcdefghij"


async def ran(journal: Journal, gateway: SimulatedGateway, numbers: tuple[str, ...], **options: object) -> int:
    """A campaign with one text for these people, run over a gateway."""
    campaign = await planned(journal.campaigns, len(numbers), numbers=numbers)
    async with client_of(gateway) as client:
        await Campaigns(journal, client).run(campaign, quick(**options))
    return campaign


async def pushed(journal: Journal, *gateways: SimulatedGateway) -> None:
    """All that gateways have to report."""
    receiver = PushReceiver(journal, path_secret=SECRET)
    for gateway in gateways:
        assert await gateway.push_all(f"http://receiver.test/{SECRET}", app=receiver)


async def stays_unknown(journal: Journal, campaign: int, count: int) -> None:
    """The reports prove nothing for a campaign of which nothing is known."""
    assert (await journal.campaigns.reconcile(campaign)).batches == 0
    counts = await journal.campaigns.counts(campaign)
    assert (counts.accepted, counts.unknown) == (0, count)


async def test_row_38_reports_on_recorded_sends(store: str) -> None:
    """The same people got another campaign: its reports are its own."""
    gateway, people = SimulatedGateway(), NUMBERS[:40]
    async with opened(store) as (journal, _):
        gateway.fail_next("close")
        lost = await ran(journal, gateway, people)
        await ran(journal, gateway, people)
        await pushed(journal, gateway)
        await stays_unknown(journal, lost, len(people))
    assert set(gateway.taken.values()) == {1}


async def test_row_38_a_second_gateway_with_equal_mids(store: str) -> None:
    """What it reports under a mid that a recorded send has is no news of a lost batch, though nobody recorded it."""
    first, second, people = SimulatedGateway(), SimulatedGateway(), NUMBERS[40:80]
    async with opened(store) as (journal, _):
        await ran(journal, first, NUMBERS[:40])
        second.fail_next("close")
        lost = await ran(journal, second, people)
        async with client_of(second) as client:
            elsewhere = await client.send(people, "【Acme】Hello")
        assert elsewhere.mid == first.sends[0].mid
        await pushed(journal, first, second)
        await stays_unknown(journal, lost, len(people))
