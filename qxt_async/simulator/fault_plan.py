"""Which request meets which fault."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import attrs

from qxt_async.simulator.faults import Fault, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from random import Random

    from qxt_async.simulator.request_log import Submission


def _resolved(fault: Fault | str) -> Fault:
    return Fault.named(fault) if isinstance(fault, str) else fault


@attrs.define
class _Queued:
    fault: Fault
    times: int


class FaultPlan:
    """Chooses the fault of a request: a queued one first, then one by share, then one by the content of the send.

    The methods that set faults are documented in `SimulatedGateway`.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._queues: dict[Target, deque[_Queued]] = {"send": deque(), "balance": deque()}
        self._shares: dict[Target, dict[str, tuple[Fault, float]]] = {"send": {}, "balance": {}}
        self._rules: list[tuple[Callable[[Submission], bool], Fault]] = []
        self.failing_numbers: dict[str, str] = {}

    def fail_next(self, fault: Fault | str, times: int = 1, *, of: Target = "send") -> None:
        """Let the next requests meet a fault."""
        if times < 1:
            raise ValueError(f"times is at least 1, not {times}")
        self._queues[of].append(_Queued(_resolved(fault), times))

    def fail_share(self, fault: Fault | str, share: float, *, of: Target = "send") -> None:
        """Let a share of all requests meet a fault."""
        fault = _resolved(fault)
        shares = {**self._shares[of], fault.name: (fault, share)}
        if share < 0 or sum(each for _, each in shares.values()) > 1.0 + 1e-9:
            raise ValueError("a share is between 0 and 1, and all shares together are at most 1")
        self._shares[of] = {name: each for name, each in shares.items() if each[1]}

    def fail_when(self, predicate: Callable[[Submission], bool], fault: Fault | str) -> None:
        """Let every send for which `predicate` is true meet a fault."""
        fault = _resolved(fault)
        if fault.unread:
            raise ValueError(f"{fault.name} acts before the send is read, so it cannot depend on it")
        self._rules.append((predicate, fault))

    def fail_numbers(self, numbers: Iterable[str], code: str = "999") -> None:
        """Answer these numbers with a ``fail:CODE`` line."""
        self.failing_numbers.update(dict.fromkeys(numbers, code))

    def draw(self, of: Target) -> Fault | None:
        """The queued or shared fault of a request that has just arrived."""
        queue = self._queues[of]
        if queue:
            queue[0].times -= 1
            return queue.popleft().fault if queue[0].times == 0 else queue[0].fault
        if self._shares[of]:
            point = self._random.random()
            for fault, share in self._shares[of].values():
                point -= share
                if point < 0:
                    return fault
        return None

    def matching(self, submission: Submission) -> Fault | None:
        """The fault of the first predicate that is true."""
        return next((fault for predicate, fault in self._rules if predicate(submission)), None)

    def clear(self) -> None:
        """End all faults."""
        for of in self._queues:
            self._queues[of].clear()
            self._shares[of] = {}
        self._rules.clear()
        self.failing_numbers.clear()
