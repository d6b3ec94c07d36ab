"""Pipes, events, timers, and waiting for them: a call that would wait never holds the others up."""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2kemu.linux import constants as c
from e2kemu.linux.calls.poll import poll
from e2kemu.linux.calls.transfer import write
from e2kemu.linux.error import WouldBlock
from tests.framework import forked
from tests.linux.handlers import Guest, check
from tests.linux.scripts import Script

POLLIN, POLLOUT, POLLERR, POLLHUP, POLLNVAL = 1, 4, 8, 16, 32


@pytest.fixture(params=[8, 4], ids=["64-bit", "32-bit"])
def guest(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Guest]:
    with Guest(str(tmp_path), pointer_size=request.param) as guest:
        yield guest


def pair(guest: Guest, call: str = "pipe2", *arguments: int) -> tuple[int, int]:
    """The two descriptors of a new pipe (or whatever ``call`` makes)."""
    ends = guest.space(8)
    assert guest.call(call, *arguments, ends, *([0] if call == "pipe2" else [])) == 0
    first, second = guest.memory.unpack("ii", ends)
    return first, second


def pollfds(guest: Guest, *items: tuple[int, int]) -> int:
    return guest.put(b"".join(struct.pack("<ihh", fd, events, 0) for fd, events in items))


def revents(guest: Guest, address: int, count: int) -> list[int]:
    return [guest.memory.u16(address + 8 * n + 6) for n in range(count)]


def spec(guest: Guest, *values: int) -> int:
    """The address of longs."""
    return guest.put(struct.pack(f"<{len(values)}{'q' if guest.process.pointer_size == 8 else 'i'}", *values))


def event(events: int, data: int) -> bytes:
    return struct.pack("<I4xQ", events, data)


def epoll_events(guest: Guest, epoll: int, timeout: int = 0) -> list[tuple[int, int]]:
    buffer = guest.space(16 * 8)
    count = check(guest.call("epoll_wait", epoll, buffer, 8, timeout))
    return [guest.memory.unpack("I4xQ", buffer + 16 * n) for n in range(count)]  # type: ignore[misc]


def test_an_empty_pipe_waits_and_a_closed_one_ends(guest: Guest) -> None:
    reader, writer = pair(guest)
    buffer = guest.space(16)
    with pytest.raises(WouldBlock) as waits:
        guest.call("read", reader, buffer, 16, patience=0)
    assert [events for _, events in waits.value.fds] == [POLLIN]
    assert guest.call("write", writer, b"data", 4) == 4
    assert guest.read(reader) == b"data"
    assert guest.call("close", writer) == 0
    assert guest.read(reader) == b""


def test_a_write_to_a_full_pipe_goes_on_where_it_stopped(guest: Guest) -> None:
    reader, writer = pair(guest)
    data = os.urandom(200_000)
    address = guest.put(data)
    received = b""
    arguments = (guest.task, writer, address, len(data))
    guest.task.progress = 0
    while True:
        try:
            assert write(*arguments) == len(data)
            break
        except WouldBlock as waits:
            waited = [events for _, events in waits.fds]
            done = guest.task.progress
            assert (waited, len(received) < done < len(data)) == ([POLLOUT], True)
            received += guest.read(reader)
            guest.task.progress = done     # reading was another task's
    while len(received) < len(data):
        received += guest.read(reader)
    assert received == data


def test_a_nonblocking_pipe_says_eagain(guest: Guest) -> None:
    ends = guest.space(8)
    assert guest.call("pipe2", ends, c.O_NONBLOCK) == 0
    reader, writer = guest.memory.unpack("ii", ends)
    buffer = guest.space(65536)
    assert guest.call("read", reader, buffer, 1) == -errno.EAGAIN
    assert guest.call("write", writer, buffer, 65536) == 65536
    assert guest.call("write", writer, buffer, 1) == -errno.EAGAIN
    assert guest.call("ioctl", reader, c.IOCTLS["FIONREAD"], buffer) == 0
    assert guest.memory.u32(buffer) == 65536
    assert guest.call("fcntl", reader, c.FCNTL["F_SETPIPE_SZ"], 131072) == 131072
    assert guest.call("write", writer, buffer, 65536) == 65536
    assert guest.call("pipe2", ends, 1) == -errno.EINVAL
    assert guest.call("pipe2", 8, 0) == -errno.EFAULT
    assert guest.call("close", reader) == 0
    assert guest.call("write", writer, b"x", 1) == -errno.EPIPE


def test_poll_tells_each_descriptors_events(guest: Guest) -> None:
    reader, writer = pair(guest)
    fds = pollfds(guest, (reader, POLLIN), (writer, POLLOUT), (-1, POLLIN), (77, POLLIN))
    assert guest.call("poll", fds, 4, 0) == 2
    assert revents(guest, fds, 4) == [0, POLLOUT, 0, POLLNVAL]
    check(guest.call("write", writer, b"x", 1))
    assert guest.call("poll", fds, 2, -1) == 2
    assert revents(guest, fds, 2) == [POLLIN, POLLOUT]
    guest.read(reader)
    check(guest.call("close", writer))
    assert guest.call("poll", fds, 1, 0) == 1
    assert revents(guest, fds, 1) == [POLLHUP]


def test_poll_times_out_at_the_same_moment_however_often_it_is_executed(guest: Guest) -> None:
    reader, _ = pair(guest)
    fds = pollfds(guest, (reader, POLLIN))
    assert guest.call("poll", fds, 1, 20) == 0
    with pytest.raises(WouldBlock) as first:
        guest.call("poll", fds, 1, 1_000_000, patience=0)
    for _ in range(3):
        with pytest.raises(WouldBlock) as again:
            poll(guest.task, fds, 1, 1_000_000)
        assert again.value.deadline == first.value.deadline
        assert not again.value.restart


def test_ppoll_tells_what_is_left_of_the_time(guest: Guest) -> None:
    reader, writer = pair(guest)
    fds, timeout = pollfds(guest, (reader, POLLIN)), spec(guest, 100, 0)
    check(guest.call("write", writer, b"x", 1))
    assert guest.call("ppoll", fds, 1, timeout, 0, 8) == 1
    assert guest.call("ppoll", fds, 1, spec(guest, 0, 10**9), 0, 8) == -errno.EINVAL
    assert guest.call("ppoll", fds, 1, timeout, guest.put(bytes(8)), 4) == -errno.EINVAL
    guest.read(reader)
    short = spec(guest, 0, 1000)
    assert guest.call("ppoll", fds, 1, short, guest.put(bytes(8)), 8) == 0
    assert guest.task.saved_mask is None
    assert guest.memory.read(short, 2 * guest.process.pointer_size) == bytes(2 * guest.process.pointer_size)


def test_a_signal_mask_holds_while_the_call_waits(guest: Guest) -> None:
    reader, writer = pair(guest)
    fds = pollfds(guest, (reader, POLLIN))
    guest.task.mask = 0b1000
    arguments = ("ppoll", fds, 1, 0, guest.put((0b110000).to_bytes(8, "little")), 8)
    with pytest.raises(WouldBlock):
        guest.call(*arguments, patience=0)
    assert (guest.task.mask, guest.task.saved_mask) == (0b110000, 0b1000)
    check(guest.call("write", writer, b"x", 1))
    assert guest.call(*arguments) == 1
    assert (guest.task.mask, guest.task.saved_mask) == (0b1000, None)


def test_select_and_pselect(guest: Guest) -> None:
    reader, writer = pair(guest)
    word = guest.process.pointer_size
    sets = [guest.space(16) for _ in range(3)]

    def select(name: str = "_newselect", timeout: int = 0) -> int:
        guest.memory.write(sets[0], (1 << reader).to_bytes(word, "little"))
        guest.memory.write(sets[1], (1 << writer).to_bytes(word, "little"))
        return guest.call(name, writer + 1, sets[0], sets[1], sets[2], timeout, 0)

    assert select() == 1
    assert guest.memory.u32(sets[0]) == 0
    assert guest.memory.u32(sets[1]) == 1 << writer
    check(guest.call("write", writer, b"x", 1))
    assert select() == 2
    assert select("pselect6") == 2
    assert guest.memory.u32(sets[0]) == 1 << reader
    guest.read(reader)
    guest.memory.write(sets[0], (1 << reader).to_bytes(word, "little"))
    assert guest.call("_newselect", reader + 1, sets[0], 0, 0, spec(guest, 0, 1000)) == 0
    assert guest.memory.u32(sets[0]) == 0
    guest.memory.write(sets[0], (1 << 20).to_bytes(word, "little"))
    assert guest.call("_newselect", 21, sets[0], 0, 0, spec(guest, 0, 0)) == -errno.EBADF
    assert guest.call("_newselect", -1, 0, 0, 0, 0) == -errno.EINVAL


@pytest.mark.parametrize("kind", ["pipe", "socket", "eventfd"])
def test_epoll_level_edge_and_once(guest: Guest, kind: str) -> None:
    if kind == "eventfd":
        reader = writer = check(guest.call("eventfd2", 0, 0))
    else:
        reader, writer = pair(guest) if kind == "pipe" else pair(guest, "socketpair", 1, 1, 0)
    data = (1).to_bytes(8, "little")
    epoll = check(guest.call("epoll_create1", c.O_CLOEXEC))

    def control(operation: int, events: int) -> int:
        return guest.call("epoll_ctl", epoll, operation, reader, event(events, 0x1234567890))

    assert control(1, POLLIN) == 0
    assert control(1, POLLIN) == -errno.EEXIST
    assert epoll_events(guest, epoll) == []
    check(guest.call("write", writer, data, 8))
    assert epoll_events(guest, epoll) == epoll_events(guest, epoll, -1) == [(POLLIN, 0x1234567890)]
    assert control(3, POLLIN | c.EPOLLET) == 0
    assert epoll_events(guest, epoll) == [(POLLIN, 0x1234567890)]
    assert epoll_events(guest, epoll) == [], "an edge is told once"
    check(guest.call("write", writer, data, 8))
    assert epoll_events(guest, epoll) == [(POLLIN, 0x1234567890)]
    assert control(3, POLLIN | c.EPOLLONESHOT) == 0
    assert epoll_events(guest, epoll) == [(POLLIN, 0x1234567890)]
    check(guest.call("write", writer, data, 8))
    assert epoll_events(guest, epoll) == []
    assert control(3, POLLIN | c.EPOLLONESHOT) == 0
    assert epoll_events(guest, epoll) == [(POLLIN, 0x1234567890)]
    assert control(2, 0) == 0
    assert control(2, 0) == control(3, POLLIN) == -errno.ENOENT
    assert epoll_events(guest, epoll) == []


def test_epoll_refuses_what_it_cannot_watch(guest: Guest) -> None:
    epoll, other = check(guest.call("epoll_create", 1)), check(guest.call("epoll_create1", 0))
    file = guest.open("/f", c.O_CREAT)
    assert guest.call("epoll_ctl", epoll, 1, file, event(POLLIN, 0)) == -errno.EPERM
    assert guest.call("epoll_ctl", epoll, 1, epoll, event(POLLIN, 0)) == -errno.EINVAL
    assert guest.call("epoll_ctl", file, 1, epoll, event(POLLIN, 0)) == -errno.EINVAL
    assert guest.call("epoll_ctl", epoll, 1, 99, event(POLLIN, 0)) == -errno.EBADF
    assert guest.call("epoll_ctl", epoll, 1, other, event(POLLIN, 0)) == 0
    assert guest.call("epoll_ctl", other, 1, epoll, event(POLLIN, 0)) == -errno.ELOOP
    assert guest.call("epoll_create", 0) == -errno.EINVAL
    assert guest.call("epoll_wait", epoll, guest.space(16), 0, 0) == -errno.EINVAL


def test_an_epoll_in_an_epoll_and_in_poll(guest: Guest) -> None:
    reader, writer = pair(guest)
    inner, outer = check(guest.call("epoll_create1", 0)), check(guest.call("epoll_create1", 0))
    assert guest.call("epoll_ctl", inner, 1, reader, event(POLLIN, 1)) == 0
    assert guest.call("epoll_ctl", outer, 1, inner, event(POLLIN, 2)) == 0
    fds = pollfds(guest, (outer, POLLIN))
    assert guest.call("poll", fds, 1, 0) == 0
    check(guest.call("write", writer, b"x", 1))
    assert guest.call("poll", fds, 1, -1) == 1
    assert epoll_events(guest, outer) == [(POLLIN, 2)]
    check(guest.call("close", reader))
    assert epoll_events(guest, outer) == [], "a closed descriptor is out of all epolls"


def test_an_eventfd_counts(guest: Guest) -> None:
    plain = check(guest.call("eventfd2", 5, c.O_NONBLOCK))
    assert guest.read(plain, 8) == (5).to_bytes(8, "little")
    assert guest.call("read", plain, guest.space(8), 8) == -errno.EAGAIN
    assert guest.call("write", plain, (3).to_bytes(8, "little"), 8) == 8
    assert guest.call("write", plain, (4).to_bytes(8, "little"), 8) == 8
    assert guest.read(plain, 8) == (7).to_bytes(8, "little")
    assert guest.call("write", plain, (1).to_bytes(8, "little") * 5, 40) == 8, "one write adds one number"
    assert guest.read(plain, 8) == (1).to_bytes(8, "little")
    assert guest.call("write", plain, (3).to_bytes(8, "little"), 4) == -errno.EINVAL
    assert guest.call("read", plain, guest.space(8), 4) == -errno.EINVAL
    assert guest.call("write", plain, b"\xff" * 8, 8) == -errno.EINVAL
    semaphore = check(guest.call("eventfd2", 2, 1 | c.O_NONBLOCK))
    assert [guest.read(semaphore, 8)[0] for _ in range(2)] == [1, 1]
    assert guest.call("read", semaphore, guest.space(8), 8) == -errno.EAGAIN


def test_a_timerfd_expires_and_repeats(guest: Guest) -> None:
    timer = check(guest.call("timerfd_create", 1, 0))
    value = guest.space(32)
    assert guest.call("timerfd_settime", timer, 0, spec(guest, 0, 2_000_000, 0, 1_000_000), 0) == 0
    assert int.from_bytes(guest.read(timer, 8), "little") >= 1
    assert int.from_bytes(guest.read(timer, 8), "little") >= 1
    assert guest.call("timerfd_settime", timer, 0, spec(guest, 0, 0, 1000, 5), value) == 0
    assert guest.call("timerfd_gettime", timer, value) == 0
    word = "q" if guest.process.pointer_size == 8 else "i"
    interval_seconds, interval, seconds, _ = guest.memory.unpack(4 * word, value)
    assert (interval_seconds, interval) == (0, 0)
    assert 0 < seconds <= 1000
    assert guest.call("timerfd_settime", timer, 0, spec(guest, 0, 0, 0, 0), 0) == 0
    fds = pollfds(guest, (timer, POLLIN))
    assert guest.call("poll", fds, 1, 5) == 0
    assert guest.call("timerfd_settime", timer, 1, spec(guest, 0, 0, 0, 1), 0) == 0, "long past"
    assert guest.call("poll", fds, 1, -1) == 1
    assert guest.call("timerfd_settime", timer, 0, spec(guest, 0, 0, 0, 10**9), 0) == -errno.EINVAL
    assert guest.call("timerfd_create", 2, 0) == -errno.EINVAL
    assert guest.call("timerfd_gettime", 0, value) == -errno.EINVAL


def test_sleeping(guest: Guest) -> None:
    assert guest.call("nanosleep", spec(guest, 0, 1_000_000), 0) == 0
    assert guest.call("clock_nanosleep", 1, 1, spec(guest, 0, 1), 0) == 0, "a moment that is over"
    assert guest.call("nanosleep", spec(guest, 0, 10**9), 0) == -errno.EINVAL
    assert guest.call("nanosleep", spec(guest, -1, 0), 0) == -errno.EINVAL
    assert guest.call("nanosleep", 0, 0) == -errno.EFAULT
    left = guest.space(16)
    with pytest.raises(WouldBlock) as waits:
        guest.call("nanosleep", spec(guest, 1000, 0), left, patience=0)
    assert waits.value.on_signal is not None
    waits.value.on_signal()
    (seconds,) = guest.memory.unpack("q" if guest.process.pointer_size == 8 else "i", left)
    assert seconds in (999, 1000)


def test_a_program_waits_for_a_pipe_a_timer_and_a_poll() -> None:
    script = Script()
    ends, buffer, events = script.space(8), script.space(64), script.space(64)
    made = script.call("pipe", ends)
    timer = script.call("timerfd_create", 1, 0)
    armed = script.call("timerfd_settime", timer, 0, struct.pack("<4q", 0, 0, 0, 20_000_000), 0)
    expired = script.call("read", timer, buffer, 8)
    wrote = script.call("write", 4, b"pipe", 4)
    fds = script.put(struct.pack("<ihhihh", 3, POLLIN, 0, 4, POLLOUT, 0))
    ready = script.call("poll", fds, 2, -1)
    got = script.call("read", 3, buffer + 8, 10)
    none = script.call("poll", fds, 1, 10)
    epoll = script.call("epoll_create1", 0)
    added = script.call("epoll_ctl", epoll, 1, 4, event(POLLOUT, 42))
    waited = script.call("epoll_wait", epoll, events, 4, -1)
    slept = script.call("nanosleep", struct.pack("<qq", 0, 30_000_000), 0)
    more = script.call("read", 0, buffer + 32, 32)
    end = script.call("read", 0, buffer + 32, 32)
    gone = [script.call("rt_sigprocmask", 0, (1 << 12).to_bytes(8, "little"), 0, 8), script.call("close", 3),
            script.call("write", 4, b"x", 1)]
    outcome = script.run(more_input=b"late")
    assert outcome.results(made, timer, armed, expired, wrote, ready, got, none) == [0, 5, 0, 8, 4, 2, 4, 0]
    assert outcome.memory(ends, 8) == struct.pack("<ii", 3, 4)
    assert outcome.memory(buffer, 12) == (1).to_bytes(8, "little") + b"pipe"
    assert outcome.results(epoll, added, waited, slept, more, end) == [6, 0, 1, 0, 4, 0]
    assert outcome.memory(events, 16) == event(POLLOUT, 42)
    assert outcome.memory(buffer + 32, 4) == b"late"
    assert outcome.results(*gone) == [0, 0, -errno.EPIPE]


def test_a_program_gets_signals_from_timers_and_descriptors() -> None:
    script = Script()
    usr1, rt = 1 << 9, 1 << 39
    mask = script.put((usr1 | rt).to_bytes(8, "little"))
    blocked = script.call("rt_sigprocmask", 0, mask, 0, 8)
    fd = script.call("signalfd4", -1, mask, 8, c.O_CLOEXEC)
    pid = script.call("getpid")
    sent = script.call("kill", pid, 10)
    info, timer, value = script.space(256), script.space(8), script.space(32)
    first = script.call("read", fd, info, 128)
    created = script.call("timer_create", 1, struct.pack("<QiiiI", 0xABCDEF, 40, 0, 0, 0).ljust(64, b"\0"), timer)
    armed = script.call("timer_settime", 0, 0, struct.pack("<4q", 0, 0, 0, 10_000_000), 0)
    second = script.call("read", fd, info + 128, 128)
    asked = [script.call("timer_gettime", 0, value), script.call("timer_getoverrun", 0),
             script.call("timer_delete", 0), script.call("timer_delete", 0)]
    outcome = script.run()
    assert outcome.results(blocked, fd, sent, first, created, armed, second) == [0, 3, 0, 128, 0, 0, 128]
    signo, _, code, sender = struct.unpack_from("<IiiI", outcome.memory(info, 128))
    assert (signo, code, sender) == (10, 0, outcome.result(pid))
    signo, _, code = struct.unpack_from("<Iii", outcome.memory(info + 128, 128))
    (pointer,) = struct.unpack_from("<Q", outcome.memory(info + 128, 128), 48)
    assert (signo, code, pointer) == (40, -2, 0xABCDEF)
    assert outcome.results(*asked) == [0, 0, 0, -errno.EINVAL]
    assert outcome.memory(value, 32) == bytes(32)


FORKING = """
    .include "syscall.inc"
    .text
    .align 8
    .global _start
_start:
    {
        setwd wsz=16, nfx=1
        setbn rsz=7, rbs=8, rcur=0
    }
    CALL 42, ends                       // pipe
    CALL 348, 5                         // eventfd2: shared with the child
    addd,0 0, %b[0], %r9
    CALL 2                              // fork
    addd,0 0, %b[0], %r10
    {
        nop 3
        cmpedb,0 0, %r10, %pred0
        disp %ctpr1, child
    }
    ct %ctpr1 ? %pred0
    {
        nop 4
        ldw,0 0, ends, %r4
        ldw,2 0, ends+4, %r5
    }
    CALL 6, %r5                         // close our writing end
    CALL 3, %r4, buffer, 64             // read: waits for the child
    addd,0 0, %b[0], %r6
    CALL 3, %r4, rest, 64               // the child's end is gone, too
    addd,0 0, %b[0], %r7
    CALL 114, %r10, status              // wait4
    CALL 3, %r9, counter, 8
    CALL 4, 1, buffer, 5
    CALL 4, 1, status, 4
    CALL 4, 1, counter, 8
    addd,0 %r6, %r7, %r6
    CALL 300, %r6
child:
    {
        nop 4
        ldw,0 0, ends+4, %r5
    }
    CALL 4, %r9, three, 8
    CALL 4, %r5, text, 5
    CALL 300, 9
    .data
    .align 8
three: .quad 3
text: .ascii "child"
    .bss
    .align 16
ends: .space 16
buffer: .space 64
rest: .space 64
status: .space 16
counter: .space 16
"""


def test_a_parent_waits_for_what_its_child_writes(tmp_path: Path) -> None:
    source, program = tmp_path / "forking.s", tmp_path / "forking"
    source.write_text(FORKING)
    assemble = [sys.executable, "-m", "e2kemu.cpu.asm_cli", "-I", str(Path(__file__).parent)]
    forked.run([*assemble, "-o", str(program), str(source)], check=True)
    done = forked.run([sys.executable, "-m", "e2kemu.run_cli", str(program)], capture_output=True, timeout=60,
                          check=False)
    assert done.stdout == b"child" + (9 << 8).to_bytes(4, "little") + (8).to_bytes(8, "little"), done.stderr.decode()
    assert done.returncode == 5
