"""Mounted into other frameworks, each with its own idea of where a mount's path belongs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.asgi import REPORT, SECRET, ask

from qxt_async.journal import open_journal
from qxt_async.receiving import PushReceiver

pytestmark = pytest.mark.anyio


async def _mids(database: Path) -> list[str]:
    async with open_journal(database) as journal:
        return [entry.value.mid for entry in await journal.reports()]


@asynccontextmanager
async def _started(app: Any) -> AsyncIterator[None]:
    """Run the framework's own start-up and shutdown."""
    async with app.router.lifespan_context(app):
        yield


@pytest.mark.parametrize("root_path", ["", "/behind/a/proxy"])
@pytest.mark.parametrize("framework", ["starlette", "fastapi"])
async def test_starlette_and_fastapi(tmp_path: Path, framework: str, root_path: str) -> None:
    """Below a mount of Starlette and of FastAPI, the application itself below a root path or not."""
    pytest.importorskip(framework)
    receiver = PushReceiver(tmp_path / "qxt.sqlite", path_secret=SECRET)

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        async with receiver:
            yield

    app: Any
    if framework == "fastapi":
        from fastapi import FastAPI

        app = FastAPI(lifespan=lifespan)
    else:
        from starlette.applications import Starlette

        app = Starlette(lifespan=lifespan)
    app.mount("/hooks/sms", receiver)

    async with _started(app):
        path = f"{root_path}/hooks/sms/{SECRET}"
        assert (await ask(app, REPORT, path=path, root_path=root_path)).body == b"ok"
        wrong = await ask(app, REPORT, path=f"{root_path}/hooks/sms/{SECRET}x", root_path=root_path)
        assert (wrong.status, wrong.body) == (404, b"not found")
    assert await _mids(tmp_path / "qxt.sqlite") == ["1"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_litestar(tmp_path: Path) -> None:
    """Below a mount of Litestar."""
    litestar = pytest.importorskip("litestar")
    receiver = PushReceiver(tmp_path / "qxt.sqlite", path_secret=SECRET)

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        async with receiver:
            yield

    hook = litestar.asgi("/hooks/sms", is_mount=True, copy_scope=True)(receiver)
    app = litestar.Litestar([hook], lifespan=[lifespan], openapi_config=None)
    async with app.lifespan():
        assert (await ask(app, REPORT, path=f"/hooks/sms/{SECRET}")).body == b"ok"
        assert (await ask(app, REPORT, path=f"/hooks/sms/{SECRET}/")).body == b"ok"
        assert (await ask(app, REPORT, path="/hooks/sms/wrong")).status == 404
    assert await _mids(tmp_path / "qxt.sqlite") == ["1"]
