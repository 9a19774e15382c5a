"""The SQL files: statements and schema of both databases, and what one of them says differently.

``sql/*.sql`` are shared. A statement in ``sql/sqlite/`` or ``sql/postgres/`` replaces the shared one of the same name;
a migration there follows the shared one of the same number. What differs in each statement is written in one way and
translated:

- ``:name`` is a parameter;
- ``NOW`` is the clock, in microseconds since 1970;
- ``EACH(:name::type)`` stands for the values of a list, behind ``IN`` or as a table with the column ``value``;
- in a migration, ``SERIAL_KEY``, ``KEY_TEXT`` and ``BYTES`` are types: a key that the database draws, a text that is
  compared byte by byte, and bytes.

``{name}`` inserts the statement of that name; ``{where}`` is a condition that the caller gives.
"""

from __future__ import annotations

import re
import sqlite3
from importlib import resources
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_FOLDER: Final = resources.files("qxt_async.journal") / "sql"
_MIGRATION: Final = re.compile(r"(\d{4})_\w+\.sql")
_TYPE: Final = re.compile(r"SERIAL_KEY|KEY_TEXT|BYTES")
_NAME: Final = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_COMMENT: Final = re.compile(r"^--.*\n?", re.MULTILINE)
_PART: Final = re.compile(r"\{(\w+)\}")
_EACH: Final = re.compile(r"(IN )?EACH\(:(\w+)::(\w+)\)")
_CLOCK: Final = re.compile(r"\bNOW\b")
_PARAMETER: Final = re.compile(r"(?<!:):([a-z]\w*)")
_JSON: Final = re.compile(r"(?:json_each\(:|CAST\(:)(\w+)(?:\)| AS json\))")


@attrs.frozen(kw_only=True)
class Dialect:
    """The words of a database for what the files write in one way.

    Attributes:
        folder: the folder of its own statements.
        parameter: a parameter; the name for ``{0}``.
        clock: the current time, with the parameter ``:now``.
        in_list: ``IN`` a list; the name for ``{0}``, the type for ``{1}``.
        from_list: a list as a table.
        types: its types, by their names in migrations.
    """

    folder: str
    parameter: str
    clock: str
    in_list: str
    from_list: str
    types: Mapping[str, str] = attrs.field(repr=False)


@attrs.frozen
class Statement:
    """A statement in the words of its database.

    Attributes:
        text: the SQL.
        clock: whether it has the parameter ``now``.
        json: the names of parameters that are JSON arrays.
    """

    text: str = attrs.field(repr=False)
    clock: bool
    json: tuple[str, ...]


class Statements:
    """The statements of one database, by name."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._texts = {**_load_queries("."), **_load_queries(dialect.folder)}
        self._made: dict[tuple[str, str], Statement] = {}

    def get(self, name: str, where: str = "TRUE") -> Statement:
        """A statement, translated once.

        Args:
            name: of the statement.
            where: replaces ``{where}``; never a value.
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


def _load_queries(folder: str) -> dict[str, str]:
    """The statements in the files of a folder, by their ``-- name:`` lines, without comments."""
    found: dict[str, str] = {}
    for file in (_FOLDER / folder).iterdir():
        if file.name.endswith(".sql") and not _MIGRATION.fullmatch(file.name):
            _, *parts = _NAME.split(file.read_text("utf-8"))
            for name, text in zip(parts[::2], parts[1::2], strict=True):
                found[name] = _COMMENT.sub("", text).strip().removesuffix(";")
    return found


def migrations(dialect: Dialect) -> dict[int, str]:
    """The scripts that lead to each version of a database's schema, from the version before, in order."""
    scripts: dict[int, str] = {}
    for folder in (".", dialect.folder):
        for file in sorted((_FOLDER / folder).iterdir(), key=lambda file: file.name):
            if match := _MIGRATION.fullmatch(file.name):
                scripts[int(match[1])] = scripts.get(int(match[1]), "") + file.read_text("utf-8")
    return {
        version: _TYPE.sub(lambda match: dialect.types[match[0]], script) for version, script in sorted(scripts.items())
    }


def split(script: str) -> Iterator[str]:
    """The statements of a script, one by one: `sqlite3.Connection.executescript` would end the transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
