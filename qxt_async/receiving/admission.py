"""Who may push: whoever knows the secret path and comes from an allowed address.

The sender is the address of the connection. If that is a trusted proxy, the sender is the right-most address of
``X-Forwarded-For`` that is not a trusted proxy.
"""

from __future__ import annotations

import functools
import hmac
import ipaddress
from collections.abc import Iterable, MutableMapping
from typing import Any, Final, TypeAlias

from qxt_async.errors import InvalidConfigurationError

Scope: TypeAlias = MutableMapping[str, Any]
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_UNIX: Final = "unix"


class RefusalError(Exception):
    """The request is refused.

    Attributes:
        status: of the answer.
        body: of the answer.
        reason: for the log; empty for a stranger's request, which is not logged.
    """

    def __init__(self, status: int, body: bytes, reason: str = "") -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.reason = reason


class Admission:
    """Checks path and sender of a request. The arguments are those of `PushReceiver`.

    Raises:
        InvalidConfigurationError: an entry is neither an address nor a network.
    """

    def __init__(self, secret: str, allow: Iterable[str], trusted_proxies: Iterable[str]) -> None:
        self._secret = secret.encode()
        self._allow = _Networks(allow)
        self._trusted = _Networks(trusted_proxies)

    def check(self, scope: Scope) -> None:
        """Check a request.

        Raises:
            RefusalError: the path or the sender is wrong. The answer is the same 404 for both.
        """
        path: str = scope["path"]
        root: str = scope.get("root_path", "").rstrip("/")
        # Some servers and frameworks leave the mount's path in front, others remove it.
        path = path.removeprefix(root).strip("/")
        path_is_right = hmac.compare_digest(path.encode("utf-8", "replace"), self._secret)
        # The sender is checked for every path, so that the time of the answer says nothing about the path.
        sender = self._sender(scope) if self._allow else None
        if path_is_right and (not self._allow or (sender is not None and sender in self._allow)):
            return
        reason = ""
        if path_is_right:
            # Either the gateway has a new address, or others know the secret: somebody should look.
            reason = f"the path is right, and the address {sender or '(unknown)'} is not allowed"
        raise RefusalError(404, b"not found", reason)

    def _sender(self, scope: Scope) -> Address | None:
        """The address that sent the request; ``None`` if it is not known."""
        client = scope.get("client")
        sender = None
        if client and client[0]:
            sender = _parse_address(client[0])
            if sender is None or sender not in self._trusted:
                return sender
        elif not self._trusted.unix:
            return None
        hops = [
            hop
            for name, value in scope["headers"]
            if name == b"x-forwarded-for"
            for hop in value.decode("latin-1").split(",")
        ]
        for hop in reversed(hops):
            sender = _parse_address(hop)
            if sender is None or sender not in self._trusted:
                return sender
        return sender


class _Networks:
    """A list of addresses and networks."""

    def __init__(self, entries: Iterable[str]) -> None:
        if isinstance(entries, str):
            raise InvalidConfigurationError("pass the addresses as a list of strings, not as one string")
        entries = list(entries)
        self.unix = _UNIX in entries
        self._networks = [_parse_network(entry) for entry in entries if entry != _UNIX]

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


@functools.lru_cache(maxsize=1024)
def _parse_address(text: str) -> Address | None:
    """Parse an address as servers and proxies write it: with a port, in brackets, with a zone, IPv4 within IPv6."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _parse_network(text: str) -> Network:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise InvalidConfigurationError(f"{text!r} is neither an address nor a network: {error}") from None
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    return network
