"""Timers that send signals (timer_create), and signals read from a descriptor (signalfd)."""

from __future__ import annotations

import errno

from e2kemu.linux import constants as c
from e2kemu.linux.calls.common import NS, install
from e2kemu.linux.calls.time import now
from e2kemu.linux.error import LinuxError
from e2kemu.linux.posix_timers import PosixTimer, PosixTimers
from e2kemu.linux.siginfo import LAST, SIGALRM, UNMASKABLE
from e2kemu.linux.signalfd import SignalFd
from e2kemu.linux.structs import ITIMERSPEC, SIGEVENT
from e2kemu.linux.table import syscall
from e2kemu.linux.task import Task

SIGEV_SIGNAL, SIGEV_NONE, SIGEV_THREAD, SIGEV_THREAD_ID = 0, 1, 2, 4


def _timers(task: Task) -> PosixTimers:
    return task.process.timers.posix


@syscall("timer_create", "clock:clock event:addr timer:addr")
def timer_create(task: Task, clock: int, event: int, timer: int) -> int:
    now(task, clock)
    given = {"value": 0, "signo": SIGALRM, "notify": SIGEV_SIGNAL, "tid": 0}
    if event:
        given = SIGEVENT.read(task.memory, event)
    notify = given["notify"]
    if notify not in (SIGEV_SIGNAL, SIGEV_NONE, SIGEV_THREAD, SIGEV_THREAD_ID):
        raise LinuxError(errno.EINVAL)
    if notify != SIGEV_NONE and not 0 < given["signo"] <= LAST:
        raise LinuxError(errno.EINVAL)
    tid = given["tid"] if notify == SIGEV_THREAD_ID else 0
    if tid and all(one.tid != tid for one in task.process.tasks):
        raise LinuxError(errno.EINVAL)
    task.memory.check_write(timer, 4)
    new = PosixTimer(clock, 0 if notify == SIGEV_NONE else given["signo"], given["value"], tid)
    number = _timers(task).create(new)
    if not event:
        new.value = number
    task.memory.write_u32(timer, number)
    return 0


def _store(task: Task, timer: PosixTimer, address: int) -> None:
    interval, left = divmod(timer.interval, NS), divmod(_timers(task).left(timer), NS)
    ITIMERSPEC.write(task.memory, address, interval_sec=interval[0], interval_nsec=interval[1], value_sec=left[0],
                     value_nsec=left[1])


@syscall("timer_settime", "timer:int flags:hex new:itimerspec old:addr")
def timer_settime(task: Task, timer: int, flags: int, new: int, old: int) -> int:
    timers = _timers(task)
    if not new:
        raise LinuxError(errno.EINVAL)
    given = ITIMERSPEC.read(task.memory, new)
    if not all(0 <= given[f"{n}_nsec"] < NS and given[f"{n}_sec"] >= 0 for n in ("value", "interval")):
        raise LinuxError(errno.EINVAL)
    one = timers.get(timer)
    if old:
        _store(task, one, old)
    value = given["value_sec"] * NS + given["value_nsec"]
    one.interval = given["interval_sec"] * NS + given["interval_nsec"]
    one.overrun = 0
    one.deadline = 0
    if value:
        start = task.process.clock.monotonic()
        if flags & c.TIMER_ABSTIME:
            value -= now(task, one.which)
        one.deadline = start + max(value, 1)
    timers.arm()
    return 0


@syscall("timer_gettime", "timer:int value:addr")
def timer_gettime(task: Task, timer: int, value: int) -> int:
    _store(task, _timers(task).get(timer), value)
    return 0


@syscall("timer_getoverrun", "timer:int")
def timer_getoverrun(task: Task, timer: int) -> int:
    return min(_timers(task).get(timer).overrun, (1 << 31) - 1)


@syscall("timer_delete", "timer:int")
def timer_delete(task: Task, timer: int) -> int:
    _timers(task).delete(timer)
    return 0


@syscall("signalfd4", "fd:fd mask:sigset size:size flags:open_flags")
def signalfd4(task: Task, fd: int, mask: int, size: int, flags: int) -> int:
    if size != 8 or flags & ~(c.O_NONBLOCK | c.O_CLOEXEC):
        raise LinuxError(errno.EINVAL)
    wanted = task.memory.u64(mask) & ~UNMASKABLE
    if fd == -1:
        return install(task, SignalFd(task.process, wanted, flags), flags)
    file = task.files.get(fd)
    if not isinstance(file, SignalFd):
        raise LinuxError(errno.EINVAL)
    file.mask = wanted
    return fd
