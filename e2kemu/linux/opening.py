"""Opening a guest path: the rules of open(2), of the sandbox, and which kind of open file comes out."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from e2kemu.linux import constants as c
from e2kemu.linux import paths
from e2kemu.linux.error import LinuxError
from e2kemu.linux.files import OpenFile
from e2kemu.linux.hostfile import wrap
from e2kemu.linux.procfile import open_node
from e2kemu.linux.umask import umask_of

if TYPE_CHECKING:
    from e2kemu.linux.task import Process


def open_at(process: Process, dirfd: int, path: str, flags: int, mode: int = 0) -> OpenFile:
    """open(2). Raises LinuxError and OSError; BlockingIOError for a FIFO without a reader that the guest waits for."""
    follow = not (flags & c.O_NOFOLLOW or (flags & c.O_CREAT and flags & c.O_EXCL))
    with paths.at(process, dirfd, path, follow=follow) as place:
        return _open(process, place, flags, mode)


def open_path(process: Process, path: str, flags: int) -> OpenFile:
    """Open an absolute guest path again, after a migration."""
    return open_at(process, c.AT_FDCWD, path, flags)


def _open(process: Process, place: paths.Place, flags: int, mode: int) -> OpenFile:
    if place.node is not None:
        if flags & c.O_CREAT and flags & c.O_EXCL:
            raise LinuxError(errno.EEXIST)
        return open_node(place.node, flags, place.guest)
    temporary = flags & c.O_TMPFILE == c.O_TMPFILE
    if place.status is None and not flags & c.O_CREAT:
        raise LinuxError(errno.ENOENT)
    if place.status is None and place.slash:
        raise LinuxError(errno.EISDIR)
    kind = None if place.status is None else stat.S_IFMT(place.existing().st_mode)
    if process.sandbox.read_only:
        _check_read_only(kind, flags, temporary)
    host = c.host_open_flags(flags) | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
    if kind in (stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK):
        host |= os.O_NONBLOCK
    keep = c.O_ACCMODE | c.STATUS_FLAGS | c.O_LARGEFILE | c.O_DIRECTORY | c.O_PATH | c.O_SYNC
    try:
        with umask_of(process):
            fd = os.open(place.name, host, mode & 0o7777, dir_fd=place.fd)
    except OSError as error:
        if error.errno == errno.ENXIO and kind == stat.S_IFIFO and not flags & c.O_NONBLOCK:
            raise BlockingIOError from error
        raise
    if process.pointer_size == 8 and not flags & c.O_PATH:
        flags |= c.O_LARGEFILE                # as the kernel itself says of every file of a 64-bit program
    return wrap(fd, flags & keep, "" if temporary else place.guest)


def _check_read_only(kind: int | None, flags: int, temporary: bool) -> None:
    """Raise EROFS where a file system that is mounted read-only does: devices and FIFOs may be written."""
    writes = flags & c.O_ACCMODE != c.O_RDONLY or flags & c.O_TRUNC
    if temporary or kind is None or (writes and kind == stat.S_IFREG and not flags & c.O_PATH):
        if flags & c.O_EXCL and flags & c.O_CREAT and kind is not None:
            raise LinuxError(errno.EEXIST)
        raise LinuxError(errno.EROFS)
