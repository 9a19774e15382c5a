"""One batch: its attempts, until its outcome is known."""

from __future__ import annotations

import logging
import random
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

import anyio
import attrs

from qxt_async.errors import NotSentError
from qxt_async.models import BatchResult, SentBatch
from qxt_async.protocol.answers import Answer
from qxt_async.protocol.requests import join
from qxt_async.sending.outcomes import CANCELLED, AnswerReader, cut_off, merge
from qxt_async.transports import Exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qxt_async.protocol.numbers import NumberFilter
    from qxt_async.protocol.requests import FormTemplate, Method
    from qxt_async.sending.dispatcher import Dispatcher
    from qxt_async.sending.retry import RetryPolicy

logger = logging.getLogger("qxt_async")

# Seconds that a claimed batch waits for a connection, and for the rate limit if its turn is stale. A person who opts
# out after the claim would still get the text, so after that time the batch is released and claimed again.
MAX_WAIT = 1.0
# Seconds after which a turn of the rate limit is stale: batches that waited for the same slot must not leave at once.
_STALE = 0.1


@attrs.define(eq=False, repr=False)
class SendOptions:
    """How to send the batches of one call."""

    form: FormTemplate
    method: Method
    timeout: float
    retry: RetryPolicy


@attrs.define(eq=False, repr=False)
class BatchSend:
    """One batch of one text, while it is being sent.

    At each moment its state is what is true if everything ends there, so a cancellation needs no repair.

    Attributes:
        index: the number of the batch in its send.
        numbers: normalised, at most 1000.
        options: how to send it.
        on_result: called with the outcome as soon as it is known, also when the send is being cancelled.
        number_filter: the filter of the numbers, if its counts belong in the result.
        until: the latest moment to begin to send the body, on `clocks.boottime`. Only a claimed batch has one; it had
            its turn in the rate limits before it was claimed.
        turn: when it had that turn, on the event loop's clock.
    """

    index: int
    numbers: Sequence[str]
    options: SendOptions
    on_result: Callable[[BatchResult], None] | None = None
    number_filter: NumberFilter | None = attrs.field(default=None, kw_only=True)
    until: float | None = attrs.field(default=None, kw_only=True)
    turn: float = attrs.field(default=0.0, kw_only=True)
    _known: Answer | None = attrs.field(default=None, init=False)
    _attempts: int = attrs.field(default=0, init=False)
    _began: float = attrs.field(default=0.0, init=False)

    async def execute(self, dispatcher: Dispatcher) -> BatchResult:
        """Send the batch.

        Returns:
            The outcome. What the gateway or the network does is in it, and is not raised.

        Raises:
            RequestTooLargeError: a GET with too many numbers; nothing was sent.

        Cancelling: `on_result` gets the outcome: accepted or failed if the answer was there; unknown if the body had
        begun to leave; otherwise failed as not sent. Then the cancellation goes on.
        """
        self._began = time.perf_counter()
        retry = self.options.retry
        pending: Sequence[str] = self.numbers
        try:
            while True:
                answer = await self._attempt(dispatcher, pending)
                if answer.error is None or not 0 < self._attempts < retry.attempts or dispatcher.closed:
                    break
                retryable = retry.retryable_numbers(answer)
                pending = [number for number in pending if number in retryable]
                if not pending:
                    break
                delay = retry.delay(self._attempts, answer.error, random.random)
                logger.debug("batch %d: next attempt in %.2f s", self.index, delay)
                await anyio.sleep(delay)
                if not retry.retryable_numbers(answer):  # a policy may have been told to stop meanwhile
                    break
        finally:
            result = self._report()
        return result

    async def _attempt(self, dispatcher: Dispatcher, numbers: Sequence[str]) -> Answer:
        """Make one request for these numbers. `_known` is up to date when this returns or raises."""
        options, tele = self.options, join(numbers)
        if options.method == "GET":
            options.form.check_url(dispatcher.base_url, tele)
        reader = AnswerReader(numbers, tele, options.form.text, dispatcher)
        exchange = Exchange(
            options.method,
            f"{dispatcher.base_url}/{options.form.endpoint}",
            options.form.fill(tele),
            reader,
            timeout=options.timeout,
            until=self.until,
        )
        if not await self._wait_for_turn(dispatcher, len(numbers)):
            self._known = Answer(failed=tuple(numbers), error=NotSentError("it waited too long for a connection"))
            return self._known
        try:
            if not self._attempts:
                self._began = time.perf_counter()
            self._attempts += 1
            stopped: Exception | None = CANCELLED
            try:
                stopped = await dispatcher.exchange(exchange)
            finally:
                answer = reader.answer or cut_off(exchange, stopped, numbers)
                self._known = answer if self._known is None else merge(self._known, answer, numbers)
        finally:
            dispatcher.slots.release()
        if answer.error is not None:
            logger.debug("batch %d: attempt %d: %s", self.index, self._attempts, answer.error)
        return answer

    async def _wait_for_turn(self, dispatcher: Dispatcher, count: int) -> bool:
        """Wait for a slot and for the rate limit.

        Returns:
            Whether there is a slot now, which the caller releases.
        """
        limiter = dispatcher.rate_limiter
        at_once = dispatcher.slots.value > 0 and not limiter.limits
        ready = False
        with nullcontext() if self.until is None or at_once else anyio.move_on_after(MAX_WAIT):
            await dispatcher.slots.acquire()
            try:
                if limiter.limits and (self.until is None or anyio.current_time() - self.turn > _STALE):
                    await limiter.wait(count)
                ready = True
            finally:
                if not ready:
                    dispatcher.slots.release()
        return ready

    def _report(self) -> BatchResult:
        numbers = tuple(self.numbers)
        known = self._known or Answer(failed=numbers, error=NotSentError("the send was stopped before"))
        result = (SentBatch if known.acceptances else BatchResult)(
            self.index,
            numbers,
            acceptances=known.acceptances,
            failed=known.failed,
            unknown=known.unknown,
            error=known.error,
            attempts=self._attempts,
            elapsed=time.perf_counter() - self._began,
            invalid=() if self.number_filter is None else tuple(self.number_filter.invalid),
            duplicates=0 if self.number_filter is None else self.number_filter.duplicates,
            suppressed=0 if self.number_filter is None else self.number_filter.suppressed_count,
        )
        if logger.isEnabledFor(logging.INFO):
            logger.info(
                "batch %d: %d numbers, %s, mid %s, %.0f ms",
                result.index,
                len(numbers),
                result.outcome,
                result.mid,
                result.elapsed * 1000,
            )
        if self.on_result is not None:
            self.on_result(result)
        return result
