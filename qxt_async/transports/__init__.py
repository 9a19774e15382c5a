"""The seam to the HTTP libraries: bytes out, status and bytes back, and whether the body was ever pulled.

A transport is any object with the two methods of `Transport`. One module each knows httpx (the default), httpx2 and
aiohttp; nothing else in the package imports an HTTP library.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeAlias

from qxt_async.errors import InvalidConfigurationError
from qxt_async.runtime.words import missing_extra
from qxt_async.transports.base import (
    ANSWER_LIMIT,
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

    AnyTransport: TypeAlias = (
        str
        | Transport
        | httpx.AsyncClient
        | httpx.AsyncBaseTransport
        | httpx2.AsyncClient
        | httpx2.AsyncBaseTransport
        | aiohttp.ClientSession
    )
    """What `open_transport` makes a transport of."""

__all__ = [
    "ANSWER_LIMIT",
    "AnswerTooLargeError",
    "Exchange",
    "NeverConnectedError",
    "RepeatedError",
    "TooLateError",
    "Transport",
    "UnaskedAnswerError",
    "open_transport",
]


def open_transport(
    given: Any,
    *,
    max_concurrency: int,
    connect_timeout: float,
    trust_env: bool,
    plain_http: bool,
    reuse_connections: bool = True,
) -> tuple[Transport, bool]:
    """Make a transport of what the caller gave.

    Args:
        given: ``None`` or ``"httpx"``, ``"httpx2"``, ``"aiohttp"`` for one of our own; a `Transport`; an
            ``AsyncClient`` or ``AsyncBaseTransport`` of httpx or httpx2; an ``aiohttp.ClientSession``.
        max_concurrency: requests in flight at most: the size of the pool.
        connect_timeout: seconds until a connection has to stand.
        trust_env: whether proxies from the environment are used.
        plain_http: whether the address is ``http://``, which needs no TLS context.
        reuse_connections: whether a connection serves more than one request.

    Returns:
        The transport, and whether it is ours to close.

    Raises:
        InvalidConfigurationError: it is none of these, its extra is not installed, or it cannot do what is asked.
    """
    if given is None or isinstance(given, str):
        transport = _own_type(given or "httpx")(
            max_concurrency=max_concurrency,
            connect_timeout=connect_timeout,
            trust_env=trust_env,
            plain_http=plain_http,
            reuse_connections=reuse_connections,
        )
        return transport, True
    # A library that nobody has imported cannot have made what we were given.
    for library, adapters in (
        ("httpx", ("AsyncClient", "AsyncBaseTransport")),
        ("httpx2", ("AsyncClient", "AsyncBaseTransport")),
        ("aiohttp", ("ClientSession",)),
    ):
        module = sys.modules.get(library)
        if module is not None and isinstance(given, tuple(getattr(module, name) for name in adapters)):
            wrapping = _own_type(library).wrapping
            return wrapping(given, connect_timeout=connect_timeout, reuse_connections=reuse_connections), False
    if callable(getattr(given, "exchange", None)) and callable(getattr(given, "aclose", None)):
        if not reuse_connections:
            raise InvalidConfigurationError("reuse_connections is the business of your own transport: leave it out")
        return given, False
    raise InvalidConfigurationError(
        f"transport is {type(given).__name__}: give 'httpx', 'httpx2', 'aiohttp', an AsyncClient, a transport of httpx "
        "or httpx2, an aiohttp.ClientSession, or an object with exchange() and aclose()"
    )


def _own_type(name: str) -> Any:
    try:
        if name == "httpx":
            from qxt_async.transports.httpx import HttpxTransport

            return HttpxTransport
        if name == "httpx2":
            from qxt_async.transports.httpx2 import Httpx2Transport

            return Httpx2Transport
        if name == "aiohttp":
            from qxt_async.transports.aiohttp import AiohttpTransport

            return AiohttpTransport
    except ImportError as error:
        raise InvalidConfigurationError(missing_extra(name, f"transport {name!r}")) from error
    raise InvalidConfigurationError(f"transport {name!r} is not one of 'httpx', 'httpx2', 'aiohttp'")
