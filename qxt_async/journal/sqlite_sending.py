"""Campaigns in an SQLite file: claims and their outcomes."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

from qxt_async.clocks import steady
from qxt_async.errors import CampaignNotFoundError
from qxt_async.models import Message

from .moments import CLOCK_LEEWAY
from .orders import NOT_SENT_AFTER_ALL
from .records import BatchState, CampaignState, Claim, NumberState, Outlook
from .rows import fates, in_doubt
from .statements import named

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Iterable, Sequence

    from qxt_async.errors import QxtError
    from qxt_async.models import BatchResult

    from .database import Database

__all__ = ["SqliteSending", "array"]

_SECOND: Final = 1_000_000
_DETAIL: Final = 300


def array(values: Iterable[Any]) -> str:
    """As the statements take many values."""
    return json.dumps(list(values), ensure_ascii=False)


class SqliteSending:
    """The half of `SqliteCampaigns` that is at work while a campaign runs.

    Args:
        database: the file.

    Attributes:
        clock: gives microseconds since 1970; safety does not rest on it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = named("campaigns.sql")
        self.clock: Callable[[], int] = lambda: time.time_ns() // 1000

    # --- shared -------------------------------------------------------------------------------------------------

    async def _rows(self, statement: str, **values: Any) -> list[Any]:
        return await self._database.read(lambda connection: connection.execute(self._sql[statement], values).fetchall())

    def _change(self, connection: sqlite3.Connection, statement: str, **values: Any) -> int:
        return connection.execute(self._sql[statement], values).rowcount

    def _state(self, connection: sqlite3.Connection, campaign: int) -> tuple[CampaignState, str]:
        row = connection.execute(self._sql["outlook"], {"campaign": campaign}).fetchone()
        if row is None:
            raise CampaignNotFoundError(campaign)
        return CampaignState(row[0]), row[1]

    def _event(
        self, connection: sqlite3.Connection, campaign: int, what: str, by: str = "", detail: str = "", count: int = 0
    ) -> None:
        self._change(
            connection,
            "insert_event",
            campaign=campaign,
            now=self.clock(),
            what=what,
            by=by,
            detail=detail,
            count=count,
        )

    def _set_state(
        self,
        connection: sqlite3.Connection,
        campaign: int,
        state: CampaignState,
        reason: str = "",
        by: str = "",
    ) -> None:
        self._change(connection, "set_state", campaign=campaign, state=state, reason=reason, now=self.clock())
        self._event(connection, campaign, state, by, reason)

    async def record(self, campaign: int, what: str, *, by: str = "", detail: str = "", count: int = 0) -> None:
        """See `Campaigns.record`."""

        def write(connection: sqlite3.Connection) -> None:
            self._state(connection, campaign)
            self._event(connection, campaign, what, by, detail, count)

        await self._database.writer.run(write)

    async def outlook(self, campaign: int) -> Outlook:
        """See `Campaigns.outlook`."""
        rows = await self._rows("outlook", campaign=campaign)
        if not rows:
            raise CampaignNotFoundError(campaign)
        state, reason, planned, sending = rows[0]
        return Outlook(state=CampaignState(state), reason=reason, planned=bool(planned), sending=bool(sending))

    async def cost_ahead(self, campaign: int, batches: int) -> int:
        """See `Campaigns.cost_ahead`."""
        ((cost,),) = await self._rows("cost_ahead", campaign=campaign, limit=batches)
        return int(cost)

    # --- sending ------------------------------------------------------------------------------------------------

    async def claim(self, campaign: int, *, token: str, lease: float, batch: int | None = None) -> Claim | None:
        """See `Campaigns.claim`."""

        def write(connection: sqlite3.Connection) -> Claim | None:
            while True:
                since, now = steady(), self.clock()
                values = {
                    "campaign": campaign,
                    "batch": batch,
                    "token": token,
                    "now": now,
                    "until": now + round(lease * _SECOND),
                    "far": now + CLOCK_LEEWAY,
                }
                # RETURNING gives its rows only when they are all fetched.
                rows = connection.execute(self._sql["claim"], values).fetchall()
                if not rows:
                    return None
                ((claimed, unsent, doubtful, joined, message, suppressed),) = rows
                numbers = tuple(joined.split(","))
                out = self._leave_out(connection, claimed, numbers, suppressed, doubtful=bool(doubtful))
                if len(out) == len(numbers):
                    continue
                text, extno, addseqno = json.loads(message)
                return Claim(
                    batch=claimed,
                    campaign=campaign,
                    token=token,
                    unsent=unsent,
                    since=since,
                    doubtful=bool(doubtful),
                    message=Message(text, extno=extno, addseqno=bool(addseqno)),
                    numbers=tuple(number for number in numbers if number not in out) if out else numbers,
                    suppressed=tuple(out),
                )

        return await self._database.writer.run(write, guarded=False)

    def _leave_out(
        self,
        connection: sqlite3.Connection,
        batch: int,
        numbers: Sequence[str],
        suppressed: str | None,
        *,
        doubtful: bool,
    ) -> frozenset[str]:
        """Write down who opted out since the plan: what may have arrived before stays unknown.

        A batch of nobody else is settled with it.
        """
        out = frozenset[str](json.loads(suppressed or "[]"))
        if not out:
            return out
        state = NumberState.UNKNOWN if doubtful else NumberState.SUPPRESSED
        rows = array((number, state, None, None) for number in sorted(out))
        self._change(connection, "insert_exceptions", batch=batch, rows=rows)
        if len(out) == len(numbers):
            self._change(connection, "suppress_all", batch=batch, now=self.clock())
            if doubtful:
                self._fall_back(connection, batch)
        elif not doubtful:
            self._change(connection, "suppress_some", batch=batch, count=len(out))
        return out

    async def settle(self, claim: Claim, result: BatchResult) -> bool:
        """See `Campaigns.settle`."""
        return await self._database.writer.run(
            lambda connection: self._settle(connection, claim, result), guarded=False
        )

    def _settle(self, connection: sqlite3.Connection, claim: Claim, result: BatchResult) -> bool:
        refused = not (result.accepted or result.unknown)
        result = in_doubt(result) if claim.doubtful else result
        state, exceptions = fates(result)
        values = {
            "batch": claim.batch,
            "token": claim.token,
            "state": state,
            "mid": result.mid,
            "accepted": len(result.accepted),
            "failed": len(result.failed),
            "error": type(result.error).__name__ if result.error is not None else "",
            "detail": str(result.error)[:_DETAIL] if result.error is not None else "",
            "now": self.clock(),
        }
        rows = connection.execute(self._sql["settle"], values).fetchall()
        if not rows:
            return False
        ((successor,),) = rows
        if successor and state is not BatchState.UNKNOWN and self._take_back(connection, claim.batch):
            self._change(
                connection, "recount", batch=claim.batch, accepted=len(result.accepted), failed=len(result.failed)
            )
            successor = None
        if exceptions and not successor:
            self._change(connection, "insert_exceptions", batch=claim.batch, rows=array(exceptions))
        if claim.doubtful and refused:
            self._fall_back(connection, claim.batch)
        return True

    def _take_back(self, connection: sqlite3.Connection, batch: int) -> bool:
        """Withdraw what was to be sent again, if that has not begun."""
        if not self._change(connection, "withdraw_successor", batch=batch):
            return False
        self._change(connection, "own_again", batch=batch)
        return True

    def _give_up(self, connection: sqlite3.Connection, claim: Claim, values: dict[str, Any]) -> bool:
        given_up = bool(self._change(connection, "give_up", **values))
        if given_up and claim.doubtful:
            self._fall_back(connection, claim.batch)
        return given_up

    def _fall_back(self, connection: sqlite3.Connection, batch: int) -> None:
        """After a second attempt that failed, let the first one speak for its numbers again."""
        if self._change(connection, "fall_back", batch=batch):
            self._change(connection, "withdraw", batch=batch)

    def _forgo(self, connection: sqlite3.Connection, campaign: int) -> None:
        """If the campaign is cancelled, call unknown what is planned a second time since it was unknown before."""
        values = {"campaign": campaign, "now": self.clock()}
        for (batch,) in connection.execute(self._sql["forgo"], values).fetchall():
            self._fall_back(connection, batch)

    def _reopen(self, connection: sqlite3.Connection, campaign: int) -> None:
        """After a batch was put back, pause a campaign that is done."""
        reason = NOT_SENT_AFTER_ALL
        if self._change(connection, "reopen", campaign=campaign, reason=reason, now=self.clock()):
            self._event(connection, campaign, CampaignState.PAUSED, "", reason)

    async def put_back(
        self, claim: Claim, error: QxtError | None, *, delay: float = 0.0, attempts: int | None = None
    ) -> bool:
        """See `Campaigns.put_back`."""

        def write(connection: sqlite3.Connection) -> bool:
            values = {
                "batch": claim.batch,
                "token": claim.token,
                "not_before": self.clock() + round(delay * _SECOND) if delay else 0,
                "counted": 0 if attempts is None else 1,
                "error": "" if error is None else type(error).__name__,
                "detail": "" if error is None else str(error)[:_DETAIL],
                "now": self.clock(),
            }
            if attempts is not None and claim.unsent + 1 >= attempts:
                return self._give_up(connection, claim, values)
            back = bool(self._change(connection, "put_back", **values))
            if back:
                if claim.suppressed:
                    self._change(connection, "forget_exceptions", batch=claim.batch)
                self._reopen(connection, claim.campaign)
            if claim.doubtful:
                self._forgo(connection, claim.campaign)
            # Somebody had it sent again while this attempt was held for dead: better never than twice.
            return back or self._give_up(connection, claim, values)

        return await self._database.writer.run(write, guarded=False)

    async def disclaim(self, campaign: int, token: str) -> bool:
        """See `Campaigns.disclaim`."""

        def write(connection: sqlite3.Connection) -> bool:
            found = connection.execute(self._sql["find_claim"], {"campaign": campaign, "token": token}).fetchone()
            if found is None:
                return False
            self._change(
                connection, "put_back", batch=found[0], token=token, not_before=0, counted=0, error="", detail=""
            )
            self._change(connection, "forget_exceptions", batch=found[0])
            self._forgo(connection, campaign)
            return True

        return await self._database.writer.run(write)

    async def expire(self, campaign: int, *, alive: Collection[str] = ()) -> int:
        """See `Campaigns.expire`."""

        def write(connection: sqlite3.Connection) -> int:
            now = self.clock()
            return self._change(
                connection, "expire", campaign=campaign, now=now, soon=now + CLOCK_LEEWAY, alive=array(alive)
            )

        return await self._database.writer.run(write)
