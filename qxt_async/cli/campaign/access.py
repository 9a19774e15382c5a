"""Which campaign a command is about, who calls it, and the journal's campaigns."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

import anyio
import click

from qxt_async.campaign import Campaigns
from qxt_async.cli.journals import open_existing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


T = TypeVar("T")

id_argument = click.argument("campaign", metavar="ID", type=click.IntRange(min=1))


def current_user() -> str:
    """The login name of the person at the keyboard, for the record."""
    return os.environ.get("USER") or os.environ.get("USERNAME") or ""


def use_campaigns(journal: str, operation: Callable[[Campaigns], Awaitable[T]]) -> T:
    """Run an operation on the campaigns of a journal that exists; returns what it returns."""

    async def run() -> T:
        async with open_existing(journal) as opened:
            return await operation(Campaigns(opened))

    return anyio.run(run)
