"""Traps: what a wide instruction raised, how the handler is entered, and what it finds.

Entry (semantics reference, section 8): a frame is pushed as a call with the whole window does, CR0.hi is the wide
instruction that was not executed; PSR is privileged, interrupts are off, the bounds of the hardware's stacks are not
guarded, no last wish; transfer registers stay, the array prefetch program stops; execution goes on at OSCUD.base.
``done`` returns. UPSR stays as it is: it has no effect on interrupts while PSR.uie and PSR.unmie are 0.

TIRs are read from %tir.hi and %tir.lo, the highest number (63:56) first; reading %tir.lo goes on to the next one,
writing it forgets them all, and so does another trap. What belongs to the wide instruction at CR0.hi is TIR 0. An
exception that hardware finds later (deferred: exc_data_page, exc_last_wish) is TIR 1, and TIR 0 has none then.

A data page fault leaves a record in the trap cellar for every access of its wide instruction that found one; then all
of it is executed again, whatever the handler did for the records.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from e2kemu.cpu import arrays, locks, memory_access, wide_arrays, windows
from e2kemu.cpu.config import Config
from e2kemu.cpu.direct import Collector, complete
from e2kemu.cpu.insn import AluInsn, Kind, Mova, Wide
from e2kemu.cpu.interrupts import PSR_IE, PSR_LW, PSR_NMIE, PSR_PM, PSR_SGE, PSR_UIE, PSR_UNMIE
from e2kemu.cpu.isa.aau import Slot as AauSlot
from e2kemu.cpu.isa.registers import CHAIN_RESIDENT, SPARE_CHAIN, WINDOW_DOUBLES
from e2kemu.cpu.isa.traps import BY_BIT, EXC_DATA_PAGE, EXC_MOVA_CH_0
from e2kemu.cpu.mmu.faults import PageFault
from e2kemu.cpu.rights import READ, WRITE
from e2kemu.cpu.sregs import set_tirs
from e2kemu.cpu.state import CR1_LO, CTPR1, OSCUD_HI, OSCUD_LO, PSR, TIR_HI, WD, CpuState, Slot
from e2kemu.cpu.wide_semantics import WideExecution
from e2kemu.cpu.windows import M48, Trap

if TYPE_CHECKING:
    from e2kemu.cpu.core import Core

CALL_CLEARS = PSR_IE | PSR_UIE | PSR_NMIE | PSR_UNMIE | PSR_LW
"""Bits of PSR that are off in a system call; in a trap PSR.sge is as well."""

_STORE, _S_F, _SCAL, _SRU, _SPEC, _PM, _NUM_ALIGN = (1 << bit for bit in (17, 19, 28, 29, 30, 31, 50))
_FMT, _MAS, _CHAN = 10, 20, 32
_VR, _VL = 1 << 8, 1 << 9
"""Fields of the condition of a record (semantics reference, 8.1; the parts of dst and fmt: headers of Linux)."""

_FORMATS = {1: 1, 2: 2, 4: 3, 8: 4, 16: 5}
"""Bytes -> fmt."""
_PACKED = 7
"""fmt of a 128-bit register."""
_CHANNELS = {0: 0, 2: 1, 3: 2, 5: 3}
"""Channel -> chan."""
_GLOBALS = 0xE0
"""dst of %g0; window registers are at their place in the hardware's file."""


# --- entry --------------------------------------------------------------------------------------------------

def is_lost(state: CpuState, pc: int, trap: Trap) -> bool:
    """The handler's first wide instruction traps, before the handler could even ask why it was entered: that would go
    on for ever."""
    return (pc == state.S[OSCUD_LO] & M48 and bool(state.S[TIR_HI]) and bool(state.S[PSR] & PSR_PM)
            and BY_BIT[trap.exc].kind in ("sync", "deferred"))


def enter(core: Core, pc: int, trap: Trap) -> None:
    """Enter the handler for the wide instruction at ``pc``. Raises Trap when its frame finds no place."""
    state = core.state
    s = state.S
    psr = s[PSR]
    locks.lose(state)
    prepared = [s[CTPR1 + i] for i in range(3)]
    if state.X[Slot.CHAIN] >= CHAIN_RESIDENT:
        # the handler of an overflow has a frame, too, and so has that of a page fault of the stack
        s[PSR] = psr & ~PSR_SGE
        try:
            windows.spill_chain(state, core.stacks, CHAIN_RESIDENT // 2)
        except Trap:
            if state.X[Slot.CHAIN] >= CHAIN_RESIDENT + SPARE_CHAIN:
                raise
        finally:
            s[PSR] = psr
    windows.enter(state, core.stacks, (state.window_size + 1) // 2, pc, new_size=0,
                  resident=CHAIN_RESIDENT + SPARE_CHAIN)
    s[PSR] = psr & ~(CALL_CLEARS | PSR_SGE) | PSR_PM
    if state.X[Slot.STEPPING]:
        # the wide instruction has not been done: ``done`` goes on with the step
        state.X[Slot.STEPPING] = 0
        s[CR1_LO] |= 1 << 24
    for i, value in enumerate(prepared):
        s[CTPR1 + i] = value
    if BY_BIT[trap.exc].kind == "deferred":
        set_tirs(state, (0, pc & M48), (trap.tir, pc & M48))
    else:
        set_tirs(state, (trap.tir, pc & M48))
    arrays.suspend(state, core.ld_program, prepared[1])
    state.X[Slot.PC] = s[OSCUD_LO] & M48


def has_table(state: CpuState) -> bool:
    """Whether there is a trap table to enter."""
    return bool(state.S[OSCUD_HI] >> 32)


# --- what else the wide instruction raises --------------------------------------------------------------

def whole(core: Core, wide: Wide, trap: Trap) -> tuple[Trap, list[tuple[int, int, int]]]:
    """``trap`` with all that its wide instruction raises at the same time, and the records for the trap cellar."""
    if trap.exc != EXC_DATA_PAGE or trap.fault is None:
        return complete(core, wide, trap), []
    finder = _Accesses(core, wide)
    untyped: Any = finder
    execution = WideExecution(untyped, wide, Config.of(core.state))
    finder.attempt(lambda: _accesses(finder, execution))
    records, movas = finder.records, finder.movas
    if movas:
        core.state.A[AauSlot.AAFSTR] = finder.areas
    elif not records:
        records = [_of_stacks(core.state, trap.fault)]
    if not records:
        first = EXC_MOVA_CH_0 + (movas & -movas).bit_length() - 1
        return Trap(first, trap.detail, trap.address, movas << EXC_MOVA_CH_0, trap.fault), []
    tir = trap.tir | finder.channels << 44 | movas << EXC_MOVA_CH_0
    return Trap(trap.exc, trap.detail, trap.address, tir, trap.fault), records


def _of_stacks(state: CpuState, fault: PageFault) -> tuple[int, int, int]:
    """The record of an access by which the hardware spills or fills one of its stacks."""
    condition = fault.condition | _FORMATS[8] << _FMT | _S_F | _SRU | _PM
    return fault.virtual, 0, condition | (_STORE if fault.access == WRITE else 0)


def _accesses(finder: _Accesses, execution: WideExecution) -> None:
    """Prepare all operations and do what the accesses do, as far as it is needed to see where they go."""
    for insn in execution.wide.alu:
        finder.insn = insn
        finder.attempt(lambda: execution.staged.append(execution.prepare(finder.insn)))  # type: ignore[arg-type]
    for one in list(execution.staged):
        finder.insn = one.insn
        for kind, body in ((one.insn.op.load, memory_access.load), (one.insn.op.store, memory_access.store)):
            if kind and one.ready:
                finder.part = 0
                finder.attempt(partial(finder.if_, one.condition, partial(body, execution, one)))
    for mova in execution.wide.movas:
        finder.mova = mova
        finder.attempt(partial(wide_arrays.read, execution, mova))


class _Accesses(Collector):
    """A machine whose accesses go nowhere: it notes which of them find a page fault."""

    def __init__(self, core: Core, wide: Wide) -> None:
        super().__init__(core, wide)
        self.records: list[tuple[int, int, int]] = []
        self.insn: AluInsn | None = None
        self.mova: Mova | None = None
        """The array read at hand, after all operations."""
        self.movas = self.areas = 0
        """Channels of array reads, a bit each, and what %aafstr says of them."""
        self.part = 0
        """How many of the operation's accesses went before: a quad register has two."""

    def load(self, address: int, size: int) -> int:
        self._try(address, size, READ, 0)
        return 0

    def store(self, address: int, size: int, value: int) -> None:
        self._try(address, size, WRITE, value & (1 << 8 * size) - 1)

    def _try(self, address: int, size: int, access: int, value: int) -> None:
        last = address + size - 1
        for number, place in enumerate((address,) if address >> 12 == last >> 12 else (address, last >> 12 << 12)):
            fault = self._fault(place, access)
            if fault is None or (self.speculative and not fault.is_deferred):
                continue
            if self.mova is not None:
                self.movas |= 1 << self.mova.channel
                self.areas |= (1 | wide_arrays.area_of(self.mova) << 1) << 8 * self.mova.channel
            else:
                self._record(fault, address, value, number)
        self.part += 1

    def _fault(self, place: int, access: int) -> PageFault | None:
        mmu = self.core.mmu
        try:
            if mmu.on:
                mmu.walk(place, access, self.state.S[PSR] & 1, mark=False)
        except PageFault as fault:
            return fault
        return None

    def _record(self, fault: PageFault, address: int, value: int, second: int) -> None:
        insn = self.insn
        assert insn is not None
        op = insn.op
        size = op.load or op.store
        packed = "P" in op.sizes
        fmt = _PACKED if packed else _FORMATS[size]
        condition = (fault.condition | fmt << _FMT | insn.mas << _MAS | _SCAL
                     | _CHANNELS[insn.channel] << _CHAN | (self.state.S[PSR] & 1) * _PM)
        condition |= _SPEC if insn.sm else 0
        condition |= _STORE if fault.access == WRITE else self._destination(insn)
        # the part in the next page is one access further on, as Linux counts it
        place = address + second * (16 if packed else 8)
        self.channels |= 1 << insn.channel
        self.records.append((place, value, condition | second * _NUM_ALIGN))

    def _destination(self, insn: AluInsn) -> int:
        """dst, vl and vr: which register, which halves of it."""
        dst = insn.dst
        if dst is None or dst.kind not in (Kind.R, Kind.B, Kind.G):
            return 0
        register = Config.of(self.state).register(dst, WINDOW_DOUBLES) + (self.part if insn.op.pair else 0)
        if register >= WINDOW_DOUBLES:
            number = _GLOBALS + (register & 31)
        else:
            number = ((self.state.S[WD] & 0x7FF) // 8 + register) % WINDOW_DOUBLES
        return number | _VR | (0 if insn.op.sizes[-1] == "S" else _VL)
