"""The values that a client is made of, checked before anything is done with them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .errors import InvalidConfigurationError

if TYPE_CHECKING:
    from .wire import Method

__all__ = ["checked_address", "checked_method", "checked_seconds"]


def checked_address(base_url: str) -> str:
    """Check a gateway's address.

    Returns:
        The address without a slash at its end.

    Raises:
        InvalidConfigurationError: it has no host, or parts that an address of a gateway has not.
    """
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidConfigurationError(
            f"base_url has to be like http://HOST:PORT/qxt, with a host; it has {parts.scheme!r}"
        )
    if parts.query or parts.fragment or parts.username:
        raise InvalidConfigurationError("base_url must have no user, query or fragment: it ends in the path, /qxt")
    try:
        base_url.encode("ascii")
        parts.port  # noqa: B018
    except ValueError as error:
        raise InvalidConfigurationError(f"base_url cannot be an address: {error}") from None
    return base_url.rstrip("/")


def checked_method(method: Method) -> Method:
    """Check that the method is ``POST`` or ``GET``."""
    if method not in ("POST", "GET"):
        raise InvalidConfigurationError(f"method is {method!r}: 'POST' or 'GET'")
    return method


def checked_seconds(name: str, value: float) -> float:
    """Check that a duration is above 0; `name` is the option's, for the error."""
    if not value > 0:
        raise InvalidConfigurationError(f"{name} is {value}: seconds, above 0")
    return value
