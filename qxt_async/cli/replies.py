"""``qxt replies``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from qxt_async.cli.feed import Feed, feed_options, show, when

if TYPE_CHECKING:
    from datetime import datetime

    from qxt_async.journal import FeedEntry, Journal
    from qxt_async.models import Reply

__all__ = ["command"]

_COLUMNS = ("number", "text", "mid", "port", "extno", "area", "city", "received_at")
_TABLE = (("received_at", 19), ("number", 11), ("port", 12), ("text", 0))


@click.command("replies")
@feed_options
def command(mid: str | None, number: str | None, since: datetime | None, until: datetime | None, **view: Any) -> None:
    """Show what people wrote back.

    With --json a line for each: {"cursor", "number", "text", "mid", "port", "extno", "area", "city", "received_at"}.
    mid is the reply's own; port is the number that was written to, extno its extension if the receiver knew the
    channel's number; received_at is UTC; what the gateway did not say is null. --csv has the same columns; a value that
    a spreadsheet would take for a formula gets an apostrophe in front.
    """

    async def read(journal: Journal, after: int, limit: int) -> list[FeedEntry[Reply]]:
        return await journal.replies(after=after, limit=limit, mid=mid, number=number, since=since, until=until)

    async def newest(journal: Journal) -> int:
        return await journal.reply_cursor()

    show(Feed(read=read, newest=newest, values=_values, columns=_COLUMNS, table=_TABLE), **view)


def _values(reply: Reply) -> dict[str, Any]:
    return {
        "number": reply.number,
        "text": reply.text,
        "mid": reply.mid,
        "port": reply.port,
        "extno": reply.extno,
        "area": reply.area,
        "city": reply.city,
        "received_at": when(reply.received_at),
    }
