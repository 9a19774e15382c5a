"""What the tests of the command line share."""

from __future__ import annotations

from collections.abc import Callable

from click.testing import Result

TEXT = "【Acme】您的验证码是1234"
PASSWORD = "correct horse"
Run = Callable[..., Result]


def numbers(count: int) -> list[str]:
    """Made-up numbers, each once."""
    return [f"1380013{index:04}" for index in range(count)]
