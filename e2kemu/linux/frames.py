"""Signal frames: what a handler finds on the three stacks, and the way back.

The interrupted window is left as by a trap: a frame of the whole window is pushed. Then the signal frame goes to
the user stack, and a second frame is pushed whose return address is ``RETURN``: an address of the kernel, where
nothing can be executed. When the handler returns there the CPU traps, and the kernel takes both frames off.

    +0      struct siginfo        128 bytes
    +128    struct ucontext       flags, link, stack, sigcontext, mask (128 bytes), extra
    behind  what else comes back: LSR, ILCR, %g16..31 with extensions and tags, the array access unit

The layout of ucontext is that of Linux for e2k (uapi/asm/ucontext.h, sigcontext.h); pointers have the
program's size.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache

from e2kemu.cpu import arrays, windows
from e2kemu.cpu.isa.registers import BY_NAME
from e2kemu.cpu.state import (
    CR0_HI,
    CR0_LO,
    CR1_HI,
    CR1_LO,
    CTPR1,
    ILCR,
    LSR,
    PCSP_HI,
    PCSP_LO,
    PSP_HI,
    PSP_LO,
    SBR,
    UPSR,
    USD_HI,
    USD_LO,
    CpuState,
    Slot,
)
from e2kemu.linux import siginfo
from e2kemu.linux.memory import Memory

RETURN = 0xE200_0001_5800
"""Where a handler returns to."""

HANDLER_WINDOW = 8
"""Doubles of a handler's first window: the argument registers."""

_TIRS, _CELLS, _DAM, _SBBP, _MLT = 19, 10, 32, 32, 48
_GLOBALS = range(16, 32)
_FPCR, _FPSR, _PFPFR = (BY_NAME[name].number for name in ("fpcr", "fpsr", "pfpfr"))
_SAVED_AT_CALL = (CR0_LO, CR0_HI, CR1_LO, CR1_HI, SBR, USD_LO, USD_HI, PSP_LO, PSP_HI, PCSP_LO, PCSP_HI)


@dataclass(frozen=True, slots=True)
class Layout:
    """Offsets in a signal frame of a program with ``pointer_size`` bytes a pointer."""

    stack: int
    context: int
    mask: int
    extra: int
    own: int
    size: int


@cache
def layout(pointer_size: int) -> Layout:
    """The frame of a 64- or 32-bit program."""
    stack = siginfo.SIZE + 2 * pointer_size
    context = stack + (24 if pointer_size == 8 else 12) + 7 & ~7
    cells = 8 * _CELLS
    context_size = 8 * (14 + 2 * _TIRS) + 2 * cells + 16 + cells + 8 * (_DAM + _SBBP + _MLT) + 8
    mask = context + context_size
    extra = mask + 128
    own = extra + 24 + 24 + 8
    return Layout(stack, context, mask, extra, own, own + 16 + len(_GLOBALS) * 17 + 8 * len(arrays.RESET) + 15 & ~15)


@dataclass(frozen=True, slots=True)
class Frame:
    """What goes into a frame beside the registers."""

    info: siginfo.SigInfo
    mask: int
    stack: tuple[int, int, int]
    """sigaltstack as it was: sp, flags, size."""


def push_interrupted(state: CpuState, memory: windows.Memory) -> None:
    """Put the whole window aside, as a trap does. Raises Trap when a hardware stack is full."""
    windows.enter(state, memory, (state.window_size + 1) // 2, state.pc, new_size=0)


def image(state: CpuState, ctprs: list[int], frame: Frame, pointer_size: int) -> bytes:
    """The bytes of a signal frame; the window has been put aside. ``ctprs`` as they were."""
    at = layout(pointer_size)
    data = bytearray(at.size)
    s = state.S
    data[: siginfo.SIZE] = frame.info.pack(pointer_size)
    sp, flags, size = frame.stack
    if pointer_size == 8:
        struct.pack_into("<QiiQ", data, at.stack, sp, flags, 0, size)
    else:
        struct.pack_into("<IiI", data, at.stack, sp & 0xFFFFFFFF, flags, size & 0xFFFFFFFF)
    struct.pack_into("<11Q", data, at.context, *(s[number] for number in _SAVED_AT_CALL))
    struct.pack_into("<Q", data, at.mask - 8, s[UPSR])
    struct.pack_into("<Q", data, at.mask, frame.mask)
    struct.pack_into("<6i", data, at.extra, 56, -1, 0, s[_FPCR] & 0x7FFFFFFF, s[_FPSR] & 0x7FFFFFFF,
                     s[_PFPFR] & 0x7FFFFFFF)
    struct.pack_into("<3Q", data, at.extra + 24, *ctprs)
    struct.pack_into("<QQ", data, at.own, s[LSR], s[ILCR])
    values = [word for g in _GLOBALS for word in (state.R[g], state.E[g])]
    struct.pack_into(f"<{len(values)}Q", data, at.own + 16, *values)
    end = at.own + 16 + 8 * len(values)
    data[end : end + 16] = bytes(state.T[16:32])
    data[end + 16 : end + 16 + 8 * len(state.A)] = bytes(state.A)
    return bytes(data)


def enter_handler(state: CpuState, memory: windows.Memory, handler: int, arguments: tuple[int, int, int]) -> None:
    """Begin a handler: its window holds the three arguments, it returns to ``RETURN``. Raises Trap."""
    windows.make_room(state, memory, HANDLER_WINDOW)
    windows.enter(state, memory, 0, RETURN, new_size=HANDLER_WINDOW)
    windows.enter_empty(state, 0, HANDLER_WINDOW)
    base = state.X[Slot.BASE]
    for index, value in enumerate(arguments):
        state.R[base + index], state.T[base + index] = value, 0
    state.pc = handler


def interrupted_stack(memory: Memory, sp: int) -> tuple[int, int, int]:
    """SBR, USD.lo and USD.hi of what the signal with the frame at ``sp`` has interrupted. Raises LinuxError."""
    words = memory.unpack("11Q", sp + layout(memory.pointer_size).context)
    return words[4], words[5], words[6]


def take_off(state: CpuState, memory: windows.Memory, data: bytes, pointer_size: int) -> int:
    """Undo ``push_interrupted`` with what the frame's bytes say; the signal mask to restore. Raises Trap."""
    at = layout(pointer_size)
    s = state.S
    words = struct.unpack_from("<11Q", data, at.context)
    s[CR0_HI] = words[1] & ~7              # a handler may have chosen where to go on; the register has no lower bits
    state.pc = windows.leave(state, memory)
    s[SBR], s[USD_LO], s[USD_HI] = words[4:7]
    ctprs = struct.unpack_from("<3Q", data, at.extra + 24)
    s[CTPR1], s[CTPR1 + 1], s[CTPR1 + 2] = ctprs
    s[LSR], s[ILCR] = struct.unpack_from("<QQ", data, at.own)
    values = struct.unpack_from(f"<{2 * len(_GLOBALS)}Q", data, at.own + 16)
    tags = data[at.own + 16 + 8 * len(values) : at.own + 16 + 8 * len(values) + 16]
    for index, g in enumerate(_GLOBALS):
        state.R[g], state.E[g], state.T[g] = values[2 * index], values[2 * index + 1], tags[index] & 15
    units = data[at.own + 16 + 8 * len(values) + 16 :][: 8 * len(state.A)]
    state.A[:] = memoryview(units).cast("Q")
    mask: int = struct.unpack_from("<Q", data, at.mask)[0]
    return mask
