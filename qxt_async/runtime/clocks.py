"""The clock by which a process knows that its time is up."""

from __future__ import annotations

import time
from typing import Final

__all__ = ["boottime"]

# Linux stops `time.monotonic` while the machine sleeps, which is when others take over; this one goes on.
_GOES_ON: Final = getattr(time, "CLOCK_BOOTTIME", None)


def boottime() -> float:
    """Seconds on a clock that nobody can set and that goes on while the machine sleeps."""
    return time.monotonic() if _GOES_ON is None else time.clock_gettime(_GOES_ON)
