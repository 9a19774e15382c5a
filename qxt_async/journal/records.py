"""Campaigns and their batches as the journal stores them.

A **batch** is what one request carries: one message and up to 1000 numbers. Its state is that of its numbers. A number
that differs (refused or not mentioned in an answer that accepted the others, opted out since the plan) has a row of its
own. A **message** is a text with its extension number; equal ones are stored once in a campaign.

Its states::

    planned ──claim, COMMIT──▶ sending ──answer──▶ accepted(mid) | failed(error)
                                  ├─ provably no byte left ──▶ planned, with back-off
                                  ├─ may have arrived ──▶ unknown
                                  └─ lease ran out ──▶ unknown
    unknown ──late answer to the same attempt (its token)──▶ accepted | failed
    unknown ──a status report binds a mid──▶ accepted (via report)
    unknown, failed ──request of a person──▶ as it was, its numbers superseded by those of a new, planned batch

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

# `Claim.test` of a test batch, and of one after which the campaign is paused so that somebody can look at the phone.
TEST: Final = 1
PAUSE_AFTER_TEST: Final = 2


class CampaignState(enum.StrEnum):
    """``planning → planned → running → paused → done | cancelled``, and back by resuming.

    A campaign in *planning* cannot be run: a plan that was broken off stays there until another plan deletes it.
    *running* means that it may be sent, not that a process is sending it. A campaign that is *done* is *paused* again
    when numbers are to be sent again, or when it turns out that an unknown batch was not sent.
    """

    PLANNING = "planning"
    PLANNED = "planned"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    CANCELLED = "cancelled"


class BatchState(enum.StrEnum):
    """The states in the diagram of the module.

    *withdrawn* is a second attempt that was not needed any more, or that failed: its numbers belong to the batch before
    it again.
    """

    PLANNED = "planned"
    SENDING = "sending"
    ACCEPTED = "accepted"
    FAILED = "failed"
    UNKNOWN = "unknown"
    WITHDRAWN = "withdrawn"


class NumberState(enum.StrEnum):
    """What became of one number of a campaign. A number that is being sent is *unknown*: it may arrive."""

    PLANNED = "planned"
    ACCEPTED = "accepted"
    FAILED = "failed"
    UNKNOWN = "unknown"
    CANCELLED = "cancelled"
    SUPPRESSED = "suppressed"


class ExclusionReason(enum.StrEnum):
    """Why a number of a source is not in any batch."""

    INVALID = "invalid"
    DUPLICATE = "duplicate"
    SUPPRESSED = "suppressed"


@attrs.frozen
class PlannedBatch:
    """A batch of a plan.

    Attributes:
        message: text, extension number and ``addseqno``.
        numbers: normalised, at most 1000, each in one batch of the campaign only.
        segments: messages billed for each number.
    """

    message: Message
    numbers: Sequence[str] = attrs.field(repr=repr_count)
    segments: int = attrs.field(default=1, kw_only=True)


@attrs.frozen
class ExcludedNumber:
    """A number that a plan left out.

    Attributes:
        raw: as it was in the source.
        reason: why.
        detail: what is wrong with it, or where a duplicate number first occurs; may be empty.
        source: name of the file; empty if there is none.
        line: line in the file, or place in the iterable, from 1.
    """

    raw: str = attrs.field(repr=mask)
    reason: ExclusionReason = attrs.field(kw_only=True)
    detail: str = attrs.field(default="", kw_only=True)
    source: str = attrs.field(default="", kw_only=True)
    line: int = attrs.field(default=0, kw_only=True)


@attrs.frozen(kw_only=True)
class Campaign:
    """A campaign as it is stored. The counts are those of its plan.

    Attributes:
        id, name: its key, and its name, which may be empty.
        state, reason: its state, and why it is in it, in words; the reason may be empty.
        created_at, changed_at: when it was created and when its state last changed, aware, UTC.
        numbers, batches: how many, without resends.
        credits: messages that will be billed: numbers times segments.
        invalid, duplicates, suppressed: numbers left out.
        balance: of the account at the time of the plan, ``None`` if unknown.
        sources, warnings: names of the files, and what the plan warned of.
        on_workers: whether workers send it.
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
        id, message: its key; text, extension number, ``addseqno``.
        segments: messages billed for each number.
        numbers, batches: how many have it.
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
        state, reason: of the campaign.
        planned, sending: not sent, and claimed by a process without an outcome yet.
        accepted, failed, unknown: the outcomes of sending.
        suppressed: opted out between the plan and the sending; not sent.
        batches: batches by state.
        credits: messages billed for accepted numbers.
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
    """The status reports on a campaign, counted by `DeliveryState`."""

    delivered: int
    rejected: int
    failed: int
    unknown: int


@attrs.frozen(kw_only=True)
class Batch:
    """A batch as it is stored, without its numbers.

    Attributes:
        id, campaign, message: its key, and those of its campaign and of its `CampaignMessage`. Batches are sent in the
            order of their keys.
        state: its state.
        count: how many numbers.
        accepted, failed, unknown, suppressed: how many numbers are in each state.
        superseded: how many numbers are sent again by a later batch, which has their state.
        mid: the gateway's message id, the first if there are several; ``None`` if there is none.
        via_report: whether the mid comes from status reports, not from an answer.
        attempts: how often it was claimed.
        error, detail: name of the error's class, and the error in words; empty if there is none.
        resend: whether it sends numbers of earlier batches again.
        successor: the batch that sends all of its numbers again, ``None`` if there is none.
        overdue: whether no report has come for its unknown numbers by the deadline.
        claimed_at, settled_at: when its last attempt began and when its outcome came, aware, UTC; ``None`` before.
        test: whether it is a test, which is sent before the others.
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
        number, state: the phone, and its state.
        mid: the gateway's message id; ``None`` if it was not accepted.
        batch, message: keys of its batch and message; ``None`` for a number that the plan left out as suppressed.
        error: name of the error's class, or empty.
        via_report: whether status reports show that it was accepted, not an answer.
        sent_at, settled_at: when its request began and when the outcome was known, aware, UTC; ``None`` before.
        report, report_state, reported_at: code of its status report, which may be empty, its `DeliveryState`, and when
            it was received; ``None`` if there is none.
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
    """Something that happened to a campaign.

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


@attrs.frozen(kw_only=True)
class Claim:
    """A batch that this process, and no other, may send once. It is committed as *sending*.

    Attributes:
        batch, campaign: its key, and that of its campaign.
        token: of this attempt; outcomes are written with it.
        unsent: attempts before this one that provably sent nothing.
        since: when the claim began, on `clocks.boottime` of this process: the lease lasts at least from there.
        message: what to send.
        numbers: to whom, without numbers that have opted out since the plan.
        suppressed: numbers that have opted out since the plan.
        doubtful: whether an earlier, unknown attempt may have arrived: if this one fails, its numbers stay unknown.
        test: 0, `TEST` or `PAUSE_AFTER_TEST`.
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
    """Whether something is left to do.

    Attributes:
        state, reason: of the campaign.
        planned, sending: whether there are planned batches, and claimed ones without an outcome.
    """

    state: CampaignState
    reason: str
    planned: bool
    sending: bool


@attrs.frozen(kw_only=True)
class ResendQuote:
    """What is sent again: numbers, and messages that will be billed once more."""

    numbers: int
    credits: int


@attrs.frozen(kw_only=True)
class Reconciliation:
    """What the status reports say about unknown batches and numbers.

    Attributes:
        batches, numbers: unknown batches and numbers that are accepted now.
        ambiguous, silent: unknown batches that stay so: with evidence that does not suffice, and without any.
        overdue: numbers that no report has come for by the deadline: they stay unknown.
    """

    batches: int = 0
    numbers: int = 0
    ambiguous: int = 0
    silent: int = 0
    overdue: int = 0
