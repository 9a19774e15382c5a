"""Texts: the characters of GBK, the segments that are billed, extension numbers."""

from __future__ import annotations

import re
import unicodedata

import attrs

from qxt_async.errors import InvalidConfigurationError, InvalidExtnoError, InvalidTextError

# UCS-2 characters of a message, as carriers in China bill them (PROTOCOL 5).
SEGMENT_SINGLE = 70
SEGMENT_PART = 67

EXTNO_DIGITS = 20
"""Digits of the channel's extension and ours together (PROTOCOL 1, ``extno``)."""

SUBSTITUTIONS: dict[str, str] = {
    "€": "EUR",
    "£": "GBP",
    "¥": "￥",
    "©": "(c)",
    "®": "(R)",
    "™": "(TM)",
    "•": "·",
    "‣": "·",
    "‑": "-",
    "‒": "-",
    "−": "-",
    "⁃": "-",
    "‚": ",",
    "„": '"',
    "‟": '"',
    "«": "《",
    "»": "》",
    "‹": "〈",
    "›": "〉",
    "¼": "1/4",
    "½": "1/2",
    "¾": "3/4",
    "²": "2",
    "³": "3",
    "\u00a0": " ",
    "\u2002": " ",
    "\u2003": " ",
    "\u2007": " ",
    "\u2009": " ",
    "\u202f": " ",
    "\u00ad": "",
    "\u200b": "",
    "\u200c": "",
    "\u200d": "",
    "\u200e": "",
    "\u200f": "",
    "\u2060": "",
    "\ufe0f": "",
    "\ufeff": "",
}
"""The replacements that `substitute` uses for common characters that GBK does not have."""

# Unicode's category Cc without the line ends and the tab.
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_SHOWN = 5


@attrs.frozen
class BadCharacter:
    """A character that cannot be sent, and its place in the text.

    Attributes:
        character: the character.
        position: index in the text, from 0.
        line: line in the text, from 1.
        column: place in the line, from 1.
        substitute: the replacement that `substitute` uses, ``None`` if it has none.
    """

    character: str
    position: int
    line: int = attrs.field(kw_only=True)
    column: int = attrs.field(kw_only=True)
    substitute: str | None = attrs.field(kw_only=True)

    @property
    def name(self) -> str:
        """Its Unicode name with the code point, such as ``U+20AC EURO SIGN``."""
        return f"U+{ord(self.character):04X} {unicodedata.name(self.character, 'control character')}"


def _encoded(text: str) -> bytes | None:
    """Encode a text for the request; ``None`` if it cannot be sent."""
    if not isinstance(text, str):
        raise InvalidTextError(f"the text is {type(text).__name__}, not str")
    if _CONTROLS.search(text):
        return None
    try:
        return text.encode("gbk")
    except UnicodeEncodeError:
        return None


def bad_characters(text: str) -> tuple[BadCharacter, ...]:
    """Find every character of a text that GBK does not have, and every control character (PROTOCOL 1.3).

    Returns:
        One `BadCharacter` for each, in order; empty if the text can be sent.
    """
    if _encoded(text) is not None:
        return ()
    found: list[BadCharacter] = []
    line, line_start = 1, 0
    for position, character in enumerate(text):
        if _encoded(character) is None:
            found.append(
                BadCharacter(
                    character,
                    position,
                    line=line,
                    column=position - line_start + 1,
                    substitute=SUBSTITUTIONS.get(character),
                )
            )
        if character == "\n":
            line, line_start = line + 1, position + 1
    return tuple(found)


def substitute(text: str) -> str:
    """Replace common characters that GBK does not have, by the table `SUBSTITUTIONS`.

    Characters that GBK has stay as they are. Characters that are not in the table stay too; `encode` refuses them.
    """
    if _encoded(text) is not None:
        return text
    return "".join(one if _encoded(one) is not None else SUBSTITUTIONS.get(one, one) for one in text)


def encode(text: str) -> bytes:
    """Encode a text for the request.

    Returns:
        GBK bytes.

    Raises:
        InvalidTextError: the text is empty or only white space, or has characters that GBK does not have; `characters`
            has each of them with its position.
    """
    encoded = _encoded(text)
    if not text.strip():
        raise InvalidTextError("the text is empty")
    if encoded is None:
        bad = bad_characters(text)
        shown = ", ".join(f"{bc.name} at line {bc.line}, column {bc.column}" for bc in bad[:_SHOWN])
        more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        advice = (
            "; substitute=True (on the command line --substitute) would replace them"
            if all(bc.substitute is not None for bc in bad)
            else ""
        )
        raise InvalidTextError(f"the text has characters that GBK cannot carry: {shown}{more}{advice}", bad)
    return encoded


def segments(text: str, *, addseqno: bool = False, single: int = SEGMENT_SINGLE, part: int = SEGMENT_PART) -> int:
    """Estimate how many messages a text is billed as (PROTOCOL 5).

    Args:
        text: the whole text, signature included.
        addseqno: count for a channel without long messages, where every part is a message of its own that begins with
            ``1/3)``.
        single: UCS-2 characters in a single message.
        part: UCS-2 characters in a part of a long one.

    Returns:
        Messages, 0 for an empty text.

    Raises:
        InvalidConfigurationError: `single` or `part` is too small for any text.
    """
    no_room = InvalidConfigurationError(f"segments of {single} and {part} characters leave no room for the text")
    if part < 1 or single < 1:
        raise no_room
    length = len(text.encode("utf-16-le", "surrogatepass")) // 2
    if length <= single:
        return 1 if length else 0
    if not addseqno:
        return -(-length // part)
    count = 2
    while single > len(f"{count}/{count})"):  # the longest prefix
        if sum(single - len(f"{index}/{count})") for index in range(1, count + 1)) >= length:
            return count
        count += 1
    raise no_room


def check_extno(extno: str, *, channel_digits: int = 0) -> str:
    """Check an extension number (PROTOCOL 1, ``extno``).

    Args:
        extno: the digits to append to the channel's number.
        channel_digits: how many digits of extension the channel has already.

    Returns:
        `extno`.

    Raises:
        InvalidExtnoError: it is not ASCII digits, or is too long.
    """
    if not isinstance(extno, str):
        raise InvalidExtnoError(f"extno is {type(extno).__name__}, not str: a number would lose leading zeros")
    if not (extno.isascii() and extno.isdigit()):
        raise InvalidExtnoError("extno has to be ASCII digits; leave it out (None) for no extension")
    if len(extno) + channel_digits > EXTNO_DIGITS:
        own = f" with the channel's {channel_digits}" if channel_digits else ""
        raise InvalidExtnoError(f"extno has {len(extno)} digits{own}: at most {EXTNO_DIGITS} are allowed")
    return extno
