"""The kernel of one process: it runs tasks on the vCPU, answers their system calls and traps, and puts them to sleep.

``run`` is what the vCPU thread executes instead of the CPU's own loop. One task's registers are in the CPU at a
time; those of the others are kept in ``Task.state``. A call that cannot finish raises ``WouldBlock``: its task
sleeps, and the call is executed again when one of its conditions holds. So nothing is ever half done while the
machine stands, and a sleeping task migrates as one that will ask again. With no task to run the thread waits for
descriptors, deadlines and the wake-up pipe.

Other threads reach the kernel by ``post``; everything else is the vCPU thread's.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import struct
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import e2kemu.linux.calls  # noqa: F401 - fills the table of calls
from e2kemu import trace
from e2kemu.cpu import locks
from e2kemu.cpu.state import EMPTY_TAG, CpuState, Slot
from e2kemu.linux import companions, contexts, lifecycle, traps
from e2kemu.linux.bell import Bell
from e2kemu.linux.entries import ARGUMENTS, ENTRIES, FAST, FAST_CALLS, FAST_ENTRIES
from e2kemu.linux.error import LinuxError, NoReturn, WouldBlock
from e2kemu.linux.numbers import NAMES, NUMBERS
from e2kemu.linux.options import ProcessOptions
from e2kemu.linux.report import Symbols
from e2kemu.linux.siginfo import SIGILL, SIGPIPE, SigInfo
from e2kemu.linux.signals import Signals
from e2kemu.linux.strace import Tracer
from e2kemu.linux.table import CALLS, Call, arguments_of
from e2kemu.linux.task import PendingCall, Process, Task
from e2kemu.linux.vfork import Borrower, Lender
from e2kemu.loop import report

if TYPE_CHECKING:
    from e2kemu.cpu.exec import Cpu

SLICE = 0.01
"""Seconds a task runs while others want to."""
FIRST_SLICE = 5_000
"""Wide instructions of a first slice; later ones follow the speed that was measured."""

FOREVER = 1 << 62

PIPE_CALLS = frozenset(NUMBERS[name] for name in (
    "write", "writev", "pwrite64", "pwritev", "pwritev2", "sendto", "sendmsg", "sendmmsg", "sendfile", "sendfile64",
    "splice", "tee", "vmsplice", "copy_file_range"))
"""Calls whose EPIPE comes with a SIGPIPE."""

_BASE = int(Slot.BASE)
M64 = (1 << 64) - 1


class Kernel:
    """Belongs to the vCPU thread, but for ``post``, ``interrupt``, ``request_exit`` and ``host_signal``."""

    def __init__(self, cpu: Cpu, run_cpu: Callable[[int | None], str]) -> None:
        self.cpu, self._run_cpu = cpu, run_cpu
        self.state, self.core = cpu.state, cpu.core
        self.process: Process
        """That of the current task, or of the one before."""
        self.processes: list[Process]
        """All that share the memory, the emulator's own first."""
        self.current: Task | None = None
        """Whose registers are in the CPU."""
        self.signals = Signals(self)
        self.options = ProcessOptions()
        self.tracer: Tracer | None = None
        self.still_lock: AbstractContextManager[object] = nullcontext()
        """Held while the emulator forks: nobody else changes anything meanwhile."""
        self.is_child = False
        """This emulator is a child of another (fork): there is no machine around it."""
        self.taken = False
        """The state of the process was taken since it ran last."""
        self.lender: Lender | None = None
        """A child uses the memory (vfork): nobody goes on here but ``lending``, which waits for the child."""
        self.lending: Task | None = None
        self.borrower: Borrower | None = None
        """This child's memory is its parent's, who waits for it."""
        self.root = os.getpid()
        """The emulator that the first process of the guest began in."""
        self.departed: set[int] = set()
        """Emulators of the host that companions have gone on in: nobody of the guest waits for them."""
        self.images: list[tuple[str, int]] = []
        """Program files that are mapped, and what was added to their addresses: for symbols."""
        self.arriving: list[Task] = []
        """Sleepers that have just come by migration. All ask again before anybody goes on: who wakes them must find
        them asleep."""
        self.contexts: dict[int, contexts.Context] = {}
        """Contexts (``struct ucontext``) that do not run, by the top of their stack."""
        self.links: dict[int, int] = {}
        """Where the uc_link of a running context is, by the same."""
        self.present_call: PendingCall | None = None
        """The call that is being executed."""
        self.on_exit: Callable[[int], None] = lambda status: None
        """Called once with the exit status (128 + N for a fatal signal N)."""
        self.before_exit: list[Callable[[], None]] = []
        """Called when the process ends: what is printed then."""
        self.traps = 0
        self.system_calls = 0
        self.core.syscall_hook = self.system_call
        self.core.trap_hook = lambda trap: traps.happened(self, trap)
        self._asked = False
        self._posted: deque[Callable[[], None]] = deque()
        self.bell = Bell()
        """Ends a wait, from any thread."""
        self._budget = FIRST_SLICE
        self._turn = 0
        self._sleeps = 0

    # -- from any thread

    def post(self, action: Callable[[], None]) -> None:
        """Have ``action`` done by the vCPU thread between two wide instructions."""
        self._posted.append(action)
        self.interrupt()

    def interrupt(self) -> None:
        """Make the vCPU thread look around, whether it executes or waits."""
        self.core.exit_flag[0] = 1
        self.bell.ring()

    def request_exit(self) -> None:
        """``run`` returns at the next boundary."""
        self._asked = True
        self.interrupt()

    # -- the vCPU thread

    def run(self, limit: int | None) -> str:
        """Run tasks until somebody asks for the thread: as ``Cpu.run``."""
        left = FOREVER if limit is None else limit
        if self.taken:
            self.taken = False
            self.process.files.go_on()
        while True:
            self.core.exit_flag[0] = 0
            if self._asked:
                self._asked = False
                return "exit"
            while self._posted:
                self._posted.popleft()()
            if self.is_child:
                for process in self.processes:         # there is no main loop that would
                    process.timers.expire()
                    process.timers.posix.expire()
            if self.process.exit_status is not None:
                self.cpu.idle_until = FOREVER
                return "idle"
            if left <= 0:
                return "limit"
            task = self._next()
            if task is None:
                self._wait()
                continue
            self.switch_to(task)
            if task.call is not None and (not self._go_on(task) or self.arriving):
                continue
            if not self.signals.deliver(task) or self._posted:
                continue
            before = self.cpu.executed
            result = self._execute(left)
            left -= self.cpu.executed - before
            if result in ("breakpoint", "fatal", "idle"):
                return result

    def _execute(self, left: int) -> str:
        """Let the CPU execute the current task for a while."""
        if len(self.tasks) == 1 and not (self.is_child and self._next_alarm()):
            return self._run_cpu(None if left == FOREVER else left)
        budget, began = min(left, self._budget), time.monotonic()
        before = self.cpu.executed
        result = self._run_cpu(budget)
        spent, done = time.monotonic() - began, self.cpu.executed - before
        if done >= budget and spent > 0:
            self._budget = min(max(int(done * SLICE / spent), 1_000), 50_000_000, 2 * self._budget)
        return result

    def _next(self) -> Task | None:
        """The task whose turn it is: round robin among those that can run or have something to look at."""
        self._look(0)
        tasks = self.tasks
        if self.lending is not None:
            return self.lending if self.lending.block is None else None
        while self.arriving and not self.arriving[0].process.stopped:
            waiting = self.arriving.pop(0)
            if waiting.call is not None and waiting.block is None:
                return waiting
        for step in range(1, len(tasks) + 1):
            task = tasks[(self._turn + step) % len(tasks)]
            if (task.block is None or self.signals.interrupts(task)) and not task.process.stopped:
                self._turn = (self._turn + step) % len(tasks)
                return task
        return None

    def _wait(self) -> None:
        """Nobody can run: wait until something happens."""
        self._look(None)

    def _look(self, timeout: float | None) -> None:
        """Wake the tasks whose conditions hold; wait for one at most ``timeout`` seconds (None: for ever)."""
        sleeping = [task for task in self.tasks if task.block is not None]
        if not sleeping and timeout == 0:
            return
        poll = select.poll()
        wanted: dict[int, int] = {self.bell.receive: select.POLLIN}
        now = self.process.clock.monotonic()
        for task in sleeping:
            assert task.block is not None
            for fd, events in task.block.fds:
                wanted[fd] = wanted.get(fd, 0) | events
            if task.block.deadline is not None:
                remaining = max(task.block.deadline - now, 0) / 1e9
                timeout = remaining if timeout is None else min(timeout, remaining)
        for fd, events in wanted.items():
            poll.register(fd, events)
        if self.is_child and timeout != 0 and (alarm := self._next_alarm()) is not None:
            remaining = max(alarm - now, 0) / 1e9
            timeout = remaining if timeout is None else min(timeout, remaining)
        if self._asked or self._posted:
            timeout = 0
        ready = dict(poll.poll(None if timeout is None else timeout * 1000 + (0.999 if timeout else 0)))
        if self.bell.receive in ready:
            self.bell.quieten()
        now = self.process.clock.monotonic()
        for task in sleeping:
            block = task.block
            if block is not None and (
                any(ready.get(fd, 0) & (events | select.POLLERR | select.POLLHUP | select.POLLNVAL)
                    for fd, events in block.fds)
                or (block.deadline is not None and block.deadline <= now)
            ):
                task.block = None

    @property
    def tasks(self) -> list[Task]:
        """Those of all processes."""
        if len(self.processes) == 1:
            return self.processes[0].tasks
        return [task for process in self.processes for task in process.tasks]

    def _next_alarm(self) -> int | None:
        """The earliest deadline of a timer."""
        return min((at for process in self.processes if (at := process.timers.next_deadline())), default=None)

    def wake(self, key: object, count: int = FOREVER, accept: Callable[[Task], bool] = lambda task: True) -> int:
        """Wake up to ``count`` tasks that sleep on ``key``, those that sleep longest first; how many."""
        woken = 0
        for task in sorted((t for t in self.tasks if t.block is not None), key=lambda t: t.slept_since):
            if woken < count and task.block is not None and key in task.block.keys and accept(task):
                task.block = None
                woken += 1
        return woken

    def switch_to(self, task: Task) -> None:
        """Bring a task's registers into the CPU."""
        if self.current is task:
            return
        self.save_current()
        assert task.state is not None
        self.state.buffer[:] = task.state
        task.state = None
        locks.lose(self.state)             # others have run
        self.current, self.process = task, task.process

    def save_current(self) -> None:
        """Take the current task's registers out of the CPU."""
        if self.current is not None and not self.current.dead:
            self.current.state = self.state.buffer.copy()
        self.current = None

    # -- system calls

    def system_call(self, entry: int, wbs: int) -> None:
        """A call through ``entry``; its arguments begin at register 2 * ``wbs`` (``Core.syscall_hook``)."""
        task = self.current
        assert task is not None
        self.system_calls += 1
        size = ENTRIES.get(entry) or FAST_ENTRIES.get(entry)
        if size is None:
            self.signals.force(task, SigInfo(SIGILL, 1, "fault", (self.state.pc, 0)), f"system call entry {entry}")
            return
        registers = self._arguments(wbs)
        number = registers[0] & 0xFFFFFFFF
        if entry in FAST_ENTRIES and number in FAST_CALLS:
            number = NUMBERS[FAST_CALLS[number]]
        elif entry in FAST_ENTRIES:
            number |= FAST
        task.progress, task.timer = 0, None
        self.call(task, PendingCall(number, registers[1:], wbs, size))

    def _arguments(self, wbs: int) -> list[int]:
        """The number and the arguments; what carries no numeric tag, or lies behind the window, counts as 0."""
        state, first = self.state, self.state.X[_BASE] + 2 * wbs
        count = max(min(ARGUMENTS, state.window_size - 2 * wbs), 0)
        values = []
        for index in range(first, first + count):
            tag, value = state.T[index], state.R[index]
            values.append(value if not tag else value & 0xFFFFFFFF if not tag & 3 else 0)
        if count and state.T[first] & 3:
            values[0] = 0xFFFFFFFF         # no number at all: ENOSYS
        return values + [0] * (ARGUMENTS - count)

    def call(self, task: Task, pending: PendingCall) -> None:
        """Execute a call, for the first time or again."""
        known = CALLS.get(pending.number)
        task.call = None
        tracer = self.tracer
        if known is None:
            name = NAMES.get(pending.number, f"number {pending.number & 0xFFFFFFFF}")
            trace.unimp(f"system call {name}: not implemented, ENOSYS")
            if tracer is not None:
                tracer.unknown(task, name, pending)
            self.give(pending.wbs, -errno.ENOSYS)
            return
        arguments = arguments_of(known, pending.registers, pending.pointer_size)
        self.present_call = pending
        leaves = known.name in ("exit", "exit_group")
        if tracer is not None and leaves:
            tracer.done(task, known, arguments, None)
        elif tracer is not None and known.name in ("execve", "execveat"):
            tracer.before(task, known, arguments)
        try:
            result = known.handler(task, *arguments)
        except WouldBlock as block:
            self._sleep(task, pending, block)
            return
        except NoReturn:
            if tracer is not None and not leaves:
                tracer.done(task, known, arguments, None)
            self.interrupt_self()
            return
        except LinuxError as error:
            result = -error.number
        except OSError as error:
            result = -(error.errno or errno.EIO)
        except (ValueError, OverflowError, struct.error):
            # a number that the host cannot even be asked with
            result = -errno.EINVAL
        except Exception as error:
            # a fault of ours is no reason to lose the guest
            self.say(f"e2kemu: internal error in system call {known.name}: {error!r}")
            if trace.mask & trace.Log.UNIMP:
                trace.log(traceback.format_exc())
            result = -errno.ENOSYS
        self._finish(task, known, arguments, pending, result)

    def _finish(self, task: Task, known: Call, arguments: tuple[int, ...], pending: PendingCall, result: int) -> None:
        if result == -errno.EPIPE and pending.number in PIPE_CALLS and not task.no_sigpipe:
            self.signals.send(SigInfo(SIGPIPE, values=(self.process.pid, os.getuid())), task)
        task.no_sigpipe = False
        task.requeued = 0
        if self.tracer is not None:
            self.tracer.done(task, known, arguments, result)
        if task is self.current:
            self.give(pending.wbs, result)
        if self.signals.waiting(task) or task.dead:
            self.interrupt_self()

    def give(self, wbs: int, result: int) -> None:
        """The result, in the first register of the call's frame; the others become empty."""
        self.give_in(self.state, wbs, result)

    @staticmethod
    def give_in(state: CpuState, wbs: int, result: int) -> None:
        """``give`` for registers that are not in the CPU."""
        first, end = state.X[_BASE] + 2 * wbs, state.X[_BASE] + state.window_size
        if first >= end:
            return
        state.R[first], state.T[first] = result & M64, 0
        count = end - first - 1
        state.T[first + 1 : end] = bytes([EMPTY_TAG]) * count

    def interrupt_self(self) -> None:
        """Leave the CPU's loop behind the present wide instruction."""
        self.core.exit_flag[0] = 1

    def _sleep(self, task: Task, pending: PendingCall, block: WouldBlock) -> None:
        self._sleeps += 1
        task.slept_since = self._sleeps
        task.call, task.block = pending, block
        self.interrupt_self()

    def _go_on(self, task: Task) -> bool:
        """Go on with the call a task was sleeping in: because of a signal, or to execute it again. False: it sleeps."""
        pending, block = task.call, task.block
        assert pending is not None
        if block is not None:              # only a signal can have woken it
            task.block = None
            task.call = None
            self.signals.break_call(task, pending, block)
            return True
        self.call(task, pending)
        return task.block is None and not task.dead and task is self.current

    # -- the end of it

    def say(self, text: str) -> None:
        """Something for the person at the terminal."""
        report(text.rstrip("\n"))

    def symbols(self) -> Symbols:
        """Functions of what is mapped."""
        symbols = Symbols()
        for path, base in self.images:
            symbols.add_file(path, base, self.process.sandbox.root, self.options.prefix)
        return symbols

    def new_tid(self) -> int:
        """The number of a new thread."""
        used = {task.tid for task in self.tasks}
        return max(used) + 1

    def exit(self, status: int, signo: int = 0) -> None:
        """The process ends with ``status``, killed by ``signo`` if that is not 0."""
        process = self.process
        if process.exit_status is not None:
            return
        if self.tracer is not None and self.current is not None:
            self.tracer.exited(self.current, status, signo)
        if len(self.processes) > 1 and companions.ended(self, process, status, signo):
            return
        process.exit_status = status
        process.map.write_back(0, 1 << 64)
        self.give_back()
        for action in self.before_exit:
            action()
        process.timers.clear()
        if self.is_child:
            if process.deputy is not None:
                process.deputy.end(status, signo)
            lifecycle.end_child(status, signo)
        process.files.close_all()
        self.interrupt_self()
        self.on_exit(status)

    def give_back(self) -> None:
        """The parent that lent its memory goes on (vfork)."""
        if self.borrower is not None:
            self.borrower.give_back()
            self.borrower = None

    def exit_by(self, info: SigInfo) -> None:
        """A signal ends the process."""
        self.exit(128 + info.signo, info.signo)

    def stop(self) -> None:
        """A signal stops the process until SIGCONT."""
        process = self.process
        if process.deputy is None and len(self.processes) == 1 and (self.options.job_control or self.is_child):
            # to this very thread, so that it executes nothing before the whole emulator stands
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
            return
        process.stopped = True
        if process.deputy is not None:
            os.kill(process.pid, signal.SIGSTOP)       # for who waits for it
        self.interrupt_self()

    def become_child(self) -> None:
        """This is the emulator of a child process now: on its own, in the only thread that is left."""
        self.is_child = True
        self.on_exit = lambda status: None
        self.before_exit.clear()
        self.bell.close()
        self.bell = Bell()
        self._posted.clear()
        self._asked = False
        lifecycle.only_thread_left(self)

    def host_signal(self, signo: int) -> None:
        """The emulator has got a signal that is meant for the program (any thread)."""
        if signo == signal.SIGCHLD:
            self.post(self._child_changed)
        else:
            self.post(lambda: self.signals.send(SigInfo(signo, 0, "kill", (0, 0)), process=self.processes[0]))

    def _child_changed(self) -> None:
        self.wake(("child",))
        companions.reap(self)
        for process in self.processes:
            for child in list(process.children):
                lifecycle.tell_end(process, child)
            lifecycle.drop_ended(process)
