"""How tasks and processes begin and end: clone, fork, exec, exit.

A thread is a ``Task`` of this emulator. A child process is a process of the host: the emulator forks, and the
child's emulator goes on with the calling task alone. Its parent waits for it by the host's own means, so process
ids, exit statuses, pipes and signals between the two are real. It has no monitors and no machine around it any
more, and its parent cannot migrate while it lives.
"""

from __future__ import annotations

import errno
import gc
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from e2kemu import trace
from e2kemu.cpu.state import CpuState
from e2kemu.errors import E2kError, ImageError
from e2kemu.linux import companions, futex, hwstacks, start
from e2kemu.linux.elf import Program, parse_program
from e2kemu.linux.error import LinuxError
from e2kemu.linux.error import NoReturn as CallGone
from e2kemu.linux.siginfo import SIGCHLD, SIGKILL, SigInfo
from e2kemu.linux.signals import DEFAULT, IGNORE, SA_NOCLDWAIT
from e2kemu.linux.task import Action, AltStack, Process, Task
from e2kemu.linux.vfork import Borrower, Lender

if TYPE_CHECKING:
    from e2kemu.linux.kernel import Kernel

(CLONE_VM, CLONE_FS, CLONE_FILES, CLONE_SIGHAND, CLONE_VFORK, CLONE_THREAD, CLONE_SETTLS, CLONE_PARENT_SETTID,
 CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID) = (
    0x100, 0x200, 0x400, 0x800, 0x4000, 0x10000, 0x80000, 0x100000, 0x200000, 0x1000000)

EXIT_SIGNAL = 0xFF
"""Bits of clone's flags: the signal that the parent gets when the child ends."""
TLS_REGISTER = 13
"""%g13 points to the thread's local storage."""

FUTEX_OWNER, FUTEX_DIED, FUTEX_WAITERS = 0x3FFFFFFF, 0x40000000, 0x80000000
ROBUST_LIMIT = 2048

HOST_SIGNALS = tuple(getattr(signal, name) for name in (
    "SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGTERM", "SIGCONT", "SIGWINCH", "SIGURG", "SIGTSTP"))
"""Signals that come to the emulator and are meant for the program."""


def new_stacks(kernel: Kernel, stack: int, size: int) -> CpuState:
    """Registers for a new task: those of its creator, with hardware stacks of its own and the user stack from
    ``stack`` down (0: its creator's). Raises ENOMEM."""
    areas = kernel.process.map
    state = CpuState(kernel.cpu.model)
    state.buffer[:] = kernel.state.buffer
    hwstacks.forget_frames(state)
    if not hwstacks.make(state, areas):
        raise LinuxError(errno.ENOMEM)
    if stack:
        top = stack & ~15
        hwstacks.set_user_stack(state, top, top, stack - size if size else hwstacks.stack_bottom(areas, top))
    return state


def drop_stacks(kernel: Kernel, state: CpuState) -> None:
    """The hardware stacks of a task that is no more."""
    hwstacks.drop(state, kernel.process.map)


def begin_task(kernel: Kernel, creator: Task, child: Task, state: CpuState, flags: int, parent_tid: int, child_tid: int,
               tls: int) -> None:
    """Let ``child`` go on behind the call that has made it, with 0 for a result."""
    child.mask, child.state = creator.mask, state.buffer
    if flags & CLONE_SETTLS:
        state.R[TLS_REGISTER], state.T[TLS_REGISTER] = tls, 0
    if flags & CLONE_CHILD_CLEARTID:
        child.clear_tid = child_tid
    for wanted, address in ((CLONE_PARENT_SETTID, parent_tid), (CLONE_CHILD_SETTID, child_tid)):
        if flags & wanted:
            with suppress(LinuxError):     # as Linux: the task is there, its number is not stored
                creator.memory.write_u32(address, child.tid)
    assert kernel.present_call is not None
    kernel.give_in(state, kernel.present_call.wbs, 0)
    kernel.interrupt_self()                # from now on there are turns


def clone_thread(kernel: Kernel, task: Task, flags: int, stack: int, size: int, parent_tid: int, child_tid: int,
                 tls: int) -> int:
    """Make a thread; its tid. Without CLONE_FILES it has descriptors of its own."""
    if not stack:
        raise LinuxError(errno.EINVAL)
    state = new_stacks(kernel, stack, size)
    child = Task(task.process, kernel.new_tid())
    child.own_files = task.own_files if flags & CLONE_FILES else task.files.clone()
    begin_task(kernel, task, child, state, flags, parent_tid, child_tid, tls)
    return child.tid


def add_child(process: Process, pid: int, flags: int) -> None:
    """A child has been made by clone with ``flags``."""
    process.children.add(pid)
    process.exit_signals.pop(pid, None)
    process.told.discard(pid)
    if flags & EXIT_SIGNAL != SIGCHLD:
        process.exit_signals[pid] = flags & EXIT_SIGNAL


def fork(kernel: Kernel, task: Task, flags: int, stack: int, child_tid: int, tls: int) -> int:
    """Make a child process; its pid in the parent, 0 in the child. With CLONE_VFORK the parent goes on when the child
    executes a program or ends (raises WouldBlock until then), and finds what it has stored with CLONE_VM."""
    process = kernel.process
    if kernel.lender is not None:
        pid = kernel.lender.collect(task)
        kernel.lender = kernel.lending = None
        return pid
    process.map.write_back(0, 1 << 64)
    process.map.share()
    ends = os.pipe() if flags & CLONE_VFORK else None
    with kernel.still_lock, suppress(ValueError):
        gc.freeze()                        # the child's collector leaves the parent's objects, and their pages, alone
    with kernel.still_lock:
        try:
            pid = os.fork()
        except OSError:
            for fd in ends or ():
                os.close(fd)
            raise
    if pid:
        add_child(process, pid, flags)
        if ends is None:
            return pid
        os.close(ends[1])
        kernel.lender, kernel.lending = Lender(ends[0], pid), task
        return fork(kernel, task, flags, stack, child_tid, tls)
    kernel.lender = kernel.lending = None
    kernel.borrower = None if ends is None else Borrower(ends[1], process, shared=bool(flags & CLONE_VM))
    for other in [one for one in kernel.tasks if one is not task]:
        other.dead = True
    process.tasks[:] = [task]
    process.files, task.own_files, process.deputy = task.files, None, None
    kernel.processes[:] = [process]
    process.timers.clear()
    kernel.become_child()
    kernel.interrupt_self()                # the executor looks at its memory anew: stores are noted again
    process.ppid, process.pid = process.pid, os.getpid()
    task.tid = process.pid
    process.children.clear()
    process.exit_signals.clear()
    process.told.clear()
    process.pending.clear()
    task.pending.clear()
    if stack:
        top = stack & ~15
        hwstacks.set_user_stack(kernel.state, top, top, hwstacks.stack_bottom(process.map, top))
    if flags & CLONE_SETTLS:
        kernel.state.R[TLS_REGISTER], kernel.state.T[TLS_REGISTER] = tls, 0
    task.clear_tid = child_tid if flags & CLONE_CHILD_CLEARTID else 0
    if flags & CLONE_CHILD_SETTID:
        with suppress(LinuxError):
            process.memory.write_u32(child_tid, task.tid)
    return 0


# -- exec

def read_program(host_path: str, guest_path: str, what: str = "program") -> Program:
    """Read a program file. Raises ImageError."""
    try:
        with open(host_path, "rb") as stream:
            data = stream.read()
    except OSError as error:
        raise ImageError(f"could not load {what} '{guest_path}': {error.strerror}") from error
    return parse_program(data, guest_path, what)


def interpreter_of(program: Program, prefix: str | None, root: str | None) -> Program | None:
    """The interpreter that a program asks for, None when it asks for none. Raises ImageError."""
    if not program.interpreter:
        return None
    places = [place for place in (prefix, root) if place]
    for place in places:
        inside = os.path.join(place, program.interpreter.lstrip("/"))
        if os.path.exists(inside):
            return read_program(inside, program.interpreter, "interpreter")
    if root is None and os.path.exists(program.interpreter):
        return read_program(program.interpreter, program.interpreter, "interpreter")
    raise ImageError(f"could not load program '{program.path}': its interpreter '{program.interpreter}' is not there"
                     + ("" if prefix else " (-L prefix says where such files are)"))


def begin(kernel: Kernel, program: Program, interpreter: Program | None, arguments: list[bytes],
          environment: list[bytes]) -> None:
    """Have the process, which has one task with nothing mapped, run a program. Raises ImageError."""
    process, task = kernel.process, kernel.process.tasks[0]
    process.memory.pointer_size = program.pointer_size
    started = start.load(process.map, program, interpreter)
    base = None if interpreter is None else started.entry - interpreter.entry
    top, sp, bottom = start.build_stack(process.map, started, base, arguments, environment, kernel.cpu.model.name)
    if not start.set_registers(kernel.state, started.entry, top, sp, bottom, process.map):
        raise ImageError(f"could not start program '{program.path}': no room for its hardware stacks")
    kernel.current, task.state = task, None
    process.map.brk_start = process.map.brk = started.brk
    process.executable = program.path
    process.arguments = arguments
    process.name = os.path.basename(program.path)[:15]
    kernel.images = [(program.path, started.base)] + ([(interpreter.path, base)] if interpreter and base else [])


def execve(kernel: Kernel, task: Task, program: Program, interpreter: Program | None, arguments: list[bytes],
           environment: list[bytes]) -> NoReturn:
    """Replace the program; what can be refused has been. Raises ``error.NoReturn``."""
    process = task.process
    others = [one for one in kernel.processes if one is not process]
    if others:                             # from now on it has its own memory
        first = process.deputy is None
        if companions.split(kernel, others if first else [process]) is first:
            raise CallGone
    for other in list(process.tasks):
        if other is not task:
            other.dead = True
            process.tasks.remove(other)
    process.files, task.own_files = task.files, None
    process.timers.posix.clear()
    process.map.write_back(0, 1 << 64)
    kernel.give_back()
    process.map.clear()
    process.files.exec()
    for signo, action in list(process.actions.items()):
        process.actions[signo] = Action(IGNORE if action.handler == IGNORE else DEFAULT)
    task.tid = process.pid
    task.altstack, task.clear_tid, task.robust_list = AltStack(), 0, 0
    task.suspended.clear()
    kernel.contexts.clear()
    kernel.links.clear()
    try:
        begin(kernel, program, interpreter, arguments, environment)
    except E2kError as error:
        kernel.say(f"e2kemu: {error}\n")
        kernel.exit(128 + SIGKILL, SIGKILL)
    raise CallGone


# -- the end

def exit_task(kernel: Kernel, task: Task, status: int) -> None:
    """End one thread; the last one ends the process."""
    process = task.process
    if len(process.tasks) == 1:
        _release_robust(kernel, task)
        kernel.exit(status & 0xFF)
        return
    release_task(kernel, task)
    drop_stacks(kernel, kernel.state)
    if task.own_files is not None:
        task.own_files.close_all()
    task.dead = True
    process.tasks.remove(task)
    kernel.current = None
    kernel.interrupt_self()


def release_task(kernel: Kernel, task: Task) -> None:
    """A task ends, and its memory stays: its locks are marked, and who waits for its end is woken."""
    _release_robust(kernel, task)
    if task.clear_tid:
        with suppress(LinuxError):
            task.memory.write_u32(task.clear_tid, 0)
            futex.wake(kernel, task.clear_tid, 1)


def _release_robust(kernel: Kernel, task: Task) -> None:
    """Mark the locks that a dying thread holds (its robust list), and wake who waits for them."""
    memory, head = task.memory, task.robust_list
    if not head:
        return
    with suppress(LinuxError):
        size = memory.pointer_size
        offset = int.from_bytes(memory.read(head + size, size), "little", signed=True)
        held, pending = memory.pointer(head), memory.pointer(head + 2 * size)
        for _ in range(ROBUST_LIMIT):
            if held == head:
                break
            _release(kernel, task, held + offset)
            held = memory.pointer(held & ~1)
        if pending:
            _release(kernel, task, pending + offset)


def _release(kernel: Kernel, task: Task, address: int) -> None:
    value = task.memory.u32(address)
    if value & FUTEX_OWNER == task.tid:
        task.memory.write_u32(address, value & FUTEX_WAITERS | FUTEX_DIED)
        if value & FUTEX_WAITERS:
            futex.wake(kernel, address, 1)


# -- signals of the host

def catch_host_signals(kernel: Kernel, *, everything: bool) -> Callable[[], None]:
    """Have the kernel hear of children that end and, with ``everything``, of the signals that are meant for the
    program. Called in the main thread; returns what puts the old handlers back."""
    wanted = [signal.SIGCHLD, *(HOST_SIGNALS if everything else ())]
    old = {signo: signal.signal(signo, lambda number, frame: kernel.host_signal(number)) for signo in wanted}

    def restore() -> None:
        for signo, handler in old.items():
            signal.signal(signo, handler)

    return restore


# -- a child's emulator

def only_thread_left(kernel: Kernel) -> None:
    """After a fork: what the threads that are not here held is free; signals of the host come to this thread."""
    trace.forked()
    signal.set_wakeup_fd(-1)               # it was the main loop's
    for descriptor in _foreign_descriptors(kernel):
        with suppress(OSError):
            os.close(descriptor)
    for signo in (*HOST_SIGNALS, signal.SIGCHLD):
        signal.signal(signo, lambda number, frame: kernel.host_signal(number))


def _foreign_descriptors(kernel: Kernel) -> list[int]:
    """What is open here and belongs to the machine: monitors, migrations, disks."""
    borrower = kernel.borrower
    own = {0, 1, 2, *kernel.bell.descriptors, *(() if borrower is None else (borrower.fd,)),
           *(area.shared.fd for area in kernel.process.map.each_shared() if area.shared is not None)}
    for process in kernel.processes:
        own.update(*(table.host_descriptors() for table in (
            process.files, *(task.own_files for task in process.tasks if task.own_files is not None))))
        own.update(() if process.deputy is None else process.deputy.descriptors)
    try:
        return [int(name) for name in os.listdir("/proc/self/fd") if int(name) not in own]
    except OSError:
        return []


def end_child(status: int, signo: int) -> NoReturn:
    """End a child's emulator as the child ended."""
    with suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    if signo:
        with suppress(OSError, ValueError):
            signal.signal(signo, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.kill(os.getpid(), signo)
    os._exit(status)


def drop_ended(process: Process) -> None:
    """Children of a process that ignores SIGCHLD, or has it with SA_NOCLDWAIT, need nobody who waits for them."""
    action = process.action(SIGCHLD)
    if action.handler != IGNORE and not action.flags & SA_NOCLDWAIT:
        return
    for child in process.children - process.exit_signals.keys():
        tell_end(process, child)
        if child in process.told:
            with suppress(ChildProcessError):
                os.waitpid(child, os.WNOHANG)
            ended(process, child)


def tell_end(process: Process, child: int) -> None:
    """Send the signal for the end of a child, if it has ended and nobody did. Who waits for it does so first: the
    host's SIGCHLD may come later than he does."""
    if child in process.told:
        return
    try:
        found = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        ended(process, child)
        return
    if found is None:
        return
    process.told &= process.children
    process.told.add(child)
    signo = process.exit_signals.get(child, SIGCHLD)
    if signo:
        info = SigInfo(signo, found.si_code, "child", (found.si_pid, found.si_uid, found.si_status))
        process.kernel.signals.send(info, process=process)


def ended(process: Process, child: int) -> None:
    """A child was waited for."""
    process.children.discard(child)
    process.told.discard(child)
