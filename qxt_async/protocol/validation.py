"""Checks of the arguments of a client, before anything is done with them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from qxt_async.errors import InvalidConfigurationError
from qxt_async.protocol.requests import Credentials
from qxt_async.runtime.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qxt_async.protocol.requests import Method


def read_account(
    environ: Secret[Mapping[str, str]],
    *,
    user: str | None,
    password: Secret[str] | None,
    password_md5: Secret[str] | None,
    base_url: str | None,
) -> tuple[Credentials, str]:
    """Read what is not given from the environment. An empty variable counts as not set.

    Args:
        environ: ``QXT_USER``, ``QXT_PASSWORD`` or ``QXT_PASSWORD_MD5`` (which is preferred), ``QXT_BASE_URL``.
        user: the login name, if it is given.
        password: the password, if it is given.
        password_md5: its md5, if it is given.
        base_url: the address, if it is given.

    Returns:
        The account, and the address without a slash at its end.

    Raises:
        InvalidConfigurationError: something is missing, given twice, or cannot work.
    """
    if password is not None and password_md5 is not None:
        raise InvalidConfigurationError("give either password or password_md5")
    if user is None:
        user = _required(environ, "user", "QXT_USER")
    if password is None and password_md5 is None:
        if environ.reveal().get("QXT_PASSWORD_MD5"):
            password_md5 = Secret(environ.reveal()["QXT_PASSWORD_MD5"])
        elif environ.reveal().get("QXT_PASSWORD"):
            password = Secret(environ.reveal()["QXT_PASSWORD"])
        else:
            raise InvalidConfigurationError(
                "no password: give either password or password_md5, or set QXT_PASSWORD or QXT_PASSWORD_MD5"
            )
    if base_url is None:
        base_url = _required(environ, "base_url, such as http://HOST:PORT/qxt", "QXT_BASE_URL")
    if password_md5 is not None:
        credentials = Credentials.from_digest(user, password_md5)
    else:
        credentials = Credentials.from_password(user, password or Secret(""))
    return credentials, checked_address(base_url)


def _required(environ: Secret[Mapping[str, str]], argument: str, variable: str) -> str:
    value = environ.reveal().get(variable)
    if not value:
        raise InvalidConfigurationError(f"give {argument}, or set {variable} in the environment")
    return value


def checked_address(base_url: str) -> str:
    """Check a gateway's address.

    Returns:
        The address without a slash at its end.

    Raises:
        InvalidConfigurationError: it has no host, or a part that a gateway's address does not have.
    """
    base_url = base_url.strip()
    # The messages do not repeat the address: it may have a password in it.
    nonsense = InvalidConfigurationError("base_url is not an address: its host, port or characters are not valid")
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError:
        raise nonsense from None
    if port == 0 or not base_url.isascii() or not base_url.isprintable() or " " in base_url:
        raise nonsense
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidConfigurationError(
            f"base_url has to be like http://HOST:PORT/qxt, with a host; it begins with {parts.scheme!r}"
        )
    if "?" in base_url or "#" in base_url or "@" in parts.netloc:
        raise InvalidConfigurationError("base_url must have no user, query or fragment: it ends with the path, /qxt")
    return base_url.rstrip("/")


def checked_method(method: Method) -> Method:
    """Check that the method is ``POST`` or ``GET``."""
    if method not in ("POST", "GET"):
        raise InvalidConfigurationError(f"method is {method!r}: give 'POST' or 'GET'")
    return method


def checked_seconds(name: str, value: float) -> float:
    """Check that a duration is above 0. The error names the option `name`."""
    if not 0 < value < math.inf:
        raise InvalidConfigurationError(f"{name} is {value}: give seconds, above 0")
    return value


def checked_count(name: str, value: int) -> int:
    """Check that a count is at least 1. The error names the option `name`."""
    if value < 1:
        raise InvalidConfigurationError(f"{name} is {value}: give at least 1")
    return value
