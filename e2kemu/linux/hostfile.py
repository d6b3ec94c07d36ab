"""Files of the host behind a guest's descriptors: regular files, directories, devices, FIFOs, and the emulator's own
standard descriptors.

What may keep a reader or writer waiting (everything but regular files and directories) is polled first, and then moved
in pieces that a ready descriptor takes without waiting: the standard descriptors are shared with other programs, so
their O_NONBLOCK is never touched.
"""

from __future__ import annotations

import base64
import errno
import fcntl
import os
import select
import stat
import struct
import zlib
from typing import TYPE_CHECKING

from e2kemu.linux import constants as c
from e2kemu.linux.error import POLLERR, POLLHUP, POLLIN, POLLOUT, LinuxError
from e2kemu.linux.files import LOADERS, OpenFile, Saved

if TYPE_CHECKING:
    from e2kemu.linux.files import FileTable
    from e2kemu.linux.task import Process, Task

CHUNK = 1 << 20
"""Bytes in one host call."""
PIPE_PIECE = 4096
"""A pipe that is ready for writing takes this much (PIPE_BUF)."""
TERMINAL_PIECE = 256
"""A terminal that is ready for writing takes this much."""
MEMFD_LIMIT = 64 << 20
"""Bytes of a memfd that migrate."""
NULL_DEVICE = os.makedev(1, 3)
REOPENED_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_ALL_EVENTS = 0x3FDF | 0x2000


def poll_host(fd: int, events: int = _ALL_EVENTS) -> int:
    """The events that hold on a host descriptor now."""
    poller = select.poll()
    poller.register(fd, events)
    ready = poller.poll(0)
    return ready[0][1] if ready else 0


class HostFile(OpenFile):
    """An open file of the host. ``kind``: file, directory, character, block, fifo, socketfile, memfd, std."""

    def __init__(self, host_fd: int, flags: int, path: str = "", kind: str | None = None) -> None:
        super().__init__(flags, path, host_fd)
        mode = os.fstat(host_fd).st_mode
        self.mode = stat.S_IFMT(mode)
        self.kind = kind or {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFCHR: "character",
                             stat.S_IFBLK: "block", stat.S_IFIFO: "fifo"}.get(self.mode, "socketfile")
        self.waits = self.mode in (stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK)
        self.piece = CHUNK
        if self.mode in (stat.S_IFIFO, stat.S_IFSOCK):
            self.piece = PIPE_PIECE
        elif self.mode == stat.S_IFCHR and os.isatty(host_fd):
            self.piece = TERMINAL_PIECE

    def read(self, size: int) -> bytes:
        if self.waits and size and not poll_host(self.host_fd) & (POLLIN | POLLHUP | POLLERR):
            raise BlockingIOError
        first = os.read(self.host_fd, min(size, CHUNK))
        whole = self.mode == stat.S_IFREG or (self.mode == stat.S_IFCHR and self.piece == CHUNK)
        if not whole or len(first) < CHUNK or len(first) == size:
            return first
        parts, left = [first], size - len(first)
        while left and (part := os.read(self.host_fd, min(left, CHUNK))):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def write(self, data: bytes) -> int:
        if not self.waits or not data:
            return os.write(self.host_fd, data)
        done = 0
        while done < len(data):
            if not poll_host(self.host_fd) & (POLLOUT | POLLERR):
                break
            try:
                count = os.write(self.host_fd, data[done:done + self.piece])
            except OSError:
                if done:
                    return done
                raise
            done += count
            if not count:
                return done
        if not done:
            raise BlockingIOError
        return done

    def ended(self, offset: int | None = None) -> bool:
        if self.mode == stat.S_IFREG:
            return not os.pread(self.host_fd, 1, self.position() if offset is None else offset)
        return os.fstat(self.host_fd).st_rdev == NULL_DEVICE or super().ended()

    def pread(self, size: int, offset: int) -> bytes:
        if self.waits and self.mode != stat.S_IFCHR:
            raise LinuxError(errno.ESPIPE)
        return os.pread(self.host_fd, min(size, 64 * CHUNK), offset)

    def pwrite(self, data: bytes, offset: int) -> int:
        if self.waits and self.mode != stat.S_IFCHR:
            raise LinuxError(errno.ESPIPE)
        return os.pwrite(self.host_fd, data, offset)

    def seek(self, offset: int, whence: int) -> int:
        if whence not in range(5):
            raise LinuxError(errno.EINVAL)
        return os.lseek(self.host_fd, offset, whence)

    def position(self) -> int:
        try:
            return os.lseek(self.host_fd, 0, os.SEEK_CUR)
        except OSError:
            return 0

    def poll(self) -> int:
        return poll_host(self.host_fd)

    def set_flags(self, flags: int) -> None:
        if self.kind != "std":
            host = fcntl.fcntl(self.host_fd, fcntl.F_GETFL) & ~(os.O_APPEND | getattr(os, "O_DIRECT", 0))
            fcntl.fcntl(self.host_fd, fcntl.F_SETFL, host | c.host_open_flags(flags) & ~c.O_ACCMODE)
        self.flags = flags

    def available(self) -> int:
        if self.mode == stat.S_IFREG:
            return max(0, os.fstat(self.host_fd).st_size - self.position())
        data = fcntl.ioctl(self.host_fd, c.IOCTLS["FIONREAD"], bytes(4))
        return int(struct.unpack("i", data)[0])

    def ioctl(self, task: Task, request: int, argument: int) -> int:
        return terminal_ioctl(self, task, request, argument)

    def name(self) -> str:
        if self.path:
            return self.path
        if self.kind == "std" and self.mode == stat.S_IFREG:
            return f"/dev/fd/{self.host_fd}"       # where it is on the host is not the guest's business
        return os.readlink(f"/proc/self/fd/{self.host_fd}")

    def close(self) -> None:
        if self.kind == "std":
            self.host_fd = -1
        else:
            super().close()

    def blocker(self, table: FileTable) -> str | None:
        if self.kind == "std":
            return None
        if self.kind == "memfd":
            return None if os.fstat(self.host_fd).st_size <= MEMFD_LIMIT else f"large memfd {self.path}"
        if self.kind in ("file", "directory"):
            if not self.path:
                return f"{self.kind} without a path"
            return f"deleted {self.kind} {self.path}" if not os.fstat(self.host_fd).st_nlink else None
        if self.path in REOPENED_DEVICES:
            return None
        return super().blocker(table)

    def save(self) -> Saved:
        if self.kind == "std":
            return {"offset": 0, "host": self.host_fd}
        saved: Saved = {"offset": self.position()}
        if self.kind == "memfd":
            data = os.pread(self.host_fd, MEMFD_LIMIT, 0)
            saved["data"] = base64.b64encode(zlib.compress(data)).decode()
            saved["seals"] = fcntl.fcntl(self.host_fd, fcntl.F_GET_SEALS)
        return saved


class Directory(HostFile):
    """An open directory: its entries are read once, when the reading begins, and stay in one order."""

    def __init__(self, host_fd: int, flags: int, path: str) -> None:
        super().__init__(host_fd, flags, path, "directory")
        self.next = 0
        self._entries: list[tuple[str, int, int]] | None = None

    def read(self, size: int) -> bytes:
        raise LinuxError(errno.EISDIR)

    def entries(self) -> list[tuple[str, int, int]]:
        """(name, inode, type of DT_*) of everything in it."""
        if self._entries is None or self.next == 0:
            self._entries = list_directory(self.host_fd, at_root=self.path == "/")
        return self._entries

    def seek(self, offset: int, whence: int) -> int:
        if whence == os.SEEK_CUR:
            offset += self.next
        elif whence != os.SEEK_SET:
            raise LinuxError(errno.EINVAL)
        if offset < 0:
            raise LinuxError(errno.EINVAL)
        self.next = offset
        return offset

    def position(self) -> int:
        return self.next


def list_directory(fd: int, *, at_root: bool) -> list[tuple[str, int, int]]:
    """The entries of a host directory, sorted by name behind "." and ".."; the root is its own parent."""
    here = os.stat(fd).st_ino
    above = here if at_root else os.stat("..", dir_fd=fd).st_ino
    found = []
    reader = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
    try:
        with os.scandir(reader) as entries:
            for entry in entries:
                try:
                    mode = os.stat(entry.name, dir_fd=fd, follow_symlinks=False).st_mode
                except FileNotFoundError:
                    continue
                found.append((entry.name, entry.inode(), stat.S_IFMT(mode) >> 12))
    finally:
        os.close(reader)
    return [(".", here, 4), ("..", above, 4), *sorted(found)]


def standard(fd: int) -> OpenFile:
    """The emulator's own descriptor 0, 1 or 2; when it is closed, one that is always at its end."""
    try:
        access = fcntl.fcntl(fd, fcntl.F_GETFL) & c.O_ACCMODE
    except OSError:
        return HostFile(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC), c.O_RDWR, "/dev/null")
    return HostFile(fd, access, kind="std")


_OUT = {"TIOCGWINSZ": 8, "TIOCGPGRP": 4, "TIOCOUTQ": 4, "TIOCGSID": 4, "TIOCGPTN": 4, "SIOCATMARK": 4, "TCGETS": 36}
_IN = {"TIOCSWINSZ": 8, "TIOCSPGRP": 4, "TIOCSPTLCK": 4, "TCSETS": 36, "TCSETSW": 36, "TCSETSF": 36}
_VALUE = ("TCSBRK", "TCXONC", "TCFLSH", "TIOCEXCL", "TIOCNXCL", "TIOCSCTTY", "TIOCNOTTY", "TCSBRKP")
_NAMES = {number: name for name, number in c.IOCTLS.items()}


def terminal_ioctl(file: OpenFile, task: Task, request: int, argument: int) -> int:
    """Terminal controls whose structures are the same on the host (Linux' generic ones). Raises ENOTTY for others."""
    name = _NAMES.get(request, "")
    if name in _OUT:
        task.memory.write(argument, fcntl.ioctl(file.host_fd, request, bytes(_OUT[name])))
    elif name in _IN:
        fcntl.ioctl(file.host_fd, request, task.memory.read(argument, _IN[name]))
    elif name in _VALUE:
        fcntl.ioctl(file.host_fd, request, argument)
    else:
        raise LinuxError(errno.ENOTTY)
    return 0


def wrap(host_fd: int, flags: int, path: str) -> HostFile:
    """An open file for a descriptor that has just been opened."""
    if stat.S_ISDIR(os.fstat(host_fd).st_mode):
        return Directory(host_fd, flags, path)
    return HostFile(host_fd, flags, path)


def _load_path(saved: Saved, process: Process, shared: dict[object, object]) -> OpenFile:
    from e2kemu.linux.opening import open_path  # which needs this module

    flags = int(saved["flags"])
    file = open_path(process, str(saved["path"]), flags & ~(c.O_CREAT | c.O_EXCL | c.O_TRUNC))
    if file.kind != saved["kind"]:
        file.close()
        raise LinuxError(errno.ENOTDIR if saved["kind"] == "directory" else errno.EINVAL)
    if isinstance(file, Directory) or file.kind == "file":
        file.seek(int(saved["offset"]), os.SEEK_SET)
    return file


def _load_standard(saved: Saved, process: Process, shared: dict[object, object]) -> OpenFile:
    file = standard(int(saved["host"]))
    file.flags = int(saved["flags"])
    return file


def _load_memfd(saved: Saved, process: Process, shared: dict[object, object]) -> OpenFile:
    file = memfd(str(saved["path"]), int(saved["flags"]))
    os.write(file.host_fd, zlib.decompress(base64.b64decode(str(saved["data"]))))
    fcntl.fcntl(file.host_fd, fcntl.F_ADD_SEALS, int(saved.get("seals", 0)))
    file.seek(int(saved["offset"]), os.SEEK_SET)
    return file


def memfd(name: str, flags: int, *, seals: bool = True) -> HostFile:
    """A file in memory only; without ``seals`` it cannot be sealed."""
    host = os.memfd_create(name, os.MFD_CLOEXEC | (os.MFD_ALLOW_SEALING if seals else 0))
    return HostFile(host, flags, name, "memfd")


LOADERS.update(dict.fromkeys(("file", "directory", "character"), _load_path), std=_load_standard, memfd=_load_memfd)
