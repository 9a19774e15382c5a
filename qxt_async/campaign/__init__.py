"""Campaigns that survive anything: planned, run, resumed, reconciled, over a journal and a client.

::

    async with open_journal("qxt.db") as journal, QxtClient.from_env() as client:
        planned = await plan(journal, client, Path("customers.csv"), "【Acme】…")
        counts = await CampaignRunner(journal, client).run(planned.id)
"""

from qxt_async.campaign.execute import AttemptOutcome, AttemptResult, BatchSender, Failures
from qxt_async.campaign.export import export_csv, export_left_out, export_parquet
from qxt_async.campaign.options import RunOptions, RunProgress
from qxt_async.campaign.plan import CampaignPlan, plan
from qxt_async.campaign.report import ReportData, render_report, report_data, write_report
from qxt_async.campaign.run import CampaignRunner, run_until_signalled
from qxt_async.campaign.windows import SendWindow

__all__ = [
    "AttemptOutcome",
    "AttemptResult",
    "BatchSender",
    "CampaignPlan",
    "CampaignRunner",
    "Failures",
    "ReportData",
    "RunOptions",
    "RunProgress",
    "SendWindow",
    "export_csv",
    "export_left_out",
    "export_parquet",
    "plan",
    "render_report",
    "report_data",
    "run_until_signalled",
    "write_report",
]
