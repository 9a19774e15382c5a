"""The transport on httpx2, which continues httpx under another name with the same interface (extra ``httpx2``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import httpx2

from qxt_async.transports.httpx import HttpxTransport, OneTimeBody

if TYPE_CHECKING:
    from types import ModuleType


class _Body(OneTimeBody, httpx2.AsyncByteStream):
    pass


class Httpx2Transport(HttpxTransport):
    """Sends through httpx2. The arguments are those of `HttpxTransport`."""

    library: ClassVar[ModuleType] = httpx2
    body_type: ClassVar[type[OneTimeBody]] = _Body
