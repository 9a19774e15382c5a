"""The service in docs/examples/service.py, as a real server between real requests and a simulated gateway."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.examples import listen, load, serving

from qxt_async.errors import JournalClosedError
from qxt_async.journal.sends import SendStore
from qxt_async.simulator import SimulatedGateway, serve


@pytest.fixture
def gateway() -> SimulatedGateway:
    """The gateway behind the service."""
    return SimulatedGateway()


@pytest.fixture
def http(gateway: SimulatedGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    """A client of the service, which runs in a thread."""
    listener, port = listen()
    with serve(gateway) as base_url:
        monkeypatch.setenv("QXT_USER", "user")
        monkeypatch.setenv("QXT_PASSWORD", "password")
        monkeypatch.setenv("QXT_BASE_URL", base_url)
        monkeypatch.setenv("CODE_SECRET", "0123456789abcdef0123456789abcdef")
        monkeypatch.setenv("QXT_JOURNAL", str(tmp_path / "qxt.db"))
        with (
            serving(load("service").app, listener),
            httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client,
        ):
            yield client


def test_a_code_is_sent_while_the_caller_waits(http: httpx.Client, gateway: SimulatedGateway) -> None:
    """The answer has the mid that the gateway gave."""
    answer = http.post("/codes", json={"number": "138 0013 8000"})
    assert (answer.status_code, answer.json()) == (201, {"state": "accepted", "mid": gateway.sends[0].mid})
    assert gateway.taken == {"13800138000": 1}


def test_a_repeated_request_sends_one_code(http: httpx.Client, gateway: SimulatedGateway) -> None:
    """With the same key the same answer; another number under the key, and another code too soon, are refused."""
    key = {"Idempotency-Key": "login-7f3a"}
    first = http.post("/codes", json={"number": "13800138000"}, headers=key)
    again = http.post("/codes", json={"number": "13800138000"}, headers=key)
    assert (again.status_code, again.json()) == (201, first.json())
    assert http.post("/codes", json={"number": "13800138001"}, headers=key).status_code == 409
    limited = http.post("/codes", json={"number": "13800138000"})
    assert (limited.status_code, int(limited.headers["Retry-After"]) <= 60) == (429, True)
    assert gateway.taken == {"13800138000": 1}


def test_a_code_is_of_its_request_and_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same after a restart; another one for another phone, key or secret, since callers choose the key."""
    monkeypatch.setenv("CODE_SECRET", "a")
    code = load("service").code_of("13800138000", "login-7f3a")
    assert load("service").code_of("13800138000", "login-7f3a") == code
    assert load("service").code_of("13800138001", "login-7f3a") != code
    assert load("service").code_of("13800138000", "login-7f3b") != code
    monkeypatch.setenv("CODE_SECRET", "b")
    assert load("service").code_of("13800138000", "login-7f3a") != code


def test_a_journal_that_refuses_is_no_promise(
    http: httpx.Client, gateway: SimulatedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller is told to repeat the request, which sends once; not that nothing was sent."""
    settle = SendStore.settle

    async def refuse(*_: Any) -> bool:
        raise JournalClosedError("the journal is closed")

    key = {"Idempotency-Key": "login-7f3a"}
    monkeypatch.setattr(SendStore, "settle", refuse)
    answer = http.post("/codes", json={"number": "13800138000"}, headers=key)
    assert (answer.status_code, "repeat" in answer.json()["detail"]) == (503, True)
    monkeypatch.setattr(SendStore, "settle", settle)
    assert gateway.taken == {"13800138000": 1}


def test_what_is_no_number_is_the_callers_fault(http: httpx.Client, gateway: SimulatedGateway) -> None:
    """422, and the gateway is not asked."""
    assert http.post("/codes", json={"number": "12345"}).status_code == 422
    assert not gateway.requests


def test_an_unknown_outcome_is_said_and_not_repeated(http: httpx.Client, gateway: SimulatedGateway) -> None:
    """The gateway took it and broke the connection: once it stays."""
    gateway.fail_next("take-then-reset")
    assert http.post("/codes", json={"number": "13800138000"}).json()["state"] == "unknown"
    assert gateway.taken == {"13800138000": 1}


def test_a_refusal_says_that_nothing_was_sent(http: httpx.Client, gateway: SimulatedGateway) -> None:
    """503 for what the caller cannot help."""
    gateway.fail_next("fail-999")
    assert http.post("/codes", json={"number": "13800138000"}).status_code == 503
    assert not gateway.taken


def test_an_announcement_goes_out_in_the_background(http: httpx.Client, gateway: SimulatedGateway) -> None:
    """The answer comes at once with a job; when it is done, it has told everything."""
    numbers = [f"139{n:08}" for n in range(1500)]
    answer = http.post("/announcements", json={"numbers": [*numbers, "1", numbers[0]], "text": "【Acme】Hello."})
    assert answer.status_code == 202
    while (job := http.get(f"/announcements/{answer.json()['job']}").json())["state"] == "sending":
        pass
    mids = [send.mid for send in gateway.sends]
    assert sorted(job.pop("mids")) == sorted(mids)
    assert job == {"accepted": 1500, "failed": 0, "unknown": 0, "left_out": 2, "state": "done"}
    assert gateway.taken == dict.fromkeys(numbers, 1)


def test_a_stopped_announcement_says_why(http: httpx.Client, gateway: SimulatedGateway) -> None:
    """A text that cannot be sent is the state of the job, not an exception in the server's log."""
    answer = http.post("/announcements", json={"numbers": ["13800138000"], "text": "🎉"})
    while (job := http.get(f"/announcements/{answer.json()['job']}").json())["state"] == "sending":
        pass
    assert job["state"] == "stopped: InvalidTextError"


def test_no_job_is_not_found(http: httpx.Client) -> None:
    """404 for a key that nobody was given."""
    assert http.get("/announcements/none").status_code == 404
