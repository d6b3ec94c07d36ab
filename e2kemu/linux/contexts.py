"""ucontext on e2k: the kernel keeps the registers of contexts, because no program can switch hardware stacks.

A context is known by its key, the top of its user stack (SBR), which ``struct ucontext`` has where nr_TIRs is. What
a context that does not run has in registers is kept here, as the state it had in its last call; switching to it
unwinds it to the frame that ``ucontext`` describes (it may have been filled earlier) and returns from that frame. A
fresh context (makecontext) starts at its helper, which returns to ``RETURN``: then uc_link says what goes on.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from e2kemu.cpu import windows
from e2kemu.cpu.isa.registers import BY_NAME
from e2kemu.cpu.state import (
    CR0_HI,
    CR0_LO,
    CR1_HI,
    CR1_LO,
    PCSP_HI,
    PCSP_LO,
    PSP_HI,
    PSP_LO,
    PSR,
    SBR,
    USD_HI,
    USD_LO,
    WD,
    CpuState,
    Slot,
)
from e2kemu.cpu.windows import M48, Trap
from e2kemu.linux import frames, hwstacks
from e2kemu.linux.error import LinuxError, NoReturn
from e2kemu.linux.siginfo import SIZE as INFO_SIZE
from e2kemu.linux.siginfo import UNMASKABLE

if TYPE_CHECKING:
    from e2kemu.linux.kernel import Kernel
    from e2kemu.linux.task import Task

RETURN = 0xE200_0001_5A00
"""Where the helper of a context returns to."""

ENTRY = 32
"""Bytes of a chain entry."""
STACK_ALIGN = 256
ARGUMENT_REGISTERS = 8
_CALLER_PSR = 1 << 1 | 1 << 2 | 1 << 5
_FP = tuple(BY_NAME[name].number for name in ("fpcr", "fpsr", "pfpfr"))
_FRESH_FP = (0x33F, 0x3F, 0x1FBF)
_WORDS = (CR0_LO, CR0_HI, CR1_LO, CR1_HI, SBR, USD_LO, USD_HI, PSP_LO, PSP_HI, PCSP_LO, PCSP_HI)
_KEY_WORD = 13


@dataclass(slots=True)
class Context:
    """A context that does not run. ``link``: guest address of its uc_link, 0 for one that makecontext did not make."""

    state: NDArray[np.uint8]
    link: int = 0
    fresh: bool = False


def depth(state: CpuState) -> int:
    """Bytes of chain entries below the present frame."""
    return (state.S[PCSP_HI] & 0xFFFFFFFF) + ENTRY * state.X[Slot.CHAIN]


def fill(kernel: Kernel, task: Task, ucp: int) -> None:
    """Write the present context, as it is for the caller of the function that made the call."""
    state, memory = kernel.state, task.memory
    at = frames.layout(memory.pointer_size)
    words = [state.S[number] for number in _WORDS]
    words[-1] = words[-1] >> 32 << 32 | depth(state)
    memory.write(ucp + at.context - INFO_SIZE, struct.pack("<11Q", *words))
    memory.write_u64(ucp + at.context - INFO_SIZE + 8 * _KEY_WORD, state.S[SBR])
    memory.write_u64(ucp + at.mask - INFO_SIZE, task.mask)
    for index, number in enumerate(_FP):
        memory.write_u32(ucp + at.extra - INFO_SIZE + 12 + 4 * index, state.S[number])


def make(kernel: Kernel, task: Task, ucp: int, helper: int, size: int, arguments: int) -> None:
    """makecontext: registers that start at ``helper`` with ``size`` bytes of arguments. Raises LinuxError."""
    memory, areas = task.memory, task.process.map
    at = frames.layout(memory.pointer_size)
    fields = memory.unpack("QiiQ" if memory.pointer_size == 8 else "IiI", ucp + at.stack - INFO_SIZE)
    bottom = fields[0] + STACK_ALIGN - 1 & -STACK_ALIGN
    top = fields[0] + fields[-1] & -STACK_ALIGN
    frame = size + 15 & ~15
    if size < 32 or size & 7 or bottom + frame > top:
        raise LinuxError(errno.EINVAL)
    if not areas.writable(bottom, top - bottom):
        raise LinuxError(errno.EFAULT)
    given = memory.read(arguments, size)
    state = CpuState(kernel.cpu.model)
    old = kernel.contexts.pop(top, None)
    if old is not None:
        state.buffer[:] = old.state
        hwstacks.drop(state, areas)
        state.reset()
    if not hwstacks.make(state, areas):
        raise LinuxError(errno.ENOMEM)
    sp = top - frame
    memory.write(sp + 64, given[64:])
    hwstacks.set_user_stack(state, top, sp, bottom)
    s = state.S
    s[PSR] = _CALLER_PSR
    s[WD] = 1 << 48 | ARGUMENT_REGISTERS * 8 << 32 | ARGUMENT_REGISTERS * 8 << 16
    s[CR0_HI], s[CR1_LO], s[CR1_HI] = RETURN, _CALLER_PSR << 57, (sp - bottom >> 4) << 36
    state.X[Slot.CHAIN] = 1                # an entry to return with
    base = state.X[Slot.BASE]
    registers = struct.unpack(f"<{min(size, 64) // 8}Q", given[:64])
    for index in range(ARGUMENT_REGISTERS):
        state.R[base + index] = registers[index] if index < len(registers) else 0
    state.pc = helper & M48 & ~7
    words = [s[number] for number in _WORDS]
    memory.write(ucp + at.context - INFO_SIZE, struct.pack("<11Q", *words))
    memory.write_u64(ucp + at.context - INFO_SIZE + 8 * _KEY_WORD, top)
    memory.write_u64(ucp + at.mask - INFO_SIZE, 0)
    for index, value in enumerate(_FRESH_FP):
        memory.write_u32(ucp + at.extra - INFO_SIZE + 12 + 4 * index, value)
    kernel.contexts[top] = Context(state.buffer, ucp + memory.pointer_size, True)


def switch(kernel: Kernel, task: Task, ucp: int) -> None:
    """Go on with the context that ``ucp`` describes. Raises LinuxError, or NoReturn when it is done."""
    state, memory = kernel.state, task.memory
    at = frames.layout(memory.pointer_size)
    words = struct.unpack("<11Q", memory.read(ucp + at.context - INFO_SIZE, 88))
    key = memory.u64(ucp + at.context - INFO_SIZE + 8 * _KEY_WORD)
    mask = memory.u64(ucp + at.mask - INFO_SIZE)
    present = state.S[SBR]
    before = state.buffer.copy()
    if key != present:
        target = kernel.contexts.get(key)
        if target is None:
            raise LinuxError(errno.ESRCH)
        state.buffer[:] = target.state
    else:
        target = Context(before)
    if not target.fresh:
        wanted = words[-1] & 0xFFFFFFFF
        now = depth(state)
        try:
            if wanted > now or (now - wanted) % ENTRY or wanted < ENTRY:
                raise LinuxError(errno.EINVAL)
            for _ in range((now - wanted) // ENTRY):
                windows.leave(state, kernel.core.space)
            state.S[CR0_HI], state.S[CR1_HI] = words[1], words[3]
            state.pc = windows.leave(state, kernel.core.space)
        except (LinuxError, Trap) as error:
            state.buffer[:] = before
            raise LinuxError(errno.EINVAL) from error
        kernel.give(words[2] >> 33 & 0x7F, 0)
    if key != present:
        link = kernel.links.get(present, 0)
        kernel.contexts[present] = Context(before, link)
        kernel.links[key] = target.link
        del kernel.contexts[key]
    task.mask = mask & ~UNMASKABLE
    for index, number in enumerate(_FP):
        state.S[number] = memory.u32(ucp + at.extra - INFO_SIZE + 12 + 4 * index)
    raise NoReturn


def finish(kernel: Kernel, task: Task) -> int | None:
    """The function of a context has returned: the context behind it (address of its ucontext), None: there is none."""
    link = kernel.links.get(kernel.state.S[SBR], 0)
    if not link:
        return None
    return task.memory.pointer(link) or None


def free(kernel: Kernel, task: Task, ucp: int) -> None:
    """freecontext. Raises LinuxError."""
    at = frames.layout(task.memory.pointer_size)
    key = task.memory.u64(ucp + at.context - INFO_SIZE + 8 * _KEY_WORD)
    context = kernel.contexts.pop(key, None)
    if context is None:
        raise LinuxError(errno.ENOENT)
    state = CpuState(kernel.cpu.model)
    state.buffer[:] = context.state
    hwstacks.drop(state, task.process.map)
