"""The faults of the simulated gateway.

A fault changes what happens to a request that would otherwise be taken and answered well. Names are stable, for command
lines such as ``take-then-reset=0.02``. With ``take-then-…`` the gateway takes every number and then does not answer
properly. With the others it takes the numbers that its answer names, or nothing.
"""

from __future__ import annotations

import enum
import re
from typing import Literal

import attrs

Target = Literal["send", "balance"]

DESCRIPTIONS = {
    1: "用户名或密码错误",
    2: "扩展号码错误",
    3: "mobile",
    4: "smg",
    6: "无此用户或者密码不对1",
    7: "无此用户或者密码不对",
    8: "moblie 提交数小于10，请重新提交!",
    9: "moblie is null or mobile number too many!",
}
"""The gateway's own words by their number (PROTOCOL 2.1), typos included."""


class Drop(enum.StrEnum):
    """How the gateway ends a connection without a whole answer."""

    CLOSE = "close"
    RESET = "reset"
    HALF_CLOSE = "half-close"
    REFUSE = "refuse"


class ConnectionDroppedError(ConnectionError):
    """The gateway is to drop the connection, and the server cannot do so.

    Attributes:
        drop: how.
    """

    def __init__(self, drop: Drop) -> None:
        super().__init__(f"the simulated gateway drops the connection: {drop}")
        self.drop = drop


def check_share(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    """A validator of attrs: a share is between 0 and 1."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{attribute.name} is a share between 0 and 1, not {value}")


@attrs.frozen
class Fault:
    """One fault. Fields combine; each default changes nothing.

    Attributes:
        name: stable, shown in `SimulatedRequest.fault`.
        takes: whether the request's numbers are taken.
        unread: the gateway answers after the headers; it never reads the body and takes nothing.
        delay: seconds between taking and the answer or drop.
        drop: end the connection this way instead of answering.
        cut: send half of the answer before `drop`.
        hangs: never answer; wait until the client leaves.
        drip: seconds between two bytes of the answer.
        status: HTTP status of the answer.
        headers: further headers of the answer.
        body: the answer's bytes, instead of the gateway's line.
        error: refuse the whole request with this description.
        prefix: text before an ``error:`` (PROTOCOL 3 has ``失败:``).
        failed: share of the numbers, at least one if above 0, that a ``fail:`` line names; they are not taken.
        code: the code of that line.
        omitted: share of the other numbers, at least one if above 0, that no line names.
        omitted_taken: whether those are taken nevertheless.
        numbers: how the ``ok`` lines change their numbers: ``shuffled``, ``foreign`` (others than were sent),
            ``extra`` (one more), ``repeated`` (one twice).
        lines: how many ``ok`` lines, each with its own mid, the numbers are divided among.
        charset: of the answer.
        line_end: of each line of the answer.
        delivers: whether phones get what was taken; ``False`` is an empty balance (PROTOCOL 2.2).
    """

    name: str
    takes: bool = attrs.field(default=True, kw_only=True)
    unread: bool = attrs.field(default=False, kw_only=True)
    delay: float = attrs.field(default=0.0, kw_only=True, validator=attrs.validators.ge(0.0))
    drop: Drop | None = attrs.field(default=None, kw_only=True, converter=attrs.converters.optional(Drop))
    cut: bool = attrs.field(default=False, kw_only=True)
    hangs: bool = attrs.field(default=False, kw_only=True)
    drip: float = attrs.field(default=0.0, kw_only=True, validator=attrs.validators.ge(0.0))
    status: int = attrs.field(default=200, kw_only=True)
    headers: tuple[tuple[str, str], ...] = attrs.field(default=(), kw_only=True)
    body: bytes | None = attrs.field(default=None, kw_only=True)
    error: str | None = attrs.field(default=None, kw_only=True)
    prefix: str = attrs.field(default="", kw_only=True)
    failed: float = attrs.field(default=0.0, kw_only=True, validator=check_share)
    code: str = attrs.field(default="999", kw_only=True)
    omitted: float = attrs.field(default=0.0, kw_only=True, validator=check_share)
    omitted_taken: bool = attrs.field(default=False, kw_only=True)
    numbers: Literal["", "shuffled", "foreign", "extra", "repeated"] = attrs.field(
        default="",
        kw_only=True,
        validator=attrs.validators.in_(("", "shuffled", "foreign", "extra", "repeated")),
    )
    lines: int = attrs.field(default=1, kw_only=True, validator=attrs.validators.ge(1))
    charset: str = attrs.field(default="gbk", kw_only=True)
    line_end: str = attrs.field(default="\n", kw_only=True)
    delivers: bool = attrs.field(default=True, kw_only=True)

    @classmethod
    def named(cls, name: str, *, delay: float | None = None, retry_after: float | None = None) -> Fault:
        """A fault by its stable name: one of `FAULTS`, ``http-NNN``, ``take-then-NNN`` or ``error-N``.

        Args:
            name: ``http-404`` answers that status and takes nothing, ``take-then-502`` takes first, ``error-8``
                refuses with that description of PROTOCOL 2.1.
            delay: seconds between taking and the answer, instead of its own.
            retry_after: seconds for a ``Retry-After`` header, instead of its own.

        Raises:
            ValueError: there is no fault of that name.
        """
        fault = FAULTS.get(name) or _numbered(name)
        if fault is None:
            known = ", ".join(FAULTS)
            raise ValueError(f"no fault is named {name!r}; there are {known}, http-NNN, take-then-NNN, error-N")
        if delay is not None:
            fault = attrs.evolve(fault, delay=delay)
        if retry_after is not None:
            fault = attrs.evolve(fault, headers=(("retry-after", f"{retry_after:g}"),))
        return fault

    def divide(self, numbers: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """Divide a request's numbers into those of the ``ok`` lines, those of the ``fail`` line, and those of no line.

        Failed and omitted numbers are spread evenly over the request.
        """
        failed, others = _spread(numbers, self.failed)
        omitted, mentioned = _spread(others, self.omitted)
        return mentioned, failed, omitted


def _spread(numbers: tuple[str, ...], share: float) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if not share:
        return (), numbers
    chosen: list[str] = []
    others: list[str] = []
    owed = 1.0
    for number in numbers:
        if owed >= 1.0:
            chosen.append(number)
            owed -= 1.0
        else:
            others.append(number)
        owed += share
    return tuple(chosen), tuple(others)


_HTML = b"<html><head><title>Welcome</title></head><body><h1>It works!</h1></body></html>"
_ERROR_PAGE = b"<html>\n<pre>\nerror: the upstream is away\n</pre>\n</html>\n"


_NAMED = (
    Fault("take-then-close", drop=Drop.CLOSE),
    Fault("take-then-reset", drop=Drop.RESET),
    Fault("take-then-half-close", drop=Drop.HALF_CLOSE),
    Fault("take-then-cut", drop=Drop.CLOSE, cut=True),
    Fault("take-then-hang", hangs=True),
    Fault("take-then-drip", drip=0.05),
    Fault("take-then-html", body=_HTML, headers=(("content-type", "text/html"),)),
    Fault("take-then-error-page", body=_ERROR_PAGE, headers=(("content-type", "text/html"),)),
    Fault("take-then-json", body=b'{"code": 0, "message": "success"}', headers=(("content-type", "application/json"),)),
    Fault("take-then-empty", body=b""),
    Fault("take-then-redirect", status=302, body=b"", headers=(("location", "/elsewhere"),)),
    Fault("take-then-busy", status=503, body=b"", headers=(("retry-after", "1"),)),
    Fault("take-then-partial", omitted=0.5, omitted_taken=True),
    Fault("close", takes=False, drop=Drop.CLOSE),
    Fault("reset", takes=False, drop=Drop.RESET),
    Fault("half-close", takes=False, drop=Drop.HALF_CLOSE),
    Fault("hang", takes=False, hangs=True),
    Fault("refuse", takes=False, unread=True, drop=Drop.REFUSE),
    Fault("close-unread", takes=False, unread=True, drop=Drop.CLOSE),
    Fault("reset-unread", takes=False, unread=True, drop=Drop.RESET),
    Fault("too-large-unread", takes=False, unread=True, status=413, body=b"too large"),
    Fault("throttle-429", takes=False, status=429, body=b"", headers=(("retry-after", "1"),)),
    Fault("fail-999", failed=1.0),
    Fault("mixed", failed=0.5),
    Fault("partial", omitted=0.5),
    Fault("shuffled", numbers="shuffled"),
    Fault("foreign", numbers="foreign"),
    Fault("extra", numbers="extra"),
    Fault("repeated", numbers="repeated"),
    Fault("several-lines", lines=2),
    Fault("slow", delay=1.0),
    Fault("utf-8", charset="utf-8"),
    Fault("crlf", line_end="\r\n"),
    Fault("no-line-end", line_end=""),
    Fault("failure-word", prefix="失败:"),
    Fault("empty-balance", delivers=False),
)
FAULTS = {fault.name: fault for fault in _NAMED}
"""Every fault with a name of its own; `Fault.named` also has numbered ones."""


def _numbered(name: str) -> Fault | None:
    if match := re.fullmatch(r"(http|take-then)-([2-5]\d\d)", name):
        return Fault(name, takes=match[1] == "take-then", status=int(match[2]), body=b"")
    match = re.fullmatch(r"error-(\d)", name)
    if match and int(match[1]) in DESCRIPTIONS:
        return Fault(name, takes=False, error=DESCRIPTIONS[int(match[1])])
    return None


def parse_share(text: str) -> tuple[Fault, float]:
    """Read a command line's ``NAME=SHARE``, for `SimulatedGateway.fail_share`; ``NAME`` alone means always.

    Raises:
        ValueError: there is no such fault, or the share is no number between 0 and 1.
    """
    name, equals, value = text.partition("=")
    try:
        share = float(value) if equals else 1.0
        if not 0.0 <= share <= 1.0:
            raise ValueError
    except ValueError:
        raise ValueError(f"the share of {name!r} is a number between 0 and 1, not {value!r}") from None
    return Fault.named(name), share
