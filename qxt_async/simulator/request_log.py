"""What the simulated gateway records: the requests, the sends that it took, the replies."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import attrs

from qxt_async.models import repr_length

if TYPE_CHECKING:
    from qxt_async.models import Reply


def _count(tele: str) -> int:
    return tele.count(",") + 1 if tele else 0


def _now() -> datetime:
    return datetime.now(UTC)


@attrs.frozen(kw_only=True)
class Submission:
    """A send that passed all checks.

    Attributes:
        user: the account.
        tele: the numbers, joined by commas: 12 bytes per number, so that millions fit in memory.
        text: decoded.
        extno: extension number, empty if not given.
        addseqno: whether it was ``1``.
    """

    user: str
    tele: str = attrs.field(repr=lambda tele: f"<{_count(tele)} numbers>")
    text: str = attrs.field(repr=repr_length)
    extno: str = ""
    addseqno: bool = False

    @property
    def numbers(self) -> tuple[str, ...]:
        """The numbers in their order. Each access splits them anew."""
        return tuple(self.tele.split(",")) if self.tele else ()

    @property
    def count(self) -> int:
        """How many numbers."""
        return _count(self.tele)


@attrs.frozen(kw_only=True)
class SimulatedSend(Submission):
    """Numbers that the gateway took under one mid. A request that is answered with several lines makes several.

    Attributes:
        mid: the message id.
        segments: messages that each number is billed as.
        delivers: ``False`` if the balance was too low: taken, answered ``ok``, never delivered (PROTOCOL 2.2).
        when: when it was taken, aware, UTC.
    """

    mid: str
    segments: int = 1
    delivers: bool = True
    when: datetime = attrs.field(factory=_now)


@attrs.frozen(kw_only=True)
class SimulatedRequest:
    """One request that arrived at the gateway, taken or not.

    Attributes:
        endpoint: ``smssenderv2`` or ``surplus``.
        method: ``GET`` or ``POST``.
        user: as given; empty if missing or not read.
        numbers: how many numbers it named; 0 if it was refused before they were counted, or not read.
        taken: how many of them were taken.
        refusal: the description after ``error:``, empty if it was not refused.
        fault: the name of the fault that it met, empty if none.
        complete: ``False`` if the body was not read, or ended early.
        when: when it was recorded, aware, UTC.
    """

    endpoint: str
    method: str
    user: str = ""
    numbers: int = 0
    taken: int = 0
    refusal: str = ""
    fault: str = ""
    complete: bool = True
    when: datetime = attrs.field(factory=_now)


class RequestLog:
    """Requests, sends and replies in the order of their arrival."""

    def __init__(self) -> None:
        self.requests: list[SimulatedRequest] = []
        self.sends: list[SimulatedSend] = []
        self.replies: list[Reply] = []
        self._taken: Counter[str] = Counter()
        self._counted_sends = 0

    @property
    def taken(self) -> Counter[str]:
        """How often each number was taken. New sends are counted on access."""
        sends = self.sends[self._counted_sends :]
        self._counted_sends += len(sends)
        for send in sends:
            self._taken.update(send.numbers)
        return self._taken

    def clear(self) -> None:
        """Forget everything."""
        self.requests.clear()
        self.sends.clear()
        self.replies.clear()
        self._taken.clear()
        self._counted_sends = 0
