"""Moving bytes: read, write, their vectors and positions, seeking, and copies between descriptors."""

from __future__ import annotations

import errno
import os

from e2kemu.linux import constants as c
from e2kemu.linux import host_calls
from e2kemu.linux.calls.common import (
    PIECE,
    Vector,
    blocking,
    offset,
    read_into,
    vector,
    wait_for,
    write_from,
)
from e2kemu.linux.error import POLLERR, POLLHUP, POLLIN, POLLOUT, LinuxError
from e2kemu.linux.files import OpenFile
from e2kemu.linux.pipes import PipeEnd
from e2kemu.linux.table import syscall
from e2kemu.linux.task import Task

SPLICE_F_NONBLOCK, SPLICE_FLAGS = 2, 15


def _one(task: Task, address: int, count: int) -> Vector:
    if count >> 8 * task.process.pointer_size - 1:
        raise LinuxError(errno.EINVAL)
    return [(address, min(count, c.MAX_TRANSFER))]


@syscall("read", "fd:fd buf:received count:size")
def read(task: Task, fd: int, buf: int, count: int) -> int:
    return read_into(task, task.files.get(fd), _one(task, buf, count))


@syscall("write", "fd:fd buf:buf count:size")
def write(task: Task, fd: int, buf: int, count: int) -> int:
    return write_from(task, task.files.get(fd), _one(task, buf, count))


@syscall("readv", "fd:fd iov:iovec_out iovcnt:int")
def readv(task: Task, fd: int, iov: int, iovcnt: int) -> int:
    file = task.files.get(fd)
    return read_into(task, file, vector(task, iov, iovcnt))


@syscall("writev", "fd:fd iov:iovec iovcnt:int")
def writev(task: Task, fd: int, iov: int, iovcnt: int) -> int:
    file = task.files.get(fd)
    return write_from(task, file, vector(task, iov, iovcnt))


@syscall("pread64", "fd:fd buf:received count:size position:off high:high")
def pread(task: Task, fd: int, buf: int, count: int, position: int, high: int) -> int:
    return read_into(task, task.files.get(fd), _one(task, buf, count), offset(task, position, high))


@syscall("pwrite64", "fd:fd buf:buf count:size position:off high:high")
def pwrite(task: Task, fd: int, buf: int, count: int, position: int, high: int) -> int:
    return write_from(task, task.files.get(fd), _one(task, buf, count), offset(task, position, high))


@syscall("preadv", "fd:fd iov:iovec_out iovcnt:int position:off high:high")
def preadv(task: Task, fd: int, iov: int, iovcnt: int, position: int, high: int) -> int:
    return read_into(task, task.files.get(fd), vector(task, iov, iovcnt), offset(task, position, high))


@syscall("pwritev", "fd:fd iov:iovec iovcnt:int position:off high:high")
def pwritev(task: Task, fd: int, iov: int, iovcnt: int, position: int, high: int) -> int:
    return write_from(task, task.files.get(fd), vector(task, iov, iovcnt), offset(task, position, high))


def _position2(task: Task, position: int, high: int, flags: int) -> int | None:
    if flags:
        raise LinuxError(errno.EOPNOTSUPP)
    where = offset(task, position, high)
    return None if where == -1 else where


@syscall("preadv2", "fd:fd iov:iovec_out iovcnt:int position:off high:high flags:hex")
def preadv2(task: Task, fd: int, iov: int, iovcnt: int, position: int, high: int, flags: int) -> int:
    return read_into(task, task.files.get(fd), vector(task, iov, iovcnt), _position2(task, position, high, flags))


@syscall("pwritev2", "fd:fd iov:iovec iovcnt:int position:off high:high flags:hex")
def pwritev2(task: Task, fd: int, iov: int, iovcnt: int, position: int, high: int, flags: int) -> int:
    return write_from(task, task.files.get(fd), vector(task, iov, iovcnt), _position2(task, position, high, flags))


@syscall("lseek", "fd:fd offset:long whence:seek")
def lseek(task: Task, fd: int, offset: int, whence: int) -> int:
    return task.files.get(fd).seek(offset, whence)


@syscall("_llseek", "fd:fd high:uint low:uint result:addr whence:seek")
def llseek(task: Task, fd: int, high: int, low: int, result: int, whence: int) -> int:
    where = high << 32 | low
    task.memory.check_write(result, 8)
    task.memory.write_u64(result, task.files.get(fd).seek(where - (1 << 64) if where >> 63 else where, whence))
    return 0


def copy(task: Task, source: OpenFile, target: OpenFile, count: int, from_: int | None, to: int | None) -> int:
    """Move at most ``count`` bytes from one open file to another; from and to a position where one is given, else the
    files' own offsets. What the target does not take at once stays in the source where that can seek."""
    source.readable()
    target.writable()
    done = 0
    while done < count:
        if to is None and not target.poll() & POLLOUT and source.kind in ("file", "memfd"):
            if done:
                return done
            wait_for(task, target, POLLOUT, write=True)
        size = min(count - done, PIECE)
        try:
            if from_ is not None:
                data = source.pread(size, from_ + done)
            elif done:
                data = source.read(size)
            else:
                data = blocking(task, source, POLLIN, lambda: source.read(min(count, PIECE)))
        except BlockingIOError:
            return done
        if not data:
            return done
        moved = 0
        while moved < len(data):
            try:
                moved += target.write(data[moved:]) if to is None else target.pwrite(data[moved:], to + done + moved)
            except BlockingIOError:
                break
        if moved < len(data) and from_ is None:
            if source.kind not in ("file", "memfd"):
                raise LinuxError(errno.EAGAIN)
            source.seek(moved - len(data), os.SEEK_CUR)
        done += moved
        if moved < len(data):
            break
    return done


def _offset_at(task: Task, address: int, file: OpenFile, size: int) -> int | None:
    if not address:
        return None
    if file.kind not in ("file", "memfd", "procfile", "block", "std"):
        raise LinuxError(errno.ESPIPE)
    value = int.from_bytes(task.memory.read(address, size), "little", signed=True)
    if value < 0:
        raise LinuxError(errno.EINVAL)
    return value


def _sendfile(task: Task, out_fd: int, in_fd: int, address: int, count: int, size: int) -> int:
    if address:
        task.memory.check_write(address, size)
    source, target = task.files.get(in_fd).readable(), task.files.get(out_fd).writable()
    start = _offset_at(task, address, source, size)
    cannot_seek = source.kind in ("pipe", "fifo", "socket", "directory")
    if target.flags & c.O_APPEND or (cannot_seek and target.kind != "pipe"):
        raise LinuxError(errno.EINVAL)
    done = copy(task, source, target, min(count, c.MAX_TRANSFER), start, None)
    if start is not None:
        task.memory.write(address, (start + done).to_bytes(size, "little"))
    return done


@syscall("sendfile", "out_fd:fd in_fd:fd offset:addr count:size")
def sendfile(task: Task, out_fd: int, in_fd: int, offset: int, count: int) -> int:
    return _sendfile(task, out_fd, in_fd, offset, count, task.process.pointer_size)


@syscall("sendfile64", "out_fd:fd in_fd:fd offset:addr count:size")
def sendfile64(task: Task, out_fd: int, in_fd: int, offset: int, count: int) -> int:
    return _sendfile(task, out_fd, in_fd, offset, count, 8)


@syscall("copy_file_range", "fd_in:fd off_in:addr fd_out:fd off_out:addr len:size flags:hex")
def copy_file_range(task: Task, fd_in: int, off_in: int, fd_out: int, off_out: int, length: int, flags: int) -> int:
    source, target = task.files.get(fd_in), task.files.get(fd_out)
    if flags or source.kind not in ("file", "memfd") or target.kind not in ("file", "memfd"):
        raise LinuxError(errno.EINVAL)
    if os.path.samestat(source.status(), target.status()):
        given = (_offset_at(task, off_in, source, 8), _offset_at(task, off_out, target, 8))
        start, to = (file.position() if at is None else at for file, at in zip((source, target), given, strict=True))
        if abs(start - to) < length:
            raise LinuxError(errno.EINVAL)
    return _move(task, source, off_in, target, off_out, length)


@syscall("splice", "fd_in:fd off_in:addr fd_out:fd off_out:addr len:size flags:hex")
def splice(task: Task, fd_in: int, off_in: int, fd_out: int, off_out: int, length: int, flags: int) -> int:
    if flags & ~SPLICE_FLAGS:
        raise LinuxError(errno.EINVAL)
    source, target = task.files.get(fd_in).readable(), task.files.get(fd_out).writable()
    if "pipe" not in (source.kind, target.kind):
        raise LinuxError(errno.EINVAL)
    for file, address in ((source, off_in), (target, off_out)):
        if file.kind == "pipe" and address:
            raise LinuxError(errno.ESPIPE)
    if _same_pipe(source, target):
        raise LinuxError(errno.EINVAL)
    if flags & SPLICE_F_NONBLOCK:
        _at_once(source, target)
    if target.kind == "pipe" and source.kind not in ("file", "memfd"):
        length = min(length, 4096)
        if not target.poll() & POLLOUT:
            wait_for(task, target, POLLOUT, write=True)
    return _move(task, source, off_in, target, off_out, length)


def _same_pipe(source: OpenFile, target: OpenFile) -> bool:
    return source.kind == target.kind == "pipe" and source.status().st_ino == target.status().st_ino


def _at_once(source: OpenFile, target: OpenFile) -> None:
    """Raise EAGAIN when a pipe at either end would let the caller wait."""
    if source.kind == "pipe" and not source.poll() & (POLLIN | POLLHUP):
        raise LinuxError(errno.EAGAIN)
    if target.kind == "pipe" and not target.poll() & (POLLOUT | POLLERR):
        raise LinuxError(errno.EAGAIN)


@syscall("tee", "fd_in:fd fd_out:fd len:size flags:hex")
def tee(task: Task, fd_in: int, fd_out: int, length: int, flags: int) -> int:
    if flags & ~SPLICE_FLAGS:
        raise LinuxError(errno.EINVAL)
    source, target = task.files.get(fd_in).readable(), task.files.get(fd_out).writable()
    if not isinstance(source, PipeEnd) or not isinstance(target, PipeEnd) or _same_pipe(source, target):
        raise LinuxError(errno.EINVAL)
    if not length:
        return 0
    try:
        if source.pushback:
            return target.write(source.pushback[:length])
        return host_calls.tee(source.host_fd, target.host_fd, min(length, c.MAX_TRANSFER))
    except BlockingIOError:
        if flags & SPLICE_F_NONBLOCK:
            raise LinuxError(errno.EAGAIN) from None
        empty = not source.poll() & POLLIN
        wait_for(task, source if empty else target, POLLIN if empty else POLLOUT, write=not empty)
        raise AssertionError from None


@syscall("vmsplice", "fd:fd iov:addr iovcnt:size flags:hex")
def vmsplice(task: Task, fd: int, iov: int, iovcnt: int, flags: int) -> int:
    if flags & ~SPLICE_FLAGS:
        raise LinuxError(errno.EINVAL)
    pipe = task.files.get(fd)
    if not isinstance(pipe, PipeEnd):
        raise LinuxError(errno.EBADF)
    pieces = vector(task, iov, min(iovcnt, c.IOV_MAX + 1))
    if not any(size for _, size in pieces):
        return 0
    if flags & SPLICE_F_NONBLOCK:
        _at_once(pipe, pipe)
    return read_into(task, pipe, pieces) if pipe.reads else write_from(task, pipe, pieces)


def _move(task: Task, source: OpenFile, off_in: int, target: OpenFile, off_out: int, length: int) -> int:
    start, to = _offset_at(task, off_in, source, 8), _offset_at(task, off_out, target, 8)
    done = copy(task, source, target, min(length, c.MAX_TRANSFER), start, to)
    for address, value in ((off_in, start), (off_out, to)):
        if value is not None:
            task.memory.write_u64(address, value + done)
    return done
