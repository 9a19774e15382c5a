"""Which status reports are on the numbers that a batch has sent: deliveries are counted from them.

A report counts for the batch that has its mid. Exceptions are stored as *strays*: phones reported under a mid of the
batch that the batch did not send under this mid. They are numbers of another send (a gateway that was restarted, or a
second one, may give the same mids again), or numbers of the batch that were refused or accepted under another mid. So
counting is a join, and no batch has to be split for it.

Strays are looked for before each count: normally the reports that came since the last look are all on numbers of their
batches, and only the cursor moves. An operation that changes the mids of a batch, or the numbers under a mid, after
reports have come queues the mids of the batch (``match_again``).
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from qxt_async.protocol.numbers import canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from qxt_async.journal.database import Database, Transaction

# In one transaction, which takes about 0.1 s: pushes wait for it.
REPORTS_AT_A_TIME: Final = 20_000
MIDS_AT_A_TIME: Final = 200
# Of a thousand numbers each, 12 MB.
BATCHES_AT_A_TIME: Final = 1000


async def match_all(database: Database) -> None:
    """Find all strays, so that no count that follows has reports on numbers that a batch did not send."""
    if await database.read(anything_to_match):
        while await database.write(match):
            pass


async def anything_to_match(transaction: Transaction) -> bool:
    """Whether reports have come, or mids were queued, since the last look."""
    ((anything,),) = await transaction.rows("anything_to_match")
    return bool(anything)


async def match(transaction: Transaction) -> bool:
    """Find the strays of the next reports and of the queued mids; returns whether there may be more."""
    await transaction.lock("lock_matching")
    queued = await transaction.rows("next_mids", limit=MIDS_AT_A_TIME)
    if queued:
        for _, batch, mid in queued:
            await transaction.change("forget_strays", batch=batch, mid=mid)
        mids = {mid for _, _, mid in queued}
        under = _by_mid(await transaction.rows("reports_under", mids=list(mids)))
        await _keep_strays(transaction, {(batch, mid) for _, batch, mid in queued}, under)
        await transaction.change("forget_mids", looked_at=[seq for seq, _, _ in queued])
    reports = await transaction.rows("next_reports", limit=REPORTS_AT_A_TIME)
    if reports:
        under = _by_mid(row[1:] for row in reports)
        pairs = await transaction.rows("batches_with_mids", mids=list(under))
        await _keep_strays(transaction, {(batch, mid) for batch, mid in pairs}, under)
        await transaction.change("advance_matched", cursor=reports[-1][0])
    return len(queued) == MIDS_AT_A_TIME or len(reports) == REPORTS_AT_A_TIME


def _by_mid(rows: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    phones: dict[str, set[str]] = {}
    for mid, number in rows:
        phones.setdefault(mid, set()).add(number)
    return phones


async def _keep_strays(transaction: Transaction, pairs: set[tuple[int, str]], under: Mapping[str, set[str]]) -> None:
    """Store the strays of these batches and mids; `under` has the phones that are reported under each mid."""
    mids_of: defaultdict[int, list[str]] = defaultdict(list)
    for batch, mid in pairs:
        mids_of[batch].append(mid)
    keys = sorted(mids_of)
    for start in range(0, len(keys), BATCHES_AT_A_TIME):
        some = keys[start : start + BATCHES_AT_A_TIME]
        others: defaultdict[int, dict[str, str | None]] = defaultdict(dict)
        for batch, number, _, mid in await transaction.rows("exceptions_of", batches=some):
            others[batch][number] = mid
        strays = [
            {"batch": batch, "mid": mid, "number": number}
            for batch, own, joined in await transaction.rows("batches_to_match", batches=some)
            for mid in mids_of[batch]
            for number in _strays(under.get(mid, set()), mid, own, joined.split(","), others[batch])
        ]
        if strays:
            await transaction.insert("keep_strays", strays)


def _strays(
    reported: set[str], mid: str, own: str | None, numbers: list[str], others: Mapping[str, str | None]
) -> set[str]:
    """The phones reported under a mid that a batch did not send under it.

    Args:
        reported: the phones, canonical.
        mid: under which.
        own: the mid of the batch's numbers.
        numbers: of the batch, in the form in which they were sent.
        others: the numbers of the batch that have another mid, or none.
    """
    sent = [number for number in numbers if others.get(number, own) == mid] if others or own != mid else numbers
    strays = reported - set(sent)
    return strays.difference(map(canonical, sent)) if strays else strays
