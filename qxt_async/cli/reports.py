"""``qxt reports``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from qxt_async.cli.feed import Feed, feed_options, show, when
from qxt_async.models import DeliveryState

if TYPE_CHECKING:
    from datetime import datetime

    from qxt_async.journal import FeedEntry, Journal
    from qxt_async.models import StatusReport

__all__ = ["command"]

_COLUMNS = ("number", "state", "mid", "code", "port", "area", "city", "received_at")
_TABLE = (("received_at", 19), ("state", 9), ("number", 11), ("mid", 12), ("code", 10), ("area", 0), ("city", 0))


@click.command("reports")
@click.option("--state", type=click.Choice([state.value for state in DeliveryState]), help="Only in this state.")
@feed_options
def command(
    state: str | None,
    mid: str | None,
    number: str | None,
    since: datetime | None,
    until: datetime | None,
    **view: Any,
) -> None:
    """Show what became of messages: the status reports.

    One for each message and phone, in the order in which they were stored. A report that wins over an earlier one
    (delivered over failed) takes its place and comes again, with a new cursor.

    With --json a line for each: {"cursor", "number", "state", "mid", "code", "port", "area", "city", "received_at"}.
    state is delivered, rejected, failed or unknown; code is the gateway's word; received_at is UTC; what the gateway
    did not say is null. --csv has the same columns; a value that a spreadsheet would take for a formula gets an
    apostrophe in front.
    """

    async def read(journal: Journal, after: int, limit: int) -> list[FeedEntry[StatusReport]]:
        return await journal.reports(
            after=after,
            limit=limit,
            mid=mid,
            number=number,
            state=None if state is None else DeliveryState(state),
            since=since,
            until=until,
        )

    async def newest(journal: Journal) -> int:
        return await journal.report_cursor()

    show(Feed(read=read, newest=newest, values=_values, columns=_COLUMNS, table=_TABLE), **view)


def _values(report: StatusReport) -> dict[str, Any]:
    return {
        "number": report.number,
        "state": report.state.value,
        "mid": report.mid,
        "code": report.code,
        "port": report.port,
        "area": report.area,
        "city": report.city,
        "received_at": when(report.received_at),
    }
