"""One batch that the journal records, of a campaign or a single send, from its claim to its recorded outcome.

The order of the steps prevents a second send: the batch is committed as *sending*, then its request begins, then its
outcome is recorded with the attempt's token, until the journal takes it. Wherever this ends, the journal is right or on
the safe side: when the lease of a *sending* batch runs out it becomes *unknown*, never *planned*.
"""

from __future__ import annotations

import enum
import logging
import random
import secrets
import time
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

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
from qxt_async.sending.claimed import ClaimedBatch
from qxt_async.sending.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from qxt_async.journal.records import Claim
    from qxt_async.models import BatchResult
    from qxt_async.sending.claimed import ClaimedSender

logger = logging.getLogger("qxt_async")

_FIRST_WAIT: Final = 0.05
_LONGEST_WAIT: Final = 5.0


class BatchStore(Protocol):
    """Where the batches are recorded: `journal.campaigns.CampaignStore` has the contract of each method."""

    async def claim(self, campaign: int, *, token: str, lease: float) -> Claim | None:
        """Take a batch: *planned* → *sending*."""
        ...

    async def settle(self, claim: Claim, result: BatchResult) -> bool:
        """Write the outcome."""
        ...

    async def release(
        self, claim: Claim, error: QxtError | None, *, delay: float = 0.0, attempts: int | None = None
    ) -> bool:
        """*sending* → *planned*: nothing was sent."""
        ...

    async def undo_claim(self, campaign: int, token: str) -> bool:
        """*sending* → *planned* after a claim that failed and may have been committed."""
        ...


@attrs.frozen(kw_only=True)
class RecordOptions:
    """How batches are recorded.

    Attributes:
        retry: how often, and after which waits, a batch is tried that provably was not sent. Then it has failed.
        lease_margin: seconds beyond the client's timeout for which an attempt is taken to be alive. A request that has
            not begun by then does not begin.
        journal_timeout: seconds for which the journal may refuse before that is an error.
    """

    retry: RetryPolicy = attrs.field(factory=lambda: RetryPolicy(10, max_backoff=60.0))
    lease_margin: float = 15.0
    journal_timeout: float = 60.0


class AttemptOutcome(enum.StrEnum):
    """How an attempt ended."""

    SETTLED = "settled"
    NOT_SENT = "not-sent"
    GIVEN_UP = "given-up"
    REFUSED = "refused"


@attrs.frozen(kw_only=True)
class AttemptResult:
    """How the attempt to send a batch ended.

    Attributes:
        outcome: *settled*: the batch has its outcome. *not sent*: provably; it is planned again. *given up*: the same,
            because it was no longer wanted or too late. *refused*: every batch would be; it is planned again.
        numbers: the numbers of the batch; none if nothing was claimed.
        error: the error of the request, ``None`` if there was none.
        delay: seconds before the batch is claimed again, for *not sent*.
    """

    outcome: AttemptOutcome
    numbers: tuple[str, ...] = attrs.field(default=(), repr=repr_count)
    error: QxtError | None = None
    delay: float = 0.0


@attrs.define
class _Attempt:
    """What is known of an attempt while it lasts.

    Attributes:
        campaign: what to claim from.
        wanted: asked right before the claim: whether the batch is still to be sent.
        on_result: called with the outcome of the request.
        token: of the claim.
        dropped: it was no longer wanted.
        claim: the batch, once it is claimed.
        result: the outcome of the request, once there is one.
    """

    campaign: int
    wanted: Callable[[], bool]
    on_result: Callable[[BatchResult], None]
    token: str = attrs.field(factory=partial(secrets.token_hex, 16))
    dropped: bool = False
    claim: Claim | None = None
    result: BatchResult | None = None

    def tell(self, result: BatchResult) -> None:
        self.result = result
        self.on_result(result)


class BatchSender:
    """Sends recorded batches, one per call; any number of calls may run at the same time.

    Args:
        store: where they are recorded.
        sender: sends them.
        options: how they are recorded.
        alive: holds the tokens of attempts that run elsewhere in this process.

    Attributes:
        alive: tokens of the attempts that run here.
        unwritten: outcomes that the journal refuses at the moment. Nothing is claimed while there are any.
        lost: an outcome could not be recorded within `RecordOptions.journal_timeout`.
    """

    def __init__(
        self, store: BatchStore, sender: ClaimedSender, options: RecordOptions, *, alive: set[str] | None = None
    ) -> None:
        self._store = store
        self._sender = sender
        self._options = options
        self._unclear: dict[str, int] = {}
        self.alive: set[str] = set() if alive is None else alive
        self.unwritten = 0
        self.lost = False

    async def send(
        self,
        campaign: int,
        *,
        wanted: Callable[[], bool] = lambda: True,
        on_result: Callable[[BatchResult], None] = lambda _: None,
    ) -> AttemptResult | None:
        """Claim the next batch, send it, and record its outcome.

        Args:
            campaign: its id.
            wanted: asked right before the claim, which may be later: whether the batch is still to be sent.
            on_result: called with the outcome of the request at once, before it is recorded.

        Returns:
            How the attempt ended; ``None`` if there was nothing to claim.

        Raises:
            JournalUnavailableError, JournalBusyError: the journal refuses. If it refused the claim, nothing was sent;
                if it refused the outcome, the batch becomes unknown when its lease runs out.

        Cancelling: an answer that was received is recorded, and what provably was not sent is planned again. If the
        journal does not take that at once, the batch becomes unknown.
        """
        attempt = _Attempt(campaign, wanted, on_result)
        self.alive.add(attempt.token)
        try:
            return await run_in_own_task(partial(self._send, attempt))
        finally:
            self.alive.discard(attempt.token)

    async def give_back_unclear(self) -> None:
        """Plan batches again whose claims failed and may have been committed: no request followed."""
        for token, campaign in tuple(self._unclear.items()):
            await self._store.undo_claim(campaign, token)
            self._unclear.pop(token, None)

    async def _send(self, attempt: _Attempt) -> AttemptResult | None:
        if self._unclear:
            await self.give_back_unclear()
        try:
            await self._sender.send(partial(self._claim, attempt), on_result=attempt.tell)
        except InvalidRequestError as error:
            if attempt.claim is None:
                raise
            # This client cannot send the batch as it is, nor any other of its kind.
            await self._insist(partial(self._store.release, attempt.claim, error))
            return AttemptResult(outcome=AttemptOutcome.REFUSED, numbers=attempt.claim.numbers, error=error)
        except anyio.get_cancelled_exc_class():
            if attempt.claim is not None:
                await self._record(attempt.claim, attempt.result, given_up=True)
            raise
        if attempt.dropped:
            return AttemptResult(outcome=AttemptOutcome.GIVEN_UP)
        if attempt.claim is None:
            return None
        late = boottime() >= attempt.claim.since + self._options.lease_margin
        return await self._record(attempt.claim, attempt.result, given_up=late)

    async def _claim(self, attempt: _Attempt) -> ClaimedBatch | None:
        attempt.dropped = bool(self.unwritten) or not attempt.wanted()
        if attempt.dropped:
            return None
        margin = self._options.lease_margin
        lease = self._sender.timeout + margin
        # A committed claim that is not known here would be a batch that nobody sends or releases.
        with anyio.CancelScope(shield=True):
            try:
                attempt.claim = await self._store.claim(attempt.campaign, token=attempt.token, lease=lease)
            except JournalUnavailableError:
                self._unclear[attempt.token] = attempt.campaign
                raise
        claim = attempt.claim
        return None if claim is None else ClaimedBatch(claim.message, claim.numbers, until=claim.since + margin)

    async def _record(self, claim: Claim, result: BatchResult | None, *, given_up: bool) -> AttemptResult:
        error = None if result is None else result.error
        delay = 0.0
        if result is None or not result.attempts or (given_up and isinstance(error, NotSentError)):
            # There was no request: it was cancelled, or too late after a stop or a long wait for a connection. The
            # batch is claimed anew, so that numbers that opt out meanwhile are left out.
            outcome, error = AttemptOutcome.GIVEN_UP, None
            write = partial(self._store.release, claim, None)
        elif isinstance(error, NotSentError):
            attempts = self._options.retry.attempts
            outcome = AttemptOutcome.NOT_SENT if claim.unsent + 1 < attempts else AttemptOutcome.SETTLED
            delay = self._options.retry.delay(claim.unsent + 1, error, random.random)
            write = partial(self._store.release, claim, error, delay=delay, attempts=attempts)
        elif isinstance(error, AccountRefusedError):
            outcome = AttemptOutcome.REFUSED
            write = partial(self._store.release, claim, error)
        else:
            outcome = AttemptOutcome.SETTLED
            write = partial(self._store.settle, claim, result)
        await self._insist(write)
        return AttemptResult(outcome=outcome, numbers=claim.numbers, error=error, delay=delay)

    async def _insist(self, write: Callable[[], Awaitable[bool]]) -> None:
        """Write until the journal takes it. Cancelling ends the wait between two tries, but not a try."""
        began = time.monotonic()
        wait = _FIRST_WAIT
        refused = False
        try:
            while True:
                last = time.monotonic() - began >= self._options.journal_timeout
                try:
                    with anyio.CancelScope(shield=True):
                        await write()
                    return
                except (JournalUnavailableError, JournalBusyError) as error:
                    if last:
                        self.lost = True
                        raise
                    logger.warning("the journal does not take an outcome, trying again: %s", error)
                self.unwritten += not refused
                refused = True
                await anyio.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)
        finally:
            self.unwritten -= refused
