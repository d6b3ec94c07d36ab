"""The guest's umask over the host's, for calls of the host that create files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from e2kemu.linux.task import Process


def host_umask() -> int:
    """The emulator's own umask, read without changing it."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o022


@contextmanager
def umask_of(process: Process) -> Iterator[None]:
    """Create files with the umask of ``process``; the host's is only touched when they differ."""
    old = os.umask(process.umask) if process.umask != _HOST else None
    try:
        yield
    finally:
        if old is not None:
            os.umask(old)


_HOST = host_umask()
