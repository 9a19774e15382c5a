"""The gateway's answers as values, without I/O.

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
    from collections.abc import Callable, Sequence

    from qxt_async.errors import NotSentError, OutcomeUnknownError, RefusedError

__all__ = ["Answer", "decode", "parse_balance", "parse_send", "redact", "refusal", "unrevealing"]

_SHOWN = 200
# Characters of what is masked as a whole; a part of it at the place where an answer is cut would not be known for one.
_CUT = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+/=_-%&#;\\"
_CODES = 10  # of one answer; a gateway has one or two
# Characters of a mid, as for pushes; real ones have seven to twenty.
_MID = 128


@attrs.define
class Answer:
    """What an answer says about the numbers of its request.

    Attributes:
        acceptances: what was taken.
        failed: what was refused.
        unknown: what the answer does not settle.
        codes: the distinct codes of its ``fail:CODE:…`` lines, ten at most.
        error: why some are not accepted; ``None`` if all are.
        trusted: whether the connection can be used again; not if the answer was another request's.
    """

    acceptances: tuple[Acceptance, ...] = ()
    failed: tuple[str, ...] = attrs.field(default=(), repr=repr_count)
    unknown: tuple[str, ...] = attrs.field(default=(), repr=repr_count)
    codes: tuple[str, ...] = ()
    error: RefusedError | NotSentError | OutcomeUnknownError | None = None
    trusted: bool = attrs.field(kw_only=True, default=True)


def decode(body: bytes) -> str:
    """Decode what is valid UTF-8 as UTF-8, otherwise as GBK (PROTOCOL 2)."""
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        return body.decode("gbk", "replace")


def unrevealing(text: str) -> str:
    """Mask what a server may repeat of our request: digests, encoded text, runs of digits as in numbers.

    Also letters in a row that are longer than any word, which may be base64.
    """
    text = re.sub(
        r"[0-9A-Za-z+/_-]{32,}={0,2}|(?:%[0-9a-fA-F]{2}[^\s%&]{0,2}){2,}|(?:\\u[0-9a-fA-F]{4}){2,}"
        r"|(?:&#[xX]?[0-9a-fA-F]{1,7};[^\s&]{0,2}){2,}",
        "****",
        text,
    )
    return re.sub(r"\d(?:[ -]?\d){6,}", lambda run: f"{run[0][:3]}****", text)


def redact(said: str, text: str = "") -> str:
    """The beginning of what a gateway said, fit for a log: without what it repeats of the `text` that was sent."""
    said = said.strip()
    if len(said) > 2 * _SHOWN:
        said = f"{said[: 2 * _SHOWN].rstrip(_CUT)}****"
    if text:
        from qxt_async.protocol.redaction import mask_repeated

        said = mask_repeated(said, text)
    # Digits with something in between, as people write numbers.
    return re.sub(r"\d(?:[\W_]{0,3}\d){6,}", lambda run: f"{run[0][:3]}****", unrevealing(said))[:_SHOWN]


def parse_send(body: bytes, numbers: Sequence[str], tele: bytes, text: str = "") -> Answer:
    r"""Read the answer to a send (PROTOCOL 2), line by line.

    An answer is believed only for numbers that were sent: one foreign number, and all of them are unknown. A number
    that no line mentions is unknown, and so is one that both an ``ok`` and a ``fail`` line name. A mid that is empty,
    longer than any or cannot be printed is none, so what it speaks of is unknown, too: mids are logged and shown.

    Args:
        body: the answer, one line or several, ended by ``\n``, ``\r\n`` or nothing.
        numbers: the numbers that the request carried.
        tele: the same as they were sent, see `join`.
        text: what was sent, so that no error repeats it.
    """
    # The common answer, compared as bytes instead of parsed: ok:MID: and what was sent.
    if body.startswith(b"ok:"):
        mid, _, told = body[3:].partition(b":")
        if told.rstrip(b"\r\n") == tele and mid.isalnum() and len(mid) <= _MID:
            return Answer((Acceptance(mid.decode("ascii"), tuple(numbers)),))
    return _settle(_Lines(decode(body)), numbers, body, text)


class _Lines:
    """The lines of an answer, sorted by kind.

    Attributes:
        taken: mid and numbers of each ``ok:`` line.
        failed: code and numbers of each ``fail:`` line.
        refusals: the description of each ``error:`` line; none if there is a line that is not of the protocol, as in
            a web page, which may have been made of anything and says nothing about the request.
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
    """What follows ``error:``, also seen as ``失败:error:`` (PROTOCOL 3); ``None`` if it is no refusal."""
    found = re.match(r"\s*(?:失败\s*[:：]\s*)?error\s*[:：](.*)", line, re.IGNORECASE)
    return found[1].strip() if found else None


def _settle(lines: _Lines, numbers: Sequence[str], body: bytes, text: str) -> Answer:
    everything = tuple(numbers)
    sent = set(numbers)
    if any(number not in sent for _, told in lines.taken + lines.failed for number in told):
        foreign = errors.ForeignAnswerError("the answer speaks of numbers that this request did not send")
        return Answer(unknown=everything, error=foreign, trusted=False)
    if not lines.taken and not lines.failed:
        if lines.refusals:
            return Answer(failed=everything, error=refusal(lines.refusals[0], text))
        reason = "nobody understands the answer" if body.strip() else "the answer is empty"
        return Answer(unknown=everything, error=errors.UnreadableAnswerError(reason, redact(decode(body), text)))

    refused = {number for _, told in lines.failed for number in told}
    taken = {number for _, told in lines.taken for number in told}
    unclear = refused & taken
    acceptances: list[Acceptance] = []
    settled = refused
    times: dict[str, int] = (
        Counter(numbers) if len(sent) < len(numbers) else {}
    )  # a send may be told to let repeated numbers pass
    for mid, told in lines.taken:
        new = [number for number in dict.fromkeys(told) if number not in settled]
        fresh = tuple(number for number in new for _ in range(times.get(number, 1)))
        if fresh and 0 < len(mid) <= _MID and mid.isprintable():
            acceptances.append(Acceptance(mid, fresh))
            settled = settled.union(new)
    failed = tuple(number for number in everything if number in refused and number not in unclear)
    unknown = tuple(number for number in everything if number in unclear or number not in settled)
    distinct = dict.fromkeys(code for code, told in lines.failed if told) if failed else {}
    codes = tuple(dict.fromkeys(redact(code, text) for code in itertools.islice(distinct, _CODES)))
    error: RefusedError | OutcomeUnknownError | None = None
    if unknown:
        error = errors.PartialAnswerError(len(unknown))
    elif failed:
        error = errors.SubmitFailedError(codes, len(failed))
    return Answer(tuple(acceptances), failed, unknown, codes, error)


def parse_balance(body: bytes) -> Balance:
    """Read the answer to a balance query (PROTOCOL 3).

    Raises:
        RefusedError: the gateway refused; the subclass says why.
        UnreadableAnswerError: the answer has no form of the protocol.
    """
    text = decode(body)
    if found := re.match(r"\s*ok\s*:\s*sms\s*:\s*(-?\d{1,18})\s*:\s*mms\s*:\s*(-?\d{1,18})\s*$", text, re.ASCII):
        return Balance(int(found[1]), mms=int(found[2]))
    if refusals := _Lines(text).refusals:
        raise refusal(refusals[0])
    raise errors.UnreadableAnswerError("nobody understands the answer", redact(text))


def _folded(description: str) -> str:
    """Fold what differs between the document and its implementations (PROTOCOL 2.1)."""
    text = re.sub(r"^\s*\d+\s*[.．、]\s*", "", description)
    text = text.replace("！", "!").replace("，", ",").casefold().replace("moblie", "mobile")
    return re.sub(r"\s+", "", text).rstrip("!。.")


_REFUSALS: dict[str, Callable[[str], RefusedError]] = {
    _folded(description): refused
    for description, refused in (
        ("用户名或密码错误", errors.EmptyUserError),
        ("扩展号码错误", errors.ExtnoRefusedError),
        ("mobile", errors.NoNumbersRefusedError),
        ("smg", errors.NoTextRefusedError),
        ("无此用户或者密码不对1", errors.UnknownUserError),
        ("无此用户或者密码不对", errors.WrongPasswordError),
        ("moblie 提交数小于10，请重新提交!", errors.TooFewNumbersRefusedError),
        ("moblie is null or mobile number too many!", errors.NumberCountRefusedError),
    )
}


def refusal(description: str, text: str = "") -> RefusedError:
    """The error for an ``error:`` description; one that nobody documents keeps its words (PROTOCOL 2.1).

    Args:
        description: the gateway's words.
        text: what was sent, which the error does not repeat.
    """
    return _REFUSALS.get(_folded(description), errors.UnknownRefusalError)(redact(description, text))
