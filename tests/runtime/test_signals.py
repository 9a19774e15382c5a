"""What signals ask of a program."""

from __future__ import annotations

import signal

import anyio
import pytest

from qxt_async.cli.stopping import ignore
from qxt_async.runtime.signals import handle_signals

pytestmark = pytest.mark.anyio


async def test_a_third_signal_during_a_long_clean_up() -> None:
    """The first asks, the second cuts off, and more change nothing while what was cut off is cleaned up."""
    heard: list[tuple[str, signal.Signals]] = []
    whole, asked = anyio.CancelScope(), anyio.Event()

    def first(number: signal.Signals) -> None:
        heard.append(("first", number))
        asked.set()

    def second(number: signal.Signals) -> None:
        heard.append(("second", number))
        whole.cancel()

    async with handle_signals(first, second):
        with whole:
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
    assert heard == [("first", signal.SIGTERM), ("second", signal.SIGINT), ("cleaned up", signal.SIGINT)]


async def test_errors_are_as_they_are() -> None:
    """What the block raises is in no group."""
    with pytest.raises(LookupError):
        async with handle_signals(print, print):
            raise LookupError


def test_signals_are_ignored_while_results_are_told() -> None:
    """What is ignored ends nothing."""
    before = signal.getsignal(signal.SIGUSR1)
    try:
        ignore([signal.SIGUSR1])
        signal.raise_signal(signal.SIGUSR1)
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR1, before)
