"""From a guest path to a place in the host's file system that the sandbox allows.

The emulator walks every path itself, one component after the other, with directory descriptors and without letting the
host follow any link: ``..`` at the root stays there, an absolute path or link starts at the root again, and the host
call at the end gets a directory descriptor, one name and "do not follow". So no link, race or magic file of the host
leads out of ``Sandbox.root``. ``/proc`` is never the host's: ``linux/procfs.py`` shows the guest's own.

Paths are ``str`` with surrogates for bytes that are not UTF-8 (``os.fsdecode``).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from e2kemu.linux import procfs
from e2kemu.linux.constants import AT_EMPTY_PATH, AT_FDCWD, PATH_MAX
from e2kemu.linux.error import LinuxError

if TYPE_CHECKING:
    from e2kemu.linux.files import OpenFile
    from e2kemu.linux.task import Process, Task

LINKS = 40
"""Symbolic links in one path, after which it is a loop (as in Linux)."""
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass
class Place:
    """Where a path leads: ``name`` in the host directory ``fd`` (which ``at`` closes), or a file of our /proc.

    ``guest`` is the same as a guest path without links; ``status`` tells what is there (None: nothing), of a link
    itself when it was not to be followed.
    """

    fd: int
    name: str
    guest: str
    status: os.stat_result | None
    slash: bool = False
    """The path ended with "/": only a directory will do."""
    node: procfs.Node | None = None

    def existing(self) -> os.stat_result:
        """``status``. Raises ENOENT when there is nothing, ENOTDIR when "/" follows something else than a directory."""
        if self.status is None:
            raise LinuxError(errno.ENOENT)
        if self.slash and not stat.S_ISDIR(self.status.st_mode):
            raise LinuxError(errno.ENOTDIR)
        return self.status

    def on_host(self) -> Place:
        """This place, when it can be changed at all: our /proc cannot. Raises EPERM."""
        if self.node is not None:
            raise LinuxError(errno.EPERM)
        return self

    def open_path(self) -> int:
        """A new O_PATH descriptor of exactly what is there (for calls of the host that take no "do not follow")."""
        self.existing()
        return os.open(self.name, _LOOK, dir_fd=self.fd)


def text(task: Task, address: int) -> str:
    """The path at ``address``. Raises EFAULT, ENAMETOOLONG."""
    return os.fsdecode(task.memory.cstring(address, PATH_MAX))


@contextmanager
def at(process: Process, dirfd: int, path: str, *, follow: bool = True) -> Iterator[Place]:
    """The place of ``path``, which is relative to the guest's ``dirfd`` (or AT_FDCWD).

    ``follow``: a link as last component is followed. An empty path fails with ENOENT (AT_EMPTY_PATH is the caller's
    business). Raises LinuxError and OSError as the walk meets them.
    """
    if not path:
        raise LinuxError(errno.ENOENT)
    start: OpenFile | None = None
    if not path.startswith("/") and dirfd != AT_FDCWD:
        start = process.files.get(dirfd)
        if start.kind != "directory":
            raise LinuxError(errno.ENOTDIR)
    walk = _Walk(process)
    try:
        yield walk.run(path, start, follow)
    finally:
        walk.close()


def is_empty(path: str, flags: int) -> bool:
    """Whether ``path`` is empty and AT_EMPTY_PATH makes that mean the descriptor itself."""
    return not path and bool(flags & AT_EMPTY_PATH)


def root_fd(process: Process) -> int:
    """A new descriptor of the guest's "/"."""
    return os.open(process.sandbox.root or "/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def host_path(fd: int) -> str:
    """The host's path of a descriptor of ours."""
    return os.readlink(f"/proc/self/fd/{fd}")


class _Walk:
    """One walk: a stack of directories from the root (or from a directory that has been moved) down."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.root = root_fd(process)
        self.stack: list[tuple[int, str]] = []
        self.prefix = ""
        self.links = 0

    def close(self) -> None:
        for fd, _ in self.stack:
            os.close(fd)
        self.stack.clear()
        os.close(self.root)

    def guest(self, name: str | None = None) -> str:
        """The guest path of the top of the stack, or of ``name`` in it."""
        names = [n for _, n in self.stack] + ([name] if name is not None else [])
        return self.prefix + "/" + "/".join(names)

    def top(self) -> int:
        return self.stack[-1][0] if self.stack else self.root

    def restart(self) -> None:
        for fd, _ in self.stack:
            os.close(fd)
        self.stack.clear()
        self.prefix = ""

    def run(self, path: str, start: OpenFile | None, follow: bool) -> Place:
        pending = path.split("/")[::-1]
        if start is not None:
            if not self.enter_directory(start):
                pending.extend(start.path.split("/")[::-1])
        elif not path.startswith("/"):
            pending.extend(self.process.cwd.split("/")[::-1])
        while True:
            while pending and pending[-1] in ("", "."):
                pending.pop()
            if not pending:
                return self.here()
            name = pending.pop()
            if name == "..":
                self.up()
                continue
            rest = any(n not in ("", ".") for n in reversed(pending))
            if self.guest(name) == "/proc":
                found = self.virtual(pending, follow)
                if found is not None:
                    return found
                continue
            status = self.look(name)
            if status is not None and stat.S_ISLNK(status.st_mode) and (rest or follow or pending):
                self.follow(name, pending)
                continue
            if not rest:
                if "." in pending:
                    self.down(name)
                    continue
                return Place(self.top(), name, self.guest(name), status, slash=bool(pending))
            if status is None:
                raise LinuxError(errno.ENOENT)
            self.down(name)

    def here(self) -> Place:
        return Place(self.top(), ".", self.guest(), os.stat(self.top()), slash=True)

    def look(self, name: str) -> os.stat_result | None:
        try:
            return os.stat(name, dir_fd=self.top(), follow_symlinks=False)
        except FileNotFoundError:
            return None

    def down(self, name: str) -> None:
        fd = os.open(name, _LOOK | os.O_DIRECTORY, dir_fd=self.top())
        self.stack.append((fd, name))

    def up(self) -> None:
        if self.stack and self.stack[-1][1]:
            os.close(self.stack.pop()[0])
        elif self.stack:
            self.above_moved()

    def follow(self, name: str, pending: list[str]) -> None:
        self.links += 1
        if self.links > LINKS:
            raise LinuxError(errno.ELOOP)
        self.push(os.readlink(name, dir_fd=self.top()), pending)

    def push(self, target: str, pending: list[str]) -> None:
        if not target:
            raise LinuxError(errno.ENOENT)
        if target.startswith("/"):
            self.restart()
        pending.extend(target.split("/")[::-1])

    def enter_directory(self, start: OpenFile) -> bool:
        """Begin at an open directory; False when its path (still) leads there, which the walk then takes."""
        mine = os.fstat(start.host_fd)
        try:
            place = _Walk(self.process)
            try:
                found = place.run(start.path, None, True).status
            finally:
                place.close()
        except (LinuxError, OSError):
            found = None
        if found is not None and (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino):
            return False
        self.prefix = start.path.rstrip("/")
        self.stack.append((os.open(".", _LOOK | os.O_DIRECTORY, dir_fd=start.host_fd), ""))
        return True

    def above_moved(self) -> None:
        """".." of an open directory that was moved or removed: only where the parent is still within the root."""
        root = host_path(self.root)
        parent = os.open("..", _LOOK | os.O_DIRECTORY, dir_fd=self.top())
        try:
            path = host_path(parent)
        finally:
            os.close(parent)
        if path != root and not path.startswith(root.rstrip("/") + "/"):
            raise LinuxError(errno.ENOENT)
        self.restart()
        for name in path[len(root.rstrip("/")):].split("/"):
            if name:
                self.down(name)

    def virtual(self, pending: list[str], follow: bool) -> Place | None:
        """The rest of a path in /proc: a place, or None when a link there leads elsewhere (now in ``pending``)."""
        node: procfs.Node = procfs.root(self.process)
        guest = "/proc"
        while pending:
            name = pending.pop()
            if name in ("", "."):
                continue
            if name == "..":
                pending.extend(guest.rpartition("/")[0].split("/")[::-1])
                return None
            node = node.lookup(name)
            more = any(n not in ("", ".") for n in pending)
            beyond = more if node.file is not None else more or follow    # a descriptor is opened by its node itself
            if node.link is not None and beyond:
                self.links += 1
                if self.links > LINKS:
                    raise LinuxError(errno.ELOOP)
                target = node.link()
                if not target.startswith("/"):
                    target = f"{guest}/{target}"
                self.push(target, pending)
                return None
            guest = f"{guest}/{name}"
        return Place(-1, "", guest, node.status(follow=follow), node=node)
