"""What every transport works with: one request, its answer, and whether its body was ever asked for."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Protocol

import attrs

from qxt_async.runtime.clocks import boottime

if TYPE_CHECKING:
    from collections.abc import Callable

    from qxt_async.protocol.requests import Method
    from qxt_async.runtime.secret import Secret

ANSWER_LIMIT = 256 * 1024
"""The largest answer in bytes. An answer for 1000 numbers has 12 KB; nothing larger comes from a gateway."""

KEEPALIVE = 15.0
"""Seconds for which an idle connection is kept. Servers usually keep it for 20 s, so we close it first."""

FORM_TYPE = "application/x-www-form-urlencoded; charset=GBK"
"""``Content-Type`` of a POST (PROTOCOL 1.2)."""

HEADERS = {"accept": "*/*", "accept-encoding": "identity", "cache-control": "no-store", "user-agent": "qxt_async"}
"""Headers of each request. A small compressed answer can unpack to gigabytes, so we ask for none; nor from a cache."""


class NeverConnectedError(Exception):
    """A transport raises it when it had no connection. Then nothing was sent, not even a GET."""


class AnswerTooLargeError(Exception):
    """A transport raises it when the answer is larger than `ANSWER_LIMIT`."""


class TooLateError(Exception):
    """The transport asked for the form after `Exchange.until`. Nothing of the form was sent."""


class UnaskedAnswerError(Exception):
    """The transport asked for the form, but the connection had an answer already. Nothing of the form was sent.

    The HTTP library would have taken that answer for the answer to this request.
    """

    def __init__(self) -> None:
        super().__init__("the connection had ended, or an answer was there, before the request")


class RepeatedError(Exception):
    """Something between this library and the connection tried to send the request a second time."""

    def __init__(self) -> None:
        super().__init__("something between wanted to send the request a second time; it was sent once")


@attrs.define
class AnswerHead:
    """The head of an HTTP answer, as far as it says something about a send.

    Attributes:
        status: the HTTP status; 0 as long as there is no answer.
        retry_after: the header ``Retry-After``.
        encoding: the header ``Content-Encoding``.
        age: the header ``Age``.
    """

    status: int
    # A server may repeat anything in its headers.
    retry_after: str | None = attrs.field(default=None, repr=False)
    encoding: str | None = attrs.field(default=None, repr=False)
    age: str | None = attrs.field(default=None, repr=False)


_NO_HEAD = AnswerHead(0)


@attrs.define(eq=False, repr=False)
class Exchange:
    """One request and its answer. When a request is cut off, this says how far it came.

    Attributes:
        method: ``POST`` or ``GET``.
        url: the address, without the query of a GET.
        form: the form: the body of a POST, the query of a GET.
        on_answer: the transport calls it with the whole answer, before it gives the connection back. If it returns
            ``False``, the answer belongs to another request and the transport closes the connection.
        timeout: seconds for the whole exchange, for a transport that keeps the deadline itself; ``None`` for no limit.
        until: the latest moment to begin to send the form, on `clocks.boottime`; ``None`` for no limit.
        body_started: whether the transport has asked for the form. Before that, nothing was sent. The form of a GET is
            part of the address, so it is asked for before there is a connection.
        refused: why the transport did not get the form when it last asked for it; ``None`` if it did.
        head: the head of the answer.
        body: the whole body of the answer; ``None`` until it is there.
    """

    method: Method
    url: str
    form: Secret[bytes]
    on_answer: Callable[[Exchange], bool] = attrs.field(default=lambda _: True)
    timeout: float | None = attrs.field(default=None, kw_only=True)
    until: float | None = attrs.field(default=None, kw_only=True)
    body_started: bool = attrs.field(default=False, init=False)
    refused: Exception | None = attrs.field(default=None, init=False)
    head: AnswerHead = attrs.field(default=_NO_HEAD, init=False)
    body: bytes | None = attrs.field(default=None, init=False)
    _begun: bool = attrs.field(default=False, init=False)

    def begin(self) -> None:
        """Note that the request begins to leave. A transport calls it if it sees this, whoever sends the request.

        Raises:
            RepeatedError: the request was sent before. A request that ended before its body was asked for may begin
                again.
        """
        if self._begun and self.body_started:
            raise self._refuse(RepeatedError())
        self._begun = True

    def pull(self, has_come: Callable[[], bool] | None = None) -> bytes:
        """Return the form, once, and note that it was asked for.

        Args:
            has_come: returns whether the connection that is about to be used has received something.

        Raises:
            RepeatedError: the form was given out before.
            TooLateError: it is later than `until`. This process may have been stopped for minutes.
            UnaskedAnswerError: the connection has received something that nobody asked for.
        """
        if self.body_started:
            raise self._refuse(RepeatedError())
        if self.until is not None and boottime() >= self.until:
            raise self._refuse(TooLateError("too late to send it"))
        if has_come is not None and has_come():
            raise self._refuse(UnaskedAnswerError())
        self.body_started, self.refused = True, None
        return self.form.reveal()

    def _refuse(self, error: Exception) -> Exception:
        self.refused = error
        return error

    def begin_answer(self, status: int, retry_after: str | None, encoding: str | None, age: str | None = None) -> None:
        """Note the head of the answer.

        Raises:
            Exception: `refused`, if the form was refused. Then this answer is not ours, or not the only one.
        """
        if self.refused is not None:
            raise self.refused
        self.head = AnswerHead(status, retry_after, encoding, age)

    def finish(self, body: bytes | bytearray) -> bool:
        """Note the whole answer.

        Returns:
            Whether the connection may be used again.
        """
        self.body = bytes(body)
        return self.on_answer(self)


def watch(descriptor: int) -> Callable[[], bool]:
    """Return a function that says whether a socket has something to read, or has ended. It opens no descriptor."""
    if not hasattr(select, "poll"):
        return lambda: bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return lambda: bool(poll.poll(0))


class Transport(Protocol):
    """The interface of a transport.

    The client cancels the exchange at its deadline. A transport that keeps the deadline itself sets
    ``keeps_deadline = True`` and raises `TimeoutError` after `Exchange.timeout` seconds.
    """

    async def exchange(self, exchange: Exchange) -> None:
        """Send the request once, read the answer, call ``exchange.finish``.

        It never repeats a request and follows no redirect. It calls ``exchange.pull()`` for the form when the
        connection is there and about to be used. Cancelling stops the exchange and closes the connection; what
        `exchange` says stays true.

        Raises:
            NeverConnectedError: there was no connection.
            AnswerTooLargeError: the answer is larger than `ANSWER_LIMIT`.
            Exception: any other error of the HTTP library: the exchange broke.
        """

    async def aclose(self) -> None:
        """Close what the transport has opened. It may be called more than once."""
