"""The report: what it shows, and how it looks to a real browser."""

from __future__ import annotations

import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from zoneinfo import ZoneInfo

import anyio.to_thread
import attrs
import pytest
from support.made_up import START, sent_campaign

from qxt_async.campaign import Campaigns
from qxt_async.campaign.charts import bars
from qxt_async.campaign.report import Display, Language, ReportData, render_report, words_of
from qxt_async.errors import CampaignNotFoundError, InvalidConfigurationError
from qxt_async.journal import Journal, open_journal
from qxt_async.journal.records import CampaignCounts, CampaignEvent
from qxt_async.protocol.answers import refusal, refusal_by_status
from qxt_async.simulator.faults import DESCRIPTIONS

pytestmark = pytest.mark.anyio

HOSTILE = "</style><script>alert(1)</script><img src=http://127.0.0.1:9/x onerror=alert(2)>{{7*7}}&\"'"
CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--enable-logging=stderr",
    "--hide-scrollbars",
]


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    """An open journal."""
    async with open_journal(tmp_path / "qxt.db") as opened:
        yield opened


class Shown(HTMLParser):
    """The text of a page, and its elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self._skipping = False
        self._parts: list[str] = []
        self.feed(page)
        self.text = re.sub(r"\s+", " ", "".join(self._parts))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        self.tags.append(tag)
        self.attributes += attrs
        self._skipping = tag == "style"
        self._parts.append(" ")

    def handle_data(self, data: str) -> None:
        """Text."""
        if not self._skipping:
            self._parts.append(data)


async def test_a_report_shows_what_happened(journal: Journal, tmp_path: Path) -> None:
    """Its statistics agree with the counts and the status reports."""
    campaign = await sent_campaign(journal, 3400, size=100)
    path = tmp_path / "report.html"
    data = await Campaigns(journal).report(campaign, path)
    counts, deliveries = data.counts, data.deliveries
    text = Shown(path.read_text("utf-8")).text
    assert (counts.accepted, counts.failed, counts.unknown) == (3200, 100, 100)
    for shown in (
        f"{100 * deliveries.delivered / counts.accepted:.1f} %",
        f"delivered {deliveries.delivered:,}",
        "accepted 3,200 94.1 % of planned",
        "21 invalid, 48 repeated, 11 suppressed",
        "100 failed, 100 unknown",
        "half within",
        "REJECT refused by review",
        "MK:0001 the carrier's own code",
        "no code",
        "5 others",
        "For 100 numbers it is not certain",
        f"qxt campaign resume {campaign} --resend-unknown",
        "the connection broke before the answer was complete",
        "A text of 2 messages: 300 numbers",
        "extension 08",
        "some rows' texts are longer than others",
        "2026-11-03 08:55",
        "sending began · ops",
    ):
        assert shown in text, shown


async def test_figures_are_counted_once(store: str) -> None:
    """Over time, by delay, by province and by code: the sums are the number of reports."""
    async with open_journal(store) as journal:
        campaign = await sent_campaign(journal, 3400, size=100)
        data = await Campaigns(journal).report_data(campaign)
    statistics, deliveries = data.statistics, data.deliveries
    assert sum(moment.delivered for moment in statistics.over_time) == deliveries.delivered
    assert sum(moment.other for moment in statistics.over_time) == data.reports - deliveries.delivered
    assert sum(moment.accepted for moment in statistics.over_time) == data.counts.accepted
    assert len(statistics.over_time) <= 62
    steps = {
        later.at - earlier.at for earlier, later in zip(statistics.over_time, statistics.over_time[1:], strict=False)
    }
    assert steps == {timedelta(seconds=statistics.width)}
    assert statistics.over_time[0].at >= START
    assert sum(count for _, count in statistics.delays) == deliveries.delivered
    assert sum(delivered + other for _, delivered, other in statistics.areas) == data.reports
    assert sum(count for _, _, count in statistics.codes) == data.reports - deliveries.delivered
    assert sum(numbers for *_, numbers in statistics.troubles) == data.counts.failed + data.counts.unknown
    assert dict(statistics.segments) == {1: 3100, 2: 300}
    assert (statistics.messages, statistics.healed) == (2, 0)
    half, most = data.within(0.5), data.within(0.9)
    assert half is not None
    assert most is not None
    assert half < most


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_event_has_words(language: str) -> None:
    """What the journal records of a campaign is shown in words, and not by its name in the journal."""
    named = re.findall("``([a-z-]+)``", (CampaignEvent.__doc__ or "").partition("what:")[2].partition("actor:")[0])
    assert len(named) >= 10
    assert set(named) <= words_of(language)["history"]["known"].keys()


@pytest.mark.parametrize(("language", "words"), [("en", "Nothing sent yet"), ("zh", "尚未发送")])
async def test_a_plan_has_a_report_too(journal: Journal, language: Language, words: str) -> None:
    """Before anything is sent everything is empty, and nothing breaks."""
    made = await Campaigns(journal).plan(["13800000000"], "【Acme】您好")
    data = await Campaigns(journal).report_data(made.id)
    text = Shown(render_report(data, language=language)).text
    assert words in text
    assert data.within(0.5) is None
    assert ("Campaign 1" in text) == (language == "en")


async def test_both_languages_say_the_same_things() -> None:
    """No word is missing in one of them."""

    def names(table: object, path: str = "") -> set[str]:
        if not isinstance(table, dict):
            return {path}
        return {name for key, value in table.items() for name in names(value, f"{path}.{key}")}

    def blanks(table: object, path: str = "") -> dict[str, set[str]]:
        if not isinstance(table, dict):
            return {path: set(re.findall(r"\{(\w*)\}", str(table)))}
        return {name: found for key, value in table.items() for name, found in blanks(value, f"{path}.{key}").items()}

    english, chinese = words_of("en"), words_of("zh")
    assert names(english) == names(chinese)
    assert blanks(english) == blanks(chinese)


async def test_a_report_is_one_page_that_loads_and_runs_nothing(journal: Journal) -> None:
    """No script, no address, no handler, whatever stands in texts, codes, provinces and names."""
    campaign = await sent_campaign(journal, 300, size=100, text=HOSTILE, name=HOSTILE)
    data = await Campaigns(journal).report_data(campaign)
    statistics = attrs.evolve(
        data.statistics,
        areas=((HOSTILE, 5, 1),),
        codes=((HOSTILE, "failed", 3),),
        troubles=(("failed", HOSTILE, 1, 5),),
    )
    events = [attrs.evolve(event, actor=HOSTILE, detail=HOSTILE, what=HOSTILE) for event in data.events]
    record = attrs.evolve(data.campaign, warnings=(HOSTILE,))
    counts = attrs.evolve(data.counts, reason=HOSTILE)
    page = render_report(attrs.evolve(data, statistics=statistics, events=events, campaign=record, counts=counts))
    shown = Shown(page)
    assert not {"script", "iframe", "object", "embed", "form", "base", "a", "audio", "video"} & set(shown.tags)
    assert shown.tags.count("style") == 1
    assert "img" not in shown.tags
    assert not [name for name, _ in shown.attributes if name.startswith("on")]
    assert {value for name, value in shown.attributes if name in {"src", "href", "xlink:href"}} == {"data:,"}
    assert HOSTILE in shown.text
    assert "url(" not in page
    assert "@import" not in page


async def test_unknown_is_explained_even_when_nothing_is(journal: Journal) -> None:
    """Batches that healed are told, with and without others that did not."""
    campaign = await sent_campaign(journal, 300, size=100)
    data = await Campaigns(journal).report_data(campaign)
    healed = attrs.evolve(data, statistics=attrs.evolve(data.statistics, healed=4))
    assert "Nothing is unknown" in Shown(render_report(data)).text
    assert "4 batches were unknown" in Shown(render_report(healed)).text
    doubtful = attrs.evolve(healed, counts=attrs.evolve(data.counts, unknown=5))
    text = Shown(render_report(doubtful)).text
    assert "For 5 numbers it is not certain" in text
    assert "4 batches were unknown" in text


@pytest.mark.parametrize(
    ("width", "bars", "first", "last"),
    [(3600, 3, "08:00", "10:00"), (24 * 3600, 4, "11-03 08:00", "11-06 08:00")],
)
async def test_the_axis_of_time_shows_days_where_there_are_some(
    journal: Journal, width: int, bars: int, first: str, last: str
) -> None:
    """Bars within a day are named by the hour, others by day and hour, and so is the head of the page."""
    campaign = await sent_campaign(journal, 300, size=100)
    data = await Campaigns(journal).report_data(campaign)
    template = data.statistics.over_time[0]
    begin = datetime(2026, 11, 3, tzinfo=UTC)
    moments = tuple(attrs.evolve(template, at=begin + timedelta(seconds=place * width)) for place in range(bars))
    statistics = attrs.evolve(data.statistics, over_time=moments, width=width)
    page = render_report(attrs.evolve(data, statistics=statistics))
    assert f">{first}<" in page
    assert f">{last}<" in page
    ending = last if len(last) == 5 else "2026-11-06 08:00"
    assert f"Active 2026-11-03 08:00 – {ending}" in page


async def test_a_small_share_is_not_nothing(journal: Journal) -> None:
    """Three unknown numbers of 19,949 are less than 0.1 %, and what was accepted is not 100 %."""
    campaign = await sent_campaign(journal, 300, size=100)
    data = await Campaigns(journal).report_data(campaign)
    counts = attrs.evolve(data.counts, accepted=19_946, unknown=3)
    text = Shown(render_report(attrs.evolve(data, counts=counts))).text
    assert "accepted 19,946 > 99.9 % of planned" in text
    assert "unknown 3 < 0.1 % of planned" in text


@pytest.mark.parametrize(
    ("width", "wide", "narrow"),
    [
        (
            1,
            ["09:00:10", "09:00:20", "09:00:30", "09:00:40", "09:00:50"],
            ["09:00:15", "09:00:30", "09:00:45"],
        ),
        (
            5,
            ["09:01:00", "09:01:30", "09:02:00", "09:02:30", "09:03:00", "09:03:30", "09:04:00", "09:04:30"],
            ["09:01", "09:02", "09:03", "09:04"],
        ),
        (60, ["09:10", "09:20", "09:30", "09:40", "09:50"], ["09:15", "09:30", "09:45"]),
        (
            3600,
            ["11-04 00:00", "11-04 12:00", "11-05 00:00", "11-05 12:00"],
            ["11-04 00:00", "11-05 00:00"],
        ),
    ],
)
async def test_the_axis_of_time_has_a_handful_of_labels(
    journal: Journal, width: int, wide: list[str], narrow: list[str]
) -> None:
    """They stand at round times, differ from each other, and have seconds where they need them; so has each bar."""
    campaign = await sent_campaign(journal, 300, size=100)
    data = await Campaigns(journal).report_data(campaign)
    begin = datetime(2026, 11, 3, 1, tzinfo=UTC) + timedelta(seconds=7 * width)
    moments = tuple(
        attrs.evolve(data.statistics.over_time[0], at=begin + timedelta(seconds=place * width), delivered=3, other=1)
        for place in range(52)
    )
    statistics = attrs.evolve(data.statistics, over_time=moments, width=width)
    page = render_report(attrs.evolve(data, statistics=statistics))
    found = re.findall(r'<svg[^>]*class="chart stacked (?:wide|narrow)".*?</svg>', page, re.DOTALL)
    axes = [chart.partition('class="axis x"')[2] for chart in found]
    labels = [re.findall(r"<text[^>]*>([^<]+)</text>", axis) for axis in axes]
    assert labels == [wide, narrow]
    bars_told = re.findall(r"<title>([^<]*): 3 delivered</title>", found[0])
    assert len(set(bars_told)) == 52


def test_an_axis_of_time_always_has_a_label() -> None:
    """One bar, bars of years, and bars between which the clock is set back have one or two."""
    show = Display(words_of("en"), ZoneInfo("Europe/Berlin"))

    def ticks(width: int, bars: int, begin: datetime = datetime(2026, 11, 3, 1, 0, 7, tzinfo=UTC)) -> list[str]:
        moments = [begin + timedelta(seconds=place * width) for place in range(bars)]
        return [tick for tick in show.ticks(moments, width, 2, days=False) if tick]

    assert ticks(1, 1) == ["02:00:07"]
    assert ticks(1, 2) == ["02:00:07", "02:00:08"]
    assert ticks(1, 3) == ["02:00:08"]
    assert len(ticks(7 * 24 * 3600, 52 * 60)) in {1, 2}
    assert len(ticks(600, 12, datetime(2026, 10, 25, 0, 0, tzinfo=UTC))) in {1, 2}


def test_spans_are_never_shorter_than_they_were() -> None:
    """That 90 % were there within 5 min has to be true, so spans are rounded up."""
    show = Display(words_of("en"), ZoneInfo("UTC"))
    seconds = (0, 59, 60, 90, 119, 260, 3600, 5400, 7201, 86_400, 200_000, 604_800)
    spans = [show.span(each) for each in seconds]
    assert spans == [
        "0 s", "59 s", "1 min", "90 s", "119 s", "5 min", "1 h", "90 min", "3 h", "1 d", "3 d", "1 weeks",
    ]  # fmt: skip


def test_charts_are_plain_shapes() -> None:
    """Nothing that the chart library would load or run is left; bars tell their values, escaped."""
    chart = bars(
        [("<b>", [1, 2000]), ("other", [0, 3])],
        ["a<", "b"],
        ["a<", ""],
        title='"<t>',
        width=300,
        height=200,
        kind="x",
    )
    shown = Shown(chart)
    assert set(shown.tags) == {"svg", "g", "path", "text", "rect", "title"}
    assert "b: 2,000 <b>" in shown.text
    assert "a<: 1 <b>" in shown.text
    assert ("aria-label", '"<t>') in shown.attributes


async def test_what_a_report_cannot_be_is_refused(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An unknown campaign, language or zone, and a missing extra, each by name."""
    with pytest.raises(CampaignNotFoundError):
        await Campaigns(journal).report(5, tmp_path / "report.html")
    made = await Campaigns(journal).plan(["13800000000"], "【Acme】您好")
    data = await Campaigns(journal).report_data(made.id)
    language: Language = "fr"  # type: ignore[assignment]
    with pytest.raises(InvalidConfigurationError, match="'fr'; there are en and zh"):
        render_report(data, language=language)
    for zone in ("Mars/Base", "../etc/passwd", "Asia"):
        with pytest.raises(InvalidConfigurationError, match="there is no time zone"):
            render_report(data, time_zone=zone)
    for module in ("jinja2", "pygal"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            with pytest.raises(InvalidConfigurationError, match=r"pip install '\.\[report\]'"):
                render_report(await _with_reports(data))


async def _with_reports(data: ReportData) -> ReportData:
    statistics = attrs.evolve(data.statistics, delays=((3, 5),))
    counts: CampaignCounts = data.counts
    return attrs.evolve(data, statistics=statistics, counts=counts)


# --- in a browser -----------------------------------------------------------------------------------------------------

# What the page itself cannot do, its frame does: it measures, and looks for what hostile text might have left.
FRAME = """<!doctype html><meta charset="utf-8"><body style="margin:0">
<iframe id="page" src="/report.html" style="width:{width}px;height:1200px;border:0"></iframe><pre id="found"></pre>
<script>
document.getElementById("page").onload = event => {{
  const page = event.target.contentDocument, view = event.target.contentWindow;
  const wide = [...page.querySelectorAll("body *")].filter(one => one.getBoundingClientRect().right > {width} + 0.5);
  document.getElementById("found").textContent = JSON.stringify({{
    title: page.title, overflow: page.documentElement.scrollWidth - {width},
    wide: wide.map(one => one.tagName + "." + (one.getAttribute("class") || "")).slice(0, 5),
    charts: [...page.querySelectorAll("svg")].filter(one => one.getBoundingClientRect().height > 50).length,
    sections: page.querySelectorAll("section").length, scripts: page.scripts.length, images: page.images.length,
    styled: view.getComputedStyle(page.querySelector(".card")).borderTopLeftRadius,
    small: [...page.querySelectorAll("svg text")].filter(one => one.getBoundingClientRect().height > 0)
      .map(one => one.getBoundingClientRect().height).sort((a, b) => a - b)[0],
    text: page.body.innerText.length }});
}};
</script>"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str, list[str]]]:
    """A folder that is served on the loopback: the folder, its address, and what was asked of it."""
    folder = tmp_path / "site"
    folder.mkdir()
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()
        thread.join()


def browse(url: str, profile: Path) -> tuple[dict[str, object], str]:
    """Open a page in Chromium: what the frame found, and what the browser said on its console."""
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "--window-size=1400,1300", "--virtual-time-budget=4000"]
    ended = subprocess.run([*command, "--dump-dom", url], capture_output=True, text=True, timeout=100, check=True)
    match = re.search(r'<pre id="found">(.*?)</pre>', ended.stdout, re.DOTALL)
    assert match, ended.stderr[-2000:]
    found = json.loads(match[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    return found, "\n".join(line for line in ended.stderr.splitlines() if "CONSOLE" in line)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH: Debian's package is called chromium")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    ("language", "width", "hostile"), [("en", 1180, False), ("zh", 390, False), ("en", 390, True), ("zh", 320, True)]
)
async def test_a_browser_shows_it_whole(
    journal: Journal, site: tuple[Path, str, list[str]], tmp_path: Path, language: Language, width: int, hostile: bool
) -> None:
    """On a desk and on a phone nothing sticks out, is loaded or complained of, and hostile text is only text."""
    folder, address, asked = site
    options = {"text": HOSTILE + "长" * 300, "name": HOSTILE} if hostile else {}
    campaign = await sent_campaign(journal, 3400, size=100, **options)
    await Campaigns(journal).report(campaign, folder / "report.html", language=language)
    (folder / "frame.html").write_text(FRAME.format(width=width), encoding="utf-8")
    found, console = await anyio.to_thread.run_sync(browse, f"{address}/frame.html", tmp_path / "profile")
    assert (found["overflow"], found["wide"]) == (0, [])
    assert (found["charts"], found["sections"], found["scripts"], found["images"]) == (2, 11, 0, 0)
    assert found["styled"] == "14px"
    assert found["small"] > 9  # type: ignore[operator]
    assert console == ""
    assert sorted(set(asked) - {"/favicon.ico"}) == ["/frame.html", "/report.html"]
    if hostile:
        assert str(found["title"]).startswith(HOSTILE)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_each_refusal_has_words(language: str) -> None:
    """What the gateway's document says, what it does not say, and each HTTP status that is a refusal."""
    codes = {refusal(description, "").code for description in [*DESCRIPTIONS.values(), "whatever"]}
    codes |= {found.code for status in range(200, 600) if (found := refusal_by_status(status)) is not None}
    assert len(codes) > 12
    assert codes <= words_of(language)["troubles"]["known"].keys()
