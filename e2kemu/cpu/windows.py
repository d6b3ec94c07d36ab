"""Register windows, the procedure stack and the chain stack: call, return, spill and fill.

A call moves the window up by ``wbs`` quads; the caller's registers below stay in the file while there
is room. When more than 224 doubles would be live the oldest go to the procedure stack in guest
memory at PSP.base + PSP.ind, a quad (two registers with extensions) in 32 bytes:

    v1..v4   value0 value1 extension0 extension1
    v5..     value0 extension0 value1 extension1

and come back when a return needs them. Chain entries do the same with PCSP beyond 31 entries of 32
bytes. Memory of hardware has a tag for every double word; ours has none. A register with a tag has it in
its extension's double word: ``TAGGED`` in bits 63:20, the tag in 19:16, 15:0 of the extension (the rest
of it means nothing where the tag says that the value is none). So tags go wherever the memory goes: to
other CPUs and emulators, and what is stored there later has none.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Protocol

from e2kemu.cpu.isa.registers import BY_NAME, CHAIN_RESIDENT, SPARE_DOUBLES, WINDOW_DOUBLES
from e2kemu.cpu.isa.traps import EXC_CHAIN_STACK_BOUNDS, EXC_PROC_STACK_BOUNDS, EXC_WINDOW_BOUNDS
from e2kemu.cpu.state import (
    BR,
    CR0_HI,
    CR0_LO,
    CR1_HI,
    CR1_LO,
    CTPR1,
    CUIR,
    EMPTY_TAG,
    PCSP_HI,
    PCSP_LO,
    PSP_HI,
    PSP_LO,
    PSR,
    TR,
    USD_HI,
    USD_LO,
    WD,
    WINDOW_END,
    WINDOW_START,
    CpuState,
    Slot,
)

if TYPE_CHECKING:
    from e2kemu.cpu.mmu.faults import PageFault

TYPE_REGISTER_UNTIL = BY_NAME["tr"].until
"""Last instruction set with a type register."""

M48 = (1 << 48) - 1
_M32 = (1 << 32) - 1
_FILE_BYTES = WINDOW_DOUBLES * 8

MOST_LIVE = WINDOW_DOUBLES + SPARE_DOUBLES
"""Registers that can be live."""

TAGGED = 0xE2C_7A65_D1A6
"""Bits 63:20 of the extension's double word of a spilled register that has a tag."""

_BASE, _BOTTOM, _CHAIN = int(Slot.BASE), int(Slot.BOTTOM), int(Slot.CHAIN)
PSR_PM, PSR_SGE, PSR_LW = 1, 1 << 2, 1 << 3
"""PSR: privileged; the bounds of the hardware's stacks are guarded; the return from this frame (not from a callee)
traps."""

_FOUR_DIGITS = bytes(48 + (i & 3) for i in range(256))
_UNPACKED = [bytes((v & 3, v >> 2 & 3, v >> 4 & 3, v >> 6)) for v in range(256)]


class Trap(Exception):
    """A wide instruction raised exception ``exc`` (a bit number of ``isa.traps``); ``detail`` is for the log.

    ``address`` is that of the access or of the instruction, of a page that is missing or forbids it; ``fault`` says
    how its translation failed. ``tir`` is what TIR.hi says: the exceptions in 43:0, their channels in 49:44.
    """

    def __init__(self, exc: int, detail: str = "", address: int | None = None, tir: int = 0,
                 fault: PageFault | None = None) -> None:
        super().__init__(exc, detail)
        self.exc = exc
        self.detail = detail
        self.address = address
        self.tir = tir or 1 << exc
        self.fault = fault


class Memory(Protocol):
    """What spilling needs of an address space."""

    def read_bytes(self, address: int, size: int) -> bytes: ...
    def write_bytes(self, address: int, data: bytes) -> None: ...


def pack_predicates(state: CpuState) -> int:
    """The predicate file as in CR0.lo: two bits each."""
    return int(bytes(state.P)[::-1].translate(_FOUR_DIGITS), 4)


def unpack_predicates(state: CpuState, packed: int) -> None:
    """Set the predicate file from CR0.lo."""
    state.P[:] = b"".join([_UNPACKED[byte] for byte in packed.to_bytes(8, "little")])


# --- the window file ------------------------------------------------------------------------------------

def make_room(state: CpuState, memory: Memory, size: int) -> None:
    """Spill until a window of ``size`` doubles fits the hardware's file. Raises Trap as ``spill``; a trap handler has
    some room nevertheless."""
    excess = state.X[_BASE] + size - state.X[_BOTTOM] - WINDOW_DOUBLES
    if excess > 0:
        try:
            spill(state, memory, excess + 1 & ~1)
        except Trap:
            if excess > SPARE_DOUBLES or state.S[PSR] & (PSR_PM | PSR_SGE) != PSR_PM:
                raise


def spill(state: CpuState, memory: Memory, doubles: int) -> None:
    """Write the ``doubles`` (even) oldest registers to the procedure stack. Raises Trap: from memory, and beyond the
    end of the stack when PSR.sge guards it."""
    ind, limit = state.S[PSP_HI] & _M32, state.S[PSP_HI] >> 32
    if ind + 16 * doubles > limit and state.S[PSR] & PSR_SGE:
        raise Trap(EXC_PROC_STACK_BOUNDS, "procedure stack overflow")
    bottom = state.X[_BOTTOM]
    values, extensions = state.R[bottom : bottom + doubles].tolist(), state.E[bottom : bottom + doubles].tolist()
    tags = bytes(state.T[bottom : bottom + doubles])
    if any(tags):
        extensions = [TAGGED << 20 | tag << 16 | extension & 0xFFFF if tag else extension
                      for extension, tag in zip(extensions, tags, strict=True)]
    words = []
    for i in range(0, doubles, 2):
        if state.model.version >= 5:
            words += [values[i], extensions[i], values[i + 1], extensions[i + 1]]
        else:
            words += [values[i], values[i + 1], extensions[i], extensions[i + 1]]
    address = (state.S[PSP_LO] & M48) + ind
    memory.write_bytes(address, struct.pack(f"<{len(words)}Q", *words))
    state.X[_BOTTOM] = bottom + doubles
    state.S[PSP_HI] = limit << 32 | ind + 16 * doubles & _M32


def fill(state: CpuState, memory: Memory, doubles: int) -> None:
    """Read the ``doubles`` (even) registers below the oldest back from the procedure stack. Raises Trap."""
    ind, limit = state.S[PSP_HI] & _M32, state.S[PSP_HI] >> 32
    if ind < 16 * doubles:
        raise Trap(EXC_PROC_STACK_BOUNDS, "procedure stack underflow")
    if state.X[_BOTTOM] - doubles < WINDOW_START:
        _centre(state)
    bottom = state.X[_BOTTOM] - doubles
    ind -= 16 * doubles
    address = (state.S[PSP_LO] & M48) + ind
    data = memory.read_bytes(address, 16 * doubles)
    words = struct.unpack(f"<{2 * doubles}Q", data)
    for i in range(0, doubles, 2):
        a, b, c, d = words[2 * i : 2 * i + 4]
        if state.model.version >= 5:
            b, c = c, b
        state.R[bottom + i], state.R[bottom + i + 1] = a, b
        for at, extension in (bottom + i, c), (bottom + i + 1, d):
            tagged = extension >> 20 == TAGGED
            state.E[at], state.T[at] = (extension & 0xFFFF, extension >> 16 & 15) if tagged else (extension, 0)
    state.X[_BOTTOM] = bottom
    state.S[PSP_HI] = limit << 32 | ind


def _centre(state: CpuState) -> None:
    """Move the live registers to the middle of the linear file."""
    bound(state)
    bottom, base = state.X[_BOTTOM], state.X[_BASE]
    live = min(base - bottom + WINDOW_DOUBLES, WINDOW_END - bottom)
    target = (WINDOW_START + WINDOW_END) // 2
    for view in (state.R, state.E, state.T):
        moved = bytes(view[bottom : bottom + live])
        view[target : target + live] = memoryview(moved).cast(view.format) if view.itemsize == 8 else moved  # type: ignore[call-overload]
    state.X[_BOTTOM] = target
    state.X[_BASE] = target + base - bottom


def bound(state: CpuState) -> None:
    """No more registers are live than there can be: privileged code that returns through frames it has made up may have
    more; it loses the oldest."""
    x = state.X
    excess = x[_BASE] + state.window_size - x[_BOTTOM] - MOST_LIVE
    if excess > 0:
        x[_BOTTOM] += min(excess + 1 & ~1, x[_BASE] - x[_BOTTOM])


def enter_empty(state: CpuState, old: int, new: int) -> None:
    """Registers ``old`` up to ``new`` of the window enter it: empty."""
    base, count = state.X[_BASE], new - old
    if count > 0:
        state.R[base + old : base + new] = _ZEROS[:count]
        state.E[base + old : base + new] = _ZEROS[:count]
        state.T[base + old : base + new] = _EMPTY[:count]


_ZEROS = memoryview(bytes(8 * WINDOW_DOUBLES)).cast("Q")
_EMPTY = memoryview(bytes([EMPTY_TAG]) * WINDOW_DOUBLES)


def keep_windows(state: CpuState, doubles: int) -> bool:
    """PSHTP was written: of the registers under the window the ``doubles`` (even) youngest remain; False when there
    are not so many."""
    if doubles > state.X[_BASE] - state.X[_BOTTOM]:
        return False
    state.X[_BOTTOM] = state.X[_BASE] - doubles
    return True


# --- the chain ------------------------------------------------------------------------------------------

def spill_chain(state: CpuState, memory: Memory, entries: int) -> None:
    """Write the ``entries`` oldest chain entries to the chain stack. Raises Trap as ``spill``."""
    ind, limit = state.S[PCSP_HI] & _M32, state.S[PCSP_HI] >> 32
    if ind + 32 * entries > limit and state.S[PSR] & PSR_SGE:
        raise Trap(EXC_CHAIN_STACK_BOUNDS, "chain stack overflow")
    words = state.C[: 4 * entries].tolist()
    memory.write_bytes((state.S[PCSP_LO] & M48) + ind, struct.pack(f"<{len(words)}Q", *words))
    count = state.X[_CHAIN]
    rest = state.C[4 * entries : 4 * count].tolist()
    for i, word in enumerate(rest):
        state.C[i] = word
    state.X[_CHAIN] = count - entries
    state.S[PCSP_HI] = limit << 32 | ind + 32 * entries & _M32


def keep_chain(state: CpuState, entries: int) -> bool:
    """PCSHTP was written: of the chain entries in registers the ``entries`` youngest remain; False when there are
    not so many."""
    count = state.X[_CHAIN]
    if entries > count:
        return False
    for i, word in enumerate(state.C[4 * (count - entries) : 4 * count].tolist()):
        state.C[i] = word
    state.X[_CHAIN] = entries
    return True


def push_chain(state: CpuState, memory: Memory, resident: int = CHAIN_RESIDENT) -> None:
    """CR0 and CR1 go to the chain, its oldest entries to memory if more than ``resident`` would stay in registers.
    Raises Trap."""
    count = state.X[_CHAIN]
    if count >= resident:
        spill_chain(state, memory, 16)
        count = state.X[_CHAIN]
    at, s, c = 4 * count, state.S, state.C
    c[at], c[at + 1], c[at + 2], c[at + 3] = s[CR0_LO], s[CR0_HI], s[CR1_LO], s[CR1_HI]
    state.X[_CHAIN] = count + 1


def need_chain(state: CpuState, memory: Memory) -> None:
    """Have the entry that a return brings back into CR0 and CR1, filled from memory if need be. Raises Trap."""
    if not state.X[_CHAIN]:
        ind, limit = state.S[PCSP_HI] & _M32, state.S[PCSP_HI] >> 32
        if ind < 32:
            raise Trap(EXC_CHAIN_STACK_BOUNDS, "chain stack underflow")
        ind -= 32
        data = memory.read_bytes((state.S[PCSP_LO] & M48) + ind, 32)
        for i, word in enumerate(struct.unpack("<4Q", data)):
            state.C[i] = word
        state.X[_CHAIN] = 1
        state.S[PCSP_HI] = limit << 32 | ind


# --- call and return ------------------------------------------------------------------------------------

def enter(state: CpuState, memory: Memory, wbs: int, return_ip: int, *, new_size: int | None = None,
          resident: int = CHAIN_RESIDENT) -> None:
    """Push a frame: the callee's %r0 is the caller's %r(2*wbs).

    ``new_size`` (doubles) is that of the callee's window when it is not what the caller leaves (traps); ``resident``
    chain entries may be in registers afterwards.
    Raises Trap (window bounds, stack bounds) before anything changed.
    """
    s, x = state.S, state.X
    wd = s[WD]
    size, psize = (wd >> 16 & 0x7FF) >> 3, (wd >> 32 & 0x7FF) >> 3
    left = size - 2 * wbs
    if left < 0:
        raise Trap(EXC_WINDOW_BOUNDS, f"wbs {wbs} is beyond the window")
    if new_size is not None:
        left = new_size
    push_chain(state, memory, resident)
    psr = s[PSR]
    s[PSR] = psr & ~PSR_LW
    usd_size = s[USD_HI] >> 32
    s[CR0_LO] = pack_predicates(state)
    s[CR0_HI] = return_ip
    s[CR1_LO] = (psr & 0x7F) << 57 | (s[CUIR] & 0x1FFFF) << 40 | wbs << 33 | (psize >> 1) << 26 | (wd >> 48 & 1) << 25
    if state.model.version <= TYPE_REGISTER_UNTIL:
        s[CR1_LO] |= s[TR] & 0x7FFF
    s[CR1_HI] = (usd_size >> 4) << 36 | (wd >> 49 & 1) << 35 | s[BR] & 0xFFFFFFF
    base = ((wd & 0x7FF) + 16 * wbs) % _FILE_BYTES
    s[WD] = 1 << 48 | left << 35 | left << 19 | base
    x[_BASE] += 2 * wbs
    if x[_BASE] + WINDOW_DOUBLES > WINDOW_END:
        _centre(state)
    s[CTPR1] = s[CTPR1 + 1] = s[CTPR1 + 2] = 0


def leave(state: CpuState, memory: Memory) -> int:
    """Pop a frame; returns CR0.hi's address. Raises Trap before anything visible changed."""
    s, x = state.S, state.X
    cr1_lo, cr1_hi, ip, predicates = s[CR1_LO], s[CR1_HI], s[CR0_HI], s[CR0_LO]
    wbs, wpsz = cr1_lo >> 33 & 0x7F, cr1_lo >> 26 & 0x7F
    need_chain(state, memory)
    below = x[_BOTTOM] - (x[_BASE] - 2 * wbs)
    if below > 0:
        fill(state, memory, below)
    wd = s[WD]
    size = (wd >> 32 & 0x7FF) + 16 * wbs
    base = ((wd & 0x7FF) - 16 * wbs) % _FILE_BYTES
    s[WD] = (cr1_hi >> 35 & 1) << 49 | (cr1_lo >> 25 & 1) << 48 | wpsz << 36 | size << 16 | base
    x[_BASE] -= 2 * wbs
    s[BR] = cr1_hi & 0xFFFFFFF
    s[PSR] = cr1_lo >> 57
    s[CUIR] = cr1_lo >> 40 & 0x1FFFF
    if state.model.version <= TYPE_REGISTER_UNTIL:
        s[TR] = cr1_lo & 0x7FFF
    usd_size = (cr1_hi >> 36) << 4
    freed = usd_size - (s[USD_HI] >> 32)
    s[USD_LO] = s[USD_LO] & ~M48 | s[USD_LO] + freed & M48
    s[USD_HI] = usd_size << 32 | s[USD_HI] & _M32
    unpack_predicates(state, predicates)
    x[_CHAIN] -= 1
    s[CR0_LO], s[CR0_HI], s[CR1_LO], s[CR1_HI] = state.C[4 * x[_CHAIN] : 4 * x[_CHAIN] + 4].tolist()
    s[CTPR1] = s[CTPR1 + 1] = s[CTPR1 + 2] = 0
    return ip & M48
