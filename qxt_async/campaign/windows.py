"""When a campaign may be sent: hours of the day in a time zone."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime, time, timedelta
from typing import Self

import attrs

from qxt_async.errors import InvalidConfigurationError


def find_zone(name: str) -> zoneinfo.ZoneInfo:
    """Find a time zone.

    Raises:
        InvalidConfigurationError: there is none of that name.
    """
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidConfigurationError(
            f"there is no time zone {name!r} here: give it like Asia/Shanghai, or install the package tzdata"
        ) from None


@attrs.frozen
class SendWindow:
    """Hours of the day in which batches may be begun, such as 08:00 to 21:00 in Shanghai.

    Attributes:
        opens: the first time.
        closes: the end; if it is not after `opens`, it is on the next day.
        zone: the time zone.
    """

    opens: time
    closes: time
    zone: zoneinfo.ZoneInfo

    @classmethod
    def parse(cls, hours: str, zone: str = "Asia/Shanghai") -> Self:
        """Read ``08:00-21:00`` and the name of a time zone.

        Raises:
            InvalidConfigurationError: either cannot be understood.
        """
        try:
            opens, closes = (time.fromisoformat(part.strip()) for part in hours.replace("–", "-").split("-"))
            if opens.tzinfo or closes.tzinfo:
                raise ValueError("the zone stands apart")
        except ValueError:
            raise InvalidConfigurationError(f"the send window is {hours!r}: give it like 08:00-21:00") from None
        return cls(opens, closes, find_zone(zone))

    def closed_for(self, now: datetime) -> float:
        """Seconds until the window opens, 0 while it is open.

        Args:
            now: an aware time.
        """
        local = now.astimezone(self.zone)
        at = local.time()
        over_midnight = self.opens >= self.closes
        after, before = at >= self.opens, at < self.closes
        if (after or before) if over_midnight else (after and before):
            return 0.0
        day = local.date() if at < self.opens else local.date() + timedelta(days=1)
        opening = datetime.combine(day, self.opens, self.zone)
        # In UTC, because clocks of the zone may be changed between the two local times.
        return max(0.0, (opening.astimezone(UTC) - now.astimezone(UTC)).total_seconds())

    def __str__(self) -> str:
        return f"{self.opens:%H:%M}-{self.closes:%H:%M} {self.zone.key}"
