"""The durable store: pushes, the suppression list, campaigns. `open_journal` opens a `Journal`.

::

    async with open_journal("qxt.db") as journal:
        for entry in await journal.reports(state=DeliveryState.FAILED):
            print(entry.value)

**Conflicting reports.** The key of a report is (mid, number) (PROTOCOL 4.4). A repeated report changes nothing. Of two
that differ, a final state wins over none, and *delivered* wins over *failed* and *rejected*: a phone that has the text
has it, whatever a carrier's timer said before. Otherwise the first stays. The code that lost is kept
(`Journal.conflicts`), and a report that won over another one appears in the feed again, with a new cursor.

**Two times.** A report has the time at which its present code last came: the feed and the deliveries use it. A repeat
moves it if it comes more than an hour later, since a gateway that was restarted may use a mid again. The time at which
the key was first reported, with whatever code, is stored, too, and only this one counts as evidence.

**Raw bytes** are kept for every push with a flag, the same bytes once with a count. Those of other pushes are not kept:
the rows have everything that was in them, and the bytes would double what is written.
"""

from __future__ import annotations

import os

from qxt_async.errors import InvalidConfigurationError
from qxt_async.journal.journal import Journal
from qxt_async.journal.limits import AccountLimits
from qxt_async.journal.received import Conflict, FeedEntry, RawPush, Suppression, SuppressionReason
from qxt_async.journal.send_records import SendRecord, SendState
from qxt_async.runtime.words import missing_extra

__all__ = [
    "AccountLimits",
    "Conflict",
    "FeedEntry",
    "Journal",
    "RawPush",
    "SendRecord",
    "SendState",
    "Suppression",
    "SuppressionReason",
    "open_journal",
]


def open_journal(target: str | os.PathLike[str]) -> Journal:
    """The journal in a file or in a PostgreSQL database. Nothing is opened before ``async with`` or `Journal.open`.

    Args:
        target: path of an SQLite database, created, readable by its owner alone, if it does not exist; or
            ``postgresql://USER:PASSWORD@HOST:PORT/DATABASE`` (extra ``postgres``), whose schema ``qxt`` is created.
            It takes libpq's parameters, and two time limits in seconds: ``?connect_timeout=5`` for a connection,
            ``&answer_timeout=8`` for brief work on a server that answers nothing.

    Raises:
        InvalidConfigurationError: `target` is an address of a database that is not supported or cannot be read, or in
            memory; or the extra is not installed.
    """
    path = os.fspath(target)
    kind, is_address, _ = path.partition("://")
    if is_address and kind in {"postgresql", "postgres"}:
        try:
            from qxt_async.journal.postgres.database import PostgresDatabase
        except ImportError as error:
            raise InvalidConfigurationError(missing_extra("postgres", "a journal on PostgreSQL")) from error
        return Journal(PostgresDatabase(path))
    if is_address:
        # The address may carry a password.
        message = f"{kind}:// is no kind of journal that this version knows; give postgresql://… or the path of a file"
        raise InvalidConfigurationError(message)
    if path in {"", ":memory:"} or path.startswith("file:"):
        raise InvalidConfigurationError("a journal has to survive its process: give the path of a file")
    if "password=" in path or "host=" in path:
        raise InvalidConfigurationError("give a journal on PostgreSQL as an address: postgresql://…")
    from qxt_async.journal.sqlite.database import SqliteDatabase

    return Journal(SqliteDatabase(path))
