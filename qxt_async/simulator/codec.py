"""The gateway's codec: parses and writes forms in GBK, and counts segments.

It shares no code with the client's codec. Otherwise a mistake there could be hidden by the same mistake here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")
_ENCODED = tuple("+" if byte == 0x20 else chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in range(256))

# PROTOCOL 5: carriers count UCS-2 characters.
_SINGLE = 70
_PART = 67


def _unescape(raw: bytes) -> bytes:
    return _ESCAPE.sub(lambda match: bytes((int(match[1], 16),)), raw.replace(b"+", b" "))


def parse_form(raw: bytes) -> dict[str, bytes]:
    """Split a query or an urlencoded body at ``&`` and ``=``, before decoding (PROTOCOL 4.1).

    Returns:
        The encoded values by lower-case field name; the first value of a repeated field.
    """
    fields: dict[str, bytes] = {}
    for pair in raw.split(b"&"):
        name, equals, value = pair.partition(b"=")
        if equals:
            fields.setdefault(_unescape(name).decode("latin-1").strip().lower(), value)
    return fields


def decode_text(raw: bytes) -> str:
    """Decode a field's value: ``+`` and percent escapes first, then strict GBK (PROTOCOL 1.2).

    Raises:
        UnicodeDecodeError: the bytes are not GBK.
    """
    return _unescape(raw).decode("gbk")


def split_numbers(raw: bytes) -> bytes:
    """Decode the value of ``tele``: numbers joined by ASCII commas, which may be escaped."""
    # A thousand escaped commas are common, other escapes are rare: two replacements are faster than matching each.
    raw = raw.replace(b"%2C", b",").replace(b"%2c", b",")
    return _unescape(raw) if b"%" in raw or b"+" in raw else raw


def encode_form(fields: Iterable[tuple[str, str]]) -> str:
    """Write an urlencoded form in GBK, for a query or a body (PROTOCOL 4).

    Args:
        fields: names and values; a character that GBK cannot carry becomes ``?``, as with old gateways.
    """
    return "&".join(
        f"{name}={''.join([_ENCODED[byte] for byte in value.encode('gbk', 'replace')])}" for name, value in fields
    )


def segment_count(text: str, *, numbered: bool = False) -> int:
    """How many messages a text is billed as (PROTOCOL 5).

    Args:
        text: with its signature.
        numbered: the channel has no long messages and ``addseqno`` was given: every part is a single message that
            contains its ``1/3)``.
    """
    length = len(text)
    if length <= _SINGLE:
        return 1
    if not numbered:
        return -(-length // _PART)
    count = 2
    while sum(_SINGLE - len(f"{part}/{count})") for part in range(1, count + 1)) < length:
        count += 1
    return count
