"""Data breakpoints: the debug registers of the MMU.

Four of them: addresses in %ddbar0..3, control in %ddbcr (14 bits each), what was met in %ddbsr (12 bits each):

    control   enable 0, secondary space 1, stores 2, loads 3, size 6:4 (1: 1 byte .. 5: 16 bytes), accesses that count:
              of the program 7, speculative ones 8, of the array unit 9, of the hardware stacks 10, of tables 11;
              trap 12
    status    by an access of the program 0, by a speculative one 1, by others 7:2

Accesses of the array unit, the hardware stacks and of tables are not looked at. The trap, exc_data_debug, comes behind
the wide instruction. Source: Linux for e2k (layout, and how it sets one).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from e2kemu.cpu.rights import READ, WRITE

if TYPE_CHECKING:
    from e2kemu.cpu.mmu.unit import Mmu

COUNT = 4
MAS = 0x6F
CONTROL, STATUS = 0x87, 0xA7
ADDRESSES = (0x07, 0x27, 0x47, 0x67)
REGISTERS = frozenset((CONTROL, *ADDRESSES))
"""Those whose change changes what is watched."""

_CONTROL_BITS, _STATUS_BITS = 14, 12
_ENABLE, _SECONDARY, _STORES, _LOADS, _PROGRAM, _SPECULATIVE, _TRAP = (1 << bit for bit in (0, 1, 2, 3, 7, 8, 12))


def breakpoints(mmu: Mmu) -> list[tuple[int, int, int] | None]:
    """(address, size, READ and WRITE) of each data breakpoint, None where there is none."""
    found: list[tuple[int, int, int] | None] = []
    for number, register in enumerate(ADDRESSES):
        control = mmu.values[MAS, CONTROL] >> _CONTROL_BITS * number
        size = control >> 4 & 7
        kinds = (WRITE if control & _STORES else 0) | (READ if control & _LOADS else 0)
        there = control & _ENABLE and not control & _SECONDARY and kinds and 1 <= size <= 5
        found.append((mmu.values[MAS, register], 1 << size - 1, kinds) if there else None)
    return found


def met(mmu: Mmu, program: int, speculative: int) -> bool:
    """Breakpoints (a bit each) that accesses of the program and speculative ones have met: note them in %ddbsr. Whether
    a trap shall come."""
    trap = False
    for number in range(COUNT):
        control = mmu.values[MAS, CONTROL] >> _CONTROL_BITS * number
        counted = bool(program >> number & 1 and control & _PROGRAM)
        counted_speculative = bool(speculative >> number & 1 and control & _SPECULATIVE)
        mmu.values[MAS, STATUS] |= (counted | counted_speculative << 1) << _STATUS_BITS * number
        trap |= bool((counted or counted_speculative) and control & _TRAP)
    return trap
