"""`QxtClient.balance`."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from support.hand_gateway import BASE, DIGEST, Gateway, Unread, client

from qxt_async import (
    AuthenticationError,
    Balance,
    ConnectionBrokenError,
    DeadlineExceededError,
    InvalidConfigurationError,
    NotSentError,
    QxtError,
    RefusedError,
    RetryPolicy,
    ThrottledError,
    UnexpectedStatusError,
    UnusableAnswerError,
)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_balance(method: str) -> None:
    """User and digest go to ``surplus`` by either method, and the balance comes back."""
    gateway = Gateway(balance="ok:sms:12:mms:3\r\n")
    async with client(gateway, method=method) as qxt:
        assert await qxt.balance() == Balance(12, mms=3)
    (asked,) = gateway.received
    assert (asked.method, asked.path, asked.names) == (method, "/qxt/surplus", ("user", "password"))
    assert asked.fields == {"user": "demo", "password": DIGEST}
    assert asked.url.split("?")[0] == f"{BASE}/surplus"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("失败:error:无此用户或者密码不对", AuthenticationError),
        ("<html>", UnusableAnswerError),
        (httpx.Response(404), RefusedError),
        (httpx.Response(500), UnexpectedStatusError),
        (httpx.ReadError("reset"), ConnectionBrokenError),
    ],
)
async def test_what_is_not_asked_again(answer: Any, error: type[QxtError]) -> None:
    """A refusal and a broken answer are raised after one request."""
    gateway = Gateway(balance=answer)
    async with client(gateway) as qxt:
        with pytest.raises(error):
            await qxt.balance()
    assert len(gateway.received) == 1


@pytest.mark.parametrize(
    "broken",
    [
        Unread(httpx.ConnectError("refused")),
        Unread(httpx.ReadError("closed before anything was read")),
        httpx.Response(429),
    ],
    ids=["refused", "unread", "429"],
)
async def test_what_is_asked_again(broken: Any) -> None:
    """What never left, or was asked to come later, is asked again, as often as `retry` says."""
    gateway = Gateway(balance=[broken, broken, "ok:sms:1:mms:0"])
    async with client(gateway) as qxt:
        assert (await qxt.balance()).sms == 1

    gateway = Gateway(balance=[broken, broken, "ok:sms:1:mms:0"])
    async with client(gateway, retry=RetryPolicy(2, backoff=0)) as qxt:
        with pytest.raises(NotSentError):
            await qxt.balance()
    assert gateway.balance == ["ok:sms:1:mms:0"]


async def test_a_timeout_of_its_own() -> None:
    """The timeout of one call wins over the client's, and is checked like it."""
    gateway = Gateway()
    gateway.gate = type(gateway.gate)()
    async with client(gateway) as qxt:
        with pytest.raises(DeadlineExceededError):
            await qxt.balance(timeout=0.01)
        with pytest.raises(InvalidConfigurationError, match="timeout is 0"):
            await qxt.balance(timeout=0)


async def test_throttled_for_good() -> None:
    """When the attempts are used up, the error says when the server wants to be asked."""
    gateway = Gateway(balance=httpx.Response(429, headers={"retry-after": "7"}))
    async with client(gateway, retry=RetryPolicy(1)) as qxt:
        with pytest.raises(ThrottledError) as caught:
            await qxt.balance()
    assert (caught.value.status, caught.value.retry_after) == (429, 7.0)
