"""What the simulated gateway answers to a good send, and what it takes: the numbers dealt out as a fault wants it."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from qxt_async.simulator import codec
from qxt_async.simulator.books import SimulatedSend, Submission

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

    from qxt_async.simulator.account import Account
    from qxt_async.simulator.faults import Fault

__all__ = ["take"]


def take(
    submission: Submission,
    fault: Fault,
    failing: dict[str, str],
    *,
    account: Account,
    next_mid: Callable[[], str],
    random: Random,
) -> tuple[list[str], list[SimulatedSend]]:
    """Take a send and charge for it.

    Args:
        submission: checked.
        fault: what it meets.
        failing: numbers that always fail, with their codes.
        account: is charged.
        next_mid: makes message ids.
        random: for a shuffled answer.

    Returns:
        The lines of the answer, and what was taken, one value a mid.
    """
    if fault.error is not None:
        return [codec.error_line(fault.error)], []
    if not fault.takes:
        return [], []
    if not (failing or fault.failed or fault.omitted or fault.numbers or fault.lines > 1):
        # The usual way costs nothing a number: the list is kept and answered as it came.
        mid = next_mid()
        return [f"ok:{mid}:{submission.tele}"], _charged(submission, [(mid, submission.tele)], fault, account)
    return _deal(submission, fault, failing, account=account, next_mid=next_mid, random=random)


def _deal(
    submission: Submission,
    fault: Fault,
    failing: dict[str, str],
    *,
    account: Account,
    next_mid: Callable[[], str],
    random: Random,
) -> tuple[list[str], list[SimulatedSend]]:
    numbers = submission.numbers
    mentioned, failed, omitted = fault.deal(tuple(number for number in numbers if number not in failing))
    by_code: dict[str, list[str]] = {fault.code: list(failed)} if failed else {}
    for number in numbers:
        if number in failing:
            by_code.setdefault(failing[number], []).append(number)

    lines: list[str] = []
    taken: list[tuple[str, str]] = []
    size = max(1, -(-len(mentioned) // fault.lines))
    for start in range(0, len(mentioned), size):
        part = mentioned[start : start + size]
        mid = next_mid()
        lines.append(codec.ok_line(mid, _shown(part, numbers, fault, random)))
        taken.append((mid, ",".join(part)))
    if omitted and fault.omitted_taken:
        taken.append((next_mid(), ",".join(omitted)))
    lines.extend(codec.fail_line(code, each) for code, each in by_code.items())
    return lines, _charged(submission, taken, fault, account)


def _charged(
    submission: Submission, taken: list[tuple[str, str]], fault: Fault, account: Account
) -> list[SimulatedSend]:
    segments = account.segments(submission)
    total = sum(tele.count(",") + 1 for _, tele in taken)
    delivers = fault.delivers and account.charge(segments * total)
    return [
        SimulatedSend(
            mid=mid,
            user=submission.user,
            tele=tele,
            text=submission.text,
            extno=submission.extno,
            addseqno=submission.addseqno,
            segments=segments,
            delivers=delivers,
        )
        for mid, tele in taken
    ]


def _strangers(numbers: tuple[str, ...]) -> Iterator[str]:
    sent = set(numbers)
    return (number for number in (f"199{place:08d}" for place in count()) if number not in sent)


def _shown(part: tuple[str, ...], numbers: tuple[str, ...], fault: Fault, random: Random) -> list[str]:
    shown = list(part)
    if fault.numbers == "shuffled":
        random.shuffle(shown)
    elif fault.numbers == "foreign":
        shown = [stranger for stranger, _ in zip(_strangers(numbers), part, strict=False)]
    elif fault.numbers == "extra":
        shown.append(next(_strangers(numbers)))
    elif fault.numbers == "repeated":
        shown.append(shown[0])
    return shown
