"""Plans: read, checked, counted, stored, and nothing sent."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.runs import client_of

from qxt_async import QxtClient
from qxt_async.campaign import Campaigns, planner
from qxt_async.campaign.grouping import Grouping
from qxt_async.errors import (
    InvalidConfigurationError,
    InvalidExtnoError,
    InvalidRequestError,
    InvalidTextError,
    JournalUnavailableError,
    NoValidNumberError,
    SourceFileError,
)
from qxt_async.files import TableFile
from qxt_async.journal import Journal, open_journal
from qxt_async.journal.records import CampaignState, ExclusionReason
from qxt_async.models import Message
from qxt_async.simulator import SimulatedGateway

pytestmark = pytest.mark.anyio

TEXT = "【Acme】您好"


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    """An open journal."""
    async with open_journal(tmp_path / "qxt.db") as opened:
        yield opened


def numbers(count: int, start: int = 0) -> list[str]:
    """Made-up numbers."""
    return [str(13800000000 + start + at) for at in range(count)]


async def stored(journal: Journal, campaign: int) -> dict[tuple[str, str | None], list[int]]:
    """The sizes of the batches of each (text, extension number)."""
    messages = {one.id: one.message for one in await journal.campaigns.messages(campaign, limit=10_000)}
    sizes: dict[tuple[str, str | None], list[int]] = {}
    for batch in await journal.campaigns.batches(campaign, limit=10_000):
        message = messages[batch.message]
        sizes.setdefault((message.text, message.extno), []).append(batch.count)
    return sizes


async def all_numbers(journal: Journal, campaign: int) -> list[str]:
    """All numbers in its batches."""
    found: list[str] = []
    after = 0
    while True:
        records, after = await journal.campaigns.numbers(campaign, after=after)
        if not records:
            return found
        found += [record.number for record in records]


async def test_a_plan_is_stored_and_nothing_is_sent(journal: Journal) -> None:
    """The batches are full and balanced, the campaign is planned, and all counts are there."""
    made = await Campaigns(journal).plan(numbers(1005), TEXT, name="hello")
    assert (made.id, made.campaign.name, made.campaign.state) == (1, "hello", CampaignState.PLANNED)
    assert (made.campaign.numbers, made.campaign.batches, made.campaign.credits) == (1005, 2, 1005)
    assert (made.messages, made.segments, made.enough, made.campaign.warnings) == (1, {1: 1005}, None, ())
    assert await stored(journal, made.id) == {(TEXT, None): [503, 502]}
    assert await all_numbers(journal, made.id) == numbers(1005)
    assert (await journal.campaigns.counts(made.id)).planned == 1005


async def test_what_is_left_out_is_kept_with_its_place(journal: Journal, tmp_path: Path) -> None:
    """Invalid, repeated (across files and forms) and suppressed numbers are counted, each with file and line."""
    first, second = tmp_path / "a.csv", tmp_path / "b.txt"
    first.write_text("name,mobile\nx,13800000000\ny,1380000000\nz,+86 138 0000 0001\n", encoding="utf-8")
    second.write_text("13800000000.0\n13800000002\n1.38E+10\n13800000003\n13800000004\n", encoding="utf-8")
    await journal.suppress(["13800000003"])
    sources = [TableFile(first, column="mobile"), second]
    made = await Campaigns(journal).plan(sources, TEXT, suppressed=["13800000004"])
    campaign = made.campaign
    assert (campaign.numbers, campaign.invalid, campaign.duplicates, campaign.suppressed) == (3, 2, 1, 2)
    assert campaign.sources == (str(first), str(second))
    assert await all_numbers(journal, made.id) == ["13800000000", "13800000001", "13800000002"]
    kept = [entry.value for entry in await journal.campaigns.left_out(made.id)]
    assert [(out.raw, out.reason, Path(out.source).name, out.line) for out in kept] == [
        ("1380000000", ExclusionReason.INVALID, "a.csv", 3),
        ("1.38E+10", ExclusionReason.INVALID, "b.txt", 3),
        ("13800000000.0", ExclusionReason.DUPLICATE, "b.txt", 1),
        ("13800000003", ExclusionReason.SUPPRESSED, "b.txt", 4),
        ("13800000004", ExclusionReason.SUPPRESSED, "b.txt", 5),
    ]
    assert kept[0].detail == "it has 10 digits, a mobile number has 11"
    assert "rounded" in kept[1].detail


async def test_equal_texts_share_full_batches(journal: Journal) -> None:
    """A template with three results sends three texts in full batches, in whatever order and source the rows come."""
    names = ("张三", "李四", "王五")
    rows = [{"mobile": number, "name": names[at % 3]} for at, number in enumerate(numbers(6300))]
    made = await Campaigns(journal).plan([rows[:4000], iter(rows[4000:])], "【Acme】尊敬的{name}")
    assert made.messages == 3
    assert await stored(journal, made.id) == {(f"【Acme】尊敬的{name}", None): [1000, 550, 550] for name in names}


async def test_values_that_make_the_same_text_share_batches(journal: Journal) -> None:
    """It is the text that counts, not the values it was made of."""
    rows = [{"m": "13800000000", "a": "ab", "b": "c"}, {"m": "13800000001", "a": "a", "b": "bc"}]
    made = await Campaigns(journal).plan(rows, "【Acme】{a}{b}")
    assert (made.messages, await stored(journal, made.id)) == (1, {("【Acme】abc", None): [2]})


async def test_extension_numbers_come_from_a_column_or_the_campaign(journal: Journal) -> None:
    """A row's own extension number wins; an empty cell means the campaign's. They never share a batch."""
    rows = [{"m": number, "e": ext} for number, ext in zip(numbers(4), ("8", "", "8", "9"), strict=True)]
    made = await Campaigns(journal).plan(rows, TEXT, extno="1", extno_column="e", channel_digits=3)
    assert await stored(journal, made.id) == {(TEXT, "8"): [2], (TEXT, "1"): [1], (TEXT, "9"): [1]}
    made = await Campaigns(journal).plan([{"m": "13800000000", "e": ""}], TEXT, extno_column="e")
    assert await stored(journal, made.id) == {(TEXT, None): [1]}


async def test_many_texts_are_grouped_outside_of_memory(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """With more numbers waiting than memory should hold the batches are the same as with few."""
    monkeypatch.setattr(planner, "Grouping", lambda size: Grouping(size, held=500))
    rows = [{"m": number, "n": str(at % 700)} for at, number in enumerate(numbers(5000))]
    made = await Campaigns(journal).plan(rows, "【Acme】{n}", extno="7", addseqno=True, batch_size=5)
    assert made.messages == 700
    sizes = await stored(journal, made.id)
    assert sizes[("【Acme】0", "7")] == [4, 4]
    assert sorted(await all_numbers(journal, made.id)) == numbers(5000)
    assert {one.message.addseqno for one in await journal.campaigns.messages(made.id)} == {True}


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 60)), max_size=30), st.integers(1, 20), st.integers(0, 40))
def test_grouping_keeps_every_number_once(adds: list[tuple[int, int]], size: int, held: int) -> None:
    """In whatever order messages come, spilled or not: every number once, full balanced batches for each message."""
    grouping = Grouping(size, held=held)
    given_numbers: dict[str, list[str]] = {}
    batches = []
    for text, count in adds:
        mine = given_numbers.setdefault(str(text), [])
        new = [f"{text}-{len(mine) + at}" for at in range(count)]
        mine += new
        batches += grouping.add(Message(str(text)), 1, new)
        if grouping.crowded:
            grouping.spill()
    batches += grouping.rest()
    grouping.close()
    found: dict[str, list[Any]] = {}
    for batch in batches:
        found.setdefault(batch.message.text, []).append(batch.numbers)
    assert grouping.messages == len(given_numbers)
    mine_again = {text: sorted(one for part in parts for one in part) for text, parts in found.items()}
    assert mine_again == {text: sorted(mine) for text, mine in given_numbers.items()}
    for parts in found.values():
        sizes = [len(part) for part in parts]
        assert max(sizes) <= size
        assert len(sizes) == -(-sum(sizes) // size)
        assert sizes[-1] >= min(sizes[0], (size + 1) // 2)


async def test_faulty_rows_refuse_the_plan(journal: Journal) -> None:
    """Every row is checked before anything is stored: file, line and column of the first faults, and how many more."""
    rows = [{"m": number, "n": "" if at % 2 else "😀"} for at, number in enumerate(numbers(30))]
    with pytest.raises(SourceFileError) as raised:
        await Campaigns(journal).plan(rows, "【Acme】{n}")
    message = str(raised.value)
    assert message.startswith("source 1, line 1: column 'n' has U+1F600 GRINNING FACE in place 1")
    assert "source 1, line 2: column 'n' is empty" in message
    assert "; and 10 more. No campaign is planned; --skip-faulty (in Python skip_faulty=True)" in message
    assert "1380" not in message
    assert await journal.campaigns.all() == []


async def test_faulty_rows_can_be_left_out(journal: Journal) -> None:
    """With `skip_faulty` they count as invalid, with the reason; a later good row of the same number is sent."""
    rows = [
        {"m": "13800000000", "n": ""},
        {"m": "13800000000", "n": "x"},
        {"m": "13800000001", "n": "y"},
        {"m": "13800000002", "n": "€"},
    ]
    made = await Campaigns(journal).plan(rows, "【Acme】{n}", skip_faulty=True)
    assert (made.campaign.numbers, made.campaign.invalid, made.faulty) == (2, 2, 2)
    assert "2 rows left out, because the text cannot be made" in made.campaign.warnings
    (first, _) = await journal.campaigns.left_out(made.id)
    assert (first.value.detail, first.value.line) == ("column 'n' is empty", 1)
    made = await Campaigns(journal).plan(rows[1:], "【Acme】{n}€", substitute=True)
    assert ("【Acme】EUREUR", None) in await stored(journal, made.id)


async def test_a_bad_extension_number_of_a_row_is_a_fault(journal: Journal) -> None:
    """It is checked like the text, row by row."""
    with pytest.raises(SourceFileError, match="line 1: extno has to be ASCII digits"):
        await Campaigns(journal).plan([{"m": "13800000000", "e": "x"}], TEXT, extno_column="e")


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("您好", "no signature"),
        ("您好【Acme】", None),
        (" 【Acme】您好", None),
        ("您【Acme】好", "no signature"),
    ],
)
async def test_a_missing_signature_is_warned_of(journal: Journal, text: str, warning: str | None) -> None:
    """Carriers look for it at the beginning or the end."""
    made = await Campaigns(journal).plan(numbers(10), text)
    assert [warning in one for one in made.campaign.warnings if warning] == ([True] if warning else [])


async def test_texts_that_grow_over_a_segment_are_warned_of(journal: Journal) -> None:
    """A template may be one message for most and two for some: it says for how many."""
    rows = [{"m": number, "n": "长" * (80 if at == 0 else 3)} for at, number in enumerate(numbers(40))]
    made = await Campaigns(journal).plan(rows, "【Acme】{n}")
    assert made.segments == {1: 39, 2: 1}
    assert made.campaign.credits == 41
    assert any("39 numbers with 1 segment, 1 number with 2 segments" in warning for warning in made.campaign.warnings)
    assert any("1 batch with fewer than 10 numbers" in warning for warning in made.campaign.warnings)


@pytest.mark.parametrize(("balance", "enough"), [(99, False), (100, True)])
async def test_the_balance_is_asked_if_there_is_a_client(journal: Journal, balance: int, enough: bool) -> None:
    """A balance that does not suffice is a warning: the plan is stored all the same, and nothing was sent."""
    gateway = SimulatedGateway("user", "password", balance=balance)
    transport = httpx.ASGITransport(gateway)
    async with QxtClient("user", "password", base_url="http://gateway/qxt", transport=transport) as client:
        made = await Campaigns(journal, client).plan(numbers(100), TEXT)
    assert (made.campaign.balance, made.enough) == (balance, enough)
    assert [("the balance is 99" in warning) for warning in made.campaign.warnings] == [True] * (not enough)
    assert not gateway.sends


async def test_a_balance_that_cannot_be_asked_is_a_warning(journal: Journal) -> None:
    """The plan is worth keeping even if the gateway is away."""
    transport = httpx.ASGITransport(SimulatedGateway("user", "password"))
    async with QxtClient("user", "wrong", base_url="http://gateway/qxt", transport=transport) as client:
        made = await Campaigns(journal, client).plan(numbers(10), TEXT)
    assert (made.campaign.balance, made.enough) == (None, None)
    assert made.campaign.warnings[0].startswith("the balance could not be asked: the gateway does not accept")


@pytest.mark.parametrize(
    ("changes", "error", "what"),
    [
        ({"text": "【Acme】😀{m}"}, InvalidTextError, "U\\+1F600"),
        ({"text": ""}, InvalidTextError, "empty"),
        ({"text": "【Acme】{x}"}, InvalidTextError, "there is no column 'x': there are 1 'm'"),
        ({"extno": "x"}, InvalidExtnoError, "ASCII digits"),
        ({"batch_size": 0}, InvalidConfigurationError, "batch_size is 0"),
        ({"batch_size": 1001}, InvalidConfigurationError, "1 to 1000"),
        ({"number_pattern": "("}, InvalidConfigurationError, "regular expression"),
        ({"sources": "numbers.csv"}, InvalidRequestError, "the sources are one string"),
        ({"sources": 5}, InvalidRequestError, "a source is int"),
        ({"sources": []}, NoValidNumberError, "no numbers were given"),
        ({"sources": ["x", "13"]}, NoValidNumberError, "none of 2 numbers .*; the first of them, source 1, line 1: "),
    ],
)
async def test_what_cannot_be_planned_is_refused(
    journal: Journal, changes: dict[str, Any], error: type[Exception], what: str
) -> None:
    """Nothing of it is stored."""
    arguments: dict[str, Any] = {"sources": [{"m": "13800000000"}], "text": TEXT} | changes
    sources, text = arguments.pop("sources"), arguments.pop("text")
    with pytest.raises(error, match=what):
        await Campaigns(journal).plan(sources, text, **arguments)
    assert await journal.campaigns.all() == []


async def test_all_suppressed_is_nothing_to_send(journal: Journal) -> None:
    """Somebody may have suppressed everybody."""
    with pytest.raises(NoValidNumberError, match=r"none of 2 numbers can be sent to$"):
        await Campaigns(journal).plan(numbers(2), TEXT, suppressed=set(numbers(5)))


async def test_a_plan_that_is_cancelled_is_discarded(journal: Journal) -> None:
    """Whatever was stored before is gone, and the progress was told."""
    told: list[int] = []
    with anyio.CancelScope() as scope:

        def progress(rows: int) -> None:
            told.append(rows)
            if rows == 3000:
                scope.cancel()

        await Campaigns(journal).plan(iter(numbers(5000)), TEXT, on_progress=progress)
    assert scope.cancelled_caught
    assert told == [1000, 2000, 3000]
    assert await journal.campaigns.all() == []


async def test_a_failing_journal_stops_a_plan(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot even be discarded stays a plan that can never be run."""

    async def refuse(*_: Any, **__: Any) -> None:
        raise JournalUnavailableError("disk full")

    monkeypatch.setattr(journal.campaigns, "add", refuse)
    monkeypatch.setattr(journal.campaigns, "discard", refuse)
    with pytest.raises(JournalUnavailableError, match="disk full"):
        await Campaigns(journal).plan(numbers(5), TEXT)
    (left,) = await journal.campaigns.all()
    assert left.state is CampaignState.PLANNING


async def test_numbers_of_a_pattern_of_ones_own(journal: Journal) -> None:
    """The pattern is a parameter; other things stay what they are."""
    made = await Campaigns(journal).plan(["85291234567", "x"], TEXT, number_pattern="852[0-9]{8}")
    assert await all_numbers(journal, made.id) == ["85291234567"]


async def test_a_plan_has_each_phone_once_whatever_its_forms(journal: Journal) -> None:
    """Repeated and suppressed phones are left out in every form that the pattern admits; the others stay as given."""
    await journal.suppress(["13800000002"])
    given = ["8613800000000", "13800000000", "8613800000001", "8613800000002", "13800000003", "8613800000003"]
    sources = [given, ["0086 13800000001", "13800000004"]]
    pattern = r"(86|0086)?1[3-9]\d{9}"
    made = await Campaigns(journal).plan(sources, TEXT, suppressed=["13800000004"], number_pattern=pattern)
    assert await all_numbers(journal, made.id) == ["8613800000000", "8613800000001", "13800000003"]
    assert (made.campaign.duplicates, made.campaign.suppressed) == (3, 2)


@pytest.mark.parametrize("text", ["您好｛name｝", "您好%name%，{name}", "${name}", "您好%姓名%"])
async def test_what_looks_like_a_column_and_is_none_stops_a_plan(journal: Journal, tmp_path: Path, text: str) -> None:
    """Nothing is stored; with `literal` it is sent as it stands, and columns are filled in all the same."""
    path = tmp_path / "rows.csv"
    path.write_text("手机,name,姓名\n13800000000,Li,李\n", encoding="utf-8")
    rows = [{"手机": "13800000000", "name": "Li", "姓名": "李"}]
    for source in (path, rows):
        with pytest.raises(InvalidTextError, match="looks like a column and is none"):
            await Campaigns(journal).plan(source, text)
        assert await journal.campaigns.all() == []
    made = await Campaigns(journal).plan([path], text, literal=True)
    (message,) = await journal.campaigns.messages(made.id)
    assert message.message.text == text.replace("{name}", "Li")


async def test_the_name_of_a_column_of_another_source_is_a_text(journal: Journal) -> None:
    """What stands between percent signs is looked for among the columns of the sources, and only there."""
    made = await Campaigns(journal).plan([["13800000000"], [{"手机": "13800000001", "名": "李"}]], "满100%送50%")
    assert made.campaign.numbers == 2


async def test_numbers_that_are_no_text_are_invalid(journal: Journal) -> None:
    """A number given as a number is left out with the reason: a leading zero would be lost."""
    sources: Any = ["13800000000", 13800000001]
    made = await Campaigns(journal).plan([sources], TEXT)
    assert (made.campaign.numbers, made.campaign.invalid) == (1, 1)


async def test_a_long_plan_is_stored_in_parts(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """No transaction grows with the plan: neither its batches nor what it leaves out."""
    added: list[tuple[int, int]] = []
    add = journal.campaigns.add

    async def repr_count(campaign: int, batches: Any, left_out: Any = ()) -> None:
        added.append((len(batches), len(left_out)))
        await add(campaign, batches, left_out)

    monkeypatch.setattr(journal.campaigns, "add", repr_count)
    made = await Campaigns(journal).plan(iter([*numbers(150_000), *numbers(12_000)]), TEXT)
    assert (made.campaign.batches, made.campaign.duplicates) == (150, 12_000)
    assert added == [(100, 0), (48, 5000), (0, 5000), (2, 2000)]


def endless_names(count: int) -> Iterator[dict[str, str]]:
    """Rows whose text is never the same."""
    for at in range(count):
        yield {"m": str(13800000000 + at), "n": str(at)}


@pytest.mark.slow
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_memory_does_not_grow_with_the_texts(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a text for every number only what waits for a batch is held, not all of it."""

    async def forget(*_: Any) -> None:
        pass

    monkeypatch.setattr(journal.campaigns, "add", forget)
    monkeypatch.setattr(planner, "Grouping", lambda size: Grouping(size, held=500))
    monkeypatch.setattr(planner, "KNOWN_ROWS", 50)
    peaks: list[int] = []
    for count in (1000, 5000):
        tracemalloc.start()
        await Campaigns(journal).plan(endless_names(count), "【Acme】{n}" + "很长" * 100)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 2


async def test_the_clients_numbers_and_channel_hold(journal: Journal) -> None:
    """What a client accepts and has used of the extension number, a plan does, too, unless it is told otherwise."""
    client = client_of(SimulatedGateway(), number_pattern=r"852\d{8}", channel_digits=19)
    async with client:
        campaigns = Campaigns(journal, client)
        plan = await campaigns.plan(["85291234567", "13800138000"], "【测试】您好", check_balance=False)
        assert (plan.campaign.numbers, plan.campaign.invalid) == (1, 1)
        with pytest.raises(InvalidExtnoError):
            await campaigns.plan(["85291234567"], "【测试】您好", extno="12")
        told = await campaigns.plan(
            ["13800138000"],
            "【测试】您好",
            extno="12",
            channel_digits=0,
            number_pattern=r"1\d{10}",
            check_balance=False,
        )
        assert told.campaign.numbers == 1
