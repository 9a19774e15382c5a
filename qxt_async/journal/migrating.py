"""Bringing the schema of a database up to date."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qxt_async.errors import JournalSchemaError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import TypeAlias

# Runs a script and returns the rows of its last statement.
Execute: TypeAlias = "Callable[[str], Awaitable[list[Any]]]"


async def schema_version(execute: Execute, tables: str, known: int) -> int:
    """The version of the schema, 0 for an empty one.

    Args:
        execute: runs a script.
        tables: a query for the names of the tables.
        known: the newest version that this package knows.

    Raises:
        JournalSchemaError: the schema is not that of a journal, or it is newer than `known`.
    """
    names = {name for (name,) in await execute(tables)}
    if not names:
        return 0
    if "schema_version" not in names:
        message = "the database holds something else than a journal: give another path or database"
        raise JournalSchemaError(message, None, known)
    ((version,),) = await execute("SELECT version FROM schema_version;")
    if version > known:
        message = f"the journal has schema {version}, this version of qxt_async knows {known}: upgrade qxt_async"
        raise JournalSchemaError(message, version, known)
    return int(version)


async def upgrade(execute: Execute, tables: str, scripts: Mapping[int, str]) -> None:
    """Bring the schema up to date, inside a transaction that no other process can run at the same time.

    Args:
        execute: runs a script.
        tables: a query for the names of the tables.
        scripts: for each version the script that leads to it, from 1.

    Raises:
        JournalSchemaError: as `schema_version`.
    """
    known = max(scripts)
    found = await schema_version(execute, tables, known)
    if found == 0:
        await execute("CREATE TABLE schema_version (version integer NOT NULL);")
        await execute("INSERT INTO schema_version (version) VALUES (0);")
    for version in range(found + 1, known + 1):
        await execute(scripts[version])
    await execute(f"UPDATE schema_version SET version = {known} WHERE version < {known};")  # noqa: S608  (a number)
