"""Texts with placeholders for columns: ``尊敬的{name}，您的订单{order}已发货``.

The whole grammar: ``{column}`` stands for the row's value in that column, ``{{`` and ``}}`` for the braces themselves.
A column is its name in the table's header, or its position from 1. The text between the braces is only a name:
attributes, items and formats do not exist, and nothing is evaluated.

``｛name｝``, ``${name}`` and ``%name%`` look like placeholders and are none. So does ``{name}`` in a text that is not
filled in. They are nearly always a mistake, and thousands of phones would show it: `Template.check` and
`check_no_placeholders` refuse them. Percent signs are common in texts (``满100%送50%``), so a name between two of them
counts only if it is an ASCII name, or the name of a column.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs

from qxt_async.errors import InvalidTextError
from qxt_async.protocol.texts import bad_characters

if TYPE_CHECKING:
    from collections.abc import Sequence

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_LOOKALIKE = re.compile(r"[$＄]?[{｛][^{}｛｝\0]*[}｝]|[%％](?=(?P<name>[^%％\0]+)(?P<end>[%％]))")
# Not what a link has between its percent signs: %E4%BD%A0, %BDx%20.
_NAME = re.compile(r"(?![A-Fa-f][0-9]|[A-Fa-f]{2}\Z|[A-F]{2}[^A-Z])[A-Za-z_][A-Za-z0-9_.-]*")
_SHOWN = 40
_ADVICE = "--literal (in Python literal=True) sends it as it stands"


@attrs.frozen
class Template:
    """A parsed text with placeholders.

    Attributes:
        text: as given.
        columns: the columns that it needs, each once, in the order of their first use. Empty for a fixed text.
    """

    text: str = attrs.field(repr=lambda text: f"<{len(text)} characters>")
    columns: tuple[str, ...] = ()
    _parts: tuple[str | int, ...] = attrs.field(default=(), repr=False)

    @classmethod
    def parse(cls, text: str) -> Template:
        """Parse a text.

        Raises:
            InvalidTextError: a brace has no partner, or a placeholder has no name; says where.
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

    def check(self, existing: Sequence[str] = ()) -> None:
        """Refuse text that looks like a placeholder and is none.

        Args:
            existing: the names of a table's columns, which are also refused between percent signs.

        Raises:
            InvalidTextError: there is such text; shows it and says what to do.
        """

        def blank(token: re.Match[str]) -> str:
            behind_dollar = token.start() > 0 and self.text[token.start() - 1] in "$＄"
            # A NUL is part of no placeholder, and the positions of the other characters stay the same.
            return token[0] if behind_dollar and token[1] is not None else "\0" * len(token[0])

        if found := _find_lookalike(_TOKEN.sub(blank, self.text), existing):
            raise InvalidTextError(f"{found}: a column is written {{name}}; {_ADVICE}")

    def render(self, values: Sequence[str]) -> str:
        """Fill in the values of one row.

        Args:
            values: one for each of `columns`, in that order.
        """
        return "".join([part if isinstance(part, str) else values[part] for part in self._parts])

    def fault(self, values: Sequence[str]) -> str | None:
        """Check the values of a row: none may be blank or have a character that GBK cannot carry.

        Args:
            values: as for `render`.

        Returns:
            What is wrong, with the column's name and without its value; ``None`` if nothing is.
        """
        for column, value in zip(self.columns, values, strict=True):
            if not value.strip():
                return f"column {column!r} is empty"
            if bad := bad_characters(value):
                return f"column {column!r} has {bad[0].name} in place {bad[0].position + 1}, which GBK cannot carry"
        return None


def check_no_placeholders(text: str, existing: Sequence[str] = ()) -> None:
    """Refuse placeholders in a text that is sent as it is to every number.

    Args:
        text: the text.
        existing: the names of a table's columns, as for `Template.check`.

    Raises:
        InvalidTextError: it has something that looks like a placeholder; says what to do.
    """
    if found := _find_lookalike(text, existing):
        advice = "qxt campaign plan fills in columns; --literal sends it so"
        raise InvalidTextError(f"{found}, since all get the same text: {advice}")


def _find_lookalike(text: str, existing: Sequence[str]) -> str | None:
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
