"""The options of a run, and its progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from qxt_async.sending.recorded import RecordOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qxt_async.campaign.windows import SendWindow
    from qxt_async.journal.records import CampaignCounts, DeliveryCounts


@attrs.frozen(kw_only=True)
class RunProgress:
    """The progress of a campaign, of all processes together.

    Attributes:
        counts: its numbers by state.
        deliveries: its status reports; ``None`` without `RunOptions.show_deliveries`.
        speed: numbers settled per second, over the last 30 seconds.
        seconds_left: at this speed; ``None`` if the speed is 0.
        balance: the last one that was asked for; ``None`` if none was.
        waiting: why nothing is being sent; empty if something is.
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
class CampaignOptions(RecordOptions):
    """The options that a run in this process and a worker share, in addition to `RecordOptions`.

    Attributes:
        check_balance: ask for the balance before a campaign's first batch and after every `balance_every` batches, and
            pause the campaign if it is too low: an empty account answers ``ok`` and delivers nothing (PROTOCOL 2.2).
        balance_every: batches between two questions.
        min_balance: messages that have to be left. The cost of the next `balance_every` batches has to be left, too.
        max_consecutive_failures: pause a campaign after so many batches in a row of which nothing was accepted.
        window: when batches may be begun; ``None`` for any time.
        report_deadline: seconds after which an unknown batch without a status report is marked *overdue*.
        actor: who runs it, for the record.
    """

    check_balance: bool = True
    balance_every: int = 50
    min_balance: int = 0
    max_consecutive_failures: int = 10
    window: SendWindow | None = None
    report_deadline: float = 72 * 3600.0
    actor: str = ""


@attrs.frozen(kw_only=True)
class RunOptions(CampaignOptions):
    """How to run a campaign, in addition to `CampaignOptions`.

    Attributes:
        test_numbers: numbers that get their text before all others, once. A number of the campaign gets its own text,
            and not a second time; other numbers get the first text. If the test is not accepted, the campaign is
            paused.
        pause_after_test: pause after an accepted test, so that somebody can look at the phone.
        wait_while_paused: continue when a paused campaign is resumed, instead of returning.
        poll_interval: seconds between two looks at the journal, within which orders are noticed.
        reconcile_every: seconds between two looks at the status reports for unknown batches.
        on_progress: called with the progress about every `progress_every` seconds and at the end. It must return at
            once.
        progress_every: seconds.
        show_deliveries: count the status reports for `on_progress`.
    """

    test_numbers: Sequence[str] = attrs.field(default=(), repr=False)
    pause_after_test: bool = False
    wait_while_paused: bool = False
    poll_interval: float = 0.5
    reconcile_every: float = 30.0
    on_progress: Callable[[RunProgress], None] | None = None
    progress_every: float = 1.0
    show_deliveries: bool = False
