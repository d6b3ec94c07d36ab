"""timerfd: a descriptor of ours, so that it migrates and follows the guest's clock, which stands still while the
machine is stopped."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from e2kemu.linux import constants as c
from e2kemu.linux.error import POLLIN, LinuxError
from e2kemu.linux.files import LOADERS, POLLRDNORM, OpenFile, Saved, Waits
from e2kemu.linux.procfs import make_status

if TYPE_CHECKING:
    from e2kemu.linux.files import FileTable
    from e2kemu.linux.task import Clock, Process

DEVICE = 0xD
ANONYMOUS_INODE = 1


class Anonymous(OpenFile):
    """A descriptor without any file."""

    def status(self) -> os.stat_result:
        return make_status(0o600, inode=ANONYMOUS_INODE, device=DEVICE)

    def name(self) -> str:
        return f"anon_inode:[{self.kind}]"

    def blocker(self, table: FileTable) -> str | None:
        return None


class TimerFd(Anonymous):
    """A timer: a read gives how often it expired since the last one."""

    kind = "timerfd"

    def __init__(self, clock: Clock, which: int, flags: int, wake: Callable[[object], object]) -> None:
        super().__init__(flags & c.O_NONBLOCK | c.O_RDWR)
        self.clock = clock
        self.which = which
        self.interval = 0
        self.expire: int | None = None
        """When it expires next, in ns of the process' clock."""
        self.wake = wake

    def set(self, value: int, interval: int, *, absolute: bool) -> None:
        """Arm for ``value`` ns from now, or at ``value`` of the timer's own clock; 0 disarms."""
        self.interval = interval
        self.expire = None
        if value:
            now = self.clock.monotonic()
            offset = now
            if absolute:
                offset = now - self.clock.realtime() if self.which in (0, 8) else 0
            self.expire = value + offset
        self.wake(self)

    def remaining(self) -> int:
        """ns until it expires next; 0 when it is not armed."""
        if self.expire is None:
            return 0
        left = self.expire - self.clock.monotonic()
        if left <= 0 and self.interval:
            left = self.interval - -left % self.interval
        return max(left, 0 if not self.interval and left <= 0 else 1)

    def _expirations(self) -> int:
        if self.expire is None:
            return 0
        late = self.clock.monotonic() - self.expire
        if late < 0:
            return 0
        return 1 + (late // self.interval if self.interval else 0)

    def read(self, size: int) -> bytes:
        if size < 8:
            raise LinuxError(errno.EINVAL)
        count = self._expirations()
        if not count:
            raise BlockingIOError
        assert self.expire is not None
        self.expire = self.expire + count * self.interval if self.interval else None
        return count.to_bytes(8, "little")

    def poll(self) -> int:
        return POLLIN | POLLRDNORM if self._expirations() else 0

    def edges(self) -> int:
        return self._expirations()

    def wait(self, waits: Waits, events: int) -> None:
        waits.keys.append(self)
        waits.until(self.expire)

    def save(self) -> Saved:
        return {"which": self.which, "interval": self.interval, "expire": -1 if self.expire is None else self.expire}


def _load_timerfd(saved: Saved, process: Process, shared: dict[object, object]) -> OpenFile:
    timer = TimerFd(process.clock, int(saved["which"]), int(saved["flags"]), process.kernel.wake)
    timer.interval = int(saved["interval"])
    timer.expire = None if saved["expire"] == -1 else int(saved["expire"])
    return timer


LOADERS["timerfd"] = _load_timerfd
