"""Reading status reports, and binding unknown batches to the mids that the reports prove."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs

from qxt_async.journal.batches import take_back
from qxt_async.journal.evidence import UnresolvedBatch, match_reports
from qxt_async.journal.records import BatchState, Reconciliation
from qxt_async.journal.states import log_event, pending_work
from qxt_async.protocol.numbers import canonical

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from qxt_async.journal.database import Database, Transaction

_SECOND: Final = 1_000_000
REPORTS_AT_A_TIME: Final = 50_000


@attrs.frozen(kw_only=True)
class ReconcileStep:
    """What the next reports prove.

    Attributes:
        cursor: how far the reports are read.
        more: whether there are others behind it.
        bound: batches with the mid under which they were accepted.
        keep, forget: mids that may matter later, and those that cannot.
        ambiguous, silent: unknown batches of the campaign that stay so, with and without evidence.
    """

    cursor: int
    more: bool
    bound: Mapping[int, str]
    keep: Collection[str]
    forget: Collection[str]
    ambiguous: int
    silent: int


async def reconcile(database: Database, campaign: int, deadline: float | None) -> Reconciliation:
    """Read all new reports, step by step, and bind what they prove."""
    batches = numbers = 0
    while True:
        step = await database.read(partial(_read_step, campaign=campaign))
        found = await database.write(partial(write_step, campaign=campaign, step=step))
        batches, numbers = batches + found[0], numbers + found[1]
        if not step.more:
            break
    work = partial(_finish, campaign=campaign, deadline=deadline, batches=batches, numbers=numbers)
    overdue = await database.write(work)
    return Reconciliation(
        batches=batches, numbers=numbers, ambiguous=step.ambiguous, silent=step.silent, overdue=overdue
    )


async def _read_step(transaction: Transaction, campaign: int) -> ReconcileStep:
    """What the next reports prove."""
    ((after,),) = await transaction.rows("reconciled_cursor")
    ((newest,),) = await transaction.rows("report_cursor")
    doubtful = await transaction.rows("doubtful")
    # Without doubtful batches, no report has to be read.
    until = newest
    if doubtful:
        ((until,),) = await transaction.rows("newest_report", after=after, limit=REPORTS_AT_A_TIME)
    else:
        after = newest
    until = max(until, after)
    not_sent: defaultdict[int, list[str]] = defaultdict(list)
    for batch, number in await transaction.rows("not_sent_of", batches=[row[0] for row in doubtful]):
        not_sent[batch].append(number)
    unresolved = [
        UnresolvedBatch(batch, state == BatchState.UNKNOWN, since, numbers, ",".join(not_sent[batch]))
        for batch, _, state, since, numbers in doubtful
    ]
    unmentioned: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
    for batch, since, number in await transaction.rows("unmentioned") if doubtful else ():
        unmentioned[batch, since].append(number)
    unresolved += [
        UnresolvedBatch(batch, bindable=False, since=since, numbers=",".join(numbers))
        for (batch, since), numbers in unmentioned.items()
    ]
    orphans = [mid for (mid,) in await transaction.rows("orphans", after=after, until=until)]
    reports: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for mid, number, at in await transaction.rows("reported_numbers", mids=orphans):
        reports[mid][number] = at
    matches = match_reports(unresolved, reports)
    unknown = {row[0] for row in doubtful if row[1] == campaign and row[2] == BatchState.UNKNOWN}
    return ReconcileStep(
        cursor=until,
        more=until < newest,
        bound=matches.bound,
        keep=matches.relevant,
        forget=set(orphans) - matches.relevant,
        ambiguous=len(unknown & matches.ambiguous),
        silent=len(unknown - matches.ambiguous - matches.bound.keys()),
    )


async def write_step(transaction: Transaction, campaign: int, step: ReconcileStep) -> tuple[int, int]:
    """Bind what the reports prove; returns how many batches and numbers of the campaign."""
    await transaction.lock("lock_reconciling")
    batches = numbers = 0
    for batch, mid in step.bound.items():
        rows = await transaction.rows("bind", batch=batch, mid=mid)
        if not rows:
            continue
        ((successor, owner),) = rows
        await transaction.change("match_again", batch=batch)
        if not successor or await take_back(transaction, batch):
            await transaction.change("recount_bound", batch=batch)
        ((accepted,),) = await transaction.rows("accepted_in", batch=batch)
        if owner == campaign:
            batches, numbers = batches + 1, numbers + accepted
    await transaction.change("keep_orphans", mids=list(step.keep))
    await transaction.change("forget_orphans", mids=list(step.forget))
    await transaction.change("advance_cursor", cursor=step.cursor)
    return batches, numbers


async def _finish(
    transaction: Transaction, campaign: int, *, deadline: float | None, batches: int, numbers: int
) -> int:
    """Accept single numbers, log what was found, mark what is overdue; returns how many numbers are overdue."""
    await pending_work(transaction, campaign)
    confirmed = await _confirm_numbers(transaction, campaign)
    if batches or confirmed:
        detail = f"{batches} batches, {confirmed} single numbers"
        await log_event(transaction, campaign, "reconciled", detail=detail, count=numbers + confirmed)
    if deadline is None:
        return 0
    rows = await transaction.rows("mark_overdue", campaign=campaign, deadline=round(deadline * _SECOND))
    overdue = sum(int(unknown) for (unknown,) in rows)
    if overdue:
        detail = f"no status report has come for them within {deadline:g} s: they stay unknown"
        await log_event(transaction, campaign, "overdue", detail=detail, count=overdue)
    return overdue


async def _confirm_numbers(transaction: Transaction, campaign: int) -> int:
    """Accept numbers reported under a mid of their batch, and leave them out of a second attempt; returns how many."""
    rows = await transaction.rows("confirmed_numbers", campaign=campaign)
    confirmed = 0
    # One number may be reported under several mids.
    found = {(batch, number): last for batch, number, phone, *last in rows if canonical(number) == canonical(phone)}
    for (batch, number), (mid, successor) in found.items():
        if successor is not None:
            # The second attempt may have begun meanwhile.
            if not await transaction.change("leave_out", batch=successor):
                continue
            await transaction.change("leave_out_number", batch=successor, number=number)
        await transaction.change("confirm_number", batch=batch, number=number, mid=mid)
        await transaction.change("count_confirmed", batch=batch, planned_again=int(successor is not None))
        await transaction.change("match_again", batch=batch)
        confirmed += 1
    return confirmed
