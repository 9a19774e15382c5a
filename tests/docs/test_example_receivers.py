"""The receivers in docs/examples, as real servers that a simulated gateway pushes to, one of them behind nginx."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import anyio
import httpx
import pytest
import trustme
from support.examples import EXAMPLES, listen, load, serving
from support.ports import free_port

from qxt_async import DeliveryState, QxtClient, Reply, StatusReport
from qxt_async.journal import open_journal
from qxt_async.receiving import new_secret
from qxt_async.simulator import SimulatedGateway, serve

pytestmark = pytest.mark.shows_secrets("httpx, which plays the gateway here, logs the addresses that it pushes to")

SECRET = new_secret()
NUMBERS = [f"139{n:08}" for n in range(20)]
REPORT = {"type": "4", "mid": "0042", "mobile": "13800138000", "msg": "DELIVRD", "port": "10690000"}


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The receivers take the secret and the journal from the environment."""
    monkeypatch.setenv("QXT_PUSH_PATH", SECRET)
    monkeypatch.setenv("QXT_JOURNAL", str(tmp_path / "qxt.db"))


@pytest.fixture
def stored(tmp_path: Path) -> Callable[[], tuple[list[StatusReport], list[Reply], frozenset[str]]]:
    """Reads the journal: reports, replies, suppressed numbers."""

    async def read() -> tuple[list[StatusReport], list[Reply], frozenset[str]]:
        async with open_journal(tmp_path / "qxt.db") as journal:
            return (
                [entry.value for entry in await journal.reports()],
                [entry.value for entry in await journal.replies()],
                await journal.suppressed_numbers(),
            )

    return lambda: anyio.run(read)


async def send_and_push(gateway: SimulatedGateway, to: str) -> int:
    """Send to some numbers, let one of them write back, and push all that."""
    client = QxtClient("user", "password", base_url="http://gateway.test/qxt", transport=gateway.transport())
    await client.send(NUMBERS, "【Acme】Hello.", extno="7")
    gateway.reply(NUMBERS[0], "退订", extno="7")
    return await gateway.push_all(to)


@pytest.mark.parametrize(
    ("name", "application", "path"),
    [("receiving", "receiver", ""), ("receiving_litestar", "app", "/qxt"), ("receiving_fastapi", "app", "/qxt")],
)
def test_a_receiver_stores_what_it_acknowledges(
    name: str,
    application: str,
    path: str,
    stored: Callable[[], tuple[list[StatusReport], list[Reply], frozenset[str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Alone or mounted: reports, a reply and its opt-out are in the journal, and nothing is left to push."""
    monkeypatch.setenv("QXT_USER", "user")
    monkeypatch.setenv("QXT_PASSWORD", "password")
    monkeypatch.setenv("QXT_BASE_URL", "http://127.0.0.1:9/qxt")
    gateway = SimulatedGateway()
    listener, port = listen()
    with serving(getattr(load(name), application), listener):
        address = f"http://127.0.0.1:{port}{path}"
        assert anyio.run(send_and_push, gateway, f"{address}/{SECRET}") == len(NUMBERS) + 1
        assert httpx.get(f"{address}/{new_secret()}", params=REPORT, trust_env=False, timeout=60).status_code == 404
    reports, replies, suppressed = stored()
    assert not gateway.outstanding
    assert sorted(report.number for report in reports) == NUMBERS
    assert {report.state for report in reports} == {DeliveryState.DELIVERED}
    assert [(reply.text, reply.port) for reply in replies] == [("退订", "106900007")]
    assert suppressed == {NUMBERS[0]}


@pytest.fixture
def alerts(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[httpx.Client, SimulatedGateway]]:
    """The FastAPI service and the gateway that it sends to, which pushes to it."""
    listener, port = listen()
    gateway = SimulatedGateway(push_to=f"http://127.0.0.1:{port}/qxt/{SECRET}")
    with ExitStack() as stack:
        base_url = stack.enter_context(serve(gateway))
        monkeypatch.setenv("QXT_USER", "user")
        monkeypatch.setenv("QXT_PASSWORD", "password")
        monkeypatch.setenv("QXT_BASE_URL", base_url)
        stack.enter_context(serving(load("receiving_fastapi").app, listener))
        yield (
            stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60)),
            gateway,
        )


def test_an_alert_is_known_to_be_delivered(alerts: tuple[httpx.Client, SimulatedGateway]) -> None:
    """The service answers when the report is there that it received itself."""
    http, gateway = alerts
    assert http.post("/alerts/13800138000").json() == {"state": "delivered"}
    assert gateway.taken == {"13800138000": 1}


def test_an_alert_without_a_report_is_on_its_way(alerts: tuple[httpx.Client, SimulatedGateway]) -> None:
    """An account without balance takes it and nothing comes back."""
    http, gateway = alerts
    gateway.balance = 0
    assert http.post("/alerts/13800138000", params={"wait": 0.01}).json() == {"state": "on its way"}


def test_an_alert_that_failed_says_so(alerts: tuple[httpx.Client, SimulatedGateway]) -> None:
    """503, and nobody waits for a report."""
    http, gateway = alerts
    gateway.fail_next("take-then-reset")
    assert http.post("/alerts/13800138000").status_code == 503


@contextmanager
def nginx(folder: Path, upstream: int) -> Iterator[int]:
    """The nginx configuration of the documentation, with a port, a certificate and logs of our own."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if program is None:
        pytest.skip("nginx is not installed")
    certificate = trustme.CA().issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    port = free_port()
    site = (EXAMPLES / "nginx.conf").read_text(encoding="utf-8")
    for theirs, ours in {
        "443": f"127.0.0.1:{port}",
        "/etc/ssl/sms.example.com.pem": f"{folder}/both.pem",
        "/etc/ssl/sms.example.com.key": f"{folder}/both.pem",
        "/var/log/nginx/sms.log": f"{folder}/sms.log",
        "127.0.0.1:8000": f"127.0.0.1:{upstream}",
    }.items():
        site = re.sub(rf"(?<![\w.]){re.escape(theirs)}", ours, site)
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "all.conf"
    config.write_text(
        f"daemon off;\npid {folder}/pid;\nerror_log {folder}/main.log;\nevents {{}}\nhttp {{\n{paths}{site}}}\n",
        encoding="utf-8",
    )
    process = subprocess.Popen([program, "-p", str(folder), "-c", str(config), "-e", f"{folder}/main.log"])
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.01)
                    pytest.fail((folder / "main.log").read_text(encoding="utf-8"))
        yield port
    finally:
        process.terminate()
        process.wait()


def test_behind_nginx_only_the_gateway_gets_through(
    tmp_path: Path, stored: Callable[[], tuple[list[StatusReport], list[Reply], frozenset[str]]]
) -> None:
    """Address and secret have to be right, whatever a stranger claims, and no log has the secret or the phone."""
    listener, upstream = listen()
    with serving(load("receiving").receiver, listener), nginx(tmp_path, upstream) as port:

        def push(path: str, *, sender: str = "127.0.0.1", **headers: str) -> tuple[int, str]:
            transport = httpx.HTTPTransport(verify=False, local_address=sender)
            with httpx.Client(transport=transport, timeout=60) as client:
                answer = client.get(f"https://127.0.0.1:{port}{path}", params=REPORT, headers=headers)
                return answer.status_code, answer.text

        assert push(f"/qxt/{SECRET}", sender="127.0.0.2")[0] == 404
        assert push(f"/qxt/{SECRET}", sender="127.0.0.2", **{"X-Forwarded-For": "127.0.0.1"})[0] == 404
        assert push(f"/qxt/{new_secret()}")[0] == 404
        assert push("/")[0] == 404
        assert stored()[0] == []
        assert push(f"/qxt/{SECRET}") == (200, "ok")
    assert [report.mid for report in stored()[0]] == ["0042"]
    for log in tmp_path.glob("*.log"):
        text = log.read_text(encoding="utf-8")
        assert SECRET not in text
        assert "13800138000" not in text
