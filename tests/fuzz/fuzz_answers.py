"""Fuzzing target: what a gateway answers to a send and to a balance query.

The first byte chooses the request, and which numbers it carried; the rest is the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from qxt_async.errors import OutcomeUnknownError, QxtError, RefusedError, UnusableAnswerError
from qxt_async.protocol.answers import parse_balance, parse_send

SAMPLES = Path(__file__).parents[1] / "samples" / "answers"

SENT = [
    ["13800138000"],
    ["13800138000", "13800138001", "19912345678"],
    ["13800138000", "13800138000", "13800138001"],  # a send may be told to let repeated numbers pass
]
TELES = [",".join(numbers).encode() for numbers in SENT]
BALANCE = len(SENT)
LONGEST = 300
WORDS = [b"ok:", b"fail:", b"error:", b"999", b"\r\n", b"sms:", b"mms:", b"\xa3\xba", *map(str.encode, SENT[1])]


def check(data: bytes) -> None:
    """Read one answer, and check what every answer has to keep."""
    chosen = data[0] & 3 if data else 0
    if chosen == BALANCE:
        _balance(data[1:])
    else:
        _send(data[1:], chosen)


def _send(body: bytes, chosen: int) -> None:
    numbers, tele = SENT[chosen], TELES[chosen]
    answer = parse_send(body, numbers, tele)
    acceptances, failed, unknown = answer.acceptances, answer.failed, answer.unknown
    accepted = [number for acceptance in acceptances for number in acceptance.numbers]
    # Every number that was sent has exactly one outcome, and no other number has any.
    assert sorted([*accepted, *failed, *unknown]) == numbers
    assert not set(accepted) & {*failed, *unknown}
    assert not set(failed) & set(unknown)
    for acceptance in acceptances:
        assert acceptance.mid
        assert acceptance.mid.isprintable()
        # Nothing is taken that the answer does not name.
        for number in acceptance.numbers:
            assert number.encode() in body
    error = answer.error
    if unknown:
        assert isinstance(error, OutcomeUnknownError)
    elif failed:
        assert isinstance(error, RefusedError)
    else:
        assert error is None
    if not answer.trusted:
        assert list(unknown) == numbers
    if error is not None:
        _reveals_nothing(error)
    elif len(acceptances) == 1 and body.startswith(b"ok:"):
        # An indented line is not compared as bytes but parsed, and says the same.
        slow = parse_send(b" " + body, numbers, tele)
        assert [acceptance.mid for acceptance in slow.acceptances] == [acceptances[0].mid]


def _balance(body: bytes) -> None:
    try:
        balance = parse_balance(body)
    except (RefusedError, UnusableAnswerError) as error:
        _reveals_nothing(error)
    else:
        assert b"ok" in body.lower()
        assert str(abs(balance.sms)).encode() in body
        assert str(abs(balance.mms)).encode() in body


def _reveals_nothing(error: QxtError) -> None:
    shown = str(error)
    for number in SENT[1]:
        assert number not in shown


def seeds() -> Iterator[bytes]:
    """Each sample, as the answer to each request."""
    for path in sorted(SAMPLES.glob("*.bin")):
        for chosen in (*range(len(SENT)), BALANCE):
            yield bytes([chosen]) + path.read_bytes()
