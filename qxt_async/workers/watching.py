"""Wait for a campaign that workers send."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from qxt_async.campaign import RunOptions
from qxt_async.campaign.progress import ProgressReporter
from qxt_async.errors import JournalUnavailableError
from qxt_async.journal.records import CampaignState
from qxt_async.workers.engine import Engine
from qxt_async.workers.worker import require_postgres

if TYPE_CHECKING:
    from qxt_async.journal import Journal
    from qxt_async.journal.campaigns import CampaignStore
    from qxt_async.journal.records import CampaignCounts

logger = logging.getLogger("qxt_async")


async def run_on_workers(
    journal: Journal, campaign: int, options: RunOptions | None = None, *, priority: int | None = None
) -> CampaignCounts:
    """Let the workers of a journal send a campaign, and wait until it ends.

    Args:
        journal: on PostgreSQL, open.
        campaign: its id.
        options: only `poll_interval`, `journal_timeout`, `actor` and the options of progress are used.
        priority: batches of a campaign with a higher priority are sent before those of others. It is 0 at first;
            ``None`` does not change it.

    Returns:
        Its counts. ``state`` is *done*, *paused* or *cancelled*.

    Raises:
        InvalidConfigurationError: the journal is a file.
        CampaignNotFoundError: there is none of this id.
        CampaignStateError: it is being planned, or cancelled.
        JournalUnavailableError: the database refuses at the beginning, or later for longer than
            `RunOptions.journal_timeout`. The workers continue.

    Cancelling ends the waiting; the workers continue. `Campaigns.pause` stops them.
    """
    options = options or RunOptions()
    campaigns = journal.campaigns
    async with Engine(require_postgres(journal), connections=1) as engine:
        await campaigns.start(campaign, actor=options.actor, on_workers=True)
        if priority is not None:
            await engine.prioritise(campaign, priority)
        await engine.announce(campaign)
        reporter = ProgressReporter(campaigns, campaign, options)
        seen = anyio.current_time()
        while True:
            try:
                if await _has_ended(campaigns, campaign):
                    return await reporter.tell("")
                await reporter.tell_in_time("" if await engine.workers() else "no worker is there: start qxt worker")
                seen = anyio.current_time()
            except JournalUnavailableError as error:
                if anyio.current_time() - seen > options.journal_timeout:
                    raise
                logger.warning("cannot read the progress of the workers, trying again: %s", error)
            await anyio.sleep(options.poll_interval)


async def _has_ended(campaigns: CampaignStore, campaign: int) -> bool:
    pending_work = await campaigns.pending_work(campaign)
    if pending_work.state is not CampaignState.RUNNING:
        return True
    return not (pending_work.planned or pending_work.sending) and await campaigns.complete(campaign)
