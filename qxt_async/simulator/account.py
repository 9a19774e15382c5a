"""The account and the channel of the simulated gateway: they check a send and charge for it."""

from __future__ import annotations

import hashlib
import re

import attrs

from qxt_async.simulator import codec
from qxt_async.simulator.faults import DESCRIPTIONS
from qxt_async.simulator.request_log import Submission

_MAX_NUMBERS = 1000  # PROTOCOL 1
_EXTNO_DIGITS = 20  # PROTOCOL 1, together with the channel's own extension


class RefusedError(Exception):
    """The gateway refuses the request.

    Args:
        number: of the description in PROTOCOL 2.1.
    """

    def __init__(self, number: int) -> None:
        self.description = DESCRIPTIONS[number]
        super().__init__(self.description)


def user_of(fields: dict[str, bytes]) -> str:
    """The user name as given; ``?`` if it cannot be decoded."""
    try:
        return codec.decode_text(fields.get("user", b""))
    except UnicodeDecodeError:
        return "?"


@attrs.define(kw_only=True)
class Account:
    """One account on one channel; the arguments are those of `SimulatedGateway`."""

    user: str
    password: str = attrs.field(repr=False)
    balance: int
    mms_balance: int
    min_batch: int
    channel: str
    channel_extension: str
    long_messages: bool
    number_pattern: str
    _tele: re.Pattern[bytes] = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        one = self.number_pattern.encode("ascii")
        self._tele = re.compile(b"(?:%b)(?:,(?:%b))*" % (one, one))

    def authenticate(self, fields: dict[str, bytes]) -> None:
        """Check ``user`` and ``password`` (PROTOCOL 1: 32 lowercase hex digits).

        Raises:
            RefusedError: descriptions 1, 6, 7.
        """
        user = user_of(fields)
        if not user:
            raise RefusedError(1)
        if user != self.user:
            raise RefusedError(6)
        digest = hashlib.md5(self.password.encode(), usedforsecurity=False).hexdigest()
        if fields.get("password", b"") != digest.encode("ascii"):
            raise RefusedError(7)

    def check(self, fields: dict[str, bytes]) -> Submission:
        """Check the fields of a send.

        Raises:
            RefusedError: descriptions 2, 3, 4, 8, 9.
        """
        tele = codec.split_numbers(fields.get("tele", b""))
        if not tele:
            raise RefusedError(3)
        count = tele.count(b",") + 1
        if not tele.strip(b",") or count > _MAX_NUMBERS:
            raise RefusedError(9)
        if not self._tele.fullmatch(tele):
            raise RefusedError(3)
        if count < self.min_batch:
            raise RefusedError(8)
        try:
            text = codec.decode_text(fields.get("msg", b""))
        except UnicodeDecodeError:
            text = ""
        if not text:
            raise RefusedError(4)
        extno = fields.get("extno", b"")
        if extno and not (extno.isdigit() and len(self.channel_extension) + len(extno) <= _EXTNO_DIGITS):
            raise RefusedError(2)
        return Submission(
            user=self.user,
            tele=tele.decode("ascii"),
            text=text,
            extno=extno.decode("ascii"),
            addseqno=fields.get("addseqno") == b"1",
        )

    def port(self, extno: str) -> str:
        """The number that a phone sees and replies to."""
        return self.channel + self.channel_extension + extno

    def segments(self, submission: Submission) -> int:
        """Messages that each number is billed as (PROTOCOL 5)."""
        return codec.segment_count(submission.text, numbered=submission.addseqno and not self.long_messages)

    def charge(self, cost: int) -> bool:
        """Subtract `cost` from the balance; ``False`` if it does not suffice: nothing is delivered (PROTOCOL 2.2)."""
        if cost > self.balance:
            return False
        self.balance -= cost
        return True
