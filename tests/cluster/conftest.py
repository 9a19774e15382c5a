"""Workers share the campaigns' tests: gateways and books in processes of their own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "campaign"))


@pytest.fixture
def anyio_backend() -> str:
    """The engine and its database know asyncio only."""
    return "asyncio"
