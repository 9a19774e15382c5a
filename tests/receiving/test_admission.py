"""Who may push: the path, the address, and what a proxy says about it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest
from support.asgi import PHONE, REPORT, SECRET, Answer, ask

from qxt_async.errors import InvalidConfigurationError
from qxt_async.models import StatusReport
from qxt_async.receiving import PushReceiver

pytestmark = pytest.mark.anyio


def _ignore(report: StatusReport) -> None:
    pass


def _receiver(*, allow: Sequence[str] = (), trusted_proxies: Sequence[str] = ()) -> PushReceiver:
    return PushReceiver(path_secret=SECRET, on_report=_ignore, allow=allow, trusted_proxies=trusted_proxies)


def _forwarded(*values: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), *((b"x-forwarded-for", value.encode()) for value in values)]


async def test_refusals_are_alike() -> None:
    """Whatever was wrong, a stranger gets the same bytes, and nothing is asked of the body."""
    receiver = _receiver(allow=["192.0.2.0/24"])
    wrong = ["/", "", f"/{SECRET[:-1]}", f"/{SECRET}x", f"/x/{SECRET}", f"/{SECRET}/x", f"/{SECRET.upper()}"]
    paths = [*wrong, "/ü€", "/\udcff"]
    answers: list[Answer] = [await ask(receiver, REPORT, path=path) for path in paths]
    answers.append(await ask(receiver, REPORT, client=("198.51.100.1", 1)))
    answers.append(await ask(receiver, REPORT, client=("198.51.100.1", 1), path="/"))
    answers.append(await ask(receiver, REPORT, client=None))
    answers.append(await ask(receiver, method="PUT", path="/"))
    answers.append(await ask(receiver, b"x" * 100_000, path="/"))
    assert {answer.status for answer in answers} == {404}
    assert len(set(answers)) == 1
    answers.append(await ask(_receiver(), REPORT, path="/"))
    assert len(set(answers)) == 1
    assert (await ask(receiver, REPORT)).body == b"ok"


async def test_a_guessable_path() -> None:
    """Who asks for it may try out any path; an empty one is none."""
    receiver = PushReceiver(path_secret="try/me", on_report=_ignore, allow_weak_secret=True)
    assert receiver.allow_weak_secret
    assert not PushReceiver(path_secret=SECRET, on_report=_ignore, allow_weak_secret=True).allow_weak_secret
    assert (await ask(receiver, REPORT, path="/try/me")).body == b"ok"
    assert (await ask(receiver, REPORT, path="/try")).status == 404
    for path in ("", "a b", "退订"):
        with pytest.raises(InvalidConfigurationError, match="20 or more"):
            PushReceiver(path_secret=path, on_report=_ignore, allow_weak_secret=True)


@pytest.mark.parametrize(
    ("path", "root_path"),
    [
        (f"/{SECRET}", ""),
        (f"/{SECRET}/", ""),
        (f"/hooks/sms/{SECRET}", "/hooks/sms"),
        (f"/{SECRET}", "/hooks/sms"),
        (f"/hooks/{SECRET}", "/hooks/"),
    ],
)
async def test_mounted(path: str, root_path: str) -> None:
    """Below any mount, whether or not the server leaves the mount in the path."""
    assert (await ask(_receiver(), REPORT, path=path, root_path=root_path)).body == b"ok"


async def test_no_connection_header_on_http2() -> None:
    """HTTP/2 has no `connection` header."""
    answer = await ask(_receiver(), path="/", http_version="2")
    assert (b"connection", b"close") not in answer.headers
    assert (b"connection", b"close") in (await ask(_receiver(), path="/")).headers


@pytest.mark.parametrize(
    ("allow", "client", "allowed"),
    [
        (["192.0.2.1"], "192.0.2.1", True),
        (["192.0.2.1"], "192.0.2.2", False),
        (["198.51.100.7", "192.0.2.0/24"], "192.0.2.255", True),
        (["192.0.2.1"], "::ffff:192.0.2.1", True),
        (["::ffff:192.0.2.0/120"], "192.0.2.1", True),
        (["2001:db8::/32"], "2001:db8::1", True),
        (["2001:db8::/32"], "192.0.2.1", False),
        (["2001:db8::1"], "2001:db8::1%eth0", True),
        (["2001:db8::/100"], "192.0.2.1", False),
        (["0.0.0.0/0"], "testclient", False),
        (["0.0.0.0/0"], "", False),
        ([], "testclient", True),
    ],
)
async def test_allow(allow: list[str], client: str, allowed: bool) -> None:
    """With an allow-list only its addresses and networks push, IPv4 within IPv6 included."""
    answer = await ask(_receiver(allow=allow), REPORT, client=(client, 1))
    assert answer.status == (200 if allowed else 404)


GATEWAY, PROXY, FRONT = "192.0.2.1", "10.0.0.1", "10.0.0.2"


@pytest.mark.parametrize(
    ("client", "forwarded", "allowed"),
    [
        (PROXY, [GATEWAY], True),
        (PROXY, ["198.51.100.1"], False),
        (PROXY, [], False),
        (PROXY, [f"{GATEWAY}, 198.51.100.1"], False),
        (PROXY, [f"198.51.100.1, {GATEWAY}"], True),
        (PROXY, ["198.51.100.1", GATEWAY], True),
        (PROXY, [GATEWAY, "198.51.100.1"], False),
        (PROXY, [f"{GATEWAY}, {FRONT}"], True),
        (PROXY, [f"{GATEWAY}, unknown, {FRONT}"], False),
        (PROXY, [f"{GATEWAY}:4711"], True),
        (PROXY, [f"[::ffff:{GATEWAY}]:4711, {FRONT}"], True),
        (PROXY, [f"{GATEWAY},"], False),
        (PROXY, [FRONT], False),
        ("::ffff:10.0.0.1", [GATEWAY], True),
        ("198.51.100.1", [GATEWAY], False),
        (GATEWAY, ["198.51.100.1"], True),
    ],
)
async def test_forwarded(client: str, forwarded: list[str], allowed: bool) -> None:
    """The right-most address that is not a trusted proxy counts, and only if a trusted proxy says it."""
    receiver = _receiver(allow=[GATEWAY], trusted_proxies=["10.0.0.0/30"])
    answer = await ask(receiver, REPORT, client=(client, 1), headers=_forwarded(*forwarded))
    assert answer.status == (200 if allowed else 404)


@pytest.mark.parametrize("client", [None, ("", 0)])
async def test_unix_socket(client: tuple[str, int] | None) -> None:
    """A proxy on a Unix socket has no address: it is believed only if that was said."""
    headers = _forwarded(GATEWAY)
    trusting = _receiver(allow=[GATEWAY], trusted_proxies=["unix"])
    assert (await ask(trusting, REPORT, client=client, headers=headers)).body == b"ok"
    assert (await ask(trusting, REPORT, client=client)).status == 404
    assert (await ask(_receiver(allow=[GATEWAY]), REPORT, client=client, headers=headers)).status == 404


async def test_log(caplog: pytest.LogCaptureFixture) -> None:
    """Who knows the path and may not push is worth a warning, scans are not; no secret and no number is written."""
    caplog.set_level(logging.DEBUG, "qxt_async")
    receiver = _receiver(allow=[GATEWAY])
    await ask(receiver, REPORT, client=("198.51.100.1", 1))
    await ask(receiver, REPORT, client=None)
    await ask(receiver, REPORT, path="/wp-login.php")
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "198.51.100.1" in caplog.text
    assert SECRET not in caplog.text
    assert PHONE not in caplog.text
