"""Journals on PostgreSQL, for tests that speak of nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from qxt_async.journal.postgres import PostgresJournal


@pytest.fixture
async def journal(journals: str) -> AsyncIterator[PostgresJournal]:
    """An open journal."""
    async with PostgresJournal(journals) as opened:
        yield opened


@pytest.fixture
async def elsewhere(journals: str) -> AsyncIterator[PostgresJournal]:
    """The same one, opened as another process would."""
    async with PostgresJournal(journals) as opened:
        yield opened
