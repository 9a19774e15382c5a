"""Every number of a campaign to a file."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.made_up import sent_campaign
from support.steps import planned

from qxt_async.campaign import Campaigns
from qxt_async.campaign.export import COLUMNS
from qxt_async.errors import CampaignNotFoundError
from qxt_async.journal import Journal, open_journal
from qxt_async.journal.records import ExclusionReason
from qxt_async.models import Acceptance, BatchResult, StatusReport
from qxt_async.protocol.pushes import Push

pytestmark = pytest.mark.anyio

TEXT = "【Acme】您好"


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    """An open journal."""
    async with open_journal(tmp_path / "qxt.db") as opened:
        yield opened


def rows_of(stream: io.StringIO) -> list[dict[str, str]]:
    """A CSV file as a reader sees it."""
    return list(csv.DictReader(stream.getvalue().splitlines()))


async def test_the_header_is_what_scripts_rely_on(journal: Journal) -> None:
    """The first columns are fixed; a number that is planned has nothing else."""
    made = await Campaigns(journal).plan(["13800000000"], TEXT)
    stream = io.StringIO()
    assert await Campaigns(journal).export(made.id, stream) == 1
    assert stream.getvalue() == (
        "number,state,mid,report,code,area,city,error,via_report,batch,message,sent_at,settled_at,reported_at\n"
        "13800000000,planned,,,,,,,,1,1,,,\n"
    )


async def test_every_number_is_there_once(journal: Journal) -> None:
    """Each number has exactly one state, and they add up to the campaign's counts."""
    campaign = await sent_campaign(journal, 3400, size=100)
    stream = io.StringIO()
    assert await Campaigns(journal).export(campaign, stream) == 3400 + 3400 // 300
    rows = rows_of(stream)
    counts = await journal.campaigns.counts(campaign)
    states = Counter(row["state"] for row in rows)
    assert len({row["number"] for row in rows}) == len(rows)
    assert (states["accepted"], states["failed"], states["unknown"], states["suppressed"]) == (
        counts.accepted,
        counts.failed,
        counts.unknown,
        3400 // 300,
    )
    deliveries = await journal.campaigns.deliveries(campaign)
    assert Counter(row["report"] for row in rows)["delivered"] == deliveries.delivered
    first = rows[0]
    assert (first["mid"], first["sent_at"]) == ("0007000001", "2026-11-03T01:00:00.000Z")
    assert {row["code"] for row in rows if row["report"] == "rejected"} == {"REJECT"}


async def test_numbers_come_by_the_thousand(journal: Journal) -> None:
    """Also where each batch has a text of its own, and one number."""
    campaign = await planned(journal.campaigns, *[1] * 50)
    assert [len(records) async for records in Campaigns(journal).numbers(campaign)] == [50]


async def test_values_are_harmless_in_a_spreadsheet(journal: Journal) -> None:
    """What would be a formula has an apostrophe in front in CSV; Parquet knows no formulas and keeps it as it came."""
    made = await Campaigns(journal).plan(["13800000000"], TEXT, suppressed=["x"])
    await journal.campaigns.start(made.id)
    claim = await journal.campaigns.claim(made.id, token="t", lease=60.0)
    assert claim is not None
    acceptance = Acceptance("=1+1", claim.numbers)
    await journal.campaigns.settle(claim, BatchResult(0, claim.numbers, acceptances=(acceptance,)))
    report = StatusReport("=1+1", "13800000000", code="@SUM(A1)", area="+cmd|' /C calc'!A0", city="-2+3")
    await journal.record_push(Push(query=b"", body=b"", reports=(report,), received_at=datetime.now(UTC)))
    stream = io.StringIO()
    await Campaigns(journal).export(made.id, stream)
    (row,) = rows_of(stream)
    assert (row["mid"], row["code"], row["area"], row["city"]) == ("'=1+1", "'@SUM(A1)", "'+cmd|' /C calc'!A0", "'-2+3")
    assert row["report"] == "failed"


async def test_parquet_has_the_same_rows(journal: Journal, tmp_path: Path) -> None:
    """The columns are those of the CSV file, typed: times are times, and what is not there is null."""
    campaign = await sent_campaign(journal, 3400, size=100)
    path = tmp_path / "numbers.parquet"
    assert await Campaigns(journal).export(campaign, path, format="parquet") == 3400 + 3400 // 300
    table = pq.read_table(path)
    assert tuple(table.column_names) == COLUMNS
    first = table.slice(0, 1).to_pylist()[0]
    assert (first["number"], first["mid"], first["error"]) == ("13800000000", "0007000001", "")
    assert first["sent_at"] == datetime(2026, 11, 3, 1, tzinfo=UTC)
    assert first["via_report"] is False
    last = table.slice(table.num_rows - 1, 1).to_pylist()[0]
    assert (last["state"], last["mid"], last["batch"]) == ("suppressed", None, None)


async def test_what_was_left_out_can_be_written(journal: Journal) -> None:
    """All of it, or one reason; with source and line."""
    made = await Campaigns(journal).plan(["13800000000", "=HYPERLINK()", "13800000000", "13800000001"], TEXT)
    stream = io.StringIO()
    assert await Campaigns(journal).export_excluded(made.id, stream) == 2
    assert stream.getvalue().splitlines()[0] == "number,reason,detail,source,line"
    rows = rows_of(stream)
    assert [(row["number"], row["reason"], row["source"], row["line"]) for row in rows] == [
        ("'=HYPERLINK()", "invalid", "source 1", "2"),
        ("13800000000", "duplicate", "source 1", "3"),
    ]
    stream = io.StringIO()
    assert await Campaigns(journal).export_excluded(made.id, stream, reason=ExclusionReason.SUPPRESSED) == 0


async def test_suppressed_numbers_are_exported_as_they_are_sent(journal: Journal) -> None:
    """In the form of the others; what is no mobile number stays what it was."""
    sources = ["13800000000", "+86 13800000001"]
    made = await Campaigns(journal).plan(sources, TEXT, suppressed=["13800000001"])
    stream = io.StringIO()
    await Campaigns(journal).export(made.id, stream)
    assert [(row["number"], row["state"]) for row in rows_of(stream)] == [
        ("13800000000", "planned"),
        ("13800000001", "suppressed"),
    ]
    foreign = ["85200000000", "85200000001"]
    made = await Campaigns(journal).plan(foreign, TEXT, suppressed=foreign[:1], number_pattern="852[0-9]{8}")
    stream = io.StringIO()
    await Campaigns(journal).export(made.id, stream)
    assert [row["number"] for row in rows_of(stream)] == foreign[::-1]


async def test_an_export_names_phones_in_their_canonical_form(journal: Journal, tmp_path: Path) -> None:
    """As reports and replies do, so that the files can be joined; also where another form went on the wire."""
    given = ["8613800000000", "8613800000001"]
    made = await Campaigns(journal).plan(given, TEXT, suppressed=["13800000001"], number_pattern=r"86\d{11}")
    stream, path = io.StringIO(), tmp_path / "out.parquet"
    await Campaigns(journal).export(made.id, stream)
    await Campaigns(journal).export(made.id, path, format="parquet")
    assert [row["number"] for row in rows_of(stream)] == ["13800000000", "13800000001"]
    assert pq.read_table(path)["number"].to_pylist() == ["13800000000", "13800000001"]


async def test_a_campaign_that_is_not_there_writes_nothing(journal: Journal, tmp_path: Path) -> None:
    """No file is begun for it."""
    stream, path = io.StringIO(), tmp_path / "none.parquet"
    with pytest.raises(CampaignNotFoundError):
        await Campaigns(journal).export(9, stream)
    with pytest.raises(CampaignNotFoundError):
        await Campaigns(journal).export_excluded(9, stream)
    with pytest.raises(CampaignNotFoundError):
        await Campaigns(journal).export(9, path, format="parquet")
    assert (stream.getvalue(), path.exists()) == ("", False)
