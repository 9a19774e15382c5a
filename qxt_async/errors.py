"""The errors of this library, as one tree.

::

    QxtError
     ├── InvalidRequestError (ValueError)     the caller's mistake, raised before any I/O
     │    ├── InvalidNumberError              not a mobile number
     │    ├── NoValidNumberError              no number is left to send to
     │    ├── RequestTooLargeError            too many numbers for one request, or too long for a URL
     │    ├── InvalidTextError                empty, or not encodable in GBK
     │    ├── InvalidExtnoError               an extension number that is not digits, or too long
     │    ├── SourceFileError                 a file of numbers that cannot be read
     │    ├── IdempotencyKeyReusedError       the key belongs to another send
     │    ├── InvalidConfigurationError       an account, an address or an option that cannot work
     │    └── ClientStateError (RuntimeError)   the client is closed, or belongs to another event loop
     ├── SendInProgressError                  another call with the idempotency key is still sending
     ├── NumberLimitedError                   a phone has got as many texts as it may
     ├── InsufficientBalanceError             the balance does not cover the send
     ├── RefusedError                         refused, with a `code`: nothing was accepted
     │    ├── AccountRefusedError             every batch of the account would be refused: a bulk send stops
     │    │    └── AuthenticationError        wrong user name or password
     │    └── SubmitFailedError               ``fail:CODE:…``
     ├── NotSentError                         certainly not sent; sending again is safe
     │    └── ThrottledError                  HTTP 429
     ├── OutcomeUnknownError                  the gateway may have accepted it; never sent again automatically
     │    ├── DeadlineExceededError (TimeoutError)
     │    ├── ConnectionBrokenError (ConnectionError)
     │    ├── UnexpectedStatusError           a redirect, 403, 5xx
     │    ├── UnusableAnswerError             not of the protocol, too large, or another request's
     │    └── PartialAnswerError              the answer does not mention some numbers
     ├── JournalError                         the journal cannot store or read
     │    ├── JournalBusyError                too many writes are waiting: try again later
     │    ├── JournalClosedError (RuntimeError)   not open yet, or closed
     │    ├── JournalSchemaError              not a journal, or written by a newer version
     │    └── JournalUnavailableError         disk full, locked, read-only, damaged, connection lost
     ├── CampaignError                        a campaign cannot do what was requested
     │    ├── CampaignNotFoundError           the journal has no campaign of this id
     │    ├── CampaignStateError              the campaign's state does not allow it
     │    └── ConfirmationRequiredError       sending again costs money and has to be confirmed
     ├── DeliveryTimeoutError (TimeoutError)   no status report came in time
     ├── BulkStoppedError                     the source of numbers or a callback raised during a bulk send
     └── BulkFailedError                      from ``BulkResult.raise_for_failures()``

Every error can be pickled. No message contains a text, a password, a digest or a whole phone number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qxt_async.models import BatchResult, BulkResult
    from qxt_async.protocol.texts import BadCharacter


def _rebuild(cls: type[QxtError], args: tuple[Any, ...]) -> QxtError:
    error = cls.__new__(cls)
    error.args = args
    return error


class QxtError(Exception):
    """The base of all errors of this library.

    Attributes:
        result: the outcome of a call with several numbers: a `BatchResult` from `send`, a `BulkResult` from
            `send_bulk`, otherwise ``None``.
        concerns_every_batch: whether every other batch would get the same error. A bulk send stops then, and a
            campaign is paused.
    """

    result: BatchResult | BulkResult | None = None
    concerns_every_batch: bool = False

    @property
    def label(self) -> str:
        """A stable word for journals, exports and reports: the code of a refusal, otherwise the name of the class."""
        return type(self).__name__

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls cls(*args), which fails for a class whose arguments are not its message. The state comes
        # last, so that pickle can restore an error and a result that refer to each other.
        return _rebuild, (type(self), self.args), self.__dict__


class InvalidRequestError(QxtError, ValueError):
    """The request cannot be sent as it is. Nothing was sent; the message says what to change."""


class InvalidNumberError(InvalidRequestError):
    """`masked_number` is not a mobile number of the required pattern; `reason` says what is wrong with it."""

    def __init__(self, masked_number: str, reason: str) -> None:
        super().__init__(f"{masked_number!r} is not a mobile number: {reason}")
        self.masked_number = masked_number
        self.reason = reason


class NoValidNumberError(InvalidRequestError):
    """No number is left to send to, without the invalid, repeated and suppressed ones."""


class RequestTooLargeError(InvalidRequestError):
    """One request cannot carry that much: at most 1000 numbers, and for GET about 8,000 bytes (PROTOCOL 1, 1.1).

    `size` and `limit` count numbers, or bytes of the URL. `fits` of the numbers fit; 0 if the text alone is too long.
    """

    def __init__(self, message: str, size: int, limit: int, fits: int) -> None:
        super().__init__(message)
        self.size = size
        self.limit = limit
        self.fits = fits


class InvalidTextError(InvalidRequestError):
    """The text is empty, or has characters that GBK, the gateway's encoding, does not have (PROTOCOL 1.3).

    `characters` has each such character with its position, as `protocol.BadCharacter`.
    """

    def __init__(self, message: str, characters: Sequence[BadCharacter] = ()) -> None:
        super().__init__(message)
        self.characters = tuple(characters)


class InvalidExtnoError(InvalidRequestError):
    """The extension number is not digits, or is longer than 20 together with the channel's own (PROTOCOL 1)."""


class InvalidConfigurationError(InvalidRequestError):
    """An account, an address or an option cannot work; the message says which one and how to set it."""


class ClientStateError(InvalidRequestError, RuntimeError):
    """The client is closed, or was first used in another event loop, where its connections are. Nothing was sent."""


class SourceFileError(InvalidRequestError):
    """A file of numbers cannot be opened, decoded or understood.

    `file` is the path as given, `line` counts from 1 (``None``: the whole file), `reason` says what is wrong.
    """

    def __init__(self, file: str, line: int | None, reason: str) -> None:
        place = "" if line is None else f", line {line}"
        super().__init__(f"{file}{place}: {reason}")
        self.file = file
        self.line = line
        self.reason = reason


class IdempotencyKeyReusedError(InvalidRequestError):
    """The idempotency key `key` belongs to a send of another text or to other numbers. Nothing was sent."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the idempotency key {key!r} was used for another text or other numbers: nothing was sent")
        self.key = key


class SendInProgressError(QxtError):
    """Another call with the idempotency key `key` is sending, and did not end in time. This call sent nothing."""

    def __init__(self, key: str) -> None:
        super().__init__(f"another call with the idempotency key {key!r} is still sending: ask again later")
        self.key = key


class NumberLimitedError(QxtError):
    """A phone, `masked_number`, has got as many texts as a `NumberLimit` allows. Nothing was sent.

    It may get another text after `retry_after` seconds.
    """

    def __init__(self, masked_number: str, count: int, per: float, retry_after: float) -> None:
        texts = "text" if count == 1 else "texts"
        super().__init__(
            f"{masked_number} got {count} {texts} within {per:g} s: nothing was sent, try again in {retry_after:.0f} s"
        )
        self.masked_number = masked_number
        self.retry_after = retry_after


class InsufficientBalanceError(QxtError):
    """The balance does not cover the send; nothing was sent (PROTOCOL 2.2).

    `needed` and `available` are credits; one is needed for each segment and number.
    """

    def __init__(self, needed: int, available: int) -> None:
        super().__init__(f"{needed} credits are needed and {available} are available: nothing was sent")
        self.needed = needed
        self.available = available


class RefusedError(QxtError):
    """The gateway, or a server in front of it, refused the request. Nothing was accepted.

    Attributes:
        code: a stable word for the reason. From the gateway's description (PROTOCOL 2.1): ``no-user``,
            ``unknown-user``, ``wrong-password``, ``extension-number``, ``no-numbers``, ``no-text``,
            ``too-few-numbers``, ``number-count``, or ``undocumented``. From an HTTP status: ``http-404`` and so on.
        description: the gateway's own words, at most 200 characters.
        advice: what to do.
        status: the HTTP status, if that is the refusal; otherwise ``None``.
    """

    def __init__(
        self, code: str, description: str, advice: str = "the gateway refused", *, status: int | None = None
    ) -> None:
        super().__init__(f"{advice} (gateway: {description!r})")
        self.code = code
        self.description = description
        self.advice = advice
        self.status = status

    @property
    def label(self) -> str:
        """The code."""
        return self.code


class AccountRefusedError(RefusedError):
    """The user name, the password or the extension number is refused, so every batch would be; a bulk send stops."""

    concerns_every_batch = True


class AuthenticationError(AccountRefusedError):
    """The gateway does not accept the user name or the password."""


class SubmitFailedError(RefusedError):
    """The gateway answered ``fail:CODE:…`` (PROTOCOL 2); 999 is a system error. Its `code` is ``submit-failed``.

    `codes` has the different codes in the order of the answer; `count` numbers failed.
    """

    def __init__(self, codes: tuple[str, ...], count: int) -> None:
        advice = f"the gateway failed to take {count} number{'s' if count != 1 else ''}"
        super().__init__("submit-failed", "fail:" + ",".join(codes), advice)
        self.codes = codes
        self.count = count


class NotSentError(QxtError):
    """Certainly not sent, for this `reason`, or the gateway asks to send it later. Sending again is safe."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"not sent: {reason}")
        self.reason = reason


class ThrottledError(NotSentError):
    """HTTP 429, which is its `status`: the server took nothing and asks to send later.

    It asks to wait `retry_after` seconds; ``None`` if it did not say.
    """

    def __init__(self, status: int, retry_after: float | None) -> None:
        wait = "" if retry_after is None else f" in {retry_after:g} s"
        super().__init__(f"HTTP {status}: the server asks to come back later{wait}")
        self.status = status
        self.retry_after = retry_after


class OutcomeUnknownError(QxtError):
    """The gateway may have accepted the request; `reason` says why. It is never sent again by itself (PROTOCOL 2.3)."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"outcome unknown, not sent again: {reason}")
        self.reason = reason


class DeadlineExceededError(OutcomeUnknownError, TimeoutError):
    """The deadline of the request passed after a part of the request was sent."""


class ConnectionBrokenError(OutcomeUnknownError, ConnectionError):
    """The connection was reset or closed, or the answer was cut off, after a part of the request was sent."""


class UnexpectedStatusError(OutcomeUnknownError):
    """A redirect (never followed), 403, a 5xx, or another `status` that does not say whether the request was accepted.

    403 concerns every batch: a filter in front of the gateway sends it. A filter may also send it in place of the
    gateway's answer, so the outcome is unknown.
    """

    def __init__(self, status: int) -> None:
        kind = "not an answer of the gateway"
        if status == 403:
            kind = "forbidden, before or after the gateway took it; check base_url and what stands between"
        elif 300 <= status < 400:
            kind = "a redirect, which is never followed"
        super().__init__(f"HTTP {status}: {kind}")
        self.status = status
        self.concerns_every_batch = status == 403


class UnusableAnswerError(OutcomeUnknownError):
    """The answer is not of the protocol, is too large, or belongs to another request (other numbers, a cache).

    `answer` is its beginning, with phone numbers masked; empty if there is nothing to show.
    """

    def __init__(self, reason: str, answer: str = "") -> None:
        super().__init__(f"{reason}: {answer!r}" if answer else reason)
        self.answer = answer


class PartialAnswerError(OutcomeUnknownError):
    """The answer does not mention `count` of the numbers, or contradicts itself about them."""

    def __init__(self, count: int) -> None:
        super().__init__(f"the answer does not say what became of {count} number{'s' if count != 1 else ''}")
        self.count = count


class JournalError(QxtError):
    """The journal cannot store or read."""


class JournalBusyError(JournalError):
    """More writes are waiting than the journal holds in memory. Nothing of this call was written; try again later."""


class JournalClosedError(JournalError, RuntimeError):
    """The journal is not open yet, or is closed: use ``async with open_journal(…)``."""


class JournalSchemaError(JournalError):
    """The database is not a journal, or a newer version of this library wrote it.

    `found` is the schema's version, ``None`` if it has none; `known` is the newest that this library knows.
    """

    def __init__(self, message: str, found: int | None, known: int) -> None:
        super().__init__(message)
        self.found = found
        self.known = known


class JournalUnavailableError(JournalError):
    """The database refused: disk full, locked by another process, read-only, damaged. ``__cause__`` has the details.

    A call that writes has written nothing, with one exception: if the connection to a server was lost during the
    commit, it is not known whether the call was written.
    """


class CampaignError(QxtError):
    """A campaign cannot do what was requested."""


class CampaignNotFoundError(CampaignError):
    """The journal has no campaign of this id, which is its `campaign`."""

    def __init__(self, campaign: int) -> None:
        super().__init__(f"there is no campaign {campaign} in this journal")
        self.campaign = campaign


class CampaignStateError(CampaignError):
    """The `state` of the campaign with the id `campaign` does not allow it."""

    def __init__(self, campaign: int, state: str, advice: str) -> None:
        super().__init__(f"campaign {campaign} is {state}: {advice}")
        self.campaign = campaign
        self.state = state


class ConfirmationRequiredError(CampaignError):
    """Numbers that may get the text twice are sent again only if the caller confirms how many they are.

    `numbers` says how many would be sent again, `credits` what that would cost.
    """

    def __init__(self, numbers: int, credits_: int) -> None:
        super().__init__(f"{numbers} numbers would be sent again for {credits_} credits: confirm that")
        self.numbers = numbers
        self.credits = credits_


class DeliveryTimeoutError(QxtError, TimeoutError):
    """No status report with a final state came within `timeout` seconds. The message may still be delivered.

    `mid` is its id, `masked_number` the phone number, masked.
    """

    def __init__(self, mid: str, masked_number: str, timeout: float) -> None:
        super().__init__(f"no status report for mid {mid}, {masked_number}, within {timeout:g} s: it may still come")
        self.mid = mid
        self.masked_number = masked_number
        self.timeout = timeout


class BulkStoppedError(QxtError):
    """The iterable of numbers or a callback raised, so the bulk send stopped early. ``__cause__`` has that error.

    `origin` is ``"source"`` or ``"callback"``.
    """

    def __init__(self, origin: str, cause: str) -> None:
        super().__init__(f"the {origin} raised {cause}; what was sent before is in .result")
        self.origin = origin


class BulkFailedError(QxtError):
    """Of a bulk send, `failed` numbers failed and `unknown` numbers are unknown."""

    def __init__(self, failed: int, unknown: int) -> None:
        super().__init__(f"{failed} numbers failed and {unknown} are unknown; .result has them")
        self.failed = failed
        self.unknown = unknown
