"""Cuts an iterable or async iterable of numbers into balanced batches, and reads it no faster than they are sent."""

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

NumberSource: TypeAlias = Iterable[str] | AsyncIterable[str]

SLICE = 1000


def _look_ahead(size: int, minimum: int) -> int:
    """Count the numbers that have to be read before a full batch may go, so that the rest can always be balanced.

    A rest of more than ``(n - 1) * size`` can be cut into batches of at least `minimum` if
    ``n * minimum <= (n - 1) * size + 1``; n is at least 2, so that 1005 numbers go as 503 + 502.
    """
    batches = 2 if minimum >= size else max(2, -(-(size - 1) // (size - minimum)))
    return batches * size


def balanced(count: int, size: int = MAX_NUMBERS) -> list[int]:
    """Cut a count into the fewest batches of nearly the same size (PROTOCOL 1.4).

    >>> balanced(1005)
    [503, 502]
    """
    batches = -(-count // size)
    if not batches:
        return []
    each, larger = divmod(count, batches)
    return [each + 1] * larger + [each] * (batches - larger)


class Batches:
    """Reads a source of numbers and cuts it into batches.

    Each number that passes the filter is in exactly one batch, in the order of the source. No batch has more than
    `size` numbers, and none has fewer than `minimum` if the total can be cut that way. To know that, up to two batches
    are read ahead (more if `minimum` is more than half of `size`), a thousand numbers at a time.

    Args:
        source: an iterable or async iterable of numbers. It is iterated in the event loop: run a source that blocks in
            a thread.
        number_filter: the filter that the numbers pass.
        size: the most numbers in a batch.
        minimum: the fewest numbers in a batch.

    Attributes:
        count: how many batches were given out.
        stopped: no further batch is given out.

    Raises:
        InvalidRequestError: the source is no iterable, or one string.
        InvalidConfigurationError: the sizes cannot work.
    """

    def __init__(
        self, source: NumberSource, number_filter: NumberFilter, *, size: int = MAX_NUMBERS, minimum: int = 1
    ) -> None:
        if not 1 <= size <= MAX_NUMBERS:
            raise InvalidConfigurationError(f"batch_size is {size}: a request carries 1 to {MAX_NUMBERS} numbers")
        if not 1 <= minimum <= size:
            raise InvalidConfigurationError(f"min_batch is {minimum}: it has to be from 1 to batch_size ({size})")
        given: object = source
        if isinstance(given, str | bytes | bytearray) or not isinstance(given, Iterable | AsyncIterable):
            raise InvalidRequestError(
                f"the numbers are {type(source).__name__}: pass an iterable or async iterable of str, such as a list"
            )
        self._source: Iterator[str] | AsyncIterator[str]
        self._source = aiter(source) if isinstance(source, AsyncIterable) else iter(source)
        self.number_filter = number_filter
        self.count = 0
        self.stopped = False
        self._size = size
        self._look_ahead = _look_ahead(size, minimum)
        self._raw: list[str] = []  # read and not filtered yet: kept if the source raises, or on cancellation
        self._held: list[str] = []
        self._sizes: list[int] | None = None
        self._turn = anyio.Lock()
        self._source_wait: anyio.CancelScope | None = None

    async def next(self) -> Sequence[str] | None:
        """Return the next batch; ``None`` at the end, or when it is stopped. Any number of tasks may call it.

        What the source raises passes through. Neither that nor cancelling loses a number: `take_rest` has them.
        """
        async with self._turn:
            while not self.stopped and self._sizes is None and len(self._held) <= self._look_ahead:
                more = True
                with anyio.CancelScope() as scope:
                    self._source_wait = scope
                    more = await self._read()
                self._held.extend(self.number_filter.filter(self._raw))
                self._raw = []
                if not more:
                    self._sizes = balanced(len(self._held), self._size)
                    self._sizes.reverse()
            if self.stopped or self._sizes == []:
                return None
            count = self._sizes.pop() if self._sizes else self._size
            batch, self._held = self._held[:count], self._held[count:]
            self.count += 1
            return batch

    def stop(self) -> None:
        """Give out no further batch, and stop waiting for the source."""
        self.stopped = True
        if self._source_wait is not None:
            self._source_wait.cancel()

    def take_rest(self) -> tuple[str, ...]:
        """Return the numbers that were read and not given out. Afterwards there are none."""
        rest = (*self._held, *self.number_filter.filter(self._raw))
        self._sizes, self._held, self._raw = [], [], []
        return rest

    async def _read(self) -> bool:
        """Read a slice of the source. Returns whether there may be more."""
        if isinstance(self._source, AsyncIterator):
            while len(self._raw) < SLICE:
                try:
                    self._raw.append(await anext(self._source))
                except StopAsyncIteration:
                    return False
            return True
        # A long run of repeated or invalid numbers must not block the event loop.
        await anyio.lowlevel.checkpoint()
        self._raw.extend(islice(self._source, SLICE))
        return len(self._raw) == SLICE
