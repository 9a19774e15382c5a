"""A campaign's report: one HTML page.

The page loads nothing and runs nothing: no script, and no font or image from elsewhere. Everything that comes from
outside (texts, codes, provinces, names of files) is escaped. Needs the extra ``report``.
"""

from __future__ import annotations

import os
import tomllib
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import resources
from itertools import chain, pairwise
from itertools import count as count_up
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

import anyio
import attrs
from anyio import to_thread

from qxt_async.campaign.charts import bars
from qxt_async.campaign.state import current_reason, current_state
from qxt_async.campaign.windows import find_zone
from qxt_async.errors import InvalidConfigurationError
from qxt_async.runtime.tasks import in_a_thread
from qxt_async.runtime.words import missing_extra, share

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from zoneinfo import ZoneInfo

    from qxt_async.journal.campaigns import CampaignStore
    from qxt_async.journal.records import Campaign, CampaignCounts, CampaignEvent, CampaignMessage, DeliveryCounts
    from qxt_async.journal.statistics import ReportStatistics

Language = Literal["en", "zh"]

_SHOWN_MESSAGES: Final = 3
_SHOWN_EVENTS: Final = 30
_SHOWN_AREAS: Final = 10
_EDGES: Final = (5, 10, 30, 60, 300, 900, 3600, 6 * 3600, 24 * 3600)
"""Upper bounds of the bars of the delay, in seconds."""
_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 24 * 3600
_STEPS: Final = (
    *(1, 2, 5, 10, 15, 20, 30),
    *(each * _MINUTE for each in (1, 2, 5, 10, 15, 20, 30)),
    *(each * _HOUR for each in (1, 2, 3, 6, 12)),
    *(each * _DAY for each in (1, 2)),
)
"""Seconds between two labels of the time axis; after these come weeks, doubled each time."""


@attrs.frozen(kw_only=True)
class ReportData:
    """Everything that a report shows.

    Attributes:
        campaign, counts, deliveries, statistics: see their classes.
        messages: the first few messages.
        events: the last few events.
        at: when this was read; aware, UTC.
    """

    campaign: Campaign
    counts: CampaignCounts
    deliveries: DeliveryCounts
    statistics: ReportStatistics
    messages: Sequence[CampaignMessage]
    events: Sequence[CampaignEvent]
    at: datetime

    @property
    def reports(self) -> int:
        """Status reports of any kind."""
        counts = self.deliveries
        return counts.delivered + counts.rejected + counts.failed + counts.unknown

    def within(self, share: float) -> int | None:
        """Seconds within which this share of the deliveries was reported; ``None`` without deliveries."""
        total = sum(count for _, count in self.statistics.delays)
        reached = 0
        for seconds, count in self.statistics.delays:
            reached += count
            if reached >= share * total:
                return seconds
        return None


async def read_report_data(store: CampaignStore, campaign: int) -> ReportData:
    """Read what a report shows."""
    found = await store.get(campaign)
    return ReportData(
        campaign=found,
        counts=await store.counts(campaign),
        deliveries=await store.deliveries(campaign),
        statistics=await store.statistics(campaign),
        messages=await store.messages(campaign, limit=_SHOWN_MESSAGES),
        events=(await store.events(campaign))[-_SHOWN_EVENTS:],
        at=datetime.now(UTC),
    )


async def write_report(
    store: CampaignStore,
    campaign: int,
    target: str | os.PathLike[str] | TextIO,
    *,
    language: Language,
    time_zone: str,
) -> ReportData:
    """Arguments, result and errors as for `Campaigns.report`."""
    data = await read_report_data(store, campaign)
    page = await to_thread.run_sync(lambda: render_report(data, language=language, time_zone=time_zone))
    if isinstance(target, str | os.PathLike):
        await anyio.Path(target).write_text(page, encoding="utf-8")
    else:
        await in_a_thread(lambda: target.write(page))
    return data


def render_report(data: ReportData, *, language: Language = "en", time_zone: str = "Asia/Shanghai") -> str:
    """Render the page as one string; arguments and errors as for `Campaigns.report`."""
    try:
        import jinja2
    except ImportError:
        raise InvalidConfigurationError(missing_extra("report", "a report")) from None
    words = words_of(language)
    show = Display(words, find_zone(time_zone))
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"n": show.count, "time": show.time, "span": show.span}
    page = environment.from_string(_file("report.html"))
    return page.render(
        w=words,
        share=share,
        d=data,
        state=current_state(data.counts).value,
        reason=current_reason(data.counts),
        style=_file("report.css"),
        zone=time_zone,
        last_time=_last_time(data, show),
        funnel=_funnel(data, words, show),
        over_time=_over_time(data, words, show),
        delays=_delays(data, words, show),
        areas=_areas(data, words),
        codes=_codes(data, words),
    )


@cache
def _file(name: str) -> str:
    return (resources.files("qxt_async.campaign") / "page" / name).read_text("utf-8")


@cache
def words_of(language: str) -> Mapping[str, Any]:
    """The words of the page in a language."""
    if language not in ("en", "zh"):
        raise InvalidConfigurationError(f"there is no report in {language!r}; there are en and zh")
    return tomllib.loads(_file(f"{language}.toml"))


@attrs.frozen
class Display:
    """Formats counts and times for the page."""

    words: Mapping[str, Any]
    zone: ZoneInfo

    def count(self, number: int) -> str:
        """A number with its thousands set apart."""
        return f"{number:,}"

    def time(self, at: datetime) -> str:
        """A day and a time, to the minute."""
        return at.astimezone(self.zone).strftime("%Y-%m-%d %H:%M")

    def span(self, seconds: int) -> str:
        """A length of time, in one unit."""
        units = (("week", 7 * _DAY), ("day", _DAY), ("hour", _HOUR), ("minute", _MINUTE))
        # 90 minutes are not shown as 1 h. From two of a unit on, whole units are exact enough.
        unit, size = next(
            ((unit, size) for unit, size in units if seconds >= 2 * size or seconds == size), ("second", 1)
        )
        return str(self.words["units"][unit]).format(n=f"{-(-seconds // size):,}")

    def tick(self, at: datetime, *, days: bool, seconds: bool) -> str:
        """A label of the axis of time."""
        hour = "%H:%M:%S" if seconds else "%H:%M"
        return at.astimezone(self.zone).strftime(f"%m-%d {hour}" if days else hour)

    def ticks(self, moments: Sequence[datetime], width: int, room: int, *, days: bool) -> list[str]:
        """The labels below bars over time: one where a round interval begins, and empty ones elsewhere.

        Args:
            moments: when the bars begin.
            width: seconds of one bar.
            room: labels at most.
            days: whether they have the day.
        """
        # An interval is round on the clock of the zone.
        local = [at.astimezone(self.zone).replace(tzinfo=UTC).timestamp() for at in moments]
        stretches = ((step, _beginnings(local, width, step)) for step in chain(_STEPS, _weeks()) if step >= width)
        step, places = next((step, places) for step, places in stretches if len(places) <= room)
        shown = places or {0}
        return [
            self.tick(at, days=days, seconds=step < _MINUTE) if place in shown else ""
            for place, at in enumerate(moments)
        ]


def _beginnings(moments: Sequence[float], width: int, step: int) -> set[int]:
    """The bars in which an interval of so many seconds begins."""
    stretches = [moment // step for moment in (moments[0] - width, *moments)]
    return {place for place, (before, at) in enumerate(pairwise(stretches)) if before != at}


def _weeks() -> Iterator[int]:
    return (2**power * 7 * _DAY for power in count_up())


def _funnel(data: ReportData, words: Mapping[str, Any], show: Display) -> list[dict[str, Any]]:
    campaign, counts, deliveries = data.campaign, data.counts, data.deliveries

    def lost(**numbers: int) -> str:
        text = words["lost"]
        parts = [text[name].format(n=show.count(number)) for name, number in numbers.items() if number]
        return str(text["join"]).join(parts)

    dropped = campaign.invalid + campaign.duplicates + campaign.suppressed
    left_out = lost(invalid=campaign.invalid, duplicates=campaign.duplicates, suppressed=campaign.suppressed)
    not_accepted = lost(
        failed=counts.failed,
        unknown=counts.unknown + counts.sending,
        planned=counts.planned,
        opted_out=counts.suppressed,
    )
    undelivered = data.reports - deliveries.delivered
    not_delivered = lost(not_delivered=undelivered, waiting=max(counts.accepted - data.reports, 0))
    steps = [
        {"kind": "given", "count": campaign.numbers + dropped, "lost": left_out},
        {"kind": "planned", "count": counts.numbers, "lost": not_accepted},
        {"kind": "accepted", "count": counts.accepted, "lost": not_delivered},
        {"kind": "delivered", "count": deliveries.delivered, "lost": ""},
    ]
    return steps if dropped else steps[1:]


def _last_time(data: ReportData, show: Display) -> str:
    moments = data.statistics.over_time
    if not moments:
        return ""
    first, last = show.time(moments[0].at), show.time(moments[-1].at)
    day, _, hour = last.partition(" ")
    return hour if first.startswith(day) else last


def _over_time(data: ReportData, words: Mapping[str, Any], show: Display) -> list[str]:
    moments = data.statistics.over_time
    if not data.reports or not moments:
        return []
    days = moments[-1].at - moments[0].at >= timedelta(hours=20) or data.statistics.width >= _DAY
    width = data.statistics.width
    labels = [show.tick(moment.at, days=days, seconds=width < _MINUTE) for moment in moments]
    begins = [moment.at for moment in moments]
    ticks = [show.ticks(begins, width, room, days=days) for room in ((6, 2) if days else (9, 4))]
    text = words["over_time"]
    series = [(text[kind], [getattr(moment, kind) for moment in moments]) for kind in ("delivered", "other")]
    return _sizes(series, labels, ticks, text["title"], "stacked")


def _delays(data: ReportData, words: Mapping[str, Any], show: Display) -> list[str]:
    if not data.statistics.delays:
        return []
    heights = [0] * (len(_EDGES) + 1)
    for seconds, count in data.statistics.delays:
        heights[sum(seconds > edge for edge in _EDGES)] += count
    within = words["units"]["within"]
    labels = [within.format(time=show.span(edge)) for edge in _EDGES] + [words["delay"]["more"]]
    series = [(words["over_time"]["delivered"], heights)]
    some = [label if place % 3 == 0 else "" for place, label in enumerate(labels)]
    return _sizes(series, labels, [labels, some], words["delay"]["axis"], "single")


def _sizes(
    series: Sequence[tuple[str, Sequence[int]]],
    labels: Sequence[str],
    ticks: Sequence[Sequence[str]],
    title: str,
    kind: str,
) -> list[str]:
    """The same chart for a wide and for a narrow screen, because text that is scaled down cannot be read."""
    screens = (("wide", 920, 280), ("narrow", 340, 240))
    return [
        bars(series, labels, shown, title=title, width=width, height=height, kind=f"{kind} {screen}")
        for shown, (screen, width, height) in zip(ticks, screens, strict=True)
    ]


def _areas(data: ReportData, words: Mapping[str, Any]) -> list[dict[str, Any]]:
    areas = list(data.statistics.areas)
    if not any(name for name, _, _ in areas):
        return []
    listed: list[dict[str, Any]] = [
        {"name": name or words["areas"]["unnamed"], "delivered": delivered, "other": other, "rest": False}
        for name, delivered, other in areas[:_SHOWN_AREAS]
    ]
    if rest := areas[_SHOWN_AREAS:]:
        name = words["areas"]["others"].format(count=len(rest))
        delivered, other = sum(one[1] for one in rest), sum(one[2] for one in rest)
        listed.append({"name": name, "delivered": delivered, "other": other, "rest": True})
    return listed


def _codes(data: ReportData, words: Mapping[str, Any]) -> list[dict[str, Any]]:
    text = words["codes"]
    return [
        {
            "code": code or text["no_code"],
            "meaning": text["known"].get(code, "" if not code else text["other"]),
            "count": count,
        }
        for code, _, count in data.statistics.codes
    ]
