"""`qxt` as a process for tests: it waits longer for what they hold up."""

from __future__ import annotations

from qxt_async.cli import main, stopping
from qxt_async.journal import database

stopping.GRACE = 60.0
database.BUSY_TIMEOUT_MS = 60_000
main()
