"""Fixtures for pytest. Pytest finds them once the library is installed.

===================  =================================================================================================
`qxt_gateway`        a fresh `SimulatedGateway` for the test: faults to set, sends to inspect
`qxt_client`         a `QxtClient` whose requests reach that gateway without a socket
`qxt_gateway_url`    the base address of the same gateway on a real socket (needs the extra ``cli``)
===================  =================================================================================================

A synchronous fixture makes the client, so it works in asynchronous tests with anyio's plugin (asyncio and trio) and
with pytest-asyncio. A test may enter or close the client, but need not: without a socket there is nothing to close.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from qxt_async.simulator.gateway import SimulatedGateway
from qxt_async.simulator.server import serve

if TYPE_CHECKING:
    from collections.abc import Generator

    from qxt_async import QxtClient

__all__ = ["qxt_client", "qxt_gateway", "qxt_gateway_url"]


@pytest.fixture
def qxt_gateway() -> SimulatedGateway:
    """A new simulated gateway; its account is ``user`` with ``password``."""
    return SimulatedGateway()


@pytest.fixture
def qxt_client(qxt_gateway: SimulatedGateway) -> QxtClient:
    """A client of `qxt_gateway`, without a socket."""
    from qxt_async import QxtClient

    return QxtClient("user", "password", base_url="http://gateway.test/qxt", transport=qxt_gateway.transport())


@pytest.fixture
def qxt_gateway_url(qxt_gateway: SimulatedGateway) -> Generator[str]:
    """The base address of `qxt_gateway` on a real socket of the loopback."""
    with serve(qxt_gateway) as url:
        yield url
