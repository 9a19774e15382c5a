"""Rows of the fault matrix that are no server's doing: many tasks, the environment, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from faults.catalogue import take_and_stall
from faults.server import DIGEST, FaultServer, normal
from faults.test_fault_matrix import LANES, number_run

from qxt_async import QxtClient, RetryPolicy


@pytest.mark.anyio
@pytest.mark.parametrize("concurrency", [3, 12])
@pytest.mark.parametrize(("anyio_backend", "transport"), LANES)
async def test_row_2_more_tasks_than_connections(transport, concurrency):
    """Tasks wait for the client's semaphore: none meets a full pool, and no connection is opened beyond the limit."""
    outcomes: list[str] = []
    with FaultServer() as server:
        async with QxtClient(
            "someone",
            password_md5=DIGEST,
            base_url=server.base_url,
            transport=transport,
            max_concurrency=concurrency,
            connect_timeout=5,
            retry=RetryPolicy(1),
        ) as client:

            async def send(number: str) -> None:
                outcomes.append((await client.send(number, "hello")).outcome)

            async with anyio.create_task_group() as group:
                for number in number_run(0, 60):
                    group.start_soon(send, number)
        assert outcomes == ["accepted"] * 60
        assert server.most_open <= concurrency
        assert set(server.taken.values()) == {1}


@pytest.mark.anyio
@pytest.mark.parametrize(("anyio_backend", "transport"), LANES)
async def test_row_29_a_proxy_of_the_environment_is_ignored(transport, monkeypatch):
    """``HTTP_PROXY`` leads nowhere unless ``trust_env`` asks for it."""
    with FaultServer() as server, FaultServer() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        for trust_env, through in ((False, server), (True, proxy)):
            async with QxtClient(
                "someone", password_md5=DIGEST, base_url=server.base_url, transport=transport, trust_env=trust_env
            ) as client:
                await client.send(number_run(len(through.base_url) + trust_env, 1), "hello")
        await to_thread.run_sync(server.settle)
        await to_thread.run_sync(proxy.settle)
        assert len(server.requests) == len(proxy.requests) == 1
        assert proxy.requests[0].target.startswith(server.base_url)


_CHILD = """
    import json, signal, sys
    import anyio
    from qxt_async import QxtClient

    base_url, digest, books, backend, transport = sys.argv[1:]

    def tell(result):
        with open(books, "a") as file:
            states = {name: getattr(result, name) for name in ("accepted", "failed", "unknown")}
            file.write(json.dumps(states) + "\\n")

    async def stop_on_term(scope):
        with anyio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                scope.cancel()

    async def main():
        numbers = [f"1380{number:07d}" for number in range(400)]
        async with QxtClient(
            "someone", password_md5=digest, base_url=base_url, transport=transport, max_concurrency=4
        ) as client, anyio.create_task_group() as group:
            group.start_soon(stop_on_term, group.cancel_scope)
            await client.send_bulk(numbers, "hello", batch_size=20, on_result=tell)

    code = 43
    try:
        anyio.run(main, backend=backend)
    except* KeyboardInterrupt:  # alone or, on trio, in the group of the task group
        code = 42
    sys.exit(code)
"""


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
@pytest.mark.parametrize(("backend", "transport"), [LANES[0], LANES[1], LANES[4]])
def test_row_23_a_signal_loses_nothing(backend, transport, stop, tmp_path):
    """A process stopped by a signal has told of every batch that left it, and of no other as if it had."""
    books = tmp_path / "books.jsonl"
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(_CHILD), encoding="utf-8")
    with FaultServer(default=take_and_stall) as server:
        server.plan(*[normal] * 5)
        command = [sys.executable, str(program), server.base_url, DIGEST, str(books), backend, transport]
        paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ["PYTHONPATH"]])
        with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths}) as process:
            try:
                server.wait_for(lambda: len(server.taken) == 9 * 20, 60)
                process.send_signal(stop)
                assert process.wait(30) == (42 if stop is signal.SIGINT else 43)
            finally:
                process.kill()
        server.settle()
        told = [json.loads(line) for line in books.read_text(encoding="utf-8").splitlines()]
        accepted = {number for states in told for number in states["accepted"]}
        failed = {number for states in told for number in states["failed"]}
        unknown = {number for states in told for number in states["unknown"]}
        assert len(accepted) == 100
        assert len(unknown) == 80
        assert set(server.taken) == accepted | unknown
        assert not failed.intersection(server.taken)
        assert set(server.taken.values()) == {1}
