"""What the gateway pushes to us, without any I/O: bytes in, values out, never an exception.

Nothing signs a push (PROTOCOL 4), so this module trusts none of it and still drops none of it: what it understands
becomes `StatusReport` and `Reply`, what it does not understand is named by a flag, and a flagged push is to be kept
with its raw bytes. The rules that the protocol leaves open are decided here:

- **Charset** (`decode`): bytes that are valid UTF-8 are UTF-8, otherwise they are GBK, with one exception. GBK pairs
  such as ``C8 B7`` (确) or ``D2 BB`` (一) happen to be valid two-byte UTF-8 (``ȷ``, ``һ``); one Chinese character in
  seven does. Chinese in UTF-8 always takes three bytes a character. So bytes whose UTF-8 reading is not ASCII and
  has no character from U+0800 on are GBK (which can read all such bytes).
- **Query and body** (PROTOCOL 4.6): both are read, and for a field in both the body counts. Two different values, or
  a field twice in one part (the first counts), are flagged.
- **Lists** (PROTOCOL 4.2): reports are paired by position, as far as the shortest of ``mid``, ``number`` and ``msg``
  goes. One ``mid`` for many phones holds for all of them, since a mid names a whole batch (PROTOCOL 2); one ``msg``
  never does, since that would claim deliveries that nobody reported. Lengths that differ are flagged in either case.
- **Phones** are canonical (`phones.canonical`): ``8613800138000`` is ``13800138000``, so that a report meets what was
  sent, and a reply the suppression list, in whatever form the gateway names the phone.
- **A report without its** ``msg`` is kept with an empty code (`DeliveryState.UNKNOWN`): it still proves that the mid
  is real.
"""

from __future__ import annotations

import enum
import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

import attrs

from qxt_async.errors import InvalidConfigurationError
from qxt_async.models import Reply, StatusReport
from qxt_async.protocol.numbers import canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

__all__ = ["OptOut", "Push", "PushFlag", "PushLimits", "decode", "parse_push"]

_REPLY: Final = "1"
_REPORT: Final = "4"
_FIELDS: Final = frozenset((b"type", b"mid", b"mobile", b"msg", b"port", b"area", b"city"))
# The gateway writes this word for "none" (PROTOCOL 4).
_NONE: Final = "无"
# Chinese in UTF-8 starts here: everything below takes at most two bytes.
_FIRST_OF_THREE_BYTES: Final = "\u0800"


class PushFlag(enum.StrEnum):
    """Why a push is kept raw. The values are stable: they stand in journals."""

    DOUBLED_FIELD = "doubled-field"
    EMPTY = "empty"
    LIST_IN_REPLY = "list-in-reply"
    LIST_TOO_LONG = "list-too-long"
    MISSING_FIELD = "missing-field"
    TOO_LONG = "too-long"
    TOO_MANY_FIELDS = "too-many-fields"
    UNDECODABLE = "undecodable"
    UNEQUAL_LISTS = "unequal-lists"
    UNKNOWN_FIELD = "unknown-field"
    UNKNOWN_TYPE = "unknown-type"
    UNSTORABLE = "unstorable"


@attrs.frozen(kw_only=True)
class PushLimits:
    """How much of one push is looked at. What lies beyond is flagged and kept raw; the push is still acknowledged.

    Attributes:
        fields: fields in query and body together; the protocol has seven.
        items: reports of one push. 64 KB of body hold about 2,000 real ones.
        value: characters of a mid, a phone, a code, a port, an area or a city; a reply's text may fill the body.
            A journal keeps no mid, phone or code of more than 256.
    """

    fields: int = 64
    items: int = 5000
    value: int = 128


@attrs.frozen(kw_only=True)
class Push:
    """One request of the gateway, understood as far as possible.

    Attributes:
        query: the query, raw.
        body: the body, raw.
        reports: the status reports, in order.
        replies: the replies: one, or none.
        flags: why the raw bytes are to be kept, sorted; empty if everything was understood.
        received_at: when the receiver took it, aware, UTC; ``None`` if the caller did not say.
    """

    query: bytes = attrs.field(repr=lambda raw: f"<{len(raw)} bytes>")
    body: bytes = attrs.field(repr=lambda raw: f"<{len(raw)} bytes>")
    reports: tuple[StatusReport, ...] = ()
    replies: tuple[Reply, ...] = ()
    flags: tuple[PushFlag, ...] = ()
    received_at: datetime | None = None


DEFAULT_LIMITS: Final = PushLimits()

# What nearly all pushes are: one report, its fields in any order, each of a few harmless characters. Province and city
# are nothing but escapes. A field that comes twice matches too.
_LONGEST: Final = 64
_ORDINARY: Final = re.compile(
    rf"(?:(?:type=(4)|mid=([0-9A-Za-z]{{1,{_LONGEST}}})|mobile=([0-9]{{1,{_LONGEST}}})|msg=([0-9A-Za-z:._-]{{1,{_LONGEST}}})"
    rf"|port=([0-9]{{0,{_LONGEST}}})|area=((?:%[0-9A-Fa-f]{{2}}){{0,{_LONGEST}}})|city=((?:%[0-9A-Fa-f]{{2}}){{0,{_LONGEST}}}))"
    r"(?:&(?!\Z)|\Z))+"
)


def parse_push(
    query: bytes,
    body: bytes,
    *,
    limits: PushLimits = DEFAULT_LIMITS,
    channel_number: str | None = None,
    received_at: datetime | None = None,
) -> Push:
    """Read a push (PROTOCOL 4, 4.1 to 4.6). Never raises, whatever the bytes.

    Args:
        query: what follows the ``?``, still percent-encoded.
        body: an urlencoded form, with or without percent-encoding; empty for a GET.
        limits: how much of it is looked at.
        channel_number: the channel's own number; what follows it in ``port`` is the extension of a `Reply`.
        received_at: written into the values.
    """
    if not (query and body) and limits.value >= _LONGEST:
        report = _ordinary(query or body, limits, received_at)
        if report is not None:
            return Push(query=query, body=body, reports=(report,), received_at=received_at)
    return _Reading(limits, channel_number, received_at).push(query, body)


def _ordinary(raw: bytes, limits: PushLimits, received_at: datetime | None) -> StatusReport | None:
    """The report of an ordinary push, as `_Reading` reads it in three times the time; ``None`` for all others."""
    match = _ORDINARY.fullmatch(raw.decode("latin-1"))
    if match is None:
        return None
    kind, mid, number, code, port, area, city = fields = match.groups()
    if kind is None or mid is None or number is None or code is None:
        return None
    if area or city:
        area, city = _place(area), _place(city)
        if area is None or city is None:
            return None
    count = raw.count(b"&") + 1
    if count + fields.count(None) != len(fields) or count > limits.fields:
        return None
    return StatusReport(
        mid,
        canonical(number),
        code=code,
        port=port or None,
        area=area or None,
        city=city or None,
        received_at=received_at,
    )


@lru_cache(maxsize=4096)
def _place(escapes: str | None) -> str | None:
    """A province or city, empty for none; ``None`` if there is more to it. There are few, and they come again."""
    text, faithful = decode(bytes.fromhex((escapes or "").replace("%", " ")))
    if not faithful or "," in text:
        return None
    text = text.strip()
    return "" if text == _NONE else text


def decode(raw: bytes) -> tuple[str, bool]:
    """Decode percent-decoded bytes of a push: UTF-8 or GBK by the rule in the module's docstring.

    Returns:
        The text, and whether that is what the bytes say. If not, what could not be read (also NUL, which databases
        refuse) is ``U+FFFD``.
    """
    text, faithful = _decoded(raw)
    if "\0" in text:
        return text.replace("\0", "\ufffd"), False
    return text, faithful


def _decoded(raw: bytes) -> tuple[str, bool]:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        pass
    else:
        if text.isascii() or max(text) >= _FIRST_OF_THREE_BYTES:
            return text, True
    try:
        return raw.decode("gbk"), True
    except UnicodeDecodeError:
        return raw.decode("gbk", errors="replace"), False


def _unquoted(raw: bytes) -> bytes:
    escapes = raw.count(b"%")
    if escapes * 3 == len(raw):
        # Chinese and nothing else: one call in C instead of a loop.
        try:
            decoded = bytes.fromhex(raw.replace(b"%", b" ").decode("ascii"))
        except ValueError:
            decoded = b""
        if len(decoded) == escapes:
            return decoded
    raw = raw.replace(b"+", b" ")
    return unquote_to_bytes(raw) if escapes else raw


class _Reading:
    """One push while it is read: gathers the flags."""

    def __init__(self, limits: PushLimits, channel_number: str | None, received_at: datetime | None) -> None:
        self.limits = limits
        self.channel_number = channel_number
        self.received_at = received_at
        self.flags: set[PushFlag] = set()
        self.texts: dict[bytes, str] = {}

    def push(self, query: bytes, body: bytes) -> Push:
        reports: Sequence[StatusReport] = ()
        replies: Sequence[Reply] = ()
        self.decode(self.fields(query, body))
        kind = self.texts.get(b"type")
        if not query and not body:
            self.flags.add(PushFlag.EMPTY)
        elif kind == _REPORT:
            reports = self.reports()
        elif kind == _REPLY:
            replies = self.replies()
        else:
            self.flags.add(PushFlag.UNKNOWN_TYPE)
        return Push(
            query=query,
            body=body,
            reports=tuple(reports),
            replies=tuple(replies),
            flags=tuple(sorted(self.flags)),
            received_at=self.received_at,
        )

    # --- fields -------------------------------------------------------------------------------------------------

    def fields(self, query: bytes, body: bytes) -> dict[bytes, bytes]:
        fields = self.part(body) if body else {}
        if query:
            for name, raw in self.part(query, taken=len(fields)).items():
                if fields.setdefault(name, raw) != raw:
                    self.flags.add(PushFlag.DOUBLED_FIELD)
        return fields

    def part(self, raw: bytes, taken: int = 0) -> dict[bytes, bytes]:
        """Split before decoding (PROTOCOL 4.1), and never into more pieces than the limit allows."""
        limit = max(self.limits.fields - taken, 0)
        pieces = raw.split(b"&", limit)
        if len(pieces) > limit:
            self.flags.add(PushFlag.TOO_MANY_FIELDS)
            del pieces[limit:]
        fields: dict[bytes, bytes] = {}
        for piece in pieces:
            name, _, value = piece.partition(b"=")
            if name not in _FIELDS:
                name = _unquoted(name).strip().lower()
                if name not in _FIELDS:
                    if piece.strip():
                        self.flags.add(PushFlag.UNKNOWN_FIELD)
                    continue
            if name in fields:
                self.flags.add(PushFlag.DOUBLED_FIELD)
            else:
                fields[name] = value
        return fields

    def decode(self, fields: dict[bytes, bytes]) -> None:
        """Decode every field, and take the space around it away unless a person may have written it."""
        for name, raw in fields.items():
            if raw.isalnum():
                # Most fields are ASCII letters and digits: nothing to unquote, to doubt or to take away.
                self.texts[name] = raw.decode("ascii")
                continue
            text, faithful = decode(_unquoted(raw) if b"%" in raw or b"+" in raw else raw)
            if not faithful:
                self.flags.add(PushFlag.UNDECODABLE)
            self.texts[name] = text.strip() if name != b"msg" else text

    def short(self, text: str) -> str:
        if len(text) > self.limits.value:
            self.flags.add(PushFlag.TOO_LONG)
            return text[: self.limits.value]
        return text

    def field(self, name: bytes) -> str | None:
        """A field that holds for the whole push."""
        text = self.texts.get(name)
        return None if not text or text == _NONE else self.short(text)

    # --- reports ------------------------------------------------------------------------------------------------

    def items(self, name: bytes) -> list[str]:
        """A list with spaces after its commas (PROTOCOL 4.2); one comma at its end is none's."""
        text = self.texts.get(name, "")
        if "," not in text:
            text = text.strip()
            return [text] if text else []
        items = text.split(",", self.limits.items)
        if len(items) > self.limits.items:
            if items.pop().strip():
                self.flags.add(PushFlag.LIST_TOO_LONG)
        elif not items[-1].strip():
            items.pop()
        return [item.strip() for item in items]

    def reports(self) -> list[StatusReport]:
        mids, numbers, codes = self.items(b"mid"), self.items(b"mobile"), self.items(b"msg")
        if not mids or not numbers or not codes:
            self.flags.add(PushFlag.MISSING_FIELD)
            codes = codes or [""] * len(numbers)
        if not len(mids) == len(numbers) == len(codes):
            self.flags.add(PushFlag.UNEQUAL_LISTS)
            if len(mids) == 1:
                mids *= len(numbers)
        count = min(len(mids), len(numbers), len(codes))
        ports, areas, cities = self.shared(b"port", count), self.shared(b"area", count), self.shared(b"city", count)
        reports = map(self.report, mids, numbers, codes, ports, areas, cities)
        return [report for report in reports if report is not None]

    def report(
        self, mid: str, number: str, code: str, port: str | None, area: str | None, city: str | None
    ) -> StatusReport | None:
        if not mid or not number or not code:
            self.flags.add(PushFlag.MISSING_FIELD)
            if not mid or not number:
                return None
        if len(mid) > self.limits.value or len(number) > self.limits.value:
            # A key that is cut could be another report's key.
            self.flags.add(PushFlag.TOO_LONG)
            return None
        number, code = canonical(number), self.short(code)
        return StatusReport(mid, number, code=code, port=port, area=area, city=city, received_at=self.received_at)

    def shared(self, name: bytes, count: int) -> Sequence[str | None]:
        """A field that holds for all reports of the push, or is a list of the same length (PROTOCOL 4.2)."""
        if "," not in self.texts.get(name, ""):
            return [self.field(name)] * count
        items = self.items(name)
        if len(items) != count:
            self.flags.add(PushFlag.UNEQUAL_LISTS)
        return [None if not item or item == _NONE else self.short(item) for item in (items + [""] * count)[:count]]

    # --- replies ------------------------------------------------------------------------------------------------

    def replies(self) -> list[Reply]:
        mid, number, text = self.field(b"mid"), self.field(b"mobile"), self.texts.get(b"msg")
        if mid is None or number is None or text is None:
            self.flags.add(PushFlag.MISSING_FIELD)
        if number is None:
            return []
        if "," in number:
            # Only reports come in lists; whose text this is cannot be known (PROTOCOL 4.3).
            self.flags.add(PushFlag.LIST_IN_REPLY)
            return []
        port = self.field(b"port")
        return [
            Reply(
                mid or "",
                canonical(number),
                text=text or "",
                port=port,
                extno=self.extno(port),
                area=self.field(b"area"),
                city=self.field(b"city"),
                received_at=self.received_at,
            )
        ]

    def extno(self, port: str | None) -> str | None:
        channel = self.channel_number
        if not channel or port is None or not port.startswith(channel):
            return None
        return port[len(channel) :] or None


# --- opting out -----------------------------------------------------------------------------------------------------


# A reply of so many characters, blanks around it apart, is no keyword; folding 64 KB for nothing would hold up others.
_LONGEST_REPLY: Final = 64
_OPT_OUT_WORDS: Final = frozenset(("R", "T", "TD", "N", "退订", "拒收", "取消订阅"))
# People repeat the instruction that they follow: 拒收请回复R is answered with 回复R.
_REPLY_WITH: Final = ("", "回复", "请回复")


def _folded(text: str) -> str:
    """Full-width as half-width, small letters, and nothing but letters and digits."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))


def _folded_all(keywords: Iterable[str]) -> frozenset[str]:
    if isinstance(keywords, str):
        raise InvalidConfigurationError("the keywords are one string: pass a set of strings")
    return frozenset(_folded(keyword) for keyword in keywords) - {""}


@attrs.frozen
class OptOut:
    """Which replies mean "no more texts" (PROTOCOL 4.8).

    The whole reply has to be a keyword, alone or after ``回复`` or ``请回复``; full-width letters, case, spaces and
    punctuation do not matter: ``Ｒ``, ``t d``, ``退订。``, ``请回复“R”``.

    Attributes:
        keywords: folded the same way.
    """

    keywords: frozenset[str] = attrs.field(default=_OPT_OUT_WORDS, converter=_folded_all)

    def matches(self, text: str) -> bool:
        """Whether the reply `text` asks to receive no more texts."""
        text = text.strip()
        if len(text) > _LONGEST_REPLY:
            return False
        folded = _folded(text)
        return any(folded.startswith(start) and folded[len(start) :] in self.keywords for start in _REPLY_WITH)
