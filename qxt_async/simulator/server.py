"""The simulated gateway as a real server: in a thread for tests and scripts, awaited for the command line."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from anyio.from_thread import start_blocking_portal
from anyio.lowlevel import checkpoint

from qxt_async.runtime.words import missing_extra

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import anyio.abc

    from qxt_async.simulator.gateway import SimulatedGateway
    from qxt_async.simulator.uvicorn_server import GatewayServer

__all__ = ["run_server", "serve"]

_LISTEN_BACKLOG = 2048


def _listen(host: str, port: int) -> tuple[socket.socket, str]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it every answer takes 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_LISTEN_BACKLOG)
    except BaseException:
        listener.close()
        raise
    shown = f"[{host}]" if family == socket.AF_INET6 else host
    return listener, f"http://{shown}:{listener.getsockname()[1]}/qxt"


def _server(gateway: SimulatedGateway, listener: socket.socket, on_listening: Callable[[], None]) -> GatewayServer:
    try:
        from qxt_async.simulator.uvicorn_server import GatewayServer
    except ModuleNotFoundError as error:
        listener.close()
        raise ModuleNotFoundError(missing_extra("cli", "serving the simulated gateway"), name=error.name) from error
    return GatewayServer(gateway, listener, on_listening)


async def run_server(
    gateway: SimulatedGateway, host: str = "127.0.0.1", port: int = 0, *, on_listening: Callable[[str], None]
) -> None:
    """Serve a gateway until cancelled or, in the main thread, until SIGINT or SIGTERM. Needs asyncio.

    Args:
        gateway: to serve; with `push_to` it pushes meanwhile.
        host: address to listen on. Nothing protects the simulator: keep it on the loopback.
        port: 0 for a free one.
        on_listening: called once with the base address, such as ``http://127.0.0.1:8080/qxt``.

    Raises:
        ModuleNotFoundError: uvicorn is not installed; it comes with the extra ``cli``.
        OSError: the port is taken.
    """
    listener, url = _listen(host, port)
    with listener:
        await _server(gateway, listener, lambda: on_listening(url)).run_until_stopped()
        # The server has raised the signal again as the last thing that it did: let it be heard.
        await checkpoint()


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
    listener, url = _listen(host, port)

    async def run(*, task_status: anyio.abc.TaskStatus[GatewayServer]) -> None:
        server = _server(gateway, listener, lambda: task_status.started(server))
        await server.run_until_stopped()

    with listener, start_blocking_portal("asyncio") as portal:
        running, server = portal.start_task(run)
        try:
            yield url
        finally:
            server.should_exit = True
            running.result()
