"""The SQL files: statements that both databases share, what one of them says differently, and their schemas.

``sql/*.sql`` are shared. ``sql/sqlite/`` and ``sql/postgres/`` have the schema of one database, and the statements that
replace shared ones of the same name. Three things are written in one way, and translated for each database:

- ``:name`` is a parameter;
- ``NOW`` is the clock, in microseconds since 1970;
- ``EACH(:name::type)`` stands for the values of a list, behind ``IN`` or as a table with the column ``value``.

``{name}`` puts the statement of that name in; ``{where}`` is a condition that the caller gives.
"""

from __future__ import annotations

import re
import sqlite3
from importlib import resources
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Dialect", "Statement", "Statements", "migrations", "split"]

_FOLDER: Final = resources.files("qxt_async.journal") / "sql"
_MIGRATION: Final = re.compile(r"(\d{4})_\w+\.sql")
_NAME: Final = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_COMMENT: Final = re.compile(r"^--.*\n?", re.MULTILINE)
_PART: Final = re.compile(r"\{(\w+)\}")
_EACH: Final = re.compile(r"(IN )?EACH\(:(\w+)::(\w+)\)")
_CLOCK: Final = re.compile(r"\bNOW\b")
_PARAMETER: Final = re.compile(r"(?<!:):([a-z]\w*)")
_JSON: Final = re.compile(r"(?:json_each\(:|CAST\(:)(\w+)(?:\)| AS json\))")


@attrs.frozen(kw_only=True)
class Dialect:
    """How a database says what the files write in one way.

    Attributes:
        folder: where its own statements are.
        parameter: a parameter; the name for ``{0}``.
        clock: the current time, with the parameter ``:now``.
        in_list: ``IN`` a list; the name for ``{0}``, the type for ``{1}``.
        from_list: a list as a table.
    """

    folder: str
    parameter: str
    clock: str
    in_list: str
    from_list: str


@attrs.frozen
class Statement:
    """A statement as its database takes it.

    Attributes:
        text: the SQL.
        clock: it has the parameter ``now``.
        json: the names of parameters that are JSON arrays.
    """

    text: str = attrs.field(repr=False)
    clock: bool
    json: tuple[str, ...]


class Statements:
    """The statements of one database, by name.

    Args:
        dialect: of the database.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._texts = {**_named("."), **_named(dialect.folder)}
        self._made: dict[tuple[str, str], Statement] = {}

    def get(self, name: str, where: str = "TRUE") -> Statement:
        """A statement, made once.

        Args:
            name: of the statement.
            where: what stands for ``{where}``: our own words, never a value.
        """
        found = self._made.get((name, where))
        if found is None:
            found = self._made[name, where] = self._make(name, where)
        return found

    def _make(self, name: str, where: str) -> Statement:
        dialect = self._dialect

        def part(match: re.Match[str]) -> str:
            return where if match[1] == "where" else self._texts.get(match[1], match[0])

        def each(match: re.Match[str]) -> str:
            return (dialect.in_list if match[1] else dialect.from_list).format(f":{match[2]}", match[3])

        text, clock = _CLOCK.subn(dialect.clock, _EACH.sub(each, _PART.sub(part, self._texts[name])))
        json = tuple(dict.fromkeys(_JSON.findall(text)))
        return Statement(_PARAMETER.sub(lambda match: dialect.parameter.format(match[1]), text), bool(clock), json)


def _named(folder: str) -> dict[str, str]:
    """The statements of a folder's files by their ``-- name:`` lines, without comments."""
    found: dict[str, str] = {}
    for file in (_FOLDER / folder).iterdir():
        if file.name.endswith(".sql") and not _MIGRATION.fullmatch(file.name):
            _, *parts = _NAME.split(file.read_text("utf-8"))
            for name, text in zip(parts[::2], parts[1::2], strict=True):
                found[name] = _COMMENT.sub("", text).strip().removesuffix(";")
    return found


def migrations(folder: str) -> dict[int, str]:
    """The scripts that lead from each version of a database's schema to the next, by the version they lead to."""
    files = sorted((_FOLDER / folder).iterdir(), key=lambda file: file.name)
    return {int(match[1]): file.read_text("utf-8") for file in files if (match := _MIGRATION.fullmatch(file.name))}


def split(script: str) -> Iterator[str]:
    """The statements of a script, one by one: `sqlite3.Connection.executescript` would end the transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
