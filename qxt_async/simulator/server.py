"""The simulated gateway on a real socket: in a thread for tests and scripts, or awaited for the command line."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from anyio.from_thread import start_blocking_portal

from qxt_async.runtime.signals import run_until_signalled
from qxt_async.runtime.words import missing_extra

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Generator

    import anyio.abc

    from qxt_async.simulator.gateway import SimulatedGateway
    from qxt_async.simulator.uvicorn_server import GatewayServer


def _open(gateway: SimulatedGateway, host: str, port: int) -> tuple[GatewayServer, socket.socket, str]:
    """Open the listening socket: returns the server, the socket and the base address."""
    try:
        from qxt_async.runtime.server import listen
        from qxt_async.simulator.uvicorn_server import GatewayServer
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(missing_extra("cli", "serving the simulated gateway"), name=error.name) from error
    listener, address = listen(host, port)
    return GatewayServer(gateway, listener), listener, f"{address}/qxt"


async def run_server(
    gateway: SimulatedGateway, host: str = "127.0.0.1", port: int = 0, *, on_listening: Callable[[str], None]
) -> None:
    """Serve a gateway until cancelled, or until SIGINT or SIGTERM. Needs asyncio, and the main thread for signals.

    Args:
        gateway: to serve; with `push_to` it pushes meanwhile.
        host: address to listen on. Nothing protects the simulator: keep it on the loopback.
        port: 0 for a free one.
        on_listening: called once with the base address, such as ``http://127.0.0.1:8080/qxt``.

    Raises:
        ModuleNotFoundError: uvicorn is not installed; it comes with the extra ``cli``.
        OSError: the port is taken.
    """
    server, listener, url = _open(gateway, host, port)

    def stop(_: object) -> None:
        server.should_exit = True

    with listener:
        await run_until_signalled(lambda: server.run_until_stopped(lambda: on_listening(url)), stop)


@contextmanager
def serve(gateway: SimulatedGateway, host: str = "127.0.0.1", port: int = 0) -> Generator[str]:
    """Serve a gateway in a thread of its own, and stop when the block ends; connections are then reset.

    Args:
        gateway: to serve; it may be told and asked from any thread meanwhile.
        host: address to listen on.
        port: 0 for a free one.

    Yields:
        The base address, such as ``http://127.0.0.1:54321/qxt``.

    Raises:
        ModuleNotFoundError: uvicorn is not installed; it comes with the extra ``cli``.
        OSError: the port is taken.
    """
    server, listener, url = _open(gateway, host, port)

    async def run(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        await server.run_until_stopped(task_status.started)

    with listener, start_blocking_portal("asyncio") as portal:
        running, _ = portal.start_task(run)
        try:
            yield url
        finally:
            server.should_exit = True
            running.result()
