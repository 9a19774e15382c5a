"""A bulk send: a few batches at a time, and their results as they come, in constant memory."""

from __future__ import annotations

from collections import deque
from operator import attrgetter
from typing import TYPE_CHECKING, Self, cast

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from qxt_async.errors import BulkStoppedError, NotSentError, QxtError
from qxt_async.models import BulkResult, Progress
from qxt_async.sending.batch_send import BatchSend

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from anyio.abc import TaskGroup

    from qxt_async.models import BatchResult
    from qxt_async.protocol.numbers import NumberFilter
    from qxt_async.sending.batch_send import SendOptions
    from qxt_async.sending.batching import Batches
    from qxt_async.sending.dispatcher import Dispatcher


class _Callbacks:
    """The caller's callbacks, and what one of them gets.

    Attributes:
        began: when the send began, on the event loop's clock.
    """

    def __init__(
        self,
        number_filter: NumberFilter,
        on_result: Callable[[BatchResult], None] | None,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._number_filter = number_filter
        self._on_result = on_result
        self._on_progress = on_progress
        self._counts = {"batches": 0, "accepted": 0, "failed": 0, "unknown": 0}
        self.began = 0.0

    def call(self, result: BatchResult) -> None:
        """Call both callbacks."""
        counts = self._counts
        counts["batches"] += 1
        counts["accepted"] += len(result.accepted)
        counts["failed"] += len(result.failed)
        counts["unknown"] += len(result.unknown)
        if self._on_result is not None:
            self._on_result(result)
        if self._on_progress is not None:
            progress = Progress(
                **counts,
                invalid=self._number_filter.invalid_count,
                duplicates=self._number_filter.duplicates,
                suppressed=self._number_filter.suppressed_count,
                elapsed=anyio.current_time() - self.began,
                batch=result,
            )
            self._on_progress(progress)


class BulkStream:
    """The results of a bulk send in the order in which the batches end; from `QxtClient.stream_bulk`.

    Use it as ``async with client.stream_bulk(…) as batches: async for batch in batches: …``. A batch is sent only when
    there is room for its result. So a slow consumer slows the send, and the memory does not grow with the send.

    Leaving the block early begins no new batch and waits for the batches in flight: their results are in `unconsumed`,
    the numbers that were read and not sent in `unsent`. A source that is being waited for is cancelled. Cancelling does
    the same without waiting.

    Attributes:
        unsent: after the block, the numbers that were read from the source and not sent.
    """

    def __init__(
        self,
        batches: Batches,
        dispatcher: Dispatcher,
        options: SendOptions,
        *,
        concurrency: int,
        on_result: Callable[[BatchResult], None] | None,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._batches = batches
        self._dispatcher = dispatcher
        self._options = options
        self._concurrency = concurrency
        has_callbacks = on_result is not None or on_progress is not None
        self._callbacks = _Callbacks(batches.number_filter, on_result, on_progress) if has_callbacks else None
        # A result that is not consumed keeps the room of the batch that would be sent next.
        self._room = anyio.Semaphore(2 * concurrency)
        self._results: deque[BatchResult] = deque()
        self._news = anyio.Event()
        self._working = 0
        self._error: QxtError | None = None
        self._group: TaskGroup | None = None
        self.unsent: tuple[str, ...] = ()

    @property
    def number_filter(self) -> NumberFilter:
        """The filter of the numbers, with its counts."""
        return self._batches.number_filter

    @property
    def unconsumed(self) -> tuple[BatchResult, ...]:
        """The results that were not iterated over, because the block was left early."""
        return tuple(self._results)

    async def __aenter__(self) -> Self:
        if self._group is not None:
            raise RuntimeError("this stream was entered before: call stream_bulk() again")
        self._dispatcher.bind()
        if self._callbacks is not None:
            self._callbacks.began = anyio.current_time()
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._working = self._concurrency
        for _ in range(self._concurrency):
            self._group.start_soon(self._work)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        group = cast("TaskGroup", self._group)
        self._batches.stop()
        for _ in range(self._concurrency):  # wakes the workers that wait for room
            self._room.release()
        try:
            if isinstance(error, anyio.get_cancelled_exc_class()):
                await group.__aexit__(kind, error, traceback)
            else:
                # An error in the block does not cut off batches that are paid for: the group does not get it.
                if not isinstance(error, Exception | None):
                    group.cancel_scope.cancel()
                await group.__aexit__(None, None, None)
        finally:
            self.unsent = self._batches.take_rest()
        if error is None:
            # Cancelled just as the last result came: a send that was cut off must not look like one that ended.
            await checkpoint_if_cancelled()
        if error is None and self._error is not None:
            raise self._error

    def result(self, consumed: Sequence[BatchResult], elapsed: float) -> BulkResult:
        """Make one value of the whole send, after the block.

        Args:
            consumed: the results that were iterated over; those of `unconsumed` join them.
            elapsed: seconds.
        """
        number_filter = self._batches.number_filter
        return BulkResult(
            tuple(sorted([*consumed, *self._results], key=attrgetter("index"))),
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
                if self._error is not None:
                    error, self._error = self._error, None
                    raise error
                raise StopAsyncIteration
            if self._news.is_set():
                self._news = anyio.Event()
            await self._news.wait()
        self._room.release()
        return self._results.popleft()

    async def _work(self) -> None:
        """Send one batch after the other, until the source ends or the send is stopped."""
        batches = self._batches
        try:
            while not batches.stopped:
                await self._room.acquire()
                try:
                    numbers = await batches.next()
                # The caller's iterable may raise anything. Batches in flight are paid for and go on.
                except Exception as error:  # noqa: BLE001
                    self._stop(BulkStoppedError("source", type(error).__name__), error)
                    break
                if numbers is None:
                    break
                send = BatchSend(batches.count - 1, numbers, self._options, self._take_result)
                try:
                    await send.execute(self._dispatcher)
                except QxtError as error:
                    self._stop(error)
        finally:
            self._working -= 1
            self._news.set()

    def _take_result(self, result: BatchResult) -> None:
        self._results.append(result)
        self._news.set()
        error = result.error
        if error is not None:
            is_closed = self._dispatcher.closed and isinstance(error, NotSentError)
            if error.concerns_every_batch or is_closed:
                self._stop(error)
        if self._callbacks is not None:
            try:
                self._callbacks.call(result)
            # An error of a callback must not end batches in flight; it is raised when they are done.
            except Exception as raised:  # noqa: BLE001
                self._stop(BulkStoppedError("callback", type(raised).__name__), raised)

    def _stop(self, error: QxtError, cause: Exception | None = None) -> None:
        """Begin no new batch. The first error is raised at the end."""
        if self._error is None:
            error.__cause__ = error.__cause__ if cause is None else cause
            self._error = error
            self._batches.stop()
