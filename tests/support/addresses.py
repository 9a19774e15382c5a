"""Addresses where nobody answers, each a context manager that gets the fault server and gives a base URL."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Generator

import trustme

from support.fault_server import FaultServer
from support.tls import TlsFront, server_context


@contextlib.contextmanager
def unresolvable(_: FaultServer) -> Generator[str]:
    """A name that no resolver knows (RFC 6761); one that loses a question is asked again soon, and not after 5 s."""
    before = os.environ.get("RES_OPTIONS")
    os.environ["RES_OPTIONS"] = "timeout:1"
    try:
        yield "http://gateway.invalid/qxt"
    finally:
        os.environ.pop("RES_OPTIONS")
        if before is not None:
            os.environ["RES_OPTIONS"] = before


@contextlib.contextmanager
def closed_port(_: FaultServer) -> Generator[str]:
    """A port that is taken, on which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/qxt"


@contextlib.contextmanager
def full_backlog(_: FaultServer) -> Generator[str]:
    """A port that does not get round to accepting."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/qxt"


@contextlib.contextmanager
def plain_for_tls(server: FaultServer) -> Generator[str]:
    """An address with ``https`` where nobody speaks TLS."""
    yield server.base_url.replace("http:", "https:")


@contextlib.contextmanager
def self_signed(server: FaultServer) -> Generator[str]:
    """An address with ``https`` and a certificate that nobody vouches for."""
    with TlsFront(server_context(trustme.CA()), server.port) as front:
        yield front.base_url
        assert not front.received
