"""System calls of the host that Python's os module does not have."""

from __future__ import annotations

import ctypes
import os

_LIBC = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: int | bytes) -> int:
    """The result of the C library's ``name``. Raises OSError."""
    function = getattr(_LIBC, name)
    result = int(function(*[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]))
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def fallocate(fd: int, mode: int, start: int, length: int) -> None:
    """fallocate(2) with its modes."""
    _call("fallocate64", fd, mode, start, length)


def exchange(old_fd: int, old: str, new_fd: int, new: str) -> None:
    """renameat2(2) with RENAME_EXCHANGE."""
    _call("renameat2", old_fd, os.fsencode(old), new_fd, os.fsencode(new), 2)


def tee(source: int, target: int, size: int) -> int:
    """tee(2); it never waits."""
    return _call("tee", source, target, size, 2)


def dissolve(fd: int) -> None:
    """connect(2) with AF_UNSPEC: the socket has no peer any more."""
    _call("connect", fd, bytes(16), 16)


def inotify() -> int:
    """A new inotify descriptor that does not wait."""
    return _call("inotify_init1", os.O_CLOEXEC | os.O_NONBLOCK)


def inotify_add(fd: int, path: str, mask: int) -> int:
    """inotify_add_watch(2): the number of the watch."""
    return _call("inotify_add_watch", fd, os.fsencode(path), mask)


def inotify_remove(fd: int, watch: int) -> None:
    """inotify_rm_watch(2)."""
    _call("inotify_rm_watch", fd, watch)
