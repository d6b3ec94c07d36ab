"""IO-EPIC of the IOHUB, and PREPIC of the processor: where interrupts of devices become messages to CEPICs (v6).

IO-EPIC, one page of 4 KiB for each pin:

| offset | register |
|---|---|
| 0x00000 | 15:0 id, 31:16 node |
| 0x00004 | 7:0 version 2, 23:16 number of pins |
| pin * 0x1000 + 0x20 | INT_CTRL: 12 delivery status, 13 software interrupt (write 1 clears), 15 level, 16 mask |
| pin * 0x1000 + 0x24 | MSG_DATA: 9:0 vector, 15:13 delivery mode |
| pin * 0x1000 + 0x28 | ADDR_HIGH |
| pin * 0x1000 + 0x2c | ADDR_LOW: 15:6 destination, the full id of a CEPIC |
| 0x800 + pin * 4 | RID: who asks, for an IOMMU; no effect |

Writing 1 to delivery status is the end of a level-triggered interrupt, and changes nothing else in INT_CTRL, as
version 2 says. A pin that
is still asserted when its interrupt ends, or when it is unmasked, interrupts again.

PREPIC is in the system registers of the node, from 0x8000 on: control, identity, and the local inputs (LINP) for
errors of memory, IOMMU, links and power control, which nothing here causes.

Source: public headers of Linux for e2k (io_epic.h, io_epic_regs.h, sic_regs.h), and how its kernel uses them.
"""

from __future__ import annotations

from typing import ClassVar

from e2kemu import trace
from e2kemu.devices import vmstate as vm
from e2kemu.devices.cepic import MODES, VECTOR, EpicBus
from e2kemu.devices.core import Device, Reg
from e2kemu.devices.lapic import bits_of
from e2kemu.devices.pic import IoController

VERSION = 2
STATUS, SOFTWARE, LEVEL, MASKED = 1 << 12, 1 << 13, 1 << 15, 1 << 16
CTRL_BITS = STATUS | SOFTWARE | LEVEL | MASKED
DATA_BITS = VECTOR | 7 << 13
PAGE = 0x1000
INT_CTRL, MSG_DATA, ADDR_HIGH, ADDR_LOW, RID = 0x20, 0x24, 0x28, 0x2C, 0x800


class IoEpic(IoController):
    """IO-EPIC with 24 pins"""

    name = "ioepic"
    size = 0x100000

    id = Reg("u32", 0x0, doc="15:0 id, 31:16 node")
    version = Reg("u32", 0x4, reset=IoController.pin_count << 16 | VERSION, readonly=True,
                  doc="7:0 version, 23:16 number of pins")

    vmstate: ClassVar[vm.VMState] = vm.VMState(
        "ioepic", 1,
        [
            id, vm.u32("levels"), vm.array(vm.u32("ctrl"), IoController.pin_count),
            vm.array(vm.u32("data"), IoController.pin_count), vm.array(vm.u32("high"), IoController.pin_count),
            vm.array(vm.u32("low"), IoController.pin_count), vm.array(vm.u32("rid"), IoController.pin_count),
        ],
        post_load="_post_load",
    )  # fmt: skip

    def __init__(self, bus: EpicBus) -> None:
        super().__init__()
        self._bus = bus
        self._clear()

    def _clear(self) -> None:
        self.ctrl = [MASKED] * self.pin_count
        self.data, self.high, self.low, self.rid = ([0] * self.pin_count for _ in range(4))

    def reset(self) -> None:
        """All pins masked. What asserts them is reset, too."""
        super().reset()
        self._clear()

    # -- registers

    def _place(self, offset: int) -> tuple[list[int], int] | None:
        """The list and the place in it of the register at ``offset``."""
        pin, at = divmod(offset & ~3, PAGE)
        table = {INT_CTRL: self.ctrl, MSG_DATA: self.data, ADDR_HIGH: self.high, ADDR_LOW: self.low}.get(at)
        if table is not None and pin < self.pin_count:
            return table, pin
        if pin == 0 and RID <= at < RID + 4 * self.pin_count:
            return self.rid, (at - RID) // 4
        return None

    def mmio_read(self, offset: int, size: int) -> int:
        """A register."""
        place = self._place(offset)
        if place is None:
            return super().mmio_read(offset, size)
        table, pin = place
        return table[pin] >> 8 * (offset & 3) & ((1 << 8 * size) - 1)

    def mmio_write(self, offset: int, size: int, value: int) -> None:
        """Change a register, as a whole."""
        place = self._place(offset)
        if place is None:
            super().mmio_write(offset, size, value)
            return
        table, pin = place
        if size != 4:
            trace.guest_error(f"{self.name}: write of {size} bytes at {offset:#x} ignored")
        elif table is self.ctrl:
            self._write_ctrl(pin, value)
        else:
            table[pin] = value & (DATA_BITS if table is self.data else 0xFFFF_FFFF)

    def _write_ctrl(self, pin: int, value: int) -> None:
        if value & (STATUS | SOFTWARE):
            self.ctrl[pin] &= ~(value & (STATUS | SOFTWARE))
        else:
            self.ctrl[pin] = self.ctrl[pin] & (STATUS | SOFTWARE) | value & (LEVEL | MASKED)
            if not value & LEVEL:
                self.ctrl[pin] &= ~STATUS
        self._serve_level(pin)

    # -- interrupts

    def changed(self, pin: int, level: bool) -> None:
        """Edge-triggered: the rise is the interrupt; level-triggered: while it is up."""
        if level and not self.ctrl[pin] & (LEVEL | MASKED):
            self._send(pin)
        self._serve_level(pin)

    def _serve_level(self, pin: int) -> None:
        if self.ctrl[pin] & (LEVEL | MASKED | STATUS) == LEVEL and self.levels >> pin & 1:
            self.ctrl[pin] |= STATUS
            self._send(pin)

    def _send(self, pin: int) -> None:
        self.counts[pin] += 1
        number, data = self.low[pin] >> 6 & 0x3FF, self.data[pin]
        targets = self._bus.find(number)
        if not targets:
            trace.guest_error(f"{self.name}: pin {pin} interrupts CEPIC {number:#x}, which does not exist")
        self._bus.send(targets, data >> 13, data & VECTOR)

    # -- printing and migration

    def info(self) -> list[str]:
        lines = [f"ioepic0: ver={VERSION} id={self.id:#x}"]
        for pin, (ctrl, data, low) in enumerate(zip(self.ctrl, self.data, self.low, strict=True)):
            lines.append(
                f"  pin {pin:<2} ctrl={ctrl:#07x} dest={low >> 6 & 0x3FF:x} vec={data & VECTOR:<4}"
                f" {'level' if ctrl & LEVEL else 'edge '} {'masked' if ctrl & MASKED else '      '} {MODES[data >> 13]}"
            )
        busy = sum(1 << pin for pin, ctrl in enumerate(self.ctrl) if ctrl & STATUS)
        for label, bits in (("IRR", self.levels), ("Delivered", busy)):
            lines.append(f"  {label + ':':<15} {' '.join(map(str, bits_of(bits))) or '(none)'}")
        return lines

    def _post_load(self, version: int) -> None:
        if self.levels >> self.pin_count:
            raise ValueError(f"levels {self.levels:#x}")
        if any(ctrl & ~CTRL_BITS for ctrl in self.ctrl) or any(data & ~DATA_BITS for data in self.data):
            raise ValueError("a pin has bits that there are not")


ENTRY_BITS = VECTOR | 7 << 13 | MASKED | 0x3FF << 20


class Prepic(Device):
    """EPIC part of the processor's system registers"""

    name = "prepic"
    size = 0x1000

    version = Reg("u32", 0x000, reset=VERSION, readonly=True, doc="version")
    ctrl = Reg("u32", 0x010, mask=0x900, reset=0x900, doc="8 the boot CPU's, 11 EPIC enabled")
    id = Reg("u32", 0x020, readonly=True, doc="9:8 node")
    ctrl2 = Reg("u32", 0x030, mask=0x1200, doc="9 BGI mode, 12 virtualization; no effect")
    err_stat = Reg("u32", 0x040, readonly=True, doc="errors; none happen")
    err_msg_lo = Reg("u32", 0x050, readonly=True, doc="message of the error")
    err_msg_hi = Reg("u32", 0x054, readonly=True, doc="its high half")
    err_int = Reg("u32", 0x060, mask=ENTRY_BITS, reset=MASKED, doc="error: 9:0 vector, 15:13 mode, 16 mask, 29:20 whom")
    mcr = Reg("u32", 0x070, doc="monitor control; no effect")
    mid = Reg("u32", 0x074, doc="monitor id; no effect")
    linp0 = Reg("u32", 0xC00, mask=ENTRY_BITS, reset=MASKED, doc="host controller, emergency; no source")
    linp1 = Reg("u32", 0xC04, mask=ENTRY_BITS, reset=MASKED, doc="IOMMU; no source")
    linp2 = Reg("u32", 0xC08, mask=ENTRY_BITS, reset=MASKED, doc="uncore; no source")
    linp3 = Reg("u32", 0xC0C, mask=ENTRY_BITS, reset=MASKED, doc="links; no source")
    linp4 = Reg("u32", 0xC10, mask=ENTRY_BITS, reset=MASKED, doc="host controller; no source")
    linp5 = Reg("u32", 0xC14, mask=ENTRY_BITS, reset=MASKED, doc="power control; no source")

    vmstate: ClassVar[vm.VMState] = vm.VMState(
        "prepic", 1, [ctrl, ctrl2, err_int, mcr, mid, linp0, linp1, linp2, linp3, linp4, linp5]
    )
