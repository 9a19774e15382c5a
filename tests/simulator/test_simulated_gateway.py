"""The simulated gateway in process: what it takes, refuses and answers, byte for byte."""

from __future__ import annotations

import json

import anyio
import httpx
import pytest
import trio.testing
from anyio.lowlevel import checkpoint

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


async def get(gateway, target):
    """One request by GET."""
    async with client(gateway) as http:
        return await http.get(target)


# --- taking ---------------------------------------------------------------------------------------------------------


async def test_a_send_is_taken_and_answered(gateway):
    """``ok:MID:TELE`` in GBK, one line, and the send stands in the books."""
    response = await post(
        gateway,
        b"user=user&tele=13800138000,13800138001&msg=%C4%E3%BA%C3&extno=12&addseqno=1&password=" + DIGEST,
    )
    assert response.content == b"ok:6398619:13800138000,13800138001\n"
    assert response.headers["content-type"] == "text/plain; charset=gbk"
    (send,) = gateway.sends
    assert (send.mid, send.numbers, send.text) == ("6398619", ("13800138000", "13800138001"), "你好")
    assert (send.extno, send.addseqno, send.user, send.segments, send.delivers) == ("12", True, "user", 1, True)
    (request,) = gateway.requests
    assert (request.endpoint, request.method, request.user) == ("smssenderv2", "POST", "user")
    assert (request.numbers, request.taken, request.refusal, request.complete) == (2, 2, "", True)
    assert gateway.times_taken("13800138000") == 1
    assert gateway.times_taken("13800138009") == 0


async def test_get_and_any_prefix(gateway):
    """The query of a GET carries the same fields; the prefix does not matter; values may be escaped."""
    target = "/elsewhere/smssenderv2?user=user&tele=13800138000%2C13800138001&msg=a+b%26&password=" + DIGEST.decode()
    assert (await get(gateway, target)).content == b"ok:6398619:13800138000,13800138001\n"
    assert gateway.sends[0].text == "a b&"


async def test_query_and_body_are_one_form(gateway):
    """Fields of a POST may stand in its query, as servlets see them."""
    response = await post(gateway, b"tele=13800138000&password=" + DIGEST, "/qxt/smssenderv2?user=user&msg=hi")
    assert response.content == b"ok:6398619:13800138000\n"


async def test_mids_are_unique_and_repeated_sends_are_counted(gateway):
    """Each request has its own mid; a number that is taken twice counts twice, and so does one that stands twice."""
    await post(gateway, ONE)
    assert gateway.taken == {"13800138000": 1}
    await post(gateway, ONE.replace(b"13800138000", b"13800138000,13800138000"))
    assert gateway.taken == {"13800138000": 3}
    assert len({send.mid for send in gateway.sends}) == 2


async def test_the_balance_is_told_and_charged(gateway):
    """A credit a segment and number (PROTOCOL 3 and 5)."""
    gateway.balance = 100
    await post(gateway, FOUR.replace(b"hi", b"x" * 71))
    response = await get(gateway, "/qxt/surplus?user=user&password=" + DIGEST.decode())
    assert response.content == b"ok:sms:92:mms:0\n"
    assert gateway.sends[0].segments == 2
    assert gateway.balance == 92


async def test_numbered_parts_are_charged_where_there_are_no_long_messages():
    """``addseqno`` on a channel without long messages: parts of 66."""
    gateway = SimulatedGateway(balance=100, mms_balance=5, long_messages=False)
    await post(gateway, ONE.replace(b"hi", b"x" * 133) + b"&addseqno=1")
    assert gateway.balance == 97
    response = await post(gateway, b"user=user&password=" + DIGEST, "/qxt/surplus")
    assert response.content == b"ok:sms:97:mms:5\n"


async def test_an_empty_balance_takes_and_never_delivers():
    """Too low a balance: ``ok``, nothing charged, nothing delivered (PROTOCOL 2.2)."""
    gateway = SimulatedGateway(balance=3)
    assert (await post(gateway, FOUR)).content.startswith(b"ok:")
    assert gateway.balance == 3
    assert gateway.sends[0].delivers is False
    assert gateway.outstanding == frozenset()
    gateway.balance = 4
    await post(gateway, FOUR)
    assert gateway.balance == 0
    assert len(gateway.outstanding) == 4


# --- refusing -------------------------------------------------------------------------------------------------------

MANY = b",".join(b"138%08d" % number for number in range(1001))


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        pytest.param(b"", "用户名或密码错误", id="nothing"),
        pytest.param(ONE.replace(b"user=user", b"user="), "用户名或密码错误", id="empty-user"),
        pytest.param(ONE.replace(b"user=user", b"user=other"), "无此用户或者密码不对1", id="unknown-user"),
        pytest.param(ONE.replace(b"user=user", b"user=%FF"), "无此用户或者密码不对1", id="undecodable-user"),
        pytest.param(ONE.replace(DIGEST, b"0" * 32), "无此用户或者密码不对", id="wrong-password"),
        pytest.param(ONE.replace(DIGEST, DIGEST.upper()), "无此用户或者密码不对", id="uppercase-digest"),
        pytest.param(ONE.replace(DIGEST, b"password"), "无此用户或者密码不对", id="plain-password"),
        pytest.param(ONE[: ONE.index(b"&password")], "无此用户或者密码不对", id="missing-password"),
        pytest.param(ONE.replace(b"tele=13800138000&", b""), "mobile", id="no-numbers"),
        pytest.param(ONE.replace(b"13800138000", b""), "mobile", id="empty-numbers"),
        pytest.param(ONE.replace(b"13800138000", b"13800138000,,13800138001"), "mobile", id="gap"),
        pytest.param(ONE.replace(b"13800138000", b"1380013800"), "mobile", id="short-number"),
        pytest.param(ONE.replace(b"13800138000", b"%2B8613800138000"), "mobile", id="country-code"),
        pytest.param(ONE.replace(b"13800138000", b"13800138000\n"), "mobile", id="line-end"),
        pytest.param(ONE.replace(b"13800138000", b",,"), "moblie is null or mobile number too many!", id="only-commas"),
        pytest.param(ONE.replace(b"13800138000", MANY), "moblie is null or mobile number too many!", id="too-many"),
        pytest.param(ONE.replace(b"msg=hi&", b""), "smg", id="no-text"),
        pytest.param(ONE.replace(b"msg=hi", b"msg="), "smg", id="empty-text"),
        pytest.param(ONE.replace(b"msg=hi", b"msg=%FF"), "smg", id="undecodable-text"),
        pytest.param(ONE + b"&extno=12a", "扩展号码错误", id="extno-letters"),
        pytest.param(ONE + b"&extno=" + b"1" * 19, "扩展号码错误", id="extno-too-long"),
    ],
)
async def test_refusals(body, answer):
    """Every refusal of PROTOCOL 2.1 in the gateway's own words, in GBK; nothing is taken."""
    gateway = SimulatedGateway(channel_extension="88")
    response = await post(gateway, body)
    assert response.status_code == 200
    assert response.content == f"error:{answer}\n".encode("gbk")
    assert gateway.sends == ()
    assert gateway.requests[0].refusal == answer
    assert gateway.requests[0].taken == 0


async def test_a_thousand_numbers_and_the_longest_extension_are_taken():
    """The limits themselves are allowed."""
    gateway = SimulatedGateway(channel_extension="88")
    body = ONE.replace(b"13800138000", MANY[: MANY.rindex(b",")]) + b"&extno=" + b"1" * 18
    assert (await post(gateway, body)).content.startswith(b"ok:")
    assert len(gateway.taken) == 1000


async def test_a_small_batch_is_refused_where_the_channel_wants_ten():
    """Description 8, typo and full-width comma included (PROTOCOL 1.4)."""
    gateway = SimulatedGateway(min_batch=10)
    assert (await post(gateway, FOUR)).content == "error:moblie 提交数小于10，请重新提交!\n".encode("gbk")


async def test_the_balance_is_refused_to_strangers(gateway):
    """`surplus` checks the account like a send; a fault may refuse it in its own words, and another spelling."""
    response = await get(gateway, "/qxt/surplus?user=user&password=x")
    assert response.content == "error:无此用户或者密码不对\n".encode("gbk")
    gateway.fail_next("failure-word", of="balance")
    response = await get(gateway, "/qxt/surplus?user=user&password=x")
    assert response.content == "失败:error:无此用户或者密码不对\n".encode("gbk")
    gateway.fail_next("error-2", of="balance")
    response = await get(gateway, "/qxt/surplus?user=user&password=" + DIGEST.decode())
    assert response.content == "error:扩展号码错误\n".encode("gbk")


async def test_other_addresses_and_methods(gateway):
    """404 for what is not the gateway's, 405 for what is neither GET nor POST."""
    assert (await get(gateway, "/qxt/other")).status_code == 404
    assert (await get(gateway, "/_simulator/other")).status_code == 404
    async with client(gateway) as http:
        assert (await http.put("/qxt/smssenderv2", content=ONE)).status_code == 405
    assert gateway.requests == ()


async def test_every_truncation_of_a_form_is_refused(gateway):
    """Cut anywhere, a form with the password last is never a smaller send."""
    for length in range(len(ONE)):
        assert (await post(gateway, ONE[:length])).content.startswith(b"error:")
    assert gateway.sends == ()


async def test_a_body_shorter_than_announced_is_not_taken(gateway):
    """Half a form ends the exchange, whatever the half says."""

    async def half():
        yield ONE

    async with client(gateway, headers={"content-length": str(len(ONE) + 1)}) as http:
        with pytest.raises(httpx.RemoteProtocolError):
            await http.post("/qxt/smssenderv2", content=half())
    assert gateway.sends == ()
    assert [request.complete for request in gateway.requests] == [False]


async def test_too_large_a_body_is_refused(gateway):
    """413 above 256 KB, so that memory is bounded."""
    response = await post(gateway, ONE + b"&x=" + b"x" * 300_000)
    assert response.status_code == 413
    assert gateway.sends == ()
    assert [request.complete for request in gateway.requests] == [False]


# --- faults ---------------------------------------------------------------------------------------------------------


ANSWERS = [
    ("take-then-html", 200, b"<html><head><title>Welcome</title></head><body><h1>It works!</h1></body></html>", 4),
    ("take-then-json", 200, b'{"code": 0, "message": "success"}', 4),
    ("take-then-empty", 200, b"", 4),
    ("take-then-redirect", 302, b"", 4),
    ("take-then-500", 500, b"", 4),
    ("take-then-502", 502, b"", 4),
    ("take-then-503", 503, b"", 4),
    ("take-then-504", 504, b"", 4),
    ("take-then-partial", 200, b"ok:6398619:13800138002,13800138004\n", 4),
    ("too-large-unread", 413, b"too large", 0),
    ("throttle-429", 429, b"", 0),
    ("throttle-503", 503, b"", 0),
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
    gateway.fail_next("throttle-503")
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
    gateway.behave()
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


# --- plain ASGI -------------------------------------------------------------------------------------------------


def scope_of(body=ONE):
    """A bare ASGI scope."""
    return {
        "type": "http",
        "method": "POST",
        "path": "/qxt/smssenderv2",
        "query_string": b"",
        "headers": [(b"content-length", b"%d" % len(body))],
    }


async def test_a_client_that_leaves_while_sending_is_not_taken(gateway):
    """A disconnect before the end of the body ends the request."""
    messages = [{"type": "http.request", "body": ONE, "more_body": True}, {"type": "http.disconnect"}]

    async def receive():
        return messages.pop(0)

    await gateway(scope_of(), receive, None)
    assert gateway.sends == ()
    assert gateway.requests[0].complete is False


@pytest.mark.parametrize("fault", ["slow", "take-then-drip", "take-then-hang"])
async def test_a_client_that_leaves_while_waiting_ends_the_fault(gateway, fault):
    """Who is gone is not waited for; the numbers are taken all the same."""
    messages = [
        {"type": "http.request", "body": ONE},
        {"type": "http.request"},
        {"type": "http.disconnect"},
    ]

    async def receive():
        await checkpoint()
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    sent = []
    gateway.fail_next(Fault.named(fault, delay=1000.0 if fault == "slow" else None))
    await gateway(scope_of(), receive, send)
    assert gateway.taken == {"13800138000": 1}
    assert not any(message.get("body") == b"\n" for message in sent)


async def test_only_http_is_spoken(gateway):
    """A websocket is refused loudly."""
    with pytest.raises(NotImplementedError):
        await gateway({"type": "websocket"}, None, None)


async def test_reset_forgets_everything(gateway):
    """After `reset` the gateway is as new, its random draws included."""
    gateway.balance = 5
    gateway.fail_share("shuffled", 1.0)
    first = (await post(gateway, FOUR)).content
    gateway.fail_next("http-500")
    gateway.reply("13800138000", "TD")
    gateway.reset()
    assert (gateway.sends, gateway.requests, gateway.replies) == ((), (), ())
    assert gateway.taken == {}
    assert gateway.balance == 10_000_000
    assert gateway.stats()["requests"] == 0
    gateway.fail_share("shuffled", 1.0)
    again = (await post(gateway, FOUR)).content
    assert again.split(b":")[2] == first.split(b":")[2]


async def test_reprs_hide_secrets(gateway):
    """No password, text or number in the repr of the gateway, its sends and its requests."""
    await post(gateway, ONE.replace(b"msg=hi", b"msg=secret-text"))
    shown = f"{gateway!r} {gateway.sends!r} {gateway.requests!r} {gateway.transport()!r}"
    for secret in ("password", DIGEST.decode(), "secret-text", "13800138000"):
        assert secret not in shown
    assert "<SimulatedGateway: 1 requests, 1 sends>" in shown


# --- over HTTP control ------------------------------------------------------------------------------------------


async def test_control(gateway):
    """Stats, sends, counts, faults, replies and reset over HTTP."""
    async with client(gateway) as http:
        faults = [
            {"name": "http-500"},
            {"name": "slow", "delay": 0, "times": 1},
            {"name": "throttle-429", "share": 0.0},
            {"name": "close", "of": "balance", "share": 1.0},
            {"numbers": ["13800138009"], "code": "7"},
        ]
        assert (await http.post("/_simulator/faults", json=faults)).json() == {"faults": 5}
        assert (await http.post("/qxt/smssenderv2", content=ONE)).status_code == 500
        assert (await http.post("/qxt/smssenderv2", content=ONE)).content.startswith(b"ok:")
        assert (await http.post("/qxt/smssenderv2", content=FOUR)).content.startswith(b"ok:")
        assert (await http.post("/qxt/smssenderv2", content=ONE)).content.startswith(b"ok:")
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get("/qxt/surplus")
        failing = await http.post("/qxt/smssenderv2", content=ONE.replace(b"13800138000", b"13800138009"))
        assert failing.content == b"fail:7:13800138009\n"
        await http.post("/qxt/smssenderv2", content=b"")

        assert (await http.get("/_simulator/stats")).json() == {
            "requests": 7,
            "refused": 2,
            "sends": 3,
            "taken": 6,
            "taken_distinct": 5,
            "taken_more_than_once": 1,
            "pushes_acknowledged": 0,
            "pushes_outstanding": 6,
            "push_calls": 0,
            "balance": 9_999_994,
        }
        lines = (await http.get("/_simulator/sends?after=1&limit=1")).text.splitlines()
        (send,) = [json.loads(line) for line in lines]
        assert send.pop("when").endswith("+00:00")
        assert send == {
            "n": 1,
            "mid": "6398620",
            "numbers": ["13800138001", "13800138002", "13800138003", "13800138004"],
            "text": "hi",
            "extno": "",
            "addseqno": False,
            "user": "user",
            "segments": 1,
            "delivers": True,
        }
        assert len((await http.get("/_simulator/sends")).text.splitlines()) == 3
        taken = [json.loads(line) for line in (await http.get("/_simulator/taken")).text.splitlines()]
        assert {each["number"]: each["times"] for each in taken} == gateway.taken
        assert len(taken) == 5

        answer = await http.post("/_simulator/reply", json={"mobile": "13800138000", "text": "TD", "extno": "7"})
        assert [reply.mid for reply in gateway.replies] == [answer.json()["mid"]]
        assert (gateway.replies[0].text, gateway.replies[0].port) == ("TD", "106900007")
        assert (await http.post("/_simulator/reset")).json() == {}
        assert gateway.sends == ()


@pytest.mark.parametrize(
    ("action", "body"),
    [
        ("faults", "no json"),
        ("faults", '["reset"]'),
        ("faults", '[{"name": "nonsense"}]'),
        ("faults", '[{"share": 0.5}]'),
        ("faults", '[{"name": "reset", "share": 2}]'),
        ("faults", '[{"name": "reset", "of": "other"}]'),
        ("faults", "7"),
        ("reply", "{}"),
        ("reply", "[]"),
    ],
)
async def test_control_says_what_it_does_not_understand(gateway, action, body):
    """400 with a reason in JSON."""
    async with client(gateway) as http:
        response = await http.post(f"/_simulator/{action}", content=body)
    assert response.status_code == 400
    assert response.json()["error"]


@pytest.mark.parametrize("query", ["after=-1", "limit=-1", "after=x"])
async def test_control_refuses_odd_pages(gateway, query):
    """A page has a place and a size that are not negative."""
    assert (await get(gateway, f"/_simulator/sends?{query}")).status_code == 400


async def test_taken_is_streamed(gateway):
    """More numbers than one chunk holds come in several."""
    chunks = []

    async def receive():
        raise AssertionError

    async def send(message):
        chunks.append(message)

    for start in (0, 600):
        numbers = ",".join(f"138{number:08d}" for number in range(start, start + 900))
        await post(gateway, ONE.replace(b"13800138000", numbers.encode("ascii")))
    scope = {"type": "http", "method": "GET", "path": "/_simulator/taken", "query_string": b"", "headers": []}
    await gateway(scope, receive, send)
    bodies = [message["body"] for message in chunks[1:]]
    assert [body.count(b"\n") for body in bodies] == [1000, 500, 0]
