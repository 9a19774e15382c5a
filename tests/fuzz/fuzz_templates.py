"""Fuzzing target: texts, those with columns, and the rows that fill them.

UTF-8, in parts between NULs: the text, the names of the table's columns (each ended by a line feed), the values. What
has only one part is a text as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

from qxt_async.errors import InvalidExtnoError, InvalidTextError
from qxt_async.files import Template
from qxt_async.files.columns import find_column
from qxt_async.protocol.texts import bad_characters, check_extno, encode, segments, substitute

SAMPLES = Path(__file__).parents[1] / "samples" / "texts"

LONGEST = 300
WORDS = [
    *(
        b"{",
        b"}",
        b"{{",
        b"}}",
        b"{1}",
        b"{name}",
        b"{ name }",
        b"{0}",
        b"{a.__class__}",
        b"{0[x]}",
        b"{x!r:>9}",
        b"\0",
    ),
    *(
        "【Acme】".encode(),
        "尊敬的".encode(),
        "€".encode(),
        "\u00a0".encode(),
        "😀".encode(),
        "镕".encode(),
        b"%s",
        b"${x}",
    ),
]


def check(data: bytes) -> None:
    """Compile and fill one text, and check what every text has to keep."""
    parts = data.decode("utf-8", "ignore").split("\0")
    if len(parts) == 1:
        _plain(parts[0])
    else:
        _template(parts[0], parts[1].split("\n"), parts[2:] or [""])


def _template(text: str, existing: list[str], given: list[str]) -> None:
    try:
        template = Template.parse(text)
    except InvalidTextError:
        assert {"{", "}"} & set(text)
        assert _tokens(text) is None
        return
    tokens = _tokens(text)
    assert tokens is not None
    columns = [name for name, is_column in tokens if is_column]
    assert template.columns == tuple(dict.fromkeys(columns))
    assert {"{", "}"} & set(text) or template.columns == ()

    values = islice(cycle(given), len(template.columns))
    filled = dict(zip(template.columns, values, strict=True))
    rendered = template.render([filled[name] for name in template.columns])
    # A value goes in as it is: whatever braces it has are never looked at.
    assert rendered == "".join(filled[part] if is_column else part for part, is_column in tokens)
    if filled:
        fault = template.fault([filled[name] for name in template.columns])
        assert (fault is None) == all(value.strip() and not bad_characters(value) for value in filled.values())
    _resolve(template, existing)


def _is_position(name: str, existing: list[str]) -> bool:
    return name.isascii() and name.isdigit() and 1 <= int(name) <= len(existing)


def _resolve(template: Template, existing: list[str]) -> None:
    try:
        indices = [find_column(name, existing) for name in template.columns]
    except InvalidTextError:
        refused = [name for name in template.columns if existing.count(name) != 1]
        assert any(existing.count(name) > 1 or not _is_position(name, existing) for name in refused)
        return
    for name, index in zip(template.columns, indices, strict=True):
        assert existing[index] == name or (name not in existing and index == int(name) - 1)


def _tokens(text: str) -> list[tuple[str, bool]] | None:
    """What a text consists of, and whether each is a column: read a second time, in another way."""
    found: list[tuple[str, bool]] = []
    place = 0
    while place < len(text):
        if text.startswith(("{{", "}}"), place):
            found.append((text[place], False))
            place += 2
        elif text[place] == "{":
            name, closing, _ = text[place + 1 :].partition("}")
            if not closing or "{" in name or not name.strip():
                return None
            found.append((name.strip(), True))
            place += len(name) + 2
        elif text[place] == "}":
            return None
        else:
            found.append((text[place], False))
            place += 1
    return found


def _plain(text: str) -> None:
    bad = bad_characters(text)
    assert all(text[character.position] == character.character and character.name for character in bad)
    try:
        sent = encode(text)
    except InvalidTextError as error:
        refused = error.characters
        assert text.strip() or not refused
        assert not text.strip() or (refused and refused == bad)
    else:
        assert not bad
        assert sent.decode("gbk") == text
    if bad:
        left = bad_characters(substitute(text))
        assert [one.character for one in left] == [one.character for one in bad if one.substitute is None]
    assert segments(text) <= segments(text, addseqno=True)
    assert bool(text) == bool(segments(text))
    try:
        assert check_extno(text) == text
    except InvalidExtnoError:
        assert not (text.isascii() and text.isdigit()) or len(text) > 20
    else:
        assert 0 < len(text) <= 20


def seeds() -> Iterator[bytes]:
    """Each sample as it is, and with columns and values, good and bad ones."""
    for path in sorted(SAMPLES.glob("*.bin")):
        text = path.read_bytes()
        for columns in ("name\norder\nid", "\n", ""):
            for values in ("张三\0A1", "{order}\0€", "\0 ", "=1+1"):
                yield text + f"\0{columns}\0{values}".encode()
        yield text
