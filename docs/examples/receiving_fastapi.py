"""A FastAPI service that sends an alert, and knows whether the phone got it."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TypedDict

from fastapi import FastAPI, HTTPException, Request

from qxt_async import QxtClient, QxtError
from qxt_async.errors import DeliveryTimeoutError
from qxt_async.journal import open_journal
from qxt_async.receiving import DeliveryTracker, PushReceiver

journal = open_journal(os.environ.get("QXT_JOURNAL", "qxt.db"))
receiver = PushReceiver(journal, path_secret=os.environ["QXT_PUSH_PATH"])


class State(TypedDict):
    qxt: QxtClient
    tracker: DeliveryTracker


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[State, None]:
    client = QxtClient()
    async with journal, DeliveryTracker(journal) as tracker, client as qxt:
        yield {"qxt": qxt, "tracker": tracker}


app = FastAPI(lifespan=lifespan)
app.mount("/qxt", receiver)


@app.post("/alerts/{number}")
async def alert(number: str, request: Request, wait: float = 30.0) -> dict[str, str]:
    """Send an alert, and wait for the phone to have it."""
    qxt: QxtClient = request.state.qxt
    tracker: DeliveryTracker = request.state.tracker
    try:
        sent = await qxt.send(number, "【Acme】The freezer is too warm.")
        report = await tracker.wait(sent.mids[0], sent.accepted[0], timeout=wait)
    except DeliveryTimeoutError:
        return {"state": "on its way"}
    except QxtError as error:
        raise HTTPException(503, "the alert may not arrive: ring somebody") from error
    return {"state": report.state}
