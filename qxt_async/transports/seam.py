"""One request and its answer, as every transport sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from qxt_async.clocks import steady

if TYPE_CHECKING:
    from collections.abc import Callable

    from qxt_async.wire import WireRequest

__all__ = [
    "ANSWER_LIMIT",
    "FORM_TYPE",
    "HEADERS",
    "KEEPALIVE",
    "AnswerTooLargeError",
    "Exchange",
    "NeverConnectedError",
    "TooLateError",
    "Transport",
]

ANSWER_LIMIT = 256 * 1024
"""Bytes of an answer at most: a thousand numbers are 12 KB, whatever is larger is no answer of a gateway."""

KEEPALIVE = 15.0
"""Seconds an idle connection is kept: less than the usual 20 s of servers, so that we close first, not they."""


FORM_TYPE = "application/x-www-form-urlencoded; charset=GBK"
"""``Content-Type`` of a POST (PROTOCOL 1.2)."""

HEADERS = {"accept": "*/*", "accept-encoding": "identity", "user-agent": "qxt_async"}
"""Of each request. The answer has to come as it is: a small one can unpack to gigabytes."""


class NeverConnectedError(Exception):
    """Raised by a transport when no connection stood, so that nothing can have been sent, not even a GET."""


class AnswerTooLargeError(Exception):
    """Raised by a transport when the answer goes beyond `ANSWER_LIMIT`."""


class TooLateError(Exception):
    """The form was asked for when it must not leave any more: nothing of it was sent."""


class Exchange:
    """One request on its way, and what has happened to it so far: all that is left when it is cut off.

    Attributes:
        request: what to send.
        base_url: where, without a slash at the end; the endpoint follows after one.
        on_answer: called by the transport with the whole answer, before the connection is given back; if it returns
            false, the answer was not ours and the transport closes the connection.
        pulled: the witness: whether the HTTP library ever asked for the body. Before that nothing was sent. A GET has
            no body; its form is pulled for the address, before there is a connection.
        status: HTTP status, 0 until there is an answer.
        retry_after: the header of that name.
        encoded: whether the answer has a content encoding, which we asked it not to have.
        until: when the form has to have begun to leave, on `clocks.steady`; ``None`` for any time.
        body: the answer, whole, or ``None``.
        timeout: seconds that it may take in all, for a transport that keeps the deadline itself; ``None`` for no limit.
    """

    __slots__ = (
        "base_url",
        "body",
        "encoded",
        "on_answer",
        "pulled",
        "request",
        "retry_after",
        "status",
        "timeout",
        "until",
    )

    def __init__(
        self,
        request: WireRequest,
        base_url: str,
        on_answer: Callable[[Exchange], bool],
        *,
        until: float | None = None,
        timeout: float | None = None,
    ) -> None:
        self.request = request
        self.base_url = base_url
        self.on_answer = on_answer
        self.until = until
        self.timeout = timeout
        self.pulled = False
        self.status = 0
        self.retry_after: str | None = None
        self.encoded = False
        self.body: bytes | None = None

    @property
    def url(self) -> str:
        """The address, without the query of a GET."""
        return f"{self.base_url}/{self.request.endpoint}"

    def pull(self) -> bytes:
        """Give out the body, and witness it.

        Raises:
            TooLateError: it is later than `until`: this process may have been stopped for minutes.
        """
        if self.until is not None and steady() >= self.until:
            raise TooLateError("too late to send it")
        self.pulled = True
        return self.request.form

    def begin_answer(self, status: int, retry_after: str | None, encoding: str | None) -> None:
        """Note the head of the answer."""
        self.status = status
        self.retry_after = retry_after
        self.encoded = encoding not in (None, "", "identity")

    def finish(self, body: bytes | bytearray) -> bool:
        """Note the whole answer; whether the connection may be used again."""
        self.body = bytes(body)
        return self.on_answer(self)


class Transport(Protocol):
    """What a transport has to do.

    Its caller cancels it at the deadline; a transport that does better says ``keeps_deadline = True``, and then raises
    `TimeoutError` by itself when `Exchange.timeout` seconds are over.
    """

    async def exchange(self, exchange: Exchange) -> None:
        """Send the request once, read the answer, call ``exchange.finish``.

        It never repeats a request, follows no redirect, and takes the body from ``exchange.pull()`` when the
        connection stands. Cancelling stops it, gives the connection up and keeps what `exchange` says true.

        Raises:
            NeverConnectedError: no connection stood.
            AnswerTooLargeError: the answer is beyond `ANSWER_LIMIT`.
            Exception: anything else of the HTTP library's: the exchange broke on the way.
        """

    async def aclose(self) -> None:
        """Close what it opened. May be called more than once."""
