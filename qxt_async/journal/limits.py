"""What an account may do, for all processes together: requests a second, numbers a second, batches at a time.

Kept in one row an account. Whoever claims for an account that has limits locks its row, so that claims of one account
are made one after the other; an account without limits has no row, and claims for no account do not look.

**Rates** are kept by the generic cell rate algorithm (ITU-T I.371) on the database's clock: after each request, the
next one may leave when its share of a second has passed. A claim is made up to a tenth of a second ahead and is told
the moment at which its request may leave, so that the time a claim takes is not lost. The shares are a twelfth larger
than the rate says: requests that are some hundredths of a second longer on their way than others still keep within the
rate in any window of a second. After the first request in a while the next one waits a tenth of a second longer:
workers are starting and connecting then, so the first may be late. Of numbers, such a window sees at most the rate and
one batch more.

**Concurrency** counts what is *sending*, a batch whose process died included until its lease runs out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio
import attrs

from qxt_async.errors import InvalidConfigurationError
from qxt_async.journal import batches
from qxt_async.runtime.clocks import boottime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from qxt_async.journal.database import Database, Transaction
    from qxt_async.journal.records import Claim

__all__ = ["AccountLimits", "Limits", "RateLimited", "Turn", "Turns", "claim"]

_SECOND: Final = 1_000_000
_SHARE: Final = 1.08
_AHEAD: Final = 100_000
_WHILE: Final = _SECOND
_SETTLING: Final = 100_000
_MOST_NUMBERS: Final = 1000
# Seconds until another look whether an attempt has ended.
_WHEN_FULL: Final = 0.05
# Seconds that a claim waits for its turn.
_PATIENCE: Final = 1.0


@attrs.frozen(kw_only=True)
class AccountLimits:
    """The limits of an account; ``None`` is no limit.

    Attributes:
        max_request_rate: requests a second.
        max_rate: numbers a second.
        max_concurrency: batches that are being sent at the same time.
    """

    max_request_rate: float | None = None
    max_rate: float | None = None
    max_concurrency: int | None = None


@attrs.frozen
class RateLimited:
    """Nothing may be claimed for the account now.

    Attributes:
        wait: seconds after which it is worth asking again.
    """

    wait: float


@attrs.frozen
class Turn:
    """An account's turn to claim.

    Attributes:
        claim: the batch; ``None`` if none may be sent.
        leave: the moment, on `clocks.boottime`, at which its request may leave; ``None`` for an account without limits.
    """

    claim: Claim | None
    leave: float | None = None


@attrs.frozen
class _HeldLimits:
    """The row of an account, held until the commit; times in microseconds."""

    _account: str
    _limits: AccountLimits
    _requests_free_at: int
    _numbers_free_at: int
    _now: int

    @property
    def wait(self) -> int:
        """Microseconds until the next request may leave."""
        return max(
            self._ahead(self._requests_free_at, 1, self._limits.max_request_rate),
            self._ahead(self._numbers_free_at, _MOST_NUMBERS, self._limits.max_rate),
        )

    @property
    def leaves_at(self) -> int:
        """When the next request may leave."""
        return self._now + self.wait

    async def spend(self, transaction: Transaction, numbers: int) -> None:
        """Write down that a request with so many numbers leaves at that moment."""
        free_at = self.leaves_at
        if free_at - max(self._requests_free_at, self._numbers_free_at) > _WHILE:
            free_at += _SETTLING
        await transaction.change(
            "spend",
            account=self._account,
            requests_free_at=free_at + _share(1, self._limits.max_request_rate),
            numbers_free_at=free_at + _share(numbers, self._limits.max_rate),
        )

    def _ahead(self, free_at: int, most: int, rate: float | None) -> int:
        ahead = free_at - self._now
        # Further ahead than the largest request puts it: the clock was set back. Without a limit, nothing is ahead.
        return ahead if rate is not None and 0 < ahead <= _AHEAD + _SETTLING + _share(most, rate) else 0


def _share(amount: int, rate: float | None) -> int:
    """Microseconds that a request takes up."""
    return 0 if rate is None else round(amount * _SHARE * _SECOND / rate)


async def claim(
    transaction: Transaction, campaign: int, account: str, *, token: str, lease: float, batch: int | None
) -> Turn | RateLimited:
    """Claim for an account, within its limits. Other claims for it wait for the commit, if it has limits."""
    rows = await transaction.rows("held_limits", account=account)
    if not rows:
        found = await batches.claim(transaction, campaign, token=token, lease=lease, batch=batch, account=account)
        return Turn(found)
    ((max_request_rate, max_rate, max_concurrency, requests_free_at, numbers_free_at, at),) = rows
    limits = AccountLimits(max_request_rate=max_request_rate, max_rate=max_rate, max_concurrency=max_concurrency)
    held = _HeldLimits(account, limits, requests_free_at, numbers_free_at, at)
    leave = boottime() + held.wait / _SECOND
    if held.wait > _AHEAD:
        return RateLimited((held.wait - _AHEAD) / _SECOND)
    if max_concurrency is not None:
        ((sending,),) = await transaction.rows("count_sending", account=account)
        if sending >= max_concurrency:
            return RateLimited(_WHEN_FULL)
    found = await batches.claim(
        transaction, campaign, token=token, lease=lease, batch=batch, account=account, now=held.leaves_at
    )
    if found is not None:
        await held.spend(transaction, len(found.numbers))
    return Turn(found, leave)


class Limits:
    """The limits of accounts: ``journal.limits``.

    Args:
        database: where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def set(self, account: str, limits: AccountLimits) -> None:
        """Set the limits of an account, for all processes, from their next claim on.

        Args:
            account: what the account is called by, as `Journal.campaigns_of` is told it; not its password.
            limits: all of them; without any, the account is not looked at any more.

        Raises:
            InvalidConfigurationError: a limit is not above 0.
        """
        values = attrs.asdict(limits)
        for name, value in values.items():
            if value is not None and not value > 0:
                raise InvalidConfigurationError(f"{name} is {value}: it has to be above 0, or None for no limit")
        statement = "unset_limits" if limits == AccountLimits() else "set_limits"
        await self._database.write(lambda transaction: transaction.change(statement, account=account, **values))

    async def get(self, account: str) -> AccountLimits:
        """The limits of an account."""
        rows = await self._database.read(lambda transaction: transaction.rows("limits", account=account))
        if not rows:
            return AccountLimits()
        ((max_request_rate, max_rate, max_concurrency),) = rows
        return AccountLimits(max_request_rate=max_request_rate, max_rate=max_rate, max_concurrency=max_concurrency)


class Turns:
    """Lets one task of a process at a time claim for an account with limits, and the others wait behind it for a while.

    If all did, all of the process's connections would wait for the limits' row, and none be left for the outcomes.

    Attributes:
        needed: whether the account has limits, as far as is known: without, nobody waits for anybody.
    """

    def __init__(self) -> None:
        self._turn = anyio.Lock()
        self.needed = True

    async def take(self, claim: Callable[[], Awaitable[Turn | RateLimited]]) -> Claim | None:
        """Claim until it is not held back any more, and return when the request may leave.

        Returns:
            ``None`` also when that takes too long.
        """
        until = anyio.current_time() + _PATIENCE
        turn = None if self.needed else await self._try(claim)
        if not isinstance(turn, Turn):
            turn = await self._wait(claim, until)
        if turn is None:
            return None
        if turn.claim is not None and turn.leave is not None:
            await anyio.sleep(max(0.0, turn.leave - boottime()))
        return turn.claim

    async def _try(self, claim: Callable[[], Awaitable[Turn | RateLimited]]) -> Turn | RateLimited:
        outcome = await claim()
        self.needed = isinstance(outcome, RateLimited) or outcome.leave is not None
        return outcome

    async def _wait(self, claim: Callable[[], Awaitable[Turn | RateLimited]], until: float) -> Turn | None:
        try:
            self._turn.acquire_nowait()
        except anyio.WouldBlock:
            has_turn = False
            with anyio.CancelScope(deadline=until):
                await self._turn.acquire()
                has_turn = True
            if not has_turn:
                return None
        try:
            while True:
                outcome = await self._try(claim)
                if isinstance(outcome, Turn):
                    return outcome
                left = until - anyio.current_time()
                # Whoever is told that nothing may be claimed asks again at once.
                await anyio.sleep(max(0.0, min(outcome.wait, left)))
                if outcome.wait > left:
                    return None
        finally:
            self._turn.release()
