"""The interface to the HTTP libraries: a request goes out, its answer comes back.

A transport is any object with the two methods of `Transport`. One module each uses httpx (the default), httpx2 and
aiohttp. No other module of the client imports an HTTP library.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from qxt_async.errors import InvalidConfigurationError
from qxt_async.runtime.words import missing_extra
from qxt_async.transports.base import (
    ANSWER_LIMIT,
    AnswerHead,
    AnswerTooLargeError,
    Exchange,
    NeverConnectedError,
    RepeatedError,
    TooLateError,
    Transport,
    UnaskedAnswerError,
)

if TYPE_CHECKING:
    import aiohttp
    import httpx
    import httpx2

    AnyTransport: TypeAlias = str | Transport | httpx.AsyncBaseTransport | httpx2.AsyncBaseTransport
    """What a client takes as `transport`."""
    AnyHttpClient: TypeAlias = httpx.AsyncClient | httpx2.AsyncClient | aiohttp.ClientSession
    """What a client takes as `http_client`."""

__all__ = [
    "ANSWER_LIMIT",
    "AnswerHead",
    "AnswerTooLargeError",
    "Exchange",
    "NeverConnectedError",
    "RepeatedError",
    "TooLateError",
    "Transport",
    "UnaskedAnswerError",
    "open_transport",
]

_TYPES = {"httpx": "HttpxTransport", "httpx2": "Httpx2Transport", "aiohttp": "AiohttpTransport"}
_CLIENTS = (("httpx", "AsyncClient"), ("httpx2", "AsyncClient"), ("aiohttp", "ClientSession"))
_TRANSPORTS = (("httpx", "AsyncBaseTransport"), ("httpx2", "AsyncBaseTransport"))


def open_transport(
    transport: Any = None,
    http_client: Any = None,
    *,
    max_concurrency: int,
    connect_timeout: float,
    trust_env: bool,
    plain_http: bool,
    reuse_connections: bool = True,
) -> tuple[Transport, bool]:
    """Make a transport of what the caller gave.

    Args:
        transport: ``None`` or ``"httpx"``, ``"httpx2"``, ``"aiohttp"`` for a new one; an ``AsyncBaseTransport`` of
            httpx or httpx2; or a `Transport`.
        http_client: an ``AsyncClient`` of httpx or httpx2, or an ``aiohttp.ClientSession``.
        max_concurrency: the largest number of requests in flight: the size of the pool.
        connect_timeout: seconds until a connection has to be there.
        trust_env: whether to use proxies from the environment.
        plain_http: whether the address is ``http://``, which needs no TLS context.
        reuse_connections: whether to use a connection for more than one request.

    Returns:
        The transport, and whether the client has to close it.

    Raises:
        InvalidConfigurationError: the argument is none of these, its extra is not installed, or it cannot do what is
            asked.
    """
    if http_client is None and (transport is None or isinstance(transport, str)):
        opened = _transport_type(transport or "httpx")(
            max_concurrency=max_concurrency,
            connect_timeout=connect_timeout,
            trust_env=trust_env,
            plain_http=plain_http,
            reuse_connections=reuse_connections,
        )
        return opened, True
    if http_client is not None and transport is not None:
        raise InvalidConfigurationError("give either transport or http_client")
    given, types = (transport, _TRANSPORTS) if http_client is None else (http_client, _CLIENTS)
    if library := _library_of(given, types):
        options = {"connect_timeout": connect_timeout, "reuse_connections": reuse_connections}
        return _transport_type(library)(given=given, **options), False
    if http_client is not None:
        raise InvalidConfigurationError(
            f"http_client is {type(http_client).__name__}: give an AsyncClient of httpx or httpx2, or an "
            "aiohttp.ClientSession"
        )
    return _checked(transport, reuse_connections=reuse_connections), False


def _checked(transport: Any, *, reuse_connections: bool) -> Transport:
    """The caller's own transport, unless it is none."""
    if _library_of(transport, _CLIENTS):
        raise InvalidConfigurationError(f"transport is {type(transport).__name__}: pass it as http_client")
    if callable(getattr(transport, "exchange", None)) and callable(getattr(transport, "aclose", None)):
        if not reuse_connections:
            raise InvalidConfigurationError("your own transport decides about reuse_connections: leave it out")
        return cast("Transport", transport)
    raise InvalidConfigurationError(
        f"transport is {type(transport).__name__}: give 'httpx', 'httpx2', 'aiohttp', a transport of httpx or httpx2, "
        "or an object with exchange() and aclose()"
    )


def _library_of(given: Any, types: tuple[tuple[str, str], ...]) -> str | None:
    """Find the library that one of these types comes from, without importing it: the caller has imported it."""
    for library, name in types:
        module = sys.modules.get(library)
        if module is not None and isinstance(given, getattr(module, name)):
            return library
    return None


def _transport_type(name: str) -> Any:
    if name not in _TYPES:
        raise InvalidConfigurationError(f"transport {name!r} is not one of 'httpx', 'httpx2', 'aiohttp'")
    try:
        return getattr(import_module(f"{__name__}.{name}"), _TYPES[name])
    except ImportError as error:
        raise InvalidConfigurationError(missing_extra(name, f"transport {name!r}")) from error
