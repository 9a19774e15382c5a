"""Campaigns in PostgreSQL: sending again, and what status reports prove."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import attrs

from qxt_async.errors import CampaignStateError, ConfirmationRequiredError

from .evidence import news_of
from .postgres_sending import PostgresSending
from .records import BatchState, CampaignState, Reconciliation, Resend

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .evidence import News
    from .postgres_database import Transaction

__all__ = ["PostgresReconciling"]

_SECOND: Final = 1_000_000
_REPORTS_AT_A_TIME: Final = 50_000
_BATCH: Final = 1000


@attrs.frozen(kw_only=True)
class _Source:
    """A batch with numbers to be sent again."""

    batch: int
    message: int
    state: str
    own: int
    numbers: str = attrs.field(repr=False)
    segments: int
    open: int


class PostgresReconciling(PostgresSending):
    """The part of `PostgresCampaigns` that deals with what failed or may have arrived."""

    # --- sending again ------------------------------------------------------------------------------------------

    async def preview_resend(self, campaign: int, state: BatchState) -> Resend:
        """See `Campaigns.preview_resend`."""
        _check_resendable(state)

        async def read(transaction: Transaction) -> Resend:
            await self._state(transaction, campaign)
            rows = await transaction.rows(self._sql["resend_preview"], campaign=campaign, state=state)
            ((numbers, credits_),) = rows
            return Resend(numbers=numbers, credits=credits_)

        return await self._database.read(read)

    async def resend(self, campaign: int, state: BatchState, *, expected: Resend, by: str) -> Resend:
        """See `Campaigns.resend`."""
        _check_resendable(state)

        async def write(transaction: Transaction) -> Resend:
            before, _ = await self._state_held(transaction, campaign)
            if before in (CampaignState.PLANNING, CampaignState.CANCELLED):
                raise CampaignStateError(campaign, before, "nothing of it can be sent again")
            rows = await transaction.rows(self._sql["resend_sources"], campaign=campaign, state=state)
            sources = [
                _Source(
                    batch=row[0], message=row[1], state=row[2], own=row[3], numbers=row[4], segments=row[5], open=row[6]
                )
                for row in rows
            ]
            found = Resend(
                numbers=sum(source.open for source in sources),
                credits=sum(source.open * source.segments for source in sources),
            )
            if found != expected:
                raise ConfirmationRequiredError(found.numbers, found.credits)
            if not found.numbers:
                return found
            await self._plan_again(transaction, campaign, state, sources)
            detail = f"{found.credits} credits"
            await self._event(transaction, campaign, f"resend-{state}", by, detail, found.numbers)
            if before is not CampaignState.RUNNING:
                reason = f"{found.numbers} {state} numbers to be sent again"
                await self._set_state(transaction, campaign, CampaignState.PAUSED, reason, by)
            return found

        return await self._database.write(write)

    async def _plan_again(
        self, transaction: Transaction, campaign: int, state: BatchState, sources: Sequence[_Source]
    ) -> None:
        """New batches: one for each that is open as a whole, the others' numbers together by message."""
        doubtful = state is BatchState.UNKNOWN
        pools: dict[int, list[tuple[int, str]]] = {}
        for source in sources:
            numbers = await self._numbers_in(transaction, source, state)
            if source.open == source.own:
                successor = await self._insert(transaction, campaign, source.message, numbers, doubtful=doubtful)
                await self._change(transaction, "set_successor", batch=source.batch, successor=successor)
            else:
                pools.setdefault(source.message, []).extend((source.batch, number) for number in numbers)
            await self._change(transaction, "supersede", batch=source.batch, state=state)
        for message, pool in pools.items():
            for start in range(0, len(pool), _BATCH):
                part = pool[start : start + _BATCH]
                again = [number for _, number in part]
                successor = await self._insert(transaction, campaign, message, again, doubtful=doubtful)
                for batch in {batch for batch, _ in part}:
                    rows = [(number, "superseded", None, successor) for owner, number in part if owner == batch]
                    await self._insert_exceptions(transaction, batch, rows)

    async def _numbers_in(self, transaction: Transaction, source: _Source, state: BatchState) -> list[str]:
        rows = await transaction.rows(self._sql["exceptions_of"], batches=[source.batch])
        others = {number: its_state for _, number, its_state, _ in rows}
        return [number for number in source.numbers.split(",") if others.get(number, source.state) == state]

    async def _insert(
        self, transaction: Transaction, campaign: int, message: int, numbers: Sequence[str], *, doubtful: bool
    ) -> int:
        rows = await transaction.rows(
            self._sql["insert_batch"],
            campaign=campaign,
            message=message,
            count=len(numbers),
            doubtful=doubtful,
            numbers=",".join(numbers),
        )
        return int(rows[0][0])

    # --- reconciling --------------------------------------------------------------------------------------------

    async def reconcile(self, campaign: int, *, deadline: float | None = None) -> Reconciliation:
        """See `Campaigns.reconcile`."""
        bound = numbers = ambiguous = silent = 0
        while True:
            news = await self._database.read(partial(self._read_news, campaign=campaign))
            done = await self._database.write(partial(self._write_news, campaign=campaign, news=news))
            bound, numbers, ambiguous, silent = bound + done[0], numbers + done[1], news.ambiguous, news.silent
            if not news.more:
                break
        overdue = await self._database.write(
            lambda transaction: self._finish_reconciling(transaction, campaign, deadline, bound, numbers)
        )
        return Reconciliation(batches=bound, numbers=numbers, ambiguous=ambiguous, silent=silent, overdue=overdue)

    async def _read_news(self, transaction: Transaction, *, campaign: int) -> News:
        ((after,),) = await transaction.rows(self._sql["reconciled_cursor"])
        doubtful = await transaction.rows(self._sql["doubtful"])
        ((newest,),) = await transaction.rows(self._sql["newest_of_all"])
        until = newest
        if doubtful:
            rows = await transaction.rows(self._sql["newest_report"], after=after, limit=_REPORTS_AT_A_TIME)
            ((until,),) = rows
        else:
            after = newest
        until = max(until, after)
        orphans = [mid for (mid,) in await transaction.rows(self._sql["orphans"], after=after, until=until)]
        reports: dict[str, dict[str, int]] = {}
        for mid, mobile, at in await transaction.rows(self._sql["reported_numbers"], mids=orphans):
            reports.setdefault(mid, {})[mobile] = at
        return news_of(campaign, until, doubtful, orphans, reports, more=until < newest)

    async def _write_news(self, transaction: Transaction, *, campaign: int, news: News) -> tuple[int, int]:
        """Bind what the reports prove; how many batches and numbers of the campaign."""
        await transaction.rows(self._sql["lock_reconciling"])
        batches = numbers = 0
        for batch, mid in news.bound.items():
            rows = await transaction.rows(self._sql["bind"], batch=batch, mid=mid, now=self.clock())
            if not rows:
                continue
            ((successor, owner),) = rows
            if not successor or await self._take_back(transaction, batch):
                await self._change(transaction, "recount_bound", batch=batch)
            ((accepted,),) = await transaction.rows(self._sql["accepted_in"], batch=batch)
            if owner == campaign:
                batches, numbers = batches + 1, numbers + accepted
        await self._change(transaction, "keep_orphans", mids=list(news.keep))
        await self._change(transaction, "forget_orphans", mids=list(news.forget))
        await self._change(transaction, "advance_cursor", cursor=news.cursor)
        return batches, numbers

    async def _finish_reconciling(
        self, transaction: Transaction, campaign: int, deadline: float | None, bound: int, numbers: int
    ) -> int:
        await self._state(transaction, campaign)
        confirmed = await self._confirm_numbers(transaction, campaign)
        if bound or confirmed:
            detail = f"{bound} batches, {confirmed} single numbers"
            await self._event(transaction, campaign, "reconciled", "", detail, numbers + confirmed)
        if deadline is None:
            return 0
        rows = await transaction.rows(
            self._sql["mark_overdue"], campaign=campaign, now=self.clock(), deadline=round(deadline * _SECOND)
        )
        overdue = sum(int(unknown) for (unknown,) in rows)
        if overdue:
            detail = f"no status report has spoken of them within {deadline:g} s: they stay unknown"
            await self._event(transaction, campaign, "overdue", "", detail, overdue)
        return overdue

    async def _confirm_numbers(self, transaction: Transaction, campaign: int) -> int:
        """Accept what is reported under its batch's mids, and leave it out of the second attempt; how many numbers."""
        rows = await transaction.rows(self._sql["confirmed_numbers"], campaign=campaign)
        confirmed = 0
        # One may be reported under several mids.
        for (batch, number), (mid, successor) in {row[:2]: row[2:] for row in rows}.items():
            again = successor is not None
            # It may have begun meanwhile.
            if again and not await self._change(transaction, "leave_out", batch=successor, number=number):
                continue
            await self._change(transaction, "confirm_number", batch=batch, number=number, mid=mid)
            await self._change(transaction, "count_confirmed", batch=batch, planned_again=int(again))
            confirmed += 1
        return confirmed


def _check_resendable(state: BatchState) -> None:
    if state not in (BatchState.UNKNOWN, BatchState.FAILED):
        raise ValueError(f"only unknown and failed numbers are sent again, not {state}")
