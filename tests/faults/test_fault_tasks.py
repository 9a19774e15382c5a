"""Rows of the fault matrix that are no server's doing: many tasks, the environment, signals, a cache."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import anyio
import attrs
import pytest
from anyio import to_thread
from faults.test_fault_campaigns import OPTIONS, plan
from faults.test_fault_matrix import EACH_ONCE, LANES, STATES, number_run
from support.catalogue import take_and_stall
from support.fault_server import DIGEST, FaultServer, Wire, http, normal, ok_line

from qxt_async import QxtClient, RetryPolicy, UnusableAnswerError
from qxt_async.campaign import Campaigns
from qxt_async.journal import Journal, open_journal

CALLS = ("send", "send_bulk", "campaign")
AT_ONCE = {"send": 60, "send_bulk": 6, "campaign": 6}


async def accepted(call: str, client: QxtClient, numbers: list[str], journal: Journal) -> int:
    """Make one call, with a batch for each number if it cuts batches; how many numbers it says are accepted."""
    if call == "send":
        return len((await client.send(numbers, "hello")).accepted)
    if call == "send_bulk":
        return len((await client.send_bulk(numbers, "hello", batch_size=1)).accepted)
    campaign = await plan(journal, numbers, size=1)
    return (await Campaigns(journal, client).run(campaign, attrs.evolve(OPTIONS, retry=RetryPolicy(1)))).accepted


@pytest.mark.anyio
@pytest.mark.parametrize(("concurrency", "call"), [(3, "send"), (12, "send"), (3, "send_bulk"), (12, "campaign")])
@pytest.mark.parametrize(("anyio_backend", "transport"), LANES)
async def test_row_2_more_tasks_than_connections(transport, concurrency, call, tmp_path):
    """Tasks wait for the client's semaphore: none meets a full pool, and no connection is opened beyond the limit."""
    told: list[int] = []
    each = 60 // AT_ONCE[call]
    with FaultServer() as server:
        async with (
            open_journal(tmp_path / "qxt.db") as journal,
            QxtClient(
                "someone",
                password_md5=DIGEST,
                base_url=server.base_url,
                transport=transport,
                max_concurrency=concurrency,
                connect_timeout=60,
                retry=RetryPolicy(1),
            ) as client,
            anyio.create_task_group() as group,
        ):

            async def make(numbers: list[str]) -> None:
                told.append(await accepted(call, client, numbers, journal))

            for place in range(AT_ONCE[call]):
                group.start_soon(make, number_run(place * each, each))
        assert told == [each] * AT_ONCE[call]
        assert len(server.taken) == 60
        assert server.most_open <= concurrency
        assert set(server.taken.values()) == {1}


@pytest.mark.anyio
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("anyio_backend", "transport"), LANES)
async def test_row_29_a_proxy_of_the_environment_is_ignored(transport, call, monkeypatch, tmp_path):
    """``HTTP_PROXY`` leads nowhere unless ``trust_env`` asks for it."""
    with FaultServer() as server, FaultServer() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        for trust_env in (False, True):
            async with (
                open_journal(tmp_path / "qxt.db") as journal,
                QxtClient(
                    "someone", password_md5=DIGEST, base_url=server.base_url, transport=transport, trust_env=trust_env
                ) as client,
            ):
                assert await accepted(call, client, number_run(trust_env, 1), journal) == 1
        await to_thread.run_sync(server.settle)
        await to_thread.run_sync(proxy.settle)
        assert [request.numbers for request in server.requests] == [tuple(number_run(0, 1))]
        assert [request.numbers for request in proxy.requests] == [tuple(number_run(1, 1))]
        assert proxy.requests[0].target.startswith(server.base_url)


@pytest.mark.anyio
@pytest.mark.parametrize("age", [("Age: 7",), ()], ids=["with Age", "without"])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("anyio_backend", "transport"), EACH_ONCE)
async def test_row_37_a_cache_that_answers_a_repeated_get(transport, call, age, tmp_path):
    """A cache that answers a GET with what an earlier one was told accepts nothing: unknown; it is asked not to."""
    kept: dict[str, bytes] = {}

    async def cache(wire: Wire) -> None:
        request = await wire.request()
        headers = age if request.target in kept else ()
        if request.target not in kept:
            kept[request.target] = ok_line(wire.take(request), request.numbers)
        await wire.send(http(kept[request.target], headers=headers))

    numbers = number_run(0, 3)
    with FaultServer(cache) as server:
        async with (
            open_journal(tmp_path / "qxt.db") as journal,
            QxtClient(
                "someone", password_md5=DIGEST, base_url=server.base_url, transport=transport, method="GET"
            ) as client,
        ):
            assert await accepted(call, client, numbers, journal) == 3
            for _ in range(2):
                if call == "send":
                    with pytest.raises(UnusableAnswerError, match="cache"):
                        await accepted(call, client, numbers, journal)
                else:
                    assert await accepted(call, client, numbers, journal) == 0
        await to_thread.run_sync(server.settle)
        assert server.taken == dict.fromkeys(numbers, 1)
        assert len(server.requests) == 3 * len(kept)
        for request in server.requests:
            assert ("cache-control", "no-store") in [(name.lower(), value) for name, value in request.headers]


_CHILD = """
    import json, signal, sys
    import anyio
    from qxt_async import QxtClient
    from qxt_async.campaign import Campaigns, RunOptions
    from qxt_async.journal import open_journal

    base_url, digest, books, journal, backend, transport, call = sys.argv[1:]
    numbers = [f"1380{number:07d}" for number in range(400)]

    def tell(result):
        with open(books, "a") as file:
            states = {name: getattr(result, name) for name in ("accepted", "failed", "unknown")}
            file.write(json.dumps(states) + "\\n")

    async def stop_on_term(scope):
        with anyio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                scope.cancel()

    async def send(client):
        async with anyio.create_task_group() as group:
            for at in range(0, 400, 20):
                group.start_soon(lambda some: client.send(some, "hello", on_result=tell), numbers[at : at + 20])

    async def send_bulk(client):
        await client.send_bulk(numbers, "hello", batch_size=20, on_result=tell)

    async def campaign(client):
        async with open_journal(journal) as opened:
            await Campaigns(opened, client).run(1, RunOptions(check_balance=False))

    async def main():
        async with QxtClient(
            "someone", password_md5=digest, base_url=base_url, transport=transport, max_concurrency=4
        ) as client, anyio.create_task_group() as group:
            group.start_soon(stop_on_term, group.cancel_scope)
            await globals()[call](client)

    code = 43
    try:
        anyio.run(main, backend=backend)
    except* KeyboardInterrupt:  # alone or, on trio, in the group of the task group
        code = 42
    sys.exit(code)
"""


async def planned(path: Path) -> None:
    """A campaign in a new journal."""
    async with open_journal(path) as journal:
        await plan(journal, number_run(0, 400))


async def recorded(path: Path) -> list[dict[str, list[str]]]:
    """What the journal says of each number."""
    async with open_journal(path) as journal:
        records, _ = await journal.campaigns.numbers(1)
    return [{record.state.value: [record.number]} for record in records]


# Each two of call, signal and lane meet at least once.
STOPS = [
    pytest.param(*lane, stop, call, id=f"{lane[1]}-{lane[0]}-{stop.name}-{call}")
    for at, lane in enumerate(EACH_ONCE)
    for place, call in enumerate(CALLS)
    for stop in [(signal.SIGINT, signal.SIGTERM)[(at + place) % 2]]
]


@pytest.mark.parametrize(("backend", "transport", "stop", "call"), STOPS)
def test_row_23_a_signal_loses_nothing(backend, transport, stop, call, tmp_path):
    """A process stopped by a signal has told of every batch that left it, and of no other as if it had."""
    books, journal, program = (tmp_path / name for name in ("books.jsonl", "qxt.db", "program.py"))
    program.write_text(textwrap.dedent(_CHILD), encoding="utf-8")
    anyio.run(planned, journal)
    with FaultServer(default=take_and_stall) as server:
        server.plan(*[normal] * 5)
        given = [server.base_url, DIGEST, str(books), str(journal), backend, transport, call]
        paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ["PYTHONPATH"]])
        with subprocess.Popen(
            [sys.executable, str(program), *given], env={**os.environ, "PYTHONPATH": paths}
        ) as process:
            try:
                server.wait_for(lambda: len(server.taken) == 9 * 20, 120)
                process.send_signal(stop)
                assert process.wait(120) == (42 if stop is signal.SIGINT else 43)
            finally:
                process.kill()
        server.settle()
    told = (
        anyio.run(recorded, journal)
        if call == "campaign"
        else [json.loads(line) for line in books.read_text(encoding="utf-8").splitlines()]
    )
    accepted, failed, unknown = ({number for states in told for number in states.get(state, ())} for state in STATES)
    assert len(accepted) == 100
    assert len(unknown) == 80
    assert set(server.taken) == accepted | unknown
    assert not failed.intersection(server.taken)
    assert set(server.taken.values()) == {1}
