"""What every transport has to do, tested through the seam, on real sockets."""

from __future__ import annotations

import contextlib
import ssl
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import httpx2
import pytest
import trustme
from anyio import to_thread
from support import addresses
from support import catalogue as c
from support.fault_server import DIGEST, FaultServer, http, normal
from support.tls import TlsFront, client_context, server_context

from qxt_async.runtime.secret import Secret
from qxt_async.transports import (
    ANSWER_LIMIT,
    AnswerHead,
    AnswerTooLargeError,
    Exchange,
    NeverConnectedError,
    RepeatedError,
    UnaskedAnswerError,
    base,
    open_transport,
)

LANES = (
    ("asyncio", "httpx"),
    ("trio", "httpx"),
    ("asyncio", "httpx2"),
    ("trio", "httpx2"),
    ("asyncio", "aiohttp"),
)
HTTP_CLIENTS = (aiohttp.ClientSession, httpx.AsyncClient, httpx2.AsyncClient)
FORM = b"user=u&msg=%C4%E3%BA%C3+%2b&tele=13800138000&password=" + DIGEST.encode()
every_transport = pytest.mark.parametrize(("anyio_backend", "name"), LANES)
pytestmark = pytest.mark.anyio


def open_one(name: Any, **options: Any) -> Any:
    """A transport for a few requests to a plain address."""
    settings = {"max_concurrency": 2, "connect_timeout": 10.0, "trust_env": False, "plain_http": True, **options}
    given = {"http_client" if isinstance(name, HTTP_CLIENTS) else "transport": name}
    return open_transport(**given, **settings)[0]


def prepare(
    base_url: str, method: Any = "POST", *, form: bytes = FORM, trusted: Callable[[Exchange], bool] = lambda _: True
) -> Exchange:
    """An exchange as the client prepares it."""
    return Exchange(method, f"{base_url}/smssenderv2", Secret(form), trusted)


@every_transport
async def test_a_post_leaves_as_it_was_prepared(name):
    """Body, request line and headers are these and no others; nothing is encoded twice."""
    with FaultServer() as server:
        transport = open_one(name)
        await transport.exchange(prepare(server.base_url))
        await transport.aclose()
        (request,) = server.requests
    assert request.body == FORM
    assert (request.method, request.target) == ("POST", "/qxt/smssenderv2")
    assert {header.lower(): value for header, value in request.headers} == {
        "host": f"127.0.0.1:{server.port}",
        "accept": "*/*",
        "accept-encoding": "identity",
        "cache-control": "no-store",
        "user-agent": "qxt_async",
        "content-type": "application/x-www-form-urlencoded; charset=GBK",
        "content-length": str(len(FORM)),
    }
    assert len(request.headers) == 7


@every_transport
async def test_a_get_leaves_as_it_was_prepared(name):
    """The query is the form, byte for byte; there is no body and no header about one."""
    with FaultServer() as server:
        transport = open_one(name)
        await transport.exchange(prepare(server.base_url, "GET"))
        await transport.aclose()
        (request,) = server.requests
    assert (request.method, request.target) == ("GET", f"/qxt/smssenderv2?{FORM.decode()}")
    assert {header.lower() for header, _ in request.headers} == {
        "host",
        "accept",
        "accept-encoding",
        "cache-control",
        "user-agent",
    }


@every_transport
async def test_the_answer_is_noted(name):
    """Status, ``Retry-After`` and whether it is encoded are on the exchange, with the body as it came."""
    with FaultServer() as server:
        server.plan(c.answering(http(b"\x1f\x8bno", "503 Busy", ["Retry-After: 7", "Content-Encoding: gzip"])))
        transport = open_one(name)
        first, second = prepare(server.base_url), prepare(server.base_url)
        await transport.exchange(first)
        await transport.exchange(second)
        await transport.aclose()
    assert (first.head, first.body) == (AnswerHead(503, "7", "gzip"), b"\x1f\x8bno")
    assert (second.head, second.body) == (AnswerHead(200), b"ok:00000002:13800138000\n")


@every_transport
async def test_the_witness_sees_the_body_leave(name):
    """``body_started`` is false until the connection stands, and true when the body was asked for."""
    with FaultServer() as server:
        transport = open_one(name)
        seen: list[bool] = []
        exchange = prepare(server.base_url, trusted=lambda e: seen.append(e.body_started) or True)
        assert not exchange.body_started
        await transport.exchange(exchange)
        await transport.aclose()
    assert seen == [True]


@every_transport
@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize(
    "address", [addresses.unresolvable, addresses.closed_port, addresses.full_backlog, addresses.self_signed]
)
async def test_without_a_connection_nothing_is_pulled(name, method, address):
    """Where no connection stands the transport says so, and the witness has seen nothing."""
    with FaultServer() as server, address(server) as base_url:
        transport = open_one(name, connect_timeout=0.1 if address is addresses.full_backlog else 10, plain_http=False)
        exchange = prepare(base_url, method)
        with pytest.raises(NeverConnectedError) as caught:
            await transport.exchange(exchange)
        await transport.aclose()
    assert exchange.body_started is (method == "GET")  # whose form is in its address
    assert DIGEST not in "".join(traceback.format_exception(caught.value))


@every_transport
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_what_is_too_late_stays_here(name, method):
    """A form that must not leave any more does not leave, and the next request is not the worse for it."""
    with FaultServer() as server:
        transport = open_one(name)
        exchange = prepare(server.base_url, method)
        exchange.until = time.monotonic()
        with pytest.raises(Exception, match=r"too late|Failed to send bytes"):
            await transport.exchange(exchange)
        assert not exchange.body_started
        await transport.exchange(prepare(server.base_url, method))
        await transport.aclose()
        await to_thread.run_sync(server.settle)
    assert [request.whole for request in server.requests if request.whole] == [True]


@every_transport
async def test_an_answer_may_have_256_kilobytes(name):
    """An answer of the limit is read whole."""
    with FaultServer() as server:
        server.plan(c.answering(http(b"x" * ANSWER_LIMIT)))
        transport = open_one(name)
        exchange = prepare(server.base_url)
        await transport.exchange(exchange)
        await transport.aclose()
    assert len(exchange.body or b"") == ANSWER_LIMIT


@every_transport
async def test_an_answer_of_a_byte_more_is_given_up_at_once(name):
    """One byte beyond, and the connection is closed, though the server has more to say and does not say it."""
    with FaultServer() as server:
        server.plan(c.answering(http(b"x" * (ANSWER_LIMIT + 1), length=1 << 30)))
        transport = open_one(name)
        exchange = prepare(server.base_url)
        with pytest.raises(AnswerTooLargeError):
            await transport.exchange(exchange)
        assert exchange.body is None
        await to_thread.run_sync(server.wait_for, lambda: not server.open)
        await transport.exchange(prepare(server.base_url))
        await transport.aclose()


@every_transport
@pytest.mark.parametrize("fault", [c.endless_body, c.huge_length])
async def test_an_endless_answer_is_given_up(name, fault):
    """The rest of what is on its way is read and thrown away, and the connection closed."""
    with FaultServer() as server:
        server.plan(fault)
        transport = open_one(name)
        with pytest.raises(AnswerTooLargeError):
            await transport.exchange(prepare(server.base_url))
        await to_thread.run_sync(server.wait_for, lambda: not server.open)
        await transport.aclose()


@every_transport
async def test_a_broken_answer_is_the_librarys_error(name):
    """What breaks after the connection stood is raised as it is, and is not called never connected."""
    with FaultServer() as server:
        server.plan(c.answering(http(b"ok:", length=900), then="close"))
        transport = open_one(name)
        exchange = prepare(server.base_url)
        with pytest.raises(Exception, match=r"(?i)incomplete|not completed|without sending") as caught:
            await transport.exchange(exchange)
        await transport.aclose()
    assert not isinstance(caught.value, NeverConnectedError | AnswerTooLargeError)
    assert exchange.body_started
    assert exchange.body is None


@every_transport
@pytest.mark.parametrize("trust_env", [True, False])
async def test_proxies_of_the_environment_are_used_if_asked_for(name, trust_env, monkeypatch):
    """``HTTP_PROXY`` counts with ``trust_env`` and not without."""
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with FaultServer() as server, FaultServer() as proxy:
        for variable in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.port}")
        transport = open_one(name, trust_env=trust_env)
        await transport.exchange(prepare(server.base_url))
        await transport.aclose()
    assert (len(server.requests), len(proxy.requests)) == ((0, 1) if trust_env else (1, 0))


@every_transport
async def test_redirects_are_not_followed(name):
    """A redirect is an answer like others, and its target sees nothing."""
    with FaultServer() as server, FaultServer() as other:
        server.plan(c.answering(http(b"", "302 Found", [f"Location: {other.base_url}/smssenderv2"])))
        transport = open_one(name)
        exchange = prepare(server.base_url)
        await transport.exchange(exchange)
        await transport.aclose()
    assert exchange.head.status == 302
    assert other.connections == 0


@every_transport
async def test_a_connection_is_used_again(name):
    """The second request goes over the first one's connection, also after a chunked answer."""
    chunked = b"3\r\nok:\r\n0\r\n\r\n"
    with FaultServer() as server:
        server.plan(normal, c.answering(http(chunked, headers=["Transfer-Encoding: chunked"], length=None)))
        transport = open_one(name)
        for _ in range(4):
            await transport.exchange(prepare(server.base_url))
        await transport.aclose()
    assert server.connections == 1


@every_transport
async def test_each_connection_is_used_once_if_asked_for(name):
    """Without reuse each request has a connection of its own, which ends with it."""
    with FaultServer() as server:
        transport = open_one(name, reuse_connections=False)
        for method in ("POST", "GET", "POST"):
            await transport.exchange(prepare(server.base_url, method))
            await to_thread.run_sync(server.wait_for, lambda: not server.open)
        await transport.aclose()
    assert server.connections == 3


@every_transport
async def test_an_untrusted_answer_ends_its_connection(name):
    """When ``on_answer`` says no, the server sees the connection go, and the next request gets another."""
    with FaultServer() as server:
        transport = open_one(name)
        for _ in range(3):
            await transport.exchange(prepare(server.base_url, trusted=lambda _: False))
            await to_thread.run_sync(server.wait_for, lambda: not server.open)
        await transport.exchange(prepare(server.base_url))
        await transport.exchange(prepare(server.base_url))
        await transport.aclose()
    assert server.connections == 4


@contextlib.contextmanager
def tls_front(server: FaultServer, monkeypatch: Any, folder: Path) -> Iterator[tuple[TlsFront, ssl.SSLContext]]:
    """TLS before a server, with a certificate that the system trusts, and a client's context that does."""
    authority = trustme.CA()
    bundle = folder / "authority.pem"
    authority.cert_pem.write_to_path(bundle)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    with TlsFront(server_context(authority), server.port) as front:
        yield front, client_context(authority)


@every_transport
async def test_over_tls(name, monkeypatch, tmp_path):
    """With a certificate that the system trusts, connections are used again, and ended when distrusted."""
    with FaultServer() as server, tls_front(server, monkeypatch, tmp_path) as (front, context):
        given: Any = name
        if name == "aiohttp":  # builds its context when it is imported
            given = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))
        transport = open_one(given, plain_http=False)
        for trusted in (True, True, False, True):
            exchange = prepare(front.base_url, trusted=lambda _, trusted=trusted: trusted)
            await transport.exchange(exchange)
            assert exchange.body is not None
            assert exchange.body.startswith(b"ok:")
        await transport.aclose()
        if name == "aiohttp":
            await given.close()
    assert server.connections == (1 if name == "aiohttp" else 2)


@every_transport
@pytest.mark.parametrize("fault", [c.answer_then_close, c.answer_then_reset])
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_connection_closed_while_idle_is_replaced_silently(name, fault, method):
    """The event loop had no chance to notice, and the request goes over a new connection all the same."""
    with FaultServer() as server:
        server.plan(fault)
        transport = open_one(name)
        await transport.exchange(prepare(server.base_url, method))
        server.release()
        server.wait_for(lambda: bool(server.marks))
        exchange = prepare(server.base_url, method)
        await transport.exchange(exchange)
        await transport.aclose()
    assert exchange.head.status == 200
    assert server.connections == 2
    assert len(server.requests) == 2


@every_transport
async def test_idle_connections_are_closed_before_the_server_would(name, monkeypatch):
    """They are kept for less than the usual 20 s, and what is older is not used."""
    assert base.KEEPALIVE < 20
    monkeypatch.setattr(f"qxt_async.transports.{'aiohttp' if name == 'aiohttp' else 'httpx'}.KEEPALIVE", 0)
    with FaultServer() as server:
        transport = open_one(name)
        await transport.exchange(prepare(server.base_url))
        await transport.exchange(prepare(server.base_url))
        await transport.aclose()
    assert server.connections == 2


class Interrupted(Exchange):
    """An exchange before whose body is given out something happens, while the event loop has no chance to notice."""

    def before(self) -> None:
        """What happens."""

    def pull(self, has_come: Callable[[], bool] | None = None) -> bytes:
        """Let it happen, then give the body out."""
        self.before()
        return super().pull(has_come)


def interrupted(base_url: str, before: Callable[[], object]) -> Exchange:
    """An exchange before whose body is given out something happens."""
    exchange = Interrupted("POST", f"{base_url}/smssenderv2", Secret(FORM))
    exchange.before = before  # type: ignore[method-assign]
    return exchange


RECORD = 1 << 14  # bytes in a record of TLS at most
UNASKED = [http(b"", "429 Slow"), http(b"", "404 No"), http(b"error:mobile"), http(b"ok:7:13800138000"), b"\xb2\xbb"]


@every_transport
@pytest.mark.parametrize("answer", UNASKED, ids=["429", "404", "error", "ok", "bytes"])
@pytest.mark.parametrize("used", [True, False], ids=["used before", "new"])
async def test_the_body_stays_here_if_an_answer_is_there_before(name, used, answer):
    """It would be taken for this request's: nothing is sent, and the connection is not used again."""
    with FaultServer() as server:
        transport = open_one(name)
        if used:
            server.plan(c.unasked(answer))
            await transport.exchange(prepare(server.base_url))
        else:
            server.plan(c.speaking_first(answer))

        def speak() -> None:
            server.release()
            server.wait_for(lambda: bool(server.marks))

        exchange = interrupted(server.base_url, speak)
        with pytest.raises(Exception, match=r"before the request|request body"):
            await transport.exchange(exchange)
        assert (exchange.body_started, exchange.head.status, type(exchange.refused)) == (False, 0, UnaskedAnswerError)
        exchange = prepare(server.base_url)
        await transport.exchange(exchange)
        await transport.aclose()
        await to_thread.run_sync(server.settle)
    assert exchange.head.status == 200
    assert server.connections == 2
    assert sum(request.whole for request in server.requests) == 1 + used


@every_transport
async def test_the_body_stays_here_also_over_tls(name, monkeypatch, tmp_path):
    """What a server says first over TLS, its session tickets, holds up nothing; later bytes do."""
    with FaultServer() as server, tls_front(server, monkeypatch, tmp_path) as (front, context):
        given: Any = name
        if name == "aiohttp":  # builds its context when it is imported
            given = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))
        transport = open_one(given, plain_http=False)
        server.plan(c.unasked(UNASKED[0]))
        await transport.exchange(interrupted(front.base_url, lambda: front.tickets_sent.wait(120)))

        def speak() -> None:
            server.release()
            front.wait_until_passed_on(UNASKED[0])

        exchange = interrupted(front.base_url, speak)
        with pytest.raises(Exception, match=r"before the request|request body"):
            await transport.exchange(exchange)
        assert (exchange.body_started, type(exchange.refused)) == (False, UnaskedAnswerError)
        await transport.aclose()
        if name == "aiohttp":
            await given.close()
        await to_thread.run_sync(server.settle)
    assert sum(request.whole for request in server.requests) == 1


@every_transport
async def test_two_answers_at_once_over_tls(name, monkeypatch, tmp_path):
    """They come in one segment and are read in one go, the second in a record of its own: nobody gets it."""
    padding = RECORD - len(http(b"ok:7:13800138000", headers=["X-Padding: "]))
    first = http(b"ok:7:13800138000", headers=["X-Padding: " + "x" * padding])
    assert len(first) == RECORD
    with FaultServer() as server, tls_front(server, monkeypatch, tmp_path) as (front, context):
        given: Any = name
        if name == "aiohttp":  # builds its context when it is imported
            given = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=context), max_field_size=RECORD, max_line_size=RECORD
            )
        transport = open_one(given, plain_http=False)
        server.plan(c.answering(first + http(b"", "429 Slow")))
        for _ in range(2):
            exchange = prepare(front.base_url)
            await transport.exchange(exchange)
            assert exchange.head.status == 200
        await transport.aclose()
        if name == "aiohttp":
            await given.close()
    assert server.connections == 2


def test_a_body_is_given_out_once():
    """Who asks again is refused, and no answer is taken any more: it may be that of either request."""
    exchange = prepare("http://gateway.test/qxt")
    assert exchange.pull() == FORM
    with pytest.raises(RepeatedError):
        exchange.pull()
    with pytest.raises(RepeatedError):
        exchange.begin_answer(200, None, None)
    assert exchange.body_started


def test_a_request_begins_again_if_its_body_stayed_here():
    """A pool may try another connection as long as nothing was given out, and not afterwards."""
    exchange = prepare("http://gateway.test/qxt")
    exchange.begin()
    with pytest.raises(UnaskedAnswerError):
        exchange.pull(lambda: True)
    exchange.begin()
    exchange.pull(lambda: False)
    assert exchange.refused is None
    with pytest.raises(RepeatedError):
        exchange.begin()


@every_transport
async def test_closing_twice_is_closing_once(name):
    """``aclose`` closes the connections, and does nothing the second time or when nothing was opened."""
    unused = open_one(name)
    await unused.aclose()
    with FaultServer() as server:
        transport = open_one(name)
        await transport.exchange(prepare(server.base_url))
        await transport.aclose()
        await transport.aclose()
        await to_thread.run_sync(server.wait_for, lambda: not server.open)


@every_transport
@pytest.mark.parametrize("plain_http", [True, False])
async def test_a_plain_address_costs_no_certificates(name, plain_http, monkeypatch):
    """For ``http://`` no certificate is loaded; for ``https://`` once, whatever the number of connections."""
    loads: list[str] = []
    for method in ("load_verify_locations", "load_default_certs", "set_default_verify_paths"):
        real = getattr(ssl.SSLContext, method)

        def repr_count(self: ssl.SSLContext, *args: Any, method: str = method, real: Any = real, **options: Any) -> Any:
            loads.append(method)
            return real(self, *args, **options)

        monkeypatch.setattr(ssl.SSLContext, method, repr_count)
    open_one("httpx")  # whatever is imported first
    loads.clear()
    with FaultServer() as server:
        transport = open_one(name, plain_http=plain_http, max_concurrency=20)
        await transport.exchange(prepare(server.base_url))
        await transport.aclose()
    # aiohttp has its context from when it was imported.
    assert len(loads) == (0 if plain_http or name == "aiohttp" else 1)
