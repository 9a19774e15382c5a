"""Frozen values: what goes in, what comes out.

A `repr` never shows a text or a whole phone number, so these may be logged.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from qxt_async.errors import BulkFailedError, QxtError
from qxt_async.values import Value, put

if TYPE_CHECKING:
    from datetime import datetime

__all__ = [
    "Acceptance",
    "Balance",
    "BatchResult",
    "BulkResult",
    "DeliveryState",
    "InvalidNumber",
    "Message",
    "Numbers",
    "Progress",
    "Reply",
    "StatusReport",
]


def _hidden(text: object) -> str:
    if isinstance(text, str):
        return f"<{len(text)} characters>"
    return "None" if text is None else f"<{type(text).__name__}>"


def repr_count(values: Collection[object]) -> str:
    """Show a collection of what is not to be shown: by its size."""
    return f"<{len(values)}>"


def mask(number: str) -> str:
    """Show a number the way it may be shown: ``138****8000``.

    Args:
        number: anything; what is no phone number is masked harder, since it may be a name or an address.
    """
    if len(number) >= 11:
        return f"{number[:3]}****{number[-4:]}"
    if len(number) >= 7:
        return f"{number[:2]}****{number[-2:]}"
    return f"{number[:1]}****" if number else ""


class Balance(Value):
    """What is left on the account, in messages (PROTOCOL 3)."""

    __slots__ = ("sms", "mms")
    sms: int
    mms: int

    def __init__(self, sms: int, *, mms: int) -> None:
        self._fill(sms, mms)


class Message(Value):
    """A text with how it is to be sent.

    Attributes:
        text: as the phone shows it, with the signature ``【…】``.
        extno: extension number, digits, appended to the channel's number (PROTOCOL 1).
        addseqno: let the gateway split a long text on channels without long messages, each part numbered ``1/3)``.
    """

    __slots__ = ("text", "extno", "addseqno")
    _shown: ClassVar[dict[str, Any]] = {"text": _hidden}
    text: str
    extno: str | None
    addseqno: bool

    def __init__(self, text: str, *, extno: str | None = None, addseqno: bool = False) -> None:
        put(self, "text", text)
        put(self, "extno", extno)
        put(self, "addseqno", addseqno)


class InvalidNumber(Value):
    """A number that was left out because it is none.

    Attributes:
        position: its place in the source, counted from 0 (what was invalid or repeated counts too).
        raw: as it was given.
        reason: what is wrong with it.
    """

    __slots__ = ("position", "raw", "reason")
    _shown: ClassVar[dict[str, Any]] = {"raw": mask}
    position: int
    raw: str
    reason: str

    def __init__(self, position: int, raw: str, *, reason: str) -> None:
        self._fill(position, raw, reason)


class Acceptance(Value):
    """One ``ok:MID:…`` line: the mid and the numbers that the gateway took under it."""

    __slots__ = ("mid", "numbers")
    _shown: ClassVar[dict[str, Any]] = {"numbers": repr_count}
    mid: str
    numbers: tuple[str, ...]

    def __init__(self, mid: str, numbers: tuple[str, ...]) -> None:
        put(self, "mid", mid)
        put(self, "numbers", numbers)


class BatchResult(Value):
    """What became of one request's numbers. `accepted`, `failed` and `unknown` are disjoint and together `numbers`.

    Attributes:
        index: which batch of the send, from 0.
        numbers: the numbers of the batch, normalised, in order.
        acceptances: what the gateway took, a mid with its numbers each; one as a rule.
        failed: numbers that the gateway refused, or that provably never left.
        unknown: numbers that may have arrived; never sent again by themselves.
        error: why some are not accepted, ``None`` if all are.
        attempts: how many requests it took; 0 if none was begun.
        elapsed: seconds from the first attempt to the outcome, waiting between attempts included.
        invalid: only from `QxtClient.send`: what was left out as no number.
        duplicates, suppressed: only from `QxtClient.send`: how many numbers were left out as such.
    """

    __slots__ = (
        "index",
        "numbers",
        "acceptances",
        "failed",
        "unknown",
        "error",
        "attempts",
        "elapsed",
        "invalid",
        "duplicates",
        "suppressed",
    )
    _shown: ClassVar[dict[str, Any]] = {"numbers": repr_count, "failed": repr_count, "unknown": repr_count}
    index: int
    numbers: tuple[str, ...]
    acceptances: tuple[Acceptance, ...]
    failed: tuple[str, ...]
    unknown: tuple[str, ...]
    error: QxtError | None
    attempts: int
    elapsed: float
    invalid: tuple[InvalidNumber, ...]
    duplicates: int
    suppressed: int

    def __init__(
        self,
        index: int,
        numbers: tuple[str, ...],
        *,
        acceptances: tuple[Acceptance, ...] = (),
        failed: tuple[str, ...] = (),
        unknown: tuple[str, ...] = (),
        error: QxtError | None = None,
        attempts: int = 1,
        elapsed: float = 0.0,
        invalid: tuple[InvalidNumber, ...] = (),
        duplicates: int = 0,
        suppressed: int = 0,
    ) -> None:
        put(self, "index", index)
        put(self, "numbers", numbers)
        put(self, "acceptances", acceptances)
        put(self, "failed", failed)
        put(self, "unknown", unknown)
        put(self, "error", error)
        put(self, "attempts", attempts)
        put(self, "elapsed", elapsed)
        put(self, "invalid", invalid)
        put(self, "duplicates", duplicates)
        put(self, "suppressed", suppressed)

    @property
    def accepted(self) -> tuple[str, ...]:
        """The numbers that the gateway took, in the order of its answer."""
        if len(self.acceptances) == 1:
            return self.acceptances[0].numbers
        return tuple(number for acceptance in self.acceptances for number in acceptance.numbers)

    @property
    def mid(self) -> str | None:
        """The gateway's message id; the first, should the answer have several; ``None`` if nothing was accepted."""
        return self.acceptances[0].mid if self.acceptances else None

    @property
    def mids(self) -> tuple[str, ...]:
        """All message ids of the batch."""
        return tuple(acceptance.mid for acceptance in self.acceptances)

    @property
    def outcome(self) -> str:
        """In a word: ``accepted``, ``failed``, ``unknown``, or ``mixed``."""
        states = [
            name
            for name, numbers in (
                ("accepted", self.acceptances),
                ("failed", self.failed),
                ("unknown", self.unknown),
            )
            if numbers
        ]
        return states[0] if len(states) == 1 else "mixed"


class Numbers(Collection[str]):
    """The numbers in one state over all batches: counted with `len`, walked with `for`, not copied."""

    __slots__ = ("_batches", "_count", "_of")

    def __init__(self, batches: Sequence[BatchResult], of: Callable[[BatchResult], tuple[str, ...]]) -> None:
        self._batches = batches
        self._of = of
        self._count = sum(len(of(batch)) for batch in batches)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        for batch in self._batches:
            yield from self._of(batch)

    def __contains__(self, number: object) -> bool:
        return any(number in self._of(batch) for batch in self._batches)

    def __repr__(self) -> str:
        return f"<Numbers: {self._count}>"


class BulkResult(Value):
    """What became of a bulk send.

    Attributes:
        batches: the results in the order of the source.
        invalid: what was left out as no number, with its position.
        duplicates: how many numbers were left out as repeated.
        suppressed: how many numbers were left out as suppressed.
        unsent: numbers read from the source and not sent because the send stopped early; what the source still
            holds was not read.
        elapsed: seconds.
    """

    __slots__ = ("batches", "invalid", "duplicates", "suppressed", "unsent", "elapsed")
    _shown: ClassVar[dict[str, Any]] = {"invalid": repr_count, "unsent": repr_count}
    batches: tuple[BatchResult, ...]
    invalid: tuple[InvalidNumber, ...]
    duplicates: int
    suppressed: int
    unsent: tuple[str, ...]
    elapsed: float

    def __init__(
        self,
        batches: tuple[BatchResult, ...],
        *,
        invalid: tuple[InvalidNumber, ...] = (),
        duplicates: int = 0,
        suppressed: int = 0,
        unsent: tuple[str, ...] = (),
        elapsed: float = 0.0,
    ) -> None:
        self._fill(batches, invalid, duplicates, suppressed, unsent, elapsed)

    @property
    def mids(self) -> tuple[str, ...]:
        """The message ids, batch by batch."""
        return tuple(mid for batch in self.batches for mid in batch.mids)

    @property
    def accepted(self) -> Numbers:
        """The numbers that the gateway took."""
        return Numbers(self.batches, lambda batch: batch.accepted)

    @property
    def failed(self) -> Numbers:
        """The numbers that the gateway refused, or that provably never left."""
        return Numbers(self.batches, lambda batch: batch.failed)

    @property
    def unknown(self) -> Numbers:
        """The numbers that may have arrived."""
        return Numbers(self.batches, lambda batch: batch.unknown)

    def raise_for_failures(self) -> None:
        """Do nothing if every number that was sent is accepted.

        Raises:
            BulkFailedError: some failed or are unknown; its `result` is this value.
        """
        failed, unknown = len(self.failed), len(self.unknown)
        if failed or unknown:
            error = BulkFailedError(failed, unknown)
            error.result = self
            raise error


class Progress(Value):
    """How far a bulk send is, told after each batch.

    Attributes:
        batches: batches settled.
        accepted, failed, unknown: numbers in each state so far.
        invalid, duplicates, suppressed: numbers left out so far, in what was read.
        elapsed: seconds since the start.
        batch: the result that brought the news.
    """

    __slots__ = ("batches", "accepted", "failed", "unknown", "invalid", "duplicates", "suppressed", "elapsed", "batch")
    batches: int
    accepted: int
    failed: int
    unknown: int
    invalid: int
    duplicates: int
    suppressed: int
    elapsed: float
    batch: BatchResult

    def __init__(
        self,
        *,
        batches: int,
        accepted: int,
        failed: int,
        unknown: int,
        invalid: int,
        duplicates: int,
        suppressed: int,
        elapsed: float,
        batch: BatchResult,
    ) -> None:
        self._fill(batches, accepted, failed, unknown, invalid, duplicates, suppressed, elapsed, batch)


class DeliveryState(enum.StrEnum):
    """What a status report says (PROTOCOL 4)."""

    DELIVERED = "delivered"
    REJECTED = "rejected"
    FAILED = "failed"
    UNKNOWN = "unknown"

    @classmethod
    def from_code(cls, code: str) -> DeliveryState:
        """``DELIVRD`` delivered, ``REJECT`` refused by review, anything else failed with the carrier's code.

        No code at all says that the gateway knows the message and not what became of it: unknown.
        """
        if code == "DELIVRD":
            return cls.DELIVERED
        if not code:
            return cls.UNKNOWN
        return cls.REJECTED if code == "REJECT" else cls.FAILED


class StatusReport(Value):
    """One phone's report on one message (PROTOCOL 4, type 4); its key is (mid, number).

    Attributes:
        mid: the message id that the send returned.
        number: the phone.
        code: the gateway's word: ``DELIVRD``, ``REJECT``, or the carrier's code; empty if the report came without one.
        port: the number the phone saw, channel and extension; ``None`` if not given.
        area: province; ``None`` if not given.
        city: city; ``None`` if not given.
        received_at: when the receiver took it, aware, UTC; ``None`` before that.
    """

    __slots__ = ("mid", "number", "code", "port", "area", "city", "received_at")
    _shown: ClassVar[dict[str, Any]] = {"number": mask}
    mid: str
    number: str
    code: str
    port: str | None
    area: str | None
    city: str | None
    received_at: datetime | None

    def __init__(
        self,
        mid: str,
        number: str,
        *,
        code: str,
        port: str | None = None,
        area: str | None = None,
        city: str | None = None,
        received_at: datetime | None = None,
    ) -> None:
        self._fill(mid, number, code, port, area, city, received_at)

    @property
    def state(self) -> DeliveryState:
        """Delivered, rejected or failed; unknown if the report says nothing."""
        return DeliveryState.from_code(self.code)


class Reply(Value):
    """What a person wrote back (PROTOCOL 4, type 1).

    Attributes:
        mid: the id of the reply.
        number: the phone.
        text: what it wrote.
        port: the number it wrote to: channel number and extension; ``None`` if not given.
        extno: the extension, split off `port` when the channel's number is known; ``None`` otherwise.
        area: province; ``None`` if not given.
        city: city; ``None`` if not given.
        received_at: when the receiver took it, aware, UTC; ``None`` before that.
    """

    __slots__ = ("mid", "number", "text", "port", "extno", "area", "city", "received_at")
    _shown: ClassVar[dict[str, Any]] = {"number": mask, "text": _hidden}
    mid: str
    number: str
    text: str
    port: str | None
    extno: str | None
    area: str | None
    city: str | None
    received_at: datetime | None

    def __init__(
        self,
        mid: str,
        number: str,
        *,
        text: str,
        port: str | None = None,
        extno: str | None = None,
        area: str | None = None,
        city: str | None = None,
        received_at: datetime | None = None,
    ) -> None:
        self._fill(mid, number, text, port, extno, area, city, received_at)
