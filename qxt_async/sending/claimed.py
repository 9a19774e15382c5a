"""Batches of campaigns: each is recorded in the journal as being sent before its request begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from qxt_async.models import repr_count
from qxt_async.protocol.requests import send_form
from qxt_async.sending.batch_send import BatchSend, SendOptions
from qxt_async.sending.retry import NO_RETRIES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from qxt_async.models import BatchResult, Message
    from qxt_async.protocol.requests import Credentials, FormTemplate, Method
    from qxt_async.sending.dispatcher import Dispatcher


@attrs.frozen
class ClaimedBatch:
    """A batch that is recorded as being sent.

    Attributes:
        message: its text, with the options of the text.
        numbers: normalised, at most 1000.
        until: the latest moment to begin its request, on `clocks.boottime`.
    """

    message: Message
    numbers: Sequence[str] = attrs.field(repr=repr_count)
    until: float = attrs.field(kw_only=True)


@attrs.define(eq=False, repr=False)
class ClaimedSender:
    """Sends claimed batches: one request each, never repeated, no number left out. For `qxt_async.campaign`."""

    dispatcher: Dispatcher
    credentials: Credentials
    channel_digits: int = attrs.field(kw_only=True)
    method: Method = attrs.field(kw_only=True)
    timeout: float = attrs.field(kw_only=True)
    _last: tuple[Message, FormTemplate] | None = attrs.field(default=None, init=False)

    async def send(
        self, claim: Callable[[], Awaitable[ClaimedBatch | None]], *, on_result: Callable[[BatchResult], None]
    ) -> BatchResult | None:
        """Claim a batch and send it.

        Args:
            claim: records a batch as being sent and returns it; ``None`` if there is nothing to send. It is called when
                the rate limit allows a request and a connection is free, or will soon be: as many batches as a quarter
                of `max_concurrency` are claimed ahead.
            on_result: called with the outcome as soon as it is known, also when this call is being cancelled.

        Returns:
            The outcome; ``None`` if there was nothing to send. ``attempts`` is 0 if the batch waited more than a second
            for a connection after the claim: it was not sent, and has to be claimed again.

        Raises:
            InvalidRequestError: the batch cannot be sent as it is; nothing was sent. `on_result` was not called, or was
                called with that outcome.
            ClientStateError: the client is closed.

        Cancelling: as for `QxtClient.send`.
        """
        dispatcher = self.dispatcher
        dispatcher.bind()
        async with dispatcher.claimed_slots:
            async with dispatcher.rate_limiter.turn() as spend:
                batch = await claim()
                if batch is None:
                    return None
                turn = spend(len(batch.numbers))
            options = SendOptions(self._form(batch.message), self.method, self.timeout, NO_RETRIES)
            send = BatchSend(0, batch.numbers, options, on_result, until=batch.until, turn=turn)
            return await send.execute(dispatcher)

    def _form(self, message: Message) -> FormTemplate:
        """Prepare the form of a text. The batches of a campaign often have the same text: it is encoded once."""
        if self._last is None or self._last[0] != message:
            form = send_form(
                self.credentials,
                message.text,
                extno=message.extno,
                addseqno=message.addseqno,
                channel_digits=self.channel_digits,
            )
            self._last = message, form
        return self._last[1]
