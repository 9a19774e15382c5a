"""What the simulated gateway pushes: to an application in process, and to a server of the standard library."""

from __future__ import annotations

import logging
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, parse_qsl

import anyio
import httpx
import pytest
import trio.testing

from qxt_async.simulator import PushPlan, SimulatedGateway, serve

# md5 of "password", by hand: printf password | md5sum
DIGEST = b"5f4dcc3b5aa765d61d8327deb882cf99"
JUMPING = pytest.param(("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}), id="trio-jumping")
TO = "http://callback.test/secret"


def body(*numbers, extra=b""):
    """A send's form."""
    return b"user=user&tele=%b&msg=hi%b&password=%b" % (",".join(numbers).encode("ascii"), extra, DIGEST)


def numbers(count):
    """Made-up numbers."""
    return [f"138001{number:05d}" for number in range(count)]


class Receiver:
    """An ASGI application that notes each push and answers as told, else ``ok``."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.calls = []
        self.times = []
        self.enough = anyio.Event()
        self.wanted = 0

    async def __call__(self, scope, receive, send):
        """Take a push."""
        form = scope["query_string"]
        more = True
        while more:
            message = await receive()
            form += message["body"]
            more = message["more_body"]
        self.calls.append((scope["method"], scope["path"], form.decode("ascii")))
        self.times.append(anyio.current_time())
        status, answer = self.answers.pop(0) if self.answers else (200, b"ok")
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": answer})
        if len(self.calls) == self.wanted:
            self.enough.set()

    @property
    def fields(self):
        """The fields of each push, decoded by the standard library."""
        return [dict(parse_qsl(form, keep_blank_values=True, encoding="gbk")) for *_, form in self.calls]


async def take(gateway, *wanted, extra=b""):
    """Let the gateway take numbers."""
    async with httpx.AsyncClient(transport=gateway.transport()) as http:
        response = await http.post("http://gateway.test/qxt/smssenderv2", content=body(*wanted, extra=extra))
    assert response.content.startswith(b"ok:")
    return response


pytestmark = pytest.mark.anyio


async def test_golden_report():
    """A report's bytes, by hand: GET, GBK, every field of PROTOCOL 4."""
    gateway = SimulatedGateway(push=PushPlan(area="北京", city=""))
    receiver = Receiver()
    await take(gateway, "13800138000", extra=b"&extno=12")
    assert gateway.outstanding == {("6398619", "13800138000")}
    assert await gateway.push_all(TO, app=receiver) == 1
    assert receiver.calls == [
        (
            "GET",
            "/secret",
            "type=4&mid=6398619&mobile=13800138000&msg=DELIVRD&port=1069000012&area=%B1%B1%BE%A9&city=",
        )
    ]
    assert gateway.acknowledged == {("6398619", "13800138000")}
    assert gateway.outstanding == frozenset()
    assert await gateway.push_all(TO, app=receiver) == 0


async def test_golden_reply_by_post():
    """A reply's bytes, by hand: POST, its commas kept, its own mid; an address keeps its own query."""
    gateway = SimulatedGateway(push=PushPlan(method="POST"))
    receiver = Receiver()
    reply = gateway.reply("13800138000", "退订, 谢谢", extno="12")
    assert await gateway.push_all(TO, app=receiver) == 1
    assert receiver.calls == [
        (
            "POST",
            "/secret",
            "type=1&mid=6398619&mobile=13800138000&msg=%CD%CB%B6%A9%2C+%D0%BB%D0%BB&port=1069000012&area=&city=",
        )
    ]
    assert (reply.mid, reply.number) in gateway.acknowledged
    gateway.reply("13800138000", "TD")
    assert await gateway.push_all(TO + "?key=1", app=receiver, plan=PushPlan()) == 1
    assert receiver.calls[1][2].startswith("key=1&type=1&mid=6398620&")


async def test_batches():
    """Several reports in one push, a space after each comma; shared fields once, others as lists (PROTOCOL 4.2)."""
    gateway = SimulatedGateway()
    receiver = Receiver()
    await take(gateway, *numbers(3))
    await take(gateway, "13900139000", extra=b"&extno=7")
    gateway.reply("13800138000", "a,b")
    plan = PushPlan(batch_size=2, concurrency=1)
    assert await gateway.push_all(TO, app=receiver, plan=plan) == 5
    first, second, reply = receiver.fields
    assert first["mid"] == "6398619, 6398619"
    assert first["mobile"] == "13800100000, 13800100001"
    assert first["msg"] == "DELIVRD, DELIVRD"
    assert first["port"] == "10690000"
    assert (second["mid"], second["port"]) == ("6398619, 6398620", "10690000, 106900007")
    assert (reply["type"], reply["msg"]) == ("1", "a,b")


async def test_a_reply_is_never_put_between_reports():
    """A reply ends a batch that has room."""
    gateway = SimulatedGateway()
    receiver = Receiver()
    await take(gateway, *numbers(3))
    gateway.reply("13800138000", "hello")
    await gateway.push_all(TO, app=receiver, plan=PushPlan(batch_size=2, concurrency=1))
    assert [fields["mobile"].count(",") for fields in receiver.fields] == [1, 0, 0]


async def test_codes():
    """Shares of the reports are refused by review or failed at the carrier, the same however often they come."""
    plan = PushPlan(rejected=0.25, failed=0.25, failure_codes=("UNDELIV", "MK:1"), batch_size=50, duplicates=1.0)
    gateway = SimulatedGateway(push=plan)
    receiver = Receiver()
    await take(gateway, *numbers(1000))
    await gateway.push_all(TO, app=receiver)
    codes = {}
    for fields in receiver.fields:
        for number, code in zip(fields["mobile"].split(", "), fields["msg"].split(", "), strict=True):
            assert codes.setdefault(number, code) == code
    counts = {code: list(codes.values()).count(code) for code in set(codes.values())}
    assert set(counts) == {"DELIVRD", "REJECT", "UNDELIV", "MK:1"}
    assert 180 < counts["REJECT"] < 320
    assert 430 < counts["DELIVRD"] < 570


async def test_duplicates_and_order():
    """A share comes twice; shuffled they come in any order, and all of them."""
    gateway = SimulatedGateway()
    receiver = Receiver()
    await take(gateway, *numbers(100))
    plan = PushPlan(duplicates=0.5, shuffle=True, concurrency=1)
    assert await gateway.push_all(TO, app=receiver, plan=plan) == 100
    mobiles = [fields["mobile"] for fields in receiver.fields]
    assert 120 < len(mobiles) < 180
    assert set(mobiles) == set(numbers(100))
    assert mobiles != sorted(mobiles)


@pytest.mark.parametrize("anyio_backend", [JUMPING])
async def test_pushed_until_ok():
    """Anything but 200 and ``ok`` is pushed again, each time later; then it is given up and stays outstanding."""
    gateway = SimulatedGateway()
    refusals = [(503, b"ok"), (200, b"fail"), (200, b"ok" + b"x" * 100), (200, b"ok\n")]
    receiver = Receiver(*refusals)
    await take(gateway, "13800138000")
    plan = PushPlan(backoff=1.0, attempts=4)
    assert await gateway.push_all(TO, app=receiver, plan=plan) == 1
    waits = [later - sooner for sooner, later in zip(receiver.times, receiver.times[1:], strict=False)]
    assert waits == pytest.approx([1.0, 2.0, 4.0], abs=0.1)

    await take(gateway, "13800138001")
    receiver = Receiver(*[(500, b"")] * 4)
    assert await gateway.push_all(TO, app=receiver, plan=plan) == 0
    assert len(receiver.calls) == 4
    assert gateway.outstanding == {("6398620", "13800138001")}


@pytest.mark.parametrize("anyio_backend", [JUMPING])
async def test_delays():
    """Each report comes within the range of its delay."""
    gateway = SimulatedGateway()
    receiver = Receiver()
    await take(gateway, *numbers(50))
    started = anyio.current_time()
    await gateway.push_all(TO, app=receiver, plan=PushPlan(delay=(100.0, 200.0)))
    waited = [time - started for time in receiver.times]
    assert 100.0 <= min(waited) < 120.0
    assert 180.0 < max(waited) <= 201.0


async def test_automatic_pushes():
    """With `push_to`, what is taken is pushed as it is taken, and so is a reply."""
    receiver = Receiver()
    gateway = SimulatedGateway(push_to=TO, push_app=receiver, push=PushPlan(concurrency=2))
    receiver.wanted = 3
    async with anyio.create_task_group() as group:
        group.start_soon(gateway.push_forever)
        await take(gateway, *numbers(2))
        gateway.reply("13800138000", "hello")
        await receiver.enough.wait()
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert len(gateway.acknowledged) == 3
    assert gateway.stats()["push_calls"] == 3
    assert gateway.stats()["pushes_outstanding"] == 0


async def test_early_reports_come_before_the_answer():
    """An early report arrives while the send still waits for its answer; what was refused then comes again."""
    receiver = Receiver((200, b"ok"), (503, b""))
    gateway = SimulatedGateway(push_to=TO, push_app=receiver, push=PushPlan(early=1.0, concurrency=1))
    response = await take(gateway, *numbers(2))
    assert response.status_code == 200
    assert [fields["mobile"] for fields in receiver.fields] == numbers(2)
    assert gateway.outstanding == {("6398619", "13800100001")}
    receiver.wanted = 3
    async with anyio.create_task_group() as group:
        group.start_soon(gateway.push_forever)
        await receiver.enough.wait()
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert gateway.outstanding == frozenset()


async def test_reset_forgets_what_was_to_be_pushed():
    """Nothing of before comes after."""
    receiver = Receiver()
    gateway = SimulatedGateway(push_to=TO, push_app=receiver)
    await take(gateway, *numbers(2))
    gateway.reset()
    receiver.wanted = 1
    async with anyio.create_task_group() as group:
        group.start_soon(gateway.push_forever)
        gateway.reply("13800138000", "hello")
        await receiver.enough.wait()
        group.cancel_scope.cancel()
    assert [fields["type"] for fields in receiver.fields] == ["1"]


async def test_cancelled_pushes_stay_outstanding():
    """A push whose receiver hangs is not acknowledged."""

    async def hanging(scope, receive, send):
        reached.set()
        await anyio.sleep_forever()

    reached = anyio.Event()
    gateway = SimulatedGateway()
    await take(gateway, "13800138000")
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: gateway.push_all(TO, app=hanging))
        await reached.wait()
        group.cancel_scope.cancel()
    assert gateway.outstanding == {("6398619", "13800138000")}


@pytest.mark.parametrize("to", [None, "no address", "ftp://callback.test/", "http://", "http://[::1/"])
async def test_an_address_is_needed(to):
    """No address, or none that can be called."""
    with pytest.raises(ValueError, match="address"):
        await SimulatedGateway().push_all(to)


@pytest.mark.parametrize("to", ["", "no address", "ftp://callback.test/"])
def test_an_address_is_needed_from_the_beginning(to):
    """A gateway that could never push is not made."""
    with pytest.raises(ValueError, match="address"):
        SimulatedGateway(push_to=to)


@pytest.mark.parametrize(
    "options",
    [
        {"method": "PUT"},
        {"delay": (2.0, 1.0)},
        {"delay": (-1.0, 1.0)},
        {"duplicates": 1.5},
        {"early": -0.1},
        {"rejected": 0.6, "failed": 0.6},
        {"batch_size": 0},
        {"failure_codes": ()},
        {"attempts": 0},
        {"backoff": -1.0},
        {"concurrency": 0},
        {"timeout": 0.0},
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(options):
    """Shares are between 0 and 1, counts at least 1, the shorter delay first."""
    with pytest.raises(ValueError, match=r".+"):
        PushPlan(**options)


# --- over sockets ---------------------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    """Notes each push and answers ``ok``, the first of each phone with an error."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        """Answer a push."""
        server = self.server
        with server.lock:
            server.connections.add(self.client_address)
            number = parse_qs(self.path.partition("?")[2])["mobile"][0]
            server.mobiles.append(number)
            status = 503 if number in server.refused_once else 200
            server.refused_once.discard(number)
        self.send_response(status)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args):
        """Print nothing."""


@pytest.fixture
def receiver():
    """A server of the standard library."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.lock = threading.Lock()
    server.connections, server.mobiles, server.refused_once = set(), [], set()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


async def test_pushes_over_sockets(receiver, caplog):
    """Connections are kept; nothing with a number is logged, at any level."""
    caplog.set_level(logging.DEBUG)
    gateway = SimulatedGateway()
    await take(gateway, *numbers(100))
    logged_by_the_test = len(caplog.records)
    to = f"http://127.0.0.1:{receiver.server_port}/callback"
    assert await gateway.push_all(to, plan=PushPlan(concurrency=4)) == 100
    assert sorted(receiver.mobiles) == numbers(100)
    assert len(receiver.connections) < 20
    for record in caplog.records[logged_by_the_test:]:
        assert not re.search(r"138001\d{5}", record.getMessage())


async def test_nobody_listens():
    """A callback address that nobody serves leaves everything outstanding."""
    gateway = SimulatedGateway()
    await take(gateway, "13800138000")
    assert await gateway.push_all("http://127.0.0.1:1/", plan=PushPlan(attempts=1)) == 0
    assert len(gateway.outstanding) == 1


def test_a_served_gateway_pushes_by_itself(receiver):
    """Served with `push_to`, the gateway reports what it takes until all is acknowledged, then stops with the block."""
    receiver.refused_once = set(numbers(3))
    gateway = SimulatedGateway(push_to=f"http://127.0.0.1:{receiver.server_port}/", push=PushPlan(backoff=0.01))
    with serve(gateway) as url:
        assert httpx.post(f"{url}/smssenderv2", content=body(*numbers(20)), timeout=60).content.startswith(b"ok:")
        gateway.reply("13900139000", "hello")
        while gateway.outstanding:
            time.sleep(0.01)
    assert len(receiver.mobiles) == 24
    assert len(gateway.acknowledged) == 21
