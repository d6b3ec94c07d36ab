"""What the kernel of a process does about traps: stacks that grow, returns that nobody called, signals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e2kemu.cpu import windows
from e2kemu.cpu.isa.registers import BY_NAME
from e2kemu.cpu.isa.traps import EXC_CHAIN_STACK_BOUNDS, EXC_FP, EXC_PROC_STACK_BOUNDS
from e2kemu.cpu.windows import Trap
from e2kemu.linux import contexts, hwstacks, lifecycle
from e2kemu.linux.error import LinuxError, NoReturn
from e2kemu.linux.siginfo import FAULTS, SI_KERNEL, SIGSEGV, SigInfo, fp_code
from e2kemu.linux.task import Task

if TYPE_CHECKING:
    from e2kemu.linux.kernel import Kernel

HANDLER_DEPTH = 1000
"""Frames above a handler that rt_sigreturn leaves at most."""

FPSR, PFPFR = BY_NAME["fpsr"].number, BY_NAME["pfpfr"].number
_STACKS = {EXC_PROC_STACK_BOUNDS: hwstacks.PROCEDURE, EXC_CHAIN_STACK_BOUNDS: hwstacks.CHAIN}


def happened(kernel: Kernel, trap: Trap) -> bool:
    """The wide instruction at pc raised an exception (``Core.trap_hook``)."""
    task, state = kernel.current, kernel.state
    assert task is not None
    stack = _STACKS.get(trap.exc)
    if stack is not None and hwstacks.is_full(state, stack):
        if not hwstacks.grow(state, kernel.process.map, stack):
            kernel.traps += 1
            kernel.signals.overflow(task, trap)
        return True
    kernel.traps += 1
    if kernel.signals.is_return(state.pc):
        kernel.signals.sigreturn(task)
        return True
    if state.pc == contexts.RETURN:
        _context_ended(kernel, task)
        return True
    signo, code = FAULTS.get(trap.exc, (SIGSEGV, SI_KERNEL))
    if trap.exc == EXC_FP:
        code = fp_code(state.S[FPSR], state.S[PFPFR])
    address = state.pc if trap.address is None else trap.address
    if signo == SIGSEGV and trap.address is not None and kernel.process.map.find(address) is not None:
        code = 2
    kernel.signals.force(task, SigInfo(signo, code, "fault", (address, trap.exc)), trap.detail, trap.exc)
    return True


def _context_ended(kernel: Kernel, task: Task) -> None:
    """The function of a context has returned: uc_link goes on, or the thread ends."""
    try:
        following = contexts.finish(kernel, task)
        if following is None:
            lifecycle.exit_task(kernel, task, 0)
        else:
            contexts.switch(kernel, task, following)
    except LinuxError:
        kernel.signals.force(task, SigInfo(SIGSEGV, SI_KERNEL, "fault", (0, 0)), "uc_link is no context")
    except NoReturn:
        kernel.interrupt_self()


def leave_handler(kernel: Kernel, task: Task) -> None:
    """rt_sigreturn as a system call, from inside of a handler."""
    for _ in range(HANDLER_DEPTH):
        try:
            kernel.state.pc = windows.leave(kernel.state, kernel.core.space)
        except Trap:
            break
        if kernel.signals.is_return(kernel.state.pc):
            kernel.signals.sigreturn(task)
            return
    kernel.signals.force(task, SigInfo(SIGSEGV, SI_KERNEL, "fault", (0, 0)), "sigreturn without a signal handler")
