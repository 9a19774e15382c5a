"""Asking for the balance."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import anyio

from qxt_async.errors import NotSentError
from qxt_async.protocol.answers import parse_balance
from qxt_async.sending.outcomes import read_status, stopped_error
from qxt_async.transports import Exchange

if TYPE_CHECKING:
    from qxt_async.models import Balance
    from qxt_async.sending.batch_send import SendOptions
    from qxt_async.sending.dispatcher import Dispatcher


async def ask_balance(dispatcher: Dispatcher, options: SendOptions) -> Balance:
    """Ask for the balance, as often as the retry policy allows. Raises what `QxtClient.balance` raises."""
    attempt = 0
    while True:
        attempt += 1
        try:
            return await _ask(dispatcher, options)
        except NotSentError as error:
            if attempt >= options.retry.attempts or dispatcher.closed:
                raise
            await anyio.sleep(options.retry.delay(attempt, error, random.random))


async def _ask(dispatcher: Dispatcher, options: SendOptions) -> Balance:
    form = options.form
    url = f"{dispatcher.base_url}/{form.endpoint}"
    exchange = Exchange(options.method, url, form.fill(b""), timeout=options.timeout)
    async with dispatcher.slots:
        await dispatcher.rate_limiter.wait(0)
        stopped = await dispatcher.exchange(exchange)
    if exchange.body is None:
        raise stopped_error(exchange, stopped)
    if (refused := read_status(exchange)) is not None and refused.error is not None:
        raise refused.error
    return parse_balance(exchange.body)
