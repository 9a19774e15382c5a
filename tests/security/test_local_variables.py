"""What an error tracker would write down: the local variables of each frame of a traceback."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from types import TracebackType
from typing import Any

import anyio
import pytest
from anyio import to_thread
from support import catalogue as c
from support.fault_server import FaultServer, http

import qxt_async
from qxt_async import QxtClient, QxtError, RetryPolicy
from qxt_async.cli.program import qxt
from qxt_async.protocol.requests import Credentials
from qxt_async.runtime.secret import Secret

PASSWORD = "canary horse battery"
DIGEST = Credentials.from_password("someone", PASSWORD).digest.reveal()
SECRETS = (PASSWORD, DIGEST, DIGEST.upper())
BASE = "http://gateway.test/qxt"
OURS = qxt_async.__path__[0]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    met: set[int] = set()
    waiting = [error]
    while waiting:
        found = waiting.pop()
        if found is not None and id(found) not in met:
            met.add(id(found))
            yield found
            waiting += [found.__cause__, found.__context__]
            waiting += getattr(found, "exceptions", ())


def _frames(traceback: TracebackType | None) -> Iterator[Any]:
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next


def check(error: BaseException, *, frames: int = 1) -> None:
    """No variable of a frame of ours shows a secret, and each can be shown; there are such frames."""
    seen = 0
    for each in _chain(error):
        assert not any(secret in f"{each} {each!r}" for secret in SECRETS)
        for frame in _frames(each.__traceback__):
            if frame.f_code.co_filename.startswith(OURS):
                seen += 1
                shown = {name: repr(value) for name, value in frame.f_locals.items()}
                where = f"{frame.f_code.co_filename}:{frame.f_code.co_name}"
                assert not [name for name, told in shown.items() if any(s in told for s in SECRETS)], where
    assert seen >= frames


WRONG: dict[str, dict[str, Any]] = {
    "address": {"base_url": "gateway.test"},
    "both": {"password_md5": DIGEST},
    "user": {"user": ""},
    "concurrency": {"max_concurrency": 0},
    "transport": {"transport": "pigeon"},
    "digest": {"password": None, "password_md5": DIGEST + "0"},
    "not ASCII": {"password": PASSWORD + "€"},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_constructor_that_fails(wrong: str) -> None:
    """What was given as password or digest is in no frame, and the client that is half made can be shown."""
    options: dict[str, Any] = {"user": "someone", "password": PASSWORD, "base_url": BASE, **WRONG[wrong]}
    with pytest.raises(QxtError) as caught:
        QxtClient(**options)
    check(caught.value)


@pytest.mark.parametrize("name", ["QXT_PASSWORD", "QXT_PASSWORD_MD5"])
@pytest.mark.parametrize("missing", ["QXT_USER", "QXT_BASE_URL", "a transport", "an address"])
def test_an_environment_that_is_not_enough(name: str, missing: str) -> None:
    """The environment itself is in no frame."""
    environ = {"QXT_USER": "someone", "QXT_BASE_URL": BASE, name: PASSWORD if name == "QXT_PASSWORD" else DIGEST}
    environ.pop(missing, None)
    if missing == "an address":
        environ["QXT_BASE_URL"] = "gateway.test"
    with pytest.raises(QxtError) as caught:
        QxtClient.from_env(environ=environ, transport="pigeon" if missing == "a transport" else None)
    check(caught.value)


def test_options_beside_the_environment() -> None:
    """A password among the options of `from_env` is no more seen than one in the environment."""
    with pytest.raises(QxtError) as caught:
        QxtClient.from_env(environ={"QXT_USER": "someone"}, password=PASSWORD)
    check(caught.value)


LANES = [("asyncio", "httpx"), ("trio", "httpx"), ("asyncio", "httpx2"), ("trio", "httpx2"), ("asyncio", "aiohttp")]
FAULTS: dict[str, Any] = {
    "closed": c.take_and_close,
    "refused": c.answering(http("error:无此用户或者密码不对".encode("gbk"))),
    "too large": c.endless_body,
    "redirected to itself": c.answering(lambda _, r: http(b"", "302 Found", [f"Location: {r.target}"])),
    "encoded": c.answering(http(b"", headers=["Content-Encoding: gzip"])),
    "cut": c.answering(http(b"ok", length=9), then="close"),
    "not HTTP": c.answering(b"SSH-2.0\r\n\r\n", then="close"),
}
CALLS: dict[str, Callable[[QxtClient], Awaitable[Any]]] = {
    "send": lambda client: client.send("13800138000", "hello"),
    "send_bulk": lambda client: client.send_bulk(["13800138000"], "hello", batch_size=100),
    "balance": lambda client: client.balance(),
}


@pytest.mark.anyio
@pytest.mark.parametrize(("anyio_backend", "transport"), LANES)
@pytest.mark.parametrize("given", ["own", "caller's"])
@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_request_that_fails(transport: str, given: str, method: Any, fault: str) -> None:
    """Whatever breaks, in whatever library, no frame of ours shows the digest: neither a form nor an address."""
    with FaultServer(FAULTS[fault]) as server:
        own: Any = transport if given == "own" else _given(transport)
        client = QxtClient(
            "someone",
            PASSWORD,
            base_url=server.base_url,
            **{"transport" if given == "own" else "http_client": own},
            method=method,
            retry=RetryPolicy(1),
            timeout=20,
        )
        for call in CALLS.values():
            try:
                result = await call(client)
            except QxtError as error:
                check(error)
            else:
                check(result.batches[0].error, frames=0)
        await client.aclose()
        if given != "own":
            await (own.close() if transport == "aiohttp" else own.aclose())
        await to_thread.run_sync(server.settle)


def _given(transport: str) -> Any:
    if transport == "aiohttp":
        import aiohttp

        return aiohttp.ClientSession()
    import httpx
    import httpx2

    return {"httpx": httpx, "httpx2": httpx2}[transport].AsyncClient(trust_env=False)


@pytest.mark.anyio
@pytest.mark.parametrize(("anyio_backend", "transport"), LANES)
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_an_error_in_the_middle_of_a_request(transport: str, method: Any) -> None:
    """What is raised from within a request goes through all frames of the send; none shows the digest."""

    class OddError(Exception):
        pass

    def fail(_: Any) -> None:
        raise OddError

    with FaultServer() as server:
        async with QxtClient(
            "someone", PASSWORD, base_url=server.base_url, transport=transport, method=method
        ) as client:
            with pytest.raises(OddError) as caught:
                await client.send("13800138000", "hello", on_result=fail)
            check(caught.value, frames=2)
            error = await _broken_into(client)
            check(error, frames=3)
        await to_thread.run_sync(server.settle)


async def _broken_into(client: QxtClient) -> BaseException:
    """The cancellation of a send under way, as it comes out of the send."""
    caught: list[BaseException] = []

    async def send() -> None:
        try:
            await client.send("13800138000", "hello")
        except BaseException as error:
            caught.append(error)
            raise

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(send)
            scope.cancel()
    return caught[0]


@pytest.mark.parametrize(
    ("broken", "command"),
    [
        ("address", ["balance"]),
        ("port", ["balance"]),
        ("address", ["send", "13800138000", "--text", "hello"]),
        ("address", ["bulk", "numbers.txt", "--text", "hello"]),
    ],
)
def test_the_command_line(command: list[str], broken: str, monkeypatch: pytest.MonkeyPatch, closed_port: int) -> None:
    """A password that comes from the environment is in no frame of a command that fails."""
    monkeypatch.setenv("QXT_USER", "someone")
    monkeypatch.setenv("QXT_PASSWORD", PASSWORD)
    monkeypatch.setenv("QXT_BASE_URL", "gateway.test" if broken == "address" else f"http://127.0.0.1:{closed_port}/qxt")
    monkeypatch.delenv("QXT_PASSWORD_MD5", raising=False)
    with pytest.raises(Exception) as caught:  # noqa: PT011  (what click makes of it; its frames are the matter)
        qxt.main([*command, "--timeout", "5"], standalone_mode=False)
    check(caught.value)


@pytest.fixture
def closed_port() -> int:
    """A port at which nobody listens."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_a_secret_is_what_it_holds_and_does_not_show_it() -> None:
    """It compares and hashes by its value, and is not wrapped twice."""
    one = Secret("x")
    assert one == Secret.of("x") == Secret.of(one)
    assert one != Secret("y")
    assert one != "x"
    assert hash(one) == hash(Secret("x"))
    assert (repr(one), one.reveal()) == ("Secret(****)", "x")
