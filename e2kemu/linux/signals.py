"""Signals of a process: queueing, choosing, delivery to handlers, the defaults, and the end of a handler."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING

from e2kemu.cpu import locks, windows
from e2kemu.cpu.isa.traps import EXC_CHAIN_STACK_BOUNDS, EXC_PROC_STACK_BOUNDS
from e2kemu.cpu.state import CTPR1, SBR, USD_HI, USD_LO
from e2kemu.cpu.windows import Trap
from e2kemu.linux import frames, hwstacks
from e2kemu.linux.error import WouldBlock
from e2kemu.linux.report import fault_report
from e2kemu.linux.siginfo import (
    FIRST_REALTIME,
    IGNORED,
    SI_KERNEL,
    SIGCONT,
    SIGKILL,
    SIGSEGV,
    SIGSTOP,
    STOPPING,
    UNMASKABLE,
    SigInfo,
)
from e2kemu.linux.siginfo import SIZE as INFO_SIZE
from e2kemu.linux.table import CALLS, arguments_of
from e2kemu.linux.task import Action, PendingCall, Process, Task

if TYPE_CHECKING:
    from e2kemu.linux.kernel import Kernel

SA_NOCLDWAIT = 2
SA_ONSTACK, SA_RESTART, SA_NODEFER, SA_RESETHAND = 0x0800_0000, 0x1000_0000, 0x4000_0000, 0x8000_0000
DEFAULT, IGNORE = 0, 1
SS_ONSTACK, SS_DISABLE = 1, 2


def bit(signo: int) -> int:
    """A signal's place in a mask."""
    return 1 << signo - 1


class Signals:
    """The vCPU thread's; other threads ``post`` to the kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.state = kernel.state

    # -- sending

    def send(self, info: SigInfo, task: Task | None = None, process: Process | None = None) -> None:
        """Queue a signal for a task, or for a process (default: the present one). Below 32 one of a kind waits at
        most."""
        process = task.process if task is not None else process or self.kernel.process
        signo = info.signo
        if signo in (SIGCONT, SIGKILL):
            process.stopped = False
        tasks = [task] if task is not None else process.tasks
        blocked = all(one.mask & bit(signo) for one in tasks)
        if self._is_ignored(process, signo) and not blocked and not any(self._is_awaited(one, signo) for one in tasks):
            return
        queue = process.pending if task is None else task.pending
        if signo >= FIRST_REALTIME or all(one.signo != signo for one in queue):
            queue.append(info)
        self.kernel.wake(("signal",))
        self.kernel.interrupt_self()

    @staticmethod
    def _is_awaited(task: Task, signo: int) -> bool:
        return task.block is not None and ("signal",) in task.block.keys

    @staticmethod
    def _is_ignored(process: Process, signo: int) -> bool:
        handler = process.action(signo).handler
        return handler == IGNORE or (handler == DEFAULT and signo in IGNORED)

    # -- looking

    def _deliverable(self, task: Task) -> SigInfo | None:
        for queue in (task.pending, task.process.pending):
            free = [info for info in queue if not task.mask & ~UNMASKABLE & bit(info.signo)]
            if free:
                return min(free, key=lambda info: info.signo)
        return None

    def waiting(self, task: Task) -> bool:
        """Whether a signal is to be delivered to the task."""
        return self._deliverable(task) is not None

    interrupts = waiting

    def pending(self, task: Task) -> int:
        """The mask of what is queued for it."""
        return sum({bit(info.signo) for info in task.pending + task.process.pending})

    def take(self, task: Task, mask: int) -> SigInfo | None:
        """Take a queued signal that is in ``mask``."""
        for queue in (task.pending, task.process.pending):
            found = [info for info in queue if mask & bit(info.signo)]
            if found:
                info = min(found, key=lambda one: one.signo)
                queue.remove(info)
                return info
        return None

    # -- delivering

    def break_call(self, task: Task, pending: PendingCall, block: WouldBlock) -> None:
        """A signal has come for a task that sleeps in a call: the call ends, or goes on after the handler."""
        info = self._deliverable(task)
        action = task.process.action(info.signo) if info is not None else Action()
        handled = action.handler not in (DEFAULT, IGNORE)
        if not handled or (block.restart and action.flags & SA_RESTART):
            pending.progress, pending.timer = task.progress, task.timer
            task.restarting = pending
            return
        if block.on_signal is not None:
            block.on_signal()
        result = block.interrupted
        if result is None:
            result = task.progress if task.progress > 0 else -errno.EINTR
        if self.kernel.tracer is not None:
            known = CALLS[pending.number]
            self.kernel.tracer.done(task, known, arguments_of(known, pending.registers, pending.pointer_size), result)
        self.kernel.give(pending.wbs, result)

    def deliver(self, task: Task) -> bool:
        """Do what the signals of the task that is in the CPU ask for; False: it does not run on now."""
        process = task.process
        while not process.stopped and not task.dead and process.exit_status is None:
            info = self._deliverable(task)
            if info is None:
                if task.restarting is not None:
                    self._resume(task, task.restarting)
                    task.restarting = None
                    return False
                return True
            (task.pending if info in task.pending else process.pending).remove(info)
            self._act(task, info)
        return False

    def _resume(self, task: Task, pending: PendingCall) -> None:
        task.call = pending
        task.progress, task.timer = pending.progress, pending.timer
        pending.frame = 0

    def _act(self, task: Task, info: SigInfo) -> None:
        action, signo = task.process.action(info.signo), info.signo
        if self.kernel.tracer is not None:
            self.kernel.tracer.signal(task, info)
        if signo == SIGKILL or (action.handler == DEFAULT and signo not in IGNORED | STOPPING):
            self.kernel.exit_by(info)
        elif signo == SIGSTOP or (action.handler == DEFAULT and signo in STOPPING):
            self.kernel.stop()
        elif action.handler not in (DEFAULT, IGNORE):
            self._push(task, info, action)

    def force(self, task: Task, info: SigInfo, detail: str = "", exc: int | None = None) -> None:
        """A fault of the task itself: to its handler at once, or the end."""
        action = task.process.action(info.signo)
        if action.handler in (DEFAULT, IGNORE) or task.mask & bit(info.signo):
            self._fatal(task, info, detail, exc)
            return
        if self.kernel.tracer is not None:
            self.kernel.tracer.signal(task, info)
        self._push(task, info, action)

    def overflow(self, task: Task, trap: Trap) -> None:
        """A hardware stack is full and may not grow: SIGSEGV, which no handler gets. A handler's frame needs room on
        these very stacks, for which there is no alternate one; Linux for e2k fails to make it, too, and kills."""
        self._fatal(task, SigInfo(SIGSEGV, SI_KERNEL, "fault", (self.state.pc, trap.exc)), trap.detail, trap.exc)

    def _fatal(self, task: Task, info: SigInfo, detail: str, exc: int | None) -> None:
        if self.kernel.tracer is not None:
            self.kernel.tracer.signal(task, info)
        self.kernel.say(fault_report(self.kernel, task, info, detail, exc))
        self.kernel.exit_by(info)

    # -- frames

    def with_room(self, step: Callable[[], None]) -> bool:
        """Do ``step``, growing the hardware stacks as it needs; False: they cannot grow."""
        while True:
            try:
                step()
            except Trap as trap:
                name = {EXC_PROC_STACK_BOUNDS: hwstacks.PROCEDURE, EXC_CHAIN_STACK_BOUNDS: hwstacks.CHAIN}.get(trap.exc)
                if name is None or not hwstacks.grow(self.state, self.kernel.process.map, name):
                    return False
            else:
                return True

    def alt_flags(self, task: Task) -> int:
        """SS_DISABLE, SS_ONSTACK or 0: what the task's stack pointer says of its alternate stack."""
        if not task.altstack.size:
            return SS_DISABLE
        sp = hwstacks.stack_pointer(self.state)
        return SS_ONSTACK if task.altstack.sp < sp <= task.altstack.sp + task.altstack.size else 0

    def _push(self, task: Task, info: SigInfo, action: Action) -> None:
        """Have the task that is in the CPU run the handler of ``action``."""
        state, process, space = self.state, task.process, self.kernel.core.space
        mask = task.mask if task.saved_mask is None else task.saved_mask
        task.saved_mask = None
        flags = self.alt_flags(task)
        old = hwstacks.stack_pointer(state)
        alternate = bool(action.flags & SA_ONSTACK) and not flags
        size = process.pointer_size
        top = task.altstack.sp + task.altstack.size if alternate else old
        sp = top - frames.layout(size).size & ~15
        low = task.altstack.sp if alternate else old - (state.S[USD_HI] >> 32)
        ctprs = state.S[CTPR1 : CTPR1 + 3].tolist()
        if sp < low or not process.map.writable(sp, top - sp) or not self.with_room(
                lambda: frames.push_interrupted(state, space)):
            self._fatal(task, SigInfo(SIGSEGV, SI_KERNEL, "fault", (0, 0)), "no room for a signal frame", None)
            return
        frame = frames.Frame(info, mask, (task.altstack.sp, flags, task.altstack.size))
        process.map.store(sp, frames.image(state, ctprs, frame, size))
        if alternate:
            state.S[SBR] = top & ~15
        state.S[USD_LO] = state.S[USD_LO] & ~windows.M48 | sp
        state.S[USD_HI] = sp - low << 32
        arguments = (info.signo, sp, sp + INFO_SIZE)
        if not self.with_room(lambda: frames.enter_handler(state, space, action.handler, arguments)):
            self._fatal(task, SigInfo(SIGSEGV, SI_KERNEL, "fault", (0, 0)), "no room for a signal handler", None)
            return
        if task.restarting is not None:
            task.restarting.frame = sp
            task.suspended.append(task.restarting)
            task.restarting = None
        task.mask |= action.mask | (0 if action.flags & SA_NODEFER else bit(info.signo))
        task.mask &= ~UNMASKABLE
        locks.lose(state)                  # the handler runs in between
        if action.flags & SA_RESETHAND:
            action.handler = DEFAULT

    @staticmethod
    def is_return(pc: int) -> bool:
        """Whether a handler has returned."""
        return pc == frames.RETURN

    def sigreturn(self, task: Task) -> None:
        """A handler has returned: the interrupted window comes back."""
        state, process = self.state, task.process
        sp, size = hwstacks.stack_pointer(state), frames.layout(process.pointer_size).size
        if not process.map.readable(sp, size):
            self._fatal(task, SigInfo(SIGSEGV, SI_KERNEL, "fault", (sp, 0)), "the signal frame is gone", None)
            return
        try:
            mask = frames.take_off(state, self.kernel.core.space, process.map.load(sp, size), process.pointer_size)
        except Trap as trap:
            self._fatal(task, SigInfo(SIGSEGV, SI_KERNEL, "fault", (sp, 0)), trap.detail, trap.exc)
            return
        task.mask = mask & ~UNMASKABLE
        while task.suspended and task.suspended[-1].frame < sp:
            task.suspended.pop()           # its handler was left by longjmp
        if task.suspended and task.suspended[-1].frame == sp:
            self._resume(task, task.suspended.pop())
        self.kernel.interrupt_self()
