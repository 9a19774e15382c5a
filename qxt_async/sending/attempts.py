"""One batch: its attempts, each witnessed, until its outcome is settled."""

from __future__ import annotations

import hashlib
import logging
import random
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, ClassVar

import anyio

from qxt_async import errors
from qxt_async.models import BatchResult, SentBatch, repr_count
from qxt_async.protocol.answers import Answer, parse_send, redact, refusal_by_status
from qxt_async.protocol.requests import join
from qxt_async.runtime.tasks import current_loop
from qxt_async.transports import AnswerTooLargeError, Exchange, NeverConnectedError, TooLateError, UnaskedAnswerError
from qxt_async.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qxt_async.models import Message
    from qxt_async.protocol.numbers import NumberFilter
    from qxt_async.protocol.requests import FormTemplate, Method
    from qxt_async.runtime.secret import Secret
    from qxt_async.sending.rate_limit import RateLimiter
    from qxt_async.sending.retry import RetryPolicy
    from qxt_async.transports import Transport

__all__ = ["BatchSend", "ClaimedBatch", "Dispatcher", "read_status", "stopped_error"]

logger = logging.getLogger("qxt_async")

_FROM_CACHE = "a cache has answered with what an earlier request was told; use POST"
# Seconds that a recorded batch waits for a place, and for its turn if that is stale: who opts out after it was recorded
# is not heeded any more, so it does not wait longer, but is recorded anew.
_PATIENCE = 1.0
# Seconds after which a turn of the rate limit is stale: batches that waited for the same place must not leave at once.
_STALE = 0.1
_GIVEN_MIDS = 10_000  # at 100 requests a second, those of the last 100 seconds; 2 MB


class ClaimedBatch(Value):
    """What `QxtClient.send_recorded` sends.

    Attributes:
        message: text, extension number, ``addseqno``.
        numbers: normalised, at most 1000.
        until: when the request has to have begun, on `clocks.boottime`: afterwards it is not sent.
    """

    __slots__ = ("message", "numbers", "until")
    _shown: ClassVar[dict[str, Any]] = {"numbers": repr_count}
    message: Message
    numbers: Sequence[str]
    until: float

    def __init__(self, message: Message, numbers: Sequence[str], *, until: float) -> None:
        self._fill(message, numbers, until)


class _GivenMids:
    """Which mids the answers to GETs have last given to which address: a cache gives the same one again.

    They are kept as digests, since the address of a GET has the text and the credential in it.
    """

    __slots__ = ("_digests",)

    def __init__(self) -> None:
        self._digests: OrderedDict[bytes, None] = OrderedDict()

    def note(self, form: Secret[bytes], mids: Sequence[str]) -> bool:
        """Note that a form got these mids; whether it had got one of them before."""
        known = False
        for mid in mids:
            digest = hashlib.blake2b(b"%b\n%b" % (form.reveal(), mid.encode()), digest_size=16).digest()
            known = known or digest in self._digests
            self._digests[digest] = None
            self._digests.move_to_end(digest)
            if len(self._digests) > _GIVEN_MIDS:
                self._digests.popitem(last=False)
        return known


class Dispatcher:
    """The way to the gateway that all requests of one client share.

    Attributes:
        transport: the HTTP library behind its seam.
        base_url: the gateway's address, without a slash at the end.
        slots: as many as requests may be in flight; the pool is as large, so that nothing waits in it.
        pace: the rate limits.
        treat_429_as_unknown: whether HTTP 429 leaves open if the gateway has taken the request.
        given: the mids that GETs were given.
        closed: the client is closed: what waits for its turn does not go out any more.
    """

    __slots__ = (
        "_loop",
        "base_url",
        "closed",
        "given",
        "keeps_deadline",
        "rate_limiter",
        "slots",
        "transport",
        "treat_429_as_unknown",
    )

    def __init__(
        self,
        transport: Transport,
        base_url: str,
        slots: anyio.Semaphore,
        rate_limiter: RateLimiter,
        *,
        treat_429_as_unknown: bool = False,
    ) -> None:
        self.transport = transport
        self.base_url = base_url
        self.slots = slots
        self.rate_limiter = rate_limiter
        self.treat_429_as_unknown = treat_429_as_unknown
        self.given = _GivenMids()
        self.closed = False
        self.keeps_deadline: bool = getattr(transport, "keeps_deadline", False)
        self._loop: object = None

    def bind(self) -> None:
        """Belong to the running event loop, from the first call on.

        Raises:
            ClientStateError: it belongs to another one.
        """
        loop = current_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise errors.ClientStateError(
                "this client was used in another event loop, which its connections belong to: nothing was sent. Make "
                "and close a client inside each asyncio.run(), or keep one event loop for all calls"
            )

    async def exchange(self, exchange: Exchange) -> Exception | None:
        """Run one exchange under its total deadline.

        Returns:
            What stopped it: ``None`` if the answer is there, `TimeoutError` at the deadline, else the transport's
            error. `exchange` tells how far it came.
        """
        if self.closed:
            return NeverConnectedError("the client was closed")
        try:
            if self.keeps_deadline:
                await self.transport.exchange(exchange)
                return None
            with anyio.move_on_after(exchange.timeout):
                await self.transport.exchange(exchange)
                return None
        except errors.QxtError:
            raise
        except TimeoutError as error:
            if str(error):  # not the deadline but the system, of a socket
                return error
        # Whatever a transport raises is an outcome of this request, and must not take others with it.
        except Exception as error:  # noqa: BLE001
            return error
        return TimeoutError(f"no answer in {exchange.timeout:g} s")


class _Cancelled(Exception):  # noqa: N818
    """Stands for the caller's cancellation where an exchange's end is told."""


_CANCELLED = _Cancelled()


class BatchSend:
    """One batch of one text, on its way.

    At every moment the state is what would be true if it all ended there, so a cancellation needs no repair.

    Attributes:
        index: which batch of the send.
        numbers: normalised, at most 1000.
        form: the prepared request.
        method, timeout, retry: how to send it.
        on_result: told the outcome the moment it is settled, also when the send is being cancelled.
        intake: the gate that the numbers have passed, if its counts belong into the result.
        until: when the body has to have begun to leave, on `clocks.boottime`; later it stays here. A batch that has one
            is recorded, and has had its turn in the rate limits before that.
        turn: when it had that turn, on the event loop's clock.
    """

    def __init__(
        self,
        index: int,
        numbers: Sequence[str],
        form: FormTemplate,
        method: Method,
        timeout: float,
        retry: RetryPolicy,
        on_result: Callable[[BatchResult], None] | None = None,
        *,
        number_filter: NumberFilter | None = None,
        until: float | None = None,
        turn: float = 0.0,
    ) -> None:
        self.index = index
        self.numbers = numbers
        self.form = form
        self.method: Method = method
        self.timeout = timeout
        self.retry = retry
        self.on_result = on_result
        self.number_filter = number_filter
        self.until = until
        self.turn = turn
        self._state: Answer | None = None
        self._attempts = 0
        self._began = time.perf_counter()

    async def execute(self, dispatcher: Dispatcher) -> BatchResult:
        """Send the batch.

        Returns:
            What became of it: whatever the gateway or the network did is a value, not an exception.

        Raises:
            RequestTooLargeError: a GET with too many numbers; nothing was sent.

        Cancelling: the outcome as witnessed goes to `on_result` (accepted or failed if the answer was there, unknown
        if the body had begun to leave, else failed as not sent), then the cancellation goes on.
        """
        pending: Sequence[str] = self.numbers
        try:
            while True:
                answer = await self._attempt(dispatcher, pending)
                if (
                    answer.error is None
                    or not self._attempts
                    or self._attempts >= self.retry.attempts
                    or dispatcher.closed
                ):
                    break
                retryable_numbers = self.retry.retryable_numbers(answer)
                pending = [number for number in pending if number in retryable_numbers]
                if not pending:
                    break
                delay = self.retry.delay(self._attempts, answer.error, random.random)
                logger.debug("batch %d: next attempt in %.2f s", self.index, delay)
                await anyio.sleep(delay)
                if not self.retry.retryable_numbers(answer):  # no more: it was told to stop meanwhile
                    break
        finally:
            result = self._report()
        return result

    async def _attempt(self, dispatcher: Dispatcher, numbers: Sequence[str]) -> Answer:
        """One request for these numbers; the state knows of it when this returns or raises."""
        tele = join(numbers)
        request = self.form.request(tele, method=self.method, base_url=dispatcher.base_url)
        answer: Answer | None = None

        def on_answer(exchange: Exchange) -> bool:
            nonlocal answer
            answer = read_status(exchange, numbers, treat_429_as_unknown=dispatcher.treat_429_as_unknown)
            answer = answer or parse_send(exchange.body or b"", numbers, tele, self.form.text)
            if request.method == "GET" and dispatcher.given.note(
                request.form, [taken.mid for taken in answer.acceptances]
            ):
                answer = Answer(unknown=tuple(numbers), error=errors.UnusableAnswerError(_FROM_CACHE))
            return answer.trusted

        exchange = Exchange(request, dispatcher.base_url, on_answer, until=self.until, timeout=self.timeout)
        if not await self._may_leave(dispatcher, len(numbers)):
            known = Answer(failed=tuple(numbers), error=errors.NotSentError("it waited too long for a connection"))
            self._merge(numbers, known)
            return known
        try:
            if not self._attempts:
                self._began = time.perf_counter()
            self._attempts += 1
            stopped: Exception | None = _CANCELLED
            try:
                stopped = await dispatcher.exchange(exchange)
            finally:
                known = answer or _cut_off(exchange, stopped, numbers)
                self._merge(numbers, known)
        finally:
            dispatcher.slots.release()
        if known.error is not None:
            logger.debug("batch %d: attempt %d: %s", self.index, self._attempts, known.error)
        return known

    async def _may_leave(self, dispatcher: Dispatcher, count: int) -> bool:
        """Wait for a place and for the rate limit; whether there is a place now, which is the caller's to release."""
        ready = False
        with anyio.CancelScope() as scope:
            if self.until is not None:
                scope.deadline = anyio.current_time() + _PATIENCE
            await dispatcher.slots.acquire()
            try:
                if self.until is None or anyio.current_time() - self.turn > _STALE:
                    await dispatcher.rate_limiter.wait(count)
                ready = True
            finally:
                if not ready:
                    dispatcher.slots.release()
        return ready

    def _merge(self, numbers: Sequence[str], answer: Answer) -> None:
        """Replace what was known of these numbers by what an attempt brought."""
        state = self._state
        if state is None:
            self._state = answer
            return
        asked = set(numbers)
        # What an earlier attempt may have sent is not failed because a later one is.
        doubtful = asked.intersection(state.unknown)
        failed = tuple(n for n in state.failed if n not in asked)
        failed += tuple(n for n in answer.failed if n not in doubtful)
        unknown = tuple(n for n in state.unknown if n not in asked)
        unknown += answer.unknown + tuple(n for n in answer.failed if n in doubtful)
        codes = state.codes + tuple(code for code in answer.codes if code not in state.codes)
        error = answer.error or (state.error if failed or unknown else None)
        if unknown and not isinstance(error, errors.OutcomeUnknownError):
            error = state.error
        elif not unknown and isinstance(error, errors.OutcomeUnknownError):
            error = errors.SubmitFailedError(codes, len(failed))
        self._state = Answer(state.acceptances + answer.acceptances, failed, unknown, codes, error)

    def _report(self) -> BatchResult:
        numbers = tuple(self.numbers)
        state = self._state or Answer(failed=numbers, error=errors.NotSentError("the send was stopped before"))
        result = (SentBatch if state.acceptances else BatchResult)(
            self.index,
            numbers,
            acceptances=state.acceptances,
            failed=state.failed,
            unknown=state.unknown,
            error=state.error,
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
                len(result.numbers),
                result.outcome,
                result.mid,
                result.elapsed * 1000,
            )
        if self.on_result is not None:
            self.on_result(result)
        return result


def read_status(
    exchange: Exchange, numbers: Sequence[str] = (), *, treat_429_as_unknown: bool = False
) -> Answer | None:
    """What the answer's head says about the numbers, ``None`` if its body is to be read.

    No 5xx is a refusal, with or without ``Retry-After``: a cache or a balancer sends one also after the gateway has
    taken the request. No 403 is, either: a filter may hold back the gateway's answer.
    """
    status = exchange.status
    everything = tuple(numbers)
    if exchange.aged and exchange.request.method == "GET":
        return Answer(unknown=everything, error=errors.UnusableAnswerError(_FROM_CACHE))
    if 200 <= status < 300 and not exchange.encoded:
        return None
    if 200 <= status < 300:
        return Answer(unknown=everything, error=errors.UnusableAnswerError("the answer is compressed, unasked"))
    if status == 429 and not treat_429_as_unknown:
        return Answer(failed=everything, error=errors.ThrottledError(status, _seconds(exchange.retry_after)))
    if (refused := refusal_by_status(status)) is not None:
        return Answer(failed=everything, error=refused)
    return Answer(unknown=everything, error=errors.UnexpectedStatusError(status))


def _seconds(retry_after: str | None) -> float | None:
    """Read ``Retry-After``: seconds or a date (RFC 9110, 10.2.3)."""
    if retry_after is None:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    import email.utils
    from datetime import UTC, datetime

    try:
        date = email.utils.parsedate_to_datetime(retry_after)
        return max(0.0, (date.astimezone(UTC) - datetime.now(UTC)).total_seconds())
    except (ValueError, OverflowError):
        return None


def _cut_off(exchange: Exchange, stopped: Exception | None, numbers: Sequence[str]) -> Answer:
    error = stopped_error(exchange, stopped)
    if isinstance(error, errors.NotSentError):
        return Answer(failed=tuple(numbers), error=error)
    return Answer(unknown=tuple(numbers), error=error)


def stopped_error(exchange: Exchange, stopped: Exception | None) -> errors.NotSentError | errors.OutcomeUnknownError:
    """The error for an exchange without a whole answer.

    Nothing was sent if no connection stood, or if the body was never pulled. A GET has no body to witness.
    """
    # Libraries wrap what the witness raises, each in its own way.
    stopped = exchange.refused or stopped
    # A GET's address holds the digest, and the library's message may hold the address.
    detail = f": {redact(str(stopped))}" if exchange.request.method == "POST" and str(stopped) else ""
    reason = f"{type(stopped).__name__}{detail}"
    if isinstance(stopped, NeverConnectedError):
        return errors.NotSentError(f"no connection ({stopped})")
    if isinstance(stopped, TooLateError | UnaskedAnswerError):
        return errors.NotSentError(str(stopped))
    if exchange.request.method == "POST" and not exchange.body_started:
        return errors.NotSentError("cancelled before" if isinstance(stopped, _Cancelled) else reason)
    if isinstance(stopped, _Cancelled):
        return errors.OutcomeUnknownError("cancelled while under way")
    if isinstance(stopped, TimeoutError):
        return errors.DeadlineExceededError(str(stopped))
    if isinstance(stopped, AnswerTooLargeError):
        return errors.UnusableAnswerError("the answer is larger than any answer of a gateway")
    return errors.ConnectionBrokenError(reason)
