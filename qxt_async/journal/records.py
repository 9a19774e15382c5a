"""Campaigns and their batches as the journal keeps them.

A **batch** is what one request carries: one message and up to 1000 numbers. Its state is that of its numbers; a number
of which something else is true (refused or not mentioned in an answer that took the others, opted out since the plan)
has a row of its own. A **message** is a text with its extension number; equal ones are stored once in a campaign.

Its states::

    planned ──claim, COMMIT──▶ sending ──answer──▶ accepted(mid) | failed(error)
                                  ├─ provably no byte left ──▶ planned, with back-off
                                  ├─ may have arrived ──▶ unknown
                                  └─ lease ran out ──▶ unknown
    unknown ──late answer to the same attempt (its token)──▶ accepted | failed
    unknown ──a status report binds a mid──▶ accepted (via report)
    unknown, failed ──order of a person──▶ as it was, its numbers superseded by those of a new, planned batch

The state of a batch whose numbers had different outcomes is *accepted* if any was accepted, else *unknown* if any may
have been, else *failed*.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

import attrs

from qxt_async.models import mask, repr_count

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from qxt_async.models import Message

__all__ = [
    "PAUSE_AFTER_TEST",
    "TEST",
    "Batch",
    "BatchState",
    "Campaign",
    "CampaignCounts",
    "CampaignEvent",
    "CampaignMessage",
    "CampaignState",
    "Claim",
    "DeliveryCounts",
    "ExcludedNumber",
    "ExclusionReason",
    "NumberRecord",
    "NumberState",
    "PendingWork",
    "PlannedBatch",
    "Reconciliation",
    "ResendQuote",
]


TEST: Final = 1
"""`Claim.test` of a test batch."""

PAUSE_AFTER_TEST: Final = 2
"""`Claim.test` of a test batch after which the campaign is paused, so that somebody can look at the phone."""


class CampaignState(enum.StrEnum):
    """``planning → planned → running → paused → done | cancelled``, and back by resuming.

    *planning* can never be run: a plan that was broken off stays there until another plan clears it away. *running*
    says that it may be sent, not that a process is at it. What is *done* is *paused* again when numbers are ordered
    to be sent again, or when a batch that was unknown proves not to have been sent.
    """

    PLANNING = "planning"
    PLANNED = "planned"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    CANCELLED = "cancelled"


class BatchState(enum.StrEnum):
    """See the module's diagram.

    *Withdrawn* is a batch of a resend that proved needless before it was sent, or that failed: then the batch before
    it speaks for its numbers again.
    """

    PLANNED = "planned"
    SENDING = "sending"
    ACCEPTED = "accepted"
    FAILED = "failed"
    UNKNOWN = "unknown"
    WITHDRAWN = "withdrawn"


class NumberState(enum.StrEnum):
    """What became of one number of a campaign, in an export. What is being sent right now may arrive: *unknown*."""

    PLANNED = "planned"
    ACCEPTED = "accepted"
    FAILED = "failed"
    UNKNOWN = "unknown"
    CANCELLED = "cancelled"
    SUPPRESSED = "suppressed"


class ExclusionReason(enum.StrEnum):
    """Why a number of a source is in no batch."""

    INVALID = "invalid"
    DUPLICATE = "duplicate"
    SUPPRESSED = "suppressed"


# --- what a plan puts in ------------------------------------------------------------------------------------------


@attrs.frozen
class PlannedBatch:
    """A batch to be stored.

    Attributes:
        message: text, extension number and ``addseqno``; equal ones are stored once.
        numbers: normalised, at most 1000, each in one batch of the campaign only.
        segments: messages that each number is billed as.
    """

    message: Message
    numbers: Sequence[str] = attrs.field(repr=repr_count)
    segments: int = attrs.field(default=1, kw_only=True)


@attrs.frozen
class ExcludedNumber:
    """A number that a plan left out.

    Attributes:
        raw: as it stood in the source.
        reason: invalid, duplicate or suppressed.
        detail: what is wrong with it, or where the first of a repeated number stands; may be empty.
        source: name of the file; empty if there is none.
        line: line in it, from 1; the place in an iterable, from 1.
    """

    raw: str = attrs.field(repr=mask)
    reason: ExclusionReason = attrs.field(kw_only=True)
    detail: str = attrs.field(default="", kw_only=True)
    source: str = attrs.field(default="", kw_only=True)
    line: int = attrs.field(default=0, kw_only=True)


# --- what is there ------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Campaign:
    """A campaign as it is stored. The counts are those of its plan.

    Attributes:
        id: what it is called by.
        name: what somebody called it, may be empty.
        state: see `CampaignState`.
        reason: why it is in this state, in words; empty if there is nothing to say.
        created_at, changed_at: when it was begun and when its state last changed, aware, UTC.
        numbers: numbers in its batches, resends not counted twice.
        batches: how many, resends not counted.
        credits: messages that will be billed: numbers times segments.
        invalid, duplicates, suppressed: numbers left out.
        balance: what the account had at the time of the plan, ``None`` if it was not asked.
        sources: names of the files.
        warnings: what the plan found worth saying.
        on_workers: whether its last run was left to workers.
    """

    id: int
    name: str
    state: CampaignState
    reason: str
    created_at: datetime
    changed_at: datetime
    numbers: int
    batches: int
    credits: int
    invalid: int
    duplicates: int
    suppressed: int
    balance: int | None
    sources: tuple[str, ...]
    warnings: tuple[str, ...]
    on_workers: bool


@attrs.frozen(kw_only=True)
class CampaignMessage:
    """One of a campaign's messages.

    Attributes:
        id: its key in the journal.
        message: text, extension number, ``addseqno``.
        segments: messages that each number is billed as.
        numbers, batches: how many get it.
    """

    id: int
    message: Message
    segments: int
    numbers: int
    batches: int


@attrs.frozen(kw_only=True)
class CampaignCounts:
    """How far a campaign is: its numbers by what became of them, each counted once.

    Attributes:
        state, reason: the campaign's.
        planned: not sent yet (what a cancelled campaign will not send, too).
        sending: claimed by a process, without an outcome yet.
        accepted, failed, unknown: see the contract of a send.
        suppressed: opted out between the plan and the sending; not sent.
        batches: batches by state.
        credits: messages billed for what is accepted.
    """

    state: CampaignState
    reason: str
    planned: int
    sending: int
    accepted: int
    failed: int
    unknown: int
    suppressed: int
    batches: dict[BatchState, int]
    credits: int

    @property
    def numbers(self) -> int:
        """All numbers."""
        return self.planned + self.sending + self.accepted + self.failed + self.unknown + self.suppressed


@attrs.frozen(kw_only=True)
class DeliveryCounts:
    """Status reports on a campaign's messages, counted.

    Attributes:
        delivered, rejected, failed, unknown: by `DeliveryState`.
    """

    delivered: int
    rejected: int
    failed: int
    unknown: int


@attrs.frozen(kw_only=True)
class Batch:
    """A batch as it is stored, without its numbers.

    Attributes:
        id: its key; batches are sent in its order.
        campaign: whose it is.
        message: key of its `CampaignMessage`.
        state: see `BatchState`.
        count: how many numbers.
        accepted, failed, unknown, suppressed: how many numbers are in each state.
        superseded: how many numbers a person ordered to be sent again: their state is that of a later batch.
        mid: the gateway's message id, the first should there be several; ``None`` if there is none.
        via_report: the mid comes from status reports, not from an answer.
        attempts: times it was claimed.
        error: name of the error's class, empty if there is none.
        detail: the error in words.
        resend: it sends again what was in earlier batches.
        successor: the batch that sends all of its numbers again, ``None`` if there is none.
        overdue: no report has spoken of its unknown numbers by the deadline.
        claimed_at, settled_at: when its last attempt began and when its outcome came, aware, UTC; ``None`` before.
        test: it is a test, which is sent before the others.
    """

    id: int
    campaign: int
    message: int
    state: BatchState
    count: int
    accepted: int
    failed: int
    unknown: int
    suppressed: int
    superseded: int
    mid: str | None
    via_report: bool
    attempts: int
    error: str
    detail: str
    resend: bool
    successor: int | None
    overdue: bool
    claimed_at: datetime | None
    settled_at: datetime | None
    test: bool


@attrs.frozen
class NumberRecord:
    """What became of one number.

    Attributes:
        number: the phone.
        state: see `NumberState`.
        mid: the gateway's message id; ``None`` if it was not accepted.
        batch: key of the batch; ``None`` for a number that the plan left out as suppressed.
        message: key of its message, likewise.
        error: name of the error's class, or empty.
        via_report: accepted because status reports say so, not an answer.
        sent_at, settled_at: when its request began and when the outcome was known, aware, UTC; ``None`` before.
        report: code of its status report, ``None`` if there is none; empty if the report had none.
        report_state: `DeliveryState` of the report, ``None`` if there is none.
        reported_at: when the report was received, aware, UTC.
        area, city: from the report.
    """

    number: str = attrs.field(repr=mask)
    state: NumberState = attrs.field(kw_only=True)
    mid: str | None = attrs.field(kw_only=True)
    batch: int | None = attrs.field(kw_only=True)
    message: int | None = attrs.field(kw_only=True)
    error: str = attrs.field(kw_only=True)
    via_report: bool = attrs.field(kw_only=True)
    sent_at: datetime | None = attrs.field(kw_only=True)
    settled_at: datetime | None = attrs.field(kw_only=True)
    report: str | None = attrs.field(default=None, kw_only=True)
    report_state: str | None = attrs.field(default=None, kw_only=True)
    reported_at: datetime | None = attrs.field(default=None, kw_only=True)
    area: str | None = attrs.field(default=None, kw_only=True)
    city: str | None = attrs.field(default=None, kw_only=True)


@attrs.frozen(kw_only=True)
class CampaignEvent:
    """Something that was done to a campaign.

    Attributes:
        at: when, aware, UTC.
        what: ``planned``, ``running``, ``paused``, ``cancelled``, ``done``, ``resend-unknown``, ``resend-failed``,
            ``reconciled``, ``overdue``; a runner's: ``test-planned``.
        actor: who ordered it, as the caller said; empty if nobody did.
        detail: in words.
        count: numbers concerned, 0 if none in particular.
    """

    at: datetime
    what: str
    actor: str
    detail: str
    count: int


# --- sending ------------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Claim:
    """A batch that this process, and no other, may send once. It is committed as *sending*.

    Attributes:
        batch: its key.
        campaign: whose it is.
        token: of this attempt; outcomes are written with it.
        unsent: attempts before this one that provably sent nothing.
        since: a moment, on `clocks.boottime` of this process, at which it was not committed yet: the lease is not over
            before it has lasted from there.
        message: what to send.
        numbers: to whom; what opted out since the plan is not among them.
        suppressed: what opted out since.
        doubtful: an earlier attempt, which is unknown, may have arrived: if this one fails, its numbers stay unknown.
        test: it is the campaign's test; with 2 the campaign is paused after it.
    """

    batch: int
    campaign: int
    token: str
    unsent: int
    since: float
    message: Message
    numbers: tuple[str, ...] = attrs.field(repr=repr_count)
    suppressed: tuple[str, ...] = attrs.field(default=(), repr=repr_count)
    doubtful: bool = False
    test: int = 0


@attrs.frozen(kw_only=True)
class PendingWork:
    """What a runner has to know, cheaply.

    Attributes:
        state, reason: the campaign's.
        planned: there are planned batches.
        sending: there are batches without an outcome yet.
    """

    state: CampaignState
    reason: str
    planned: bool
    sending: bool


@attrs.frozen(kw_only=True)
class ResendQuote:
    """What sending again would mean, or means.

    Attributes:
        numbers: how many numbers.
        credits: messages that will be billed, once more.
    """

    numbers: int
    credits: int


@attrs.frozen(kw_only=True)
class Reconciliation:
    """What the status reports say about unknown batches and numbers.

    Attributes:
        batches: unknown batches that are accepted now.
        numbers: unknown numbers that are accepted now.
        ambiguous: unknown batches with evidence that does not suffice, so they stay unknown.
        silent: unknown batches without any evidence.
        overdue: numbers that no report has spoken of by the deadline: they stay unknown.
    """

    batches: int = 0
    numbers: int = 0
    ambiguous: int = 0
    silent: int = 0
    overdue: int = 0
