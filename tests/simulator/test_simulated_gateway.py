"""The simulated gateway in process: what it takes, refuses and answers, byte for byte."""

from __future__ import annotations

import httpx
import pytest
from anyio.lowlevel import checkpoint

from qxt_async.simulator import Fault, SimulatedGateway

pytestmark = pytest.mark.anyio

# md5 of "password", by hand: printf password | md5sum
DIGEST = b"5f4dcc3b5aa765d61d8327deb882cf99"
ONE = b"user=user&tele=13800138000&msg=hi&password=" + DIGEST
FOUR = b"user=user&tele=13800138001,13800138002,13800138003,13800138004&msg=hi&password=" + DIGEST


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


@pytest.mark.shows_secrets("httpx, which plays the client here, logs addresses")
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


@pytest.mark.shows_secrets("httpx, which plays the client here, logs addresses")
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


@pytest.mark.shows_secrets("httpx, which plays the client here, logs addresses")
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
