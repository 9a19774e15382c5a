"""A worker in a process of its own, which says ``working``, then ``ended``. JOURNAL URL CONCURRENCY TIMEOUT TRANSPORT.

One that cannot begin since the database is away begins anew, as whatever supervises services would have it.
"""

from __future__ import annotations

import signal
import sys
import time
from typing import Any

import anyio
from anyio.abc import TaskStatus

from qxt_async import QxtClient, RetryPolicy
from qxt_async.errors import JournalUnavailableError
from qxt_async.journal import open_journal
from qxt_async.workers import CampaignWorker, WorkerOptions

OPTIONS = WorkerOptions(
    check_balance=False,
    max_consecutive_failures=1_000_000,
    retry=RetryPolicy(50, backoff=0.05, max_backoff=0.2),
    lease_margin=1.0,
    journal_timeout=600.0,
)


async def main(address: str, url: str, concurrency: int, timeout: float, transport: Any) -> None:
    """Work until SIGTERM."""
    async with (
        open_journal(address) as journal,
        QxtClient(
            "user", "password", base_url=url, timeout=timeout, max_concurrency=concurrency, transport=transport
        ) as client,
        anyio.create_task_group() as group,
    ):
        worker = CampaignWorker(journal, client, OPTIONS)

        async def heed(*, task_status: TaskStatus[None]) -> None:
            with anyio.open_signal_receiver(signal.SIGTERM) as signals:
                task_status.started()
                async for _ in signals:
                    worker.stop()

        await group.start(heed)
        print("working", flush=True)
        await worker.run()
        print("ended", flush=True)
        group.cancel_scope.cancel()


if __name__ == "__main__":
    while True:
        try:
            anyio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), sys.argv[5])
            break
        except* JournalUnavailableError:
            time.sleep(0.2)
