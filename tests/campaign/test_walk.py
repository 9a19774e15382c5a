"""How many functions one number passes through in the run of a campaign: the count must not grow unseen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

MOST = 143

# In a process of its own: what watches over the tests calls functions, too.
PROGRAM = """
import sys
import threading
from pathlib import Path

import anyio
import qxt_async
from qxt_async.campaign import Campaigns, RunOptions
from qxt_async.journal import open_journal
from qxt_async.simulator import SimulatedGateway, serve

package = str(Path(qxt_async.__file__).parent)
others = (f"{package}/simulator", f"{package}/runtime/server.py")
passed = set()
counting = False

def profile(frame, event, _):
    code = frame.f_code
    file = code.co_filename
    if counting and event == "call" and file.startswith(package) and not file.startswith(others):
        # A comprehension is a function in some versions of Python.
        if not code.co_name.startswith("<") or code.co_name == "<lambda>":
            passed.add(f"{file.removeprefix(package)}:{code.co_firstlineno} {code.co_name}")

async def main(url):
    global counting
    async with open_journal(sys.argv[1]) as journal, qxt_async.QxtClient("user", "password", base_url=url) as client:
        campaigns, options = Campaigns(journal, client), RunOptions(check_balance=False)
        first, second = [(await campaigns.plan([number], "hello")).id for number in ("13800138000", "13800138001")]
        await campaigns.run(first, options)  # loads modules and statements
        sys.setprofile(profile)
        counting = True
        counts = await campaigns.run(second, options)
        counting = False
        sys.setprofile(None)
        assert counts.accepted == 1

threading.setprofile(profile)
with serve(SimulatedGateway()) as url:
    anyio.run(main, url)
print(*sorted(passed), sep="\\n")
"""


def test_functions_of_a_run(tmp_path: Path) -> None:
    """From `Campaigns.run` to the socket and the disk and back, in all threads, for a campaign of one batch."""
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "QXT_CANARIES")}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "journal.db")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environ)
    passed = done.stdout.splitlines()
    assert any("pull" in function for function in passed)
    assert any("_commit" in function for function in passed)
    assert len(passed) <= MOST, passed
