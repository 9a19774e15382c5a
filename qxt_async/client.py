"""`QxtClient`: one account, with the connections and rate limits that all its tasks share."""

from __future__ import annotations

import copy
import os
import time
from typing import TYPE_CHECKING, Self, cast

import attrs

from qxt_async.errors import InsufficientBalanceError, InvalidConfigurationError, QxtError
from qxt_async.models import Message, SentBatch
from qxt_async.protocol.numbers import MOBILE_PATTERN, Deduplicator, NumberFilter
from qxt_async.protocol.requests import MAX_NUMBERS, balance_form, join, send_form
from qxt_async.protocol.texts import segments
from qxt_async.protocol.texts import substitute as substitute_characters
from qxt_async.protocol.validation import checked_count, checked_method, checked_seconds, read_account
from qxt_async.runtime.secret import Secret
from qxt_async.sending.balance import ask_balance
from qxt_async.sending.batch_send import BatchSend, SendOptions
from qxt_async.sending.batching import Batches
from qxt_async.sending.bulk import BulkStream
from qxt_async.sending.claimed import ClaimedSender
from qxt_async.sending.dispatcher import Dispatcher
from qxt_async.sending.rate_limit import RateLimiter
from qxt_async.sending.retry import RetryPolicy
from qxt_async.sending.screening import count_numbers, filter_few
from qxt_async.transports import open_transport

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence
    from types import TracebackType

    from qxt_async.journal import Journal
    from qxt_async.journal.sends import NumberLimit
    from qxt_async.models import Balance, BatchResult, BulkResult, Progress
    from qxt_async.protocol.requests import FormTemplate, Method
    from qxt_async.sending.batching import NumberSource
    from qxt_async.transports import AnyHttpClient, AnyTransport

__all__ = ["QxtClient"]

_MIN_BATCH = 10  # PROTOCOL 1.4: what marketing channels ask for


class QxtClient:
    """A client for one account of a QXT gateway. It works on asyncio and on trio.

    Use it as an async context manager, or call `aclose` at the end. Any number of tasks can use one client. It belongs
    to the event loop in which it is first used; in another one it raises `ClientStateError`.

    Args:
        user: the login name. What is not given of `user`, `password`, `password_md5` and `base_url` comes from the
            environment: ``QXT_USER``, ``QXT_PASSWORD`` or ``QXT_PASSWORD_MD5``, ``QXT_BASE_URL``.
        password: the password. The gateway gets its md5 (PROTOCOL 1).
        base_url: the gateway's address, such as ``http://HOST:PORT/qxt``.
        password_md5: the md5 of the password instead of the password: 32 hexadecimal digits.
        method: ``POST``; or ``GET``, which has room for about 600 numbers, and puts the digest into the logs of each
            server on the way (PROTOCOL 1.1).
        max_concurrency: the largest number of requests in flight, and of connections.
        max_rate: the most numbers per second; ``None`` for no limit.
        max_request_rate: the most requests per second; ``None`` for no limit.
        timeout: seconds for a whole request, from the wait for a connection to the end of the answer.
        connect_timeout: seconds until a connection has to be there.
        retry: when to try again; a `RetryPolicy` with its defaults if ``None``.
        channel_digits: digits of extension that the channel has already; they count towards the limit of 20.
        number_pattern: the regular expression of a valid number.
        trust_env: use the proxies of the environment, such as ``HTTP_PROXY``; by default they are ignored.
        reuse_connections: use a connection for more than one request. ``False`` opens a connection for each request; it
            is for a server or proxy that sends answers that nobody asked for, see the page on transports.
        http_client: your own ``httpx.AsyncClient``, ``httpx2.AsyncClient`` or ``aiohttp.ClientSession``. You close it,
            and it needs room for `max_concurrency` connections.
        transport: ``"httpx"`` (the default), ``"httpx2"`` or ``"aiohttp"`` (extras of these names); a transport of
            httpx or httpx2, such as ``ASGITransport``; or a `Transport`. You close what you give.
        treat_429_as_unknown: numbers of a request that is answered with HTTP 429 are unknown. By default such a request
            counts as not sent, and is sent again when the server says. Set it if a server on the way may answer 429 to
            a request that it has passed on.
        journal: records single sends: those with an idempotency key, with a limit per phone, or all, see `record`. You
            open and close it.
        record: record every single send. Bulk sends are not recorded: use a campaign.
        number_limits: how many texts a phone may get from `send`, counted by the journal over all processes.
        idempotency_ttl: seconds for which a settled send keeps its idempotency key.

    Raises:
        InvalidConfigurationError: an argument is missing or cannot work; the message says which one and why.
    """

    def __init__(
        self,
        user: str | None = None,
        password: str | None = None,
        *,
        base_url: str | None = None,
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
        http_client: AnyHttpClient | None = None,
        transport: AnyTransport | None = None,
        treat_429_as_unknown: bool = False,
        journal: Journal | None = None,
        record: bool = False,
        number_limits: Sequence[NumberLimit] = (),
        idempotency_ttl: float = 86_400.0,
    ) -> None:
        secret, digest = Secret.of_optional(password), Secret.of_optional(password_md5)
        del password, password_md5  # a traceback shows the local variables
        self._credentials, address = read_account(
            Secret(os.environ), user=user, password=secret, password_md5=digest, base_url=base_url
        )
        self._method: Method = checked_method(method)
        self._timeout = checked_seconds("timeout", timeout)
        self._retry = retry or RetryPolicy()
        self._channel_digits = channel_digits
        self._number_pattern = NumberFilter(number_pattern).pattern
        rate_limiter = RateLimiter(max_request_rate=max_request_rate, max_rate=max_rate)
        opened, owns_transport = open_transport(
            transport,
            http_client,
            max_concurrency=checked_count("max_concurrency", max_concurrency),
            connect_timeout=checked_seconds("connect_timeout", connect_timeout),
            trust_env=trust_env,
            plain_http=address.startswith("http:"),
            reuse_connections=reuse_connections,
        )
        self._dispatcher = Dispatcher(
            opened,
            address,
            owns_transport=owns_transport,
            max_concurrency=max_concurrency,
            rate_limiter=rate_limiter,
            treat_429_as_unknown=treat_429_as_unknown,
        )
        self._owns_connections = True
        self._journal = journal
        self._record = record
        self._number_limits = number_limits
        self._idempotency_ttl = checked_seconds("idempotency_ttl", idempotency_ttl)
        if journal is None and (record or number_limits):
            raise InvalidConfigurationError("record and number_limits need a journal: QxtClient(journal=…)")

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        user: str | None = None,
        password: str | None = None,
        base_url: str | None = None,
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
        http_client: AnyHttpClient | None = None,
        transport: AnyTransport | None = None,
        treat_429_as_unknown: bool = False,
        journal: Journal | None = None,
        record: bool = False,
        number_limits: Sequence[NumberLimit] = (),
        idempotency_ttl: float = 86_400.0,
    ) -> Self:
        """Make a client from ``QXT_USER``, ``QXT_PASSWORD`` or ``QXT_PASSWORD_MD5``, and ``QXT_BASE_URL``.

        `environ` has these; it is ``os.environ`` if ``None``. The other arguments are those of `QxtClient`.

        Raises:
            InvalidConfigurationError: an argument is missing or cannot work; the message says which one and why.
        """
        # A traceback shows the local variables.
        found: Secret[Mapping[str, str]] = Secret(os.environ if environ is None else environ)
        secret, digest = Secret.of_optional(password), Secret.of_optional(password_md5)
        del environ, password, password_md5
        credentials, address = read_account(found, user=user, password=secret, password_md5=digest, base_url=base_url)
        return cls(
            credentials.user,
            password_md5=cast("str", credentials.digest),  # stays a `Secret`
            base_url=address,
            method=method,
            max_concurrency=max_concurrency,
            max_rate=max_rate,
            max_request_rate=max_request_rate,
            timeout=timeout,
            connect_timeout=connect_timeout,
            retry=retry,
            channel_digits=channel_digits,
            number_pattern=number_pattern,
            trust_env=trust_env,
            reuse_connections=reuse_connections,
            http_client=http_client,
            transport=transport,
            treat_429_as_unknown=treat_429_as_unknown,
            journal=journal,
            record=record,
            number_limits=number_limits,
            idempotency_ttl=idempotency_ttl,
        )

    def with_options(
        self,
        *,
        method: Method | None = None,
        timeout: float | None = None,
        retry: RetryPolicy | None = None,
        number_pattern: str | None = None,
    ) -> Self:
        """Make a client with other options that shares the connections, the concurrency and the rate limits.

        Closing the new client does nothing: the connections belong to this one. When this client is closed, both are.

        The arguments are those of `QxtClient`; ``None`` keeps the option of this client.

        Raises:
            InvalidConfigurationError: an option cannot work.
            ClientStateError: the client is closed.
        """
        self._dispatcher.check_open()
        derived = copy.copy(self)
        derived._owns_connections = False
        derived._method = self._method if method is None else checked_method(method)
        derived._timeout = self._timeout if timeout is None else checked_seconds("timeout", timeout)
        derived._retry = self._retry if retry is None else retry
        derived._number_pattern = NumberFilter(number_pattern or self._number_pattern).pattern
        return derived

    @property
    def user(self) -> str:
        """The login name of the account."""
        return self._credentials.user

    @property
    def max_concurrency(self) -> int:
        """The largest number of requests in flight."""
        return self._dispatcher.max_concurrency

    @property
    def number_pattern(self) -> str:
        """The regular expression of a valid number."""
        return self._number_pattern

    @property
    def channel_digits(self) -> int:
        """Digits of extension that the channel has already."""
        return self._channel_digits

    @property
    def timeout(self) -> float:
        """Seconds for a whole request."""
        return self._timeout

    def claimed_sender(self, method: Method | None = None, timeout: float | None = None) -> ClaimedSender:
        """Make what sends recorded batches, of campaigns and of sends with a key. Not for other uses.

        Raises:
            ClientStateError: the client is closed.
        """
        self._dispatcher.check_open()
        return ClaimedSender(
            self._dispatcher,
            self._credentials,
            channel_digits=self._channel_digits,
            method=method or self._method,
            timeout=timeout or self._timeout,
        )

    def __repr__(self) -> str:
        if not hasattr(self, "_dispatcher"):  # in a traceback out of its constructor
            return "<QxtClient, not made>"
        return f"<QxtClient {self._credentials.user!r} at {self._dispatcher.base_url}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections, except those of an `http_client` or transport that you gave. It may be called twice.

        Requests that wait then, for a connection, a rate limit or their next attempt, are not sent, and fail as such.
        """
        if self._owns_connections:
            await self._dispatcher.aclose()

    async def balance(self, *, timeout: float | None = None) -> Balance:
        """Ask for the balance (PROTOCOL 3).

        Args:
            timeout: for this call instead of the client's, in seconds.

        Returns:
            The messages that are left.

        Raises:
            AuthenticationError: the gateway does not accept the account.
            NotSentError: the gateway could not be reached, in all attempts that `retry` allows.
            OutcomeUnknownError: there was no answer, or not an answer of a gateway.
            ClientStateError: the client is closed.

        It is safe to cancel it, and to ask again.
        """
        self._dispatcher.bind()
        options = self._options(balance_form(self._credentials), None, timeout, None)
        return await ask_balance(self._dispatcher, options)

    async def send(
        self,
        numbers: str | Iterable[str],
        text: str,
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
        idempotency_key: str | None = None,
        number_limits: Sequence[NumberLimit] | None = None,
    ) -> SentBatch:
        """Send one text to one number, or to up to 1000, in one request (PROTOCOL 1).

        Args:
            numbers: one number, or an iterable of them. Invalid, repeated and suppressed ones are left out.
            text: the text.
            extno: extension number, digits; the gateway appends it to the channel's number.
            addseqno: let the gateway split a long text on channels without long messages, and number the parts.
            suppressed: phones to leave out, as 11 digits (what `protocol.canonical` returns).
            substitute: replace common characters that GBK does not have (`protocol.SUBSTITUTIONS`) instead of refusing.
            check_balance: ask for the balance first. With an empty account, a gateway accepts texts and delivers none
                (PROTOCOL 2.2).
            method: for this call instead of the client's.
            timeout: likewise, in seconds.
            retry: likewise.
            on_result: called with the outcome as soon as it is known, also when this call is being cancelled.
            idempotency_key: 1 to 200 printable characters. However often `send` is called with it, here or in another
                process with the same journal, the text is sent once; see the page on idempotency. Needs a journal.
            number_limits: for this call instead of the client's.

        Returns:
            The outcome, if anything was accepted; its `mid` is the message id. It is `replayed` if an earlier call with
            the same key sent the text.

        Raises:
            InvalidRequestError: the text, the numbers or the extension number cannot be sent; nothing was sent.
            InsufficientBalanceError: with `check_balance`; nothing was sent.
            RefusedError: nothing was accepted: the gateway refused.
            NotSentError: nothing was accepted: the request was certainly not sent, in all attempts that `retry` allows.
            OutcomeUnknownError: nothing was accepted, and some numbers may have been sent. Do not just send again.
            ClientStateError: the client is closed.
            IdempotencyKeyReusedError: the key belongs to another text or other numbers; nothing was sent.
            SendInProgressError: another call with the key did not end within the timeout; this one sent nothing.
            NumberLimitedError: a phone has got as many texts as it may; nothing was sent.
            JournalError: the journal refuses. If it refused the claim, nothing was sent. If it refused the outcome, the
                send is unknown.

        The `result` of these errors has the outcome of each number.

        Cancelling: if the answer is there, the outcome is known. Otherwise it is unknown; or not sent, if the body had
        not begun to leave. `on_result` gets it.
        """
        self._dispatcher.bind()
        text = substitute_characters(text) if substitute else text
        digits = self._channel_digits
        form = send_form(self._credentials, text, extno=extno, addseqno=addseqno, channel_digits=digits)
        options = self._options(form, method, timeout, retry)
        limits = self._number_limits if number_limits is None else number_limits
        recorded = idempotency_key is not None or bool(limits) or self._record
        clean, number_filter = filter_few(numbers, self._number_pattern, () if recorded else suppressed)
        if options.method == "GET" or len(clean) > MAX_NUMBERS:
            form.check_url(self._dispatcher.base_url, join(clean))  # too many numbers are refused by `join`
        if check_balance:
            await self._check_balance(len(clean), text, addseqno=addseqno)
        if recorded:
            message = Message(text, extno=extno, addseqno=addseqno)
            result = await self._send_recorded(
                message, clean, number_filter, suppressed, idempotency_key, limits, options, on_result
            )
        else:
            batch = BatchSend(0, clean, options, on_result, number_filter=number_filter)
            result = await batch.execute(self._dispatcher)
        if isinstance(result, SentBatch):
            return result
        error = cast("QxtError", result.error)  # never None where nothing was accepted
        error.result = result
        raise error

    def stream_bulk(
        self,
        numbers: NumberSource,
        text: str,
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
        """Send one text to any number of numbers, and get each batch when its outcome is known, in constant memory.

        ``async with client.stream_bulk(…) as batches: async for batch in batches: …``

        Args:
            numbers: an iterable or async iterable. It is read no faster than its batches are sent.
            text: the text.
            extno: extension number, digits; the gateway appends it to the channel's number.
            addseqno: let the gateway split a long text on channels without long messages, and number the parts.
            deduplicate: leave out the numbers of phones that came before. They are remembered: about 7 bytes for each
                number with the extra ``compact``, 56 without.
            suppressed: phones to leave out, as 11 digits (what `protocol.canonical` returns).
            substitute: replace common characters that GBK does not have instead of refusing them.
            batch_size: the most numbers in a request.
            min_batch: the fewest numbers in a request, if the total allows it (PROTOCOL 1.4).
            max_concurrency: the most batches of this send in flight; never more than the client's.
            method: for this call instead of the client's.
            timeout: likewise, in seconds.
            retry: likewise.
            keep_invalid: keep the invalid numbers in ``batches.number_filter.invalid``; by default they are counted.
            on_result: called with each outcome as soon as it is known, also when the send is being cancelled.
            on_progress: called after each batch.

        Returns:
            A `BulkStream`. Failed and unknown batches are values, not exceptions.

        Raises:
            InvalidRequestError: at once: the text, the extension number or an option cannot work; nothing was sent.
            ClientStateError: at once: the client is closed.
            AccountRefusedError, UnexpectedStatusError: from the iteration, after all other results: a batch met what
                every batch would meet (password, extension number; HTTP 403). No further batch was begun.
            BulkStoppedError: likewise, when `numbers`, `on_result` or `on_progress` raised.
        """
        self._dispatcher.check_open()
        text = substitute_characters(text) if substitute else text
        digits = self._channel_digits
        form = send_form(self._credentials, text, extno=extno, addseqno=addseqno, channel_digits=digits)
        options = self._options(form, method, timeout, retry)
        seen = Deduplicator(self._number_pattern) if deduplicate else None
        number_filter = NumberFilter(self._number_pattern, seen=seen, suppressed=suppressed, keep_invalid=keep_invalid)
        batches = Batches(numbers, number_filter, size=batch_size, minimum=min(min_batch, batch_size))
        if options.method == "GET" and self._number_pattern == MOBILE_PATTERN:
            # A GET with a URL that is too long would fail in every batch, so it is refused before the first one.
            form.check_url(self._dispatcher.base_url, b",".join([b"0" * 11] * batch_size))
        concurrency = self._dispatcher.max_concurrency
        if max_concurrency is not None:
            concurrency = min(checked_count("max_concurrency", max_concurrency), concurrency)
        return BulkStream(
            batches,
            self._dispatcher,
            options,
            concurrency=concurrency,
            on_result=on_result,
            on_progress=on_progress,
        )

    async def send_bulk(
        self,
        numbers: NumberSource,
        text: str,
        *,
        extno: str | None = None,
        addseqno: bool = False,
        deduplicate: bool = True,
        suppressed: Container[str] = (),
        substitute: bool = False,
        check_balance: bool = False,
        batch_size: int = MAX_NUMBERS,
        min_batch: int = _MIN_BATCH,
        max_concurrency: int | None = None,
        method: Method | None = None,
        timeout: float | None = None,
        retry: RetryPolicy | None = None,
        keep_invalid: bool = True,
        on_result: Callable[[BatchResult], None] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> BulkResult:
        """Send one text to any number of numbers, and get all results at the end.

        The arguments are those of `stream_bulk`. With `check_balance`, the segments and numbers are counted first, and
        the gateway is asked whether the balance suffices (PROTOCOL 2.2); the numbers have to be a collection then (a
        list, a set), since they are read twice. The result has the invalid numbers, unless `keep_invalid` is ``False``.

        Returns:
            The outcome of all numbers. Failed and unknown ones are in it, see `BulkResult.raise_for_failures`.

        Raises:
            InvalidRequestError: nothing can be sent this way, or no number is valid; nothing was sent.
            InsufficientBalanceError: with `check_balance`; nothing was sent.
            AccountRefusedError, UnexpectedStatusError, BulkStoppedError: the send stopped early. The
                `result` of the error has the batches that were sent before, and in `unsent` the numbers that were read
                from the source and not sent.
            ClientStateError: the client is closed.

        Cancelling: no new batch is begun, the batches in flight are cancelled, and `on_result` gets each outcome.
        """
        began = time.perf_counter()
        stream = self.stream_bulk(
            numbers,
            text,
            extno=extno,
            addseqno=addseqno,
            deduplicate=deduplicate,
            suppressed=suppressed,
            substitute=substitute,
            batch_size=batch_size,
            min_batch=min_batch,
            max_concurrency=max_concurrency,
            method=method,
            timeout=timeout,
            retry=retry,
            keep_invalid=keep_invalid,
            on_result=on_result,
            on_progress=on_progress,
        )
        if check_balance:
            count = count_numbers(numbers, self._number_pattern, suppressed, deduplicate=deduplicate)
            await self._check_balance(count, substitute_characters(text) if substitute else text, addseqno=addseqno)
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

    def _options(
        self, form: FormTemplate, method: Method | None, timeout: float | None, retry: RetryPolicy | None
    ) -> SendOptions:
        """Join the options of one call with the client's."""
        return SendOptions(
            form,
            self._method if method is None else checked_method(method),
            self._timeout if timeout is None else checked_seconds("timeout", timeout),
            retry or self._retry,
        )

    async def _send_recorded(
        self,
        message: Message,
        given: tuple[str, ...],
        number_filter: NumberFilter | None,
        suppressed: Container[str],
        key: str | None,
        limits: Sequence[NumberLimit],
        options: SendOptions,
        on_result: Callable[[BatchResult], None] | None,
    ) -> BatchResult:
        """Send what was not sent yet, or return what is recorded."""
        from qxt_async.sending.keyed import make_request, send_recorded

        if self._journal is None:
            raise InvalidConfigurationError("an idempotency key and number_limits need a journal: QxtClient(journal=…)")
        request = make_request(key, message, given, suppressed, ttl=self._idempotency_ttl, limits=limits)
        result = await send_recorded(
            self._journal.single_sends,
            self.claimed_sender(options.method, options.timeout),
            request,
            retry=options.retry,
            on_result=on_result,
        )
        if number_filter is None:
            return result
        return attrs.evolve(
            result,
            invalid=tuple(number_filter.invalid),
            duplicates=number_filter.duplicates,
            suppressed=len(given) - len(request.numbers),
        )

    async def _check_balance(self, count: int, text: str, *, addseqno: bool) -> None:
        needed = count * segments(text, addseqno=addseqno)
        available = (await self.balance()).sms
        if available < needed:
            raise InsufficientBalanceError(needed, available)
