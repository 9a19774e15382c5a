"""Campaigns in PostgreSQL: claims and their outcomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import anyio

from qxt_async.clocks import steady
from qxt_async.errors import CampaignNotFoundError
from qxt_async.models import Message

from .moments import CLOCK_LEEWAY
from .orders import NOT_SENT_AFTER_ALL
from .postgres_limits import Held, PostgresLimits, Turns
from .records import BatchState, CampaignState, Claim, NumberState, Outlook
from .rows import fates, in_doubt
from .statements import named

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from qxt_async.errors import QxtError
    from qxt_async.models import BatchResult

    from .postgres_database import PostgresDatabase, Transaction

__all__ = ["PostgresSending"]

_SECOND: Final = 1_000_000
_DETAIL: Final = 300


class PostgresSending:
    """The half of `PostgresCampaigns` that is at work while a campaign runs.

    Args:
        database: where they are.
        account: whose limits hold for what is claimed here; ``None`` for none.

    Attributes:
        clock: gives microseconds since 1970, or ``None`` for the database's own time, which is that of all machines.
    """

    def __init__(self, database: PostgresDatabase, account: str | None = None) -> None:
        self._database = database
        self._account = account
        self._turns = Turns()
        self._sql = named("postgres/campaigns.sql")
        self.clock: Callable[[], int | None] = lambda: None

    # --- shared -------------------------------------------------------------------------------------------------

    async def _rows(self, statement: str, **values: Any) -> list[Any]:
        return await self._database.read(lambda transaction: transaction.rows(self._sql[statement], **values))

    async def _change(self, transaction: Transaction, statement: str, **values: Any) -> int:
        return await transaction.change(self._sql[statement], **values)

    async def _state(self, transaction: Transaction, campaign: int) -> tuple[CampaignState, str]:
        rows = await transaction.rows(self._sql["outlook"], campaign=campaign)
        if not rows:
            raise CampaignNotFoundError(campaign)
        return CampaignState(rows[0][0]), rows[0][1]

    async def _state_held(self, transaction: Transaction, campaign: int) -> tuple[CampaignState, str]:
        """The state, which nobody else changes before the commit, and under which nothing is claimed meanwhile."""
        await transaction.rows(self._sql["lock_for_order"], campaign=campaign)
        return await self._state(transaction, campaign)

    async def _event(
        self, transaction: Transaction, campaign: int, what: str, by: str = "", detail: str = "", count: int = 0
    ) -> None:
        await self._change(
            transaction,
            "insert_event",
            campaign=campaign,
            now=self.clock(),
            what=what,
            by=by,
            detail=detail,
            count=count,
        )

    async def _set_state(
        self, transaction: Transaction, campaign: int, state: CampaignState, reason: str = "", by: str = ""
    ) -> None:
        await self._change(transaction, "set_state", campaign=campaign, state=state, reason=reason, now=self.clock())
        await self._event(transaction, campaign, state, by, reason)

    async def _insert_exceptions(
        self, transaction: Transaction, batch: int, rows: Iterable[tuple[str, str, str | None, int | None]]
    ) -> None:
        numbers, states, mids, successors = (list(column) for column in zip(*rows, strict=True))
        await self._change(
            transaction,
            "insert_exceptions",
            batch=batch,
            numbers=numbers,
            states=[str(state) for state in states],
            mids=mids,
            successors=successors,
        )

    async def record(self, campaign: int, what: str, *, by: str = "", detail: str = "", count: int = 0) -> None:
        """See `Campaigns.record`."""

        async def write(transaction: Transaction) -> None:
            await self._state(transaction, campaign)
            await self._event(transaction, campaign, what, by, detail, count)

        await self._database.write(write)

    async def outlook(self, campaign: int) -> Outlook:
        """See `Campaigns.outlook`."""
        rows = await self._rows("outlook", campaign=campaign)
        if not rows:
            raise CampaignNotFoundError(campaign)
        state, reason, planned, sending = rows[0]
        return Outlook(state=CampaignState(state), reason=reason, planned=planned, sending=sending)

    async def cost_ahead(self, campaign: int, batches: int) -> int:
        """See `Campaigns.cost_ahead`."""
        ((cost,),) = await self._rows("cost_ahead", campaign=campaign, limit=batches)
        return int(cost)

    # --- sending ------------------------------------------------------------------------------------------------

    async def claim(self, campaign: int, *, token: str, lease: float, batch: int | None = None) -> Claim | None:
        """See `Campaigns.claim`.

        Where the account has limits (`PostgresLimits`), it waits for its turn, about a second at most; ``None`` if that
        does not come. It returns at the moment at which the request may leave; that is the time of the claim.
        """
        account = self._account
        leave = 0.0

        async def unlimited(transaction: Transaction) -> Claim | None:
            since = steady()
            return await self._claim(transaction, campaign, token, lease, batch, self.clock(), since)

        async def limited(transaction: Transaction) -> Claim | Held | None:
            nonlocal leave
            since = steady()
            assert account is not None  # noqa: S101  (see below)
            limits = await PostgresLimits.lock(transaction, account, self.clock())
            self._turns.needed = limits is not None
            if limits is None:
                return await unlimited(transaction)
            if isinstance(limits, Held):
                return limits
            leave = anyio.current_time() + limits.wait / _SECOND
            claim = await self._claim(transaction, campaign, token, lease, batch, limits.leaves_at, since)
            if claim is not None:
                await limits.spend(transaction, len(claim.numbers))
            return claim

        if account is None:
            return await self._database.write(unlimited)
        claim = await self._turns.take(lambda: self._database.write(limited))
        if claim is not None:
            await anyio.sleep_until(leave)
        return claim

    async def _claim(
        self,
        transaction: Transaction,
        campaign: int,
        token: str,
        lease: float,
        batch: int | None,
        now: int | None,
        since: float,
    ) -> Claim | None:
        await transaction.rows(self._sql["lock_for_claim"], campaign=campaign)
        statement = self._sql["claim"].replace("{which}", "TRUE" if batch is None else "id = %(batch)s")
        while True:
            rows = await transaction.rows(
                statement,
                campaign=campaign,
                batch=batch,
                token=token,
                account=self._account,
                now=now,
                lease=round(lease * _SECOND),
                leeway=CLOCK_LEEWAY,
            )
            if not rows:
                return None
            ((claimed, unsent, doubtful, joined, text, extno, addseqno, suppressed),) = rows
            numbers = tuple(joined.split(","))
            out = frozenset[str](suppressed or ())
            if out:
                await self._leave_out(transaction, claimed, numbers, out, doubtful=doubtful)
                if len(out) == len(numbers):
                    continue
            return Claim(
                batch=claimed,
                campaign=campaign,
                token=token,
                unsent=unsent,
                since=since,
                doubtful=doubtful,
                message=Message(text, extno=extno, addseqno=addseqno),
                numbers=tuple(number for number in numbers if number not in out) if out else numbers,
                suppressed=tuple(out),
            )

    async def _leave_out(
        self, transaction: Transaction, batch: int, numbers: Sequence[str], out: frozenset[str], *, doubtful: bool
    ) -> None:
        """Write down who opted out since the plan: what may have arrived before stays unknown.

        A batch of nobody else is settled with it.
        """
        state = NumberState.UNKNOWN if doubtful else NumberState.SUPPRESSED
        rows = [(number, state, None, None) for number in sorted(out)]
        await self._insert_exceptions(transaction, batch, rows)
        if len(out) == len(numbers):
            await self._change(transaction, "suppress_all", batch=batch, now=self.clock())
            if doubtful:
                await self._fall_back(transaction, batch)
        elif not doubtful:
            await self._change(transaction, "suppress_some", batch=batch, count=len(out))

    async def settle(self, claim: Claim, result: BatchResult) -> bool:
        """See `Campaigns.settle`."""
        return await self._database.write(lambda transaction: self._settle(transaction, claim, result))

    async def _settle(self, transaction: Transaction, claim: Claim, result: BatchResult) -> bool:
        refused = not (result.accepted or result.unknown)
        result = in_doubt(result) if claim.doubtful else result
        state, exceptions = fates(result)
        rows = await transaction.rows(
            self._sql["settle"],
            batch=claim.batch,
            token=claim.token,
            state=state,
            mid=result.mid,
            accepted=len(result.accepted),
            failed=len(result.failed),
            error=type(result.error).__name__ if result.error is not None else "",
            detail=str(result.error)[:_DETAIL] if result.error is not None else "",
            now=self.clock(),
        )
        if not rows:
            return False
        ((successor,),) = rows
        if successor and state is not BatchState.UNKNOWN and await self._take_back(transaction, claim.batch):
            await self._change(
                transaction, "recount", batch=claim.batch, accepted=len(result.accepted), failed=len(result.failed)
            )
            successor = None
        if exceptions and not successor:
            await self._insert_exceptions(transaction, claim.batch, exceptions)
        if claim.doubtful and refused:
            await self._fall_back(transaction, claim.batch)
        return True

    async def _take_back(self, transaction: Transaction, batch: int) -> bool:
        """Withdraw what was to be sent again, if that has not begun."""
        if not await self._change(transaction, "withdraw_successor", batch=batch):
            return False
        await self._change(transaction, "own_again", batch=batch)
        return True

    async def _give_up(self, transaction: Transaction, claim: Claim, values: dict[str, Any]) -> bool:
        given_up = bool(await self._change(transaction, "give_up", **values))
        if given_up and claim.doubtful:
            await self._fall_back(transaction, claim.batch)
        return given_up

    async def _fall_back(self, transaction: Transaction, batch: int) -> None:
        """After a second attempt that failed, let the first one speak for its numbers again."""
        if await self._change(transaction, "fall_back", batch=batch):
            await self._change(transaction, "withdraw", batch=batch)

    async def _forgo(self, transaction: Transaction, campaign: int) -> None:
        """If the campaign is cancelled, call unknown what is planned a second time since it was unknown before."""
        rows = await transaction.rows(self._sql["forgo"], campaign=campaign, now=self.clock())
        for (batch,) in rows:
            await self._fall_back(transaction, batch)

    async def _reopen(self, transaction: Transaction, campaign: int) -> None:
        """After a batch was put back, pause a campaign that is done."""
        reason = NOT_SENT_AFTER_ALL
        if await self._change(transaction, "reopen", campaign=campaign, reason=reason, now=self.clock()):
            await self._event(transaction, campaign, CampaignState.PAUSED, "", reason)

    async def put_back(
        self, claim: Claim, error: QxtError | None, *, delay: float = 0.0, attempts: int | None = None
    ) -> bool:
        """See `Campaigns.put_back`."""

        async def write(transaction: Transaction) -> bool:
            values = {
                "batch": claim.batch,
                "token": claim.token,
                "delay": round(delay * _SECOND),
                "counted": 0 if attempts is None else 1,
                "error": "" if error is None else type(error).__name__,
                "detail": "" if error is None else str(error)[:_DETAIL],
                "now": self.clock(),
            }
            if attempts is not None and claim.unsent + 1 >= attempts:
                return await self._give_up(transaction, claim, values)
            # Before or after the campaign is cancelled or done, so that one of the two sees the other's.
            await transaction.rows(self._sql["lock_for_claim"], campaign=claim.campaign)
            back = bool(await self._change(transaction, "put_back", **values))
            if back:
                if claim.suppressed:
                    await self._change(transaction, "forget_exceptions", batch=claim.batch)
                await self._reopen(transaction, claim.campaign)
            if claim.doubtful:
                await self._forgo(transaction, claim.campaign)
            # Somebody had it sent again while this attempt was held for dead: better never than twice.
            return back or await self._give_up(transaction, claim, values)

        return await self._database.write(write)

    async def disclaim(self, campaign: int, token: str) -> bool:
        """See `Campaigns.disclaim`."""

        async def write(transaction: Transaction) -> bool:
            found = await transaction.rows(self._sql["find_claim"], campaign=campaign, token=token)
            if not found:
                return False
            ((batch,),) = found
            await transaction.rows(self._sql["lock_for_claim"], campaign=campaign)
            values = {"batch": batch, "token": token, "delay": 0, "counted": 0, "error": "", "detail": "", "now": None}
            if not await self._change(transaction, "put_back", **values):
                return False
            await self._change(transaction, "forget_exceptions", batch=batch)
            await self._reopen(transaction, campaign)
            await self._forgo(transaction, campaign)
            return True

        return await self._database.write(write)

    async def expire(self, campaign: int, *, alive: Collection[str] = ()) -> int:
        """See `Campaigns.expire`."""
        values = {"campaign": campaign, "now": self.clock(), "leeway": CLOCK_LEEWAY, "alive": list(alive)}
        return await self._database.write(lambda transaction: self._change(transaction, "expire", **values))
