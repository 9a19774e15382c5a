"""A simulation of more workers than a machine has room for, by costs that were measured one by one.

It runs in virtual time. A worker is one processor: claims and outcomes of a moment share a transaction, as in
`journal.postgres.grouping`. The database has some processors and one disk, which flushes all commits that wait at once.
What comes out is how many batches of one number a second all workers send, and how busy each part is.

    python tests/benchmarks/bench_many_workers.py [--workers 1,2,4,8,16,32] [--help]
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable

import attrs
import trio
from trio.testing import MockClock


@attrs.frozen
class Costs:
    """Seconds; the defaults are the measured ones of docs/sizing.md.

    Attributes:
        message: of a worker's processor, for a message without its transactions.
        transaction: the same, for a transaction.
        statement: of the database's processors, for the statement of a message.
        begin: the same, for a transaction.
        flush: of the disk, for all commits that wait.
        round_trip: between a worker and the database.
        answer: of the gateway.
    """

    message: float
    transaction: float
    statement: float
    begin: float
    flush: float
    round_trip: float
    answer: float


@attrs.define
class Part:
    """Something with places that are used one at a time, and how long it was in use."""

    places: int
    limiter: trio.CapacityLimiter = attrs.field(init=False)
    used: float = 0.0

    def __attrs_post_init__(self) -> None:
        self.limiter = trio.CapacityLimiter(self.places)

    async def use(self, seconds: float) -> None:
        async with self.limiter:
            await trio.sleep(seconds)
        self.used += seconds


class Together:
    """What waits at the same moment is done at once; what comes meanwhile is next."""

    def __init__(self, nursery: trio.Nursery, work: Callable[[int], Awaitable[None]]) -> None:
        self._nursery = nursery
        self._work = work
        self._waiting: list[trio.Event] = []
        self._busy = False

    async def join(self) -> None:
        done = trio.Event()
        self._waiting.append(done)
        if not self._busy:
            self._busy = True
            self._nursery.start_soon(self._do)
        await done.wait()

    async def _do(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            await self._work(len(group))
            for done in group:
                done.set()
        self._busy = False


class Database:
    """Processors, and a disk that flushes for everyone at once."""

    def __init__(self, nursery: trio.Nursery, costs: Costs, processors: int) -> None:
        self.processors = Part(processors)
        self.disk = Part(1)
        self._costs = costs
        self._commits = Together(nursery, lambda _: self.disk.use(costs.flush))

    async def transaction(self, statements: int) -> None:
        for seconds in (self._costs.begin, self._costs.statement * statements):
            await trio.sleep(self._costs.round_trip)
            await self.processors.use(seconds)
        await trio.sleep(self._costs.round_trip)
        await self._commits.join()


class Worker:
    """One processor; `claims` and `outcomes` share transactions."""

    def __init__(self, nursery: trio.Nursery, database: Database, costs: Costs) -> None:
        self.processor = Part(1)
        self._database = database
        self._costs = costs
        self.claims, self.outcomes = Together(nursery, self._write), Together(nursery, self._write)

    async def _write(self, statements: int) -> None:
        await self.processor.use(self._costs.transaction)
        await self._database.transaction(statements)


async def simulate(costs: Costs, workers: int, concurrency: int, processors: int, seconds: float) -> str:
    sent = 0

    async def lane(worker: Worker, places: trio.CapacityLimiter) -> None:
        nonlocal sent
        while trio.current_time() < end:
            async with places:
                await worker.claims.join()
                await worker.processor.use(costs.message)
                await trio.sleep(costs.answer)
            await worker.outcomes.join()
            sent += 1

    began = trio.current_time()
    end = began + seconds
    async with trio.open_nursery() as nursery:
        database = Database(nursery, costs, processors)
        all_workers = [Worker(nursery, database, costs) for _ in range(workers)]
        for worker in all_workers:
            places = trio.CapacityLimiter(concurrency)
            for _ in range(2 * concurrency):
                nursery.start_soon(lane, worker, places)
    took = trio.current_time() - began
    busy = sum(worker.processor.used for worker in all_workers) / workers / took
    server, disk = database.processors.used / processors / took, database.disk.used / took
    return f"{workers:7}{sent / took:12,.0f}{busy:14.0%}{server:12.0%}{disk:8.0%}"


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--workers", default="1,2,4,8,16,32")
    arguments.add_argument("--concurrency", type=int, default=16)
    arguments.add_argument("--processors", type=int, default=8, help="of the database")
    arguments.add_argument("--seconds", type=float, default=2.0, help="of virtual time")
    measured = {
        "message": 500,
        "transaction": 1000,
        "statement": 65,
        "begin": 600,
        "flush": 1000,
        "round-trip": 200,
        "answer": 20000,
    }
    for name, microseconds in measured.items():
        arguments.add_argument(f"--{name}", type=float, default=microseconds, help="microseconds")
    given = arguments.parse_args()
    costs = Costs(*(getattr(given, name.replace("-", "_")) / 1e6 for name in measured))
    print(f"{'workers':>7}{'messages/s':>12}{'each worker':>14}{'processors':>12}{'disk':>8}")
    for workers in map(int, given.workers.split(",")):
        run = (simulate, costs, workers, given.concurrency, given.processors, given.seconds)
        print(trio.run(*run, clock=MockClock(autojump_threshold=0)))


if __name__ == "__main__":
    main()
