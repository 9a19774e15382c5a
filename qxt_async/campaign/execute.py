"""One batch of a campaign, from its claim to its recorded outcome.

The order of things is what keeps a text from being sent twice: the batch is committed as *sending*, then its request
begins, then its outcome is written, with the attempt's token, until the journal takes it. Wherever this ends, what the
journal holds is true or on the safe side: *sending* becomes *unknown* by its lease, never *planned*.
"""

from __future__ import annotations

import enum
import logging
import random
import secrets
import time
from typing import TYPE_CHECKING, Final

import anyio
import attrs

from qxt_async.errors import (
    AccountRefusedError,
    InvalidRequestError,
    JournalBusyError,
    JournalUnavailableError,
    NotSentError,
    QxtError,
)
from qxt_async.models import repr_count
from qxt_async.runtime.clocks import boottime
from qxt_async.runtime.tasks import run_in_own_task
from qxt_async.runtime.words import plural
from qxt_async.sending.attempts import ClaimedBatch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from qxt_async.client import QxtClient
    from qxt_async.journal.campaigns import CampaignStore
    from qxt_async.journal.records import Claim
    from qxt_async.models import BatchResult
    from qxt_async.sending.retry import RetryPolicy

__all__ = ["AttemptOutcome", "AttemptResult", "BatchSender", "Failures"]

logger = logging.getLogger("qxt_async")

_FIRST_WAIT: Final = 0.05
_LONGEST_WAIT: Final = 5.0


class AttemptOutcome(enum.StrEnum):
    """What an execution came to."""

    SETTLED = "settled"
    NOT_SENT = "not-sent"
    GIVEN_UP = "given-up"
    REFUSED = "refused"


@attrs.frozen(kw_only=True)
class AttemptResult:
    """What became of a claimed batch.

    Attributes:
        fate: *settled*: it has its outcome, in `result`. *not sent*: provably; it is planned again. *given up*: the
            same, because it was not wanted any more or had got too late. *refused*: every batch would meet that; it is
            planned again.
        numbers: to whom it went or would have gone; none if nothing was claimed.
        result: the outcome; ``None`` if there was no request.
        error: what the request met, ``None`` if all is well.
        delay: seconds before the batch is claimed again, for *not sent*.
    """

    fate: AttemptOutcome
    numbers: tuple[str, ...] = attrs.field(repr=repr_count)
    result: BatchResult | None = None
    error: QxtError | None = None
    delay: float = 0.0


@attrs.define
class Failures:
    """Batches in a row of which nothing was accepted, in the order of their answers.

    Attributes:
        limit: how many are a reason to pause.
        in_a_row: how many there are; one acceptance begins anew.
        reason: why to pause: a row was full, or one met what every batch would meet. It stays until `begin_anew`,
            whatever is answered meanwhile.
    """

    limit: int
    in_a_row: int = 0
    reason: str = ""

    def record(self, result: BatchResult) -> None:
        """Count an answer; what was not sent is planned again, and counts when it is settled."""
        if result.error is not None and result.error.concerns_every_batch:
            self.reason = str(result.error)
        elif result.acceptances:
            self.in_a_row = 0
        elif not isinstance(result.error, NotSentError):
            self._count(result.error)

    def heed_settled(self, execution: AttemptResult) -> None:
        """Count what was tried for the last time and not sent then, either."""
        if isinstance(execution.error, NotSentError):
            self._count(execution.error)

    def begin_anew(self) -> None:
        """Forget what was counted: it is paused."""
        self.in_a_row, self.reason = 0, ""

    def _count(self, error: QxtError | None) -> None:
        self.in_a_row += 1
        if self.in_a_row >= self.limit:
            were = "was" if self.in_a_row == 1 else "were"
            self.reason = f"{plural(self.in_a_row, 'batch')} in a row {were} not accepted: {error}"


class BatchSender:
    """Sends batches of campaigns, one a call; any number of calls may be under way.

    Args:
        campaigns: the journal's operations.
        client: sends; its timeout, its places and its rate limit hold.
        retry: how often, and after which waits, a batch is tried that provably was not sent; then it has failed.
        margin: seconds beyond the client's timeout for which an attempt is believed to be alive. A request that has
            not begun when they are used up does not begin.
        journal_timeout: seconds for which the journal may refuse before that is an error.

    Attributes:
        unwritten: outcomes that the journal refuses to take just now; as long as there are any, nothing is claimed.
        lost: an outcome could not be written in all that time.
    """

    def __init__(
        self,
        campaigns: CampaignStore,
        client: QxtClient,
        *,
        retry: RetryPolicy,
        lease_margin: float,
        journal_timeout: float,
    ) -> None:
        self._campaigns = campaigns
        self._client = client
        self._retry = retry
        self._lease_margin = lease_margin
        self._journal_timeout = journal_timeout
        self._alive: set[str] = set()
        self._unclear: dict[str, int] = {}
        self.unwritten = 0
        self.lost = False

    @property
    def alive(self) -> frozenset[str]:
        """Tokens of the attempts under way here."""
        return frozenset(self._alive)

    async def execute(
        self,
        campaign: int,
        *,
        batch: int | None = None,
        still: Callable[[], bool] = lambda: True,
        on_result: Callable[[BatchResult], None] = lambda _: None,
    ) -> AttemptResult | None:
        """Claim the next batch, or this one, send it, and write down what became of it.

        Args:
            campaign: which.
            batch: this one and no other.
            still: asked when its turn has come, which may be later: whether it is still to be sent.
            on_result: told what the request came to, at once: writing that down can take longer than the next request.

        Returns:
            What became of it; ``None`` if there was nothing to claim.

        Raises:
            JournalUnavailableError, JournalBusyError: the journal refuses. If that was at the claim, nothing was sent;
                if it was the outcome, the batch will be unknown when its lease runs out.

        Cancelling: what the gateway answered is written down, or what was provably not sent is planned again; if the
        journal does not take it at once, the batch will be unknown.
        """
        return await run_in_own_task(lambda: self._execute(campaign, batch, still, on_result))

    async def _execute(
        self, campaign: int, batch: int | None, still: Callable[[], bool], on_result: Callable[[BatchResult], None]
    ) -> AttemptResult | None:
        await self._take_back_unclear()
        token = secrets.token_hex(16)
        claim: Claim | None = None
        told: BatchResult | None = None
        wanted = True
        until = float("inf")

        async def take() -> ClaimedBatch | None:
            nonlocal claim, wanted, until
            wanted = not self.unwritten and still()
            if not wanted:
                return None
            claim = await self._claim(campaign, batch, token)
            if claim is None:
                return None
            until = claim.since + self._lease_margin
            return ClaimedBatch(claim.message, claim.numbers, until=until)

        def tell(result: BatchResult) -> None:
            nonlocal told
            told = result
            on_result(result)

        self._alive.add(token)
        try:
            await self._client.send_recorded(take, on_result=tell)
        except InvalidRequestError as error:
            if claim is None:
                raise
            return await self._refused(claim, error)
        except anyio.get_cancelled_exc_class():
            if claim is not None:
                await self._write_down(claim, told, given_up=True)
            raise
        else:
            if not wanted:
                return AttemptResult(fate=AttemptOutcome.GIVEN_UP, numbers=())
            late = boottime() >= until
            return None if claim is None else await self._write_down(claim, told, given_up=late)
        finally:
            self._alive.discard(token)

    async def _claim(self, campaign: int, batch: int | None, token: str) -> Claim | None:
        claim: Claim | None = None
        lease = self._client.timeout + self._lease_margin
        # A claim that is committed and not known here would be a batch that nobody knows anything of.
        with anyio.CancelScope(shield=True):
            try:
                claim = await self._campaigns.claim(campaign, token=token, lease=lease, batch=batch)
            except JournalUnavailableError:
                self._unclear[token] = campaign
                raise
        return claim

    async def _take_back_unclear(self) -> None:
        """Claims whose commit is in doubt were not followed by a request: whatever they left is planned again."""
        for token, campaign in tuple(self._unclear.items()):
            await self._campaigns.disclaim(campaign, token)
            self._unclear.pop(token, None)

    async def _refused(self, claim: Claim, error: InvalidRequestError) -> AttemptResult:
        """The batch cannot be sent as it is, by this client: none of its kind can."""
        await self._insist(lambda: self._campaigns.release(claim, error))
        return AttemptResult(fate=AttemptOutcome.REFUSED, numbers=claim.numbers, error=error)

    async def _write_down(self, claim: Claim, result: BatchResult | None, *, given_up: bool) -> AttemptResult:
        error = None if result is None else result.error
        if result is None or not result.attempts or (given_up and isinstance(error, NotSentError)):
            # There was no request: cancelled, or too late, after a stop or a long wait for a connection. It is claimed
            # anew, so that who has opted out meanwhile is left out.
            await self._insist(lambda: self._campaigns.release(claim, None))
            return AttemptResult(fate=AttemptOutcome.GIVEN_UP, numbers=claim.numbers)
        if isinstance(error, NotSentError):
            delay = self._retry.delay(claim.unsent + 1, error, random.random)
            attempts = self._retry.attempts
            await self._insist(lambda: self._campaigns.release(claim, error, delay=delay, attempts=attempts))
            fate = AttemptOutcome.NOT_SENT if claim.unsent + 1 < attempts else AttemptOutcome.SETTLED
            return AttemptResult(fate=fate, numbers=claim.numbers, result=result, error=error, delay=delay)
        if isinstance(error, AccountRefusedError):
            await self._insist(lambda: self._campaigns.release(claim, error))
            return AttemptResult(fate=AttemptOutcome.REFUSED, numbers=claim.numbers, result=result, error=error)
        await self._insist(lambda: self._campaigns.settle(claim, result))
        return AttemptResult(fate=AttemptOutcome.SETTLED, numbers=claim.numbers, result=result, error=error)

    async def _insist(self, write: Callable[[], Awaitable[bool]]) -> None:
        """Write until the journal takes it. Cancelling cuts the waiting between two tries short, not a try."""
        began = time.monotonic()
        wait = _FIRST_WAIT
        if await self._try(write, last=self._journal_timeout <= 0):
            return
        self.unwritten += 1
        try:
            taken = False
            while not taken:
                await anyio.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)
                taken = await self._try(write, last=time.monotonic() - began >= self._journal_timeout)
        finally:
            self.unwritten -= 1

    async def _try(self, write: Callable[[], Awaitable[bool]], *, last: bool) -> bool:
        taken = False
        with anyio.CancelScope(shield=True):
            try:
                await write()
                taken = True
            except (JournalUnavailableError, JournalBusyError) as error:
                if last:
                    self.lost = True
                    raise
                logger.warning("the journal does not take an outcome, trying again: %s", error)
        return taken
