"""Extended attributes of files: those of users; the host's others are not the guest's business."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from e2kemu.linux import constants as c
from e2kemu.linux import paths
from e2kemu.linux.error import LinuxError
from e2kemu.linux.table import syscall
from e2kemu.linux.task import Task

PREFIX = "user."
TRUSTED = "trusted."
"""Attributes that only the administrator sees."""
NAME_MAX = 255
VALUE_MAX = 65536

Where = Callable[[Task, int, Callable[[str], int], bool], int]
"""(task, path or descriptor, what to do with the host's name of it, whether that changes it) -> its result."""


def _name(task: Task, address: int) -> str:
    name = os.fsdecode(task.memory.cstring(address, NAME_MAX + 2))
    if not 0 < len(os.fsencode(name)) <= NAME_MAX:
        raise LinuxError(errno.ERANGE)
    return name


def _permit(name: str, *, changes: bool) -> None:
    """Whether there are attributes of this name, and for this user: asked when the file has been found."""
    if name.startswith(TRUSTED):
        raise LinuxError(errno.EPERM if changes else errno.ENODATA)
    if not name.startswith(PREFIX):
        raise LinuxError(errno.EOPNOTSUPP)


def _at(task: Task, path: int, action: Callable[[str], int], changes: bool, *, follow: bool) -> int:
    with paths.at(task.process, c.AT_FDCWD, paths.text(task, path), follow=follow) as place:
        place.existing()
        if place.node is not None:
            raise LinuxError(errno.EOPNOTSUPP)
        if changes and task.process.sandbox.read_only:
            raise LinuxError(errno.EROFS)
        fd = place.open_path()
        try:
            return action(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)


def _path(task: Task, path: int, action: Callable[[str], int], changes: bool) -> int:
    return _at(task, path, action, changes, follow=True)


def _link(task: Task, path: int, action: Callable[[str], int], changes: bool) -> int:
    return _at(task, path, action, changes, follow=False)


def _descriptor(task: Task, fd: int, action: Callable[[str], int], changes: bool) -> int:
    host = task.files.get(fd).host_fd
    if host < 0:
        raise LinuxError(errno.EOPNOTSUPP)
    if changes and task.process.sandbox.read_only:
        raise LinuxError(errno.EROFS)
    return action(f"/proc/self/fd/{host}")


def _store(task: Task, address: int, size: int, data: bytes) -> int:
    if size:
        if len(data) > size:
            raise LinuxError(errno.ERANGE)
        task.memory.write(address, data)
    return len(data)


def _family(letter: str, kind: str, where: Where) -> None:
    def setxattr(task: Task, target: int, name: int, value: int, size: int, flags: int) -> int:
        if flags & ~3:
            raise LinuxError(errno.EINVAL)
        if size > VALUE_MAX:
            raise LinuxError(errno.E2BIG)
        text, data = _name(task, name), task.memory.read(value, size)

        def change(path: str) -> int:
            _permit(text, changes=True)
            os.setxattr(path, text, data, flags)
            return 0

        return where(task, target, change, True)

    def getxattr(task: Task, target: int, name: int, value: int, size: int) -> int:
        text = _name(task, name)

        def show(path: str) -> int:
            _permit(text, changes=False)
            return _store(task, value, size, os.getxattr(path, text))

        return where(task, target, show, False)

    def listxattr(task: Task, target: int, names: int, size: int) -> int:
        def show(path: str) -> int:
            own = [n for n in os.listxattr(path) if n.startswith(PREFIX)]
            return _store(task, names, size, b"".join(os.fsencode(n) + b"\0" for n in own))

        return where(task, target, show, False)

    def removexattr(task: Task, target: int, name: int) -> int:
        text = _name(task, name)

        def change(path: str) -> int:
            _permit(text, changes=True)
            os.removexattr(path, text)
            return 0

        return where(task, target, change, True)

    target = f"target:{kind}"
    syscall(f"{letter}setxattr", f"{target} name:path value:addr size:size flags:hex")(setxattr)
    syscall(f"{letter}getxattr", f"{target} name:path value:addr size:size")(getxattr)
    syscall(f"{letter}listxattr", f"{target} names:addr size:size")(listxattr)
    syscall(f"{letter}removexattr", f"{target} name:path")(removexattr)


_family("", "path", _path)
_family("l", "path", _link)
_family("f", "fd", _descriptor)
