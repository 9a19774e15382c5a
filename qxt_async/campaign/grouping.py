"""Cut numbers with messages into batches: equal messages share full, balanced batches, in bounded memory."""

from __future__ import annotations

import sqlite3
from itertools import groupby, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from qxt_async.journal.records import PlannedBatch
from qxt_async.models import Message
from qxt_async.sending.batching import balanced

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_HELD: Final = 100_000


class Grouping:
    """Cuts batches. All methods may block and may be called from different threads, one after the other.

    A batch is cut when its message has more than two batches of numbers, so that the rest can be balanced. When more
    than `held` numbers wait, all of them are moved to a temporary SQLite file, which is sorted at the end, so that
    memory does not grow with the number of messages. Otherwise the numbers of a message keep their order.

    Args:
        size: numbers in a batch at most.
        held: numbers that may wait in memory: 10 MB at the default of 100,000.

    Attributes:
        messages: how many different messages there are, when `rest` has ended.
    """

    def __init__(self, size: int, *, held: int = _HELD) -> None:
        self._size = size
        self._limit = held
        self._waiting: dict[tuple[Message, int], list[str]] = {}
        self._held = 0
        self._spilled: sqlite3.Connection | None = None
        self.messages = 0

    @property
    def crowded(self) -> bool:
        """Whether it is time to `spill`."""
        return self._held > self._limit and len(self._waiting) > 1

    def add(self, message: Message, count: int, numbers: Sequence[str]) -> list[PlannedBatch]:
        """Add numbers that get a message of `count` segments.

        Returns:
            The batches that are full.
        """
        waiting = self._waiting.setdefault((message, count), [])
        waiting += numbers
        self._held += len(numbers)
        batches: list[PlannedBatch] = []
        size, start = self._size, 0
        while len(waiting) - start > 2 * size:
            batches.append(PlannedBatch(message, waiting[start : start + size], segments=count))
            start += size
        if start:
            del waiting[:start]
            self._held -= start
        return batches

    def spill(self) -> None:
        """Move the numbers that wait to the file."""
        if self._spilled is None:
            # An empty name is a private file that SQLite deletes by itself.
            self._spilled = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            self._spilled.execute("PRAGMA journal_mode=OFF")
            self._spilled.execute("PRAGMA synchronous=OFF")
            self._spilled.execute(
                "CREATE TABLE waiting (text TEXT, extno TEXT, addseqno INTEGER, n INTEGER, number TEXT)"
            )
        rows = (
            (message.text, message.extno, message.addseqno, count, number)
            for (message, count), numbers in self._waiting.items()
            for number in numbers
        )
        self._spilled.execute("BEGIN")
        self._spilled.executemany("INSERT INTO waiting VALUES (?, ?, ?, ?, ?)", rows)
        self._spilled.execute("COMMIT")
        self._waiting.clear()
        self._held = 0

    def rest(self) -> Iterator[PlannedBatch]:
        """All batches that are left, message by message."""
        if self._spilled is not None:
            self.spill()
        for (message, count), numbers in self._groups():
            self.messages += 1
            yield from self._cut(message, count, numbers)

    def _groups(self) -> Iterator[tuple[tuple[Message, int], Iterator[str]]]:
        if self._spilled is None:
            for key, numbers in self._waiting.items():
                yield key, iter(numbers)
            return
        rows = self._spilled.execute("SELECT text, extno, addseqno, n, number FROM waiting ORDER BY text, extno, rowid")
        for (text, extno, addseqno, count), group in groupby(rows, itemgetter(0, 1, 2, 3)):
            yield (Message(text, extno=extno, addseqno=bool(addseqno)), count), map(itemgetter(4), group)

    def _cut(self, message: Message, count: int, numbers: Iterator[str]) -> Iterator[PlannedBatch]:
        size = self._size
        waiting: list[str] = []
        while more := list(islice(numbers, size)):
            waiting += more
            if len(waiting) > 2 * size:
                yield PlannedBatch(message, waiting[:size], segments=count)
                del waiting[:size]
        for part in balanced(len(waiting), size):
            yield PlannedBatch(message, waiting[:part], segments=count)
            del waiting[:part]

    def close(self) -> None:
        """Delete the file."""
        if self._spilled is not None:
            self._spilled.close()
            self._spilled = None
