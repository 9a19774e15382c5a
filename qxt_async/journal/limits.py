"""The limits of accounts, for all processes together: requests a second, numbers a second, batches at a time.

Each account with limits has one row. A claim for it holds a lock, so that claims of one account are made one after the
other; those of one process that are made at the same moment share a transaction. A claim for an account without limits
finds no row in its one statement.

**Rates** are kept by the generic cell rate algorithm (ITU-T I.371) on the database's clock: after each request, the
next one may leave when the request's share of a second has passed. A claim is made up to a tenth of a second ahead and
is told when its request may leave, so that the time of the claim is not lost. The shares are a twelfth larger than the
rate demands: if some requests take some hundredths of a second longer to arrive than others, any window of a second
still keeps the rate. After the first request in a while the next one waits a tenth of a second longer: workers are
starting and connecting then, so the first one may be late. A window of a second has at most the rate and one batch of
numbers.

**Concurrency** counts batches that are *sending*. A batch whose process died counts until its lease runs out.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import anyio
import attrs

from qxt_async.errors import InvalidConfigurationError
from qxt_async.journal import batches
from qxt_async.runtime.clocks import boottime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from qxt_async.journal.batches import Attempt
    from qxt_async.journal.database import Database, Transaction
    from qxt_async.journal.records import Claim

_SECOND: Final = 1_000_000
_SHARE: Final = 1.08
_AHEAD: Final = 100_000
_WHILE: Final = _SECOND
_SETTLING: Final = 100_000
_MOST_NUMBERS: Final = 1000
# Seconds after which a claim looks again whether an attempt has ended.
_WHEN_FULL: Final = 0.05
# Seconds that a claim waits for its turn.
TURN_TIMEOUT: Final = 1.0


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


def _share(amount: int, rate: float | None) -> int:
    """Microseconds that a request takes of its rate."""
    return 0 if rate is None else round(amount * _SHARE * _SECOND / rate)


def _ahead(free_in: int, most: int, rate: float | None) -> int:
    """Microseconds until the next request may leave, by one of the rates."""
    # If it is further ahead than the largest request puts it, the clock was set back.
    return free_in if rate is not None and 0 < free_in <= _AHEAD + _SETTLING + _share(most, rate) else 0


async def claim_without_limits(
    transaction: Transaction, attempts: Sequence[Attempt], *, account: str | None
) -> Sequence[Turn | None]:
    """Claim for an account that has no limits; nothing if it has some."""
    await batches.lock_for_claims(transaction, (attempt.campaign for attempt in attempts))
    found = await batches.claim(transaction, attempts, account=account, unlimited=account)
    if account is not None and not any(found) and await transaction.rows("limits", account=account):
        return [None] * len(attempts)
    return [Turn(claim) for claim in found]


@attrs.define(kw_only=True, repr=False)
class _Usage:
    """The limits of an account and what is used of them, while its lock is held. Times are microseconds.

    Attributes:
        request_rate, rate, concurrency: the limits.
        requests_free_at, numbers_free_at: when the next request, and the next number, may leave.
        sending: batches that are being sent.
        offset: the database's clock minus our own.
    """

    request_rate: float | None
    rate: float | None
    concurrency: int | None
    requests_free_at: int
    numbers_free_at: int
    sending: int
    offset: int

    def wait(self, now: int) -> int:
        """How long the next request has to wait."""
        return max(
            _ahead(self.requests_free_at - now, 1, self.request_rate),
            _ahead(self.numbers_free_at - now, _MOST_NUMBERS, self.rate),
        )

    def limit(self, now: int) -> RateLimited | None:
        """Why nothing may be claimed; ``None`` if something may."""
        wait = self.wait(now)
        if wait > _AHEAD:
            return RateLimited((wait - _AHEAD) / _SECOND)
        if self.concurrency is not None and self.sending >= self.concurrency:
            return RateLimited(_WHEN_FULL)
        return None

    def spend(self, at: int, numbers: int) -> None:
        """Add a request that leaves then."""
        first = at - max(self.requests_free_at, self.numbers_free_at) > _WHILE
        free_at = at + _SETTLING if first else at
        self.requests_free_at = free_at + _share(1, self.request_rate)
        self.numbers_free_at = free_at + _share(numbers, self.rate)
        self.sending += 1


async def _usage(transaction: Transaction, account: str) -> _Usage | None:
    """What is used; ``None`` for an account without limits."""
    rows = await transaction.rows("used_limits", account=account)
    if not rows:
        return None
    ((request_rate, rate, concurrency, requests_free_at, numbers_free_at, sending, now),) = rows
    return _Usage(
        request_rate=request_rate,
        rate=rate,
        concurrency=concurrency,
        requests_free_at=requests_free_at,
        numbers_free_at=numbers_free_at,
        sending=sending,
        offset=now - round(boottime() * _SECOND),
    )


async def claim(transaction: Transaction, attempts: Sequence[Attempt], *, account: str) -> Sequence[Turn | RateLimited]:
    """Claim for an account, within its limits. Other claims for it wait for the commit."""
    await batches.lock_for_claims(transaction, (attempt.campaign for attempt in attempts))
    await transaction.lock("lock_for_account", account=account)
    used = await _usage(transaction, account)
    if used is None:
        return [Turn(found) for found in await batches.claim(transaction, attempts, account=account)]
    before = used.requests_free_at
    turns: list[Turn | RateLimited] = []
    while len(turns) < len(attempts):
        # What a claim uses of a limit of numbers is known when it is made; otherwise all of them are one message.
        end = len(turns) + 1 if used.rate is not None else None
        turns += await _claim_within(transaction, attempts[len(turns) : end], account, used)
    if used.requests_free_at != before:
        await transaction.change(
            "spend", account=account, requests_free_at=used.requests_free_at, numbers_free_at=used.numbers_free_at
        )
    return turns


async def _claim_within(
    transaction: Transaction, attempts: Sequence[Attempt], account: str, used: _Usage
) -> list[Turn | RateLimited]:
    """Claim what may leave now or soon, and add it to what is used."""
    since = boottime()
    now = used.offset + round(since * _SECOND)
    if_all_are_found = attrs.evolve(used)
    moments: list[int] = []
    limited: RateLimited | None = None
    for _ in attempts:
        limited = if_all_are_found.limit(now)
        if limited is not None:
            break
        moments.append(now + if_all_are_found.wait(now))
        if_all_are_found.spend(moments[-1], 0)
    granted = [attrs.evolve(attempt, begins=at) for attempt, at in zip(attempts, moments, strict=False)]
    claims = await batches.claim(transaction, granted, account=account) if granted else []
    turns: list[Turn | RateLimited] = []
    for at, found in zip(moments, claims, strict=True):
        if found is not None:
            used.spend(at, len(found.numbers))
        turns.append(Turn(found, since + (at - now) / _SECOND))
    if limited is not None:
        turns += [limited] * (len(attempts) - len(turns))
    return turns


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

        async def put(transaction: Transaction) -> None:
            await transaction.lock("lock_for_account", account=account)
            await transaction.change(statement, account=account, **values)

        await self._database.write(put)

    async def get(self, account: str) -> AccountLimits:
        """The limits of an account."""
        rows = await self._database.read(lambda transaction: transaction.rows("limits", account=account))
        if not rows:
            return AccountLimits()
        ((max_request_rate, max_rate, max_concurrency),) = rows
        return AccountLimits(max_request_rate=max_request_rate, max_rate=max_rate, max_concurrency=max_concurrency)


class AccountClaims:
    """Claims for an account, within its limits.

    What is claimed at the same moment shares a transaction. Once the account has used its limits up, one task of a
    process at a time asks for its next turn, and the others wait for that task.

    Args:
        database: where the batches and the limits are.
        account: the account; ``None`` for no limits.
    """

    def __init__(self, database: Database, account: str | None) -> None:
        self._database = database
        # As far as is known it has none: the first claim finds out.
        self._limited = False
        self._freely = partial(claim_without_limits, account=account)
        self._within = partial(claim, account=account or "")
        self._lock = anyio.Lock()

    async def claim(self, campaign: int, *, token: str, lease: float) -> Claim | None:
        """Claim, and return when the request may leave.

        Returns:
            The batch; ``None`` if none may be sent, or if the turn does not come within a second.
        """
        attempt = batches.Attempt(campaign, token, lease)
        if not self._limited:
            found = await self._database.write_together(self._freely, attempt)
            if found is not None:
                return found.claim
        turn = await self._turn(partial(self._database.write_together, self._within, attempt))
        if turn is None:
            return None
        self._limited = turn.leave is not None
        if turn.claim is not None and turn.leave is not None:
            await anyio.sleep(max(0.0, turn.leave - boottime()))
        return turn.claim

    async def _turn(self, attempt: Callable[[], Awaitable[Turn | RateLimited]]) -> Turn | None:
        if not self._lock.locked() and isinstance(outcome := await attempt(), Turn):
            return outcome
        return await self._wait(attempt)

    async def _wait(self, attempt: Callable[[], Awaitable[Turn | RateLimited]]) -> Turn | None:
        until = anyio.current_time() + TURN_TIMEOUT
        try:
            self._lock.acquire_nowait()
        except anyio.WouldBlock:
            acquired = False
            with anyio.CancelScope(deadline=until):
                await self._lock.acquire()
                acquired = True
            if not acquired:
                return None
        try:
            while isinstance(outcome := await attempt(), RateLimited):
                left = until - anyio.current_time()
                # A caller that gets None asks again at once.
                await anyio.sleep(max(0.0, min(outcome.wait, left)))
                if outcome.wait > left:
                    return None
            return outcome
        finally:
            self._lock.release()
