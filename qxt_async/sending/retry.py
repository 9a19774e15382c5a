"""What happened, and whether to try again: a pure decision.

The contract: what provably never left is tried again with jittered back-off, what may have arrived never is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qxt_async.errors import InvalidConfigurationError, NotSentError, ThrottledError
from qxt_async.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from qxt_async.errors import QxtError
    from qxt_async.protocol.answers import Answer

__all__ = ["NO_RETRIES", "RetryPolicy"]

_DOUBLINGS = 60  # beyond any waiting time, and far from where a float overflows


class RetryPolicy(Value):
    """When to try again, and how long to wait before.

    Attributes:
        attempts: requests at most for one batch, the first included.
        backoff: seconds before the second attempt; doubled for each further one; half of it is random, so that
            batches which failed together do not come back together.
        max_backoff: seconds at most between two attempts, also when the server asks for more (``Retry-After``).
        retry_failed: try the numbers of ``fail:CODE:…`` lines again. Off: the gateway has said no.
        retry_unknown_may_send_twice: try again what may have arrived. Off, and think twice: people may get the text
            twice and you may be billed twice, since the gateway knows no idempotency key (PROTOCOL 2.3).
    """

    __slots__ = ("attempts", "backoff", "max_backoff", "retry_failed", "retry_unknown_may_send_twice")
    attempts: int
    backoff: float
    max_backoff: float
    retry_failed: bool
    retry_unknown_may_send_twice: bool

    def __init__(
        self,
        attempts: int = 5,
        *,
        backoff: float = 0.5,
        max_backoff: float = 30.0,
        retry_failed: bool = False,
        retry_unknown_may_send_twice: bool = False,
    ) -> None:
        if attempts < 1:
            raise InvalidConfigurationError(f"attempts is {attempts}: the first one counts, so at least 1")
        for name, value in (("backoff", backoff), ("max_backoff", max_backoff)):
            if not value >= 0:
                raise InvalidConfigurationError(f"{name} is {value}: seconds, 0 or more")
        self._fill(attempts, backoff, max_backoff, retry_failed, retry_unknown_may_send_twice)

    def retryable_numbers(self, answer: Answer) -> frozenset[str]:
        """Which numbers of an answer may be sent again."""
        if isinstance(answer.error, NotSentError):
            return frozenset(answer.failed)
        numbers: set[str] = set()
        if self.retry_failed and answer.codes:
            numbers.update(answer.failed)
        if self.retry_unknown_may_send_twice:
            numbers.update(answer.unknown)
        return frozenset(numbers)

    def delay(self, attempt: int, error: QxtError, random: Callable[[], float]) -> float:
        """Seconds to wait after an attempt.

        Args:
            attempt: which it was, from 1.
            error: what it met.
            random: gives a float from 0 to 1.
        """
        if isinstance(error, ThrottledError) and error.retry_after is not None:
            return min(error.retry_after, self.max_backoff)
        full = min(self.backoff * 2.0 ** min(attempt - 1, _DOUBLINGS), self.max_backoff)
        return full * (0.5 + random() / 2)


NO_RETRIES = RetryPolicy(1)
"""One request, whatever happens."""
