"""Workers run on asyncio."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """The engine and its database know asyncio only."""
    return "asyncio"
