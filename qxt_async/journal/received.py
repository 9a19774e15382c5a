"""What came in, and the suppression list: the values, and how they are made of rows."""

from __future__ import annotations

import enum
import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import attrs

from qxt_async.errors import InvalidRequestError
from qxt_async.journal.moments import moment
from qxt_async.models import DeliveryState, Reply, StatusReport, mask
from qxt_async.protocol.numbers import canonical
from qxt_async.protocol.pushes import PushFlag

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

__all__ = [
    "Conflict",
    "Entry",
    "RawPush",
    "Suppression",
    "SuppressionReason",
    "conflict_of",
    "digest",
    "outranks",
    "raw_push_of",
    "reply_of",
    "report_of",
    "several",
    "state_of",
    "suppressible",
    "suppression_of",
]

T_co = TypeVar("T_co", covariant=True)


@attrs.frozen
class Entry(Generic[T_co]):
    """Something stored, with its place in the feed.

    Attributes:
        cursor: grows in the order of commits; ``after=cursor`` continues behind this entry.
        value: a `StatusReport` or a `Reply`.
    """

    cursor: int
    value: T_co


@attrs.frozen(kw_only=True)
class Conflict:
    """A code that was reported for a message whose stored report says something else.

    Attributes:
        mid, number: the report's key.
        code: the code that lost.
        times: how often it came.
        first_at, last_at: when it came, aware, UTC.
    """

    mid: str
    number: str = attrs.field(repr=mask)
    code: str
    times: int
    first_at: datetime
    last_at: datetime


@attrs.frozen(kw_only=True)
class RawPush:
    """A push that was not understood whole, as it came.

    Attributes:
        cursor: ``after=cursor`` continues behind it.
        query, body: its bytes.
        flags: why it is kept; the values of `pushes.PushFlag`.
        times: how often the same bytes came.
        first_at, last_at: when they came, aware, UTC.
    """

    cursor: int
    query: bytes = attrs.field(repr=lambda raw: f"<{len(raw)} bytes>")
    body: bytes = attrs.field(repr=lambda raw: f"<{len(raw)} bytes>")
    flags: tuple[PushFlag, ...]
    times: int
    first_at: datetime
    last_at: datetime


class SuppressionReason(enum.StrEnum):
    """Why a number is on the suppression list."""

    REPLY = "reply"
    MANUAL = "manual"
    IMPORT = "import"


@attrs.frozen
class Suppression:
    """A number that gets no more texts.

    Attributes:
        number: the phone.
        reason: why it is on the list.
        note: what was written down with it; for a reply its mid.
        added_at: since when, aware, UTC.
    """

    number: str = attrs.field(repr=mask)
    reason: SuppressionReason = attrs.field(kw_only=True)
    note: str = attrs.field(kw_only=True)
    added_at: datetime = attrs.field(kw_only=True)


# Which of two different reports on one message stays: the higher one, the first of equals.
_RANK: Final = {
    DeliveryState.UNKNOWN: 0,
    DeliveryState.FAILED: 1,
    DeliveryState.REJECTED: 1,
    DeliveryState.DELIVERED: 2,
}


def outranks(new: DeliveryState, stored: DeliveryState) -> bool:
    """Whether a report replaces the stored one: the rule of the package's docstring."""
    return _RANK[new] > _RANK[stored]


@lru_cache(maxsize=256)
def state_of(code: str) -> str:
    """The state that a code says, as it is stored. Codes are few."""
    return DeliveryState.from_code(code).value


def digest(*parts: bytes) -> str:
    """The SHA-256 of these parts, in hex; no two ways to cut the same bytes have the same one."""
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "big") + part)
    return found.hexdigest()


def several(numbers: Iterable[str]) -> Iterable[str]:
    """The numbers, which one string is not: its characters would be taken for them.

    Raises:
        InvalidRequestError: it is one string.
    """
    if isinstance(numbers, str):
        raise InvalidRequestError("numbers is one string: pass a list with one number each")
    return numbers


def suppressible(number: str) -> str:
    """A number in the form in which the suppression list is compared."""
    return canonical(number)


def report_of(row: Sequence[Any]) -> StatusReport:
    """A row of ``reports``, without its seq and state."""
    mid, number, code, port, area, city, at = row
    return StatusReport(mid, number, code=code, port=port, area=area, city=city, received_at=moment(at))


def reply_of(row: Sequence[Any]) -> Reply:
    """A row of ``replies``, without its seq and digest."""
    mid, number, text, port, extno, area, city, at = row
    return Reply(mid, number, text=text, port=port, extno=extno, area=area, city=city, received_at=moment(at))


def conflict_of(row: Sequence[Any]) -> Conflict:
    """A row of ``report_conflicts``."""
    mid, number, code, times, first_at, last_at = row
    return Conflict(mid=mid, number=number, code=code, times=times, first_at=moment(first_at), last_at=moment(last_at))


def raw_push_of(row: Sequence[Any]) -> RawPush:
    """A row of ``raw_pushes``, without its digest."""
    seq, query, body, flags, times, first_at, last_at = row
    return RawPush(
        cursor=seq,
        query=query,
        body=body,
        flags=tuple(PushFlag(flag) for flag in flags.split()),
        times=times,
        first_at=moment(first_at),
        last_at=moment(last_at),
    )


def suppression_of(row: Sequence[Any]) -> Suppression:
    """A row of ``suppressions``."""
    number, reason, note, at = row
    return Suppression(number, reason=SuppressionReason(reason), note=note, added_at=moment(at))
