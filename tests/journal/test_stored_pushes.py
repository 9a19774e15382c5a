"""What the journal keeps of pushes: once each, by the rules, in the order of commits."""

from __future__ import annotations

import itertools
import sqlite3
import subprocess
import sys
import threading
import types
from collections.abc import AsyncIterator, Generator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.raw import raw

from qxt_async.errors import InvalidRequestError, JournalBusyError, JournalUnavailableError
from qxt_async.journal import FeedEntry, Journal, SuppressionReason, pushes
from qxt_async.journal.database import Transaction
from qxt_async.journal.sqlite import database as sqlite_database
from qxt_async.journal.sqlite.database import DIALECT, SqliteDatabase, SqliteTransaction, drive, migrate
from qxt_async.journal.statements import migrations
from qxt_async.journal.timestamps import micros, moment
from qxt_async.models import DeliveryState, Reply, StatusReport
from qxt_async.protocol.pushes import Push, PushFlag, PushLimits, parse_push

NOON = datetime(2024, 6, 1, 12, tzinfo=UTC)
A, B = "13800138000", "13800138001"


@pytest.fixture
async def file(tmp_path: Path) -> AsyncIterator[Journal]:
    """One in an SQLite file."""
    async with Journal(SqliteDatabase(str(tmp_path / "qxt.sqlite"))) as opened:
        yield opened


def _push(*reports: tuple[str, str, str], at: datetime = NOON) -> Push:
    fields = zip(*reports, strict=True)
    query = "type=4&mid={}&mobile={}&msg={}".format(*(",".join(items) for items in fields))
    return parse_push(query.encode(), b"", received_at=at)


def _reply(text: str, mid: str = "9", number: str = A, at: datetime = NOON) -> Push:
    query = f"type=1&mid={mid}&mobile={number}&msg=".encode() + text.encode("gbk") + b"&port=10690"
    return parse_push(query, b"", channel_number="106", received_at=at)


@pytest.mark.anyio
async def test_round_trip(journal: Journal) -> None:
    """A report and a reply come back as they were stored, to the microsecond."""
    at = datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC)
    report = StatusReport("007", A, code="MB:0041", port="10690", area="北京", city=None, received_at=at)
    reply = Reply("008", A, text="好的, 谢谢", port="10690", extno="90", area=None, city="深圳", received_at=at)
    await journal.record_push(Push(query=b"", body=b"", reports=(report,), replies=(reply,), received_at=at))
    assert await journal.reports() == [FeedEntry(1, report)]
    assert await journal.replies() == [FeedEntry(1, reply)]
    assert await journal.find_reports([("007", A), ("007", B), ("7", A)]) == [report]
    assert moment(micros(at)) == at


@pytest.mark.anyio
async def test_without_a_time(journal: Journal) -> None:
    """A push that does not say when it came is stored as coming now."""
    before = datetime.now(UTC)
    await journal.record_push(parse_push(b"type=4&mid=1&mobile=2&msg=DELIVRD", b""))
    (entry,) = await journal.reports()
    assert entry.value.received_at is not None
    assert before <= entry.value.received_at <= datetime.now(UTC)


@pytest.mark.anyio
async def test_once(journal: Journal) -> None:
    """The same push again, in the same group or later, changes nothing."""
    push = _push(("1", A, "DELIVRD"), ("2", A, "REJECT"), ("1", A, "DELIVRD"))
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(journal.record_push, push)
    await journal.record_push(push)
    stored = await journal.reports()
    assert [(entry.cursor, entry.value.mid) for entry in stored] == [(1, "1"), (2, "2")]
    assert await journal.conflicts() == []
    assert await journal.raw_pushes() == []


_CODES = ["", "DELIVRD", "REJECT", "MB:0041", "UNDELIV"]


@pytest.mark.anyio
async def test_conflicts(journal: Journal) -> None:
    """Every pair of different codes: a state wins over none, delivered wins, the first stays; the loser is kept."""
    for number, (first, second) in enumerate(itertools.permutations(_CODES, 2)):
        later = NOON + timedelta(seconds=1)
        for code, at in ((first, NOON), (second, later)):
            report = StatusReport(str(number), A, code=code, received_at=at)
            await journal.record_push(Push(query=b"", body=b"", reports=(report,), received_at=at))
        (stored,) = await journal.reports(mid=str(number))
        wins = (second == "DELIVRD") or (first == "")
        assert stored.value.code == (second if wins else first)
        assert stored.value.received_at == (later if wins else NOON)
        loser, lost_at = (first, NOON) if wins else (second, later)
        kept = [(conflict.code, conflict.first_at) for conflict in await journal.conflicts(mid=str(number), number=A)]
        assert kept == ([(loser, lost_at)] if loser else [])


async def _times(journal: Journal) -> list[tuple[int, int]]:
    """Of every report: when its key was first reported, and when its present code last came."""
    return [
        tuple(row)
        for row in await journal.database.read(
            lambda transaction: raw(transaction, "SELECT first_at, received_at FROM reports ORDER BY number")
        )
    ]


@pytest.mark.anyio
async def test_a_report_has_two_times(journal: Journal) -> None:
    """A report that replaces another one keeps the time of the first report; one that loses moves neither."""
    later, latest = NOON + timedelta(minutes=5), NOON + timedelta(days=1)
    await journal.record_push(_push(("1", A, ""), ("1", B, "DELIVRD")))
    await journal.record_push(_push(("1", A, "UNDELIV"), ("1", B, "UNDELIV"), at=later))
    assert await _times(journal) == [(micros(NOON), micros(later)), (micros(NOON), micros(NOON))]
    await journal.record_push(_push(("1", A, "DELIVRD"), at=latest))
    assert (await _times(journal))[0] == (micros(NOON), micros(latest))


@pytest.mark.anyio
async def test_a_repeat_after_an_hour_is_news(journal: Journal) -> None:
    """The same code again within an hour changes nothing; later it moves the time of the report, but not its place."""
    (before,) = await _recorded(journal, _push(("1", A, "DELIVRD")))
    for minutes, moved in ((59, False), (61, True), (62, False)):
        at = NOON + timedelta(minutes=minutes)
        # Twice in one push, so that it does not matter how many are written together.
        (entry,) = await _recorded(journal, _push(("1", A, "DELIVRD"), ("1", A, "DELIVRD"), at=at))
        assert entry.cursor == before.cursor
        assert (entry.value.received_at == at) is moved
    assert await _times(journal) == [(micros(NOON), micros(NOON + timedelta(minutes=61)))]
    assert await journal.conflicts() == []


async def _recorded(journal: Journal, push: Push) -> list[FeedEntry[StatusReport]]:
    await journal.record_push(push)
    return await journal.reports()


@pytest.mark.anyio
async def test_conflicts_within_a_group(journal: Journal) -> None:
    """Reports that contradict each other in one push follow the same rule."""
    push = _push(("1", A, "UNDELIV"), ("1", A, "DELIVRD"), ("1", A, "REJECT"), ("1", A, "DELIVRD"), ("2", A, "REJECT"))
    await journal.record_push(push)
    await journal.record_push(push)
    assert [(entry.value.mid, entry.value.code) for entry in await journal.reports()] == [
        ("2", "REJECT"),
        ("1", "DELIVRD"),
    ]
    kept = await journal.conflicts()
    assert [(conflict.code, conflict.times) for conflict in kept] == [("REJECT", 2), ("UNDELIV", 2)]


@pytest.mark.anyio
async def test_a_winner_comes_again_in_the_feed(journal: Journal) -> None:
    """Whoever has read a report that another one replaces reads the new one, with a cursor never used before."""
    await journal.record_push(_push(("1", A, "UNDELIV"), ("2", A, "DELIVRD")))
    cursor = (await journal.reports())[-1].cursor
    await journal.record_push(_push(("2", A, "UNDELIV"), ("1", A, "DELIVRD")))
    (again,) = await journal.reports(after=cursor)
    assert again.cursor > cursor
    assert (again.value.mid, again.value.state) == ("1", DeliveryState.DELIVERED)
    assert await journal.report_cursor() == again.cursor


_REPORTS = st.lists(
    st.tuples(st.sampled_from("12"), st.sampled_from([A, B]), st.sampled_from(["DELIVRD", "REJECT", "MB:1"])),
    min_size=1,
    max_size=8,
)


@settings(max_examples=30, deadline=None)
@given(st.lists(_REPORTS, min_size=1, max_size=4))
def test_any_grouping(grouping: list[list[tuple[str, str, str]]]) -> None:
    """However reports are spread over pushes, the same one stays for each key as if they had come one by one."""
    expected: dict[tuple[str, str], str] = {}
    for mid, number, code in itertools.chain.from_iterable(grouping):
        if (mid, number) not in expected or code == "DELIVRD":
            expected[mid, number] = code

    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, migrations(DIALECT))
        for reports in grouping:
            group = pushes.PushGroup()
            group.add(_push(*reports), ())
            drive(pushes.write_group(SqliteTransaction(connection, lambda: 0), group))
        stored = connection.execute("SELECT mid, number, code FROM reports").fetchall()
    assert {(mid, number): code for mid, number, code in stored} == expected


@pytest.mark.anyio
async def test_filters(journal: Journal) -> None:
    """Reports and replies are found by message, phone, state and time, from a cursor on, so many."""
    hour = timedelta(hours=1)
    for place, code in enumerate(["DELIVRD", "REJECT", "MB:1", "DELIVRD"]):
        await journal.record_push(_push((str(place), A if place % 2 else B, code), at=NOON + place * hour))
        await journal.record_push(_reply(str(place), mid=str(place), at=NOON + place * hour))

    async def mids(**filters: object) -> str:
        return "".join(entry.value.mid for entry in await journal.reports(**filters))  # type: ignore[arg-type]

    assert await mids() == "0123"
    assert await mids(mid="2") == "2"
    assert await mids(number=A) == "13"
    assert await mids(state=DeliveryState.DELIVERED) == "03"
    assert await mids(state=DeliveryState.FAILED) == "2"
    assert await mids(since=NOON + hour, until=NOON + 3 * hour) == "12"
    assert await mids(after=1, limit=2) == "12"
    assert await mids(number=A, state=DeliveryState.REJECTED, since=NOON) == "1"
    assert [entry.cursor for entry in await journal.replies(mid="2")] == [3]
    assert len(await journal.replies(number=A, since=NOON + hour, until=NOON + 2 * hour)) == 1
    assert [entry.cursor for entry in await journal.replies(after=2, limit=1)] == [3]


@pytest.mark.anyio
async def test_a_phone_in_any_form(journal: Journal) -> None:
    """What is recorded and what is asked for need not name a phone in the same form."""
    long, short = f"+86 {A}", A
    report = StatusReport("1", f"86{A}", code="", received_at=NOON)
    reply = Reply("2", f"0086{A}", text="hm", port=None, area=None, city=None, received_at=NOON)
    await journal.record_push(Push(query=b"", body=b"", reports=(report,), replies=(reply,), received_at=NOON))
    await journal.record_push(_push(("1", A, "DELIVRD"), ("1", B, "")))
    for form in (long, short):
        (found,) = await journal.reports(number=form)
        assert (found.value.number, found.value.code) == (A, "DELIVRD")
        assert await journal.find_reports([("1", form)]) == [found.value]
    await journal.record_push(_push(("1", A, "UNDELIV")))
    for form in (long, short):
        assert [conflict.code for conflict in await journal.conflicts(number=form)] == ["UNDELIV"]
        assert [entry.value.number for entry in await journal.replies(number=form)] == [A]


@pytest.mark.anyio
async def test_replies_once(journal: Journal) -> None:
    """A reply that comes again is stored once; another text under the same mid is another reply."""
    assert await journal.reply_cursor() == 0
    for text in ("好", "好", "TD", "TD"):
        await journal.record_push(_reply(text))
    await journal.record_push(_reply("好", number=B))
    assert [(entry.value.text, entry.value.number) for entry in await journal.replies()] == [
        ("好", A),
        ("TD", A),
        ("好", B),
    ]
    assert await journal.reply_cursor() == (await journal.replies())[-1].cursor


@pytest.mark.anyio
async def test_opting_out(journal: Journal) -> None:
    """A reply may put its number on the suppression list; the same reply again does not after somebody took it off."""
    push = _reply("TD", number="+8613800138000")
    await journal.record_push(_reply("hello", mid="8"), opted_out=())
    assert await journal.suppressions() == []
    await journal.record_push(push, opted_out=push.replies)
    (entry,) = await journal.suppressions()
    assert (entry.number, entry.reason, entry.note) == (A, SuppressionReason.REPLY, "9")
    assert entry.added_at == NOON

    assert await journal.unsuppress([A]) == 1
    await journal.record_push(push, opted_out=push.replies)
    assert await journal.suppressed_numbers() == frozenset()

    again = _reply("TD", mid="10")
    await journal.record_push(again, opted_out=again.replies)
    assert await journal.suppressed_numbers() == {A}


@pytest.mark.anyio
async def test_opting_out_without_a_mid(journal: Journal) -> None:
    """A wish that cannot be told from an earlier one is honoured each time."""
    push = parse_push(b"type=1&mobile=13800138000&msg=TD", b"")
    for _ in range(2):
        await journal.record_push(push, opted_out=push.replies)
        assert await journal.unsuppress([A]) == 1
    assert len(await journal.replies()) == 1


@pytest.mark.anyio
async def test_raw(journal: Journal) -> None:
    """A push with a flag is kept as it came, the same bytes in the same places once; an empty one is not."""
    later = NOON + timedelta(seconds=1)
    for query, body, at in [
        (b"ab", b"\xffc", NOON),
        (b"ab", b"\xffc", later),
        (b"ab\xff", b"c", NOON),
        (b"", b"", NOON),
    ]:
        await journal.record_push(parse_push(query, body, received_at=at))
    first, second = await journal.raw_pushes()
    assert (first.query, first.body, first.times) == (b"ab", b"\xffc", 2)
    assert (first.first_at, first.last_at) == (NOON, later)
    assert first.flags == (PushFlag.UNKNOWN_FIELD, PushFlag.UNKNOWN_TYPE)
    assert (second.query, second.body, second.times) == (b"ab\xff", b"c", 1)
    assert await journal.raw_pushes(after=first.cursor) == [second]
    assert "ab" not in repr(first)


@pytest.mark.anyio
async def test_a_push_that_cannot_be_stored(journal: Journal) -> None:
    """It is kept raw with a flag and acknowledged, and what was gathered with it is stored as ever."""
    mid = b"".join(b"%x" % (number**7) for number in range(1, 400))[:3500]
    assert len(mid) == 3500
    bad = parse_push(b"", b"type=4&mid=" + mid + b"&mobile=13800138000&msg=DELIVRD", limits=PushLimits(value=5000))
    assert (len(bad.reports), bad.flags) == (1, ())
    heard: list[StatusReport] = []
    journal.subscribe(heard.extend)
    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(journal.record_push, _push((str(number), A, "DELIVRD")))
        tasks.start_soon(journal.record_push, bad)
        tasks.start_soon(journal.record_push, _reply("R"))
    assert sorted(entry.value.mid for entry in await journal.reports()) == ["0", "1", "2", "3", "4"]
    assert sorted(report.mid for report in heard) == ["0", "1", "2", "3", "4"]
    assert [entry.value.text for entry in await journal.replies()] == ["R"]
    (kept,) = await journal.raw_pushes()
    assert (kept.body, kept.flags) == (bad.body, (PushFlag.UNSTORABLE,))
    await journal.record_push(_push(("5", A, "DELIVRD")))
    assert len(await journal.reports()) == 6


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("mid", "number", "code"), [("9" * 257, A, "DELIVRD"), ("9", "1" * 257, "DELIVRD"), ("9", A, "M" * 257)], ids="mpc"
)
async def test_keys_have_a_length(journal: Journal, mid: str, number: str, code: str) -> None:
    """One character more than that is kept raw, on either database."""
    for less in (True, False):
        most = 256 if less else 257
        report = StatusReport(mid[:most], number[:most], code=code[:most], received_at=NOON)
        await journal.record_push(Push(query=b"as it came", body=b"", reports=(report,), received_at=NOON))
        assert len(await journal.reports()) == 1
        assert len(await journal.raw_pushes()) == (0 if less else 1)


@pytest.mark.anyio
async def test_half_a_surrogate_pair(journal: Journal) -> None:
    """What UTF-8 cannot say is replaced on PostgreSQL and refused by SQLite, where the push is kept raw."""
    reply = Reply("1", A, text="\ud83d", port=None, extno=None, area=None, city=None, received_at=NOON)
    await journal.record_push(Push(query=b"as it came", body=b"", replies=(reply,), received_at=NOON))
    texts = [entry.value.text for entry in await journal.replies()]
    flags = [raw_push.flags for raw_push in await journal.raw_pushes()]
    assert (texts, flags) in ((["?"], []), ([], [(PushFlag.UNSTORABLE,)]))


@pytest.mark.anyio
async def test_an_operation_that_suspends_is_an_error_on_sqlite(file: Journal) -> None:
    """In the writer's thread and in a reader's there is no event loop: the mistake is named, and nothing is written."""

    async def suspend(transaction: Transaction) -> None:
        await raw(transaction, "INSERT INTO suppressions VALUES ('1', 'manual', '', 0)")
        await checkpoint()

    async def look(_transaction: Transaction) -> None:
        await checkpoint()

    @types.coroutine
    def checkpoint() -> Generator[None]:
        yield

    with pytest.raises(RuntimeError, match="awaits something else"):
        await file.database.write(suspend)
    with pytest.raises(RuntimeError, match="awaits something else"):
        await file.database.read(look)
    assert await file.database.read(lambda transaction: raw(transaction, "SELECT count(*) FROM suppressions")) == [(0,)]


@pytest.mark.anyio
async def test_suppression_list(journal: Journal) -> None:
    """Numbers are added, listed by pages, and removed, in the form that sending compares; the first entry stays."""
    numbers = [f"1380013{place:04}" for place in range(5)]
    assert await journal.suppress(numbers, reason=SuppressionReason.IMPORT, note="list of June") == 5
    assert await journal.suppress(["+86 138 0013 0000", " not a number ", A]) == 2
    page = await journal.suppressions(after="not", limit=10)
    assert [entry.number for entry in page] == ["not a number"]
    first = (await journal.suppressions(limit=1))[0]
    assert (first.number, first.reason, first.note) == ("13800130000", SuppressionReason.IMPORT, "list of June")
    assert await journal.suppressed_numbers() == {*numbers, A, "not a number"}
    assert await journal.unsuppress([*numbers, "13900139000"]) == 5
    assert await journal.suppressed_numbers() == {A, "not a number"}
    for listing in (journal.suppress, journal.unsuppress):
        with pytest.raises(InvalidRequestError, match="one string"):
            await listing(A)
    assert await journal.suppressed_numbers() == {A, "not a number"}


@pytest.mark.anyio
async def test_the_suppression_list_has_one_entry_for_a_phone(journal: Journal) -> None:
    """In whatever form it is put on the list, by hand or by a reply, it is there once, and can be taken off in any."""
    assert await journal.suppress([f"86{A}", f"0086{A}", A, f"0{A}", "+852 9123 4567"]) == 2
    push = parse_push(f"type=1&mid=7&mobile=86{B}&msg=TD".encode(), b"")
    await journal.record_push(push, opted_out=push.replies)
    assert await journal.suppressed_numbers() == {A, B, "+85291234567"}
    assert await journal.unsuppress([f"+86 {A}", f"0086{B}", "+852-9123-4567"]) == 3


@pytest.mark.anyio
async def test_listeners(journal: Journal) -> None:
    """Listeners hear of the reports of each commit until they leave, and of nothing that was not committed."""
    heard: list[str] = []
    leave = journal.subscribe(lambda reports: heard.extend(report.mid for report in reports))
    await journal.record_push(_push(("1", A, "DELIVRD")))
    await journal.record_push(_reply("TD"))
    assert heard == ["1"]

    await journal.database.write(lambda transaction: raw(transaction, "DROP TABLE reports"))
    with pytest.raises(JournalUnavailableError, match=r"no such table|does not exist"):
        await journal.record_push(_push(("2", A, "DELIVRD")))
    leave()
    assert heard == ["1"]


@pytest.mark.anyio
@pytest.mark.parametrize("limit", ["MAX_WAITING_PUSHES", "MAX_WAITING_BYTES"])
async def test_back_pressure(journal: Journal, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """What waits is bounded in number and in bytes; what is refused can come again, and nothing is counted for good."""
    push = _push(("1", A, "DELIVRD"))
    monkeypatch.setattr(pushes, limit, 2 if limit == "MAX_WAITING_PUSHES" else 2 * len(push.query))
    outcomes: list[str] = []

    async def record(mid: str) -> None:
        try:
            await journal.record_push(_push((mid, A, "DELIVRD")))
        except JournalBusyError:
            outcomes.append("busy")
        else:
            outcomes.append("stored")

    for _ in range(3):
        async with anyio.create_task_group() as tasks:
            for mid in "123":
                tasks.start_soon(record, mid)
    assert sorted(outcomes) == ["busy"] * 3 + ["stored"] * 6


@pytest.mark.anyio
async def test_groups_are_bounded(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pushes beyond one statement's worth of reports go into the next one."""
    monkeypatch.setattr(pushes, "MAX_GROUP", 2)
    heard: list[int] = []
    journal.subscribe(lambda reports: heard.append(len(reports)))
    async with anyio.create_task_group() as tasks:
        for mid in "12345":
            tasks.start_soon(journal.record_push, _push((mid, A, "DELIVRD")))
    assert sum(heard) == 5
    assert max(heard) <= 2


@pytest.mark.anyio
async def test_more_than_a_statement_holds(file: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A push of more reports than one statement takes is stored whole, also when half of it is known."""
    monkeypatch.setattr(sqlite_database, "MERGED_ROWS", 7)
    reports = [(str(place), A, "DELIVRD") for place in range(40)]
    await file.record_push(_push(*reports[:20]))
    await file.record_push(_push(*reports, ("3", A, "REJECT")))
    assert [entry.value.mid for entry in await file.reports()] == [mid for mid, _, _ in reports]
    assert [(conflict.mid, conflict.code) for conflict in await file.conflicts()] == [("3", "REJECT")]


@pytest.mark.anyio
async def test_pushes_beside_other_work(file: Journal) -> None:
    """Pushes and other writing that wait at the same time share a transaction."""
    statements: list[str] = []
    entered, gate = threading.Event(), threading.Event()

    def hold(connection: sqlite3.Connection) -> None:
        connection.set_trace_callback(statements.append)
        entered.set()
        assert gate.wait(120)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(file.database.writer.submit(hold).result)
        await anyio.to_thread.run_sync(entered.wait)
        tasks.start_soon(file.record_push, _push(("1", A, "DELIVRD")))
        tasks.start_soon(file.suppress, [B])
        await anyio.wait_all_tasks_blocked()
        gate.set()
    assert statements.count("COMMIT") == 2
    assert [entry.value.mid for entry in await file.reports()] == ["1"]
    assert await file.suppressed_numbers() == {B}


@pytest.mark.anyio
async def test_nothing_in_it(journal: Journal) -> None:
    """A push with neither reports nor replies nor a flag is no trouble."""
    await journal.record_push(Push(query=b"x", body=b""))
    assert await journal.reports() == []


@pytest.mark.anyio
async def test_cancelled(journal: Journal) -> None:
    """A push whose sender went away is stored all the same, and the journal goes on."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        await journal.record_push(_push(("1", A, "DELIVRD")))
    await journal.record_push(_push(("2", A, "DELIVRD")))
    assert [entry.value.mid for entry in await journal.reports()] == ["1", "2"]


@pytest.mark.anyio
async def test_locked_by_another_process(file: Journal, tmp_path: Path) -> None:
    """While another process keeps the file locked pushes are refused, not lost in memory; readers read on."""
    await file.database.writer.submit(lambda connection: connection.execute("PRAGMA busy_timeout=0")).result()
    with closing(sqlite3.connect(tmp_path / "qxt.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalUnavailableError, match="locked"):
            await file.record_push(_push(("1", A, "DELIVRD")))
        assert await file.reports() == []
        other.execute("COMMIT")
    await file.record_push(_push(("1", A, "DELIVRD")))
    assert len(await file.reports()) == 1


@pytest.mark.anyio
async def test_readers_cannot_write(file: Journal) -> None:
    """What reads cannot write by mistake."""
    with pytest.raises(JournalUnavailableError, match="readonly"):
        await file.database.read(lambda transaction: raw(transaction, "DELETE FROM reports"))


_WRITER = """
import sys, anyio
from qxt_async.journal import open_journal
from qxt_async.protocol.pushes import parse_push

async def main(path, name):
    async with open_journal(path) as journal:
        for place in range(30):
            await journal.record_push(parse_push(f"type=4&mid={name}{place}&mobile=1,&msg=DELIVRD".encode(), b""))

anyio.run(main, *sys.argv[1:])
"""


def _start_writers(path: str) -> list[subprocess.Popen[bytes]]:
    return [subprocess.Popen([sys.executable, "-c", _WRITER, path, name]) for name in "abc"]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_cursors_are_in_commit_order_over_processes(journal: Journal, store: str) -> None:
    """While several processes write, a reader that follows the cursor misses nothing."""
    writers = _start_writers(store)
    seen: list[str] = []
    cursor = 0
    with anyio.fail_after(240):
        while len(seen) < 90:
            assert not any(writer.poll() for writer in writers)
            for entry in await journal.reports(after=cursor):
                seen.append(entry.value.mid)
                cursor = entry.cursor
    assert [await anyio.to_thread.run_sync(writer.wait) for writer in writers] == [0, 0, 0]
    assert len(set(seen)) == 90
    # Each one's own are in the order in which it was told that they are stored.
    for name in "abc":
        assert [mid for mid in seen if mid[0] == name] == [f"{name}{place}" for place in range(30)]
