"""Gateway and runners as real processes, and the gateway's books over HTTP."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from qxt_async.journal import Journal
from qxt_async.journal.records import NumberRecord, PlannedBatch
from qxt_async.models import Message

HERE = Path(__file__).parent
MESSAGE = Message("【测试】您好")


class Gateway:
    """A simulated gateway in another process."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.control = url.removesuffix("/qxt") + "/_simulator"

    def ask(self, action: str) -> bytes:
        """GET one of the simulator's own addresses."""
        with urllib.request.urlopen(f"{self.control}/{action}", timeout=120) as answer:
            return answer.read()

    def misbehave(self, faults: Sequence[dict[str, object]]) -> None:
        """Set faults."""
        body = json.dumps(faults).encode()
        urllib.request.urlopen(f"{self.control}/faults", body, timeout=120).close()

    def taken(self) -> Counter[str]:
        """How often each number was taken."""
        lines = (json.loads(line) for line in self.ask("taken").splitlines())
        return Counter({line["number"]: line["times"] for line in lines})

    def requests(self) -> int:
        """How many requests were settled."""
        return json.loads(self.ask("stats"))["requests"]


@contextmanager
def gateway(seed: int) -> Iterator[Gateway]:
    """Run the gateway until the block ends."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "gateway_process.py"), str(seed)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process:
        try:
            yield Gateway(process.stdout.readline().strip())
        finally:
            process.terminate()


class Runner:
    """A runner in another process."""

    def __init__(self, journal: Path, campaign: int, url: str, rate: float, journal_timeout: float = 60.0) -> None:
        arguments = [str(journal), str(campaign), url, str(rate), str(journal_timeout)]
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "runner_process.py"), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_until_running(self) -> None:
        """Wait for its first word."""
        assert self.process.stdout is not None
        if self.process.stdout.readline() != "running\n":
            raise AssertionError(self.process.communicate()[1])

    def ends_within(self, seconds: float) -> bool:
        """Whether it ended by itself in that time."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def outcome(self) -> str:
        """How it ended: the campaign's state."""
        out, err = self.process.communicate(timeout=120)
        assert self.process.returncode == 0, err
        return out.split()[-1]

    def kill(self) -> None:
        """SIGKILL: no handler, no clean-up."""
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


async def plan(journal: Journal, numbers: Sequence[str], size: int) -> int:
    """A campaign with one text."""
    campaign = await journal.campaigns.create()
    batches = [PlannedBatch(MESSAGE, numbers[at : at + size]) for at in range(0, len(numbers), size)]
    for at in range(0, len(batches), 100):
        await journal.campaigns.add(campaign, batches[at : at + 100])
    await journal.campaigns.finish(campaign)
    return campaign


async def every_number(journal: Journal, campaign: int) -> list[NumberRecord]:
    """What became of all numbers."""
    found: list[NumberRecord] = []
    after = 0
    while True:
        records, after = await journal.campaigns.numbers(campaign, after=after)
        if not records:
            return found
        found += records
