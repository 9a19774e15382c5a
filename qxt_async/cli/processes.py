"""Several processes that do the same work, such as serving one listening socket. Not on Windows."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import attrs

from qxt_async.cli.exit_codes import FailedError

if TYPE_CHECKING:
    from collections.abc import Callable


@attrs.define
class Children:
    """The processes that were started.

    Attributes:
        ready: for each process the pipe into which it writes when it is ready.
        lifeline: the pipe that they watch. It is closed to stop them, and when this process dies.
        stopping: a signal came.
        failed: how many ended by themselves or with an error.
    """

    lifeline: int
    ready: dict[int, int] = attrs.field(factory=dict[int, int])
    stopping: bool = False
    failed: int = 0

    def handle(self, *_: object) -> None:
        """Stop with the first signal, kill with the second one."""
        if self.stopping:
            for child in self.ready:
                # The signal may come when one has been waited for and is not forgotten yet.
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
        else:
            self.stopping = True
            os.close(self.lifeline)

    def wait_until_ready(self) -> bool:
        """Return whether all are ready; as soon as one has ended, they are not."""
        return all(os.read(pipe, 1) for pipe in self.ready.values())

    def wait_for_one(self) -> None:
        """Wait until one has ended."""
        child, status = os.wait()
        del self.ready[child]
        self.note(status)

    def note(self, status: int) -> None:
        """Count one that has ended; if nobody asked for that, the others are stopped."""
        if status or not self.stopping:
            self.failed += 1
            if not self.stopping:
                self.handle()


def run_in_processes(
    count: int, work: Callable[[int, Callable[[], object]], None], on_ready: Callable[[], object]
) -> None:
    """Run `work` in child processes until SIGINT or SIGTERM, or until one of them ends; then the others are stopped.

    A second signal kills them. They also stop when this process is killed. To be called before any thread is started.

    Args:
        count: of processes.
        work: called in each process, with a descriptor that becomes readable when it has to stop, and with a function
            to call when it is ready.
        on_ready: called in this process when all are ready.

    Raises:
        FailedError: one ended by itself; it has printed the reason.
    """
    watched, lifeline = os.pipe()
    children = Children(lifeline)
    sys.stdout.flush()
    for _ in range(count):
        ready, told = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(lifeline)
            # The terminal and service managers signal every process of a group.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            work(watched, partial(os.write, told, b"."))
            return
        children.ready[child] = ready
        os.close(told)
    signal.signal(signal.SIGINT, children.handle)
    signal.signal(signal.SIGTERM, children.handle)
    if children.wait_until_ready():
        on_ready()
    while children.ready:
        children.wait_for_one()
    if children.failed:
        raise FailedError(f"{children.failed} of {count} processes ended by themselves or with an error")
