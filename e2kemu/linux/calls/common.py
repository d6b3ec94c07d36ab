"""What the handlers of many calls share: descriptors, waiting transfers, I/O vectors, offsets in two registers."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TypeVar

from e2kemu.linux import constants as c
from e2kemu.linux.elf import ADDRESS_LIMIT
from e2kemu.linux.error import POLLIN, POLLOUT, LinuxError
from e2kemu.linux.files import OpenFile, Waits
from e2kemu.linux.memory import Memory
from e2kemu.linux.structs import IOVEC
from e2kemu.linux.task import Task

T = TypeVar("T")
PIECE = 1 << 20
"""Bytes of guest memory that one turn of a long transfer moves."""
M32 = (1 << 32) - 1
NS = 10**9


def limit(task: Task, name: str) -> int:
    """The soft limit RLIMIT_``name``."""
    return task.process.identity.limits[f"RLIMIT_{name}"][0]


def install(task: Task, file: OpenFile, flags: int = 0) -> int:
    """A new descriptor of ``file``; O_CLOEXEC in ``flags`` counts. Raises EMFILE and closes the file."""
    return task.files.add(file, limit(task, "NOFILE"), close_on_exec=bool(flags & c.O_CLOEXEC))


def offset(task: Task, low: int, high: int) -> int:
    """A 64-bit offset: the first register, in 32-bit programs both."""
    if task.process.pointer_size == 8:
        return low
    value = (low & M32) | (high & M32) << 32
    return value - (1 << 64) if value >> 63 else value


def wait_for(task: Task, file: OpenFile, events: int, *, write: bool = False) -> None:
    """Let the task wait until ``file`` can go on. Raises WouldBlock; EAGAIN when the descriptor (or its socket's
    timeout) does not want to wait."""
    if file.nonblocking:
        raise LinuxError(errno.EAGAIN)
    timeout = file.timeout(write=write)
    waits = Waits(task.deadline(timeout))
    if timeout is not None and task.expired():
        raise LinuxError(errno.EAGAIN)
    file.wait(waits, events)
    raise waits.block(restart=timeout is None)


def blocking(task: Task, file: OpenFile, events: int, operation: Callable[[], T], *, write: bool = False) -> T:
    """``operation()``, again when ``events`` come."""
    try:
        return operation()
    except BlockingIOError:
        wait_for(task, file, events, write=write)
        raise AssertionError from None


def accessible(memory: Memory, address: int, size: int, *, write: bool) -> int:
    """How many of ``size`` bytes from ``address`` on can be used. Raises EFAULT when none can."""
    allowed = memory.backing.writable if write else memory.backing.readable
    if not size or allowed(address, size):
        return size
    good = 0
    while good < size:
        step = min(4096 - (address + good) % 4096, size - good)
        if not allowed(address + good, step):
            break
        good += step
    if not good:
        raise LinuxError(errno.EFAULT)
    return good


Vector = list[tuple[int, int]]
"""(address, size) of pieces of guest memory."""


def vector(task: Task, address: int, count: int) -> Vector:
    """The I/O vector at ``address``. Raises EINVAL, EFAULT."""
    if not 0 <= count <= c.IOV_MAX:
        raise LinuxError(errno.EINVAL)
    size = IOVEC.size(task.process.pointer_size)
    top = 1 << 8 * task.process.pointer_size - 1
    pieces: Vector = []
    total = 0
    for n in range(count):
        item = IOVEC.read(task.memory, address + n * size)
        if item["len"] >= top:
            raise LinuxError(errno.EINVAL)
        length = min(item["len"], c.MAX_TRANSFER - total)
        total += length
        pieces.append((item["base"], length))
    return pieces


def gather(task: Task, pieces: Vector, skip: int, most: int = PIECE) -> bytes:
    """At most ``most`` bytes from the pieces behind the first ``skip`` bytes; stops before memory that is not there.
    Raises EFAULT when nothing is."""
    parts: list[bytes] = []
    got = 0
    for address, size in pieces:
        if skip >= size:
            skip -= size
            continue
        want = min(size - skip, most - got)
        try:
            usable = accessible(task.memory, address + skip, want, write=False)
        except LinuxError:
            if parts:
                break
            raise
        parts.append(task.memory.read(address + skip, usable))
        got += usable
        skip = 0
        if usable < want or got == most:
            break
    return b"".join(parts)


def room(task: Task, pieces: Vector) -> int:
    """How many bytes can be stored in the pieces. Raises EFAULT when none can though some should."""
    total = 0
    for address, size in pieces:
        try:
            usable = accessible(task.memory, address, size, write=True)
        except LinuxError:
            if total:
                break
            raise
        total += usable
        if usable < size:
            break
    return total


def scatter(task: Task, pieces: Vector, data: bytes) -> None:
    """Store ``data`` into the pieces, in order."""
    done = 0
    for address, size in pieces:
        if done >= len(data):
            return
        task.memory.write(address, data[done:done + size])
        done += size


def read_into(task: Task, file: OpenFile, pieces: Vector, position: int | None = None) -> int:
    """read(2) and its like; with ``position`` pread(2)."""
    file.readable()
    if position is not None and position < 0:
        raise LinuxError(errno.EINVAL)
    try:
        size = room(task, pieces)
    except LinuxError:
        if pieces[0][0] >= ADDRESS_LIMIT:
            raise
        if file.ended(position):
            return 0                       # nothing is stored, so nobody looks at the memory
        if file.kind in ("pipe", "socket") and position is None and not file.poll() & POLLIN:
            wait_for(task, file, POLLIN)   # nor does anybody before there is something to store
        raise
    if position is None:
        data = blocking(task, file, POLLIN, lambda: file.read(size))
    else:
        data = file.pread(size, position)
    scatter(task, pieces, data)
    return len(data)


def write_from(task: Task, file: OpenFile, pieces: Vector, position: int | None = None) -> int:
    """write(2) and its like; with ``position`` pwrite(2). A blocking write goes on until all is written."""
    file.writable()
    if position is not None and position < 0:
        raise LinuxError(errno.EINVAL)
    size = sum(length for _, length in pieces)
    if file.kind == "socket" and file.message and size > PIECE:
        raise LinuxError(errno.EMSGSIZE)
    done = task.progress
    while True:
        try:
            data = gather(task, pieces, done)
            count = file.write(data) if position is None else file.pwrite(data, position + done)
        except BlockingIOError:
            if done and file.nonblocking:
                return done
            task.progress = done
            wait_for(task, file, POLLOUT, write=True)
        except (LinuxError, OSError):
            if done:
                return done
            raise
        done += count
        if file.message or done >= size or not count:
            return done
