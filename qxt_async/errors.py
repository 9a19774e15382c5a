"""What can go wrong, as one tree.

::

    QxtError
     ├── InvalidRequestError (ValueError)     the caller's fault, raised before any I/O
     │    ├── InvalidNumberError              one number is not a mobile number
     │    ├── NoValidNumberError              nothing left to send to
     │    ├── TooManyNumbersError             more than one request may carry
     │    ├── InvalidTextError                empty, or not encodable in GBK
     │    ├── InvalidExtnoError               not digits, or too long
     │    ├── UrlTooLongError                 a GET that servers would cut
     │    ├── SourceFileError                 a file of numbers that cannot be read
     │    ├── WrongEventLoopError (RuntimeError)   a client belongs to the event loop that used it first
     │    └── InvalidConfigurationError       an account or an option that cannot work
     ├── InsufficientBalanceError             the balance was asked for and does not suffice
     ├── RefusedError                         the gateway said no: definite, nothing was taken
     │    ├── AccountRefusedError             every batch would meet it; a bulk send stops
     │    │    ├── AuthenticationError
     │    │    │    ├── EmptyUserError        PROTOCOL 2.1 n. 1
     │    │    │    ├── UnknownUserError      n. 6
     │    │    │    └── WrongPasswordError    n. 7
     │    │    └── ExtnoRefusedError          n. 2
     │    ├── AddressRefusedError             HTTP 4xx: what answers there takes no sends
     │    ├── NoNumbersRefusedError           n. 3
     │    ├── NoTextRefusedError              n. 4
     │    ├── TooFewNumbersRefusedError       n. 8
     │    ├── NumberCountRefusedError         n. 9
     │    ├── RequestTooLargeError            HTTP 413, 414
     │    ├── SubmitFailedError               ``fail:CODE:…``
     │    └── UnknownRefusalError             a description that nobody documents
     ├── NotSentError                         provably never left: nothing was taken
     │    └── ThrottledError                  HTTP 429
     ├── OutcomeUnknownError                  it may have arrived: never repeated by itself
     │    ├── DeadlineExceededError
     │    ├── ConnectionBrokenError
     │    ├── UnexpectedStatusError           a redirect, a 5xx
     │    │    └── ForbiddenError             HTTP 403; every batch would meet it: a bulk send stops
     │    ├── UnreadableAnswerError           nobody understands the answer
     │    ├── ForeignAnswerError              the answer is another request's, or out of a cache
     │    ├── PartialAnswerError              no line mentions some of the numbers
     │    └── CancelledInFlightError          the caller went away while it was under way
     ├── JournalError                         what must survive a crash cannot be kept or read
     │    ├── JournalBusyError                too much waits to be written: nothing was, come back later
     │    ├── JournalClosedError              not opened yet, or closed
     │    ├── JournalSchemaError              not a journal, or one of a newer version
     │    └── JournalUnavailableError         disk full, locked, read-only, damaged
     ├── CampaignError                        a campaign cannot do what was asked of it
     │    ├── CampaignNotFoundError           the journal has none of this id
     │    ├── CampaignStateError              not in its present state
     │    └── ConfirmationRequiredError       sending again costs money: look at the counts and confirm them
     ├── DeliveryTimeoutError                 no status report came in time
     ├── SourceFailedError                    the caller's iterable raised; carries what was sent
     ├── CallbackFailedError                  the caller's callback raised; carries what was sent
     └── BulkFailedError                      from ``BulkResult.raise_for_failures()``

Every error pickles, names numbers only masked, and never contains a text, a password or its digest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qxt_async.models import BatchResult, BulkResult
    from qxt_async.protocol.texts import BadCharacter

__all__ = [
    "AccountRefusedError",
    "AddressRefusedError",
    "AuthenticationError",
    "BulkFailedError",
    "CallbackFailedError",
    "CampaignError",
    "CampaignNotFoundError",
    "CampaignStateError",
    "CancelledInFlightError",
    "ConfirmationRequiredError",
    "ConnectionBrokenError",
    "DeadlineExceededError",
    "DeliveryTimeoutError",
    "EmptyUserError",
    "ExtnoRefusedError",
    "ForbiddenError",
    "ForeignAnswerError",
    "InsufficientBalanceError",
    "InvalidConfigurationError",
    "InvalidExtnoError",
    "InvalidNumberError",
    "InvalidRequestError",
    "InvalidTextError",
    "JournalBusyError",
    "JournalClosedError",
    "JournalError",
    "JournalSchemaError",
    "JournalUnavailableError",
    "NoNumbersRefusedError",
    "NoTextRefusedError",
    "NoValidNumberError",
    "NotSentError",
    "NumberCountRefusedError",
    "OutcomeUnknownError",
    "PartialAnswerError",
    "QxtError",
    "RefusedError",
    "RequestTooLargeError",
    "SourceFailedError",
    "SourceFileError",
    "SubmitFailedError",
    "ThrottledError",
    "TooFewNumbersRefusedError",
    "TooManyNumbersError",
    "UnexpectedStatusError",
    "UnknownRefusalError",
    "UnknownUserError",
    "UnreadableAnswerError",
    "UrlTooLongError",
    "WrongEventLoopError",
    "WrongPasswordError",
]


def _rebuild(cls: type[QxtError], args: tuple[Any, ...]) -> QxtError:
    error = cls.__new__(cls)
    error.args = args
    return error


class QxtError(Exception):
    """The base of all errors of this library.

    Attributes:
        result: what was settled before the error, where a call had several numbers: a `BatchResult` from `send`,
            a `BulkResult` from `send_bulk` (`stream_bulk` has handed its batches out already), else ``None``.
        concerns_every_batch: whether every other batch would meet it too: a bulk send stops at once, a campaign is
            paused.
    """

    result: BatchResult | BulkResult | None = None
    concerns_every_batch: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own way calls cls(*args), which fails for every class with other arguments than its message.
        # The state goes last, where pickle allows the cycle of an error and the result that it is part of.
        return _rebuild, (type(self), self.args), self.__dict__


# --- the caller's fault ------------------------------------------------------------------------------------------


class InvalidRequestError(QxtError, ValueError):
    """The request cannot be sent as it is. Nothing was sent; the message says what to change."""


class InvalidNumberError(InvalidRequestError):
    """A number is not a mobile number of the wanted pattern.

    Attributes:
        masked: the number as it may be shown.
        reason: what is wrong with it.
    """

    def __init__(self, masked_number: str, reason: str) -> None:
        super().__init__(f"{masked_number!r} is not a mobile number: {reason}")
        self.masked_number = masked_number
        self.reason = reason


class NoValidNumberError(InvalidRequestError):
    """After leaving out invalid, repeated and suppressed numbers nothing is left to send to."""


class TooManyNumbersError(InvalidRequestError):
    """One request carries at most 1000 numbers (PROTOCOL 1). Use `QxtClient.send_bulk`."""

    def __init__(self, count: int, limit: int) -> None:
        super().__init__(
            f"{count} numbers in one request, at most {limit} are allowed: use send_bulk(), which splits them"
        )
        self.count = count
        self.limit = limit


class InvalidTextError(InvalidRequestError):
    """The text is empty or has characters that the gateway's GBK cannot carry (PROTOCOL 1.3).

    Attributes:
        characters: the offending characters, each a `texts.BadCharacter` with its position.
    """

    def __init__(self, message: str, characters: Sequence[BadCharacter] = ()) -> None:
        super().__init__(message)
        self.characters = tuple(characters)


class InvalidExtnoError(InvalidRequestError):
    """The extension number is not digits or, with the channel's own, longer than 20 (PROTOCOL 1)."""


class UrlTooLongError(InvalidRequestError):
    """A GET request would have a longer URL than servers accept (PROTOCOL 1.1).

    Attributes:
        length: bytes of the URL.
        limit: bytes allowed.
        fits: how many of the numbers would fit.
    """

    def __init__(self, length: int, limit: int, fits: int) -> None:
        advice = f"or at most {fits} numbers a batch" if fits > 0 else "the text alone is too long for a URL"
        super().__init__(
            f"the URL would be {length} bytes long, servers accept about {limit}: use method='POST' ({advice})"
        )
        self.length = length
        self.limit = limit
        self.fits = fits


class InvalidConfigurationError(InvalidRequestError):
    """An account, an address or an option that cannot work; the message says which and how to set it."""


class WrongEventLoopError(InvalidRequestError, RuntimeError):
    """A client was used in another event loop than before, where its connections cannot work. Nothing was sent."""


class SourceFileError(InvalidRequestError):
    """A file of numbers cannot be opened, decoded or understood.

    Attributes:
        file: the path as given.
        line: where, from 1; ``None`` if it is about the whole file.
        reason: what is wrong with it.
    """

    def __init__(self, file: str, line: int | None, reason: str) -> None:
        place = "" if line is None else f", line {line}"
        super().__init__(f"{file}{place}: {reason}")
        self.file = file
        self.line = line
        self.reason = reason


class InsufficientBalanceError(QxtError):
    """The balance does not cover the send; nothing was sent (PROTOCOL 2.2).

    Attributes:
        needed: credits, one a segment and number.
        available: credits that the gateway reported.
    """

    def __init__(self, needed: int, available: int) -> None:
        super().__init__(f"{needed} credits are needed and {available} are available: nothing was sent")
        self.needed = needed
        self.available = available


# --- the gateway refused: definite -----------------------------------------------------------------------------


class RefusedError(QxtError):
    """The gateway refused; nothing was taken.

    Attributes:
        description: the gateway's own words (cut to 200 characters).
    """

    advice = "the gateway refused"

    def __init__(self, description: str) -> None:
        super().__init__(f"{self.advice} (gateway: {description!r})")
        self.description = description


class AccountRefusedError(RefusedError):
    """A refusal that every other batch of this account would meet too; a bulk send stops at once."""

    advice = "the gateway refuses this account's requests"
    concerns_every_batch = True


class AuthenticationError(AccountRefusedError):
    """User name or password are not accepted."""

    advice = "the gateway does not accept the user name or the password"


class EmptyUserError(AuthenticationError):
    """PROTOCOL 2.1, description 1 (``用户名或密码错误``)."""

    advice = "the gateway saw no user name: set user, or QXT_USER"


class UnknownUserError(AuthenticationError):
    """PROTOCOL 2.1, description 6 (``无此用户或者密码不对1``)."""

    advice = "the gateway does not know this user: check the user name and the address"


class WrongPasswordError(AuthenticationError):
    """PROTOCOL 2.1, description 7 (``无此用户或者密码不对``)."""

    advice = "the gateway does not accept the password (sent as its lowercase md5): check it"


class ExtnoRefusedError(AccountRefusedError):
    """PROTOCOL 2.1, description 2 (``扩展号码错误``)."""

    advice = "the channel does not allow this extension number: leave extno out or ask for the channel's rules"


class AddressRefusedError(RefusedError):
    """HTTP 400, 401, 404, 405 or 411: what answers at the address does not take the request.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, status: int) -> None:
        self.advice = (
            f"HTTP {status}: the server at base_url does not take this request; check base_url (it ends in /qxt "
            "on most deployments) and what stands between"
        )
        super().__init__(f"HTTP {status}")
        self.status = status


class NoNumbersRefusedError(RefusedError):
    """PROTOCOL 2.1, description 3 (``number``)."""

    advice = "the gateway saw no numbers in the request"


class NoTextRefusedError(RefusedError):
    """PROTOCOL 2.1, description 4 (``smg``)."""

    advice = "the gateway saw no text in the request"


class TooFewNumbersRefusedError(RefusedError):
    """PROTOCOL 2.1, description 8: the channel wants at least 10 numbers in a request."""

    advice = "this channel takes no batch of fewer than 10 numbers: send more numbers at once"


class NumberCountRefusedError(RefusedError):
    """PROTOCOL 2.1, description 9: no numbers, or more than 1000."""

    advice = "the gateway saw no numbers or too many: lower batch_size"


class RequestTooLargeError(RefusedError):
    """HTTP 413 or 414: lower `batch_size`, or use POST.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, status: int) -> None:
        self.advice = f"HTTP {status}: the request is too large for this server; lower batch_size or use POST"
        super().__init__(f"HTTP {status}")
        self.status = status


class SubmitFailedError(RefusedError):
    """The gateway answered ``fail:CODE:…`` (PROTOCOL 2); 999 is a system error.

    Attributes:
        codes: the distinct codes in the order of the answer.
        count: how many numbers they concern.
    """

    def __init__(self, codes: tuple[str, ...], count: int) -> None:
        self.advice = f"the gateway failed to take {count} number{'s' if count != 1 else ''}"
        super().__init__("fail:" + ",".join(codes))
        self.codes = codes
        self.count = count


class UnknownRefusalError(RefusedError):
    """``error:`` with a description that is not documented; its words are kept in `description`."""

    advice = "the gateway refused for a reason that its document does not list"


# --- never left ---------------------------------------------------------------------------------------------------


class NotSentError(QxtError):
    """The request provably never left this machine, or the gateway asked to come later. Sending again is safe.

    Attributes:
        reason: what stopped it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"not sent: {reason}")
        self.reason = reason


class ThrottledError(NotSentError):
    """HTTP 429: the server took nothing and asks to come later.

    Attributes:
        status: the HTTP status.
        retry_after: seconds it asked for, ``None`` if it did not say.
    """

    def __init__(self, status: int, retry_after: float | None) -> None:
        wait = "" if retry_after is None else f" in {retry_after:g} s"
        super().__init__(f"HTTP {status}: the server asks to come back later{wait}")
        self.status = status
        self.retry_after = retry_after


# --- may have arrived -----------------------------------------------------------------------------------------------


class OutcomeUnknownError(QxtError):
    """The request may have arrived. It is never repeated by itself: people could get the text twice (PROTOCOL 2.3).

    Attributes:
        reason: what happened.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"outcome unknown, not sent again: {reason}")
        self.reason = reason


class DeadlineExceededError(OutcomeUnknownError):
    """The total deadline ran out after the body had begun to leave."""


class ConnectionBrokenError(OutcomeUnknownError):
    """The connection was reset or closed, or the answer cut, after the body had begun to leave."""


class UnexpectedStatusError(OutcomeUnknownError):
    """A redirect (never followed), a 5xx, or another status that does not say whether it was taken.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, status: int, kind: str = "") -> None:
        usual = "a redirect, which is never followed" if 300 <= status < 400 else "not an answer of the gateway"
        super().__init__(f"HTTP {status}: {kind or usual}")
        self.status = status


class ForbiddenError(UnexpectedStatusError):
    """HTTP 403. A filter in front of the gateway says so, or one that holds back the gateway's answer.

    Every other batch would meet it too: a bulk send stops at once, a campaign is paused.
    """

    concerns_every_batch = True

    def __init__(self) -> None:
        super().__init__(403, "forbidden, before or after the gateway took it; check base_url and what stands between")


class UnreadableAnswerError(OutcomeUnknownError):
    """The answer is in no form that the protocol knows, or too large.

    Attributes:
        answer: its beginning, with digits of numbers masked.
    """

    def __init__(self, reason: str, answer: str = "") -> None:
        super().__init__(f"{reason}: {answer!r}" if answer else reason)
        self.answer = answer


class ForeignAnswerError(OutcomeUnknownError):
    """The answer is another request's: it speaks of numbers that this one did not send, or a cache had kept it."""


class PartialAnswerError(OutcomeUnknownError):
    """The answer does not mention some of the numbers, or contradicts itself about them.

    Attributes:
        count: how many numbers.
    """

    def __init__(self, count: int) -> None:
        super().__init__(f"the answer does not say what became of {count} number{'s' if count != 1 else ''}")
        self.count = count


class CancelledInFlightError(OutcomeUnknownError):
    """The call was cancelled after the body had begun to leave and before the answer was there."""


# --- of the journal and what comes back ---------------------------------------------------------------------------


class JournalError(QxtError):
    """What must survive a crash cannot be kept or read."""


class JournalBusyError(JournalError):
    """More waits to be written than the journal holds in memory. Nothing of this call was written; come back later."""


class JournalClosedError(JournalError):
    """The journal was not opened yet, or is closed: use ``async with open_journal(…)``."""


class JournalSchemaError(JournalError):
    """The database is not a journal, or a newer version of this library wrote it.

    Attributes:
        found: the schema's version, ``None`` if it has none.
        known: the newest that this version knows.
    """

    def __init__(self, message: str, found: int | None, known: int) -> None:
        super().__init__(message)
        self.found = found
        self.known = known


class JournalUnavailableError(JournalError):
    """The database refused: disk full, locked by another process, read-only, damaged. ``__cause__`` says more.

    When it comes from writing, nothing of that call was written; only where the connection to a server was lost during
    the commit itself, nobody can say.
    """


# --- of a campaign ------------------------------------------------------------------------------------------------


class CampaignError(QxtError):
    """A campaign cannot do what was asked of it."""


class CampaignNotFoundError(CampaignError):
    """The journal has no campaign of this id.

    Attributes:
        campaign: the id.
    """

    def __init__(self, campaign: int) -> None:
        super().__init__(f"there is no campaign {campaign} in this journal")
        self.campaign = campaign


class CampaignStateError(CampaignError):
    """The campaign's state does not allow it.

    Attributes:
        campaign: the id.
        state: the state.
    """

    def __init__(self, campaign: int, state: str, advice: str) -> None:
        super().__init__(f"campaign {campaign} is {state}: {advice}")
        self.campaign = campaign
        self.state = state


class ConfirmationRequiredError(CampaignError):
    """What may reach people twice is sent again only if somebody has seen how many and said so.

    Attributes:
        numbers: how many numbers would be sent again.
        credits: messages that would be billed, once more.
    """

    def __init__(self, numbers: int, credits_: int) -> None:
        super().__init__(f"{numbers} numbers would be sent again for {credits_} credits: confirm that")
        self.numbers = numbers
        self.credits = credits_


# --- of deliveries ------------------------------------------------------------------------------------------------


class DeliveryTimeoutError(QxtError):
    """No status report with a final state came in time. The message may still be delivered.

    Attributes:
        mid: the message id.
        masked: the phone as it may be shown.
        timeout: seconds waited.
    """

    def __init__(self, mid: str, masked_number: str, timeout: float) -> None:
        super().__init__(f"no status report for mid {mid}, {masked_number}, within {timeout:g} s: it may still come")
        self.mid = mid
        self.masked_number = masked_number
        self.timeout = timeout


# --- of a bulk send -----------------------------------------------------------------------------------------------


class SourceFailedError(QxtError):
    """The iterable of numbers raised; what was sent before is in `result`, the cause in ``__cause__``."""

    def __init__(self, cause: str) -> None:
        super().__init__(f"the source of numbers failed with {cause}; what was sent before is in .result")


class CallbackFailedError(QxtError):
    """`on_result` or `on_progress` raised; what was sent before is in `result`, the cause in ``__cause__``."""

    def __init__(self, cause: str) -> None:
        super().__init__(f"a callback failed with {cause}; what was sent before is in .result")


class BulkFailedError(QxtError):
    """Some numbers of a bulk send failed or are unknown.

    Attributes:
        failed: how many numbers failed.
        unknown: how many are unknown.
    """

    def __init__(self, failed: int, unknown: int) -> None:
        super().__init__(f"{failed} numbers failed and {unknown} are unknown; .result has them")
        self.failed = failed
        self.unknown = unknown
