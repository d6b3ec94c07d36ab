"""The DHCP server of the user-mode network. Sources: RFC 2131, 2132.

Addresses are given out from ``start`` on, one to each hardware address, and stay theirs. A client that asks for an
address it had (after a migration the server here has not given it out) gets it when it is one of ours and free. A
request that cannot be granted is refused with a NAK; leases last a day.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

MAGIC = b"\x63\x82\x53\x63"
DISCOVER, OFFER, REQUEST, DECLINE, DHCPACK, NAK, RELEASE, INFORM = range(1, 9)
LEASE_SECONDS = 86400
POOL = 16
"""Addresses given out: ``start`` and the next ones."""
SERVER_PORT, CLIENT_PORT = 67, 68

_HEAD = struct.Struct("!BBBBIHHIIII16s64s128s")


@dataclass(frozen=True)
class DhcpConfig:
    """What clients are told; addresses as numbers."""

    server: int
    mask: int
    dns: int
    start: int
    gateway: int | None
    """None: no way out (restrict=on)."""
    hostname: str = ""


@dataclass(frozen=True)
class Answer:
    """A reply: its bytes and where it goes (None: to everybody)."""

    data: bytes
    to: int | None
    mac: bytes
    given: int | None
    """The address that now belongs to ``mac``."""


class DhcpServer:
    """Leases by hardware address."""

    def __init__(self, config: DhcpConfig) -> None:
        self.config = config
        self.leases: dict[bytes, int] = {}

    def handle(self, data: bytes) -> Answer | None:
        """The answer to a client's message, None when there is none."""
        if len(data) < _HEAD.size + 4 or data[_HEAD.size : _HEAD.size + 4] != MAGIC:
            return None
        op, hardware, length, _, ident, _, flags, client, _, _, _, address, _, _ = _HEAD.unpack(data[: _HEAD.size])
        if (op, hardware, length) != (1, 1, 6):
            return None
        options = dict(_options(data[_HEAD.size + 4 :]))
        mac, kind = address[:6], options.get(53, b"")
        if len(kind) != 1:
            return None
        wanted = client or int.from_bytes(options.get(50, b""), "big")
        if kind[0] == DISCOVER:
            offered = self._lease(mac, wanted, strict=False)
            return None if offered is None else self._answer(OFFER, ident, mac, offered, flags, 0, options)
        if kind[0] == REQUEST:
            server = options.get(54)
            if server is not None and server != self.config.server.to_bytes(4, "big"):
                return None  # another server was chosen
            granted = self._lease(mac, wanted, strict=True)
            if granted is None:
                return self._answer(NAK, ident, mac, None, flags, 0, options)
            return self._answer(DHCPACK, ident, mac, granted, flags, client, options)
        if kind[0] == INFORM:
            return self._answer(DHCPACK, ident, mac, None, flags, client, options)
        if kind[0] in (RELEASE, DECLINE):
            self.leases.pop(mac, None)
        return None

    def _lease(self, mac: bytes, wanted: int, *, strict: bool) -> int | None:
        """The address for ``mac``: the one it wants; unless ``strict``, the one it has or any other that is free."""
        taken = {address for owner, address in self.leases.items() if owner != mac}
        pool = range(self.config.start, self.config.start + POOL)
        mine = self.leases.get(mac)
        candidates = [wanted] if strict else [mine or wanted, wanted, *pool]
        for address in candidates:
            if address in pool and address not in taken:
                self.leases[mac] = address
                return address
        return None

    def _answer(
        self, kind: int, ident: int, mac: bytes, given: int | None, flags: int, client: int, asked: dict[int, bytes]
    ) -> Answer:
        config = self.config
        head = _HEAD.pack(
            2, 1, 6, 0, ident, 0, flags, client, given or 0, 0 if kind == NAK else config.server, 0, mac, b"", b""
        )
        options = [(53, bytes([kind])), (54, config.server.to_bytes(4, "big"))]
        if kind != NAK:
            options += [(1, config.mask.to_bytes(4, "big")), (6, config.dns.to_bytes(4, "big"))]
            if config.gateway is not None:
                options.append((3, config.gateway.to_bytes(4, "big")))
            if given is not None:
                options.append((51, LEASE_SECONDS.to_bytes(4, "big")))
            if config.hostname:
                options.append((12, config.hostname.encode()[:255]))
        if 61 in asked:
            options.append((61, asked[61]))  # RFC 6842: the client's identifier comes back
        body = MAGIC + b"".join(bytes([number, len(value)]) + value for number, value in options) + b"\xff"
        to = client if client and kind != NAK else None
        return Answer((head + body).ljust(300, b"\0"), to, mac, given)


def _options(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The options up to the end or to the first that is cut short."""
    at = 0
    while at < len(data) and data[at] != 255:
        if data[at] == 0:
            at += 1
            continue
        if at + 2 > len(data) or at + 2 + data[at + 1] > len(data):
            return
        yield data[at], data[at + 2 : at + 2 + data[at + 1]]
        at += 2 + data[at + 1]
