"""The "cpu" section of a migration stream: every migrated register of one CPU.

The image is canonical: it holds what the guest can see and nothing about where the emulator keeps it. The
live part of the window file (from the oldest register not yet spilled to the end of the window) goes as
a list from oldest to newest; ``below`` of it lie under the current window.

| field | what |
|---|---|
| mdl | IDR.mdl of the CPU model; must be the destination's |
| pc | address of the next wide instruction |
| idle_until | virtual ns until which the CPU sleeps, all ones: awake |
| below, live | registers under the window; all live registers |
| values, extensions, tags | of the live registers |
| globals, global_extensions, global_tags | of %g0..31 |
| preds | a byte per predicate: bit 0 the value, bit 1 diagnostic |
| chain_entries, chain | chain entries not yet spilled; CR0.lo CR0.hi CR1.lo CR1.hi of each |
| (name of a state register) | its 64 bits |
| cpu/interrupts (subsection) | the pins: maskable, non-maskable, a pulse not yet taken; sent when one is set |
| cpu/traps (subsection) | the TIR below the one in %tir: how many (0, 1), hi, lo; whether a single step is due |
| cpu/halted (subsection) | ``interrupts.Halt``; not sent while it is as after reset |
| cpu/lock (subsection) | a lock load that waits for its store (``locks``): size, address, value |
| cpu/aau (subsection) | the array access unit, item by item (``aau.Slot``); not sent while it is as after power-on |
| cpu/mmu (subsection) | registers of ``isa.mmuregs.rows`` by (specifier, address); not sent as after power-on |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from e2kemu.cpu import arrays, windows
from e2kemu.cpu.interrupts import Halt
from e2kemu.cpu.isa.aau import ITEMS
from e2kemu.cpu.isa.registers import (
    BY_NAME,
    CHAIN_RESIDENT,
    GLOBALS,
    PREDICATES,
    SPARE_CHAIN,
    STATE_REGISTERS,
)
from e2kemu.cpu.state import WINDOW_FILE, WINDOW_START, Slot
from e2kemu.devices.vmstate import VMState, VMStateSection, array, buffer, equal, u8, u32, u64, varray, vbuffer

if TYPE_CHECKING:
    from e2kemu.cpu.exec import Cpu

AWAKE = (1 << 64) - 1
CORE_MODE = BY_NAME["core_mode"].number
MAX_MMU_REGISTERS = 1 << 12

_MIGRATED = tuple(register for register in STATE_REGISTERS if register.migrated)


def _attribute(name: str) -> str:
    return "sreg_" + name.replace(".", "_")


class CpuImage:
    """The state of a CPU as the stream has it; made before a save, taken over after a load."""

    def __init__(self, cpu: Cpu) -> None:
        self.cpu = cpu
        self.mdl = cpu.model.mdl
        self.pre_save()

    def pre_save(self) -> None:
        """Take the state of the CPU."""
        self.cpu.obey()
        pins = self.cpu.interrupts
        self.pin, self.pin_nmi, self.pulse_nmi = int(pins.level), int(pins.nmi_level), int(pins.nmi_pulse)
        self.halted = int(self.cpu.halted)
        state = self.cpu.state
        windows.bound(state)
        x = state.X
        self.tirs, self.tir_hi, self.tir_lo = x[Slot.TIRS], x[Slot.TIR_HI], x[Slot.TIR_LO]
        self.stepping = x[Slot.STEPPING]
        self.lock_size, self.lock_address = x[Slot.LOCK_SIZE], x[Slot.LOCK_ADDRESS]
        self.lock_low, self.lock_high = x[Slot.LOCK_LOW], x[Slot.LOCK_HIGH]
        base, bottom = x[Slot.BASE], x[Slot.BOTTOM]
        end = base + state.window_size
        self.pc = x[Slot.PC]
        self.idle_until = AWAKE if self.cpu.idle_until is None else self.cpu.idle_until
        self.below, self.live = base - bottom, end - bottom
        self.values, self.extensions = state.R[bottom:end].tolist(), state.E[bottom:end].tolist()
        self.tags = bytes(state.T[bottom:end])
        self.globals, self.global_extensions = state.R[:GLOBALS].tolist(), state.E[:GLOBALS].tolist()
        self.global_tags, self.preds = bytes(state.T[:GLOBALS]), bytes(state.P)
        self.chain_entries = x[Slot.CHAIN]
        self.chain = state.C[: 4 * self.chain_entries].tolist()
        self.chain_words = 4 * self.chain_entries
        self.arrays = state.A.tolist()
        self.mmu_registers = self.cpu.mmu.image()
        self.mmu_register_count = len(self.mmu_registers)
        for register in _MIGRATED:
            setattr(self, _attribute(register.name), state.S[register.number])

    def pre_load(self) -> None:
        """What a stream without subsections means."""
        self.arrays = arrays.RESET.tolist()
        self.pin = self.pin_nmi = self.pulse_nmi = 0
        self.halted = int(self._first_halt())
        self.tirs = self.tir_hi = self.tir_lo = self.stepping = 0
        self.lock_size = self.lock_address = self.lock_low = self.lock_high = 0
        self.mmu_registers, self.mmu_register_count = [], 0

    def _first_halt(self) -> Halt:
        return Halt.STOPPED if self.cpu.index else Halt.RUNS

    def is_halted(self) -> bool:
        """Whether the CPU executes, or does not, other than after reset."""
        return self.halted != self._first_halt()

    def has_interrupts(self) -> bool:
        """Whether a pin is set."""
        return bool(self.pin or self.pin_nmi or self.pulse_nmi)

    def uses_mmu(self) -> bool:
        """Whether the MMU has a state worth sending."""
        return not self.cpu.mmu.is_reset

    def is_in_trap(self) -> bool:
        """Whether a trap has left more than state registers say."""
        return bool(self.tirs or self.stepping)

    def holds_lock(self) -> bool:
        """Whether a lock load waits for its store."""
        return bool(self.lock_size)

    def uses_arrays(self) -> bool:
        """Whether the array access unit has a state worth sending."""
        return self.arrays != arrays.RESET.tolist()

    def post_load(self, version: int) -> None:
        """Give the CPU the state. Raises ValueError when it is none that a CPU can be in."""
        state = self.cpu.state
        size = (getattr(self, _attribute("wd")) >> 16 & 0x7FF) >> 3
        if self.below % 2 or self.live != self.below + size or self.live > windows.MOST_LIVE:
            raise ValueError(f"{self.live} live registers, {self.below} below a window of {size}")
        if self.chain_entries > CHAIN_RESIDENT + SPARE_CHAIN or self.chain_words != 4 * self.chain_entries:
            raise ValueError(f"{self.chain_entries} chain entries")
        if max(self.tags + self.global_tags, default=0) > 15 or max(self.preds) > 3:
            raise ValueError("a tag of a register is out of range")
        if self.halted not in list(Halt):
            raise ValueError(f"{self.halted} is no way to be halted")
        if self.tirs > 1 or self.stepping > 1:
            raise ValueError(f"{self.tirs} TIRs, {self.stepping} single steps")
        if self.lock_size not in (0, 1, 2, 4, 8, 16):
            raise ValueError(f"a lock of {self.lock_size} bytes")
        state.reset()
        bottom = WINDOW_START + WINDOW_FILE // 2
        for view, values, start in ((state.R, self.values, bottom), (state.E, self.extensions, bottom),
                                    (state.R, self.globals, 0), (state.E, self.global_extensions, 0),
                                    (state.C, self.chain, 0)):
            for index, value in enumerate(values):
                view[start + index] = value
        state.T[bottom : bottom + self.live] = self.tags
        state.T[:GLOBALS], state.P[:] = self.global_tags, self.preds
        for register in _MIGRATED:
            state.S[register.number] = getattr(self, _attribute(register.name))
        for index, value in enumerate(self.arrays):
            state.A[index] = value
        self.cpu.mmu.restore(self.mmu_registers, state.S[CORE_MODE])
        x = state.X
        x[Slot.TIRS], x[Slot.STEPPING] = self.tirs, self.stepping
        if self.tirs:
            x[Slot.TIR_HI], x[Slot.TIR_LO] = self.tir_hi, self.tir_lo
        x[Slot.LOCK_SIZE], x[Slot.LOCK_ADDRESS] = self.lock_size, self.lock_address
        x[Slot.LOCK_LOW], x[Slot.LOCK_HIGH] = self.lock_low, self.lock_high
        x[Slot.PC], x[Slot.CHAIN] = self.pc, self.chain_entries
        x[Slot.BOTTOM], x[Slot.BASE] = bottom, bottom + self.below
        self.cpu.idle_until = None if self.idle_until == AWAKE else self.idle_until
        self.cpu.halted = Halt(self.halted)
        self.cpu.interrupts.restore(bool(self.pin), bool(self.pin_nmi), bool(self.pulse_nmi))
        self.cpu.invalidate(0, 1 << 64)


VMSTATE = VMState(
    "cpu",
    1,
    [
        equal(u8("mdl")),
        u64("pc"),
        u64("idle_until"),
        u32("below"),
        u32("live"),
        varray(u64("values"), "live", windows.MOST_LIVE),
        varray(u64("extensions"), "live", windows.MOST_LIVE),
        vbuffer("tags", "live", windows.MOST_LIVE),
        array(u64("globals"), GLOBALS),
        array(u64("global_extensions"), GLOBALS),
        buffer("global_tags", GLOBALS),
        buffer("preds", PREDICATES),
        u32("chain_entries"),
        u32("chain_words"),
        varray(u64("chain"), "chain_words", 4 * (CHAIN_RESIDENT + SPARE_CHAIN)),
        *(u64(register.name).of(_attribute(register.name)) for register in _MIGRATED),
    ],
    pre_save="pre_save",
    pre_load="pre_load",
    post_load="post_load",
    subsections=[
        VMState("cpu/interrupts", 1, [u8("pin"), u8("pin_nmi"), u8("pulse_nmi")], needed="has_interrupts"),
        VMState("cpu/traps", 1, [u8("tirs"), u64("tir_hi"), u64("tir_lo"), u8("stepping")], needed="is_in_trap"),
        VMState("cpu/halted", 1, [u8("halted")], needed="is_halted"),
        VMState("cpu/lock", 1, [u8("lock_size"), u64("lock_address"), u64("lock_low"), u64("lock_high")],
                needed="holds_lock"),
        VMState("cpu/aau", 1, [array(u64("arrays"), ITEMS)], needed="uses_arrays"),
        VMState("cpu/mmu", 1, [
            u32("mmu_register_count"),
            varray(u64("mmu_registers"), "mmu_register_count", MAX_MMU_REGISTERS),
        ], needed="uses_mmu"),
    ],
)


def cpu_section(cpu: Cpu) -> VMStateSection:
    """The section of one CPU; its instance is the CPU's number."""
    image: Any = CpuImage(cpu)
    return VMStateSection(image, VMSTATE, cpu.index)
