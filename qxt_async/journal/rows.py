"""Rows of the campaigns' statements to values."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from .moments import moment
from .records import Batch, BatchState, Campaign, CampaignState, NumberRecord, NumberState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

__all__ = ["batch_of", "campaign_of", "number_record", "shown_state"]


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
    )


_SHOWN: Final[Mapping[BatchState, NumberState | None]] = {
    BatchState.PLANNED: NumberState.PLANNED,
    BatchState.SENDING: NumberState.UNKNOWN,
    BatchState.ACCEPTED: NumberState.ACCEPTED,
    BatchState.FAILED: NumberState.FAILED,
    BatchState.UNKNOWN: NumberState.UNKNOWN,
    BatchState.WITHDRAWN: None,
}


def shown_state(batch: Batch, *, cancelled: bool) -> NumberState | None:
    """What a batch says of its numbers, ``None`` if another batch speaks of them."""
    if batch.successor is not None:
        return None
    if cancelled and batch.state is BatchState.PLANNED:
        return NumberState.CANCELLED
    return _SHOWN[batch.state]


def number_record(
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
