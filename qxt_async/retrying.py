"""What happened, and whether to try again: a pure decision.

The contract: what provably never left is tried again with jittered back-off, what may have arrived never is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from .errors import InvalidConfigurationError, NotSentError, ThrottledError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .errors import QxtError
    from .wire import Answer

__all__ = ["NO_RETRIES", "RetryPolicy"]

_DOUBLINGS = 60  # beyond any waiting time, and far from where a float overflows


def _check_attempts(_: object, __: object, value: int) -> None:
    if value < 1:
        raise InvalidConfigurationError(f"attempts is {value}: the first one counts, so at least 1")


def _check_seconds(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not value >= 0:
        raise InvalidConfigurationError(f"{attribute.name} is {value}: seconds, 0 or more")


@attrs.frozen
class RetryPolicy:
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

    attempts: int = attrs.field(default=5, validator=_check_attempts)
    backoff: float = attrs.field(default=0.5, kw_only=True, validator=_check_seconds)
    max_backoff: float = attrs.field(default=30.0, kw_only=True, validator=_check_seconds)
    retry_failed: bool = attrs.field(default=False, kw_only=True)
    retry_unknown_may_send_twice: bool = attrs.field(default=False, kw_only=True)

    def again(self, answer: Answer) -> frozenset[str]:
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
