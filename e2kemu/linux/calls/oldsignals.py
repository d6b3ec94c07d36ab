"""Signal masks in the old way: one word. The C libraries use the rt_ calls."""

from __future__ import annotations

import errno

from e2kemu.linux.calls.common import M32
from e2kemu.linux.error import LinuxError
from e2kemu.linux.table import syscall
from e2kemu.linux.task import Task

SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK = 0, 1, 2


def _word(task: Task) -> int:
    return (1 << 8 * task.process.pointer_size) - 1


@syscall("sgetmask")
def sgetmask(task: Task) -> int:
    return task.mask & M32


@syscall("ssetmask", "mask:uint")
def ssetmask(task: Task, mask: int) -> int:
    old, task.mask = task.mask, mask
    return old & M32


@syscall("sigpending", "set:addr")
def sigpending(task: Task, address: int) -> int:
    task.memory.write_pointer(address, task.process.kernel.signals.pending(task) & task.mask)
    return 0


@syscall("sigprocmask", "how:how set:addr old:addr")
def sigprocmask(task: Task, how: int, new: int, old: int) -> int:
    before, word = task.mask, _word(task)
    if new:
        given = task.memory.pointer(new)
        if how not in (SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK):
            raise LinuxError(errno.EINVAL)
        task.mask = (before | given, before & ~given, before & ~word | given)[how]
    if old:
        task.memory.write_pointer(old, before)
    return 0
