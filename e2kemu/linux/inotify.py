"""inotify: the host's, with watches on what the guest's paths lead to. It does not migrate."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from e2kemu.linux import constants as c
from e2kemu.linux import host_calls
from e2kemu.linux.files import OpenFile
from e2kemu.linux.hostfile import poll_host

if TYPE_CHECKING:
    from e2kemu.linux.files import FileTable


class Inotify(OpenFile):
    """An inotify descriptor. Its events have the host's layout, which is every Linux'."""

    kind = "inotify"

    def __init__(self, flags: int) -> None:
        super().__init__(flags & c.O_NONBLOCK, "", host_calls.inotify())

    def read(self, size: int) -> bytes:
        return os.read(self.host_fd, min(size, 1 << 20))

    def poll(self) -> int:
        return poll_host(self.host_fd)

    def name(self) -> str:
        return "anon_inode:inotify"

    def blocker(self, table: FileTable) -> str | None:
        return "inotify"
