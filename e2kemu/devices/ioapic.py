"""I/O APIC of the IOHUB: 24 pins, each with an entry that says whom it interrupts and how.

| window | register |
|---|---|
| 0x00 | IOREGSEL: number of the register in IOWIN |
| 0x10 | IOWIN |

| number | register |
|---|---|
| 0x00 | 31:24 id |
| 0x01 | 7:0 version 0x11, 23:16 last pin, 23 |
| 0x02 | 31:24 arbitration id: the id |
| 0x10 + 2 n | entry of pin n: 7:0 vector, 10:8 mode, 11 logical, 13 polarity, 14 remote IRR, 15 level, 16 mask |
| 0x11 + 2 n | its high half: 31:24 destination |

Source: the manual of the 82093AA; that e2k has one, and where, the public headers of Linux. A pin knows
asserted and not asserted; polarity is kept and changes nothing. An edge at a masked pin is lost. A level-triggered
interrupt that no local APIC takes, because all are disabled, is sent when one is enabled.
"""

from __future__ import annotations

from typing import ClassVar

from e2kemu import trace
from e2kemu.devices import vmstate as vm
from e2kemu.devices.core import Reg
from e2kemu.devices.lapic import EXTINT, FIXED, LOWEST, MODES, ApicBus, bits_of
from e2kemu.devices.pic import IoController

VERSION = 0x11
ENTRY_LOGICAL, ENTRY_PENDING, ENTRY_POLARITY, ENTRY_REMOTE_IRR = 1 << 11, 1 << 12, 1 << 13, 1 << 14
ENTRY_LEVEL, ENTRY_MASKED = 1 << 15, 1 << 16
ENTRY_BITS = 0xFF00_0000_0001_EFFF
READ_ONLY = ENTRY_PENDING | ENTRY_REMOTE_IRR
TABLE = 0x10


class IoApic(IoController):
    """I/O APIC with 24 pins"""

    name = "ioapic"
    size = 0x1000

    select = Reg("u32", 0x00, mask=0xFF, doc="IOREGSEL: register in IOWIN")
    window = Reg("u32", 0x10, read="_read_window", write="_write_window", doc="IOWIN: the selected register")

    id = Reg("u8", doc="31:24 of register 0")

    vmstate: ClassVar[vm.VMState] = vm.VMState(
        "ioapic", 1, [select, id, vm.u32("levels"), vm.array(vm.u64("entries"), IoController.pin_count)],
        post_load="_post_load",
    )  # fmt: skip

    def __init__(self, bus: ApicBus, number: int) -> None:
        """``number`` is its id after power-on."""
        super().__init__()
        self._bus, self._number = bus, number
        self.entries = [ENTRY_MASKED] * self.pin_count
        self.id = number
        bus.on_eoi.append(self._eoi)
        bus.on_enable.append(self._retry)

    def reset(self) -> None:
        """All pins masked. What asserts them is reset, too."""
        super().reset()
        self.id = self._number
        self.entries = [ENTRY_MASKED] * self.pin_count

    # -- registers

    def _read_window(self) -> int:
        number = self.select
        if number in (0, 2):
            return self.id << 24
        if number == 1:
            return (self.pin_count - 1) << 16 | VERSION
        pin = (number - TABLE) >> 1
        if 0 <= pin < self.pin_count:
            return self.entries[pin] >> 32 * (number & 1) & 0xFFFF_FFFF
        trace.guest_error(f"{self.name}: read of register {number:#x}, which does not exist")
        return 0

    def _write_window(self, value: int) -> None:
        number = self.select
        pin = (number - TABLE) >> 1
        if number == 0:
            self.id = value >> 24
        elif 0 <= pin < self.pin_count:
            shift = 32 * (number & 1)
            entry = self.entries[pin]
            entry = entry & ~(0xFFFF_FFFF << shift) | value << shift
            entry = entry & ENTRY_BITS & ~READ_ONLY | self.entries[pin] & READ_ONLY
            if not entry & ENTRY_LEVEL:
                entry &= ~ENTRY_REMOTE_IRR
            self.entries[pin] = entry
            self._serve_level(pin)
        else:
            trace.guest_error(f"{self.name}: write of {value:#x} to register {number:#x}, which is not to be written")

    # -- interrupts

    def changed(self, pin: int, level: bool) -> None:
        """Edge-triggered: the rise is the interrupt; level-triggered: while it is up."""
        entry = self.entries[pin]
        if not level or entry & ENTRY_MASKED:
            return
        if entry & ENTRY_LEVEL:
            self._serve_level(pin)
        else:
            self._send(pin)

    def _serve_level(self, pin: int) -> None:
        entry = self.entries[pin]
        busy = entry & (ENTRY_MASKED | ENTRY_REMOTE_IRR) or not entry & ENTRY_LEVEL
        if busy or not self.levels >> pin & 1:
            return
        if self._send(pin) and entry >> 8 & 7 in (FIXED, LOWEST):
            self.entries[pin] |= ENTRY_REMOTE_IRR

    def _send(self, pin: int) -> bool:
        entry = self.entries[pin]
        mode = entry >> 8 & 7
        self.counts[pin] += 1
        if mode == EXTINT:
            trace.guest_error(f"{self.name}: pin {pin} is ExtINT: there is no 8259 that gives a vector")
            return False
        targets = self._bus.targets(entry >> 56, bool(entry & ENTRY_LOGICAL))
        return self._bus.send(targets, mode, entry & 0xFF, bool(entry & ENTRY_LEVEL))

    def _eoi(self, vector: int) -> None:
        for pin, entry in enumerate(self.entries):
            if entry & (ENTRY_REMOTE_IRR | ENTRY_LEVEL | 0xFF) == ENTRY_REMOTE_IRR | ENTRY_LEVEL | vector:
                self.entries[pin] &= ~ENTRY_REMOTE_IRR
                self._serve_level(pin)

    def _retry(self) -> None:
        for pin in bits_of(self.levels):
            self._serve_level(pin)

    # -- printing and migration

    def info(self) -> list[str]:
        lines = [f"ioapic0: ver={VERSION:#x} id={self.id:#04x} sel={self.select:#04x}"]
        for pin, entry in enumerate(self.entries):
            lines.append(
                f"  pin {pin:<2} {entry:#018x} dest={entry >> 56:x} vec={entry & 0xFF:<3}"
                f" {'active-lo' if entry & ENTRY_POLARITY else 'active-hi'}"
                f" {'level' if entry & ENTRY_LEVEL else 'edge ':5} {'masked' if entry & ENTRY_MASKED else '      '}"
                f" {MODES[entry >> 8 & 7]:6} {'logical' if entry & ENTRY_LOGICAL else 'physical'}"
            )
        remote = sum(1 << pin for pin, entry in enumerate(self.entries) if entry & ENTRY_REMOTE_IRR)
        for label, bits in (("IRR", self.levels), ("Remote IRR", remote)):
            lines.append(f"  {label + ':':<15} {' '.join(map(str, bits_of(bits))) or '(none)'}")
        return lines

    def _post_load(self, version: int) -> None:
        if self.levels >> self.pin_count or self.select > 0xFF:
            raise ValueError(f"levels {self.levels:#x}, select {self.select:#x}")
        if any(entry & ~ENTRY_BITS & ~READ_ONLY for entry in self.entries):
            raise ValueError("an entry has bits that there are not")
