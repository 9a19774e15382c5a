"""Names, texts and answers that are commands to something: to SQL, a shell, a terminal, a log, a file system."""

from __future__ import annotations

import json
import logging
import stat
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from qxt_async import DeliveryState, PartialAnswerError, QxtClient, Reply, StatusReport
from qxt_async.campaign import Campaigns
from qxt_async.cli.program import qxt
from qxt_async.errors import QxtError
from qxt_async.journal import open_journal
from qxt_async.protocol import parse_balance, parse_send
from qxt_async.protocol.pushes import Push

NUMBER = "13800138000"
HOSTILE = [
    "'; DROP TABLE batches; --",
    '" OR 1=1; --',
    "%s %(x)s $1 :name ?",
    "{a.__class__} {0} %d",
    "\\'; SELECT 1 --",
    "../../../../tmp/x",
    "$(touch x) `touch x`",
    "\x1b[2J\r\nforged line",
]


@pytest.mark.anyio
@pytest.mark.parametrize("word", HOSTILE)
async def test_a_database_takes_any_word_as_a_word(store: str, word: str) -> None:
    """Campaigns, columns, notes, reports, replies and searches with it are stored and found; nothing else happens."""
    async with open_journal(store) as journal:
        rows = [{"mobile": NUMBER, word: word}]
        made = await Campaigns(journal).plan(rows, "【Acme】{1}", name=word)
        await journal.record_push(
            Push(
                query=word.encode(),
                body=b"",
                reports=(StatusReport(word, word, code=word, port=word, area=word, city=word),),
                replies=(Reply(word, word, text=word, port=word, area=word, city=word),),
            )
        )
        await journal.suppress([NUMBER], note=word)

        assert (await journal.campaigns.get(made.id)).name == word
        (report,) = await journal.find_reports({(word, word)})
        assert (report.code, report.area, report.state) == (word, word, DeliveryState.FAILED)
        (reply,) = await journal.replies(mid=word, number=word)
        assert reply.value.text == word
        assert await journal.find_reports({("' OR 1=1 --", word)}) == []
        assert await journal.suppressed_numbers() == {NUMBER}
        assert (await journal.campaigns.counts(made.id)).numbers == 1


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder inside of another one, and a journal there."""
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    monkeypatch.setenv("QXT_JOURNAL", "qxt.db")
    return tmp_path


def _run(*arguments: str) -> Result:
    result = CliRunner().invoke(qxt, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


@pytest.mark.parametrize("name", ["../../escaped", "/escaped", "a/../../../escaped", "..\\escaped", "con\n"])
def test_no_file_is_named_by_what_stands_in_data(desk: Path, name: str) -> None:
    """Reports and exports go where the caller says, or by the campaign's id; its name and its rows name no file."""
    Path("numbers.csv").write_text(f'mobile,{json.dumps(name)}\n{NUMBER},"{name}"\n', encoding="utf-8")
    planned = _run(
        "campaign", "plan", "numbers.csv", "--text", "【Acme】{2}", "--name", name, "--json", "--column", "1"
    )
    assert planned.exit_code == 0, planned.output
    assert _run("campaign", "report", "1").exit_code == 0
    assert _run("campaign", "export", "1", "--csv", "out.csv", "--parquet", "out.parquet").exit_code == 0
    files = {path.relative_to(desk).as_posix() for path in desk.rglob("*") if path.is_file()}
    assert {name for name in files if not name.startswith("a/b/qxt.db")} == {
        f"a/b/{name}" for name in ("numbers.csv", "campaign-1.html", "out.csv", "out.parquet")
    }


def test_exports_are_their_owners_alone(desk: Path) -> None:
    """Files with whole numbers in them cannot be read by others, unless the caller made them so."""
    Path("numbers.txt").write_text(NUMBER, encoding="utf-8")
    Path("shared.csv").touch(0o644)
    assert _run("campaign", "plan", "numbers.txt", "--text", "【Acme】x").exit_code == 0
    assert (
        _run("campaign", "export", "1", "--csv", "a.csv", "--parquet", "b.parquet", "--left-out", "c.csv").exit_code
        == 0
    )
    assert _run("campaign", "export", "1", "--csv", "shared.csv").exit_code == 0
    for name in ("a.csv", "b.parquet", "c.csv", "qxt.db"):
        assert stat.S_IMODE(Path(name).stat().st_mode) == 0o600, name
    assert stat.S_IMODE(Path("shared.csv").stat().st_mode) == 0o644


@pytest.mark.parametrize(
    "mid",
    ["\x1b[31mred", "1\x072", "\x9b2J", "\u202e321", "9" * 129, "\x00"],
    ids=["escape", "bell", "csi", "rtl", "long", "nul"],
)
def test_a_mid_that_could_steer_a_terminal_is_none(mid: str) -> None:
    """A mid goes to logs and terminals, so one that is not printable, or endless, makes its numbers unknown."""
    for indent in ("", " "):
        answer = parse_send(f"{indent}ok:{mid}:{NUMBER}".encode(), [NUMBER], NUMBER.encode())
        assert answer.unknown == (NUMBER,)
        assert isinstance(answer.error, PartialAnswerError)
    assert parse_send(f"ok:{'9' * 128}:{NUMBER}".encode(), [NUMBER], NUMBER.encode()).acceptances[0].mid == "9" * 128


@pytest.mark.anyio
@pytest.mark.parametrize(
    "said",
    ["error:bad\x1b[2J", "fail:\x1b[2J:" + NUMBER, "\x1b[2J\r", "error:\u202eevil\u2028x", "ok:\x1b[2J:" + NUMBER],
)
async def test_an_answer_cannot_forge_a_line_of_a_log(said: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the gateway says, each record is one line without control characters, and so is each error."""
    caplog.set_level(logging.DEBUG, "qxt_async")
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=said.encode()))
    async with QxtClient("user", "password", base_url="http://gateway.test/qxt", transport=transport) as client:
        with pytest.raises(QxtError) as caught:
            await client.send(NUMBER, "【Acme】x")
        result = await client.send_bulk([NUMBER], "【Acme】x")
    assert str(caught.value).isprintable()
    assert repr(result).isprintable()
    assert caplog.records
    assert all(record.getMessage().isprintable() for record in caplog.records)


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        b"error:" + b" " * 250_000 + b"x",
        b" " * 250_000,
        ("失败" + " " * 250_000 + "：").encode(),
        b"%" * 250_000,
        b"%41" * 80_000 + b"%",
        b"a" * 31 + b"-" + b"f" * 31 * 8000,
        b"1" * 250_000,
        b"ok:" * 80_000,
        b"ok:1:" + b"," * 250_000,
        f"ok:1:{NUMBER}\n".encode() * 14_000,
        b"ok:sms:" + b" " * 250_000 + b"1",
        b"error:" + b"1." * 120_000,
    ],
    ids=range(12),
)
def test_no_answer_takes_minutes_to_read(body: bytes) -> None:
    """The largest answer that is taken, made of what patterns could be slow on, is read within a test's time."""
    answer = parse_send(body, [NUMBER], NUMBER.encode())
    assert len(answer.acceptances) <= 1
    with pytest.raises(QxtError):
        parse_balance(body)
