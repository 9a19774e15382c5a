"""What happened, and whether to try again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qxt_async.errors import (
    AuthenticationError,
    ConnectionBrokenError,
    InvalidConfigurationError,
    NotSentError,
    PartialAnswerError,
    SubmitFailedError,
    ThrottledError,
)
from qxt_async.models import Acceptance
from qxt_async.protocol.answers import Answer
from qxt_async.sending.retry import NO_RETRIES, RetryPolicy

ALL = ("13800138000", "13800138001")
ACCEPTED = Answer((Acceptance("1", ALL),))
NOT_SENT = Answer(failed=ALL, error=NotSentError("refused"))
THROTTLED = Answer(failed=ALL, error=ThrottledError(429, None))
REFUSED = Answer(failed=ALL, error=AuthenticationError("wrong-password", "x"))
FAILED = Answer(failed=ALL, codes=("999",), error=SubmitFailedError(("999",), 2))
UNKNOWN = Answer(unknown=ALL, error=ConnectionBrokenError("reset"))
MIXED = Answer(failed=ALL[:1], unknown=ALL[1:], codes=("999",), error=PartialAnswerError(1))


@pytest.mark.parametrize(
    ("answer", "by_default", "failed", "unknown"),
    [
        (ACCEPTED, (), (), ()),
        (NOT_SENT, ALL, ALL, ALL),
        (THROTTLED, ALL, ALL, ALL),
        (REFUSED, (), (), ()),
        (FAILED, (), ALL, ()),
        (UNKNOWN, (), (), ALL),
        (MIXED, (), ALL[:1], ALL[1:]),
    ],
    ids=["accepted", "not sent", "throttled", "refused", "failed", "unknown", "mixed"],
)
def test_what_is_tried_again(
    answer: Answer, by_default: tuple[str, ...], failed: tuple[str, ...], unknown: tuple[str, ...]
) -> None:
    """By itself only what never left; what failed, and what is unknown, only by the option of that name."""
    assert RetryPolicy().retryable_numbers(answer) == set(by_default)
    assert RetryPolicy(retry_failed=True).retryable_numbers(answer) == set(failed)
    assert RetryPolicy(retry_unknown_may_send_twice=True).retryable_numbers(answer) == set(unknown)


def test_no_retries() -> None:
    """There is a policy of one request, whatever happens."""
    assert NO_RETRIES.attempts == 1


@given(st.integers(1, 10_000), st.floats(0, 1), st.floats(0, 100), st.floats(0, 100))
def test_back_off(attempt: int, random: float, backoff: float, limit: float) -> None:
    """Waiting doubles with each attempt up to the limit, and half of it is random."""
    policy = RetryPolicy(backoff=backoff, max_backoff=limit)
    full = min(backoff * 2 ** min(attempt - 1, 60), limit)
    delay = policy.delay(attempt, NotSentError("x"), lambda: random)
    assert delay == pytest.approx(full / 2 + full / 2 * random)


def test_the_first_waits() -> None:
    """The figures as documented: half a second, one, two, …, thirty."""
    waits = [RetryPolicy().delay(attempt, NotSentError("x"), lambda: 1.0) for attempt in range(1, 9)]
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30]


@pytest.mark.parametrize(("asked", "waited"), [(0.0, 0.0), (3.0, 3.0), (3600.0, 30.0)])
def test_a_server_that_says_when(asked: float, waited: float) -> None:
    """``Retry-After`` is waited as told, without jitter, up to the limit."""
    assert RetryPolicy().delay(1, ThrottledError(429, asked), lambda: 0.0) == waited


def test_a_server_that_does_not_say_when() -> None:
    """A 429 without ``Retry-After`` is waited for like anything else."""
    assert RetryPolicy().delay(2, ThrottledError(429, None), lambda: 0.0) == 0.5


@pytest.mark.parametrize(
    "options",
    [{"attempts": 0}, {"attempts": -1}, {"backoff": -0.1}, {"max_backoff": -1}, {"backoff": float("nan")}],
    ids=str,
)
def test_policies_that_cannot_work(options: dict[str, Any]) -> None:
    """ReportStatistics that make no sense are refused, by their names."""
    with pytest.raises(InvalidConfigurationError, match=f"{next(iter(options))} is"):
        RetryPolicy(**options)
