"""The simulated gateway in a process of its own: prints its address, serves until its input ends."""

from __future__ import annotations

import sys
import threading

from qxt_async.simulator import SimulatedGateway, serve

if __name__ == "__main__":
    with serve(SimulatedGateway(seed=int(sys.argv[1]))) as url:
        print(url, flush=True)
        ended = threading.Event()
        threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
        ended.wait()
