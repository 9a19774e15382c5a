"""A simulated QXT gateway for tests.

In a test, in process::

    gateway = SimulatedGateway()
    gateway.fail_next("take-then-reset")
    client = QxtClient("user", "password", base_url="http://gateway.test/qxt", transport=gateway.transport())

on a real socket::

    with serve(gateway) as base_url:
        ...

`gateway.sends` and `gateway.taken` say what it took. `gateway.push_all` pushes status reports, and `gateway.reply` lets
a phone reply. The pytest plugin has the fixtures `qxt_gateway`, `qxt_client` and `qxt_gateway_url`.
"""

from qxt_async.simulator.faults import FAULTS, ConnectionDroppedError, Drop, Fault, parse_share
from qxt_async.simulator.gateway import SimulatedGateway
from qxt_async.simulator.in_process import GatewayTransport
from qxt_async.simulator.push_plan import PushPlan
from qxt_async.simulator.request_log import SimulatedRequest, SimulatedSend, Submission
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
