"""The server of ``qxt receive``: it limits connections, and the time that a request's head may take."""

from __future__ import annotations

import functools
import resource
from typing import TYPE_CHECKING, Any

from qxt_async.cli.push_protocols import HEAD_BYTES, PROTOCOLS, IdleConnections
from qxt_async.runtime.server import SocketServer

if TYPE_CHECKING:
    import socket

    from qxt_async.receiving import PushReceiver

# A gateway or a proxy needs some dozens. An idle connection costs about 20 KB.
_MAX_CONNECTIONS = 1000


def connection_limit() -> int:
    """How many connections may be open: half of the files that the process may open, at most 1,000.

    The other half is for the journal, and for connections that are accepted and not counted yet.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MAX_CONNECTIONS if files == resource.RLIM_INFINITY else max(1, min(_MAX_CONNECTIONS, files // 2))


class PushServer(SocketServer):
    """Serves a push receiver on a listening socket.

    Args:
        receiver: open.
        listener: bound and listening.
        library: what reads requests: ``h11``, or ``httptools``, which is faster; the faster one that is installed if
            not given.
        connections: how many may be open.
        head_timeout: seconds that the head of a request may take, at most twice.
    """

    def __init__(
        self,
        receiver: PushReceiver,
        listener: socket.socket,
        *,
        library: str | None = None,
        connections: int | None = None,
        head_timeout: float = 10.0,  # the receiver has the same limit for a body
        **options: Any,
    ) -> None:
        idle = IdleConnections(connection_limit() if connections is None else connections)
        protocol = functools.partial(PROTOCOLS[library or [*PROTOCOLS][-1]], idle=idle, head_timeout=head_timeout)
        super().__init__(
            receiver, listener, protocol, lifespan="off", h11_max_incomplete_event_size=HEAD_BYTES, **options
        )
