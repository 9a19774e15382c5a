"""The simulator's control addresses, ``/_simulator/…``, for a test in another process.

======================================  ==============================================================================
``GET stats``                           counts, as one JSON object
``GET sends?after=N&limit=M``           the sends from the N-th on (from 0), JSON lines; each has its ``n``
``GET taken``                           ``{"number": …, "times": …}`` for every number, JSON lines
``POST faults``                         a JSON list, each ``{"name": …}`` with ``times`` or ``share``, ``of``
                                        (``send``, ``balance``), ``delay``, ``retry_after``;
                                        or ``{"numbers": […], "code": "999"}``
``POST reply``                          ``{"mobile": …, "text": …, "extno": …}``; the answer has the reply's mid
``POST reset``                          forgets everything
======================================  ==============================================================================

Nothing protects them: use the simulator on the loopback address only.
"""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Any

from qxt_async.simulator import codec
from qxt_async.simulator.faults import Fault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from qxt_async.simulator.exchange import Exchange
    from qxt_async.simulator.gateway import SimulatedGateway

_JSON = (("content-type", "application/json"),)
_JSON_LINES = "application/x-ndjson"
_LINES_A_CHUNK = 1000


async def answer_control(gateway: SimulatedGateway, exchange: Exchange, action: str) -> None:
    """Answer a control request for ``/_simulator/ACTION``: 404 if there is none, 400 if body or query are invalid."""
    answer = _ACTIONS.get((exchange.method, action))
    if answer is None:
        await exchange.answer(b"no such address", status=404)
        return
    try:
        await answer(gateway, exchange)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        await _json(exchange, {"error": f"{type(error).__name__}: {error}"}, status=400)


async def _json(exchange: Exchange, value: Any, *, status: int = 200) -> None:
    await exchange.answer(json.dumps(value).encode("ascii"), status=status, headers=_JSON)


async def _stats(gateway: SimulatedGateway, exchange: Exchange) -> None:
    await _json(exchange, gateway.stats())


async def _sends(gateway: SimulatedGateway, exchange: Exchange) -> None:
    fields = codec.parse_form(exchange.query)
    after = int(fields.get("after", b"0"))
    limit = int(fields.get("limit", b"100"))
    if after < 0 or limit < 0:
        raise ValueError("after and limit are not negative")
    names = ("mid", "numbers", "text", "extno", "addseqno", "user", "segments", "delivers")
    rows = (
        {"n": n, **{name: getattr(send, name) for name in names}, "when": send.when.isoformat()}
        for n, send in enumerate(gateway.sends[after : after + limit], after)
    )
    await exchange.answer(
        "".join(f"{json.dumps(row)}\n" for row in rows).encode("ascii"), headers=(("content-type", _JSON_LINES),)
    )


async def _taken(gateway: SimulatedGateway, exchange: Exchange) -> None:
    # A copy of the items: the gateway may take more while they are sent.
    items = iter(list(gateway.taken.items()))

    async def chunks() -> AsyncIterator[bytes]:
        while lines := [
            f'{{"number": "{number}", "times": {times}}}\n' for number, times in islice(items, _LINES_A_CHUNK)
        ]:
            yield "".join(lines).encode("ascii")

    await exchange.stream(chunks(), content_type=_JSON_LINES)


async def _faults(gateway: SimulatedGateway, exchange: Exchange) -> None:
    wanted: list[dict[str, Any]] = json.loads(await exchange.body())
    for each in wanted:
        if "numbers" in each:
            gateway.fail_numbers(*each["numbers"], code=each.get("code", "999"))
            continue
        fault = Fault.named(each["name"], delay=each.get("delay"), retry_after=each.get("retry_after"))
        of = each.get("of", "send")
        if "share" in each:
            gateway.fail_share(fault, each["share"], of=of)
        else:
            gateway.fail_next(fault, each.get("times", 1), of=of)
    await _json(exchange, {"faults": len(wanted)})


async def _reply(gateway: SimulatedGateway, exchange: Exchange) -> None:
    wanted: dict[str, str] = json.loads(await exchange.body())
    reply = gateway.reply(wanted["mobile"], wanted["text"], extno=wanted.get("extno", ""))
    await _json(exchange, {"mid": reply.mid})


async def _reset(gateway: SimulatedGateway, exchange: Exchange) -> None:
    gateway.reset()
    await _json(exchange, {})


_ACTIONS: dict[tuple[str, str], Callable[[SimulatedGateway, Exchange], Awaitable[None]]] = {
    ("GET", "stats"): _stats,
    ("GET", "sends"): _sends,
    ("GET", "taken"): _taken,
    ("POST", "faults"): _faults,
    ("POST", "reply"): _reply,
    ("POST", "reset"): _reset,
}
