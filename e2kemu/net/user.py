"""``-netdev user``: a network of its own for one guest, carried by ordinary sockets of the host; no privileges needed.

The guest sees a router (``host``, 10.0.2.2) that answers ARP for all of the network, DHCP and ICMP echo, and carries
TCP and UDP anywhere the host can reach. The router's address is the host itself (127.0.0.1); ``dns`` (10.0.2.3) is
the host's name server. ``hostfwd`` leads in; with ``restrict`` nothing leads out. Not carried: IPv6, fragments from
the guest, ICMP to elsewhere (answered "prohibited"), broadcasts.

Connections are the host's and do not migrate: what arrives for one that is not known is answered with a reset.
"""

from __future__ import annotations

import secrets
import socket
from collections import OrderedDict
from contextlib import suppress
from typing import ClassVar

from e2kemu.errors import OptionError
from e2kemu.loop import MainLoop
from e2kemu.net import dhcp, packets
from e2kemu.net.backend import NetBackend
from e2kemu.net.config import Forward, UserConfig
from e2kemu.net.packets import ACK, BROADCAST_MAC, FIN, RST, SYN, Arp, Endpoint, Frame, Ipv4, PacketError, Segment
from e2kemu.net.tcp import TcpConnection
from e2kemu.net.udp import Flow, UdpFlows, UdpForward

CONNECTIONS = 256
"""TCP connections; of more, the one that has been silent longest is reset."""
NEIGHBOURS = 64
WAITING = 16
"""Packets that wait for an answer to ARP."""
RESOLV_CONF = "/etc/resolv.conf"
LOOPBACK = "127.0.0.1"


class TcpForward:
    """A listening port whose clients are led to the guest."""

    def __init__(self, net: UserBackend, rule: Forward) -> None:
        """Raises OSError."""
        self.net, self.guest = net, rule.guest
        self.host = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self.host.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.host.bind((packets.ip_text(rule.host.address), rule.host.port))
            self.host.listen(16)
            self.host.setblocking(False)
        except OSError:
            self.host.close()
            raise
        net.loop.add_reader(self.host.fileno(), self._accept)

    @property
    def port(self) -> int:
        """The host's port."""
        return int(self.host.getsockname()[1])

    def _accept(self) -> None:
        try:
            client, address = self.host.accept()
        except OSError:
            return
        self.net.admit(client, address[1], self.guest)

    def close(self) -> None:
        """Give the port back; connections stay."""
        self.net.loop.remove_reader(self.host.fileno())
        self.host.close()


class UserBackend(NetBackend):
    """See the module."""

    kind: ClassVar[str] = "user"

    def __init__(self, ident: str, loop: MainLoop, config: UserConfig) -> None:
        """Raises OptionError when a port cannot be forwarded."""
        super().__init__(ident, loop)
        self.config = config
        self.rto = 0.3
        self.mac = b"\x52\x55" + config.host.to_bytes(4, "big")
        self.connections: OrderedDict[tuple[Endpoint, Endpoint], TcpConnection] = OrderedDict()
        self.forwards: dict[Forward, TcpForward | UdpForward] = {}
        self.udp = UdpFlows(loop, self._send_udp, self._udp_refused)
        self.dhcp = dhcp.DhcpServer(
            dhcp.DhcpConfig(
                server=config.host, mask=config.mask, dns=config.dns, start=config.dhcpstart,
                gateway=None if config.restrict else config.host, hostname=config.hostname,
            )
        )  # fmt: skip
        self._neighbours: OrderedDict[int, bytes] = OrderedDict()
        self._waiting: list[Ipv4] = []
        self._ident = 0
        try:
            for rule in config.forwards:
                self.add_forward(rule)
        except OptionError:
            self.close()
            raise

    # -- forwarded ports

    def add_forward(self, rule: Forward) -> None:
        """``hostfwd``. Raises OptionError."""
        try:
            if rule.protocol == "udp":
                made = UdpForward(self.loop, rule.host, rule.guest, self.config.host, self._send_udp)
                self.forwards[rule] = made
            else:
                self.forwards[rule] = TcpForward(self, rule)
        except OSError as error:
            place = f"{rule.protocol}:{packets.ip_text(rule.host.address)}:{rule.host.port}"
            raise OptionError(f"Could not set up host forwarding rule '{place}': {error.strerror}") from error

    def remove_forward(self, protocol: str, host: Endpoint) -> bool:
        """``hostfwd_remove``; False: there is no such rule."""
        for rule in self.forwards:
            if (rule.protocol, rule.host) == (protocol, host):
                self.forwards.pop(rule).close()
                return True
        return False

    def admit(self, client: socket.socket, port: int, guest: Endpoint) -> None:
        """A client of a forwarded port: it comes from the gateway, from its own port if that is free."""
        remote = Endpoint(self.config.host, port)
        while (guest, remote) in self.connections:
            remote = Endpoint(self.config.host, remote.port % 65535 + 1)
        connection = self._connection(guest, remote, client, "HOST_FORWARD")
        connection.open_by_host()

    # -- frames of the guest

    def _carry(self, frame: bytes) -> None:
        try:
            parsed = packets.parse_frame(frame)
            if parsed.source[0] & 1 or parsed.source == self.mac:
                return
            if parsed.type == packets.ARP:
                self._arp(packets.parse_arp(parsed.payload))
            elif parsed.type == packets.IPV4 and parsed.destination in (self.mac, BROADCAST_MAC):
                self._ipv4(parsed, packets.parse_ipv4(parsed.payload))
        except PacketError:
            self.dropped += 1

    def _arp(self, arp: Arp) -> None:
        if arp.sender_mac[0] & 1:
            return
        self._learn(arp.sender, arp.sender_mac)
        if arp.operation == 1 and arp.target in (self.config.host, self.config.dns):
            reply = Arp(2, self.mac, arp.target, arp.sender_mac, arp.sender)
            self._frame(arp.sender_mac, packets.ARP, packets.build_arp(reply))

    def _learn(self, address: int, mac: bytes) -> None:
        """``mac`` has ``address``: send what waits for it."""
        config = self.config
        if address & config.mask != config.net or address in (config.host, config.dns, config.net):
            return
        if address == config.net | ~config.mask & 0xFFFF_FFFF:
            return
        self._neighbours[address] = mac
        self._neighbours.move_to_end(address)
        if len(self._neighbours) > NEIGHBOURS:
            self._neighbours.popitem(last=False)
        waiting, self._waiting = self._waiting, []
        for packet in waiting:
            if packet.destination == address:
                self._send(packet)
            else:
                self._waiting.append(packet)

    def _ipv4(self, frame: Frame, packet: Ipv4) -> None:
        if packet.more or packet.offset:
            raise PacketError("fragments are not put together")
        if packet.protocol == packets.UDP:
            datagram = packets.parse_udp(packet)
            if datagram.destination == dhcp.SERVER_PORT:
                if packet.destination in (self.config.host, 0xFFFF_FFFF):
                    self._dhcp(datagram.data)
                return
        self._learn(packet.source, frame.source)
        if packet.source not in self._neighbours or frame.destination != self.mac:
            return  # not from this network, or a broadcast
        if packet.protocol == packets.UDP:
            self._udp(packet, packets.parse_udp(packet))
        elif packet.protocol == packets.TCP:
            self._tcp(packet, packets.parse_tcp(packet))
        elif packet.protocol == packets.ICMP:
            self._icmp(packet)

    # -- to the guest

    def _frame(self, destination: bytes, kind: int, payload: bytes) -> None:
        self.deliver(packets.build_frame(destination, self.mac, kind, payload))

    def _send(self, packet: Ipv4, mac: bytes | None = None) -> None:
        """Send a packet to the guest's address in it, once it is known who that is."""
        mac = mac or self._neighbours.get(packet.destination)
        if mac is None:
            if len(self._waiting) >= WAITING:
                self._waiting.pop(0)
            self._waiting.append(packet)
            request = Arp(1, self.mac, self.config.host, bytes(6), packet.destination)
            self._frame(BROADCAST_MAC, packets.ARP, packets.build_arp(request))
            return
        self._ident = self._ident + 1 & 0xFFFF
        numbered = Ipv4(packet.source, packet.destination, packet.protocol, packet.payload, self._ident)
        for piece in packets.build_ipv4(numbered):
            self._frame(mac, packets.IPV4, piece)

    # -- DHCP, ICMP

    def _dhcp(self, data: bytes) -> None:
        answer = self.dhcp.handle(data)
        if answer is None or answer.mac[0] & 1:
            return
        if answer.given is not None:
            self._learn(answer.given, answer.mac)
        source = Endpoint(self.config.host, dhcp.SERVER_PORT)
        to = Endpoint(0xFFFF_FFFF if answer.to is None else answer.to, dhcp.CLIENT_PORT)
        self._send(packets.build_udp(source, to, answer.data), answer.mac if answer.to else BROADCAST_MAC)

    def _icmp(self, packet: Ipv4) -> None:
        body = packet.payload
        if len(body) < 8 or packets.checksum(body):
            raise PacketError("no ICMP message")
        if body[0] != 8:
            return
        if packet.destination in (self.config.host, self.config.dns):
            self._send(packets.build_icmp(packet.destination, packet.source, 0, 0, body[4:]))
        else:
            self._unreachable(packet, 13)

    def _unreachable(self, packet: Ipv4, code: int) -> None:
        """Destination unreachable, with the head of what could not be carried."""
        head = packets.build_ipv4(Ipv4(packet.source, packet.destination, packet.protocol, packet.payload[:8]))[0]
        self._send(packets.build_icmp(self.config.host, packet.source, 3, code, bytes(4) + head))

    # -- where things are for the host

    def _host_address(self, peer: Endpoint) -> tuple[str, int] | None:
        """What the guest calls ``peer``, None when it cannot go there."""
        config = self.config
        if config.restrict:
            return None
        if peer.address == config.host:
            return LOOPBACK, peer.port
        if peer.address == config.dns:
            return (name_server(), peer.port) if peer.port == 53 else None
        first = peer.address >> 24
        if peer.address & config.mask == config.net or first in (0, 127) or first >= 224:
            return None  # nobody there; the host's own loopback is the gateway's address; no multicast
        return packets.ip_text(peer.address), peer.port

    # -- UDP

    def _udp(self, packet: Ipv4, datagram: packets.Udp) -> None:
        guest = Endpoint(packet.source, datagram.source)
        peer = Endpoint(packet.destination, datagram.destination)
        for forward in self.forwards.values():
            if isinstance(forward, UdpForward) and forward.answer(guest, peer, datagram.data):
                return
        address = self._host_address(peer) if peer.port and guest.port else None
        if address is None or not self.udp.send(guest, peer, address, datagram.data):
            self._unreachable(packet, 13 if self.config.restrict else 1)

    def _send_udp(self, source: Endpoint, destination: Endpoint, data: bytes) -> None:
        if len(data) <= 65507:
            self._send(packets.build_udp(source, destination, data))

    def _udp_refused(self, flow: Flow) -> None:
        """The peer's port is closed."""
        self._unreachable(packets.build_udp(flow.guest, flow.peer, b""), 3)

    # -- TCP

    def initial_sequence(self) -> int:
        """Where a connection's numbers begin."""
        return secrets.randbits(32)

    def _connection(self, guest: Endpoint, remote: Endpoint, host: socket.socket, label: str = "") -> TcpConnection:
        while len(self.connections) >= CONNECTIONS:
            next(iter(self.connections.values())).abort()
        connection = TcpConnection(self, guest, remote, host, label)
        self.connections[guest, remote] = connection
        return connection

    def _tcp(self, packet: Ipv4, segment: Segment) -> None:
        guest = Endpoint(packet.source, segment.source)
        remote = Endpoint(packet.destination, segment.destination)
        connection = self.connections.get((guest, remote))
        opening = segment.flags & (SYN | ACK | RST | FIN) == SYN
        if connection is not None and opening and connection.gives_way(segment):
            connection = None
        if connection is not None:
            self.connections.move_to_end((guest, remote))
            connection.receive(segment)
            return
        address = self._host_address(remote) if opening and remote.port and guest.port else None
        if address is not None:
            with suppress(OSError):
                host = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                self._connection(guest, remote, host).open_by_guest(segment, address)
                return
        if not segment.flags & RST:
            self._refuse(guest, remote, segment)

    def _refuse(self, guest: Endpoint, remote: Endpoint, segment: Segment) -> None:
        """Answer with a reset what belongs to no connection (RFC 9293, 3.10.7.1)."""
        if segment.flags & ACK:
            reset = Segment(remote.port, guest.port, segment.acknowledgement, 0, RST, 0)
        else:
            reset = Segment(remote.port, guest.port, 0, segment.sequence + segment.length, RST | ACK, 0)
        self._send(packets.build_tcp(remote.address, guest.address, reset))

    def send_segment(self, connection: TcpConnection, segment: Segment) -> None:
        """A connection's segment for the guest."""
        self._send(packets.build_tcp(connection.remote.address, connection.guest.address, segment))

    def forget(self, connection: TcpConnection) -> None:
        """It has ended."""
        key = connection.guest, connection.remote
        if self.connections.get(key) is connection:
            del self.connections[key]

    # -- for the monitor

    def describe(self) -> str:
        return f"net={packets.ip_text(self.config.net)},restrict={'on' if self.config.restrict else 'off'}"

    def connection_lines(self) -> list[str]:
        """``info usernet``: forwarded ports, connections, flows."""
        lines = ["  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ"]

        def add(what: str, fd: int, source: Endpoint | int, destination: Endpoint, queued: tuple[int, int]) -> None:
            text, port = ("*", source) if isinstance(source, int) else (packets.ip_text(source.address), source.port)
            head = f"  {what:<17s} {fd:3d} {text:>15s} {port:5d} "
            tail = f"{packets.ip_text(destination.address):>15s} {destination.port:5d} {queued[0]:5d} {queued[1]:5d}"
            lines.append(head + tail)

        for rule, forward in self.forwards.items():
            source = Endpoint(rule.host.address, forward.port) if rule.host.address else forward.port
            add(f"{rule.protocol.upper()}[HOST_FORWARD]", forward.host.fileno(), source, rule.guest, (0, 0))
        for connection in self.connections.values():
            forwarded = connection.label == "HOST_FORWARD"
            ends = (connection.guest, connection.remote)
            source, destination = reversed(ends) if forwarded else ends
            what = f"TCP[{connection.state.value}]"
            add(what, connection.host.fileno(), source, destination, connection.queued)
        for flow in self.udp.flows.values():
            add("UDP", flow.host.fileno(), flow.guest, flow.peer, (0, 0))
        return lines

    def close(self) -> None:
        super().close()
        for connection in list(self.connections.values()):
            connection.abort(tell_guest=False)
        for forward in self.forwards.values():
            forward.close()
        self.forwards.clear()
        self.udp.close()


def name_server() -> str:
    """The host's first name server with an IPv4 address; without one, the host itself."""
    try:
        with open(RESOLV_CONF, encoding="utf-8", errors="replace") as file:
            for line in file:
                words = line.split()
                if len(words) > 1 and words[0] == "nameserver" and "." in words[1]:
                    with suppress(OptionError):
                        packets.ip_number(words[1])
                        return words[1]
    except OSError:
        pass
    return LOOPBACK
