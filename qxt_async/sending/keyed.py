"""Single sends that the journal records, so that a text is sent once, however often it is asked for."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, cast

import anyio
import attrs

from qxt_async.errors import (
    JournalError,
    JournalUnavailableError,
    NotSentError,
    NoValidNumberError,
    SendInProgressError,
)
from qxt_async.journal.records import BatchState
from qxt_async.journal.sends import SENDS, FoundSend, SendRequest, digest_of
from qxt_async.protocol.numbers import canonical
from qxt_async.sending.recorded import AttemptOutcome, BatchSender, RecordOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from qxt_async.errors import QxtError
    from qxt_async.journal.records import Claim
    from qxt_async.journal.sends import NumberLimit, SendStore
    from qxt_async.models import BatchResult, Message
    from qxt_async.sending.claimed import ClaimedSender
    from qxt_async.sending.retry import RetryPolicy

_SHORTEST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 0.5


@attrs.define
class _Call:
    """One call of `send`, as a `BatchStore`.

    Attributes:
        store: the journal's single sends.
        request: what to send.
        found: the send that has the key, if this call is not to send.
        batch: of the last claim, if there is no key.
        unsent: attempts of this call that provably sent nothing.
        result: of the last attempt, or what is recorded.
        requests: how many were made.
    """

    store: SendStore
    request: SendRequest
    found: FoundSend | None = None
    batch: int | None = None
    unsent: int = 0
    result: BatchResult | None = None
    requests: int = 0

    async def claim(self, campaign: int, *, token: str, lease: float) -> Claim | None:  # noqa: ARG002
        claimed = await self.store.claim(self.request, token=token, lease=lease, batch=self.batch)
        if isinstance(claimed, FoundSend):
            self.found = claimed
            return None
        if self.request.key is None:
            self.batch = claimed.batch
        return claimed if not self.unsent else attrs.evolve(claimed, unsent=self.unsent)

    async def settle(self, claim: Claim, result: BatchResult) -> bool:
        return await self.store.settle(claim, result)

    async def release(
        self,
        claim: Claim,
        error: QxtError | None,
        *,
        delay: float = 0.0,  # noqa: ARG002  (any call with the key may send it at once)
        attempts: int | None = None,
    ) -> bool:
        written = await self.store.release(claim, error)
        self.unsent = claim.unsent + (attempts is not None)
        return written

    async def undo_claim(self, campaign: int, token: str) -> bool:  # noqa: ARG002
        return await self.store.undo_claim(token)

    def note(self, result: BatchResult) -> None:
        self.requests += result.attempts
        self.result = result if result.attempts == self.requests else attrs.evolve(result, attempts=self.requests)


def make_request(
    key: str | None,
    message: Message,
    given: Sequence[str],
    suppressed: Container[str],
    *,
    ttl: float,
    limits: Sequence[NumberLimit],
) -> SendRequest:
    """What is to be sent once. The suppressed numbers belong to what the key means, and are not sent to.

    Raises:
        InvalidRequestError: the key is no text of 1 to 200 printable characters.
        NoValidNumberError: all numbers are suppressed.
    """
    numbers = tuple(number for number in given if canonical(number) not in suppressed)
    if not numbers:
        raise NoValidNumberError(f"none of {len(given)} numbers can be sent to: all are suppressed")
    digest = digest_of(message, given)
    return SendRequest(key=key, message=message, numbers=numbers, digest=digest, ttl=ttl, limits=limits)


async def send_recorded(
    store: SendStore,
    sender: ClaimedSender,
    request: SendRequest,
    *,
    retry: RetryPolicy,
    on_result: Callable[[BatchResult], None] | None,
) -> BatchResult:
    """Send what was not sent yet, or return what is recorded.

    Args:
        store: the journal's single sends.
        sender: sends. If another call is sending this, its timeout is the longest wait for that.
        request: what to send.
        retry: when to try again what provably was not sent.
        on_result: called with the outcome, also when this call is being cancelled.

    Raises:
        IdempotencyKeyReusedError: the key means another payload; nothing was sent.
        NumberLimitedError: a phone has got enough texts; nothing was sent.
        SendInProgressError: another call is still sending it.
        JournalError: the journal refuses. Unless an answer could not be recorded, nothing was sent.
    """
    call = _Call(store, request)
    options = RecordOptions(retry=retry, lease_margin=store.lease_margin)
    batch_sender = BatchSender(call, sender, options, alive=store.alive)
    try:
        return await _send(call, batch_sender, sender.timeout)
    except JournalUnavailableError:
        # A claim that was committed all the same would be unknown when its lease has run out.
        with contextlib.suppress(JournalError):
            await batch_sender.give_back_unclear()
        raise
    finally:
        if on_result is not None and call.result is not None:
            on_result(call.result)


async def _send(call: _Call, batch_sender: BatchSender, timeout: float) -> BatchResult:
    until = anyio.current_time() + timeout
    pause = _SHORTEST_PAUSE
    while True:
        attempt = await batch_sender.send(SENDS, on_result=call.note)
        left = until - anyio.current_time()
        if attempt is None and call.found is not None:
            if call.found.state is not BatchState.SENDING:
                call.result = await _recorded(call.store, call.found)
                return call.result
            if left <= 0:
                raise SendInProgressError(str(call.request.key))
            await anyio.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE)
        elif attempt is None or attempt.outcome is AttemptOutcome.GIVEN_UP:
            # It waited too long for a connection after the claim.
            if left <= 0:
                raise NotSentError("it waited too long for a connection")
        elif attempt.outcome is AttemptOutcome.NOT_SENT:
            await anyio.sleep(attempt.delay)
        else:
            return cast("BatchResult", call.result)  # never None after an attempt with an outcome


async def _recorded(store: SendStore, found: FoundSend) -> BatchResult:
    """The recorded outcome; what is unknown is looked for in the status reports first."""
    record = await store.find(found.batch)
    if record.result.unknown:
        await store.reconcile()
        record = await store.find(found.batch)
    return record.result
