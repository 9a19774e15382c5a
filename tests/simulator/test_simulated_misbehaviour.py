"""The simulated gateway's faults in process: each answer byte for byte, and what was taken all the same."""

from __future__ import annotations

import anyio
import httpx
import pytest
import trio.testing

from qxt_async.simulator import ConnectionDroppedError, Fault, SimulatedGateway

pytestmark = pytest.mark.anyio

# md5 of "password", by hand: printf password | md5sum
DIGEST = b"5f4dcc3b5aa765d61d8327deb882cf99"
ONE = b"user=user&tele=13800138000&msg=hi&password=" + DIGEST
FOUR = b"user=user&tele=13800138001,13800138002,13800138003,13800138004&msg=hi&password=" + DIGEST
JUMPING = pytest.param(("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}), id="trio-jumping")


@pytest.fixture
def gateway():
    """A gateway with the usual account."""
    return SimulatedGateway()


def client(gateway, **options):
    """A bare httpx client that reaches the gateway in process."""
    return httpx.AsyncClient(transport=gateway.transport(), base_url="http://gateway.test", **options)


async def post(gateway, body, path="/qxt/smssenderv2", **options):
    """One request by POST."""
    async with client(gateway) as http:
        headers = {"content-type": "application/x-www-form-urlencoded"}
        return await http.post(path, content=body, headers=headers, **options)


ANSWERS = [
    ("take-then-html", 200, b"<html><head><title>Welcome</title></head><body><h1>It works!</h1></body></html>", 4),
    ("take-then-json", 200, b'{"code": 0, "message": "success"}', 4),
    ("take-then-empty", 200, b"", 4),
    ("take-then-redirect", 302, b"", 4),
    ("take-then-500", 500, b"", 4),
    ("take-then-502", 502, b"", 4),
    ("take-then-503", 503, b"", 4),
    ("take-then-busy", 503, b"", 4),
    ("take-then-error-page", 200, b"<html>\n<pre>\nerror: the upstream is away\n</pre>\n</html>\n", 4),
    ("take-then-504", 504, b"", 4),
    ("take-then-partial", 200, b"ok:6398619:13800138002,13800138004\n", 4),
    ("too-large-unread", 413, b"too large", 0),
    ("throttle-429", 429, b"", 0),
    ("http-429", 429, b"", 0),
    ("http-503", 503, b"", 0),
    ("error-8", 200, "error:moblie 提交数小于10，请重新提交!\n".encode("gbk"), 0),
    ("fail-999", 200, b"fail:999:13800138001,13800138002,13800138003,13800138004\n", 0),
    ("mixed", 200, b"ok:6398619:13800138002,13800138004\nfail:999:13800138001,13800138003\n", 2),
    ("partial", 200, b"ok:6398619:13800138002,13800138004\n", 2),
    ("shuffled", 200, b"ok:6398619:13800138003,13800138001,13800138002,13800138004\n", 4),
    ("foreign", 200, b"ok:6398619:19900000000,19900000001,19900000002,19900000003\n", 4),
    (
        "extra",
        200,
        b"ok:6398619:13800138001,13800138002,13800138003,13800138004,19900000000\n",
        4,
    ),
    (
        "repeated",
        200,
        b"ok:6398619:13800138001,13800138002,13800138003,13800138004,13800138001\n",
        4,
    ),
    (
        "several-lines",
        200,
        b"ok:6398619:13800138001,13800138002\nok:6398620:13800138003,13800138004\n",
        4,
    ),
    ("crlf", 200, b"ok:6398619:13800138001,13800138002,13800138003,13800138004\r\n", 4),
    ("no-line-end", 200, b"ok:6398619:13800138001,13800138002,13800138003,13800138004", 4),
    ("empty-balance", 200, b"ok:6398619:13800138001,13800138002,13800138003,13800138004\n", 4),
]


@pytest.mark.parametrize(("fault", "status", "answer", "taken"), ANSWERS, ids=[row[0] for row in ANSWERS])
async def test_answers_of_faults(gateway, fault, status, answer, taken):
    """Each fault's answer, byte for byte, and how many numbers it took; the next request is served well."""
    gateway.fail_next(fault)
    response = await post(gateway, FOUR)
    assert (response.status_code, response.content) == (status, answer)
    assert gateway.requests[0].fault == fault
    assert gateway.requests[0].taken == taken
    assert gateway.taken.total() == taken
    assert (await post(gateway, ONE)).content.startswith(b"ok:")


async def test_headers_of_faults(gateway):
    """``Retry-After``, a redirect's ``Location``, and the garbage's own content type."""
    gateway.fail_next("take-then-busy")
    gateway.fail_next("take-then-redirect")
    gateway.fail_next("take-then-html")
    gateway.fail_next("http-503")
    assert (await post(gateway, ONE)).headers["retry-after"] == "1"
    assert (await post(gateway, ONE)).headers["location"] == "/elsewhere"
    assert (await post(gateway, ONE)).headers.get_list("content-type") == ["text/html"]
    assert "retry-after" not in (await post(gateway, ONE)).headers


async def test_an_empty_balance_as_a_fault_delivers_nothing(gateway):
    """Taken, answered ``ok``, not charged, never delivered."""
    gateway.fail_next("empty-balance")
    await post(gateway, ONE)
    assert gateway.sends[0].delivers is False
    assert gateway.balance == 10_000_000


async def test_wrong_charset(gateway):
    """A refusal in UTF-8."""
    gateway.fail_next("utf-8")
    response = await post(gateway, ONE.replace(b"user=user", b"user="))
    assert response.content == "error:用户名或密码错误\n".encode()


async def test_a_foreign_answer_never_names_what_was_sent(gateway):
    """Strangers are made up anew where the made-up number was sent."""
    gateway.fail_next("foreign")
    response = await post(gateway, ONE.replace(b"13800138000", b"19900000000"))
    assert response.content == b"ok:6398619:19900000001\n"


async def test_numbers_that_always_fail(gateway):
    """`fail_numbers`: their own ``fail`` lines by code, until the gateway behaves."""
    gateway.fail_numbers("13800138002")
    gateway.fail_numbers("13800138001", "13800138009", code="123")
    response = await post(gateway, FOUR)
    assert response.content == (b"ok:6398619:13800138003,13800138004\nfail:123:13800138001\nfail:999:13800138002\n")
    assert gateway.taken == {"13800138003": 1, "13800138004": 1}
    gateway.clear_faults()
    assert (await post(gateway, FOUR)).content.count(b"1380013800") == 4


async def test_predicates_and_shares(gateway):
    """`fail_when` looks at the send, `fail_share` meets all; a drawn fault goes before a predicate's."""
    gateway.fail_when(lambda send: len(send.numbers) > 1, "fail-999")
    assert (await post(gateway, ONE)).content.startswith(b"ok:")
    assert (await post(gateway, FOUR)).content.startswith(b"fail:")
    gateway.fail_share("http-500", 1.0)
    assert (await post(gateway, FOUR)).status_code == 500


@pytest.mark.parametrize(
    ("fault", "error", "taken"),
    [
        ("take-then-close", httpx.RemoteProtocolError, 4),
        ("take-then-half-close", httpx.RemoteProtocolError, 4),
        ("take-then-reset", httpx.ReadError, 4),
        ("take-then-cut", httpx.RemoteProtocolError, 4),
        ("close", httpx.RemoteProtocolError, 0),
        ("half-close", httpx.RemoteProtocolError, 0),
        ("reset", httpx.ReadError, 0),
        ("close-unread", httpx.RemoteProtocolError, 0),
        ("reset-unread", httpx.ReadError, 0),
        ("refuse", httpx.ConnectError, 0),
    ],
)
async def test_dropped_connections(gateway, fault, error, taken):
    """In process httpx raises what it raises over a socket; what is dropped unread was never pulled."""
    pulled = []

    async def body():
        pulled.append(True)
        yield FOUR

    gateway.fail_next(fault)
    with pytest.raises(error):
        await post(gateway, body())
    assert gateway.taken.total() == taken
    assert bool(pulled) == ("unread" not in fault and fault != "refuse")


async def test_a_drop_under_a_foreign_server_is_an_error_of_its_own(gateway):
    """Where nobody can drop a connection, the application raises."""
    gateway.fail_next("take-then-reset")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(gateway), base_url="http://gateway.test") as http:
        with pytest.raises(ConnectionDroppedError, match="reset") as caught:
            await http.post("/qxt/smssenderv2", content=ONE)
    assert caught.value.drop == "reset"


@pytest.mark.parametrize(("fault", "taken"), [("hang", 0), ("take-then-hang", 1)])
async def test_hanging_lasts_until_cancelled(gateway, fault, taken):
    """A hanging request ends at once when its caller is cancelled; what was taken stays taken."""
    gateway.fail_next(fault)
    async with anyio.create_task_group() as group:
        group.start_soon(post, gateway, ONE)
        await anyio.wait_all_tasks_blocked()
        assert gateway.taken.total() == taken
        assert len(gateway.requests) == 1
        group.cancel_scope.cancel()


@pytest.mark.parametrize("anyio_backend", [JUMPING])
@pytest.mark.parametrize(
    ("fault", "patience", "seconds"),
    [(Fault("slow", delay=3.0), 4.0, 3.0), (Fault("drip", drip=2.0), 3.0, 2.0 * len(b"ok:6398619:13800138000\n"))],
    ids=["slow", "drip"],
)
async def test_slow_answers(gateway, fault, patience, seconds):
    """A slow answer comes late, a dripping one byte by byte; each byte renews the reader's patience."""
    gateway.fail_next(fault)
    started = anyio.current_time()
    async with client(gateway, timeout=patience) as http:
        response = await http.post("/qxt/smssenderv2", content=ONE)
    assert response.content == b"ok:6398619:13800138000\n"
    assert anyio.current_time() - started == pytest.approx(seconds)


@pytest.mark.parametrize("anyio_backend", [JUMPING])
async def test_the_read_timeout_holds_in_process(gateway):
    """A gateway that hangs meets the client's read timeout, as over a socket; none means for ever."""
    gateway.fail_next("take-then-hang", 2)
    async with client(gateway, timeout=httpx.Timeout(None, read=7.0)) as http:
        with pytest.raises(httpx.ReadTimeout):
            await http.post("/qxt/smssenderv2", content=ONE)
    assert anyio.current_time() > 0
    async with client(gateway, timeout=None) as http:
        with anyio.move_on_after(10_000) as scope:
            await http.post("/qxt/smssenderv2", content=ONE)
    assert scope.cancelled_caught
