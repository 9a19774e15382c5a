"""Send windows: hours of the day in a time zone."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from qxt_async.campaign import SendWindow
from qxt_async.errors import InvalidConfigurationError

SHANGHAI = ZoneInfo("Asia/Shanghai")


def at(hour: int, minute: int = 0) -> datetime:
    """A time in Shanghai, told in UTC."""
    return datetime(2026, 11, 3, hour, minute, tzinfo=SHANGHAI).astimezone(UTC)


def test_daytime() -> None:
    """A window of a day is open from its first minute to before its last, wherever the clock's zone is."""
    window = SendWindow.parse("08:00-21:00")
    assert str(window) == "08:00-21:00 Asia/Shanghai"
    assert window.closed_for(at(8)) == window.closed_for(at(20, 59)) == 0
    assert window.closed_for(at(7, 30)) == 1800
    assert window.closed_for(at(21)) == 11 * 3600


def test_over_midnight() -> None:
    """A window that closes before it opens goes over midnight."""
    window = SendWindow.parse("21:00–06:00")
    assert window.closed_for(at(23)) == window.closed_for(at(3)) == 0
    assert window.closed_for(at(6)) == 15 * 3600


def test_clocks_that_change() -> None:
    """Where the clocks go forward in the night, the wait is an hour shorter."""
    window = SendWindow.parse("08:00-21:00", "Europe/Berlin")
    evening = datetime(2026, 3, 28, 22, tzinfo=ZoneInfo("Europe/Berlin"))
    assert window.closed_for(evening) == 9 * 3600


@pytest.mark.parametrize(
    "hours", ["", "08:00", "8-21", "08:00-25:00", "08:00-21:00-22:00", "08:00+08:00-21:00", "08:00-21:00Z"]
)
def test_refused_hours(hours: str) -> None:
    """What is no window is refused with an example."""
    with pytest.raises(InvalidConfigurationError, match="08:00-21:00"):
        SendWindow.parse(hours)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../x", "Asia"])
def test_refused_zone(zone: str) -> None:
    """A zone that is not there is named."""
    with pytest.raises(InvalidConfigurationError, match=f"there is no time zone '{zone}' here"):
        SendWindow.parse("08:00-21:00", zone)
