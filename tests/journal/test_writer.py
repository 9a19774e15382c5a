"""The thread that writes: grouping, failures of one and of all, back-pressure, hand-off to the event loop."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint

from qxt_async.errors import JournalBusyError, JournalClosedError, JournalUnavailableError
from qxt_async.journal.sqlite.writer import Writer

pytestmark = pytest.mark.anyio


class Store:
    """A database that counts its commits, and a gate that holds the thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.statements: list[str] = []
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.connection.execute("CREATE TABLE words (word TEXT UNIQUE)")
        self.connection.set_trace_callback(self.statements.append)

    @property
    def commits(self) -> int:
        """Transactions so far."""
        return self.statements.count("COMMIT")

    def hold(self, connection: sqlite3.Connection) -> None:
        """Hold the thread until the gate opens."""
        self.entered.set()
        assert self.gate.wait(120)

    def words(self) -> list[str]:
        """What another connection sees."""
        with sqlite3.connect(self.path) as connection:
            found = [word for (word,) in connection.execute("SELECT word FROM words ORDER BY word")]
        connection.close()
        return found


def insert(word: str) -> Callable[[sqlite3.Connection], str]:
    """A function for the writer."""

    def function(connection: sqlite3.Connection) -> str:
        connection.execute("INSERT INTO words VALUES (?)", (word,))
        return word

    return function


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A fresh database."""
    return Store(tmp_path / "words.sqlite")


async def test_what_waits_is_one_transaction(store: Store) -> None:
    """Functions that arrive during a commit share the next one, each with its own result."""
    writer = Writer(store.connection)
    held = writer.submit(store.hold)
    jobs = [writer.submit(insert(f"{number:03}")) for number in range(100)]
    store.gate.set()

    assert [await job.result() for job in jobs] == [f"{number:03}" for number in range(100)]
    await held.result()
    await writer.close()
    assert store.commits <= 2
    assert len(store.words()) == 100


async def test_group_size(store: Store) -> None:
    """No transaction has more functions than the limit says."""
    writer = Writer(store.connection, group_size=10)
    writer.submit(store.hold)
    await anyio.to_thread.run_sync(store.entered.wait)
    jobs = [writer.submit(insert(str(number))) for number in range(25)]
    store.gate.set()
    for job in jobs:
        await job.result()
    await writer.close()
    assert store.commits == 4


async def test_one_failure_does_not_spoil_the_others(store: Store) -> None:
    """What a failing function wrote is undone, its neighbours in the transaction are committed."""
    writer = Writer(store.connection)

    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO words VALUES ('undone')")
        raise LookupError("mine")

    writer.submit(store.hold)
    jobs = [writer.submit(insert("a")), writer.submit(fail), writer.submit(insert("a")), writer.submit(insert("b"))]
    store.gate.set()

    assert await jobs[0].result() == "a"
    with pytest.raises(LookupError, match="mine"):
        await jobs[1].result()
    with pytest.raises(JournalUnavailableError, match="UNIQUE") as caught:
        await jobs[2].result()
    assert isinstance(caught.value.__cause__, sqlite3.IntegrityError)
    assert await jobs[3].result() == "b"
    await writer.close()
    assert store.words() == ["a", "b"]


@pytest.mark.parametrize("error", [sqlite3.OperationalError("disk full"), LookupError("mine")], ids=repr)
async def test_unguarded_failure_undoes_the_transaction(store: Store, error: Exception) -> None:
    """A function that runs without a guard takes what shares its transaction with it; the next one is untouched."""

    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO words VALUES ('half')")
        raise error

    writer = Writer(store.connection)
    held = writer.submit(store.hold)
    await anyio.to_thread.run_sync(store.entered.wait)
    before = writer.submit(insert("before"), guarded=False)
    failing = writer.submit(fail, guarded=False)
    store.gate.set()
    await held.result()

    with pytest.raises(JournalUnavailableError):
        await before.result()
    with pytest.raises((JournalUnavailableError, LookupError)):
        await failing.result()
    assert await writer.submit(insert("after"), guarded=False).result() == "after"
    assert store.words() == ["after"]
    assert not [statement for statement in store.statements if "RELEASE" in statement][1:]
    await writer.close()


class Starved(sqlite3.Connection):
    """A connection that gets no memory for the statements in `failing`, once each."""

    failing: set[str]

    def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:  # type: ignore[override]
        """Run it, or not."""
        if sql in self.failing:
            self.failing.remove(sql)
            raise MemoryError
        return super().execute(sql, *parameters)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "failing",
    [
        ["work"],
        ["work", "ROLLBACK"],
        ["work", "ROLLBACK TO job"],
        ["BEGIN IMMEDIATE"],
        ["COMMIT"],
        ["COMMIT", "ROLLBACK"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "unguarded"])
async def test_without_memory(store: Store, failing: list[str], guarded: bool) -> None:
    """A `MemoryError` in the thread ends the operation that met it; the next one finds the thread at work."""
    store.connection.close()
    connection = sqlite3.connect(store.path, isolation_level=None, check_same_thread=False, factory=Starved)
    connection.failing = set(failing)
    writer = Writer(connection)

    def work(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO words VALUES ('half')")
        connection.execute("work")

    with pytest.raises(JournalUnavailableError):
        await writer.submit(work, guarded=guarded).result()
    connection.failing.clear()
    assert await writer.submit(insert("a"), alone=insert("a")).result() == "a"
    assert await writer.submit(insert("b")).result() == "b"
    await writer.close()
    assert store.words() == ["a", "b"]


async def test_alone(store: Store) -> None:
    """A function that runs alone has no transaction, and its error is its own; with others, it shares theirs."""
    writer = Writer(store.connection)
    transactions: list[bool] = []

    def note(word: str) -> Callable[[sqlite3.Connection], str]:
        def function(connection: sqlite3.Connection) -> str:
            transactions.append(connection.in_transaction)
            return insert(word)(connection)

        return function

    assert await writer.submit(insert("a"), alone=note("a")).result() == "a"
    with pytest.raises(JournalUnavailableError, match="UNIQUE"):
        await writer.submit(insert("a"), alone=note("a")).result()
    held = writer.submit(store.hold)
    await anyio.to_thread.run_sync(store.entered.wait)
    jobs = [writer.submit(note("b"), alone=note("no")), writer.submit(insert("c"))]
    store.gate.set()
    await held.result()
    assert [await job.result() for job in jobs] == ["b", "c"]
    await writer.close()
    assert transactions == [False, False, True]
    assert store.words() == ["a", "b", "c"]


@pytest.mark.parametrize("error", [None, sqlite3.OperationalError("disk full"), LookupError("mine")], ids=repr)
async def test_a_lost_transaction_fails_everybody(store: Store, error: Exception | None) -> None:
    """If the whole transaction is rolled back under a function, nobody in it is told that it was written."""
    writer = Writer(store.connection)

    def lose(connection: sqlite3.Connection) -> None:
        connection.execute("ROLLBACK")
        if error is not None:
            raise error

    writer.submit(store.hold)
    await anyio.to_thread.run_sync(store.entered.wait)
    jobs = [writer.submit(insert("before")), writer.submit(lose), writer.submit(insert("behind"))]
    store.gate.set()
    for job in (jobs[0], jobs[2]):
        with pytest.raises(JournalUnavailableError):
            await job.result()
    with pytest.raises(LookupError if isinstance(error, LookupError) else JournalUnavailableError):
        await jobs[1].result()
    assert await writer.submit(insert("later")).result() == "later"
    await writer.close()
    assert store.words() == ["later"]


async def test_locked(store: Store) -> None:
    """While another connection holds the write lock nothing is written, and everybody is told."""
    store.connection.execute("PRAGMA busy_timeout=0")
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writer = Writer(store.connection)
    with pytest.raises(JournalUnavailableError, match="locked"):
        await writer.submit(insert("a")).result()
    other.execute("COMMIT")
    other.close()
    assert await writer.submit(insert("b")).result() == "b"
    await writer.close()
    assert store.words() == ["b"]


async def test_back_pressure(store: Store) -> None:
    """More functions than may wait are refused at once, and accepted again later."""
    writer = Writer(store.connection, waiting=2)
    held = writer.submit(store.hold)
    await anyio.to_thread.run_sync(store.entered.wait)
    jobs = [writer.submit(insert("a")), writer.submit(insert("b"))]
    with pytest.raises(JournalBusyError):
        await writer.submit(insert("c")).result()
    store.gate.set()
    for job in [held, *jobs]:
        await job.result()
    assert await writer.submit(insert("d")).result() == "d"
    await writer.close()
    assert store.words() == ["a", "b", "d"]


async def test_close(store: Store) -> None:
    """Closing writes what waits, may be repeated, and refuses what comes later."""
    writer = Writer(store.connection)
    job = writer.submit(insert("a"))
    await writer.close()
    await writer.close()
    assert await job.result() == "a"
    with pytest.raises(JournalClosedError):
        await writer.submit(insert("b")).result()
    assert store.words() == ["a"]


async def test_cancelled_waiting(store: Store) -> None:
    """Cancelling ends the waiting; the writing happens all the same, and is told to `on_done`."""
    writer = Writer(store.connection)
    done: list[bool] = []
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(writer.submit(store.hold).result)
            await anyio.to_thread.run_sync(store.entered.wait)
            job = writer.submit(insert("a"), on_done=done.append)
            tasks.start_soon(job.result)
            await checkpoint()
            scope.cancel()
    assert done == []
    store.gate.set()
    assert await job.result() == "a"
    assert done == [True]
    await writer.close()


def test_the_loop_may_be_gone(tmp_path: Path, anyio_backend: str) -> None:
    """A loop that has ended while something waited does not hurt the thread."""
    store = Store(tmp_path / "words.sqlite")

    async def leave() -> Writer:
        writer = Writer(store.connection)
        writer.submit(store.hold)
        writer.submit(insert("a"))
        return writer

    writer = anyio.run(leave, backend=anyio_backend)
    store.gate.set()
    anyio.run(writer.close, backend=anyio_backend)
    assert store.words() == ["a"]


def test_two_loops(tmp_path: Path, anyio_backend: str) -> None:
    """Tasks of several event loops may share a writer; each is woken in its own."""
    store = Store(tmp_path / "words.sqlite")

    async def start() -> Writer:
        return Writer(store.connection)

    writer = anyio.run(start, backend=anyio_backend)
    results: list[str] = []

    def work(word: str) -> None:
        async def write() -> None:
            results.append(await writer.submit(insert(word)).result())

        anyio.run(write, backend=anyio_backend)

    threads = [threading.Thread(target=work, args=(word,)) for word in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    anyio.run(writer.close, backend=anyio_backend)
    assert sorted(results) == store.words() == ["a", "b", "c", "d"]
