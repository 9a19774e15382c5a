"""Encode requests to the gateway, without I/O.

Section numbers (``PROTOCOL 1.2``) are those of the protocol page in the documentation.
"""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import quote

import attrs

from qxt_async.errors import (
    InvalidConfigurationError,
    InvalidNumberError,
    RequestTooLargeError,
)
from qxt_async.models import mask
from qxt_async.protocol.texts import check_extno, encode
from qxt_async.runtime.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_NUMBERS = 1000
"""Numbers in one request (PROTOCOL 1)."""

URL_LIMIT = 8000
"""Bytes of a URL; servers of this kind cut at 8 KB by default (PROTOCOL 1.1)."""

_IN_TELE = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz,"

Method: TypeAlias = Literal["POST", "GET"]


def _check_user(_: object, __: object, user: str) -> None:
    if not user:
        raise InvalidConfigurationError("user is empty: give the account's login name (or set QXT_USER)")
    try:
        user.encode("gbk")
    except UnicodeEncodeError:
        raise InvalidConfigurationError("user has characters that GBK does not have") from None


def _check_digest(_: object, __: object, digest: Secret[str]) -> None:
    if len(digest.reveal()) != 32 or digest.reveal().strip("0123456789abcdef"):
        raise InvalidConfigurationError("password_md5 has to be the md5 of the password: 32 hexadecimal digits")


@attrs.frozen
class Credentials:
    """An account: the user name and the md5 digest of the password, which is what is sent (PROTOCOL 1).

    Attributes:
        user: login name.
        digest: 32 lowercase hexadecimal digits.

    Raises:
        InvalidConfigurationError: the user name or the digest cannot be valid.
    """

    user: str = attrs.field(validator=_check_user)
    digest: Secret[str] = attrs.field(validator=_check_digest)

    @classmethod
    def from_password(cls, user: str, password: str | Secret[str]) -> Credentials:
        """Make the digest of a password.

        Raises:
            InvalidConfigurationError: the password is empty, or is not ASCII. The gateway's document names no charset
                for other characters, so give the digest instead.
        """
        password = Secret.of(password)
        if not password.reveal():
            raise InvalidConfigurationError(
                "password is empty: give it, or password_md5 (QXT_PASSWORD, QXT_PASSWORD_MD5)"
            )
        if not password.reveal().isascii():
            raise InvalidConfigurationError(
                "the password is not ASCII, and the gateway names no charset for it: give password_md5 instead"
            )
        # The gateway's choice of md5, not ours.
        return cls(user, Secret(hashlib.md5(password.reveal().encode(), usedforsecurity=False).hexdigest()))

    @classmethod
    def from_digest(cls, user: str, digest: str | Secret[str]) -> Credentials:
        """Use an existing digest, in lowercase or uppercase letters."""
        digest = Secret.of(digest)
        return cls(user, Secret(digest.reveal().strip().lower()))


@attrs.define
class FormTemplate:
    """The form of one send without its numbers. It is prepared once and filled for each batch.

    `password` goes last: the gateway refuses a form that is cut off, and never takes it for a smaller send
    (PROTOCOL 1.2).

    Attributes:
        endpoint: ``smssenderv2`` or ``surplus``.
        head: the fields before the numbers.
        tail: the fields after the numbers.
        text: the text of the send, so that no error repeats it.
    """

    endpoint: str
    head: bytes = attrs.field(repr=False)
    tail: Secret[bytes]
    text: str = attrs.field(default="", repr=False)

    def fill(self, tele: bytes) -> Secret[bytes]:
        """Return the whole form: the body of a POST, the query of a GET.

        Args:
            tele: the numbers, ASCII, joined by commas.
        """
        return Secret(self.head + tele + self.tail.reveal())

    def check_url(self, base_url: str, tele: bytes) -> None:
        """Check that servers accept the URL of a GET with these numbers.

        Raises:
            RequestTooLargeError: it is longer than `URL_LIMIT`; the error says how many numbers would fit.
        """
        length = len(f"{base_url}/{self.endpoint}?") + len(self.head) + len(tele) + len(self.tail.reveal())
        if length > URL_LIMIT:
            stride = len(tele) // (tele.count(b",") + 1) + 1
            fits = max(0, (URL_LIMIT - length + len(tele) + 1) // stride)
            advice = f"or at most {fits} numbers a batch" if fits else "the text alone is too long for a URL"
            message = (
                f"the URL would be {length} bytes long, servers accept about {URL_LIMIT}: use method='POST' ({advice})"
            )
            raise RequestTooLargeError(message, length, URL_LIMIT, fits)


def send_form(
    credentials: Credentials,
    text: str,
    *,
    extno: str | None = None,
    addseqno: bool = False,
    channel_digits: int = 0,
) -> FormTemplate:
    """Prepare a send (PROTOCOL 1): the text is checked and encoded once, whatever the number of batches.

    Args:
        credentials: the account.
        text: the text as the phone shows it.
        extno: extension number, digits; the gateway appends it to the channel's number.
        addseqno: let the gateway split a long text on channels without long messages.
        channel_digits: digits of extension that the channel has already.

    Raises:
        InvalidTextError: the text is empty or has characters outside GBK.
        InvalidExtnoError: the extension number is not digits or too long.
    """
    head = f"{_opening(credentials.user)}&msg={_quoted(encode(text))}"
    if extno is not None:
        head += f"&extno={check_extno(extno, channel_digits=channel_digits)}"
    if addseqno:
        head += "&addseqno=1"
    return FormTemplate("smssenderv2", f"{head}&tele=".encode(), _closing(credentials), text)


def balance_form(credentials: Credentials) -> FormTemplate:
    """Prepare a balance query (PROTOCOL 3). Complete it with ``b""`` as its numbers."""
    return FormTemplate("surplus", _opening(credentials.user).encode(), _closing(credentials))


@functools.lru_cache(maxsize=16)
def _opening(user: str) -> str:
    """The beginning of every form of a user."""
    return f"user={quote(user, safe='') if user.isascii() else _quoted(user.encode('gbk'))}"


def _closing(credentials: Credentials) -> Secret[bytes]:
    """The end of every form of an account. It is not cached, because nothing global may hold a digest."""
    return Secret(f"&password={credentials.digest.reveal()}".encode())


def _quoted(value: bytes) -> str:
    """Percent-encode every byte, also letters and digits.

    The second byte of a GBK character may be a letter. If the letter is not encoded, a decoder that decodes each run
    of ``%XX`` on its own (Java's ``URLDecoder``) reads half a character and a letter.
    """
    return "%" + value.hex("%").upper()


def join(numbers: Sequence[str]) -> bytes:
    """Join numbers for the ``tele`` field.

    Raises:
        RequestTooLargeError: there are more numbers than one request may carry.
        InvalidNumberError: a number has other characters than digits and ASCII letters, which would change the form.
    """
    if len(numbers) > MAX_NUMBERS:
        count = len(numbers)
        message = (
            f"{count} numbers in one request, at most {MAX_NUMBERS} are allowed: use send_bulk(), which splits them"
        )
        raise RequestTooLargeError(message, count, MAX_NUMBERS, MAX_NUMBERS)
    joined = ",".join(numbers)
    if joined.isascii():
        tele = joined.encode()
        if tele.isalnum() or not tele.translate(None, _IN_TELE):
            return tele
    worst = next(number for number in numbers if not (number.isascii() and number.isalnum()))
    raise InvalidNumberError(mask(worst), "only digits and ASCII letters can be sent")
