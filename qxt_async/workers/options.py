"""How a worker works."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from qxt_async.sending.retry import RetryPolicy

if TYPE_CHECKING:
    from qxt_async.campaign import SendWindow

__all__ = ["WorkerOptions"]


@attrs.frozen(kw_only=True)
class WorkerOptions:
    """How a worker works; those of one account should agree.

    Attributes:
        check_balance: ask for the balance before a campaign's first batch and every `balance_every` batches of it that
            this worker sends, and pause the campaign when it does not suffice: an empty account answers ``ok`` and
            delivers nothing (PROTOCOL 2.2).
        balance_every: batches between two questions.
        min_balance: messages that have to be left, and never fewer than the next `balance_every` batches cost.
        max_consecutive_failures: so many batches of one campaign in a row of which nothing was accepted, at this
            worker, pause it.
        window: when batches may be begun; ``None`` for any time.
        retry: how often, and after which waits, a batch is tried that provably was not sent; then it has failed.
        margin, journal_timeout: see `campaign.BatchSender`.
        outstanding: batches of a campaign that have a job and wait, at most.
        report_deadline: seconds after which an unknown batch without a status report is called overdue.
        actor: who runs it, for the record.
    """

    check_balance: bool = True
    balance_every: int = 50
    min_balance: int = 0
    max_consecutive_failures: int = 10
    window: SendWindow | None = None
    retry: RetryPolicy = attrs.field(factory=lambda: RetryPolicy(10, max_backoff=60.0))
    lease_margin: float = 15.0
    journal_timeout: float = 60.0
    outstanding: int = 2000
    report_deadline: float = 72 * 3600.0
    actor: str = ""
