"""Transports made of what the caller gives, and what cannot be one."""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import sys
from typing import Any

import aiohttp
import anyio
import httpx
import httpx2
import pytest
from anyio import to_thread
from faults.test_fault_matrix import before_the_body
from support import catalogue as c
from support.fault_server import DIGEST, FaultServer, http
from transports.test_conformance import every_transport, open_one, prepare

from qxt_async import QxtClient, RetryPolicy
from qxt_async.errors import (
    ConnectionBrokenError,
    DeadlineExceededError,
    InvalidConfigurationError,
    OutcomeUnknownError,
    UnexpectedStatusError,
    UnusableAnswerError,
)
from qxt_async.transports import RepeatedError
from qxt_async.transports.base import watch

pytestmark = pytest.mark.anyio
HTTP_CLIENTS = (httpx.AsyncClient, httpx2.AsyncClient, aiohttp.ClientSession)
LIBRARIES = [pytest.param(httpx, id="httpx"), pytest.param(httpx2, id="httpx2")]


def client_over(given: Any, base_url: str, **options: Any) -> QxtClient:
    """A client over what is given."""
    options = {"retry": RetryPolicy(3, backoff=0.01), "timeout": 20, **options}
    options["http_client" if isinstance(given, HTTP_CLIENTS) else "transport"] = given
    return QxtClient("someone", password_md5=DIGEST, base_url=base_url, **options)


@pytest.mark.parametrize("library", LIBRARIES)
async def test_a_callers_client_stays_open(library):
    """The caller's own AsyncClient is used, with what it adds, and not closed."""
    with FaultServer() as server:
        async with library.AsyncClient(headers={"X-Tenant": "blue"}, timeout=None) as own:
            for _ in range(2):
                async with client_over(own, server.base_url) as client:
                    assert (await client.send("13800138000", "hello")).mid
            assert not own.is_closed
        assert server.connections == 1
    assert all(("x-tenant", "blue") in [(k.lower(), v) for k, v in r.headers] for r in server.requests)
    assert all(request.valid for request in server.requests)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_callers_client_follows_no_redirect(library, method):
    """Not even one that follows redirects otherwise."""
    with FaultServer() as server, FaultServer() as other:
        server.plan(c.answering(http(b"", "307 Elsewhere", [f"Location: {other.base_url}/smssenderv2"])))
        async with (
            library.AsyncClient(follow_redirects=True) as own,
            client_over(own, server.base_url, method=method) as client,
        ):
            with pytest.raises(UnexpectedStatusError, match="307"):
                await client.send("13800138000", "hello")
    assert other.connections == 0


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_callers_session_stays_open():
    """The caller's own ClientSession is used, whatever it does with errors and encodings, and not closed."""
    with FaultServer() as server:
        server.plan(c.answering(http(b"", "500 Broken")))
        async with aiohttp.ClientSession(raise_for_status=True) as own:
            for _ in range(2):
                async with client_over(own, server.base_url, retry=RetryPolicy(1)) as client:
                    result = await client.send_bulk(["13800138000"], "hello")
            assert result.mids
            assert not own.closed
        assert server.connections == 1


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_session_that_unpacks_is_not_blown_up():
    """What a caller's session would unpack is cut at the limit all the same."""
    with FaultServer() as server:
        server.plan(c.gzip_bomb)
        async with aiohttp.ClientSession() as own, client_over(own, server.base_url) as client:
            with pytest.raises(UnusableAnswerError):
                await client.send("13800138000", "hello")
            assert (await client.send("13800138001", "hello")).mid
        assert server.connections == 2


def repeating(library: Any, inner: Any, kind: str) -> Any:
    """A transport of a caller's that repeats what broke or was answered with a 5xx, as many do; three times at most."""

    class Repeating(library.AsyncBaseTransport):  # type: ignore[misc]
        async def handle_async_request(self, request: Any) -> Any:
            if "read" in kind:  # then the stream that witnesses is not asked again
                await request.aread()
            for _ in range(2):
                with contextlib.suppress(Exception):
                    response = await inner.handle_async_request(request)
                    if response.status_code < 500 or "keeps" in kind:
                        return response
                    await response.aclose()
            return await inner.handle_async_request(request)

        async def aclose(self) -> None:
            await inner.aclose()

    return Repeating()


LOSSES = [c.take_and_close, c.answering(http(b"", "502 Broken"))]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("kind", ["transport", "transport that has read", "client", "client that has read"])
@pytest.mark.parametrize("loss", LOSSES, ids=["closed", "502"])
async def test_row_36_a_transport_that_repeats_is_refused(library, kind, method, loss):
    """It sends once: the second time it gets no body, or does not begin, and the outcome is unknown."""
    transport = repeating(library, library.AsyncHTTPTransport(), kind)
    given = library.AsyncClient(transport=transport) if "client" in kind else transport
    with FaultServer() as server:
        server.plan(loss)
        async with client_over(given, server.base_url, method=method) as client:
            with pytest.raises(ConnectionBrokenError, match="RepeatedError"):
                await client.send("13800138000", "hello")
            await given.aclose()
        await to_thread.run_sync(server.wait_for, lambda: server.connections == 3)
        await to_thread.run_sync(server.settle)
    assert server.taken == {"13800138000": 1}
    assert sum(request.whole and bool(request.fields) for request in server.requests) == 1


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("loss", LOSSES, ids=["closed", "502"])
async def test_row_36_a_middleware_that_repeats_is_refused(method, loss):
    """Neither a POST nor a GET leaves twice through a session of aiohttp with such a middleware."""

    async def repeat(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        for _ in range(2):
            with contextlib.suppress(aiohttp.ClientError):
                response = await handler(request)
                if response.status < 500:
                    return response
        return await handler(request)

    with FaultServer() as server:
        server.plan(loss)
        async with (
            aiohttp.ClientSession(middlewares=[repeat]) as own,
            client_over(own, server.base_url, method=method) as client,
        ):
            with pytest.raises(OutcomeUnknownError):
                await client.send("13800138000", "hello")
        # Ours stands in for the session's middlewares with a GET; what was answered in full leaves its connection.
        connections = 1 if method == "GET" else 3 if loss is c.take_and_close else 2
        await to_thread.run_sync(server.wait_for, lambda: server.connections == connections)
        await to_thread.run_sync(server.settle)
    assert server.taken == {"13800138000": 1}


@pytest.mark.parametrize("library", LIBRARIES)
async def test_row_36_the_answer_after_a_refused_repetition_is_not_believed(library):
    """A transport that catches the refusal and hands out an earlier answer, or one of its own, settles nothing."""

    class Stubborn(library.AsyncBaseTransport):  # type: ignore[misc]
        async def handle_async_request(self, request: Any) -> Any:
            for _ in range(2):
                with contextlib.suppress(RepeatedError):
                    assert await anext(aiter(request.stream))
            return library.Response(404)

    async with client_over(Stubborn(), "http://gateway.test/qxt") as client:
        with pytest.raises(ConnectionBrokenError, match="a second time"):
            await client.send("13800138000", "hello")


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("given", ["client", "transport"])
async def test_an_unasked_answer_before_the_body_is_seen_through_what_is_given(library, given):
    """Also in the caller's own pool the connection is looked at when the body is asked for."""
    with FaultServer() as server:
        server.plan(c.unasked(http(b"", "404 No")))
        own = library.AsyncClient() if given == "client" else library.AsyncHTTPTransport()
        async with client_over(own, server.base_url) as client:
            await client.send("13800138000", "hello")
            with before_the_body(server, "idle"):
                result = await client.send("13800138001", "hello")
            await own.aclose()
        await to_thread.run_sync(server.settle)
    assert (result.outcome, result.attempts) == ("accepted", 2)
    assert server.taken == {"13800138000": 1, "13800138001": 1}


@pytest.mark.parametrize("library", LIBRARIES)
async def test_each_request_of_a_callers_pool_is_looked_at_on_its_own_connection(library):
    """A request beside another one that is under way in the same pool goes out."""
    with FaultServer() as server:
        server.plan(c.answer_late)
        async with (
            library.AsyncClient() as own,
            client_over(own, server.base_url) as client,
            anyio.create_task_group() as group,
        ):
            group.start_soon(client.send, "13800138000", "hello")
            await to_thread.run_sync(server.wait_for, lambda: len(server.requests) == 1)
            result = await client.send("13800138001", "hello")
            server.release()
    assert (result.outcome, result.attempts) == ("accepted", 1)
    assert server.taken == {"13800138000": 1, "13800138001": 1}


@pytest.mark.parametrize("library", LIBRARIES)
async def test_an_answer_of_a_connection_that_never_had_the_body_is_not_ours(library):
    """Where httpcore cannot write the headers it reads on all the same; what it finds was there before."""

    class Early(library.AsyncBaseTransport):  # type: ignore[misc]
        calls = 0

        async def handle_async_request(self, request: Any) -> Any:
            self.calls += 1
            if self.calls == 1:
                return library.Response(404, extensions={"network_stream": None})
            assert await anext(aiter(request.stream))
            return library.Response(200, text="ok:7:13800138000")

    async with client_over(Early(), "http://gateway.test/qxt") as client:
        sent = await client.send("13800138000", "hello")
    assert (sent.mid, sent.attempts) == ("7", 2)


@pytest.mark.parametrize("library", LIBRARIES)
async def test_over_a_mock_transport(library):
    """A transport without connections is one too; a distrusted answer has no connection to end."""

    def answer(request: Any) -> Any:
        assert request.headers["content-type"] == "application/x-www-form-urlencoded; charset=GBK"
        return library.Response(200, text="ok:7:13800138000")

    async with client_over(library.MockTransport(answer), "http://gateway.test/qxt") as client:
        assert (await client.send("13800138000", "hello")).mid == "7"
        with pytest.raises(UnusableAnswerError, match="numbers that this request did not send"):
            await client.send("13800138001", "hello")


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("wrapped", [True, False])
async def test_over_an_asgi_application(library, wrapped):
    """An application in the same process answers, through an ASGITransport or a client over one."""
    bodies: list[bytes] = []

    async def application(_scope: Any, receive: Any, send: Any) -> None:
        bodies.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        body = b"ok:7:13800138000" if len(bodies) == 1 else b"x" * 300_000
        await send({"type": "http.response.body", "body": body})

    transport = library.ASGITransport(application)
    given = library.AsyncClient(transport=transport) if wrapped else transport
    async with client_over(given, "http://gateway.test/qxt") as client:
        assert (await client.send("13800138000", "hello")).mid == "7"
        with pytest.raises(UnusableAnswerError):
            await client.send("13800138000", "hello")
    assert bodies[0].endswith(b"&tele=13800138000&password=" + DIGEST.encode())
    if wrapped:
        await given.aclose()


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/2"])
async def test_over_a_transport_of_unknown_making(library, version):
    """Where the parser cannot be asked whether bytes are left, an HTTP/1 connection is ended, to be safe."""
    ended: list[str] = []

    class Stream:
        def get_extra_info(self, name: str) -> None:
            ended.append(name)

    def answer(_: Any) -> Any:
        extensions = {"http_version": version, "network_stream": Stream()}
        return library.Response(200, text="ok:7:13800138000", extensions=extensions)

    async with client_over(library.MockTransport(answer), "http://gateway.test/qxt") as client:
        assert (await client.send("13800138000", "hello")).mid == "7"
    assert ended == (["socket"] if version == b"HTTP/1.1" else [])


@every_transport
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("given", ["own", "caller's"])
async def test_no_logger_sees_the_credential(name, method, given, caplog):
    """No record of any logger, at any level, has the digest, the text or the number; not even the library's own."""
    caplog.set_level(logging.DEBUG)
    for logger in ("httpx", "httpcore", "httpx2", "httpcore2", "aiohttp", "asyncio"):
        caplog.set_level(logging.DEBUG, logger)
    libraries: dict[str, Any] = {
        "httpx": httpx.AsyncClient,
        "httpx2": httpx2.AsyncClient,
        "aiohttp": aiohttp.ClientSession,
    }
    transport: Any = name if given == "own" else libraries[name]()
    with FaultServer() as server:
        server.plan(c.take_and_close)
        async with client_over(transport, server.base_url, method=method) as client:
            result = await client.send_bulk(["13800138000"], "%E4-canary", batch_size=100)
            assert len(result.unknown) == 1
            await client.send("13800138001", "%E4-canary")
            await client.balance()
        if given != "own":
            await (transport.close() if name == "aiohttp" else transport.aclose())
    assert caplog.records
    told = "\n".join(f"{record.getMessage()} {record.args!r} {record.exc_text}" for record in caplog.records)
    for secret in (DIGEST, "canary", "1380013800"):
        assert secret not in told


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_other_records_of_the_library_pass_as_they_are(library, caplog):
    """What hides the query changes nothing else, whatever form a record has."""
    caplog.set_level(logging.DEBUG)
    async with library.AsyncClient() as own:
        open_one(own)
        logging.getLogger(library.__name__).info("%(a)s and more", {"a": 1})
        logging.getLogger(library.__name__).info("%s of %d", library.URL("http://gateway.test/?password=1"), 2)
        for protocol in ("http11", "http2"):
            core = logging.getLogger(f"{library.__name__.replace('httpx', 'httpcore')}.{protocol}")
            core.debug(f"receive_response_headers {DIGEST}")
            core.debug(f"close {DIGEST[:8]}")
    told = [record.getMessage() for record in caplog.records]
    echoes = ["receive_response_headers ****", f"close {DIGEST[:8]}"]
    assert told == ["1 and more", "http://gateway.test/ of 2", *echoes, *echoes]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("second", [http(b"", "404 No"), http(b"", "429 Slow", ["Retry-After: 0"])])
async def test_an_unasked_answer_in_a_callers_session_is_given_to_nobody(second):
    """It is there before the request has left, so nothing leaves, and the request goes over another connection."""
    with FaultServer() as server:
        server.plan(c.unasked(second))
        async with aiohttp.ClientSession() as own, client_over(own, server.base_url) as client:
            await client.send("13800138000", "hello")
            server.release()
            await to_thread.run_sync(server.wait_for, lambda: bool(server.marks))
            await anyio.sleep(0.01)  # aiohttp has to have read it; it offers nothing to wait for
            result = await client.send("13800138001", "hello")
        assert (result.outcome, result.attempts) == ("accepted", 2)
    assert len(server.requests) == 2
    assert set(server.taken.values()) == {1}


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_distrusted_session_of_aiohttp_closes_after_its_last_request():
    """A session of aiohttp cannot close one idle connection: it goes as a whole, when its other requests are done."""
    with FaultServer() as server:
        server.plan(c.answer_late)
        transport = open_one("aiohttp")
        slow = prepare(server.base_url)
        async with anyio.create_task_group() as group:
            group.start_soon(transport.exchange, slow)
            await to_thread.run_sync(server.wait_for, lambda: len(server.requests) == 1)
            await transport.exchange(prepare(server.base_url, trusted=lambda _: False))
            await transport.exchange(prepare(server.base_url))
            assert (slow.head.status, server.connections) == (0, 3)
            server.release()
        assert slow.head.status == 200
        await to_thread.run_sync(server.wait_for, lambda: server.open == 1)
        await transport.aclose()
        await to_thread.run_sync(server.wait_for, lambda: not server.open)


@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.parametrize("call", ["send", "send_bulk", "balance"])
async def test_aiohttp_on_trio_says_what_to_do(call):
    """It runs on asyncio only; the error names the way out, and nothing is sent."""
    async with client_over("aiohttp", "http://gateway.test/qxt") as client:
        arguments = {"send": ("13800138000", "hello"), "send_bulk": (["13800138000"], "hello"), "balance": ()}[call]
        with pytest.raises(InvalidConfigurationError, match="on trio use the httpx transport"):
            await getattr(client, call)(*arguments)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("name", ["httpx2", "aiohttp"])
async def test_a_missing_extra_says_how_to_install_it(name, monkeypatch):
    """Without the library, its name is an error that says which extra to install; what else there is still works."""
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"qxt_async.transports.{name}", raising=False)
    with pytest.raises(InvalidConfigurationError, match=rf"pip install '\.\[{name}\]'") as caught:
        open_one(name)
    assert isinstance(caught.value.__cause__, ImportError)
    with pytest.raises(InvalidConfigurationError, match="give 'httpx'"):
        open_one(object())


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("given", ["requests", 7, object()], ids=["unknown name", "number", "object"])
async def test_what_cannot_be_a_transport_is_refused(given):
    """Anything else is refused, with the list of what can be one."""
    with pytest.raises(InvalidConfigurationError, match="'httpx', 'httpx2', 'aiohttp'"):
        open_one(given)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("kind", ["client", "transport"])
async def test_a_callers_connections_are_used_once_if_asked_for(library, kind):
    """What the caller gives would use them again; each is ended after its answer."""
    own = library.AsyncClient() if kind == "client" else library.AsyncHTTPTransport()
    with FaultServer() as server:
        async with client_over(own, server.base_url, reuse_connections=False) as client:
            for _ in range(2):
                assert (await client.send("13800138000", "hello")).mid
                await to_thread.run_sync(server.wait_for, lambda: not server.open)
        await own.aclose()
    assert server.connections == 2


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_callers_session_has_to_use_connections_once_by_itself():
    """No connection of a session of aiohttp can be ended: the session has to be made for it, and the error says how."""
    async with aiohttp.ClientSession() as own:
        with pytest.raises(InvalidConfigurationError, match="force_close=True"):
            client_over(own, "http://gateway.test/qxt", reuse_connections=False)
    with FaultServer() as server:
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as own,
            client_over(own, server.base_url, reuse_connections=False) as client,
        ):
            for _ in range(2):
                assert (await client.send("13800138000", "hello")).mid
    assert server.connections == 2


async def test_a_transport_of_ones_own():
    """Any object with the two methods is one; it is its maker's to close."""

    class Own:
        closed = False

        async def exchange(self, exchange: Any) -> None:
            exchange.pull()
            exchange.begin_answer(200, None, None)
            exchange.finish(b"ok:7:13800138000")

        async def aclose(self) -> None:
            self.closed = True

    own = Own()
    async with client_over(own, "http://gateway.test/qxt") as client:
        assert (await client.send("13800138000", "hello")).mid == "7"
    assert not own.closed
    with pytest.raises(InvalidConfigurationError, match="your own transport"):
        client_over(own, "http://gateway.test/qxt", reuse_connections=False)


@pytest.mark.parametrize("keeps", [False, True], ids=["cancelled from outside", "keeps the deadline itself"])
@pytest.mark.parametrize("called", ["", "the system's own"])
async def test_the_deadline_of_a_transport_of_ones_own(keeps, called):
    """It is cancelled at the deadline, unless it says that it keeps it; what it raises by itself keeps its words."""

    class Slow:
        keeps_deadline = keeps

        async def exchange(self, exchange: Any) -> None:
            exchange.pull()
            assert exchange.timeout == 0.01
            if called or keeps:
                raise TimeoutError(called)
            await anyio.sleep_forever()

        async def aclose(self) -> None: ...

    async with client_over(Slow(), "http://gateway.test/qxt", timeout=0.01) as client:
        with pytest.raises(DeadlineExceededError, match=called or r"no answer in 0\.01 s"):
            await client.send("13800138000", "hello")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("system", ["has poll", "has not"])
async def test_news_on_an_idle_connection_are_seen(system, monkeypatch):
    """Where the system knows no poll, select tells whether something has come."""
    if system == "has not":
        monkeypatch.delattr(select, "poll", raising=False)
    with contextlib.ExitStack() as sockets:
        here, there = map(sockets.enter_context, socket.socketpair())
        has_news = watch(here.fileno())
        assert not has_news()
        there.send(b"ok")
        assert has_news()
