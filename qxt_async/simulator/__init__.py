"""A simulated QXT gateway to test against.

In a test, in process::

    gateway = SimulatedGateway()
    gateway.fail_next("take-then-reset")
    client = QxtClient("user", "password", base_url="http://gateway.test/qxt", transport=gateway.transport())

on a real socket::

    with serve(gateway) as base_url:
        ...

`gateway.sends` and `gateway.taken` say what it took, `gateway.push_all` and `gateway.reply` call back. The pytest
plugin brings the fixtures `qxt_gateway`, `qxt_client` and `qxt_gateway_url`.
"""

from qxt_async.simulator.books import SimulatedRequest, SimulatedSend, Submission
from qxt_async.simulator.faults import FAULTS, ConnectionDroppedError, Drop, Fault, parse_share
from qxt_async.simulator.gateway import SimulatedGateway
from qxt_async.simulator.over_httpx import GatewayTransport
from qxt_async.simulator.pushes import PushPlan
from qxt_async.simulator.server import run_server, serve

__all__ = [
    "FAULTS",
    "ConnectionDroppedError",
    "Drop",
    "Fault",
    "GatewayTransport",
    "PushPlan",
    "SimulatedGateway",
    "SimulatedRequest",
    "SimulatedSend",
    "Submission",
    "parse_share",
    "run_server",
    "serve",
]
