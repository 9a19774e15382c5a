"""The simulator told and asked over HTTP."""

from __future__ import annotations

import json

import httpx
import pytest

from qxt_async.simulator import SimulatedGateway

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
