"""What status reports prove about batches whose answer never came.

**The rule.** An unknown batch was accepted under a mid if

1. no send that the journal recorded ever received that mid, whatever became of the send, and every report under it was
   first received after the batch's attempt began;
2. every number reported under it is a number of the batch that was sent, and not refused; numbers are compared as
   phones (`phones.canonical`);
3. of the n numbers that were sent, at least ``min(n, max(3, n / 20))`` are reported, rounded up: three, and five in a
   hundred;
4. no other batch whose outcome is open fits the mid as well, and no other mid fits the batch.

Every other batch stays unknown: with evidence that does not suffice (*ambiguous*), or without any (*silent*).

**The error rate.** A batch is bound as a whole: if the gateway took a part of it, and the answer was lost, the numbers
that it refused are accepted with the others. Apart from that, if the journal knows all sends on the account, nothing is
bound wrongly. Take a send of m numbers that it does not know, k of them in a batch that the gateway did not take. It is
bound to that batch only if all that is reported of it before the journal looks lies in the batch: at most
``C(k, needed) / C(m, needed)``, about
``(k / m) ** needed``. If half of its numbers are the batch's, that is 1 in 8 for a batch of 60 (3 needed), and below
1 in 10 ** 15 for a batch of 1,000 (50 needed). If all of them are, nothing tells it from the batch. So one unrecorded
text makes a batch of one number *accepted*.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import attrs

from qxt_async.protocol.numbers import canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def needed_reports(sent: int) -> int:
    """How many distinct numbers must be reported under a mid to bind a batch in which `sent` numbers were sent."""
    return min(sent, max(3, -(-sent // 20)))


@attrs.frozen
class UnresolvedBatch:
    """A batch without an outcome, or numbers that the answer to a batch did not mention.

    Attributes:
        batch: its key.
        bindable: it is unknown as a whole. Others explain reports, but are not bound: batches that are still being
            sent, and numbers that an answer did not mention.
        since: when its attempt began, microseconds.
        numbers: joined by commas.
        others: those of them that were not sent, or refused; likewise.
    """

    batch: int
    bindable: bool
    since: int
    numbers: str = attrs.field(repr=False)
    others: str = attrs.field(default="", repr=False)


@attrs.frozen
class Matches:
    """What the reports prove.

    Attributes:
        bound: batches with the mid under which they were accepted.
        ambiguous: batches with evidence that does not suffice.
        relevant: mids under which numbers of any of the batches are reported; no other mid can matter later.
    """

    bound: Mapping[int, str]
    ambiguous: frozenset[int]
    relevant: frozenset[str]


def match_reports(batches: Iterable[UnresolvedBatch], reports: Mapping[str, Mapping[str, int]]) -> Matches:
    """Apply the rule of the module's docstring.

    Args:
        batches: all batches without an outcome, and what answers did not mention; read once.
        reports: for each mid that no recorded send has, the phones reported under it and when, in microseconds.
    """
    mids_of: defaultdict[str, list[str]] = defaultdict(list)
    for mid, phones in reports.items():
        for phone in phones:
            mids_of[phone].append(mid)
    fits: defaultdict[str, list[UnresolvedBatch]] = defaultdict(list)
    candidates: defaultdict[int, int] = defaultdict(int)
    touched: set[int] = set()
    relevant: set[str] = set()
    needed: dict[int, int] = {}
    for batch in batches:
        sent = set(map(canonical, batch.numbers.split(","))) - set(map(canonical, batch.others.split(",")))
        hits: defaultdict[str, int] = defaultdict(int)
        for phone in sent & mids_of.keys():
            for mid in mids_of[phone]:
                if reports[mid][phone] >= batch.since:
                    hits[mid] += 1
        needed[batch.batch] = needed_reports(len(sent))
        for mid, count in hits.items():
            relevant.add(mid)
            touched.add(batch.batch)
            if count == len(reports[mid]):
                fits[mid].append(batch)
                candidates[batch.batch] += 1
    bound = {
        batch.batch: mid
        for mid, (batch, *rivals) in fits.items()
        if batch.bindable and not rivals and candidates[batch.batch] == 1 and len(reports[mid]) >= needed[batch.batch]
    }
    return Matches(bound, frozenset(touched - bound.keys()), frozenset(relevant - set(bound.values())))
