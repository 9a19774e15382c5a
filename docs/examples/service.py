"""A FastAPI service: login codes while somebody waits, announcements in the background.

A caller may repeat a request with the same Idempotency-Key header: the code
is sent once.

Set QXT_USER, QXT_PASSWORD, QXT_BASE_URL, and CODE_SECRET to 32 random
characters, the same in every process. Then run: uvicorn service:app
"""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, TypedDict

from fastapi import BackgroundTasks, Depends, FastAPI, Header, HTTPException, Request
from pydantic import BaseModel

from qxt_async import (
    BatchResult,
    IdempotencyKeyReusedError,
    InvalidRequestError,
    JournalError,
    NotSentError,
    NumberLimit,
    NumberLimitedError,
    OutcomeUnknownError,
    QxtClient,
    QxtError,
    RefusedError,
    RetryPolicy,
    SendInProgressError,
)
from qxt_async.journal import open_journal

# Somebody is waiting: two quick attempts for what never left, then say so.
QUICK = RetryPolicy(2, backoff=0.2)


class Job(BaseModel):
    """An announcement on its way."""

    accepted: int = 0
    failed: int = 0
    unknown: int = 0
    left_out: int = 0
    mids: list[str] = []
    state: str = "sending"

    def note(self, batch: BatchResult) -> None:
        self.accepted += len(batch.accepted)
        self.failed += len(batch.failed)
        self.unknown += len(batch.unknown)
        self.mids.extend(batch.mids)


class State(TypedDict):
    qxt: QxtClient
    jobs: dict[str, Job]


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[State, None]:
    """One client for the whole service: one pool, one rate limit, one journal."""
    journal = open_journal(os.environ.get("QXT_JOURNAL", "qxt.db"))
    async with journal, QxtClient(timeout=10, journal=journal) as qxt:
        yield {"qxt": qxt, "jobs": {}}


app = FastAPI(lifespan=lifespan)


def qxt_client(request: Request) -> QxtClient:
    qxt: QxtClient = request.state.qxt
    return qxt


def jobs(request: Request) -> dict[str, Job]:
    jobs: dict[str, Job] = request.state.jobs
    return jobs


Client = Annotated[QxtClient, Depends(qxt_client)]
Jobs = Annotated[dict[str, Job], Depends(jobs)]


Key = Annotated[str | None, Header(max_length=200)]
# For each phone: one code a minute, ten a day.
LIMITS = (NumberLimit(1, per=60), NumberLimit(10, per=86_400))


def code_of(number: str, key: str) -> str:
    """The same code for the same request, or a repeated one is another text.

    Callers choose the key, and see the codes of their own phones: so the
    number is in it, and the secret is used for nothing else.
    """
    secret = os.environ["CODE_SECRET"].encode()
    digest = hmac.digest(secret, f"{number} {key}".encode(), "sha256")
    return f"{int.from_bytes(digest) % 10**6:06}"


class Code(BaseModel):
    number: str


@app.post("/codes", status_code=201)
async def send_code(
    code: Code,
    qxt: Client,
    idempotency_key: Key = None,
) -> dict[str, str]:
    """Send a login code and wait for the gateway's answer."""
    key = idempotency_key or secrets.token_urlsafe()
    try:
        sent = await qxt.send(
            code.number,
            f"【Acme】Your code is {code_of(code.number, key)}.",
            retry=QUICK,
            idempotency_key=key,
            number_limits=LIMITS,
        )
    except NumberLimitedError as error:
        headers = {"Retry-After": f"{error.retry_after:.0f}"}
        raise HTTPException(429, "it has just got a code", headers) from error
    except (IdempotencyKeyReusedError, SendInProgressError) as error:
        raise HTTPException(409, str(error)) from error
    except InvalidRequestError as error:
        raise HTTPException(422, "this is not a mobile number") from error
    except OutcomeUnknownError:
        # It may be on its way. Sending again is the user's decision, not ours.
        return {"state": "unknown", "advice": "wait a minute before asking again"}
    except JournalError as error:
        # Nothing was sent, or the outcome could not be written down.
        advice = "repeat this request with its Idempotency-Key"
        raise HTTPException(503, advice) from error
    except (RefusedError, NotSentError) as error:
        raise HTTPException(503, "no code was sent") from error
    return {"state": "accepted", "mid": sent.mid or ""}


class Announcement(BaseModel):
    numbers: list[str]
    text: str


@app.post("/announcements", status_code=202)
async def announce(
    announcement: Announcement,
    background: BackgroundTasks,
    qxt: Client,
    jobs: Jobs,
) -> dict[str, str]:
    """Begin to send and answer at once; the job tells how far it is."""
    key = secrets.token_urlsafe(8)
    jobs[key] = Job()
    background.add_task(send_announcement, qxt, announcement, jobs[key])
    return {"job": key}


async def send_announcement(qxt: QxtClient, order: Announcement, job: Job) -> None:
    """Send to everybody; never raises, since nobody would hear it."""
    try:
        result = await qxt.send_bulk(order.numbers, order.text, on_result=job.note)
    except QxtError as error:
        job.state = f"stopped: {type(error).__name__}"
    else:
        job.left_out = len(result.invalid) + result.duplicates
        job.state = "done"


@app.get("/announcements/{key}")
async def progress(key: str, jobs: Jobs) -> Job:
    """How far an announcement is."""
    if key not in jobs:
        raise HTTPException(404)
    return jobs[key]
