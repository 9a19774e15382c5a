"""Ports of the loopback for servers that are started later, or again."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from pathlib import Path

# Test processes draw from ports of their own, so that none draws what another has drawn and not yet bound.
_PROCESSES = 16


def free_port() -> int:
    """A free port that stays free until its server starts, and while it is stopped.

    Not one that the system gives out: whoever tries to connect meanwhile could be given it, and so meet itself.
    """
    given_out = Path("/proc/sys/net/ipv4/ip_local_port_range")
    lowest = int(given_out.read_text().split()[0]) if given_out.exists() else 32768
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    while True:
        port = random.SystemRandom().randrange(lowest // 2 + process % _PROCESSES, lowest, _PROCESSES)
        with socket.socket() as free, contextlib.suppress(OSError):
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("127.0.0.1", port))
            return port
