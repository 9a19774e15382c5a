"""Any source of numbers to balanced batches, read no faster than they are taken."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import anyio
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qxt_async.errors import InvalidConfigurationError, InvalidRequestError
from qxt_async.protocol.numbers import Deduplicator, NumberFilter
from qxt_async.sending.batching import Batches, balanced


def _numbers(count: int, start: int = 0) -> list[str]:
    return [f"138{n:08d}" for n in range(start, start + count)]


class Source:
    """A source that counts how far it was read."""

    def __init__(self, numbers: list[str]) -> None:
        self.numbers = numbers
        self.read = 0

    def __iter__(self) -> Iterator[str]:
        for number in self.numbers:
            self.read += 1
            yield number

    async def stream(self) -> AsyncGenerator[str]:
        """The same, asynchronously."""
        for number in self.numbers:
            self.read += 1
            yield number


KINDS: dict[str, Any] = {
    "list": lambda numbers: numbers,
    "tuple": tuple,
    "generator": lambda numbers: iter(Source(numbers)),
    "dict": dict.fromkeys,
    "async generator": lambda numbers: Source(numbers).stream(),
}


async def _all(batches: Batches) -> list[list[str]]:
    collected: list[list[str]] = []
    while (batch := await batches.next()) is not None:
        collected.append(list(batch))
    assert await batches.next() is None
    return collected


def _can_be_cut(total: int, size: int, minimum: int) -> bool:
    """Whether some number of batches holds the total with every one of them from `minimum` to `size`: the oracle."""
    return any(count * minimum <= total <= count * size for count in range(1, total // minimum + 1))


@st.composite
def sizes(draw: st.DrawFn) -> tuple[int, int, int]:
    """A total, a batch size and a minimum, near multiples of each other more often than chance has it."""
    size = draw(st.one_of(st.integers(1, 40), st.sampled_from([500, 999, 1000])))
    minimum = draw(st.one_of(st.integers(1, size), st.sampled_from([1, max(1, size - 1), size, min(10, size)])))
    total = draw(st.one_of(st.integers(0, 3500), st.integers(0, 4).map(lambda n: n * size)))
    return max(0, total + draw(st.integers(-2, 2))), size, minimum


@given(sizes(), st.sampled_from(sorted(KINDS)))
@example((1005, 1000, 10), "list")
@example((3001, 1000, 1000), "generator")
@example((2001, 1000, 667), "async generator")
@example((2001, 1000, 999), "async generator")
def test_every_number_once_in_order_and_no_batch_too_large_or_small(case: tuple[int, int, int], kind: str) -> None:
    """Whatever the source, batches hold every number once, in order, at most `size`, at least `minimum` if that can be.

    Where the total cannot be cut that way there are as few batches as `size` allows.
    """
    total, size, minimum = case
    numbers = _numbers(total)

    batches = anyio.run(_all, Batches(KINDS[kind](numbers), NumberFilter(), size=size, minimum=minimum))

    assert [number for batch in batches for number in batch] == numbers
    assert all(1 <= len(batch) <= size for batch in batches)
    if _can_be_cut(total, size, minimum):
        assert all(len(batch) >= minimum for batch in batches)
    else:
        assert len(batches) == -(-total // size)


@given(
    st.integers(1, 60),
    st.integers(1, 9),
    st.data(),
    st.integers(1, 5),
    st.sampled_from(["generator", "async generator"]),
)
def test_small_reads_look_as_far_ahead(total: int, size: int, data: st.DataObject, read: int, kind: str) -> None:
    """However few numbers a read brings, enough are in hand before a batch goes, and not more than a read too many."""
    minimum = data.draw(st.integers(1, size))
    source = Source(_numbers(total))
    ahead = next(n for n in range(2, 99) if n * minimum <= (n - 1) * size + 1 or minimum == size) * size

    async def cut() -> list[list[str]]:
        batches = Batches(
            source if kind == "generator" else source.stream(), NumberFilter(), size=size, minimum=minimum
        )
        collected: list[list[str]] = []
        while (batch := await batches.next()) is not None:
            collected.append(list(batch))
            assert source.read <= (len(collected) - 1) * size + ahead + read
        return collected

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qxt_async.sending.batching.SLICE", read)
        batches = anyio.run(cut)
    assert [number for batch in batches for number in batch] == source.numbers
    assert all(1 <= len(batch) <= size for batch in batches)
    if _can_be_cut(total, size, minimum):
        assert all(len(batch) >= minimum for batch in batches)
    else:
        assert len(batches) == -(-total // size)


@given(st.integers(1, 5000), st.integers(1, 1000))
def test_balanced(count: int, size: int) -> None:
    """The fewest batches, whose sizes differ by one at most, the larger first."""
    cut = balanced(count, size)
    assert sum(cut) == count
    assert len(cut) == -(-count // size)
    assert cut == sorted(cut, reverse=True)
    assert max(cut) - min(cut) <= 1


def test_a_little_more_than_a_batch_is_halved() -> None:
    """1005 numbers go as 503 and 502, never as 1000 and 5."""
    assert balanced(1005) == [503, 502]


@pytest.mark.anyio
async def test_the_gate_stands_before_the_cut() -> None:
    """What is invalid or repeated leaves no gap: batches are cut from what passes."""
    dirty = [x for number in _numbers(30) for x in (number, number, "nobody")]
    batches = Batches(dirty, NumberFilter(seen=Deduplicator()), size=10)
    assert [len(batch) for batch in await _all(batches)] == [10, 10, 10]
    assert (batches.number_filter.duplicates, batches.number_filter.invalid_count) == (30, 30)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(
    ("size", "minimum", "ahead"), [(1000, 10, 2000), (1000, 500, 2000), (1000, 667, 3000), (10, 1, 20)]
)
async def test_reading_ahead_is_bounded(kind: str, size: int, minimum: int, ahead: int) -> None:
    """After k batches no more was read than k batches, what balancing needs to look ahead, and one read of 1000."""
    source = Source(_numbers(12_000))
    async with aclosing(source.stream()) as stream:
        batches = Batches(source if kind == "sync" else stream, NumberFilter(), size=size, minimum=minimum)
        assert source.read == 0
        for taken in range(1, 5):
            await batches.next()
            assert source.read <= taken * size + ahead + 1000


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("minimum", "read"), [(1, 3000), (500, 3000), (501, 4000), (667, 4000), (668, 5000), (800, 6000), (1000, 3000)]
)
async def test_what_the_first_batch_reads(minimum: int, read: int) -> None:
    """Before the first batch goes, as much is read as balancing the rest may need, and one read more."""
    source = Source(_numbers(12_000))
    await Batches(source, NumberFilter(), minimum=minimum).next()
    assert source.read == read


class BrokenSourceError(Exception):
    """What the source below raises."""


def _broken(after: int) -> Iterator[str]:
    yield from _numbers(after)
    raise BrokenSourceError


async def _broken_stream(after: int) -> AsyncIterator[str]:
    for number in _broken(after):
        yield number


@pytest.mark.anyio
@pytest.mark.parametrize("source", [_broken, _broken_stream])
@pytest.mark.parametrize("after", [0, 5, 1000, 2500, 4321])
async def test_a_source_that_raises_loses_nothing(source: Any, after: int) -> None:
    """What the source raises passes through, and what was read before is in a batch or in the rest."""
    batches = Batches(source(after), NumberFilter(), size=1000, minimum=10)
    given_out: list[str] = []

    async def read() -> None:
        while (batch := await batches.next()) is not None:
            given_out.extend(batch)

    with pytest.raises(BrokenSourceError):
        await read()
    assert [*given_out, *batches.take_rest()] == _numbers(after)
    assert batches.take_rest() == ()
    assert await batches.next() is None


@pytest.mark.anyio
@pytest.mark.parametrize("before", [0, 7, 3500])
async def test_a_cancelled_read_loses_nothing(before: int) -> None:
    """Cancelled while the source has nothing to give, what was read before is in a batch or in the rest."""
    stuck = anyio.Event()

    async def source() -> AsyncIterator[str]:
        for number in _numbers(before):
            yield number
        stuck.set()
        await anyio.sleep_forever()

    batches = Batches(source(), NumberFilter(), size=1000)
    given_out: list[str] = []

    async def read() -> None:
        while (batch := await batches.next()) is not None:
            given_out.extend(batch)

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await stuck.wait()
        group.cancel_scope.cancel()

    assert [*given_out, *batches.take_rest()] == _numbers(before)


@pytest.mark.anyio
async def test_a_source_of_nothing_but_rejects_lets_others_run() -> None:
    """A long run of repeated numbers does not hold the event loop."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with anyio.create_task_group() as group:
        group.start_soon(others)
        batches = Batches(("13800138000" for _ in range(20_000)), NumberFilter(seen=Deduplicator()))
        assert await batches.next() == ["13800138000"]
        group.cancel_scope.cancel()
    assert turns >= 10


@pytest.mark.parametrize("source", ["13800138000", b"13800138000", 13800138000, None])
def test_what_is_no_source(source: Any) -> None:
    """One string is refused rather than read letter by letter, and so is what cannot be iterated."""
    with pytest.raises(InvalidRequestError, match="pass a"):
        Batches(source, NumberFilter())


@pytest.mark.parametrize(
    ("size", "minimum", "complaint"),
    [
        (0, 1, "batch_size is 0"),
        (1001, 1, "batch_size is 1001"),
        (10, 0, "min_batch is 0"),
        (10, 11, "min_batch is 11"),
    ],
)
def test_sizes_that_cannot_work(size: int, minimum: int, complaint: str) -> None:
    """Sizes beyond what a request carries, and minimums beyond the size, are refused."""
    with pytest.raises(InvalidConfigurationError, match=complaint):
        Batches([], NumberFilter(), size=size, minimum=minimum)
