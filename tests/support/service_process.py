"""A web service that sends with the keys of its callers, given JOURNAL URL PORT: FastAPI under uvicorn."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Response

from qxt_async import (
    AccountRefusedError,
    NotSentError,
    OutcomeUnknownError,
    QxtClient,
    RefusedError,
    RetryPolicy,
    SendInProgressError,
)
from qxt_async.journal import open_journal

JOURNAL, URL, PORT = sys.argv[1:4]


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[dict[str, Any], None]:
    """One journal and one client."""
    async with (
        open_journal(JOURNAL) as journal,
        QxtClient(
            "user",
            "password",
            base_url=URL,
            timeout=1.0,
            max_concurrency=64,
            retry=RetryPolicy(2, backoff=0.01, max_backoff=0.01),
            journal=journal,
        ) as client,
    ):
        journal.single_sends.lease_margin = 1.0
        application.state.client = client
        yield {}


application = FastAPI(lifespan=lifespan)


@application.get("/send/{key}/{number}")
async def send(key: str, number: str, response: Response) -> dict[str, str]:
    """Send; what is not known yet, or not about the text, is a 503: ask again."""
    client: QxtClient = application.state.client
    try:
        sent = await client.send(number, f"【测试】您的验证码是{key}", idempotency_key=key)
    except OutcomeUnknownError:
        return {"outcome": "unknown"}
    except (SendInProgressError, NotSentError, AccountRefusedError) as error:
        response.status_code = 503
        return {"outcome": error.label}
    except RefusedError as error:
        return {"outcome": error.code}
    return {"outcome": f"accepted as {sent.mid}"}


if __name__ == "__main__":
    uvicorn.run(application, host="127.0.0.1", port=int(PORT), log_level="error", access_log=False)
