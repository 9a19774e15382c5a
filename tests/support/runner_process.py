"""A runner in a process of its own, given JOURNAL CAMPAIGN URL RATE PATIENCE: it says ``running``, then the state."""

from __future__ import annotations

import sys

import anyio
import attrs

from qxt_async import QxtClient, RetryPolicy
from qxt_async.campaign import Campaigns, RunOptions
from qxt_async.journal import open_journal

OPTIONS = RunOptions(
    check_balance=False,
    max_consecutive_failures=1_000_000,
    retry=RetryPolicy(50, backoff=0.05, max_backoff=0.2),
    lease_margin=1.0,
    poll_interval=0.1,
)


async def main(path: str, campaign: int, url: str, rate: float, journal_timeout: float) -> None:
    """Run until it ends."""
    async with (
        open_journal(path) as journal,
        QxtClient("user", "password", base_url=url, timeout=1.0, max_request_rate=rate) as client,
    ):
        print("running", flush=True)
        counts = await Campaigns(journal, client).run_until_signalled(
            campaign, attrs.evolve(OPTIONS, journal_timeout=journal_timeout)
        )
        print(counts.state if counts is not None else "cut short", flush=True)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4]), float(sys.argv[5]))
