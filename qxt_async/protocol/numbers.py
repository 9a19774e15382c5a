"""Phone numbers: normalise, validate, show, leave out repeated ones.

A number has two forms. `normalize` gives the one that goes on the wire, which is whatever the pattern admits.
`canonical` gives the one that says which phone it is: what compares numbers compares these.

A clean chunk is checked in one go, as bytes with a fixed stride; only a chunk that fails is looked at number by number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Sequence, Sized
from collections.abc import Set as AbstractSet
from itertools import compress
from typing import Any

from qxt_async.errors import InvalidConfigurationError, InvalidNumberError, NoValidNumberError
from qxt_async.models import InvalidNumber, mask

__all__ = ["MOBILE_PATTERN", "Deduplicator", "NumberFilter", "canonical", "deduplicate", "mask", "normalize"]

MOBILE_PATTERN = r"1[3-9][0-9]{9}"
"""Mainland mobile numbers: 11 digits that begin with 13 to 19."""

_MOBILE = re.compile(MOBILE_PATTERN)
_SENDABLE = re.compile("[0-9A-Za-z]+")
_DIGITS = 11
_STRIDE = _DIGITS + 1

# What people paste: full-width digits from Chinese input methods, separators from address books, invisible marks.
_FOLD: dict[int, str | None] = {
    **{ord("０") + digit: str(digit) for digit in range(10)},
    ord("＋"): "+",
    **dict.fromkeys(map(ord, " \t\r\n\u00a0\u3000\u2002\u2003\u2009\u200b\u200e\u200f\u202a\u202c\u202d\ufeff"), None),
    **dict.fromkeys(map(ord, "-－‐‑‒–—−"), None),
}
_COUNTRY_CODES = ("+86", "0086", "86")
# The country code, and the 0 that is dialled before a mobile number of another city.
_PHONE = re.compile(rf"(?:(?:\+|00)?86)?0?({MOBILE_PATTERN})")
_DIALLED = re.compile(r"\+?[0-9]+")

_IN_SET = 100_000  # numbers, in 9 MB; moving them into a bitmap takes 20 ms


def _why_not(raw: str, folded: str, pattern: str) -> str:
    if not folded:
        return "it is empty"
    if "," in folded or "，" in folded:
        return "several numbers in one string; pass a list with one number each"
    for position, character in enumerate(raw):
        kept = character.translate(_FOLD)
        if kept and kept not in "+0123456789":
            return f"unexpected character {character!r} at position {position}"
    if pattern != MOBILE_PATTERN:
        if re.fullmatch(pattern, folded):
            return "only digits and ASCII letters can be sent"
        return f"it does not match the pattern {pattern}"
    for code in _COUNTRY_CODES:
        if folded.startswith(code) and len(folded) > _DIGITS:
            folded = folded.removeprefix(code)
            break
    if len(folded) != _DIGITS:
        return f"it has {len(folded)} digits, a mobile number has {_DIGITS}"
    return "mainland mobile numbers begin with 13 to 19"


def normalize(raw: str, *, pattern: str = MOBILE_PATTERN) -> str:
    """Bring one number into the form that goes on the wire.

    Full-width digits become ASCII, spaces and hyphens are left out, and so is a country code ``+86``, ``0086`` or
    ``86`` in front of a number that matches without it.

    Args:
        raw: the number as people write it.
        pattern: regular expression that the whole result has to match. Whatever it admits, only digits and ASCII
            letters go on the wire.

    Returns:
        The number, 11 ASCII digits with the default pattern.

    Raises:
        InvalidNumberError: it is not such a number; the message shows it masked and says why.
    """
    matches = re.compile(pattern).fullmatch
    sendable = _SENDABLE.fullmatch
    if not isinstance(raw, str):
        raise InvalidNumberError("****", f"it is {type(raw).__name__}, not str")
    folded = raw.translate(_FOLD)
    if matches(folded) and sendable(folded):
        return folded
    for code in _COUNTRY_CODES:
        if matches(rest := folded.removeprefix(code)) and sendable(rest):
            return rest
    raise InvalidNumberError(mask(raw), _why_not(raw, folded, pattern))


def canonical(number: str) -> str:
    """Say which phone a number is: two numbers are the same phone if this gives the same for both.

    Use it for every key and every comparison. It refuses nothing, and what it gives need not be what was sent.

    Args:
        number: as people or gateways write it, or as it goes on the wire.

    Returns:
        The 11 digits of a mainland mobile number, whatever stood in front of them: ``+86``, ``0086``, ``86``, ``0``.
        Any other number without separators, with ASCII digits; it keeps what it begins with, since that may be another
        country's. What is no number stays as it is, without the space around it.
    """
    if len(number) == _DIGITS and number.isascii() and number.isdigit():
        return number
    folded = number.translate(_FOLD)
    if phone := _PHONE.fullmatch(folded):
        return phone[1]
    return folded if _DIALLED.fullmatch(folded) else number.strip()


def is_mobile(number: str) -> bool:
    """Whether a number has the default form already, as it goes on the wire."""
    return _MOBILE.fullmatch(number) is not None


def deduplicate(numbers: Iterable[str]) -> list[str]:
    """Leave out the numbers of phones that came before; the first of each stays where it was."""
    first: dict[str, str] = {}
    for number in numbers:
        first.setdefault(canonical(number), number)
    return list(first.values())


def allowed(numbers: Sequence[str], suppressed: Container[str], pattern: str = MOBILE_PATTERN) -> list[bool] | None:
    """Which of the numbers may get a text.

    Args:
        numbers: normalised.
        suppressed: the phones that may not, as `canonical` gives them. The number as it goes on the wire counts too.
        pattern: what the numbers match.

    Returns:
        For each number whether it is not suppressed, ``None`` if none is.
    """
    if isinstance(suppressed, Sized) and not suppressed:
        return None
    # The numbers of the default pattern are canonical.
    phones = numbers if pattern == MOBILE_PATTERN else list(map(canonical, numbers))
    if (
        isinstance(suppressed, AbstractSet)
        and suppressed.isdisjoint(phones)
        and (phones is numbers or suppressed.isdisjoint(numbers))
    ):
        return None
    wanted = [phone not in suppressed for phone in phones]
    if phones is not numbers:
        wanted = [is_wanted and number not in suppressed for is_wanted, number in zip(wanted, numbers, strict=True)]
    return None if all(wanted) else wanted


def _all_mobile(numbers: Sequence[str]) -> bool:
    """Whether every number already has the default form: the common case, 50 ns a number."""
    count = len(numbers)
    try:
        joined = ",".join(numbers).encode("ascii")
    except (TypeError, UnicodeEncodeError):
        return False
    return (
        len(joined) == _STRIDE * count - 1
        and joined[0::_STRIDE] == b"1" * count
        and not joined[1::_STRIDE].translate(None, b"3456789")
        and joined[_DIGITS::_STRIDE] == b"," * (count - 1)
        # With a comma in every twelfth place, `count - 1` commas in all leave none for the others.
        and joined.count(b",") == count - 1
        and not joined.translate(None, b"0123456789,")
    )


def _compact_type() -> type[Any] | None:
    try:
        from pyroaring import BitMap64
    except ImportError:
        return None
    return BitMap64


class Deduplicator:
    """The phones met so far, to leave out repeated ones in any number of chunks.

    A set is fastest. With the extra ``compact`` more than a hundred thousand are in a roaring bitmap, which takes
    two to four times as long and a tenth of the memory: 25 to 65 MB for ten million, instead of 560 MB.
    A custom pattern may admit what no 64-bit integer can stand for, so its numbers are kept as text.

    Args:
        pattern: what the numbers match.
        few: at most a request's worth will come.
    """

    def __init__(self, pattern: str = MOBILE_PATTERN, *, few: bool = False) -> None:
        as_text = few or pattern != MOBILE_PATTERN
        self._key: Callable[[str], Any] = int
        if as_text:
            # The numbers of the default pattern are canonical.
            self._key = str if pattern == MOBILE_PATTERN else canonical
        self._keys: Any = set()
        self._compact_type = None if as_text else _compact_type()
        self._is_bitmap = False

    def __len__(self) -> int:
        return len(self._keys)

    def new(self, numbers: Sequence[str]) -> Sequence[str]:
        """Return the numbers of phones not met before, in order, and remember them."""
        keys = list(map(self._key, numbers))
        if len(set(keys)) == len(keys) and not self._has_any(keys):
            self._keys.update(keys)
            fresh = numbers
        else:
            fresh = self._new_of_some(numbers, keys)
        if self._compact_type is not None and not self._is_bitmap and len(self._keys) > _IN_SET:
            self._keys, self._is_bitmap = self._compact_type(self._keys), True
        return fresh

    def _has_any(self, keys: Sequence[Any]) -> bool:
        met: Any = self._keys
        if self._is_bitmap:
            # One by one: a bitmap of a small chunk has a container for nearly each number, at three times the cost.
            return any(map(met.__contains__, keys))
        return not met.isdisjoint(keys)

    def _new_of_some(self, numbers: Sequence[str], keys: Sequence[Any]) -> list[str]:
        fresh: list[str] = []
        for number, key in zip(numbers, keys, strict=True):
            if key not in self._keys:
                self._keys.add(key)
                fresh.append(number)
        return fresh


class NumberFilter:
    """The gate that every number of a send passes: normalise, validate, leave out repeated and suppressed ones.

    Attributes:
        pattern: what a number has to match.
        seen: where numbers met before are remembered, ``None`` to let repeated ones pass.
        suppressed: phones to leave out, as `canonical` gives them.
        keep_invalid: whether to keep what was invalid (otherwise it is only counted).
        read: numbers looked at so far.
        invalid: what was no number.
        invalid_count, duplicates, suppressed_count: how many were left out.
    """

    def __init__(
        self,
        pattern: str = MOBILE_PATTERN,
        *,
        seen: Deduplicator | None = None,
        suppressed: Container[str] = (),
        keep_invalid: bool = True,
    ) -> None:
        try:
            re.compile(pattern)
        except re.error as error:
            raise InvalidConfigurationError(f"number_pattern is not a regular expression: {error}") from error
        self.pattern = pattern
        self.seen = seen
        self.suppressed = suppressed
        self.keep_invalid = keep_invalid
        self.read = 0
        self.invalid: list[InvalidNumber] = []
        self.invalid_count = self.duplicates = self.suppressed_count = 0

    def filter(self, raw: Sequence[str]) -> Sequence[str]:
        """Let one chunk pass the gate.

        Args:
            raw: any count of numbers as given.

        Returns:
            The valid, new, not suppressed ones, normalised, in order.
        """
        if not raw:
            return raw
        plain = self.pattern == MOBILE_PATTERN and _all_mobile(raw)
        numbers = raw if plain else self._normalize_each(raw)
        self.read += len(raw)
        if self.seen is not None:
            fresh = self.seen.new(numbers)
            self.duplicates += len(numbers) - len(fresh)
            numbers = fresh
        wanted = allowed(numbers, self.suppressed, self.pattern)
        if wanted is None:
            return numbers
        kept = list(compress(numbers, wanted))
        self.suppressed_count += len(numbers) - len(kept)
        return kept

    def nothing_left(self) -> NoValidNumberError:
        """The error for a send of which no number passed, with the reasons."""
        if not self.read:
            return NoValidNumberError("no numbers were given")
        example = f", the first of them: {self.invalid[0].reason}" if self.invalid else ""
        return NoValidNumberError(
            f"none of {self.read} numbers can be sent to: {self.invalid_count} are invalid{example}; "
            f"{self.suppressed_count} are suppressed"
        )

    def _normalize_each(self, raw: Sequence[str]) -> list[str]:
        numbers: list[str] = []
        for position, number in enumerate(raw, self.read):
            try:
                numbers.append(normalize(number, pattern=self.pattern))
            except InvalidNumberError as error:
                self.invalid_count += 1
                if self.keep_invalid:
                    self.invalid.append(InvalidNumber(position, str(number), reason=error.reason))
        return numbers
