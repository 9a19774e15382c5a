"""The same campaign on many machines: workers that share a journal on PostgreSQL. Needs the extra ``postgres``.

::

    async with open_journal("postgresql://…") as journal, QxtClient.from_env() as client:
        await CampaignWorker(journal, client).run()
"""

from qxt_async.errors import InvalidConfigurationError

try:
    from qxt_async.journal.postgres_limits import AccountLimits

    from .options import WorkerOptions
    from .watching import run_on_workers
    from .worker import CampaignWorker, shared
except ModuleNotFoundError as error:
    raise InvalidConfigurationError("workers need an extra: pip install 'qxt_async[postgres]'") from error

__all__ = ["AccountLimits", "CampaignWorker", "WorkerOptions", "run_on_workers", "shared"]
