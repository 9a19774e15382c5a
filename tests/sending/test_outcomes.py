"""What the answer to one request, and the lack of one, says about its numbers."""

from __future__ import annotations

from typing import cast

import pytest

from qxt_async.errors import OutcomeUnknownError, SubmitFailedError, UnusableAnswerError
from qxt_async.protocol.answers import Answer
from qxt_async.runtime.secret import Secret
from qxt_async.sending.dispatcher import GIVEN_MIDS, Dispatcher, GivenMids
from qxt_async.sending.outcomes import CANCELLED, AnswerReader, cut_off, merge, read_status
from qxt_async.sending.rate_limit import RateLimiter
from qxt_async.transports import Exchange, Transport

A, B = "13800138000", "13800138001"


def _exchange() -> Exchange:
    """A request whose form has left."""
    exchange = Exchange("POST", "http://127.0.0.1/sendsms", Secret(b"a=1"))
    exchange.pull()
    return exchange


@pytest.mark.parametrize("encoding", ["gzip", "br"])
def test_a_compressed_answer_says_nothing(encoding: str) -> None:
    """All numbers are unknown if the answer is compressed, which we did not ask for."""
    exchange = _exchange()
    exchange.begin_answer(200, None, encoding)
    answer = read_status(exchange, [A, B])
    assert answer is not None
    assert answer.unknown == (A, B)
    assert not answer.failed
    assert isinstance(answer.error, UnusableAnswerError)


def test_cancelled_under_way() -> None:
    """All numbers are unknown if the request was cancelled after its form had left, and the error says so."""
    answer = cut_off(_exchange(), CANCELLED, [A, B])
    assert answer.unknown == (A, B)
    assert isinstance(answer.error, OutcomeUnknownError)
    assert str(answer.error).endswith("cancelled while under way")


def test_codes_of_two_attempts() -> None:
    """Two attempts leave each code once, in the order in which they came."""
    earlier = Answer(failed=(A, B), codes=("999", "1"), error=SubmitFailedError(("999", "1"), 2))
    later = Answer(failed=(A, B), codes=("999", "2"), error=SubmitFailedError(("999", "2"), 2))
    assert merge(earlier, later, (A, B)).codes == ("999", "1", "2")


@pytest.mark.parametrize(("number", "reusable"), [(A, True), ("13900139000", False)])
def test_connection_after_an_answer(number: str, reusable: bool) -> None:
    """The connection is used again, unless the answer speaks of numbers that were not sent."""
    unlimited, never_used = RateLimiter(max_request_rate=None, max_rate=None), cast("Transport", None)
    dispatcher = Dispatcher(never_used, "", owns_transport=False, max_concurrency=1, rate_limiter=unlimited)
    exchange = _exchange()
    exchange.on_answer = AnswerReader([A], A.encode(), "text", dispatcher)
    exchange.begin_answer(200, None, None)
    assert exchange.finish(b"ok:7:" + number.encode()) is reusable
    assert A not in repr(exchange.on_answer)  # what is logged of it has no number


def test_mids_of_each_get() -> None:
    """A mid that the same GET was given before is known; other mids and other GETs are not."""
    mids, form = GivenMids(), Secret(b"a=1")
    assert mids.note(form, ["1", "2"]) is False
    assert mids.note(form, ["3"]) is False
    assert mids.note(Secret(b"a=2"), ["1"]) is False
    assert mids.note(form, ["4", "1", "5"]) is True
    assert mids.note(form, []) is False


def test_only_the_latest_mids_are_kept() -> None:
    """So many mids are remembered and no more: the one seen longest ago is forgotten first."""
    mids, form = GivenMids(), Secret(b"a=1")
    mids.note(form, ["first", "second", *map(str, range(GIVEN_MIDS - 2))])
    assert mids.note(form, ["first"]) is True
    assert mids.note(form, ["new"]) is False
    assert mids.note(form, ["first"]) is True
    assert mids.note(form, ["second"]) is False
