"""An asynchronous view of Django that sends a code once for each Idempotency-Key."""

from __future__ import annotations

import os

from django.http import HttpRequest, JsonResponse

from qxt_async import (
    IdempotencyKeyReusedError,
    JournalError,
    OutcomeUnknownError,
    QxtClient,
    QxtError,
    SendInProgressError,
)
from qxt_async.journal import open_journal


async def send_code(request: HttpRequest) -> JsonResponse:
    """POST number and code, with the header Idempotency-Key."""
    key = request.headers.get("Idempotency-Key", "")
    text = f"【Acme】Your code is {request.POST['code']}."
    journal = open_journal(os.environ.get("QXT_JOURNAL", "qxt.db"))
    try:
        async with journal, QxtClient(journal=journal) as client:
            sent = await client.send(
                request.POST["number"],
                text,
                idempotency_key=key,
            )
    except OutcomeUnknownError:
        return JsonResponse({"state": "unknown"})
    except (JournalError, SendInProgressError):
        # Ask again with the same key.
        return JsonResponse({"state": "unknown"}, status=503)
    except IdempotencyKeyReusedError:
        return JsonResponse({"state": "another request"}, status=409)
    except QxtError:
        return JsonResponse({"state": "not sent"}, status=503)
    return JsonResponse({"state": "accepted", "mid": sent.mid})
