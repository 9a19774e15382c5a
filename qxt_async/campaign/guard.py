"""When batches may be begun and when a campaign is paused: the same rules for a run in this process and for workers."""

from __future__ import annotations

import logging
import math
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio
import attrs

from qxt_async.errors import NotSentError, OutcomeUnknownError, RefusedError, ThrottledError
from qxt_async.runtime.clocks import boottime
from qxt_async.runtime.words import plural
from qxt_async.sending.recorded import AttemptOutcome, BatchSender

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from qxt_async.campaign.options import CampaignOptions
    from qxt_async.client import QxtClient
    from qxt_async.errors import QxtError
    from qxt_async.journal.campaigns import CampaignStore
    from qxt_async.models import BatchResult
    from qxt_async.sending.recorded import AttemptResult

logger = logging.getLogger("qxt_async")

_BALANCE_TRIES: Final = 3
LONGEST_REST: Final = 1.0
_JOURNAL_REST: Final = 0.2


@attrs.define
class CampaignHealth:
    """What this process has seen of one campaign since it was last paused.

    Attributes:
        options: of the run or worker.
        failures: batches in a row of which nothing was accepted, in the order of their answers.
        pause_reason: why to pause: there were too many failures, or one that every batch would meet. It stays until
            `reset`, whatever is answered meanwhile.
        unchecked: batches begun since the balance was checked; infinite if it has to be checked now.
        balance_failures: questions for the balance in a row that failed.
        under_way: batches that are being sent.
        quiet: set when none is being sent any more.
        checking: held by the task that checks the balance.
    """

    options: CampaignOptions
    failures: int = 0
    pause_reason: str = ""
    unchecked: float = math.inf
    balance_failures: int = 0
    under_way: int = 0
    quiet: anyio.Event = attrs.field(factory=anyio.Event)
    checking: anyio.Lock = attrs.field(factory=anyio.Lock)

    def record(self, result: BatchResult) -> None:
        """Count an answer. What was not sent is planned again, and counts when it is settled."""
        if result.error is not None and result.error.concerns_every_batch:
            self.pause_reason = str(result.error)
        elif result.acceptances:
            self.failures = 0
        elif not isinstance(result.error, NotSentError):
            self.count(result.error)

    def count(self, error: QxtError | None) -> None:
        """Count a batch of which nothing was accepted."""
        self.failures += 1
        if self.failures >= self.options.max_consecutive_failures:
            were = "was" if self.failures == 1 else "were"
            self.pause_reason = f"{plural(self.failures, 'batch')} in a row {were} not accepted: {error}"

    def reset(self) -> None:
        """Forget what was counted, because the campaign is paused."""
        self.failures, self.pause_reason, self.balance_failures, self.unchecked = 0, "", 0, math.inf


class Guard:
    """Decides whether a batch may be begun, has it sent, and acts on its outcome.

    Args:
        store: the journal's campaigns.
        client: sends.
        options: see `CampaignOptions`.
        running: returns the campaigns to pause when an error would meet every batch.
        log_level: of the line about a pause. A worker has nobody else to tell.

    Attributes:
        sender: sends the batches.
        stopped: set when no further batch is to be begun.
        balance: the last balance that was asked for, ``None`` before.
    """

    def __init__(
        self,
        store: CampaignStore,
        client: QxtClient,
        options: CampaignOptions,
        running: Callable[[], Awaitable[Collection[int]]],
        log_level: int = logging.INFO,
    ) -> None:
        self._store = store
        self._client = client
        self._options = options
        self._running = running
        self._log_level = log_level
        self._healths: dict[int, CampaignHealth] = {}
        self._unreached = 0
        self._hold_until = float("-inf")
        self._hold_reason = ""
        self.sender = BatchSender(store, client.claimed_sender(), options)
        self.stopped = anyio.Event()
        self.balance: int | None = None

    # --- time ---------------------------------------------------------------------------------------------------

    def hold(self, seconds: float, reason: str) -> None:
        """Begin nothing for a while, unless a longer wait has begun already."""
        until = boottime() + seconds
        if until > self._hold_until:
            self._hold_until, self._hold_reason = until, reason

    def held(self) -> tuple[float, str]:
        """Seconds for which nothing may be begun, and why; 0 and an empty string if a batch may be begun."""
        seconds = self._hold_until - boottime()
        if seconds > 0:
            return seconds, f"{self._hold_reason}; next try in {math.ceil(seconds)} s"
        window = self._options.window
        seconds = 0.0 if window is None else window.closed_for(datetime.now(UTC))
        return seconds, f"outside of {window}" if seconds > 0 else ""

    async def rest(self, seconds: float) -> None:
        """Wait, but not longer than a second, because the clock may be set, and not after a stop."""
        with anyio.move_on_after(min(seconds, LONGEST_REST)):
            await self.stopped.wait()

    # --- before a batch -----------------------------------------------------------------------------------------

    def health(self, campaign: int) -> CampaignHealth:
        """What was seen of a campaign."""
        health = self._healths.get(campaign)
        if health is None:
            health = self._healths[campaign] = CampaignHealth(self._options)
        return health

    async def admits(self, campaign: int) -> bool:
        """Whether a batch of the campaign may be begun. If too many failed or the balance is too low, it is paused.

        Raises:
            JournalUnavailableError: the journal refuses.
        """
        health = self.health(campaign)
        if health.pause_reason:
            await self.pause(campaign, health.pause_reason)
            return False
        if self._options.check_balance and health.unchecked >= self._options.balance_every:
            async with health.checking:
                checked = health.unchecked < self._options.balance_every
                if self.stopped.is_set() or not (checked or await self._check_balance(campaign, health)):
                    return False
        health.unchecked += 1
        return True

    async def _check_balance(self, campaign: int, health: CampaignHealth) -> bool:
        every = self._options.balance_every
        try:
            shortage = await self._shortage(campaign, every + health.under_way)
            if shortage and health.under_way:
                # The balance may or may not include what is under way: that has to end first.
                health.quiet = anyio.Event()
                await health.quiet.wait()
                shortage = await self._shortage(campaign, every)
        except (NotSentError, OutcomeUnknownError, RefusedError) as error:
            if error.concerns_every_batch:
                await self._pause_all(error)
                return False
            shortage = f"the balance cannot be asked: {error}"
            health.balance_failures += 1
            self.hold(self._options.retry.backoff, shortage)
            if health.balance_failures < _BALANCE_TRIES:
                return False
        if shortage:
            await self.pause(campaign, shortage)
            return False
        health.unchecked = health.balance_failures = 0
        return True

    async def _shortage(self, campaign: int, batches: int) -> str:
        """Why the balance does not cover so many batches; empty if it does."""
        cost = await self._store.cost_ahead(campaign, batches)
        if not cost:
            return ""
        wanted = max(cost, self._options.min_balance)
        self.balance = (await self._client.balance()).sms
        return f"the balance is {self.balance}, at least {wanted} are wanted" if self.balance < wanted else ""

    # --- a batch ------------------------------------------------------------------------------------------------

    async def send(self, campaign: int) -> AttemptResult | None:
        """Send the next batch of an admitted campaign, and act on its outcome.

        Returns:
            As `BatchSender.send`.

        Raises:
            QxtError: as `BatchSender.send`.
        """
        health = self.health(campaign)
        health.under_way += 1
        try:
            attempt = await self.sender.send(
                campaign, wanted=partial(self._still_wanted, health), on_result=health.record
            )
        finally:
            health.under_way -= 1
            if not health.under_way:
                health.quiet.set()
        if attempt is None or attempt.outcome is AttemptOutcome.GIVEN_UP:
            health.unchecked -= 1
            if self.sender.unwritten:
                self.hold(_JOURNAL_REST, "the journal does not take an outcome")
        else:
            await self.act_on(campaign, attempt)
        return attempt

    def _still_wanted(self, health: CampaignHealth) -> bool:
        return not (self.stopped.is_set() or health.pause_reason or self.held()[0] > 0)

    async def act_on(self, campaign: int, attempt: AttemptResult) -> None:
        """Pause, hold back or count, as the outcome of an attempt requires."""
        if attempt.error is not None and attempt.error.concerns_every_batch:
            await self._pause_all(attempt.error)
        elif attempt.outcome is AttemptOutcome.REFUSED:
            await self.pause(campaign, str(attempt.error))
        elif attempt.outcome is AttemptOutcome.NOT_SENT:
            self._unreached += 1
            # One may be an accident. After the second the gateway cannot be reached, and trying every batch is useless.
            if self._unreached > 1 or isinstance(attempt.error, ThrottledError):
                self.hold(attempt.delay, str(attempt.error))
        else:
            self._unreached = 0
            health = self.health(campaign)
            if isinstance(attempt.error, NotSentError):  # in its last attempt
                health.count(attempt.error)
            if health.pause_reason:
                await self.pause(campaign, health.pause_reason)

    async def pause(self, campaign: int, reason: str) -> None:
        """Pause a campaign. When it is resumed, the counting begins anew."""
        if await self._store.pause(campaign, reason, actor=self._options.actor):
            logger.log(self._log_level, "campaign %d is paused: %s", campaign, reason)
        self.health(campaign).reset()

    async def _pause_all(self, error: QxtError) -> None:
        for campaign in await self._running():
            await self.pause(campaign, str(error))
