"""Phone numbers: normalise, validate, deduplicate.

A number has two forms. `normalize` returns the form that is sent, which matches the pattern. `canonical` returns the
form that identifies the phone: use it to compare numbers.

A chunk of numbers is checked at once, as bytes of equal length. Only if this check fails, each number is checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Sequence, Sized
from collections.abc import Set as AbstractSet
from contextlib import suppress
from itertools import compress
from typing import Any

from qxt_async.errors import InvalidConfigurationError, InvalidNumberError, NoValidNumberError
from qxt_async.models import InvalidNumber, mask

MOBILE_PATTERN = r"1[3-9][0-9]{9}"
"""Mainland mobile numbers: 11 digits that begin with 13 to 19."""

_MOBILE = re.compile(MOBILE_PATTERN)
_SENDABLE = re.compile("[0-9A-Za-z]+")
_DIGITS = 11
_STRIDE = _DIGITS + 1

# Full-width digits come from Chinese input methods, separators from address books, invisible marks from web pages.
_FOLD: dict[int, str | None] = {
    **{ord("０") + digit: str(digit) for digit in range(10)},
    ord("＋"): "+",
    **dict.fromkeys(map(ord, " \t\r\n\u00a0\u3000\u2002\u2003\u2009\u200b\u200e\u200f\u202a\u202c\u202d\ufeff"), None),
    **dict.fromkeys(map(ord, "-－‐‑‒–—−"), None),
}
_COUNTRY_CODES = ("+86", "0086", "86")
# The country code, and the 0 that people dial before a mobile number of another city.
_PHONE = re.compile(rf"(?:(?:\+|00)?86)?0?({MOBILE_PATTERN})")
_DIALLED = re.compile(r"\+?[0-9]+")

MAX_IN_SET = 100_000  # a set of so many numbers takes 9 MB; converting it into a bitmap takes 20 ms


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
    """Convert one number into the form that is sent.

    Full-width digits become ASCII. Spaces and hyphens are removed, and so is a country code ``+86``, ``0086`` or
    ``86``, if the rest matches without it.

    Args:
        raw: the number as people write it.
        pattern: regular expression that the whole result has to match. Whatever it allows, only digits and ASCII
            letters can be sent.

    Returns:
        The number, 11 ASCII digits with the default pattern.

    Raises:
        InvalidNumberError: it is not such a number; the message says why, and shows the number masked.
    """
    matches = re.compile(pattern).fullmatch
    sendable = _SENDABLE.fullmatch
    if not isinstance(raw, str):
        raise InvalidNumberError("****", f"it is {type(raw).__name__}, not str: pass numbers as text")
    folded = raw.translate(_FOLD)
    if matches(folded) and sendable(folded):
        return folded
    for code in _COUNTRY_CODES:
        if matches(rest := folded.removeprefix(code)) and sendable(rest):
            return rest
    raise InvalidNumberError(mask(raw), _why_not(raw, folded, pattern))


def canonical(number: str) -> str:
    """Return the form of a number that identifies the phone: it is the same for two numbers of the same phone.

    Use it for every key and every comparison. It accepts any text. The result need not be the form that is sent.

    Args:
        number: the number as people or gateways write it, or as it is sent.

    Returns:
        For a mainland mobile number its 11 digits, without ``+86``, ``0086``, ``86`` or ``0`` in front. For any other
        number its ASCII digits without separators, and with its prefix, which may be another country's. Any other text
        is returned without the spaces around it.
    """
    if len(number) == _DIGITS and number.isascii() and number.isdigit():
        return number
    folded = number.translate(_FOLD)
    if phone := _PHONE.fullmatch(folded):
        return phone[1]
    return folded if _DIALLED.fullmatch(folded) else number.strip()


def is_mobile(number: str) -> bool:
    """Return whether a number matches the default pattern as it is."""
    return _MOBILE.fullmatch(number) is not None


def deduplicate(numbers: Iterable[str]) -> list[str]:
    """Keep only the first number of each phone, in order."""
    first: dict[str, str] = {}
    for number in numbers:
        first.setdefault(canonical(number), number)
    return list(first.values())


def allowed(numbers: Sequence[str], suppressed: Container[str], pattern: str = MOBILE_PATTERN) -> list[bool] | None:
    """Return which of the numbers are not suppressed.

    Args:
        numbers: normalised numbers.
        suppressed: the suppressed phones, in the form of `canonical` or as they are sent.
        pattern: the pattern that the numbers match.

    Returns:
        For each number whether it may be sent to; ``None`` if all may.
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


def all_mobile(numbers: Sequence[str]) -> bool:
    """Return whether every number matches the default pattern as it is. This is the usual case; 50 ns a number."""
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
        # There is a comma in every twelfth place, so `count - 1` commas in all mean that there is no other.
        and joined.count(b",") == count - 1
        and not joined.translate(None, b"0123456789,")
    )


class Deduplicator:
    """Remembers the phones of any number of chunks, to leave out repeated numbers.

    The phones are in a set. With the extra ``compact``, more than a hundred thousand are in a roaring bitmap, which
    takes two to four times as long and a tenth of the memory: 25 to 65 MB for ten million, instead of 560 MB.
    With a custom pattern, numbers are remembered as text, because they may not fit into 64-bit integers.

    Args:
        pattern: the pattern that the numbers match.
        few: whether the numbers are at most those of one request.
    """

    def __init__(self, pattern: str = MOBILE_PATTERN, *, few: bool = False) -> None:
        as_text = few or pattern != MOBILE_PATTERN
        self._key: Callable[[str], Any] = int
        if as_text:
            # The numbers of the default pattern are canonical.
            self._key = str if pattern == MOBILE_PATTERN else canonical
        self._keys: Any = set()
        self._compact_type: type[Any] | None = None
        self._is_bitmap = False
        if not as_text:
            with suppress(ImportError):
                from pyroaring import BitMap64

                self._compact_type = BitMap64

    def __len__(self) -> int:
        return len(self._keys)

    def new(self, numbers: Sequence[str]) -> Sequence[str]:
        """Return the numbers of new phones, in order, and remember them."""
        keys = list(map(self._key, numbers))
        # In a bitmap one by one: making a bitmap of the chunk first costs three times as much.
        found = any(map(self._keys.__contains__, keys)) if self._is_bitmap else not self._keys.isdisjoint(keys)
        if not found and len(set(keys)) == len(keys):
            self._keys.update(keys)
            fresh = numbers
        else:
            fresh = self._new_of_some(numbers, keys)
        if self._compact_type is not None and not self._is_bitmap and len(self._keys) > MAX_IN_SET:
            self._keys, self._is_bitmap = self._compact_type(self._keys), True
        return fresh

    def _new_of_some(self, numbers: Sequence[str], keys: Sequence[Any]) -> list[str]:
        fresh: list[str] = []
        for number, key in zip(numbers, keys, strict=True):
            if key not in self._keys:
                self._keys.add(key)
                fresh.append(number)
        return fresh


class NumberFilter:
    """Normalises and validates the numbers of a send, and leaves out repeated and suppressed ones.

    Attributes:
        pattern: the pattern that a number has to match.
        seen: remembers numbers, to leave out repeated ones; ``None`` to keep repeated ones.
        suppressed: phones to leave out, in the form of `canonical`.
        keep_invalid: whether to keep invalid entries; otherwise they are only counted.
        read: how many entries were read so far.
        invalid: the invalid entries.
        invalid_count, duplicates, suppressed_count: how many entries were left out.
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
        """Filter one chunk.

        Args:
            raw: any number of entries, as given.

        Returns:
            The numbers that are valid, new and not suppressed, normalised, in order.
        """
        if not raw:
            return raw
        plain = self.pattern == MOBILE_PATTERN and all_mobile(raw)
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
        """Make the error for a send of which no number is left, with the reasons."""
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
