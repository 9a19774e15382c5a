"""Tells the progress of a campaign while it runs, and bounds how much of the time the journal spends on counting."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final

from qxt_async.campaign.options import RunProgress

if TYPE_CHECKING:
    from qxt_async.campaign.options import RunOptions
    from qxt_async.journal.campaigns import CampaignStore
    from qxt_async.journal.records import CampaignCounts

# The speed is that of the last so many seconds.
SPEED_OVER: Final = 30.0
# Counting may take this share of the time: `counts` reads all batches, `deliveries` all reports.
ASKING_SHARE: Final = 0.05
# But it waits no longer than this: counting may have taken long only because the machine stood still.
_LONGEST_REST: Final = 30.0


class ProgressReporter:
    """Calls `RunOptions.on_progress`."""

    def __init__(self, store: CampaignStore, campaign: int, options: RunOptions) -> None:
        self._store = store
        self._campaign = campaign
        self._options = options
        self._began = time.monotonic()
        self._next = self._began
        self._samples: deque[tuple[float, int]] = deque()

    async def tell_in_time(self, waiting: str, balance: int | None = None) -> None:
        """`tell`, if it is time to."""
        asked = time.monotonic()
        if self._options.on_progress is None or asked < self._next:
            return
        await self.tell(waiting, balance)
        now = time.monotonic()
        self._next = max(asked + self._options.progress_every, now + min((now - asked) / ASKING_SHARE, _LONGEST_REST))

    async def tell(self, waiting: str, balance: int | None = None) -> CampaignCounts:
        """Count, and tell the progress.

        Args:
            waiting: why nothing is being sent; empty if something is.
            balance: the last one that was asked for.

        Returns:
            The counts.
        """
        counts = await self._store.counts(self._campaign)
        if self._options.on_progress is None:
            return counts
        deliveries = await self._store.deliveries(self._campaign) if self._options.show_deliveries else None
        now = time.monotonic()
        settled = counts.accepted + counts.failed + counts.unknown + counts.suppressed
        self._samples.append((now, settled))
        while now - self._samples[0][0] > SPEED_OVER and len(self._samples) > 1:
            self._samples.popleft()
        since, before = self._samples[0]
        speed = max(0.0, (settled - before) / (now - since)) if now > since else 0.0
        self._options.on_progress(
            RunProgress(
                counts=counts,
                deliveries=deliveries,
                speed=speed,
                seconds_left=(counts.planned + counts.sending) / speed if speed else None,
                balance=balance,
                waiting=waiting,
                elapsed=now - self._began,
            )
        )
        return counts
