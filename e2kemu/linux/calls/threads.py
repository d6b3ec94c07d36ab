"""Threads and processes: clone, fork, exec, exit, waiting for children, futexes, ids, scheduling."""

from __future__ import annotations

import errno
import os
import resource
import stat
import struct
from contextlib import suppress

from e2kemu import trace
from e2kemu.errors import ImageError
from e2kemu.linux import companions, family, lifecycle
from e2kemu.linux.constants import AT_FDCWD, AT_SYMLINK_NOFOLLOW
from e2kemu.linux.elf import parse_program
from e2kemu.linux.error import LinuxError, NoReturn, WouldBlock
from e2kemu.linux.futex import FUTEX_WAIT_BITSET, FUTEX_WOKEN, wake
from e2kemu.linux.paths import at, text
from e2kemu.linux.siginfo import CLD_DUMPED, CLD_EXITED, CLD_KILLED, LAST, SIGCHLD
from e2kemu.linux.strace import flags_text, quoted
from e2kemu.linux.table import Call, formatter, syscall
from e2kemu.linux.task import Process, Task

FUTEX_WAIT, FUTEX_WAKE, FUTEX_REQUEUE, FUTEX_CMP_REQUEUE, FUTEX_WAKE_OP, FUTEX_WAKE_BITSET = 0, 1, 3, 4, 5, 10
FUTEX_PRIVATE, FUTEX_CLOCK_REALTIME = 0x80, 0x100
LOOK_AGAIN = 2_000_000
"""ns after which a sleeper looks at a word that other emulators have, too."""
NS = 1_000_000_000
WAKE_ALL = 1 << 31

WNOHANG, WUNTRACED, WCONTINUED = 1, 2, 8
WSTOPPED, WEXITED, WNOWAIT = 2, 4, 0x01000000
P_ALL, P_PID, P_PGID = 0, 1, 2
WAIT_LINUX = 0xE0000000
"""__WNOTHREAD, __WALL, __WCLONE."""
WAIT_ALL, WAIT_CLONE = 0x40000000, 0x80000000
LONGEST_LIST = 1 << 16

CLONE_PIDFD, CLONE_NEWNS, CLONE_NAMESPACES = 0x1000, 0x20000, 0x7E020000
CLONE_ARGS = 88
"""Bytes of clone3's arguments that are known."""

_CLONE_NAMES = tuple((name, getattr(lifecycle, name)) for name in (
    "CLONE_VM", "CLONE_FS", "CLONE_FILES", "CLONE_SIGHAND", "CLONE_VFORK", "CLONE_THREAD", "CLONE_SETTLS",
    "CLONE_PARENT_SETTID", "CLONE_CHILD_CLEARTID", "CLONE_CHILD_SETTID"))
_FUTEX_NAMES = {FUTEX_WAIT: "FUTEX_WAIT", FUTEX_WAKE: "FUTEX_WAKE", FUTEX_REQUEUE: "FUTEX_REQUEUE",
                FUTEX_CMP_REQUEUE: "FUTEX_CMP_REQUEUE", FUTEX_WAKE_OP: "FUTEX_WAKE_OP",
                FUTEX_WAIT_BITSET: "FUTEX_WAIT_BITSET", FUTEX_WAKE_BITSET: "FUTEX_WAKE_BITSET"}


@formatter("clone_flags")
def _clone_flags(task: Task, value: int, call: Call, args: tuple[int, ...], result: int) -> str:
    return flags_text(value, _CLONE_NAMES)


@formatter("futex_op")
def _futex_op(task: Task, value: int, call: Call, args: tuple[int, ...], result: int) -> str:
    return _FUTEX_NAMES.get(value & 0x7F, hex(value))


@formatter("strings")
def _strings(task: Task, value: int, call: Call, args: tuple[int, ...], result: int) -> str:
    try:
        return "[" + ", ".join(quoted(text) for text in _string_list(task, value)[:8]) + "]"
    except LinuxError:
        return hex(value)


# -- clone

def _clone(task: Task, flags: int, stack: int, size: int, parent_tid: int, child_tid: int, tls: int) -> int:
    kernel = task.process.kernel
    if (flags & lifecycle.CLONE_THREAD and not flags & lifecycle.CLONE_SIGHAND) or (
            flags & lifecycle.CLONE_SIGHAND and not flags & lifecycle.CLONE_VM):
        raise LinuxError(errno.EINVAL)
    if flags & CLONE_NEWNS and flags & lifecycle.CLONE_FS:
        raise LinuxError(errno.EINVAL)
    if flags & CLONE_PIDFD:
        trace.unimp("clone with CLONE_PIDFD: there are no pidfds, EINVAL")
        raise LinuxError(errno.EINVAL)
    if flags & CLONE_NAMESPACES:
        raise LinuxError(errno.EPERM)
    if flags & lifecycle.CLONE_THREAD:
        return lifecycle.clone_thread(kernel, task, flags, stack, size, parent_tid, child_tid, tls)
    if flags & lifecycle.CLONE_VM and not flags & lifecycle.CLONE_VFORK:
        return companions.clone(kernel, task, flags, stack, size, parent_tid, child_tid, tls)
    if flags & (lifecycle.CLONE_FILES | lifecycle.CLONE_FS):
        trace.unimp("clone with CLONE_FILES or CLONE_FS, but with memory of its own: the child gets a copy")
    pid = lifecycle.fork(kernel, task, flags, stack, child_tid, tls)
    if flags & lifecycle.CLONE_PARENT_SETTID and (pid or flags & lifecycle.CLONE_VM):
        with suppress(LinuxError):
            task.memory.write_u32(parent_tid, pid or task.tid)
    return pid


@syscall("clone", "flags:clone_flags stack:addr parent_tid:addr child_tid:addr tls:addr")
def clone(task: Task, flags: int, stack: int, parent_tid: int, child_tid: int, tls: int) -> int:
    return _clone(task, flags, stack, 0, parent_tid, child_tid, tls)


@syscall("clone3", "args:addr size:size")
def clone3(task: Task, args: int, size: int) -> int:
    if size < 64:
        raise LinuxError(errno.EINVAL)
    if size > 4096 or any(task.memory.read(args + CLONE_ARGS, max(0, size - CLONE_ARGS))):
        raise LinuxError(errno.E2BIG)
    fields = struct.unpack("<8Q", task.memory.read(args, 64))
    flags, _, child_tid, parent_tid, exit_signal, stack, stack_size, tls = fields
    if bool(stack) != bool(stack_size) or flags >> 34 or flags & 0xFF or exit_signal > LAST:
        raise LinuxError(errno.EINVAL)
    return _clone(task, flags & 0xFFFFFFFF | exit_signal, stack + stack_size if stack else 0, stack_size, parent_tid,
                  child_tid, tls)


@syscall("fork")
def fork(task: Task) -> int:
    return lifecycle.fork(task.process.kernel, task, SIGCHLD, 0, 0, 0)


@syscall("vfork")
def vfork(task: Task) -> int:
    return lifecycle.fork(task.process.kernel, task, lifecycle.CLONE_VM | lifecycle.CLONE_VFORK | SIGCHLD, 0, 0, 0)


# -- exec

def _string_list(task: Task, address: int) -> list[bytes]:
    strings: list[bytes] = []
    while address and len(strings) <= LONGEST_LIST:
        pointer = task.memory.pointer(address)
        if not pointer:
            return strings
        strings.append(task.memory.cstring(pointer))
        address += task.memory.pointer_size
    if address:
        raise LinuxError(errno.E2BIG)
    return strings


def _exec(task: Task, dirfd: int, path: str, arguments: list[bytes], environment: list[bytes], flags: int = 0) -> int:
    kernel = task.process.kernel
    for _ in range(4):
        guest, data = _executable(task, dirfd, path, flags)
        if data[:2] != b"#!":
            break
        words = data[2:256].split(b"\n")[0].strip().split(None, 1)
        if not words:
            raise LinuxError(errno.ENOEXEC)
        arguments = [*words, os.fsencode(path), *arguments[1:]]
        dirfd, path, flags = AT_FDCWD, os.fsdecode(words[0]), 0
    else:
        raise LinuxError(errno.ELOOP)
    try:
        program = parse_program(data, guest)
        interpreter = lifecycle.interpreter_of(program, kernel.options.prefix, task.process.sandbox.root)
    except ImageError as error:
        trace.unimp(str(error))
        raise LinuxError(errno.ENOEXEC) from error
    lifecycle.execve(kernel, task, program, interpreter, arguments or [os.fsencode(path)], environment)
    return 0


def _executable(task: Task, dirfd: int, path: str, flags: int) -> tuple[str, bytes]:
    """Guest path and bytes of a file that may be executed. Raises LinuxError."""
    with at(task.process, dirfd, path, follow=not flags & AT_SYMLINK_NOFOLLOW) as place:
        if place.node is not None and place.node.file is None:
            raise LinuxError(errno.EACCES)
        status = place.existing()
        if not stat.S_ISREG(status.st_mode) or not status.st_mode & 0o111:
            raise LinuxError(errno.EACCES)
        fd = place.open_path()
        try:
            with open(f"/proc/self/fd/{fd}", "rb") as stream:
                return place.guest, stream.read()
        finally:
            os.close(fd)


@syscall("execve", "path:path argv:strings envp:strings")
def execve(task: Task, path: int, argv: int, envp: int) -> int:
    return _exec(task, AT_FDCWD, text(task, path), _string_list(task, argv), _string_list(task, envp))


@syscall("execveat", "dirfd:fd path:path argv:strings envp:strings flags:at_flags")
def execveat(task: Task, dirfd: int, path: int, argv: int, envp: int, flags: int) -> int:
    return _exec(task, dirfd, text(task, path), _string_list(task, argv), _string_list(task, envp), flags)


# -- exit

@syscall("exit", "status:int")
def exit(task: Task, status: int) -> int:
    lifecycle.exit_task(task.process.kernel, task, status)
    raise NoReturn


@syscall("exit_group", "status:int")
def exit_group(task: Task, status: int) -> int:
    task.process.kernel.exit(status & 0xFF)
    raise NoReturn


# -- children

def _eligible(process: Process, options: int) -> list[int]:
    """The children that a wait with these options looks at: by default those whose end SIGCHLD tells."""
    lifecycle.drop_ended(process)
    if options & WAIT_ALL:
        return sorted(process.children)
    return [child for child in sorted(process.children)
            if (child in process.exit_signals) == bool(options & WAIT_CLONE)]


def _in_group(process: Process, children: list[int], group: int) -> list[int]:
    groups = family.members(os.getpid())
    return [child for child in children if groups.get(child) == group]


def _wait(task: Task, pid: int, options: int) -> tuple[int, int, resource.struct_rusage] | None:
    """(pid, status, usage) of a child that has ended; None with WNOHANG."""
    process = task.process
    if pid > 0:
        children = [child for child in _eligible(process, options) if child == pid]
    elif pid == -1:
        children = _eligible(process, options)
    else:
        children = _in_group(process, _eligible(process, options), -pid or process.pgid)
    if not children:
        raise LinuxError(errno.ECHILD)
    for child in children:
        lifecycle.tell_end(process, child)
        changes = options & (WUNTRACED | WCONTINUED)
        if child not in process.told and not changes:
            continue                       # it may end just now, and then is told first
        try:
            done, status, usage = os.wait4(child, os.WNOHANG | changes)
        except ChildProcessError:
            process.children.discard(child)
            continue
        if done:
            if os.WIFEXITED(status) or os.WIFSIGNALED(status):
                lifecycle.ended(process, child)
            return done, status, usage
    if not process.children.intersection(children):
        raise LinuxError(errno.ECHILD)
    if options & WNOHANG:
        return None
    raise WouldBlock(keys=[("child",)])


def _store_usage(task: Task, address: int, used: resource.struct_rusage) -> None:
    form = "q" if task.memory.pointer_size == 8 else "i"
    times = [part for t in (used.ru_utime, used.ru_stime) for part in (int(t), int(t % 1 * 1_000_000))]
    task.memory.pack(form * 18, address, *times, used.ru_maxrss, *[0] * 13)


@syscall("wait4", "pid:int status:addr options:hex usage:addr")
def wait4(task: Task, pid: int, status: int, options: int, usage: int) -> int:
    if options & ~(WNOHANG | WUNTRACED | WCONTINUED | WAIT_LINUX):
        raise LinuxError(errno.EINVAL)
    found = _wait(task, pid, options)
    if found is None:
        return 0
    if status:
        task.memory.write_u32(status, found[1])
    if usage:
        _store_usage(task, usage, found[2])
    return found[0]


@syscall("waitpid", "pid:int status:addr options:hex")
def waitpid(task: Task, pid: int, status: int, options: int) -> int:
    return wait4(task, pid, status, options, 0)


def _chosen(task: Task, which: int, id: int, options: int) -> list[int]:
    """The children that P_ALL, P_PID or P_PGID means. Raises ECHILD."""
    children = _eligible(task.process, options)
    if which == P_PID:
        children = [child for child in children if child == id]
    elif which == P_PGID:
        children = _in_group(task.process, children, id or task.process.pgid)
    if not children:
        raise LinuxError(errno.ECHILD)
    return children


@syscall("waitid", "which:int id:int info:addr options:hex usage:addr")
def waitid(task: Task, which: int, id: int, info: int, options: int, usage: int) -> int:
    kinds = options & (WEXITED | WSTOPPED | WCONTINUED)
    if not kinds or options & ~(kinds | WNOHANG | WNOWAIT | WAIT_LINUX) or which not in (P_ALL, P_PID, P_PGID) or (
            which == P_PID and id <= 0) or (which == P_PGID and id < 0):
        raise LinuxError(errno.EINVAL)
    process = task.process
    for child in _chosen(task, which, id, options):
        try:
            found = os.waitid(os.P_PID, child, kinds | WNOWAIT | WNOHANG)
        except ChildProcessError:
            process.children.discard(child)
            continue
        if found is not None:
            break
    else:
        _chosen(task, which, id, options)
        if not options & WNOHANG:
            raise WouldBlock(keys=[("child",)])
        found = None
    if found is not None and not options & WNOWAIT:
        if found.si_code in (CLD_EXITED, CLD_KILLED, CLD_DUMPED):
            lifecycle.tell_end(process, found.si_pid)
            lifecycle.ended(process, found.si_pid)
            used = os.wait4(found.si_pid, 0)[2]
            if usage:
                _store_usage(task, usage, used)
        else:
            os.waitid(os.P_PID, found.si_pid, kinds | WNOHANG)
    if info:
        data = b"" if found is None else struct.pack(
            "<iiiiIIi", found.si_signo, 0, found.si_code, 0, found.si_pid, found.si_uid, found.si_status)
        task.memory.write(info, data.ljust(128, b"\0"))
    return 0


# -- futexes

def _timeout(task: Task, address: int, *, absolute: bool, realtime: bool) -> int | None:
    """ns from now, None: for ever."""
    if not address:
        return None
    seconds, ns = task.memory.unpack("qq" if task.memory.pointer_size == 8 else "ii", address)
    if seconds < 0 or not 0 <= ns < NS:
        raise LinuxError(errno.EINVAL)
    value = seconds * NS + ns
    if absolute:
        clock = task.process.clock
        value -= clock.realtime() if realtime else clock.monotonic()
    return max(value, 0)


def _futex_wait(task: Task, address: int, value: int, timeout: int, bitset: int, op: int) -> int:
    if not bitset:
        raise LinuxError(errno.EINVAL)
    first = not task.progress
    if first:
        if task.memory.u32(address) != value & 0xFFFFFFFF:
            raise LinuxError(errno.EAGAIN)
        absolute, realtime = op & 0x7F == FUTEX_WAIT_BITSET, bool(op & FUTEX_CLOCK_REALTIME)
        task.deadline(_timeout(task, timeout, absolute=absolute, realtime=realtime))
    elif task.progress == FUTEX_WOKEN:
        return 0
    elif task.expired():
        raise LinuxError(errno.ETIMEDOUT)
    if task.progress and not op & FUTEX_PRIVATE and task.process.map.is_common(address, address + 4) and (
            task.memory.u32(address) != value & 0xFFFFFFFF):
        return 0                           # another emulator has changed it, and could not wake anybody here
    task.progress = 1
    deadline = task.timer
    if not op & FUTEX_PRIVATE and task.process.map.is_common(address, address + 4):
        again = task.process.clock.monotonic() + LOOK_AGAIN
        deadline = again if deadline is None else min(again, deadline)
    raise WouldBlock(deadline=deadline, keys=[("futex", task.requeued or address)], restart=not timeout,
                     interrupted=-errno.EINTR)


def _requeue(task: Task, source: int, target: int, count: int) -> int:
    moved = 0
    for one in sorted((t for t in task.process.kernel.tasks if t.block is not None), key=lambda t: t.slept_since):
        if moved < count and one.block is not None and ("futex", source) in one.block.keys:
            one.requeued = target
            one.block.keys = (("futex", target),)
            moved += 1
    return moved


def _wake_op(task: Task, address: int, count: int, second: int, second_count: int, code: int) -> int:
    kernel = task.process.kernel
    operation, comparison = code >> 28 & 7, code >> 24 & 15
    argument, compared = (_signed12(code >> 12), _signed12(code))
    if code >> 31 & 1:
        argument = 1 << (argument & 31)
    old = task.memory.u32(second)
    new = {0: argument, 1: old + argument, 2: old | argument, 3: old & ~argument, 4: old ^ argument}.get(operation)
    signed = old - (1 << 32) if old >> 31 else old
    holds = {0: signed == compared, 1: signed != compared, 2: signed < compared, 3: signed <= compared,
             4: signed > compared, 5: signed >= compared}.get(comparison)
    if new is None or holds is None:
        raise LinuxError(errno.ENOSYS)
    task.memory.write_u32(second, new)
    woken = wake(kernel, address, count)
    return woken + (wake(kernel, second, second_count) if holds else 0)


def _signed12(value: int) -> int:
    value &= 0xFFF
    return value - 0x1000 if value & 0x800 else value


@syscall("futex", "uaddr:addr op:futex_op val:int timeout:addr uaddr2:addr val3:uint")
def futex(task: Task, uaddr: int, op: int, val: int, timeout: int, uaddr2: int, val3: int) -> int:
    if uaddr & 3:
        raise LinuxError(errno.EINVAL)
    command, second, kernel = op & 0x7F, timeout & 0xFFFFFFFF, task.process.kernel
    if command == FUTEX_WAIT:
        return _futex_wait(task, uaddr, val, timeout, 0xFFFFFFFF, op)
    if command == FUTEX_WAIT_BITSET:
        return _futex_wait(task, uaddr, val, timeout, val3, op)
    if command in (FUTEX_WAKE, FUTEX_WAKE_BITSET):
        if command == FUTEX_WAKE_BITSET and not val3:
            raise LinuxError(errno.EINVAL)
        return wake(kernel, uaddr, val, val3 if command == FUTEX_WAKE_BITSET else 0xFFFFFFFF)
    if command in (FUTEX_REQUEUE, FUTEX_CMP_REQUEUE):
        if uaddr2 & 3 or val < 0 or second >> 31:
            raise LinuxError(errno.EINVAL)
        if command == FUTEX_CMP_REQUEUE and task.memory.u32(uaddr) != val3:
            raise LinuxError(errno.EAGAIN)
        woken = wake(kernel, uaddr, val)
        return woken + _requeue(task, uaddr, uaddr2, min(second, WAKE_ALL))
    if command == FUTEX_WAKE_OP:
        return _wake_op(task, uaddr, val, uaddr2, min(second, WAKE_ALL), val3)
    trace.unimp(f"futex operation {command}: not implemented, ENOSYS")
    raise LinuxError(errno.ENOSYS)


@syscall("set_tid_address", "address:addr")
def set_tid_address(task: Task, address: int) -> int:
    task.clear_tid = address
    return task.tid


@syscall("set_robust_list", "head:addr size:size")
def set_robust_list(task: Task, head: int, size: int) -> int:
    if size != 3 * task.memory.pointer_size:
        raise LinuxError(errno.EINVAL)
    task.robust_list = head
    return 0


@syscall("get_robust_list", "tid:int head:addr size:addr")
def get_robust_list(task: Task, tid: int, head: int, size: int) -> int:
    for one in task.process.tasks:
        if tid in (0, one.tid) and (tid or one is task):
            task.memory.write_pointer(head, one.robust_list)
            task.memory.write_pointer(size, 3 * task.memory.pointer_size)
            return 0
    raise LinuxError(errno.ESRCH)


# -- who am I, whose turn is it

@syscall("gettid")
def gettid(task: Task) -> int:
    return task.tid


@syscall("getpid")
def getpid(task: Task) -> int:
    return task.process.pid


@syscall("getppid")
def getppid(task: Task) -> int:
    return task.process.ppid


@syscall("sched_yield")
def sched_yield(task: Task) -> int:
    task.process.kernel.interrupt_self()
    return 0
