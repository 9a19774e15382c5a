"""Send a campaign from many machines: workers share a journal on PostgreSQL. Needs the extra ``postgres``.

::

    async with open_journal("postgresql://…") as journal, QxtClient.from_env() as client:
        await CampaignWorker(journal, client).run()
"""

from qxt_async.errors import InvalidConfigurationError
from qxt_async.runtime.words import missing_extra

try:
    from qxt_async.workers.watching import run_on_workers
    from qxt_async.workers.worker import CampaignWorker, WorkerOptions, require_postgres
except ModuleNotFoundError as error:
    raise InvalidConfigurationError(missing_extra("postgres", "a worker")) from error

__all__ = ["CampaignWorker", "WorkerOptions", "require_postgres", "run_on_workers"]
