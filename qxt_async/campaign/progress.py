"""How far a campaign is, told while it runs, without asking the journal more than is reasonable."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final

from qxt_async.campaign.options import RunProgress

if TYPE_CHECKING:
    from qxt_async.campaign.options import RunOptions
    from qxt_async.journal.campaigns import CampaignStore
    from qxt_async.journal.records import CampaignCounts

__all__ = ["ProgressReporter"]

# The speed that is told is that of the last so many seconds.
_SPEED_OVER: Final = 30.0
# The questions may take this share of the time: `counts` reads all batches, `deliveries` all reports.
_SHARE: Final = 0.05
# But nobody waits longer than this for the next ones: they may have taken long only since the machine stood still.
_LONGEST_REST: Final = 30.0


class ProgressReporter:
    """Tells `RunOptions.on_progress`.

    Attributes:
        balance: as last asked.
        waiting: why nothing is being sent; empty if something is.
    """

    def __init__(self, campaigns: CampaignStore, campaign: int, options: RunOptions) -> None:
        self._campaigns = campaigns
        self._campaign = campaign
        self._options = options
        self._began = time.monotonic()
        self._next = self._began
        self._samples: deque[tuple[float, int]] = deque()
        self.balance: int | None = None
        self.waiting = ""

    async def tell_in_time(self) -> None:
        """Tell, if it is time to."""
        asked = time.monotonic()
        if self._options.on_progress is None or asked < self._next:
            return
        await self.tell()
        now = time.monotonic()
        self._next = max(asked + self._options.progress_every, now + min((now - asked) / _SHARE, _LONGEST_REST))

    async def tell(self) -> CampaignCounts:
        """Tell now."""
        counts = await self._campaigns.counts(self._campaign)
        if self._options.on_progress is None:
            return counts
        deliveries = await self._campaigns.deliveries(self._campaign) if self._options.show_deliveries else None
        now = time.monotonic()
        settled = counts.accepted + counts.failed + counts.unknown + counts.suppressed
        self._samples.append((now, settled))
        while now - self._samples[0][0] > _SPEED_OVER and len(self._samples) > 1:
            self._samples.popleft()
        since, before = self._samples[0]
        speed = max(0.0, (settled - before) / (now - since)) if now > since else 0.0
        self._options.on_progress(
            RunProgress(
                counts=counts,
                deliveries=deliveries,
                speed=speed,
                seconds_left=(counts.planned + counts.sending) / speed if speed else None,
                balance=self.balance,
                waiting=self.waiting,
                elapsed=now - self._began,
            )
        )
        return counts
