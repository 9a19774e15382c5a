"""The values that go in and come out: frozen, and safe to log.

No `repr` shows a text or a whole phone number.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING

import attrs

from qxt_async.errors import BulkFailedError, QxtError

if TYPE_CHECKING:
    from datetime import datetime

__all__ = [
    "Acceptance",
    "Balance",
    "BatchResult",
    "BulkResult",
    "DeliveryState",
    "InvalidNumber",
    "Numbers",
    "Progress",
    "Reply",
    "SentBatch",
    "StatusReport",
]


def repr_length(text: object) -> str:
    """Show only the length of a text."""
    return f"<{len(text)} characters>" if isinstance(text, str) else f"<{type(text).__name__}>"


def repr_count(values: Collection[object]) -> str:
    """Show only how many values there are."""
    return f"<{len(values)}>"


def mask(number: str) -> str:
    """Hide the middle of a phone number: ``138****8000``.

    Args:
        number: any text. Of a text shorter than a phone number less is shown, since it may be a name or an address.
    """
    if len(number) >= 11:
        return f"{number[:3]}****{number[-4:]}"
    if len(number) >= 7:
        return f"{number[:2]}****{number[-2:]}"
    return f"{number[:1]}****" if number else ""


@attrs.frozen
class Balance:
    """The messages left on the account (PROTOCOL 3)."""

    sms: int
    mms: int = attrs.field(kw_only=True)


@attrs.frozen
class Message:
    """A text and how to send it.

    Attributes:
        text: the text as the phone shows it, with the signature ``【…】``.
        extno: extension number, digits; the gateway appends it to the channel's number (PROTOCOL 1).
        addseqno: let the gateway split a long text on channels without long messages. It numbers each part: ``1/3)``.
    """

    text: str = attrs.field(repr=repr_length)
    extno: str | None = attrs.field(kw_only=True, default=None)
    addseqno: bool = attrs.field(kw_only=True, default=False)


@attrs.frozen
class InvalidNumber:
    """An entry of the source that was left out because it is not a valid number.

    Attributes:
        position: its place in the source, from 0; invalid and repeated entries count too.
        raw: the entry as it was given.
        reason: what is wrong with it.
    """

    position: int
    raw: str = attrs.field(repr=mask)
    reason: str = attrs.field(kw_only=True)


@attrs.frozen
class Acceptance:
    """A message id, and the numbers that the gateway accepted under it: one ``ok:MID:…`` line of an answer."""

    mid: str
    numbers: tuple[str, ...] = attrs.field(repr=repr_count)


@attrs.frozen
class BatchResult:
    """The outcome of one request, number by number.

    Each number of `numbers` is in exactly one of `accepted`, `failed` and `unknown`.

    Attributes:
        index: which batch of the send, from 0.
        numbers: the numbers of the batch, normalised, in order.
        acceptances: each mid with its numbers; usually one.
        failed: numbers that the gateway refused, or that were certainly not sent.
        unknown: numbers that the gateway may have accepted. They are never sent again automatically.
        error: why some numbers are not accepted; ``None`` if all are.
        attempts: how many requests were made; 0 if none was begun.
        elapsed: seconds from the first attempt to the outcome, with the waits between attempts.
        invalid: only from `QxtClient.send`: entries that are not valid numbers.
        duplicates: only from `QxtClient.send`: how many repeated numbers were left out.
        suppressed: only from `QxtClient.send`: how many suppressed numbers were left out.
        replayed: only from `QxtClient.send` with an idempotency key: this is the recorded outcome of an earlier call,
            and nothing was sent now.
    """

    index: int
    numbers: tuple[str, ...] = attrs.field(repr=repr_count)
    acceptances: tuple[Acceptance, ...] = attrs.field(kw_only=True, default=())
    failed: tuple[str, ...] = attrs.field(kw_only=True, default=(), repr=repr_count)
    unknown: tuple[str, ...] = attrs.field(kw_only=True, default=(), repr=repr_count)
    error: QxtError | None = attrs.field(kw_only=True, default=None)
    attempts: int = attrs.field(kw_only=True, default=1)
    elapsed: float = attrs.field(kw_only=True, default=0.0)
    invalid: tuple[InvalidNumber, ...] = attrs.field(kw_only=True, default=(), repr=repr_count)
    duplicates: int = attrs.field(kw_only=True, default=0)
    suppressed: int = attrs.field(kw_only=True, default=0)
    replayed: bool = attrs.field(kw_only=True, default=False)

    @property
    def accepted(self) -> tuple[str, ...]:
        """The numbers that the gateway accepted, in the order of its answer."""
        if len(self.acceptances) == 1:
            return self.acceptances[0].numbers
        return tuple(number for acceptance in self.acceptances for number in acceptance.numbers)

    @property
    def mid(self) -> str | None:
        """The message id: the first one if there are several, ``None`` if nothing was accepted."""
        return self.acceptances[0].mid if self.acceptances else None

    @property
    def mids(self) -> tuple[str, ...]:
        """All message ids of the batch."""
        return tuple(acceptance.mid for acceptance in self.acceptances)

    @property
    def outcome(self) -> str:
        """The outcome in one word: ``accepted``, ``failed``, ``unknown``, or ``mixed``."""
        states = {"accepted": self.acceptances, "failed": self.failed, "unknown": self.unknown}
        present = [state for state, numbers in states.items() if numbers]
        return present[0] if len(present) == 1 else "mixed"


class SentBatch(BatchResult):
    """The outcome of a request of which the gateway accepted at least one number, so there is a mid."""

    __slots__ = ()

    @property
    def mid(self) -> str:
        """The message id; the first one if there are several."""
        return self.acceptances[0].mid


class Numbers(Collection[str]):
    """The numbers in one state over all batches of a bulk send. Supports `len`, `in` and iteration; copies nothing."""

    __slots__ = ("_batches", "_count", "_select")

    def __init__(self, batches: Sequence[BatchResult], select: Callable[[BatchResult], tuple[str, ...]]) -> None:
        self._batches = batches
        self._select = select
        self._count = sum(len(select(batch)) for batch in batches)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        for batch in self._batches:
            yield from self._select(batch)

    def __contains__(self, number: object) -> bool:
        return any(number in self._select(batch) for batch in self._batches)

    def __repr__(self) -> str:
        return f"<Numbers: {self._count}>"


@attrs.frozen
class BulkResult:
    """The outcome of a bulk send.

    Attributes:
        batches: the results, in the order of the source.
        invalid: entries that are not valid numbers, with their positions.
        duplicates: how many repeated numbers were left out.
        suppressed: how many suppressed numbers were left out.
        unsent: numbers that were read from the source and not sent, because the send stopped early. The rest of the
            source was not read.
        elapsed: seconds.
    """

    batches: tuple[BatchResult, ...] = attrs.field(repr=repr_count)
    invalid: tuple[InvalidNumber, ...] = attrs.field(kw_only=True, default=(), repr=repr_count)
    duplicates: int = attrs.field(kw_only=True, default=0)
    suppressed: int = attrs.field(kw_only=True, default=0)
    unsent: tuple[str, ...] = attrs.field(kw_only=True, default=(), repr=repr_count)
    elapsed: float = attrs.field(kw_only=True, default=0.0)

    @property
    def mids(self) -> tuple[str, ...]:
        """The message ids, batch by batch."""
        return tuple(mid for batch in self.batches for mid in batch.mids)

    @property
    def accepted(self) -> Numbers:
        """The numbers that the gateway accepted."""
        return Numbers(self.batches, lambda batch: batch.accepted)

    @property
    def failed(self) -> Numbers:
        """The numbers that the gateway refused, or that were certainly not sent."""
        return Numbers(self.batches, lambda batch: batch.failed)

    @property
    def unknown(self) -> Numbers:
        """The numbers that the gateway may have accepted."""
        return Numbers(self.batches, lambda batch: batch.unknown)

    def raise_for_failures(self) -> None:
        """Raise an error unless every number that was sent is accepted.

        Raises:
            BulkFailedError: some numbers failed or are unknown; its `result` is this value.
        """
        failed, unknown = len(self.failed), len(self.unknown)
        if failed or unknown:
            error = BulkFailedError(failed, unknown)
            error.result = self
            raise error


@attrs.frozen(kw_only=True)
class Progress:
    """How far a bulk send is. `on_progress` gets one after each batch.

    Attributes:
        batches: how many batches have an outcome.
        accepted, failed, unknown: how many numbers are in each state so far.
        invalid, duplicates, suppressed: how many numbers were left out so far.
        elapsed: seconds since the start.
        batch: the newest result.
    """

    batches: int
    accepted: int
    failed: int
    unknown: int
    invalid: int
    duplicates: int
    suppressed: int
    elapsed: float
    batch: BatchResult


class DeliveryState(enum.StrEnum):
    """What a status report says (PROTOCOL 4)."""

    DELIVERED = "delivered"
    REJECTED = "rejected"
    FAILED = "failed"
    UNKNOWN = "unknown"

    @classmethod
    def from_code(cls, code: str) -> DeliveryState:
        """Return the state for a report's code.

        ``DELIVRD`` is delivered, ``REJECT`` is rejected by review, any other code is the carrier's code of a failure.
        Without a code the state is unknown: the gateway knows the message, but does not say what became of it.
        """
        if code == "DELIVRD":
            return cls.DELIVERED
        if not code:
            return cls.UNKNOWN
        return cls.REJECTED if code == "REJECT" else cls.FAILED


@attrs.frozen
class StatusReport:
    """A status report: the delivery of one message to one phone (PROTOCOL 4, type 4). Its key is (mid, number).

    Attributes:
        mid: the message id that the send returned.
        number: the phone number.
        code: ``DELIVRD``, ``REJECT`` or the carrier's code; empty if the report came without one.
        port: the sender's number as the phone shows it, channel and extension; ``None`` if not given.
        area: the phone's province; ``None`` if not given.
        city: the phone's city; ``None`` if not given.
        received_at: when the receiver got it, with time zone UTC; ``None`` before that.
    """

    mid: str
    number: str = attrs.field(repr=mask)
    code: str = attrs.field(kw_only=True)
    port: str | None = attrs.field(kw_only=True, default=None)
    area: str | None = attrs.field(kw_only=True, default=None)
    city: str | None = attrs.field(kw_only=True, default=None)
    received_at: datetime | None = attrs.field(kw_only=True, default=None)

    @property
    def state(self) -> DeliveryState:
        """Delivered, rejected, failed, or unknown."""
        return DeliveryState.from_code(self.code)


@attrs.frozen
class Reply:
    """A message that a person sent back (PROTOCOL 4, type 1).

    Attributes:
        mid: the reply's own id.
        number: the person's phone number.
        text: the text.
        port: the number that the person wrote to, channel and extension; ``None`` if not given.
        extno: the extension at the end of `port`; ``None`` if the channel's number is not known or has none.
        area: the phone's province; ``None`` if not given.
        city: the phone's city; ``None`` if not given.
        received_at: when the receiver got it, with time zone UTC; ``None`` before that.
    """

    mid: str
    number: str = attrs.field(repr=mask)
    text: str = attrs.field(kw_only=True, repr=repr_length)
    port: str | None = attrs.field(kw_only=True, default=None)
    extno: str | None = attrs.field(kw_only=True, default=None)
    area: str | None = attrs.field(kw_only=True, default=None)
    city: str | None = attrs.field(kw_only=True, default=None)
    received_at: datetime | None = attrs.field(kw_only=True, default=None)
