"""Time, names, ids, limits and settings, and how --strace shows calls."""

from __future__ import annotations

import errno
import os
import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2kemu.linux import constants as c
from e2kemu.linux.identity import Identity
from e2kemu.linux.structs import RLIMIT, RUSAGE, STAT, STAT64, SYSINFO, TIMESPEC, TIMEVAL
from tests.linux.handlers import Guest, check
from tests.linux.scripts import Script


@pytest.fixture(params=[8, 4], ids=["64-bit", "32-bit"])
def guest(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Guest]:
    with Guest(str(tmp_path), pointer_size=request.param) as guest:
        yield guest


def test_a_program_learns_the_time_and_its_machine() -> None:
    script = Script()
    buffer = script.space(2048)
    clocks = [script.call("clock_gettime", n, buffer + 16 * n) for n in (0, 1, 2, 7)]
    day = script.call("gettimeofday", buffer + 256, buffer + 272)
    seconds = script.call("time", buffer + 288)
    bad = [script.call("clock_gettime", 77, buffer), script.call("clock_settime", 0, buffer),
           script.call("clock_gettime", 0, 8)]
    resolution = script.call("clock_getres", 1, buffer + 320)
    name = script.call("uname", buffer + 512)
    ids = [script.call(n) for n in ("getuid", "geteuid", "getgid", "getegid")]
    random = script.call("getrandom", buffer + 1024, 64, 0)
    cpu = script.call("getcpu", buffer + 1100, 0, 0)
    affinity = script.call("sched_getaffinity", 0, 64, buffer + 1200)
    before = time.time()
    outcome = script.run()
    after = time.time()
    assert outcome.results(*clocks, day) == [0] * 5
    assert int(before) <= outcome.result(seconds) <= after
    real = struct.unpack("<qq", outcome.memory(buffer, 16))
    assert before - 1 <= real[0] <= after
    assert real[1] < 10**9
    assert struct.unpack("<q", outcome.memory(buffer + 288, 8))[0] == outcome.result(seconds)
    assert abs(struct.unpack("<q", outcome.memory(buffer + 256, 8))[0] - real[0]) <= 1
    assert outcome.results(*bad) == [-errno.EINVAL, -errno.EPERM, -errno.EFAULT]
    assert (outcome.result(resolution), struct.unpack("<qq", outcome.memory(buffer + 320, 16))) == (0, (0, 1))
    assert outcome.result(name) == 0
    assert [outcome.text(buffer + 512 + 65 * n) for n in (0, 1, 4)] == ["Linux", os.uname().nodename, "e2k"]
    assert outcome.results(*ids) == [os.getuid(), os.geteuid(), os.getgid(), os.getegid()]
    assert outcome.result(random) == 64
    assert len(set(outcome.memory(buffer + 1024, 64))) > 20
    assert outcome.results(cpu, affinity) == [0, 8]
    assert outcome.memory(buffer + 1200, 8) == (1).to_bytes(8, "little")


def test_a_32_bit_program_has_its_own_structures(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789" * 10)
    script = Script(32)
    buffer = script.space(1024)
    fd = script.call("open", "/file", 0)
    status = script.call("fstat", fd, buffer)
    status64 = script.call("fstat64", fd, buffer + 128)
    at_high = script.call("pread64", fd, buffer + 256, 8, 0, 1)
    at_low = script.call("pread64", fd, buffer + 256, 8, 3, 0)
    vectors = script.put(struct.pack("<4I", buffer + 264, 2, buffer + 272, 3))
    scattered = script.call("readv", fd, vectors, 2)
    day = script.call("gettimeofday", buffer + 320)
    limit = script.call("ugetrlimit", c.RESOURCES["RLIMIT_AS"], buffer + 336)
    slept = script.call("nanosleep", struct.pack("<ii", 0, 1000), 0)
    outcome = script.run("-root", str(tmp_path))
    assert outcome.results(fd, status, status64, at_high, at_low, scattered, day, limit, slept) == [
        3, 0, 0, 0, 8, 5, 0, 0, 0]
    assert STAT.unpack(4, outcome.memory(buffer, STAT.size(4)))["size"] == 100
    assert STAT64.unpack(4, outcome.memory(buffer + 128, STAT64.size(4)))["size"] == 100
    assert outcome.memory(buffer + 256, 8) == b"34567890"
    assert (outcome.memory(buffer + 264, 2), outcome.memory(buffer + 272, 3)) == (b"01", b"234")
    assert abs(struct.unpack("<i", outcome.memory(buffer + 320, 4))[0] - time.time()) < 100
    assert outcome.memory(buffer + 336, 8) == b"\xff" * 8


def test_a_program_sees_itself_in_proc() -> None:
    script = Script()
    buffer = script.space(8192)
    link = script.call("readlink", "/proc/self/exe", buffer, 512)
    line = script.call("read", script.call("open", "/proc/self/cmdline", 0), buffer + 512, 512)
    maps = script.call("read", script.call("open", "/proc/self/maps", 0), buffer + 1024, 4096)
    cpu = script.call("read", script.call("open", "/proc/cpuinfo", 0), buffer + 6000, 1024)
    outcome = script.run("-cpu", "e8c2")
    assert outcome.memory(buffer, outcome.result(link)).decode() == os.path.realpath(script.path)
    assert outcome.memory(buffer + 512, outcome.result(line)) == script.path.encode() + b"\0"
    rows = outcome.memory(buffer + 1024, outcome.result(maps)).decode().splitlines()
    assert "model name      : E8C2\n" in outcome.memory(buffer + 6000, outcome.result(cpu)).decode()
    assert any("r-xp" in row and row.endswith(script.path) for row in rows), rows
    assert any(row.endswith("[stack]") for row in rows), rows


def test_clocks_go_forward(guest: Guest) -> None:
    buffer = guest.space(16)
    for clock in (0, 1, 2, 3, 4, 5, 6, 7, 11):
        values = []
        for _ in range(2):
            assert guest.call("clock_gettime", clock, buffer) == 0
            values.append(tuple(TIMESPEC.read(guest.memory, buffer).values()))
        assert values[0] <= values[1], clock
    assert guest.call("gettimeofday", buffer, 0) == 0
    assert TIMEVAL.read(guest.memory, buffer)["usec"] < 10**6
    assert guest.call("times", buffer) > 0
    assert guest.call("clock_getres", 99, buffer) == -errno.EINVAL
    usage = guest.space(200)
    assert guest.call("getrusage", 0, usage) == 0
    assert RUSAGE.read(guest.memory, usage)["maxrss"] == 1024
    assert guest.call("getrusage", 5, usage) == -errno.EINVAL
    info = guest.space(200)
    assert guest.call("sysinfo", info) == 0
    found = SYSINFO.read(guest.memory, info)
    assert 0 < found["freeram"] < found["totalram"]
    assert (found["procs"], found["mem_unit"]) == (1, 1)


def test_limits_can_only_be_lowered(guest: Guest) -> None:
    buffer = guest.space(32)
    number = c.RESOURCES["RLIMIT_NOFILE"]
    assert guest.call("ugetrlimit", number, buffer) == 0
    assert RLIMIT.read(guest.memory, buffer) == {"cur": 1024, "max": 4096}
    RLIMIT.write(guest.memory, buffer, cur=10, max=20)
    assert guest.call("setrlimit", number, buffer) == 0
    assert guest.process.identity.limits["RLIMIT_NOFILE"] == [10, 20]
    RLIMIT.write(guest.memory, buffer, cur=10, max=21)
    assert guest.call("setrlimit", number, buffer) == -errno.EPERM
    RLIMIT.write(guest.memory, buffer, cur=11, max=10)
    assert guest.call("setrlimit", number, buffer) == -errno.EINVAL
    new = guest.put(struct.pack("<QQ", 15, 20))
    assert guest.call("prlimit64", 0, number, new, buffer) == 0
    assert guest.memory.unpack("QQ", buffer) == (10, 20)
    assert guest.call("prlimit64", 1 << 22, number, 0, buffer) == -errno.ESRCH
    assert guest.call("ugetrlimit", 99, buffer) == -errno.EINVAL
    unlimited = c.RESOURCES["RLIMIT_AS"]
    assert guest.call("ugetrlimit", unlimited, buffer) == 0
    assert RLIMIT.read(guest.memory, buffer)["cur"] == (1 << 8 * guest.process.pointer_size) - 1
    assert guest.call("setrlimit", unlimited, buffer) == 0
    assert guest.process.identity.limits["RLIMIT_AS"] == [c.RLIM_INFINITY] * 2


def test_ids_change_to_own_ones_only(guest: Guest) -> None:
    identity = guest.process.identity
    identity.uids, identity.gids, identity.groups = [100, 200, 300, 200], [1, 2, 3, 2], [7, 8]
    assert guest.call("setuid", 400) == -errno.EPERM
    assert guest.call("setuid", 300) == 0
    assert identity.uids == [100, 300, 300, 300]
    assert guest.call("setresuid", -1, 100, -1) == 0
    assert identity.uids == [100, 100, 300, 100]
    assert guest.call("setreuid", 100, 300) == 0
    assert identity.uids == [100, 300, 300, 300]
    assert guest.call("setresgid", 3, 2, 1) == 0
    assert identity.gids == [3, 2, 1, 2]
    assert guest.call("setfsgid", 3) == 2
    assert guest.call("setfsgid", 99) == 3
    where = guest.space(32)
    assert guest.call("getresuid", where, where + 4, where + 8) == 0
    assert guest.memory.unpack("3I", where) == (100, 300, 300)
    assert guest.call("getgroups", 0, 0) == 2
    assert guest.call("getgroups", 1, where) == -errno.EINVAL
    assert guest.call("getgroups", 9, where) == 2
    assert guest.memory.unpack("2I", where) == (7, 8)
    assert guest.call("setgroups", 0, 0) == -errno.EPERM


def test_settings_are_remembered(guest: Guest) -> None:
    buffer = guest.space(64)
    assert guest.call("prctl", c.PRCTL["PR_SET_NAME"], guest.put("a name that is too long")) == 0
    assert guest.call("prctl", c.PRCTL["PR_GET_NAME"], buffer) == 0
    assert guest.memory.read(buffer, 16) == b"a name that is \0"
    assert guest.read(guest.open("/proc/self/comm")) == b"a name that is \n"
    assert guest.call("prctl", c.PRCTL["PR_GET_DUMPABLE"]) == 1
    assert guest.call("prctl", c.PRCTL["PR_SET_DUMPABLE"], 0) == 0
    assert guest.call("prctl", c.PRCTL["PR_GET_DUMPABLE"]) == 0
    assert guest.call("prctl", 123456) == -errno.EINVAL
    assert guest.call("personality", 0xFFFFFFFF) == 0
    assert guest.call("personality", 0x0040000) == 0
    assert guest.call("personality", 0xFFFFFFFF) == 0x0040000
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert guest.call("nice", 5) == 0
    assert guest.call("getpriority", 0, 0) == 20 - min(19, own + 5), "it begins with that of the emulator"
    assert guest.call("setpriority", 0, 0, min(19, own + 5) - 1) == -errno.EACCES
    assert guest.call("getpriority", 9, 0) == -errno.EINVAL
    assert guest.call("sched_getscheduler", 0) == 0
    assert guest.call("sched_setscheduler", 0, 1, (5).to_bytes(4, "little")) == -errno.EPERM
    assert guest.call("sched_setscheduler", 0, 3, bytes(4)) == 0
    assert guest.call("sched_getscheduler", 0) == 3
    assert guest.call("sched_get_priority_max", 1) == 99
    assert guest.call("sched_get_priority_max", 9) == -errno.EINVAL
    assert guest.call("membarrier", 0, 0) > 0
    header = guest.put(struct.pack("<Ii", 0x20080522, 0))
    assert guest.call("capget", header, buffer) == 0
    assert guest.memory.read(buffer, 24) == bytes(24)
    for name in ("mount", "reboot", "chroot", "swapon", "setns"):
        assert guest.call(name, 0, 0, 0) == -errno.EPERM


def test_settings_are_saved_and_damage_is_noticed() -> None:
    one, two = Identity(), Identity()
    one.nice, one.limits["RLIMIT_CORE"] = 7, [1, 2]
    two.load(one.save())
    assert two == one
    child = one.clone()
    child.limits["RLIMIT_CORE"][0] = 99
    assert one.limits["RLIMIT_CORE"] == [1, 2]
    with pytest.raises(Exception, match="wrong 'nice'"):
        two.load({"nice": "x"})
    with pytest.raises(Exception, match="wrong 'fame'"):
        two.load({"fame": 1})


def test_groups_and_sessions_are_the_hosts(guest: Guest) -> None:
    guest.process.pgid = os.getpgrp()
    assert guest.call("getpgrp") == guest.call("getpgid", 0) == os.getpgrp()
    assert guest.call("getsid", 0) == os.getsid(0)
    assert guest.call("getpgid", 1) == -errno.ESRCH
    assert guest.call("setpgid", 0, -1) == -errno.EINVAL


def test_strace_shows_calls_as_strace_does(tmp_path: Path) -> None:
    script = Script()
    fd = script.call("openat", -100, "/f", c.O_CREAT | c.O_RDWR | c.O_CLOEXEC, 0o644)
    script.call("openat", -100, "/none", 0, 0)
    script.call("write", fd, b"line\n\1", 6)
    script.call("lseek", fd, 0, 0)
    script.call("read", fd, script.space(16), 16)
    script.call("pread64", fd, script.space(16), 4, 1)
    script.call("fstat", fd, script.space(200))
    script.call("fcntl", fd, c.FCNTL["F_GETFL"], 0)
    script.call("fcntl", fd, c.FCNTL["F_SETFD"], 1)
    script.call("access", "/f", 6)
    script.call("unlinkat", -100, "/none", 0x200)
    script.call("pipe2", script.space(8), c.O_CLOEXEC)
    script.call("poll", struct.pack("<ihh", 4, 1, 0), 1, 0)
    script.call("socketpair", 1, 1 | c.O_NONBLOCK, 0, script.space(8))
    script.call("connect", 6, b"\2\0\0\x50" + bytes([127, 0, 0, 1]) + bytes(8), 16)
    script.call("writev", 5, script.put(struct.pack("<4Q", script.put(b"ab"), 2, script.put(b"c"), 1)), 2)
    script.call("clock_gettime", 1, 8)
    script.call("nanosleep", struct.pack("<qq", 0, 1000), 0)
    script.call("epoll_ctl", 99, 1, 4, struct.pack("<I4xQ", 1, 5))
    script.call("ioctl", 1, c.IOCTLS["TCGETS"], script.space(64))
    script.call("prlimit64", 0, 7, 0, 8)
    script.call(255)
    outcome = script.run("-root", str(tmp_path), "-strace")
    lines = [re.sub(r"^\[\d+\] ", "", line) for line in outcome.stderr.splitlines()]
    lines = [re.sub(r"0x1[0-9a-f]{4,}", "PTR", line) for line in lines]
    expected = [
        'openat(AT_FDCWD, "/f", O_RDWR|O_CREAT|O_CLOEXEC, 0644) = 3',
        'openat(AT_FDCWD, "/none", O_RDONLY) = -1 ENOENT (No such file or directory)',
        'write(3, "line\\n\\1", 6) = 6',
        "lseek(3, 0, SEEK_SET) = 0",
        'read(3, "line\\n\\1", 16) = 6',
        'pread64(3, "ine\\n", 4, 1) = 4',
        'fstat(3, {st_mode=S_IFREG|0644, st_size=6, ...}) = 0',
        f"fcntl(3, F_GETFL) = {c.O_RDWR | c.O_LARGEFILE}",
        "fcntl(3, F_SETFD, FD_CLOEXEC) = 0",
        'access("/f", R_OK|W_OK) = 0',
        'unlinkat(AT_FDCWD, "/none", AT_REMOVEDIR) = -1 ENOENT (No such file or directory)',
        "pipe2([4, 5], O_CLOEXEC) = 0",
        "poll([{fd=4, events=POLLIN}], 1, 0) = 0",
        "socketpair(AF_UNIX, SOCK_STREAM|SOCK_NONBLOCK, 0, [6, 7]) = 0",
        'connect(6, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("127.0.0.1")}, 16) = '
        "-1 EINVAL (Invalid argument)",
        'writev(5, [{iov_base="ab", iov_len=2}, {iov_base="c", iov_len=1}], 2) = 3',
        "clock_gettime(CLOCK_MONOTONIC, 0x8) = -1 EFAULT (Bad address)",
        "nanosleep({tv_sec=0, tv_nsec=1000}, NULL) = 0",
        "epoll_ctl(99, EPOLL_CTL_ADD, 4, {events=EPOLLIN, data=0x5}) = -1 EBADF (Bad file descriptor)",
        "ioctl(1, TCGETS, PTR) = -1 ENOTTY (Inappropriate ioctl for device)",
        "prlimit64(0, RLIMIT_NOFILE, NULL, 0x8) = -1 EFAULT (Bad address)",
        "exit_group(0) = ?",
    ]
    missing = [line for line in expected if line not in lines]
    assert not missing, "\n".join(lines)
    shown = [lines.index(line) for line in expected]
    assert shown == sorted(shown)


def test_check_helper_raises() -> None:
    with pytest.raises(OSError, match="Bad file"):
        check(-errno.EBADF)
