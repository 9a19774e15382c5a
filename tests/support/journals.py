"""What the tests that look into a journal share."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import anyio

from qxt_async.journal import open_journal
from qxt_async.models import Reply
from qxt_async.protocol.pushes import parse_push

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def report(mid: str, number: str, code: str = "DELIVRD", **fields: str) -> str:
    """The fields of one status report."""
    return _fields(type="4", mid=mid, mobile=number, msg=code, **fields)


def reply(mid: str, number: str, text: str, **fields: str) -> str:
    """The fields of one reply."""
    return _fields(type="1", mid=mid, mobile=number, msg=text, **fields)


def _fields(**fields: str) -> str:
    return "&".join(f"{name}={quote(value, encoding='gbk')}" for name, value in fields.items())


def store(path: Path, pushes: Sequence[str], *, at: datetime = NOON, opted_out: bool = False) -> None:
    """Put pushes into a journal, in order."""

    async def run() -> None:
        async with open_journal(path) as journal:
            for push in pushes:
                parsed = parse_push(push.encode("ascii"), b"", received_at=at, channel_number="10690000")
                replies: Sequence[Reply] = parsed.replies if opted_out else ()
                await journal.record_push(parsed, opted_out=replies)

    anyio.run(run)
