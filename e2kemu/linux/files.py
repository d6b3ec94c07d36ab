"""The file descriptors of a process. A ``FileTable`` maps the guest's numbers to ``OpenFile`` objects.

Several descriptors may share one ``OpenFile`` (dup), and several tables too (fork); it is closed with the last of them.
An ``OpenFile`` is an open file description of Linux: offset, access mode and status flags belong to it. Its kinds:

    hostfile.py   regular files, directories, devices, FIFOs of the host, the emulator's own descriptors 0, 1 and 2
    sockets.py    sockets of the host
    pipes.py      pipes and eventfds of the host
    timers.py     timerfd; epoll.py: epoll; procfile.py: files of /proc

Timers, epolls and files of /proc are ours altogether (``host_fd`` is -1). They migrate with the process, as pipes do
that stay within it; files of the host are opened again by their path; what cannot follow is a migration blocker.
A fork of a guest is a fork of the emulator: what a child shares with its parent has to be the host's.
"""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from e2kemu.errors import OptionError, StateError
from e2kemu.linux.constants import O_ACCMODE, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY
from e2kemu.linux.error import POLLHUP, POLLIN, POLLOUT, LinuxError, WouldBlock

if TYPE_CHECKING:
    from e2kemu.linux.task import Process, Task

POLLRDNORM, POLLWRNORM = 64, 256
LARGEST = 1 << 20
"""No descriptor reaches this (Linux' nr_open)."""
Saved = dict[str, int | str]


class Waits:
    """What a call waits for: collected from files, then raised."""

    def __init__(self, deadline: int | None = None) -> None:
        self.fds: list[tuple[int, int]] = []
        self.keys: list[object] = []
        self.deadline = deadline

    def until(self, deadline: int | None) -> None:
        """Wait no longer than to ``deadline`` (process time in ns; None: no matter)."""
        if deadline is not None and (self.deadline is None or deadline < self.deadline):
            self.deadline = deadline

    def block(self, *, restart: bool = True) -> WouldBlock:
        """The exception to raise."""
        return WouldBlock(self.fds, deadline=self.deadline, keys=self.keys, restart=restart)


class OpenFile:
    """An open file description. ``host_fd`` is ours (-1: none), ``path`` the guest's name of it ("" when it has none).

    ``read`` and ``write`` never wait: they raise BlockingIOError. An operation that the kind does not have fails as
    Linux lets it fail.
    """

    kind = "file"
    message = False
    """What one write takes is all it will take: a datagram, a number."""

    def __init__(self, flags: int = 0, path: str = "", host_fd: int = -1) -> None:
        self.flags = flags
        """Access mode and status flags, as of fcntl(F_GETFL)."""
        self.path = path
        self.host_fd = host_fd
        self.references = 0
        self.owner = 0
        """Of fcntl(F_SETOWN)."""

    @property
    def nonblocking(self) -> bool:
        """O_NONBLOCK."""
        return bool(self.flags & O_NONBLOCK)

    def readable(self) -> OpenFile:
        """Itself, when it is open for reading. Raises EBADF."""
        if self.flags & O_ACCMODE not in (O_RDONLY, O_RDWR):
            raise LinuxError(errno.EBADF)
        return self

    def writable(self) -> OpenFile:
        """Itself, when it is open for writing. Raises EBADF."""
        if self.flags & O_ACCMODE not in (O_WRONLY, O_RDWR):
            raise LinuxError(errno.EBADF)
        return self

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes; b"" at the end."""
        raise LinuxError(errno.EINVAL)

    def write(self, data: bytes) -> int:
        """The number of bytes taken of ``data``."""
        raise LinuxError(errno.EINVAL)

    def ended(self, offset: int | None = None) -> bool:
        """Whether a read (at ``offset``) gives nothing now because nothing is left; takes nothing."""
        return self.poll() & (POLLIN | POLLHUP) == POLLHUP

    def pread(self, size: int, offset: int) -> bytes:
        """Read at ``offset``."""
        raise LinuxError(errno.ESPIPE)

    def pwrite(self, data: bytes, offset: int) -> int:
        """Write at ``offset``."""
        raise LinuxError(errno.ESPIPE)

    def seek(self, offset: int, whence: int) -> int:
        """Move the offset; the new one."""
        raise LinuxError(errno.ESPIPE)

    def position(self) -> int:
        """The offset, 0 where there is none."""
        return 0

    def poll(self) -> int:
        """The events of poll(2) that hold now."""
        return POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM

    def edges(self) -> int:
        """A number that changes whenever something arrives here: what edge-triggered epoll looks at."""
        return 0

    def wait(self, waits: Waits, events: int) -> None:
        """Add to ``waits`` what has to happen for ``events``."""
        if self.host_fd >= 0:
            waits.fds.append((self.host_fd, events))
        else:
            waits.keys.append(self)

    def timeout(self, *, write: bool) -> int | None:
        """Longest wait of a blocking transfer in ns (SO_RCVTIMEO, SO_SNDTIMEO)."""
        return None

    def status(self) -> os.stat_result:
        """As of fstat(2)."""
        return os.fstat(self.host_fd)

    def name(self) -> str:
        """What /proc/PID/fd shows."""
        return self.path or f"{self.kind}:[{id(self) & 0xFFFFFF}]"

    def host(self) -> int:
        """The host's descriptor, for calls that need one. Raises EINVAL when there is none."""
        if self.host_fd < 0:
            raise LinuxError(errno.EINVAL)
        return self.host_fd

    def host_descriptors(self) -> list[int]:
        """What is open on the host for it."""
        return [self.host_fd] if self.host_fd >= 0 else []

    def set_flags(self, flags: int) -> None:
        """fcntl(F_SETFL): ``flags`` are only the bits that may change."""
        self.flags = flags

    def available(self) -> int:
        """ioctl(FIONREAD). Raises ENOTTY."""
        raise LinuxError(errno.ENOTTY)

    def ioctl(self, task: Task, request: int, argument: int) -> int:
        """A control call that is the kind's own. Raises ENOTTY."""
        raise LinuxError(errno.ENOTTY)

    def close(self) -> None:
        """The last descriptor is gone."""
        if self.host_fd >= 0:
            os.close(self.host_fd)
            self.host_fd = -1

    def blocker(self, table: FileTable) -> str | None:
        """Why this cannot migrate, when ``table`` does; None when it can."""
        return f"{self.kind}" + (f" {self.path}" if self.path else "")

    def save(self) -> Saved:
        """What the loader of this kind needs to make it again."""
        return {}

    def go_on(self) -> None:
        """The program goes on here although its state was taken."""

    def loaded(self, table: FileTable) -> None:
        """All files of ``table`` have been made again."""


Loader = Callable[[Saved, "Process", "dict[object, object]"], OpenFile]
"""(saved, process, what files of this table share: of the open files in it those that no descriptor has in the end
are closed) -> the open file."""
LOADERS: dict[str, Loader] = {}
"""By kind; each module of kinds adds its own."""


class FileTable:
    """Descriptors 0, 1 and 2 are the emulator's own at first, but for one that is ``empty``."""

    def __init__(self, *, empty: bool = False) -> None:
        from e2kemu.linux.hostfile import standard  # the kinds need OpenFile first

        self.files: dict[int, OpenFile] = {}
        self.close_on_exec: set[int] = set()
        for fd in range(0 if empty else 3):
            self.set(fd, standard(fd))

    def get(self, fd: int) -> OpenFile:
        """The open file of ``fd``. Raises LinuxError(EBADF)."""
        try:
            return self.files[fd]
        except KeyError:
            raise LinuxError(errno.EBADF) from None

    def host_descriptors(self) -> set[int]:
        """Everything that is open on the host for this table."""
        return {fd for file in self.files.values() for fd in file.host_descriptors()}

    def set(self, fd: int, file: OpenFile, *, close_on_exec: bool = False) -> None:
        """Make ``fd`` a descriptor of ``file``; what it was before is closed."""
        file.references += 1
        old = self.files.get(fd)
        self.files[fd] = file
        if old is not None:
            self._release(old)
        (self.close_on_exec.add if close_on_exec else self.close_on_exec.discard)(fd)

    def lowest(self, limit: int, minimum: int = 0) -> int:
        """The lowest free descriptor from ``minimum``. Raises EMFILE when it would reach ``limit``."""
        fd = minimum
        while fd in self.files:
            fd += 1
        if fd >= limit:
            raise LinuxError(errno.EMFILE)
        return fd

    def add(self, file: OpenFile, limit: int, *, minimum: int = 0, close_on_exec: bool = False) -> int:
        """A new descriptor of ``file``. Raises EMFILE, and closes a ``file`` that nobody has then."""
        try:
            fd = self.lowest(limit, minimum)
        except LinuxError:
            if not file.references:
                file.close()
            raise
        self.set(fd, file, close_on_exec=close_on_exec)
        return fd

    def close(self, fd: int) -> None:
        """close(2). Raises EBADF."""
        file = self.get(fd)
        del self.files[fd]
        self.close_on_exec.discard(fd)
        self._release(file)

    @staticmethod
    def _release(file: OpenFile) -> None:
        file.references -= 1
        if not file.references:
            file.close()

    def clone(self) -> FileTable:
        """A child's table: the same open files."""
        child = FileTable(empty=True)
        child.files = dict(self.files)
        child.close_on_exec = set(self.close_on_exec)
        for file in child.files.values():
            file.references += 1
        return child

    def exec(self) -> None:
        """A program is executed: close the close-on-exec descriptors."""
        for fd in sorted(self.close_on_exec):
            self.close(fd)

    def close_all(self) -> None:
        """The process ends."""
        for fd in sorted(self.files):
            self.close(fd)

    def migration_blockers(self) -> list[str]:
        """A line for each descriptor that cannot follow."""
        return [f"file descriptor {fd} ({why}) cannot be migrated" for fd, file in sorted(self.files.items())
                if (why := file.blocker(self)) is not None]

    def go_on(self) -> None:
        """The program goes on here although its state was taken: a snapshot, or a migration that failed."""
        for file in self.files.values():
            file.go_on()

    def save(self) -> list[Saved]:
        """Everything, as JSON-able data: a line for each descriptor; descriptors with the same ``file`` share it, and
        the first of them tells what it is."""
        numbers: dict[int, int] = {}
        lines: list[Saved] = []
        for fd, file in sorted(self.files.items()):
            first = id(file) not in numbers
            line: Saved = {"fd": fd, "file": numbers.setdefault(id(file), len(numbers)),
                           "close_on_exec": int(fd in self.close_on_exec)}
            if first:
                line |= {"kind": file.kind, "path": file.path, "flags": file.flags, **file.save()}
            lines.append(line)
        return lines

    def load(self, items: list[Saved], process: Process) -> None:
        """Become what ``save`` saw, with the files of this host. Raises StateError naming the file that fails."""
        self.close_all()
        files: dict[int, OpenFile] = {}
        shared: dict[object, object] = {}
        try:
            for item in items:
                number, fd = int(item["file"]), int(item["fd"])
                if not 0 <= fd < LARGEST:
                    raise ValueError(f"file descriptor {fd}")
                if number not in files:
                    files[number] = self._load_file(item, process, shared)
                self.set(fd, files[number], close_on_exec=bool(item["close_on_exec"]))
            for file in files.values():
                file.loaded(self)
        except (KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError, AssertionError, zlib.error,
                LinuxError) as error:
            raise StateError(f"saved file descriptors are damaged: {error!r}") from error
        for spare in shared.values():
            if isinstance(spare, OpenFile) and not spare.references:
                spare.close()

    @staticmethod
    def _load_file(item: Saved, process: Process, shared: dict[object, object]) -> OpenFile:
        kind, path = str(item["kind"]), str(item["path"])
        try:
            return LOADERS[kind](item, process, shared)
        except (LinuxError, OSError, OptionError) as error:
            why = os.strerror(error.number) if isinstance(error, LinuxError) else getattr(error, "strerror", str(error))
            raise StateError(f"cannot open '{path or kind}' again (file descriptor {item['fd']}): {why}") from error

