"""One campaign, sent and reported on in a file and in PostgreSQL: both say the same of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from made_up import sent_campaign
from processes import every_number

from qxt_async.journal import open_journal


async def _all_that_is_said(store: str) -> dict[str, Any]:
    async with open_journal(store) as journal:
        campaigns = journal.campaigns
        campaign = await sent_campaign(journal, 12_000)
        return {
            "campaign": await campaigns.get(campaign),
            "tally": await campaigns.tally(campaign),
            "deliveries": await campaigns.deliveries(campaign),
            "figures": await campaigns.figures(campaign),
            "messages": await campaigns.messages(campaign),
            "batches": await campaigns.batches(campaign),
            "events": await campaigns.events(campaign),
            "left out": await campaigns.left_out(campaign, limit=100_000),
            # Cursors grow in both; by how much is each one's own.
            "reports": [entry.value for entry in await journal.reports(limit=100_000)],
            "numbers": await every_number(journal, campaign),
            "cost ahead": await campaigns.cost_ahead(campaign, 100),
            "before": await campaigns.figures(await campaigns.create()),
        }


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_both_forms_say_the_same(tmp_path: Path, journals: str) -> None:
    """Whatever is asked, after everything that can become of a batch: the same values, in the same order."""
    in_a_file = await _all_that_is_said(str(tmp_path / "qxt.db"))
    in_postgresql = await _all_that_is_said(journals)
    assert len(in_a_file["numbers"]) == 12_000
    assert in_a_file["figures"].delays
    for what, said in in_a_file.items():
        if attrs.has(type(said)):
            assert attrs.asdict(in_postgresql[what]) == attrs.asdict(said), what
        assert in_postgresql[what] == said, what
