"""Rate limits, on a clock that jumps instead of passing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest
import trio.testing
from hypothesis import example, given
from hypothesis import strategies as st

from qxt_async.errors import InvalidConfigurationError
from qxt_async.sending.rate_limit import RateLimiter


def _run(main: Callable[[], Any]) -> Any:
    """Run on trio with a clock that jumps to the next deadline when nothing else is to do."""
    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def _passed(pace: Callable[[], RateLimiter], sizes: list[int]) -> list[tuple[float, int]]:
    """When each of these batches passes, counted from the first, all asking at once, in this order."""
    passed: list[tuple[float, int]] = []

    async def main() -> None:
        limits = pace()

        async def ask(size: int) -> None:
            await limits.wait(size)
            passed.append((anyio.current_time(), size))

        async with anyio.create_task_group() as group:
            for size in sizes:
                group.start_soon(ask, size)
                await anyio.wait_all_tasks_blocked()

    _run(main)
    return [(when - passed[0][0], size) for when, size in passed]


@given(
    st.lists(st.integers(1, 1000), min_size=1, max_size=20),
    st.sampled_from([None, 0.5, 1.0, 3.0, 50.0]),
    st.sampled_from([None, 1.0, 100.0, 5000.0]),
)
@example([1000, *[1] * 10], 1.0, 100.0)
@example([*[1] * 10, 1000, 1000], 1.0, 100.0)
def test_no_window_sees_more_than_the_rate_and_one_batch(
    sizes: list[int], requests: float | None, numbers: float | None
) -> None:
    """In any stretch of T seconds no more than rate x T passes, and one batch, of requests and of numbers alike."""
    passed = _passed(lambda: RateLimiter(max_request_rate=requests, max_rate=numbers), sizes)

    assert len(passed) == len(sizes)
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            seconds = passed[last][0] - passed[first][0]
            inside = [size for _, size in passed[first:last]]
            if requests is not None:
                assert len(inside) <= requests * seconds + 1e-6
            if numbers is not None:
                assert sum(inside) <= numbers * seconds + 1e-6


def test_the_rate_is_used_in_full() -> None:
    """Batches pass as soon as the slower of the two limits allows, in the order of asking."""
    passed = _passed(lambda: RateLimiter(max_request_rate=10, max_rate=100), [10, 50, 1, 1, 20])
    assert passed == [
        (0.0, 10),
        (pytest.approx(0.1), 50),
        (pytest.approx(0.6), 1),
        (pytest.approx(0.7), 1),
        (pytest.approx(0.8), 20),
    ]


def test_nothing_is_saved_up() -> None:
    """After an idle hour there is no burst."""

    async def main() -> list[float]:
        pace = RateLimiter(max_request_rate=2, max_rate=None)
        await pace.wait(1)
        await anyio.sleep(3600)
        began = anyio.current_time()
        waited = []
        for _ in range(3):
            await pace.wait(1)
            waited.append(anyio.current_time() - began)
        return waited

    assert _run(main) == pytest.approx([0.0, 0.5, 1.0])


def test_a_request_without_numbers() -> None:
    """A balance query counts as a request, and neither waits for the limit of numbers nor uses it up."""

    async def main() -> tuple[float, float]:
        pace = RateLimiter(max_request_rate=10, max_rate=1)
        began = anyio.current_time()
        await pace.wait(100)
        await pace.wait(0)
        asked = anyio.current_time() - began
        await pace.wait(1)
        return asked, anyio.current_time() - began

    assert _run(main) == (pytest.approx(0.1), pytest.approx(100.0))


def test_cancelling_uses_nothing_up() -> None:
    """One who stops waiting leaves the turn, and the time, to the next."""

    async def main() -> float:
        pace = RateLimiter(max_request_rate=1, max_rate=None)
        began = anyio.current_time()
        await pace.wait(1)
        with anyio.move_on_after(0.5) as scope:
            await pace.wait(1)
        assert scope.cancelled_caught
        await pace.wait(1)
        return anyio.current_time() - began

    assert _run(main) == pytest.approx(1.0)


@pytest.mark.anyio
async def test_no_limit_does_not_wait() -> None:
    """Without limits there is nothing to wait for, not even another task's turn."""
    pace = RateLimiter(max_request_rate=None, max_rate=None)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await pace.wait(1000)  # cancelled at the first checkpoint, if there were one
    assert not scope.cancelled_caught


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
@pytest.mark.parametrize("name", ["max_rate", "max_request_rate"])
def test_rates_that_cannot_work(rate: float, name: str) -> None:
    """A rate of nothing would wait for ever; the error names the option."""
    with pytest.raises(InvalidConfigurationError, match=f"{name} is {rate}"):
        RateLimiter(**{"max_rate": None, "max_request_rate": None, name: rate})  # type: ignore[arg-type]
