"""What holds a worker back: the gateway's trouble, the hour, the balance, failures in a row."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio

from qxt_async.campaign import AttemptOutcome, Failures
from qxt_async.errors import NotSentError, OutcomeUnknownError, RefusedError, ThrottledError

if TYPE_CHECKING:
    from qxt_async.campaign import AttemptResult
    from qxt_async.client import QxtClient
    from qxt_async.errors import QxtError
    from qxt_async.journal.campaigns import CampaignStore
    from qxt_async.workers.engine import Engine
    from qxt_async.workers.options import WorkerOptions

__all__ = ["Guard"]

logger = logging.getLogger("qxt_async")

_BALANCE_TRIES = 3


class Account:
    """What this worker has seen of one campaign.

    Attributes:
        unasked: batches since the balance was asked.
        failures: batches in a row that were not accepted.
    """

    def __init__(self, options: WorkerOptions) -> None:
        self.unasked = options.balance_every
        self.failures = Failures(options.max_consecutive_failures)


class Guard:
    """Decides whether a batch may be begun here, and draws the consequences of what became of it.

    Args:
        campaigns, engine, client, options: the worker's.
    """

    def __init__(self, campaigns: CampaignStore, engine: Engine, client: QxtClient, options: WorkerOptions) -> None:
        self._campaigns = campaigns
        self._engine = engine
        self._client = client
        self._options = options
        self._accounts: dict[int, Account] = {}
        self._asking = anyio.Lock()
        self._balance_failures = 0
        self._unreached = 0
        self._hold_until = float("-inf")

    # --- time ---------------------------------------------------------------------------------------------------

    def hold(self, seconds: float) -> None:
        """Begin nothing for a while."""
        self._hold_until = max(self._hold_until, anyio.current_time() + seconds)

    @property
    def held_for(self) -> float:
        """Seconds for which nothing may be begun; 0 if something may."""
        held = max(0.0, self._hold_until - anyio.current_time())
        window = self._options.window
        return held if window is None else max(held, window.closed_for(datetime.now(UTC)))

    # --- failures in a row, the balance -------------------------------------------------------------------------

    async def _is_failing(self, campaign: int) -> bool:
        reason = self.account(campaign).failures.reason
        if reason:
            await self._pause(campaign, reason)
        return bool(reason)

    async def admits(self, campaign: int) -> bool:
        """Whether a batch of a campaign may be begun; if too many failed or the balance does not suffice, it is paused.

        The balance is asked from time to time.
        """
        if await self._is_failing(campaign):
            return False
        account = self.account(campaign)
        account.unasked += 1
        every = self._options.balance_every
        if not self._options.check_balance or account.unasked <= every:
            return True
        async with self._asking:
            if account.unasked <= every:
                return True
            try:
                short = await self._shortage(campaign)
            except (NotSentError, OutcomeUnknownError, RefusedError) as error:
                if error.concerns_every_batch:
                    await self._pause_all(error)
                    return False
                self._balance_failures += 1
                self.hold(self._options.retry.backoff)
                if self._balance_failures < _BALANCE_TRIES:
                    return False
                short = f"the balance cannot be asked: {error}"
            self._balance_failures = 0
            if short:
                await self._pause(campaign, short)
                return False
            account.unasked = 1
        return True

    async def _shortage(self, campaign: int) -> str:
        cost = await self._campaigns.cost_ahead(campaign, self._options.balance_every)
        floor = max(cost, self._options.min_balance)
        balance = (await self._client.balance()).sms
        return f"the balance is {balance}, at least {floor} are wanted" if balance < floor else ""

    def account(self, campaign: int) -> Account:
        """What was seen of a campaign since it was last paused here."""
        account = self._accounts.get(campaign)
        if account is None:
            account = self._accounts[campaign] = Account(self._options)
        return account

    # --- consequences -------------------------------------------------------------------------------------------

    async def account_for(self, campaign: int, execution: AttemptResult) -> None:
        """Draw the consequences of what became of a batch."""
        if execution.error is not None and execution.error.concerns_every_batch:
            await self._pause_all(execution.error)
        elif execution.fate is AttemptOutcome.REFUSED:
            await self._pause(campaign, str(execution.error))
        elif execution.fate is AttemptOutcome.NOT_SENT:
            self._unreached += 1
            # Once is an accident, twice a gateway that cannot be reached: no use in trying every batch on it.
            if self._unreached > 1 or isinstance(execution.error, ThrottledError):
                self.hold(execution.delay)
        else:
            self._unreached = 0
            self.account(campaign).failures.heed_settled(execution)
            await self._is_failing(campaign)

    async def _pause(self, campaign: int, reason: str) -> None:
        if await self._campaigns.pause(campaign, reason, actor=self._options.actor):
            logger.warning("campaign %d is paused: %s", campaign, reason)
        # When it is run again, it begins anew.
        self._accounts.pop(campaign, None)

    async def _pause_all(self, error: QxtError) -> None:
        """Pause every campaign: what one batch met would meet every batch of each."""
        for campaign in await self._engine.running():
            await self._pause(campaign, str(error))
