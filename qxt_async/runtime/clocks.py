"""A clock for deadlines."""

from __future__ import annotations

import time
from typing import Final

# On Linux, `time.monotonic` stops while the machine sleeps. Other processes do not sleep, and take over expired work.
BOOTTIME: Final = getattr(time, "CLOCK_BOOTTIME", None)


def boottime() -> float:
    """Seconds on a clock that cannot be set, and that continues while the machine sleeps."""
    return time.monotonic() if BOOTTIME is None else time.clock_gettime(BOOTTIME)
