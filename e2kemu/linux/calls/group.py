"""Process groups and sessions. A guest process is a process of the host, so they are the host's."""

from __future__ import annotations

import errno
import os

from e2kemu import trace
from e2kemu.linux.error import LinuxError
from e2kemu.linux.table import syscall
from e2kemu.linux.task import Task


@syscall("getpgrp")
def getpgrp(task: Task) -> int:
    return task.process.pgid


@syscall("getpgid", "pid:int")
def getpgid(task: Task, pid: int) -> int:
    if pid in (0, task.process.pid):
        return task.process.pgid
    return os.getpgid(_child(task, pid))


@syscall("setpgid", "pid:int pgid:int")
def setpgid(task: Task, pid: int, pgid: int) -> int:
    if pgid < 0 or pid < 0:
        raise LinuxError(errno.EINVAL)
    process = task.process
    if pid in (0, process.pid):
        os.setpgid(0 if process.deputy is None else process.pid, 0 if pgid == process.pid else pgid)
        process.pgid = pgid or process.pid
    else:
        os.setpgid(_child(task, pid), pgid)
    return 0


@syscall("getsid", "pid:int")
def getsid(task: Task, pid: int) -> int:
    if pid in (0, task.process.pid):
        return task.process.identity.sid or os.getsid(0)
    return os.getsid(_child(task, pid))


@syscall("setsid")
def setsid(task: Task) -> int:
    process = task.process
    if process.deputy is not None:
        trace.unimp("setsid in a process that shares memory with another one: EPERM")
        raise LinuxError(errno.EPERM)
    os.setsid()
    process.pgid = process.identity.sid = process.pid
    return process.pid


def _child(task: Task, pid: int) -> int:
    if pid not in task.process.children:
        raise LinuxError(errno.ESRCH)
    return pid
