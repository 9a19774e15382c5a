"""The values that the rows of the statements are."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from qxt_async.journal.received import Conflict, FeedEntry, RawPush, Suppression, SuppressionReason
from qxt_async.journal.records import (
    Batch,
    BatchState,
    Campaign,
    CampaignCounts,
    CampaignEvent,
    CampaignMessage,
    CampaignState,
    DeliveryCounts,
    ExcludedNumber,
    ExclusionReason,
)
from qxt_async.journal.timestamps import moment
from qxt_async.models import Message, Reply, StatusReport
from qxt_async.protocol.pushes import PushFlag

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from qxt_async.journal.database import Database, Transaction

T = TypeVar("T")
A = TypeVar("A", bound=attrs.AttrsInstance)


async def read_all(database: Database, value_of: Callable[[Any], T], statement: str, **values: Any) -> list[T]:
    """The rows of a statement as values, made where the database works: in a thread, or in this event loop."""

    async def read(transaction: Transaction) -> list[T]:
        return [value_of(row) for row in await transaction.rows(statement, **values)]

    return await database.read(read)


def _when(at: int | None) -> datetime | None:
    return None if at is None else moment(at)


def _value(kind: type[A], row: Sequence[Any], **converters: Callable[[Any], object]) -> A:
    """A value whose attributes are the columns of a row, in the same order."""
    values = dict(zip(attrs.fields_dict(kind), row, strict=True))
    return kind(**values | {name: convert(values[name]) for name, convert in converters.items()})


def _strings(array: str) -> tuple[str, ...]:
    return tuple(json.loads(array))


def campaign_of(row: Sequence[Any]) -> Campaign:
    """A row of ``campaigns``."""
    return _value(
        Campaign,
        row,
        state=CampaignState,
        created_at=moment,
        changed_at=moment,
        sources=_strings,
        warnings=_strings,
        on_workers=bool,
    )


def batch_of(row: Sequence[Any]) -> Batch:
    """A row of ``batches``."""
    flags = dict.fromkeys(("via_report", "resend", "overdue", "test"), bool)
    return _value(Batch, row, state=BatchState, claimed_at=_when, settled_at=_when, **flags)


def left_out_of(row: Sequence[Any]) -> FeedEntry[ExcludedNumber]:
    """A row of ``left_out``."""
    return FeedEntry(row[0], _value(ExcludedNumber, row[1:], reason=ExclusionReason))


def event_of(row: Sequence[Any]) -> CampaignEvent:
    """A row of ``events``."""
    return _value(CampaignEvent, row, at=moment)


def conflict_of(row: Sequence[Any]) -> Conflict:
    """A row of ``conflicts``."""
    return _value(Conflict, row, first_at=moment, last_at=moment)


def raw_push_of(row: Sequence[Any]) -> RawPush:
    """A row of ``raw_pushes``."""

    def flags(words: str) -> tuple[PushFlag, ...]:
        return tuple(map(PushFlag, words.split()))

    return _value(RawPush, row, flags=flags, first_at=moment, last_at=moment)


def suppression_of(row: Sequence[Any]) -> Suppression:
    """A row of ``suppressions``."""
    return _value(Suppression, row, reason=SuppressionReason, added_at=moment)


def report_entry_of(row: Sequence[Any]) -> FeedEntry[StatusReport]:
    """A row of ``reports``."""
    return FeedEntry(row[0], report_of(row[1:]))


def report_of(row: Sequence[Any]) -> StatusReport:
    """A row of ``find_reports``."""
    mid, number, code, port, area, city, at = row
    return StatusReport(mid, number, code=code, port=port, area=area, city=city, received_at=moment(at))


def reply_entry_of(row: Sequence[Any]) -> FeedEntry[Reply]:
    """A row of ``replies``."""
    seq, mid, number, text, port, extno, area, city, at = row
    reply = Reply(mid, number, text=text, port=port, extno=extno, area=area, city=city, received_at=moment(at))
    return FeedEntry(seq, reply)


def message_digest(message: Message) -> str:
    """The key of a message in its campaign."""
    parts = json.dumps([message.text, message.extno, message.addseqno])
    return hashlib.sha256(parts.encode()).hexdigest()


def message_of(row: Sequence[Any]) -> CampaignMessage:
    """A row of ``messages``."""
    key, text, extno, addseqno, segments, numbers, batches = row
    message = Message(text, extno=extno, addseqno=bool(addseqno))
    return CampaignMessage(id=key, message=message, segments=segments, numbers=numbers, batches=batches)


def counts_of(state: CampaignState, reason: str, rows: Sequence[Sequence[Any]]) -> CampaignCounts:
    """Rows of ``counts``, with the campaign's state."""
    open_numbers = {row[0]: row[2] - row[6] for row in rows}
    accepted, failed, unknown, suppressed, credits_ = (sum(int(row[place]) for row in rows) for place in range(3, 8))
    return CampaignCounts(
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


def delivery_counts_of(rows: Sequence[tuple[str, int]]) -> DeliveryCounts:
    """Rows of ``deliveries``."""
    return DeliveryCounts(**{"delivered": 0, "rejected": 0, "failed": 0, "unknown": 0} | dict(rows))
