"""PushReceiver: what it answers, what it stores, whom it calls."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.asgi import PHONE, REPORT, SECRET, ask

from qxt_async.errors import InvalidConfigurationError, JournalBusyError
from qxt_async.journal import Journal, open_journal
from qxt_async.models import DeliveryState, Reply, StatusReport
from qxt_async.protocol.pushes import OptOut, PushFlag
from qxt_async.receiving import PushReceiver, new_secret

TD = b"type=1&mid=5&mobile=13800138000&msg=%CD%CB%B6%A9&port=106900012"


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    """An open journal of its own."""
    async with open_journal(tmp_path / "qxt.sqlite") as opened:
        yield opened


# --- what is taken --------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_ok_after_the_commit(journal: Journal) -> None:
    """A report by GET, one by POST in pieces: answered exactly `ok`, and stored by then."""
    receiver = PushReceiver(journal, path_secret=SECRET)
    answer = await ask(receiver, REPORT)
    assert (answer.status, answer.body) == (200, b"ok")
    assert dict(answer.headers)[b"content-length"] == b"2"
    assert [entry.value.mid for entry in await journal.reports()] == ["1"]

    pieces = [b"type=4&mid=2&mob", b"", b"ile=13800138001&msg=REJECT"]
    assert (await ask(receiver, chunks=pieces)).body == b"ok"
    (entry,) = await journal.reports(mid="2")
    assert entry.value.state is DeliveryState.REJECTED
    assert entry.value.received_at is not None


@pytest.mark.anyio
async def test_query_and_body(journal: Journal) -> None:
    """The fields of a POST may be in its query, its body, or both."""
    receiver = PushReceiver(journal, path_secret=SECRET)
    assert (await ask(receiver, b"type=4&mid=1", [b"mobile=13800138000&msg=DELIVRD"])).body == b"ok"
    assert (await ask(receiver, b"type=4&mid=2&mobile=1&msg=DELIVRD", method="POST")).body == b"ok"
    assert (
        await ask(receiver, b"type=4", [b"mid=3&mobile=1&msg=DELIVRD"], method="GET", headers=[CHUNKED])
    ).body == b"ok"
    assert [entry.value.mid for entry in await journal.reports()] == ["1", "2", "3"]


CHUNKED = (b"transfer-encoding", b"chunked")


@pytest.mark.anyio
@pytest.mark.parametrize("length", [0, len(REPORT)])
@pytest.mark.parametrize("order", [1, -1], ids=["length first", "length last"])
async def test_two_lengths_are_refused(journal: Journal, length: int, order: int) -> None:
    """`Content-Length` beside `Transfer-Encoding` is 400, in a GET as well: which part of it a server reads differs."""
    receiver = PushReceiver(journal, path_secret=SECRET)
    headers = [*_headers(length), CHUNKED][::order]
    for method in ("POST", "GET"):
        answer = await ask(receiver, b"type=4", chunks=[REPORT], method=method, headers=headers)
        assert answer.status == 400
        assert (b"connection", b"close") in answer.headers
    assert await journal.reports() == []
    assert await journal.raw_pushes() == []


@pytest.mark.anyio
async def test_a_post_without_a_length(journal: Journal) -> None:
    """It is 411 unless its query has the push, or the server has a body for it: over HTTP/2 that needs no length."""
    receiver = PushReceiver(journal, path_secret=SECRET)
    answer = await ask(receiver, method="POST")
    assert answer.status == 411
    assert (b"connection", b"close") in answer.headers
    assert await journal.raw_pushes() == []
    assert (await ask(receiver, REPORT, method="POST")).body == b"ok"
    assert (await ask(receiver, chunks=[REPORT.replace(b"mid=1", b"mid=2")], http_version="2")).body == b"ok"
    assert [entry.value.mid for entry in await journal.reports()] == ["1", "2"]
    assert (await ask(receiver, method="POST", headers=[CHUNKED])).body == b"ok"
    assert (await ask(receiver, method="POST", headers=_headers(0))).body == b"ok"


@pytest.mark.anyio
async def test_not_understood(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be understood is acknowledged, so that it does not come forever, and kept raw; the log tells why."""
    caplog.set_level(logging.INFO, "qxt_async")
    receiver = PushReceiver(journal, path_secret=SECRET)
    assert (await ask(receiver, b"type=9&mobile=13800138000")).body == b"ok"
    (kept,) = await journal.raw_pushes()
    assert kept.flags == (PushFlag.UNKNOWN_TYPE,)
    assert "unknown-type" in caplog.text
    assert PHONE not in caplog.text


@pytest.mark.anyio
async def test_opt_out(journal: Journal) -> None:
    """A reply with a keyword puts its number on the suppression list, with the extension split off the port."""
    await ask(PushReceiver(journal, path_secret=SECRET, channel_number="10690"), TD)
    assert await journal.suppressed_numbers() == {PHONE}
    (entry,) = await journal.replies()
    assert (entry.value.text, entry.value.extno) == ("退订", "0012")


@pytest.mark.anyio
@pytest.mark.parametrize("opt_out", [None, OptOut(frozenset({"STOP"}))], ids=["off", "others"])
async def test_opt_out_is_the_callers_choice(journal: Journal, opt_out: OptOut | None) -> None:
    """Without keywords, or with others, the reply is stored and nothing else."""
    await ask(PushReceiver(journal, path_secret=SECRET, opt_out=opt_out), TD)
    assert await journal.suppressed_numbers() == frozenset()
    assert len(await journal.replies()) == 1


# --- handlers -------------------------------------------------------------------------------------------------------


class Handler:
    """A callable object, as a service may have."""

    def __init__(self) -> None:
        self.values: list[StatusReport | Reply] = []

    async def __call__(self, value: StatusReport | Reply) -> None:
        """Keep what comes."""
        self.values.append(value)


@pytest.mark.anyio
async def test_handlers() -> None:
    """Handlers get typed values, one by one, before the answer; async ones in the event loop, others in a thread."""
    handler = Handler()
    threads: list[tuple[str, int]] = []

    async def asynchronous(report: StatusReport) -> None:
        handler.values.append(report)
        threads.append((report.mid, threading.get_ident()))

    def blocking(reply: Reply) -> None:
        handler.values.append(reply)
        threads.append((reply.mid, threading.get_ident()))

    receiver = PushReceiver(path_secret=SECRET, on_report=asynchronous, on_reply=blocking)
    assert (await ask(receiver, b"type=4&mid=1,2&mobile=a,b&msg=DELIVRD,REJECT")).body == b"ok"
    assert (await ask(receiver, TD)).body == b"ok"
    assert [value.mid for value in handler.values] == ["1", "2", "5"]
    here = threading.get_ident()
    assert [thread == here for _, thread in threads] == [True, True, False]


class Failing(Handler):
    """One that keeps what comes, and fails."""

    async def __call__(self, value: StatusReport | Reply) -> None:
        """Keep it, and fail."""
        await super().__call__(value)
        raise LookupError


@pytest.mark.anyio
@pytest.mark.parametrize("wrap", [lambda handler: handler, functools.partial], ids=["object", "partial"])
async def test_an_object_with_an_async_call(wrap: Any) -> None:
    """It is called as an async function is: for one value after the other, and for no more once it has failed.

    What returns an awaitable is called for all values at once, in a thread. A call that nobody awaits is a warning,
    which fails the test.
    """
    two = b"type=4&mid=1,2&mobile=a,b&msg=DELIVRD,REJECT"
    for handler, status, count in ((Handler(), 200, 2), (Failing(), 503, 1)):
        assert (await ask(PushReceiver(path_secret=SECRET, on_report=wrap(handler)), two)).status == status
        assert len(handler.values) == count


@pytest.mark.anyio
@pytest.mark.parametrize("form", ["object", "partial", "lambda", "builtin"])
async def test_forms_of_handlers(form: str) -> None:
    """An object with an async call, a partial of an async function, and what returns an awaitable are all awaited."""
    handler = Handler()

    async def named(values: list[Any], value: Any) -> None:
        values.append(value)

    forms: dict[str, Any] = {
        "object": handler,
        "partial": functools.partial(functools.partial(named), handler.values),
        "lambda": lambda value: named(handler.values, value),
        "builtin": handler.values.append,
    }
    receiver = PushReceiver(path_secret=SECRET, on_report=forms[form], on_reply=forms[form])
    assert (await ask(receiver, REPORT)).body == b"ok"
    assert (await ask(receiver, TD)).body == b"ok"
    assert [type(value) for value in handler.values] == [StatusReport, Reply]


@pytest.mark.anyio
@pytest.mark.parametrize("kept", [True, False], ids=["journal", "no journal"])
async def test_only_a_handler_of_replies(journal: Journal, kept: bool) -> None:
    """It is told replies, and what nobody handles is acknowledged, and stored if there is a journal."""
    handler = Handler()
    receiver = PushReceiver(journal if kept else None, path_secret=SECRET, on_reply=handler)
    assert (await ask(receiver, REPORT)).body == b"ok"
    assert handler.values == []
    assert (await ask(receiver, TD)).body == b"ok"
    assert [type(value) for value in handler.values] == [Reply]
    assert len(await journal.reports()) == len(await journal.replies()) == kept


@pytest.mark.anyio
@pytest.mark.parametrize("kept", [True, False], ids=["journal", "no journal"])
async def test_only_a_handler_of_reports(journal: Journal, kept: bool) -> None:
    """It is told reports, and replies are answered with `ok`, and stored if there is a journal."""
    handler = Handler()
    receiver = PushReceiver(journal if kept else None, path_secret=SECRET, on_report=handler)
    assert (await ask(receiver, TD)).body == b"ok"
    assert handler.values == []
    assert (await ask(receiver, REPORT)).body == b"ok"
    assert [type(value) for value in handler.values] == [StatusReport]
    assert len(await journal.reports()) == len(await journal.replies()) == kept


@pytest.mark.anyio
@pytest.mark.parametrize("field", ["mid", "mobile"])
async def test_a_report_whose_key_is_too_long(journal: Journal, field: str) -> None:
    """It is kept raw, whole, and acknowledged: a key that is cut could be another report's. The longest key is kept."""
    receiver = PushReceiver(journal, path_secret=SECRET)
    fields = {"type": "4", "mid": "7", "mobile": "1", "msg": "DELIVRD"}
    query = "&".join(f"{name}={value}" for name, value in (fields | {field: "9" * 129}).items()).encode()
    assert (await ask(receiver, query)).body == b"ok"
    (raw,) = await journal.raw_pushes()
    assert (raw.query, raw.flags) == (query, (PushFlag.TOO_LONG,))
    assert await journal.reports() == []
    assert (await ask(receiver, query.replace(b"9" * 129, b"9" * 128))).body == b"ok"
    assert len(await journal.reports()) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_failing_handler(journal: Journal, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """If a handler raises, the gateway is told to push again; the log names the error and its place, and no number."""

    def fail(report: StatusReport) -> None:
        raise LookupError(f"no customer {report.number}")

    async def fail_later(report: StatusReport) -> None:
        fail(report)

    receiver = PushReceiver(journal, path_secret=SECRET, on_report=fail if kind == "sync" else fail_later)
    answer = await ask(receiver, REPORT)
    assert answer.status == 503
    assert answer.body != b"ok"
    assert len(await journal.reports()) == 1
    assert "LookupError at" in caplog.text
    assert "test_receiver.py" in caplog.text
    assert PHONE not in caplog.text
    assert SECRET not in caplog.text


# --- the store fails ------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_not_open(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A journal that nobody opened answers 503, and the log says how to open it; no handler hears of it."""
    handler = Handler()
    receiver = PushReceiver(tmp_path / "qxt.sqlite", path_secret=SECRET, on_report=handler)
    assert (await ask(receiver, REPORT)).status == 503
    assert handler.values == []
    assert "not open" in caplog.text


@pytest.mark.anyio
async def test_busy(journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """When the store cannot keep up the gateway is told to come back."""

    async def busy(*_: object, **__: object) -> None:
        raise JournalBusyError("10000 pushes already wait")

    monkeypatch.setattr(journal, "record_push", busy)
    answer = await ask(PushReceiver(journal, path_secret=SECRET), REPORT)
    assert (answer.status, answer.body) == (503, b"busy")
    assert "10000 pushes" in caplog.text


# --- limits ---------------------------------------------------------------------------------------------------------


def _headers(length: int) -> list[tuple[bytes, bytes]]:
    return [(b"content-length", str(length).encode())]


async def _never() -> MutableMapping[str, Any]:
    raise AssertionError("the body was asked for")


@pytest.mark.anyio
async def test_too_large(journal: Journal) -> None:
    """A body over the limit is refused as soon as it is known to be, without reading it; one at the limit is taken."""
    receiver = PushReceiver(journal, path_secret=SECRET, body_limit=len(REPORT))
    assert (await ask(receiver, method="POST", headers=_headers(300_000_000), receive=_never)).status == 413

    read = 0

    async def endless() -> MutableMapping[str, Any]:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": b"x" * 20, "more_body": True}

    answer = await ask(receiver, method="POST", receive=endless)
    assert answer.status == 413
    assert (b"connection", b"close") in answer.headers
    assert read == len(REPORT) // 20 + 1

    assert (await ask(receiver, b"x" * (len(REPORT) + 1), receive=_never)).status == 414
    assert (await ask(receiver, chunks=[REPORT], headers=_headers(len(REPORT)))).body == b"ok"
    assert (await ask(receiver, REPORT, method="POST", headers=_headers(0), receive=_never)).body == b"ok"
    assert (await ask(receiver, REPORT, headers=[(b"content-length", b"?")], receive=_never)).body == b"ok"


@pytest.mark.anyio
async def test_too_slow(journal: Journal) -> None:
    """A body that does not come in time is given up."""

    async def stalled() -> MutableMapping[str, Any]:
        await anyio.sleep_forever()
        raise AssertionError

    receiver = PushReceiver(journal, path_secret=SECRET, read_timeout=0.01)
    assert (await ask(receiver, method="POST", receive=stalled)).status == 408
    assert await journal.raw_pushes() == []


@pytest.mark.anyio
async def test_cut(journal: Journal) -> None:
    """A body that ends early is not taken for a smaller push."""
    messages = iter([{"type": "http.request", "body": REPORT, "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> MutableMapping[str, Any]:
        return next(messages)

    assert (await ask(PushReceiver(journal, path_secret=SECRET), method="POST", receive=receive)).status == 400
    assert await journal.reports() == []


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_methods(journal: Journal, method: str) -> None:
    """Only GET and POST push."""
    answer = await ask(PushReceiver(journal, path_secret=SECRET), REPORT, method=method)
    assert answer.status == 405
    assert (b"allow", b"GET, POST") in answer.headers
    assert await journal.reports() == []


# --- running alone ---------------------------------------------------------------------------------------------------


async def _lifespan(receiver: PushReceiver, during: Any = None) -> list[MutableMapping[str, Any]]:
    sent: list[MutableMapping[str, Any]] = []
    events = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> MutableMapping[str, Any]:
        event = next(events)
        if event == "lifespan.shutdown":
            await during()
        return {"type": event}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await receiver({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
    return sent


@pytest.mark.anyio
async def test_lifespan(tmp_path: Path) -> None:
    """Alone it opens the journal that it was given a path for, and closes it."""
    receiver = PushReceiver(str(tmp_path / "qxt.sqlite"), path_secret=SECRET)
    answers: list[int] = []

    async def during() -> None:
        answers.append((await ask(receiver, REPORT)).status)

    sent = await _lifespan(receiver, during)
    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert answers == [200]
    assert (await ask(receiver, REPORT)).status == 503


@pytest.mark.anyio
async def test_lifespan_leaves_others_journals_alone(journal: Journal) -> None:
    """A journal that the caller opened stays the caller's to close."""

    async def during() -> None:
        pass

    await _lifespan(PushReceiver(journal, path_secret=SECRET), during)
    assert await journal.reports() == []


@pytest.mark.anyio
async def test_lifespan_fails(tmp_path: Path) -> None:
    """A journal that cannot be opened stops the server at its start."""
    receiver = PushReceiver(tmp_path / "nowhere" / "qxt.sqlite", path_secret=SECRET)
    (message,) = await _lifespan(receiver)
    assert message["type"] == "lifespan.startup.failed"
    assert "No such file" in message["message"]


@pytest.mark.anyio
async def test_websocket(journal: Journal) -> None:
    """A websocket is closed, whatever its path."""
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await PushReceiver(journal, path_secret=SECRET)({"type": "websocket", "path": f"/{SECRET}"}, _never, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


# --- configuration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", ["", "short", "ü" * 30, "a/b" * 10, "a b" * 10, "x" * 19])
def test_weak_secret(secret: str) -> None:
    """A secret that could be guessed, or that cannot stand in a path, is refused, and not repeated."""
    with pytest.raises(InvalidConfigurationError, match="path_secret") as caught:
        PushReceiver("qxt.sqlite", path_secret=secret)
    assert not secret or secret not in str(caught.value)


def test_nobody_takes_it() -> None:
    """Without journal and handlers pushes would be lost."""
    with pytest.raises(InvalidConfigurationError, match="lost"):
        PushReceiver(path_secret=SECRET)


@pytest.mark.parametrize("option", ["allow", "trusted_proxies"])
@pytest.mark.parametrize("value", ["192.0.2.1", ["192.0.2.256"], ["192.0.2.1/8"], ["example.org"]], ids=repr)
def test_no_addresses(option: str, value: Any) -> None:
    """What is no list of addresses and networks is refused at once."""
    with pytest.raises(InvalidConfigurationError):
        PushReceiver("qxt.sqlite", path_secret=SECRET, **{option: value})


def test_new_secret() -> None:
    """A new secret is another one each time, and good enough."""
    secrets = {new_secret() for _ in range(10)}
    assert len(secrets) == 10
    for secret in secrets:
        PushReceiver("qxt.sqlite", path_secret=secret)
