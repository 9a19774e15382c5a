"""Running a campaign: whatever is planned is sent, by as many processes as there are, and never twice.

Running again is resuming: what a process that died had claimed becomes unknown when its lease runs out, everything else
goes on. Orders (`CampaignStore.pause`, `resume`, `cancel`) come through the journal, from any process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qxt_async.campaign.options import RunOptions
from qxt_async.campaign.running import Run
from qxt_async.runtime import signals

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable

    from qxt_async.client import QxtClient
    from qxt_async.journal import Journal
    from qxt_async.journal.records import CampaignCounts

__all__ = ["CampaignRunner", "run_until_signalled"]


class CampaignRunner:
    """Runs campaigns of one journal through one client.

    Args:
        journal: open.
        client: open; its concurrency, rate and timeout hold, and the limits of its account (``journal.limits``).
        options: see `RunOptions`.
    """

    def __init__(self, journal: Journal, client: QxtClient, options: RunOptions | None = None) -> None:
        self._campaigns = journal.campaigns_of(client.user)
        self._client = client
        self._options = options or RunOptions()
        self._runs: set[Run] = set()

    async def run(self, campaign: int) -> CampaignCounts:
        """Send what is planned, until nothing is left, or it is paused, cancelled or `stop` is called.

        Returns:
            How far it is. ``counts.state`` is *done*; or *paused* or *cancelled*, with ``counts.reason``; or *running*
            after `stop`.

        Raises:
            CampaignNotFoundError: there is none of this id.
            CampaignStateError: it is being planned, or cancelled.
            InvalidNumberError: a test number is none; nothing is changed or sent.
            JournalUnavailableError: the journal refused for longer than `journal_timeout`. What had been sent then and
                could not be written down becomes unknown.

        Cancelling: no batch is begun; those under way are given up, and what became of them is written down. The
        campaign stays *running*, for the next run.
        """
        run = Run(self._campaigns, self._client, self._options, campaign)
        self._runs.add(run)
        try:
            return await run.run()
        finally:
            self._runs.discard(run)

    @property
    def stopping(self) -> bool:
        """`stop` was called, and not all is settled yet."""
        return any(run.stopping for run in self._runs)

    def stop(self) -> None:
        """Begin no further batch: `run` returns when those under way are settled. Call it in the event loop."""
        for run in self._runs:
            run.stop()


async def run_until_signalled(
    runner: CampaignRunner, campaign: int, *, on_stopping: Callable[[signal.Signals], None] | None = None
) -> CampaignCounts | None:
    """`CampaignRunner.run` for a program: a first SIGINT or SIGTERM lets what is under way finish, a second does not.

    Only in the main thread, and not on Windows.

    Args:
        runner: of the journal.
        campaign: its id.
        on_stopping: called with the first signal, and with the second.

    Returns:
        As `CampaignRunner.run`; ``None`` if the second signal cut it short. After a signal the campaign stays
        *running*: run it again to go on.
    """

    def record(number: signal.Signals) -> None:
        if on_stopping is not None:
            on_stopping(number)

    def stop(number: signal.Signals) -> None:
        runner.stop()
        record(number)

    return await signals.run_until_signalled(lambda: runner.run(campaign), stop, record)
