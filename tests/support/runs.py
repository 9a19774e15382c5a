"""Runs of campaigns in a test's own process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import attrs

from qxt_async import QxtClient, RetryPolicy
from qxt_async.campaign import RunOptions
from qxt_async.errors import JournalUnavailableError
from qxt_async.journal.campaigns import CampaignStore
from qxt_async.simulator import SimulatedGateway

QUICK = RunOptions(
    check_balance=False, retry=RetryPolicy(3, backoff=0.01, max_backoff=0.02), poll_interval=0.01, progress_every=0.0
)


def quick(**changes: object) -> RunOptions:
    """Options that do not make a test wait."""
    return attrs.evolve(QUICK, **changes)


def client_of(gateway: SimulatedGateway, **options: object) -> QxtClient:
    """A client of a gateway in this process."""
    options = {"transport": gateway.transport(), **options}
    return QxtClient("user", options.pop("password", "password"), base_url="http://gateway.test/qxt", **options)  # type: ignore[arg-type]


async def seen(what: Callable[[], bool]) -> None:
    """Wait until something shows."""
    with anyio.fail_after(120):
        while not what():  # noqa: ASYNC110  (it shows in another task's state, or in the journal)
            await anyio.sleep(0.005)


class SlowGateway(SimulatedGateway):
    """Takes what it is asked to and answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = anyio.Event()
        self.answer = anyio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Hold the answer back until `answer` is set."""

        async def later(message: Any) -> None:
            self.asked.set()
            await self.answer.wait()
            await send(message)

        await super().__call__(scope, receive, later)


class Troubled:
    """A journal whose operations can be made to fail: before they are done, or after."""

    def __init__(self, campaigns: CampaignStore) -> None:
        self.real = campaigns
        self.trouble: dict[str, Callable[[bool], None]] = {}
        self.campaigns = self

    def campaigns_of(self, _account: str) -> Troubled:
        """No account has limits here."""
        return self

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self.real, name)
        if name not in self.trouble:
            return operation

        async def troubled(*args: Any, **options: Any) -> Any:
            trouble = self.trouble.get(name, lambda _: None)
            trouble(False)
            result = await operation(*args, **options)
            trouble(True)
            return result

        return troubled


def times(count: int, *, done: bool) -> Callable[[bool], None]:
    """Refuse so often, before or after the operation was done."""
    left = [count]

    def refuse(is_done: bool) -> None:
        if is_done is done and left[0]:
            left[0] -= 1
            raise JournalUnavailableError("disk I/O error")

    return refuse
