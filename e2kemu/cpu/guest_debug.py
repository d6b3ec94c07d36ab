"""What a guest debugs itself with: instruction breakpoints, single steps; data breakpoints are ``mmu.debug``.

DIBAR0..3 are addresses, DIBCR has two bits for each: on, and that it traps. DIBSR says what was met: a bit for each,
and bit 7 for a single step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from e2kemu.cpu.isa.registers import BY_NAME
from e2kemu.cpu.isa.traps import EXC_DATA_DEBUG, EXC_INSTR_DEBUG
from e2kemu.cpu.mmu import debug
from e2kemu.cpu.state import CpuState, Slot
from e2kemu.cpu.windows import Trap

if TYPE_CHECKING:
    from e2kemu.cpu.core import Core

DIBCR, DIBSR, DIBAR0 = (BY_NAME[name].number for name in ("dibcr", "dibsr", "dibar0"))
ANY_BREAKPOINT = 0x55
"""Bits of DIBCR that switch breakpoints on."""

_SINGLE_STEP = 1 << 7


def stepped(state: CpuState) -> Trap:
    """The single step is over: the trap that comes behind it."""
    state.X[Slot.STEPPING] = 0
    state.S[DIBSR] |= _SINGLE_STEP
    return Trap(EXC_INSTR_DEBUG)


def breaks(state: CpuState, pc: int) -> bool:
    """Whether there is a breakpoint at ``pc`` that traps."""
    s = state.S
    control, found = s[DIBCR], 0
    for number in range(4):
        if control >> 2 * number & 1 and s[DIBAR0 + number] == pc:
            s[DIBSR] |= 1 << number
            found |= control >> 2 * number + 1 & 1
    return bool(found)


def met(core: Core) -> Trap | None:
    """The trap for the data breakpoints that accesses have met, None when those do not trap."""
    program, speculative = core.break_hits
    core.break_hits = [0, 0]
    return Trap(EXC_DATA_DEBUG) if debug.met(core.mmu, program, speculative) else None
