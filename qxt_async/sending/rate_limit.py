"""Rate limits: the generic cell rate algorithm (ITU-T I.371) on the event loop's monotonic clock."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from qxt_async.errors import InvalidConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable


def _seconds_each(name: str, rate: float | None) -> float:
    if rate is None:
        return 0.0
    if not rate > 0:
        raise InvalidConfigurationError(f"{name} is {rate}: give a number above 0, or None for no limit")
    return 1 / rate


class RateLimiter:
    """Limits the requests and the numbers per second. It serves waiting requests evenly, in the order of asking.

    An idle time saves nothing up: in any T seconds there are at most ``rate * T`` and one batch more. One place keeps
    both limits. With two limiters in a row, requests would gather behind the first, and the second would let them go
    at once.

    Args:
        max_request_rate: requests per second, ``None`` for no limit.
        max_rate: numbers per second, ``None`` for no limit.

    Attributes:
        limits: whether there is a limit.

    Raises:
        InvalidConfigurationError: a rate is not above 0.
    """

    def __init__(self, *, max_request_rate: float | None, max_rate: float | None) -> None:
        self._per_request = _seconds_each("max_request_rate", max_request_rate)
        self._per_number = _seconds_each("max_rate", max_rate)
        self.limits = bool(self._per_request or self._per_number)
        self._turn = anyio.Lock()
        self._requests_free_at = self._numbers_free_at = float("-inf")

    async def wait(self, numbers: int) -> None:
        """Wait until a request may leave.

        Args:
            numbers: how many numbers it carries; 0 if the limit of numbers does not concern it.

        Cancelling gives the turn to the next request and uses nothing up.
        """
        if not self.limits:
            return
        async with self._turn:
            await self._until_free(numbers_too=numbers > 0)
            self._spend(numbers)

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[Callable[[int], float]]:
        """Wait until a request may leave whose size is not known yet. The other requests wait until it is known.

        Yields:
            A function that takes the count of its numbers and returns when that was, on the event loop's clock; 0.0
            without limits. Without the call, nothing is used up.
        """
        if not self.limits:
            yield self._spend
            return
        async with self._turn:
            await self._until_free(numbers_too=True)
            yield self._spend

    async def _until_free(self, *, numbers_too: bool) -> None:
        now = anyio.current_time()
        free_at = max(self._requests_free_at, self._numbers_free_at if numbers_too else now)
        if free_at > now:
            await anyio.sleep_until(free_at)

    def _spend(self, numbers: int) -> float:
        if not self.limits:
            return 0.0
        now = anyio.current_time()
        self._requests_free_at = now + self._per_request
        if numbers:
            self._numbers_free_at = now + numbers * self._per_number
        return now
