"""Journals on PostgreSQL, for tests that speak of nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from qxt_async.journal import Journal
from qxt_async.journal.postgres.database import PostgresDatabase


@pytest.fixture
async def journal(journals: str) -> AsyncIterator[Journal]:
    """An open journal."""
    async with Journal(PostgresDatabase(journals)) as opened:
        yield opened


@pytest.fixture
async def elsewhere(journals: str) -> AsyncIterator[Journal]:
    """The same one, opened as another process would."""
    async with Journal(PostgresDatabase(journals)) as opened:
        yield opened
