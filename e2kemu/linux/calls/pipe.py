"""Pipes, eventfd and timerfd."""

from __future__ import annotations

import errno

from e2kemu.linux import constants as c
from e2kemu.linux.calls.common import NS, install, limit
from e2kemu.linux.error import LinuxError
from e2kemu.linux.pipes import EventFd, new_pipe
from e2kemu.linux.structs import ITIMERSPEC
from e2kemu.linux.table import syscall
from e2kemu.linux.task import Task
from e2kemu.linux.timers import TimerFd

TFD_ABSTIME = 1


def _pipe(task: Task, address: int, flags: int) -> int:
    if flags & ~(c.O_NONBLOCK | c.O_CLOEXEC):
        raise LinuxError(errno.EINVAL)
    task.memory.check_write(address, 8)
    highest = limit(task, "NOFILE")
    task.files.lowest(highest, task.files.lowest(highest) + 1)
    reader, writer = new_pipe(flags)
    task.memory.pack("ii", address, install(task, reader, flags), install(task, writer, flags))
    return 0


@syscall("pipe", "fds:fd_pair")
def pipe(task: Task, fds: int) -> int:
    return _pipe(task, fds, 0)


@syscall("pipe2", "fds:fd_pair flags:open_flags")
def pipe2(task: Task, fds: int, flags: int) -> int:
    return _pipe(task, fds, flags)


@syscall("eventfd2", "initval:uint flags:event_flags")
def eventfd2(task: Task, initval: int, flags: int) -> int:
    if flags & ~(c.O_NONBLOCK | c.O_CLOEXEC | 1):
        raise LinuxError(errno.EINVAL)
    return install(task, EventFd(initval, flags), flags)


@syscall("timerfd_create", "clock:clock flags:open_flags")
def timerfd_create(task: Task, clock: int, flags: int) -> int:
    if clock not in (0, 1, 7, 8, 9) or flags & ~(c.O_NONBLOCK | c.O_CLOEXEC):
        raise LinuxError(errno.EINVAL)
    process = task.process
    return install(task, TimerFd(process.clock, clock, flags, process.kernel.wake), flags)


def _timer(task: Task, fd: int) -> TimerFd:
    file = task.files.get(fd)
    if not isinstance(file, TimerFd):
        raise LinuxError(errno.EINVAL)
    return file


def _store(task: Task, timer: TimerFd, address: int) -> None:
    interval, left = divmod(timer.interval, NS), divmod(timer.remaining(), NS)
    ITIMERSPEC.write(task.memory, address, interval_sec=interval[0], interval_nsec=interval[1], value_sec=left[0],
                     value_nsec=left[1])


@syscall("timerfd_settime", "fd:fd flags:hex new:itimerspec old:addr")
def timerfd_settime(task: Task, fd: int, flags: int, new: int, old: int) -> int:
    given = ITIMERSPEC.read(task.memory, new)
    if flags & ~3 or not all(0 <= given[f"{n}_nsec"] < NS and given[f"{n}_sec"] >= 0 for n in ("value", "interval")):
        raise LinuxError(errno.EINVAL)
    timer = _timer(task, fd)
    if old:
        _store(task, timer, old)
    timer.set(given["value_sec"] * NS + given["value_nsec"], given["interval_sec"] * NS + given["interval_nsec"],
              absolute=bool(flags & TFD_ABSTIME))
    return 0


@syscall("timerfd_gettime", "fd:fd value:addr")
def timerfd_gettime(task: Task, fd: int, value: int) -> int:
    _store(task, _timer(task, fd), value)
    return 0
