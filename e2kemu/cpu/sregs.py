"""State registers beyond plain slots: what reading derives, what writing does besides storing."""

from __future__ import annotations

from e2kemu import trace
from e2kemu.cpu import windows
from e2kemu.cpu.isa.registers import BY_NAME, BY_NUMBER, SCLK_FREQUENCY, WINDOW_DOUBLES
from e2kemu.cpu.state import BGR, BR, ILCR, LSR, PSR, TIR_HI, TIR_LO, UPSR, WD, CpuState, Slot

CWD, PSHTP, PCSHTP, IP, NIP, CLKR, SCLKR, SCLKM1, WD_NUMBER = (
    BY_NAME[name].number for name in ("cwd", "pshtp", "pcshtp", "ip", "nip", "clkr", "sclkr", "sclkm1", "wd"))


DIBCR = BY_NAME["dibcr"].number
_DIBCR_KNOWN = 0xFF

_KEPT = {BR: 0xFFFFFFF, BGR: 0x7FF, PSR: 0x7F, UPSR: 0x7FF, DIBCR: 0xFFF, BY_NAME["dibsr"].number: 0xFFF}
"""Registers that have no more bits than these."""

_WITHOUT_EFFECT = {BY_NAME[name].number for name in ("upsrm", "dimcr", "dtcr")}
"""Registers that are stored and should do something: which bits of UPSR users may write (in which sense is not public),
counters of events, traces of transfers."""

OBSERVED = frozenset((WD_NUMBER, PSHTP, PCSHTP, TIR_LO, SCLKM1, BY_NAME["core_mode"].number, *_KEPT, *_WITHOUT_EFFECT))
"""Registers that do more than keep what is written (and %lsr, which sets %ilcr)."""

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


_M32 = (1 << 32) - 1
_SCLK_MDIV, _SCLK_MODE, _SCLK_KEPT = 1 << 32, 1 << 33, 1 << 33 | 1 << 35 | 1 << 36


def system_clock(state: CpuState, now: int) -> int:
    """%sclkr at ``now`` (virtual time in ns): seconds in 63:32, ticks of this second in 31:0. A second has as many
    ticks as %sclkm1.div says."""
    ticks, div = now * SCLK_FREQUENCY // 10**9, state.S[SCLKM1] & _M32
    second, tick = divmod(ticks, div) if div else (ticks >> 32, ticks & _M32)
    return (second & _M32) << 32 | tick


def _write_sclkm1(state: CpuState, value: int) -> None:
    """div 31:0, mdiv 32 (div is written), mode 33 (seconds come from outside, and div is what was counted between two
    of them), trn 34 (begins to count; over at once), sw 35, wsclkr 36."""
    if value & _SCLK_MODE:
        div = SCLK_FREQUENCY    # the seconds of the calendar clock are those of virtual time
    else:
        div = (value if value & _SCLK_MDIV else state.S[SCLKM1]) & _M32
    state.S[SCLKM1] = value & _SCLK_KEPT | div


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
        # no larger than what the file has beside the windows below
        most = max(WINDOW_DOUBLES - state.X[Slot.BASE] + state.X[Slot.BOTTOM], 0)
        size = min((value >> 16 & 0x7FF) >> 3, most)
        state.S[WD] = value & 0x3_07FF_0000_0000 | size << 19 | old & 0x7FF
        windows.enter_empty(state, (old >> 16 & 0x7FF) >> 3, size)
    elif number in (PSHTP, PCSHTP):
        kept = (value & 0xFFF) >> 4 << 1 if number == PSHTP else (value & 0x7FF) >> 5
        if not (windows.keep_windows if number == PSHTP else windows.keep_chain)(state, kept):
            trace.unimp(f"write of {value:#x} to %{BY_NUMBER[number].name}: there are not so many in registers")
    elif number == TIR_LO:
        state.S[TIR_LO] = state.S[TIR_HI] = state.X[Slot.TIRS] = 0
    elif number == TIR_LO_READ:
        next_tir(state)
    elif number == SCLKM1:
        _write_sclkm1(state, value)
    elif number in _KEPT:
        state.S[number] = value & _KEPT[number]
        if number == DIBCR and value & ~_DIBCR_KNOWN:
            trace.unimp(f"%dibcr = {value:#x}: only v and t of breakpoints do something")
    elif number in _WITHOUT_EFFECT and value != BY_NUMBER[number].reset:
        trace.unimp(f"%{BY_NUMBER[number].name} = {value:#x} has no effect")
        state.S[number] = value
    else:
        state.S[number] = value
