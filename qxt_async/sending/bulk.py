"""A bulk send as it happens: batches from a source, a few at a time, results in constant memory."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Self, TypedDict

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from qxt_async.errors import BulkStoppedError, NotSentError, QxtError
from qxt_async.models import BulkResult, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence
    from types import TracebackType

    from qxt_async.models import BatchResult
    from qxt_async.protocol.numbers import NumberFilter
    from qxt_async.protocol.requests import Method
    from qxt_async.sending.attempts import BatchSend, Dispatcher
    from qxt_async.sending.batching import Batches
    from qxt_async.sending.retry import RetryPolicy

__all__ = ["BulkOptions", "BulkStream"]


class BulkOptions(TypedDict, total=False):
    """The keyword arguments of `QxtClient.stream_bulk`, which `QxtClient.send_bulk` takes too."""

    extno: str | None
    addseqno: bool
    deduplicate: bool
    suppressed: Container[str]
    substitute: bool
    batch_size: int
    min_batch: int
    max_concurrency: int | None
    method: Method | None
    timeout: float | None
    retry: RetryPolicy | None
    keep_invalid: bool
    on_result: Callable[[BatchResult], None] | None
    on_progress: Callable[[Progress], None] | None


class BulkStream:
    """The batches of a bulk send, in the order of their completion; from `QxtClient.stream_bulk`.

    Use it as ``async with client.stream_bulk(…) as batches: async for batch in batches: …``. A batch is sent only
    when there is room for its result, so a slow consumer slows the send, and nothing grows with the campaign.

    Leaving the block early begins no new batch and waits for those under way: their results are in `unconsumed`, the
    numbers read and not sent in `unsent`; a source that is being waited for is cancelled. Cancelling does the same
    without waiting.

    Attributes:
        unsent: after the block, the numbers that were read from the source and not sent.
    """

    def __init__(
        self,
        batches: Batches,
        dispatcher: Dispatcher,
        order: Callable[[int, Sequence[str], Callable[[BatchResult], None]], BatchSend],
        *,
        concurrency: int,
        on_result: Callable[[BatchResult], None] | None,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._batches = batches
        self._dispatcher = dispatcher
        self._order = order
        self._concurrency = concurrency
        self._on_result = on_result
        self._on_progress = on_progress
        self._reading = anyio.Lock()
        self._source_wait = anyio.CancelScope()
        # A result that nobody takes keeps the room of the batch that would be sent next.
        self._room = anyio.Semaphore(2 * concurrency)
        self._results: deque[BatchResult] = deque()
        self._news = anyio.Event()
        self._working = 0
        self._index = 0
        self._stopped: BaseException | None = None
        self._ended = False
        self._counts = {"batches": 0, "accepted": 0, "failed": 0, "unknown": 0}
        self._began = 0.0
        self._group: Any = None
        self._held_back: tuple[str, ...] = ()
        self.unsent: tuple[str, ...] = ()

    @property
    def number_filter(self) -> NumberFilter:
        """The gate that the numbers pass, with its counts."""
        return self._batches.number_filter

    @property
    def unconsumed(self) -> tuple[BatchResult, ...]:
        """Results that were not iterated over, because the block was left before."""
        return tuple(self._results)

    async def __aenter__(self) -> Self:
        if self._group is not None:
            raise RuntimeError("a stream is entered once: make another")
        self._dispatcher.bind()
        self._began = anyio.current_time()
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._working = self._concurrency
        for _ in range(self._concurrency):
            self._group.start_soon(self._work)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended = True
        self._source_wait.cancel()
        for _ in range(self._concurrency):  # those that wait for room see that it is over
            self._room.release()
        try:
            if isinstance(error, anyio.get_cancelled_exc_class()):
                await self._group.__aexit__(kind, error, traceback)
            else:
                # An error in the block is no reason to cut off what is paid for: the group does not get to see it.
                if not isinstance(error, Exception | None):
                    self._group.cancel_scope.cancel()
                await self._group.__aexit__(None, None, None)
        finally:
            self.unsent = self._held_back + self._batches.take_rest()
        if error is None:
            # Cancelled just as the last result came: what was cut off is not to pass for a send that came to its end.
            await checkpoint_if_cancelled()
        if error is None and self._stopped is not None:
            raise self._stopped

    def result(self, taken: Sequence[BatchResult], elapsed: float) -> BulkResult:
        """The whole send as one value, after the block.

        Args:
            taken: the results that were iterated over; `unconsumed` ones join them.
            elapsed: seconds.
        """
        number_filter = self.number_filter
        return BulkResult(
            tuple(sorted([*taken, *self.unconsumed], key=lambda batch: batch.index)),
            invalid=tuple(number_filter.invalid),
            duplicates=number_filter.duplicates,
            suppressed=number_filter.suppressed_count,
            unsent=self.unsent,
            elapsed=elapsed,
        )

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> BatchResult:
        if self._group is None:
            raise RuntimeError("use the stream as `async with client.stream_bulk(…) as batches`")
        while not self._results:
            if not self._working:
                if self._stopped is not None:
                    stopped, self._stopped = self._stopped, None
                    raise stopped
                raise StopAsyncIteration
            if self._news.is_set():
                self._news = anyio.Event()
            await self._news.wait()
        self._room.release()
        return self._results.popleft()

    async def _work(self) -> None:
        try:
            while not self._is_over():
                await self._room.acquire()
                taken = await self._next()
                if taken is None:
                    break
                index, numbers = taken
                try:
                    await self._order(index, numbers, self._take_result).execute(self._dispatcher)
                except QxtError as error:
                    self._stop(error)
        finally:
            self._working -= 1
            self._news.set()

    async def _next(self) -> tuple[int, Sequence[str]] | None:
        async with self._reading:
            if self._is_over():
                return None
            numbers: Sequence[str] | None = None
            try:
                with anyio.CancelScope() as self._source_wait:
                    numbers = await self._batches.next()
            # The caller's iterable may raise anything; what is under way is paid for and goes on.
            except Exception as error:  # noqa: BLE001
                failed = BulkStoppedError("source", type(error).__name__)
                failed.__cause__ = error
                self._stop(failed)
                return None
            if self._is_over():  # since the question: nothing new is begun
                self._held_back = tuple(numbers or ())
                return None
            if numbers is None:
                return None
            index, self._index = self._index, self._index + 1
            return index, numbers

    def _is_over(self) -> bool:
        return self._ended or self._stopped is not None

    def _stop(self, error: BaseException) -> None:
        if self._stopped is None:
            self._stopped = error
            self._source_wait.cancel()

    def _take_result(self, result: BatchResult) -> None:
        self._results.append(result)
        self._news.set()
        error = result.error
        is_closed = self._dispatcher.closed and isinstance(error, NotSentError)
        if error is not None and (error.concerns_every_batch or is_closed):
            self._stop(error)
        counts = self._counts
        counts["batches"] += 1
        counts["accepted"] += len(result.accepted)
        counts["failed"] += len(result.failed)
        counts["unknown"] += len(result.unknown)
        try:
            if self._on_result is not None:
                self._on_result(result)
            if self._on_progress is not None:
                self._on_progress(self._progress(result))
        # A callback's mistake must not take the batches under way with it; it is raised when they are done.
        except Exception as error:  # noqa: BLE001
            failed = BulkStoppedError("callback", type(error).__name__)
            failed.__cause__ = error
            self._stop(failed)

    def _progress(self, result: BatchResult) -> Progress:
        number_filter = self.number_filter
        return Progress(
            **self._counts,
            invalid=number_filter.invalid_count,
            duplicates=number_filter.duplicates,
            suppressed=number_filter.suppressed_count,
            elapsed=anyio.current_time() - self._began,
            batch=result,
        )
