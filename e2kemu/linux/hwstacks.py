"""A task's stacks: the procedure and the chain stack in memory that no program may touch, and the user stack.

The hardware stacks begin small and double when the CPU reports that one is full (exc_proc_stack_bounds,
exc_chain_stack_bounds): a larger area is mapped, the contents are moved, PSP or PCSP points there. Nothing
but these registers knows where they are.
"""

from __future__ import annotations

import struct

from e2kemu.cpu import windows
from e2kemu.cpu.isa.registers import CHAIN_RESIDENT, WINDOW_DOUBLES
from e2kemu.cpu.state import (
    CR0_HI,
    CR0_LO,
    CR1_HI,
    CR1_LO,
    PCSP_HI,
    PCSP_LO,
    PSP_HI,
    PSP_LO,
    SBR,
    USD_HI,
    USD_LO,
    CpuState,
    Slot,
)
from e2kemu.cpu.windows import M48, Memory
from e2kemu.linux.mapping import PAGE_MASK, AddressMap, Area

PROCEDURE, CHAIN = "[procedure stack]", "[chain stack]"
FIRST_SIZE = {PROCEDURE: 0x10000, CHAIN: 0x4000}
LARGEST = {PROCEDURE: 16 << 20, CHAIN: 8 << 20}
"""Bytes: where growing ends (as RLIMIT_STACK does on hardware)."""

_REGISTERS = {PROCEDURE: (PSP_LO, PSP_HI), CHAIN: (PCSP_LO, PCSP_HI)}
_READ_WRITE = 3 << 59
_BASE, _BOTTOM, _CHAIN = int(Slot.BASE), int(Slot.BOTTOM), int(Slot.CHAIN)


def make(state: CpuState, areas: AddressMap) -> bool:
    """Map fresh hardware stacks and point the registers at them; False when there is no room."""
    for name, (low, high) in _REGISTERS.items():
        base = _map(areas, name, FIRST_SIZE[name])
        if base is None:
            return False
        state.S[low], state.S[high] = _READ_WRITE | base, FIRST_SIZE[name] << 32
    return True


def _map(areas: AddressMap, name: str, size: int) -> int | None:
    base = areas.find_free(size)
    if base is not None:
        areas.map(Area(base, base + size, 0, name, private=True))
    return base


def drop(state: CpuState, areas: AddressMap) -> None:
    """Unmap a task's hardware stacks."""
    for low, high in _REGISTERS.values():
        base, size = state.S[low] & M48, state.S[high] >> 32
        if size:
            areas.unmap(base, base + size)


def is_full(state: CpuState, name: str) -> bool:
    """Whether a bounds trap of this stack means that it is full (and not that it is empty)."""
    high = state.S[_REGISTERS[name][1]]
    largest_spill = 16 * WINDOW_DOUBLES if name == PROCEDURE else 32 * (CHAIN_RESIDENT + 1)
    return (high >> 32) - (high & 0xFFFFFFFF) < largest_spill


def grow(state: CpuState, areas: AddressMap, name: str) -> bool:
    """Make a stack twice as large; False when it may not, or there is no room."""
    low, high = _REGISTERS[name]
    base, size, used = state.S[low] & M48, state.S[high] >> 32, state.S[high] & 0xFFFFFFFF
    if 2 * size > LARGEST[name]:
        return False
    new = _map(areas, name, 2 * size)
    if new is None:
        return False
    areas.store(new, areas.load(base, used))
    areas.unmap(base, base + size)
    state.S[low] = state.S[low] & ~M48 | new
    state.S[high] = 2 * size << 32 | used
    return True


def set_user_stack(state: CpuState, top: int, sp: int, bottom: int) -> None:
    """The user stack lies from ``bottom`` to ``top``; the stack pointer is ``sp``."""
    state.S[SBR] = top
    state.S[USD_LO] = 0x18 << 56 | sp
    state.S[USD_HI] = max(sp - bottom, 0) << 32


def stack_pointer(state: CpuState) -> int:
    """The present stack pointer."""
    return state.S[USD_LO] & M48


def stack_bottom(areas: AddressMap, sp: int) -> int:
    """Where the memory that holds the bytes below ``sp`` begins."""
    area = areas.find(sp - 1 & ~PAGE_MASK)
    return area.start if area is not None else sp


def forget_frames(state: CpuState) -> None:
    """Leave a new thread only its own window: what is below belongs to its creator."""
    state.X[_BOTTOM] = state.X[_BASE]
    state.X[_CHAIN] = 0


def flush(state: CpuState, memory: Memory) -> None:
    """Everything of the callers goes to the stacks in memory. Raises Trap when one is full."""
    live = state.X[_BASE] - state.X[_BOTTOM]
    if live > 0:
        windows.spill(state, memory, live)
    if state.X[_CHAIN]:
        windows.spill_chain(state, memory, state.X[_CHAIN])


def chain(state: CpuState, areas: AddressMap) -> list[tuple[int, int, int, int]]:
    """(CR0.lo, CR0.hi, CR1.lo, CR1.hi) of every caller, the innermost first; does not change anything."""
    s = state.S
    entries = [(s[CR0_LO], s[CR0_HI], s[CR1_LO], s[CR1_HI])]
    for index in range(state.X[_CHAIN] - 1, -1, -1):
        words = state.C[4 * index : 4 * index + 4].tolist()
        entries.append((words[0], words[1], words[2], words[3]))
    base, ind = s[PCSP_LO] & M48, s[PCSP_HI] & 0xFFFFFFFF
    for at in range(base + ind - 32, base - 1, -32):
        data = areas.load(at, 32)
        if len(data) < 32 or len(entries) > 10_000:
            break
        entries.append(struct.unpack("<4Q", data))
    return entries
