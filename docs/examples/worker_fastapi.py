"""A FastAPI service that plans campaigns, and sends them with its own worker."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TypedDict

import anyio
from fastapi import FastAPI, Request

from qxt_async import QxtClient
from qxt_async.campaign import Campaigns
from qxt_async.journal import Journal, open_journal
from qxt_async.workers import CampaignWorker


class State(TypedDict):
    journal: Journal
    qxt: QxtClient


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[State, None]:
    async with (
        open_journal(os.environ["QXT_JOURNAL"]) as journal,
        QxtClient() as qxt,
        anyio.create_task_group() as group,
    ):
        worker = CampaignWorker(journal, qxt)
        group.start_soon(worker.run)
        yield {"journal": journal, "qxt": qxt}
        # Batches under way are finished. The rest is for other workers.
        worker.stop()


app = FastAPI(lifespan=lifespan)


@app.post("/campaigns", status_code=202)
async def start(numbers: list[str], text: str, request: Request) -> dict[str, int]:
    """Plan a campaign and let it be sent, by whichever worker comes first."""
    journal: Journal = request.state.journal
    campaigns = Campaigns(journal, request.state.qxt)
    planned = await campaigns.plan(numbers, text)
    await campaigns.start(planned.id, on_workers=True)
    return {"id": planned.id}


@app.get("/campaigns/{campaign}")
async def status(campaign: int, request: Request) -> dict[str, int | str]:
    """How far it is."""
    journal: Journal = request.state.journal
    counts = await Campaigns(journal).counts(campaign)
    return {
        "state": counts.state,
        "accepted": counts.accepted,
        "failed": counts.failed,
        "unknown": counts.unknown,
    }
