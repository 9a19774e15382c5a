"""The public names: adding one is a decision, losing one breaks somebody."""

from __future__ import annotations

import pytest

import qxt_async
from qxt_async import errors

NAMES = {
    "AccountRefusedError",
    "AddressRefusedError",
    "AuthenticationError",
    "Balance",
    "BatchResult",
    "BulkFailedError",
    "BulkOptions",
    "BulkResult",
    "CallbackFailedError",
    "BulkStream",
    "CancelledInFlightError",
    "ConnectionBrokenError",
    "DeadlineExceededError",
    "DeliveryState",
    "EmptyUserError",
    "ExtnoRefusedError",
    "ForbiddenError",
    "ForeignAnswerError",
    "InsufficientBalanceError",
    "InvalidConfigurationError",
    "InvalidExtnoError",
    "InvalidNumber",
    "InvalidNumberError",
    "InvalidRequestError",
    "InvalidTextError",
    "Message",
    "NO_RETRIES",
    "NoNumbersRefusedError",
    "NoTextRefusedError",
    "NoValidNumberError",
    "NotSentError",
    "NumberCountRefusedError",
    "Numbers",
    "OutcomeUnknownError",
    "PartialAnswerError",
    "Progress",
    "QxtClient",
    "QxtError",
    "Acceptance",
    "RefusedError",
    "Reply",
    "RequestTooLargeError",
    "RetryPolicy",
    "SentBatch",
    "SourceFailedError",
    "SourceFileError",
    "StatusReport",
    "SubmitFailedError",
    "ThrottledError",
    "TooFewNumbersRefusedError",
    "TooManyNumbersError",
    "UnexpectedStatusError",
    "UnknownRefusalError",
    "UnknownUserError",
    "UnreadableAnswerError",
    "UrlTooLongError",
    "WrongPasswordError",
    "__version__",
}


def test_the_public_names() -> None:
    """The package exports exactly these."""
    assert set(qxt_async.__all__) == NAMES


def test_exported_errors_are_whole_branches() -> None:
    """Where an error is exported, so is what it derives from: whoever catches one can catch its kind."""
    exported = {name for name in errors.__all__ if name in NAMES}
    bases = {base.__name__ for name in exported for base in getattr(errors, name).__mro__}
    assert bases & set(errors.__all__) == exported


def test_public_names_exist_and_say_what_they_are() -> None:
    """Every exported name is there, and every class and function has a docstring."""
    for name in qxt_async.__all__:
        value = getattr(qxt_async, name)
        assert not callable(value) or value.__doc__, name


def test_names_are_listed_before_they_are_loaded() -> None:
    """`dir()` has every exported name, and a name that does not exist is an ordinary `AttributeError`."""
    assert set(dir(qxt_async)) >= NAMES
    with pytest.raises(AttributeError, match="module 'qxt_async' has no attribute 'Client'"):
        qxt_async.Client  # noqa: B018


def test_all_names_are_imported_by_a_star() -> None:
    """`from qxt_async import *` brings all of them."""
    names: dict[str, object] = {}
    exec("from qxt_async import *", names)
    assert set(names) >= NAMES


def test_names_are_unique() -> None:
    """Nothing is exported twice."""
    assert len(set(qxt_async.__all__)) == len(qxt_async.__all__)


def test_the_version_is_one() -> None:
    """The version has three numbers."""
    assert len([int(part) for part in qxt_async.__version__.split(".")]) == 3
