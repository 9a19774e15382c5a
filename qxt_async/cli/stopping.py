"""What a command does on Ctrl-C (SIGINT) and SIGTERM."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import click

from qxt_async.errors import QxtError
from qxt_async.runtime.signals import run_until_signalled
from qxt_async.sending.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from qxt_async.protocol.answers import Answer

GRACE = 5
"""Seconds that requests under way are waited for."""
# Seconds after a second signal: as long as a claim or an outcome may take on a database that does not answer.
_LONGEST_END = 10.0


@attrs.define
class Ended:
    """How a command's work ended.

    Attributes:
        interrupted: the first signal, ``None`` if none came.
        error: what was raised.
    """

    interrupted: signal.Signals | None = None
    error: QxtError | OSError | None = None

    def raise_error(self) -> None:
        """Raise the error, if there is one."""
        if self.error is not None:
            raise self.error


async def run_stoppable(
    work: Callable[[], Awaitable[object]], stop: Callable[[], None], *, grace: float = math.inf
) -> list[signal.Signals]:
    """Run `work` to its end, or until SIGINT or SIGTERM.

    The first signal is answered on stderr and calls `stop`; a second one, or the end of `grace`, cancels `work`. A few
    seconds after the second one the process ends even if something still waits, such as for a database that does not
    answer. That loses what a killed process loses: what was being sent becomes *unknown* when its lease runs out.

    Args:
        work: what to run.
        stop: asks `work` to finish.
        grace: seconds after the first signal until `work` is cancelled.

    Returns:
        The first signal and the second one, as far as they came.
    """
    received: list[signal.Signals] = []

    def first(number: signal.Signals) -> None:
        received.append(number)
        click.echo("stopping: waiting for what is under way; once more to cut it off", err=True)
        stop()

    def second(number: signal.Signals) -> None:
        received.append(number)
        timer = threading.Timer(_LONGEST_END, _end, (number,))
        timer.daemon = True
        timer.start()
        click.get_current_context().call_on_close(timer.cancel)

    await run_until_signalled(work, first, second, grace=grace)
    return received


def _end(number: signal.Signals) -> None:
    click.echo("ended without waiting any longer: the journal does not answer", err=True)
    sys.stdout.flush()
    os._exit(128 + number)


def ignore(numbers: Iterable[signal.Signals]) -> None:
    """Ignore these signals from now on."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


@attrs.frozen
class RetryingWithin(RetryPolicy):
    """The default policy, which tries nothing again once a signal has cancelled the scope."""

    beginning: anyio.CancelScope = attrs.field(kw_only=True, repr=False)

    def retryable_numbers(self, answer: Answer) -> frozenset[str]:
        """No number after a signal."""
        return frozenset[str]() if self.beginning.cancel_called else super().retryable_numbers(answer)


def run_until_stopped(
    work: Callable[[anyio.CancelScope], Awaitable[None]], *, backend_options: dict[str, Any] | None = None
) -> Ended:
    """Run something asynchronous to its end, or until SIGINT or SIGTERM.

    The first signal asks to finish: requests under way are waited for, since an answer is better than an *unknown*. A
    second one, or 5 seconds, cancels them. After that, signals are ignored while the command prints its results.

    Args:
        work: gets a scope, cancelled by the first signal, in which it may begin and wait for new things; what it does
            outside of the scope is finished.
        backend_options: of the event loop, see `anyio.run`.

    Returns:
        How it ended. Errors of the library and of the system are values here.
    """
    ended = Ended()

    async def run() -> None:
        beginning = anyio.CancelScope()

        async def guarded() -> None:
            try:
                await work(beginning)
            except (QxtError, OSError) as error:
                ended.error = error

        ended.interrupted = next(iter(await run_stoppable(guarded, beginning.cancel, grace=GRACE)), None)

    anyio.run(run, backend_options=backend_options)
    ignore(() if ended.interrupted is None else (signal.SIGINT, signal.SIGTERM))
    return ended
