"""Statements of a test's own, in a transaction of either database."""

from __future__ import annotations

import inspect
from typing import Any

from qxt_async.journal.database import Transaction


async def raw(transaction: Transaction, statement: str) -> list[Any]:
    """Run a statement; its rows, if it gives any."""
    cursor = transaction.connection.execute(statement)  # type: ignore[attr-defined]
    if inspect.isawaitable(cursor):
        cursor = await cursor
        return await cursor.fetchall() if cursor.description else []
    return cursor.fetchall()
