"""The gateway's decision about a request: what it answers, and which numbers it takes."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import attrs

from qxt_async.simulator.request_log import SimulatedSend, Submission

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from random import Random

    from qxt_async.simulator.account import Account
    from qxt_async.simulator.faults import Fault


@attrs.define
class Decision:
    """The answer to a request, and what was taken.

    Attributes:
        fault: that the request meets.
        numbers: how many the request named.
        refusal: the description after ``error:``; empty if it was not refused.
        lines: of the answer, unless it was refused.
        sends: what was taken, one value for each mid.
    """

    fault: Fault
    numbers: int = 0
    refusal: str = ""
    lines: list[str] = attrs.field(factory=list[str], repr=False)
    sends: list[SimulatedSend] = attrs.field(factory=list[SimulatedSend])

    def answer(self) -> bytes:
        """The content of the answer."""
        lines = [self.fault.prefix + f"error:{self.refusal}"] if self.refusal else self.lines
        return "".join(line + self.fault.line_end for line in lines).encode(self.fault.charset)


class SendDecider:
    """Decides about sends that passed all checks.

    Args:
        account: pays for what is taken.
        failing_numbers: numbers that always fail, with their codes; may change between sends.
        first_mid: the first message id; each further one is higher by 1.
        random: shuffles an answer.
    """

    def __init__(self, account: Account, failing_numbers: Mapping[str, str], first_mid: int, random: Random) -> None:
        self._account = account
        self._failing_numbers = failing_numbers
        self._mids = count(first_mid)
        self._random = random

    def next_mid(self) -> str:
        """A new message id."""
        return str(next(self._mids))

    def decide(self, submission: Submission, fault: Fault) -> Decision:
        """Take a send, or the part of it that the fault leaves, and charge for it."""
        decision = Decision(fault, submission.count)
        if fault.error is not None:
            decision.refusal = fault.error
        elif fault.takes:
            divides = fault.failed or fault.omitted or fault.numbers or fault.lines > 1
            if divides or self._failing_numbers:
                self._divide(submission, decision)
            else:
                # The common case costs nothing per number: the list is kept and answered as it came.
                mid = self.next_mid()
                decision.lines = [f"ok:{mid}:{submission.tele}"]
                self._take(submission, [(mid, submission.tele)], decision)
        return decision

    def _divide(self, submission: Submission, decision: Decision) -> None:
        """Divide the numbers among several lines of the answer."""
        fault, numbers, failing = decision.fault, submission.numbers, self._failing_numbers
        accepted, failed, omitted = fault.divide(tuple(number for number in numbers if number not in failing))
        by_code: dict[str, list[str]] = {fault.code: list(failed)} if failed else {}
        for number in numbers:
            if number in failing:
                by_code.setdefault(failing[number], []).append(number)

        taken: list[tuple[str, str]] = []
        size = max(1, -(-len(accepted) // fault.lines))
        for start in range(0, len(accepted), size):
            part = accepted[start : start + size]
            mid = self.next_mid()
            decision.lines.append(f"ok:{mid}:{','.join(self._answered_numbers(part, numbers, fault))}")
            taken.append((mid, ",".join(part)))
        if omitted and fault.omitted_taken:
            taken.append((self.next_mid(), ",".join(omitted)))
        decision.lines.extend(f"fail:{code}:{','.join(each)}" for code, each in by_code.items())
        self._take(submission, taken, decision)

    def _take(self, submission: Submission, taken: list[tuple[str, str]], decision: Decision) -> None:
        """Charge for mids and their numbers, and record them."""
        segments = self._account.segments(submission)
        total = sum(tele.count(",") + 1 for _, tele in taken)
        delivers = decision.fault.delivers and self._account.charge(segments * total)
        decision.sends = [
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

    def _answered_numbers(self, part: tuple[str, ...], numbers: tuple[str, ...], fault: Fault) -> list[str]:
        answered = list(part)
        if fault.numbers == "shuffled":
            self._random.shuffle(answered)
        elif fault.numbers == "foreign":
            answered = [foreign for foreign, _ in zip(_foreign_numbers(numbers), part, strict=False)]
        elif fault.numbers == "extra":
            answered.append(next(_foreign_numbers(numbers)))
        elif fault.numbers == "repeated":
            answered.append(answered[0])
        return answered


def _foreign_numbers(numbers: tuple[str, ...]) -> Iterator[str]:
    sent = set(numbers)
    return (number for number in (f"199{place:08d}" for place in count()) if number not in sent)
