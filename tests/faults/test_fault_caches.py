"""Rows of the fault matrix behind a cache: a real Varnish, as it comes, before the simulated gateway."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from faults.test_fault_campaigns import OPTIONS, plan
from faults.test_fault_matrix import number_run
from support.ports import free_port

from qxt_async import QxtClient, RetryPolicy, errors
from qxt_async.campaign import Campaigns
from qxt_async.journal import open_journal
from qxt_async.simulator import SimulatedGateway, serve

VARNISH = shutil.which("varnishd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
LOST = {"closed": "take-then-close", "too slow": "take-then-hang"}
LANES = [("asyncio", "httpx"), ("trio", "httpx2"), ("asyncio", "aiohttp")]
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(VARNISH is None, reason="varnishd is not installed (Debian: apt-get install varnish)"),
]

_CONFIGURATION = """
vcl 4.1;
backend default {{ .host = "127.0.0.1"; .port = "{port}"; .first_byte_timeout = {patience}s; }}
"""


@contextmanager
def varnish(folder: Path, behind: int, *, patience: float = 30) -> Iterator[str]:
    """A Varnish with its own rules before a port of this machine, as a base address; it waits so long for an answer."""
    port = free_port()
    configuration = folder / "default.vcl"
    configuration.write_text(_CONFIGURATION.format(port=behind, patience=patience))
    command = [str(VARNISH), "-F", "-j", "none", "-n", str(folder / "varnish"), "-f", str(configuration)]
    with (folder / "varnish.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "-a", f"127.0.0.1:{port}", "-T", "none", "-s", "malloc,16m"], stdout=log, stderr=log
        )
        try:
            deadline = time.monotonic() + 120
            while True:
                assert process.poll() is None, (folder / "varnish.log").read_text()
                assert time.monotonic() < deadline
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.02)  # it compiles its configuration, and has better uses for the processor
            yield f"http://127.0.0.1:{port}/qxt"
        finally:
            process.terminate()
            process.wait(120)


@contextmanager
def behind_varnish(folder: Path, *, patience: float = 30) -> Iterator[tuple[SimulatedGateway, str]]:
    """A simulated gateway, and the address of the Varnish before it."""
    gateway = SimulatedGateway("someone", "password")
    with serve(gateway) as url, varnish(folder, int(url.split(":")[2].split("/")[0]), patience=patience) as front:
        yield gateway, front


def client_of(base_url: str, transport: str, **options: Any) -> QxtClient:
    """A client that would try again at once, if it did."""
    retry = RetryPolicy(3, backoff=0.01, max_backoff=0.05)
    return QxtClient("someone", "password", base_url=base_url, transport=transport, retry=retry, **options)


async def states(call: str, client: QxtClient, numbers: list[str], journal: Path) -> dict[str, str]:
    """Make one call in batches of 20; what became of each number."""
    if call == "campaign":
        async with open_journal(journal) as opened:
            campaign = await plan(opened, numbers)
            await Campaigns(opened, client).run(campaign, OPTIONS)
            records, _ = await opened.campaigns.numbers(campaign)
            return {record.number: record.state.value for record in records}
    result: Any
    if call == "send":
        try:
            result = await client.send(numbers, "hello")
        except errors.QxtError as error:
            result = error.result
    else:
        result = await client.send_bulk(numbers, "hello", batch_size=20)
    return {number: state for state in ("accepted", "failed", "unknown") for number in getattr(result, state)}


# Each call in turn behind the same Varnish: one is compiled when it starts. When the answer is too slow, which takes
# its time, each lane makes another call.
CALLS = ("send", "send_bulk", "campaign")
CASES = [(*lane, "closed", CALLS) for lane in LANES]
CASES += [(*lane, "too slow", (call,)) for lane, call in zip(LANES, CALLS, strict=True)]
CASES = [pytest.param(*case, id="-".join((*case[:3], "+".join(case[3])))) for case in CASES]


@pytest.mark.parametrize(("anyio_backend", "transport", "lost", "calls"), CASES)
async def test_row_19_a_cache_that_loses_answers_makes_nothing_go_out_twice(
    transport: str, lost: str, calls: tuple[str, ...], tmp_path: Path
) -> None:
    """It says 503 with ``Retry-After`` when the gateway has taken the request: unknown, neither failed nor repeated."""
    taken: list[str] = []
    with behind_varnish(tmp_path, patience=120 if lost == "closed" else 5) as (gateway, base_url):
        for place, call in enumerate(calls):
            numbers = number_run(1000 * place, 20 if call == "send" else 60)
            after = number_run(1000 * place + 500, 1)
            taken += [*numbers, *after]
            gateway.fail_next(LOST[lost], times=1)
            async with client_of(base_url, transport, max_concurrency=1) as client:
                found = await states(call, client, numbers, tmp_path / "qxt.db")
                assert (await client.send(after, "after")).mid, call
            assert sorted(found) == numbers, call
            assert [list(found.values()).count(state) for state in ("unknown", "failed")] == [20, 0], call
            assert gateway.taken == dict.fromkeys(taken, 1), call


@pytest.mark.parametrize(("anyio_backend", "transport", "lost", "calls"), CASES[::2])
async def test_row_19_a_cache_that_loses_every_answer(
    transport: str, lost: str, calls: tuple[str, ...], tmp_path: Path
) -> None:
    """All that was taken is unknown, and nothing is called failed."""
    taken: list[str] = []
    with behind_varnish(tmp_path, patience=120 if lost == "closed" else 1) as (gateway, base_url):
        gateway.fail_share(LOST[lost], 1)
        for place, call in enumerate(calls):
            numbers = number_run(1000 * place, 20 if call == "send" else 60)
            taken += numbers
            async with client_of(base_url, transport) as client:
                found = await states(call, client, numbers, tmp_path / "qxt.db")
            assert found == dict.fromkeys(numbers, "unknown"), call
            # What Varnish no longer waits for, a busy gateway may not have read yet.
            with anyio.fail_after(120):
                while gateway.taken.total() < len(taken):  # noqa: ASYNC110
                    await anyio.sleep(0.01)
            assert gateway.taken == dict.fromkeys(taken, 1), call


@pytest.mark.parametrize(("anyio_backend", "transport"), LANES)
async def test_row_37_a_cached_answer_is_no_answer(transport: str, tmp_path: Path) -> None:
    """A GET that says the same again may get the first one's answer, and is unknown; another text is not the same."""
    with behind_varnish(tmp_path) as (gateway, base_url):
        async with client_of(base_url, transport, method="GET") as client:
            first = await client.send("13800138000", "hello")
            with pytest.raises(errors.OutcomeUnknownError):
                await client.send("13800138000", "hello")
            other = await client.send("13800138000", "hello again")
    assert None not in {first.mid, other.mid}
    assert first.mid != other.mid
    assert gateway.times_taken("13800138000") == 2


@pytest.mark.parametrize(("anyio_backend", "transport"), LANES)
async def test_a_post_through_a_cache_is_sent_each_time(transport: str, tmp_path: Path) -> None:
    """Nothing of a POST is kept: two equal ones are two sends."""
    with behind_varnish(tmp_path) as (gateway, base_url):
        async with client_of(base_url, transport) as client:
            mids = {(await client.send("13800138000", "hello")).mid for _ in range(2)}
    assert len(mids - {None}) == 2
    assert gateway.times_taken("13800138000") == 2
