"""Descriptors: open, close, dup, fcntl, ioctl, locks, and the length of files."""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from e2kemu.linux import constants as c
from e2kemu.linux import host_calls, paths
from e2kemu.linux.calls.common import install, limit, offset
from e2kemu.linux.error import LinuxError
from e2kemu.linux.files import OpenFile, Waits
from e2kemu.linux.hostfile import memfd
from e2kemu.linux.opening import open_at
from e2kemu.linux.pipes import PipeEnd
from e2kemu.linux.structs import FLOCK, FLOCK64
from e2kemu.linux.table import syscall
from e2kemu.linux.task import Task

MFD_ALLOW_SEALING = 2
LOCK_RETRY = 10_000_000
"""ns between two attempts at a lock that somebody else has, and at a FIFO that nobody reads."""


def retry(task: Task) -> None:
    """Wait a moment for something that gives no sign. Raises WouldBlock."""
    raise Waits(task.process.clock.monotonic() + LOCK_RETRY).block()


def _open(task: Task, dirfd: int, path: str, flags: int, mode: int) -> int:
    task.files.lowest(limit(task, "NOFILE"))
    try:
        file = open_at(task.process, dirfd, path, flags, mode)
    except BlockingIOError:
        retry(task)
    return install(task, file, flags)


@syscall("open", "path:path flags:open_flags mode:open_mode")
def open_(task: Task, path: int, flags: int, mode: int) -> int:
    return _open(task, c.AT_FDCWD, paths.text(task, path), flags, mode)


@syscall("openat", "dirfd:fd path:path flags:open_flags mode:open_mode")
def openat(task: Task, dirfd: int, path: int, flags: int, mode: int) -> int:
    return _open(task, dirfd, paths.text(task, path), flags, mode)


@syscall("creat", "path:path mode:octal")
def creat(task: Task, path: int, mode: int) -> int:
    return _open(task, c.AT_FDCWD, paths.text(task, path), c.O_CREAT | c.O_WRONLY | c.O_TRUNC, mode)


@syscall("close", "fd:fd")
def close(task: Task, fd: int) -> int:
    task.files.close(fd)
    return 0


@syscall("dup", "fd:fd")
def dup(task: Task, fd: int) -> int:
    return install(task, task.files.get(fd))


def _dup_to(task: Task, old: int, new: int, flags: int) -> int:
    file = task.files.get(old)
    if not 0 <= new < limit(task, "NOFILE"):
        raise LinuxError(errno.EBADF)
    if old != new:
        task.files.set(new, file, close_on_exec=bool(flags & c.O_CLOEXEC))
    return new


@syscall("dup2", "oldfd:fd newfd:fd")
def dup2(task: Task, oldfd: int, newfd: int) -> int:
    return _dup_to(task, oldfd, newfd, 0)


@syscall("dup3", "oldfd:fd newfd:fd flags:open_flags")
def dup3(task: Task, oldfd: int, newfd: int, flags: int) -> int:
    if flags & ~c.O_CLOEXEC or oldfd == newfd:
        raise LinuxError(errno.EINVAL)
    return _dup_to(task, oldfd, newfd, flags)


@syscall("fcntl|fcntl64", "fd:fd command:fcntl argument:fcntl_arg")
def fcntl_(task: Task, fd: int, command: int, argument: int) -> int:
    file = task.files.get(fd)
    name = _COMMANDS.get(command, "")
    if name in ("F_DUPFD", "F_DUPFD_CLOEXEC"):
        if not 0 <= argument < limit(task, "NOFILE"):
            raise LinuxError(errno.EINVAL)
        return task.files.add(file, limit(task, "NOFILE"), minimum=argument, close_on_exec=name != "F_DUPFD")
    if name == "F_GETFD":
        return int(fd in task.files.close_on_exec)
    if name == "F_SETFD":
        (task.files.close_on_exec.add if argument & c.FD_CLOEXEC else task.files.close_on_exec.discard)(fd)
        return 0
    if name == "F_GETFL":
        return file.flags
    if name == "F_SETFL":
        file.set_flags(file.flags & ~c.STATUS_FLAGS | argument & c.STATUS_FLAGS)
        return 0
    if "LK" in name:
        return _record_lock(task, file, name, argument & ((1 << 8 * task.process.pointer_size) - 1))
    if name == "F_SETOWN":
        file.owner = argument
        return 0
    if name == "F_GETOWN":
        return file.owner
    if name in ("F_GETPIPE_SZ", "F_SETPIPE_SZ"):
        if not isinstance(file, PipeEnd):
            raise LinuxError(errno.EBADF)
        return file.capacity() if name == "F_GETPIPE_SZ" else file.resize(argument)
    if name in ("F_ADD_SEALS", "F_GET_SEALS"):
        return fcntl.fcntl(file.host(), command, argument)
    raise LinuxError(errno.EINVAL)


_COMMANDS = {number: name for name, number in c.FCNTL.items()}
_HOST_LOCK = struct.Struct("hhqqi4x")


def _record_lock(task: Task, file: OpenFile, name: str, address: int) -> int:
    """fcntl locks: the host's, tried again until it is free for the waiting form."""
    layout = FLOCK64 if name.endswith("64") or "OFD" in name else FLOCK
    lock = layout.read(task.memory, address)
    if lock["type"] not in (c.F_RDLCK, c.F_WRLCK, c.F_UNLCK) or lock["whence"] not in (0, 1, 2):
        raise LinuxError(errno.EINVAL)
    if file.host_fd < 0:
        raise LinuxError(errno.EBADF)
    host = _HOST_LOCK.pack((fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK)[lock["type"]], lock["whence"], lock["start"],
                           lock["len"], 0)
    open_file = 36 if "OFD" in name else None
    if "GET" in name:
        found = fcntl.fcntl(file.host_fd, open_file or fcntl.F_GETLK, host)
        kind, whence, start, length, pid = _HOST_LOCK.unpack(found)
        if kind == fcntl.F_UNLCK:
            task.memory.write(address, c.F_UNLCK.to_bytes(2, "little"))
        else:
            guest_kind = c.F_RDLCK if kind == fcntl.F_RDLCK else c.F_WRLCK
            layout.write(task.memory, address, type=guest_kind, whence=whence, start=start, len=length, pid=pid)
        return 0
    try:
        fcntl.fcntl(file.host_fd, 37 if open_file else fcntl.F_SETLK, host)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        if "SETLKW" not in name:
            raise LinuxError(errno.EAGAIN) from error
        retry(task)
    return 0


@syscall("flock", "fd:fd operation:flock")
def flock(task: Task, fd: int, operation: int) -> int:
    if operation & ~4 not in (1, 2, 8):
        raise LinuxError(errno.EINVAL)
    host = task.files.get(fd).host()
    try:
        fcntl.flock(host, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        if operation & fcntl.LOCK_NB:
            raise LinuxError(errno.EAGAIN) from None
        retry(task)
    return 0


@syscall("ioctl", "fd:fd request:ioctl argument:addr")
def ioctl(task: Task, fd: int, request: int, argument: int) -> int:
    file = task.files.get(fd)
    request &= (1 << 32) - 1
    name = _REQUESTS.get(request, "")
    if name == "FIONBIO":
        on = task.memory.i32(argument) != 0
        file.set_flags(file.flags | c.O_NONBLOCK if on else file.flags & ~c.O_NONBLOCK)
    elif name == "FIOCLEX":
        task.files.close_on_exec.add(fd)
    elif name == "FIONCLEX":
        task.files.close_on_exec.discard(fd)
    elif name == "FIONREAD":
        task.memory.write_u32(argument, file.available())
    else:
        return file.ioctl(task, request, argument)
    return 0


_REQUESTS = {number: name for name, number in c.IOCTLS.items()}


@syscall("fsync|fdatasync", "fd:fd")
def fsync(task: Task, fd: int) -> int:
    os.fsync(task.files.get(fd).host())
    return 0


@syscall("syncfs", "fd:fd")
def syncfs(task: Task, fd: int) -> int:
    task.files.get(fd)
    return 0


@syscall("sync")
def sync(task: Task) -> int:
    return 0


@syscall("sync_file_range", "fd:fd start:off length:off flags:off a:off b:uint")
def sync_file_range(task: Task, fd: int, start: int, length: int, flags: int, a: int, b: int) -> int:
    if task.process.pointer_size == 4:
        start, length, flags = offset(task, start, length), offset(task, flags, a), b
    file = task.files.get(fd)
    if flags & ~7 or start < 0 or length < 0 or start + length >= 1 << 63:
        raise LinuxError(errno.EINVAL)
    if file.kind in ("pipe", "fifo", "socket", "character"):
        raise LinuxError(errno.ESPIPE)
    if flags:
        os.fdatasync(file.host())
    return 0


@syscall("truncate", "path:path length:long")
def truncate(task: Task, path: int, length: int) -> int:
    return _truncate(task, paths.text(task, path), length)


@syscall("truncate64", "path:path length:off high:high")
def truncate64(task: Task, path: int, length: int, high: int) -> int:
    return _truncate(task, paths.text(task, path), offset(task, length, high))


def _truncate(task: Task, path: str, length: int) -> int:
    if length < 0:
        raise LinuxError(errno.EINVAL)
    file = open_at(task.process, c.AT_FDCWD, path, c.O_WRONLY | c.O_NONBLOCK)
    try:
        return _set_length(file, length)
    finally:
        file.close()


@syscall("ftruncate", "fd:fd length:long")
def ftruncate(task: Task, fd: int, length: int) -> int:
    return _set_length_of(task, fd, length)


@syscall("ftruncate64", "fd:fd length:off high:high")
def ftruncate64(task: Task, fd: int, length: int, high: int) -> int:
    return _set_length_of(task, fd, offset(task, length, high))


def _set_length_of(task: Task, fd: int, length: int) -> int:
    if length < 0:
        raise LinuxError(errno.EINVAL)
    return _set_length(task.files.get(fd), length)


def _set_length(file: OpenFile, length: int) -> int:
    if file.flags & c.O_ACCMODE == c.O_RDONLY:
        raise LinuxError(errno.EINVAL)
    os.ftruncate(file.host(), length)
    return 0


@syscall("fallocate", "fd:fd mode:hex start:off length:off a:high b:high")
def fallocate(task: Task, fd: int, mode: int, start: int, length: int, a: int, b: int) -> int:
    if task.process.pointer_size == 4:
        start, length = offset(task, start, length), offset(task, a, b)
    file = task.files.get(fd)
    if start < 0 or length <= 0:
        raise LinuxError(errno.EINVAL)
    host = file.writable().host()
    if mode:
        host_calls.fallocate(host, mode, start, length)
    else:
        os.posix_fallocate(host, start, length)
    return 0


@syscall("fadvise64", "fd:fd start:off length:off advice:int narrow:int")
def fadvise64(task: Task, fd: int, start: int, length: int, advice: int, narrow: int) -> int:
    return _fadvise(task, fd, advice if task.process.pointer_size == 8 else narrow)


@syscall("fadvise64_64", "fd:fd start:off length:off advice:int a:int narrow:int")
def fadvise64_64(task: Task, fd: int, start: int, length: int, advice: int, a: int, narrow: int) -> int:
    return _fadvise(task, fd, advice if task.process.pointer_size == 8 else narrow)


def _fadvise(task: Task, fd: int, advice: int) -> int:
    if task.files.get(fd).kind in ("pipe", "fifo"):
        raise LinuxError(errno.ESPIPE)
    if advice not in range(6):
        raise LinuxError(errno.EINVAL)
    return 0


@syscall("readahead", "fd:fd start:off length:size")
def readahead(task: Task, fd: int, start: int, length: int) -> int:
    if task.files.get(fd).readable().kind not in ("file", "memfd", "block"):
        raise LinuxError(errno.EINVAL)
    return 0


@syscall("memfd_create", "name:path flags:hex")
def memfd_create(task: Task, name: int, flags: int) -> int:
    text = paths.text(task, name)
    if flags & ~3 or len(os.fsencode(text)) > 249:
        raise LinuxError(errno.EINVAL)
    file = memfd(text, c.O_RDWR | c.O_LARGEFILE, seals=bool(flags & MFD_ALLOW_SEALING))
    return install(task, file, c.O_CLOEXEC if flags & 1 else 0)
