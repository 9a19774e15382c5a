"""Campaigns: planned before anything is sent, run, resumed after a crash, and reported on.

::

    async with open_journal("qxt.db") as journal, QxtClient.from_env() as client:
        campaigns = Campaigns(journal, client)
        plan = await campaigns.plan(Path("customers.csv"), "【Acme】Dear {name} …")
        counts = await campaigns.run(plan.id)
"""

from qxt_async.campaign.campaigns import Campaigns
from qxt_async.campaign.options import RunOptions, RunProgress
from qxt_async.campaign.plan import CampaignPlan
from qxt_async.campaign.report import ReportData
from qxt_async.campaign.windows import SendWindow
from qxt_async.journal.records import (
    Batch,
    BatchState,
    Campaign,
    CampaignCounts,
    CampaignEvent,
    CampaignMessage,
    CampaignState,
    DeliveryCounts,
    ExcludedNumber,
    ExclusionReason,
    NumberRecord,
    NumberState,
    PendingWork,
    Reconciliation,
    ResendQuote,
)
from qxt_async.journal.statistics import Interval, ReportStatistics

__all__ = [
    "Batch",
    "BatchState",
    "Campaign",
    "CampaignCounts",
    "CampaignEvent",
    "CampaignMessage",
    "CampaignPlan",
    "CampaignState",
    "Campaigns",
    "DeliveryCounts",
    "ExcludedNumber",
    "ExclusionReason",
    "Interval",
    "NumberRecord",
    "NumberState",
    "PendingWork",
    "Reconciliation",
    "ReportData",
    "ReportStatistics",
    "ResendQuote",
    "RunOptions",
    "RunProgress",
    "SendWindow",
]
