"""The tree of errors: drawn, picklable, discreet."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from typing import Any

import pytest

from qxt_async import errors
from qxt_async.errors import (
    AuthenticationError,
    BulkFailedError,
    InvalidRequestError,
    InvalidTextError,
    NotSentError,
    OutcomeUnknownError,
    QxtError,
    RefusedError,
    SubmitFailedError,
    ThrottledError,
    UnusableAnswerError,
)
from qxt_async.models import BatchResult, BulkResult
from qxt_async.protocol.texts import bad_characters

CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, BaseException) and value.__module__ == errors.__name__
}

# A value for each kind of argument that an error takes; a new kind needs a new line here.
VALUES: dict[str, Any] = {
    "str": "words",
    "str | None": "words",
    "int": 503,
    "int | None": 7,
    "float": 1.5,
    "float | None": None,
    "tuple[str, ...]": ("999", "21"),
    "Sequence[BadCharacter]": bad_characters("5€"),
    "Sequence[str]": ("words",),
}


def _example(cls: type[BaseException]) -> BaseException:
    if not inspect.isfunction(cls.__init__):
        return cls("words")
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    by_place = [VALUES[p.annotation] for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    by_name = {p.name: VALUES[p.annotation] for p in parameters if p.kind is p.KEYWORD_ONLY}
    return cls(*by_place, **by_name)


def test_the_tree_is_drawn_as_it_is() -> None:
    """The tree in the module's docstring has every class, below its base, and no other."""
    drawn: dict[str, str | None] = {}
    path: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"\s*[│├└─\s]*?(\w+Error)\b", line):
            depth = found.start(1)
            path = [(d, name) for d, name in path if d < depth]
            drawn[found[1]] = path[-1][1] if path else None
            path.append((depth, found[1]))

    assert drawn == {
        name: None if cls is QxtError else next(base.__name__ for base in cls.__bases__ if issubclass(base, QxtError))
        for name, cls in CLASSES.items()
    }


@pytest.mark.parametrize(
    ("builtin", "expected"),
    [
        (ValueError, {cls for cls in CLASSES.values() if issubclass(cls, InvalidRequestError)}),
        (RuntimeError, {errors.ClientStateError, errors.JournalClosedError}),
        (TimeoutError, {errors.DeadlineExceededError, errors.DeliveryTimeoutError}),
        (ConnectionError, {errors.ConnectionBrokenError}),
        (OSError, {errors.DeadlineExceededError, errors.DeliveryTimeoutError, errors.ConnectionBrokenError}),
    ],
)
def test_some_errors_are_also_builtin_ones(builtin: type[Exception], expected: set[type[QxtError]]) -> None:
    """Exactly these can be caught as a builtin error, too; the caller's mistake is a `ValueError`."""
    assert {cls for cls in CLASSES.values() if issubclass(cls, builtin)} == expected


def test_the_outcomes_stand_apart() -> None:
    """No error says two of: refused, never sent, unknown, the caller's fault."""
    kinds = (InvalidRequestError, RefusedError, NotSentError, OutcomeUnknownError)
    for cls in CLASSES.values():
        assert sum(issubclass(cls, kind) for kind in kinds) <= 1


@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES.keys())
@pytest.mark.parametrize("again", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
def test_errors_pickle(cls: type[QxtError], again: Any) -> None:
    """Every error survives pickling and copying with its message and its attributes."""
    error = _example(cls)
    error.__cause__ = ValueError("cause")

    came_back = again(error)

    assert type(came_back) is cls
    assert (str(came_back), came_back.args, vars(came_back)) == (str(error), error.args, vars(error))


def test_an_error_pickles_with_the_result_that_has_it() -> None:
    """An error and the result it is part of refer to each other, and still do after pickling."""
    error = AuthenticationError("wrong-password", "无此用户或者密码不对", "check the password")
    batch = BatchResult(0, ("13800138000",), failed=("13800138000",), error=error)
    error.result = BulkResult((batch,), unsent=("13800138001",))

    came_back = pickle.loads(pickle.dumps(error))

    assert isinstance(came_back.result, BulkResult)
    assert came_back.result.batches[0].error is came_back
    assert came_back.description == error.description
    assert came_back.result.unsent == ("13800138001",)
    assert copy.deepcopy(error).result.batches[0].failed == ("13800138000",)


@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES.keys())
def test_errors_are_sentences(cls: type[QxtError]) -> None:
    """Every error has a message, a docstring, and no result until one is attached."""
    error = _example(cls)
    assert isinstance(error, QxtError)
    assert str(error).strip()
    assert inspect.getdoc(cls)
    assert error.result is None


@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES.keys())
def test_errors_name_no_whole_number(cls: type[QxtError]) -> None:
    """No error has a whole number in its message or its repr, nor its result's."""
    error = _example(cls)
    error.result = BatchResult(0, ("13800138000",), unknown=("13800138000",), error=error)
    assert not re.search(r"\d{11}", f"{error} {error!r} {error.result!r}")


def test_a_refusal_says_what_to_do_and_what_the_gateway_said() -> None:
    """The message has the advice and the gateway's own words."""
    error = AuthenticationError("wrong-password", "无此用户或者密码不对", "check the password")
    assert str(error) == "check the password (gateway: '无此用户或者密码不对')"
    assert (error.code, error.description, error.advice) == (
        "wrong-password",
        "无此用户或者密码不对",
        "check the password",
    )


def test_the_label_of_a_refusal_is_its_code() -> None:
    """Journals and exports name a refusal by its code, and any other error by its class."""
    assert AuthenticationError("no-user", "").label == "no-user"
    assert SubmitFailedError(("999",), 1).label == "submit-failed"
    assert NotSentError("x").label == "NotSentError"


def test_only_403_of_the_unexpected_statuses_concerns_every_batch() -> None:
    """HTTP 403 stops a bulk send, and still does after pickling; other statuses do not."""
    assert pickle.loads(pickle.dumps(errors.UnexpectedStatusError(403))).concerns_every_batch
    assert not errors.UnexpectedStatusError(500).concerns_every_batch


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (SubmitFailedError(("999",), 1), "the gateway failed to take 1 number (gateway: 'fail:999')"),
        (SubmitFailedError(("999", "21"), 3), "the gateway failed to take 3 numbers (gateway: 'fail:999,21')"),
        (errors.PartialAnswerError(1), "what became of 1 number"),
        (errors.PartialAnswerError(2), "what became of 2 numbers"),
        (ThrottledError(429, None), "HTTP 429: the server asks to come back later"),
        (ThrottledError(429, 2.5), "come back later in 2.5 s"),
        (errors.UnexpectedStatusError(300), "HTTP 300: a redirect, which is never followed"),
        (errors.UnexpectedStatusError(302), "HTTP 302: a redirect, which is never followed"),
        (errors.UnexpectedStatusError(403), "HTTP 403: forbidden, before or after the gateway took it; check base_url"),
        (errors.UnexpectedStatusError(500), "HTTP 500: not an answer of the gateway"),
        (UnusableAnswerError("nobody understands"), "not sent again: nobody understands"),
        (UnusableAnswerError("nobody understands", "<html>"), "nobody understands: '<html>'"),
        (errors.BulkStoppedError("source", "LookupError"), "the source raised LookupError; what was sent before"),
        (errors.RefusedError("undocumented", "x"), "the gateway refused (gateway: 'x')"),
        (errors.InsufficientBalanceError(5, 2), "5 credits are needed and 2 are available"),
        (BulkFailedError(1, 2), "1 numbers failed and 2 are unknown"),
        (InvalidTextError("the text is empty"), "the text is empty"),
    ],
)
def test_messages(error: QxtError, message: str) -> None:
    """Facts are in the message as well as in the attributes."""
    assert message in str(error)
