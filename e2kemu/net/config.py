"""The texts of ``-netdev``, ``-nic`` and ``hostfwd=``: checked, as values. Names and forms are QEMU's.

    user,id=ID[,net=ADDR/MASK][,host=ADDR][,dns=ADDR][,dhcpstart=ADDR][,hostname=NAME][,restrict=on|off][,hostfwd=RULE]...
    socket,id=ID,listen=[HOST]:PORT | socket,id=ID,connect=HOST:PORT
    stream,id=ID[,server=on|off],addr.type=inet|unix[,addr.host=HOST,addr.port=PORT][,addr.path=PATH][,reconnect-ms=MS]

RULE is ``[tcp|udp]:[HOSTADDR]:HOSTPORT-[GUESTADDR]:GUESTPORT``; ``hostfwd`` may be given several times.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from e2kemu.errors import OptionError
from e2kemu.net.packets import Endpoint, ip_number, ip_text
from e2kemu.options import Options, split_pairs


@dataclass(frozen=True)
class Forward:
    """One rule of port forwarding; host address 0 is every address."""

    protocol: str
    host: Endpoint
    guest: Endpoint


@dataclass(frozen=True)
class UserConfig:
    """``-netdev user``; addresses as numbers, ``host`` is the gateway: the host, seen by the guest."""

    net: int = ip_number("10.0.2.0")
    mask: int = 0xFFFF_FF00
    host: int = ip_number("10.0.2.2")
    dns: int = ip_number("10.0.2.3")
    dhcpstart: int = ip_number("10.0.2.15")
    hostname: str = ""
    restrict: bool = False
    forwards: tuple[Forward, ...] = ()


@dataclass(frozen=True)
class SocketConfig:
    """``-netdev socket`` and ``-netdev stream``: who waits, where, and how soon a client tries again (None: never)."""

    kind: str
    server: bool
    path: str = ""
    address: tuple[str, int] = ("", 0)
    retry: float | None = None

    @property
    def place(self) -> str:
        """The address as text."""
        return self.path or f"{self.address[0]}:{self.address[1]}"


@dataclass(frozen=True)
class NetdevConfig:
    """One back end by its id."""

    id: str
    settings: UserConfig | SocketConfig


KINDS = ("socket", "stream", "user")


def parse_netdev(text: str) -> NetdevConfig:
    """The text of ``-netdev``. Raises OptionError."""
    options = Options(text, implied="type")
    kind, ident = options.require("type"), options.require("id")
    check_id(ident)
    if kind not in KINDS:
        raise OptionError(f"Parameter 'type' expects a netdev backend type, one of {', '.join(KINDS)}")
    settings = _user(options, text) if kind == "user" else _socket(options) if kind == "socket" else _stream(options)
    options.finish()
    return NetdevConfig(ident, settings)


def check_id(ident: str) -> None:
    """Raises OptionError."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]*", ident):
        raise OptionError("Parameter 'id' expects an identifier")


def parse_mac(text: str) -> bytes:
    """``52:54:00:12:34:56``. Raises OptionError, also for a group address."""
    if not re.fullmatch(r"[0-9a-fA-F]{1,2}([:-][0-9a-fA-F]{1,2}){5}", text):
        raise OptionError(f"invalid MAC address '{text}'")
    mac = bytes(int(part, 16) for part in re.split("[:-]", text))
    if mac[0] & 1:
        raise OptionError(f"'{text}' is a multicast MAC address: no card can have it")
    return mac


def _user(options: Options, text: str) -> UserConfig:
    net, mask = _network(options.get("net", "10.0.2.0/24") or "")
    size = ~mask & 0xFFFF_FFFF

    def address(name: str, default: int) -> int:
        given = options.get(name)
        number = net + default if given is None else ip_number(given, name)
        if number & mask != net or number in (net, net | size):
            raise OptionError(f"'{name}' {ip_text(number)} is not an address of the guest network")
        return number

    host, dns, start = address("host", 2), address("dns", 3), address("dhcpstart", 15 if size > 31 else 4)
    if len({host, dns, start}) < 3:
        raise OptionError("'host', 'dns' and 'dhcpstart' must differ")
    options.get("hostfwd")
    rules = [value for key, value in split_pairs(text, "type") if key == "hostfwd"]
    if not options.get_bool("ipv4", True) or options.get_bool("ipv6", False):
        raise OptionError("the user-mode network has IPv4 and no IPv6")
    hostname = options.get("hostname", "") or ""
    if len(hostname.encode()) > 255:
        raise OptionError("'hostname' is longer than 255 bytes")
    return UserConfig(
        net=net, mask=mask, host=host, dns=dns, dhcpstart=start, hostname=hostname,
        restrict=options.get_bool("restrict", False),
        forwards=tuple(parse_forward(rule, start) for rule in rules),
    )  # fmt: skip


def _network(text: str) -> tuple[int, int]:
    """``10.0.2.0/24``, ``10.0.2.0/255.255.255.0``, or without a mask the one of its class (A, B; else 24 bits)."""
    address, slash, mask = text.partition("/")
    if not slash:
        first = ip_number(address, "net") >> 24
        mask = "8" if first < 128 else "16" if first < 192 else "24"
    try:
        network = ipaddress.IPv4Network(f"{address}/{mask}", strict=False)
    except ValueError:
        raise OptionError(f"Parameter 'net' expects an IPv4 network, not '{text}'") from None
    if not 8 <= network.prefixlen <= 28:
        raise OptionError(f"network {text} must leave 4 to 24 bits for hosts")
    return int(network.network_address), int(network.netmask)


_RULE = re.compile(r"(?:(tcp|udp)?:)([^:]*):([0-9]{1,5})-([^:]*):([0-9]{1,5})")


def parse_forward(text: str, guest: int) -> Forward:
    """A rule; ``guest`` is the address meant when none is given. Raises OptionError."""
    match = _RULE.fullmatch(text)
    if match is None:
        raise OptionError(f"Invalid host forwarding rule '{text}' (expected [tcp|udp]:[host]:port-[guest]:port)")
    ports = int(match[3]), int(match[5])
    if ports[0] > 65535 or not 1 <= ports[1] <= 65535:
        raise OptionError(f"Invalid host forwarding rule '{text}' (Bad port)")
    host = ip_number(match[2], "hostfwd") if match[2] else 0
    inside = ip_number(match[4], "hostfwd") if match[4] else guest
    return Forward(match[1] or "tcp", Endpoint(host, ports[0]), Endpoint(inside, ports[1]))


def parse_forward_key(text: str) -> tuple[str, Endpoint]:
    """``[tcp|udp]:[HOSTADDR]:HOSTPORT``, what ``hostfwd_remove`` takes. Raises OptionError."""
    match = re.fullmatch(r"(?:(tcp|udp)?:)?([^:]*):([0-9]{1,5})", text)
    if match is None or int(match[3]) > 65535:
        raise OptionError("invalid format")
    return match[1] or "tcp", Endpoint(ip_number(match[2]) if match[2] else 0, int(match[3]))


def _host_port(text: str, name: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise OptionError(f"Parameter '{name}' expects host:port, not '{text}'")
    return host.strip("[]"), int(port)


def _socket(options: Options) -> SocketConfig:
    listen, connect = options.get("listen"), options.get("connect")
    if (listen is None) == (connect is None):
        raise OptionError("exactly one of listen= and connect= is required")
    if listen is not None:
        return SocketConfig("socket", True, address=_host_port(listen, "listen"))
    return SocketConfig("socket", False, address=_host_port(connect or "", "connect"))


def _stream(options: Options) -> SocketConfig:
    server, kind = options.get_bool("server", False), options.require("addr.type")
    retry = options.get_number("reconnect-ms", 0) / 1000
    if server and retry:
        raise OptionError("'reconnect-ms' is incompatible with a server")
    if kind == "unix":
        return SocketConfig("stream", server, path=options.require("addr.path"), retry=retry or None)
    if kind != "inet":
        raise OptionError(f"Parameter 'addr.type' does not accept value '{kind}'")
    address = _host_port(f"{options.require('addr.host')}:{options.require('addr.port')}", "addr.port")
    return SocketConfig("stream", server, address=address, retry=retry or None)
