"""What all requests of one client share: connections, rate limits, the event loop."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING

import anyio

from qxt_async import errors
from qxt_async.runtime.tasks import current_loop
from qxt_async.transports import NeverConnectedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qxt_async.runtime.secret import Secret
    from qxt_async.sending.rate_limit import RateLimiter
    from qxt_async.transports import Exchange, Transport

GIVEN_MIDS = 10_000  # at 100 requests a second, those of the last 100 seconds; 2 MB


class GivenMids:
    """Remembers which mids each GET was given: a cache in between would give the same mid again.

    Only digests are kept, since the address of a GET has the text and the password's digest.
    """

    def __init__(self) -> None:
        self._digests: OrderedDict[bytes, None] = OrderedDict()

    def note(self, form: Secret[bytes], mids: Sequence[str]) -> bool:
        """Note the mids of an answer.

        Returns:
            Whether the same form was given one of these mids before.
        """
        known = False
        for mid in mids:
            digest = hashlib.blake2b(b"%b\n%b" % (form.reveal(), mid.encode()), digest_size=16).digest()
            known = known or digest in self._digests
            self._digests[digest] = None
            self._digests.move_to_end(digest)
            if len(self._digests) > GIVEN_MIDS:
                self._digests.popitem(last=False)
        return known


class Dispatcher:
    """Sends the requests of one client, and of those made of it by `QxtClient.with_options`.

    Args:
        transport: sends one request.
        base_url: the gateway's address, without a slash at the end.
        owns_transport: whether `aclose` closes the transport.
        max_concurrency: the largest number of requests in flight.
        rate_limiter: the rate limits.
        treat_429_as_unknown: whether the gateway may have taken a request that was answered with HTTP 429.

    Attributes:
        slots: one for each request that may be in flight. The transport's pool is as large, so no request waits there.
        claimed_slots: one for each batch that may be recorded as being sent, see `ClaimedSender`.
        given_mids: the mids that GETs were given.
        closed: whether the client is closed. Requests that wait are not sent then.
    """

    def __init__(
        self,
        transport: Transport,
        base_url: str,
        *,
        owns_transport: bool,
        max_concurrency: int,
        rate_limiter: RateLimiter,
        treat_429_as_unknown: bool = False,
    ) -> None:
        self.base_url = base_url
        self.max_concurrency = max_concurrency
        self.slots = anyio.Semaphore(max_concurrency, fast_acquire=True)
        # A few batches are recorded while all connections are in use. Otherwise each connection would be idle for as
        # long as a commit takes. Not more: a batch that is recorded and not sent when the process dies is unknown.
        self.claimed_slots = anyio.Semaphore(max_concurrency + max_concurrency // 4, fast_acquire=True)
        self.rate_limiter = rate_limiter
        self.treat_429_as_unknown = treat_429_as_unknown
        self.given_mids = GivenMids()
        self.closed = False
        self._transport = transport
        self._owns_transport = owns_transport
        self._keeps_deadline: bool = getattr(transport, "keeps_deadline", False)
        self._loop: object = None

    def check_open(self) -> None:
        """Raise `ClientStateError` if the client is closed."""
        if self.closed:
            raise errors.ClientStateError(
                "this client is closed: use it inside its `async with` block, or make another one"
            )

    def bind(self) -> None:
        """Bind the client to the running event loop when it is first used; later, check that it is the same one.

        Raises:
            ClientStateError: the client is closed, or belongs to another event loop.
        """
        self.check_open()
        loop = current_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise errors.ClientStateError(
                "this client was used in another event loop, and its connections belong to that one: nothing was sent. "
                "Make and close a client inside each asyncio.run(), or use one event loop for all calls"
            )

    async def exchange(self, exchange: Exchange) -> Exception | None:
        """Run one exchange until its deadline.

        Returns:
            ``None`` if the answer is there; `TimeoutError` after the deadline; otherwise the error of the transport.
            `exchange` says how far the request came.
        """
        if self.closed:
            return NeverConnectedError("the client was closed")
        try:
            if self._keeps_deadline:
                await self._transport.exchange(exchange)
                return None
            with anyio.move_on_after(exchange.timeout):
                await self._transport.exchange(exchange)
                return None
        except errors.QxtError:
            raise
        except TimeoutError as error:
            if str(error):  # from the system, for a socket; not the deadline
                return error
        # Any error of a transport is the outcome of this request. It must not end other requests.
        except Exception as error:  # noqa: BLE001
            return error
        return TimeoutError(f"no answer in {exchange.timeout:g} s")

    async def aclose(self) -> None:
        """Close the connections that the client has opened. Requests that wait for their turn are not sent."""
        if self.closed:
            return
        if self._owns_transport:
            self.bind()
        self.closed = True
        if self._owns_transport:
            await self._transport.aclose()
