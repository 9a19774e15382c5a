"""What became of batches and of their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from qxt_async.journal.records import BatchState, CampaignState, NumberRecord, NumberState
from qxt_async.journal.rows import batch_of
from qxt_async.journal.states import pending_work
from qxt_async.journal.timestamps import CLOCK_STEP, micros, moment
from qxt_async.models import BatchResult
from qxt_async.protocol.numbers import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qxt_async.journal.database import Transaction
    from qxt_async.journal.records import Batch

_SHOWN: Final[Mapping[BatchState, NumberState | None]] = {
    BatchState.PLANNED: NumberState.PLANNED,
    BatchState.SENDING: NumberState.UNKNOWN,
    BatchState.ACCEPTED: NumberState.ACCEPTED,
    BatchState.FAILED: NumberState.FAILED,
    BatchState.UNKNOWN: NumberState.UNKNOWN,
    BatchState.WITHDRAWN: None,
}
_NOT_BEGUN: Final = (NumberState.SUPPRESSED, NumberState.PLANNED, NumberState.CANCELLED)


def in_doubt(result: BatchResult) -> BatchResult:
    """The result of a second attempt at numbers whose first attempt is unknown: what failed is unknown, too."""
    return BatchResult(
        result.index,
        result.numbers,
        acceptances=result.acceptances,
        unknown=(*result.unknown, *result.failed),
        error=result.error,
    )


def outcomes_by_number(result: BatchResult) -> tuple[BatchState, list[tuple[str, str, str | None, None]]]:
    """The state of a batch, and rows for the numbers that differ from it."""
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


async def numbers(transaction: Transaction, campaign: int, *, after: int, limit: int) -> tuple[list[NumberRecord], int]:
    """What became of the numbers of the next batches, and where to go on."""
    cancelled = (await pending_work(transaction, campaign)).state is CampaignState.CANCELLED
    records: list[NumberRecord] = []
    # Some batches give no numbers: withdrawn ones, and those that were sent again in later batches.
    while not records:
        some: list[Batch] = []
        found = 0
        for row in await transaction.rows("batches", campaign=campaign, after=after, limit=min(limit, 1000)):
            if found >= limit:
                break
            some.append(batch_of(row))
            found += some[-1].count
        if not some:
            break
        after = some[-1].id
        records = await _records_of(transaction, some, cancelled=cancelled)
    return records, after


async def _records_of(transaction: Transaction, batches: Sequence[Batch], *, cancelled: bool) -> list[NumberRecord]:
    keys = [batch.id for batch in batches]
    joined: dict[int, str] = dict(await transaction.rows("numbers_of", batches=keys))
    mids = {batch.mid for batch in batches}
    others: dict[int, dict[str, tuple[str, str | None]]] = {}
    for key, number, state, mid in await transaction.rows("exceptions_of", batches=keys):
        others.setdefault(key, {})[number] = (state, mid)
        mids.add(mid)
    reports = await transaction.rows("reports_on", mids=[mid for mid in mids if mid is not None])
    reported = {(row[0], row[1]): row for row in reports}
    records: list[NumberRecord] = []
    for batch in batches:
        own = _state_of_numbers(batch, cancelled=cancelled)
        # Another batch has them: superseded numbers, and if this one has a successor, those that were unknown.
        elsewhere = ("superseded",) if own is not None else ("superseded", NumberState.UNKNOWN)
        its_others = others.get(batch.id, {})
        since = 0 if batch.claimed_at is None else micros(batch.claimed_at) - CLOCK_STEP
        for number in joined[batch.id].split(","):
            state, mid = its_others.get(number, (own, batch.mid))
            if state is None or state in elsewhere:
                continue
            report = reported.get((mid, canonical(number))) if mid is not None else None
            # As in its_reports: a report from before the attempt is on another send that had this mid.
            if report is not None and report[4] < since:
                report = None
            records.append(_record_of(batch, number, NumberState(state), mid, report))
    return records


def _state_of_numbers(batch: Batch, *, cancelled: bool) -> NumberState | None:
    """The state of a batch's numbers, ``None`` if another batch has them."""
    if batch.successor is not None:
        return None
    if cancelled and batch.state is BatchState.PLANNED:
        return NumberState.CANCELLED
    return _SHOWN[batch.state]


def _record_of(
    batch: Batch, number: str, state: NumberState, mid: str | None, report: Sequence[Any] | None
) -> NumberRecord:
    """A number of a batch, with its row of ``reports_on``."""
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
        sent_at=None if state in _NOT_BEGUN else batch.claimed_at,
        settled_at=batch.settled_at,
        report=code,
        report_state=reported_state,
        reported_at=None if reported_at is None else moment(reported_at),
        area=area,
        city=city,
    )
