"""A worker in a network namespace of its own, cut off from the database in mid-send, and back later."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream, TaskStatus
from anyio.from_thread import start_blocking_portal
from support.postgresql_server import Server
from support.processes import plan
from support.worker_processes import WorkerProcess

from qxt_async.journal import Journal, open_journal
from qxt_async.journal.records import BatchState, CampaignState
from qxt_async.simulator import Fault, SimulatedGateway, serve

NUMBERS = [f"1380013{index:04}" for index in range(40)]
# Of this process's own: another one may run the same. A cable's name has room for fifteen characters.
ID = os.getpid()
NAME = f"qxtcut{ID}"
GATEWAY, DATABASE = f"qxtg{ID}", f"qxtd{ID}"
CABLES = {
    GATEWAY: (f"198.18.{ID % 256}.1", f"198.18.{ID % 256}.2"),
    DATABASE: (f"198.19.{ID % 256}.1", f"198.19.{ID % 256}.2"),
}


def command(line: str) -> None:
    """Run a command of the system."""
    subprocess.run(line.split(), check=True, capture_output=True, timeout=20)


def why_not() -> str:
    """Why there can be no namespaces here, empty if there can."""
    if os.getuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need ip (Debian: iproute2)"
    try:
        command(f"ip netns add {NAME}-try")
        command(f"ip netns del {NAME}-try")
    except (subprocess.CalledProcessError, OSError):
        return "this machine allows no network namespaces"
    return ""


@contextmanager
def namespace() -> Iterator[list[str]]:
    """A namespace with two cables to this one; gives what is put before a command that is to run there."""
    command(f"ip netns add {NAME}")
    try:
        for cable, (here, there) in CABLES.items():
            command(f"ip link add {cable}0 type veth peer name {cable}1 netns {NAME}")
            command(f"ip addr add {here}/24 dev {cable}0")
            command(f"ip link set {cable}0 up")
            command(f"ip -n {NAME} addr add {there}/24 dev {cable}1")
            command(f"ip -n {NAME} link set {cable}1 up")
        yield ["ip", "netns", "exec", NAME]
    finally:
        command(f"ip netns del {NAME}")


@contextmanager
def carried(here: str, target: int) -> Iterator[int]:
    """Carry connections from the end of a cable to a port on the loopback; gives the port there."""

    async def carry(source: SocketStream) -> None:
        async def pump(one: SocketStream, other: SocketStream) -> None:
            with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream):
                while True:
                    await other.send(await one.receive())
            await other.aclose()

        async with source, await anyio.connect_tcp("127.0.0.1", target) as sink, anyio.create_task_group() as group:
            group.start_soon(pump, source, sink)
            group.start_soon(pump, sink, source)

    async def serve_cable(*, task_status: TaskStatus[int]) -> None:
        async with await anyio.create_tcp_listener(local_host=here) as listener:
            task_status.started(listener.extra(SocketAttribute.local_port))
            await listener.serve(carry)

    with start_blocking_portal("asyncio") as portal:
        running, port = portal.start_task(serve_cable)
        try:
            yield port
        finally:
            running.cancel()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_who_comes_back_sends_nothing_that_was_taken_over(postgresql: Server, database: str) -> None:
    """Cut off in mid-send: what it had becomes unknown, another sends the rest; back again, it sends nothing twice."""
    if reason := why_not():
        pytest.skip(reason)
    slow = SimulatedGateway()
    # Answers come when the cable has been cut: they cannot be written down.
    slow.fail_share(Fault.named("slow", delay=5.0), 1.0)
    quick = SimulatedGateway()

    async def run() -> list[BatchState]:
        async with open_journal(database) as journal:
            campaign = await plan(journal, NUMBERS, 2)
            await journal.campaigns.start(campaign)
            await until(lambda: _begun(slow))
            await anyio.to_thread.run_sync(command, f"ip link set {DATABASE}0 down")
            there = await anyio.to_thread.run_sync(partial(WorkerProcess, database, quick_url, timeout=20.0))
            try:
                await until(lambda: _done(journal, campaign))
                states = [batch.state for batch in await journal.campaigns.batches(campaign)]
                before = len(slow.sends)
                await anyio.to_thread.run_sync(command, f"ip link set {DATABASE}0 up")
                # What it holds in its hand it may write down now: then all that was taken is known.
                await until(lambda: _known(journal, campaign, slow, quick))
                assert len(slow.sends) == before
            finally:
                await anyio.to_thread.run_sync(there.end)
            return states

    with (
        namespace() as before,
        serve(slow, CABLES[GATEWAY][0]) as slow_url,
        serve(quick) as quick_url,
        carried(CABLES[DATABASE][0], postgresql.port) as port,
    ):
        address = database.replace(f"127.0.0.1:{postgresql.port}", f"{CABLES[DATABASE][0]}:{port}")
        worker = WorkerProcess(address, slow_url, timeout=20.0, before=before)
        try:
            worker.wait_until_working()
            states = anyio.run(run)
        finally:
            worker.kill()
    # What it had claimed and not begun when it was cut off is unknown, too.
    assert states.count(BatchState.UNKNOWN) >= len(slow.sends) > 0
    assert states.count(BatchState.ACCEPTED) == len(quick.sends) > 0
    assert set((slow.taken + quick.taken).values()) == {1}


async def _begun(gateway: SimulatedGateway) -> bool:
    return bool(gateway.requests)


async def _done(journal: Journal, campaign: int) -> bool:
    return (await journal.campaigns.pending_work(campaign)).state is CampaignState.DONE


async def _known(journal: Journal, campaign: int, *gateways: SimulatedGateway) -> bool:
    taken = sum(len(gateway.taken) for gateway in gateways)
    return (await journal.campaigns.counts(campaign)).accepted == taken


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Look until it is so; the test's timeout is the limit."""
    while not await condition():  # noqa: ASYNC110  (what it looks for happens in a database)
        await anyio.sleep(0.05)
