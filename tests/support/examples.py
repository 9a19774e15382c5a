"""Runs the applications in docs/examples as real servers."""

from __future__ import annotations

import importlib.util
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import anyio.abc
import uvicorn
from anyio.from_thread import start_blocking_portal

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def load(name: str) -> ModuleType:
    """An example as a module of its own, as uvicorn would import it."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    # Frameworks look annotations up there.
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


def listen() -> tuple[socket.socket, int]:
    """A socket to serve on, so that its port is known before the server runs."""
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, listener.getsockname()[1]


class _Server(uvicorn.Server):
    """Tells when it serves."""

    def __init__(self, app: Any, listener: socket.socket) -> None:
        options: dict[str, Any] = {"ws": "none", "log_config": None, "access_log": False, "proxy_headers": False}
        super().__init__(uvicorn.Config(app, **options))
        self.listener = listener
        self.serving = anyio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.serving.set()

    async def run_until_stopped(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self.serve, [self.listener])
            await self.serving.wait()
            task_status.started()


@contextmanager
def serving(app: Any, listener: socket.socket) -> Iterator[None]:
    """Serve an application in a thread."""
    with listener, start_blocking_portal("asyncio") as portal:
        server = _Server(app, listener)
        running, _ = portal.start_task(server.run_until_stopped)
        try:
            yield
        finally:
            server.should_exit = True
            running.result()
