"""What is logged: a line a batch, and never a secret, a text or a whole number, by anyone."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import io
import logging
import re
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_from_bytes

import anyio
import anyio.abc
import httpx
import pytest

from qxt_async import NO_RETRIES, QxtClient, QxtError, Reply, RetryPolicy
from qxt_async.campaign import Campaigns
from qxt_async.journal import open_journal
from qxt_async.protocol.pushes import OptOut
from qxt_async.receiving import PushReceiver

PASSWORD = "correct horse"
DIGEST = hashlib.md5(PASSWORD.encode()).hexdigest()
TEXT = "【Acme】机密内容 top secret"
NUMBERS = [f"1380013{n:04d}" for n in range(20)]

ENCODED = "%" + TEXT.encode("gbk").hex("%").upper()
SECRETS = [
    DIGEST,
    PASSWORD,
    "机密内容",
    "top secret",
    quote_from_bytes("机密内容".encode("gbk")),
    "%" + b"top secret".hex("%").upper(),
    quote_from_bytes("机密内容".encode()),
    str("机密内容".encode("gbk"))[2:-1],
    str("机密内容".encode())[2:-1],
    *NUMBERS,
]


class Everything(logging.Handler):
    """Keeps all that anybody logs, as it would be written, arguments and tracebacks included."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.lines: list[str] = []
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.records.append(record)
        self.lines.append(f"{record.name} {self.format(record)} {record.args!r}")

    @property
    def own(self) -> list[str]:
        """The messages of this library at INFO."""
        return [r.getMessage() for r in self.records if r.name == "qxt_async" and r.levelno == logging.INFO]


LOGGERS = ["", "qxt_async", "httpx", "httpx2", "httpcore", "httpcore2", "aiohttp", "aiohttp.client", "asyncio", "trio"]


@pytest.fixture
def log() -> Any:
    """All loggers at DEBUG, in one place."""
    everything = Everything()
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    logging.getLogger().addHandler(everything)
    yield everything
    logging.getLogger().removeHandler(everything)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def _clean(text: str) -> None:
    assert [secret for secret in SECRETS if secret in text] == []
    assert not re.search(r"(?<![\d.])1380013\d{4}(?!\d)", text)


def _clean_error(error: BaseException) -> None:
    """Neither the error nor a traceback of it, with and without its causes, shows anything."""
    for chain in (True, False):
        _clean("".join(traceback.format_exception(error, chain=chain)))
    _clean(f"{error!s} {error!r} {error.args!r}")
    _clean(repr(getattr(error, "result", None)))


# --- a server on a real socket, which answers as it is told ----------------------------------------------

Answer = Callable[[bytes], bytes | None]


def _http(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


def _target(request: bytes) -> str:
    return request.split(b" ")[1].decode()


def _tele(request: bytes) -> bytes:
    found = re.search(rb"tele=([0-9,]+)", request)
    return found[1] if found else b""


ANSWERS: dict[str, Answer] = {
    "success": lambda request: _http(b"ok:0042:" + _tele(request)),
    "partial": lambda request: _http(b"ok:0042:" + _tele(request).split(b",")[0]),
    "failed": lambda request: _http(b"fail:999:" + _tele(request)),
    "refused": lambda _: _http("error:无此用户或者密码不对".encode("gbk")),
    "refused with a number": lambda request: _http(b"error:blacklisted: " + _tele(request)),
    "code with numbers": lambda request: _http(b"fail:" + _tele(request).replace(b",", b" ") + b":" + _tele(request)),
    "foreign": lambda _: _http(b"ok:1:13999999999"),
    "echo": lambda request: _http(b"<p>not found: " + request.split(b"\r\n")[0] + request.split(b"\r\n\r\n")[1]),
    "echo status": lambda request: _http(request, "404 Not Found"),
    "throttled": lambda _: _http(b"", "429 Slow Down"),
    "server error": lambda _: _http(b"", "500 " + "Oops"),
    "redirect": lambda request: _http(b"", "302 Found\r\nlocation: http://127.0.0.1:9" + _target(request)),
    "closed": lambda _: None,
    "garbage": lambda request: b"NOT HTTP " + request[-200:] + b"\r\n\r\n",
    "cut": lambda _: b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nok:",
}


@asynccontextmanager
async def _server(answer: Answer) -> AsyncIterator[str]:
    async def handle(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            request = b""
            while True:
                try:
                    request += await stream.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    return
                head, end, body = request.partition(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head.lower())
                if not end or len(body) < (int(length[1]) if length else 0):
                    continue
                if (said := answer(request)) is None:
                    return
                await stream.send(said)
                if not said.startswith(b"HTTP/1.1 200 OK") or b": 99" in said:
                    return
                request = b""

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        yield f"http://127.0.0.1:{port}/qxt"
        group.cancel_scope.cancel()


def _client(base_url: str, transport: Any, **options: Any) -> QxtClient:
    options["http_client" if isinstance(transport, httpx.AsyncClient) else "transport"] = transport
    return QxtClient("demo", PASSWORD, base_url=base_url, **options)


INSTALLED = {name for name in ("httpx2", "aiohttp") if importlib.util.find_spec(name)}


@pytest.mark.anyio
@pytest.mark.parametrize("transport", ["httpx", "own client", *sorted(INSTALLED - {"aiohttp"})])
@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("what", ANSWERS)
async def test_nothing_leaks(what: str, method: Any, transport: str, log: Everything) -> None:
    """Whatever the gateway answers, no logger and no error shows a digest, a password, a text or a whole number."""
    await _nothing_leaks(what, method, transport, log)


@pytest.mark.anyio
@pytest.mark.skipif("aiohttp" not in INSTALLED, reason="needs the extra aiohttp")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("what", ANSWERS)
async def test_nothing_leaks_through_aiohttp(what: str, method: Any, log: Everything) -> None:
    """The same through aiohttp, which runs on asyncio only."""
    await _nothing_leaks(what, method, "aiohttp", log)


async def _nothing_leaks(what: str, method: Any, transport: str, log: Everything) -> None:
    raised: list[BaseException] = []
    # Without certificates, because it takes longer to load them than to send.
    async with _server(ANSWERS[what]) as address, httpx.AsyncClient(trust_env=False, verify=False) as own:
        options = {"method": method, "retry": RetryPolicy(2, backoff=0), "timeout": 60}
        async with _client(address, own if transport == "own client" else transport, **options) as qxt:
            for call in (
                lambda: qxt.send(NUMBERS, TEXT, extno="7"),
                lambda: qxt.send_bulk(NUMBERS, TEXT, batch_size=10, max_concurrency=1),
                qxt.balance,
            ):
                try:
                    result: Any = await call()
                    _clean(repr(result))
                    if hasattr(result, "raise_for_failures"):
                        result.raise_for_failures()
                except QxtError as error:
                    raised.append(error)
            _clean(repr(qxt))
    for error in raised:
        _clean_error(error)
    assert log.own
    assert bool(raised)  # the answer to a send is none to a balance query, so the last call fails at least
    for line in log.lines:
        _clean(line)


@pytest.mark.anyio
async def test_nothing_leaks_where_nobody_listens(log: Everything) -> None:
    """A refused connection shows nothing either, by GET, where the address has it all."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with _client(f"http://127.0.0.1:{port}/qxt", "httpx", method="GET", retry=NO_RETRIES) as qxt:
        with pytest.raises(QxtError) as caught:
            await qxt.send(NUMBERS, TEXT)
    _clean_error(caught.value)
    for line in log.lines:
        _clean(line)


@pytest.mark.anyio
async def test_nothing_leaks_from_what_is_refused_here(log: Everything) -> None:
    """What is refused before any I/O names numbers masked and texts not at all."""
    async with _client("http://127.0.0.1:9/qxt", "httpx", method="GET") as qxt:
        for numbers, text in (
            ([f"{NUMBERS[0]}5"], TEXT),
            ([",".join(NUMBERS)], TEXT),
            (NUMBERS, TEXT + "€"),
            (NUMBERS, TEXT * 200),
        ):
            with pytest.raises(QxtError) as caught:
                await qxt.send(numbers, text)
            _clean_error(caught.value)
    assert log.own == []


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("transport", ["httpx", *sorted(INSTALLED)])
async def test_nothing_leaks_from_asyncio_in_debug_mode(transport: str, tmp_path: Path, log: Everything) -> None:
    """Every callback of the loop is logged, with its arguments, as those that take long are: none has ours.

    That holds for sends, a plan and an export, and for pushes that are stored and told to handlers, which run in
    threads, return a number, and raise an error with a text.
    """
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0

    def fail(reply: Reply) -> None:
        raise LookupError(reply.text)

    exported = io.StringIO(newline="")
    (tmp_path / "numbers.csv").write_text("mobile,name\n" + "".join(f"{number},{TEXT}\n" for number in NUMBERS))
    async with (
        _server(ANSWERS["success"]) as address,
        _client(address, transport) as qxt,
        open_journal(tmp_path / "qxt.db") as journal,
    ):
        await qxt.send(NUMBERS, TEXT)
        await qxt.send_bulk(NUMBERS, TEXT, batch_size=10)
        planned = await Campaigns(journal).plan([tmp_path / "numbers.csv"], "【Acme】{name}")
        assert await Campaigns(journal).export(planned.id, exported) == len(NUMBERS)
        receiver = PushReceiver(
            journal,
            path_secret="pushes",
            allow_weak_secret=True,
            on_report=lambda report: report.number,
            on_reply=fail,
            opt_out=OptOut([TEXT]),
        )
        async with httpx.AsyncClient(transport=httpx.ASGITransport(receiver)) as gateway:
            for kind, text, status in ((4, "DELIVRD", 200), (1, quote(TEXT), 503)):
                fields = f"type={kind}&mid=1&mobile={NUMBERS[0]}&msg={text}"
                assert (await gateway.post("http://receiver.test/pushes", content=fields)).status_code == status
    executed = [line for line in log.lines if line.startswith("asyncio Executing ")]
    assert any("WorkerThread" in line for line in executed)
    for line in log.lines:
        _clean(line)


# --- what is logged --------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_one_line_a_batch(log: Everything) -> None:
    """At INFO there is one line a batch: index, size, outcome, mid, milliseconds."""

    def answer(request: httpx.Request) -> httpx.Response:
        tele = _tele(request.content)
        return httpx.Response(200, content=b"fail:999:" + tele if b"0019" in tele else b"ok:0042:" + tele)

    async with _client("http://gateway.test/qxt", httpx.MockTransport(answer)) as qxt:
        await qxt.send_bulk(NUMBERS, TEXT, batch_size=10, max_concurrency=1)
    first, second = log.own
    assert re.fullmatch(r"batch 0: 10 numbers, accepted, mid 0042, \d+ ms", first)
    assert re.fullmatch(r"batch 1: 10 numbers, failed, mid None, \d+ ms", second)


@pytest.mark.anyio
async def test_nothing_is_put_together_that_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where INFO is switched off a send does not even call the logger."""
    logger = logging.getLogger("qxt_async")
    monkeypatch.setattr(logging.Logger, "isEnabledFor", lambda *_: False)
    monkeypatch.setattr(logger, "info", None)

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=b"ok:0042:" + _tele(request.content))

    async with _client("http://gateway.test/qxt", httpx.MockTransport(answer)) as qxt:
        assert (await qxt.send(NUMBERS[:1], TEXT)).mid == "0042"


@pytest.mark.anyio
async def test_attempts_at_debug(log: Everything) -> None:
    """At DEBUG each attempt that did not go through says why, and how long the next one waits."""
    left = [httpx.ConnectError("refused"), httpx.Response(429)]

    def answer(request: httpx.Request) -> httpx.Response:
        if not left:
            return httpx.Response(200, content=b"ok:1:" + _tele(request.content))
        news = left.pop(0)
        if isinstance(news, Exception):
            raise news
        return news

    retry = RetryPolicy(backoff=0)
    async with _client("http://gateway.test/qxt", httpx.MockTransport(answer), retry=retry) as qxt:
        await qxt.send(NUMBERS[0], TEXT)
    debug = [r.getMessage() for r in log.records if r.name == "qxt_async" and r.levelno == logging.DEBUG]
    assert debug == [
        "batch 0: attempt 1: not sent: no connection (ConnectError: refused)",
        "batch 0: next attempt in 0.00 s",
        "batch 0: attempt 2: not sent: HTTP 429: the server asks to come back later",
        "batch 0: next attempt in 0.00 s",
    ]
    assert len(log.own) == 1


def test_the_canaries_would_be_found() -> None:
    """The check above sees each secret in each of its forms."""
    for leak in (f"password={DIGEST}", f"msg={ENCODED}", TEXT, repr(TEXT.encode("gbk")), NUMBERS[3], "13800139999"):
        with pytest.raises(AssertionError):
            _clean(f"a line with {leak} in it")
