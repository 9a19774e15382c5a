"""What status reports prove about batches whose answer never came.

**The rule.** An unknown batch was accepted under a mid if

1. no send that the journal recorded ever received that mid, whatever became of the send, and every report under it
   was first heard after the batch's attempt began;
2. every number reported under it is a number of the batch that was sent, and not refused; numbers are compared as
   phones (`phones.canonical`);
3. of the n numbers that were sent, at least ``min(n, max(3, n / 20))`` are reported, rounded up: three, and five in a
   hundred;
4. no other batch whose outcome is open fits the mid as well, and no other mid fits the batch.

Everything else stays unknown: with evidence that does not suffice (*ambiguous*), or without any (*silent*).

**The error rate.** Without sends on the same account that the journal does not know, nothing is bound wrongly. Such a
send of m numbers, k of them in a batch that the gateway did not take, is bound to that batch only if all that is
reported of it before the journal looks lies in the batch: at most ``C(k, needed) / C(m, needed)``, about
``(k / m) ** needed``. If half of its numbers are the batch's, that is 1 in 8 for a batch of 60 (3 needed), and below
1 in 10 ** 15 for a batch of 1,000 (50 needed). If all of them are, nothing tells it from the batch. So one unrecorded
text makes a batch of one number *accepted*.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import attrs

from qxt_async.journal.records import BatchState
from qxt_async.protocol.numbers import canonical

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

__all__ = ["Doubt", "News", "Verdict", "needed_of", "news_of", "weigh"]


def needed_of(sent: int) -> int:
    """How many distinct numbers have to be reported under a mid to bind a batch in which `sent` numbers were sent."""
    return min(sent, max(3, -(-sent // 20)))


@attrs.frozen
class Doubt:
    """A batch without an outcome.

    Attributes:
        batch: its key.
        open: it explains reports, but is not bound: it is still being sent, or these are the numbers that its answer
            did not mention.
        since: when its attempt began, microseconds.
        numbers: joined by commas.
        others: those of them that were not sent, or refused; likewise.
    """

    batch: int
    open: bool
    since: int
    numbers: str = attrs.field(repr=False)
    others: str = attrs.field(default="", repr=False)


@attrs.frozen
class Verdict:
    """What the reports prove.

    Attributes:
        bound: batches with the mid under which they were accepted.
        ambiguous: batches with evidence that does not suffice.
        relevant: mids that speak of any of the batches; no other mid can matter later.
    """

    bound: Mapping[int, str]
    ambiguous: frozenset[int]
    relevant: frozenset[str]


def weigh(doubts: Iterable[Doubt], reports: Mapping[str, Mapping[str, int]]) -> Verdict:
    """Apply the rule of the module's docstring.

    Args:
        doubts: all batches without an outcome, and what answers did not mention; read once.
        reports: for each mid that no recorded send has, the phones reported under it and when, in microseconds.
    """
    mids_of: defaultdict[str, list[str]] = defaultdict(list)
    for mid, numbers in reports.items():
        for number in numbers:
            mids_of[number].append(mid)
    fits: defaultdict[str, list[Doubt]] = defaultdict(list)
    touched: set[int] = set()
    relevant: set[str] = set()
    needed: dict[int, int] = {}
    for doubt in doubts:
        its_numbers = set(map(canonical, doubt.numbers.split(","))) - set(map(canonical, doubt.others.split(",")))
        hits: defaultdict[str, int] = defaultdict(int)
        for number in its_numbers & mids_of.keys():
            for mid in mids_of[number]:
                if reports[mid][number] >= doubt.since:
                    hits[mid] += 1
        needed[doubt.batch] = needed_of(len(its_numbers))
        for mid, count in hits.items():
            relevant.add(mid)
            touched.add(doubt.batch)
            if count == len(reports[mid]):
                fits[mid].append(doubt)
    candidates: defaultdict[int, list[str]] = defaultdict(list)
    for mid, fitting in fits.items():
        for doubt in fitting:
            candidates[doubt.batch].append(mid)
    bound = {
        fitting[0].batch: mid
        for mid, fitting in fits.items()
        if len(fitting) == 1
        and not fitting[0].open
        and len(reports[mid]) >= needed[fitting[0].batch]
        and len(candidates[fitting[0].batch]) == 1
    }
    return Verdict(bound, frozenset(touched - bound.keys()), frozenset(relevant - set(bound.values())))


@attrs.frozen(kw_only=True)
class News:
    """What one stretch of reports has brought.

    Attributes:
        cursor: how far they are read.
        more: there are others behind it.
        bound: batches with the mid under which they were accepted.
        keep, forget: mids that may matter later, and those that cannot.
        ambiguous, silent: unknown batches of the campaign that stay so, with and without evidence.
    """

    cursor: int
    more: bool
    bound: Mapping[int, str]
    keep: frozenset[str]
    forget: frozenset[str]
    ambiguous: int
    silent: int


def news_of(
    campaign: int,
    cursor: int,
    doubtful: Sequence[Sequence[Any]],
    orphans: Collection[str],
    reports: Mapping[str, Mapping[str, int]],
    *,
    more: bool,
) -> News:
    """Weigh a stretch of reports.

    Args:
        campaign: which one to speak of.
        cursor: how far they are read.
        doubtful: rows: batch, campaign, state, when its attempt began, numbers, those not sent or refused.
        orphans: mids of the stretch, and those kept before, that no recorded send has.
        reports: as for `weigh`.
        more: there are others behind `cursor`.
    """
    verdict = weigh((Doubt(row[0], row[2] != BatchState.UNKNOWN, *row[3:]) for row in doubtful), reports)
    own = {row[0] for row in doubtful if row[1] == campaign and row[2] == BatchState.UNKNOWN}
    return News(
        cursor=cursor,
        more=more,
        bound=verdict.bound,
        keep=verdict.relevant,
        forget=frozenset(orphans) - verdict.relevant,
        ambiguous=len(own & verdict.ambiguous),
        silent=len(own - verdict.ambiguous - verdict.bound.keys()),
    )
