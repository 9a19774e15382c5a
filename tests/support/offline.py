"""For `nox -s quick`: a test that would open a connection, or listen for one, fails."""

from __future__ import annotations

import sys
from typing import Any

import pytest


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    # An address on the network is a tuple; event loops wake themselves through a pair that needs no address.
    if event in ("socket.connect", "socket.bind") and isinstance(arguments[1], tuple):
        pytest.fail("this test needs a socket: mark it slow, or leave its folder out of `nox -s quick`")


def refuse_sockets() -> None:
    """Begin to refuse them, until this process ends."""
    sys.addaudithook(_refuse)
