"""Single sends that are recorded, with or without an idempotency key. Each is a batch of campaign 0.

**The key.** The first call with a key commits its batch as *sending* before the request. While the key means that send,
every other call with it finds the batch: settled, under way, or unknown; only a batch that provably was not sent is
claimed again. A settled send keeps its key for a time. A refusal of the account frees it, since it is not about the
message.
"""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from qxt_async import errors
from qxt_async.journal import batches, reconciling, send_records
from qxt_async.journal.records import BatchState, Claim
from qxt_async.journal.rows import message_digest
from qxt_async.journal.send_records import written
from qxt_async.journal.timestamps import CLOCK_LEEWAY
from qxt_async.models import mask, repr_count
from qxt_async.protocol.numbers import canonical
from qxt_async.protocol.texts import segments
from qxt_async.runtime.clocks import boottime

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from qxt_async.journal.database import Database, Transaction
    from qxt_async.journal.send_records import SendRecord
    from qxt_async.models import BatchResult, Message

SENDS: Final = 0
_SECOND: Final = 1_000_000
_LONGEST_KEY: Final = 200


@attrs.frozen
class NumberLimit:
    """How many texts one phone may get.

    Attributes:
        count: texts at most.
        per: seconds.

    Raises:
        InvalidConfigurationError: one of them is not above 0.
    """

    count: int
    per: float

    def __attrs_post_init__(self) -> None:
        if self.count < 1 or not self.per > 0:
            raise errors.InvalidConfigurationError("a NumberLimit has a count of 1 or more, per seconds above 0")


@attrs.frozen(kw_only=True)
class SendRequest:
    """What is to be sent once.

    Attributes:
        key: the idempotency key, ``None`` without one.
        message: the text.
        numbers: valid ones, none twice.
        digest: of the payload, see `digest_of`.
        ttl: seconds for which a settled send keeps its key.
        limits: for each of the numbers.

    Raises:
        InvalidRequestError: the key is no text of 1 to 200 printable characters.
    """

    key: str | None = attrs.field(repr=False)  # a caller may make it of a number
    message: Message
    numbers: tuple[str, ...] = attrs.field(repr=repr_count)
    digest: str = attrs.field(repr=False)
    ttl: float
    limits: Sequence[NumberLimit]

    def __attrs_post_init__(self) -> None:
        if self.key is not None:
            require_key(self.key)


def require_key(key: object) -> None:
    """Raise `InvalidRequestError` if this can be no idempotency key."""
    if not (isinstance(key, str) and 1 <= len(key) <= _LONGEST_KEY and key.isprintable()):
        raise errors.InvalidRequestError(f"idempotency_key: give a str of 1 to {_LONGEST_KEY} printable characters")


@attrs.frozen
class FoundSend:
    """A send that has the key already, and is not to be sent.

    Attributes:
        batch: its batch.
        state: that of the batch.
    """

    batch: int
    state: BatchState


def digest_of(message: Message, numbers: Sequence[str]) -> str:
    """The digest of a payload: the phones in any form and order, the text and how it is sent."""
    phones = ",".join(sorted(map(canonical, numbers)))
    return hashlib.sha256(f"{message_digest(message)} {phones}".encode()).hexdigest()


@attrs.frozen
class Attempt:
    """An attempt to send, which is to be claimed.

    Attributes:
        request: what is sent.
        token: never used before.
        lease: seconds.
        batch: without a key, the batch of an earlier attempt.
    """

    request: SendRequest
    token: str
    lease: float
    batch: int | None


_Refused: TypeAlias = "errors.IdempotencyKeyReusedError | errors.NumberLimitedError"


async def claim(
    transaction: Transaction, attempts: Sequence[Attempt], *, alive: Collection[str]
) -> list[Claim | FoundSend | _Refused]:
    """Take sends, or find that they are not to be sent."""
    requests = [attempt.request for attempt in attempts]
    for key in sorted({request.key for request in requests if request.key is not None}):
        await transaction.lock("lock_for_key", key=key)
    if counted := {canonical(number) for request in requests if request.limits for number in request.numbers}:
        await transaction.lock("lock_for_numbers", numbers=list(counted))
    return [await _claim(transaction, attempt, alive) for attempt in attempts]


async def _claim(transaction: Transaction, asked: Attempt, alive: Collection[str]) -> Claim | FoundSend | _Refused:
    since = boottime()
    request, token, batch = asked.request, asked.token, asked.batch
    attempt = {"token": token, "lease": round(asked.lease * _SECOND)}
    if request.key is not None:
        rows = await _find(transaction, request)
        if rows and rows[0][2] == BatchState.SENDING:
            await transaction.rows("expire_leases", campaign=SENDS, leeway=CLOCK_LEEWAY, alive=list(alive))
            rows = await _find(transaction, request)
        for found, digest, state, old in rows:
            if old and state in (BatchState.ACCEPTED, BatchState.FAILED, BatchState.PLANNED):
                await transaction.change("end_key", batch=found)
            elif digest != request.digest:
                return errors.IdempotencyKeyReusedError(request.key)
            elif state != BatchState.PLANNED:
                return FoundSend(found, BatchState(state))
            elif await _numbers_of(transaction, found) == request.numbers:
                batch = found
            else:
                # Others are suppressed by now. What was not sent stays in the log, and is not sent.
                await transaction.change("end_key", batch=found)
    if request.limits and (limited := await _check_limits(transaction, request)) is not None:
        return limited
    if batch is None:
        batch = await _begin(transaction, request, attempt)
    else:
        await transaction.change("claim_send", batch=batch, **attempt)
    await transaction.insert(
        "count_numbers", [{"batch": batch, "number": canonical(number)} for number in request.numbers]
    )
    return Claim(
        batch=batch,
        campaign=SENDS,
        token=token,
        unsent=0,
        since=since,
        message=request.message,
        numbers=request.numbers,
    )


async def _numbers_of(transaction: Transaction, batch: int) -> tuple[str, ...]:
    ((_, joined),) = await transaction.rows("numbers_of", batches=[batch])
    return tuple(joined.split(","))


async def _find(transaction: Transaction, request: SendRequest) -> list[Any]:
    return await transaction.rows("find_send", key=request.key, ttl=round(request.ttl * _SECOND))


async def _begin(transaction: Transaction, request: SendRequest, attempt: Mapping[str, Any]) -> int:
    """Store a send as *sending*; returns its batch."""
    message = request.message
    ((message_id,),) = await transaction.rows(
        "send_message",
        digest=request.digest,
        text=message.text,
        extno=message.extno,
        addseqno=message.addseqno,
        segments=segments(message.text, addseqno=message.addseqno),
    )
    joined = ",".join(request.numbers)
    ((batch,),) = await transaction.rows(
        "begin_send", message=message_id, count=len(request.numbers), numbers=joined, **attempt
    )
    await transaction.insert(
        "insert_send", [{"batch": batch, "key": request.key, "digest": request.digest, "numbers": joined}]
    )
    return int(batch)


async def _check_limits(transaction: Transaction, request: SendRequest) -> errors.NumberLimitedError | None:
    phones = list(map(canonical, request.numbers))
    longest = max(limit.per for limit in request.limits)
    ages: dict[str, list[int]] = {}
    for phone, age in await transaction.rows("recent_sends", numbers=phones, longest=round(longest * _SECOND)):
        ages.setdefault(phone, []).append(age)
    for phone, recent in ages.items():
        for limit in request.limits:
            window = round(limit.per * _SECOND)
            counted = [age for age in recent if age < window]
            if len(counted) >= limit.count:
                # The newest that has to leave the window; an age below 0 is a clock that was set back.
                wait = window - max(counted[limit.count - 1], 0)
                return errors.NumberLimitedError(mask(phone), limit.count, limit.per, wait / _SECOND)
    return None


async def settle(transaction: Transaction, outcomes: Sequence[tuple[Claim, BatchResult]]) -> list[bool]:
    """Write the outcomes; returns whether each was written."""
    stored = await batches.settle(transaction, outcomes)
    for (claim, result), its in zip(outcomes, stored, strict=True):
        if its and result.failed:
            await transaction.change("uncount_numbers", batch=claim.batch, numbers=list(map(canonical, result.failed)))
        if its and result.error is not None:
            await transaction.change("keep_refusal", batch=claim.batch, refusal=written(result.error))
    return stored


async def release(transaction: Transaction, items: Sequence[tuple[Claim, errors.QxtError | None]]) -> list[bool]:
    """Give sends back that were not sent; if every send would be refused, end them."""
    return [await _release(transaction, claim, error) for claim, error in items]


async def _release(transaction: Transaction, claim: Claim, error: errors.QxtError | None) -> bool:
    phones = list(map(canonical, claim.numbers))
    said = {"batch": claim.batch, "token": claim.token, **batches.said(error)}
    if error is not None and error.concerns_every_batch:
        stored = await transaction.change("give_up", counted=1, **said)
        if stored:
            await transaction.change("keep_refusal", batch=claim.batch, refusal=written(error))
            await transaction.change("end_key", batch=claim.batch)
    else:
        stored = await transaction.change("release_send", **said)
    if stored:
        await transaction.change("uncount_numbers", batch=claim.batch, numbers=phones)
    return bool(stored)


async def undo_claims(transaction: Transaction, tokens: Sequence[str]) -> list[bool]:
    """Give sends back whose claims failed and were committed all the same."""
    return [await _undo_claim(transaction, token) for token in tokens]


async def _undo_claim(transaction: Transaction, token: str) -> bool:
    for (batch,) in await transaction.rows("find_claim", campaign=SENDS, token=token):
        phones = list(map(canonical, await _numbers_of(transaction, batch)))
        await transaction.change("uncount_numbers", batch=batch, numbers=phones)
        await transaction.change("release_send", batch=batch, token=token, **batches.said(None))
        return True
    return False


class SendStore:
    """The operations on single sends.

    Args:
        database: where they are recorded.

    Attributes:
        lease_margin: seconds beyond the client's timeout for which an attempt is taken to be alive. For so long after a
            crash, calls with the key are told that the send is under way, and then that it is unknown.
        alive: tokens of the attempts that run in this process.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.lease_margin = 15.0
        self.alive: set[str] = set()
        self._claim = partial(claim, alive=self.alive)

    async def claim(
        self, request: SendRequest, *, token: str, lease: float, batch: int | None = None
    ) -> Claim | FoundSend:
        """Take a send: committed as *sending* when this returns; or find the one that has its key.

        Args:
            request: what to send.
            token: of the attempt, never used before.
            lease: seconds after which the attempt counts as dead.
            batch: without a key, the batch of an earlier attempt of the same call.

        Raises:
            IdempotencyKeyReusedError: the key means another payload.
            NumberLimitedError: a phone has got enough texts.
            JournalUnavailableError: do not send.
        """
        # Sends that are counted for a phone wait for each other, and no others for them.
        work = partial(claim, alive=self.alive) if request.limits else self._claim
        claimed = await self._database.write_together(work, Attempt(request, token, lease, batch))
        if isinstance(claimed, errors.QxtError):
            raise claimed
        return claimed

    async def settle(self, claim: Claim, result: BatchResult) -> bool:
        """Write the outcome of a claimed send. Returns whether it was written: not if it has another one already."""
        return await self._database.write_together(settle, (claim, result))

    async def release(self, claim: Claim, error: errors.QxtError | None) -> bool:
        """Give a send back: nothing was sent. If the account is refused, it has failed, and its key is free."""
        return await self._database.write_together(release, (claim, error))

    async def undo_claim(self, token: str) -> bool:
        """Give a send back after a claim that failed and may have been committed all the same."""
        return await self._database.write_together(undo_claims, token)

    async def reconcile(self) -> None:
        """Set sends whose lease has run out to unknown, and bind what is unknown to the mids of new reports.

        The rule is in `journal.evidence`.
        """
        expire = partial(batches.expire_leases, campaign=SENDS, alive=self.alive)
        await self._database.write(expire)
        await reconciling.reconcile(self._database, SENDS, None)

    async def find(self, batch: int) -> SendRecord:
        """One send."""
        (found,) = await self.list(after=batch - 1, limit=1, where="TRUE")
        return found

    async def list(self, *, after: int, limit: int, where: str, **values: Any) -> list[SendRecord]:
        """The sends behind a cursor that fulfil a condition."""
        return await self._database.read(partial(send_records.read, after=after, limit=limit, where=where, **values))
