"""Connections to PostgreSQL: their parameters and settings, the schema, and what their errors mean."""

from __future__ import annotations

import math
import re
import sys
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import AsyncConnection, IsolationLevel, conninfo

from qxt_async.errors import InvalidConfigurationError, JournalUnavailableError
from qxt_async.journal.database import UnstorableError
from qxt_async.journal.migrating import upgrade

if TYPE_CHECKING:
    from collections.abc import Mapping

# Defaults for what the address does not set. A dead peer is noticed within half a minute, both when we wait for it
# (keepalives) and when we have sent it something (user timeout, milliseconds).
_CONNECTION: Final = {
    "application_name": "qxt_async",
    "client_encoding": "UTF8",  # from a database in SQL_ASCII, texts would come back as bytes
    "connect_timeout": "5",
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
# Seconds after which brief work gives up on a server that keeps the connection and answers nothing, since it may be
# stopped: shorter than a lease, and than the gateway waits for `ok`. The address may say otherwise.
ANSWER_TIMEOUT: Final = 8.0
_ANSWER_TIMEOUT: Final = re.compile(r"(?<=[?&])answer_timeout=([^&]*)(&|$)")
# Walks over millions of rows take seconds, everything else takes milliseconds. A transaction never waits for anything
# but the server: if the next statement does not come, the client is cut off. It must lose its locks before those who
# wait for the locks give up. If it is cut off in the middle of a COPY, the keepalives notice it.
BOUNDS: Final = b"""
    SET statement_timeout = '120s'; SET lock_timeout = '30s'; SET idle_in_transaction_session_timeout = '15s';
    SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3
"""
# Statements name tables without their schema. An acknowledged commit has to be on the disk; if the database has a
# stricter setting, it stays. A claim takes its lock and sees what was committed before, whatever the default isolation.
_CONFIGURE: Final = b"""
    SET search_path TO qxt;
    SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') IN ('off', 'local')
"""
# 22: data exceptions, 23: violated constraints. Their messages quote values.
_QUOTING: Final = ("22", "23")
# 54: a limit of the server is exceeded, for example by a key of more than 2,704 bytes.
_UNSTORABLE: Final = (*_QUOTING, "54")
# From the catalogue itself: to_regclass would answer from a cache that may be stale.
_TABLES: Final = "SELECT tablename FROM pg_tables WHERE schemaname = 'qxt'"


def unavailable(error: psycopg.Error) -> JournalUnavailableError:
    """The journal's error for an error of the database. It quotes no values."""
    state = error.sqlstate or ""
    if state.startswith(_UNSTORABLE):
        return UnstorableError(f"the journal's database refused a value ({type(error).__name__}, {state})")
    text = error.diag.message_primary or str(error).partition("\n")[0]
    return JournalUnavailableError(f"the journal's database refused ({type(error).__name__}: {text})")


def quotes_values(error: psycopg.Error) -> bool:
    """Whether the error may quote values, so that nobody must see it."""
    return (error.sqlstate or "").startswith(_QUOTING)


def connection_parameters(address: str) -> tuple[dict[str, Any], float]:
    """Read an address.

    Returns:
        The parameters for libpq, with our own for what the address does not set; and `ANSWER_TIMEOUT`, or what the
        address says instead (``?answer_timeout=SECONDS``).

    Raises:
        InvalidConfigurationError: the address cannot be read. The error quotes nothing of it: there may be a password.
    """
    address, seconds = _split_answer_timeout(address)
    authority, _, rest = address.partition("://")[2].partition("?")[0].partition("/")
    if "@" in rest or authority.count("@") > 1:
        raise InvalidConfigurationError(
            "the journal's address has an @ where none belongs: in a password, write %40 for @, %2F for / and %3F for ?"
        )
    try:
        given = conninfo.conninfo_to_dict(address)
    except psycopg.Error:
        raise InvalidConfigurationError(
            "the journal's address cannot be read: write postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
        ) from None
    parameters = {**_CONNECTION, **given}
    _seconds("connect_timeout", str(parameters["connect_timeout"]))
    return parameters, seconds


def _split_answer_timeout(address: str) -> tuple[str, float]:
    """The address without the parameter that libpq does not know, and what that says."""
    found = _ANSWER_TIMEOUT.search(address)
    if found is None:
        return address, ANSWER_TIMEOUT
    return _ANSWER_TIMEOUT.sub("", address).rstrip("?&"), _seconds("answer_timeout", found[1])


def _seconds(name: str, said: str) -> float:
    try:
        seconds = float(said)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InvalidConfigurationError(f"{name} in the journal's address has to be a number of seconds above 0")
    return seconds


def require_asyncio() -> None:
    """Raise `InvalidConfigurationError` on trio, which psycopg does not support."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        raise InvalidConfigurationError(
            "a journal on PostgreSQL needs asyncio, since psycopg does; on trio keep it in an SQLite file"
        )


def require_utf8(connection: AsyncConnection[Any]) -> None:
    """Raise `InvalidConfigurationError` if the database cannot store every text."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise InvalidConfigurationError(
            f"the journal's database has the encoding {encoding}, which cannot keep every text: "
            "make one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        )


class Connection(AsyncConnection[tuple[Any, ...]]):
    """A connection to the journal.

    Attributes:
        prepared: the names of the statements that it has prepared for EXECUTE.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.prepared: set[str] = set()


async def configure(connection: AsyncConnection[Any]) -> None:
    """Set up a connection in autocommit mode."""
    await connection.set_isolation_level(IsolationLevel.READ_COMMITTED)
    await connection.execute(BOUNDS + b";" + _CONFIGURE)


async def migrate(connection: Connection, scripts: Mapping[int, str]) -> None:
    """Bring the schema ``qxt`` up to date, in one transaction.

    Args:
        connection: in autocommit mode.
        scripts: for each version the script that leads to it, from 1.

    Raises:
        JournalSchemaError: the schema ``qxt`` is not that of a journal, or it is newer than `scripts`.
        psycopg.Error: the database refused; nothing is changed.
    """

    async def execute(script: str) -> list[Any]:
        cursor = await connection.execute(script.encode())
        return await cursor.fetchall() if cursor.description else []

    async with connection.transaction():
        await execute("SET LOCAL search_path TO qxt")
        # One process at a time.
        await execute("SELECT pg_advisory_xact_lock(5331028, 0)")
        # IF NOT EXISTS would need the right to create it even when an administrator has already done so.
        if not await execute("SELECT 1 FROM pg_namespace WHERE nspname = 'qxt'"):
            await execute("CREATE SCHEMA qxt")
        await upgrade(execute, _TABLES, scripts)
