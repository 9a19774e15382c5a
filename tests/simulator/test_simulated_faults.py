"""Faults as values and the plan of who meets which."""

from __future__ import annotations

from random import Random

import pytest

from qxt_async.simulator import FAULTS, Drop, Fault, Submission, parse_share
from qxt_async.simulator.fault_plan import FaultPlan

SUBMISSION = Submission(user="user", tele="13800138000", text="hello")


@pytest.fixture
def plan():
    """A plan with a fixed seed."""
    return FaultPlan(Random(1))


def drawn(plan, count, of="send"):
    """The names of the next faults."""
    return [fault.name if (fault := plan.draw(of)) else "" for _ in range(count)]


def test_every_fault_is_found_by_its_name():
    """`Fault.named` gives each fault of the table."""
    assert {name: Fault.named(name) for name in FAULTS} == FAULTS


def test_numbered_faults():
    """``http-NNN`` takes nothing, ``take-then-NNN`` takes, ``error-N`` refuses in the gateway's words."""
    assert Fault.named("http-404") == Fault("http-404", takes=False, status=404, body=b"")
    assert Fault.named("take-then-502") == Fault("take-then-502", status=502, body=b"")
    assert Fault.named("error-4") == Fault("error-4", takes=False, error="smg")


@pytest.mark.parametrize("name", ["", "nonsense", "http-99", "http-700", "error-5", "take-then-1"])
def test_an_unknown_name_says_which_there_are(name):
    """A misspelt fault is refused with the list of names."""
    with pytest.raises(ValueError, match="take-then-reset"):
        Fault.named(name)


def test_parameters_of_a_named_fault():
    """The waiting time and ``Retry-After`` may be given."""
    assert Fault.named("slow", delay=0.5).delay == 0.5
    assert Fault.named("throttle-429", retry_after=2.5).headers == (("retry-after", "2.5"),)


@pytest.mark.parametrize(
    "fields",
    [
        {"delay": -1},
        {"drip": -0.1},
        {"failed": 1.1},
        {"omitted": -0.1},
        {"lines": 0},
        {"numbers": "odd"},
        {"drop": "x"},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(fields):
    """Shares are between 0 and 1, times not negative, choices known."""
    with pytest.raises(ValueError, match=r".+"):
        Fault("odd", **fields)


def test_a_drop_may_be_given_by_name():
    """``drop="reset"`` is `Drop.RESET`."""
    assert Fault("mine", drop="reset").drop is Drop.RESET


def test_command_line_shares():
    """``NAME=SHARE``; the name alone means always."""
    assert parse_share("take-then-reset=0.02") == (FAULTS["take-then-reset"], 0.02)
    assert parse_share("slow") == (FAULTS["slow"], 1.0)


@pytest.mark.parametrize("text", ["slow=much", "slow=1.5", "slow=-1", "slow=nan", "nothing=0.1"])
def test_command_line_shares_that_make_no_sense(text):
    """No number, no share, no such fault."""
    with pytest.raises(ValueError, match=r"share|no fault"):
        parse_share(text)


@pytest.mark.parametrize(
    ("fault", "ok", "failed", "silent"),
    [
        (Fault("x"), "abcdef", "", ""),
        (Fault("x", failed=1.0), "", "abcdef", ""),
        (Fault("x", failed=0.5), "bdf", "ace", ""),
        (Fault("x", omitted=0.5), "bdf", "", "ace"),
        (Fault("x", failed=0.01), "bcdef", "a", ""),
        (Fault("x", failed=0.5, omitted=0.5), "d", "ace", "bf"),
    ],
)
def test_dealing(fault, ok, failed, silent):
    """Shares are spread evenly over the numbers, at least one of each that is wanted."""
    assert fault.divide(tuple("abcdef")) == (tuple(ok), tuple(failed), tuple(silent))


def test_queued_faults_come_in_order_and_then_end(plan):
    """`fail_next` queues; each entry serves its times; then all is well."""
    plan.fail_next("reset", 2)
    plan.fail_next(Fault("mine"))
    assert drawn(plan, 5) == ["reset", "reset", "mine", "", ""]


def test_balance_has_faults_of_its_own(plan):
    """A fault for the balance does not meet a send, and the other way round."""
    plan.fail_next("reset", of="balance")
    plan.fail_share("close", 1.0, of="send")
    assert drawn(plan, 2) == ["close", "close"]
    assert drawn(plan, 2, "balance") == ["reset", ""]


def test_shares(plan):
    """A share of the requests meets the fault; the draw is the seed's."""
    plan.fail_share("reset", 0.1)
    plan.fail_share("close", 0.2)
    names = drawn(plan, 2000)
    assert 150 < names.count("reset") < 250
    assert 330 < names.count("close") < 470
    again = FaultPlan(Random(1))
    again.fail_share("reset", 0.1)
    again.fail_share("close", 0.2)
    assert drawn(again, 2000) == names


def test_a_share_is_replaced_and_ended(plan):
    """The same fault again replaces its share; 0 ends it; together they are at most 1."""
    plan.fail_share("reset", 1.0)
    with pytest.raises(ValueError, match="together"):
        plan.fail_share("close", 0.1)
    with pytest.raises(ValueError, match="between"):
        plan.fail_share("close", -0.1)
    plan.fail_share("reset", 0.0)
    assert drawn(plan, 3) == ["", "", ""]


def test_times_below_one_are_refused(plan):
    """Not even once is no fault."""
    with pytest.raises(ValueError, match="at least 1"):
        plan.fail_next("reset", 0)


def test_predicates_decide_about_the_send(plan):
    """The first predicate that holds names the fault."""
    plan.fail_when(lambda send: send.text == "other", "close")
    plan.fail_when(lambda send: "13800138000" in send.numbers, "reset")
    assert plan.matching(SUBMISSION) == FAULTS["reset"]
    assert plan.matching(Submission(user="user", tele="13800138001", text="hello")) is None


def test_a_fault_before_reading_cannot_depend_on_the_send(plan):
    """What acts on the headers alone knows no numbers."""
    with pytest.raises(ValueError, match="before the send is read"):
        plan.fail_when(lambda send: True, "refuse")


def test_clearing_ends_all(plan):
    """After `clear` nothing fails."""
    plan.fail_next("reset")
    plan.fail_share("close", 1.0)
    plan.fail_when(lambda send: True, "slow")
    plan.fail_numbers(["13800138000"])
    plan.clear()
    assert drawn(plan, 2) == ["", ""]
    assert plan.matching(SUBMISSION) is None
    assert plan.failing_numbers == {}


def test_reprs_hide_texts_and_numbers():
    """A submission's repr shows how many numbers and characters, nothing else."""
    assert "13800138000" not in repr(SUBMISSION)
    assert "hello" not in repr(SUBMISSION)
    assert "<1 numbers>" in repr(SUBMISSION)
    assert Submission(user="user", tele="", text="").numbers == ()
    assert Submission(user="user", tele="", text="").count == 0
