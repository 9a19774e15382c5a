"""Calls an ASGI application as a server would, without one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import attrs

SECRET = "0123456789abcdefghij"
PHONE = "13800138000"
REPORT = b"type=4&mid=1&mobile=13800138000&msg=DELIVRD"

App = Callable[..., Awaitable[None]]


@attrs.frozen
class Answer:
    """What came back."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


async def ask(
    app: App,
    query: bytes = b"",
    chunks: Iterable[bytes] = (),
    *,
    method: str | None = None,
    path: str = f"/{SECRET}",
    root_path: str = "",
    client: tuple[str, int] | None = ("192.0.2.1", 4711),
    headers: Iterable[tuple[bytes, bytes]] = (),
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]] | None = None,
    http_version: str = "1.1",
) -> Answer:
    """Make one request; with `chunks` a POST in so many pieces."""
    pieces = list(chunks)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": http_version,
        "method": method or ("POST" if pieces else "GET"),
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8", "surrogateescape"),
        "root_path": root_path,
        "query_string": query,
        "headers": [*headers],
        "client": client,
        "server": ("127.0.0.1", 80),
    }
    sent: list[MutableMapping[str, Any]] = []
    messages = iter(
        [
            {"type": "http.request", "body": piece, "more_body": place + 1 < len(pieces)}
            for place, piece in enumerate(pieces or [b""])
        ]
    )

    async def next_message() -> MutableMapping[str, Any]:
        return next(messages)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive or next_message, send)
    start, *bodies = sent
    assert start["type"] == "http.response.start"
    return Answer(
        start["status"],
        tuple((bytes(name), bytes(value)) for name, value in start["headers"]),
        b"".join(message.get("body", b"") for message in bodies),
    )
