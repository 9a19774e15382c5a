"""Workers share what the tests of campaigns and of the documentation have."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

for folder in ("campaign", "docs"):
    sys.path.append(str(Path(__file__).parents[1] / folder))


@pytest.fixture
def anyio_backend() -> str:
    """The engine and its database know asyncio only."""
    return "asyncio"
