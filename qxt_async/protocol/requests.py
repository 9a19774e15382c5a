"""Requests to the gateway as bytes, without I/O.

Section numbers (``PROTOCOL 1.2``) are those of the protocol page in the documentation.
"""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias
from urllib.parse import quote

from qxt_async.errors import (
    InvalidConfigurationError,
    InvalidNumberError,
    TooManyNumbersError,
    UrlTooLongError,
)
from qxt_async.models import Message, mask
from qxt_async.protocol.texts import check_extno, encode
from qxt_async.runtime.secret import Secret
from qxt_async.values import Record, Value

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "MAX_NUMBERS",
    "URL_LIMIT",
    "Credentials",
    "EncodedRequest",
    "FormTemplate",
    "Method",
    "balance_form",
    "join",
    "send_form",
]

MAX_NUMBERS = 1000
"""Numbers in one request (PROTOCOL 1)."""

URL_LIMIT = 8000
"""Bytes of a URL; servers of this kind cut at 8 KB by default (PROTOCOL 1.1)."""

_IN_TELE = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz,"

Method: TypeAlias = Literal["POST", "GET"]


class Credentials(Value):
    """An account: the user name and the lowercase md5 digest, which is the credential (PROTOCOL 1).

    Attributes:
        user: login name.
        digest: 32 lowercase hexadecimal digits.
    """

    __slots__ = ("user", "digest")
    user: str
    digest: Secret[str]

    def __init__(self, user: str, digest: str | Secret[str]) -> None:
        digest = Secret.of(digest)
        if not user:
            raise InvalidConfigurationError("user is empty: give the account's login name (or set QXT_USER)")
        try:
            user.encode("gbk")
        except UnicodeEncodeError:
            raise InvalidConfigurationError("user has characters that GBK cannot carry") from None
        if len(digest.reveal()) != 32 or digest.reveal().strip("0123456789abcdef"):
            raise InvalidConfigurationError("password_md5 has to be the md5 of the password: 32 hexadecimal digits")
        self._fill(user, digest)

    @classmethod
    def from_password(cls, user: str, password: str | Secret[str]) -> Credentials:
        """Digest a password.

        Raises:
            InvalidConfigurationError: it is empty, or not ASCII: the document names no charset for others, so their
                digest has to be given ready-made.
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
        """Take a ready-made digest, in either case of letters."""
        digest = Secret.of(digest)
        return cls(user, Secret(digest.reveal().strip().lower()))


class EncodedRequest(Record):
    """A request as bytes.

    Attributes:
        method: ``POST`` or ``GET``.
        endpoint: ``smssenderv2`` or ``surplus``.
        form: the urlencoded fields: the body of a POST, the query of a GET.
    """

    __slots__ = ("method", "endpoint", "form")
    method: Method
    endpoint: str
    form: Secret[bytes]

    def __init__(self, method: Method, endpoint: str, form: Secret[bytes]) -> None:
        self.method = method
        self.endpoint = endpoint
        self.form = form


class FormTemplate(Record):
    """A form prepared once a send, to be filled with the numbers of each batch.

    `password` goes last, so that a truncated form is refused and never a smaller send (PROTOCOL 1.2).
    """

    __slots__ = ("endpoint", "head", "tail", "text")
    _shown: ClassVar[dict[str, Any]] = {"head": None, "text": None}
    endpoint: str
    head: bytes
    tail: Secret[bytes]
    text: str

    def __init__(self, endpoint: str, head: bytes, tail: Secret[bytes], text: str = "") -> None:
        self.endpoint = endpoint
        self.head = head
        self.tail = tail
        self.text = text

    def request(self, tele: bytes, *, method: Method = "POST", base_url: str = "") -> EncodedRequest:
        """The request for one batch.

        Args:
            tele: the numbers, ASCII, joined by commas.
            method: where the form goes: body (POST) or query (GET).
            base_url: the gateway's address without a slash at its end, for the limit of a GET.

        Raises:
            UrlTooLongError: a GET longer than `URL_LIMIT`; the error says how many numbers would fit.
        """
        form = Secret(self.head + tele + self.tail.reveal())
        if method == "GET" and (length := len(f"{base_url}/{self.endpoint}?") + len(form.reveal())) > URL_LIMIT:
            stride = len(tele) // (tele.count(b",") + 1) + 1
            raise UrlTooLongError(length, URL_LIMIT, max(0, (URL_LIMIT - length + len(tele) + 1) // stride))
        return EncodedRequest(method, self.endpoint, form)


def send_form(credentials: Credentials, message: Message, *, channel_digits: int = 0) -> FormTemplate:
    """Prepare a send (PROTOCOL 1): the text is checked and encoded once, whatever the number of batches.

    Raises:
        InvalidTextError: the text is empty or has characters outside GBK.
        InvalidExtnoError: the extension number is not digits or too long.
    """
    head = f"{_opening(credentials.user)}&msg={_quoted(encode(message.text))}"
    if message.extno is not None:
        head += f"&extno={check_extno(message.extno, channel_digits=channel_digits)}"
    if message.addseqno:
        head += "&addseqno=1"
    return FormTemplate("smssenderv2", f"{head}&tele=".encode(), _closing(credentials), message.text)


def balance_form(credentials: Credentials) -> FormTemplate:
    """Prepare a balance query (PROTOCOL 3); it is filled with ``b""``."""
    return FormTemplate("surplus", _opening(credentials.user).encode(), _closing(credentials))


@functools.lru_cache(maxsize=16)
def _opening(user: str) -> str:
    """How every form of a user begins."""
    return f"user={quote(user, safe='') if user.isascii() else _quoted(user.encode('gbk'))}"


def _closing(credentials: Credentials) -> Secret[bytes]:
    """How every form of an account ends. Not kept: nothing global holds a digest."""
    return Secret(f"&password={credentials.digest.reveal()}".encode())


def _quoted(value: bytes) -> str:
    """Percent-encode every byte, also those that need not be.

    The second byte of a GBK character may be a letter. Where it is left as it is, a decoder that takes each run of
    ``%XX`` for itself (Java's ``URLDecoder``) reads half a character and a letter.
    """
    return "%" + value.hex("%").upper()


def join(numbers: Sequence[str]) -> bytes:
    """The numbers as the ``tele`` field carries them.

    Raises:
        TooManyNumbersError: more than one request may carry.
        InvalidNumberError: one has something else than digits and ASCII letters, which would change the form.
    """
    if len(numbers) > MAX_NUMBERS:
        raise TooManyNumbersError(len(numbers), MAX_NUMBERS)
    joined = ",".join(numbers)
    if joined.isascii():
        tele = joined.encode()
        if tele.isalnum() or not tele.translate(None, _IN_TELE):
            return tele
    worst = next(number for number in numbers if not (number.isascii() and number.isalnum()))
    raise InvalidNumberError(mask(worst), "only digits and ASCII letters go on the wire")
