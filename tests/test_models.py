"""The values that go in and come out."""

from __future__ import annotations

import copy
import pickle
import re
import sys
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from qxt_async.errors import BulkFailedError, PartialAnswerError
from qxt_async.models import (
    Acceptance,
    Balance,
    BatchResult,
    BulkResult,
    DeliveryState,
    InvalidNumber,
    Message,
    Numbers,
    Progress,
    Reply,
    SentBatch,
    StatusReport,
)

A, B, C, D = "13800138000", "13800138001", "13800138002", "13800138003"

WHOLE = BatchResult(0, (A, B), acceptances=(Acceptance("007", (A, B)),))
MIXED = BatchResult(
    1,
    (A, B, C, D),
    acceptances=(Acceptance("8", (B,)), Acceptance("9", (A,))),
    failed=(C,),
    unknown=(D,),
    error=PartialAnswerError(1),
)
NOTHING = BatchResult(2, (C, D), failed=(C, D))
BULK = BulkResult((WHOLE, MIXED, NOTHING), invalid=(InvalidNumber(3, "1380013800x", reason="x"),), unsent=(A,))


def test_a_batch_with_one_mid() -> None:
    """The usual result: one mid, everything accepted."""
    assert (WHOLE.mid, WHOLE.mids, WHOLE.accepted, WHOLE.outcome) == ("007", ("007",), (A, B), "accepted")


def test_a_batch_with_several_mids() -> None:
    """Several acceptances are read in the order of the answer; `mid` is the first."""
    assert (MIXED.mid, MIXED.mids, MIXED.accepted, MIXED.outcome) == ("8", ("8", "9"), (B, A), "mixed")


def test_a_batch_without_a_mid() -> None:
    """Where nothing was accepted there is no mid."""
    assert (NOTHING.mid, NOTHING.mids, NOTHING.accepted, NOTHING.outcome) == (None, (), (), "failed")
    assert BatchResult(0, (A,), unknown=(A,)).outcome == "unknown"


def test_a_bulk_result_counts_and_walks() -> None:
    """The numbers in each state can be counted, walked and asked, over all batches."""
    assert BULK.mids == ("007", "8", "9")
    assert (len(BULK.accepted), len(BULK.failed), len(BULK.unknown)) == (4, 3, 1)
    assert list(BULK.accepted) == [A, B, B, A]
    assert list(BULK.failed) == [C, C, D]
    assert list(BULK.unknown) == [D]
    assert A in BULK.accepted
    assert A not in BULK.failed
    assert isinstance(BULK.accepted, Numbers)


def test_raise_for_failures() -> None:
    """What is not accepted raises on demand, with the counts and the result; a whole success does not."""
    BulkResult((WHOLE,)).raise_for_failures()
    with pytest.raises(BulkFailedError) as caught:
        BULK.raise_for_failures()
    assert (caught.value.failed, caught.value.unknown, caught.value.result) == (3, 1, BULK)
    with pytest.raises(BulkFailedError):
        BulkResult((BatchResult(0, (A,), unknown=(A,)),)).raise_for_failures()


PROGRESS = Progress(
    batches=1, accepted=2, failed=0, unknown=0, invalid=0, duplicates=0, suppressed=0, elapsed=0.5, batch=WHOLE
)
REPORT = StatusReport("007", A, code="DELIVRD", received_at=datetime(2024, 1, 1, tzinfo=UTC))
REPLY = Reply("1", B, text="TD secret")
VALUES = [
    Balance(1, mms=2),
    Message("secret", extno="1"),
    InvalidNumber(0, "138001380001", reason="it has 12 digits"),
    Acceptance("007", (A,)),
    WHOLE,
    MIXED,
    SentBatch(0, (A, B), acceptances=(Acceptance("007", (A, B)),)),
    BULK,
    PROGRESS,
    REPORT,
    REPLY,
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_may_be_logged(value: object) -> None:
    """No repr shows a text or a whole number."""
    assert not re.search(r"\d{11}|secret", repr(value))
    assert repr(value).startswith(type(value).__name__)


def test_numbers_may_be_logged() -> None:
    """The numbers in one state show how many they are."""
    assert repr(BULK.failed) == "<Numbers: 3>"


def test_a_text_of_the_wrong_type_is_not_shown() -> None:
    """The repr shows the type of what is given as a text and is none."""
    assert repr(Message(b"secret")) == "Message(text=<bytes>, extno=None, addseqno=False)"  # type: ignore[arg-type]


def test_the_repr_of_a_bulk_result_stays_short() -> None:
    """The repr counts the batches and the numbers that were left out, and does not list them."""
    many = BulkResult((WHOLE,) * 10_000, invalid=BULK.invalid * 10_000, unsent=(A,) * 10_000)
    assert len(repr(many)) < 200


def test_a_sent_batch_has_a_mid() -> None:
    """A `SentBatch` is a `BatchResult` with the same fields."""
    sent = SentBatch(0, (A, B), acceptances=(Acceptance("007", (A, B)),))
    assert (sent.mid, sent.accepted, isinstance(sent, BatchResult)) == ("007", (A, B), True)
    assert attrs.asdict(sent) == attrs.asdict(WHOLE)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_are_frozen_and_survive_pickling_and_copying(value: Any) -> None:
    """Values cannot be changed, and copies of them have their type, their fields and their repr."""
    field = attrs.fields(type(value))[0].name
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(value, field, None)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        delattr(value, field)
    with pytest.raises(AttributeError):
        value.another = 1
    for copied in (pickle.loads(pickle.dumps(value)), copy.copy(value)):
        assert (type(copied), repr(copied)) == (type(value), repr(value))


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_are_what_they_hold(value: Any) -> None:
    """Values are equal, and count once in a set, if they hold the same; one field makes the difference."""
    fields = [field.name for field in attrs.fields(type(value))]
    for evolve in [attrs.evolve, *([copy.replace] if sys.version_info >= (3, 13) else [])]:
        same, other = evolve(value), evolve(value, **{fields[0]: "another"})
        assert value == same
        assert value != other
        assert len({value, same, other}) == 2
    assert value != tuple(getattr(value, field) for field in fields)


@pytest.mark.parametrize(
    ("code", "state"),
    [
        ("DELIVRD", DeliveryState.DELIVERED),
        ("REJECT", DeliveryState.REJECTED),
        ("", DeliveryState.UNKNOWN),
        ("UNDELIV", DeliveryState.FAILED),
        ("delivrd", DeliveryState.FAILED),
    ],
)
def test_delivery_states(code: str, state: DeliveryState) -> None:
    """The gateway's two words are known, anything else is the carrier's code of a failure, and nothing says nothing."""
    assert StatusReport("1", A, code=code).state is state
