"""The machine and the process in it: names, ids, limits, scheduling, prctl, random numbers."""

from __future__ import annotations

import errno
import os

from e2kemu.linux import constants as c
from e2kemu.linux.calls.common import NS, accessible
from e2kemu.linux.error import LinuxError
from e2kemu.linux.procfs import MEMORY, RELEASE, VERSION
from e2kemu.linux.structs import (
    CAP_HEADER,
    OLD_UTSNAME,
    RLIMIT,
    RLIMIT64,
    SCHED_ATTR,
    SCHED_PARAM,
    SYSINFO,
    TIMESPEC,
    UTSNAME,
    Struct,
)
from e2kemu.linux.table import syscall
from e2kemu.linux.task import Task

CAP_VERSION_1, CAP_VERSION_3 = 0x19980330, 0x20080522
NAME_SIZE = 16
"""Bytes of a task's name with its NUL."""
RANDOM_PIECE = 1 << 16
REAL_TIME_POLICIES = (1, 2)
POLICIES = (0, 1, 2, 3, 5)
SCHED_DEADLINE = 6


def _uname(task: Task, layout: Struct, buf: int) -> int:
    host = os.uname()
    layout.write(task.memory, buf, sysname=b"Linux", nodename=os.fsencode(host.nodename)[:64],
                 release=RELEASE.encode(), version=VERSION.encode(), machine=b"e2k", domainname=b"(none)")
    return 0


@syscall("uname", "buf:addr")
def uname(task: Task, buf: int) -> int:
    return _uname(task, UTSNAME, buf)


@syscall("olduname", "buf:addr")
def olduname(task: Task, buf: int) -> int:
    return _uname(task, OLD_UTSNAME, buf)


@syscall("sysinfo", "info:addr")
def sysinfo(task: Task, info: int) -> int:
    used = sum(area.end - area.start for area in task.process.map.areas)
    SYSINFO.write(task.memory, info, uptime=task.process.clock.monotonic() // NS, totalram=MEMORY,
                  freeram=max(0, MEMORY - used), procs=len(task.process.tasks), mem_unit=1)
    return 0


@syscall("getrandom", "buf:received count:size flags:hex")
def getrandom(task: Task, buf: int, count: int, flags: int) -> int:
    if flags & ~7 or flags & 6 == 6:
        raise LinuxError(errno.EINVAL)
    count = min(count, (1 << 25) - 1)
    task.memory.check_write(buf, count)
    for done in range(0, count, RANDOM_PIECE):
        task.memory.write(buf + done, os.urandom(min(RANDOM_PIECE, count - done)))
    return count


@syscall("sethostname|setdomainname", "name:addr len:size")
def sethostname(task: Task, name: int, length: int) -> int:
    raise LinuxError(errno.EPERM)


# -- ids: real 0, effective 1, saved 2, file system 3


def _get(names: str, kind: str, index: int) -> None:
    syscall(names)(lambda task: getattr(task.process.identity, kind)[index])


_get("getuid|getuid32", "uids", 0)
_get("geteuid|geteuid32", "uids", 1)
_get("getgid|getgid32", "gids", 0)
_get("getegid|getegid32", "gids", 1)


def _allowed(ids: list[int], wanted: int) -> int:
    """``wanted``, when an unprivileged process may become that. Raises EPERM."""
    if wanted not in ids[:3]:
        raise LinuxError(errno.EPERM)
    return wanted


def _set_one(ids: list[int], wanted: int) -> int:
    if wanted == -1:
        raise LinuxError(errno.EINVAL)
    ids[1] = ids[3] = _allowed(ids, wanted)
    return 0


@syscall("setuid|setuid32", "uid:int")
def setuid(task: Task, uid: int) -> int:
    return _set_one(task.process.identity.uids, uid)


@syscall("setgid|setgid32", "gid:int")
def setgid(task: Task, gid: int) -> int:
    return _set_one(task.process.identity.gids, gid)


def _set_many(ids: list[int], wanted: tuple[int, ...]) -> int:
    """Set real, effective (and saved) ids; -1 leaves one as it is."""
    new = [old if value == -1 else _allowed(ids, value) for old, value in zip(ids, wanted, strict=False)]
    if len(new) == 2:
        changed = wanted[0] != -1 or (wanted[1] != -1 and new[1] != ids[0])
        new.append(new[1] if changed else ids[2])
    ids[:] = [*new, new[1]]
    return 0


@syscall("setreuid|setreuid32", "ruid:int euid:int")
def setreuid(task: Task, ruid: int, euid: int) -> int:
    return _set_many(task.process.identity.uids, (ruid, euid))


@syscall("setregid|setregid32", "rgid:int egid:int")
def setregid(task: Task, rgid: int, egid: int) -> int:
    return _set_many(task.process.identity.gids, (rgid, egid))


@syscall("setresuid|setresuid32", "ruid:int euid:int suid:int")
def setresuid(task: Task, ruid: int, euid: int, suid: int) -> int:
    return _set_many(task.process.identity.uids, (ruid, euid, suid))


@syscall("setresgid|setresgid32", "rgid:int egid:int sgid:int")
def setresgid(task: Task, rgid: int, egid: int, sgid: int) -> int:
    return _set_many(task.process.identity.gids, (rgid, egid, sgid))


def _store_ids(task: Task, ids: list[int], addresses: tuple[int, int, int]) -> int:
    for address, value in zip(addresses, ids, strict=False):
        task.memory.write_u32(address, value)
    return 0


@syscall("getresuid|getresuid32", "ruid:addr euid:addr suid:addr")
def getresuid(task: Task, ruid: int, euid: int, suid: int) -> int:
    return _store_ids(task, task.process.identity.uids, (ruid, euid, suid))


@syscall("getresgid|getresgid32", "rgid:addr egid:addr sgid:addr")
def getresgid(task: Task, rgid: int, egid: int, sgid: int) -> int:
    return _store_ids(task, task.process.identity.gids, (rgid, egid, sgid))


def _set_fs(ids: list[int], wanted: int) -> int:
    old = ids[3]
    if wanted in ids:
        ids[3] = wanted
    return old


@syscall("setfsuid|setfsuid32", "uid:int")
def setfsuid(task: Task, uid: int) -> int:
    return _set_fs(task.process.identity.uids, uid)


@syscall("setfsgid|setfsgid32", "gid:int")
def setfsgid(task: Task, gid: int) -> int:
    return _set_fs(task.process.identity.gids, gid)


@syscall("getgroups|getgroups32", "size:int list:addr")
def getgroups(task: Task, size: int, address: int) -> int:
    groups = task.process.identity.groups
    if size < 0 or 0 < size < len(groups):
        raise LinuxError(errno.EINVAL)
    if size:
        task.memory.pack(f"{len(groups)}I", address, *groups)
    return len(groups)


@syscall("setgroups|setgroups32", "size:int list:addr")
def setgroups(task: Task, size: int, address: int) -> int:
    raise LinuxError(errno.EPERM)


@syscall("capget", "header:addr data:addr")
def capget(task: Task, header: int, data: int) -> int:
    given = CAP_HEADER.read(task.memory, header)
    if given["version"] not in (CAP_VERSION_1, 0x20071026, CAP_VERSION_3):
        CAP_HEADER.write(task.memory, header, version=CAP_VERSION_3, pid=given["pid"])
        if data:
            raise LinuxError(errno.EINVAL)
        return 0
    if data:
        task.memory.write(data, bytes(12 if given["version"] == CAP_VERSION_1 else 24))
    return 0


@syscall("capset", "header:addr data:addr")
def capset(task: Task, header: int, data: int) -> int:
    given = CAP_HEADER.read(task.memory, header)
    size = 12 if given["version"] == CAP_VERSION_1 else 24
    if any(task.memory.read(data, size)):
        raise LinuxError(errno.EPERM)
    return 0


# -- limits


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
    if policy not in POLICIES:
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


# -- settings of the process


@syscall("personality", "persona:hex")
def personality(task: Task, persona: int) -> int:
    old = task.process.identity.personality
    if persona & 0xFFFFFFFF != 0xFFFFFFFF:
        task.process.identity.personality = persona & 0xFFFFFFFF
    return old


_FLAGS = {"PR_GET_DUMPABLE": ("dumpable", None), "PR_SET_DUMPABLE": ("dumpable", 1),
          "PR_GET_KEEPCAPS": ("keepcaps", None), "PR_SET_KEEPCAPS": ("keepcaps", 1),
          "PR_GET_NO_NEW_PRIVS": ("no_new_privs", None), "PR_SET_NO_NEW_PRIVS": ("no_new_privs", 1),
          "PR_GET_THP_DISABLE": ("thp_disable", None), "PR_SET_THP_DISABLE": ("thp_disable", 1),
          "PR_SET_CHILD_SUBREAPER": ("subreaper", 1), "PR_SET_PDEATHSIG": ("death_signal", 64)}
"""prctl option -> (field of Identity, highest value; None: it gets the value)."""
_OPTIONS = {number: name for name, number in c.PRCTL.items()}
MCE_KILL_DEFAULT = 2
SET_MM_WITH_SIZE = (12, 14, 15)
"""PR_SET_MM_AUXV, _MAP, _MAP_SIZE: what has a fourth argument."""
_STRICT = ("_NO_NEW_PRIVS", "_THP_DISABLE")
"""Options whose other arguments have to be 0."""


@syscall("prctl", "option:prctl a:ulong b:ulong c:ulong d:ulong")
def prctl(task: Task, option: int, a: int, *rest: int) -> int:
    identity = task.process.identity
    name = _OPTIONS.get(option, "")
    if any((*((a,) if "_GET_" in name else ()), *rest)) and name.endswith(_STRICT):
        raise LinuxError(errno.EINVAL)
    if name in _FLAGS:
        field, highest = _FLAGS[name]
        if highest is None:
            return int(getattr(identity, field))
        if a > highest or (name == "PR_SET_NO_NEW_PRIVS" and a != 1):
            raise LinuxError(errno.EINVAL)
        setattr(identity, field, a)
    elif name == "PR_SET_NAME":
        size = accessible(task.memory, a, NAME_SIZE - 1, write=False)
        task.process.name = os.fsdecode(task.memory.read(a, size).partition(b"\0")[0])
    elif name == "PR_GET_NAME":
        task.memory.write(a, os.fsencode(task.process.name)[:NAME_SIZE - 1].ljust(NAME_SIZE, b"\0"))
    elif name in ("PR_GET_PDEATHSIG", "PR_GET_CHILD_SUBREAPER"):
        task.memory.write_u32(a, identity.death_signal if name == "PR_GET_PDEATHSIG" else identity.subreaper)
    elif name == "PR_GET_TID_ADDRESS":
        task.memory.write_pointer(a, task.clear_tid)
    elif name == "PR_GET_TIMERSLACK":
        return identity.timer_slack
    elif name == "PR_SET_TIMERSLACK":
        identity.timer_slack = a or 50_000
    elif name == "PR_GET_SECCOMP":
        return 0
    elif name in ("PR_GET_TIMING", "PR_SET_TIMING"):
        if name == "PR_SET_TIMING" and a:          # only PR_TIMING_STATISTICAL
            raise LinuxError(errno.EINVAL)
    elif name == "PR_MCE_KILL_GET":
        if a or any(rest):
            raise LinuxError(errno.EINVAL)
        return identity.mce_kill
    elif name == "PR_MCE_KILL":
        policy = rest[0] if a else MCE_KILL_DEFAULT
        if a > 1 or policy > MCE_KILL_DEFAULT or any(rest[1:]) or (not a and rest[0]):
            raise LinuxError(errno.EINVAL)
        identity.mce_kill = policy
    elif name == "PR_SET_MM":
        raise LinuxError(errno.EINVAL if rest[2] or (rest[1] and a not in SET_MM_WITH_SIZE) else errno.EPERM)
    elif name == "PR_CAPBSET_READ":
        if a > 40:
            raise LinuxError(errno.EINVAL)
        return 0
    else:
        raise LinuxError(errno.EINVAL)
    return 0


def _refused(names: str) -> None:
    """Calls that only the administrator may use: EPERM, as for anybody else."""

    def handler(task: Task) -> int:
        raise LinuxError(errno.EPERM)

    syscall(names)(handler)


_refused("mount|umount|umount2|swapon|swapoff|reboot|chroot|pivot_root|init_module|finit_module|delete_module|"
         "kexec_load|vhangup|acct|quotactl|syslog|iopl|ioperm|setns|unshare|open_by_handle_at")


MEMBARRIER_COMMANDS = 0x1FF


@syscall("membarrier", "command:int flags:uint")
def membarrier(task: Task, command: int, flags: int) -> int:
    """All threads run one after the other, so every barrier has already happened."""
    if flags or command & ~MEMBARRIER_COMMANDS or command < 0 or command & command - 1:
        raise LinuxError(errno.EINVAL)
    return MEMBARRIER_COMMANDS if command == 0 else 0
