"""A guest's network stack for tests, written from the RFCs and not from the back end: ARP, UDP, a plain TCP.

It sees frames only. Its bytes are made and read here with ``struct``; every frame that comes is checked for right
lengths and checksums. ``copies`` decides for each frame, either way, how many of it arrive (0: lost).
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable

from e2kemu.loop import MainLoop
from e2kemu.net.backend import NetBackend

MAC = bytes.fromhex("525400123456")
ROUTER, NAME_SERVER, ADDRESS = b"\x0a\0\2\2", b"\x0a\0\2\3", b"\x0a\0\2\x0f"
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
M32 = 0xFFFF_FFFF


def ones(data: bytes) -> int:
    """The Internet checksum, word by word."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def ip(source: bytes, destination: bytes, protocol: int, body: bytes, flags: int = 0) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 7, flags, 64, protocol, 0) + source + destination
    return head[:10] + struct.pack("!H", ones(head)) + head[12:] + body


def with_sum(source: bytes, destination: bytes, protocol: int, body: bytes, at: int) -> bytes:
    pseudo = source + destination + struct.pack("!HH", protocol, len(body))
    return body[:at] + struct.pack("!H", ones(pseudo + body)) + body[at + 2 :]


def udp(source: bytes, sport: int, destination: bytes, dport: int, data: bytes) -> bytes:
    body = struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data
    return ip(source, destination, 17, with_sum(source, destination, 17, body, 6))


def tcp(
    source: bytes, sport: int, destination: bytes, dport: int, seq: int, ack: int, flags: int, window: int = 65535,
    data: bytes = b"", options: bytes = b"",
) -> bytes:  # fmt: skip
    offset = (20 + len(options)) // 4 << 4
    head = struct.pack("!HHIIBBHHH", sport, dport, seq & M32, ack & M32, offset, flags, window, 0, 0)
    return ip(source, destination, 6, with_sum(source, destination, 6, head + options + data, 16))


def ether(payload: bytes, kind: int = 0x0800, to: bytes = b"\x52\x55\x0a\0\2\2", source: bytes = MAC) -> bytes:
    return to + source + struct.pack("!H", kind) + payload


class Guest:
    """The stack; ``receive`` is what a back end calls."""

    def __init__(self, backend: NetBackend, loop: MainLoop, address: bytes = ADDRESS) -> None:
        self.backend, self.loop, self.address = backend, loop, address
        self.frames: list[bytes] = []
        self.packets: list[tuple[bytes, bytes, int, bytes]] = []
        self.sockets: dict[tuple[int, bytes, int], Tcp] = {}
        self.listening: dict[int, Callable[[Tcp], None]] = {}
        self.fragments: dict[int, dict[int, bytes]] = {}
        self.open = True
        self.copies: Callable[[], int] = lambda: 1
        backend.card = self

    # -- frames

    def receive(self, frame: bytes) -> bool:
        if not self.open:
            return False
        for _ in range(self.copies()):
            self._take(frame)
        return True

    def send(self, frame: bytes) -> None:
        for _ in range(self.copies()):
            self.backend.transmit(frame)

    def pump(self, until: Callable[[], object], seconds: float = 10.0) -> None:
        """Run the loop until it is so."""
        deadline = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < deadline, "it did not happen"
            self.loop.run_once(0.005)
            for connection in list(self.sockets.values()):
                connection.tick()

    def idle(self, rounds: int = 5) -> None:
        for _ in range(rounds):
            self.loop.run_once(0.002)

    # -- packets

    def _take(self, frame: bytes) -> None:
        assert 60 <= len(frame) <= 1514
        self.frames.append(frame)
        kind = frame[12:14]
        if kind == b"\x08\x06":
            operation, sender_mac, sender, _, target = struct.unpack("!H6s4s6s4s", frame[20:42])
            if operation == 1 and target == self.address:
                reply = b"\0\1\x08\0\6\4\0\2" + MAC + self.address + sender_mac + sender
                self.send(ether(reply, 0x0806, to=sender_mac))
            return
        assert kind == b"\x08\0"
        assert frame[:6] in (MAC, b"\xff" * 6)
        total, ident, flags = struct.unpack("!HHH", frame[16:22])
        packet = frame[14 : 14 + total]
        assert len(packet) == total
        assert packet[0] == 0x45
        assert ones(packet[:20]) == 0
        source, destination, protocol, body = packet[12:16], packet[16:20], packet[9], packet[20:]
        if flags & 0x3FFF:
            parts = self.fragments.setdefault(ident, {})
            parts[flags & 0x1FFF] = body
            if not flags & 0x2000:
                parts[1 << 20] = b""
            if 1 << 20 not in parts or sum(len(part) for part in parts.values()) < 8 * (flags & 0x1FFF):
                return
            body = b"".join(parts[key] for key in sorted(parts))
        if protocol in (6, 17):
            assert ones(source + destination + struct.pack("!HH", protocol, len(body)) + body) == 0
        else:
            assert ones(body) == 0
        self.packets.append((source, destination, protocol, body))
        if protocol == 6:
            self._tcp(source, body)

    def _tcp(self, source: bytes, body: bytes) -> None:
        sport, dport, seq, ack, offset, flags, window = struct.unpack("!HHIIBBH", body[:16])
        key = (dport, source, sport)
        if key not in self.sockets and flags & (SYN | ACK | RST) == SYN and dport in self.listening:
            connection = self.sockets[key] = Tcp(self, *key)
            connection.accept(seq)
            self.listening[dport](connection)
        elif key in self.sockets:
            self.sockets[key].take(seq, ack, flags, window, body[4 * (offset >> 4) :])

    def arp(self) -> None:
        """Make ourselves known."""
        self.send(ether(b"\0\1\x08\0\6\4\0\1" + MAC + self.address + bytes(6) + ROUTER, 0x0806, to=b"\xff" * 6))

    def connect(self, host: bytes, port: int, sport: int = 40000) -> Tcp:
        connection = self.sockets[sport, host, port] = Tcp(self, sport, host, port)
        connection.flags(SYN)
        return connection


class Tcp:
    """One end of a connection: sends within the window, repeats everything after a while, takes what is in order."""

    WINDOW = 8000

    def __init__(self, guest: Guest, port: int, host: bytes, peer: int, start: int = M32 - 500) -> None:
        self.guest, self.port, self.host, self.peer = guest, port, host, peer
        self.una = self.start = start  # near the end: numbers wrap around
        self.next = 0
        self.window = 0
        self.open = self.reset = self.ended = self.fin_acked = False
        self.passive = False
        self.received = b""
        self.taking = True
        self.out = b""
        self.flying = 0
        self.fin = False
        self.mss = 1000
        self.last = time.monotonic()

    def flags(self, flags: int, seq: int | None = None, data: bytes = b"") -> None:
        window = self.WINDOW if self.taking else 0
        at = self.una + self.flying if seq is None else seq
        options = b"\2\4" + struct.pack("!H", self.mss) if flags & SYN else b""
        self.guest.send(ether(tcp(
            self.guest.address, self.port, self.host, self.peer, at, self.next, flags, window, data, options
        )))  # fmt: skip

    def accept(self, seq: int) -> None:
        self.next, self.passive = seq + 1 & M32, True
        self.flags(SYN | ACK)

    def write(self, data: bytes) -> None:
        self.out += data
        self._output()

    def close(self) -> None:
        self.fin = True
        self._output()

    def _output(self) -> None:
        if not self.open or self.reset:
            return
        while self.flying < len(self.out) and self.flying < self.window:
            data = self.out[self.flying : self.flying + min(self.mss, self.window - self.flying)]
            self.flags(ACK | PSH, self.una + self.flying, data)
            self.flying += len(data)
        if self.fin and not self.fin_acked and self.flying == len(self.out):
            self.flags(ACK | FIN, self.una + self.flying)

    def tick(self) -> None:
        """Repeat what is not acknowledged."""
        if time.monotonic() - self.last < 0.05 or self.reset:
            return
        self.last = time.monotonic()
        if not self.open:
            self.flags(SYN | ACK if self.passive else SYN)
        elif self.out or (self.fin and not self.fin_acked):
            self.flying = 0
            self._output()

    def take(self, seq: int, ack: int, flags: int, window: int, data: bytes) -> None:
        if flags & RST:
            self.reset = True
            return
        if not self.open:
            assert self.passive or flags & SYN
            if not flags & ACK or ack != (self.una + 1) & M32:
                return
            self.una, self.open, self.window = ack, True, window
            if not self.passive:
                self.next = seq + 1 & M32
                assert struct.unpack("!H", self.guest.packets[-1][3][22:24])[0] == 1460
            self.flags(ACK)
            self._output()
        if flags & ACK:
            acked = ack - self.una & M32
            if acked <= len(self.out) + self.fin:
                self.fin_acked |= self.fin and acked == len(self.out) + 1
                self.una = ack if not self.fin_acked else self.una + len(self.out) & M32
                taken = min(acked, len(self.out))
                self.out, self.flying = self.out[taken:], max(0, self.flying - taken)
                if self.fin_acked:
                    self.una = ack
                    self.fin, self.flying = True, 0
            self.window = window
        if flags & SYN:
            self.flags(ACK)
            return
        assert len(data) <= self.mss
        if data or flags & FIN:
            if seq == self.next and (self.taking or not data) and not self.ended:
                self.received += data
                self.next = self.next + len(data) & M32
                if flags & FIN:
                    self.next, self.ended = self.next + 1 & M32, True
            self.flags(ACK)
        self._output()
