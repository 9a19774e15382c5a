"""Reading status reports, and binding unknown batches to the mids that they prove."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from qxt_async.journal.batches import take_back
from qxt_async.journal.evidence import news_of
from qxt_async.journal.states import log_event, outlook
from qxt_async.protocol.numbers import canonical

if TYPE_CHECKING:
    from qxt_async.journal.database import Transaction
    from qxt_async.journal.evidence import News

__all__ = ["finish", "read_news", "write_news"]

_SECOND: Final = 1_000_000
_REPORTS_AT_A_TIME: Final = 50_000


async def read_news(transaction: Transaction, campaign: int) -> News:
    """What the next stretch of reports proves."""
    ((after,),) = await transaction.rows("reconciled_cursor")
    doubtful = await transaction.rows("doubtful")
    ((newest,),) = await transaction.rows("report_cursor")
    until = newest
    if doubtful:
        ((until,),) = await transaction.rows("newest_report", after=after, limit=_REPORTS_AT_A_TIME)
    else:
        after = newest
    until = max(until, after)
    not_sent: defaultdict[int, list[str]] = defaultdict(list)
    for batch, number in await transaction.rows("not_sent_of", batches=[row[0] for row in doubtful]):
        not_sent[batch].append(number)
    orphans = [mid for (mid,) in await transaction.rows("orphans", after=after, until=until)]
    reports: dict[str, dict[str, int]] = {}
    for mid, number, at in await transaction.rows("reported_numbers", mids=orphans):
        reports.setdefault(mid, {})[number] = at
    doubts = [(*row, ",".join(not_sent[row[0]])) for row in doubtful]
    unmentioned: defaultdict[tuple[object, ...], list[str]] = defaultdict(list)
    for *batch, number in await transaction.rows("unmentioned") if doubtful else ():
        unmentioned[tuple(batch)].append(number)
    doubts.extend((*batch, ",".join(numbers), "") for batch, numbers in unmentioned.items())
    return news_of(campaign, until, doubts, orphans, reports, more=until < newest)


async def write_news(transaction: Transaction, campaign: int, news: News) -> tuple[int, int]:
    """Bind what the reports prove; how many batches and numbers of the campaign."""
    await transaction.lock("lock_reconciling")
    batches = numbers = 0
    for batch, mid in news.bound.items():
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
    await transaction.change("keep_orphans", mids=list(news.keep))
    await transaction.change("forget_orphans", mids=list(news.forget))
    await transaction.change("advance_cursor", cursor=news.cursor)
    return batches, numbers


async def finish(transaction: Transaction, campaign: int, *, deadline: float | None, batches: int, numbers: int) -> int:
    """Accept single numbers, write down what was found, mark what is overdue; how many numbers are."""
    await outlook(transaction, campaign)
    confirmed = await _confirm_numbers(transaction, campaign)
    if batches or confirmed:
        detail = f"{batches} batches, {confirmed} single numbers"
        await log_event(transaction, campaign, "reconciled", detail=detail, count=numbers + confirmed)
    if deadline is None:
        return 0
    rows = await transaction.rows("mark_overdue", campaign=campaign, deadline=round(deadline * _SECOND))
    overdue = sum(int(unknown) for (unknown,) in rows)
    if overdue:
        detail = f"no status report has spoken of them within {deadline:g} s: they stay unknown"
        await log_event(transaction, campaign, "overdue", detail=detail, count=overdue)
    return overdue


async def _confirm_numbers(transaction: Transaction, campaign: int) -> int:
    """Accept what is reported under its batch's mids, and leave it out of the second attempt; how many numbers."""
    rows = await transaction.rows("confirmed_numbers", campaign=campaign)
    confirmed = 0
    # One may be reported under several mids.
    found = {(batch, number): last for batch, number, phone, *last in rows if canonical(number) == canonical(phone)}
    for (batch, number), (mid, successor) in found.items():
        again = successor is not None
        if again:
            # It may have begun meanwhile.
            if not await transaction.change("leave_out", batch=successor):
                continue
            await transaction.change("leave_out_number", batch=successor, number=number)
        await transaction.change("confirm_number", batch=batch, number=number, mid=mid)
        await transaction.change("count_confirmed", batch=batch, planned_again=int(again))
        await transaction.change("match_again", batch=batch)
        confirmed += 1
    return confirmed
