"""Values: what the gateway pushed, and the suppression list."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Generic, TypeVar

import attrs

from qxt_async.models import mask

if TYPE_CHECKING:
    from datetime import datetime

    from qxt_async.protocol.pushes import PushFlag

T_co = TypeVar("T_co", covariant=True)


@attrs.frozen
class FeedEntry(Generic[T_co]):
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
