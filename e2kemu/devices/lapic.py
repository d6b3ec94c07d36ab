"""Local APIC of an e2k CPU (instruction sets v2 to v5), and the bus between the APICs.

Registers and behaviour are those of the x86 local APIC (82489DX to xAPIC); every CPU sees its own at 0xfee00000.
What e2k adds (public headers and comments of the e2k port of Linux):

* BSP 0x10: 8 this CPU boots, 11 the APIC is there (as IA32_APIC_BASE on x86);
* VECT 0xff0: reading it is the acknowledge cycle: the vector goes from IRR to ISR and is returned; with
  nothing to acknowledge it is the spurious vector;
* NM 0xfe0: why there is a non-maskable interrupt, a bit for each reason (writing 1 clears) and in 7:0 the page of
  a STARTUP. The NMI pin is high while a reason is set that M_ERM does not mask; reading NM holds it low
  until NM is written;
* M_ERM 0xfc0: masks of reasons at their places; bits 31, 30: the NM timer is a watchdog, the second time that it
  ends before NM.NM_TIMER was cleared resets the machine;
* NM timer 0xf00..0xf30: a second timer, whose end is an NMI.

STARTUP starts a CPU that is stopped (after a reset all but the first; after INIT) at page NM[7:0], a page being
4 KiB; INIT resets CPU and APIC. Both are noted in NM and cause no NMI; a running CPU ignores STARTUP.

Chosen: lowest priority goes to the CPU with the lowest PPR, of equals the first; ESR gathers errors until it is
written; unknown registers are only logged; ExtINT is logged, there is no 8259.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar

from e2kemu import trace
from e2kemu.clock import VirtualClock
from e2kemu.devices import vmstate as vm
from e2kemu.devices.core import Reg
from e2kemu.devices.local_timer import LocalTimer
from e2kemu.devices.pic import LocalController

BSP_HERE, BSP_BOOTS = 0x800, 0x100
VERSION = 0x0003_0010
"""Version 0x10, local vector table up to entry 3 (LVT0, LVT1, error, timer)."""

SPIV_ENABLED = 0x100
FIXED, LOWEST, SMI, REMOTE_READ, NMI, INIT, STARTUP, EXTINT = range(8)
"""Delivery modes."""

MODES = ("fixed", "lowpri", "SMI", "remrd", "NMI", "INIT", "SIPI", "ExtINT")
ALL = 0xFF
"""The physical destination that is everybody; also the logical one."""

LVT_MASKED, LVT_PERIODIC = 1 << 16, 1 << 17
LVT_MODE_SHIFT = 8
LVT_BITS, LVT_TIMER_BITS, LVT_PLAIN_BITS = 0x1_A7FF, 0x3_00FF, 0x1_00FF
LOGICAL, LEVEL_ASSERT, LEVEL_TRIGGERED = 0x800, 0x4000, 0x8000
ESR_SEND_ACCEPT, ESR_SEND_ILLEGAL, ESR_RECEIVE_ILLEGAL = 0x04, 0x20, 0x40
LOWEST_VECTOR = 16

NM_SMI, NM_NMI, NM_INIT, NM_STARTUP, NM_TIMER = 0x200, 0x400, 0x800, 0x1000, 0x1_0000
NM_BITS = 0x7FFFF
NM_INTERRUPTS = 0x7E600
"""The reasons that cause an NMI: PCI, special, timer, debug, QLAPIC, violation, NMI, SMI."""

NM_WATCHDOG = 0xC000_0000
ERM_MASKS = 0x3_E000
ERM_BITS = NM_WATCHDOG | ERM_MASKS
ISR, TMR, IRR, VECTORS_END = 0x100, 0x180, 0x200, 0x280


class ApicBus:
    """Who hears whom: the APICs, and the I/O APICs that want to know of the end of an interrupt."""

    def __init__(self) -> None:
        self.apics: list[LocalApic] = []
        self.on_eoi: list[Callable[[int], None]] = []
        """Called with the vector of a level-triggered interrupt that is over."""
        self.on_enable: list[Callable[[], None]] = []
        """Called when an APIC was enabled: what nobody took may be sent again."""

    def targets(self, destination: int, logical: bool) -> list[LocalApic]:
        """The APICs that a destination names."""
        return [apic for apic in self.apics if apic.is_named(destination, logical)]

    def send(self, targets: list[LocalApic], mode: int, vector: int, level: bool) -> bool:
        """Deliver to ``targets``, or to one of them with lowest priority. Whether anybody took it."""
        if mode == LOWEST:
            able = [apic for apic in targets if apic.enabled]
            targets = [min(able, key=lambda apic: apic.priority())] if able else []
        taken = False
        for apic in targets:
            taken |= apic.accept(mode, vector, level)
        return taken


class LocalApic(LocalController):
    """Local APIC of one CPU"""

    name = "apic"
    size = 0x1000

    bsp = Reg("u32", 0x010, mask=BSP_HERE | BSP_BOOTS, write="_write_bsp", doc="8 this CPU boots, 11 APIC enabled")
    id = Reg("u32", 0x020, mask=0xFF00_0000, doc="31:24 physical id")
    version = Reg("u32", 0x030, reset=VERSION, readonly=True, doc="7:0 version, 23:16 last entry of the LVT")
    tpr = Reg("u32", 0x080, write="_write_tpr", doc="7:0 task priority")
    apr = Reg("u32", 0x090, read="_read_apr", readonly=True, doc="7:0 arbitration priority")
    ppr = Reg("u32", 0x0A0, read="priority", readonly=True, doc="7:0 processor priority")
    eoi = Reg("u32", 0x0B0, read="_nothing", write="_write_eoi", doc="end of interrupt, any value")
    rrr = Reg("u32", 0x0C0, readonly=True, doc="remote read, always 0")
    ldr = Reg("u32", 0x0D0, mask=0xFF00_0000, doc="31:24 logical id")
    dfr = Reg("u32", 0x0E0, write="_write_dfr", reset=0xFFFF_FFFF, doc="31:28 all ones: flat, 0: clusters")
    spiv = Reg("u32", 0x0F0, write="_write_spiv", reset=0xFF, doc="7:0 spurious vector, 8 enable, 9 focus off")
    esr = Reg("u32", 0x280, write="_write_esr", doc="errors since it was written")
    lvtcmci = Reg("u32", 0x2F0, mask=LVT_BITS, reset=LVT_MASKED, doc="CMCI entry; no source")
    icr = Reg("u32", 0x300, write="_write_icr", doc="command: 7:0 vector, 10:8 mode, 11 logical, 14 level, 15 trigger, "
              "19:18 shorthand; writing sends")
    icr2 = Reg("u32", 0x310, mask=0xFF00_0000, doc="31:24 destination")
    lvtt = Reg("u32", 0x320, write="_write_lvtt", reset=LVT_MASKED, doc="timer: 7:0 vector, 16 mask, 17 periodic")
    lvtthmr = Reg("u32", 0x330, mask=LVT_BITS, reset=LVT_MASKED, doc="thermal sensor; no source")
    lvtpc = Reg("u32", 0x340, mask=LVT_BITS, reset=LVT_MASKED, doc="performance counters; no source")
    lvt0 = Reg("u32", 0x350, mask=LVT_BITS, reset=LVT_MASKED, doc="LINT0; not connected")
    lvt1 = Reg("u32", 0x360, mask=LVT_BITS, reset=LVT_MASKED, doc="LINT1; not connected")
    lvterr = Reg("u32", 0x370, mask=LVT_PLAIN_BITS, reset=LVT_MASKED, doc="error: 7:0 vector, 16 mask")
    tmict = Reg("u32", 0x380, read="_read_tmict", write="_write_tmict", doc="timer: initial count")
    tmcct = Reg("u32", 0x390, read="_read_tmcct", readonly=True, doc="timer: current count")
    tdcr = Reg("u32", 0x3E0, read="_read_tdcr", write="_write_tdcr", doc="timer: divisor")
    nm_lvtt = Reg("u32", 0xF00, mask=LVT_PERIODIC, write="_write_nm_lvtt", doc="NM timer: 17 periodic")
    nm_tmict = Reg("u32", 0xF10, read="_read_nm_tmict", write="_write_nm_tmict", doc="NM timer: initial count")
    nm_tmcct = Reg("u32", 0xF20, read="_read_nm_tmcct", readonly=True, doc="NM timer: current count")
    nm_tdcr = Reg("u32", 0xF30, read="_read_nm_tdcr", write="_write_nm_tdcr", doc="NM timer: divisor")
    lvt2 = Reg("u32", 0xF40, mask=LVT_BITS, reset=LVT_MASKED, doc="local entry 2; not connected")
    lvt3 = Reg("u32", 0xF50, mask=LVT_BITS, reset=LVT_MASKED, doc="local entry 3 (DSP); not connected")
    lvt4 = Reg("u32", 0xF60, mask=LVT_BITS, reset=LVT_MASKED, doc="local entry 4; not connected")
    m_erm = Reg("u32", 0xFC0, mask=ERM_BITS, write="_write_m_erm", doc="17:13 masks of NM, 31:30 watchdog")
    nm = Reg("u32", 0xFE0, read="_read_nm", write="_write_nm", doc="reasons of an NMI (write 1 clears), 7:0 start page")
    vect = Reg("u32", 0xFF0, read="_acknowledge", readonly=True, doc="7:0 the vector; reading acknowledges it")

    nm_blocked = Reg("u8", doc="1: NM was read and not written since: no NMI")

    vmstate: ClassVar[vm.VMState] = vm.VMState(
        "apic", 1,
        [
            bsp, id, tpr, ldr, dfr, spiv, vm.bitmap("isr", 256), vm.bitmap("tmr", 256), vm.bitmap("irr", 256), esr,
            lvtcmci, icr, icr2, lvtt, lvtthmr, lvtpc, lvt0, lvt1, lvterr, nm_lvtt, lvt2, lvt3, lvt4, m_erm, nm,
            nm_blocked, vm.struct("timer", LocalTimer.vmstate), vm.struct("nm_timer", LocalTimer.vmstate),
        ],
        post_load="_post_load",
    )  # fmt: skip

    def __init__(self, index: int, clock: VirtualClock, bus: ApicBus, on_watchdog: Callable[[], None]) -> None:
        """APIC of CPU ``index``; ``on_watchdog()`` is called when the NM timer's watchdog has run out."""
        super().__init__(index)
        self._bus, self._on_watchdog = bus, on_watchdog
        self.irr = self.isr = self.tmr = 0
        """A bit for each vector: requested, in service, level-triggered."""
        self.timer = LocalTimer(clock, self._timer_ended)
        self.nm_timer = LocalTimer(clock, self._nm_timer_ended)
        bus.apics.append(self)
        self._identity()

    def _identity(self) -> None:
        self.bsp = BSP_HERE | (0 if self.index else BSP_BOOTS)
        self.id = self.index << 24

    def reset(self) -> None:
        """After power-on: disabled, nothing pending."""
        super().reset()
        self._identity()
        self._clear()

    def _clear(self) -> None:
        self.irr = self.isr = self.tmr = 0
        self.timer.reset()
        self.nm_timer.reset()
        self.update(anyway=True)

    # -- state of the whole

    @property
    def enabled(self) -> bool:
        """Whether it takes maskable interrupts."""
        return bool(self.spiv & SPIV_ENABLED and self.bsp & BSP_HERE)

    def is_named(self, destination: int, logical: bool) -> bool:
        """Whether an interrupt for ``destination`` (8 bits) is for this APIC."""
        if not logical:
            return destination in (ALL, self.id >> 24)
        mine = self.ldr >> 24
        if self.dfr >> 28 == 0xF:
            return bool(destination & mine)
        return destination >> 4 in (0xF, mine >> 4) and bool(destination & mine & 0xF)

    def priority(self) -> int:
        """PPR: the task's priority, or that of the interrupt in service."""
        in_service = max(self.isr.bit_length() - 1, 0) & 0xF0
        task = self.tpr & 0xFF
        return task if task & 0xF0 >= in_service else in_service

    def _read_apr(self) -> int:
        return max(self.priority(), max(self.irr.bit_length() - 1, 0) & 0xF0)

    def pending(self) -> int | None:
        """The vector that would be acknowledged now."""
        vector = self.irr.bit_length() - 1
        return vector if vector >= 0 and vector & 0xF0 > self.priority() & 0xF0 else None

    def update(self, *, anyway: bool = False) -> None:
        """Recompute both pins of the CPU."""
        reasons = self.nm & NM_INTERRUPTS & ~(self.m_erm & ERM_MASKS)
        self.drive(self.enabled and self.pending() is not None, bool(reasons) and not self.nm_blocked, anyway=anyway)

    # -- what comes in

    def accept(self, mode: int, vector: int, level: bool) -> bool:
        """Somebody sends an interrupt. Whether it is taken."""
        if mode in (FIXED, LOWEST):
            return self._request(vector, level)
        if mode == NMI:
            self._note(NM_NMI)
        elif mode == SMI:
            self._note(NM_SMI)
        elif mode == INIT:
            super().reset()
            self._identity()
            self.nm = NM_INIT
            self._clear()
            self.init_cpu()
        elif mode == STARTUP:
            self.nm = self.nm & ~0xFF | NM_STARTUP | vector
            self.start_cpu(vector)
        else:
            trace.guest_error(f"{self.name} {self.index}: delivery mode {MODES[mode]}: there is nobody behind it")
            return False
        return True

    def _request(self, vector: int, level: bool) -> bool:
        if not self.enabled:
            return False
        if vector < LOWEST_VECTOR:
            self._error(ESR_RECEIVE_ILLEGAL)
            return True
        self.irr |= 1 << vector
        self.tmr = self.tmr | 1 << vector if level else self.tmr & ~(1 << vector)
        self.update()
        return True

    def _note(self, reason: int) -> None:
        self.nm |= reason
        self.update()

    def inject_nmi(self) -> None:
        self._note(NM_NMI)

    def _error(self, bits: int) -> None:
        self.esr |= bits
        vector = self.lvterr & 0xFF
        if not self.lvterr & LVT_MASKED and vector >= LOWEST_VECTOR and self.enabled:
            self._request(vector, False)

    # -- acknowledge and end

    def _acknowledge(self) -> int:
        vector = self.pending() if self.enabled else None
        if vector is None:
            return self.spiv & 0xFF
        self.irr &= ~(1 << vector)
        self.isr |= 1 << vector
        self.update()
        return vector

    def _nothing(self) -> int:
        return 0

    def _write_eoi(self, value: int) -> None:
        vector = self.isr.bit_length() - 1
        if vector < 0:
            return
        self.isr &= ~(1 << vector)
        if self.tmr >> vector & 1:
            for listener in self._bus.on_eoi:
                listener(vector)
        self.update()

    # -- registers

    def _write_bsp(self, value: int) -> None:
        self.bsp = value & (BSP_HERE | BSP_BOOTS)
        self.update()

    def _write_tpr(self, value: int) -> None:
        self.tpr = value & 0xFF
        self.update()

    def _write_dfr(self, value: int) -> None:
        self.dfr = value | 0x0FFF_FFFF

    def _write_spiv(self, value: int) -> None:
        before = self.enabled
        self.spiv = value & 0x3FF
        if not self.spiv & SPIV_ENABLED:
            for reg in ("lvtcmci", "lvtt", "lvtthmr", "lvtpc", "lvt0", "lvt1", "lvterr", "lvt2", "lvt3", "lvt4"):
                self.values[reg] |= LVT_MASKED
        self.update()
        if self.enabled and not before:
            for listener in self._bus.on_enable:
                listener()

    def write_register(self, reg: Reg, value: int) -> None:
        """Entries of the local vector table stay masked while the APIC is disabled."""
        super().write_register(reg, value)
        if reg.name.startswith("lvt") and not self.spiv & SPIV_ENABLED:
            self.values[reg.name] |= LVT_MASKED

    def _write_esr(self, value: int) -> None:
        self.esr = 0

    def _write_icr(self, value: int) -> None:
        self.icr = value & 0xC_CFFF
        mode, vector, level = value >> LVT_MODE_SHIFT & 7, value & 0xFF, bool(value & LEVEL_TRIGGERED)
        if mode == INIT and level and not value & LEVEL_ASSERT:
            return                         # the end of an INIT: arbitration, nothing to do here
        if mode in (FIXED, LOWEST) and vector < LOWEST_VECTOR:
            self._error(ESR_SEND_ILLEGAL)
            return
        shorthand = value >> 18 & 3
        if shorthand == 0:
            targets = self._bus.targets(self.icr2 >> 24, bool(value & LOGICAL))
        elif shorthand == 1:
            targets = [self]
        else:
            targets = [apic for apic in self._bus.apics if shorthand == 2 or apic is not self]
        if not self._bus.send(targets, mode, vector, False) and shorthand != 3:
            self._error(ESR_SEND_ACCEPT)

    def _write_m_erm(self, value: int) -> None:
        self.m_erm = value & ERM_BITS
        self.update()

    def _read_nm(self) -> int:
        self.nm_blocked = 1
        self.update()
        return self.nm

    def _write_nm(self, value: int) -> None:
        self.nm &= ~value & NM_BITS
        self.nm_blocked = 0
        self.update()

    # -- timers

    def _timer_ended(self) -> None:
        if not self.lvtt & LVT_MASKED:
            self._request(self.lvtt & 0xFF, False)

    def _nm_timer_ended(self) -> None:
        if self.m_erm & NM_WATCHDOG and self.nm & NM_TIMER:
            self._on_watchdog()
        self._note(NM_TIMER)

    def _write_lvtt(self, value: int) -> None:
        self.lvtt = value & LVT_TIMER_BITS
        self.timer.set_periodic(bool(value & LVT_PERIODIC))

    def _read_tmict(self) -> int:
        return self.timer.initial

    def _write_tmict(self, value: int) -> None:
        self.timer.write_initial(value)

    def _read_tmcct(self) -> int:
        return self.timer.read_current()

    def _read_tdcr(self) -> int:
        return self.timer.divide

    def _write_tdcr(self, value: int) -> None:
        self.timer.write_divide(value & 0xF)

    def _write_nm_lvtt(self, value: int) -> None:
        self.nm_lvtt = value & LVT_PERIODIC
        self.nm_timer.set_periodic(bool(value & LVT_PERIODIC))

    def _read_nm_tmict(self) -> int:
        return self.nm_timer.initial

    def _write_nm_tmict(self, value: int) -> None:
        self.nm_timer.write_initial(value)

    def _read_nm_tmcct(self) -> int:
        return self.nm_timer.read_current()

    def _read_nm_tdcr(self) -> int:
        return self.nm_timer.divide

    def _write_nm_tdcr(self, value: int) -> None:
        self.nm_timer.write_divide(value & 0xF)

    # -- the 256 bits of ISR, TMR and IRR: eight registers of 32, one every 16 bytes

    def mmio_read(self, offset: int, size: int) -> int:
        """A register; of the arrays the 32 bits there."""
        if ISR <= offset < VECTORS_END:
            bits = self.isr if offset < TMR else self.tmr if offset < IRR else self.irr
            word = 0 if offset & 0xC else bits >> 2 * (offset & 0x70) & 0xFFFF_FFFF
            return word >> 8 * (offset & 3) & ((1 << 8 * size) - 1)
        return super().mmio_read(offset, size)

    # -- printing and migration

    def properties(self) -> dict[str, str]:
        """What ``info qtree`` shows."""
        return {"id": str(self.id >> 24), "enabled": str(self.enabled).lower()}

    def info(self) -> list[str]:
        lines = [f"dumping local APIC state for CPU {self.index}", ""]
        for label, value in (("LVT0", self.lvt0), ("LVT1", self.lvt1), ("LVTPC", self.lvtpc), ("LVTERR", self.lvterr),
                             ("LVTTHMR", self.lvtthmr), ("LVTT", self.lvtt)):
            lines.append(f"{label:8} {value:#010x} {_lvt(label, value)}")
        lines += [
            f"Timer    DCR={self.timer.divide:#x} initial_count = {self.timer.initial}"
            f" current_count = {self.timer.current()}",
            f"NM timer DCR={self.nm_timer.divide:#x} initial_count = {self.nm_timer.initial}"
            f" current_count = {self.nm_timer.current()}",
            f"SPIV     {self.spiv:#010x} APIC {'enabled' if self.enabled else 'disabled'},"
            f" focus={'off' if self.spiv & 0x200 else 'on'}, spurious vec {self.spiv & 0xFF}",
            f"ICR      {self.icr:#010x} {MODES[self.icr >> 8 & 7]}",
            f"ICR2     {self.icr2:#010x}",
            f"ESR      {self.esr:#010x}",
            f"NM       {self.nm:#010x} M_ERM {self.m_erm:#010x}{' blocked' if self.nm_blocked else ''}",
            f"ISR      {_vectors(self.isr, self.tmr)}",
            f"IRR      {_vectors(self.irr, self.tmr)}",
            "",
            f"APR {self._read_apr():#04x} TPR {self.tpr:#04x} DFR {self.dfr >> 28:#03x} LDR {self.ldr >> 24:#04x}"
            f" PPR {self.priority():#04x}",
        ]
        return lines

    def summary(self) -> str:
        return (f"apic {self.index}: id={self.id >> 24:#04x} {'enabled' if self.enabled else 'disabled'}"
                f" PPR={self.priority():#04x} NM={self.nm:#07x} ISR: {_vectors(self.isr, self.tmr)}"
                f" IRR: {_vectors(self.irr, self.tmr)}")

    def _post_load(self, version: int) -> None:
        if self.nm_blocked > 1:
            raise ValueError(f"nm_blocked is {self.nm_blocked}")
        low = (1 << LOWEST_VECTOR) - 1
        if (self.irr | self.isr) & low:
            raise ValueError("a vector below 16 is pending")
        self.update(anyway=True)


def _lvt(label: str, value: int) -> str:
    masked = "masked" if value & LVT_MASKED else ""
    if label == "LVTT":
        kind = "periodic" if value & LVT_PERIODIC else "one-shot"
    else:
        kind = "" if label == "LVTERR" else MODES[value >> LVT_MODE_SHIFT & 7]
    return " ".join(f"{kind} {masked} (vec {value & 0xFF})".split())


def bits_of(value: int) -> Iterator[int]:
    """The numbers of the bits that are set, lowest first."""
    while value:
        low = value & -value
        yield low.bit_length() - 1
        value ^= low


def _vectors(bits: int, level: int) -> str:
    return " ".join(f"{vector}{'(level)' if level >> vector & 1 else ''}" for vector in bits_of(bits)) or "(none)"
