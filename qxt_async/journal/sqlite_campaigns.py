"""Campaigns in an SQLite file: plans, what is there, orders."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final

from qxt_async.errors import CampaignNotFoundError, CampaignStateError
from qxt_async.models import Message

from . import Entry
from .figures import read_figures
from .moments import moment
from .records import (
    Batch,
    BatchState,
    Campaign,
    CampaignEvent,
    CampaignMessage,
    CampaignState,
    Deliveries,
    LeftOut,
    LeftOutReason,
    NumberRecord,
    NumberState,
    Tally,
)
from .rows import batch_of, campaign_of, number_record, shown_state
from .sqlite_reconciling import SqliteReconciling

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from .figures import Figures
    from .records import PlannedBatch

__all__ = ["SqliteCampaigns"]

_SECOND: Final = 1_000_000
_BROKEN_OFF: Final = 3600 * _SECOND


def _digest(message: Message) -> str:
    parts = json.dumps([message.text, message.extno, message.addseqno])
    return hashlib.sha256(parts.encode()).hexdigest()


class SqliteCampaigns(SqliteReconciling):
    """`Campaigns` in an SQLite file; see there for what the operations promise."""

    # --- planning -----------------------------------------------------------------------------------------------

    async def create(self, *, name: str = "", sources: Sequence[str] = ()) -> int:
        """See `Campaigns.create`."""

        def write(connection: sqlite3.Connection) -> int:
            now = self.clock()
            self._change(connection, "clear_broken_off", before=now - _BROKEN_OFF, after=now + _BROKEN_OFF)
            values = {"name": name, "now": now, "sources": json.dumps(list(sources), ensure_ascii=False)}
            ((campaign,),) = connection.execute(self._sql["create"], values).fetchall()
            return int(campaign)

        return await self._database.writer.run(write)

    async def add(self, campaign: int, batches: Sequence[PlannedBatch], left_out: Sequence[LeftOut] = ()) -> None:
        """See `Campaigns.add`."""

        def write(connection: sqlite3.Connection) -> None:
            self._check_planning(connection, campaign)
            self._change(connection, "touch_plan", campaign=campaign, now=self.clock())
            messages: dict[Message, int] = {}
            for batch in batches:
                message = messages.get(batch.message)
                if message is None:
                    message = messages[batch.message] = self._message(connection, campaign, batch)
                self._insert(connection, campaign, message, batch.numbers, resend=False)
            if left_out:
                rows = [(out.raw, out.reason, out.detail, out.source, out.line) for out in left_out]
                array = json.dumps(rows, ensure_ascii=False)
                self._change(connection, "insert_left_out", campaign=campaign, rows=array)

        await self._database.writer.run(write)

    def _check_planning(self, connection: sqlite3.Connection, campaign: int) -> None:
        state, _ = self._state(connection, campaign)
        if state is not CampaignState.PLANNING:
            raise CampaignStateError(campaign, state, "its plan is finished, nothing can be added")

    def _message(self, connection: sqlite3.Connection, campaign: int, batch: PlannedBatch) -> int:
        values = {
            "campaign": campaign,
            "digest": _digest(batch.message),
            "text": batch.message.text,
            "extno": batch.message.extno,
            "addseqno": batch.message.addseqno,
            "segments": batch.segments,
        }
        ((message,),) = connection.execute(self._sql["insert_message"], values).fetchall()
        return int(message)

    async def finish(self, campaign: int, *, balance: int | None = None, warnings: Sequence[str] = ()) -> Campaign:
        """See `Campaigns.finish`."""

        def write(connection: sqlite3.Connection) -> Campaign:
            self._check_planning(connection, campaign)
            self._change(
                connection,
                "finish",
                campaign=campaign,
                now=self.clock(),
                balance=balance,
                warnings=json.dumps(list(warnings), ensure_ascii=False),
            )
            found = self._find(connection, campaign)
            self._event(connection, campaign, "planned", "", f"{found.credits} credits", found.numbers)
            return found

        return await self._database.writer.run(write)

    async def discard(self, campaign: int) -> None:
        """See `Campaigns.discard`."""

        def write(connection: sqlite3.Connection) -> None:
            state, _ = self._state(connection, campaign)
            if state not in (CampaignState.PLANNING, CampaignState.PLANNED):
                raise CampaignStateError(campaign, state, "it was begun, so it is kept")
            self._change(connection, "discard", campaign=campaign)

        await self._database.writer.run(write)

    # --- what is there ------------------------------------------------------------------------------------------

    def _find(self, connection: sqlite3.Connection, campaign: int) -> Campaign:
        row = connection.execute(self._sql["campaigns"], {"campaign": campaign}).fetchone()
        if row is None:
            raise CampaignNotFoundError(campaign)
        return campaign_of(row)

    async def get(self, campaign: int) -> Campaign:
        """See `Campaigns.get`."""
        return await self._database.read(lambda connection: self._find(connection, campaign))

    async def every(self) -> list[Campaign]:
        """See `Campaigns.every`."""
        return [campaign_of(row) for row in await self._rows("campaigns", campaign=None)]

    async def tally(self, campaign: int) -> Tally:
        """See `Campaigns.tally`."""

        def read(connection: sqlite3.Connection) -> Tally:
            state, reason = self._state(connection, campaign)
            rows = connection.execute(self._sql["tally"], {"campaign": campaign}).fetchall()
            open_numbers = {row[0]: row[2] - row[6] for row in rows}
            accepted, failed, unknown, suppressed, credits_ = (
                sum(int(row[place]) for row in rows) for place in range(3, 8)
            )
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

        return await self._database.read(read)

    async def deliveries(self, campaign: int) -> Deliveries:
        """See `Campaigns.deliveries`."""
        counts: dict[str, int] = dict(await self._rows("deliveries", campaign=campaign))
        return Deliveries(
            delivered=counts.get("delivered", 0),
            rejected=counts.get("rejected", 0),
            failed=counts.get("failed", 0),
            unknown=counts.get("unknown", 0),
        )

    async def figures(self, campaign: int) -> Figures:
        """See `Campaigns.figures`."""
        return await self._database.read(lambda connection: read_figures(connection, campaign))

    async def messages(self, campaign: int, *, after: int = 0, limit: int = 1000) -> list[CampaignMessage]:
        """See `Campaigns.messages`."""
        return [
            CampaignMessage(
                id=key,
                message=Message(text, extno=extno, addseqno=bool(addseqno)),
                segments=segments,
                numbers=numbers,
                batches=batches,
            )
            for key, text, extno, addseqno, segments, numbers, batches in await self._rows(
                "messages", campaign=campaign, after=after, limit=limit
            )
        ]

    async def batches(
        self, campaign: int, *, after: int = 0, limit: int = 1000, state: BatchState | None = None
    ) -> list[Batch]:
        """See `Campaigns.batches`."""
        rows = await self._rows("batches", campaign=campaign, after=after, limit=limit, state=state)
        return [batch_of(row) for row in rows]

    async def numbers(self, campaign: int, *, after: int = 0, limit: int = 10_000) -> tuple[list[NumberRecord], int]:
        """See `Campaigns.numbers`."""

        def read(connection: sqlite3.Connection) -> tuple[list[NumberRecord], int]:
            # One state of the database, so that a batch's row and its exceptions belong together.
            connection.execute("BEGIN")
            try:
                return self._read_numbers(connection, campaign, after, limit)
            finally:
                connection.execute("ROLLBACK")

        return await self._database.read(read)

    def _read_numbers(
        self, connection: sqlite3.Connection, campaign: int, after: int, limit: int
    ) -> tuple[list[NumberRecord], int]:
        state, _ = self._state(connection, campaign)
        records: list[NumberRecord] = []
        # A stretch may give none: what was withdrawn, or sent again in later batches.
        while not records:
            values = {"campaign": campaign, "after": after, "limit": min(limit, 1000), "state": None}
            batches: list[Batch] = []
            held = 0
            for row in connection.execute(self._sql["batches"], values).fetchall():
                if held >= limit:
                    break
                batches.append(batch_of(row))
                held += batches[-1].count
            if not batches:
                break
            after = batches[-1].id
            records = self._number_records(connection, batches, cancelled=state is CampaignState.CANCELLED)
        return records, after

    def _number_records(
        self, connection: sqlite3.Connection, batches: Sequence[Batch], *, cancelled: bool
    ) -> list[NumberRecord]:
        of = {"batches": json.dumps([batch.id for batch in batches])}
        joined: dict[int, str] = dict(connection.execute(self._sql["numbers_of"], of).fetchall())
        exceptions: dict[int, dict[str, tuple[str, str | None]]] = {}
        mids = {batch.mid for batch in batches if batch.mid is not None}
        for key, number, state, mid in connection.execute(self._sql["exceptions_of"], of).fetchall():
            exceptions.setdefault(key, {})[number] = (state, mid)
            if mid is not None:
                mids.add(mid)
        reports = {
            (row[0], row[1]): row
            for row in connection.execute(self._sql["reports_on"], {"mids": json.dumps(list(mids))}).fetchall()
        }
        records: list[NumberRecord] = []
        for batch in batches:
            own = shown_state(batch, cancelled=cancelled)
            others = exceptions.get(batch.id, {})
            for number in joined[batch.id].split(","):
                state, mid = others.get(number, (own, batch.mid))
                if state is None or state == "superseded":
                    continue
                report = reports.get((mid, number)) if mid is not None else None
                records.append(number_record(batch, number, NumberState(state), mid, report))
        return records

    async def left_out(
        self, campaign: int, *, reason: LeftOutReason | None = None, after: int = 0, limit: int = 1000
    ) -> list[Entry[LeftOut]]:
        """See `Campaigns.left_out`."""
        rows = await self._rows("left_out", campaign=campaign, reason=reason, after=after, limit=limit)
        return [
            Entry(seq, LeftOut(raw, reason=LeftOutReason(why), detail=detail, source=source, line=line))
            for seq, raw, why, detail, source, line in rows
        ]

    async def events(self, campaign: int) -> list[CampaignEvent]:
        """See `Campaigns.events`."""
        return [
            CampaignEvent(at=moment(at), what=what, by=by, detail=detail, count=count)
            for at, what, by, detail, count in await self._rows("events", campaign=campaign)
        ]

    # --- orders -------------------------------------------------------------------------------------------------

    async def _order(
        self, campaign: int, decide: Callable[[CampaignState], CampaignState | None], reason: str, by: str
    ) -> Campaign:
        """Change the state as `decide` says; ``None`` leaves it."""

        def write(connection: sqlite3.Connection) -> Campaign:
            state, _ = self._state(connection, campaign)
            wanted = decide(state)
            if wanted is not None:
                self._set_state(connection, campaign, wanted, reason, by)
            return self._find(connection, campaign)

        return await self._database.writer.run(write)

    async def start(self, campaign: int, *, by: str = "") -> Campaign:
        """See `Campaigns.start`."""

        def decide(state: CampaignState) -> CampaignState | None:
            if state is CampaignState.PLANNING:
                raise CampaignStateError(campaign, state, "it is still being planned, or its planning was broken off")
            if state is CampaignState.CANCELLED:
                raise CampaignStateError(campaign, state, "resume it first")
            return None if state is CampaignState.RUNNING else CampaignState.RUNNING

        return await self._order(campaign, decide, "", by)

    async def pause(self, campaign: int, reason: str, *, by: str = "") -> bool:
        """See `Campaigns.pause`."""
        before: list[CampaignState] = []

        def decide(state: CampaignState) -> CampaignState | None:
            before.append(state)
            return CampaignState.PAUSED if state is CampaignState.RUNNING else None

        await self._order(campaign, decide, reason, by)
        return before == [CampaignState.RUNNING]

    async def resume(self, campaign: int, *, by: str = "") -> Campaign:
        """See `Campaigns.resume`."""

        def decide(state: CampaignState) -> CampaignState | None:
            if state in (CampaignState.PAUSED, CampaignState.CANCELLED):
                return CampaignState.RUNNING
            if state is not CampaignState.RUNNING:
                raise CampaignStateError(campaign, state, "only what was paused or cancelled can be resumed")
            return None

        return await self._order(campaign, decide, "", by)

    async def cancel(self, campaign: int, reason: str = "", *, by: str = "") -> Campaign:
        """See `Campaigns.cancel`."""

        def decide(state: CampaignState) -> CampaignState | None:
            if state in (CampaignState.PLANNING, CampaignState.DONE):
                raise CampaignStateError(campaign, state, "there is nothing to cancel")
            return None if state is CampaignState.CANCELLED else CampaignState.CANCELLED

        return await self._order(campaign, decide, reason, by)

    async def complete(self, campaign: int) -> bool:
        """See `Campaigns.complete`."""

        def write(connection: sqlite3.Connection) -> bool:
            row = connection.execute(self._sql["outlook"], {"campaign": campaign}).fetchone()
            if row is None:
                raise CampaignNotFoundError(campaign)
            state, _, planned, sending = row
            if state == CampaignState.RUNNING and not planned and not sending:
                self._set_state(connection, campaign, CampaignState.DONE)
                return True
            return bool(state == CampaignState.DONE)

        return await self._database.writer.run(write)
