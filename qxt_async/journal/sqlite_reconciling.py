"""Campaigns in an SQLite file: sending again, and what status reports prove."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from qxt_async.errors import CampaignStateError, ConfirmationRequiredError

from .evidence import news_of
from .records import BatchState, CampaignState, Reconciliation, Resend
from .sqlite_sending import SqliteSending, array

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from .evidence import News

__all__ = ["SqliteReconciling"]

_SECOND: Final = 1_000_000
_REPORTS_AT_A_TIME: Final = 50_000
_BATCH: Final = 1000


class SqliteReconciling(SqliteSending):
    """The part of `SqliteCampaigns` that deals with what failed or may have arrived."""

    # --- sending again ------------------------------------------------------------------------------------------

    async def preview_resend(self, campaign: int, state: BatchState) -> Resend:
        """See `Campaigns.preview_resend`."""
        return await self._database.read(lambda connection: self._preview(connection, campaign, state))

    def _preview(self, connection: sqlite3.Connection, campaign: int, state: BatchState) -> Resend:
        if state not in (BatchState.UNKNOWN, BatchState.FAILED):
            raise ValueError(f"only unknown and failed numbers are sent again, not {state}")
        self._state(connection, campaign)
        values = {"campaign": campaign, "state": state}
        numbers, credits_ = connection.execute(self._sql["resend_preview"], values).fetchone()
        return Resend(numbers=numbers, credits=credits_)

    async def resend(self, campaign: int, state: BatchState, *, expected: Resend, by: str) -> Resend:
        """See `Campaigns.resend`."""

        def write(connection: sqlite3.Connection) -> Resend:
            found = self._preview(connection, campaign, state)
            before, _ = self._state(connection, campaign)
            if before in (CampaignState.PLANNING, CampaignState.CANCELLED):
                raise CampaignStateError(campaign, before, "nothing of it can be sent again")
            if found != expected:
                raise ConfirmationRequiredError(found.numbers, found.credits)
            if not found.numbers:
                return found
            self._plan_again(connection, campaign, state)
            detail = f"{found.credits} credits"
            self._event(connection, campaign, f"resend-{state}", by, detail, found.numbers)
            if before is not CampaignState.RUNNING:
                self._set_state(
                    connection, campaign, CampaignState.PAUSED, f"{found.numbers} {state} numbers to be sent again", by
                )
            return found

        return await self._database.writer.run(write)

    def _plan_again(self, connection: sqlite3.Connection, campaign: int, state: BatchState) -> None:
        """New batches: one for each that is open as a whole, the others' numbers together by message."""
        values = {"campaign": campaign, "state": state}
        doubtful = state is BatchState.UNKNOWN
        pools: dict[int, list[tuple[int, str]]] = {}
        for batch, message, whole in connection.execute(self._sql["resend_sources"], values).fetchall():
            numbers = self._numbers_in(connection, batch, state)
            if whole:
                successor = self._insert(connection, campaign, message, numbers, doubtful=doubtful)
                self._change(connection, "set_successor", batch=batch, successor=successor)
            else:
                pools.setdefault(message, []).extend((batch, number) for number in numbers)
            self._change(connection, "supersede", batch=batch, state=state)
        for message, pool in pools.items():
            for start in range(0, len(pool), _BATCH):
                part = pool[start : start + _BATCH]
                again = [number for _, number in part]
                successor = self._insert(connection, campaign, message, again, doubtful=doubtful)
                for batch in {batch for batch, _ in part}:
                    rows = [(number, "superseded", None, successor) for owner, number in part if owner == batch]
                    self._change(connection, "insert_exceptions", batch=batch, rows=array(rows))

    def _numbers_in(self, connection: sqlite3.Connection, batch: int, state: BatchState) -> list[str]:
        one = {"batches": array([batch])}
        ((_, joined),) = connection.execute(self._sql["numbers_of"], one).fetchall()
        others = {row[1]: row[2] for row in connection.execute(self._sql["exceptions_of"], one).fetchall()}
        (own,) = connection.execute(self._sql["state_of"], {"batch": batch}).fetchone()
        return [number for number in joined.split(",") if others.get(number, own) == state]

    def _insert(
        self,
        connection: sqlite3.Connection,
        campaign: int,
        message: int,
        numbers: Sequence[str],
        *,
        resend: bool = True,
        doubtful: bool = False,
    ) -> int:
        values = {"campaign": campaign, "message": message, "count": len(numbers)}
        values |= {"resend": resend, "doubtful": doubtful}
        ((batch,),) = connection.execute(self._sql["insert_batch"], values).fetchall()
        self._change(connection, "insert_numbers", batch=batch, numbers=",".join(numbers))
        return int(batch)

    # --- reconciling --------------------------------------------------------------------------------------------

    async def reconcile(self, campaign: int, *, deadline: float | None = None) -> Reconciliation:
        """See `Campaigns.reconcile`."""
        bound = numbers = ambiguous = silent = 0
        while True:
            news = await self._database.read(lambda connection: self._read_news(connection, campaign))
            write = partial(self._write_news, campaign=campaign, news=news)
            done = await self._database.writer.run(write)
            bound, numbers, ambiguous, silent = bound + done[0], numbers + done[1], news.ambiguous, news.silent
            if not news.more:
                break
        overdue = await self._database.writer.run(
            lambda connection: self._finish_reconciling(connection, campaign, deadline, bound, numbers)
        )
        return Reconciliation(batches=bound, numbers=numbers, ambiguous=ambiguous, silent=silent, overdue=overdue)

    def _read_news(self, connection: sqlite3.Connection, campaign: int) -> News:
        # One state of the database: a batch must not be claimed between the reading of batches and of reports.
        connection.execute("BEGIN")
        try:
            ((after,),) = connection.execute(self._sql["reconciled_cursor"]).fetchall()
            doubtful = connection.execute(self._sql["doubtful"]).fetchall()
            if doubtful:
                span = {"after": after, "limit": _REPORTS_AT_A_TIME}
                ((until,),) = connection.execute(self._sql["newest_report"], span).fetchall()
            else:
                ((until,),) = connection.execute(self._sql["newest_of_all"]).fetchall()
                after = until
            until = max(until, after)
            span = {"after": after, "until": until}
            orphans = [mid for (mid,) in connection.execute(self._sql["orphans"], span).fetchall()]
            reports: dict[str, dict[str, int]] = {}
            for mid, mobile, at in connection.execute(self._sql["reported_numbers"], {"mids": array(orphans)}):
                reports.setdefault(mid, {})[mobile] = at
            ((newest,),) = connection.execute(self._sql["newest_of_all"]).fetchall()
        finally:
            connection.execute("ROLLBACK")
        return news_of(campaign, until, doubtful, orphans, reports, more=until < newest)

    def _write_news(self, connection: sqlite3.Connection, *, campaign: int, news: News) -> tuple[int, int]:
        """Bind what the reports prove; how many batches and numbers of the campaign."""
        batches = numbers = 0
        for batch, mid in news.bound.items():
            values = {"batch": batch, "mid": mid, "now": self.clock()}
            rows = connection.execute(self._sql["bind"], values).fetchall()
            if not rows:
                continue
            ((successor, owner),) = rows
            if not successor or self._take_back(connection, batch):
                self._change(connection, "recount_bound", batch=batch)
            ((accepted,),) = connection.execute(self._sql["accepted_in"], {"batch": batch}).fetchall()
            if owner == campaign:
                batches, numbers = batches + 1, numbers + accepted
        self._change(connection, "keep_orphans", mids=array(news.keep))
        self._change(connection, "forget_orphans", mids=array(news.forget))
        self._change(connection, "advance_cursor", cursor=news.cursor)
        return batches, numbers

    def _finish_reconciling(
        self, connection: sqlite3.Connection, campaign: int, deadline: float | None, bound: int, numbers: int
    ) -> int:
        self._state(connection, campaign)
        confirmed = self._confirm_numbers(connection, campaign)
        if bound or confirmed:
            detail = f"{bound} batches, {confirmed} single numbers"
            self._event(connection, campaign, "reconciled", "", detail, numbers + confirmed)
        if deadline is None:
            return 0
        values = {"campaign": campaign, "before": self.clock() - round(deadline * _SECOND)}
        overdue = sum(int(unknown) for (unknown,) in connection.execute(self._sql["mark_overdue"], values).fetchall())
        if overdue:
            detail = f"no status report has spoken of them within {deadline:g} s: they stay unknown"
            self._event(connection, campaign, "overdue", "", detail, overdue)
        return overdue

    def _confirm_numbers(self, connection: sqlite3.Connection, campaign: int) -> int:
        """Accept what is reported under its batch's mids, and leave it out of the second attempt; how many numbers."""
        rows = connection.execute(self._sql["confirmed_numbers"], {"campaign": campaign}).fetchall()
        confirmed = 0
        # One may be reported under several mids.
        for (batch, number), (mid, successor) in {row[:2]: row[2:] for row in rows}.items():
            if successor is not None:
                self._change(connection, "leave_out", batch=successor)
                self._change(connection, "leave_out_number", batch=successor, number=number)
            self._change(connection, "confirm_number", batch=batch, number=number, mid=mid)
            self._change(connection, "count_confirmed", batch=batch, planned_again=int(successor is not None))
            confirmed += 1
        return confirmed
