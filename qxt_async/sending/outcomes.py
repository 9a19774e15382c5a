"""What an exchange says about the numbers that it carried."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from qxt_async import errors
from qxt_async.protocol.answers import Answer, parse_send, redact, refusal_by_status
from qxt_async.transports import AnswerTooLargeError, Exchange, NeverConnectedError, TooLateError, UnaskedAnswerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qxt_async.sending.dispatcher import Dispatcher

_FROM_CACHE = "a cache has answered with what an earlier request was told; use POST"


class _Cancelled(Exception):  # noqa: N818
    """Stands for the caller's cancellation among the reasons why an exchange stopped."""


CANCELLED = _Cancelled()
"""Why an exchange stopped that the caller has cancelled."""


@attrs.define(eq=False, repr=False)
class AnswerReader:
    """Reads the answer to one request for a batch. The transport calls it, as `Exchange.on_answer`.

    Attributes:
        numbers: the numbers of the request.
        tele: the same numbers as they are sent.
        text: the text of the send, so that no error repeats it.
        dispatcher: the client's.
        answer: what the answer says; ``None`` until it is there.
    """

    numbers: Sequence[str]
    tele: bytes
    text: str
    dispatcher: Dispatcher
    answer: Answer | None = attrs.field(default=None, init=False)

    def __call__(self, exchange: Exchange) -> bool:
        """Read the whole answer. Returns whether it belongs to this request."""
        answer = read_status(exchange, self.numbers, treat_429_as_unknown=self.dispatcher.treat_429_as_unknown)
        answer = answer or parse_send(exchange.body or b"", self.numbers, self.tele, self.text)
        if exchange.method == "GET" and self.dispatcher.given_mids.note(
            exchange.form, [acceptance.mid for acceptance in answer.acceptances]
        ):
            answer = Answer(unknown=tuple(self.numbers), error=errors.UnusableAnswerError(_FROM_CACHE))
        self.answer = answer
        return answer.trusted


def read_status(
    exchange: Exchange, numbers: Sequence[str] = (), *, treat_429_as_unknown: bool = False
) -> Answer | None:
    """Read what the head of the answer says about the numbers.

    A 5xx is never a refusal, with or without ``Retry-After``: a cache or a load balancer also sends one after the
    gateway has taken the request. A 403 is none either: a filter may hold back the gateway's answer.

    Returns:
        ``None`` if the body has the answer.
    """
    head = exchange.head
    status = head.status
    everything = tuple(numbers)
    if exchange.method == "GET" and head.age and head.age.strip(" 0"):
        return Answer(unknown=everything, error=errors.UnusableAnswerError(_FROM_CACHE))
    if 200 <= status < 300:
        if head.encoding in (None, "", "identity"):
            return None
        error = errors.UnusableAnswerError("the answer is compressed, and we did not ask for that")
        return Answer(unknown=everything, error=error)
    if status == 429 and not treat_429_as_unknown:
        return Answer(failed=everything, error=errors.ThrottledError(status, _seconds(head.retry_after)))
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


def cut_off(exchange: Exchange, stopped: Exception | None, numbers: Sequence[str]) -> Answer:
    """Say what became of the numbers of an exchange that has no whole answer."""
    error = stopped_error(exchange, stopped)
    if isinstance(error, errors.NotSentError):
        return Answer(failed=tuple(numbers), error=error)
    return Answer(unknown=tuple(numbers), error=error)


def stopped_error(exchange: Exchange, stopped: Exception | None) -> errors.NotSentError | errors.OutcomeUnknownError:
    """Make the error for an exchange that has no whole answer.

    Nothing was sent if there was no connection, or if the transport never asked for the body. A GET has no body.
    """
    # HTTP libraries wrap what `Exchange.pull` raises, each in its own way.
    stopped = exchange.refused or stopped
    # The address of a GET has the digest, and the library's message may have the address.
    detail = f": {redact(str(stopped))}" if exchange.method == "POST" and str(stopped) else ""
    reason = f"{type(stopped).__name__}{detail}"
    if isinstance(stopped, NeverConnectedError):
        return errors.NotSentError(f"no connection ({stopped})")
    if isinstance(stopped, TooLateError | UnaskedAnswerError):
        return errors.NotSentError(str(stopped))
    if exchange.method == "POST" and not exchange.body_started:
        return errors.NotSentError("cancelled before" if stopped is CANCELLED else reason)
    if stopped is CANCELLED:
        return errors.OutcomeUnknownError("cancelled while under way")
    if isinstance(stopped, TimeoutError):
        return errors.DeadlineExceededError(str(stopped))
    if isinstance(stopped, AnswerTooLargeError):
        return errors.UnusableAnswerError("the answer is larger than any answer of a gateway")
    return errors.ConnectionBrokenError(reason)


def merge(earlier: Answer, later: Answer, numbers: Sequence[str]) -> Answer:
    """Join what two attempts say.

    Args:
        earlier: what is known so far about all numbers of the batch.
        later: what the next attempt says.
        numbers: the numbers of that attempt. A number that an earlier attempt may have sent is not failed because the
            later attempt failed.
    """
    asked = set(numbers)
    doubtful = asked.intersection(earlier.unknown)
    failed = tuple(number for number in earlier.failed if number not in asked)
    failed += tuple(number for number in later.failed if number not in doubtful)
    unknown = tuple(number for number in earlier.unknown if number not in asked)
    unknown += later.unknown + tuple(number for number in later.failed if number in doubtful)
    codes = earlier.codes + tuple(code for code in later.codes if code not in earlier.codes)
    error = later.error or (earlier.error if failed or unknown else None)
    if unknown and not isinstance(error, errors.OutcomeUnknownError):
        error = earlier.error
    elif not unknown and isinstance(error, errors.OutcomeUnknownError):
        error = errors.SubmitFailedError(codes, len(failed))
    return Answer(earlier.acceptances + later.acceptances, failed, unknown, codes, error)
