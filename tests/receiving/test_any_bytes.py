"""Whatever a sender writes: no exception, no 5xx, nothing lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio.from_thread
import pytest
from anyio.from_thread import BlockingPortal
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.asgi import SECRET, Answer, ask

from qxt_async.journal import Journal, open_journal
from qxt_async.protocol.pushes import PushLimits, parse_push
from qxt_async.receiving import PushReceiver


@contextmanager
def _serving(database: Path) -> Iterator[tuple[BlockingPortal, Journal]]:
    with anyio.from_thread.start_blocking_portal() as portal:
        journal = open_journal(database)
        portal.call(journal.open)
        try:
            yield portal, journal
        finally:
            portal.call(journal.close)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[BlockingPortal, Journal]]:
    """One event loop and one journal for all examples."""
    with _serving(tmp_path_factory.mktemp("any") / "qxt.sqlite") as both:
        yield both


_NAMES = st.sampled_from([b"type", b"mid", b"Mid", b"mobile", b"msg", b"port", b"area", b"city", b"x", b""])
_KNOWN = st.sampled_from(b"1 4 DELIVRD 13800138000 1,2 a,+b, %CD%CB%B6%A9 TD % %00 + %ed%a0%80".split())
_TEXT = st.text(max_size=10).map(lambda text: text.encode("gb18030", "replace"))
_FORMS = st.lists(st.tuples(_NAMES, _KNOWN | _TEXT | st.binary(max_size=40)).map(b"=".join), max_size=9).map(b"&".join)
_RAW = st.one_of(_FORMS, st.binary(max_size=300))
_HEADERS = st.lists(
    st.tuples(
        st.sampled_from([b"host", b"x-forwarded-for", b"content-type", b"content-encoding"]), st.binary(max_size=20)
    )
)
_LIMITS = PushLimits(fields=8, items=3, value=20)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(query=_RAW, body=_RAW, post=st.booleans(), headers=_HEADERS)
@example(query=b"type=1&mid=1&mobile=2&msg=%00", body=b"", post=False, headers=[])
@example(query=b"", body=b"type=1&mobile=+&msg=TD", post=True, headers=[(b"x-forwarded-for", b"\xff,,[")])
def test_any_bytes(
    serving: tuple[BlockingPortal, Journal],
    query: bytes,
    body: bytes,
    post: bool,
    headers: list[tuple[bytes, bytes]],
) -> None:
    """Whoever knows the path is answered `ok`, and everything that was understood or flagged is in the journal."""
    portal, journal = serving
    receiver = PushReceiver(journal, path_secret=SECRET, limits=_LIMITS)
    push = parse_push(query, body if post else b"", limits=_LIMITS)

    async def exchange() -> tuple[Answer, set[tuple[str, str]], bool, bool]:
        length = [(b"content-length", b"%d" % len(body))] if post else []
        answer = await ask(receiver, query, [body] if post else [], headers=[*headers, *length])
        reports = await journal.find_reports({(report.mid, report.number) for report in push.reports})
        replies = [
            [entry.value.text for entry in await journal.replies(mid=reply.mid, number=reply.number)]
            for reply in push.replies
        ]
        raw = [(kept.query, kept.body) for kept in await journal.raw_pushes(limit=100_000)]
        return (
            answer,
            {(report.mid, report.number) for report in reports},
            all(reply.text in texts for reply, texts in zip(push.replies, replies, strict=True)),
            (push.query, push.body) in raw,
        )

    answer, reports, replied, kept = portal.call(exchange)
    assert (answer.status, answer.body) == (200, b"ok")
    assert reports == {(report.mid, report.number) for report in push.reports}
    assert replied
    assert kept == bool(push.flags and (query or push.body))


@pytest.mark.parametrize("length", [b"9" * 5000, b"-1", b"\xb2", b"+1", b"", b"1_0"], ids=repr)
def test_any_length(serving: tuple[BlockingPortal, Journal], length: bytes) -> None:
    """A length that is none, or absurd, is no trouble of ours."""
    portal, journal = serving
    receiver = PushReceiver(journal, path_secret=SECRET)

    async def push() -> Answer:
        return await ask(receiver, chunks=[b"type=7"], headers=[(b"content-length", length)])

    assert portal.call(push).status == (413 if length.startswith(b"9") else 200)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(path=st.text(max_size=60), address=st.one_of(st.none(), st.text(max_size=30)), headers=st.binary(max_size=60))
def test_any_stranger(serving: tuple[BlockingPortal, Journal], path: str, address: str | None, headers: bytes) -> None:
    """Whatever path, address and forwarded address: 404."""
    portal, journal = serving
    receiver = PushReceiver(journal, path_secret=SECRET, allow=["192.0.2.1"], trusted_proxies=["unix"])

    async def push(path: str) -> Answer:
        client = None if address is None else (address, 1)
        return await ask(receiver, path=path, client=client, headers=[(b"x-forwarded-for", headers)])

    assert portal.call(push, path).status == 404
    assert portal.call(push, f"/{SECRET}").status == 404
