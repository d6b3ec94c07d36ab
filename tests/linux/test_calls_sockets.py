"""Sockets: streams, datagrams, messages and descriptors in them, between guests and real peers of the host."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2kemu.linux import constants as c
from e2kemu.linux.error import WouldBlock
from e2kemu.linux.structs import CMSGHDR, MSGHDR
from tests.linux.handlers import Guest, check
from tests.linux.scripts import Script

DONTWAIT, PEEK, WAITALL, TRUNC, NOSIGNAL = 0x40, 2, 0x100, 0x20, 0x4000
LOOPBACK = bytes([127, 0, 0, 1])


@pytest.fixture(params=[8, 4], ids=["64-bit", "32-bit"])
def guest(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Guest]:
    with Guest(str(tmp_path), pointer_size=request.param) as guest:
        yield guest


def inet(port: int) -> bytes:
    """sockaddr_in of the loopback."""
    return struct.pack("<H", c.AF_INET) + struct.pack(">H", port) + LOOPBACK + bytes(8)


def unix(path: str) -> bytes:
    return struct.pack("<H", c.AF_UNIX) + path.encode() + b"\0"


def pair(guest: Guest, kind: int = 1) -> tuple[int, int]:
    ends = guest.space(8)
    assert guest.call("socketpair", c.AF_UNIX, kind, 0, ends) == 0
    first, second = guest.memory.unpack("ii", ends)
    return first, second


def port_of(guest: Guest, fd: int) -> int:
    buffer, size = guest.space(32), guest.put((32).to_bytes(4, "little"))
    assert guest.call("getsockname", fd, buffer, size) == 0
    assert guest.memory.u32(size) == 16
    return int.from_bytes(guest.memory.read(buffer + 2, 2), "big")


def message(guest: Guest, pieces: list[tuple[int, int]], *, name: int = 0, namelen: int = 0, control: int = 0,
            controllen: int = 0) -> int:
    """The address of a msghdr."""
    word = "Q" if guest.process.pointer_size == 8 else "I"
    iov = guest.put(b"".join(struct.pack(f"<{word}{word}", *piece) for piece in pieces))
    return guest.put(MSGHDR.pack(guest.process.pointer_size, name=name, namelen=namelen, iov=iov, iovlen=len(pieces),
                                 control=control, controllen=controllen))


def test_a_stream_over_the_loopback_with_a_host_program(guest: Guest) -> None:
    server = check(guest.call("socket", c.AF_INET, 1, 0))
    one = guest.put((1).to_bytes(4, "little"))
    assert guest.call("setsockopt", server, c.SOL_SOCKET, c.SOCKET_OPTIONS["SO_REUSEADDR"], one, 4) == 0
    assert guest.call("bind", server, inet(0), 16) == 0
    assert guest.call("listen", server, 5) == 0
    port = port_of(guest, server)
    with pytest.raises(WouldBlock):
        guest.call("accept", server, 0, 0, patience=0)
    with socket.create_connection(("127.0.0.1", port)) as peer:
        address, size = guest.space(32), guest.put((32).to_bytes(4, "little"))
        connection = check(guest.call("accept", server, address, size))
        assert guest.memory.read(address, 8) == inet(peer.getsockname()[1])[:8]
        peer.sendall(b"to the guest")
        assert guest.read(connection) == b"to the guest"
        assert guest.call("sendto", connection, b"to the host", 11, 0, 0, 0) == 11
        assert peer.recv(100) == b"to the host"
        assert guest.call("shutdown", connection, 1) == 0
        assert peer.recv(100) == b""
        peer.shutdown(socket.SHUT_WR)
        assert guest.read(connection) == b""
        assert guest.call("write", connection, b"x", 1) == -errno.EPIPE
    assert guest.call("shutdown", connection, 7) == -errno.EINVAL
    buffer, size = guest.space(16), guest.put((16).to_bytes(4, "little"))
    assert guest.call("getsockopt", server, c.SOL_SOCKET, c.SOCKET_OPTIONS["SO_ACCEPTCONN"], buffer, size) == 0
    assert (guest.memory.u32(buffer), guest.memory.u32(size)) == (1, 4)


def test_a_guest_connects_to_a_host_program_and_is_refused_by_none(guest: Guest) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = check(guest.call("socket", c.AF_INET, 1 | c.SOCK_CLOEXEC, 0))
        assert guest.call("connect", client, inet(server.getsockname()[1]), 16) == 0
        peer, _ = server.accept()
        with peer:
            data = os.urandom(400_000)
            received = bytearray()

            def read_all() -> None:
                while part := peer.recv(65536):
                    received.extend(part)

            reader = threading.Thread(target=read_all)
            reader.start()
            assert guest.call("write", client, guest.put(data), len(data)) == len(data)
            assert guest.call("close", client) == 0
            reader.join(10)
            assert bytes(received) == data
        free = server.getsockname()[1]
    client = check(guest.call("socket", c.AF_INET, 1, 0))
    assert guest.call("connect", client, inet(free), 16) == -errno.ECONNREFUSED
    nonblocking = check(guest.call("socket", c.AF_INET, 1 | c.SOCK_NONBLOCK, 0))
    assert guest.call("connect", nonblocking, inet(free), 16) in (-errno.EINPROGRESS, -errno.ECONNREFUSED)
    fresh = check(guest.call("socket", c.AF_INET, 1 | c.SOCK_NONBLOCK, 0))
    assert guest.call("connect", fresh, inet(free)[:8], 8) == -errno.EINVAL
    assert guest.call("connect", fresh, unix("/x"), 5) == -errno.EINVAL


def test_unix_sockets_have_guest_paths(guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    server = check(guest.call("socket", c.AF_UNIX, 1, 0))
    assert guest.call("bind", server, unix("/run/server"), 14) == 0
    late = check(guest.call("socket", c.AF_UNIX, 1, 0))
    assert guest.call("bind", late, unix("/run/server"), 14) == -errno.EADDRINUSE
    assert guest.call("listen", server, 5) == 0
    client = check(guest.call("socket", c.AF_UNIX, 1, 0))
    assert guest.call("connect", client, unix("/run/server"), 14) == 0
    connection = check(guest.call("accept", server, 0, 0))
    for fd, call in ((connection, "getsockname"), (client, "getpeername")):
        buffer, size = guest.space(120), guest.put((110).to_bytes(4, "little"))
        assert guest.call(call, fd, buffer, size) == 0
        assert guest.memory.read(buffer, guest.memory.u32(size)) == unix("/run/server")
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(tmp_path / "run" / "server"))
        peer.sendall(b"host")
        assert guest.read(check(guest.call("accept", server, 0, 0))) == b"host"
    guest.process.cwd = "/run"
    relative = check(guest.call("socket", c.AF_UNIX, 2, 0))
    assert guest.call("bind", relative, unix("datagrams"), 12) == 0
    sender = check(guest.call("socket", c.AF_UNIX, 2, 0))
    assert guest.call("bind", sender, unix("/run/sender"), 14) == 0
    assert guest.call("sendto", sender, b"hello", 5, 0, unix("datagrams"), 12) == 5
    buffer, size, data = guest.space(120), guest.put((110).to_bytes(4, "little")), guest.space(10)
    assert guest.call("recvfrom", relative, data, 10, 0, buffer, size) == 5
    assert guest.memory.read(buffer, guest.memory.u32(size)) == unix("/run/sender")
    assert guest.call("connect", client, unix("/run/nobody"), 13) == -errno.ENOENT


def test_datagrams_keep_their_borders(guest: Guest) -> None:
    one, two = (check(guest.call("socket", c.AF_INET, 2, 0)) for _ in range(2))
    for fd in (one, two):
        assert guest.call("bind", fd, inet(0), 16) == 0
    target = inet(port_of(guest, two))
    for text in (b"first", b"second one", b""):
        assert guest.call("sendto", one, text, len(text), 0, target, 16) == len(text)
    buffer = guest.space(64)
    assert guest.call("recvfrom", two, buffer, 3, PEEK, 0, 0) == 3
    address, size = guest.space(16), guest.put((4).to_bytes(4, "little"))
    assert guest.call("recvfrom", two, buffer, 64, 0, address, size) == 5
    assert guest.memory.u32(size) == 16, "the full size, though only 4 bytes were stored"
    assert guest.memory.read(address, 8) == inet(port_of(guest, one))[:4] + bytes(4)
    assert guest.call("recvfrom", two, buffer, 4, 0, 0, 0) == 4
    assert guest.call("recvfrom", two, buffer, 64, DONTWAIT, 0, 0) == 0
    assert guest.call("recvfrom", two, buffer, 64, DONTWAIT, 0, 0) == -errno.EAGAIN
    first, second = pair(guest, 2)
    assert guest.call("write", first, guest.space(200), 200) == 200
    assert guest.call("write", first, guest.base, 1 << 30) == -errno.EMSGSIZE
    assert len(guest.read(second)) == 200


def test_messages_are_gathered_and_scattered(guest: Guest) -> None:
    one, two = pair(guest)
    data = guest.put(b"abcdefgh")
    assert guest.call("sendmsg", one, message(guest, [(data, 3), (data + 4, 2)]), NOSIGNAL) == 5
    target = guest.space(16)
    header = message(guest, [(target, 2), (target + 8, 8)])
    assert guest.call("recvmsg", two, header, 0) == 5
    assert guest.memory.read(target, 11) == b"ab\0\0\0\0\0\0cef"
    assert guest.call("sendto", one, data, 8, 0, 0, 0) == 8
    with pytest.raises(WouldBlock):
        guest.call("recvfrom", two, target, 12, WAITALL, 0, 0, patience=0)
    assert guest.memory.read(target, 8) == b"abcdefgh"
    guest.task.progress = 0
    assert guest.call("write", one, data, 8) == 8
    assert guest.call("recvfrom", two, target, 4, WAITALL, 0, 0) == 4
    assert guest.call("recvmsg", two, 64, 0) == -errno.EFAULT


def test_descriptors_travel_in_messages(guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("sent")
    one, two = pair(guest)
    file = guest.open("/file")
    ends = guest.space(8)
    assert guest.call("pipe", ends) == 0
    reader, writer = guest.memory.unpack("ii", ends)
    pointer = guest.process.pointer_size
    rights = CMSGHDR.pack(pointer, len=CMSGHDR.size(pointer) + 8, level=1, type=1) + struct.pack("<ii", file, writer)
    header = message(guest, [(guest.put(b"x"), 1)], control=guest.put(rights), controllen=len(rights))
    assert guest.call("sendmsg", one, header, 0) == 1
    room = guest.space(64)
    received = message(guest, [(guest.space(4), 4)], control=room, controllen=64)
    assert guest.call("recvmsg", two, received, c.MESSAGE_FLAGS["MSG_CMSG_CLOEXEC"]) == 1
    assert CMSGHDR.read(guest.memory, room) == {"len": CMSGHDR.size(pointer) + 8, "level": 1, "type": 1}
    got_file, got_writer = guest.memory.unpack("ii", room + CMSGHDR.size(pointer))
    assert guest.read(got_file) == b"sent"
    assert guest.call("fcntl", got_file, c.FCNTL["F_GETFD"], 0) == 1
    assert guest.call("write", got_writer, b"through", 7) == 7
    assert guest.read(reader) == b"through"
    bad = CMSGHDR.pack(pointer, len=CMSGHDR.size(pointer) + 4, level=1, type=1) + struct.pack("<i", 99)
    header = message(guest, [(guest.put(b"x"), 1)], control=guest.put(bad), controllen=len(bad))
    assert guest.call("sendmsg", one, header, 0) == -errno.EBADF


def test_timeouts_of_sockets(guest: Guest) -> None:
    one, _ = pair(guest)
    word = "q" if guest.process.pointer_size == 8 else "i"
    value = guest.put(struct.pack(f"<2{word}", 0, 20_000))
    size = struct.calcsize(f"<2{word}")
    assert guest.call("setsockopt", one, 1, c.SOCKET_OPTIONS["SO_RCVTIMEO"], value, size) == 0
    assert guest.call("read", one, guest.space(4), 4) == -errno.EAGAIN
    buffer, length = guest.space(16), guest.put((16).to_bytes(4, "little"))
    assert guest.call("getsockopt", one, 1, c.SOCKET_OPTIONS["SO_RCVTIMEO"], buffer, length) == 0
    assert guest.memory.unpack(f"2{word}", buffer) == (0, 20_000)
    assert guest.memory.u32(length) == size


def test_options_with_pointers_are_refused_and_wrong_descriptors_too(guest: Guest) -> None:
    one, _ = pair(guest)
    for level, option in ((1, 26), (1, 50), (0, 64), (41, 64), (6, 35)):
        assert guest.call("setsockopt", one, level, option, guest.space(16), 16) == -errno.ENOPROTOOPT
    assert guest.call("getsockopt", guest.open("/"), 1, 3, guest.space(4), guest.space(4)) == -errno.ENOTSOCK
    assert guest.call("connect", 77, inet(1), 16) == -errno.EBADF
    assert guest.call("socket", 3, 1, 0) == -errno.EAFNOSUPPORT
    assert guest.call("socket", c.AF_INET, 1 | 0x100, 0) == -errno.EINVAL
    assert guest.call("socket", c.AF_INET, 1, 17) == -errno.EPROTONOSUPPORT
    assert guest.call("recvfrom", one, guest.space(4), 4, DONTWAIT, 0, 0) == -errno.EAGAIN


def test_a_program_talks_to_itself_by_socketcall_and_by_many_messages() -> None:
    script = Script()
    ends, buffer = script.space(8), script.space(64)
    made = script.call("socketcall", 8, struct.pack("<4Q", c.AF_UNIX, 2, 0, ends))
    sent = script.call("socketcall", 9, struct.pack("<4Q", 3, script.put(b"datagram"), 8, 0))
    got = script.call("socketcall", 10, struct.pack("<4Q", 4, buffer, 64, 0))
    bad = script.call("socketcall", 99, 0)
    vectors = script.put(struct.pack("<4Q", script.put(b"one"), 3, script.put(b"four"), 4))
    headers = script.put(b"".join(MSGHDR.pack(8, iov=vectors + 16 * n, iovlen=1) + bytes(8) for n in range(2)))
    many = script.call("sendmmsg", 3, headers, 2, 0)
    targets = script.put(struct.pack("<6Q", buffer + 16, 8, buffer + 24, 8, buffer + 32, 8))
    room = script.put(b"".join(MSGHDR.pack(8, iov=targets + 16 * n, iovlen=1) + bytes(8) for n in range(3)))
    received = script.call("recvmmsg", 4, room, 3, 0, 0)
    outcome = script.run("-deny-net")
    assert outcome.results(made, sent, got, bad, many, received) == [0, 8, 8, -errno.EINVAL, 2, 2]
    assert outcome.memory(buffer, 8) == b"datagram"
    assert (outcome.memory(buffer + 16, 3), outcome.memory(buffer + 24, 4)) == (b"one", b"four")
    assert [struct.unpack_from("<I", outcome.memory(headers + 64 * n, 64), 56)[0] for n in range(2)] == [3, 4]
