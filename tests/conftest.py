"""Fixtures that every test may use."""

from __future__ import annotations

import pytest
from hypothesis import settings

# A busy machine is no failure; what an example may cost is the test's timeout.
settings.register_profile("qxt", deadline=None)
settings.load_profile("qxt")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run each asynchronous test on asyncio and on trio."""
    return request.param
