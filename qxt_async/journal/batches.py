"""Claims of batches, and their outcomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from qxt_async.journal.outcomes import in_doubt, outcomes_by_number
from qxt_async.journal.records import PAUSE_AFTER_TEST, BatchState, CampaignState, Claim, NumberState
from qxt_async.journal.states import pause_from, reopen
from qxt_async.journal.timestamps import CLOCK_LEEWAY
from qxt_async.models import Message
from qxt_async.protocol.numbers import canonical
from qxt_async.runtime.clocks import boottime

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from qxt_async.errors import QxtError
    from qxt_async.journal.database import Transaction
    from qxt_async.models import BatchResult

_SECOND: Final = 1_000_000
_DETAIL: Final = 300
_TEST_EXPIRED: Final = "the test batch may have been sent: the process that sent it never said what became of it"
_TEST_OPTED_OUT: Final = "the test batch was not sent: all of its numbers are on the suppression list"


@attrs.frozen
class Attempt:
    """An attempt to send a batch, which is to be claimed.

    Attributes:
        campaign: of which the batch is to be.
        token: never used before.
        lease: seconds.
        begins: microseconds since 1970, if the request begins at another time than now.
    """

    campaign: int
    token: str
    lease: float
    begins: int | None = None


async def lock_for_claims(transaction: Transaction, campaigns: Iterable[int]) -> None:
    """What claims share, and what pauses, cancels or ends a campaign holds alone."""
    for campaign in sorted(set(campaigns)):
        await transaction.lock("lock_for_claim", campaign=campaign)


async def claim(
    transaction: Transaction,
    attempts: Sequence[Attempt],
    *,
    account: str | None = None,
    unlimited: str | None = None,
) -> list[Claim | None]:
    """Take the next planned batches of running campaigns, one for each attempt, with `lock_for_claims` held.

    Args:
        transaction: in which.
        attempts: which.
        account: who sends them.
        unlimited: take nothing if this account has limits.
    """
    since = boottime()
    values: list[dict[str, Any]] = [
        {
            "campaign": attempt.campaign,
            "token": attempt.token,
            "account": account,
            "unlimited": unlimited,
            "lease": round(attempt.lease * _SECOND),
            "leeway": CLOCK_LEEWAY,
            **({} if attempt.begins is None else {"now": attempt.begins}),
        }
        for attempt in attempts
    ]
    found = await transaction.rows_for_each("claim", values)
    return [
        await _claimed(transaction, one, rows, since) if rows else None for one, rows in zip(values, found, strict=True)
    ]


async def _claimed(transaction: Transaction, values: dict[str, Any], rows: list[Any], since: float) -> Claim | None:
    """What was claimed. A batch whose numbers have all opted out is settled, and the next one is claimed."""
    campaign: int = values["campaign"]
    while rows:
        ((claimed, unsent, doubtful, test, joined, text, extno, addseqno, somebody_opted_out),) = rows
        numbers = tuple(joined.split(","))
        out: frozenset[str] = frozenset()
        if somebody_opted_out:
            out = await _leave_out(transaction, claimed, numbers, doubtful=bool(doubtful))
            if len(out) == len(numbers):
                if test:
                    await pause_from(transaction, campaign, CampaignState.RUNNING, _TEST_OPTED_OUT)
                rows = await transaction.rows("claim", **values)
                continue
        return Claim(
            batch=claimed,
            campaign=campaign,
            token=values["token"],
            unsent=unsent,
            since=since,
            doubtful=bool(doubtful),
            message=Message(text, extno=extno, addseqno=bool(addseqno)),
            numbers=tuple(number for number in numbers if number not in out) if out else numbers,
            suppressed=tuple(out),
            test=test,
        )
    return None


async def _leave_out(
    transaction: Transaction, batch: int, numbers: tuple[str, ...], *, doubtful: bool
) -> frozenset[str]:
    """Store which numbers have opted out since the plan; numbers of a second attempt stay unknown.

    A batch without any other number is settled.
    """
    phones = [canonical(number) for number in numbers]
    opted_out = {phone for (phone,) in await transaction.rows("opted_out", numbers=phones)}
    out = frozenset(number for number, phone in zip(numbers, phones, strict=True) if phone in opted_out)
    if not out:
        return out
    state = NumberState.UNKNOWN if doubtful else NumberState.SUPPRESSED
    await put_exceptions(transaction, batch, ((number, state, None, None) for number in sorted(out)))
    if len(out) == len(numbers):
        await transaction.change("suppress_all", batch=batch)
        if doubtful:
            await _fall_back(transaction, batch)
    elif not doubtful:
        await transaction.change("suppress_some", batch=batch, count=len(out))
    return out


async def put_exceptions(
    transaction: Transaction, batch: int, rows: Iterable[tuple[str, str, str | None, int | None]]
) -> None:
    """Store numbers of a batch that differ from it: number, state, mid, successor."""
    await transaction.insert(
        "put_exceptions",
        [
            {"batch": batch, "number": number, "state": str(state), "mid": mid, "successor": successor}
            for number, state, mid, successor in rows
        ],
    )


async def settle(transaction: Transaction, outcomes: Sequence[tuple[Claim, BatchResult]]) -> list[bool]:
    """Write the outcomes of claimed batches; returns whether each was written."""
    results = [in_doubt(result) if claim.doubtful else result for claim, result in outcomes]
    by_number = [outcomes_by_number(result) for result in results]
    values: list[dict[str, Any]] = [
        {
            "batch": claim.batch,
            "token": claim.token,
            "state": state,
            "mid": result.mid,
            "accepted": len(result.accepted),
            "failed": len(result.failed),
            **said(result.error),
        }
        for (claim, _), result, (state, _) in zip(outcomes, results, by_number, strict=True)
    ]
    stored = await transaction.rows_for_each("settle", values)
    for (claim, told), result, (state, exceptions), rows in zip(outcomes, results, by_number, stored, strict=True):
        if not rows:
            await transaction.change("know_mids", mids=list(result.mids))
            continue
        ((successor, matters),) = rows
        if successor and state is not BatchState.UNKNOWN and await take_back(transaction, claim.batch):
            await transaction.change(
                "recount", batch=claim.batch, accepted=len(result.accepted), failed=len(result.failed)
            )
            successor = None
        if successor:
            await transaction.change("know_mids", mids=list(result.mids))
        elif exceptions:
            await put_exceptions(transaction, claim.batch, exceptions)
        if matters or len(result.acceptances) > 1:
            await transaction.change("match_again", batch=claim.batch)
        if claim.doubtful and not (told.accepted or told.unknown):
            await _fall_back(transaction, claim.batch)
        if claim.test:
            await _end_test(transaction, claim, result)
    return [bool(rows) for rows in stored]


async def _end_test(transaction: Transaction, claim: Claim, result: BatchResult) -> None:
    """Pause the campaign if its test was not accepted, or if somebody wants to look at the phone first."""
    if not result.acceptances:
        what = "may have been sent" if result.unknown else "was not accepted"
        reason = f"the test batch {what}: {result.error}"
    elif claim.test == PAUSE_AFTER_TEST:
        told = f"mid {result.mid}: {len(result.accepted)} accepted"
        reason = f"the test batch was sent ({told}): look at it, then resume"
    else:
        return
    await pause_from(transaction, claim.campaign, CampaignState.RUNNING, reason)


async def take_back(transaction: Transaction, batch: int) -> bool:
    """Withdraw the second attempt at a batch, unless it has begun; returns whether it is withdrawn."""
    if not await transaction.change("withdraw_successor", batch=batch):
        return False
    await transaction.change("own_again", batch=batch)
    return True


@attrs.frozen
class NotSent:
    """A claimed batch that was not sent, and is to be planned again.

    Attributes:
        claim: the batch.
        error: why.
        delay: seconds before it is claimed again.
        attempts: how many such attempts make it fail; ``None`` if this one does not count.
    """

    claim: Claim
    error: QxtError | None
    delay: float
    attempts: int | None


async def release(transaction: Transaction, items: Sequence[NotSent]) -> list[bool]:
    """Plan claimed batches again that were not sent; returns of each whether its outcome was written."""
    # Not while a campaign is being cancelled or done: the later of the two has to see the earlier one.
    await lock_for_claims(transaction, (item.claim.campaign for item in items))
    return [await _release(transaction, item) for item in items]


async def _release(transaction: Transaction, item: NotSent) -> bool:
    claim = item.claim
    values = {
        "batch": claim.batch,
        "token": claim.token,
        "delay": round(item.delay * _SECOND),
        "counted": 0 if item.attempts is None else 1,
        **said(item.error),
    }
    if item.attempts is not None and claim.unsent + 1 >= item.attempts:
        return await _give_up(transaction, claim, values)
    back = bool(await transaction.change("release", **values))
    if back:
        if claim.suppressed:
            await transaction.change("forget_exceptions", batch=claim.batch)
        await reopen(transaction, claim.campaign)
    if claim.doubtful:
        await drop_second_attempts(transaction, claim.campaign)
    # Somebody has planned it again while this attempt counted as dead: do not send it twice.
    return back or await _give_up(transaction, claim, values)


async def undo_claims(transaction: Transaction, items: Sequence[tuple[int, str]]) -> list[bool]:
    """Plan batches again whose claims failed and were committed all the same; returns of each whether there was one.

    Args:
        transaction: in which.
        items: campaign and token of each.
    """
    await lock_for_claims(transaction, (campaign for campaign, _ in items))
    return [await _undo_claim(transaction, campaign, token) for campaign, token in items]


async def _undo_claim(transaction: Transaction, campaign: int, token: str) -> bool:
    found = await transaction.rows("find_claim", campaign=campaign, token=token)
    if not found:
        return False
    ((batch,),) = found
    # It may have an outcome by now.
    if not await transaction.change("release", batch=batch, token=token, delay=0, counted=0, error="", detail=""):
        return False
    await transaction.change("forget_exceptions", batch=batch)
    await reopen(transaction, campaign)
    await drop_second_attempts(transaction, campaign)
    return True


async def expire_leases(transaction: Transaction, campaign: int, *, alive: Collection[str]) -> int:
    """Set batches to *unknown* whose lease has run out; returns how many."""
    rows = await transaction.rows("expire_leases", campaign=campaign, leeway=CLOCK_LEEWAY, alive=list(alive))
    if any(test for (test,) in rows):
        await pause_from(transaction, campaign, CampaignState.RUNNING, _TEST_EXPIRED)
    return len(rows)


async def drop_second_attempts(transaction: Transaction, campaign: int) -> None:
    """If the campaign is cancelled, set planned second attempts at unknown batches to *unknown*."""
    for (batch,) in await transaction.rows("drop_second_attempts", campaign=campaign):
        await _fall_back(transaction, batch)


async def _give_up(transaction: Transaction, claim: Claim, values: dict[str, Any]) -> bool:
    given_up = bool(await transaction.change("give_up", **values))
    if given_up and claim.doubtful:
        await _fall_back(transaction, claim.batch)
    if given_up and claim.test:
        reason = f"the test batch was not sent: {values['detail']}"
        await pause_from(transaction, claim.campaign, CampaignState.RUNNING, reason)
    return given_up


async def _fall_back(transaction: Transaction, batch: int) -> None:
    """After a second attempt that failed, return its numbers to the batch of the first one."""
    if await transaction.change("fall_back", batch=batch):
        await transaction.change("withdraw", batch=batch)


def said(error: QxtError | None) -> dict[str, str]:
    """An error as it is stored."""
    if error is None:
        return {"error": "", "detail": ""}
    return {"error": error.label, "detail": str(error)[:_DETAIL]}
