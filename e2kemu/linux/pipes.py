"""Pipes and event counters: descriptors of the host (a forked child shares them) that can follow a migration.

A pipe follows when nobody outside of the process has an end of it; what is in it goes into the saved state and, so that
the source can go on when the migration fails, into ``pushback`` of the reading end.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from typing import TYPE_CHECKING

from e2kemu.linux import constants as c
from e2kemu.linux.error import POLLERR, POLLHUP, POLLIN, LinuxError
from e2kemu.linux.files import LOADERS, POLLRDNORM, OpenFile, Saved
from e2kemu.linux.hostfile import poll_host

if TYPE_CHECKING:
    from e2kemu.linux.files import FileTable
    from e2kemu.linux.task import Process

EFD_SEMAPHORE = 1
EVENT_FULL = (1 << 64) - 1
"""The counter of an eventfd stays below this."""


class PipeEnd(OpenFile):
    """One end of a pipe; the access mode tells which."""

    kind = "pipe"

    def __init__(self, host_fd: int, flags: int) -> None:
        super().__init__(flags, "", host_fd)
        self.pushback = b""
        self.refilled = 0
        """How often ``pushback`` was filled: an arrival that the host's epoll does not see."""

    @property
    def reads(self) -> bool:
        """The reading end."""
        return self.flags & c.O_ACCMODE == c.O_RDONLY

    def read(self, size: int) -> bytes:
        if self.pushback:
            data, self.pushback = self.pushback[:size], self.pushback[size:]
            return data
        return os.read(self.host_fd, min(size, 1 << 20))

    def write(self, data: bytes) -> int:
        return os.write(self.host_fd, data[:1 << 20])

    def poll(self) -> int:
        return poll_host(self.host_fd) | (POLLIN | POLLRDNORM if self.pushback else 0)

    def edges(self) -> int:
        return self.refilled

    def available(self) -> int:
        (waiting,) = struct.unpack("i", fcntl.ioctl(self.host_fd, c.IOCTLS["FIONREAD"], bytes(4)))
        return int(waiting) + len(self.pushback)

    def name(self) -> str:
        return os.readlink(f"/proc/self/fd/{self.host_fd}")

    def resize(self, size: int) -> int:
        """fcntl(F_SETPIPE_SZ): the size that it has now."""
        return fcntl.fcntl(self.host_fd, c.FCNTL["F_SETPIPE_SZ"], size)

    def capacity(self) -> int:
        """fcntl(F_GETPIPE_SZ)."""
        return fcntl.fcntl(self.host_fd, c.FCNTL["F_GETPIPE_SZ"])

    def blocker(self, table: FileTable) -> str | None:
        here = {(f.status().st_ino, f.reads) for f in table.files.values() if isinstance(f, PipeEnd)}
        if (self.status().st_ino, not self.reads) in here or poll_host(self.host_fd) & (POLLHUP | POLLERR):
            return None
        return "pipe to another process"

    def save(self) -> Saved:
        saved: Saved = {"pipe": self.status().st_ino, "capacity": self.capacity()}
        if self.reads:
            try:
                while part := os.read(self.host_fd, 1 << 20):
                    self.pushback += part
            except BlockingIOError:
                pass
            saved["data"] = self.pushback.hex()
            self.refilled += bool(self.pushback)
        return saved


def new_pipe(flags: int) -> tuple[PipeEnd, PipeEnd]:
    """(reading end, writing end)."""
    first, second = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    flags &= c.O_NONBLOCK
    return PipeEnd(first, flags | c.O_RDONLY), PipeEnd(second, flags | c.O_WRONLY)


class EventFd(OpenFile):
    """A counter: writes add to it, a read takes it (or 1 with EFD_SEMAPHORE)."""

    kind = "eventfd"
    message = True

    def __init__(self, count: int, flags: int) -> None:
        host = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK | (os.EFD_SEMAPHORE if flags & EFD_SEMAPHORE else 0))
        super().__init__(flags & c.O_NONBLOCK | c.O_RDWR, "", host)
        self.semaphore = flags & EFD_SEMAPHORE
        if count:
            os.eventfd_write(host, count)

    def read(self, size: int) -> bytes:
        if size < 8:
            raise LinuxError(errno.EINVAL)
        return os.read(self.host_fd, 8)

    def write(self, data: bytes) -> int:
        if len(data) < 8:
            raise LinuxError(errno.EINVAL)
        return os.write(self.host_fd, data[:8])

    def poll(self) -> int:
        return poll_host(self.host_fd)

    def name(self) -> str:
        return "anon_inode:[eventfd]"

    def count(self) -> int:
        """The counter."""
        with open(f"/proc/self/fdinfo/{self.host_fd}", encoding="ascii") as lines:
            return next(int(line.split()[1], 16) for line in lines if line.startswith("eventfd-count:"))

    def blocker(self, table: FileTable) -> str | None:
        return None

    def save(self) -> Saved:
        return {"count": f"{self.count():x}", "semaphore": self.semaphore}


def _load_pipe(saved: Saved, process: Process, shared: dict[object, object]) -> OpenFile:
    flags = int(saved["flags"])
    if (saved["pipe"], c.O_RDONLY) not in shared:
        shared[saved["pipe"], c.O_RDONLY], shared[saved["pipe"], c.O_WRONLY] = new_pipe(flags)
    end = shared[saved["pipe"], flags & c.O_ACCMODE]
    assert isinstance(end, PipeEnd)
    end.flags = flags
    end.resize(int(saved["capacity"]))
    if end.reads:
        end.pushback = bytes.fromhex(str(saved["data"]))
    return end


def _load_eventfd(saved: Saved, process: Process, shared: dict[object, object]) -> OpenFile:
    return EventFd(int(str(saved["count"]), 16), int(saved["flags"]) | int(saved["semaphore"]))


LOADERS["pipe"] = _load_pipe
LOADERS["eventfd"] = _load_eventfd
