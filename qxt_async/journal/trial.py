"""The test batch of a campaign: a batch like any other that is sent before the others, once.

While it is planned or being sent, no other batch of the campaign is claimed. If it is not accepted, or if somebody
wants to look at the phone first, the transaction that stores its outcome also pauses the campaign.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from qxt_async.journal.batches import put_exceptions
from qxt_async.journal.planning import insert_batches
from qxt_async.journal.records import PAUSE_AFTER_TEST, TEST, BatchState
from qxt_async.journal.states import hold_state, log_event
from qxt_async.protocol.numbers import canonical

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qxt_async.journal.database import Transaction

# The forms in which a number may stand in a batch, by what comes before its canonical form.
_PREFIXES: Final = ("", "86", "0086")


async def plan_test(
    transaction: Transaction, campaign: int, *, numbers: Sequence[str], pause_after: bool, actor: str
) -> int:
    """Plan the test; returns how many numbers it has, 0 if there is nothing to do."""
    found = await hold_state(transaction, campaign)
    ((made, refused),) = await transaction.rows("has_test", campaign=campaign)
    if (made and not refused) or not found.planned:
        return 0
    testers = {canonical(number): number for number in numbers}
    ((first,),) = await transaction.rows("first_message", campaign=campaign)
    # By message, and whether the numbers are in a batch that failed.
    texts: defaultdict[tuple[int, bool], list[str]] = defaultdict(list)
    failed: dict[str, int] = {}
    for batch, message, number, state in await _places(transaction, campaign, testers):
        del testers[canonical(number)]
        if state == BatchState.PLANNED and not made:
            await transaction.change("leave_out", batch=batch)
            await transaction.change("leave_out_number", batch=batch, number=number)
        elif state == BatchState.FAILED:
            await transaction.change("supersede_number", batch=batch)
            failed[number] = batch
        else:
            continue  # it has the text, or may have it, or others were tested
        texts[message, number in failed].append(number)
    if testers and not made:
        texts[first, False].extend(testers.values())
    test = PAUSE_AFTER_TEST if pause_after else TEST
    for (message, resend), some in texts.items():
        (key,) = await insert_batches(transaction, campaign, [(message, some)], resend=resend, test=test)
        for number in some if resend else ():
            await put_exceptions(transaction, failed[number], [(number, "superseded", None, key)])
    planned = sum(map(len, texts.values()))
    if planned:
        await transaction.change("recount_plan", campaign=campaign)
        await log_event(transaction, campaign, "test-planned", actor=actor, count=planned)
    return planned


async def _places(transaction: Transaction, campaign: int, testers: dict[str, str]) -> list[tuple[int, int, str, str]]:
    """Where testers are in the campaign already: batch, message, the form of the number there, its state."""
    forms = [prefix + number for number in testers for prefix in _PREFIXES]
    rows = await transaction.rows("batches_with", campaign=campaign, numbers=forms)
    others: dict[tuple[int, str], str | None] = {
        (batch, number): state
        for batch, number, state, _ in await transaction.rows("exceptions_of", batches=[row[0] for row in rows])
    }
    found: dict[str, tuple[int, int, str, str]] = {}
    for batch, message, own_state, joined, again, test in rows:
        for number in joined.split(","):
            state = others.get((batch, number), own_state)
            # The successor of a batch has all of its numbers but those that differ from it.
            if canonical(number) in testers and state is not None and state != "superseded":
                # Batches of a test that failed are planned again, other numbers that failed are not; a second attempt
                # belongs to the first one.
                refused = test and own_state == BatchState.FAILED
                kept = (state == BatchState.FAILED and not refused) or (state == BatchState.PLANNED and again)
                found[canonical(number)] = (batch, message, number, "" if kept else state)
    return list(found.values())
