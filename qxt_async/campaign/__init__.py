"""Campaigns that survive anything: planned, run, resumed, reconciled, over a journal and a client.

::

    async with open_journal("qxt.db") as journal, QxtClient.from_env() as client:
        planned = await plan(journal, client, Path("customers.csv"), "【Acme】…")
        tally = await CampaignRunner(journal, client).run(planned.id)
"""

from .execute import Execution, Executor, Fate
from .options import RunOptions, RunProgress
from .plan import CampaignPlan, plan
from .run import CampaignRunner, run_until_signalled
from .windows import SendWindow

__all__ = [
    "CampaignPlan",
    "CampaignRunner",
    "Execution",
    "Executor",
    "Fate",
    "RunOptions",
    "RunProgress",
    "SendWindow",
    "plan",
    "run_until_signalled",
]
