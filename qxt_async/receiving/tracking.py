"""What became of a message: wait for one report, or follow all of them.

::

    async with DeliveryTracker(journal) as tracker:
        sent = await client.send(number, text)
        report = await tracker.wait(sent.mid, number, timeout=60)

The reports come from the journal, whichever process received them. One task looks there for all that wait, every 50 ms
when something is new and down to once a second when nothing is: ten thousand waiting tasks cost one query a look. What
this journal object stores itself wakes them at once; so does what any process stores in a journal that tells it
(PostgreSQL), but for the pause between two looks.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Final, Self

import anyio

from qxt_async.errors import DeliveryTimeoutError, JournalError
from qxt_async.models import DeliveryState, StatusReport, mask
from qxt_async.protocol.numbers import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

    from anyio.abc import TaskGroup

    from qxt_async.journal import FeedEntry, Journal

__all__ = ["DeliveryTracker", "ReportFeed"]

logger = logging.getLogger(__name__)

# Reports of one query: a few milliseconds of work.
_PAGE: Final = 1000


class _Waiting:
    """One message somebody waits for, however many do."""

    __slots__ = ("report", "settled", "tasks")

    def __init__(self) -> None:
        self.settled = anyio.Event()
        self.report: StatusReport | None = None
        self.tasks = 0


class _Bell:
    """Wakes whoever has taken the event before; the next one takes a new event."""

    def __init__(self) -> None:
        self.event = anyio.Event()

    def wake(self) -> None:
        event, self.event = self.event, anyio.Event()
        event.set()


class DeliveryTracker:
    """Tells what became of messages. Used as ``async with``, in the event loop of its journal.

    Tasks that wait have to end before the tracker does.

    Args:
        journal: an open journal, whose reports this or another process writes.
        interval: seconds between looks at the journal while something comes.
        idle_interval: seconds between looks when nothing has come for a while.
    """

    def __init__(self, journal: Journal, *, interval: float = 0.05, idle_interval: float = 1.0) -> None:
        self._journal = journal
        self._interval = interval
        self._idle_interval = max(interval, idle_interval)
        self._waiting: dict[tuple[str, str], _Waiting] = {}
        # Keys to be looked up: nobody has looked yet, or a report on them was stored just now.
        self._due: set[tuple[str, str]] = set()
        # Somebody has stored reports: the next look need not wait for its time.
        self._told = False
        # Something is due, for the task that looks; something was stored, for the feeds.
        self._call = _Bell()
        self._news = _Bell()
        self._tasks: TaskGroup | None = None
        self._leave: Callable[[], None] | None = None

    async def __aenter__(self) -> Self:
        tasks = self._tasks = anyio.create_task_group()
        await tasks.__aenter__()
        self._leave = self._journal.subscribe(self._stored)
        tasks.start_soon(self._look)
        tasks.start_soon(self._journal.watch, self._heard)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        tasks, leave = self._tasks, self._leave
        self._tasks = self._leave = None
        assert tasks is not None  # noqa: S101  (entered before)
        assert leave is not None  # noqa: S101
        leave()
        tasks.cancel_scope.cancel()
        if kind is None or issubclass(kind, anyio.get_cancelled_exc_class()):
            return await tasks.__aexit__(kind, error, traceback)
        # The body's own error is to come out as it is, and not in a group.
        await tasks.__aexit__(None, None, None)
        return None

    async def wait(self, mid: str, number: str, timeout: float | None = 60.0) -> StatusReport:
        """The report on one message, as soon as it says what became of it; at once if it came before.

        A report without a state (`DeliveryState.UNKNOWN`) is waited out.

        Args:
            mid: the message id that the send returned.
            number: the phone, in any form; as in the `BatchResult`, for example.
            timeout: seconds; ``None`` waits for ever.

        Raises:
            DeliveryTimeoutError: nothing came in time.
            RuntimeError: the tracker is not entered.
        """
        if self._tasks is None:
            raise RuntimeError("use the tracker as `async with DeliveryTracker(…) as tracker`")
        key = mid, canonical(number)
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = _Waiting()
            self._due.add(key)
            self._call.wake()
        waiting.tasks += 1
        try:
            with anyio.move_on_after(timeout):
                await waiting.settled.wait()
        finally:
            waiting.tasks -= 1
            if not waiting.tasks and waiting.report is None:
                del self._waiting[key]
                self._due.discard(key)
        if waiting.report is None:
            # Without a timeout nothing ends the waiting but a report.
            raise DeliveryTimeoutError(mid, mask(number), timeout or 0.0)
        return waiting.report

    def reports(self, cursor: int | None = None) -> ReportFeed:
        """All reports in the order in which they were stored, and then those that come: an endless iterator.

        Each entry carries its cursor. A consumer that keeps the last one and continues from it misses nothing. A report
        that another one replaces (see `qxt_async.journal`) comes again. Needs no ``async with``, but without it new
        reports are noticed by looking only.

        Args:
            cursor: of the last entry seen; ``None`` for all from the beginning, ``await journal.report_cursor()`` for
                new ones only.
        """
        return ReportFeed(self._journal, cursor or 0, self._news, self._interval, self._idle_interval)

    # --- looking ------------------------------------------------------------------------------------------------

    def _stored(self, reports: Sequence[StatusReport]) -> None:
        """This journal object has committed reports."""
        # Looked up and not taken as they are: another report on the same message may have won.
        due = {key for report in reports if (key := (report.mid, canonical(report.number))) in self._waiting}
        if due:
            self._due |= due
            self._call.wake()
        self._news.wake()

    def _heard(self) -> None:
        """Somebody, here or elsewhere, has committed reports."""
        self._told = True
        self._call.wake()
        self._news.wake()

    async def _look(self) -> None:
        """The one task that asks the journal for all that wait."""
        pause = self._interval
        while True:
            called = self._call.event
            if not self._waiting:
                await called.wait()
                continue
            try:
                await self._follow()
                pause = self._interval
            except JournalError as error:
                logger.warning("cannot look for reports, trying again: %s", error)
                await anyio.sleep(pause)
                pause = min(pause * 2, self._idle_interval)

    async def _follow(self) -> None:
        """Look until nobody waits any more."""
        # The cursor first: what is committed after it is behind it, what was committed before is found by its key.
        cursor = await self._journal.report_cursor()
        self._due.update(self._waiting)
        pause = self._interval
        looked_at = anyio.current_time()
        look_at = looked_at + pause
        while self._waiting:
            called = self._call.event
            if self._told:
                self._told = False
                look_at = min(look_at, looked_at + self._interval)
            if self._due:
                due, self._due = self._due, set()
                self._settle(await self._journal.find_reports(due))
                pause = self._interval
                look_at = min(look_at, anyio.current_time() + pause)
            # Whatever has become due meanwhile has rung already.
            with anyio.CancelScope(deadline=look_at):
                await called.wait()
            if anyio.current_time() >= look_at:
                newest = await self._journal.report_cursor()
                pause = self._interval if newest > cursor else min(pause * 2, self._idle_interval)
                looked_at = anyio.current_time()
                look_at = looked_at + pause
                cursor = await self._catch_up(cursor, newest)

    async def _catch_up(self, cursor: int, newest: int) -> int:
        """Settle what has come since `cursor`, at the price of what is fewer: new reports or waiting messages."""
        if newest - cursor > len(self._waiting):
            self._due.update(self._waiting)
            return newest
        if newest > cursor:
            entries = await self._journal.reports(after=cursor, limit=newest - cursor)
            self._settle(entry.value for entry in entries)
        return newest

    def _settle(self, reports: Iterable[StatusReport]) -> None:
        for report in reports:
            if report.state is not DeliveryState.UNKNOWN:
                waiting = self._waiting.pop((report.mid, report.number), None)
                if waiting is not None:
                    waiting.report = report
                    waiting.settled.set()


class ReportFeed:
    """The iterator of `DeliveryTracker.reports`; to be consumed by one task. Cancelling loses nothing.

    Attributes:
        cursor: of the last entry handed out.
    """

    def __init__(
        self,
        journal: Journal,
        cursor: int,
        news: _Bell,
        interval: float,
        idle_interval: float,
    ) -> None:
        self.cursor = cursor
        self._journal = journal
        self._news = news
        self._interval = interval
        self._idle_interval = idle_interval
        self._entries: deque[FeedEntry[StatusReport]] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> FeedEntry[StatusReport]:
        pause = self._interval
        while not self._entries:
            news = self._news.event
            self._entries.extend(await self._journal.reports(after=self.cursor, limit=_PAGE))
            if not self._entries:
                with anyio.move_on_after(pause):
                    await news.wait()
                pause = min(pause * 2, self._idle_interval)
        entry = self._entries.popleft()
        self.cursor = entry.cursor
        return entry
