"""A gateway for these tests, with a parser of its own: it stands in httpx's place, without a socket."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote_to_bytes

import anyio
import attrs
import httpx

from qxt_async import QxtClient, RetryPolicy

BASE = "http://gateway.test:8080/qxt"
DIGEST = "5f4dcc3b5aa765d61d8327deb882cf99"  # md5 of "password", by md5sum
TEXT = "【Acme】您好"


def numbers(count: int, start: int = 0) -> list[str]:
    """So many made-up numbers."""
    return [f"138{n:08d}" for n in range(start, start + count)]


@attrs.frozen
class Received:
    """A request as the gateway sees it."""

    method: str
    url: str
    path: str
    headers: dict[str, str]
    names: tuple[str, ...]
    fields: dict[str, str]

    @property
    def tele(self) -> list[str]:
        """The numbers of a send."""
        return self.fields["tele"].split(",")


def ok(mid: str = "7") -> Callable[[Received], str]:
    """Take everything."""
    return lambda received: f"ok:{mid}:{received.fields['tele']}\n"


def fail(*which: str) -> Callable[[Received], str]:
    """Fail these numbers with 999 and take the others; without any, fail all."""

    def answer(received: Received) -> str:
        failed = [number for number in received.tele if number in which or not which]
        taken = [number for number in received.tele if number not in failed]
        lines = [f"fail:999:{','.join(failed)}"] if failed else []
        return "\n".join(lines + ([f"ok:8:{','.join(taken)}"] if taken else []))

    return answer


class Unread:
    """Break before the body is read, so that nothing was sent."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class Gateway(httpx.AsyncBaseTransport):
    """Answers requests by a script, and keeps them.

    Attributes:
        script: an answer for each send in turn: text, bytes, a `httpx.Response`, an exception to break the connection
            with, or a function of what was received that gives one of these. When it is used up, all is taken.
        balance: the answer to a balance query, likewise.
        received: what came.
        gate: set by default; while it is not, sends hang with their request read.
        most: how many requests were in flight at most.
    """

    def __init__(self, *script: Any, balance: Any = "ok:sms:100000:mms:0") -> None:
        self.script = list(script)
        self.balance = balance
        self.received: list[Received] = []
        self.gate = anyio.Event()
        self.gate.set()
        self.in_flight = 0
        self.most = 0
        self.closed = False
        self.arrivals: list[float] = []

    @property
    def sends(self) -> list[Received]:
        """The requests to send."""
        return [received for received in self.received if received.path.endswith("smssenderv2")]

    @property
    def taken(self) -> list[str]:
        """All numbers of all sends, as often as they came."""
        return [number for received in self.sends for number in received.tele]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See httpx."""
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            return await self._handle(request)
        finally:
            self.in_flight -= 1

    async def _handle(self, request: httpx.Request) -> httpx.Response:
        is_send = request.url.path.endswith("/smssenderv2")
        answer = (self.script.pop(0) if self.script else ok()) if is_send else self.balance
        if isinstance(answer, list):
            answer = answer.pop(0)
        if isinstance(answer, Unread):
            raise answer.error
        received = _read(request, b"".join([part async for part in request.stream]))  # type: ignore[union-attr]
        self.received.append(received)
        self.arrivals.append(anyio.current_time())
        await self.gate.wait()
        if callable(answer):
            answer = answer(received)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            return answer
        return httpx.Response(200, content=answer.encode("gbk") if isinstance(answer, str) else answer)

    async def aclose(self) -> None:
        """See httpx."""
        self.closed = True


def _read(request: httpx.Request, body: bytes) -> Received:
    query = request.url.query
    assert not (query and body), "the form is in one place"
    pairs = [field.partition(b"=") for field in (query or body).split(b"&")]
    values = {name.decode(): unquote_to_bytes(value).decode("gbk") for name, _, value in pairs}
    return Received(
        request.method,
        str(request.url),
        request.url.path,
        dict(request.headers),
        tuple(name.decode() for name, _, _ in pairs),
        values,
    )


def client(gateway: Any, **options: Any) -> QxtClient:
    """A client of that gateway that does not wait between attempts."""
    options = {"retry": RetryPolicy(backoff=0), **options}
    options["http_client" if isinstance(gateway, httpx.AsyncClient) else "transport"] = gateway
    return QxtClient("demo", "password", base_url=BASE, **options)


def flat(batches: Iterable[Iterable[str]]) -> list[str]:
    """All numbers of some batches."""
    return [number for batch in batches for number in batch]
