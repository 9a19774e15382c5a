"""A campaign of a million numbers takes no more memory than one of ten thousand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
import anyio
from qxt_async import QxtClient

class Discarding:
    async def exchange(self, exchange):
        form = exchange.pull()
        tele = form[form.index(b"&tele=") + 6 : form.rindex(b"&password=")]
        exchange.begin_answer(200, None, None)
        exchange.finish(b"ok:1:" + tele)

    async def aclose(self):
        pass

def peak():
    # Not getrusage: on Linux a program's peak there begins with that of the process that started it.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

async def send(count):
    accepted = 0
    async with QxtClient("demo", "password", base_url="http://gateway.test/qxt", transport=Discarding()) as client:
        numbers = (f"13{n * 7 % 1_000_000_000:09d}" for n in range(count))
        async with client.stream_bulk(numbers, "text", deduplicate=sys.argv[1] == "deduplicate") as batches:
            async for batch in batches:
                accepted += len(batch.accepted)
    assert accepted == count

anyio.run(send, 10_000)
before = peak()
anyio.run(send, 1_000_000)
print((peak() - before) / 1_000_000)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads what /proc says of a process")
@pytest.mark.parametrize(("memory", "megabytes"), [("constant", 30), ("deduplicate", 40)])
def test_a_million_numbers_in_constant_memory(memory: str, megabytes: int) -> None:
    """From a generator through `stream_bulk`, remembering nothing or remembering in the compact set."""
    if memory == "deduplicate":
        pytest.importorskip("pyroaring")
    done = subprocess.run([sys.executable, "-c", PROGRAM, memory], check=True, capture_output=True, text=True)
    assert float(done.stdout) < megabytes
