"""Frames and packets of the user-mode network, to and from bytes: Ethernet, ARP, IPv4, UDP, TCP, ICMP.

IPv4 addresses are numbers (``0x0a00020f`` is 10.0.2.15), hardware addresses six bytes. What is cut short, contradicts
itself or has a wrong checksum is a ``PacketError``. Sources: RFC 826, 791, 792, 768, 793 (9293).
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import NamedTuple

from e2kemu.errors import OptionError

IPV4, ARP = 0x0800, 0x0806
RARP = 0x8035
ICMP, TCP, UDP = 1, 6, 17
BROADCAST_MAC = b"\xff" * 6
MTU = 1500

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


class PacketError(Exception):
    """Bytes that are no such packet."""


class Endpoint(NamedTuple):
    """Address and port."""

    address: int
    port: int

    def __str__(self) -> str:
        return f"{ip_text(self.address)}:{self.port}"


def ip_text(address: int) -> str:
    """10.0.2.15"""
    return str(ipaddress.IPv4Address(address))


def ip_number(text: str, name: str = "address") -> int:
    """The number of a dotted address. Raises OptionError that names ``name``."""
    try:
        return int(ipaddress.IPv4Address(text))
    except ValueError:
        raise OptionError(f"Parameter '{name}' expects an IPv4 address, not '{text}'") from None


def mac_text(mac: bytes) -> str:
    """52:54:00:12:34:56"""
    return mac.hex(":")


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of ``data``; over data that holds a right one it is 0."""
    # 2^16 is 1 modulo 2^16 - 1: the remainder is the ones' complement sum, with 0 for 0xffff.
    number = int.from_bytes(data + b"\0" if len(data) & 1 else data, "big")
    return 0xFFFF - (number % 0xFFFF or (0xFFFF if number else 0))


def pseudo_checksum(source: int, destination: int, protocol: int, body: bytes) -> int:
    """The checksum of UDP and TCP: over addresses, protocol and length, too."""
    return checksum(struct.pack("!IIHH", source, destination, protocol, len(body)) + body)


class Frame(NamedTuple):
    """An Ethernet frame."""

    destination: bytes
    source: bytes
    type: int
    payload: bytes


def parse_frame(data: bytes) -> Frame:
    """Raises PacketError."""
    if len(data) < 14:
        raise PacketError("frame without a header")
    return Frame(data[:6], data[6:12], int.from_bytes(data[12:14], "big"), data[14:])


def build_frame(destination: bytes, source: bytes, kind: int, payload: bytes) -> bytes:
    """The bytes of a frame."""
    return destination + source + kind.to_bytes(2, "big") + payload


class Arp(NamedTuple):
    """A request (1) or reply (2) for Ethernet and IPv4."""

    operation: int
    sender_mac: bytes
    sender: int
    target_mac: bytes
    target: int


def parse_arp(data: bytes) -> Arp:
    """Raises PacketError."""
    if len(data) < 28 or data[:6] != b"\0\1\x08\0\6\4":
        raise PacketError("ARP that is not for Ethernet and IPv4")
    operation, sender_mac, sender, target_mac, target = struct.unpack("!H6sI6sI", data[6:28])
    return Arp(operation, sender_mac, sender, target_mac, target)


def build_arp(arp: Arp) -> bytes:
    """The payload of its frame."""
    return b"\0\1\x08\0\6\4" + struct.pack("!H6sI6sI", *arp)


@dataclass(frozen=True, slots=True)
class Ipv4:
    """One datagram (or, with ``more`` or ``offset``, a fragment; ``offset`` in bytes)."""

    source: int
    destination: int
    protocol: int
    payload: bytes
    ident: int = 0
    more: bool = False
    offset: int = 0
    ttl: int = 64


def parse_ipv4(data: bytes) -> Ipv4:
    """Raises PacketError."""
    if len(data) < 20 or data[0] >> 4 != 4:
        raise PacketError("no IPv4 header")
    header = 4 * (data[0] & 15)
    total = int.from_bytes(data[2:4], "big")
    if header < 20 or not header <= total <= len(data):
        raise PacketError("IPv4 lengths that cannot be")
    if checksum(data[:header]):
        raise PacketError("wrong IPv4 checksum")
    ident, flags, ttl, protocol, _, source, destination = struct.unpack("!HHBBHII", data[4:20])
    more, offset = bool(flags & 0x2000), 8 * (flags & 0x1FFF)
    return Ipv4(source, destination, protocol, data[header:total], ident, more, offset, ttl)


def build_ipv4(packet: Ipv4) -> list[bytes]:
    """The datagram in as many pieces as fit into frames."""
    pieces = []
    step = (MTU - 20) // 8 * 8
    for start in range(0, max(len(packet.payload), 1), step):
        part = packet.payload[start : start + step]
        flags = (start + packet.offset) // 8 | (0x2000 if packet.more or start + step < len(packet.payload) else 0)
        head = struct.pack(
            "!BBHHHBBHII", 0x45, 0, 20 + len(part), packet.ident & 0xFFFF, flags, packet.ttl, packet.protocol, 0,
            packet.source, packet.destination,
        )  # fmt: skip
        pieces.append(head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + part)
    return pieces


class Udp(NamedTuple):
    """One UDP datagram."""

    source: int
    destination: int
    data: bytes


def parse_udp(packet: Ipv4) -> Udp:
    """Raises PacketError."""
    body = packet.payload
    if len(body) < 8:
        raise PacketError("UDP without a header")
    source, destination, length, check = struct.unpack("!HHHH", body[:8])
    if not 8 <= length <= len(body):
        raise PacketError("UDP length that cannot be")
    body = body[:length]
    if check and pseudo_checksum(packet.source, packet.destination, UDP, body):
        raise PacketError("wrong UDP checksum")
    return Udp(source, destination, body[8:])


def build_udp(source: Endpoint, destination: Endpoint, data: bytes) -> Ipv4:
    """A datagram with its checksum."""
    head = struct.pack("!HHH", source.port, destination.port, 8 + len(data))
    check = pseudo_checksum(source.address, destination.address, UDP, head + b"\0\0" + data) or 0xFFFF
    return Ipv4(source.address, destination.address, UDP, head + check.to_bytes(2, "big") + data)


@dataclass(frozen=True, slots=True)
class Segment:
    """One TCP segment; ``mss`` is the option's value, None without one."""

    source: int
    destination: int
    sequence: int
    acknowledgement: int
    flags: int
    window: int
    data: bytes = b""
    mss: int | None = None

    @property
    def length(self) -> int:
        """The sequence numbers it takes."""
        return len(self.data) + bool(self.flags & SYN) + bool(self.flags & FIN)


def parse_tcp(packet: Ipv4) -> Segment:
    """Raises PacketError."""
    body = packet.payload
    if len(body) < 20:
        raise PacketError("TCP without a header")
    header = 4 * (body[12] >> 4)
    if not 20 <= header <= len(body):
        raise PacketError("TCP header length that cannot be")
    if pseudo_checksum(packet.source, packet.destination, TCP, body):
        raise PacketError("wrong TCP checksum")
    source, destination, sequence, acknowledgement, _, flags, window = struct.unpack("!HHIIBBH", body[:16])
    mss = _mss(body[20:header]) if flags & SYN else None
    return Segment(source, destination, sequence, acknowledgement, flags, window, body[header:], mss)


def _mss(options: bytes) -> int | None:
    """The maximum segment size among the options; unreadable ones end the search."""
    at = 0
    while at < len(options) and options[at] != 0:
        if options[at] == 1:
            at += 1
            continue
        size = options[at + 1] if at + 1 < len(options) else 0
        if size < 2:
            return None
        if options[at] == 2 and size == 4 and at + 4 <= len(options):
            return int.from_bytes(options[at + 2 : at + 4], "big")
        at += size
    return None


def build_tcp(source: int, destination: int, segment: Segment) -> Ipv4:
    """The segment with its checksum, between two addresses."""
    options = b"" if segment.mss is None else b"\2\4" + segment.mss.to_bytes(2, "big")
    head = struct.pack(
        "!HHIIBBHHH", segment.source, segment.destination, segment.sequence & 0xFFFF_FFFF,
        segment.acknowledgement & 0xFFFF_FFFF, (20 + len(options)) // 4 << 4, segment.flags, segment.window, 0, 0,
    )  # fmt: skip
    body = head + options + segment.data
    check = pseudo_checksum(source, destination, TCP, body)
    return Ipv4(source, destination, TCP, body[:16] + check.to_bytes(2, "big") + body[18:])


def build_icmp(source: int, destination: int, kind: int, code: int, rest: bytes) -> Ipv4:
    """An ICMP message; ``rest`` is what follows the checksum."""
    check = checksum(bytes([kind, code, 0, 0]) + rest)
    return Ipv4(source, destination, ICMP, bytes([kind, code]) + check.to_bytes(2, "big") + rest)
