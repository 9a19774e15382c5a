"""`qxt receive`: real processes, sockets and signals, and the whole circle from a send to its report."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from functools import partial
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import anyio
import pytest
from anyio.from_thread import start_blocking_portal
from support.command_line import PASSWORD, TEXT, Run, numbers
from support.journals import reply, report
from support.ports import free_port

from qxt_async.cli.processes import Children
from qxt_async.cli.push_server import PushServer, connection_limit
from qxt_async.models import StatusReport
from qxt_async.receiving import PushReceiver, new_secret
from qxt_async.runtime.server import listen
from qxt_async.simulator import PushPlan, SimulatedGateway, serve

Start = Callable[..., "subprocess.Popen[str]"]
SECRET = "0123456789abcdefghij"


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Where a journal will be."""
    return tmp_path / "qxt.db"


@pytest.fixture
def some(tmp_path: Path) -> Path:
    """A file of 200 numbers."""
    path = tmp_path / "some.txt"
    path.write_text("\n".join(numbers(200)), encoding="ascii")
    return path


def listening(process: subprocess.Popen[str]) -> str:
    """The address that a process says it listens on, with the rest of the secret, which it does not say."""
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith("listening on http://127.0.0.1:"), line
    assert SECRET not in line
    return line.removeprefix("listening on ").strip().replace(f"{SECRET[:4]}****", SECRET)


def ask(url: str, fields: str = "", **headers: str) -> tuple[int, bytes]:
    """Push something over a connection of its own."""
    parts = urlsplit(url)
    with closing(HTTPConnection(parts.netloc, timeout=120)) as connection:
        connection.request("GET", f"{parts.path}?{fields}", headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


def answered(connection: socket.socket) -> tuple[int, bytes]:
    """The next answer on a connection."""
    with closing(HTTPResponse(connection)) as answer:
        answer.begin()
        return answer.status, answer.read()


def followed(start: Start, journal: Path, count: int) -> list[dict[str, Any]]:
    """The first reports in a journal, as soon as there are so many."""
    process = start("reports", "--journal", journal, "--json", "--follow", "--limit", count)
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stderr) == (0, "")
    return [json.loads(line) for line in stdout.splitlines()]


@pytest.mark.slow
class TestCircle:
    """Send, simulate, push, receive, look."""

    def test_every_number_is_reported(
        self, run: Run, start: Start, journal: Path, some: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What `qxt bulk` sends comes back from `qxt simulate` to `qxt receive`, and `qxt reports` has each number."""
        receiver = start("receive", "--port", "0", "--path", SECRET, "--journal", journal)
        address = listening(receiver)
        assert address.endswith(f"/{SECRET}")
        simulator = start("simulate", "--port", "0", "--push-to", address)
        monkeypatch.setenv("QXT_USER", "user")
        monkeypatch.setenv("QXT_PASSWORD", "password")
        monkeypatch.setenv("QXT_BASE_URL", listening(simulator))
        sent = json.loads(run("bulk", some, "--text", TEXT, "--json", "--journal", journal).stdout)
        rows = followed(start, journal, 200)
        assert sorted(row["number"] for row in rows) == numbers(200)
        assert {row["state"] for row in rows} == {"delivered"}
        assert {row["mid"] for row in rows} == set(sent["mids"])
        receiver.terminate()
        _, stderr = receiver.communicate(timeout=120)
        assert receiver.returncode == 0
        # Neither the secret nor a number is in what a log would keep of a running receiver.
        assert stderr == "stopping: waiting for what is under way; once more to cut it off\n"

    def test_a_killed_receiver_goes_on(
        self, start: Start, run: Run, journal: Path, some: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After kill -9 the same command goes on; the gateway pushes again what was not acknowledged."""
        monkeypatch.setenv("QXT_PUSH_PATH", SECRET)
        monkeypatch.setenv("QXT_JOURNAL", str(journal))
        port = free_port()
        first = start("receive", "--port", port)
        gateway = SimulatedGateway("user", PASSWORD, push_to=listening(first), push=PushPlan(attempts=1000))
        with serve(gateway) as url:
            monkeypatch.setenv("QXT_PASSWORD", PASSWORD)
            assert run("bulk", some, "--text", TEXT, "--user", "user", "--base-url", url).exit_code == 0
            followed(start, journal, 10)
            first.kill()
            first.wait(120)
            before = gateway.stats()["pushes_acknowledged"]
            # Their reports come while nobody is there.
            assert run("bulk", some, "--text", TEXT, "--user", "user", "--base-url", url).exit_code == 0
            listening(start("receive", "--port", port))
            rows = followed(start, journal, 400)
        assert before < 400
        assert sorted(row["number"] for row in rows) == sorted(numbers(200) * 2)

    def test_who_opts_out_is_left_out(
        self, start: Start, run: Run, journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After a reply `回复R` the number is on the list, and no next send with that journal goes to it."""
        monkeypatch.setenv("QXT_PASSWORD", PASSWORD)
        monkeypatch.setenv("QXT_USER", "user")
        receiver = listening(start("receive", "--port", "0", "--path", SECRET, "--journal", journal))
        gone, stays = numbers(2)
        gateway = SimulatedGateway("user", PASSWORD, push_to=receiver)
        with serve(gateway) as url:
            monkeypatch.setenv("QXT_BASE_URL", url)
            gateway.reply(gone, "回复Ｒ。")
            replies = start("replies", "--journal", journal, "--json", "--follow", "--limit", "1")
            assert json.loads(replies.communicate(timeout=120)[0])["text"] == "回复Ｒ。"
            assert run("suppressed", "export", "--journal", journal).stdout == f"{gone}\n"
            path = tmp_path / "both.txt"
            path.write_text(f"{gone}\n{stays}\n", encoding="ascii")
            for command in (("bulk", path), ("send", gone, stays)):
                told = json.loads(run(*command, "--text", TEXT, "--journal", journal, "--json").stdout)
                assert (told["accepted"], told["suppressed"]) == (1, 1)
            told = json.loads(run("check", path, "--text", TEXT, "--journal", journal, "--json").stdout)
            assert (told["valid"], told["suppressed"]) == (1, 1)
            path.write_text(f"{stays}\n", encoding="ascii")
            told = json.loads(
                run("check", path, "--text", TEXT, "--journal", journal, "--suppressed", path, "--json").stdout
            )
            assert (told["valid"], told["suppressed"]) == (0, 1)
        assert set(gateway.taken) == {stays}


class TestJournalToConsult:
    """`--journal` of a command that sends."""

    def test_one_that_is_mistyped(self, run: Run, account: None, gateway: SimulatedGateway, tmp_path: Path) -> None:
        """A journal that is asked for and not there sends nothing, and is not made."""
        ended = run("send", *numbers(1), "--text", TEXT, "--journal", tmp_path / "none.db")
        assert ended.exit_code == 2
        assert "there is no journal" in ended.stderr
        assert not (tmp_path / "none.db").exists()
        assert not gateway.requests

    def test_one_that_nobody_wrote_yet(
        self, run: Run, account: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The environment's journal may come later; until then the command says that no list is used."""
        monkeypatch.setenv("QXT_JOURNAL", str(tmp_path / "later.db"))
        ended = run("send", *numbers(1), "--text", TEXT)
        assert ended.exit_code == 0
        assert "no suppression list is used" in ended.stderr


class TestStopping:
    """SIGINT and SIGTERM."""

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_what_waits_is_finished(self, start: Start, journal: Path, number: signal.Signals) -> None:
        """A push that waits for its commit is stored and acknowledged before the end; one that is half there is cut."""
        process = start("receive", "--port", "0", "--path", SECRET, "--journal", journal)
        address = listening(process)
        assert process.stderr is not None
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
        with (
            closing(sqlite3.connect(journal, isolation_level=None)) as other,
            socket.create_connection((host, port), 30) as half,
            closing(HTTPConnection(parts.netloc, timeout=120)) as whole,
        ):
            half.sendall(f"POST /{SECRET} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\ntype=4".encode())
            other.execute("BEGIN IMMEDIATE")
            whole.request("GET", f"{parts.path}?{report('1', numbers(1)[0])}")
            # Answered behind it, so it is there.
            assert ask(address.replace(SECRET, "x"))[0] == 404
            process.send_signal(number)
            assert process.stderr.readline().startswith("stopping: ")
            assert half.recv(1) == b""
            other.execute("ROLLBACK")
            assert whole.getresponse().read() == b"ok"
        _, stderr = process.communicate(timeout=120)
        assert (process.returncode, stderr) == (0, "")
        with closing(sqlite3.connect(journal)) as after:
            assert after.execute("SELECT count(*) FROM reports").fetchone() == (1,)


def children(process: subprocess.Popen[str]) -> list[int]:
    """The processes that a process has started and that run."""
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def wait_for_end(pids: Sequence[int]) -> None:
    """Wait until these processes have ended; they may be left over until their parent asks."""
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                threading.Event().wait(0.01)


@pytest.mark.slow
class TestProcesses:
    """`--processes`: several processes on one address."""

    @pytest.fixture
    def serving_process(self, start: Start, journal: Path) -> subprocess.Popen[str]:
        """One that has two children."""
        arguments = ("--port", "0", "--path", SECRET, "--journal", journal, "--processes", 2)
        return start("receive", *arguments)

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_all_serve_and_stop(
        self, serving_process: subprocess.Popen[str], journal: Path, number: signal.Signals
    ) -> None:
        """Both take pushes into one journal. A signal, also one to all of them, ends them with exit code 0."""
        address = listening(serving_process)
        pids = children(serving_process)
        assert len(pids) == 2
        for pid, other in (pids, reversed(pids)):
            # While one is stopped the other one answers.
            os.kill(other, signal.SIGSTOP)
            assert ask(address, report(str(pid), numbers(1)[0])) == (200, b"ok")
            os.kill(other, signal.SIGCONT)
        for pid in pids:
            os.kill(pid, number)
        serving_process.send_signal(number)
        _, stderr = serving_process.communicate(timeout=120)
        assert (serving_process.returncode, stderr) == (0, "")
        with closing(sqlite3.connect(journal)) as after:
            assert after.execute("SELECT count(*) FROM reports").fetchone() == (2,)

    def test_one_that_dies(self, serving_process: subprocess.Popen[str]) -> None:
        """The others are stopped, and the command fails, so that whoever supervises it starts it again."""
        listening(serving_process)
        os.kill(children(serving_process)[0], signal.SIGKILL)
        _, stderr = serving_process.communicate(timeout=120)
        assert (serving_process.returncode, stderr) == (
            1,
            "Error: 1 of 2 processes ended by themselves or with an error\n",
        )

    def test_a_second_signal(self, serving_process: subprocess.Popen[str]) -> None:
        """It kills one that does not end."""
        listening(serving_process)
        stopped, other = children(serving_process)
        os.kill(stopped, signal.SIGSTOP)
        serving_process.send_signal(signal.SIGTERM)
        wait_for_end([other])
        serving_process.send_signal(signal.SIGTERM)
        _, stderr = serving_process.communicate(timeout=120)
        assert serving_process.returncode == 1
        assert "1 of 2 processes" in stderr

    def test_a_second_signal_when_one_has_just_ended(self) -> None:
        """What is no longer there does not keep the others alive."""
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait(120)
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as alive:
            Children(-1, {ended.pid: -1, alive.pid: -1}, stopping=True).handle()
            assert alive.wait(120) == -signal.SIGKILL

    def test_a_killed_parent(self, serving_process: subprocess.Popen[str]) -> None:
        """Its children end, too, and leave the port."""
        address = listening(serving_process)
        pids = children(serving_process)
        serving_process.kill()
        wait_for_end(pids)
        with pytest.raises(ConnectionRefusedError):
            ask(address)

    def test_a_journal_that_cannot_be_opened(self, start: Start, tmp_path: Path) -> None:
        """The command says so and ends; it does not say that it listens."""
        process = start("receive", "--port", "0", "--path", SECRET, "--journal", tmp_path, "--processes", 2)
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 1
        assert "listening" not in stderr
        assert stderr.endswith("Error: 2 of 2 processes ended by themselves or with an error\n")


class TestWhoMayPush:
    """The locks that the options set."""

    def test_addresses(self, start: Start, journal: Path) -> None:
        """Behind a trusted proxy, an allowed address and the right path are both needed; all else is the same 404."""
        process = start(
            *("receive", "--port", "0", "--path", f"/{SECRET}/", "--journal", journal, "--verbose"),
            *("--allow", "192.0.2.0/24", "--allow", "198.51.100.7", "--trusted-proxy", "127.0.0.1"),
        )
        address = listening(process)
        number = numbers(1)[0]
        for sender in ("192.0.2.200", "198.51.100.7"):
            assert ask(address, report("1", number), **{"X-Forwarded-For": sender}) == (200, b"ok")
        refused = ask(address, report("2", number), **{"X-Forwarded-For": "203.0.113.1"})
        assert refused == (404, b"not found")
        assert ask(f"{address}x", report("3", number), **{"X-Forwarded-For": "192.0.2.1"}) == refused
        assert ask(address, "type=7&x=" + number, **{"X-Forwarded-For": "192.0.2.1"}) == (200, b"ok")
        process.terminate()
        _, stderr = process.communicate(timeout=120)
        assert "the address 203.0.113.1 is not allowed" in stderr
        assert "unknown-type" in stderr
        assert SECRET not in stderr
        assert number not in stderr

    def test_words_and_channel(self, start: Start, run: Run, journal: Path) -> None:
        """--opt-out says which replies suppress, --channel-number what is the extension."""
        address = listening(
            start(
                *("receive", "--port", "0", "--path", SECRET, "--journal", journal),
                *("--opt-out", "停", "--opt-out", "STOP", "--channel-number", "10690000"),
            )
        )
        for place, (number, text) in enumerate(zip(numbers(3), ("TD", "stop", "停"), strict=True)):
            assert ask(address, reply(str(place), number, text, port="1069000007")) == (200, b"ok")
        assert run("suppressed", "export", "--journal", journal).stdout.split() == numbers(3)[1:]
        rows = [json.loads(line) for line in run("replies", "--journal", journal, "--json").stdout.splitlines()]
        assert {row["extno"] for row in rows} == {"07"}

    def test_no_opting_out(self, start: Start, run: Run, journal: Path) -> None:
        """--no-opt-out is for a channel where T means something else."""
        address = listening(start("receive", "--port", "0", "--path", SECRET, "--journal", journal, "--no-opt-out"))
        assert ask(address, reply("1", numbers(1)[0], "T")) == (200, b"ok")
        assert run("suppressed", "list", "--journal", journal).stdout == ""

    def test_a_guessable_path(self, start: Start, journal: Path) -> None:
        """On the loopback any path will do to try it out, with a warning."""
        process = start("receive", "--port", "0", "--host", "localhost", "--path", "try/it", "--journal", journal)
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("listening on http://localhost:")
        assert line.endswith("/try/it\n")
        assert "can be guessed" in process.stderr.readline()
        address = line.removeprefix("listening on ").strip().replace("localhost", "127.0.0.1")
        assert ask(address, report("1", numbers(1)[0])) == (200, b"ok")
        process.terminate()
        assert process.wait(120) == 0

    def test_a_new_secret(self, run: Run) -> None:
        """--new-secret needs nothing else, and never prints the same twice."""
        secrets = [run("receive", "--new-secret").stdout.strip() for _ in range(2)]
        assert len(secrets[0]) >= 40
        assert secrets[0] != secrets[1]


class TestUsage:
    """What cannot be."""

    @pytest.mark.parametrize(
        ("arguments", "hint"),
        [
            ((), "no path: set QXT_PUSH_PATH, or give --path; qxt receive --new-secret prints one"),
            (("--path", "/"), "no path"),
            (("--path", "short", "--host", "192.0.2.1"), "20 or more"),
            (("--path", "short", "--host", "gateway.invalid"), "20 or more"),
            (("--path", "short", "--trusted-proxy", "127.0.0.1"), "20 or more"),
            (("--path", "a b"), "20 or more"),
            (("--path", SECRET, "--allow", "everybody"), "'everybody' is neither an address nor a network"),
            (("--path", SECRET, "--opt-out", "T", "--no-opt-out"), "contradict each other"),
        ],
    )
    def test_wrong_usage(
        self, run: Run, journal: Path, arguments: tuple[str, ...], hint: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """It is exit code 2 and says what to change; nothing is made."""
        ended = run("receive", "--port", "0", "--journal", journal, *arguments)
        assert ended.exit_code == 2
        assert hint in ended.stderr
        assert not journal.exists()

    def test_a_taken_port(self, run: Run, journal: Path) -> None:
        """A port that somebody has is one line and exit code 1."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            ended = run("receive", "--port", port, "--path", SECRET, "--journal", journal)
        assert ended.exit_code == 1
        assert f"Error: cannot listen on 127.0.0.1, port {port}: " in ended.stderr

    def test_no_journal(self, run: Run, journal: Path) -> None:
        """A file that is no journal is one line and exit code 1."""
        journal.write_text("something else", encoding="ascii")
        ended = run("receive", "--port", "0", "--path", SECRET, "--journal", journal)
        assert ended.exit_code == 1
        assert ended.stderr.startswith("Error: ")
        assert "listening" not in ended.stderr


# --- the server ---------------------------------------------------------------------------------------------------


Served = Callable[..., "AbstractContextManager[str]"]


@pytest.fixture(params=[("h11", False), ("httptools", False), ("httptools", True)], ids=["h11", "httptools", "uvloop"])
def served(request: pytest.FixtureRequest) -> Served:
    """Serves a receiver behind the command's server, in a thread."""
    library, use_uvloop = request.param
    return partial(serving, library=library, use_uvloop=use_uvloop)


@contextmanager
def serving(receiver: PushReceiver, *, use_uvloop: bool, **options: Any) -> Iterator[str]:
    """A receiver behind the command's server, in a thread."""
    listener, address = listen("127.0.0.1", 0)
    with listener, start_blocking_portal("asyncio", backend_options={"use_uvloop": use_uvloop}) as portal:
        server = PushServer(receiver, listener, **options)

        async def run(*, task_status: anyio.abc.TaskStatus[None]) -> None:
            async with receiver:
                await server.run_until_stopped(task_status.started)

        running, _ = portal.start_task(run)
        try:
            yield address
        finally:
            server.should_exit = True
            running.result()


class TestServer:
    """What stands between the network and the receiver."""

    def test_slow_heads_are_cut(self, served: Served) -> None:
        """Who does not finish a request's head is closed, the first and later ones; a push under way is not."""
        release, secret = threading.Event(), new_secret()
        receiver = PushReceiver(path_secret=secret, on_report=lambda _: release.wait(120))
        with served(receiver, head_timeout=2.0) as address:
            port = urlsplit(address).port
            push = f"GET /{secret}?{report('1', numbers(1)[0])} HTTP/1.1\r\nHost: x\r\n\r\n".encode()

            def connected(sent: bytes) -> socket.socket:
                connection = socket.create_connection(("127.0.0.1", port), 30)
                connection.sendall(sent)
                return connection

            # The head that follows the slow one's first request stays incomplete.
            with (
                connected(push) as under_way,
                connected(push.replace(b"type=4", b"type=1") + b"GET /") as slow,
                connected(b"") as silent,
            ):
                assert answered(slow) == (200, b"ok")
                assert silent.recv(1) == b""
                assert slow.recv(1) == b""
                release.set()
                assert answered(under_way) == (200, b"ok")

    def test_who_half_closes_is_answered(self, served: Served) -> None:
        """A pusher may end its side after a request, or two in one segment, and gets its answers; then it is closed."""
        release, secret = threading.Event(), new_secret()
        receiver = PushReceiver(path_secret=secret, on_report=lambda _: release.wait(120))
        # No timer closes it either.
        with served(receiver, head_timeout=1000.0, timeout_keep_alive=1000) as address:
            head = f"POST /{secret}?{report('1', numbers(1)[0])} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
            for count in (1, 2):
                release.clear()
                with socket.create_connection(("127.0.0.1", urlsplit(address).port), 30) as connection:
                    connection.sendall(head.encode() * count)
                    connection.shutdown(socket.SHUT_WR)
                    # Pushed and answered behind it, so the end of its side is known.
                    assert ask(f"{address}/x")[0] == 404
                    release.set()
                    received = b"".join(iter(lambda: connection.recv(4096), b""))
                    assert received.count(b"HTTP/1.1 200 OK\r\n") == count
                    assert received.endswith(b"\r\n\r\nok")

    @pytest.mark.parametrize(
        "sent",
        ["", "GET /", "POST /{} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\ntype=4"],
        ids=["none", "head", "body"],
    )
    def test_half_a_request_gets_no_answer(self, served: Served, sent: str) -> None:
        """Who ends its side before a request is whole is closed; nothing of it is taken."""
        secret, taken = new_secret(), list[object]()
        with served(PushReceiver(path_secret=secret, on_report=taken.append)) as address:
            with socket.create_connection(("127.0.0.1", urlsplit(address).port), 30) as connection:
                connection.sendall(sent.format(secret).encode())
                connection.shutdown(socket.SHUT_WR)
                assert connection.recv(1) == b""
            assert taken == []

    def test_the_one_idle_longest_makes_room(self, served: Served, caplog: pytest.LogCaptureFixture) -> None:
        """At the limit an idle connection is closed for a new one, never one with a push under way."""
        release, secret = threading.Event(), new_secret()
        receiver = PushReceiver(path_secret=secret, on_report=lambda _: release.wait(120))
        with served(receiver, connections=3) as address, ExitStack() as opened:

            def connect(sent: str = "") -> socket.socket:
                connection = opened.enter_context(socket.create_connection(("127.0.0.1", urlsplit(address).port), 30))
                connection.sendall(sent.encode())
                return connection

            push = f"GET /{secret}?{report('1', numbers(1)[0])} HTTP/1.1\r\nHost: x\r\n\r\n"
            reply = push.replace("type=4", "type=1")
            under_way = connect(push)
            used = connect(reply)
            assert answered(used) == (200, b"ok")
            dripping = connect(f"{reply}GET /")
            assert answered(dripping) == (200, b"ok")
            # Used again, it has been idle for a shorter time; bytes of a head that is not whole do not count.
            used.sendall(reply.encode())
            assert answered(used) == (200, b"ok")
            dripping.sendall(b"x")
            new = connect(reply)
            assert answered(new) == (200, b"ok")
            assert dripping.recv(1) == b""
            for connection in (used, new):
                connection.sendall(push.encode())
            # With a request under way on each of them, a new one is closed itself.
            assert connect().recv(1) == b""
            release.set()
            for connection in (under_way, used, new):
                assert answered(connection) == (200, b"ok")
        told = [record.getMessage() for record in caplog.records if record.name == "qxt_async.receiving.receiver"]
        assert told[0] == "the limit of 3 open connections is reached: closed 1 that had been idle longest"

    @pytest.mark.parametrize(
        ("files", "limit"), [(1024, 512), (20_000, 1000), (1, 1), (resource.RLIM_INFINITY, 1000)], ids=str
    )
    def test_the_limit_of_connections(self, files: int, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """Half of the files that the process may have, and a thousand at most."""
        monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
        assert connection_limit() == limit

    def test_large_heads_are_cut(self, served: Served) -> None:
        """A query may have 64 KB; a head that goes on for ever is refused when it is larger than any push's."""
        secret = new_secret()
        with served(PushReceiver(path_secret=secret, on_report=lambda _: None)) as address:
            fields = report("1" * 100, numbers(1)[0], area=quote("x" * 60_000))
            assert ask(f"{address}/{secret}", fields) == (200, b"ok")
            with socket.create_connection(("127.0.0.1", urlsplit(address).port), 30) as endless:
                sent = 0
                with suppress(ConnectionError):
                    while sent < 32:
                        endless.sendall(b"GET /" + b"x" * 2**20)
                        sent += 1
                assert sent < 32

    def test_an_offer_of_http_2_changes_nothing(self, served: Served) -> None:
        """Java's client offers an upgrade with each request: the push in its body is taken all the same."""
        secret, taken = new_secret(), list[StatusReport]()
        with (
            served(PushReceiver(path_secret=secret, on_report=taken.append)) as address,
            socket.create_connection(("127.0.0.1", urlsplit(address).port), 30) as connection,
        ):
            for mid in ("1", "2"):
                body = report(mid, numbers(1)[0])
                head = f"POST /{secret} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"
                head += f"Upgrade: h2c\r\nHTTP2-Settings: AAEA\r\nContent-Length: {len(body)}\r\n\r\n"
                connection.sendall((head + body).encode())
                assert answered(connection) == (200, b"ok")
        assert [push.mid for push in taken] == ["1", "2"]

    def test_an_upgrade_that_cannot_be_undone_gets_no_answer(self) -> None:
        """Httptools skips the body of such a request: the connection is closed, and the gateway pushes again."""
        secret, taken = new_secret(), list[StatusReport]()
        receiver = PushReceiver(path_secret=secret, on_report=taken.append)
        with (
            serving(receiver, use_uvloop=False, library="httptools") as address,
            socket.create_connection(("127.0.0.1", urlsplit(address).port), 30) as connection,
        ):
            head = f"POST /{secret} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nContent-Length: 6\r\nUpgr"
            connection.sendall(head.encode())
            assert ask(f"{address}/x")[0] == 404  # so the first part was read
            connection.sendall(b"ade: h2c\r\n\r\ntype=4")
            with suppress(ConnectionError):
                assert connection.recv(1) == b""
        assert taken == []

    def test_addresses_in_brackets(self) -> None:
        """An IPv6 address stands in brackets."""
        listener, address = listen("::1", 0)
        with listener:
            assert address == f"http://[::1]:{listener.getsockname()[1]}"

    def test_answers_are_not_held_back(self) -> None:
        """The socket says that it speaks TCP, so that asyncio turns Nagle's algorithm off."""
        listener, _ = listen("127.0.0.1", 0)
        with listener:
            assert listener.proto == socket.IPPROTO_TCP
