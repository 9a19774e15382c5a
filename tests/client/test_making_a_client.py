"""Making a client, and what it refuses to be made of."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import httpx
import pytest
from anyio import to_thread
from support.fault_server import FaultServer
from support.hand_gateway import BASE, DIGEST, TEXT, Gateway, Unread, client

from qxt_async import NO_RETRIES, InvalidConfigurationError, InvalidRequestError, NotSentError, QxtClient
from qxt_async.errors import ClientStateError

pytestmark = pytest.mark.anyio


async def test_the_account_goes_out_as_the_protocol_says() -> None:
    """User and lowercase digest are sent, whether made from the password or given in capitals."""
    for options in ({"password": "password"}, {"password_md5": DIGEST.upper()}):
        gateway = Gateway()
        async with QxtClient("企信", base_url=BASE, transport=gateway, **options) as qxt:
            await qxt.send("13800138000", TEXT)
        (sent,) = gateway.sends
        assert (sent.fields["user"], sent.fields["password"]) == ("企信", DIGEST)
        assert sent.names == ("user", "msg", "tele", "password")
        assert sent.url == f"{BASE}/smssenderv2"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "give either password or password_md5, or set QXT_PASSWORD"),
        ({"password": "hunter2", "user": None}, "give user, or set QXT_USER"),
        ({"password": "hunter2", "base_url": None}, "give base_url, .*or set QXT_BASE_URL"),
        ({"password": "hunter2", "password_md5": DIGEST}, "give either password or password_md5"),
        ({"password": ""}, "password is empty"),
        ({"password_md5": ""}, "32 hexadecimal digits"),
        ({"password": "hunter2", "user": ""}, "user is empty"),
        ({"password": "hunter2", "base_url": "gateway.test/qxt"}, "http://HOST:PORT/qxt"),
        ({"password": "hunter2", "max_concurrency": 0}, "max_concurrency is 0"),
        ({"password": "hunter2", "method": "PUT"}, "'POST' or 'GET'"),
        ({"password": "hunter2", "timeout": 0}, "timeout is 0"),
        ({"password": "hunter2", "timeout": float("inf")}, "timeout is inf"),
        ({"password": "hunter2", "connect_timeout": -1}, "connect_timeout is -1"),
        ({"password": "hunter2", "max_rate": 0}, "max_rate is 0"),
        ({"password": "hunter2", "max_request_rate": -1}, "max_request_rate is -1"),
        ({"password": "hunter2", "number_pattern": "("}, "number_pattern is not a regular expression"),
        ({"password": "hunter2", "transport": "carrier pigeon"}, "'carrier pigeon' is not one of"),
        ({"password": "hunter2", "transport": object()}, "transport is object"),
        ({"password": "hunter2", "transport": httpx.AsyncClient()}, "AsyncClient: pass it as http_client"),
        ({"password": "hunter2", "http_client": object()}, "http_client is object"),
        ({"password": "hunter2", "http_client": httpx.AsyncClient(), "transport": "httpx"}, "either transport or"),
    ],
)
async def test_arguments_that_cannot_work(
    options: dict[str, Any], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each argument that cannot work is refused when the client is made, with the reason and without the password."""
    for name in ENVIRON:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InvalidConfigurationError, match=complaint) as caught:
        QxtClient(**{"user": "demo", "base_url": BASE, **options})
    assert "hunter2" not in str(caught.value)


# --- from the environment ---------------------------------------------------------------------------------

ENVIRON = {"QXT_USER": "demo", "QXT_PASSWORD": "password", "QXT_BASE_URL": BASE}


async def _account(qxt: QxtClient, gateway: Gateway) -> tuple[str, str, str]:
    await qxt.send("13800138000", TEXT)
    (sent,) = gateway.sends
    return sent.fields["user"], sent.fields["password"], sent.url.removesuffix("/smssenderv2")


@pytest.mark.parametrize(
    "environ",
    [
        ENVIRON,
        {**ENVIRON, "QXT_PASSWORD": "", "QXT_PASSWORD_MD5": DIGEST},
        {**ENVIRON, "QXT_PASSWORD": "another", "QXT_PASSWORD_MD5": DIGEST.upper()},
        {**ENVIRON, "QXT_PASSWORD_MD5": ""},
        {**ENVIRON, "QXT_BASE_URL": f"{BASE}/\n"},
    ],
    ids=["password", "digest", "both", "empty digest", "address from a file"],
)
async def test_from_env(environ: dict[str, str]) -> None:
    """User, password or digest (which wins), and address are read; an empty variable is as good as none."""
    gateway = Gateway()
    qxt = QxtClient.from_env(environ=environ, transport=gateway)
    assert await _account(qxt, gateway) == ("demo", DIGEST, BASE)


@pytest.mark.parametrize("make", [QxtClient, QxtClient.from_env], ids=["QxtClient", "from_env"])
async def test_the_real_environment_is_read(make: Callable[..., QxtClient], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not given comes from the process's own environment, as it is at that moment."""
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("QXT_PASSWORD_MD5", raising=False)
    gateway = Gateway()
    assert await _account(make(transport=gateway), gateway) == ("demo", DIGEST, BASE)
    gateway = Gateway()
    qxt = make(user="other", password_md5="0" * 32, base_url="http://other.test/qxt", transport=gateway)
    assert await _account(qxt, gateway) == ("other", "0" * 32, "http://other.test/qxt")


@pytest.mark.parametrize(
    ("given", "account"),
    [
        ({"user": "other"}, ("other", DIGEST, BASE)),
        ({"base_url": "http://other.test/qxt"}, ("demo", DIGEST, "http://other.test/qxt")),
        ({"password_md5": "0" * 32}, ("demo", "0" * 32, BASE)),
        ({"password": "password"}, ("demo", DIGEST, BASE)),
    ],
    ids=["user", "address", "digest", "password"],
)
async def test_arguments_win_over_the_environment(given: dict[str, str], account: tuple[str, str, str]) -> None:
    """What is given as an argument is not looked for in the environment."""
    gateway = Gateway()
    environ = {**ENVIRON, "QXT_PASSWORD": "another"} if "password" in given else ENVIRON
    qxt = QxtClient.from_env(environ=environ, transport=gateway, **given)
    assert await _account(qxt, gateway) == account


@pytest.mark.parametrize("missing", ["QXT_USER", "QXT_PASSWORD", "QXT_BASE_URL"])
@pytest.mark.parametrize("how", ["absent", "empty"])
async def test_what_is_missing_in_the_environment_is_named(missing: str, how: str) -> None:
    """The error names the variable to set."""
    environ = {name: value for name, value in ENVIRON.items() if name != missing}
    if how == "empty":
        environ[missing] = ""
    with pytest.raises(InvalidConfigurationError, match=missing):
        QxtClient.from_env(environ=environ)


# --- its life ---------------------------------------------------------------------------------


async def test_the_repr_shows_the_account_and_no_secret() -> None:
    """A client can be logged."""
    shown = repr(client(Gateway()))
    assert shown == f"<QxtClient 'demo' at {BASE}>"


async def test_a_client_says_its_limits() -> None:
    """Concurrency and timeout can be read back."""
    qxt = client(Gateway(), max_concurrency=3, timeout=4)
    assert (qxt.max_concurrency, qxt.timeout) == (3, 4)


async def test_a_closed_client_says_so() -> None:
    """After `aclose`, which may be called twice, each call is refused; a transport of the caller's is left open."""
    gateway = Gateway()
    async with client(gateway) as qxt:
        assert (await qxt.send("13800138000", TEXT)).mid == "7"
    await qxt.aclose()
    assert not gateway.closed
    for call in (
        lambda: qxt.send("13800138000", TEXT),
        lambda: qxt.send_bulk(["13800138000"], TEXT),
        qxt.balance,
    ):
        with pytest.raises(ClientStateError, match="this client is closed"):
            await call()
    with pytest.raises(ClientStateError, match="this client is closed"):
        qxt.stream_bulk(["13800138000"], TEXT)
    with pytest.raises(ClientStateError, match="this client is closed"):
        qxt.with_options(timeout=1)
    assert len(gateway.received) == 1


async def test_a_client_with_other_options_shares_the_connections() -> None:
    """Options that are given are its own, the others are kept; slots and connections are those of the first client."""
    gateway = Gateway(Unread(httpx.ConnectError("refused")))
    async with client(gateway, max_concurrency=1, timeout=4, number_pattern=r"1\d{10}") as qxt:
        other = qxt.with_options(method="GET", timeout=5, retry=NO_RETRIES, number_pattern=r"852\d{8}")
        assert (qxt.timeout, other.timeout) == (4, 5)
        assert (other.user, other.max_concurrency, other.number_pattern) == ("demo", 1, r"852\d{8}")
        with pytest.raises(NotSentError):
            await other.send("85291234567", TEXT)
        async with anyio.create_task_group() as group:
            group.start_soon(qxt.send, "13800138000", TEXT)
            group.start_soon(other.send, "85291234567", TEXT)
        same = qxt.with_options()
        assert (same.timeout, same.number_pattern) == (qxt.timeout, qxt.number_pattern)
    assert sorted(received.method for received in gateway.sends) == ["GET", "POST"]
    assert gateway.most == 1


async def test_a_client_with_other_options_keeps_the_rate_limit() -> None:
    """The two clients together send no more than one may."""
    gateway = Gateway()
    async with client(gateway, max_request_rate=20) as qxt:
        other, began = qxt.with_options(timeout=5), anyio.current_time()
        for each in (qxt, other, qxt, other):
            await each.send("13800138000", TEXT)
    assert gateway.arrivals[-1] - began >= 3 / 20


@pytest.mark.parametrize(("options", "complaint"), [({"timeout": 0}, "timeout is 0"), ({"method": "PUT"}, "'POST' or")])
async def test_other_options_are_checked(options: dict[str, Any], complaint: str) -> None:
    """Options that cannot work are refused as in the constructor."""
    async with client(Gateway()) as qxt:
        with pytest.raises(InvalidConfigurationError, match=complaint):
            qxt.with_options(**options)


async def test_only_the_first_client_closes_the_connections() -> None:
    """Closing one with other options does nothing; closing the first one closes both."""
    with FaultServer() as server:
        qxt = QxtClient("someone", password_md5=DIGEST, base_url=server.base_url)
        async with qxt.with_options(timeout=5) as other:
            assert (await other.send("13800138000", TEXT)).mid
        assert (await other.send("13800138001", TEXT)).mid
        assert (await qxt.send("13800138002", TEXT)).mid
        assert server.connections == 1
        await qxt.aclose()
        with pytest.raises(ClientStateError, match="this client is closed"):
            await other.send("13800138003", TEXT)
        assert await to_thread.run_sync(server.wait_for, lambda: not server.open) is None


RUNS: list[tuple[str, str]] = [("httpx", "asyncio"), ("httpx", "trio"), ("httpx2", "asyncio"), ("aiohttp", "asyncio")]


async def _stream(qxt: QxtClient) -> None:
    async with qxt.stream_bulk(["13800138001"], TEXT):
        pytest.fail("nothing can be sent")


async def _record(qxt: QxtClient) -> None:
    async def take() -> None:
        pytest.fail("nothing is recorded that cannot be sent")

    await qxt.claimed_sender().send(take, on_result=print)


CALLS: dict[str, Callable[[QxtClient], Awaitable[Any]]] = {
    "send": lambda qxt: qxt.send("13800138001", TEXT),
    "send_bulk": lambda qxt: qxt.send_bulk(["13800138001"], TEXT),
    "stream_bulk": _stream,
    "claimed_sender": _record,
    "balance": lambda qxt: qxt.balance(),
    "aclose": lambda qxt: qxt.aclose(),
}


@pytest.mark.parametrize(("transport", "backend"), RUNS)
@pytest.mark.parametrize("call", CALLS)
def test_a_client_in_a_second_event_loop_says_so(call: str, transport: str, backend: str) -> None:
    """At once and before anything is sent, with the cause and the way out."""

    async def first() -> QxtClient:
        qxt = QxtClient("someone", password_md5=DIGEST, base_url=server.base_url, transport=transport)
        assert (await qxt.send("13800138000", TEXT)).mid
        return qxt

    async def second(qxt: QxtClient) -> None:
        with pytest.raises(ClientStateError, match=r"asyncio\.run") as caught:
            await CALLS[call](qxt)
        assert isinstance(caught.value, RuntimeError)

    with FaultServer() as server, warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of the first loop's connection: nobody can close it now
        anyio.run(second, anyio.run(first, backend=backend), backend=backend)
        gc.collect()
    assert server.connections == 1
    assert server.taken == {"13800138000": 1}


async def test_a_client_that_was_not_used_can_be_closed_anywhere() -> None:
    """Making a client binds it to no event loop, and a closed one can be closed again in any."""
    qxt = QxtClient("demo", "password", base_url=BASE)
    await qxt.aclose()
    await to_thread.run_sync(anyio.run, qxt.aclose)


async def test_a_client_of_its_own_transport_closes_it() -> None:
    """Without a transport the client opens its own, for plain HTTP and for TLS, and closes it."""
    for address in (BASE, "https://gateway.test/qxt"):
        async with QxtClient("demo", "password", base_url=address, max_concurrency=2) as qxt:
            assert "demo" in repr(qxt)


async def test_an_asgi_application_can_be_the_gateway() -> None:
    """A gateway that is an ASGI application is reached without a socket, through httpx's own transport."""
    bodies = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        bodies.append((scope["path"], message["body"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok:42:13800138000\r\n"})

    async with client(httpx.ASGITransport(app)) as qxt:
        assert (await qxt.send("13800138000", "test")).mid == "42"
    form = f"user=demo&msg=%74%65%73%74&tele=13800138000&password={DIGEST}".encode()
    assert bodies == [("/qxt/smssenderv2", form)]


async def test_a_function_can_be_the_gateway() -> None:
    """Httpx's mock transport works, bare and inside the caller's own client, which stays open."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=b"ok:42:" + request.content.split(b"tele=")[1].split(b"&")[0])

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as own:
        for transport in (httpx.MockTransport(answer), own):
            async with client(transport) as qxt:
                assert (await qxt.send("13800138000", "test")).mid == "42"
        assert not own.is_closed


async def test_a_transport_may_be_anything_with_two_methods() -> None:
    """The seam is narrow: an object with `exchange` and `aclose` is a transport, and stays the caller's to close."""

    class Own:
        closed = False

        async def exchange(self, exchange: Any) -> None:
            """Answer at once."""
            exchange.pull()
            exchange.begin_answer(200, None, None)
            exchange.finish(b"ok:9:13800138000")

        async def aclose(self) -> None:
            """Note it."""
            self.closed = True

    own = Own()
    async with client(own, retry=NO_RETRIES) as qxt:
        assert (await qxt.send("13800138000", TEXT)).mid == "9"
    assert not own.closed


async def test_a_transport_may_refuse() -> None:
    """What a transport refuses as the caller's fault is the caller's to see, not an outcome of a batch."""

    class Refusing:
        async def exchange(self, exchange: Any) -> None:
            """Refuse."""
            raise InvalidRequestError("not on this event loop")

        async def aclose(self) -> None:
            """Nothing to close."""

    async with client(Refusing()) as qxt:
        with pytest.raises(InvalidRequestError, match="not on this event loop"):
            await qxt.send("13800138000", TEXT)
        with pytest.raises(InvalidRequestError, match="not on this event loop"):
            await qxt.send_bulk(["13800138000"], TEXT)
