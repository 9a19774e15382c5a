"""Read the gateway's answers, without I/O.

Section numbers (``PROTOCOL 2.1``) are those of the protocol page in the documentation.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from typing import TYPE_CHECKING

import attrs

from qxt_async import errors
from qxt_async.models import Acceptance, Balance, repr_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qxt_async.errors import NotSentError, OutcomeUnknownError, RefusedError

_SHOWN = 200
# Characters of digests and encoded texts, which are masked as a whole. When a long answer is cut, such characters
# at its end are removed, because a part of a digest is not recognised.
_CUT = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+/=_-%&#;\\"
_CODES = 10  # codes kept of one answer; gateways send one or two
_MID = 128  # the longest mid, as for pushes; real ones have 7 to 20 characters


@attrs.define
class Answer:
    """What an answer says about the numbers of its request.

    Attributes:
        acceptances: each mid with the numbers accepted under it.
        failed: the numbers that were refused.
        unknown: the numbers whose outcome the answer does not say.
        codes: the different codes of its ``fail:CODE:…`` lines, ten at most.
        error: why some numbers are not accepted; ``None`` if all are.
        trusted: whether the connection can be used again. False if the answer belongs to another request.
    """

    acceptances: tuple[Acceptance, ...] = ()
    failed: tuple[str, ...] = attrs.field(default=(), repr=repr_count)
    unknown: tuple[str, ...] = attrs.field(default=(), repr=repr_count)
    codes: tuple[str, ...] = ()
    error: RefusedError | NotSentError | OutcomeUnknownError | None = None
    trusted: bool = attrs.field(kw_only=True, default=True)


def decode(body: bytes) -> str:
    """Decode an answer: as UTF-8 if it is valid UTF-8, otherwise as GBK (PROTOCOL 2)."""
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        return body.decode("gbk", "replace")


def mask_secrets(text: str) -> str:
    """Mask the parts of our request that a server may repeat: digests, encoded text, phone numbers.

    Long runs of letters are masked, too, since they may be base64.
    """
    text = re.sub(
        r"[0-9A-Za-z+/_-]{32,}={0,2}|(?:%[0-9a-fA-F]{2}[^\s%&]{0,2}){2,}|(?:\\u[0-9a-fA-F]{4}){2,}"
        r"|(?:&#[xX]?[0-9a-fA-F]{1,7};[^\s&]{0,2}){2,}",
        "****",
        text,
    )
    return re.sub(r"\d(?:[ -]?\d){6,}", lambda run: f"{run[0][:3]}****", text)


def redact(said: str, text: str = "") -> str:
    """Return the beginning of an answer without secrets, so that it can be logged.

    Args:
        said: the answer, or a part of it.
        text: the text that was sent. What the answer repeats of it is masked.
    """
    said = said.strip()
    if len(said) > 2 * _SHOWN:
        said = f"{said[: 2 * _SHOWN].rstrip(_CUT)}****"
    if text:
        from qxt_async.protocol.redaction import mask_repeated

        said = mask_repeated(said, text)
    # Phone numbers may have separators between their digits.
    return re.sub(r"\d(?:[\W_]{0,3}\d){6,}", lambda run: f"{run[0][:3]}****", mask_secrets(said))[:_SHOWN]


def parse_send(body: bytes, numbers: Sequence[str], tele: bytes, text: str = "") -> Answer:
    r"""Read the answer to a send (PROTOCOL 2).

    If the answer names a number that was not sent, all numbers are unknown. A number is also unknown if no line names
    it, if both an ``ok`` and a ``fail`` line name it, or if its mid is not valid: empty, too long, or not printable,
    since mids are logged and shown.

    Args:
        body: the answer, one line or several, ended by ``\n``, ``\r\n`` or nothing.
        numbers: the numbers that the request carried.
        tele: the same numbers as they were sent, from `join`.
        text: the text that was sent, so that no error repeats it.
    """
    # The usual answer is compared as bytes instead of parsed: ok:MID: and the numbers as they were sent.
    if body.startswith(b"ok:"):
        mid, _, told = body[3:].partition(b":")
        if told.rstrip(b"\r\n") == tele and mid.isalnum() and len(mid) <= _MID:
            return Answer((Acceptance(mid.decode("ascii"), tuple(numbers)),))
    return _settle(_Lines(decode(body)), numbers, body, text)


class _Lines:
    """The lines of an answer, sorted by kind.

    Attributes:
        taken: the mid and the numbers of each ``ok:`` line.
        failed: the code and the numbers of each ``fail:`` line.
        refusals: the description of each ``error:`` line. Empty if any line is not of the protocol: the answer may be
            a web page then, and says nothing about the request.
    """

    def __init__(self, text: str) -> None:
        self.taken: list[tuple[str, list[str]]] = []
        self.failed: list[tuple[str, list[str]]] = []
        self.refusals: list[str] = []
        is_page = False
        for line in text.splitlines():
            keyword, colon, rest = line.strip().partition(":")
            keyword = keyword.strip().lower()
            if colon and keyword in ("ok", "fail"):
                name, _, told = rest.partition(":")
                numbers = [number for part in told.split(",") if (number := part.strip())]
                (self.taken if keyword == "ok" else self.failed).append((name.strip(), numbers))
            elif (description := _description(line)) is not None:
                self.refusals.append(description)
            elif line.strip():
                is_page = True
        if is_page:
            self.refusals.clear()


def _description(line: str) -> str | None:
    """Return the text after ``error:`` or ``失败:error:`` (PROTOCOL 3); ``None`` if the line is no refusal."""
    found = re.match(r"\s*(?:失败\s*[:：]\s*)?error\s*[:：](.*)", line, re.IGNORECASE)
    return found[1].strip() if found else None


def _settle(lines: _Lines, numbers: Sequence[str], body: bytes, text: str) -> Answer:
    """Decide the outcome of each number."""
    everything = tuple(numbers)
    named = {number for _, told in lines.taken + lines.failed for number in told}
    if not named.issubset(numbers):
        error = errors.UnusableAnswerError("the answer speaks of numbers that this request did not send")
        return Answer(unknown=everything, error=error, trusted=False)
    if not lines.taken and not lines.failed:
        if lines.refusals:
            return Answer(failed=everything, error=refusal(lines.refusals[0], text))
        reason = "nobody understands the answer" if body.strip() else "the answer is empty"
        return Answer(unknown=everything, error=errors.UnusableAnswerError(reason, redact(decode(body), text)))
    taken = {number for _, told in lines.taken for number in told}
    refused = {number for _, told in lines.failed for number in told}
    # A number that both an ok and a fail line name is neither accepted nor failed.
    acceptances = _acceptances(lines, numbers, taken - refused)
    failed = tuple(number for number in everything if number in refused and number not in taken)
    settled = {*failed, *(number for acceptance in acceptances for number in acceptance.numbers)}
    unknown = tuple(number for number in everything if number not in settled)
    codes = _codes(lines, text) if failed else ()
    if unknown:
        return Answer(acceptances, failed, unknown, codes, errors.PartialAnswerError(len(unknown)))
    if failed:
        return Answer(acceptances, failed, unknown, codes, errors.SubmitFailedError(codes, len(failed)))
    return Answer(acceptances)


def _acceptances(lines: _Lines, numbers: Sequence[str], taken: set[str]) -> tuple[Acceptance, ...]:
    """Give each number that was taken to the first ``ok:`` line that names it and has a valid mid."""
    times = Counter(numbers)  # a send without deduplication may have a number twice
    left = set(taken)
    acceptances: list[Acceptance] = []
    for mid, told in lines.taken:
        new = [number for number in dict.fromkeys(told) if number in left]
        if new and 0 < len(mid) <= _MID and mid.isprintable():
            acceptances.append(Acceptance(mid, tuple(number for number in new for _ in range(times[number]))))
            left.difference_update(new)
    return tuple(acceptances)


def _codes(lines: _Lines, text: str) -> tuple[str, ...]:
    """The different codes of the ``fail:`` lines that name numbers, redacted."""
    distinct = dict.fromkeys(code for code, told in lines.failed if told)
    return tuple(dict.fromkeys(redact(code, text) for code in itertools.islice(distinct, _CODES)))


def parse_balance(body: bytes) -> Balance:
    """Read the answer to a balance query (PROTOCOL 3).

    Raises:
        RefusedError: the gateway refused; its `code` says why.
        UnusableAnswerError: the answer is not of the protocol.
    """
    text = decode(body)
    if found := re.match(r"\s*ok\s*:\s*sms\s*:\s*(-?\d{1,18})\s*:\s*mms\s*:\s*(-?\d{1,18})\s*$", text, re.ASCII):
        return Balance(int(found[1]), mms=int(found[2]))
    if refusals := _Lines(text).refusals:
        raise refusal(refusals[0])
    raise errors.UnusableAnswerError("nobody understands the answer", redact(text))


def _folded(description: str) -> str:
    """Remove the differences between the document and real gateways (PROTOCOL 2.1)."""
    text = re.sub(r"^\s*\d+\s*[.．、]\s*", "", description)
    text = text.replace("！", "!").replace("，", ",").casefold().replace("moblie", "mobile")
    return re.sub(r"\s+", "", text).rstrip("!。.")


_WRONG_ACCOUNT = errors.AuthenticationError
_REFUSALS: dict[str, tuple[type[RefusedError], str, str]] = {
    _folded(description): (kind, code, advice)
    for description, kind, code, advice in (
        ("用户名或密码错误", _WRONG_ACCOUNT, "no-user", "the gateway saw no user name: set user, or QXT_USER"),
        (
            "扩展号码错误",
            errors.AccountRefusedError,
            "extension-number",
            "the channel does not allow this extension number: leave extno out or ask for the channel's rules",
        ),
        ("mobile", errors.RefusedError, "no-numbers", "the gateway saw no numbers in the request"),
        ("smg", errors.RefusedError, "no-text", "the gateway saw no text in the request"),
        (
            "无此用户或者密码不对1",
            _WRONG_ACCOUNT,
            "unknown-user",
            "the gateway does not know this user: check the user name and the address",
        ),
        (
            "无此用户或者密码不对",
            _WRONG_ACCOUNT,
            "wrong-password",
            "the gateway does not accept the password (sent as its lowercase md5): check it",
        ),
        (
            "moblie 提交数小于10，请重新提交!",
            errors.RefusedError,
            "too-few-numbers",
            "this channel takes no batch of fewer than 10 numbers: send more numbers at once",
        ),
        (
            "moblie is null or mobile number too many!",
            errors.RefusedError,
            "number-count",
            "the gateway saw no numbers or too many: lower batch_size",
        ),
    )
}
_UNDOCUMENTED = (
    errors.RefusedError,
    "undocumented",
    "the gateway refused for a reason that its document does not list",
)


def refusal(description: str, text: str = "") -> RefusedError:
    """Make the error for an ``error:`` description (PROTOCOL 2.1).

    Args:
        description: the gateway's words.
        text: the text that was sent, which the error does not repeat.
    """
    kind, code, advice = _REFUSALS.get(_folded(description), _UNDOCUMENTED)
    return kind(code, redact(description, text), advice)


def refusal_by_status(status: int) -> RefusedError | None:
    """Make the error for an HTTP status which says that the request was not handled (RFC 9110, 15.5), else ``None``."""
    if status in (400, 401, 404, 405, 411):
        advice = (
            f"HTTP {status}: the server at base_url does not take this request; check base_url (it ends in /qxt "
            "on most deployments) and what stands between"
        )
    elif status in (413, 414):
        advice = f"HTTP {status}: the request is too large for this server; lower batch_size or use POST"
    else:
        return None
    return errors.RefusedError(f"http-{status}", f"HTTP {status}", advice, status=status)
