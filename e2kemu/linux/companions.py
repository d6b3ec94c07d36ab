"""Processes that share their memory without being threads of one another: clone with CLONE_VM, but neither CLONE_THREAD
nor CLONE_VFORK.

They are ``Process``es of one emulator with one address space, and take turns as threads do. The first has the
emulator's pid. Each other one has a deputy: a process of the host, forked from the emulator, that does nothing but
have a pid. So a parent waits for it, and anybody sends it signals, as for every child: it passes signals on, and ends
as its process ended. It talks with the emulator through a pair of sockets:

| to | bytes | what |
|---|---|---|
| deputy | "e", status | the process has exited |
| deputy | "s", signal | a signal has ended it |
| emulator | signal | somebody has sent it |

A deputy that is gone was killed, and takes its process with it. Who executes a program leaves the others: the emulator
forks, and the two halves do not share any more. So it is when the first process ends before the others.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import threading
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from e2kemu.cpu.state import CpuState
from e2kemu.linux import lifecycle
from e2kemu.linux.bell import Bell
from e2kemu.linux.files import FileTable
from e2kemu.linux.itimer import IntervalTimers
from e2kemu.linux.siginfo import SIGKILL, SigInfo
from e2kemu.linux.task import Process, Task, Whereabouts

if TYPE_CHECKING:
    from e2kemu.linux.kernel import Kernel

EXITED, KILLED = b"e", b"s"


class Deputy:
    """The emulator's end of a deputy. A thread listens for signals."""

    def __init__(self, kernel: Kernel) -> None:
        self.sock, theirs = socket.socketpair()
        self._bell: Bell | None = None
        """Ends the listening."""
        with kernel.still_lock, suppress(ValueError):
            gc.freeze()                    # as for any child
        with kernel.still_lock:
            self.pid = os.fork()
        if not self.pid:
            _stand_in(theirs)
        theirs.close()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What it has open."""
        return self.sock.fileno(), *(() if self._bell is None else self._bell.descriptors)

    def listen(self, process: Process) -> None:
        """Hear of the signals for ``process`` from now on."""
        self._bell = Bell()
        threading.Thread(target=self._listen, args=(process, self._bell), name=f"pid {self.pid}", daemon=True).start()

    def _listen(self, process: Process, bell: Bell) -> None:
        kernel = process.kernel
        while True:
            ready, _, _ = select.select([self.sock.fileno(), bell.receive], [], [])
            if bell.receive in ready:
                break
            received = self.sock.recv(64)
            if not received:
                kernel.post(lambda: _killed(kernel, process))
                break
            for signo in received:
                kernel.post(lambda signo=signo: _sent(kernel, process, signo))  # type: ignore[misc]
        bell.close()

    def forget(self) -> None:
        """Somebody else has it now."""
        if self._bell is not None:
            self._bell.ring()

    def end(self, status: int, signo: int) -> None:
        """Its process has ended."""
        if signo == SIGKILL:
            os.kill(self.pid, SIGKILL)     # works on a stopped one, too
            return
        with suppress(OSError):            # it was killed itself
            self.sock.sendall(KILLED + bytes([signo]) if signo else EXITED + bytes([status & 0xFF]))
            os.kill(self.pid, signal.SIGCONT)


def _stand_in(sock: socket.socket) -> NoReturn:
    """What a deputy does."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != sock.fileno():
            with suppress(OSError):
                os.close(int(name))
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(nothing, fd)
    signal.set_wakeup_fd(-1)
    for signo in lifecycle.HOST_SIGNALS:
        signal.signal(signo, lambda number, frame: _pass_on(sock, number))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    order = sock.recv(2)
    if not order:                          # the emulator is gone
        lifecycle.end_child(0, SIGKILL)
    lifecycle.end_child(*((order[1], 0) if order[:1] == EXITED else (0, order[1])))


def _pass_on(sock: socket.socket, signo: int) -> None:
    with suppress(OSError):
        sock.send(bytes([signo]))


def _sent(kernel: Kernel, process: Process, signo: int) -> None:
    """Somebody has sent a signal to the deputy of ``process``."""
    if process in kernel.processes:
        kernel.signals.send(SigInfo(signo, 0, "kill", (0, 0)), process=process)
    elif process.deputy is not None:       # it has just gone on in another emulator
        with suppress(OSError):
            os.kill(process.pid, signo)


def _killed(kernel: Kernel, process: Process) -> None:
    """The deputy of ``process`` is no more."""
    if process not in kernel.processes:
        return
    if len(kernel.processes) > 1:
        leave(kernel, process, released=True)
    else:
        kernel.exit(128 + SIGKILL, SIGKILL)


# -- their beginning

def clone(kernel: Kernel, task: Task, flags: int, stack: int, size: int, parent_tid: int, child_tid: int,
          tls: int) -> int:
    """Make a process with the memory of ``task``; what else the two share the flags say. Its pid."""
    old = task.process
    state = lifecycle.new_stacks(kernel, stack, size)
    try:
        deputy = Deputy(kernel)
    except OSError:
        lifecycle.drop_stacks(kernel, state)
        raise
    new = Process(deputy.pid, old.memory, task.files if flags & lifecycle.CLONE_FILES else task.files.clone(),
                  old.sandbox, old.clock)
    new.ppid, new.pgid, new.deputy, new.kernel, new.map = old.pid, old.pgid, deputy, kernel, old.map
    new.fs = old.fs if flags & lifecycle.CLONE_FS else Whereabouts(old.cwd, old.umask)
    new.actions = old.actions if flags & lifecycle.CLONE_SIGHAND else {
        signo: replace(action) for signo, action in old.actions.items()}
    new.executable, new.arguments, new.name = old.executable, list(old.arguments), old.name
    new.identity = old.identity.clone()
    new.timers = IntervalTimers(new, old.timers.clock)
    lifecycle.add_child(old, new.pid, flags)
    kernel.processes.append(new)
    child = Task(new, new.pid)
    lifecycle.begin_task(kernel, task, child, state, flags, parent_tid, child_tid, tls)
    deputy.listen(new)
    return new.pid


# -- their end

def ended(kernel: Kernel, process: Process, status: int, signo: int) -> bool:
    """``process`` ends, and shares its memory with others. True: nothing else is to be done here. False: the others
    go on in another emulator, and this one ends with it."""
    if process.deputy is None:
        return split(kernel, [other for other in kernel.processes if other is not process])
    process.deputy.end(status, signo)
    leave(kernel, process, released=True)
    return True


def _close_files(kernel: Kernel, process: Process) -> None:
    """``process`` has no descriptors any more; tables that others share stay."""
    for task in process.tasks:
        if task.own_files is not None:
            task.own_files.close_all()
    if all(other is process or other.files is not process.files for other in kernel.processes):
        process.files.close_all()
    process.files = FileTable(empty=True)


def leave(kernel: Kernel, process: Process, *, released: bool) -> None:
    """``process`` is no longer here. ``released``: by its own doing, so that locks of its threads are opened."""
    _close_files(kernel, process)
    for task in list(process.tasks):
        state = kernel.state
        if task is not kernel.current:
            assert task.state is not None
            state = CpuState(kernel.cpu.model)
            state.buffer[:] = task.state
        if released:
            lifecycle.release_task(kernel, task)
        lifecycle.drop_stacks(kernel, state)
        task.dead = True
        if task is kernel.current:
            kernel.current = None
    process.tasks.clear()
    process.timers.clear()
    kernel.processes.remove(process)
    if kernel.process is process:
        kernel.process = kernel.processes[0]
    kernel.interrupt_self()


def split(kernel: Kernel, going: list[Process]) -> bool:
    """Fork the emulator: ``going`` go on in the new one (True there), the others here (False)."""
    staying = [process for process in kernel.processes if process not in going]
    kernel.process.map.share()
    with kernel.still_lock:
        pid = os.fork()
    if pid:
        kernel.departed.add(pid)
        for process in going:
            if process.deputy is not None:
                process.deputy.forget()
            leave(kernel, process, released=kernel.process is process)
        return False
    os.setpgid(0, 0)                       # signals for the group come by the deputies
    kernel.borrower = None                 # that was who stays
    for process in staying:                # first, so that nothing of theirs is closed twice
        _close_files(kernel, process)
    kernel.become_child()
    gone = kernel.process
    for process in staying:
        leave(kernel, process, released=process is gone)
    for process in going:
        if process.deputy is not None:
            process.deputy.listen(process)
    return True


def reap(kernel: Kernel) -> None:
    """Emulators that were forked by ``split`` and have ended leave nothing behind."""
    for pid in list(kernel.departed):
        with suppress(ChildProcessError):
            if not os.waitpid(pid, os.WNOHANG)[0]:
                continue
        kernel.departed.discard(pid)
