"""Open files of /proc: their text is made when they are opened."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from e2kemu.linux import constants as c
from e2kemu.linux import procfs
from e2kemu.linux.error import LinuxError
from e2kemu.linux.files import LOADERS, OpenFile, Saved
from e2kemu.linux.hostfile import HostFile, wrap

if TYPE_CHECKING:
    from e2kemu.linux.files import FileTable
    from e2kemu.linux.task import Process


class ProcFile(OpenFile):
    """A file with fixed bytes."""

    kind = "procfile"

    def __init__(self, flags: int, path: str, data: bytes, mode: int) -> None:
        super().__init__(flags, path)
        self.data = data
        self.mode = mode
        self.offset = 0

    def read(self, size: int) -> bytes:
        part = self.data[self.offset:self.offset + size]
        self.offset += len(part)
        return part

    def ended(self, offset: int | None = None) -> bool:
        return (self.offset if offset is None else offset) >= len(self.data)

    def pread(self, size: int, offset: int) -> bytes:
        return self.data[offset:offset + size]

    def seek(self, offset: int, whence: int) -> int:
        if whence not in (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END):
            raise LinuxError(errno.EINVAL)
        offset += (0, self.offset, len(self.data))[whence]
        if offset < 0:
            raise LinuxError(errno.EINVAL)
        self.offset = offset
        return offset

    def position(self) -> int:
        return self.offset

    def status(self) -> os.stat_result:
        return procfs.make_status(self.mode, inode=procfs.inode(self.path), device=procfs.DEVICE)

    def blocker(self, table: FileTable) -> str | None:
        return None

    def save(self) -> Saved:
        return {"offset": self.offset, "data": self.data.hex(), "mode": self.mode}


class ProcDirectory(ProcFile):
    """A directory of /proc, its entries as they were at the time of opening."""

    kind = "directory"

    def __init__(self, flags: int, path: str, node: procfs.Node) -> None:
        super().__init__(flags, path, b"", node.status(follow=True).st_mode)
        found = sorted((node.entries or dict)().items(),
                       key=lambda item: (not item[0].isdigit(), item[0].zfill(10) if item[0].isdigit() else item[0]))
        self._entries = [(".", procfs.inode(path), 4), ("..", procfs.inode(path + "/.."), 4)]
        self._entries += [(name, procfs.inode(child.path), stat.S_IFMT(child.status(follow=False).st_mode) >> 12)
                          for name, child in found]

    def read(self, size: int) -> bytes:
        raise LinuxError(errno.EISDIR)

    def entries(self) -> list[tuple[str, int, int]]:
        """(name, inode, type of DT_*)."""
        return self._entries

    @property
    def next(self) -> int:
        """Number of the entry to read next."""
        return self.offset

    @next.setter
    def next(self, value: int) -> None:
        self.offset = value

    def blocker(self, table: FileTable) -> str | None:
        return f"directory {self.path}"


def open_node(node: procfs.Node, flags: int, path: str) -> OpenFile:
    """open(2) of a place in /proc. A descriptor's link opens its file again, or shares it when it has no path."""
    if node.file is not None:
        return _again(node.file, flags)
    if node.link is not None:
        raise LinuxError(errno.ELOOP)
    if flags & c.O_ACCMODE != c.O_RDONLY:
        raise LinuxError(errno.EISDIR if node.entries else errno.EACCES)
    if node.entries is not None:
        return ProcDirectory(flags, path, node)
    if flags & c.O_DIRECTORY:
        raise LinuxError(errno.ENOTDIR)
    assert node.content is not None
    return ProcFile(flags, path, node.content(), node.status(follow=True).st_mode)


def _again(file: OpenFile, flags: int) -> OpenFile:
    if isinstance(file, HostFile) and file.kind in ("file", "directory", "memfd", "character"):
        allowed = file.flags & c.O_ACCMODE
        if (allowed != c.O_RDWR and flags & c.O_ACCMODE != allowed) or (flags & c.O_TRUNC and not allowed):
            raise LinuxError(errno.EACCES)
        host = c.host_open_flags(flags & ~(c.O_CREAT | c.O_EXCL)) | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        kept = flags & ~(c.O_CREAT | c.O_EXCL | c.O_TRUNC)
        return wrap(os.open(f"/proc/self/fd/{file.host_fd}", host), kept, file.path)
    return file


def _load(saved: Saved, process: Process, shared: dict[object, object]) -> OpenFile:
    file = ProcFile(int(saved["flags"]), str(saved["path"]), bytes.fromhex(str(saved["data"])), int(saved["mode"]))
    file.offset = int(saved["offset"])
    return file


LOADERS["procfile"] = _load
