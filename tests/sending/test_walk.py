"""How many functions one number passes through in a bulk send: the count must not grow unseen."""

from __future__ import annotations

import os
import subprocess
import sys

from support.fault_server import FaultServer

MOST = 62

# In a process of its own: what watches over the tests calls functions, too.
PROGRAM = """
import sys
from pathlib import Path

import anyio
import qxt_async

package = str(Path(qxt_async.__file__).parent)
passed = set()

def profile(frame, event, _):
    code = frame.f_code
    if event == "call" and code.co_filename.startswith(package):
        passed.add(f"{code.co_filename.removeprefix(package)}:{code.co_firstlineno} {code.co_name}")

async def main():
    async with qxt_async.QxtClient("someone", "password", base_url=sys.argv[1]) as client:
        await client.send_bulk(["13800138000"], "hello")  # opens the connection
        sys.setprofile(profile)
        result = await client.send_bulk(["13800138001"], "hello")
        sys.setprofile(None)
        assert len(result.accepted) == 1

anyio.run(main)
print(*sorted(passed), sep="\\n")
"""


def test_functions_of_a_bulk_send() -> None:
    """From `send_bulk` to the socket and back, for one batch over httpx, with lambdas and comprehensions."""
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "QXT_CANARIES")}
    with FaultServer() as server:
        command = [sys.executable, "-c", PROGRAM, server.base_url]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environ)
    passed = done.stdout.splitlines()
    assert any("send_bulk" in function for function in passed)
    assert any("pull" in function for function in passed)
    assert len(passed) <= MOST, passed
