"""Read what the gateway pushes, without I/O. Any bytes give a value, never an exception.

Pushes are not signed (PROTOCOL 4), so nothing in them is trusted, and nothing is dropped. What is understood becomes a
`StatusReport` or a `Reply`. What is not understood gets a flag, and a push with a flag is stored with its raw bytes.
The protocol leaves some rules open. They are decided here:

- **Charset** (`decode`): bytes that are valid UTF-8 are UTF-8, all others are GBK, with one exception. Some GBK pairs,
  such as ``C8 B7`` (确) or ``D2 BB`` (一), are also valid two-byte UTF-8 (``ȷ``, ``һ``); this is true of one Chinese
  character in seven. Chinese in UTF-8 always takes three bytes a character. So if the UTF-8 text is not ASCII and has
  no character from U+0800 on, the bytes are GBK.
- **Query and body** (PROTOCOL 4.6): both are read. If a field is in both, the body counts. If a field comes twice in
  one part, the first one counts. Two different values are flagged, and so is a field that comes twice in one part.
- **Lists** (PROTOCOL 4.2): the items of ``mid``, ``mobile`` and ``msg`` are paired by position, up to the end of the
  shortest list. A single ``mid`` counts for all phones, since a mid names a whole batch (PROTOCOL 2). A single ``msg``
  does not, since that would claim deliveries that were not reported. Lists of different lengths are always flagged.
- **Phone numbers** are canonical (`canonical`): ``8613800138000`` becomes ``13800138000``. So a report is found under
  the number that was sent, and a reply under the number on the suppression list, in whatever form the gateway sends it.
- **A report without** ``msg`` is kept with an empty code (`DeliveryState.UNKNOWN`): it proves that the mid exists.
"""

from __future__ import annotations

import enum
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
_PLACES: Final = frozenset((b"area", b"city"))
# Bytes of a province or city that are cached; real ones have up to 60.
_LONGEST_PLACE: Final = 192
# The gateway's word for "none" (PROTOCOL 4).
_NONE: Final = "无"
# Characters below this take at most two bytes in UTF-8; Chinese characters are above.
_FIRST_OF_THREE_BYTES: Final = "\u0800"


class PushFlag(enum.StrEnum):
    """Why a push is stored with its raw bytes. The values are stable: journals contain them."""

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
    """How much of one push is read. A push beyond a limit is flagged and stored raw; it is still acknowledged.

    Attributes:
        fields: fields in query and body together; the protocol has seven.
        items: reports in one push. A body of 64 KB has about 2,000 real ones.
        value: characters of a mid, a phone number, a code, a port, an area or a city. The text of a reply may be
            longer. A journal stores no mid, phone number or code of more than 256 characters.
    """

    fields: int = 64
    items: int = 5000
    value: int = 128


@attrs.frozen(kw_only=True)
class Push:
    """One request of the gateway, and what was understood of it.

    Attributes:
        query: the query, raw.
        body: the body, raw.
        reports: the status reports, in order.
        replies: one reply, or none.
        flags: why the raw bytes have to be stored, sorted; empty if everything was understood.
        received_at: when the receiver got it, with time zone UTC; ``None`` if the caller did not say.
    """

    query: bytes = attrs.field(repr=lambda raw: f"<{len(raw)} bytes>")
    body: bytes = attrs.field(repr=lambda raw: f"<{len(raw)} bytes>")
    reports: tuple[StatusReport, ...] = ()
    replies: tuple[Reply, ...] = ()
    flags: tuple[PushFlag, ...] = ()
    received_at: datetime | None = None


DEFAULT_LIMITS: Final = PushLimits()


def parse_push(
    query: bytes,
    body: bytes,
    *,
    limits: PushLimits = DEFAULT_LIMITS,
    channel_number: str | None = None,
    received_at: datetime | None = None,
) -> Push:
    """Read a push (PROTOCOL 4, 4.1 to 4.6). This never raises, whatever the bytes.

    Args:
        query: the part of the URL after ``?``, still percent-encoded.
        body: a form, with or without percent-encoding; empty for a GET.
        limits: how much of it is read.
        channel_number: the channel's own number. The digits after it in ``port`` are the extension of a `Reply`.
        received_at: the time for the values.
    """
    return _Reading(limits, channel_number, received_at).push(query, body)


def decode(raw: bytes) -> tuple[str, bool]:
    """Decode the bytes of a field, which are no longer percent-encoded, by the rule in the module's docstring.

    Returns:
        The text, and whether it is exact. If not, the bytes that cannot be read are replaced by ``U+FFFD``; so is NUL,
        which databases refuse.
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


@lru_cache(maxsize=4096)
def _place(raw: bytes) -> tuple[str, bool]:
    """Decode a province or a city. There are few of them, and they come again and again."""
    return decode(_unquoted(raw))


def _unquoted(raw: bytes) -> bytes:
    escapes = raw.count(b"%")
    if escapes * 3 == len(raw):
        # Every byte is percent-encoded, as in Chinese texts: one call in C instead of a loop.
        try:
            decoded = bytes.fromhex(raw.replace(b"%", b" ").decode("ascii"))
        except ValueError:
            decoded = b""
        if len(decoded) == escapes:
            return decoded
    raw = raw.replace(b"+", b" ")
    return unquote_to_bytes(raw) if escapes else raw


class _Reading:
    """The reading of one push: collects its fields and its flags."""

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
        """Split a form before it is decoded (PROTOCOL 4.1), into no more fields than the limit allows."""
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
        """Decode every field. Spaces around a value are removed, except for ``msg``, which may be a person's text."""
        for name, raw in fields.items():
            if raw.isalnum():
                # Most fields are ASCII letters and digits, which need no decoding.
                self.texts[name] = raw.decode("ascii")
                continue
            is_place = name in _PLACES and len(raw) <= _LONGEST_PLACE
            text, faithful = _place(raw) if is_place else decode(_unquoted(raw))
            if not faithful:
                self.flags.add(PushFlag.UNDECODABLE)
            self.texts[name] = text.strip() if name != b"msg" else text

    def short(self, text: str) -> str:
        if len(text) > self.limits.value:
            self.flags.add(PushFlag.TOO_LONG)
            return text[: self.limits.value]
        return text

    def field(self, name: bytes) -> str | None:
        """Return a field that has one value for the whole push."""
        text = self.texts.get(name)
        return None if not text or text == _NONE else self.short(text)

    # --- reports ------------------------------------------------------------------------------------------------

    def items(self, name: bytes) -> list[str]:
        """Split a list at its commas, which spaces may follow (PROTOCOL 4.2). A comma at the end adds no item."""
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
            # A key that is cut off could be the key of another report.
            self.flags.add(PushFlag.TOO_LONG)
            return None
        number, code = canonical(number), self.short(code)
        return StatusReport(mid, number, code=code, port=port, area=area, city=city, received_at=self.received_at)

    def shared(self, name: bytes, count: int) -> Sequence[str | None]:
        """Return one value for each report: the field may be one value for all, or a list (PROTOCOL 4.2)."""
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
            # Only reports come in lists. It is not known which person wrote this text (PROTOCOL 4.3).
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


# A longer reply is no keyword. It is not folded, because folding 64 KB takes time.
_LONGEST_REPLY: Final = 64
_OPT_OUT_WORDS: Final = frozenset(("R", "T", "TD", "N", "退订", "拒收", "取消订阅"))
# People repeat the instruction in the text: 拒收请回复R is answered with 回复R.
_REPLY_WITH: Final = ("", "回复", "请回复")


def _folded(text: str) -> str:
    """Fold full-width characters and case, and remove everything but letters and digits."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))


def _folded_all(keywords: Iterable[str]) -> frozenset[str]:
    if isinstance(keywords, str):
        raise InvalidConfigurationError("the keywords are one string: pass a set of strings")
    return frozenset(_folded(keyword) for keyword in keywords) - {""}


@attrs.frozen
class OptOut:
    """The rule which replies ask for no more texts (PROTOCOL 4.8).

    The whole reply has to be a keyword, alone or after ``回复`` or ``请回复``. Full-width letters, case, spaces and
    punctuation make no difference: ``Ｒ``, ``t d``, ``退订。``, ``请回复“R”``.

    Attributes:
        keywords: the keywords, folded like the replies.
    """

    keywords: frozenset[str] = attrs.field(default=_OPT_OUT_WORDS, converter=_folded_all)

    def matches(self, text: str) -> bool:
        """Return whether the reply asks for no more texts."""
        text = text.strip()
        if len(text) > _LONGEST_REPLY:
            return False
        folded = _folded(text)
        return any(folded.startswith(start) and folded[len(start) :] in self.keywords for start in _REPLY_WITH)
