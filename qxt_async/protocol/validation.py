"""Check the arguments of a client."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from qxt_async.errors import InvalidConfigurationError

if TYPE_CHECKING:
    from qxt_async.protocol.requests import Method

__all__ = ["checked_address", "checked_method", "checked_seconds"]


def checked_address(base_url: str) -> str:
    """Check a gateway's address.

    Returns:
        The address without a slash at its end.

    Raises:
        InvalidConfigurationError: it has no host, or has parts that a gateway's address does not have.
    """
    base_url = base_url.strip()
    # The messages do not show the address, since it may contain a password by mistake.
    nonsense = InvalidConfigurationError("base_url cannot be an address: its host, port or characters make no sense")
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError:
        raise nonsense from None
    if port == 0 or not base_url.isascii() or not base_url.isprintable() or " " in base_url:
        raise nonsense
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidConfigurationError(
            f"base_url has to be like http://HOST:PORT/qxt, with a host; it has {parts.scheme!r}"
        )
    if "?" in base_url or "#" in base_url or "@" in parts.netloc:
        raise InvalidConfigurationError("base_url must have no user, query or fragment: it ends in the path, /qxt")
    return base_url.rstrip("/")


def checked_method(method: Method) -> Method:
    """Check that the method is ``POST`` or ``GET``."""
    if method not in ("POST", "GET"):
        raise InvalidConfigurationError(f"method is {method!r}: 'POST' or 'GET'")
    return method


def checked_seconds(name: str, value: float) -> float:
    """Check that a duration is above 0; `name` is the name of the option, for the error."""
    if not 0 < value < math.inf:
        raise InvalidConfigurationError(f"{name} is {value}: seconds, above 0")
    return value
