"""A Litestar application that receives pushes and prints a line for each reply."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from litestar import Litestar, asgi
from litestar.types import Receive, Scope, Send

from qxt_async import Reply
from qxt_async.receiving import PushReceiver


async def on_reply(reply: Reply) -> None:
    print("reply to", reply.extno or "the channel")


receiver = PushReceiver(
    os.environ.get("QXT_JOURNAL", "qxt.db"),
    path_secret=os.environ["QXT_PUSH_PATH"],
    channel_number="10690000",
    on_reply=on_reply,
)


@asgi("/qxt", is_mount=True, copy_scope=True)
async def pushes(scope: Scope, receive: Receive, send: Send) -> None:
    await receiver(scope, receive, send)  # type: ignore[arg-type]


@asynccontextmanager
async def lifespan(_: Litestar) -> AsyncGenerator[None, None]:
    async with receiver:
        yield


app = Litestar([pushes], lifespan=[lifespan])
