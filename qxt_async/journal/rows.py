"""Rows of the campaigns' statements to values."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

from qxt_async.journal.moments import CLOCK_STEP, micros, moment
from qxt_async.journal.received import Entry
from qxt_async.journal.records import (
    Batch,
    BatchState,
    Campaign,
    CampaignEvent,
    CampaignMessage,
    CampaignState,
    Deliveries,
    ExcludedNumber,
    ExclusionReason,
    NumberRecord,
    NumberState,
    Tally,
)
from qxt_async.models import BatchResult, Message
from qxt_async.protocol.numbers import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime


__all__ = [
    "batch_of",
    "campaign_of",
    "deliveries_of",
    "event_of",
    "fates",
    "left_out_of",
    "message_digest",
    "message_of",
    "mids_of",
    "number_records",
    "tally_of",
]


def _when(at: int | None) -> datetime | None:
    return None if at is None else moment(at)


def campaign_of(row: Sequence[Any]) -> Campaign:
    """A row of ``campaigns``."""
    return Campaign(
        id=row[0],
        name=row[1],
        state=CampaignState(row[2]),
        reason=row[3],
        created_at=moment(row[4]),
        changed_at=moment(row[5]),
        numbers=row[6],
        batches=row[7],
        credits=row[8],
        invalid=row[9],
        duplicates=row[10],
        suppressed=row[11],
        balance=row[12],
        sources=tuple(json.loads(row[13])),
        warnings=tuple(json.loads(row[14])),
        on_workers=bool(row[15]),
    )


def batch_of(row: Sequence[Any]) -> Batch:
    """A row of ``batches``."""
    return Batch(
        id=row[0],
        campaign=row[1],
        message=row[2],
        state=BatchState(row[3]),
        count=row[4],
        accepted=row[5],
        failed=row[6],
        unknown=row[7],
        suppressed=row[8],
        superseded=row[9],
        mid=row[10],
        via_report=bool(row[11]),
        attempts=row[12],
        error=row[13],
        detail=row[14],
        resend=bool(row[15]),
        successor=row[16],
        overdue=bool(row[17]),
        claimed_at=_when(row[18]),
        settled_at=_when(row[19]),
        test=bool(row[20]),
    )


def message_digest(message: Message) -> str:
    """What tells messages apart."""
    parts = json.dumps([message.text, message.extno, message.addseqno])
    return hashlib.sha256(parts.encode()).hexdigest()


def message_of(row: Sequence[Any]) -> CampaignMessage:
    """A row of ``campaign_messages``, with how many get it."""
    key, text, extno, addseqno, segments, numbers, batches = row
    message = Message(text, extno=extno, addseqno=bool(addseqno))
    return CampaignMessage(id=key, message=message, segments=segments, numbers=numbers, batches=batches)


def left_out_of(row: Sequence[Any]) -> Entry[ExcludedNumber]:
    """A row of ``left_out``."""
    seq, raw, reason, detail, source, line = row
    return Entry(seq, ExcludedNumber(raw, reason=ExclusionReason(reason), detail=detail, source=source, line=line))


def event_of(row: Sequence[Any]) -> CampaignEvent:
    """A row of ``campaign_events``."""
    at, what, by, detail, count = row
    return CampaignEvent(at=moment(at), what=what, by=by, detail=detail, count=count)


def tally_of(state: CampaignState, reason: str, rows: Sequence[Sequence[Any]]) -> Tally:
    """The batches of a campaign, counted by state."""
    open_numbers = {row[0]: row[2] - row[6] for row in rows}
    accepted, failed, unknown, suppressed, credits_ = (sum(int(row[place]) for row in rows) for place in range(3, 8))
    return Tally(
        state=state,
        reason=reason,
        planned=open_numbers.get(BatchState.PLANNED, 0),
        sending=open_numbers.get(BatchState.SENDING, 0),
        accepted=accepted,
        failed=failed,
        unknown=unknown,
        suppressed=suppressed,
        batches={BatchState(row[0]): row[1] for row in rows},
        credits=credits_,
    )


def deliveries_of(rows: Sequence[Sequence[Any]]) -> Deliveries:
    """Reports, counted by state."""
    counts: dict[str, int] = {row[0]: row[1] for row in rows}
    return Deliveries(
        delivered=counts.get("delivered", 0),
        rejected=counts.get("rejected", 0),
        failed=counts.get("failed", 0),
        unknown=counts.get("unknown", 0),
    )


# --- what became of a batch and of its numbers ------------------------------------------------------------------------


def in_doubt(result: BatchResult) -> BatchResult:
    """What is known after a second attempt at numbers of which nobody knows whether the first one arrived."""
    return BatchResult(
        result.index,
        result.numbers,
        acceptances=result.acceptances,
        unknown=(*result.unknown, *result.failed),
        error=result.error,
    )


def fates(result: BatchResult) -> tuple[BatchState, list[tuple[str, str, str | None, None]]]:
    """The state of a batch, and rows for the numbers of which something else is true."""
    state = BatchState.UNKNOWN if result.unknown else BatchState.FAILED
    if result.acceptances:
        state = BatchState.ACCEPTED
    exceptions: list[tuple[str, str, str | None, None]] = []
    for acceptance in result.acceptances[1:]:
        exceptions.extend((number, NumberState.ACCEPTED, acceptance.mid, None) for number in acceptance.numbers)
    if state is not BatchState.FAILED:
        exceptions.extend((number, NumberState.FAILED, None, None) for number in result.failed)
    if state is BatchState.ACCEPTED:
        exceptions.extend((number, NumberState.UNKNOWN, None, None) for number in result.unknown)
    return state, exceptions


def mids_of(batches: Sequence[Batch], exceptions: Sequence[Sequence[Any]]) -> list[str]:
    """The mids of batches and of rows of ``exceptions_of``."""
    mids = {batch.mid for batch in batches} | {mid for _, _, _, mid in exceptions}
    return [mid for mid in mids if mid is not None]


def number_records(
    batches: Sequence[Batch],
    joined: Mapping[int, str],
    exceptions: Sequence[Sequence[Any]],
    reports: Sequence[Sequence[Any]],
    *,
    cancelled: bool,
) -> list[NumberRecord]:
    """What became of the numbers of some batches, in their order.

    Args:
        batches: which.
        joined: their numbers.
        exceptions: their rows of ``exceptions_of``.
        reports: rows of ``reports_on`` for their mids.
        cancelled: what is planned will not be sent.
    """
    others: dict[int, dict[str, tuple[str, str | None]]] = {}
    for key, number, state, mid in exceptions:
        others.setdefault(key, {})[number] = (state, mid)
    reported = {(row[0], row[1]): row for row in reports}
    records: list[NumberRecord] = []
    for batch in batches:
        own = _shown_state(batch, cancelled=cancelled)
        its_others = others.get(batch.id, {})
        since = 0 if batch.claimed_at is None else micros(batch.claimed_at) - CLOCK_STEP
        for number in joined[batch.id].split(","):
            state, mid = its_others.get(number, (own, batch.mid))
            # What is unknown is the successor's, if there is one.
            if state is None or state == "superseded" or (own is None and state == NumberState.UNKNOWN):
                continue
            report = reported.get((mid, canonical(number))) if mid is not None else None
            # As in its_reports: what was last heard before the attempt is on something else that had this mid.
            if report is not None and report[4] < since:
                report = None
            records.append(_number_record(batch, number, NumberState(state), mid, report))
    return records


_SHOWN: Final[Mapping[BatchState, NumberState | None]] = {
    BatchState.PLANNED: NumberState.PLANNED,
    BatchState.SENDING: NumberState.UNKNOWN,
    BatchState.ACCEPTED: NumberState.ACCEPTED,
    BatchState.FAILED: NumberState.FAILED,
    BatchState.UNKNOWN: NumberState.UNKNOWN,
    BatchState.WITHDRAWN: None,
}


def _shown_state(batch: Batch, *, cancelled: bool) -> NumberState | None:
    """What a batch says of its numbers, ``None`` if another batch speaks of them."""
    if batch.successor is not None:
        return None
    if cancelled and batch.state is BatchState.PLANNED:
        return NumberState.CANCELLED
    return _SHOWN[batch.state]


def _number_record(
    batch: Batch, number: str, state: NumberState, mid: str | None, report: Sequence[Any] | None
) -> NumberRecord:
    """One number of a batch, with its row of ``reports_on``."""
    accepted = state is NumberState.ACCEPTED
    _, _, code, reported_state, reported_at, area, city = (None,) * 7 if report is None else report
    return NumberRecord(
        number,
        state=state,
        mid=mid if accepted else None,
        batch=batch.id,
        message=batch.message,
        error="" if accepted or state is NumberState.SUPPRESSED else batch.error,
        via_report=accepted and batch.via_report,
        sent_at=None
        if state in (NumberState.SUPPRESSED, NumberState.PLANNED, NumberState.CANCELLED)
        else batch.claimed_at,
        settled_at=batch.settled_at,
        report=code,
        report_state=reported_state,
        reported_at=_when(reported_at),
        area=area,
        city=city,
    )
