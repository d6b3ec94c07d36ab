"""The user-mode network against a guest's stack written from the RFCs, with real host sockets on loopback."""

from __future__ import annotations

import os
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2kemu.errors import OptionError
from e2kemu.loop import MainLoop
from e2kemu.net import user
from e2kemu.net.config import UserConfig, parse_netdev
from e2kemu.net.user import CONNECTIONS, UserBackend
from tests.net.guest import ACK, ADDRESS, FIN, MAC, NAME_SERVER, ROUTER, RST, SYN, Guest, ether, ip, ones, tcp, udp

Make = Callable[..., Guest]


@pytest.fixture
def make(capfd: pytest.CaptureFixture[str]) -> Iterator[Make]:
    loop = MainLoop()
    backends: list[UserBackend] = []

    def one(options: str = "") -> Guest:
        settings = parse_netdev(f"user,id=n{options}").settings
        assert isinstance(settings, UserConfig)
        backends.append(UserBackend("n", loop, settings))
        backends[-1].rto = 0.02
        return Guest(backends[-1], loop)

    yield one
    for backend in backends:
        backend.close()
    loop.close()
    assert "internal error" not in capfd.readouterr().err


def backend_of(guest: Guest) -> UserBackend:
    assert isinstance(guest.backend, UserBackend)
    return guest.backend


class Server:
    """A TCP server of the host in a thread: ``serve(connection)`` for each client."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self._serve = serve
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(20)
                try:
                    self._serve(connection)
                except OSError:
                    pass

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *details: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._thread.join(20)


def echo(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)


# -- ARP, DHCP, ICMP


def test_the_router_and_the_name_server_answer_arp_and_echo_and_nobody_else_does(make: Make) -> None:
    guest = make()
    for target in (ROUTER, NAME_SERVER, b"\x0a\0\2\x63"):
        guest.send(ether(b"\0\1\x08\0\6\4\0\1" + MAC + ADDRESS + bytes(6) + target, 0x0806, to=b"\xff" * 6))
    guest.idle()
    assert [frame[28:32] for frame in guest.frames] == [ROUTER, NAME_SERVER]
    assert all(frame[20:22] == b"\0\2" and frame[6:12] == frame[22:28] for frame in guest.frames)
    message = b"\x08\0\0\0\x12\x34\0\1" + bytes(range(56))
    message = message[:2] + struct.pack("!H", ones(message)) + message[4:]
    for target, expected in ((ROUTER, b"\0\0"), (NAME_SERVER, b"\0\0"), (b"\x08\x08\x08\x08", b"\3\x0d")):
        guest.send(ether(ip(ADDRESS, target, 1, message)))
        guest.idle()
        assert guest.packets[-1][3][:2] == expected
    assert guest.packets[-2][3][4:] == message[4:]


def dhcp(kind: int, mac: bytes = MAC, client: bytes = bytes(4), options: bytes = b"") -> bytes:
    head = struct.pack("!BBBBIHH4s12s16s192s", 1, 1, 6, 0, 0xCAFE, 0, 0, client, b"", mac, b"")
    data = head + b"\x63\x82\x53\x63" + bytes([53, 1, kind]) + options + b"\xff"
    return ether(udp(client, 68, b"\xff" * 4, 67, data), to=b"\xff" * 6, source=mac)


def reply(guest: Guest) -> tuple[bytes, dict[int, bytes]]:
    """Address and options of the last DHCP answer."""
    guest.idle()
    source, _, protocol, body = guest.packets.pop()
    assert (source, protocol, body[:4]) == (ROUTER, 17, b"\0\x43\0\x44")
    data, options = body[8:], {}
    assert struct.unpack("!BBBBI", data[:8]) == (2, 1, 6, 0, 0xCAFE)
    at = 240
    while data[at] != 255:
        options[data[at]] = data[at + 2 : at + 2 + data[at + 1]]
        at += 2 + data[at + 1]
    return data[16:20], options


def test_dhcp_gives_each_card_an_address_of_its_own_and_says_where_everything_is(make: Make) -> None:
    guest = make(",hostname=box")
    guest.send(dhcp(1))
    offered, options = reply(guest)
    assert (offered, options[53]) == (ADDRESS, b"\2")
    guest.send(dhcp(3, options=bytes([50, 4]) + offered + bytes([54, 4]) + ROUTER))
    granted, options = reply(guest)
    assert (granted, options[53]) == (ADDRESS, b"\5")
    assert (options[1], options[3], options[6], options[12]) == (b"\xff\xff\xff\0", ROUTER, NAME_SERVER, b"box")
    guest.send(dhcp(1, MAC[:5] + b"\x57"))
    assert reply(guest)[0] == b"\x0a\0\2\x10"
    guest.send(dhcp(3, client=ADDRESS))
    assert reply(guest)[1][53] == b"\5"
    guest.send(dhcp(3, MAC[:5] + b"\x58", options=bytes([50, 4]) + ADDRESS))
    assert reply(guest)[1][53] == b"\6"
    guest.send(dhcp(3, MAC[:5] + b"\x59", options=bytes([50, 4]) + b"\x0a\0\2\x14"))
    assert reply(guest)[0] == b"\x0a\0\2\x14", "an address from before a migration"
    other = make(",restrict=on,net=192.168.7.0/24,dhcpstart=192.168.7.9")
    other.send(dhcp(1))
    other.idle()
    data = other.packets.pop()[3][8:]
    assert data[16:20] == b"\xc0\xa8\7\x09"
    assert bytes([3, 4]) + b"\xc0\xa8\7\2" not in data, "a restricted guest has no way out"


def test_more_cards_than_addresses_get_none(make: Make) -> None:
    guest = make()
    for number in range(20):
        guest.send(dhcp(1, MAC[:5] + bytes([number])))
    guest.idle()
    assert len({body[24:28] for _, _, _, body in guest.packets}) == len(guest.packets) == 16


# -- UDP


def test_udp_goes_out_and_comes_back_also_in_fragments(make: Make) -> None:
    guest = make()
    guest.arp()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        for data in (b"hello", b"", os.urandom(1472)):
            guest.send(ether(udp(ADDRESS, 5000, ROUTER, port, data)))
            guest.idle()
            got, client = server.recvfrom(70000)
            assert got == data
        large = os.urandom(20001)
        server.sendto(large, client)
        guest.pump(lambda: guest.packets)
        source, _, protocol, body = guest.packets.pop()
        assert (source, protocol, body[:4]) == (ROUTER, 17, struct.pack("!HH", port, 5000))
        assert body[8:] == large
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"x", client)
        guest.idle()
        assert not guest.packets, "only who was asked may answer"
    guest.send(ether(udp(ADDRESS, 5000, ROUTER, port, b"anybody?")))
    guest.pump(lambda: guest.packets)
    assert guest.packets[-1][3][:2] == b"\3\3"


def test_many_udp_flows_do_not_use_up_the_host(make: Make) -> None:
    guest = make()
    guest.arp()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        for number in range(600):
            guest.send(ether(udp(ADDRESS, 1000 + number, ROUTER, server.getsockname()[1], b"x")))
            if number % 100 == 0:
                guest.idle(1)
        guest.idle()
    assert len(backend_of(guest).udp.flows) == 256


def test_name_servers_of_the_host_are_asked(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = make()
    guest.arp()
    asked: list[tuple[str, int]] = []
    monkeypatch.setattr(user, "name_server", lambda: "127.0.0.1")
    flows = backend_of(guest).udp
    send = flows.send
    monkeypatch.setattr(flows, "send", lambda g, p, a, d: asked.append(a) or send(g, p, a, d))  # type: ignore[func-returns-value]
    guest.send(ether(udp(ADDRESS, 5000, NAME_SERVER, 53, b"?")))
    guest.send(ether(udp(ADDRESS, 5000, NAME_SERVER, 54, b"?")))
    guest.idle()
    assert asked == [("127.0.0.1", 53)]


# -- TCP


@pytest.mark.parametrize("seed", range(4))
def test_bytes_arrive_in_order_and_whole_whatever_is_lost_or_doubled(make: Make, seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    guest = make()
    guest.arp()
    guest.idle()
    if seed:
        guest.copies = lambda: rng.choices((0, 1, 2), (10, 80, 10))[0]
    data = rng.randbytes(150_000 if seed == 0 else 30_000)
    with Server(echo) as server:
        connection = guest.connect(ROUTER, server.port)
        connection.write(data)
        connection.close()
        guest.pump(lambda: connection.ended and connection.fin_acked, 30)
    assert connection.received == data
    assert not connection.reset
    guest.copies = lambda: 1


def test_a_slow_reader_slows_the_sender_and_nothing_is_lost(make: Make) -> None:
    guest = make()
    guest.arp()
    data = os.urandom(600_000)
    with Server(lambda connection: connection.sendall(data)) as server:
        connection = guest.connect(ROUTER, server.port)
        connection.taking = False
        guest.pump(lambda: connection.open)
        guest.idle(40)
        (one,) = backend_of(guest).connections.values()
        assert one.queued[0] < 300_000
        assert connection.received == b""
        connection.taking = True
        guest.pump(lambda: connection.ended, 30)
    assert connection.received == data


def test_a_host_that_does_not_read_slows_the_guest(make: Make) -> None:
    guest, go, got = make(), threading.Event(), bytearray()
    guest.arp()

    def late(connection: socket.socket) -> None:
        go.wait(20)
        while data := connection.recv(65536):
            got.extend(data)

    data = os.urandom(400_000)
    with Server(late) as server:
        server.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        connection = guest.connect(ROUTER, server.port)
        guest.pump(lambda: connection.open)
        (one,) = backend_of(guest).connections.values()
        one.host.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        connection.write(data)
        connection.close()
        guest.pump(lambda: connection.window == 0, 20)
        assert one.queued[1] <= 65535
        go.set()
        guest.pump(lambda: connection.ended and connection.fin_acked, 20)
    assert got == data


def test_each_side_may_close_first_and_the_other_goes_on(make: Make) -> None:
    guest, got = make(), bytearray()
    guest.arp()

    def first(connection: socket.socket) -> None:
        connection.sendall(b"host is done")
        connection.shutdown(socket.SHUT_WR)
        while data := connection.recv(100):
            got.extend(data)

    with Server(first) as server:
        connection = guest.connect(ROUTER, server.port)
        guest.pump(lambda: connection.ended)
        connection.write(b"guest goes on")
        connection.close()
        guest.pump(lambda: connection.fin_acked)
    assert (connection.received, got) == (b"host is done", b"guest goes on")
    with Server(echo) as server:
        connection = guest.connect(ROUTER, server.port, 40001)
        connection.write(b"x" * 5000)
        connection.close()
        guest.pump(lambda: connection.ended)
    assert connection.received == b"x" * 5000


def test_resets_travel_through_and_a_closed_port_refuses(make: Make) -> None:
    guest, told = make(), threading.Event()
    guest.arp()

    def wait(connection: socket.socket) -> None:
        try:
            connection.recv(10)
        except ConnectionResetError:
            told.set()

    with Server(wait) as server:
        connection = guest.connect(ROUTER, server.port)
        guest.pump(lambda: connection.open)
        connection.flags(RST | ACK)
        guest.pump(told.is_set)
        assert not backend_of(guest).connections

    def reset(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with Server(reset) as server:
        connection = guest.connect(ROUTER, server.port, 40001)
        guest.pump(lambda: connection.reset)
    connection = guest.connect(ROUTER, server.port, 40002)
    guest.pump(lambda: connection.reset)
    guest.pump(lambda: not backend_of(guest).connections)


def test_segments_of_unknown_connections_are_reset(make: Make) -> None:
    guest = make()
    guest.arp()
    guest.send(ether(tcp(ADDRESS, 999, ROUTER, 80, 1000, 2000, ACK, data=b"from before the migration")))
    guest.idle()
    _, _, seq, _, _, flags = struct.unpack("!HHIIBB", guest.packets[-1][3][:14])
    assert (seq, flags) == (2000, RST)
    guest.send(ether(tcp(ADDRESS, 999, ROUTER, 80, 1000, 0, FIN)))
    guest.idle()
    _, _, _, ack, _, flags = struct.unpack("!HHIIBB", guest.packets[-1][3][:14])
    assert (ack, flags) == (1001, RST | ACK)
    count = len(guest.packets)
    guest.send(ether(tcp(ADDRESS, 999, ROUTER, 80, 1000, 2000, RST | ACK)))
    guest.idle()
    assert len(guest.packets) == count


def test_a_flood_of_connections_is_bounded(make: Make) -> None:
    guest = make()
    guest.arp()
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
        for number in range(CONNECTIONS + 100):
            guest.send(ether(tcp(ADDRESS, 2000 + number, ROUTER, listener.getsockname()[1], 1, 0, SYN)))
            guest.idle(1)
    assert len(backend_of(guest).connections) <= CONNECTIONS


def test_a_guest_that_takes_no_frames_loses_no_connection(make: Make) -> None:
    guest = make()
    guest.arp()
    backend_of(guest).rto = 0.0005
    with Server(echo) as server:
        connection = guest.connect(ROUTER, server.port)
        guest.pump(lambda: connection.open)
        guest.open = False
        connection.write(b"while it stands")
        guest.idle(300)
        guest.open = True
        guest.backend.flush()
        guest.pump(lambda: connection.received)
        connection.close()
        guest.pump(lambda: connection.fin_acked)
    assert connection.received == b"while it stands"


# -- the way in


def test_forwarded_ports_lead_to_the_guest_which_is_found_by_arp(make: Make) -> None:
    guest = make(",hostfwd=tcp:127.0.0.1:0-:80,hostfwd=udp:127.0.0.1:0-10.0.2.15:53")
    backend = backend_of(guest)
    ports = {rule.protocol: forward.port for rule, forward in backend.forwards.items()}
    guest.listening[80] = lambda connection: connection.write(b"welcome")
    with socket.create_connection(("127.0.0.1", ports["tcp"])) as client:
        client.sendall(b"knock")
        guest.pump(lambda: any(c.received == b"knock" for c in guest.sockets.values()))
        (connection,) = guest.sockets.values()
        connection.close()
        guest.pump(lambda: connection.fin_acked)
        client.settimeout(10)
        assert client.recv(100) == b"welcome"
        assert client.recv(100) == b""
    guest.pump(lambda: connection.ended)
    assert "TCP[HOST_FORWARD]" in backend.connection_lines()[1]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(10)
        one.sendto(b"question", ("127.0.0.1", ports["udp"]))
        guest.pump(lambda: any(packet[2] == 17 for packet in guest.packets))
        source, _, _, body = guest.packets.pop()
        sport, dport = struct.unpack("!HH", body[:4])
        assert (source, dport, body[8:]) == (ROUTER, 53, b"question")
        guest.send(ether(udp(ADDRESS, 53, ROUTER, sport, b"answer")))
        guest.idle()
        assert one.recv(100) == b"answer"


def test_a_guest_that_refuses_a_forwarded_connection_ends_it(make: Make) -> None:
    guest = make(",hostfwd=tcp:127.0.0.1:0-:80")
    (forward,) = backend_of(guest).forwards.values()
    with socket.create_connection(("127.0.0.1", forward.port)) as client:
        guest.pump(lambda: any(packet[2] == 6 for packet in guest.packets))
        sport, _, seq = struct.unpack("!HHI", guest.packets[-1][3][:8])
        guest.send(ether(tcp(ADDRESS, 80, ROUTER, sport, 0, seq + 1, RST | ACK)))
        guest.pump(lambda: not backend_of(guest).connections)
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_restricted_guest_reaches_nobody_and_is_reached(make: Make) -> None:
    guest = make(",restrict=on,hostfwd=tcp:127.0.0.1:0-:80")
    guest.arp()
    with Server(echo) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        connection = guest.connect(ROUTER, server.port)
        guest.pump(lambda: connection.reset)
        other.bind(("127.0.0.1", 0))
        other.setblocking(False)
        guest.send(ether(udp(ADDRESS, 5000, ROUTER, other.getsockname()[1], b"x")))
        guest.pump(lambda: guest.packets[-1][2] == 1)
        with pytest.raises(BlockingIOError):
            other.recv(10)
    guest.listening[80] = lambda connection: connection.write(b"in")
    (forward,) = backend_of(guest).forwards.values()
    with socket.create_connection(("127.0.0.1", forward.port)) as client:
        guest.pump(lambda: any(c.port == 80 and not c.out and c.open for c in guest.sockets.values()))
        client.settimeout(10)
        assert client.recv(10) == b"in"


def test_a_port_that_is_taken_and_wrong_rules_are_one_line(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OptionError, match=f"Could not set up host forwarding rule 'tcp:127.0.0.1:{port}'"):
            make(f",hostfwd=tcp:127.0.0.1:{port}-:80")
    for wrong in (
        "hostfwd=80", "hostfwd=tcp::80", "hostfwd=sctp::1-:2", "hostfwd=tcp::70000-:1", "hostfwd=tcp::1-:0",
        "hostfwd=tcp:300.0.0.1:1-:1", "net=10.0.2.0/31", "net=x", "host=10.0.3.1", "host=10.0.2.0", "dns=10.0.2.2",
        "restrict=maybe", "foo=1", "ipv6=on", "hostname=" + "x" * 300,
    ):  # fmt: skip
        with pytest.raises(OptionError):
            make("," + wrong)


# -- hostile guests

FIELD = st.integers(0, 255)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=90), st.sampled_from((0x0800, 0x0806, 0x86DD, 0x8100))), max_size=6))
def test_any_bytes_as_frames_are_survived(frames: list[tuple[bytes, int]]) -> None:
    loop = MainLoop()
    backend = UserBackend("n", loop, UserConfig(restrict=True))
    guest = Guest(backend, loop)
    for payload, kind in frames:
        backend._carry(ether(payload, kind))
        backend._carry(payload)
    guest.arp()
    guest.pump(lambda: any(frame[12:14] == b"\x08\x06" for frame in guest.frames))
    backend.close()
    loop.close()


def test_damaged_packets_are_dropped_one_by_one(make: Make) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng, guest = random.Random(seed), make(",restrict=on")
    guest.arp()
    guest.idle()
    good = [
        dhcp(1), ether(udp(ADDRESS, 1, ROUTER, 9, b"data")),
        ether(tcp(ADDRESS, 1, ROUTER, 9, 5, 6, SYN, options=b"\2\4\5\xb4")),
        ether(ip(ADDRESS, ROUTER, 1, b"\x08\0\xf7\xff\0\0\0\0")),
    ]  # fmt: skip
    backend = backend_of(guest)
    for _ in range(3000):
        frame = bytearray(rng.choice(good))
        for _ in range(rng.randrange(3)):
            frame[rng.randrange(12, len(frame))] = rng.randrange(256)  # who it is from is anybody's to say
        frame = frame[: rng.choice((len(frame), len(frame), rng.randrange(len(frame) + 1)))]
        backend._carry(bytes(frame))
    before = len(guest.packets)
    for wrong in good[1:]:
        for at in (24, 40):  # the IPv4 checksum; a byte of the body
            backend._carry(wrong[:at] + bytes([wrong[at] ^ 0x5A]) + wrong[at + 1 :])
    assert len(guest.packets) == before, "wrong checksums"
    backend._carry(ether(ip(ADDRESS, ROUTER, 17, bytes(64), flags=0x2000)))
    assert len(guest.packets) == before, "fragments"
    backend._carry(good[-1])
    assert len(guest.packets) == before + 1


SEGMENTS = st.tuples(
    st.integers(0, 63), st.integers(-3000, 70000), st.integers(-3000, 70000), st.sampled_from((0, 1, 500, 65535)),
    st.integers(0, 1460),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(SEGMENTS, max_size=30))
def test_any_segments_leave_a_connection_that_is_right_or_reset(
    segments: list[tuple[int, int, int, int, int]]
) -> None:
    """Each segment is (flags, sequence and acknowledgement from those expected, window, bytes of data)."""
    loop, listener = MainLoop(), socket.create_server(("127.0.0.1", 0))
    backend = UserBackend("n", loop, UserConfig())
    guest = Guest(backend, loop)
    guest.arp()
    connection = guest.connect(ROUTER, listener.getsockname()[1])
    guest.pump(lambda: connection.open)
    host, _ = listener.accept()
    host.sendall(b"z" * 5000)
    for flags, seq, ack, window, size in segments:
        backend._carry(ether(tcp(
            ADDRESS, 40000, ROUTER, connection.peer, connection.una + seq, connection.next + ack, flags, window,
            b"a" * size,
        )))  # fmt: skip
        loop.run_once(0)
    for one in backend.connections.values():
        assert one.queued[0] <= 256 << 10
        assert one.queued[1] <= 65535
    guest.pump(lambda: not backend._out)
    host.close()
    listener.close()
    backend.close()
    assert not backend.connections
    loop.close()


def test_a_flood_of_frames_is_bounded_and_forgotten(make: Make) -> None:
    guest = make()
    frame = ether(b"\0\1\x08\0\6\4\0\1" + MAC + ADDRESS + bytes(6) + ROUTER, 0x0806, to=b"\xff" * 6)
    guest.open = False
    for _ in range(5000):
        guest.send(frame)
    assert guest.backend.dropped > 4000
    guest.idle()
    for _ in range(5):
        for _ in range(400):
            guest.send(frame)
        guest.idle()
    guest.open = True
    guest.backend.flush()
    assert 0 < len(guest.frames) <= 512
