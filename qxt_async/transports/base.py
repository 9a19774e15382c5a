"""One request and its answer, as every transport sees them."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Protocol

from qxt_async.runtime.clocks import boottime

if TYPE_CHECKING:
    from collections.abc import Callable

    from qxt_async.protocol.requests import EncodedRequest

__all__ = [
    "ANSWER_LIMIT",
    "FORM_TYPE",
    "HEADERS",
    "KEEPALIVE",
    "AnswerTooLargeError",
    "Exchange",
    "NeverConnectedError",
    "RepeatedError",
    "TooLateError",
    "Transport",
    "UnaskedAnswerError",
    "watch",
]

ANSWER_LIMIT = 256 * 1024
"""Bytes of an answer at most: a thousand numbers are 12 KB, whatever is larger is no answer of a gateway."""

KEEPALIVE = 15.0
"""Seconds an idle connection is kept: less than the usual 20 s of servers, so that we close first, not they."""


FORM_TYPE = "application/x-www-form-urlencoded; charset=GBK"
"""``Content-Type`` of a POST (PROTOCOL 1.2)."""

HEADERS = {"accept": "*/*", "accept-encoding": "identity", "cache-control": "no-store", "user-agent": "qxt_async"}
"""Of each request. The answer has to come as it is: a small one can unpack to gigabytes; and from no cache."""


class NeverConnectedError(Exception):
    """Raised by a transport when no connection stood, so that nothing can have been sent, not even a GET."""


class AnswerTooLargeError(Exception):
    """Raised by a transport when the answer goes beyond `ANSWER_LIMIT`."""


class TooLateError(Exception):
    """The form was asked for when it must not leave any more: nothing of it was sent."""


class UnaskedAnswerError(Exception):
    """The form was asked for on a connection on which an answer was there already: nothing of it was sent.

    The HTTP library would have taken that answer for ours.
    """

    def __init__(self) -> None:
        super().__init__("the connection had ended, or an answer was there, before the request")


class RepeatedError(Exception):
    """The request was to be sent a second time, by something between this library and the connection."""

    def __init__(self) -> None:
        super().__init__("something between wanted to send the request a second time; it was sent once")


class Exchange:
    """One request on its way, and what has happened to it so far: all that is left when it is cut off.

    Attributes:
        request: what to send.
        base_url: where, without a slash at the end; the endpoint follows after one.
        on_answer: called by the transport with the whole answer, before the connection is given back; if it returns
            false, the answer was not ours and the transport closes the connection.
        pulled: the witness: whether the body was ever given out. Before that nothing was sent. A GET has no body; its
            form is pulled for the address, before there is a connection.
        refused: why the form was not given out when it was last asked for, or not a second time; ``None`` if it was.
        status: HTTP status, 0 until there is an answer.
        retry_after: the header of that name.
        encoded: whether the answer has a content encoding, which we asked it not to have.
        aged: whether it has spent time in a cache: an ``Age`` that is not 0.
        until: when the form has to have begun to leave, on `clocks.boottime`; ``None`` for any time.
        body: the answer, whole, or ``None``.
        timeout: seconds that it may take in all, for a transport that keeps the deadline itself; ``None`` for no limit.
    """

    __slots__ = (
        "_begun",
        "aged",
        "base_url",
        "body",
        "encoded",
        "on_answer",
        "body_started",
        "refused",
        "request",
        "retry_after",
        "status",
        "timeout",
        "until",
    )

    def __init__(
        self,
        request: EncodedRequest,
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
        self.body_started = False
        self.refused: Exception | None = None
        self._begun = False
        self.status = 0
        self.retry_after: str | None = None
        self.encoded = False
        self.aged = False
        self.body: bytes | None = None

    @property
    def url(self) -> str:
        """The address, without the query of a GET."""
        return f"{self.base_url}/{self.request.endpoint}"

    @property
    def length(self) -> int:
        """Bytes of the form."""
        return len(self.request.form.reveal())

    def begin(self) -> None:
        """Note that the request begins to leave: for a transport that can see this, whoever sends it.

        Raises:
            RepeatedError: it left before. A request that gave up before its body was pulled may begin again.
        """
        if self._begun and self.body_started:
            raise self._refuse(RepeatedError())
        self._begun = True

    def pull(self, has_come: Callable[[], bool] | None = None) -> bytes:
        """Give out the body, once, and witness it.

        Args:
            has_come: whether anything has come on the connection that is about to be used.

        Raises:
            RepeatedError: it was given out before.
            TooLateError: it is later than `until`: this process may have been stopped for minutes.
            UnaskedAnswerError: something has come that nobody asked for.
        """
        if self.body_started:
            raise self._refuse(RepeatedError())
        if self.until is not None and boottime() >= self.until:
            raise self._refuse(TooLateError("too late to send it"))
        if has_come is not None and has_come():
            raise self._refuse(UnaskedAnswerError())
        self.body_started, self.refused = True, None
        return self.request.form.reveal()

    def _refuse(self, error: Exception) -> Exception:
        self.refused = error
        return error

    def begin_answer(self, status: int, retry_after: str | None, encoding: str | None, age: str | None = None) -> None:
        """Note the head of the answer.

        Raises:
            Exception: `refused`, if the form was: then this answer is not ours, or not the only one.
        """
        if self.refused is not None:
            raise self.refused
        self.status = status
        self.retry_after = retry_after
        self.encoded = encoding not in (None, "", "identity")
        self.aged = bool(age and age.strip(" 0"))

    def finish(self, body: bytes | bytearray) -> bool:
        """Note the whole answer; whether the connection may be used again."""
        self.body = bytes(body)
        return self.on_answer(self)


def watch(descriptor: int) -> Callable[[], bool]:
    """A function that tells whether something is to be read from a socket, or it has ended; costs no descriptor."""
    if not hasattr(select, "poll"):
        return lambda: bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return lambda: bool(poll.poll(0))


class Transport(Protocol):
    """What a transport has to do.

    Its caller cancels it at the deadline; a transport that does better says ``keeps_deadline = True``, and then raises
    `TimeoutError` by itself when `Exchange.timeout` seconds are over.
    """

    async def exchange(self, exchange: Exchange) -> None:
        """Send the request once, read the answer, call ``exchange.finish``.

        It never repeats a request, follows no redirect, and takes the body from ``exchange.pull()`` when the
        connection stands and is about to be used. Cancelling stops it, gives the connection up and keeps what
        `exchange` says true.

        Raises:
            NeverConnectedError: no connection stood.
            AnswerTooLargeError: the answer is beyond `ANSWER_LIMIT`.
            Exception: anything else of the HTTP library's: the exchange broke on the way.
        """

    async def aclose(self) -> None:
        """Close what it opened. May be called more than once."""
