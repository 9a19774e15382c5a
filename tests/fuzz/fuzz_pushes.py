"""Fuzzing target: what anybody may push.

The first byte says where the query ends and the body begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from qxt_async.protocol.pushes import OptOut, PushFlag, PushLimits, parse_push

SAMPLES = Path(__file__).parents[1] / "samples" / "pushes"

LIMITS = PushLimits(fields=16, items=10, value=20)
OPT_OUT = OptOut()
LONGEST = 300
WORDS = [
    *(b"type=1", b"type=4", b"&mid=", b"&mobile=", b"&msg=", b"&port=", b"&area=", b"&city=", b"&Mid=", b"DELIVRD"),
    *(b"REJECT", b"13800138000", b"%CD%CB%B6%A9", b"%2C", b", ", b"%00", b"%ED%A0%80", b"\xce\xde", b"106"),
]


def check(data: bytes) -> None:
    """Read one push, and check what every push has to keep."""
    place = data[0] if data else 0
    query, body = data[1 : 1 + place], data[1 + place :]
    push = parse_push(query, body, limits=LIMITS, channel_number="106")
    # Nothing is lost: what is not understood is flagged, and a flag keeps the bytes.
    assert (push.query, push.body) == (query, body)
    assert push.reports or push.replies or push.flags
    assert not push.reports or not push.replies
    assert len(push.reports) <= LIMITS.items
    assert (PushFlag.EMPTY in push.flags) == (len(data) < 2)
    for report in push.reports:
        assert 0 < len(report.mid) <= LIMITS.value
        assert 0 < len(report.number) <= LIMITS.value
        assert report.code or PushFlag.MISSING_FIELD in push.flags
        _stores(report.mid, report.number, report.code, report.port, report.area, report.city)
    for reply in push.replies:
        assert reply.number
        assert reply.extno is None or f"106{reply.extno}" == reply.port
        _stores(reply.mid, reply.number, reply.text, reply.port, reply.area, reply.city)
        OPT_OUT.matches(reply.text)


def _stores(*texts: str | None) -> None:
    """Every database can store it."""
    for text in texts:
        if text is not None:
            assert "\0" not in text
            text.encode()  # no lone surrogates


def seeds() -> Iterator[bytes]:
    """Each sample, in the query, in the body, or in both as it was written down."""
    for path in sorted(SAMPLES.glob("*.json")):
        parts = [path.with_suffix(suffix) for suffix in (".query", ".body")]
        query, body = [part.read_bytes() if part.exists() else b"" for part in parts]
        yield bytes([len(query)]) + query + body
        yield b"\0" + body + query
        yield bytes([min(len(query) + len(body), 255)]) + query + body
