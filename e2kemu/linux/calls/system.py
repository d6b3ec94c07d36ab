"""The machine and the process in it: names, random numbers, prctl, and what only the administrator may do."""

from __future__ import annotations

import errno
import os

from e2kemu.linux import constants as c
from e2kemu.linux.calls.common import NS, accessible
from e2kemu.linux.error import LinuxError
from e2kemu.linux.procfs import MEMORY, RELEASE, VERSION
from e2kemu.linux.structs import OLD_UTSNAME, SYSINFO, UTSNAME, Struct
from e2kemu.linux.table import syscall
from e2kemu.linux.task import Task

NAME_SIZE = 16
"""Bytes of a task's name with its NUL."""
RANDOM_PIECE = 1 << 16


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
