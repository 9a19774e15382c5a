"""The statements of the journal on a connection to PostgreSQL."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast

from psycopg import AsyncClientCursor

from qxt_async.journal.statements import Dialect, Statements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import TypeAlias

    from psycopg import AsyncCursor

    from qxt_async.journal.postgres.connecting import Connection

    Cursor: TypeAlias = AsyncCursor[tuple[Any, ...]]

CHANNEL: Final = "qxt_reports"
DIALECT: Final = Dialect(
    folder="postgres",
    parameter="%({0})s",
    clock="micros(:now)",
    in_list="= ANY(CAST({0} AS {1}[]))",
    from_list="unnest(CAST({0} AS {1}[])) AS each (value)",
    types={
        "SERIAL_KEY": "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        "KEY_TEXT": 'text COLLATE "C"',
        "BYTES": "bytea",
    },
)
_STATEMENTS: Final = Statements(DIALECT)
_PARAMETER: Final = re.compile(rb"%\((\w+)\)s")
_INSERT: Final = re.compile(r"INSERT INTO (\w+) \(([\w, ]+)\)")


def _storable(value: Any) -> Any:
    """A value that PostgreSQL can store: a text without NUL and without what UTF-8 cannot encode."""
    if type(value) is not str:
        return value
    text = value.replace("\0", "\ufffd")
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


@cache
def _query(name: str, where: str) -> bytes:
    return _STATEMENTS.get(name, where).text.encode()


@cache
def _prepared(name: str) -> tuple[bytes, bytes, tuple[str, ...]]:
    """The PREPARE of a statement, an EXECUTE of it, and the names of its parameters."""
    query = _query(name, "TRUE")
    names = tuple(dict.fromkeys(_PARAMETER.findall(query)))
    for place, key in enumerate(names, 1):
        query = query.replace(b"%%(%s)s" % key, b"$%d" % place)
    execute = b"EXECUTE qxt_%s (%s);" % (name.encode(), b", ".join([b"%s"] * len(names)))
    return b"PREPARE qxt_%s AS %s" % (name.encode(), query), execute, tuple(key.decode() for key in names)


@cache
def _copy(name: str) -> tuple[bytes, tuple[str, ...]]:
    """The COPY that does the same as a statement that inserts one row, and its columns."""
    match = _INSERT.match(_STATEMENTS.get(name).text)
    assert match is not None  # noqa: S101  (the statement is ours)
    return f"COPY {match[1]} ({match[2]}) FROM STDIN".encode(), tuple(match[2].split(", "))


class PostgresTransaction:
    """`Transaction` on a connection of the pool.

    Attributes:
        connection: the open connection; the operation must neither commit nor roll back.
    """

    __slots__ = ("_clock", "connection")

    def __init__(self, connection: Connection, clock: Callable[[], int | None]) -> None:
        self.connection = connection
        self._clock = clock

    async def _execute(self, name: str, where: str, values: dict[str, Any]) -> Cursor:
        return await self.connection.execute(*self._bound(name, where, values))

    def _bound(self, name: str, where: str, values: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
        """A statement, and its values as they can be stored."""
        statement = _STATEMENTS.get(name, where)
        if statement.clock and "now" not in values:
            values["now"] = self._clock()
        for key, value in values.items():
            if type(value) is str:
                values[key] = _storable(value)
            elif key in statement.json:
                values[key] = json.dumps([[_storable(item) for item in row] for row in value], ensure_ascii=False)
            elif type(value) is list:
                values[key] = [_storable(item) for item in cast("Sequence[Any]", value)]
        return _query(name, where), values

    async def rows(self, name: str, /, *, where: str = "TRUE", **values: Any) -> list[Any]:
        """One round trip."""
        return await (await self._execute(name, where, values)).fetchall()

    async def rows_for_each(self, name: str, /, values: Sequence[dict[str, Any]]) -> list[list[Any]]:
        """One round trip: an EXECUTE for each, all in one message.

        A pipeline costs more, and a client that is cut off in the middle of one would keep its locks: PostgreSQL ends a
        transaction that is idle, and one whose pipeline has no end counts as active.
        """
        prepare, execute, names = _prepared(name)
        if name not in self.connection.prepared:
            await self.connection.execute(prepare)
            self.connection.prepared.add(name)
        bound = [self._bound(name, "TRUE", one)[1] for one in values]
        found: list[list[Any]] = []
        async with AsyncClientCursor(self.connection) as cursor:
            await cursor.execute(execute * len(values), [one[key] for one in bound for key in names])
            while len(found) < len(values):
                found.append(await cursor.fetchall())
                cursor.nextset()
        return found

    async def change(self, name: str, /, **values: Any) -> int:
        """One round trip."""
        return (await self._execute(name, "TRUE", values)).rowcount

    async def insert(self, name: str, /, rows: Iterable[Mapping[str, Any]]) -> None:
        """COPY, or a pipeline for a statement with ON CONFLICT."""
        async with self.connection.cursor() as cursor:
            if b" ON CONFLICT " in _query(name, "TRUE").replace(b"\n", b" "):
                storable = [{key: _storable(value) for key, value in row.items()} for row in rows]
                if len(storable) == 1:
                    await cursor.execute(_query(name, "TRUE"), storable[0])
                else:
                    await cursor.executemany(_query(name, "TRUE"), storable)
                return
            statement, columns = _copy(name)
            async with cursor.copy(statement) as copy:
                for row in rows:
                    await copy.write_row([_storable(row[column]) for column in columns])

    async def merge(self, name: str, /, values: list[Any], columns: int) -> int:
        """One statement."""
        rows = [values[start : start + columns] for start in range(0, len(values), columns)]
        return await self.change(name, rows=rows)

    async def lock(self, name: str, /, **values: Any) -> None:
        """Wait for a lock that ends with the transaction."""
        await self._execute(name, "TRUE", values)

    async def notify(self) -> None:
        """NOTIFY reaches everyone who listens, at the commit."""
        await self.connection.execute(b"SELECT pg_notify(%s, '')", (CHANNEL,))
