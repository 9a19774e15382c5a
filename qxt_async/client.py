"""`QxtClient`: one account, one pool, one rate limit, however many tasks use it."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Collection, Container
from typing import TYPE_CHECKING, Any, Self, Unpack, cast

import anyio

from qxt_async.errors import (
    ClientStateError,
    InsufficientBalanceError,
    InvalidConfigurationError,
    InvalidRequestError,
    NotSentError,
    QxtError,
)
from qxt_async.models import Message, SentBatch
from qxt_async.protocol.answers import parse_balance
from qxt_async.protocol.numbers import MOBILE_PATTERN, Deduplicator, NumberFilter, is_mobile
from qxt_async.protocol.requests import MAX_NUMBERS, Credentials, balance_form, join, send_form
from qxt_async.protocol.texts import segments, substitute
from qxt_async.protocol.validation import checked_address, checked_method, checked_seconds
from qxt_async.runtime.secret import Secret
from qxt_async.sending.attempts import BatchSend, ClaimedBatch, Dispatcher, read_status, stopped_error
from qxt_async.sending.batching import Batches
from qxt_async.sending.bulk import BulkOptions, BulkStream
from qxt_async.sending.rate_limit import RateLimiter
from qxt_async.sending.retry import NO_RETRIES, RetryPolicy
from qxt_async.transports import Exchange, open_transport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Mapping, Sequence
    from types import TracebackType

    from qxt_async.models import Balance, BatchResult, BulkResult, Progress
    from qxt_async.protocol.requests import FormTemplate, Method
    from qxt_async.sending.batching import NumberSource
    from qxt_async.transports import AnyTransport

__all__ = ["QxtClient"]

_MIN_BATCH = 10  # PROTOCOL 1.4: what marketing channels ask for


class QxtClient:
    """A client for one account of a QXT gateway. Works on asyncio and on trio.

    Use it as an async context manager, or call `aclose` at the end. One client serves any number of tasks of one
    event loop, the first that it is used in; in any other it raises `ClientStateError`.

    Args:
        user: login name.
        password: the password; its md5 is made here (PROTOCOL 1). Leave it out if you give `password_md5`.
        base_url: address of the gateway, such as ``http://HOST:PORT/qxt``. There is no default.
        password_md5: the digest instead of the password: 32 hexadecimal digits.
        method: ``POST``, or ``GET``, which has room for about 600 numbers and leaves the digest in the logs of
            whatever stands between (PROTOCOL 1.1).
        max_concurrency: requests in flight at most, and connections.
        max_rate: numbers a second at most, ``None`` for no limit.
        max_request_rate: requests a second at most, ``None`` for no limit.
        timeout: seconds that one request may take in all, from asking for a connection to the end of the answer.
        connect_timeout: seconds until a connection has to stand.
        retry: what to try again and when; see `RetryPolicy`.
        channel_digits: digits of extension that the channel has already, which count towards the limit of 20.
        number_pattern: regular expression for a valid number.
        trust_env: use ``HTTP_PROXY`` and its like from the environment; ignored by default.
        reuse_connections: use a connection for more than one request. ``False`` costs a connection a request, and is
            for a server or proxy that sends answers that nobody asked for; see the page on transports.
        transport: ``None`` for httpx; ``"aiohttp"`` or ``"httpx2"`` (extras of these names); your own
            ``httpx.AsyncClient`` or ``aiohttp.ClientSession``, which stay yours to close and need room for
            `max_concurrency` connections; an httpx transport such as ``ASGITransport``; or a `Transport`.
        treat_429_as_unknown: HTTP 429 leaves the numbers unknown. Without it they were not taken, and are sent again
            when the server says. Set it if what stands between answers 429 also for what it has passed on.

    Raises:
        InvalidConfigurationError: an argument cannot work; the message says which and why.
    """

    def __init__(
        self,
        user: str,
        password: str | None = None,
        *,
        base_url: str,
        password_md5: str | None = None,
        method: Method = "POST",
        max_concurrency: int = 8,
        max_rate: float | None = None,
        max_request_rate: float | None = None,
        timeout: float = 30.0,
        connect_timeout: float = 10.0,
        retry: RetryPolicy | None = None,
        channel_digits: int = 0,
        number_pattern: str = MOBILE_PATTERN,
        trust_env: bool = False,
        reuse_connections: bool = True,
        transport: AnyTransport | None = None,
        treat_429_as_unknown: bool = False,
    ) -> None:
        plain, digest = password and Secret.of(password), password_md5 and Secret.of(password_md5)
        del password, password_md5  # a traceback shows what is left in this frame
        if (plain is None) == (digest is None):
            raise InvalidConfigurationError("give either password or password_md5")
        if digest is not None:
            self._credentials = Credentials.from_digest(user, digest)
        else:
            self._credentials = Credentials.from_password(user, plain or "")
        self._base_url = checked_address(base_url)
        if max_concurrency < 1:
            raise InvalidConfigurationError(f"max_concurrency is {max_concurrency}: at least 1")
        self._method: Method = checked_method(method)
        self._timeout = checked_seconds("timeout", timeout)
        checked_seconds("connect_timeout", connect_timeout)
        self._max_concurrency = max_concurrency
        self._retry = retry or RetryPolicy()
        self._channel_digits = channel_digits
        self._number_pattern = NumberFilter(number_pattern).pattern
        opened, self._owns_transport = open_transport(
            transport,
            max_concurrency=max_concurrency,
            connect_timeout=connect_timeout,
            trust_env=trust_env,
            plain_http=self._base_url.startswith("http:"),
            reuse_connections=reuse_connections,
        )
        self._dispatcher = Dispatcher(
            opened,
            self._base_url,
            anyio.Semaphore(max_concurrency, fast_acquire=True),
            RateLimiter(max_request_rate=max_request_rate, max_rate=max_rate),
            treat_429_as_unknown=treat_429_as_unknown,
        )
        # A few batches are recorded while all connections are at work, or each of those would lie idle for as long as a
        # commit takes; not more, since what is recorded and not sent when the process dies is unknown.
        self._recording = anyio.Semaphore(max_concurrency + max_concurrency // 4, fast_acquire=True)

    @property
    def user(self) -> str:
        """The account's login name."""
        return self._credentials.user

    @property
    def max_concurrency(self) -> int:
        """Requests in flight at most."""
        return self._max_concurrency

    @property
    def number_pattern(self) -> str:
        """What a number has to match."""
        return self._number_pattern

    @property
    def timeout(self) -> float:
        """Seconds that one request may take in all."""
        return self._timeout

    @classmethod
    def from_env(cls, *, environ: Mapping[str, str] = os.environ, **options: Any) -> Self:
        """Make a client from ``QXT_USER``, ``QXT_PASSWORD`` (or ``QXT_PASSWORD_MD5``) and ``QXT_BASE_URL``.

        Args:
            environ: where to read them.
            options: further arguments of `QxtClient`; they win over the environment.

        Raises:
            InvalidConfigurationError: one is missing; the message names it.
        """
        # Of the environment and of what is given nothing is left in this frame that shows a password.
        found, environ = Secret(environ), {}
        for name in ("password", "password_md5"):
            if options.get(name) is not None:
                options[name] = Secret.of(options[name])
        user = options.pop("user", None) or found.reveal().get("QXT_USER")
        base_url = options.pop("base_url", None) or found.reveal().get("QXT_BASE_URL")
        if not user:
            raise InvalidConfigurationError("set QXT_USER in the environment")
        if not base_url:
            raise InvalidConfigurationError("set QXT_BASE_URL in the environment, such as http://HOST:PORT/qxt")
        if options.get("password") is None and options.get("password_md5") is None:
            # An empty variable is as good as none; a digest wins, since it is what is sent.
            name = "password_md5" if found.reveal().get("QXT_PASSWORD_MD5") else "password"
            if not found.reveal().get(f"QXT_{name.upper()}"):
                raise InvalidConfigurationError("set QXT_PASSWORD or QXT_PASSWORD_MD5 in the environment")
            options[name] = Secret(found.reveal()[f"QXT_{name.upper()}"])
        return cls(user, base_url=base_url, **options)

    def __repr__(self) -> str:
        if not hasattr(self, "_base_url"):  # in a traceback out of its constructor
            return "<QxtClient, not made>"
        return f"<QxtClient {self._credentials.user!r} at {self._base_url}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections, unless the transport is the caller's. May be called more than once.

        What waits for its turn then, for a place, a rate limit or its next attempt, is not sent, and fails as such.
        """
        if not self._dispatcher.closed:
            if self._owns_transport:
                self._dispatcher.bind()
            self._dispatcher.closed = True
            if self._owns_transport:
                await self._dispatcher.transport.aclose()

    async def balance(self, *, timeout: float | None = None) -> Balance:
        """Ask for the balance (PROTOCOL 3).

        Returns:
            Messages left.

        Raises:
            AuthenticationError: the account is not accepted.
            NotSentError: the gateway could not be reached; asking again is safe, and was tried as `retry` says.
            OutcomeUnknownError: no answer, or none that can be understood. Asking again is safe too.

        Cancelling is safe at any time.
        """
        self._check_open()
        self._dispatcher.bind()
        form = balance_form(self._credentials)
        limit = self._timeout if timeout is None else checked_seconds("timeout", timeout)
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._ask_balance(form, limit)
            except NotSentError as error:
                if attempt >= self._retry.attempts or self._dispatcher.closed:
                    raise
                await anyio.sleep(self._retry.delay(attempt, error, random.random))

    async def _ask_balance(self, form: FormTemplate, timeout: float) -> Balance:
        request = form.request(b"", method=self._method, base_url=self._base_url)
        exchange = Exchange(request, self._base_url, lambda _: True, timeout=timeout)
        async with self._dispatcher.slots:
            await self._dispatcher.rate_limiter.wait(0)
            stopped = await self._dispatcher.exchange(exchange)
        if exchange.body is None:
            raise stopped_error(exchange, stopped)
        if (refused := read_status(exchange)) is not None and refused.error is not None:
            raise refused.error
        return parse_balance(exchange.body)

    async def send(
        self,
        numbers: str | Iterable[str],
        text: str | Message,
        *,
        extno: str | None = None,
        addseqno: bool = False,
        suppressed: Container[str] = (),
        substitute: bool = False,
        check_balance: bool = False,
        method: Method | None = None,
        timeout: float | None = None,
        retry: RetryPolicy | None = None,
        on_result: Callable[[BatchResult], None] | None = None,
    ) -> SentBatch:
        """Send one text to one number or up to 1000, in one request (PROTOCOL 1).

        Args:
            numbers: one number, or an iterable of them. Invalid, repeated and suppressed ones are left out.
            text: the text, or a `Message`.
            extno: extension number, digits.
            addseqno: see `Message`.
            suppressed: phones to leave out, as 11 digits (what `phones.canonical` gives).
            substitute: replace the usual characters outside GBK (`texts.SUBSTITUTIONS`) instead of refusing.
            check_balance: ask for the balance first (an empty account takes texts and delivers nothing, PROTOCOL 2.2).
            method: for this call instead of the client's.
            timeout: likewise.
            retry: likewise.
            on_result: told the outcome when it is settled, even if this call is being cancelled then.

        Returns:
            What became of the numbers, if anything was accepted; `SentBatch.mid` is the message id.

        Raises:
            InvalidRequestError: the text, the numbers or the extension number cannot be sent. No I/O was done.
            InsufficientBalanceError: with `check_balance`; nothing was sent.
            RefusedError: nothing was accepted, the gateway said no.
            NotSentError: nothing was accepted, and it provably never left, after the attempts that `retry` allows.
            OutcomeUnknownError: nothing was accepted, some may have arrived. Do not simply send again.

        The error's `result` has the outcome number by number.

        Cancelling: if the answer is there the outcome is settled, otherwise it is unknown, or not sent if the body
        had not begun to leave; `on_result` is told which.
        """
        self._check_open()
        self._dispatcher.bind()
        message = _message(text, extno=extno, addseqno=addseqno, substitute_characters=substitute)
        form = send_form(self._credentials, message, channel_digits=self._channel_digits)
        clean, number_filter = self._screened(numbers, suppressed)
        chosen = self._method if method is None else checked_method(method)
        limit = self._timeout if timeout is None else checked_seconds("timeout", timeout)
        if chosen == "GET" or len(clean) > MAX_NUMBERS:
            form.request(join(clean), method=chosen, base_url=self._base_url)  # refused before any I/O
        if check_balance:
            await self._check_balance(len(clean), message)
        order = BatchSend(0, clean, form, chosen, limit, retry or self._retry, on_result, number_filter=number_filter)
        result = await order.execute(self._dispatcher)
        if isinstance(result, SentBatch):
            return result
        error = cast("QxtError", result.error)  # never None where nothing was accepted
        error.result = result
        raise error

    async def send_recorded(
        self, take: Callable[[], Awaitable[ClaimedBatch | None]], *, on_result: Callable[[BatchResult], None]
    ) -> BatchResult | None:
        """Send a batch that has to be on record before it leaves: one request, never repeated, nothing left out.

        Args:
            take: called when the rate limit allows another request and there is a connection to use, or is about to be
                (a quarter of `max_concurrency` is taken ahead); it records the batch and returns it.
                ``None`` if there is nothing to send.
            on_result: told the outcome when it is settled, even if this call is being cancelled then.

        Returns:
            What became of it, whatever that is; ``None`` if there was nothing to send. ``attempts`` is 0 if it waited
            for more than a second, after it was recorded, for a connection to use: it was not sent, record it anew.

        Raises:
            InvalidRequestError: the batch cannot be sent as it is. No I/O was done; `on_result` was not told, or told
                that it was not sent.

        Cancelling: as for `send`.
        """
        self._check_open()
        self._dispatcher.bind()
        async with self._recording:
            async with self._dispatcher.rate_limiter.turn() as spend:
                batch = await take()
                if batch is None:
                    return None
                spend(len(batch.numbers))
                turn = anyio.current_time()
            form = send_form(self._credentials, batch.message, channel_digits=self._channel_digits)
            order = BatchSend(
                0,
                batch.numbers,
                form,
                self._method,
                self._timeout,
                NO_RETRIES,
                on_result,
                until=batch.until,
                turn=turn,
            )
            return await order.execute(self._dispatcher)

    def stream_bulk(
        self,
        numbers: NumberSource,
        text: str | Message,
        *,
        extno: str | None = None,
        addseqno: bool = False,
        deduplicate: bool = True,
        suppressed: Container[str] = (),
        substitute: bool = False,
        batch_size: int = MAX_NUMBERS,
        min_batch: int = _MIN_BATCH,
        max_concurrency: int | None = None,
        method: Method | None = None,
        timeout: float | None = None,
        retry: RetryPolicy | None = None,
        keep_invalid: bool = False,
        on_result: Callable[[BatchResult], None] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> BulkStream:
        """Send one text to any number of numbers, and get the batches as they are settled, in constant memory.

        ``async with client.stream_bulk(…) as batches: async for batch in batches: …``

        Args:
            numbers: any iterable or async iterable; it is read no faster than its batches are sent.
            text: the text, or a `Message`.
            extno: extension number, digits.
            addseqno: see `Message`.
            deduplicate: leave out the numbers of phones that came before. What was met is remembered: about 7 bytes a
                number with the extra ``compact``, 56 without.
            suppressed: phones to leave out, as 11 digits (what `phones.canonical` gives).
            substitute: replace the usual characters outside GBK instead of refusing.
            batch_size: numbers in a request at most.
            min_batch: numbers in a request at least, if the total allows (PROTOCOL 1.4).
            max_concurrency: batches of this send in flight at most; never more than the client's.
            method: for this call instead of the client's.
            timeout: likewise.
            retry: likewise.
            keep_invalid: keep what was invalid in ``batches.number_filter.invalid``, not only count it.
            on_result: told each outcome when it is settled, even if the send is being cancelled then.
            on_progress: told how far the send is, after each batch.

        Returns:
            A `BulkStream`. Failed and unknown batches are values, not exceptions.

        Raises:
            InvalidRequestError: at once, before any I/O: text, extension number or options cannot work.
            AccountRefusedError, UnexpectedStatusError: from the iteration, after all settled batches: one batch met
                what every batch would meet (password, extension number; HTTP 403). No further batch was begun.
            BulkStoppedError: likewise, when `numbers`, `on_result` or `on_progress` raised.
        """
        self._check_open()
        message = _message(text, extno=extno, addseqno=addseqno, substitute_characters=substitute)
        form = send_form(self._credentials, message, channel_digits=self._channel_digits)
        chosen = self._method if method is None else checked_method(method)
        limit = self._timeout if timeout is None else checked_seconds("timeout", timeout)
        number_filter = self._number_filter(deduplicate=deduplicate, suppressed=suppressed, keep_invalid=keep_invalid)
        batches = Batches(numbers, number_filter, size=batch_size, minimum=min(min_batch, batch_size))
        if self._number_pattern == MOBILE_PATTERN:
            # A GET that is too long for its URL would fail in every batch: better before the first.
            full = b",".join([b"0" * 11] * batch_size)
            form.request(full, method=chosen, base_url=self._base_url)
        concurrency = self._max_concurrency if max_concurrency is None else min(max_concurrency, self._max_concurrency)
        if concurrency < 1:
            raise InvalidConfigurationError(f"max_concurrency is {max_concurrency}: at least 1")

        def order(index: int, batch: Sequence[str], told: Callable[[BatchResult], None]) -> BatchSend:
            return BatchSend(index, batch, form, chosen, limit, retry or self._retry, told)

        return BulkStream(
            batches, self._dispatcher, order, concurrency=concurrency, on_result=on_result, on_progress=on_progress
        )

    async def send_bulk(
        self,
        numbers: NumberSource,
        text: str | Message,
        *,
        check_balance: bool = False,
        **options: Unpack[BulkOptions],
    ) -> BulkResult:
        """Send one text to any number of numbers, and get all results at the end.

        Args:
            numbers: any iterable or async iterable; it is read no faster than its batches are sent.
            text: the text, or a `Message`.
            check_balance: count segments and numbers first and ask whether the balance suffices (PROTOCOL 2.2). The
                numbers have to be a collection then (a list, a set), since they are read twice.
            options: those of `stream_bulk`.

        Returns:
            What became of all numbers; failed and unknown ones are in it, see `BulkResult.raise_for_failures`.

        Raises:
            InvalidRequestError: nothing can be sent this way, or no number is valid. No I/O was done.
            InsufficientBalanceError: with `check_balance`; nothing was sent.
            AccountRefusedError, UnexpectedStatusError, BulkStoppedError: the send stopped early; the
                error's `result` has what was settled before, and in `unsent` what was read from the source and not
                sent.

        Cancelling: no new batch is begun, those under way are given up, and `on_result` is told what became of each.
        """
        began = time.perf_counter()
        options.setdefault("keep_invalid", True)
        stream = self.stream_bulk(numbers, text, **options)
        if check_balance:
            await self._check_bulk_balance(numbers, text, options)
        results: list[BatchResult] = []
        try:
            async with stream:
                async for batch in stream:
                    results.append(batch)  # noqa: PERF401
        except QxtError as error:
            error.result = stream.result(results, time.perf_counter() - began)
            raise
        if not results:
            raise stream.number_filter.nothing_left()
        return stream.result(results, time.perf_counter() - began)

    async def _check_bulk_balance(self, numbers: NumberSource, text: str | Message, options: BulkOptions) -> None:
        if not isinstance(numbers, Collection):
            raise InvalidRequestError(
                "check_balance reads the numbers twice: pass a list or a set, or ask balance() yourself"
            )
        suppressed: Container[str] = options.get("suppressed", ())
        number_filter = self._number_filter(
            deduplicate=options.get("deduplicate", True), suppressed=suppressed, keep_invalid=False
        )
        count = len(number_filter.filter(list(numbers)))
        if not count:
            raise number_filter.nothing_left()
        message = _message(
            text,
            extno=options.get("extno"),
            addseqno=options.get("addseqno", False),
            substitute_characters=options.get("substitute", False),
        )
        await self._check_balance(count, message)

    async def _check_balance(self, count: int, message: Message) -> None:
        needed = count * segments(message.text, addseqno=message.addseqno)
        available = (await self.balance()).sms
        if available < needed:
            raise InsufficientBalanceError(needed, available)

    def _screened(
        self, numbers: str | Iterable[str], suppressed: Container[str]
    ) -> tuple[tuple[str, ...], NumberFilter | None]:
        """The numbers of one request, and the gate that they have passed; one clean number needs none."""
        if isinstance(numbers, str):
            plain = self._number_pattern == MOBILE_PATTERN and is_mobile(numbers)
            if plain and numbers not in suppressed:
                return (numbers,), None
            numbers = [numbers]
        number_filter = self._number_filter(deduplicate=True, suppressed=suppressed, few=True)
        clean = tuple(number_filter.filter(list(numbers)))
        if not clean:
            raise number_filter.nothing_left()
        return clean, number_filter

    def _number_filter(
        self, *, deduplicate: bool, suppressed: Container[str], keep_invalid: bool = True, few: bool = False
    ) -> NumberFilter:
        seen = Deduplicator(self._number_pattern, few=few) if deduplicate else None
        return NumberFilter(self._number_pattern, seen=seen, suppressed=suppressed, keep_invalid=keep_invalid)

    def _check_open(self) -> None:
        if self._dispatcher.closed:
            raise ClientStateError("the client is closed: use it inside its async with block")


def _message(text: str | Message, *, extno: str | None, addseqno: bool, substitute_characters: bool) -> Message:
    if isinstance(text, Message):
        message = text
        if extno is not None or addseqno:
            raise InvalidRequestError("give extno and addseqno in the Message, or the text as a str")
    else:
        message = Message(text, extno=extno, addseqno=addseqno)
    if not substitute_characters:
        return message
    return Message(substitute(message.text), extno=message.extno, addseqno=message.addseqno)
