"""CEPIC: the interrupt controller of one CPU from instruction set v6 on, and the messages between controllers.

Every CPU sees its own at 0xfee00000. 1024 vectors; bits 9:8 of a vector and 1 are its priority, 1 to 4. An interrupt
whose priority is above the CPU's (CPR) is shown in CIR, with CIR.stat; all others wait in PMIRR. Reading
VECT_INTA acknowledges what CIR shows: it returns the vector and the CPU's priority, which becomes that of the
vector; writing that priority to EOI ends the interrupt. With nothing to acknowledge VECT_INTA is the spurious
vector of SVR, and no priority changes.

PNMIRR has the reasons of a non-maskable interrupt (writing 1 clears) and in 7:0 the page of a STARTUP; the NMI pin
is high while a reason is set that PNMIRR_MASK does not mask. STARTUP and INIT are noted there and cause no NMI, as
with the local APIC (``lapic.py``). ESR shows the errors up to the last write to it; ESR_NEW those since.

Registers: public headers of Linux for e2k (epic.h, epicdef.h), behaviour: what that kernel and its virtualization of
CEPIC expect. The second page (the guest's controller under virtualization) is not there; accesses are logged.
"""

from __future__ import annotations

from typing import ClassVar

from e2kemu import trace
from e2kemu.clock import VirtualClock
from e2kemu.devices import vmstate as vm
from e2kemu.devices.core import Reg
from e2kemu.devices.lapic import bits_of
from e2kemu.devices.local_timer import LocalTimer
from e2kemu.devices.pic import LocalController

VECTORS = 1024
VECTOR = VECTORS - 1
CTRL_BOOTS, CTRL_ENABLED = 1 << 8, 1 << 10
ID_BITS = 0x3FF
CPR_SHIFT, INTA_CPR_SHIFT = 8, 16
STAT, MASKED, PERIODIC = 1 << 12, 1 << 16, 1 << 17
FIXED_EXTERNAL, FIXED_IPI, SMI, NM_SPECIAL, NMI, INIT, STARTUP = range(7)
"""Delivery modes."""

MODES = ("fixed", "IPI", "SMI", "special", "NMI", "INIT", "SIPI", "reserved")
TO_ONE, TO_SELF, TO_OTHERS, TO_ALL = range(4)
"""Shorthands of ICR."""

ESR_MESSAGE = 1 << 10
"""A message that is none: nobody is there, or its delivery mode is reserved."""

ESR_BITS = 0xFE0
REASON_SMI, REASON_NMI, REASON_INIT, REASON_STARTUP = 1 << 9, 1 << 10, 1 << 11, 1 << 12
REASON_TIMER, REASON_SPECIAL = 1 << 16, 1 << 17
REASON_BITS = 0x3_3EFF
REASON_INTERRUPTS = 0x3_2600
MASK_BITS = 0x3_2600
PMIRR, PMIRR_END = 0x100, 0x180


class EpicBus:
    """All CEPICs of the machine."""

    def __init__(self) -> None:
        self.cepics: list[Cepic] = []

    def find(self, number: int) -> list[Cepic]:
        """The one with that full id, if there is one."""
        return [cepic for cepic in self.cepics if cepic.id == number]

    @staticmethod
    def send(targets: list[Cepic], mode: int, vector: int) -> bool:
        """Deliver to all of them. Whether anybody took it."""
        taken = False
        for cepic in targets:
            taken |= cepic.accept(mode, vector)
        return taken


def priority_of(vector: int) -> int:
    """1 to 4."""
    return 1 + (vector >> 8 & 3)


class Cepic(LocalController):
    """Interrupt controller (EPIC) of one CPU"""

    name = "cepic"
    size = 0x2000
    max_access = 8

    ctrl = Reg("u32", 0x000, write="_write_ctrl", doc="8 this CPU boots, 10 enabled")
    id = Reg("u32", 0x010, readonly=True, doc="7:0 number in the node, 9:8 node")
    cpr = Reg("u32", 0x070, mask=7 << CPR_SHIFT, write="_write_cpr", doc="10:8 priority of the CPU")
    esr = Reg("u32", 0x080, write="_write_esr", doc="errors up to the last write")
    esr2 = Reg("u32", 0x090, mask=MASKED | VECTOR, doc="error: 9:0 vector, 16 mask")
    eoi = Reg("u32", 0x0A0, read="_nothing", write="_write_eoi", doc="18:16 priority that the CPU had before")
    cir = Reg("u32", 0x0B0, read="_read_cir", write="_write_cir", doc="9:0 current vector, 12 there is one")
    pnmirr = Reg("u32", 0x1E0, write="_write_pnmirr", doc="reasons of an NMI (write 1 clears), 7:0 start page")
    esr_new = Reg("u32", 0x1F0, readonly=True, doc="errors since the last write of ESR")
    icr = Reg("u32", 0x200, write="_write_icr", doc="command: 9:0 vector, 11:10 shorthand, 15:13 mode; writing sends")
    icr2 = Reg("u32", 0x204, mask=ID_BITS << 8, doc="17:8 destination")
    lvtt = Reg("u32", 0x220, write="_write_lvtt", doc="timer: 9:0 vector, 16 mask, 17 periodic")
    timer_init = Reg("u32", 0x230, read="_read_init", write="_write_init", doc="timer: initial count")
    timer_cur = Reg("u32", 0x240, read="_read_cur", readonly=True, doc="timer: current count")
    timer_div = Reg("u32", 0x250, read="_read_div", write="_write_div", doc="timer: divisor")
    nm_lvtt = Reg("u32", 0x260, write="_write_nm_lvtt", doc="NM timer: 17 periodic")
    nm_timer_init = Reg("u32", 0x270, read="_read_nm_init", write="_write_nm_init", doc="NM timer: initial count")
    nm_timer_cur = Reg("u32", 0x280, read="_read_nm_cur", readonly=True, doc="NM timer: current count")
    nm_timer_div = Reg("u32", 0x290, read="_read_nm_div", write="_write_nm_div", doc="NM timer: divisor")
    svr = Reg("u32", 0x2A0, mask=VECTOR, doc="9:0 spurious vector")
    pnmirr_mask = Reg("u32", 0x2D0, write="_write_mask", doc="masks of PNMIRR")
    vect_inta = Reg("u32", 0x2F0, read="_acknowledge", readonly=True,
                    doc="9:0 vector, 18:16 priority of the CPU; reading acknowledges")

    vmstate: ClassVar[vm.VMState] = vm.VMState(
        "cepic", 1,
        [
            ctrl, cpr, esr, esr2, esr_new, vm.bitmap("requests", VECTORS), pnmirr, pnmirr_mask, icr, icr2, lvtt,
            nm_lvtt, svr, vm.struct("timer", LocalTimer.vmstate), vm.struct("nm_timer", LocalTimer.vmstate),
        ],
        post_load="_post_load",
    )  # fmt: skip

    def __init__(self, index: int, clock: VirtualClock, bus: EpicBus) -> None:
        super().__init__(index)
        self._bus = bus
        self.requests = 0
        """A bit for each vector that was requested and not acknowledged."""
        self.timer = LocalTimer(clock, self._timer_ended)
        self.nm_timer = LocalTimer(clock, self._nm_timer_ended)
        bus.cepics.append(self)
        self._identity()

    def _identity(self) -> None:
        self.ctrl = 0 if self.index else CTRL_BOOTS
        self.id = self.index

    def reset(self) -> None:
        """After power-on: disabled, nothing pending."""
        super().reset()
        self._identity()
        self._clear()

    def _clear(self) -> None:
        self.requests = 0
        self.timer.reset()
        self.nm_timer.reset()
        self.update(anyway=True)

    # -- state of the whole

    @property
    def enabled(self) -> bool:
        """Whether it takes maskable interrupts."""
        return bool(self.ctrl & CTRL_ENABLED)

    def current(self) -> int | None:
        """The vector that CIR shows."""
        vector = self.requests.bit_length() - 1
        return vector if vector >= 0 and priority_of(vector) > self.cpr >> CPR_SHIFT else None

    def update(self, *, anyway: bool = False) -> None:
        """Recompute both pins of the CPU."""
        reasons = self.pnmirr & REASON_INTERRUPTS & ~self.pnmirr_mask
        self.drive(self.enabled and self.current() is not None, bool(reasons), anyway=anyway)

    # -- what comes in

    def accept(self, mode: int, vector: int) -> bool:
        """Somebody sends an interrupt. Whether it is taken."""
        if mode in (FIXED_EXTERNAL, FIXED_IPI):
            if not self.enabled:
                return False
            self.requests |= 1 << vector
            self.update()
        elif mode == NMI:
            self._note(REASON_NMI)
        elif mode == SMI:
            self._note(REASON_SMI)
        elif mode == NM_SPECIAL:
            self._note(REASON_SPECIAL)
        elif mode == INIT:
            super().reset()
            self._identity()
            self.pnmirr = REASON_INIT
            self._clear()
            self.init_cpu()
        elif mode == STARTUP:
            self.pnmirr = self.pnmirr & ~0xFF | REASON_STARTUP | vector & 0xFF
            self.start_cpu(vector & 0xFF)
        else:
            trace.guest_error(f"{self.name} {self.index}: delivery mode {mode} is reserved")
            self.error(ESR_MESSAGE)
        return True

    def _note(self, reason: int) -> None:
        self.pnmirr |= reason
        self.update()

    def inject_nmi(self) -> None:
        self._note(REASON_NMI)

    def error(self, bits: int) -> None:
        """Note errors and tell the CPU."""
        self.esr_new |= bits
        if not self.esr2 & MASKED and self.enabled:
            self.accept(FIXED_EXTERNAL, self.esr2 & VECTOR)

    # -- acknowledge and end

    def _read_cir(self) -> int:
        vector = self.current()
        return 0 if vector is None else STAT | vector

    def _write_cir(self, value: int) -> None:
        trace.guest_error(f"{self.name} {self.index}: write of {value:#x} to CIR ignored")

    def _acknowledge(self) -> int:
        vector = self.current() if self.enabled else None
        before = self.cpr >> CPR_SHIFT << INTA_CPR_SHIFT
        if vector is None:
            return self.svr | before
        self.requests &= ~(1 << vector)
        self.cpr = priority_of(vector) << CPR_SHIFT
        self.update()
        return vector | before

    def _nothing(self) -> int:
        return 0

    def _write_eoi(self, value: int) -> None:
        self._write_cpr(value >> INTA_CPR_SHIFT << CPR_SHIFT)

    # -- registers

    def _write_ctrl(self, value: int) -> None:
        self.ctrl = self.ctrl & CTRL_BOOTS | value & CTRL_ENABLED
        self.update()

    def _write_cpr(self, value: int) -> None:
        self.cpr = value & 7 << CPR_SHIFT
        self.update()

    def _write_esr(self, value: int) -> None:
        self.esr, self.esr_new = self.esr_new, 0

    def _write_pnmirr(self, value: int) -> None:
        self.pnmirr &= ~value & REASON_BITS
        self.update()

    def _write_mask(self, value: int) -> None:
        self.pnmirr_mask = value & MASK_BITS
        self.update()

    def _write_icr(self, value: int) -> None:
        self.icr = value & (VECTOR | 3 << 10 | 7 << 13)
        shorthand = value >> 10 & 3
        if shorthand == TO_ONE:
            targets = self._bus.find(self.icr2 >> 8)
        elif shorthand == TO_SELF:
            targets = [self]
        else:
            targets = [cepic for cepic in self._bus.cepics if shorthand == TO_ALL or cepic is not self]
        if not targets and shorthand == TO_ONE:
            trace.guest_error(f"{self.name} {self.index}: message to {self.icr2 >> 8:#x}, which does not exist")
            self.error(ESR_MESSAGE)
        self._bus.send(targets, value >> 13 & 7, value & VECTOR)

    # -- timers

    def _timer_ended(self) -> None:
        if not self.lvtt & MASKED:
            self.accept(FIXED_EXTERNAL, self.lvtt & VECTOR)

    def _nm_timer_ended(self) -> None:
        self._note(REASON_TIMER)

    def _write_lvtt(self, value: int) -> None:
        self.lvtt = value & (VECTOR | MASKED | PERIODIC)
        self.timer.set_periodic(bool(value & PERIODIC))

    def _read_init(self) -> int:
        return self.timer.initial

    def _write_init(self, value: int) -> None:
        self.timer.write_initial(value)

    def _read_cur(self) -> int:
        return self.timer.read_current()

    def _read_div(self) -> int:
        return self.timer.divide

    def _write_div(self, value: int) -> None:
        self.timer.write_divide(value & 0xF)

    def _write_nm_lvtt(self, value: int) -> None:
        self.nm_lvtt = value & PERIODIC
        self.nm_timer.set_periodic(bool(value & PERIODIC))

    def _read_nm_init(self) -> int:
        return self.nm_timer.initial

    def _write_nm_init(self, value: int) -> None:
        self.nm_timer.write_initial(value)

    def _read_nm_cur(self) -> int:
        return self.nm_timer.read_current()

    def _read_nm_div(self) -> int:
        return self.nm_timer.divide

    def _write_nm_div(self, value: int) -> None:
        self.nm_timer.write_divide(value & 0xF)

    # -- PMIRR, 128 bytes of bits; a command of 64 bits

    def mmio_read(self, offset: int, size: int) -> int:
        """A register; of PMIRR the bytes there, without what CIR shows."""
        if PMIRR <= offset < PMIRR_END:
            shown = self.current()
            waiting = self.requests if shown is None else self.requests & ~(1 << shown)
            return waiting >> 8 * (offset - PMIRR) & ((1 << 8 * size) - 1)
        return super().mmio_read(offset, size)

    def mmio_write(self, offset: int, size: int, value: int) -> None:
        """Change a register; of a command of 64 bits the destination first."""
        if PMIRR <= offset < PMIRR_END:
            trace.guest_error(f"{self.name} {self.index}: write to PMIRR ignored")
        elif offset == type(self).icr.offset and size == 8:
            super().mmio_write(offset + 4, 4, value >> 32)
            super().mmio_write(offset, 4, value & 0xFFFF_FFFF)
        else:
            super().mmio_write(offset, size, value)

    # -- printing and migration

    def properties(self) -> dict[str, str]:
        """What ``info qtree`` shows."""
        return {"id": str(self.id), "enabled": str(self.enabled).lower()}

    def info(self) -> list[str]:
        waiting = " ".join(map(str, bits_of(self.requests))) or "(none)"
        return [
            f"dumping CEPIC state for CPU {self.index}",
            "",
            f"CTRL     {self.ctrl:#010x} {'enabled' if self.enabled else 'disabled'}"
            f"{', boot CPU' if self.ctrl & CTRL_BOOTS else ''}",
            f"CPR      {self.cpr >> CPR_SHIFT}",
            f"CIR      {self._read_cir():#010x}",
            f"PENDING  {waiting}",
            f"PNMIRR   {self.pnmirr:#010x} mask {self.pnmirr_mask:#010x}",
            f"LVTT     {self.lvtt:#010x} {'periodic' if self.lvtt & PERIODIC else 'one-shot'}"
            f"{' masked' if self.lvtt & MASKED else ''} (vec {self.lvtt & VECTOR})",
            f"Timer    DIV={self.timer.divide:#x} initial_count = {self.timer.initial}"
            f" current_count = {self.timer.current()}",
            f"NM timer DIV={self.nm_timer.divide:#x} initial_count = {self.nm_timer.initial}"
            f" current_count = {self.nm_timer.current()}",
            f"ICR      {self.icr:#010x} {MODES[self.icr >> 13 & 7]}",
            f"ICR2     {self.icr2:#010x}",
            f"ESR      {self.esr:#010x} new {self.esr_new:#010x}",
            f"SVR      {self.svr:#010x}",
        ]

    def summary(self) -> str:
        waiting = " ".join(map(str, bits_of(self.requests))) or "(none)"
        return (f"cepic {self.index}: id={self.id:#05x} {'enabled' if self.enabled else 'disabled'}"
                f" CPR={self.cpr >> CPR_SHIFT} CIR={self._read_cir():#06x} PNMIRR={self.pnmirr:#07x}"
                f" pending: {waiting}")

    def _post_load(self, version: int) -> None:
        if self.cpr & ~(7 << CPR_SHIFT):
            raise ValueError(f"the priority register is {self.cpr:#x}")
        self.update(anyway=True)
