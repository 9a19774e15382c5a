"""Claims of batches, and their outcomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from qxt_async.journal.outcomes import in_doubt, outcomes_by_number
from qxt_async.journal.records import PAUSE_AFTER_TEST, BatchState, CampaignState, Claim, NumberState
from qxt_async.journal.states import pause_from, reopen
from qxt_async.journal.timestamps import CLOCK_LEEWAY
from qxt_async.models import Message
from qxt_async.protocol.numbers import canonical
from qxt_async.runtime.clocks import boottime

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from qxt_async.errors import QxtError
    from qxt_async.journal.database import Transaction
    from qxt_async.models import BatchResult

_SECOND: Final = 1_000_000
_DETAIL: Final = 300
_TEST_EXPIRED: Final = "the test batch may have been sent: the process that sent it never said what became of it"
_TEST_OPTED_OUT: Final = "the test batch was not sent: all of its numbers are on the suppression list"


async def claim(
    transaction: Transaction,
    campaign: int,
    *,
    token: str,
    lease: float,
    account: str | None = None,
    unlimited: str | None = None,
    **at: Any,
) -> Claim | None:
    """Take the next planned batch of a running campaign.

    Args:
        transaction: in which.
        campaign: which.
        token: of the attempt.
        lease: seconds.
        account: who sends it.
        unlimited: take nothing if this account has limits.
        at: ``now``, if the request begins at another time than now.
    """
    since = boottime()
    await transaction.lock("lock_for_claim", shared=True, campaign=campaign)
    while True:
        rows = await transaction.rows(
            "claim",
            campaign=campaign,
            token=token,
            account=account,
            unlimited=unlimited,
            lease=round(lease * _SECOND),
            leeway=CLOCK_LEEWAY,
            **at,
        )
        if not rows:
            return None
        ((claimed, unsent, doubtful, test, joined, text, extno, addseqno, somebody_opted_out),) = rows
        numbers = tuple(joined.split(","))
        out: frozenset[str] = frozenset()
        if somebody_opted_out:
            out = await _leave_out(transaction, claimed, numbers, doubtful=bool(doubtful))
            if len(out) == len(numbers):
                if test:
                    await pause_from(transaction, campaign, CampaignState.RUNNING, _TEST_OPTED_OUT)
                continue
        return Claim(
            batch=claimed,
            campaign=campaign,
            token=token,
            unsent=unsent,
            since=since,
            doubtful=bool(doubtful),
            message=Message(text, extno=extno, addseqno=bool(addseqno)),
            numbers=tuple(number for number in numbers if number not in out) if out else numbers,
            suppressed=tuple(out),
            test=test,
        )


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


async def settle(transaction: Transaction, claim: Claim, result: BatchResult) -> bool:
    """Write the outcome of a claimed batch; returns whether it was written."""
    refused = not (result.accepted or result.unknown)
    result = in_doubt(result) if claim.doubtful else result
    state, exceptions = outcomes_by_number(result)
    rows = await transaction.rows(
        "settle",
        batch=claim.batch,
        token=claim.token,
        state=state,
        mid=result.mid,
        accepted=len(result.accepted),
        failed=len(result.failed),
        **said(result.error),
    )
    mids = [acceptance.mid for acceptance in result.acceptances]
    if not rows:
        await transaction.change("know_mids", mids=mids)
        return False
    ((successor, matters),) = rows
    if successor and state is not BatchState.UNKNOWN and await take_back(transaction, claim.batch):
        await transaction.change("recount", batch=claim.batch, accepted=len(result.accepted), failed=len(result.failed))
        successor = None
    if successor:
        await transaction.change("know_mids", mids=mids)
    elif exceptions:
        await put_exceptions(transaction, claim.batch, exceptions)
    if matters or len(result.acceptances) > 1:
        await transaction.change("match_again", batch=claim.batch)
    if claim.doubtful and refused:
        await _fall_back(transaction, claim.batch)
    if claim.test:
        await _end_test(transaction, claim, result)
    return True


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


async def release(
    transaction: Transaction, claim: Claim, error: QxtError | None, *, delay: float, attempts: int | None
) -> bool:
    """Plan a claimed batch again that was not sent; returns whether its outcome was written."""
    values = {
        "batch": claim.batch,
        "token": claim.token,
        "delay": round(delay * _SECOND),
        "counted": 0 if attempts is None else 1,
        **said(error),
    }
    if attempts is not None and claim.unsent + 1 >= attempts:
        return await _give_up(transaction, claim, values)
    # Not while the campaign is being cancelled or done: the later of the two has to see the earlier one.
    await transaction.lock("lock_for_claim", shared=True, campaign=claim.campaign)
    back = bool(await transaction.change("release", **values))
    if back:
        if claim.suppressed:
            await transaction.change("forget_exceptions", batch=claim.batch)
        await reopen(transaction, claim.campaign)
    if claim.doubtful:
        await drop_second_attempts(transaction, claim.campaign)
    # Somebody has planned it again while this attempt counted as dead: do not send it twice.
    return back or await _give_up(transaction, claim, values)


async def undo_claim(transaction: Transaction, campaign: int, token: str) -> bool:
    """Plan a batch again whose claim failed and was committed all the same; returns whether there was one."""
    await transaction.lock("lock_for_claim", shared=True, campaign=campaign)
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
