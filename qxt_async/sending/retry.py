"""When to try again: numbers that were certainly not sent, with back-off; never numbers that may have been sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from qxt_async.errors import InvalidConfigurationError, NotSentError, ThrottledError

if TYPE_CHECKING:
    from collections.abc import Callable

    from qxt_async.errors import QxtError
    from qxt_async.protocol.answers import Answer

_DOUBLINGS = 60  # longer than any wait, and no float overflows


@attrs.frozen
class RetryPolicy:
    """When to try again, and how long to wait before.

    Attributes:
        attempts: the largest number of requests for one batch, the first one included.
        backoff: seconds before the second attempt; each further wait is twice as long. Half of each wait is random, so
            that batches that failed together do not come back together.
        max_backoff: the longest wait in seconds, also when the server asks for a longer one (``Retry-After``).
        retry_failed: try the numbers of ``fail:CODE:…`` lines again. By default they have failed: the gateway refused.
        retry_unknown_may_send_twice: try numbers again that may have been sent. Off by default. With it, people may get
            the text twice, and you may pay twice: the gateway knows no idempotency key (PROTOCOL 2.3).

    Raises:
        InvalidConfigurationError: `attempts` is less than 1, or a time is negative.
    """

    attempts: int = 5
    backoff: float = attrs.field(default=0.5, kw_only=True)
    max_backoff: float = attrs.field(default=30.0, kw_only=True)
    retry_failed: bool = attrs.field(default=False, kw_only=True)
    retry_unknown_may_send_twice: bool = attrs.field(default=False, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.attempts < 1:
            raise InvalidConfigurationError(f"attempts is {self.attempts}: the first one counts, so give at least 1")
        for name, value in (("backoff", self.backoff), ("max_backoff", self.max_backoff)):
            if not value >= 0:
                raise InvalidConfigurationError(f"{name} is {value}: give seconds, 0 or more")

    def retryable_numbers(self, answer: Answer) -> frozenset[str]:
        """Return the numbers of an answer that may be sent again."""
        if isinstance(answer.error, NotSentError):
            return frozenset(answer.failed)
        numbers: set[str] = set()
        if self.retry_failed and answer.codes:
            numbers.update(answer.failed)
        if self.retry_unknown_may_send_twice:
            numbers.update(answer.unknown)
        return frozenset(numbers)

    def delay(self, attempt: int, error: QxtError, random: Callable[[], float]) -> float:
        """Return the seconds to wait after an attempt.

        Args:
            attempt: the number of the attempt, from 1.
            error: the attempt's error.
            random: returns a float from 0 to 1.
        """
        if isinstance(error, ThrottledError) and error.retry_after is not None:
            return min(error.retry_after, self.max_backoff)
        full = min(self.backoff * 2.0 ** min(attempt - 1, _DOUBLINGS), self.max_backoff)
        return full * (0.5 + random() / 2)


NO_RETRIES = RetryPolicy(1)
"""One request only."""
