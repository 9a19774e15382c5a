"""The SQL files of the journal, read as they stand."""

from __future__ import annotations

import re
import sqlite3
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["migrations", "named", "split"]

_MIGRATION: Final = re.compile(r"(\d{4})_\w+\.sql")
_FOLDER: Final = resources.files("qxt_async.journal") / "sql"
_NAME: Final = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def migrations(folder: str = ".") -> dict[int, str]:
    """The scripts that lead from each schema version to the next, by the version they lead to."""
    files = sorted((_FOLDER / folder).iterdir(), key=lambda file: file.name)
    return {int(match[1]): file.read_text("utf-8") for file in files if (match := _MIGRATION.fullmatch(file.name))}


@cache
def named(file: str) -> Mapping[str, str]:
    """The statements of a file by their ``-- name:`` lines."""
    _, *parts = _NAME.split((_FOLDER / file).read_text("utf-8"))
    return dict(zip(parts[::2], (part.strip().removesuffix(";") for part in parts[1::2]), strict=True))


def split(script: str) -> Iterator[str]:
    """The statements of a script, one by one: `sqlite3.Connection.executescript` would end the transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
