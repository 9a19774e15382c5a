"""Any (async) iterable of numbers to balanced batches, read no faster than they are taken."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

import anyio.lowlevel

from qxt_async.errors import InvalidConfigurationError, InvalidRequestError
from qxt_async.protocol.requests import MAX_NUMBERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qxt_async.protocol.numbers import NumberFilter

__all__ = ["Batches", "NumberSource", "balanced"]

NumberSource: TypeAlias = Iterable[str] | AsyncIterable[str]

_SLICE = 1000


def _look_ahead(size: int, minimum: int) -> int:
    """How many numbers have to be in hand before a full batch may go, so that the rest can always be balanced.

    A rest of more than ``(n - 1) * size`` splits into batches of at least `minimum` if
    ``n * minimum <= (n - 1) * size + 1``; n is at least 2, so that 1005 go as 503 + 502.
    """
    batches = 2 if minimum >= size else max(2, -(-(size - 1) // (size - minimum)))
    return batches * size


def balanced(count: int, size: int = MAX_NUMBERS) -> list[int]:
    """Split a count into the fewest batches of nearly the same size (PROTOCOL 1.4).

    >>> balanced(1005)
    [503, 502]
    """
    batches = -(-count // size)
    return [count // batches + (index < count % batches) for index in range(batches)]


class Batches:
    """A source of numbers, cut into batches.

    Every number that the intake admits is in exactly one batch, in the order of the source. No batch has more than
    `size` numbers, and none fewer than `minimum` if the total can be cut that way. To know that, up to two batches are
    read ahead (more if `minimum` is more than half of `size`), in reads of a thousand numbers.

    Args:
        source: any iterable or async iterable of numbers. It is iterated in the event loop: one that blocks belongs
            in a thread.
        intake: what the numbers pass on the way.
        size: numbers in a batch at most.
        minimum: numbers in a batch at least.

    Raises:
        InvalidRequestError: the source is one string.
        InvalidConfigurationError: the sizes cannot work.
    """

    def __init__(
        self, source: NumberSource, number_filter: NumberFilter, *, size: int = MAX_NUMBERS, minimum: int = 1
    ) -> None:
        if isinstance(source, str | bytes):
            raise InvalidRequestError("the numbers are one string: pass a list of numbers")
        if not 1 <= size <= MAX_NUMBERS:
            raise InvalidConfigurationError(f"batch_size is {size}: a request carries 1 to {MAX_NUMBERS} numbers")
        if not 1 <= minimum <= size:
            raise InvalidConfigurationError(f"min_batch is {minimum}: it has to be from 1 to batch_size ({size})")
        self._source: Iterator[str] | AsyncIterator[str]
        if isinstance(source, AsyncIterable):
            self._source = aiter(source)
        elif isinstance(source, Iterable):
            self._source = iter(source)
        else:
            raise InvalidRequestError(f"the numbers are {type(source).__name__}: pass an iterable or async iterable")
        self.number_filter = number_filter
        self._size = size
        self._look_ahead = _look_ahead(size, minimum)
        self._raw: list[str] = []  # read, not yet admitted: survives a source that raises and a cancellation
        self._held: list[str] = []
        self._sizes: list[int] | None = None

    async def next(self) -> Sequence[str] | None:
        """The next batch, ``None`` at the end. What the source raises passes through.

        Cancelling, like an error, loses nothing that was read: `take_rest` has it.
        """
        while self._sizes is None and len(self._held) <= self._look_ahead:
            more = await self._read()
            self._admit()
            if not more:
                self._sizes = balanced(len(self._held), self._size)
                self._sizes.reverse()
        if self._sizes is None:
            return self._take(self._size)
        return self._take(self._sizes.pop()) if self._sizes else None

    def take_rest(self) -> tuple[str, ...]:
        """The numbers that were read and not given out; afterwards there are none."""
        self._admit()
        self._sizes = []
        return tuple(self._take(len(self._held)))

    def _take(self, count: int) -> list[str]:
        batch, self._held = self._held[:count], self._held[count:]
        return batch

    def _admit(self) -> None:
        raw, self._raw = self._raw, []
        self._held.extend(self.number_filter.filter(raw))

    async def _read(self) -> bool:
        """Read up to a slice; whether there may be more."""
        if isinstance(self._source, AsyncIterator):
            while len(self._raw) < _SLICE:
                try:
                    self._raw.append(await anext(self._source))
                except StopAsyncIteration:
                    return False
            return True
        # A long run of repeated or invalid numbers must not hold the loop.
        await anyio.lowlevel.checkpoint()
        self._raw.extend(islice(self._source, _SLICE))
        return len(self._raw) == _SLICE
