"""Journals on either database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from qxt_async.journal import Journal, open_journal


@pytest.fixture
async def journal(store: str) -> AsyncIterator[Journal]:
    """An open journal."""
    async with open_journal(store) as opened:
        yield opened


@pytest.fixture
async def elsewhere(store: str) -> AsyncIterator[Journal]:
    """The same one, opened as another process would."""
    async with open_journal(store) as opened:
        yield opened
