"""A Celery task that sends a code once, however often it is delivered or retried.

Set QXT_USER, QXT_PASSWORD and QXT_BASE_URL, and run:
celery -A celery_task worker
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from celery import Celery

from qxt_async import (
    JournalError,
    NotSentError,
    OutcomeUnknownError,
    QxtClient,
    SendInProgressError,
)
from qxt_async.journal import open_journal

app = Celery("codes", broker=os.environ.get("CELERY_BROKER", "memory://"))
# If a worker dies, its task is delivered again.
app.conf.task_acks_late = True
app.conf.task_reject_on_worker_lost = True
# The key makes a retry safe, whatever became of the attempt before.
RETRIED = (JournalError, NotSentError, SendInProgressError)


@app.task(bind=True, autoretry_for=RETRIED, retry_backoff=1, max_retries=5)
def send_code(self: Any, number: str, text: str) -> str | None:
    """The key is the id of the task, which every delivery and retry has."""
    return asyncio.run(send(number, text, self.request.id))


async def send(number: str, text: str, key: str) -> str | None:
    """Return the mid, or nothing if the outcome is unknown."""
    journal = open_journal(os.environ.get("QXT_JOURNAL", "qxt.db"))
    async with journal, QxtClient(journal=journal) as client:
        try:
            sent = await client.send(number, text, idempotency_key=key)
        except OutcomeUnknownError:
            return None
        return sent.mid
