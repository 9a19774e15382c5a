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
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
import attrs

from qxt_async.errors import InvalidConfigurationError
from qxt_async.journal import batches
from qxt_async.runtime.clocks import boottime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

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
    transaction: Transaction, campaign: int, account: str, *, token: str, lease: float
) -> Turn | None:
    """Claim for an account that has no limits; ``None`` if it has some."""
    found = await batches.claim(transaction, campaign, token=token, lease=lease, account=account, unlimited=account)
    if found is None and await transaction.rows("limits", account=account):
        return None
    return Turn(found)


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


async def _usage(transaction: Transaction, account: str) -> _Usage | None:
    """What is used, read once in a transaction; ``None`` for an account without limits."""
    key = f"lock_for_account {account}"
    if key not in transaction.kept:
        rows = await transaction.rows("used_limits", account=account)
        transaction.kept[key] = None
        if rows:
            ((request_rate, rate, concurrency, requests_free_at, numbers_free_at, sending, now),) = rows
            transaction.kept[key] = _Usage(
                request_rate=request_rate,
                rate=rate,
                concurrency=concurrency,
                requests_free_at=requests_free_at,
                numbers_free_at=numbers_free_at,
                sending=sending,
                offset=now - round(boottime() * _SECOND),
            )
    return cast("_Usage | None", transaction.kept[key])


async def claim(
    transaction: Transaction, campaign: int, account: str, *, token: str, lease: float
) -> Turn | RateLimited:
    """Claim for an account, within its limits. Other claims for it wait for the commit."""
    await transaction.lock("lock_for_claim", shared=True, campaign=campaign)
    await transaction.lock("lock_for_account", account=account)
    used = await _usage(transaction, account)
    if used is None:
        found = await batches.claim(transaction, campaign, token=token, lease=lease, account=account)
        return Turn(found)
    since = boottime()
    now = used.offset + round(since * _SECOND)
    wait = max(
        _ahead(used.requests_free_at - now, 1, used.request_rate),
        _ahead(used.numbers_free_at - now, _MOST_NUMBERS, used.rate),
    )
    if wait > _AHEAD:
        return RateLimited((wait - _AHEAD) / _SECOND)
    if used.concurrency is not None and used.sending >= used.concurrency:
        return RateLimited(_WHEN_FULL)
    at = now + wait
    found = await batches.claim(transaction, campaign, token=token, lease=lease, account=account, now=at)
    if found is not None:
        first = at - max(used.requests_free_at, used.numbers_free_at) > _WHILE
        free_at = at + _SETTLING if first else at
        used.requests_free_at = free_at + _share(1, used.request_rate)
        used.numbers_free_at = free_at + _share(len(found.numbers), used.rate)
        used.sending += 1
        await transaction.change_at_end(
            "spend",
            account=account,
            requests_free_at=used.requests_free_at,
            numbers_free_at=used.numbers_free_at,
        )
    return Turn(found, since + wait / _SECOND)


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
        self._account = account
        self._lock = anyio.Lock()
        # As far as is known: the first claim finds out.
        self._limited = False

    async def claim(self, campaign: int, *, token: str, lease: float) -> Claim | None:
        """Claim, and return when the request may leave.

        Returns:
            The batch; ``None`` if none may be sent, or if the turn does not come within a second.
        """
        account = self._account
        group = ("claims", campaign)
        if account is None:
            free = partial(batches.claim, campaign=campaign, token=token, lease=lease)
            return await self._database.write(free, group=group)
        attempt: dict[str, Any] = {"campaign": campaign, "account": account, "token": token, "lease": lease}
        if not self._limited:
            found = await self._database.write(partial(claim_without_limits, **attempt), group=group)
            if found is not None:
                return found.claim
        limited = partial(claim, **attempt)
        turn = await self._turn(partial(self._database.write, limited, group=("turns", account)))
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
