"""Limits, scheduling and priorities: one CPU, and settings that are only remembered."""

from __future__ import annotations

import errno

from e2kemu.linux import constants as c
from e2kemu.linux.error import LinuxError
from e2kemu.linux.structs import RLIMIT, RLIMIT64, SCHED_ATTR, SCHED_PARAM, TIMESPEC
from e2kemu.linux.table import syscall
from e2kemu.linux.task import Task

REAL_TIME_POLICIES = (1, 2)
POLICIES = (0, 1, 2, 3, 5)
SCHED_DEADLINE = 6
_LIMITS = {number: name for name, number in c.RESOURCES.items()}


def _limit_of(task: Task, number: int) -> list[int]:
    try:
        return task.process.identity.limits[_LIMITS[number]]
    except KeyError:
        raise LinuxError(errno.EINVAL) from None


def _set_limit(limit: list[int], soft: int, hard: int) -> None:
    if soft > hard:
        raise LinuxError(errno.EINVAL)
    if hard > limit[1]:
        raise LinuxError(errno.EPERM)
    limit[:] = [soft, hard]


def _infinity(task: Task) -> int:
    """What a 32-bit program sees as no limit."""
    return c.RLIM_INFINITY if task.process.pointer_size == 8 else 0xFFFFFFFF


def _getrlimit(task: Task, number: int, address: int, infinity: int) -> int:
    soft, hard = (min(value, infinity) for value in _limit_of(task, number))
    RLIMIT.write(task.memory, address, cur=soft, max=hard)
    return 0


@syscall("getrlimit", "resource:rlimit limit:addr")
def getrlimit(task: Task, resource: int, limit: int) -> int:
    return _getrlimit(task, resource, limit, c.RLIM_INFINITY if task.process.pointer_size == 8 else 0x7FFFFFFF)


@syscall("ugetrlimit", "resource:rlimit limit:addr")
def ugetrlimit(task: Task, resource: int, limit: int) -> int:
    return _getrlimit(task, resource, limit, _infinity(task))


@syscall("setrlimit", "resource:rlimit limit:addr")
def setrlimit(task: Task, resource: int, limit: int) -> int:
    old = _limit_of(task, resource)
    given = RLIMIT.read(task.memory, limit)
    top = _infinity(task)
    soft, hard = (c.RLIM_INFINITY if given[n] == top else given[n] for n in ("cur", "max"))
    _set_limit(old, soft, hard)
    return 0


@syscall("prlimit64", "pid:int resource:rlimit new:addr old:addr")
def prlimit64(task: Task, pid: int, resource: int, new: int, old: int) -> int:
    if pid not in (0, task.process.pid, *(t.tid for t in task.process.tasks)):
        raise LinuxError(errno.ESRCH)
    limit = _limit_of(task, resource)
    given = RLIMIT64.read(task.memory, new) if new else None
    before = list(limit)
    if given is not None:
        _set_limit(limit, given["cur"], given["max"])
    if old:
        RLIMIT64.write(task.memory, old, cur=before[0], max=before[1])
    return 0


# -- scheduling: one CPU, settings that are only remembered


def _is_ours(task: Task, pid: int) -> None:
    if pid < 0:
        raise LinuxError(errno.EINVAL)
    if pid not in (0, task.process.pid, *(t.tid for t in task.process.tasks)):
        raise LinuxError(errno.ESRCH)


@syscall("sched_getscheduler", "pid:int")
def sched_getscheduler(task: Task, pid: int) -> int:
    _is_ours(task, pid)
    return task.process.identity.policy


def _set_scheduler(task: Task, policy: int, priority: int) -> int:
    if policy not in POLICIES or not (1 <= priority <= 99 if policy in REAL_TIME_POLICIES else priority == 0):
        raise LinuxError(errno.EINVAL)
    if policy in REAL_TIME_POLICIES and priority > task.process.identity.limits["RLIMIT_RTPRIO"][0]:
        raise LinuxError(errno.EPERM)
    task.process.identity.policy, task.process.identity.priority = policy, priority
    return 0


@syscall("sched_setscheduler", "pid:int policy:int param:addr")
def sched_setscheduler(task: Task, pid: int, policy: int, param: int) -> int:
    if policy < 0 or not param:
        raise LinuxError(errno.EINVAL)
    _is_ours(task, pid)
    return _set_scheduler(task, policy & ~0x40000000, SCHED_PARAM.read(task.memory, param)["priority"])


@syscall("sched_getparam", "pid:int param:addr")
def sched_getparam(task: Task, pid: int, param: int) -> int:
    if not param:
        raise LinuxError(errno.EINVAL)
    _is_ours(task, pid)
    SCHED_PARAM.write(task.memory, param, priority=task.process.identity.priority)
    return 0


@syscall("sched_setparam", "pid:int param:addr")
def sched_setparam(task: Task, pid: int, param: int) -> int:
    if not param:
        raise LinuxError(errno.EINVAL)
    _is_ours(task, pid)
    return _set_scheduler(task, task.process.identity.policy, SCHED_PARAM.read(task.memory, param)["priority"])


@syscall("sched_getattr", "pid:int attr:addr size:uint flags:uint")
def sched_getattr(task: Task, pid: int, attr: int, size: int, flags: int) -> int:
    if flags or not attr or not SCHED_ATTR.size(8) <= size <= 4096:
        raise LinuxError(errno.EINVAL)
    _is_ours(task, pid)
    identity = task.process.identity
    SCHED_ATTR.write(task.memory, attr, size=SCHED_ATTR.size(8), policy=identity.policy, nice=identity.nice,
                     priority=identity.priority)
    return 0


@syscall("sched_setattr", "pid:int attr:addr flags:uint")
def sched_setattr(task: Task, pid: int, attr: int, flags: int) -> int:
    if flags or not attr or pid < 0:
        raise LinuxError(errno.EINVAL)
    size = task.memory.u32(attr)
    if size and not SCHED_ATTR.size(8) <= size <= 4096:
        task.memory.write_u32(attr, SCHED_ATTR.size(8))
        raise LinuxError(errno.E2BIG)
    given = SCHED_ATTR.read(task.memory, attr)
    if given["policy"] < 0:
        raise LinuxError(errno.EINVAL)
    _is_ours(task, pid)
    if given["policy"] == SCHED_DEADLINE:
        raise LinuxError(errno.EPERM)
    _set_scheduler(task, given["policy"], given["priority"])
    if given["policy"] not in REAL_TIME_POLICIES:
        try:
            _set_nice(task, given["nice"])
        except LinuxError:
            raise LinuxError(errno.EPERM) from None
    return 0


def _bounds(policy: int) -> tuple[int, int]:
    if policy not in (*POLICIES, SCHED_DEADLINE):
        raise LinuxError(errno.EINVAL)
    return (1, 99) if policy in REAL_TIME_POLICIES else (0, 0)


@syscall("sched_get_priority_max", "policy:int")
def sched_get_priority_max(task: Task, policy: int) -> int:
    return _bounds(policy)[1]


@syscall("sched_get_priority_min", "policy:int")
def sched_get_priority_min(task: Task, policy: int) -> int:
    return _bounds(policy)[0]


@syscall("sched_rr_get_interval", "pid:int interval:addr")
def sched_rr_get_interval(task: Task, pid: int, interval: int) -> int:
    _is_ours(task, pid)
    TIMESPEC.write(task.memory, interval, sec=0, nsec=100_000_000 if task.process.identity.policy == 2 else 4_000_000)
    return 0


@syscall("sched_getaffinity", "pid:int size:uint mask:addr")
def sched_getaffinity(task: Task, pid: int, size: int, mask: int) -> int:
    _is_ours(task, pid)
    word = task.process.pointer_size
    if size < word or size % word:
        raise LinuxError(errno.EINVAL)
    task.memory.write(mask, (1).to_bytes(word, "little"))
    return word


@syscall("sched_setaffinity", "pid:int size:uint mask:addr")
def sched_setaffinity(task: Task, pid: int, size: int, mask: int) -> int:
    _is_ours(task, pid)
    if not int.from_bytes(task.memory.read(mask, min(size, 128)), "little") & 1:
        raise LinuxError(errno.EINVAL)
    return 0


@syscall("getcpu", "cpu:addr node:addr cache:addr")
def getcpu(task: Task, cpu: int, node: int, cache: int) -> int:
    for address in (cpu, node):
        if address:
            task.memory.write_u32(address, 0)
    return 0


def _nice_floor(task: Task) -> int:
    return 20 - min(task.process.identity.limits["RLIMIT_NICE"][0], 40)


def _set_nice(task: Task, value: int) -> int:
    identity = task.process.identity
    value = max(-20, min(19, value))
    if value < identity.nice and value < _nice_floor(task):
        raise LinuxError(errno.EACCES)
    identity.nice = value
    return 0


@syscall("nice", "increment:int")
def nice(task: Task, increment: int) -> int:
    try:
        return _set_nice(task, task.process.identity.nice + increment)
    except LinuxError:
        raise LinuxError(errno.EPERM) from None


def _priority_target(task: Task, which: int, who: int) -> None:
    if which not in (0, 1, 2):
        raise LinuxError(errno.EINVAL)
    process = task.process
    ours = ((0, process.pid, *(t.tid for t in process.tasks)), (0, process.pgid), (0, process.identity.uids[0]))[which]
    if who not in ours:
        raise LinuxError(errno.ESRCH)


@syscall("getpriority", "which:int who:int")
def getpriority(task: Task, which: int, who: int) -> int:
    _priority_target(task, which, who)
    return 20 - task.process.identity.nice


@syscall("setpriority", "which:int who:int priority:int")
def setpriority(task: Task, which: int, who: int, priority: int) -> int:
    _priority_target(task, which, who)
    return _set_nice(task, priority)


@syscall("ioprio_get", "which:int who:int")
def ioprio_get(task: Task, which: int, who: int) -> int:
    if which not in (1, 2, 3):
        raise LinuxError(errno.EINVAL)
    return task.process.identity.ioprio


@syscall("ioprio_set", "which:int who:int ioprio:int")
def ioprio_set(task: Task, which: int, who: int, ioprio: int) -> int:
    if which not in (1, 2, 3) or ioprio >> 13 not in (0, 2, 3):
        raise LinuxError(errno.EPERM if ioprio >> 13 == 1 else errno.EINVAL)
    task.process.identity.ioprio = ioprio
    return 0
