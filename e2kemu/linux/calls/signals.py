"""Signals: sigaction, masks, kill and its kin, alternate stacks, waiting for signals, interval timers.

struct sigaction: handler, flags, restorer, mask (8 bytes). A signal set is 8 bytes in both modes.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from e2kemu.linux import family, traps
from e2kemu.linux.error import LinuxError, NoReturn, WouldBlock
from e2kemu.linux.siginfo import LAST, SI_TKILL, SI_USER, SIGCONT, SIGKILL, SIGSTOP, UNMASKABLE, SigInfo, signal_name
from e2kemu.linux.signals import IGNORE, SS_DISABLE, SS_ONSTACK
from e2kemu.linux.table import Call, formatter, syscall
from e2kemu.linux.task import Action, AltStack, Process, Task

SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK = 0, 1, 2
MINIMAL_STACK = 4096
NS = 1_000_000_000
_SA_KEPT = 0xFC00_0007
"""Flags that sigaction keeps."""


@formatter("sigset")
def _sigset(task: Task, value: int, call: Call, args: tuple[int, ...], result: int) -> str:
    try:
        mask = task.memory.u64(value)
    except LinuxError:
        return hex(value) if value else "NULL"
    return "[" + " ".join(signal_name(n + 1)[3:] for n in range(LAST) if mask >> n & 1) + "]"


@formatter("how")
def _how(task: Task, value: int, call: Call, args: tuple[int, ...], result: int) -> str:
    return {SIG_BLOCK: "SIG_BLOCK", SIG_UNBLOCK: "SIG_UNBLOCK", SIG_SETMASK: "SIG_SETMASK"}.get(value, str(value))


def _check(signo: int) -> None:
    if not 0 < signo <= LAST:
        raise LinuxError(errno.EINVAL)


def _check_size(size: int) -> None:
    if size != 8:
        raise LinuxError(errno.EINVAL)


@syscall("rt_sigaction|rt_sigaction_ex", "signo:signal new:addr old:addr size:size")
def rt_sigaction(task: Task, signo: int, new: int, old: int, size: int) -> int:
    _check_size(size)
    _check(signo)
    if new and signo in (SIGKILL, SIGSTOP):
        raise LinuxError(errno.EINVAL)
    memory, p = task.memory, task.memory.pointer_size
    wanted = None
    if new:
        wanted = Action(memory.pointer(new), memory.pointer(new + p) & 0xFFFFFFFF, memory.pointer(new + 2 * p),
                        memory.u64(new + 3 * p) & ~UNMASKABLE)
    action = task.process.action(signo)
    if old:
        memory.check_write(old, 3 * p + 8)
        for index, value in enumerate((action.handler, action.flags, action.restorer)):
            memory.write_pointer(old + index * p, value)
        memory.write_u64(old + 3 * p, action.mask)
    if wanted is not None:
        wanted.flags &= _SA_KEPT
        task.process.actions[signo] = wanted
        if wanted.handler == IGNORE:
            for queue in _queues(task.process):
                queue[:] = [info for info in queue if info.signo != signo]
    return 0


def _queues(process: Process) -> list[list[SigInfo]]:
    """Where signals wait that the actions of ``process`` are for."""
    sharing = [one for one in process.kernel.processes if one.actions is process.actions]
    return [queue for one in sharing for queue in (one.pending, *(task.pending for task in one.tasks))]


@syscall("signal", "signo:signal handler:addr")
def signal(task: Task, signo: int, handler: int) -> int:
    _check(signo)
    if signo in (SIGKILL, SIGSTOP):
        raise LinuxError(errno.EINVAL)
    old = task.process.action(signo).handler
    task.process.actions[signo] = Action(handler, 0xC000_0000)     # SA_RESETHAND | SA_NODEFER
    return old


@syscall("rt_sigprocmask", "how:how set:sigset old:addr size:size")
def rt_sigprocmask(task: Task, how: int, set: int, old: int, size: int) -> int:
    _check_size(size)
    before = task.mask
    if set:
        mask = task.memory.u64(set) & ~UNMASKABLE
        if how not in (SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK):
            raise LinuxError(errno.EINVAL)
        task.mask = {SIG_BLOCK: before | mask, SIG_UNBLOCK: before & ~mask, SIG_SETMASK: mask}[how]
    if old:
        task.memory.write_u64(old, before)
    return 0


@syscall("rt_sigpending", "set:addr size:size")
def rt_sigpending(task: Task, set: int, size: int) -> int:
    if size > 8:
        raise LinuxError(errno.EINVAL)
    pending = task.process.kernel.signals.pending(task) & task.mask
    task.memory.write(set, pending.to_bytes(8, "little")[:size])
    return 0


def wait_for_signal(task: Task) -> WouldBlock:
    """Sleep until a signal is handled."""
    return WouldBlock(keys=[("signal",)], restart=False)


@syscall("rt_sigsuspend", "mask:sigset size:size")
def rt_sigsuspend(task: Task, mask: int, size: int) -> int:
    _check_size(size)
    if task.saved_mask is None:
        wanted = task.memory.u64(mask) & ~UNMASKABLE
        task.saved_mask, task.mask = task.mask, wanted
    raise wait_for_signal(task)


@syscall("pause")
def pause(task: Task) -> int:
    raise wait_for_signal(task)


@syscall("rt_sigtimedwait", "set:sigset info:addr timeout:addr size:size")
def rt_sigtimedwait(task: Task, set: int, info: int, timeout: int, size: int) -> int:
    _check_size(size)
    wanted = task.memory.u64(set) & ~UNMASKABLE
    limit = None
    if timeout:
        seconds, ns = task.memory.unpack("qq" if task.memory.pointer_size == 8 else "ii", timeout)
        if seconds < 0 or not 0 <= ns < NS:
            raise LinuxError(errno.EINVAL)
        limit = seconds * NS + ns
    deadline = task.deadline(limit)
    taken = task.process.kernel.signals.take(task, wanted)
    if taken is not None:
        if info:
            task.memory.write(info, taken.pack(task.memory.pointer_size))
        return taken.signo
    if task.expired():
        raise LinuxError(errno.EAGAIN)
    raise WouldBlock(deadline=deadline, keys=[("signal",)], restart=False)


@syscall("sigaltstack", "new:addr old:addr")
def sigaltstack(task: Task, new: int, old: int) -> int:
    memory, layout = task.memory, "QiiQ" if task.memory.pointer_size == 8 else "IiI"
    flags = task.process.kernel.signals.alt_flags(task)
    before = task.altstack
    wanted: AltStack | None = None
    if new:
        fields = memory.unpack(layout, new)
        if flags == SS_ONSTACK:
            raise LinuxError(errno.EPERM)
        if fields[1] & ~(SS_DISABLE | SS_ONSTACK):
            raise LinuxError(errno.EINVAL)
        if fields[1] & SS_DISABLE:
            wanted = AltStack()
        elif fields[-1] < MINIMAL_STACK:
            raise LinuxError(errno.ENOMEM)
        else:
            wanted = AltStack(fields[0], fields[-1])
    if old:
        values: tuple[int, ...] = (before.sp, flags, before.size)
        if len(layout) == 4:
            values = (before.sp, flags, 0, before.size)
        memory.pack(layout, old, *values)
    if wanted is not None:
        task.altstack = wanted
    return 0


@syscall("rt_sigreturn|sigreturn")
def rt_sigreturn(task: Task) -> int:
    """For a handler that does not return by itself."""
    traps.leave_handler(task.process.kernel, task)
    raise NoReturn


# -- sending

def _exists(task: Task, pid: int) -> None:
    """A number that is no signal is looked at once there is somebody to get it. Raises ESRCH."""
    kernel = task.process.kernel
    if pid > 0 and all(one.pid != pid for one in kernel.processes) and pid not in family.members(kernel.root):
        raise LinuxError(errno.ESRCH)


def _send(task: Task, pid: int, info: SigInfo) -> None:
    process, kernel = task.process, task.process.kernel
    if info.signo:
        _exists(task, pid)
        _check(info.signo)
    group = process.pgid if pid == 0 else -pid
    here = [one for one in kernel.processes if pid in (one.pid, -1) or (pid <= 0 and one.pgid == group)]
    for one in here if info.signo else ():
        if one.stopped and one.deputy is not None and info.signo == SIGCONT:
            os.kill(one.pid, SIGCONT)      # the deputy stands, too, and passes it on
        else:
            kernel.signals.send(info, process=one)
    if here and pid > 0:
        return
    own = {os.getpid(), *(one.pid for one in kernel.processes)}
    others = [other for other, its_group in family.members(kernel.root).items()
              if other not in own and (pid in (other, -1) or (pid <= 0 and its_group == group))]
    for other in others:
        with suppress(ProcessLookupError):
            os.kill(other, info.signo)
    if not here and not others:
        raise LinuxError(errno.ESRCH)


@syscall("kill", "pid:int signo:signal")
def kill(task: Task, pid: int, signo: int) -> int:
    _send(task, pid, SigInfo(signo, SI_USER, "kill", (task.process.pid, os.getuid())))
    return 0


def _to_thread(task: Task, pid: int, tid: int, info: SigInfo) -> int:
    if tid <= 0 or pid == 0:
        raise LinuxError(errno.EINVAL)
    for one in task.process.kernel.tasks:
        if one.tid == tid and pid in (-1, one.process.pid):
            if info.signo:
                _check(info.signo)
                task.process.kernel.signals.send(info, one)
            return 0
    raise LinuxError(errno.ESRCH)


@syscall("tkill", "tid:int signo:signal")
def tkill(task: Task, tid: int, signo: int) -> int:
    return _to_thread(task, -1, tid, SigInfo(signo, SI_TKILL, "kill", (task.process.pid, os.getuid())))


@syscall("tgkill", "pid:int tid:int signo:signal")
def tgkill(task: Task, pid: int, tid: int, signo: int) -> int:
    if pid <= 0 or tid <= 0:
        raise LinuxError(errno.EINVAL)
    return _to_thread(task, pid, tid, SigInfo(signo, SI_TKILL, "kill", (task.process.pid, os.getuid())))


def _given_info(task: Task, pid: int, signo: int, address: int) -> SigInfo:
    _check(signo)
    raw = task.memory.read(address, 128)
    code = int.from_bytes(raw[8:12], "little", signed=True)
    if (code >= 0 or code == SI_TKILL) and pid not in (task.process.pid, task.tid):
        raise LinuxError(errno.EPERM)
    return SigInfo(signo, code, "raw", raw=raw[16:])


@syscall("rt_sigqueueinfo", "pid:int signo:signal info:addr")
def rt_sigqueueinfo(task: Task, pid: int, signo: int, info: int) -> int:
    _send(task, pid, _given_info(task, pid, signo, info))
    return 0


@syscall("rt_tgsigqueueinfo", "pid:int tid:int signo:signal info:addr")
def rt_tgsigqueueinfo(task: Task, pid: int, tid: int, signo: int, info: int) -> int:
    return _to_thread(task, pid, tid, _given_info(task, tid, signo, info))


# -- interval timers

def _timeval(task: Task) -> str:
    return "qqqq" if task.memory.pointer_size == 8 else "iiii"


def _report_timer(task: Task, which: int, address: int) -> None:
    interval, left = task.process.timers.get(which)
    task.memory.pack(_timeval(task), address, interval // NS, interval % NS // 1000, left // NS, left % NS // 1000)


@syscall("setitimer", "which:int new:addr old:addr")
def setitimer(task: Task, which: int, new: int, old: int) -> int:
    timers = task.process.timers
    if not 0 <= which <= 2:
        raise LinuxError(errno.EINVAL)
    interval = value = 0
    if new:
        a, b, c, d = task.memory.unpack(_timeval(task), new)
        if a < 0 or c < 0 or not 0 <= b < 1_000_000 or not 0 <= d < 1_000_000:
            raise LinuxError(errno.EINVAL)
        interval, value = a * NS + b * 1000, c * NS + d * 1000
    if old:
        _report_timer(task, which, old)
    timers.set(which, interval, value)
    return 0


@syscall("getitimer", "which:int value:addr")
def getitimer(task: Task, which: int, value: int) -> int:
    if not 0 <= which <= 2:
        raise LinuxError(errno.EINVAL)
    _report_timer(task, which, value)
    return 0


@syscall("alarm", "seconds:uint")
def alarm(task: Task, seconds: int) -> int:
    timers = task.process.timers
    _, left = timers.get(0)
    timers.set(0, 0, seconds * NS)
    return -(-left // NS)


