"""The gateway of the soak in a process of its own, given where to push: prints its address, serves until input ends."""

from __future__ import annotations

import sys
import threading

from qxt_async.simulator import PushPlan, SimulatedGateway, serve

PUSHES = PushPlan(
    method="POST", batch_size=5, delay=(0.0, 0.3), duplicates=0.2, shuffle=True, early=0.2, rejected=0.05, failed=0.1
)

if __name__ == "__main__":
    with serve(SimulatedGateway(balance=10**12, seed=1, push_to=sys.argv[1], push=PUSHES)) as url:
        print(url, flush=True)
        ended = threading.Event()
        threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
        ended.wait()
