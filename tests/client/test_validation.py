"""The values that a client is made of."""

from __future__ import annotations

import pytest

from qxt_async.errors import InvalidConfigurationError
from qxt_async.protocol.validation import checked_address, checked_method, checked_seconds


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("http://127.0.0.1:8080/qxt", "http://127.0.0.1:8080/qxt"),
        ("http://127.0.0.1:8080/qxt/", "http://127.0.0.1:8080/qxt"),
        (" http://gateway.test/qxt\n", "http://gateway.test/qxt"),
        ("https://gateway.test", "https://gateway.test"),
        ("HTTP://gateway.test//", "HTTP://gateway.test"),
        ("http://[::1]:8080/qxt", "http://[::1]:8080/qxt"),
    ],
)
def test_addresses(given: str, kept: str) -> None:
    """An address is kept without a slash at its end and without the space around it that copying brings."""
    assert checked_address(given) == kept


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("", "with a host"),
        ("gateway.test/qxt", "with a host"),
        ("ftp://gateway.test/qxt", "it begins with 'ftp'"),
        ("http:///qxt", "with a host"),
        ("http://:8080/qxt", "with a host"),
        ("http://demo:hunter2@gateway.test/qxt", "no user, query or fragment"),
        ("http://@gateway.test/qxt", "no user, query or fragment"),
        ("http://gateway.test/qxt/surplus?", "no user, query or fragment"),
        ("http://gateway.test/qxt?user=hunter2", "no user, query or fragment"),
        ("http://gateway.test/qxt#hunter2", "no user, query or fragment"),
        ("http://[::1/hunter2", "are not valid"),
        ("http://gateway.test:99999/qxt", "are not valid"),
        ("http://gateway.test:0/qxt", "are not valid"),
        ("http://gateway.test:hunter2/qxt", "are not valid"),
        ("http://网关.test/qxt", "are not valid"),
        ("http://gateway.test/q xt", "are not valid"),
        ("http://gateway.test/\x00", "are not valid"),
    ],
)
def test_addresses_that_cannot_work(given: str, complaint: str) -> None:
    """What cannot be a gateway's address is refused when the client is made, and not repeated in the message."""
    with pytest.raises(InvalidConfigurationError, match=complaint) as caught:
        checked_address(given)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_methods() -> None:
    """There are two methods, in capitals."""
    assert [checked_method("POST"), checked_method("GET")] == ["POST", "GET"]
    with pytest.raises(InvalidConfigurationError, match="'POST' or 'GET'"):
        checked_method("get")  # type: ignore[arg-type]


def test_seconds() -> None:
    """A duration is above 0, and the error names the option."""
    assert checked_seconds("timeout", 0.1) == 0.1
    for value in (0, -1, float("nan")):
        with pytest.raises(InvalidConfigurationError, match="timeout is"):
            checked_seconds("timeout", value)
