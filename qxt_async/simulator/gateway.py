"""A QXT gateway to test against: an ASGI application that behaves as PROTOCOL says, and misbehaves on request."""

from __future__ import annotations

import random
from itertools import count
from typing import TYPE_CHECKING

import anyio
import attrs

from qxt_async.models import Reply, StatusReport
from qxt_async.simulator import codec
from qxt_async.simulator.account import Account, RefusedError, user_of
from qxt_async.simulator.answering import Exchange, ExchangeOverError
from qxt_async.simulator.books import RequestLog, SimulatedRequest, SimulatedSend, Submission
from qxt_async.simulator.control import answer_control
from qxt_async.simulator.faults import ConnectionDroppedError, Fault, FaultPlan, Target
from qxt_async.simulator.over_httpx import Caller, GatewayTransport
from qxt_async.simulator.pushes import PushPlan, PushRun
from qxt_async.simulator.taking import take

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable

    from qxt_async.simulator.answering import Message, Receive, Send
    from qxt_async.simulator.over_httpx import ASGIApp

__all__ = ["SimulatedGateway"]

_NO_FAULT = Fault("")
_FIRST_MID = 6398619  # the mid of the protocol document's example
_ENDPOINTS: dict[str, Target] = {"smssenderv2": "send", "surplus": "balance"}


class SimulatedGateway:
    """A gateway in memory, with one account: a raw ASGI 3 application.

    It serves ``…/smssenderv2`` and ``…/surplus`` under any prefix, by GET and POST, with every refusal of PROTOCOL 2.1,
    and ``/_simulator/…`` for a test in another process. In process it works on asyncio and trio (`transport`); over
    sockets run it with `serve`, since other servers cannot drop connections.

    Args:
        user: the account's login name.
        password: its password; the digest is taken over UTF-8.
        balance: messages left, of texts.
        mms_balance: messages left, of the other kind; only told.
        min_batch: refuse requests with fewer numbers (PROTOCOL 1.4).
        channel: the channel's number, as phones see it; a push's ``port`` is that with extensions.
        channel_extension: the channel's own extension, part of the 20 digits.
        long_messages: whether the channel has long messages; without, ``addseqno`` splits.
        number_pattern: regular expression of one number. A request with others is refused as ``mobile``, strictly,
            so that a client's mistake shows.
        seed: of everything that is random here.
        first_mid: the first message id; each further one is higher by 1.
        push_to: callback address; with it, what was taken is reported while the gateway is served (ASGI lifespan) or
            within `pushing`.
        push_app: an ASGI application that takes the pushes in this process; `push_to` is then its address for it.
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
        self._books = RequestLog()
        self._mids = count(first_mid)
        self._replies: list[Reply] = []
        self._acknowledged: set[tuple[str, str]] = set()
        self._push_to = push_to
        self._push_app = push_app
        self._plan = push or PushPlan()
        self._run = PushRun(self._plan, self._random, self._acknowledged)
        if push_to is not None:
            self._caller(push_to, push_app, self._plan)  # refuses an address that cannot be called

    def __repr__(self) -> str:
        return f"<SimulatedGateway: {len(self._books.requests)} requests, {len(self._books.sends)} sends>"

    # --- what it is told ----------------------------------------------------------------------------------------

    def fail_next(self, fault: Fault | str, times: int = 1, *, of: Target = "send") -> None:
        """Let the next requests meet a fault; see `FaultPlan.fail_next`."""
        self._faults.fail_next(fault, times, of=of)

    def fail_share(self, fault: Fault | str, share: float, *, of: Target = "send") -> None:
        """Let a share of all requests meet a fault; see `FaultPlan.fail_share`."""
        self._faults.fail_share(fault, share, of=of)

    def fail_when(self, predicate: Callable[[Submission], bool], fault: Fault | str) -> None:
        """Let sends meet a fault of which `predicate` says so; see `FaultPlan.fail_when`."""
        self._faults.fail_when(predicate, fault)

    def fail_numbers(self, *numbers: str, code: str = "999") -> None:
        """Let these numbers end in a ``fail:CODE`` line whenever they are sent."""
        self._faults.fail_numbers(numbers, code)

    def clear_faults(self) -> None:
        """End all faults."""
        self._faults.clear()

    def reset(self) -> None:
        """Forget everything: books, faults, replies, pushes, what was charged, and start the seed again."""
        self._books.clear()
        self._faults.clear()
        self._replies.clear()
        self._acknowledged.clear()
        self._run.clear()
        self._account.balance = self._initial_balance
        self._random.seed(self._seed)

    @property
    def balance(self) -> int:
        """Messages left; may be set."""
        return self._account.balance

    @balance.setter
    def balance(self, messages: int) -> None:
        self._account.balance = messages

    # --- what it remembers --------------------------------------------------------------------------------------

    @property
    def sends(self) -> tuple[SimulatedSend, ...]:
        """What was taken, in order."""
        return tuple(self._books.sends)

    @property
    def requests(self) -> tuple[SimulatedRequest, ...]:
        """Every request to send or to ask for the balance that was settled, refused ones included."""
        return tuple(self._books.requests)

    @property
    def taken(self) -> Counter[str]:
        """How often each number was taken. Kept between calls: read it, do not change it."""
        return self._books.taken

    def times_taken(self, number: str) -> int:
        """How often a number was taken."""
        return self.taken[number]

    @property
    def replies(self) -> tuple[Reply, ...]:
        """What phones wrote, by `reply`."""
        return tuple(self._replies)

    @property
    def acknowledged(self) -> frozenset[tuple[str, str]]:
        """(mid, mobile) of every report and reply that a callback answered ``ok``."""
        return frozenset(self._acknowledged)

    @property
    def outstanding(self) -> frozenset[tuple[str, str]]:
        """(mid, mobile) of every report and reply that was not acknowledged yet; computed anew on each access."""
        return frozenset(
            {
                *((send.mid, mobile) for send in self.sends if send.delivers for mobile in send.numbers),
                *((reply.mid, reply.number) for reply in self.replies),
            }
            - self._acknowledged
        )

    def stats(self) -> dict[str, int]:
        """Counts of everything, as ``GET /_simulator/stats`` tells them."""
        taken = self.taken
        acknowledged = len(self._acknowledged)
        return {
            "requests": len(self._books.requests),
            "refused": sum(bool(request.refusal) for request in self._books.requests),
            "sends": len(self._books.sends),
            "taken": taken.total(),
            "taken_distinct": len(taken),
            "taken_more_than_once": sum(times > 1 for times in taken.values()),
            "pushes_acknowledged": acknowledged,
            "pushes_outstanding": len(self.outstanding),
            "push_calls": self._run.calls,
            "balance": self.balance,
        }

    # --- pushes -------------------------------------------------------------------------------------------------

    def reply(self, mobile: str, text: str, *, extno: str = "") -> Reply:
        """Let a phone write back; pushed like a report. May be called from any thread.

        Args:
            mobile: the phone.
            text: what it writes.
            extno: the extension number that it writes to.
        """
        reply = Reply(
            str(next(self._mids)),
            mobile,
            text=text,
            port=self._account.port(extno),
            area=self._plan.area,
            city=self._plan.city,
        )
        self._replies.append(reply)
        if self._push_to is not None:
            self._run.add(reply)
        return reply

    async def push_all(self, to: str | None = None, *, app: ASGIApp | None = None, plan: PushPlan | None = None) -> int:
        """Push everything outstanding until each is answered ``ok`` or was tried often enough.

        Args:
            to: callback address, instead of `push_to`.
            app: an ASGI application that takes the pushes in this process, instead of `push_app`.
            plan: how, instead of the gateway's own plan.

        Returns:
            How many reports and replies were acknowledged by this; `outstanding` has the rest. Cancelling leaves
            what was under way outstanding.

        Raises:
            ValueError: no address is known.
        """
        return await self._push(self._unacknowledged(), to, app, plan or self._plan)

    async def push_forever(self) -> None:
        """Push what is taken from now on, as it is taken, until cancelled. Serving the gateway does this by itself.

        Raises:
            ValueError: the gateway has no `push_to`.
        """
        async with self._caller(None, None, self._plan) as caller:
            await self._run.run(caller, forever=True)

    async def _push(
        self, pushed: Iterable[StatusReport | Reply], to: str | None, app: ASGIApp | None, plan: PushPlan
    ) -> int:
        before = len(self._acknowledged)
        run = PushRun(plan, self._random, self._acknowledged)
        for each in pushed:
            run.add(each)
        async with self._caller(to, app, plan) as caller:
            await run.run(caller)
        return len(self._acknowledged) - before

    def _caller(self, to: str | None, app: ASGIApp | None, plan: PushPlan) -> Caller:
        to = to or self._push_to
        if to is None:
            raise ValueError("no callback address: give `to`, or the gateway `push_to`")
        return Caller(
            to, method=plan.method, concurrency=plan.concurrency, timeout=plan.timeout, app=app or self._push_app
        )

    def _reports(self, send: SimulatedSend) -> Iterable[StatusReport]:
        plan = self._plan
        port = self._account.port(send.extno)
        for mobile in send.numbers if send.delivers else ():
            yield StatusReport(
                send.mid, mobile, code=plan.code_of(send.mid, mobile), port=port, area=plan.area, city=plan.city
            )

    def _unacknowledged(self) -> Iterable[StatusReport | Reply]:
        for send in self.sends:
            for report in self._reports(send):
                if (report.mid, report.number) not in self._acknowledged:
                    yield report
        for reply in self.replies:
            if (reply.mid, reply.number) not in self._acknowledged:
                yield reply

    async def _report(self, sends: list[SimulatedSend]) -> None:
        if self._push_to is None:
            return
        reports = [report for send in sends for report in self._reports(send)]
        if self._plan.early and self._random.random() < self._plan.early:
            await self._push(reports, None, None, attrs.evolve(self._plan, delay=(0.0, 0.0), attempts=1))
        for report in reports:
            if (report.mid, report.number) not in self._acknowledged:
                self._run.add(report)

    # --- serving ------------------------------------------------------------------------------------------------

    def transport(self) -> GatewayTransport:
        """An httpx transport that reaches this gateway without a socket; any host will do."""
        return GatewayTransport(self)

    async def __call__(
        self,
        scope: Message,
        receive: Receive,
        send: Send,
    ) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if scope["type"] != "http":
            raise NotImplementedError("the simulated gateway speaks HTTP only")
        exchange = Exchange(scope, receive, send)
        path: str = scope["path"]
        _, control, action = path.rpartition("/_simulator/")
        try:
            if control:
                await answer_control(self, exchange, action)
                return
            endpoint = path.rpartition("/")[2]
            if endpoint not in _ENDPOINTS:
                await exchange.answer(b"no such address", status=404)
            elif exchange.method not in ("GET", "POST"):
                await exchange.answer(b"", status=405, headers=(("allow", "GET, POST"),))
            else:
                await self._serve(exchange, endpoint)
        except ExchangeOverError:
            return

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with anyio.create_task_group() as group:
            if self._push_to is not None:
                group.start_soon(self.push_forever)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            group.cancel_scope.cancel()
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, exchange: Exchange, endpoint: str) -> None:
        target = _ENDPOINTS[endpoint]
        fault = self._faults.draw(target) or _NO_FAULT
        record = SimulatedRequest(endpoint=endpoint, method=exchange.method, fault=fault.name, complete=False)
        if fault.unread:
            self._books.requests.append(record)
            await exchange.perform(fault, b"")
            return
        try:
            fields = codec.parse_form(await exchange.form())
        except (ExchangeOverError, ConnectionDroppedError):
            self._books.requests.append(record)
            raise
        record = attrs.evolve(record, complete=True, user=user_of(fields))
        lines: list[str] = []
        sends: list[SimulatedSend] = []
        try:
            self._account.authenticate(fields)
            if target == "balance":
                lines = [self._surplus(fault)]
            else:
                submission = self._account.check(fields)
                fault = fault if fault.name else self._faults.matching(submission) or _NO_FAULT
                record = attrs.evolve(record, fault=fault.name, numbers=submission.count)
                lines, sends = take(
                    submission,
                    fault,
                    self._faults.failing_numbers,
                    account=self._account,
                    next_mid=lambda: str(next(self._mids)),
                    random=self._random,
                )
        except RefusedError as refused:
            lines = [codec.error_line(refused.description)]
        refusal = "".join(line[6:] for line in lines if line.startswith("error:"))
        self._books.sends.extend(sends)
        self._books.requests.append(attrs.evolve(record, taken=sum(each.count for each in sends), refusal=refusal))
        await self._report(sends)
        if refusal:
            lines = [fault.prefix + lines[0]]
        await exchange.perform(fault, "".join(line + fault.line_end for line in lines).encode(fault.charset))

    def _surplus(self, fault: Fault) -> str:
        if fault.error is not None:
            return codec.error_line(fault.error)
        return codec.surplus_line(self._account.balance, self._account.mms_balance)
