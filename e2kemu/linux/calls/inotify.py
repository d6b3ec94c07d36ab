"""inotify: watches on what paths lead to."""

from __future__ import annotations

import errno
import os
import stat

from e2kemu.linux import constants as c
from e2kemu.linux import host_calls, paths
from e2kemu.linux.calls.common import install
from e2kemu.linux.error import LinuxError
from e2kemu.linux.inotify import Inotify
from e2kemu.linux.table import syscall
from e2kemu.linux.task import Task

IN_ONLYDIR, IN_DONT_FOLLOW = 0x01000000, 0x02000000
IN_ALL_BITS = 0xF700EFFF
"""Everything that a mask may hold."""


@syscall("inotify_init")
def inotify_init(task: Task) -> int:
    return install(task, Inotify(0))


@syscall("inotify_init1", "flags:open_flags")
def inotify_init1(task: Task, flags: int) -> int:
    if flags & ~(c.O_CLOEXEC | c.O_NONBLOCK):
        raise LinuxError(errno.EINVAL)
    return install(task, Inotify(flags), flags)


def _inotify(task: Task, fd: int) -> Inotify:
    file = task.files.get(fd)
    if not isinstance(file, Inotify):
        raise LinuxError(errno.EINVAL)
    return file


@syscall("inotify_add_watch", "fd:fd path:path mask:hex")
def inotify_add_watch(task: Task, fd: int, path: int, mask: int) -> int:
    file = task.files.get(fd)
    if not mask & IN_ALL_BITS:
        raise LinuxError(errno.EINVAL)
    _inotify(task, fd)
    with paths.at(task.process, c.AT_FDCWD, paths.text(task, path), follow=not mask & IN_DONT_FOLLOW) as place:
        status = place.existing()
        if mask & IN_ONLYDIR and not stat.S_ISDIR(status.st_mode):
            raise LinuxError(errno.ENOTDIR)
        found = place.on_host().open_path()
        try:
            return host_calls.inotify_add(file.host_fd, f"/proc/self/fd/{found}", mask & ~(IN_DONT_FOLLOW | IN_ONLYDIR))
        finally:
            os.close(found)


@syscall("inotify_rm_watch", "fd:fd watch:int")
def inotify_rm_watch(task: Task, fd: int, watch: int) -> int:
    host_calls.inotify_remove(_inotify(task, fd).host_fd, watch)
    return 0
