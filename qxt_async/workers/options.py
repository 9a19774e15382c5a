"""The options of a worker."""

from __future__ import annotations

import attrs

from qxt_async.campaign.options import CampaignOptions
from qxt_async.workers.engine import WINDOW


@attrs.frozen(kw_only=True)
class WorkerOptions(CampaignOptions):
    """How a worker works, in addition to `CampaignOptions`. The workers of one account should have the same options.

    What a worker counts (failures, batches since the balance was checked) is counted per campaign and worker.

    Attributes:
        outstanding: batches of a campaign that have a job and wait, at most.
    """

    outstanding: int = WINDOW
