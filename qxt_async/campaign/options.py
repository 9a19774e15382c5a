"""How a campaign is to be run, and how far it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from qxt_async.sending.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qxt_async.campaign.windows import SendWindow
    from qxt_async.journal.records import CampaignCounts, DeliveryCounts

__all__ = ["RunOptions", "RunProgress"]


@attrs.frozen(kw_only=True)
class RunProgress:
    """How far a campaign is, all processes together.

    Attributes:
        counts: its numbers by what became of them.
        deliveries: status reports so far; ``None`` unless asked for with `RunOptions.show_deliveries`.
        speed: numbers settled a second, of late.
        seconds_left: at this speed, ``None`` if that cannot be said.
        balance: as last asked, ``None`` if it was not.
        waiting: why nothing is being sent, empty if something is.
        elapsed: seconds since this run began.
    """

    counts: CampaignCounts
    deliveries: DeliveryCounts | None
    speed: float
    seconds_left: float | None
    balance: int | None
    waiting: str
    elapsed: float


@attrs.frozen(kw_only=True)
class RunOptions:
    """How to run a campaign.

    Attributes:
        check_balance: ask for the balance before the start and every `balance_every` batches, and pause when it does
            not suffice: an empty account answers ``ok`` and delivers nothing (PROTOCOL 2.2).
        balance_every: batches between two questions.
        min_balance: messages that have to be left, and never fewer than the next `balance_every` batches cost.
        max_consecutive_failures: so many batches in a row of which nothing was accepted pause the campaign.
        window: when batches may be begun; ``None`` for any time.
        test_numbers: numbers that get their text before everybody else, once; see `CampaignStore.plan_test`.
        pause_after_test: pause after a test that was accepted, so that somebody can look at the phone.
        wait_while_paused: go on when a paused campaign is resumed, instead of returning.
        retry: see `BatchSender`.
        margin, journal_timeout: see `BatchSender`.
        poll: seconds between two looks at the journal, within which orders are noticed.
        reconcile_every: seconds between two looks at the status reports for unknown batches.
        report_deadline: seconds after which an unknown batch without a status report is called overdue.
        on_progress: told how far it is, about every `progress_every` seconds and at the end. It must return at once.
        progress_every: seconds.
        show_deliveries: count status reports for `on_progress`.
        actor: who runs it, for the record.
    """

    check_balance: bool = True
    balance_every: int = 50
    min_balance: int = 0
    max_consecutive_failures: int = 10
    window: SendWindow | None = None
    test_numbers: Sequence[str] = attrs.field(default=(), repr=False)
    pause_after_test: bool = False
    wait_while_paused: bool = False
    retry: RetryPolicy = attrs.field(factory=lambda: RetryPolicy(10, max_backoff=60.0))
    lease_margin: float = 15.0
    journal_timeout: float = 60.0
    poll_interval: float = 0.5
    reconcile_every: float = 30.0
    report_deadline: float = 72 * 3600.0
    on_progress: Callable[[RunProgress], None] | None = None
    progress_every: float = 1.0
    show_deliveries: bool = False
    actor: str = ""
