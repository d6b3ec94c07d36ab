"""Descriptors follow their process: offsets, pipes with what is in them, counters, timers, epolls."""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from e2kemu.errors import StateError
from e2kemu.linux import constants as c
from tests.framework import forked
from tests.linux.handlers import Guest, check
from tests.linux.scripts import AREA, LINES, Script

POLLIN = 1


def moved(guest: Guest, root: Path) -> Guest:
    """A new guest on ``root`` with the descriptors of ``guest``, through JSON."""
    assert guest.process.files.migration_blockers() == []
    items = json.loads(json.dumps(guest.process.files.save()))
    other = Guest(str(root))
    other.process.files.load(items, other.process)
    return other


def test_files_are_opened_again_where_they_were(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("0123456789")
    (tmp_path / "d").mkdir()
    with Guest(str(tmp_path)) as guest:
        reader = guest.open("/data")
        guest.read(reader, 4)
        shared = check(guest.call("dup3", reader, 10, c.O_CLOEXEC))
        appender = guest.open("/data", c.O_WRONLY | c.O_APPEND | c.O_CREAT)
        created = guest.open("/d/new", c.O_RDWR | c.O_CREAT | c.O_EXCL)
        check(guest.call("write", created, b"abcdef", 6))
        folder = guest.open("/d", c.O_DIRECTORY)
        null = guest.open("/proc/self/limits")
        with moved(guest, tmp_path) as other:
            assert other.read(reader, 2) == b"45"
            assert other.read(shared, 2) == b"67", "they share one offset, as before"
            assert other.process.files.close_on_exec == {shared}
            assert other.call("write", appender, b"!", 1) == 1
            assert other.call("lseek", created, 0, 1) == 6
            assert other.call("pread64", created, other.space(8), 8, 0) == 6
            assert other.call("openat", folder, "new", 0) > 0
            assert b"Max open files" in other.read(null)
    assert (tmp_path / "data").read_text() == "0123456789!"


def test_what_is_in_pipes_and_counters_goes_along_and_stays_too(tmp_path: Path) -> None:
    with Guest(str(tmp_path)) as guest:
        ends = guest.space(8)
        assert guest.call("pipe2", ends, c.O_NONBLOCK) == 0
        reader, writer = guest.memory.unpack("ii", ends)
        assert guest.call("fcntl", writer, c.FCNTL["F_SETPIPE_SZ"], 131072) == 131072
        data = os.urandom(100_000)
        assert guest.call("write", writer, guest.put(data), len(data)) == len(data)
        counter = check(guest.call("eventfd2", 7, 1 | c.O_NONBLOCK))
        timer = check(guest.call("timerfd_create", 1, c.O_NONBLOCK))
        assert guest.call("timerfd_settime", timer, 0, struct.pack("<4q", 0, 5, 0, 1), 0) == 0
        memory = check(guest.call("memfd_create", "m", 0))
        check(guest.call("write", memory, b"in memory", 9))
        epoll = check(guest.call("epoll_create1", 0))
        for fd, number in ((reader, 1), (timer, 2)):
            events = POLLIN | (c.EPOLLET if fd == reader else 0)
            assert guest.call("epoll_ctl", epoll, 1, fd, struct.pack("<I4xQ", events, number)) == 0
        with moved(guest, tmp_path) as other:
            events = other.space(64)
            assert other.call("epoll_wait", epoll, events, 4, 0) == 2
            assert other.call("ioctl", reader, c.IOCTLS["FIONREAD"], events) == 0
            assert other.memory.u32(events) == len(data)
            for one in (other, guest):
                received = b""
                while len(received) < len(data):
                    received += one.read(reader)
                assert received == data
                assert one.call("read", reader, one.space(8), 8) == -errno.EAGAIN
                assert one.read(counter, 8) == (1).to_bytes(8, "little")
                assert int.from_bytes(one.read(timer, 8), "little") >= 1
                assert one.call("lseek", memory, 0, 0) == 0
                assert one.read(memory) == b"in memory"
            assert other.call("fcntl", writer, c.FCNTL["F_GETPIPE_SZ"], 0) == 131072
            assert other.call("write", writer, b"more", 4) == 4
            assert other.read(reader) == b"more"


def test_a_pipe_whose_writers_have_gone_still_ends(tmp_path: Path) -> None:
    with Guest(str(tmp_path)) as guest:
        ends = guest.space(8)
        assert guest.call("pipe", ends) == 0
        reader, writer = guest.memory.unpack("ii", ends)
        check(guest.call("write", writer, b"last words", 10))
        check(guest.call("close", writer))
        before = len(os.listdir("/proc/self/fd"))
        with moved(guest, tmp_path) as other:
            assert other.read(reader) == b"last words"
            assert other.read(reader) == b""
        assert len(os.listdir("/proc/self/fd")) == before


STREAM, DATAGRAM, SEQPACKET, NONBLOCK = 1, 2, 5, 0x800


def internet(port: int) -> bytes:
    """struct sockaddr_in of 127.0.0.1."""
    return struct.pack("<H", c.AF_INET) + port.to_bytes(2, "big") + socket.inet_aton("127.0.0.1") + bytes(8)


def name_of(guest: Guest, fd: int, call: str = "getsockname") -> bytes:
    """The address of a socket, or of its peer."""
    room, size = guest.space(32), guest.put((32).to_bytes(4, "little"))
    check(guest.call(call, fd, room, size))
    return guest.memory.read(room, 16)


def pair(guest: Guest, kind: int) -> tuple[int, int]:
    """The ends of a socketpair."""
    ends = guest.space(8)
    assert guest.call("socketpair", c.AF_UNIX, kind | NONBLOCK, 0, ends) == 0
    first, second = guest.memory.unpack("ii", ends)
    return first, second


@pytest.mark.parametrize("kind", [STREAM, DATAGRAM, SEQPACKET])
def test_both_ends_of_a_socketpair_go_with_what_is_in_them_and_it_stays_too(kind: int, tmp_path: Path) -> None:
    with Guest(str(tmp_path)) as guest:
        first, second = pair(guest, kind)
        check(guest.call("setsockopt", second, 1, 7, (300_000).to_bytes(4, "little"), 4))      # SO_SNDBUF
        messages = [b"one", b"twotwo", os.urandom(50_000)]
        for message in messages:
            assert guest.call("write", second, guest.put(message), len(message)) == len(message)
        assert guest.call("write", first, b"back", 4) == 4
        assert guest.call("shutdown", first, 1) == 0
        with moved(guest, tmp_path) as other:
            assert other.call("write", first, b"!", 1) == -errno.EPIPE
            for one in (other, guest):
                received: list[bytes] = []
                while sum(map(len, received)) < sum(map(len, messages)):
                    received.append(one.read(first, 60_000))
                assert received == messages or (kind == STREAM and b"".join(received) == b"".join(messages))
                assert one.call("read", first, one.space(8), 8) == -errno.EAGAIN
                assert one.read(second, 8) == b"back"
                assert one.call("write", second, b"more", 4) == 4
                assert one.read(first, 8) == b"more"


def test_what_was_said_before_the_other_end_closed_goes_along(tmp_path: Path) -> None:
    with Guest(str(tmp_path)) as guest:
        first, second = pair(guest, STREAM)
        assert guest.call("write", second, b"last words", 10) == 10
        check(guest.call("close", second))
        with moved(guest, tmp_path) as other:
            assert other.read(first, 64) == b"last words"
            assert other.read(first, 64) == b""


def test_sockets_that_are_not_connected_are_made_again_where_they_were_bound(tmp_path: Path) -> None:
    with Guest(str(tmp_path)) as guest:
        plain = check(guest.call("socket", c.AF_INET, STREAM | NONBLOCK, 0))
        listener = check(guest.call("socket", c.AF_INET, STREAM | NONBLOCK, 0))
        check(guest.call("bind", listener, internet(0), 16))
        check(guest.call("listen", listener, 5))
        datagrams = check(guest.call("socket", c.AF_INET, DATAGRAM | NONBLOCK, 0))
        check(guest.call("bind", datagrams, internet(0), 16))
        check(guest.call("setsockopt", plain, 6, 1, (1).to_bytes(4, "little"), 4))             # TCP_NODELAY
        check(guest.call("setsockopt", plain, 1, 20, struct.pack("<qq", 3, 0), 16))           # SO_RCVTIMEO
        local = check(guest.call("socket", c.AF_UNIX, DATAGRAM, 0))
        addresses = [name_of(guest, fd) for fd in (listener, datagrams)]
        port = int.from_bytes(addresses[0][2:4], "big")
        with moved(guest, tmp_path) as other:
            assert [name_of(other, fd) for fd in (listener, datagrams)] == addresses
            value, size = other.space(16), other.put((16).to_bytes(4, "little"))
            check(other.call("getsockopt", plain, 6, 1, value, size))
            assert other.memory.u32(value) == 1
            check(other.call("getsockopt", plain, 1, 20, value, other.put((16).to_bytes(4, "little"))))
            assert other.memory.unpack("qq", value) == (3, 0)
            assert other.process.files.get(local).kind == "socket"
            with (socket.create_connection(("127.0.0.1", port)) as client,
                  socket.socket(socket.AF_INET, DATAGRAM) as sender):
                accepted = check(other.call("accept", listener, 0, 0))
                client.sendall(b"hello")
                time.sleep(0.05)
                assert other.read(accepted, 16) == b"hello"
                sender.sendto(b"datagram", ("127.0.0.1", int.from_bytes(addresses[1][2:4], "big")))
                time.sleep(0.05)
                assert other.read(datagrams, 16) == b"datagram"
            assert guest.call("accept", listener, 0, 0) == -errno.EINVAL, "the source has given way"
        guest.process.files.go_on()
        with socket.create_connection(("127.0.0.1", port)):
            check(guest.call("accept", listener, 0, 0))


def test_a_place_that_is_taken_at_the_destination_is_named(tmp_path: Path) -> None:
    with Guest(str(tmp_path)) as guest:
        listener = check(guest.call("socket", c.AF_INET, STREAM, 0))
        check(guest.call("bind", listener, internet(0), 16))
        check(guest.call("listen", listener, 5))
        port = int.from_bytes(name_of(guest, listener)[2:4], "big")
        items = json.loads(json.dumps(guest.process.files.save()))
        check(guest.call("close", listener))
        with socket.create_server(("127.0.0.1", port)), Guest(str(tmp_path)) as other, pytest.raises(
                StateError, match=rf"cannot open 'socket' again \(file descriptor 3\): Address already .*{port}"):
            other.process.files.load(items, other.process)


def test_sockets_that_cannot_follow_are_named_with_their_peers(tmp_path: Path) -> None:
    with Guest(str(tmp_path)) as guest, socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        connected = check(guest.call("socket", c.AF_INET, STREAM, 0))
        check(guest.call("connect", connected, internet(port), 16))
        here = int.from_bytes(name_of(guest, connected)[2:4], "big")
        listener = check(guest.call("socket", c.AF_INET, STREAM, 0))
        check(guest.call("bind", listener, internet(0), 16))
        check(guest.call("listen", listener, 5))
        waits = int.from_bytes(name_of(guest, listener)[2:4], "big")
        unread = check(guest.call("socket", c.AF_INET, DATAGRAM, 0))
        check(guest.call("bind", unread, internet(0), 16))
        target = int.from_bytes(name_of(guest, unread)[2:4], "big")
        named = check(guest.call("socket", c.AF_UNIX, STREAM, 0))
        check(guest.call("bind", named, b"\1\0/name\0", 8))
        first, _ = pair(guest, STREAM)
        rights = struct.pack("<QiiI", 20, 1, 1, connected).ljust(24, b"\0")
        message = struct.pack("<QI4xQQQQI4x", 0, 0, guest.put(struct.pack("<QQ", guest.put(b"x"), 1)), 1,
                              guest.put(rights), 20, 0)
        assert guest.call("sendmsg", first, guest.put(message), 0) == 1
        with socket.create_connection(("127.0.0.1", waits)), socket.socket(socket.AF_INET, DATAGRAM) as sender:
            sender.sendto(b"x", ("127.0.0.1", target))
            time.sleep(0.05)
            name = guest.process.files.get(named).sock.getsockname()   # type: ignore[attr-defined]
            reasons = (
                (connected, f"socket 127.0.0.1:{here} connected to 127.0.0.1:{port}"),
                (listener, f"socket 127.0.0.1:{waits} with a connection that was not accepted"),
                (unread, f"socket 127.0.0.1:{target} with unread datagrams"),
                (named, f"socket {name} of AF_UNIX"), (first + 1, "socket with descriptors in it"))
            assert guest.process.files.migration_blockers() == [
                f"file descriptor {fd} ({why}) cannot be migrated" for fd, why in reasons]


def test_what_cannot_follow_is_named(tmp_path: Path) -> None:
    (tmp_path / "gone").touch()
    os.mkfifo(tmp_path / "fifo")
    with Guest(str(tmp_path)) as guest:
        guest.open("/gone")
        (tmp_path / "gone").unlink()
        check(guest.call("socket", c.AF_INET, 1, 0))
        assert guest.call("connect", 4, internet(1), 16) == -errno.ECONNREFUSED
        port = int.from_bytes(name_of(guest, 4)[2:4], "big")
        guest.open("/fifo", c.O_RDWR)
        ends = guest.space(8)
        assert guest.call("pipe", ends) == 0
        reader, writer = guest.memory.unpack("ii", ends)
        held = os.dup(guest.process.files.get(writer).host_fd)
        check(guest.call("close", writer))
        try:
            assert guest.process.files.migration_blockers() == [
                "file descriptor 3 (deleted file /gone) cannot be migrated",
                f"file descriptor 4 (socket 0.0.0.0:{port} that was connected or is about to be) cannot be migrated",
                "file descriptor 5 (fifo /fifo) cannot be migrated",
                f"file descriptor {reader} (pipe to another process) cannot be migrated"]
        finally:
            os.close(held)


def test_a_file_that_the_destination_lacks_is_named(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "file").touch()
    (tmp_path / "there").mkdir()
    with Guest(str(tmp_path / "here")) as guest:
        guest.open("/file")
        with pytest.raises(StateError, match=r"cannot open '/file' again \(file descriptor 3\): No such file"):
            moved(guest, tmp_path / "there")


@pytest.mark.parametrize("damage", [
    {}, {"fd": 3}, {"fd": "x", "file": 1}, {"fd": 3, "file": 1, "kind": "ghost", "path": ""},
    {"fd": 3, "file": 1, "kind": "eventfd", "path": "", "flags": 0},
    {"fd": 3, "file": 1, "kind": "pipe", "path": "", "flags": 7, "pipe": 1},
    {"fd": 3, "file": 1, "kind": "memfd", "path": "m", "flags": 2, "offset": 0, "data": "AAAA", "close_on_exec": 0},
    {"fd": 3, "file": 1, "kind": "eventpoll", "path": "", "flags": 2, "interests": '[[9,1,"2",0]]', "close_on_exec": 0},
    {"fd": -1, "file": 1, "kind": "eventpoll", "path": "", "flags": 2, "interests": "[]", "close_on_exec": 0}])
def test_damaged_descriptors_are_refused(tmp_path: Path, damage: dict[str, Any]) -> None:
    with Guest(str(tmp_path)) as guest, pytest.raises(StateError, match="file descriptors are damaged"):
        guest.process.files.load([damage], guest.process)


def test_a_running_program_takes_its_files_and_pipes_to_another_emulator(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "data").write_text("before-after")
    script = Script()
    fd = script.call("openat", -100, "/data", 0)
    buffer = script.space(64)
    first = script.call("read", fd, buffer, 7)
    made = script.call("pipe", script.space(8))
    filled = script.call("write", 5, b"from here", 9)
    script.call("write", 2, b"asleep\n", 7)
    slept = script.call("nanosleep", struct.pack("<qq", 2, 0), 0)
    second = script.call("read", fd, buffer + 16, 5)
    piped = script.call("read", 4, buffer + 32, 9)
    script.call("write", 1, script.area, AREA)
    script.call("exit_group", 5)
    image = b"".join(word.to_bytes(8, "little") for line in script.lines for word in line).ljust(LINES, b"\0")
    state, control = tmp_path / "state", str(tmp_path / "qmp")
    run = [sys.executable, "-m", "e2kemu.run_cli", "-root", str(root)]
    with forked.Popen([*run, "-qmp", f"unix:{control},server=on,wait=off", script.path], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as source:
        assert source.stdin is not None
        assert source.stderr is not None
        source.stdin.write((image + script.data).ljust(AREA, b"\0"))
        source.stdin.flush()
        assert source.stderr.readline() == b"asleep\n"
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(control)
            stream = connection.makefile("rw")

            def command(name: str, **arguments: Any) -> Any:
                stream.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
                stream.flush()
                while True:
                    reply = json.loads(stream.readline())
                    assert "error" not in reply, reply
                    if "return" in reply:
                        return reply["return"]

            stream.readline()
            command("qmp_capabilities")
            command("migrate", uri=f"file:{state}")
            deadline = time.monotonic() + 30
            while (status := command("query-migrate")).get("status") != "completed":
                assert status.get("status") != "failed", status
                assert time.monotonic() < deadline
                time.sleep(0.05)
            command("quit")
        source.communicate(timeout=30)
    target = forked.run([*run, "-incoming", f"file:{state}"], capture_output=True, timeout=60, check=False,
                            stdin=subprocess.DEVNULL)
    assert target.returncode == 5, target.stderr.decode()
    assert len(target.stdout) == AREA

    def value(address: int, size: int) -> bytes:
        return target.stdout[address - script.area:address - script.area + size]

    results = [int.from_bytes(value(r.address, 8), "little", signed=True)
               for r in (fd, first, made, filled, slept, second, piped)]
    assert results == [3, 7, 0, 9, 0, 5, 9]
    assert value(buffer, 7) + value(buffer + 16, 5) == b"before-after"
    assert value(buffer + 32, 9) == b"from here"
