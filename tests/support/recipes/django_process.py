"""Runs docs/examples/django_view.py in Django's asynchronous handler, and asks three times: prints the answers."""

from __future__ import annotations

import asyncio
import json

import django
from django.conf import settings
from django.urls import path
from django_view import send_code

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="for a test", USE_TZ=True)
django.setup()
urlpatterns = [path("codes", send_code)]


async def ask() -> list[object]:
    """The same request twice, then another number with the same key."""
    from django.test import AsyncClient

    answers: list[object] = []
    for number in ("13800138000", "13800138000", "13800138001"):
        form = {"number": number, "code": "4711"}
        answer = await AsyncClient().post("/codes", form, headers={"Idempotency-Key": "login-7f3a"})
        answers.append([answer.status_code, json.loads(answer.content)])
    return answers


if __name__ == "__main__":
    print(json.dumps(asyncio.run(ask())))
