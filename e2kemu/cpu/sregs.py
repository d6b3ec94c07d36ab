"""State registers beyond plain slots: what reading derives, what writing does besides storing."""

from __future__ import annotations

from e2kemu import trace
from e2kemu.cpu import windows
from e2kemu.cpu.isa.registers import BY_NAME, BY_NUMBER, WINDOW_DOUBLES
from e2kemu.cpu.state import BR, ILCR, LSR, TIR_HI, TIR_LO, WD, CpuState, Slot

CWD, PSHTP, PCSHTP, IP, NIP, CLKR, SCLKR, WD_NUMBER = (
    BY_NAME[name].number for name in ("cwd", "pshtp", "pcshtp", "ip", "nip", "clkr", "sclkr", "wd"))


TIR_LO_READ = 0x100
"""No register: what is "written" at the end of a wide instruction that has read %tir.lo."""


def set_tirs(state: CpuState, *tirs: tuple[int, int]) -> None:
    """What %tir has from now on: (hi, lo) of TIR 0, and perhaps of TIR 1, which is read first."""
    state.X[Slot.TIRS] = len(tirs) - 1
    if len(tirs) > 1:
        state.X[Slot.TIR_HI], state.X[Slot.TIR_LO] = tirs[0]
    hi, lo = tirs[-1]
    state.S[TIR_HI], state.S[TIR_LO] = hi | len(tirs) - 1 << TIR_NUMBER, lo


def next_tir(state: CpuState) -> None:
    """%tir.lo was read: %tir is the next TIR, or 0."""
    if state.X[Slot.TIRS]:
        state.X[Slot.TIRS] = 0
        state.S[TIR_HI], state.S[TIR_LO] = state.X[Slot.TIR_HI], state.X[Slot.TIR_LO]
    else:
        state.S[TIR_HI] = state.S[TIR_LO] = 0


TIR_NUMBER = 56
"""Where TIR.hi has the number of the TIR."""


def derived(state: CpuState, number: int) -> int | None:
    """The value of a register that follows from other state, None for a stored one."""
    x = state.X
    if number == PSHTP:
        return (x[Slot.BASE] - x[Slot.BOTTOM]) * 8
    if number == PCSHTP:
        return x[Slot.CHAIN] * 32
    if number == CWD:
        return (WINDOW_DOUBLES - (x[Slot.BASE] - x[Slot.BOTTOM]) - state.window_size) // 2 & 0x3FF
    if number in (IP, NIP):
        return x[Slot.PC]
    if number in (CLKR, SCLKR):
        return 0
    return None


def write(state: CpuState, number: int, value: int) -> None:
    """Write a state register, with its consequences."""
    if number == LSR:
        state.S[LSR] = value
        state.S[ILCR] = value & 0xFFFF_FFFF
    elif number == WD_NUMBER:
        old = state.S[WD]
        state.S[WD] = value & 0x3_07FF_07FF_0000 | old & 0x7FF
        windows.enter_empty(state, (old >> 16 & 0x7FF) >> 3, (value >> 16 & 0x7FF) >> 3)
    elif number in (PSHTP, PCSHTP):
        kept = (value & 0xFFF) >> 4 << 1 if number == PSHTP else (value & 0x7FF) >> 5
        if not (windows.keep_windows if number == PSHTP else windows.keep_chain)(state, kept):
            trace.unimp(f"write of {value:#x} to %{BY_NUMBER[number].name}: there are not so many in registers")
    elif number == TIR_LO:
        state.S[TIR_LO] = state.S[TIR_HI] = state.X[Slot.TIRS] = 0
    elif number == TIR_LO_READ:
        next_tir(state)
    elif number == BR:
        state.S[BR] = value & 0xFFFFFFF
    else:
        state.S[number] = value
