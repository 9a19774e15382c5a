"""How many functions one number passes through in the run of a campaign: it is not to grow unseen."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import FrameType

import pytest
from support.steps import opened, planned

import qxt_async
from qxt_async import QxtClient
from qxt_async.campaign import Campaigns, RunOptions
from qxt_async.simulator import SimulatedGateway, serve

PACKAGE = str(Path(qxt_async.__file__).parent)
MOST = 156
OTHERS = (f"{PACKAGE}/simulator", f"{PACKAGE}/runtime/server.py")


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_functions_of_a_run(tmp_path: Path) -> None:
    """From `Campaigns.run` to the socket and the disk and back, in all threads, for a campaign of one batch."""
    passed: set[tuple[str, int]] = set()
    counting = False

    def profile(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if counting and event == "call" and code.co_filename.startswith(PACKAGE):
            # A comprehension is a function in some versions of Python.
            if code.co_name.startswith("<") and code.co_name != "<lambda>":
                return
            if not code.co_filename.startswith(OTHERS):
                passed.add((code.co_filename, code.co_firstlineno))

    before = threading.getprofile()
    threading.setprofile(profile)
    try:
        with serve(SimulatedGateway()) as url:
            async with opened(tmp_path) as (journal, store), QxtClient("user", "password", base_url=url) as client:
                campaigns, options = Campaigns(journal, client), RunOptions(check_balance=False)
                await campaigns.run(await planned(store, 1), options)  # loads modules and statements
                campaign = await planned(store, 1)
                sys.setprofile(profile)
                counting = True
                counts = await campaigns.run(campaign, options)
                counting = False
                sys.setprofile(None)
    finally:
        threading.setprofile(before)
        sys.setprofile(None)
    assert counts.accepted == 1
    assert 50 < len(passed) <= MOST, sorted(passed)
