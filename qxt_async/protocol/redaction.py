"""Mask the parts of a sent text that an answer repeats."""

from __future__ import annotations

import base64
import html
import re
import unicodedata
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

# Equal characters in a row that are masked: a login code has six.
_LENGTH: Final = 6
_MASK: Final = "****"

# A character of an HTML page: an entity or itself.
_WRITTEN: Final = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});|.", re.DOTALL)
_BASE64: Final = re.compile(r"[0-9A-Za-z+/_-]{8,}={0,2}")
_URL_SAFE: Final = str.maketrans("-_", "+/")
_NUMBER: Final = re.compile(r"[0-9]{7}")


def mask_repeated(said: str, text: str) -> str:
    """Replace every run of six or more characters that `said` shares with `text` by asterisks.

    It also finds runs with separators (``4 8 2-9 1 3``), in another case or width, as HTML entities, and in base64, as
    UTF-8 or GBK. The time is proportional to the lengths.

    Args:
        said: the beginning of an answer.
        text: the text that was sent.
    """
    folded = _folded(html.unescape(text))
    parts = {each[at : at + _LENGTH] for each in (text, folded) for at in range(len(each) - _LENGTH + 1)}
    hidden = bytearray(len(said))
    for places in ([(character, at, at + 1) for at, character in enumerate(said)], _folded_places(said)):
        _hide(places, parts, hidden)
    for run in _BASE64.finditer(said):
        if any(_NUMBER.search(decoded) or _repeats(decoded, parts) for decoded in _decodings(run[0])):
            hidden[run.start() : run.end()] = b"\1" * len(run[0])
    shown: list[str] = []
    for at, character in enumerate(said):
        if not hidden[at]:
            shown.append(character)
        elif at == 0 or not hidden[at - 1]:
            shown.append(_MASK)
    return "".join(shown)


def _folded(text: str) -> str:
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))


def _folded_places(said: str) -> Sequence[tuple[str, int, int]]:
    """Return the letters and digits of `said`, folded, each with its start and end."""
    return [
        (character, written.start(), written.end())
        for written in _WRITTEN.finditer(said)
        for character in _folded(html.unescape(written[0]))
    ]


def _hide(places: Sequence[tuple[str, int, int]], parts: set[str], hidden: bytearray) -> None:
    text = "".join(character for character, _, _ in places)
    for at in range(len(text) - _LENGTH + 1):
        if text[at : at + _LENGTH] in parts:
            start, end = places[at][1], places[at + _LENGTH - 1][2]
            hidden[start:end] = b"\1" * (end - start)


def _repeats(decoded: str, parts: set[str]) -> bool:
    return any(
        each[at : at + _LENGTH] in parts
        for each in (decoded, _folded(decoded))
        for at in range(len(each) - _LENGTH + 1)
    )


def _decodings(run: str) -> Sequence[str]:
    """Decode a run of base64 at all four offsets, since letters may precede it and its beginning may be missing."""
    run = run.rstrip("=").translate(_URL_SAFE)
    found: list[str] = []
    for skipped in range(4):
        whole = (len(run) - skipped) // 4 * 4
        raw = base64.b64decode(run[skipped : skipped + whole])
        # If it starts with half a GBK character, all characters after it are decoded wrongly.
        found += [raw.decode("utf-8", "ignore"), raw.decode("gbk", "ignore"), raw[1:].decode("gbk", "ignore")]
    return found
