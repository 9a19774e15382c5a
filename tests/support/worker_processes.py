"""Workers as real processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent


class WorkerProcess:
    """A worker in another process, and whatever is put before its command."""

    def __init__(
        self,
        journal: str,
        url: str,
        *,
        concurrency: int = 4,
        timeout: float = 1.0,
        transport: str = "httpx",
        before: Sequence[str] = (),
    ) -> None:
        script = str(HERE / "worker_process.py")
        command = [sys.executable, script, journal, url, str(concurrency), str(timeout), transport]
        self.process = subprocess.Popen([*before, *command], stdout=subprocess.PIPE, text=True)
        self._works = False

    def wait_until_working(self) -> None:
        """Wait for its first word."""
        assert self.process.stdout is not None
        assert self._works or self.process.stdout.readline() == "working\n"
        self._works = True

    def kill(self) -> None:
        """SIGKILL: no handler, no clean-up."""
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def end(self) -> None:
        """SIGTERM: what is under way is finished."""
        self.wait_until_working()
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=100)
        assert self.process.returncode == 0
        assert out.endswith("ended\n")


@contextmanager
def workers(
    journal: str, url: str, count: int, *, concurrency: int = 4, timeout: float = 1.0, transport: str = "httpx"
) -> Iterator[list[WorkerProcess]]:
    """So many workers, ended with the block; those that were replaced in the list, too."""
    options = {"concurrency": concurrency, "timeout": timeout, "transport": transport}
    running = [WorkerProcess(journal, url, **options) for _ in range(count)]  # type: ignore[arg-type]
    try:
        for worker in running:
            worker.wait_until_working()
        yield running
        for worker in running:
            worker.end()
    finally:
        for worker in running:
            worker.process.kill()
            worker.process.communicate()
