"""Texts with columns: ``尊敬的{name}，您的订单{order}已发货``.

The whole grammar: ``{column}`` stands for the row's value in that column, ``{{`` and ``}}`` for the braces themselves.
A column is its name in the table's header, or its position from 1. Whatever stands between the braces is a name and
nothing else: no attributes, no items, no format, nothing is ever evaluated.

What looks like a column and is none is nearly always a mistake, and thousands of phones would show it: ``｛name｝``,
``${name}`` and ``%name%``; and ``{name}`` itself in a text that nothing is filled into. `Template.check` and
`check_text` refuse it. Percent signs are common in texts (``满100%送50%``), so what stands between two of them counts
only if it is an ASCII name, or the name of a column.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs

from qxt_async.errors import InvalidTextError
from qxt_async.files.columns import shown_columns
from qxt_async.protocol.texts import bad_characters

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Template", "check_text", "find_column", "is_template", "text_fault"]

_DIGITS = 6  # fewer has the position of any column; Python refuses to read thousands

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_LOOKALIKE = re.compile(r"[$＄]?[{｛][^{}｛｝\0]*[}｝]|[%％](?=(?P<name>[^%％\0]+)(?P<end>[%％]))")
# Not what a link has between its percent signs: %E4%BD%A0, %BDx%20.
_NAME = re.compile(r"(?![A-Fa-f][0-9]|[A-Fa-f]{2}\Z|[A-F]{2}[^A-Z])[A-Za-z_][A-Za-z0-9_.-]*")
_SHOWN = 40
_ADVICE = "--literal (in Python literal=True) sends it as it stands"


def is_template(text: str) -> bool:
    """Whether a text has braces, so that `Template.parse` makes something else of it than it is."""
    return "{" in text or "}" in text


@attrs.frozen
class Template:
    """A parsed text with columns.

    Attributes:
        text: as it was given.
        columns: the columns that it needs, each once, in the order of their first place. Empty for a fixed text.
    """

    text: str = attrs.field(repr=lambda text: f"<{len(text)} characters>")
    columns: tuple[str, ...] = ()
    _parts: tuple[str | int, ...] = attrs.field(default=(), repr=False)

    @classmethod
    def parse(cls, text: str) -> Template:
        """Parse a text.

        Raises:
            InvalidTextError: a brace is left open or closes nothing, or a column has no name; says where.
        """
        parts: list[str | int] = []
        columns: list[str] = []
        literal, end = "", 0
        for match in _TOKEN.finditer(text):
            literal += text[end : match.start()]
            end = match.end()
            token, name = match[0], match[1]
            if token in {"{{", "}}"}:
                literal += token[0]
                continue
            place = f"at position {match.start() + 1} of the text"
            if name is None:
                raise InvalidTextError(f"there is a lone {token!r} {place}: write {token * 2} for the brace itself")
            if not name.strip():
                raise InvalidTextError(f"there is a column without a name {place}: {{{{ and }}}} are braces")
            if name.strip() not in columns:
                columns.append(name.strip())
            parts += [literal, columns.index(name.strip())]
            literal = ""
        parts.append(literal + text[end:])
        return cls(text, tuple(columns), tuple(part for part in parts if part != ""))

    def resolve(self, existing: Sequence[str]) -> tuple[int, ...]:
        """Find the template's columns in a table.

        Args:
            existing: the table's columns in order; those without a name are empty.

        Returns:
            For each of `columns` its index in the table, from 0.

        Raises:
            InvalidTextError: there is no such column, or more than one; names it and lists those that exist.
        """
        return tuple(find_column(name, existing) for name in self.columns)

    def check(self, existing: Sequence[str] = ()) -> None:
        """Refuse what looks like a column and is none.

        Args:
            existing: the names of a table's columns, which count between percent signs too.

        Raises:
            InvalidTextError: there is such a thing; shows it and says what to do.
        """

        def blank(token: re.Match[str]) -> str:
            behind_dollar = token.start() > 0 and self.text[token.start() - 1] in "$＄"
            # A NUL: part of no placeholder, and the others stay where they are.
            return token[0] if behind_dollar and token[1] is not None else "\0" * len(token[0])

        if found := _lookalike(_TOKEN.sub(blank, self.text), existing):
            raise InvalidTextError(f"{found}: a column is written {{name}}; {_ADVICE}")

    def render(self, values: Sequence[str]) -> str:
        """The text of one row.

        Args:
            values: one for each of `columns`, in that order.
        """
        return "".join([part if isinstance(part, str) else values[part] for part in self._parts])

    def fault(self, values: Sequence[str]) -> str | None:
        """Say what is wrong with a row: a value that is missing or has a character that GBK cannot carry.

        Args:
            values: as for `render`.

        Returns:
            A reason that names the column and never its value, ``None`` if the row is fine.
        """
        for column, value in zip(self.columns, values, strict=True):
            if not value.strip():
                return f"column {column!r} is empty"
            if bad := bad_characters(value):
                return f"column {column!r} has {bad[0].name} in place {bad[0].position + 1}, which GBK cannot carry"
        return None


def text_fault(text: str, existing: Sequence[str] = ()) -> str | None:
    """What looks like a column in a text that nothing is filled into.

    Args:
        text: it goes to everybody as it stands.
        existing: as for `Template.check`.

    Returns:
        What it is and what to do, ``None`` if there is nothing.
    """
    found = _lookalike(text, existing)
    return found and f"{found}, since all get the same text: qxt campaign plan fills in columns; --literal sends it so"


def check_text(text: str, existing: Sequence[str] = ()) -> None:
    """Refuse a text that has a `text_fault`.

    Raises:
        InvalidTextError: it has one.
    """
    if fault := text_fault(text, existing):
        raise InvalidTextError(fault)


def _lookalike(text: str, existing: Sequence[str]) -> str | None:
    for match in _LOOKALIKE.finditer(text):
        name = match["name"]
        if name is None:
            token = match[0]
        elif _NAME.fullmatch(name) or (name.strip() and name.strip() in existing):
            token = match[0] + name + match["end"]
        else:
            continue
        shown = token if len(token) <= _SHOWN else f"{token[:_SHOWN]}…"
        return f"{shown!r} at position {match.start() + 1} of the text looks like a column and is none"
    return None


def find_column(name: str, existing: Sequence[str]) -> int:
    """Find a column by its name or, where none has that name, by its position from 1.

    Returns:
        Its index, from 0.

    Raises:
        InvalidTextError: there is none, or more than one of that name; lists those that exist.
    """
    if existing.count(name) > 1:
        raise InvalidTextError(
            f"more than one column is named {name!r}, so give its position: there are {shown_columns(existing)}"
        )
    if name in existing:
        return existing.index(name)
    position = int(name) if name.isascii() and name.isdigit() and len(name) < _DIGITS else 0
    if 1 <= position <= len(existing):
        return position - 1
    there = f"there are {shown_columns(existing)}" if existing else "the source has only numbers and no columns"
    raise InvalidTextError(f"there is no column {name!r}: {there}")
