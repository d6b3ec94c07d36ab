"""The file descriptors of a process. A ``FileTable`` maps the guest's numbers to ``OpenFile`` objects.

Several descriptors may share one ``OpenFile`` (dup), and several processes one table (CLONE_FILES).
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

from e2kemu.linux.error import LinuxError


@dataclass
class OpenFile:
    """An open file description. ``host_fd`` is ours; ``path`` is the guest's name of it ("" when it has none)."""

    host_fd: int
    kind: str = "file"          # file, directory, pipe, socket, epoll, eventfd, timerfd, std, ...
    path: str = ""
    flags: int = 0


class FileTable:
    """Descriptors 0, 1 and 2 are the emulator's own."""

    def __init__(self) -> None:
        self.files: dict[int, OpenFile] = {n: OpenFile(n, "std") for n in range(3)}
        self.close_on_exec: set[int] = set()

    def get(self, fd: int) -> OpenFile:
        """The open file of ``fd``. Raises LinuxError(EBADF)."""
        try:
            return self.files[fd]
        except KeyError:
            raise LinuxError(errno.EBADF) from None
