"""A campaign that workers send, seen from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from qxt_async.campaign import RunOptions
from qxt_async.campaign.progress import Speedometer
from qxt_async.journal.records import CampaignState

from .engine import Engine
from .worker import shared

if TYPE_CHECKING:
    from qxt_async.journal import Journal
    from qxt_async.journal.records import Tally

__all__ = ["run_on_workers"]


async def run_on_workers(
    journal: Journal, campaign: int, options: RunOptions | None = None, *, priority: int | None = None
) -> Tally:
    """Let the workers of a journal send a campaign, and wait for the end.

    Args:
        journal: on PostgreSQL, open.
        campaign: which.
        options: of these `poll`, `by` and what is told of progress; the rest is the workers'.
        priority: batches of a campaign with a higher one are sent before those of others; 0 at first, ``None`` leaves
            it as it is.

    Returns:
        How far it is: ``tally.state`` is *done*, *paused* or *cancelled*.

    Raises:
        InvalidConfigurationError: the journal is a file.
        CampaignNotFoundError: there is none of this id.
        CampaignStateError: it is being planned, or cancelled.
        JournalUnavailableError: the database refuses. The workers go on without this.

    Cancelling: ends the waiting; the workers go on. `Campaigns.pause` stops them.
    """
    options = options or RunOptions()
    campaigns = journal.campaigns
    async with Engine(shared(journal), connections=1) as engine:
        await campaigns.start(campaign, by=options.by)
        if priority is not None:
            await engine.prioritise(campaign, priority)
        await engine.announce(campaign)
        speedometer = Speedometer(campaigns, campaign, options)
        while (outlook := await campaigns.outlook(campaign)).state is CampaignState.RUNNING:
            if not (outlook.planned or outlook.sending) and await campaigns.complete(campaign):
                break
            speedometer.waiting = "" if await engine.workers() else "no worker is there: start qxt worker"
            await speedometer.tell_in_time()
            await anyio.sleep(options.poll)
        return await speedometer.tell()
