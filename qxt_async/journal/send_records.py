"""Single sends as they are recorded and read, and errors as they are written down with them."""

from __future__ import annotations

import enum
import json
from typing import TYPE_CHECKING, Any

import attrs

from qxt_async import errors
from qxt_async.journal.records import BatchState, NumberState
from qxt_async.journal.rows import report_of
from qxt_async.journal.timestamps import moment
from qxt_async.models import Acceptance, BatchResult, SentBatch, repr_count
from qxt_async.protocol.numbers import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from qxt_async.journal.database import Transaction
    from qxt_async.models import StatusReport


class SendState(enum.StrEnum):
    """What became of a single send.

    *mixed* is an answer that accepted some numbers and not others. *not-sent* provably did not leave: a call with the
    same key sends it.
    """

    SENDING = "sending"
    ACCEPTED = "accepted"
    FAILED = "failed"
    UNKNOWN = "unknown"
    MIXED = "mixed"
    NOT_SENT = "not-sent"


@attrs.frozen(kw_only=True)
class SendRecord:
    """A single send, as it is recorded.

    Attributes:
        cursor: ``after=cursor`` continues behind it.
        key: its idempotency key, ``None`` without one.
        state: see `SendState`.
        result: the outcome of each number; those of a send that is under way are unknown.
        via_report: whether a status report has proven that it was accepted.
        sent_at: when the last attempt began; ``None`` if none has.
        settled_at: when its outcome was recorded; ``None`` before.
        reports: the status reports on its numbers.
    """

    cursor: int
    key: str | None = attrs.field(repr=False)  # a caller may make it of a number
    state: SendState
    result: BatchResult
    via_report: bool
    sent_at: datetime | None
    settled_at: datetime | None
    reports: tuple[StatusReport, ...] = attrs.field(repr=repr_count)


async def read(transaction: Transaction, *, after: int, limit: int, where: str, **values: Any) -> list[SendRecord]:
    """The sends behind a cursor."""
    rows = await transaction.rows("sends", after=after, limit=limit, where=where, **values)
    others: dict[int, dict[str, tuple[str, str | None]]] = {}
    for batch, number, state, mid in await transaction.rows("exceptions_of", batches=[row[0] for row in rows]):
        others.setdefault(batch, {})[number] = (state, mid)
    mids = [row[4] for row in rows] + [mid for its in others.values() for _, mid in its.values()]
    reports: dict[str, list[Sequence[Any]]] = {}
    for row in await transaction.rows("reports_of", mids=[mid for mid in mids if mid is not None]):
        reports.setdefault(row[0], []).append(row)
    return [_record_of(row, others.get(row[0], {}), reports) for row in rows]


def _record_of(
    row: Sequence[Any], others: Mapping[str, tuple[str, str | None]], reports: Mapping[str, Sequence[Sequence[Any]]]
) -> SendRecord:
    batch, key, state, joined, own_mid, via_report, attempts, label, detail, claimed_at, settled_at, refusal = row
    numbers = tuple(joined.split(","))
    own = NumberState(state) if state in ("accepted", "failed") else NumberState.UNKNOWN
    accepted: dict[str, list[str]] = {own_mid: []} if state == BatchState.ACCEPTED else {}
    failed: list[str] = []
    unknown: list[str] = []
    for number in numbers:
        its, mid = others.get(number, (own, own_mid))
        if its == NumberState.ACCEPTED:
            accepted.setdefault(str(mid), []).append(number)
        else:
            (failed if its == NumberState.FAILED else unknown).append(number)
    if state == BatchState.PLANNED:
        failed, unknown = unknown, failed
    error = None if len(failed) + len(unknown) == 0 else _read_error(label, detail, refusal)
    acceptances = tuple(Acceptance(mid, tuple(its)) for mid, its in accepted.items() if its)
    result = (SentBatch if acceptances else BatchResult)(
        0,
        numbers,
        acceptances=acceptances,
        failed=tuple(failed),
        unknown=tuple(unknown),
        error=error,
        attempts=attempts,
        replayed=True,
    )
    phones = {mid: set(map(canonical, its)) for mid, its in accepted.items()}
    its_reports = [report_of(found) for mid in phones for found in reports.get(mid, ()) if found[1] in phones[mid]]
    states = {BatchState.PLANNED: SendState.NOT_SENT, BatchState.SENDING: SendState.SENDING}
    return SendRecord(
        cursor=batch,
        key=key,
        state=states.get(BatchState(state)) or SendState(result.outcome),
        result=result,
        via_report=bool(via_report),
        sent_at=None if claimed_at is None else moment(claimed_at),
        settled_at=None if settled_at is None else moment(settled_at),
        reports=tuple(its_reports),
    )


def written(error: errors.QxtError) -> str:
    """What `_read_error` makes the error of again."""
    names = ("code", "description", "advice", "status", "codes", "count", "reason", "retry_after")
    return json.dumps({name: getattr(error, name) for name in names if hasattr(error, name)})


def _read_error(label: str, detail: str, refusal: str | None) -> errors.QxtError:
    values: dict[str, Any] = {} if refusal is None else json.loads(refusal)
    if "codes" in values:
        return errors.SubmitFailedError(tuple(values["codes"]), values["count"])
    if "code" in values:
        return errors.RefusedError(values["code"], values["description"], values["advice"], status=values["status"])
    if label in ("NotSentError", "ThrottledError"):
        return errors.NotSentError(values.get("reason", detail))
    return errors.OutcomeUnknownError(values.get("reason") or detail or "it was never said what became of it")
