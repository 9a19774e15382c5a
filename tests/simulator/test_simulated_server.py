"""The simulated gateway on real sockets: bytes in, bytes out, connections dropped for real."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from contextlib import contextmanager
from urllib.parse import urlsplit

import anyio
import httpx
import pytest

from qxt_async.simulator import Drop, Fault, SimulatedGateway, run_server, serve
from qxt_async.simulator.exchange import DROP_EXTENSION

# md5 of "password", by hand: printf password | md5sum
BODY = b"user=user&tele=13800138000,13800138001&msg=hi&password=5f4dcc3b5aa765d61d8327deb882cf99"
OK_LINE = b"ok:6398619:13800138000,13800138001\n"


@pytest.fixture(scope="module")
def served():
    """One gateway on a socket for the module."""
    gateway = SimulatedGateway()
    with serve(gateway) as url:
        yield gateway, url


@pytest.fixture
def gateway(served):
    """That gateway, as new."""
    served[0].reset()
    return served[0]


@pytest.fixture
def url(served):
    """Its base address."""
    return served[1]


@contextmanager
def connected(url):
    """A bare connection."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=120) as connection:
        yield connection


def request(body=BODY, length=None):
    """A request's bytes."""
    length = len(body) if length is None else length
    return b"POST /qxt/smssenderv2 HTTP/1.1\r\nhost: gateway\r\ncontent-length: %d\r\n\r\n%b" % (length, body)


def read_all(connection):
    """Everything until the end."""
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received


def read_until(connection, end):
    """Everything until these bytes."""
    received = b""
    while not received.endswith(end):
        chunk = connection.recv(65536)
        assert chunk, received
        received += chunk
    return received


def until_requests(url, count):
    """Ask the server until it has settled so many requests."""
    with httpx.Client(timeout=60) as http:
        while http.get(url.replace("/qxt", "/_simulator/stats")).json()["requests"] < count:
            pass


def test_a_send_over_a_socket(gateway, url):
    """The answer's bytes; the connection is kept for the next."""
    with connected(url) as connection:
        for _ in range(2):
            connection.sendall(request())
            answer = read_until(connection, b",13800138001\n")
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.split(b"\r\n")[0] == b"HTTP/1.1 200 OK"
            assert b"content-type: text/plain; charset=gbk" in head
            assert body.startswith(b"ok:")
    assert gateway.taken == {"13800138000": 2, "13800138001": 2}


@pytest.mark.parametrize(("fault", "taken"), [("close", 0), ("take-then-close", 2)])
def test_closed(gateway, url, fault, taken):
    """FIN without a byte of answer; nobody reads any more."""
    gateway.fail_next(fault)
    with connected(url) as connection:
        connection.sendall(request())
        assert read_all(connection) == b""
        with pytest.raises(ConnectionError):  # noqa: PT012  (which of the writes meets the RST is the kernel's choice)
            for _ in range(1000):
                connection.sendall(b"x")
    assert gateway.taken.total() == taken


@pytest.mark.parametrize(("fault", "taken"), [("reset", 0), ("take-then-reset", 2), ("reset-unread", 0), ("refuse", 0)])
def test_reset(gateway, url, fault, taken):
    """RST instead of an answer."""
    gateway.fail_next(fault)
    with connected(url) as connection:
        connection.sendall(request())
        with pytest.raises(ConnectionResetError):
            read_all(connection)
    assert gateway.taken.total() == taken


@pytest.mark.parametrize("fault", ["close-unread", "too-large-unread"])
def test_before_the_body_is_read(gateway, url, fault):
    """The headers alone are enough to be dropped or refused."""
    gateway.fail_next(fault)
    with connected(url) as connection:
        connection.sendall(request(b"", length=len(BODY)))
        if fault == "close-unread":
            assert read_all(connection) == b""
        else:
            assert read_until(connection, b"too large").startswith(b"HTTP/1.1 413 ")
    assert gateway.taken.total() == 0
    assert gateway.requests[0].complete is False


@pytest.mark.parametrize(("fault", "taken"), [("half-close", 0), ("take-then-half-close", 2)])
def test_half_closed(gateway, url, fault, taken):
    """FIN without a byte of answer, and the server still reads."""
    gateway.fail_next(fault)
    with connected(url) as connection:
        connection.sendall(request())
        assert read_all(connection) == b""
        for _ in range(1000):
            connection.sendall(b"x")
    assert gateway.taken.total() == taken


def test_cut(gateway, url):
    """Half of the announced bytes, then FIN."""
    gateway.fail_next("take-then-cut")
    with connected(url) as connection:
        connection.sendall(request())
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
    assert b"content-length: %d" % len(OK_LINE) in head
    assert len(body) == len(OK_LINE) // 2
    assert gateway.taken.total() == 2


@pytest.mark.parametrize(("fault", "taken"), [("hang", 0), ("take-then-hang", 2)])
def test_hanging(gateway, url, fault, taken):
    """Nothing comes; the connection stays open until the client leaves, and others are served meanwhile."""
    gateway.fail_next(fault)
    with connected(url) as connection:
        connection.sendall(request())
        until_requests(url, 1)
        connection.setblocking(False)
        with pytest.raises(BlockingIOError):
            connection.recv(1)
    assert gateway.taken.total() == taken
    assert httpx.post(f"{url}/smssenderv2", content=BODY, timeout=60).content.startswith(b"ok:")


def test_dripping(gateway, url):
    """The answer comes byte by byte, whole in the end."""
    gateway.fail_next(Fault("drip", drip=0.0001))
    with connected(url) as connection:
        connection.sendall(request())
        assert read_until(connection, b"13800138001\n").partition(b"\r\n\r\n")[2].startswith(b"ok:")


def test_a_form_that_ends_early_is_not_taken(gateway, url):
    """A whole form before the announced length is reached, then FIN: not taken."""
    with connected(url) as connection:
        connection.sendall(request(length=len(BODY) + 1))
        connection.shutdown(socket.SHUT_WR)
        read_all(connection)
    until_requests(url, 1)
    assert gateway.sends == ()
    assert gateway.requests[0].complete is False


def test_a_client_that_is_gone_cannot_be_dropped():
    """Whoever left before is not dropped again, and that is no error."""
    dropped = []
    ended = threading.Event()

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            await SimulatedGateway()(scope, receive, send)
            return
        while (await receive())["type"] != "http.disconnect":
            asked.set()
        try:
            for drop in Drop:
                scope["extensions"][DROP_EXTENSION](drop)
                dropped.append(drop)
        finally:
            ended.set()

    asked = threading.Event()
    with serve(application) as url:
        with connected(url) as connection:
            connection.sendall(request())
            assert asked.wait(120)
        assert ended.wait(120)
    assert dropped == list(Drop)


def test_stopping_does_not_wait_for_who_hangs():
    """Leaving the block resets a hanging connection."""
    gateway = SimulatedGateway()
    gateway.fail_next("hang")
    gateway.fail_next(Fault("slow", delay=10_000))
    with serve(gateway) as url, connected(url) as hanging, connected(url) as slow:
        hanging.sendall(request())
        until_requests(url, 1)
        slow.sendall(request())
        until_requests(url, 2)
    assert hanging.fileno() == -1
    assert gateway.taken.total() == 2


def test_a_port_that_is_taken(url):
    """The error of the system, before anything runs."""
    with pytest.raises(OSError, match="in use"), serve(SimulatedGateway(), port=urlsplit(url).port):
        raise AssertionError


def test_ipv6_addresses_have_brackets():
    """The base address can be used as it is."""
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        with serve(SimulatedGateway(), host="::1") as url:
            assert url.startswith("http://[::1]:")
            assert httpx.get(url.replace("/qxt", "/_simulator/stats"), timeout=60).status_code == 200
    except OSError:
        pytest.skip("no IPv6 loopback here")


def test_without_uvicorn_the_extra_is_named(monkeypatch):
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "qxt_async.simulator.uvicorn_server", None)
    with pytest.raises(ModuleNotFoundError, match="needs the extra 'cli'"), serve(SimulatedGateway()):
        raise AssertionError


def test_run_server_until_cancelled():
    """The awaited server tells its address, serves, and ends with its task."""
    gateway = SimulatedGateway()

    async def main():
        async with anyio.create_task_group() as group:
            listening = anyio.Event()
            urls = []

            def on_listening(url):
                urls.append(url)
                listening.set()

            async def run():
                await run_server(gateway, on_listening=on_listening)

            group.start_soon(run)
            await listening.wait()
            async with httpx.AsyncClient(timeout=60) as http:
                response = await http.post(f"{urls[0]}/smssenderv2", content=BODY)
            group.cancel_scope.cancel()
            return response.content

    assert anyio.run(main) == OK_LINE


@pytest.mark.shows_secrets("httpx, which plays the client here, logs addresses")
def test_in_a_process_of_its_own():
    """Started as the command line does, told and asked over HTTP, stopped by SIGINT; nothing secret is printed."""
    script = textwrap.dedent(
        """
        import anyio
        from qxt_async.simulator import SimulatedGateway, run_server

        async def main():
            await run_server(SimulatedGateway(), on_listening=lambda url: print(url, flush=True))

        anyio.run(main)
        print("stopped", flush=True)
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            url = process.stdout.readline().strip()
            control = url.replace("/qxt", "/_simulator")
            httpx.post(f"{control}/faults", json=[{"name": "take-then-reset"}], timeout=60)
            with pytest.raises(httpx.ReadError):
                httpx.post(f"{url}/smssenderv2", content=BODY, timeout=60)
            response = httpx.get(f"{url}/smssenderv2?{BODY.decode()}", timeout=60)
            assert response.content == b"ok:6398620:13800138000,13800138001\n"
            assert httpx.get(f"{control}/stats", timeout=60).json()["taken_more_than_once"] == 2
            lines = httpx.get(f"{control}/taken", timeout=60).text.splitlines()
            assert json.loads(lines[0]) == {"number": "13800138000", "times": 2}
            process.send_signal(signal.SIGINT)
            printed = process.stdout.read()
        finally:
            process.kill()
    assert printed == "stopped\n"
    assert process.returncode == 0
