"""Files: opening, moving bytes, descriptors, locks, names, directories, status - against what the host then has."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2kemu.linux import constants as c
from e2kemu.linux.structs import STAT, STAT64, STATFS64, STATX
from tests.linux.handlers import SIZE, Guest, check
from tests.linux.scripts import Script

AT_FDCWD = -100


@pytest.fixture(params=[8, 4], ids=["64-bit", "32-bit"])
def guest(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Guest]:
    """A guest whose root is ``tmp_path``."""
    with Guest(str(tmp_path), pointer_size=request.param) as guest:
        yield guest


def offset(guest: Guest, value: int) -> tuple[int, ...]:
    """A 64-bit offset as arguments: one register, or two in a 32-bit program."""
    value &= (1 << 64) - 1
    return (value,) if guest.process.pointer_size == 8 else (value & 0xFFFFFFFF, value >> 32)


def vector(guest: Guest, *pieces: tuple[int, int]) -> int:
    """The address of an I/O vector."""
    word = "Q" if guest.process.pointer_size == 8 else "I"
    return guest.put(b"".join(struct.pack(f"<{word}{word}", *piece) for piece in pieces))


def test_a_program_writes_and_reads_a_file(tmp_path: Path) -> None:
    script = Script()
    fd = script.call("open", "/data", c.O_CREAT | c.O_RDWR | c.O_EXCL, 0o640)
    again = script.call("openat", AT_FDCWD, "/data", c.O_CREAT | c.O_EXCL, 0o640)
    wrote = script.call("write", fd, b"Elbrus and Kazbek", 17)
    moved = script.call("lseek", fd, -6, 2)
    buffer, parts, status = script.space(64), script.space(64), script.space(256)
    tail = script.call("read", fd, buffer, 64)
    vectors = script.put(struct.pack("<QQQQ", parts, 3, parts + 8, 4))
    first = script.call("pread64", fd, buffer + 32, 6, 0)
    spread = script.call("preadv", fd, vectors, 2, 7)
    copy = script.call("dup2", fd, 9)
    appended = script.call("write", copy, b"!", 1)
    size = script.call("fstat", fd, status)
    closed = [script.call("close", fd), script.call("close", fd), script.call("read", fd, buffer, 1)]
    cut = script.call("ftruncate", 9, 6)
    absent = script.call("openat", AT_FDCWD, "/nothing", 0, 0)
    fault = script.call("pread64", 9, 8, 1, 0)
    far = script.call("open", 4, 0)
    outcome = script.run("-root", str(tmp_path))
    assert outcome.results(fd, again, wrote, moved) == [3, -errno.EEXIST, 17, 11]
    assert (outcome.result(tail), outcome.memory(buffer, 6)) == (6, b"Kazbek")
    assert (outcome.result(first), outcome.memory(buffer + 32, 6)) == (6, b"Elbrus")
    assert (outcome.result(spread), outcome.memory(parts, 3), outcome.memory(parts + 8, 4)) == (7, b"and", b" Kaz")
    assert outcome.results(copy, appended, size, *closed) == [9, 1, 0, 0, -errno.EBADF, -errno.EBADF]
    found = STAT.unpack(8, outcome.memory(status, STAT.size(8)))
    assert (found["size"], found["mode"], found["nlink"]) == (18, stat.S_IFREG | 0o640, 1)
    assert outcome.results(cut, absent, fault, far) == [0, -errno.ENOENT, -errno.EFAULT, -errno.EFAULT]
    assert (tmp_path / "data").read_bytes() == b"Elbrus"
    assert outcome.status == 0


def test_a_program_makes_links_renames_and_lists(tmp_path: Path) -> None:
    script = Script()
    calls = [
        script.call("mkdir", "/d", 0o755), script.call("mkdir", "/d", 0o755), script.call("chdir", "/d"),
        script.call("creat", "one", 0o644), script.call("link", "one", "two"), script.call("symlink", "two", "three"),
        script.call("rename", "one", "four"), script.call("unlink", "one"), script.call("mknod", "fifo", 0o10644, 0),
        script.call("rmdir", "/d"), script.call("unlink", "/d"), script.call("rmdir", "four"),
        script.call("access", "three", 4), script.call("chmod", "two", 0o600), script.call("access", "/d/x", 0),
        script.call("mkdirat", script.call("open", "/", c.O_DIRECTORY), "e/", 0o700), script.call("umask", 0o77),
        script.call("renameat2", AT_FDCWD, "two", AT_FDCWD, "four", 1),
    ]
    where, link, names = script.space(64), script.space(64), script.space(1024)
    cwd = script.call("getcwd", where, 64)
    target = script.call("readlink", "three", link, 64)
    listing = script.call("getdents64", script.call("open", ".", c.O_DIRECTORY), names, 1024)
    outcome = script.run("-root", str(tmp_path))
    assert outcome.results(*calls) == [
        0, -errno.EEXIST, 0, 3, 0, 0, 0, -errno.ENOENT, 0, -errno.ENOTEMPTY, -errno.EISDIR, -errno.ENOTDIR, 0, 0,
        -errno.ENOENT, 0, 0o22, -errno.EEXIST]
    assert (outcome.text(where), outcome.result(cwd)) == ("/d", 3)
    assert outcome.memory(link, outcome.result(target)) == b"two"
    assert list(directory_names(outcome.memory(names, outcome.result(listing)))) == [
        (".", 4), ("..", 4), ("fifo", 1), ("four", 8), ("three", 10), ("two", 8)]
    assert sorted(os.listdir(tmp_path / "d")) == ["fifo", "four", "three", "two"]
    assert stat.S_IMODE((tmp_path / "d" / "two").stat().st_mode) == 0o600


def directory_names(data: bytes) -> Iterator[tuple[str, int]]:
    """(name, type) of each linux_dirent64."""
    position = 0
    while position < len(data):
        (size,) = struct.unpack_from("<H", data, position + 16)
        assert size % 8 == 0
        yield data[position + 19:position + size].partition(b"\0")[0].decode(), data[position + 18]
        position += size


def test_positions_beyond_four_gigabytes(guest: Guest, tmp_path: Path) -> None:
    fd = guest.open("/big", c.O_CREAT | c.O_RDWR)
    far = (1 << 33) + 5
    assert guest.call("pwrite64", fd, b"far", 3, *offset(guest, far)) == 3
    buffer = guest.space(16)
    assert guest.call("pread64", fd, buffer, 16, *offset(guest, far)) == 3
    assert guest.memory.read(buffer, 3) == b"far"
    assert guest.call("_llseek", fd, far >> 32, far & 0xFFFFFFFF, buffer, 0) == 0
    assert guest.memory.u64(buffer) == far
    assert guest.call("ftruncate64", fd, *offset(guest, far + 1)) == 0
    assert (tmp_path / "big").stat().st_size == far + 1
    assert guest.call("truncate64", "/big", *offset(guest, 7)) == 0
    assert guest.call("fallocate", fd, 0, *offset(guest, 4), *offset(guest, 100)) == 0
    assert (tmp_path / "big").stat().st_size == 104
    assert guest.call("fallocate", fd, 0, *offset(guest, -1), *offset(guest, 1)) == -errno.EINVAL


def test_vectors_stop_where_memory_ends(guest: Guest) -> None:
    fd = guest.open("/v", c.O_CREAT | c.O_RDWR)
    good = guest.put(b"abcdef")
    assert guest.call("writev", fd, vector(guest, (good, 2), (good + 2, 0), (good + 4, 2)), 3) == 4
    assert guest.call("writev", fd, vector(guest, (good, 2), (64, 2)), 2) == 2
    assert guest.call("writev", fd, vector(guest, (64, 2)), 1) == -errno.EFAULT
    assert guest.call("writev", fd, vector(guest, (good, 1)), 1025) == -errno.EINVAL
    assert guest.call("lseek", fd, 0, 0) == 0
    assert guest.call("readv", fd, vector(guest, (good, 3), (64, 9)), 2) == 3
    assert guest.memory.read(good, 3) == b"abe"
    assert guest.call("read", fd, guest.base + SIZE - 8, 4096) == 3, "memory up to its end is used"
    assert guest.call("read", fd, 64, 4) == 0, "nothing is left, and nobody looks at the memory"
    assert guest.call("pread64", fd, 64, 4, *offset(guest, 1)) == -errno.EFAULT
    assert guest.call("pwritev", fd, vector(guest, (good, 2)), 1, *offset(guest, 1)) == 2
    position = (-1, 0) if guest.process.pointer_size == 8 else offset(guest, -1)
    assert guest.call("preadv2", fd, vector(guest, (good, 4)), 1, *position, 0) == 0


def test_dup_shares_the_offset_and_flags_but_not_close_on_exec(guest: Guest) -> None:
    fd = guest.open("/f", c.O_CREAT | c.O_RDWR | c.O_CLOEXEC)
    other = guest.call("dup", fd)
    assert guest.call("write", fd, b"12345", 5) == 5
    assert guest.call("lseek", other, 0, 1) == 5
    assert guest.call("fcntl", other, c.FCNTL["F_SETFL"], c.O_APPEND | c.O_NONBLOCK) == 0
    flags = guest.call("fcntl", fd, c.FCNTL["F_GETFL"], 0)
    assert flags & (c.O_ACCMODE | c.O_APPEND | c.O_NONBLOCK) == c.O_RDWR | c.O_APPEND | c.O_NONBLOCK
    assert guest.call("lseek", fd, 0, 0) == 0
    assert guest.call("write", fd, b"6", 1) == 1
    assert guest.call("lseek", fd, 0, 1) == 6, "O_APPEND has reached the host's file"
    assert [guest.call("fcntl", n, c.FCNTL["F_GETFD"], 0) for n in (fd, other)] == [1, 0]
    assert guest.call("fcntl", fd, c.FCNTL["F_DUPFD"], 20) == 20
    assert guest.call("fcntl", fd, c.FCNTL["F_DUPFD_CLOEXEC"], 20) == 21
    assert guest.call("fcntl", 21, c.FCNTL["F_GETFD"], 0) == 1
    assert guest.call("dup3", fd, fd, 0) == -errno.EINVAL
    assert guest.call("dup3", fd, 30, c.O_CLOEXEC) == 30
    assert guest.call("dup2", fd, fd) == fd
    assert guest.call("dup2", 99, 5) == -errno.EBADF
    assert guest.call("dup2", fd, 1 << 20) == -errno.EBADF
    guest.process.files.exec()
    assert sorted(guest.process.files.files) == [0, 1, 2, other, 20]
    assert guest.call("lseek", 20, 0, 1) == 6


def test_the_limit_of_descriptors_counts(guest: Guest) -> None:
    guest.process.identity.limits["RLIMIT_NOFILE"][0] = 6
    opened = [guest.open("/", c.O_DIRECTORY) for _ in range(5)]
    assert opened == [3, 4, 5, -errno.EMFILE, -errno.EMFILE]
    assert guest.call("pipe", guest.space(8)) == -errno.EMFILE
    assert guest.call("close", 4) == 0
    assert guest.call("dup", 0) == 4
    before = len(os.listdir("/proc/self/fd"))
    assert guest.call("socketpair", 1, 1, 0, guest.space(8)) == -errno.EMFILE
    assert guest.call("eventfd2", 0, 0) == -errno.EMFILE
    assert len(os.listdir("/proc/self/fd")) == before


def test_record_locks_are_the_hosts(guest: Guest, tmp_path: Path) -> None:
    fd = guest.open("/lock", c.O_CREAT | c.O_RDWR)
    wide = guest.process.pointer_size == 8
    lock = guest.put(struct.pack("<hh4xqqi4x" if wide else "<hhiii", c.F_WRLCK, 0, 10, 5, 0))
    assert guest.call("fcntl", fd, c.FCNTL["F_SETLK"], lock) == 0
    other = [sys.executable, "-c", "import fcntl,sys\nf=open(sys.argv[1],'r+')\n"
             "try: fcntl.lockf(f, fcntl.LOCK_EX|fcntl.LOCK_NB, 5, 12)\n"
             "except OSError: print('held')\nelse: print('free')",
             str(tmp_path / "lock")]
    assert subprocess.run(other, capture_output=True, text=True, check=True).stdout == "held\n"
    guest.memory.write(lock, c.F_UNLCK.to_bytes(2, "little"))
    assert guest.call("fcntl", fd, c.FCNTL["F_SETLKW"], lock) == 0
    assert subprocess.run(other, capture_output=True, text=True, check=True).stdout == "free\n"


def test_a_lock_is_waited_for(guest: Guest, tmp_path: Path) -> None:
    fd = guest.open("/lock", c.O_CREAT | c.O_RDWR)
    with open(tmp_path / "lock", "r+b") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        assert guest.call("flock", fd, 2 | 4) == -errno.EAGAIN
        with pytest.raises(Exception, match="would block"):
            guest.call("flock", fd, 2, patience=0.05)
    assert guest.call("flock", fd, 2) == 0
    assert guest.call("flock", fd, 3) == -errno.EINVAL


def test_every_stat_tells_what_the_host_knows(guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 1234)
    os.utime(tmp_path / "file", ns=(1_600_000_000_123_456_789, 1_500_000_000_987_654_321))
    (tmp_path / "link").symlink_to("file")
    host = (tmp_path / "file").stat()
    pointer = guest.process.pointer_size
    buffer = guest.space(256)
    for name, layout in (("stat", STAT), ("stat64", STAT64)):
        for path in ("/file", "/link"):
            assert guest.call(name, path, buffer) == 0
            found = layout.read(guest.memory, buffer)
            ids = 0xFFFF if layout is STAT and pointer == 4 else 0xFFFFFFFF
            assert (found["size"], found["mode"], found["uid"], found["blocks"]) == (
                1234, host.st_mode, host.st_uid & ids, host.st_blocks)
            assert (found["mtime"], found["mtime_nsec"]) == (1_500_000_000, 987_654_321)
            assert found["atime_nsec"] == 123_456_789
        assert guest.call("l" + name, "/link", buffer) == 0
        assert stat.S_ISLNK(layout.read(guest.memory, buffer)["mode"])
    assert guest.call("fstatat64", AT_FDCWD, "/link", buffer, c.AT_SYMLINK_NOFOLLOW) == 0
    assert STAT64.read(guest.memory, buffer)["size"] == 4
    fd = guest.open("/file")
    assert guest.call("fstatat64", fd, "", buffer, c.AT_EMPTY_PATH) == 0
    assert STAT64.read(guest.memory, buffer)["ino"] == host.st_ino
    assert guest.call("fstatat64", fd, "", buffer, 0) == -errno.ENOENT
    assert guest.call("fstatat64", fd, "x", buffer, 0) == -errno.ENOTDIR
    assert guest.call("statx", AT_FDCWD, "/file", 0, 0x7FF, buffer) == 0
    found = STATX.read(guest.memory, buffer)
    assert (found["size"], found["mtime"], found["mode"], found["dev_minor"]) == (
        1234, 1_500_000_000, host.st_mode, os.minor(host.st_dev))
    assert guest.call("statfs64", "/file", STATFS64.size(pointer), buffer) == 0
    assert STATFS64.read(guest.memory, buffer)["bsize"] == os.statvfs(tmp_path).f_bsize
    assert guest.call("statfs64", "/file", 7, buffer) == -errno.EINVAL
    assert guest.call("statfs", "/proc", buffer) == 0


def test_a_large_file_overflows_the_old_stat_of_32_bit_programs(tmp_path: Path) -> None:
    with open(tmp_path / "big", "wb") as big:
        big.truncate(1 << 31)
    with Guest(str(tmp_path), pointer_size=4) as guest:
        buffer = guest.space(100)
        assert guest.call("stat", "/big", buffer) == -errno.EOVERFLOW
        assert guest.call("stat64", "/big", buffer) == 0
        assert STAT64.read(guest.memory, buffer)["size"] == 1 << 31


def test_directories_are_read_in_pieces_and_again(guest: Guest, tmp_path: Path) -> None:
    names = {f"file{n:03}" for n in range(150)} | {".", ".."}
    for name in names - {".", ".."}:
        (tmp_path / name).touch()
    fd = guest.open("/", c.O_DIRECTORY)
    buffer = guest.space(200)
    found: list[str] = []
    while count := check(guest.call("getdents64", fd, buffer, 200)):
        found += [name for name, _ in directory_names(guest.memory.read(buffer, count))]
    assert sorted(found) == sorted(names)
    assert guest.call("getdents64", fd, buffer, 10) == 0
    assert guest.call("lseek", fd, 0, 0) == 0
    assert guest.call("getdents64", fd, buffer, 10) == -errno.EINVAL
    assert guest.call("read", fd, buffer, 10) == -errno.EISDIR
    word = guest.process.pointer_size
    count = check(guest.call("getdents", fd, buffer, 200))
    record = guest.memory.read(buffer, count)
    (size,) = struct.unpack_from("<H", record, 2 * word)
    assert record[2 * word + 2:2 * word + 4] == b".\0"
    assert record[size - 1] == 4, "the old form has the type in its last byte"
    assert size % word == 0


def test_times_owners_and_attributes(guest: Guest, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.touch()
    word = "q" if guest.process.pointer_size == 8 else "i"
    times = guest.put(struct.pack(f"<4{word}", 1000, 7, 2000, 9))
    assert guest.call("utimensat", AT_FDCWD, "/f", times, 0) == 0
    assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == (1000 * 10**9 + 7, 2000 * 10**9 + 9)
    omit = guest.put(struct.pack(f"<4{word}", 0, (1 << 30) - 2, 3000, 0))
    assert guest.call("utimensat", AT_FDCWD, "/f", omit, 0) == 0
    assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == (1000 * 10**9 + 7, 3000 * 10**9)
    assert guest.call("utimes", "/f", guest.put(struct.pack(f"<4{word}", 5, 6, 7, 8))) == 0
    assert path.stat().st_mtime_ns == 7 * 10**9 + 8000
    assert guest.call("utimes", "/f", guest.put(struct.pack(f"<4{word}", 5, 10**6, 7, 8))) == -errno.EINVAL
    assert guest.call("utime", "/f", guest.put(struct.pack(f"<2{word}", 11, 12))) == 0
    assert path.stat().st_mtime == 12
    fd = guest.open("/f", c.O_RDWR)
    assert guest.call("fchmod", fd, 0o604) == 0
    assert guest.call("fchown", fd, -1, -1) == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    result = guest.call("fsetxattr", fd, "user.colour", b"blue", 4, 0)
    if result != -errno.EOPNOTSUPP:
        buffer = guest.space(64)
        assert guest.call("getxattr", "/f", "user.colour", buffer, 64) == 4
        assert guest.memory.read(buffer, 4) == os.getxattr(path, "user.colour") == b"blue"
        assert guest.call("listxattr", "/f", buffer, 64) == 12
        assert guest.call("getxattr", "/f", "user.colour", buffer, 2) == -errno.ERANGE
        assert guest.call("removexattr", "/f", "user.colour") == 0
        assert guest.call("getxattr", "/f", "user.colour", buffer, 64) == -errno.ENODATA
    assert guest.call("setxattr", "/f", "security.x", b"1", 1, 0) == -errno.EOPNOTSUPP


def test_the_guests_umask_counts_and_the_hosts_does_not_change(guest: Guest, tmp_path: Path) -> None:
    before = os.umask(0o022)
    os.umask(before)
    assert guest.call("umask", 0) == 0o22
    check(guest.open("/open", c.O_CREAT, 0o666))
    assert guest.call("umask", 0o777) == 0
    assert guest.call("mkdir", "/shut", 0o777) == 0
    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o666
    assert stat.S_IMODE((tmp_path / "shut").stat().st_mode) == 0
    assert os.umask(before) == before
    (tmp_path / "shut").rmdir()


def test_copies_between_descriptors(guest: Guest, tmp_path: Path) -> None:
    data = os.urandom(300_000)
    (tmp_path / "from").write_bytes(data)
    source, target = guest.open("/from"), guest.open("/to", c.O_CREAT | c.O_RDWR)
    place = guest.put((100).to_bytes(8, "little"))
    assert guest.call("sendfile64", target, source, place, 200_000) == 200_000
    assert guest.memory.u64(place) == 200_100
    assert guest.call("sendfile", target, source, 0, 1 << 30) == 300_000
    assert guest.call("copy_file_range", source, place, target, 0, 1 << 30, 0) == 300_000 - 200_100
    assert (tmp_path / "to").read_bytes() == data[100:200_100] + data + data[200_100:]
    ends = guest.space(8)
    assert guest.call("pipe", ends) == 0
    reader, writer = guest.memory.unpack("ii", ends)
    assert guest.call("lseek", source, 0, 0) == 0
    moved = guest.call("splice", source, 0, writer, 0, 5000, 0)
    assert moved == 5000
    assert guest.read(reader, 5000) == data[:5000]
    assert guest.call("sendfile", source, target, 0, 10) == -errno.EBADF


def test_a_pipe_that_is_full_ends_a_copy_without_losing_bytes(guest: Guest, tmp_path: Path) -> None:
    data = os.urandom(200_000)
    (tmp_path / "from").write_bytes(data)
    source, ends = guest.open("/from"), guest.space(8)
    assert guest.call("pipe2", ends, 0) == 0
    reader, writer = guest.memory.unpack("ii", ends)
    received = b""
    while moved := check(guest.call("sendfile", writer, source, 0, 200_000)):
        received += guest.read(reader, moved)
        while len(received) < guest.call("lseek", source, 0, 1):
            received += guest.read(reader)
    assert received == data


def test_files_of_proc_are_the_guests(guest: Guest) -> None:
    text = guest.read(guest.open("/proc/self/status")).decode()
    assert f"Pid:\t{guest.process.pid}\n" in text
    assert "Name:\tguest\n" in text
    maps = guest.read(guest.open("/proc/self/maps")).decode()
    assert maps.startswith(f"{guest.base:08x}-{guest.base + SIZE:08x} rw-p 00000000")
    assert "[heap]" in maps
    assert b"e2k" in guest.read(guest.open("/proc/version"))
    fields = guest.read(guest.open(f"/proc/{guest.process.pid}/stat")).split()
    assert (int(fields[0]), fields[1], len(fields)) == (guest.process.pid, b"(guest)", 52)
    buffer = guest.space(100)
    fd = guest.open("/a", c.O_CREAT | c.O_RDWR)
    check(guest.call("write", fd, b"abc", 3))
    assert guest.call("readlink", f"/proc/self/fd/{fd}", buffer, 100) == 2
    assert guest.memory.read(buffer, 2) == b"/a"
    assert guest.read(guest.open(f"/proc/self/fd/{fd}")) == b"abc", "opening it again begins at the start"
    assert guest.call("stat64", f"/proc/self/fd/{fd}", buffer) == 0
    assert STAT64.read(guest.memory, buffer)["size"] == 3
    folder = guest.open("/", c.O_DIRECTORY)
    assert guest.read(guest.open(f"/proc/self/fd/{folder}/a")) == b"abc", "a directory's descriptor leads on"
    assert guest.open(f"/proc/self/fd/{fd}/a") == -errno.ENOTDIR
    assert guest.open("/proc/self/maps", c.O_WRONLY) == -errno.EACCES
    assert guest.open("/proc/4194304/maps") == -errno.ENOENT
    assert guest.call("unlink", "/proc/self/maps") == -errno.EPERM
    assert guest.call("rename", "/a", "/proc/a") == guest.open("/proc/a", c.O_CREAT) == -errno.ENOENT
    listing = guest.space(4096)
    count = check(guest.call("getdents64", guest.open("/proc/self/fd", c.O_DIRECTORY), listing, 4096))
    names = [name for name, _ in directory_names(guest.memory.read(listing, count))]
    assert names[:5] == [".", "..", "0", "1", "2"]
    with Guest() as free:
        assert free.open(f"/proc/{os.getppid()}/maps") == -errno.ENOENT, "the host's processes do not show"


def test_opening_a_fifo_waits_for_the_other_end_only_where_it_must(guest: Guest, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert guest.open("/fifo", c.O_WRONLY | c.O_NONBLOCK) == -errno.ENXIO
    with pytest.raises(Exception, match="would block"):
        guest.call("openat", AT_FDCWD, "/fifo", c.O_WRONLY, patience=0.05)
    reader = guest.open("/fifo", c.O_RDONLY)
    assert guest.call("read", reader, guest.space(8), 0) == 0, "nothing is not waited for"
    writer = guest.open("/fifo", c.O_WRONLY)
    assert guest.call("write", writer, b"through", 7) == 7
    assert guest.read(reader) == b"through"
    assert guest.call("close", writer) == 0
    assert guest.read(reader) == b""
