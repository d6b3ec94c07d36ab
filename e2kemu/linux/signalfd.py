"""signalfd: reads give the signals that wait for the task that reads."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from e2kemu.linux import constants as c
from e2kemu.linux.error import POLLIN, LinuxError
from e2kemu.linux.files import LOADERS, POLLRDNORM, OpenFile, Saved, Waits
from e2kemu.linux.structs import SIGNALFD_SIGINFO
from e2kemu.linux.timers import Anonymous

if TYPE_CHECKING:
    from e2kemu.linux.siginfo import SigInfo
    from e2kemu.linux.task import Process

SIZE = SIGNALFD_SIGINFO.size(8)
_FIELDS = {"kill": ("pid", "uid"), "queue": ("pid", "uid", "ptr"), "fault": ("addr", "trapno"),
           "child": ("pid", "uid", "status"), "timer": ("tid", "overrun", "ptr"), "raw": ()}


class SignalFd(Anonymous):
    """A descriptor for the signals of ``mask``."""

    kind = "signalfd"

    def __init__(self, process: Process, mask: int, flags: int) -> None:
        super().__init__(flags & c.O_NONBLOCK | c.O_RDWR)
        self.process = process
        self.mask = mask

    def read(self, size: int) -> bytes:
        if size < SIZE:
            raise LinuxError(errno.EINVAL)
        kernel = self.process.kernel
        task = kernel.current
        assert task is not None
        found: list[bytes] = []
        while len(found) < size // SIZE and (info := kernel.signals.take(task, self.mask)) is not None:
            found.append(_pack(info))
        if not found:
            raise BlockingIOError
        return b"".join(found)

    def poll(self) -> int:
        kernel = self.process.kernel
        task = kernel.current or self.process.tasks[0]
        return POLLIN | POLLRDNORM if kernel.signals.pending(task) & self.mask else 0

    def wait(self, waits: Waits, events: int) -> None:
        waits.keys.append(("signal",))

    def save(self) -> Saved:
        return {"mask": f"{self.mask:x}"}


def _pack(info: SigInfo) -> bytes:
    values = dict(zip(_FIELDS[info.kind], info.values, strict=False))
    if "ptr" in values:
        values["int"] = values["ptr"]
    return SIGNALFD_SIGINFO.pack(8, signo=info.signo, code=info.code, **values)


def _load(saved: Saved, process: Process, shared: dict[object, object]) -> OpenFile:
    return SignalFd(process, int(str(saved["mask"]), 16), int(saved["flags"]))


LOADERS["signalfd"] = _load
