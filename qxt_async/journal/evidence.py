"""What status reports prove about batches whose answer never came.

**The rule.** An unknown batch was accepted under a mid if

1. no batch of the journal has that mid, and every report under it came after the batch's attempt began;
2. every number reported under it is a number of the batch that was sent, and not refused;
3. those are at least three, or all of these if there are fewer: a single text that somebody else sends to one of its
   numbers must not speak for a thousand;
4. no other batch whose outcome is open fits the mid as well, and no other mid fits the batch.

Everything else stays unknown: with evidence that does not suffice (*ambiguous*), or without any (*silent*).
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import attrs

from .records import BatchState

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

__all__ = ["ENOUGH", "Doubt", "News", "Verdict", "news_of", "weigh"]

ENOUGH: Final = 3
"""Distinct numbers that have to be reported under a mid, unless the batch has fewer."""


@attrs.frozen
class Doubt:
    """A batch without an outcome.

    Attributes:
        batch: its key.
        open: it is still being sent: it explains reports, but is not bound.
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
        doubts: all batches without an outcome; read once.
        reports: for each mid that no batch has, the numbers reported under it and when, in microseconds.
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
        its_numbers = set(doubt.numbers.split(",")) - set(doubt.others.split(","))
        hits: defaultdict[str, int] = defaultdict(int)
        for number in its_numbers & mids_of.keys():
            for mid in mids_of[number]:
                if reports[mid][number] >= doubt.since:
                    hits[mid] += 1
        needed[doubt.batch] = min(ENOUGH, len(its_numbers))
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
        orphans: mids of the stretch, and those kept before, that no batch has.
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
