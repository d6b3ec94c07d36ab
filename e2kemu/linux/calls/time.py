"""Time: clocks, sleeping, and how much of it was used."""

from __future__ import annotations

import errno
import resource

from e2kemu.linux import constants as c
from e2kemu.linux.calls.common import NS
from e2kemu.linux.calls.poll import timespec
from e2kemu.linux.error import LinuxError, WouldBlock
from e2kemu.linux.procfs import TICKS
from e2kemu.linux.structs import RUSAGE, TIMESPEC, TIMEVAL, TIMEZONE, TMS
from e2kemu.linux.table import syscall
from e2kemu.linux.task import Task

_REAL = tuple(c.CLOCKS[n] for n in ("CLOCK_REALTIME", "CLOCK_REALTIME_COARSE", "CLOCK_REALTIME_ALARM", "CLOCK_TAI"))
_MONOTONIC = tuple(c.CLOCKS[n] for n in ("CLOCK_MONOTONIC", "CLOCK_MONOTONIC_RAW", "CLOCK_MONOTONIC_COARSE",
                                         "CLOCK_BOOTTIME", "CLOCK_BOOTTIME_ALARM"))
_COARSE = tuple(c.CLOCKS[n] for n in ("CLOCK_REALTIME_COARSE", "CLOCK_MONOTONIC_COARSE"))
COARSE_RESOLUTION = NS // TICKS


def now(task: Task, clock: int) -> int:
    """The time of ``clock`` in ns. Raises EINVAL for an unknown one. CPU clocks of threads tell the process' time."""
    if clock in _REAL:
        return task.process.clock.realtime()
    if clock in _MONOTONIC:
        return task.process.clock.monotonic()
    threads = (0, task.process.pid, *(t.tid for t in task.process.tasks))
    if clock in (2, 3) or (clock < 0 and clock & 3 != 3 and ~clock >> 3 in threads):
        return task.process.clock.cpu()
    raise LinuxError(errno.EINVAL)


@syscall("time", "result:addr")
def time(task: Task, result: int) -> int:
    seconds = task.process.clock.realtime() // NS
    if result:
        task.memory.write_pointer(result, seconds)
    return seconds


@syscall("gettimeofday", "tv:addr tz:addr")
def gettimeofday(task: Task, tv: int, tz: int) -> int:
    if tv:
        ns = task.process.clock.realtime()
        TIMEVAL.write(task.memory, tv, sec=ns // NS, usec=ns % NS // 1000)
    if tz:
        TIMEZONE.write(task.memory, tz)
    return 0


@syscall("clock_gettime", "clock:clock time:addr")
def clock_gettime(task: Task, clock: int, time: int) -> int:
    ns = now(task, clock)
    TIMESPEC.write(task.memory, time, sec=ns // NS, nsec=ns % NS)
    return 0


@syscall("clock_getres", "clock:clock resolution:addr")
def clock_getres(task: Task, clock: int, resolution: int) -> int:
    now(task, clock)
    if resolution:
        TIMESPEC.write(task.memory, resolution, sec=0, nsec=COARSE_RESOLUTION if clock in _COARSE else 1)
    return 0


@syscall("clock_settime|clock_adjtime", "clock:clock time:addr")
def clock_settime(task: Task, clock: int, time: int) -> int:
    if clock not in _REAL:
        raise LinuxError(errno.EINVAL)
    raise LinuxError(errno.EPERM)


@syscall("settimeofday|stime|adjtimex", "time:addr")
def settimeofday(task: Task, time: int) -> int:
    raise LinuxError(errno.EPERM)


def _sleep(task: Task, timeout: int, left: int) -> int:
    """Sleep ``timeout`` ns; when a signal ends it, what is left is stored at ``left`` (0: nowhere)."""
    deadline = task.deadline(timeout)
    if timeout <= 0 or task.expired():
        return 0

    def store_left() -> None:
        assert deadline is not None
        rest = max(0, deadline - task.process.clock.monotonic())
        try:
            TIMESPEC.write(task.memory, left, sec=rest // NS, nsec=rest % NS)
        except LinuxError:
            pass                           # the sleep has ended with EINTR anyway

    raise WouldBlock(deadline=deadline, restart=False, on_signal=store_left if left else None)


@syscall("nanosleep", "time:timespec left:addr")
def nanosleep(task: Task, time: int, left: int) -> int:
    if not time:
        raise LinuxError(errno.EFAULT)
    return _sleep(task, timespec(task, time) or 0, left)


@syscall("clock_nanosleep", "clock:clock flags:hex time:timespec left:addr")
def clock_nanosleep(task: Task, clock: int, flags: int, time: int, left: int) -> int:
    if not time:
        raise LinuxError(errno.EFAULT)
    wanted = timespec(task, time) or 0
    if clock not in (0, 1, 7, 8, 9, 11):
        now(task, clock)
        raise LinuxError(errno.EOPNOTSUPP if clock != 3 else errno.EINVAL)
    if flags & c.TIMER_ABSTIME:
        return _sleep(task, wanted - now(task, clock), 0)
    return _sleep(task, wanted, left)


@syscall("times", "buf:addr")
def times(task: Task, buf: int) -> int:
    if buf:
        TMS.write(task.memory, buf, utime=task.process.clock.cpu() * TICKS // NS)
    return task.process.clock.monotonic() * TICKS // NS


@syscall("getrusage", "who:rusage_who usage:addr")
def getrusage(task: Task, who: int, usage: int) -> int:
    if who not in (-1, 0, 1):
        raise LinuxError(errno.EINVAL)
    values: dict[str, int] = {}
    if who == -1:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        for name, seconds in (("utime", children.ru_utime), ("stime", children.ru_stime)):
            values |= {f"{name}_sec": int(seconds), f"{name}_usec": int(seconds % 1 * 10**6)}
    else:
        ns = task.process.clock.cpu()
        pages = sum(area.end - area.start for area in task.process.map.areas) // 4096
        values = {"utime_sec": ns // NS, "utime_usec": ns % NS // 1000, "maxrss": pages * 4}
    RUSAGE.write(task.memory, usage, **values)
    return 0
