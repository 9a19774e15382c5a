"""Runs docs/examples/django_view.py in Django's asynchronous handler, and asks several times: prints the answers."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import django
from django.conf import settings
from django.urls import path
from django_view import send_code

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="for a test", USE_TZ=True)
django.setup()
urlpatterns = [path("codes", send_code)]


async def ask() -> list[object]:
    """The same request twice, another number with the same key, one that is unknown, and one without a journal."""
    from django.test import AsyncClient

    answers: list[object] = []

    async def send(number: str, key: str) -> None:
        form = {"number": number, "code": "4711"}
        answer = await AsyncClient().post("/codes", form, headers={"Idempotency-Key": key})
        answers.append([answer.status_code, json.loads(answer.content)])

    await send("13800138000", "login-7f3a")
    await send("13800138000", "login-7f3a")
    await send("13800138001", "login-7f3a")
    await send("13800138002", "unknown")
    os.environ["QXT_JOURNAL"] = str(Path(os.environ["QXT_JOURNAL"]).parent)
    await send("13800138003", "no journal")
    return answers


if __name__ == "__main__":
    print(json.dumps(asyncio.run(ask())))
