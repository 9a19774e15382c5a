"""``qxt reports`` and ``qxt replies``: what the gateway pushed, from the journal."""

from __future__ import annotations

import functools

import click

from qxt_async.cli.feed import Feed, FeedOptions, feed_options, show_feed
from qxt_async.journal import Journal
from qxt_async.models import DeliveryState


@click.command("reports")
@click.option("--state", type=click.Choice([state.value for state in DeliveryState]), help="Only in this state.")
@feed_options
def reports(state: str | None, options: FeedOptions) -> None:
    """Show the status reports: whether messages were delivered.

    One for each message and number, in the order in which they were stored. A report that replaces an earlier one
    (delivered replaces failed) comes again, with a new cursor.

    With --json a line for each: {"cursor", "number", "state", "mid", "code", "port", "area", "city", "received_at"}.
    state is delivered, rejected, failed or unknown; code is the gateway's word; received_at is UTC; what the gateway
    did not say is null. --csv has the same columns; a value that a spreadsheet would take for a formula gets an
    apostrophe in front.
    """
    wanted = None if state is None else DeliveryState(state)
    feed = Feed(
        read=functools.partial(Journal.reports, state=wanted, **options.filters()),
        newest=Journal.report_cursor,
        columns=("number", "state", "mid", "code", "port", "area", "city", "received_at"),
        table=(
            ("received_at", 19), ("state", 9), ("number", 11), ("mid", 12), ("code", 10), ("area", 0), ("city", 0),
        ),
    )  # fmt: skip
    show_feed(feed, options)


@click.command("replies")
@feed_options
def replies(options: FeedOptions) -> None:
    """Show what people replied.

    With --json a line for each: {"cursor", "number", "text", "mid", "port", "extno", "area", "city", "received_at"}.
    mid is the reply's own; port is the number that was replied to, extno its extension if the receiver knew the
    channel's number; received_at is UTC; what the gateway did not say is null. --csv has the same columns; a value that
    a spreadsheet would take for a formula gets an apostrophe in front.
    """
    feed = Feed(
        read=functools.partial(Journal.replies, **options.filters()),
        newest=Journal.reply_cursor,
        columns=("number", "text", "mid", "port", "extno", "area", "city", "received_at"),
        table=(("received_at", 19), ("number", 11), ("port", 12), ("text", 0)),
    )
    show_feed(feed, options)
