"""Ctrl-C and SIGTERM while requests are under way."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

import anyio
import attrs
import click

from qxt_async.errors import QxtError
from qxt_async.runtime.signals import handle_signals
from qxt_async.sending.retry import RetryPolicy
from qxt_async.values import put

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterable

    from qxt_async.protocol.answers import Answer

__all__ = ["Ended", "RetryingWithin", "certain_end", "ignore", "run_until_stopped", "say_stopping"]

_GRACE = 5.0
# Seconds after a second signal. As long as a claim or an outcome may take on a database that does not answer.
_LONGEST_END = 10.0


@attrs.frozen
class Ended:
    """How it ended.

    Attributes:
        interrupted: the first signal, ``None`` if none came.
        error: what was raised.
    """

    interrupted: signal.Signals | None
    error: QxtError | OSError | None


def say_stopping() -> None:
    """Answer a first signal, on stderr."""
    click.echo("stopping: waiting for what is under way; once more to cut it off", err=True)


@contextlib.contextmanager
def certain_end() -> Generator[Callable[[signal.Signals], None]]:
    """Give what is to be called with the second signal: the process ends soon after, whatever still waits.

    A database that is frozen keeps everything waiting that must not be cut short. What is lost by ending is what a
    killed process loses: what was being sent becomes *unknown* when its lease runs out.
    """
    timers: list[threading.Timer] = []

    def arm(number: signal.Signals) -> None:
        timer = threading.Timer(_LONGEST_END, _end, (number,))
        timer.daemon = True
        timer.start()
        timers.append(timer)

    try:
        yield arm
    finally:
        for timer in timers:
            timer.cancel()


def _end(number: signal.Signals) -> None:
    click.echo("ended without waiting any longer: the journal does not answer", err=True)
    sys.stdout.flush()
    os._exit(128 + number)


def ignore(numbers: Iterable[signal.Signals]) -> None:
    """Ignore these signals from now on."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


class RetryingWithin(RetryPolicy):
    """The default policy, which tries nothing again once a signal has cancelled the scope."""

    _beginning: anyio.CancelScope

    def __init__(self, beginning: anyio.CancelScope) -> None:
        super().__init__()
        put(self, "_beginning", beginning)

    def retryable_numbers(self, answer: Answer) -> frozenset[str]:
        """See `RetryPolicy.retryable_numbers`."""
        return frozenset[str]() if self._beginning.cancel_called else super().retryable_numbers(answer)


def run_until_stopped(work: Callable[[anyio.CancelScope], Awaitable[None]]) -> Ended:
    """Run something asynchronous to its end, or until SIGINT or SIGTERM.

    The first signal asks to finish: what is under way is waited for, since an answer is worth more than an *unknown*.
    A second one, or 5 seconds, cut it off. After that, signals are ignored: what became of everything is being told.
    Some seconds after a second one the process ends, even if it still waits.

    Args:
        work: gets a scope, cancelled by the first signal, in which it may begin and wait for new things; what it does
            outside of the scope is finished.

    Returns:
        How it ended; errors of the library and of the system are values here.
    """
    received: signal.Signals | None = None
    error: QxtError | OSError | None = None

    async def run() -> None:
        nonlocal error
        beginning, whole = anyio.CancelScope(), anyio.CancelScope()

        def first(number: signal.Signals) -> None:
            nonlocal received
            received = number
            beginning.cancel()
            whole.deadline = anyio.current_time() + _GRACE
            say_stopping()

        def second(number: signal.Signals) -> None:
            whole.cancel()
            arm(number)

        async with handle_signals(first, second):
            with whole:
                try:
                    await work(beginning)
                except (QxtError, OSError) as raised:
                    error = raised

    with certain_end() as arm:
        anyio.run(run)
    ignore(() if received is None else (signal.SIGINT, signal.SIGTERM))
    return Ended(received, error)
