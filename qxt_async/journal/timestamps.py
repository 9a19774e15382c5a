"""Moments as the journal keeps them: integer microseconds since 1970, UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

# Longer than any back-off or lease, shorter than the steps by which clocks are set wrong: an hour, a time zone.
CLOCK_LEEWAY: Final = 600_000_000

# How much earlier than its attempt a report may seem to have come: clocks are set an hour back (FAULTS 28), and another
# machine's clock may be an hour off. A mid that is used again comes later than that.
CLOCK_STEP: Final = 7_200_000_000

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def micros(at: datetime) -> int:
    """A moment as the journal keeps it: microseconds since 1970, UTC."""
    return (at - _EPOCH) // _MICROSECOND


def moment(at: int) -> datetime:
    """The moment that `micros` wrote down."""
    return _EPOCH + timedelta(microseconds=at)
