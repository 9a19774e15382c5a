"""What signals ask of a program."""

from __future__ import annotations

import signal

import anyio
import pytest

from qxt_async.cli.stopping import ignore
from qxt_async.runtime.signals import run_until_signalled

pytestmark = pytest.mark.anyio


async def test_a_third_signal_during_a_long_clean_up() -> None:
    """The first asks, the second cuts off, and more change nothing while what was cut off is cleaned up."""
    heard: list[tuple[str, signal.Signals]] = []
    asked = anyio.Event()

    def first(number: signal.Signals) -> None:
        heard.append(("first", number))
        asked.set()

    def second(number: signal.Signals) -> None:
        heard.append(("second", number))

    async def work() -> None:
        signal.raise_signal(signal.SIGTERM)
        await asked.wait()
        try:
            signal.raise_signal(signal.SIGINT)
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.wait_all_tasks_blocked()
                signal.raise_signal(signal.SIGINT)
                await anyio.wait_all_tasks_blocked()
                heard.append(("cleaned up", signal.SIGINT))

    assert await run_until_signalled(work, first, second) is None
    assert heard == [("first", signal.SIGTERM), ("second", signal.SIGINT), ("cleaned up", signal.SIGINT)]


async def test_errors_are_as_they_are() -> None:
    """An error of the work is raised outside of any group."""

    async def work() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await run_until_signalled(work, print)


async def test_the_grace_ends() -> None:
    """Without a second signal, the work is cancelled when the time after the first one is up."""

    async def work() -> None:
        signal.raise_signal(signal.SIGTERM)
        await anyio.sleep_forever()

    assert await run_until_signalled(work, lambda _: None, grace=0) is None


async def test_a_second_signal_needs_no_callback() -> None:
    """The work is cancelled, and its result is returned if it still ends."""

    async def work() -> int:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        with anyio.CancelScope(shield=True):
            await anyio.wait_all_tasks_blocked()
        return 1

    assert await run_until_signalled(work, lambda _: None) == 1


def test_signals_are_ignored_while_results_are_told() -> None:
    """What is ignored ends nothing."""
    before = signal.getsignal(signal.SIGUSR1)
    try:
        ignore([signal.SIGUSR1])
        signal.raise_signal(signal.SIGUSR1)
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR1, before)
