"""Behind a real nginx on loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
from support.ports import free_port
from support.serving import SECRET, Receiver, exchange

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")

_CONFIGURATION = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1;
{user}
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{behind};
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      client_max_body_size 64k;
    }}
  }}
}}
"""


@contextmanager
def nginx(folder: Path, behind: int) -> Iterator[int]:
    """An nginx that hands everything to a port, until it accepts connections."""
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""
    configuration = folder / "nginx.conf"
    configuration.write_text(_CONFIGURATION.format(folder=folder, port=port, behind=behind, user=user))
    process = subprocess.Popen(
        [str(NGINX), "-c", str(configuration), "-p", str(folder), "-e", str(folder / "error.log")]
    )
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None
            assert time.monotonic() < deadline
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
        yield port
    finally:
        process.terminate()
        process.wait(120)


def push(port: int, mid: str, *headers: bytes, source: str = "127.0.0.1", secret: str = SECRET) -> tuple[int, bytes]:
    """Push one report from one of the loopback's addresses."""

    async def main() -> tuple[int, bytes]:
        async with await anyio.connect_tcp("127.0.0.1", port, local_host=source) as stream:
            lines = [
                f"GET /{secret}?type=4&mid={mid}&mobile=13800138000&msg=DELIVRD HTTP/1.1".encode(),
                b"Host: x",
                b"Connection: close",
                *headers,
            ]
            return await exchange(stream, b"\r\n".join(lines) + b"\r\n\r\n")

    return anyio.run(main)


def test_behind_nginx(tmp_path: Path) -> None:
    """The gateway's address passes through nginx, a forged one does not, and nobody passes by it."""
    gateway, stranger = "127.0.0.3", "127.0.0.4"
    receiver = Receiver(tmp_path / "qxt.sqlite", allow=[gateway], trusted_proxies=["127.0.0.1"])
    folder = tmp_path / "nginx"
    folder.mkdir()
    with receiver.running(), nginx(folder, receiver.port) as front:
        assert push(front, "1", source=gateway) == (200, b"ok")
        assert push(front, "2", b"X-Forwarded-For: 198.51.100.1", source=gateway) == (200, b"ok")

        refused = push(front, "3", source=stranger)
        assert refused == (404, b"not found")
        assert push(front, "4", b"X-Forwarded-For: 127.0.0.3", source=stranger) == refused
        assert push(front, "5", source=gateway, secret="x" * 20) == refused

        assert push(receiver.port, "6", source=stranger) == refused
        assert push(receiver.port, "7", b"X-Forwarded-For: 127.0.0.3", source=stranger) == refused
        assert push(receiver.port, "8", source=gateway) == (200, b"ok")
