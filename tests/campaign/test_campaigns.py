"""The public class: what works without a client, and files that are written to a path or to a stream."""

from __future__ import annotations

import io
import stat
from pathlib import Path

import pytest
from support.runs import QUICK, client_of
from support.steps import accepted, claimed, opened, planned, running, unknown

from qxt_async.campaign import BatchState, Campaigns, CampaignState, ExclusionReason
from qxt_async.errors import CampaignNotFoundError, InvalidConfigurationError
from qxt_async.simulator import SimulatedGateway

pytestmark = pytest.mark.anyio

TEXT = "【Acme】Dear {name}"
ROWS = [{"phone": "13800138000", "name": "Li"}, {"phone": "13800138001", "name": "Wang"}, {"phone": "1", "name": "X"}]


async def test_without_a_client_nothing_is_sent(tmp_path: Path) -> None:
    """What sends says that it needs a client; what reads, plans or orders works, and asks for no balance."""
    async with opened(tmp_path) as (journal, _):
        campaigns = Campaigns(journal)
        plan = await campaigns.plan(ROWS, TEXT, name="autumn")
        assert (plan.campaign.name, plan.campaign.balance, plan.enough) == ("autumn", None, None)
        with pytest.raises(InvalidConfigurationError, match=r"needs a client: Campaigns\(journal, client\)"):
            await campaigns.run(plan.id, QUICK)
        assert (await campaigns.get(plan.id)).state is CampaignState.PLANNED
        assert [each.id for each in await campaigns.list()] == [plan.id]
        assert (await campaigns.start(plan.id, on_workers=True, actor="ann")).on_workers
        assert await campaigns.pause(plan.id, "lunch", actor="ann")
        assert (await campaigns.resume(plan.id)).state is CampaignState.RUNNING
        assert (await campaigns.cancel(plan.id)).state is CampaignState.CANCELLED
        assert [event.actor for event in await campaigns.events(plan.id)] == ["", "ann", "ann", "", ""]
        assert [message.numbers for message in await campaigns.messages(plan.id)] == [1, 1]
        (excluded,) = await campaigns.excluded(plan.id, reason=ExclusionReason.INVALID)
        assert excluded.value.raw == "1"


async def test_a_client_is_asked_for_the_balance_unless_told_otherwise(tmp_path: Path) -> None:
    """A plan asks the client for the balance, if there is one."""
    gateway = SimulatedGateway(balance=7)
    async with opened(tmp_path) as (journal, _), client_of(gateway) as client:
        campaigns = Campaigns(journal, client)
        assert (await campaigns.plan(ROWS, TEXT)).campaign.balance == 7
        assert (await campaigns.plan(ROWS, TEXT, check_balance=False)).campaign.balance is None


async def test_a_plan_can_be_discarded(tmp_path: Path) -> None:
    """It is gone then."""
    async with opened(tmp_path) as (journal, store):
        campaigns = Campaigns(journal)
        campaign = await planned(store, 2)
        await campaigns.discard(campaign)
        with pytest.raises(CampaignNotFoundError):
            await campaigns.get(campaign)


async def test_what_a_dead_process_sent_is_unknown_to_whoever_counts(tmp_path: Path) -> None:
    """A lease that has run out is noticed where counts or pending work are read, not only by a run."""
    async with opened(tmp_path) as (journal, store):
        campaigns = Campaigns(journal)
        for read in (campaigns.counts, campaigns.pending_work):
            campaign = await running(store, 2)
            await claimed(store, campaign, token=f"of {campaign}", lease=-1.0)
            assert not (await read(campaign)).sending
            assert [batch.state for batch in await campaigns.batches(campaign)] == [BatchState.UNKNOWN]
        alive = await running(store, 2)
        await claimed(store, alive, token="alive")
        assert (await campaigns.pending_work(alive)).sending


async def test_unknown_numbers_are_sent_again_by_order(tmp_path: Path) -> None:
    """The quote that was confirmed is planned, and what the reports prove is accepted."""
    async with opened(tmp_path) as (journal, store):
        campaigns = Campaigns(journal)
        campaign = await running(store, 2)
        await store.settle(claim := await claimed(store, campaign), unknown(claim))
        quote = await campaigns.preview_resend(campaign, BatchState.UNKNOWN)
        assert await campaigns.resend(campaign, BatchState.UNKNOWN, expected=quote, actor="ann") == quote
        assert (await campaigns.counts(campaign)).planned == 2
        assert (await campaigns.reconcile(campaign)).batches == 0


async def test_an_export_to_a_path_is_private(tmp_path: Path) -> None:
    """A file is made for its owner alone, since whole numbers are in it, and begins with a mark only if asked to."""
    async with opened(tmp_path) as (journal, store):
        campaigns = Campaigns(journal)
        campaign = await running(store, 2)
        await store.settle(claim := await claimed(store, campaign), accepted(claim))
        path = tmp_path / "numbers.csv"
        assert await campaigns.export(campaign, path) == 2
        plain = path.read_bytes()
        assert plain.startswith(b"number,state,mid,")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        stream = io.StringIO(newline="")
        await campaigns.export(campaign, stream, bom=True)
        assert stream.getvalue().encode() == b"\xef\xbb\xbf" + plain
        await campaigns.export(campaign, str(path), bom=True)
        assert path.read_bytes() == b"\xef\xbb\xbf" + plain
        assert await campaigns.export_excluded(campaign, path) == 0
        assert path.read_text("utf-8") == "number,reason,detail,source,line\n"


async def test_formats_that_cannot_be_written(tmp_path: Path) -> None:
    """There is no third format, and Parquet is no text."""
    async with opened(tmp_path) as (journal, store):
        campaigns, campaign = Campaigns(journal), await planned(store, 2)
        with pytest.raises(InvalidConfigurationError, match="no export in 'xlsx': give csv or parquet"):
            await campaigns.export(campaign, tmp_path / "numbers.xlsx", format="xlsx")  # type: ignore[arg-type]
        with pytest.raises(InvalidConfigurationError, match="needs the path of a file"):
            await campaigns.export(campaign, io.StringIO(), format="parquet")
        assert not (tmp_path / "numbers.xlsx").exists()


async def test_a_report_to_a_stream(tmp_path: Path) -> None:
    """The page is the same as in a file."""
    async with opened(tmp_path) as (journal, store):
        campaigns, campaign = Campaigns(journal), await planned(store, 2)
        stream = io.StringIO()
        data = await campaigns.report(campaign, stream, time_zone="UTC")
        assert data.counts.planned == 2
        assert stream.getvalue().startswith("<!DOCTYPE html>")
