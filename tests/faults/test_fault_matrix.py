"""The fault matrix, on real sockets: what each fault makes of a send, and that nobody gets a text twice.

The calls are ``send``, ``send_bulk``, GET where that differs, and a campaign (`test_fault_campaigns`). Without
``QXT_FAULT_REPEATS`` each row runs once with each call, on each transport and on each backend (pairwise). With it, as
``nox -s faults`` does, each call of each row runs on each transport that often, and once on the other backend. After
each time the books are compared: what the server took against what the client says.
"""

from __future__ import annotations

import contextlib
import functools
import os
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import attrs
import pytest
from anyio import to_thread
from support import addresses
from support import catalogue as c
from support import fault_results as results
from support.fault_server import DIGEST, Fault, FaultServer, http, normal, ok_line

from qxt_async import BatchResult, BulkResult, QxtClient, QxtError, RetryPolicy, errors
from qxt_async.transports import Exchange

REPEATS = int(os.environ.get("QXT_FAULT_REPEATS", "1"))
WHOLE = "QXT_FAULT_REPEATS" in os.environ
AT_ONCE = 20
LANES = (
    ("asyncio", "httpx"),
    ("trio", "httpx"),
    ("asyncio", "httpx2"),
    ("trio", "httpx2"),
    ("asyncio", "aiohttp"),
)
EACH_ONCE = (("asyncio", "httpx"), ("trio", "httpx2"), ("asyncio", "aiohttp"))
RETRY = RetryPolicy(3, backoff=0.01, max_backoff=0.05)
DEADLINE = 4.0
PATIENCE = 120.0
MEMORY = 4 << 20


@attrs.frozen
class Row:
    """A line of the matrix.

    Attributes:
        number: of the matrix.
        fault: in words.
        plan: what the server does, in order.
        outcome: of the batch that meets it; several if the witness decides.
        taken: of that batch: ``none``, ``all``, the first ``half``; ``either`` is all if it is accepted, else none.
        error: one like what it carries: of the same class, and with the same code.
        attempts: requests that were made; ``None`` if the witness decides.
        answer: what the error keeps of the answer.
        warm: a good request goes first, on the connection that the fault then meets; it uses the plan's first.
        mark: what the server has to have done before the request.
        at_body: it does so only when the body is about to be given out.
        hangs: only the deadline ends it.
        waits: it takes its time, though nothing is done.
        bounded: measure the memory.
        get: run it with GET too.
        at: another address than the server's.
        fresh: the request after it has to go over another connection.
        lanes: which transports and backends; where only the words of an answer differ, each of them once.
    """

    number: int
    fault: str
    plan: tuple[Fault, ...]
    outcome: str
    taken: str
    error: QxtError | None = None
    attempts: int | None = attrs.field(default=1, kw_only=True)
    answer: str | None = attrs.field(default=None, kw_only=True)
    warm: bool = attrs.field(default=False, kw_only=True)
    mark: str = attrs.field(default="", kw_only=True)
    at_body: bool = attrs.field(default=False, kw_only=True)
    hangs: bool = attrs.field(default=False, kw_only=True)
    waits: bool = attrs.field(default=False, kw_only=True)
    bounded: bool = attrs.field(default=False, kw_only=True)
    get: bool = attrs.field(default=False, kw_only=True)
    at: Callable[[FaultServer], contextlib.AbstractContextManager[str]] | None = attrs.field(default=None, kw_only=True)
    fresh: bool = attrs.field(default=False, kw_only=True)
    lanes: tuple[tuple[str, str], ...] = attrs.field(default=LANES, kw_only=True)

    @property
    def stops(self) -> bool:
        """Whether every batch would meet it, so that a bulk send stops and a campaign is paused."""
        return self.error is not None and self.error.concerns_every_batch

    @property
    def in_campaign(self) -> str:
        """What becomes of a campaign's batch: what the account is refused for is sent when the account is right."""
        refused = isinstance(self.error, errors.AccountRefusedError)
        return "planned" if refused else self.outcome


# --- the table

NOBODY = errors.NotSentError("")
BROKEN = errors.ConnectionBrokenError("")
LATE = errors.DeadlineExceededError("")
STATUS = errors.UnexpectedStatusError(500)
UNREADABLE = errors.UnusableAnswerError("")
FOREIGN = errors.UnusableAnswerError("the answer speaks of numbers that this request did not send")
PARTIAL = errors.PartialAnswerError(1)
EITHER = "unknown|accepted"
STATES = ("accepted", "failed", "unknown")

WRONG_PASSWORD = http("error:无此用户或者密码不对".encode("gbk"))
SECONDS = {
    "ok for others": http(ok_line("77", c.FOREIGN)),
    "error": WRONG_PASSWORD,
    "404": http(b"", "404 Not Found"),
    "413": http(b"", "413 Content Too Large"),
    "429": http(b"", "429 Too Many Requests", ["Retry-After: 0"]),
    "half a 429": http(b"", "429 Too Many Requests")[:14],
    "bytes beyond the length": b"\xb2\xbb\xb6\xd4",
}
DESCRIPTIONS = {
    "用户名或密码错误": errors.AuthenticationError("no-user", ""),
    "扩展号码错误": errors.AccountRefusedError("extension-number", ""),
    "mobile": errors.RefusedError("no-numbers", ""),
    "smg": errors.RefusedError("no-text", ""),
    "无此用户或者密码不对1": errors.AuthenticationError("unknown-user", ""),
    "无此用户或者密码不对": errors.AuthenticationError("wrong-password", ""),
    "moblie 提交数小于10，请重新提交!": errors.RefusedError("too-few-numbers", ""),
    "moblie is null or mobile number too many!": errors.RefusedError("number-count", ""),
    "nobody knows: this, one": errors.RefusedError("undocumented", ""),
}


def _half(numbers: tuple[str, ...]) -> tuple[str, ...]:
    return numbers[: len(numbers) // 2]


def _rows() -> Iterator[Row]:
    """The matrix, row by row."""
    never = {"attempts": RETRY.attempts, "get": True}
    yield Row(1, "name does not resolve", (), "failed", "none", NOBODY, at=addresses.unresolvable, **never)
    yield Row(1, "port closed", (), "failed", "none", NOBODY, at=addresses.closed_port, **never)
    yield Row(1, "connect timeout", (), "failed", "none", NOBODY, at=addresses.full_backlog, waits=True, **never)
    yield Row(1, "TLS: not spoken", (c.not_tls,) * 9, "failed", "none", NOBODY, at=addresses.plain_for_tls, **never)
    yield Row(1, "TLS: self-signed", (), "failed", "none", NOBODY, at=addresses.self_signed, **never)

    yield Row(3, "closed before reading", (c.close_at_once,), EITHER, "either", attempts=None, get=True)
    yield Row(3, "reset before reading", (c.reset_at_once,), EITHER, "either", attempts=None, get=True)

    # Seen before the body is given out, the end and the answer keep it here; it is sent over another connection.
    witnessed = {"attempts": None}
    yield Row(4, "closed after the headers", (c.close_after_head,), EITHER, "either", BROKEN, get=True, **witnessed)
    yield Row(4, "reset after the headers", (c.reset_after_head,), EITHER, "either", BROKEN, get=True, **witnessed)
    yield Row(4, "reset in mid-body", (c.reset_in_body,), "unknown", "none", BROKEN)

    for warm in (False, True):
        first, kept = ((normal,), " on a kept connection") if warm else ((), "")
        after = {"warm": warm, "get": True}
        yield Row(5, f"taken, then closed{kept}", (*first, c.take_and_close), "unknown", "all", BROKEN, **after)
        yield Row(5, f"taken, then reset{kept}", (*first, c.take_and_reset), "unknown", "all", BROKEN, **after)
        yield Row(
            5, f"taken, then half-closed{kept}", (*first, c.take_and_half_close), "unknown", "all", BROKEN, **after
        )
    yield Row(5, "taken, then stalled", (c.take_and_stall,), "unknown", "all", LATE, hangs=True, get=True)
    yield Row(6, "read after the deadline", (c.read_late,), "unknown", "all", LATE, hangs=True)
    yield Row(7, "answer drips", (c.drip,), "unknown", "all", LATE, hangs=True)

    yield Row(8, "idle, closed", (c.answer_then_close,), "accepted", "all", warm=True, mark="idle", get=True)
    yield Row(8, "idle, reset", (c.answer_then_reset,), "accepted", "all", warm=True, mark="idle", get=True)
    for fault in (c.close_as_written, c.reset_as_written):
        words = "closed" if fault is c.close_as_written else "reset"
        yield Row(9, f"{words} as it is written", (normal, fault), EITHER, "either", attempts=None, warm=True, get=True)

    refused = errors.RefusedError("http-413", "")
    yield Row(10, "early 413", (c.early_413,), "failed|accepted", "either", refused, **witnessed)
    yield Row(11, "early ok, then reset", (c.early_ok,), EITHER, "none")

    ok = functools.partial(c.answering, then="close")
    cut = {"get": True}
    yield Row(12, "status line cut", (ok(b"HTTP/1.1 2"),), "unknown", "all", BROKEN, **cut)
    yield Row(12, "headers cut", (ok(b"HTTP/1.1 200 OK\r\nContent-Le"),), "unknown", "all", BROKEN, **cut)
    yield Row(
        12,
        "body shorter than its length",
        (ok(lambda _, r: http(ok_line("1", r.numbers), length=5000)),),
        "unknown",
        "all",
        BROKEN,
        **cut,
    )
    chunked = http(b"40\r\nok:1:13800", headers=["Transfer-Encoding: chunked"], length=None)
    yield Row(12, "chunk cut", (ok(chunked),), "unknown", "all", BROKEN)
    yield Row(
        12,
        "HTTP/1.0 cut in a number",
        (ok(lambda _, r: http(ok_line("1", r.numbers)[:-4], version="1.0", length=None)),),
        "unknown",
        "all",
        FOREIGN,
    )
    yield Row(
        12,
        "HTTP/1.0 cut between numbers",
        (ok(lambda _, r: http(ok_line("1", _half(r.numbers)), version="1.0", length=None)),),
        "mixed",
        "all",
        PARTIAL,
    )
    yield Row(
        12, "HTTP/1.0 cut in the mid", (ok(http(b"ok:12", version="1.0", length=None)),), "unknown", "all", PARTIAL
    )

    for name, second in SECONDS.items():
        more = {"warm": True, "fresh": True, "get": True}
        yield Row(13, f"two answers in one segment: {name}", (c.twice(second),), "accepted", "all", **more)
        yield Row(13, f"an answer unasked: {name}", (c.unasked(second),), "accepted", "all", mark="idle", **more)
        late = {"warm": True, "fresh": True, "mark": "idle", "at_body": True, "attempts": 2}
        yield Row(13, f"an answer before the body: {name}", (c.unasked(second),), "accepted", "all", **late)

    words = {"lanes": EACH_ONCE}

    def reversed_order(request: Any) -> bytes:
        return ok_line("1", request.numbers[::-1])

    yield Row(14, "numbers in another order", (c.saying(reversed_order),), "accepted", "all", **words)
    yield Row(
        14,
        "a subset",
        (c.saying(lambda r: ok_line("1", _half(r.numbers))),),
        "mixed",
        "all",
        PARTIAL,
        **words,
    )
    strange = {"error": FOREIGN, "fresh": True}
    yield Row(
        14, "extra numbers", (c.saying(lambda r: ok_line("1", r.numbers + c.FOREIGN)),), "unknown", "all", **strange
    )
    yield Row(14, "another batch's", (c.saying(lambda _: ok_line("1", c.FOREIGN)),), "unknown", "all", **strange)
    yield Row(14, "another's failure", (c.saying(lambda _: b"fail:999:13700000001"),), "unknown", "all", **strange)
    yield Row(14, "each number twice", (c.saying(lambda r: ok_line("1", r.numbers * 2)),), "accepted", "all", **words)

    big = {"bounded": True}
    yield Row(15, "gzip bomb", (c.gzip_bomb,), "unknown", "all", UNREADABLE, **big)
    yield Row(15, "endless body", (c.endless_body,), "unknown", "all", UNREADABLE, **big)
    yield Row(15, "body of 10 GB", (c.huge_length,), "unknown", "all", UNREADABLE, **big)
    yield Row(15, "a header of 400 KB", (c.many_headers(400_000, 1),), "unknown", "all", BROKEN, **big)
    yield Row(15, "8,000 headers, 400 KB", (c.many_headers(50, 8000),), "unknown", "all", BROKEN, **big)
    yield Row(15, "endless headers", (c.endless_headers,), "unknown", "all", BROKEN, **big)
    yield Row(15, "endless interim answers", (c.endless_interim,), "unknown", "all", LATE, hangs=True, **big)

    for status in ("301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"):
        plan = (functools.partial(c.redirect, status=status),)
        yield Row(16, f"redirect {status[:3]}", plan, "unknown", "none", STATUS, get=True)

    for code in (400, 401, 404, 405, 411, 413, 414):
        refused = errors.RefusedError(f"http-{code}", "")
        yield Row(17, f"HTTP {code}", (c.refusing(f"{code} No"),), "failed", "none", refused, lanes=EACH_ONCE)
    yield Row(17, "HTTP 403", (c.failing("403 No"),), "unknown", "all", errors.UnexpectedStatusError(403), get=True)

    again = {"attempts": 2, "get": True}
    yield Row(18, "429", (c.refusing("429 Slow Down"),), "accepted", "all", **again)
    yield Row(18, "429, Retry-After: 0", (c.refusing("429 Slow Down", "Retry-After: 0"),), "accepted", "all", **again)

    for code in (500, 502, 503, 504):
        yield Row(19, f"HTTP {code}", (c.failing(f"{code} Broken"),), "unknown", "all", STATUS, get=True)
    later = c.failing("503 Busy", "Retry-After: 3600")
    yield Row(19, "HTTP 503, Retry-After: 3600", (later,), "unknown", "all", STATUS, get=True)

    pages = {
        "HTML page": b"<html>hello",
        "HTML page with a line error:": b"<html>\nerror: busy\n</html>",
        "text page with a line error:": b"It works\nerror: none",
        "empty": b"",
        "JSON": b'{"ok": true}',
        "spaces": b" \n",
    }
    for name, page in pages.items():
        plan = (c.saying(lambda _, page=page: page),)
        kept = page.decode().strip()
        yield Row(20, name, plan, "unknown", "all", UNREADABLE, answer=kept, lanes=EACH_ONCE)

    for charset in ("gbk", "utf-8"):
        for number, (description, refused) in enumerate(DESCRIPTIONS.items(), 1):
            answer = http(f"error:{description}".encode(charset))
            plan = (c.answering(answer, take=False),)
            yield Row(21, f"error {number}, {charset}", plan, "failed", "none", refused, lanes=EACH_ONCE)

    failed = errors.SubmitFailedError(("999",), 1)
    yield Row(
        22,
        "fail:999, all",
        (c.saying(lambda r: b"fail:999:" + ",".join(r.numbers).encode(), takes=lambda _: ()),),
        "failed",
        "none",
        failed,
        lanes=EACH_ONCE,
    )
    yield Row(
        22,
        "fail:999, some",
        (
            c.saying(
                lambda r: (
                    ok_line("1", _half(r.numbers))
                    + f"fail:999:{','.join(r.numbers[len(r.numbers) // 2 :])}\r\n".encode()
                ),
                takes=lambda r: _half(r.numbers),
            ),
        ),
        "mixed",
        "half",
        failed,
        lanes=EACH_ONCE,
    )


ROWS = tuple(_rows())


def as_markdown() -> str:
    """The table as the documentation shows it."""
    lines = ["| # | fault | `send`, `send_bulk` | campaign | taken | error |", "|---|---|---|---|---|---|"]
    for row in ROWS:
        error = "" if row.error is None else f"`{type(row.error).__name__}`"
        if isinstance(row.error, errors.RefusedError):
            error += f", `{row.error.code}`"
        outcome, campaign = (words.replace("|", " or ") for words in (row.outcome, row.in_campaign))
        campaign += ", paused" if row.stops else ""
        lines.append(f"| {row.number} | {row.fault} | {outcome} | {campaign} | {row.taken} | {error} |")
    return "\n".join(lines)


# --- the run


def number_run(start: int, count: int) -> list[str]:
    """Phone numbers, made up."""
    return [f"1380{number:07d}" for number in range(start, start + count)]


def check_books(server: FaultServer, sent: list[str], told: list[BatchResult], lies: tuple[str, ...] = ()) -> None:
    """Compare what the server took with what the client says; in counts, which name no number.

    `lies` are numbers that the server said it took, and did not.
    """
    accepted = [number for result in told for number in result.accepted]
    failed = [number for result in told for number in result.failed]
    unknown = [number for result in told for number in result.unknown]
    every = accepted + failed + unknown
    taken = set(server.taken).intersection(sent)
    assert max(server.taken.values(), default=1) == 1, "taken twice"
    assert len(every) == len(set(every)), "in two states"
    assert set(every) == set(sent), "lost, or never sent"
    assert len(taken.intersection(failed)) == 0, "failed, and taken all the same"
    assert taken <= {*accepted, *unknown}, "taken, and not told"
    assert len(set(accepted).difference(taken, lies)) == 0, "accepted, and not taken"


def check_met(row: Row, server: FaultServer, states: dict[str, str], outcome: str) -> str:
    """Of the batch that met the fault: what became of its numbers, and what the server took; returns its outcome."""
    numbers = list(states)
    half = numbers[: len(numbers) // 2]
    found = "mixed" if len(set(states.values())) > 1 else states[numbers[0]]
    assert found in outcome.split("|")
    if found == "mixed":
        rest = "failed" if row.taken == "half" else "unknown"
        assert list(states.values()) == ["accepted"] * len(half) + [rest] * len(half)
    either = numbers if found == "accepted" else []
    taken = {"none": [], "half": half, "all": numbers, "either": either}[row.taken]
    assert {*numbers}.intersection(server.taken) == {*taken}, f"taken, or not, otherwise than {row.taken}"
    return found


@contextlib.contextmanager
def before_the_body(server: FaultServer, mark: str) -> Iterator[None]:
    """When a body is first asked for, let the server do what it was planned to, and only then give it out.

    Blocks the event loop on purpose: it has no chance to notice.
    """
    waiting = [mark]

    class Interrupted(Exchange):
        def pull(self, has_come: Callable[[], bool] | None = None) -> bytes:
            if waiting:
                waiting.clear()
                server.release()
                server.wait_for(lambda: mark in server.marks)
            return super().pull(has_come)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qxt_async.sending.batch_send.Exchange", Interrupted)
        yield
    assert not waiting


@contextlib.contextmanager
def marked(row: Row, server: FaultServer) -> Iterator[None]:
    """What the row wants of the server is done before the request, or before its body."""
    if row.at_body:
        with before_the_body(server, row.mark):
            yield
        return
    if row.mark:
        server.release()
        # Blocks the event loop on purpose: it has no chance to notice before the request.
        server.wait_for(lambda: row.mark in server.marks)
    yield


async def _call(client: QxtClient, mode: str, numbers: list[str], told: list[BatchResult], **options: Any) -> Any:
    """One call; returns its result, which an error carries."""
    try:
        if mode == "send_bulk":
            return await client.send_bulk(
                numbers, "【Acme】你好", batch_size=20, max_concurrency=1, on_result=told.append, **options
            )
        method = "GET" if mode == "GET" else "POST"
        return await client.send(numbers, "【Acme】你好", method=method, on_result=told.append, **options)
    except QxtError as error:
        return error.result


async def in_turn_or_at_once(meet: Callable[[int], Awaitable[None]], row: Row, lane: tuple[str, str]) -> None:
    """Meet a row often: in turn with one client and one server, or, if it mostly waits, at once with many."""
    times = REPEATS if lane in EACH_ONCE else 1
    if not (row.hangs or row.waits):
        await meet(times)
        return
    for done in range(0, times, AT_ONCE):
        async with anyio.create_task_group() as group:
            for _ in range(min(AT_ONCE, times - done)):
                group.start_soon(meet, 1)


@contextlib.contextmanager
def served(row: Row) -> Iterator[tuple[FaultServer, str]]:
    """The server that misbehaves, and the address that the client gets; nobody is led elsewhere."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(FaultServer())
        other = stack.enter_context(FaultServer()) if row.number == 16 else None
        if other is not None:
            server.elsewhere = other.base_url
        yield server, server.base_url if row.at is None else stack.enter_context(row.at(server))
        assert other is None or not other.connections


@contextlib.contextmanager
def bounded(server: FaultServer) -> Iterator[None]:
    """Whatever comes takes no more memory than a few answers would."""
    server.measured = True
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()
        server.measured = False


async def _meet(row: Row, mode: str, transport: str, times: int, *, measured: bool = False) -> None:
    with served(row) as (server, address):
        client = QxtClient(
            "someone",
            password_md5=DIGEST,
            base_url=address,
            transport=transport,
            retry=RETRY,
            timeout=PATIENCE,
            connect_timeout=0.1 if row.at is addresses.full_backlog else PATIENCE,
            max_concurrency=2,
        )
        async with client:
            for turn in range(times):
                server.begin(*row.plan)
                with bounded(server) if measured else contextlib.nullcontext():
                    await _meet_once(row, mode, transport, client, server, number_run(10_000 * turn, 400))
        await to_thread.run_sync(server.settle)


async def _meet_once(
    row: Row, mode: str, transport: str, client: QxtClient, server: FaultServer, numbers: list[str]
) -> None:
    told: list[BatchResult] = []
    warm, one = numbers[300:320], numbers[320:321]
    sent = numbers[: 60 if mode == "send_bulk" else 200 if mode == "send" else 20]
    if row.warm:
        await _call(client, "send", warm, told)
        # aiohttp makes nothing of an answer with bytes behind it that are none; that is not the row's matter.
        assert told[0].outcome == "accepted" or (transport == "aiohttp" and "beyond" in row.fault)
    with marked(row, server):
        result = await _call(client, mode, sent, told, timeout=DEADLINE if row.hangs else PATIENCE)
    if row.number == 11:
        server.wait_for(lambda: "reset" in server.marks)
    if row.at is None:
        assert not server.planned
        told.append(await client.send(one, "after"))
        _check_connection(server, one, row, transport)
    await to_thread.run_sync(server.settle)
    batches = result.batches if isinstance(result, BulkResult) else (result,)
    unsent = set(result.unsent) if isinstance(result, BulkResult) else set()
    assert not unsent.intersection(server.taken)
    every = [*sent, *(warm if row.warm else ()), *(one if row.at is None else ())]
    met = batches[0]
    lies = met.accepted if row.number == 11 else ()
    check_books(server, [number for number in every if number not in unsent], told, lies)
    states = {number: state for state in STATES for number in getattr(met, state)}
    outcome = check_met(row, server, {number: states[number] for number in met.numbers}, row.outcome)
    _check_outcome(row, batches, mode)
    results.note(row.number, row.fault, mode, transport, outcome)


def _check_connection(server: FaultServer, numbers: list[str], row: Row, transport: str) -> None:
    assert list(server.requests[-1].numbers) == numbers
    # aiohttp may have a half of an answer in its parser, which goes with the parser: nobody gets it.
    if row.fresh and not (transport == "aiohttp" and "half" in row.fault):
        first, second, *_ = (request.connection for request in server.requests if request.whole)
        assert first != second


def attempts_of(row: Row, outcome: str) -> int:
    """How many requests were made; where the witness decides, what is accepted was not sent at first, and is again."""
    return row.attempts or (2 if outcome == "accepted" else 1)


def _check_outcome(row: Row, batches: tuple[BatchResult, ...], mode: str) -> None:
    met, *others = batches
    assert met.attempts == attempts_of(row, met.outcome)
    if met.outcome != "accepted" and row.error is not None:
        assert (type(met.error), met.error.label) == (type(row.error), row.error.label)
        assert row.error is not FOREIGN or str(met.error) == str(FOREIGN)
    if row.number == 11:  # the reset may come when the connection has the next batch
        assert all(other.outcome in EITHER for other in others)
    elif row.at is None:
        assert all(other.outcome == "accepted" for other in others)
    else:
        assert all(other.outcome == row.outcome for other in others)
    assert len(batches) == (1 if row.stops or mode != "send_bulk" else 3)
    if row.number == 17:
        assert ("lower batch_size" if row.fault in ("HTTP 413", "HTTP 414") else "check base_url") in str(met.error)
    if row.answer is not None:
        assert met.error.answer == row.answer


def calls_of(row: Row, place: int) -> Iterator[tuple[str, str, str]]:
    """The calls that meet a row, each with a backend and a transport: all of them, or pairwise.

    Pairwise, the transports take turns, and begin with another one at each row. aiohttp runs on asyncio only; of httpx
    and httpx2 one runs on trio. Where only the words of an answer differ, a campaign and one other call are enough.
    """
    calls = ["send", "send_bulk", *(["GET"] if row.get else []), "campaign"]
    if WHOLE:
        yield from ((call, *lane) for call in calls for lane in row.lanes)
        return
    if row.lanes is EACH_ONCE:
        calls = [calls[place % (len(calls) - 1)], "campaign"]
    for turn, call in enumerate(calls, place):
        transport = ("httpx", "httpx2", "aiohttp")[turn % 3]
        on_trio = transport == ("httpx", "httpx2")[place // 3 % 2]
        yield call, "trio" if on_trio else "asyncio", transport


CALLS = [(row, *call) for place, row in enumerate(ROWS) for call in calls_of(row, place)]
CASES = [
    pytest.param(row, call, backend, transport, id=f"{row.number}-{row.fault}-{call}-{transport}-{backend}")
    for row, call, backend, transport in CALLS
    if call != "campaign"
]


@pytest.mark.skipif(WHOLE, reason="every call runs everywhere")
def test_each_pair_is_met() -> None:
    """Each row meets each of its calls, each transport and each backend; each call runs on each lane."""
    for row in ROWS:
        met = [(call, backend, transport) for each, call, backend, transport in CALLS if each is row]
        calls, backends, transports = (set(each) for each in zip(*met, strict=True))
        if row.lanes is LANES:
            assert {"send", "send_bulk", "campaign"} <= calls
            assert ("GET" in calls) == row.get
            assert (len(backends), len(transports)) == (2, 3)
        else:
            assert "campaign" in calls
            assert len(met) == 2
    assert {(call, transport, backend) for _, call, backend, transport in CALLS} == {
        (call, transport, backend) for call in ("send", "send_bulk", "GET", "campaign") for backend, transport in LANES
    }


@pytest.mark.anyio
@pytest.mark.parametrize(("row", "mode", "anyio_backend", "transport"), CASES)
async def test_matrix(row, mode, anyio_backend, transport):
    """A fault leads to the outcome that its row says, nobody gets the text twice, and the client goes on."""
    if row.bounded:
        await _meet(row, mode, transport, 1, measured=True)
    await in_turn_or_at_once(lambda times: _meet(row, mode, transport, times), row, (anyio_backend, transport))
