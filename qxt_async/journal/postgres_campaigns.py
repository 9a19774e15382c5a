"""Campaigns in PostgreSQL: plans, what is there, orders."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from qxt_async.errors import CampaignNotFoundError, CampaignStateError

from . import orders
from .figures import read_figures, statement_of
from .postgres_database import storable
from .postgres_reconciling import PostgresReconciling
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
from .statements import named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from qxt_async.models import Message

    from . import Entry
    from .figures import Figures
    from .postgres_database import Transaction
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

__all__ = ["PostgresCampaigns"]

_SECOND: Final = 1_000_000
_BROKEN_OFF: Final = 3600 * _SECOND


class PostgresCampaigns(PostgresReconciling):
    """`Campaigns` in PostgreSQL; see there for what the operations promise."""

    # --- planning -----------------------------------------------------------------------------------------------

    async def create(self, *, name: str = "", sources: Sequence[str] = ()) -> int:
        """See `Campaigns.create`."""

        async def write(transaction: Transaction) -> int:
            now = self.clock()
            await self._change(transaction, "clear_broken_off", now=now, age=_BROKEN_OFF)
            ((campaign,),) = await transaction.rows(
                self._sql["create"], name=name, now=now, sources=json.dumps(list(sources), ensure_ascii=False)
            )
            return int(campaign)

        return await self._database.write(write)

    async def add(self, campaign: int, batches: Sequence[PlannedBatch], left_out: Sequence[LeftOut] = ()) -> None:
        """See `Campaigns.add`."""

        async def write(transaction: Transaction) -> None:
            await self._check_planning(transaction, campaign)
            await self._change(transaction, "touch_plan", campaign=campaign, now=self.clock())
            messages = await self._insert_messages(transaction, campaign, batches)
            rows = (
                (campaign, messages[batch.message], "planned", len(batch.numbers), ",".join(batch.numbers))
                for batch in batches
            )
            await self._copy(transaction, "copy_batches", rows)
            out = (
                (campaign, storable(each.raw), each.reason, each.detail, storable(each.source), each.line)
                for each in left_out
            )
            await self._copy(transaction, "copy_left_out", out)

        await self._database.write(write)

    async def _insert_messages(
        self, transaction: Transaction, campaign: int, batches: Sequence[PlannedBatch]
    ) -> dict[Message, int]:
        """The keys of the batches' messages, those that are new included."""
        segments: dict[Message, int] = {}
        for batch in batches:
            segments.setdefault(batch.message, batch.segments)
        digests = {message_digest(message): message for message in segments}
        rows = await transaction.rows(
            self._sql["insert_messages"],
            campaign=campaign,
            digests=list(digests),
            texts=[message.text for message in digests.values()],
            extnos=[message.extno for message in digests.values()],
            addseqnos=[message.addseqno for message in digests.values()],
            segments=[segments[message] for message in digests.values()],
        )
        return {digests[digest]: key for digest, key in rows}

    async def _copy(self, transaction: Transaction, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        async with (
            transaction.connection.cursor() as cursor,
            cursor.copy(self._sql[statement].encode()) as copy,
        ):
            for row in rows:
                await copy.write_row(row)

    async def _check_planning(self, transaction: Transaction, campaign: int) -> None:
        state, _ = await self._state_held(transaction, campaign)
        if state is not CampaignState.PLANNING:
            raise CampaignStateError(campaign, state, "its plan is finished, nothing can be added")

    async def finish(self, campaign: int, *, balance: int | None = None, warnings: Sequence[str] = ()) -> Campaign:
        """See `Campaigns.finish`."""

        async def write(transaction: Transaction) -> Campaign:
            await self._check_planning(transaction, campaign)
            await self._change(
                transaction,
                "finish",
                campaign=campaign,
                now=self.clock(),
                balance=balance,
                warnings=json.dumps(list(warnings), ensure_ascii=False),
            )
            found = await self._find(transaction, campaign)
            await self._event(transaction, campaign, "planned", "", f"{found.credits} credits", found.numbers)
            return found

        return await self._database.write(write)

    async def discard(self, campaign: int) -> None:
        """See `Campaigns.discard`."""

        async def write(transaction: Transaction) -> None:
            state, _ = await self._state_held(transaction, campaign)
            if state not in (CampaignState.PLANNING, CampaignState.PLANNED):
                raise CampaignStateError(campaign, state, "it was begun, so it is kept")
            await self._change(transaction, "discard", campaign=campaign)

        await self._database.write(write)

    # --- what is there ------------------------------------------------------------------------------------------

    async def _find(self, transaction: Transaction, campaign: int) -> Campaign:
        rows = await transaction.rows(self._sql["campaigns"], campaign=campaign)
        if not rows:
            raise CampaignNotFoundError(campaign)
        return campaign_of(rows[0])

    async def get(self, campaign: int) -> Campaign:
        """See `Campaigns.get`."""
        return await self._database.read(lambda transaction: self._find(transaction, campaign))

    async def every(self) -> list[Campaign]:
        """See `Campaigns.every`."""
        return [campaign_of(row) for row in await self._rows("campaigns", campaign=None)]

    async def tally(self, campaign: int) -> Tally:
        """See `Campaigns.tally`."""

        async def read(transaction: Transaction) -> Tally:
            state, reason = await self._state(transaction, campaign)
            return tally_of(state, reason, await transaction.rows(self._sql["tally"], campaign=campaign))

        return await self._database.read(read)

    async def deliveries(self, campaign: int) -> Deliveries:
        """See `Campaigns.deliveries`."""
        return deliveries_of(await self._rows("deliveries", campaign=campaign))

    async def figures(self, campaign: int) -> Figures:
        """See `Campaigns.figures`."""
        statements = named("postgres/figures.sql")

        async def read(transaction: Transaction) -> Figures:
            async def rows(name: str, **values: Any) -> list[Any]:
                return await transaction.rows(statement_of(statements, name), campaign=campaign, **values)

            return await read_figures(rows)

        return await self._database.read(read)

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
        return await self._database.read(lambda transaction: self._read_numbers(transaction, campaign, after, limit))

    async def _read_numbers(
        self, transaction: Transaction, campaign: int, after: int, limit: int
    ) -> tuple[list[NumberRecord], int]:
        state, _ = await self._state(transaction, campaign)
        records: list[NumberRecord] = []
        # A stretch may give none: what was withdrawn, or sent again in later batches.
        while not records:
            rows = await transaction.rows(
                self._sql["batches"], campaign=campaign, after=after, limit=min(limit, 1000), state=None
            )
            batches: list[Batch] = []
            held = 0
            for row in rows:
                if held >= limit:
                    break
                batches.append(batch_of(row))
                held += batches[-1].count
            if not batches:
                break
            after = batches[-1].id
            records = await self._number_records(transaction, batches, cancelled=state is CampaignState.CANCELLED)
        return records, after

    async def _number_records(
        self, transaction: Transaction, batches: Sequence[Batch], *, cancelled: bool
    ) -> list[NumberRecord]:
        keys = [batch.id for batch in batches]
        joined: dict[int, str] = {
            row[0]: row[1] for row in await transaction.rows(self._sql["numbers_of"], batches=keys)
        }
        exceptions = await transaction.rows(self._sql["exceptions_of"], batches=keys)
        reports = await transaction.rows(self._sql["reports_on"], mids=mids_of(batches, exceptions))
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

        async def write(transaction: Transaction) -> tuple[Campaign, bool]:
            state, _ = await self._state_held(transaction, campaign)
            wanted = decide(campaign, state)
            if wanted is not None:
                await self._set_state(transaction, campaign, wanted, reason, by)
            if wanted is CampaignState.CANCELLED:
                await self._forgo(transaction, campaign)
            return await self._find(transaction, campaign), wanted is not None

        return await self._database.write(write)

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

        async def write(transaction: Transaction) -> bool:
            state, _ = await self._state_held(transaction, campaign)
            ((_, _, planned, sending),) = await transaction.rows(self._sql["outlook"], campaign=campaign)
            if state is CampaignState.RUNNING and not planned and not sending:
                await self._set_state(transaction, campaign, CampaignState.DONE)
                return True
            return state is CampaignState.DONE

        return await self._database.write(write)
