"""The simulated gateway: an ASGI application that follows PROTOCOL, and produces faults on request."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import anyio

from qxt_async.models import Reply
from qxt_async.simulator import codec
from qxt_async.simulator.account import Account, RefusedError, user_of
from qxt_async.simulator.control import answer_control
from qxt_async.simulator.decisions import Decision, SendDecider
from qxt_async.simulator.exchange import Exchange, ExchangeOverError
from qxt_async.simulator.fault_plan import FaultPlan
from qxt_async.simulator.faults import ConnectionDroppedError, Fault, Target
from qxt_async.simulator.in_process import GatewayTransport
from qxt_async.simulator.push_plan import PushPlan
from qxt_async.simulator.pushes import Pusher
from qxt_async.simulator.request_log import RequestLog, SimulatedRequest, SimulatedSend, Submission

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from qxt_async.simulator.exchange import ASGIApp, Message, Receive, Send

_NO_FAULT = Fault("")
_FIRST_MID = 6398619  # the mid of the protocol document's example
_ENDPOINTS: dict[str, Target] = {"smssenderv2": "send", "surplus": "balance"}


class SimulatedGateway:
    """A gateway in memory, with one account: a raw ASGI 3 application.

    It serves ``…/smssenderv2`` and ``…/surplus`` under any prefix, by GET and POST, with every refusal of PROTOCOL 2.1,
    and ``/_simulator/…`` for a test in another process. In process (`transport`) it runs on asyncio and trio. For real
    sockets use `serve`: other servers cannot drop connections.

    Args:
        user: the account's login name.
        password: its password; the digest is taken over UTF-8.
        balance: text messages left.
        mms_balance: multimedia messages left; only reported.
        min_batch: refuse requests with fewer numbers (PROTOCOL 1.4).
        channel: the channel's number, as phones see it; a push's ``port`` is this number with the extensions.
        channel_extension: the channel's own extension, part of the 20 digits.
        long_messages: whether the channel has long messages; without them ``addseqno`` splits a text.
        number_pattern: regular expression of one number. A request with any other number is refused as ``mobile``, so
            that a client's mistake shows.
        seed: of all random decisions.
        first_mid: the first message id; each further one is higher by 1.
        push_to: callback address. With it the gateway pushes reports while it is served (ASGI lifespan) or while
            `push_forever` runs.
        push_app: an ASGI application that receives the pushes in this process, at the address `push_to`.
        push: how to push.

    Raises:
        ValueError: `push_to` is no address that can be called.
    """

    def __init__(
        self,
        user: str = "user",
        password: str = "password",  # noqa: S107  (a made-up account of a made-up gateway)
        *,
        balance: int = 10_000_000,
        mms_balance: int = 0,
        min_batch: int = 1,
        channel: str = "10690000",
        channel_extension: str = "",
        long_messages: bool = True,
        number_pattern: str = r"1[3-9][0-9]{9}",
        seed: int = 0,
        first_mid: int = _FIRST_MID,
        push_to: str | None = None,
        push_app: ASGIApp | None = None,
        push: PushPlan | None = None,
    ) -> None:
        self._account = Account(
            user=user,
            password=password,
            balance=balance,
            mms_balance=mms_balance,
            min_batch=min_batch,
            channel=channel,
            channel_extension=channel_extension,
            long_messages=long_messages,
            number_pattern=number_pattern,
        )
        self._initial_balance = balance
        self._seed = seed
        self._random = random.Random(seed)  # noqa: S311  (repeatable on purpose)
        self._faults = FaultPlan(self._random)
        self._log = RequestLog()
        self._decider = SendDecider(self._account, self._faults.failing_numbers, first_mid, self._random)
        self._pusher = Pusher(self._log, self._account, push or PushPlan(), self._random, to=push_to, app=push_app)

    def __repr__(self) -> str:
        return f"<SimulatedGateway: {len(self._log.requests)} requests, {len(self._log.sends)} sends>"

    # --- faults and state ---------------------------------------------------------------------------------------

    def fail_next(self, fault: Fault | str, times: int = 1, *, of: Target = "send") -> None:
        """Let the next requests meet a fault; several calls queue up.

        Args:
            fault: a value or a name.
            times: how many requests.
            of: ``send`` or ``balance``: which requests.

        Raises:
            ValueError: there is no such fault, or `times` is below 1.
        """
        self._faults.fail_next(fault, times, of=of)

    def fail_share(self, fault: Fault | str, share: float, *, of: Target = "send") -> None:
        """Let a share of all requests meet a fault. The same fault again replaces its share; 0 ends it.

        Args:
            fault: a value or a name.
            share: between 0 and 1; all shares together at most 1.
            of: ``send`` or ``balance``: which requests.

        Raises:
            ValueError: there is no such fault, or the shares exceed 1.
        """
        self._faults.fail_share(fault, share, of=of)

    def fail_when(self, predicate: Callable[[Submission], bool], fault: Fault | str) -> None:
        """Let every send for which `predicate` is true meet a fault, unless it meets a queued or shared one.

        Raises:
            ValueError: there is no such fault, or it acts before the send is read.
        """
        self._faults.fail_when(predicate, fault)

    def fail_numbers(self, *numbers: str, code: str = "999") -> None:
        """Answer these numbers with a ``fail:CODE`` line whenever they are sent."""
        self._faults.fail_numbers(numbers, code)

    def clear_faults(self) -> None:
        """End all faults."""
        self._faults.clear()

    def reset(self) -> None:
        """Forget all requests, faults, replies and pushes, restore the balance, and start the seed again."""
        self._log.clear()
        self._faults.clear()
        self._pusher.clear()
        self._account.balance = self._initial_balance
        self._random.seed(self._seed)

    @property
    def balance(self) -> int:
        """Text messages left; may be set."""
        return self._account.balance

    @balance.setter
    def balance(self, messages: int) -> None:
        self._account.balance = messages

    # --- records ------------------------------------------------------------------------------------------------

    @property
    def sends(self) -> tuple[SimulatedSend, ...]:
        """What was taken, in order."""
        return tuple(self._log.sends)

    @property
    def requests(self) -> tuple[SimulatedRequest, ...]:
        """Every request for a send or the balance, refused ones included."""
        return tuple(self._log.requests)

    @property
    def taken(self) -> Counter[str]:
        """How often each number was taken. Do not change it: it is the gateway's own."""
        return self._log.taken

    def times_taken(self, number: str) -> int:
        """How often a number was taken."""
        return self.taken[number]

    @property
    def replies(self) -> tuple[Reply, ...]:
        """The replies that `reply` has made."""
        return tuple(self._log.replies)

    @property
    def acknowledged(self) -> frozenset[tuple[str, str]]:
        """(mid, mobile) of every report and reply that a callback answered with ``ok``."""
        return frozenset(self._pusher.acknowledged)

    @property
    def outstanding(self) -> frozenset[tuple[str, str]]:
        """(mid, mobile) of every report and reply that was not acknowledged yet. Each access computes it anew."""
        return self._pusher.outstanding()

    def stats(self) -> dict[str, int]:
        """Counts of everything, as ``GET /_simulator/stats`` answers."""
        taken = self.taken
        return {
            "requests": len(self._log.requests),
            "refused": sum(bool(request.refusal) for request in self._log.requests),
            "sends": len(self._log.sends),
            "taken": taken.total(),
            "taken_distinct": len(taken),
            "taken_more_than_once": sum(times > 1 for times in taken.values()),
            "pushes_acknowledged": len(self._pusher.acknowledged),
            "pushes_outstanding": len(self.outstanding),
            "push_calls": self._pusher.calls,
            "balance": self.balance,
        }

    # --- pushes -------------------------------------------------------------------------------------------------

    def reply(self, mobile: str, text: str, *, extno: str = "") -> Reply:
        """Let a phone reply; the reply is pushed like a report. May be called from any thread.

        Args:
            mobile: the phone.
            text: of the reply.
            extno: the extension number that the phone replies to.
        """
        plan = self._pusher.plan
        port = self._account.port(extno)
        reply = Reply(self._decider.next_mid(), mobile, text=text, port=port, area=plan.area, city=plan.city)
        self._log.replies.append(reply)
        self._pusher.add_reply(reply)
        return reply

    async def push_all(self, to: str | None = None, *, app: ASGIApp | None = None, plan: PushPlan | None = None) -> int:
        """Push everything outstanding until each is answered ``ok`` or has had all its attempts.

        Args:
            to: callback address, instead of `push_to`.
            app: an ASGI application that receives the pushes in this process, instead of `push_app`.
            plan: how, instead of the gateway's own plan.

        Returns:
            How many reports and replies were acknowledged by this call; `outstanding` has the rest. If it is cancelled,
            the pushes under way stay outstanding.

        Raises:
            ValueError: there is no callback address.
        """
        return await self._pusher.push_all(to, app, plan)

    async def push_forever(self) -> None:
        """Push reports and replies as they come, until cancelled. A served gateway does this by itself.

        Raises:
            ValueError: the gateway has no `push_to`.
        """
        await self._pusher.push_forever()

    # --- serving ------------------------------------------------------------------------------------------------

    def transport(self) -> GatewayTransport:
        """An httpx transport that reaches this gateway without a socket, under any host name."""
        return GatewayTransport(self)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise NotImplementedError("the simulated gateway speaks HTTP only")
        exchange = Exchange(scope, receive, send)
        path: str = scope["path"]
        _, control, action = path.rpartition("/_simulator/")
        endpoint = path.rpartition("/")[2]
        try:
            if control:
                await answer_control(self, exchange, action)
            elif endpoint not in _ENDPOINTS:
                await exchange.answer(b"no such address", status=404)
            elif exchange.method not in ("GET", "POST"):
                await exchange.answer(b"", status=405, headers=(("allow", "GET, POST"),))
            else:
                await self._serve(exchange, endpoint)
        except ExchangeOverError:
            return

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        async with anyio.create_task_group() as group:
            if self._pusher.to is not None:
                group.start_soon(self.push_forever)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            group.cancel_scope.cancel()
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, exchange: Exchange, endpoint: str) -> None:
        target = _ENDPOINTS[endpoint]
        fault = self._faults.draw(target) or _NO_FAULT
        unread = SimulatedRequest(endpoint=endpoint, method=exchange.method, fault=fault.name, complete=False)
        if fault.unread:
            self._log.requests.append(unread)
            await exchange.perform(fault, b"")
            return
        try:
            fields = codec.parse_form(await exchange.form())
        except (ExchangeOverError, ConnectionDroppedError):
            self._log.requests.append(unread)
            raise
        decision = self._decide(target, fields, fault)
        self._log.sends.extend(decision.sends)
        self._log.requests.append(
            SimulatedRequest(
                endpoint=endpoint,
                method=exchange.method,
                user=user_of(fields),
                numbers=decision.numbers,
                taken=sum(send.count for send in decision.sends),
                refusal=decision.refusal,
                fault=decision.fault.name,
            )
        )
        await self._pusher.add_reports(decision.sends)
        await exchange.perform(decision.fault, decision.answer())

    def _decide(self, target: Target, fields: dict[str, bytes], fault: Fault) -> Decision:
        account = self._account
        try:
            account.authenticate(fields)
            if target == "balance":
                lines = [f"ok:sms:{account.balance}:mms:{account.mms_balance}"]
                return Decision(fault, refusal=fault.error or "", lines=lines)
            submission = account.check(fields)
        except RefusedError as refused:
            return Decision(fault, refusal=refused.description)
        return self._decider.decide(submission, fault if fault.name else self._faults.matching(submission) or fault)
