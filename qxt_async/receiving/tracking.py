"""Wait for the status report on one message, or follow all reports.

::

    async with DeliveryTracker(journal) as tracker:
        sent = await client.send(number, text)
        report = await tracker.wait(sent.mid, number, timeout=60)

The reports come from the journal, whichever process received them. One task polls the journal for all waiting tasks:
every 50 ms while reports arrive, and less often, down to once a second, while none do. Ten thousand waiting tasks cost
one query per poll. Reports that this journal object stores wake the waiting tasks at once. With PostgreSQL, so do
reports that any process stores, at most every 50 ms.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Final, Self

import anyio
import attrs

from qxt_async.errors import DeliveryTimeoutError, JournalError
from qxt_async.journal.send_records import SendState
from qxt_async.models import DeliveryState, StatusReport, mask
from qxt_async.protocol.numbers import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

    from anyio.abc import TaskGroup

    from qxt_async.journal import FeedEntry, Journal

logger = logging.getLogger(__name__)

# Reports per query: a few milliseconds of work.
_PAGE: Final = 1000


@attrs.define(eq=False)
class _Waiting:
    """One message, and the tasks that wait for its report."""

    report: StatusReport | None = None
    tasks: int = 0
    reported: anyio.Event = attrs.field(factory=anyio.Event)


@attrs.define(eq=False)
class _Signal:
    """An event that can be set again and again: each `wake` sets the current event and makes a new one."""

    event: anyio.Event = attrs.field(factory=anyio.Event)

    def wake(self) -> None:
        event, self.event = self.event, anyio.Event()
        event.set()


class DeliveryTracker:
    """Waits for status reports. Used as ``async with``, in the event loop of its journal.

    Waiting tasks must end before the tracker does.

    Args:
        journal: an open journal; this or another process writes its reports.
        interval: seconds between polls while reports arrive.
        idle_interval: seconds between polls after none have arrived for a while.
    """

    def __init__(self, journal: Journal, *, interval: float = 0.05, idle_interval: float = 1.0) -> None:
        self._journal = journal
        self.interval = interval
        self._idle_interval = max(interval, idle_interval)
        self._waiting: dict[tuple[str, str], _Waiting] = {}
        # Messages to look up: they are new, or a report on them was stored just now.
        self._due: set[tuple[str, str]] = set()
        # Some process has stored reports: poll without waiting for the whole pause.
        self._told = False
        self._poll_wanted = _Signal()
        self._stored = _Signal()
        self._tasks: TaskGroup | None = None
        self._unsubscribe: Callable[[], None] | None = None

    async def __aenter__(self) -> Self:
        tasks = self._tasks = anyio.create_task_group()
        await tasks.__aenter__()
        self._unsubscribe = self._journal.subscribe(self._on_stored)
        tasks.start_soon(self._poll_forever)
        tasks.start_soon(self._journal.watch, self._on_told)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        tasks, unsubscribe = self._tasks, self._unsubscribe
        self._tasks = self._unsubscribe = None
        assert tasks is not None  # noqa: S101  (entered before)
        assert unsubscribe is not None  # noqa: S101
        unsubscribe()
        tasks.cancel_scope.cancel()
        if kind is None or issubclass(kind, anyio.get_cancelled_exc_class()):
            return await tasks.__aexit__(kind, error, traceback)
        # Raise the error of the ``async with`` block as it is, and not in a group.
        await tasks.__aexit__(None, None, None)
        return None

    async def wait(self, mid: str, number: str, timeout: float | None = 60.0) -> StatusReport:
        """Wait for the report on one message. Returns at once if it came before.

        A report without a final state (`DeliveryState.UNKNOWN`) does not end the waiting. Cancelling loses nothing.

        Args:
            mid: the message id that the send returned.
            number: the phone number, in any form.
            timeout: seconds; ``None`` waits forever.

        Raises:
            DeliveryTimeoutError: no report came in time.
            RuntimeError: the tracker is not entered.
        """
        if self._tasks is None:
            raise RuntimeError("use the tracker as `async with DeliveryTracker(…) as tracker`")
        key = mid, canonical(number)
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = _Waiting()
            self._due.add(key)
            self._poll_wanted.wake()
        waiting.tasks += 1
        try:
            with anyio.move_on_after(timeout):
                await waiting.reported.wait()
        finally:
            waiting.tasks -= 1
            if not waiting.tasks and waiting.report is None:
                del self._waiting[key]
                self._due.discard(key)
        if waiting.report is None:
            # Without a timeout only a report ends the waiting.
            raise DeliveryTimeoutError(mid, mask(number), timeout or 0.0)
        return waiting.report

    async def wait_for_key(self, key: str, timeout: float | None = 60.0) -> StatusReport:
        """Wait for the report on a single send with an idempotency key, to the first number that was accepted.

        The send may be begun later, and it may be unknown: then a report proves it, see `qxt_async.journal`.

        Args:
            key: given to `QxtClient.send`.
            timeout: seconds; ``None`` waits forever.

        Raises:
            DeliveryTimeoutError: no report came in time.
            RuntimeError: the tracker is not entered.
        """
        mid = number = ""
        pause = self.interval
        with anyio.move_on_after(timeout):
            while not mid:
                stored = self._stored.event
                for record in (await self._journal.sends(key=key))[-1:]:
                    result = record.result
                    if record.state in (SendState.UNKNOWN, SendState.SENDING):
                        await self._journal.single_sends.reconcile()
                        result = (await self._journal.single_sends.find(record.cursor)).result
                    number = result.numbers[0]
                    for acceptance in result.acceptances[:1]:
                        mid, number = acceptance.mid, acceptance.numbers[0]
                if not mid:
                    with anyio.move_on_after(pause):
                        await stored.wait()
                    pause = min(pause * 2, self._idle_interval)
            return await self.wait(mid, number, None)
        raise DeliveryTimeoutError(mid or f"of the key {key!r}", mask(number) if number else "none", timeout or 0.0)

    def reports(self, cursor: int | None = None) -> ReportFeed:
        """Iterate over all reports in the order in which they were stored, then over new ones, without end.

        Each entry has a cursor. A consumer that keeps the last cursor and continues from it misses nothing. A replaced
        report (see `qxt_async.journal`) comes again. Without ``async with`` the feed finds new reports by polling only.

        Args:
            cursor: of the last entry seen; ``None`` for all from the beginning, ``await journal.report_cursor()`` for
                new ones only.
        """
        return ReportFeed(self._journal, cursor or 0, self._stored, self.interval, self._idle_interval)

    def _on_stored(self, reports: Sequence[StatusReport]) -> None:
        """This journal object has committed reports."""
        # Look them up again: the journal may have kept another report on the same message.
        due = {key for report in reports if (key := (report.mid, canonical(report.number))) in self._waiting}
        if due:
            self._due |= due
            self._poll_wanted.wake()
        self._stored.wake()

    def _on_told(self) -> None:
        """A process, this one or another, has committed reports."""
        self._told = True
        self._poll_wanted.wake()
        self._stored.wake()

    async def _poll_forever(self) -> None:
        """The task that polls the journal for all waiting tasks."""
        pause = self.interval
        while True:
            wanted = self._poll_wanted.event
            if not self._waiting:
                await wanted.wait()
                continue
            try:
                await self._poll_while_waiting()
                pause = self.interval
            except JournalError as error:
                logger.warning("cannot read reports, trying again: %s", error)
                await anyio.sleep(pause)
                pause = min(pause * 2, self._idle_interval)

    async def _poll_while_waiting(self) -> None:
        """Poll until no task waits."""
        # The cursor first: reports committed later are behind it, reports committed earlier are found by their key.
        cursor = await self._journal.report_cursor()
        self._due.update(self._waiting)
        pause = self.interval
        polled_at = anyio.current_time()
        poll_at = polled_at + pause
        while self._waiting:
            wanted = self._poll_wanted.event
            if self._told:
                self._told = False
                poll_at = min(poll_at, polled_at + self.interval)
            if self._due:
                due, self._due = self._due, set()
                self._settle(await self._journal.find_reports(due))
                pause = self.interval
                poll_at = min(poll_at, anyio.current_time() + pause)
            # A message that became due meanwhile has already set this event.
            with anyio.CancelScope(deadline=poll_at):
                await wanted.wait()
            if anyio.current_time() >= poll_at:
                newest = await self._journal.report_cursor()
                pause = self.interval if newest > cursor else min(pause * 2, self._idle_interval)
                polled_at = anyio.current_time()
                poll_at = polled_at + pause
                cursor = await self._catch_up(cursor, newest)

    async def _catch_up(self, cursor: int, newest: int) -> int:
        """Read the reports since `cursor`, or look up the waiting messages, whichever are fewer."""
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
                    waiting.reported.set()


class ReportFeed:
    """The iterator of `DeliveryTracker.reports`, for one task. Cancelling loses nothing.

    Attributes:
        cursor: of the last entry returned.
    """

    def __init__(self, journal: Journal, cursor: int, stored: _Signal, interval: float, idle_interval: float) -> None:
        self.cursor = cursor
        self._journal = journal
        self._stored = stored
        self._interval = interval
        self._idle_interval = idle_interval
        self._entries: deque[FeedEntry[StatusReport]] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> FeedEntry[StatusReport]:
        pause = self._interval
        while not self._entries:
            stored = self._stored.event
            self._entries.extend(await self._journal.reports(after=self.cursor, limit=_PAGE))
            if not self._entries:
                with anyio.move_on_after(pause):
                    await stored.wait()
                pause = min(pause * 2, self._idle_interval)
        entry = self._entries.popleft()
        self.cursor = entry.cursor
        return entry
