"""What came in, between values and rows: the same for every form of the journal."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from qxt_async.errors import InvalidRequestError
from qxt_async.models import DeliveryState, Reply, StatusReport
from qxt_async.phones import canonical
from qxt_async.pushes import PushFlag

from . import Conflict, RawPush, Suppression, SuppressionReason
from .moments import moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
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
    mid, mobile, code, port, area, city, at = row
    return StatusReport(mid, mobile, code=code, port=port, area=area, city=city, received_at=moment(at))


def reply_of(row: Sequence[Any]) -> Reply:
    """A row of ``replies``, without its seq and digest."""
    mid, mobile, text, port, extno, area, city, at = row
    return Reply(mid, mobile, text=text, port=port, extno=extno, area=area, city=city, received_at=moment(at))


def conflict_of(row: Sequence[Any]) -> Conflict:
    """A row of ``report_conflicts``."""
    mid, mobile, code, times, first_at, last_at = row
    return Conflict(mid=mid, mobile=mobile, code=code, times=times, first_at=moment(first_at), last_at=moment(last_at))


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
