"""Campaigns in an SQLite file: plans, what is there, orders."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from qxt_async.errors import CampaignNotFoundError, CampaignStateError

from . import orders
from .figures import read_figures, statement_of
from .records import CampaignState
from .rows import (
    batch_of,
    campaign_of,
    deliveries_of,
    event_of,
    left_out_of,
    message_digest,
    message_of,
    mids_of,
    number_records,
    tally_of,
)
from .sqlite_reconciling import SqliteReconciling
from .statements import named

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from qxt_async.models import Message

    from . import Entry
    from .figures import Figures
    from .records import (
        Batch,
        BatchState,
        Campaign,
        CampaignEvent,
        CampaignMessage,
        Deliveries,
        LeftOut,
        LeftOutReason,
        NumberRecord,
        PlannedBatch,
        Tally,
    )

__all__ = ["SqliteCampaigns"]

_SECOND: Final = 1_000_000
_BROKEN_OFF: Final = 3600 * _SECOND


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
            "digest": message_digest(batch.message),
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
            return tally_of(state, reason, rows)

        return await self._database.read(read)

    async def deliveries(self, campaign: int) -> Deliveries:
        """See `Campaigns.deliveries`."""
        return deliveries_of(await self._rows("deliveries", campaign=campaign))

    async def figures(self, campaign: int) -> Figures:
        """See `Campaigns.figures`."""
        statements = named("figures.sql")

        async def rows(name: str, **values: Any) -> list[Any]:
            statement = statement_of(statements, name)
            return await self._database.read(
                lambda connection: connection.execute(statement, {"campaign": campaign, **values}).fetchall()
            )

        return await read_figures(rows)

    async def messages(self, campaign: int, *, after: int = 0, limit: int = 1000) -> list[CampaignMessage]:
        """See `Campaigns.messages`."""
        rows = await self._rows("messages", campaign=campaign, after=after, limit=limit)
        return [message_of(row) for row in rows]

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
        exceptions = connection.execute(self._sql["exceptions_of"], of).fetchall()
        mids = mids_of(batches, exceptions)
        reports = connection.execute(self._sql["reports_on"], {"mids": json.dumps(mids)}).fetchall()
        return number_records(batches, joined, exceptions, reports, cancelled=cancelled)

    async def left_out(
        self, campaign: int, *, reason: LeftOutReason | None = None, after: int = 0, limit: int = 1000
    ) -> list[Entry[LeftOut]]:
        """See `Campaigns.left_out`."""
        rows = await self._rows("left_out", campaign=campaign, reason=reason, after=after, limit=limit)
        return [left_out_of(row) for row in rows]

    async def events(self, campaign: int) -> list[CampaignEvent]:
        """See `Campaigns.events`."""
        return [event_of(row) for row in await self._rows("events", campaign=campaign)]

    # --- orders -------------------------------------------------------------------------------------------------

    async def _order(
        self, campaign: int, decide: Callable[[int, CampaignState], CampaignState | None], reason: str, by: str
    ) -> tuple[Campaign, bool]:
        """Change the state as `decide` says; the campaign, and whether its state was changed."""

        def write(connection: sqlite3.Connection) -> tuple[Campaign, bool]:
            state, _ = self._state(connection, campaign)
            wanted = decide(campaign, state)
            if wanted is not None:
                self._set_state(connection, campaign, wanted, reason, by)
            if wanted is CampaignState.CANCELLED:
                self._forgo(connection, campaign)
            return self._find(connection, campaign), wanted is not None

        return await self._database.writer.run(write)

    async def start(self, campaign: int, *, by: str = "") -> Campaign:
        """See `Campaigns.start`."""
        return (await self._order(campaign, orders.started, "", by))[0]

    async def pause(self, campaign: int, reason: str, *, by: str = "") -> bool:
        """See `Campaigns.pause`."""
        return (await self._order(campaign, orders.paused, reason, by))[1]

    async def resume(self, campaign: int, *, by: str = "") -> Campaign:
        """See `Campaigns.resume`."""
        return (await self._order(campaign, orders.resumed, "", by))[0]

    async def cancel(self, campaign: int, reason: str = "", *, by: str = "") -> Campaign:
        """See `Campaigns.cancel`."""
        return (await self._order(campaign, orders.cancelled, reason, by))[0]

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
