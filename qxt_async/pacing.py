"""Rate limits: the generic cell rate algorithm (ITU-T I.371) on the event loop's monotonic clock."""

from __future__ import annotations

import anyio

from .errors import InvalidConfigurationError

__all__ = ["Pace"]


class Pace:
    """Lets at most so many units through a second, evenly, in the order of asking.

    Nothing is saved up while idle, so any window of T seconds sees at most ``rate * T`` units and one batch more.

    Args:
        rate: units a second, ``None`` for no limit.
        name: the option that set it, for the error.

    Raises:
        InvalidConfigurationError: the rate is not above 0.
    """

    def __init__(self, rate: float | None, *, name: str) -> None:
        if rate is not None and not rate > 0:
            raise InvalidConfigurationError(f"{name} is {rate}: a second's worth above 0, or None for no limit")
        self._interval = None if rate is None else 1 / rate
        self._turn = anyio.Lock()
        self._free_at = float("-inf")

    async def wait(self, units: int) -> None:
        """Wait until so many units may pass. Cancelling gives the turn to the next and uses nothing up."""
        if self._interval is None:
            return
        async with self._turn:
            now = anyio.current_time()
            if self._free_at > now:
                await anyio.sleep(self._free_at - now)
            self._free_at = max(anyio.current_time(), self._free_at) + units * self._interval
