"""The numbers of a call, checked and filtered before anything is sent."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from qxt_async.errors import InvalidRequestError
from qxt_async.protocol.numbers import MOBILE_PATTERN, Deduplicator, NumberFilter, is_mobile

if TYPE_CHECKING:
    from collections.abc import Container

    from qxt_async.sending.batching import NumberSource


def filter_few(
    numbers: str | Iterable[str], pattern: str, suppressed: Container[str]
) -> tuple[tuple[str, ...], NumberFilter | None]:
    """Filter the numbers of one request.

    Returns:
        The valid numbers, and the filter with its counts; one valid number needs no filter.

    Raises:
        InvalidRequestError: the numbers are no text and no iterable.
        NoValidNumberError: no number is left.
    """
    if isinstance(numbers, str):
        if pattern == MOBILE_PATTERN and is_mobile(numbers) and numbers not in suppressed:
            return (numbers,), None
        numbers = [numbers]
    given: object = numbers
    if isinstance(given, bytes | bytearray) or not isinstance(given, Iterable):
        raise InvalidRequestError(
            f"the numbers are {type(given).__name__}: pass a str (the digits in quotes), or an iterable of str"
        )
    number_filter = NumberFilter(pattern, seen=Deduplicator(pattern, few=True), suppressed=suppressed)
    clean = tuple(number_filter.filter(list(numbers)))
    if not clean:
        raise number_filter.nothing_left()
    return clean, number_filter


def count_numbers(numbers: NumberSource, pattern: str, suppressed: Container[str], *, deduplicate: bool) -> int:
    """Count the numbers of a collection that would be sent to.

    Raises:
        InvalidRequestError: the numbers are no collection, so they cannot be read twice.
        NoValidNumberError: no number is left.
    """
    if not isinstance(numbers, Collection):
        raise InvalidRequestError(
            "check_balance reads the numbers twice: pass a list or a set, or ask balance() yourself"
        )
    seen = Deduplicator(pattern) if deduplicate else None
    number_filter = NumberFilter(pattern, seen=seen, suppressed=suppressed, keep_invalid=False)
    count = len(number_filter.filter(list(numbers)))
    if not count:
        raise number_filter.nothing_left()
    return count
