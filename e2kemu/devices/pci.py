"""PCI: functions with their configuration space, a bridge, and the base address registers.

A function is a device whose registers are its configuration space (type 0 header)::

    0x00 vendor, device    0x04 command, status    0x08 revision, class    0x0c line size, latency, type, BIST
    0x10..0x24 base address registers    0x2c subsystem    0x34 capabilities    0x3c interrupt line, pin

Bytes that no register declares read as zero and ignore writes, as PCI wants. What lies behind a base address
register is a *window*: the registers of another device. A function decodes the window's addresses while its
command register has "memory" set; who hands it the accesses is the host bridge (``iohub.py``). Source: the
PCI local bus specification 3.0; bridges: the PCI-to-PCI bridge architecture specification 1.2.

After power-on the functions are as firmware leaves them: windows placed, memory enabled, buses numbered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from e2kemu.devices import vmstate as vm
from e2kemu.devices.core import Device, Reg
from e2kemu.memory.space import MmioHandler

CONFIG_SIZE = 0x1000
"""Bytes of one function's configuration space."""

VENDOR_MCST = 0x1FFF
COMMAND_MEMORY, COMMAND_MASTER, COMMAND_INTX_OFF = 1 << 1, 1 << 2, 1 << 10
STATUS_INTERRUPT = 1 << 3
MULTIFUNCTION = 0x80
BARS = 6
LINE_UNKNOWN = 0xFF
"""Interrupt line of a function that has none."""


@dataclass(frozen=True)
class Window:
    """``size`` bytes of registers behind base address register ``bar``, placed at ``base`` by power-on.

    ``size`` is a power of two, at least 16; the registers beyond ``handler_size`` read as zero.
    """

    bar: int
    size: int
    base: int
    handler: MmioHandler
    handler_size: int
    name: str


class PciFunction(Device):
    """A PCI function: its configuration space"""

    size = CONFIG_SIZE
    device_number: ClassVar[int] = 0
    """The device number of a class of functions."""
    class_code: ClassVar[int] = 0
    """Class, subclass and programming interface, 24 bits."""

    vendor = Reg("u16", 0x00, reset=VENDOR_MCST, readonly=True, doc="vendor")
    device = Reg("u16", 0x02, read="_device", readonly=True, doc="device")
    command = Reg("u16", 0x04, mask=COMMAND_MEMORY | COMMAND_MASTER | COMMAND_INTX_OFF, reset=COMMAND_MEMORY,
                  doc="1 memory, 2 bus master, 10 no interrupts")
    status = Reg("u16", 0x06, read="_status", readonly=True, doc="3 an interrupt is pending")
    revision = Reg("u8", 0x08, reset=1, readonly=True, doc="revision")
    interface = Reg("u8", 0x09, read="_interface", readonly=True, doc="programming interface")
    class_ = Reg("u16", 0x0A, read="_class", readonly=True, doc="class and subclass")
    line_size = Reg("u8", 0x0C, doc="cache line size")
    latency = Reg("u8", 0x0D, doc="latency timer")
    header_type = Reg("u8", 0x0E, read="_header_type", readonly=True, doc="header type, 7: several functions")
    bist = Reg("u8", 0x0F, readonly=True, doc="no self-test")
    interrupt_line = Reg("u8", 0x3C, read="_line", write="_write_line", doc="whatever firmware notes here")
    interrupt_pin = Reg("u8", 0x3D, read="_pin", readonly=True, doc="0: none, 1: INTA")

    line_note = Reg("u8", doc="interrupt line, as written")

    def __init__(self) -> None:
        super().__init__()
        self.windows: dict[int, Window] = {}
        self.place = (0, 0)
        """Bus after power-on, and device << 3 | function."""
        self.multifunction = False
        self.irq_line = LINE_UNKNOWN
        """What the interrupt line register says after power-on: the input of the interrupt controller."""
        self.intx = False
        """The level of the function's interrupt."""

    def reset(self) -> None:
        super().reset()
        self.line_note = self.irq_line

    def set_irq(self, level: bool) -> None:
        """The device behind the function drives its interrupt: the sink of its line."""
        self.intx = level

    # -- identity

    def _device(self) -> int:
        return self.device_number

    def _status(self) -> int:
        return STATUS_INTERRUPT if self.intx else 0

    def _interface(self) -> int:
        return self.class_code & 0xFF

    def _class(self) -> int:
        return self.class_code >> 8

    def _header_type(self) -> int:
        return MULTIFUNCTION if self.multifunction else 0

    def _line(self) -> int:
        return self.line_note

    def _write_line(self, value: int) -> None:
        self.line_note = value

    def _pin(self) -> int:
        return 0 if self.irq_line == LINE_UNKNOWN else 1

    def _parts(self, offset: int, size: int, what: str) -> Iterator[tuple[int, Reg, int, int]]:
        for at in range(offset, offset + size):
            reg = self._at.get(at)
            if reg is not None and reg.offset is not None and (at == offset or at == reg.offset):
                low = at - reg.offset
                yield at, reg, low, min(offset + size - at, reg.size - low)

    # -- windows

    def decode(self, address: int) -> tuple[Window, int] | None:
        """The window at ``address`` and the offset in it; None when the function does not answer there."""
        if self.command & COMMAND_MEMORY:
            for window in self.windows.values():
                base = self.values[f"bar{window.bar}"]
                if base <= address < base + window.size:
                    return window, address - base
        return None

    def properties(self) -> dict[str, str]:
        bus, devfn = self.place
        lines = {"addr": f"{bus:02x}:{devfn >> 3:02x}.{devfn & 7:x}",
                 "id": f"{self.values['vendor']:04x}:{self.device_number:04x}", "class": f"{self.class_code >> 8:04x}"}
        for window in self.windows.values():
            base = self.values[f"bar{window.bar}"]
            lines[f"bar{window.bar}"] = f"{base:#x} [{base + window.size - 1:#x}] {window.name}"
        return lines


class PciEndpoint(PciFunction):
    """A PCI function with windows (type 0 header)"""

    bar0 = Reg("u32", 0x10, read="_bar0", write="_write_bar0", doc="base address register 0")
    bar1 = Reg("u32", 0x14, read="_bar1", write="_write_bar1", doc="base address register 1")
    bar2 = Reg("u32", 0x18, read="_bar2", write="_write_bar2", doc="base address register 2")
    bar3 = Reg("u32", 0x1C, read="_bar3", write="_write_bar3", doc="base address register 3")
    bar4 = Reg("u32", 0x20, read="_bar4", write="_write_bar4", doc="base address register 4")
    bar5 = Reg("u32", 0x24, read="_bar5", write="_write_bar5", doc="base address register 5")
    subsystem_vendor = Reg("u16", 0x2C, reset=VENDOR_MCST, readonly=True, doc="subsystem vendor")
    subsystem = Reg("u16", 0x2E, read="_device", readonly=True, doc="subsystem: the device")

    def add_window(self, bar: int, size: int, base: int, device: Device) -> None:
        """Put the registers of ``device`` behind base address register ``bar``."""
        self.windows[bar] = Window(bar, size, base, device, device.size, device.name)

    def reset(self) -> None:
        super().reset()
        for window in self.windows.values():
            self.values[f"bar{window.bar}"] = window.base

    def _write_bar(self, bar: int, value: int) -> None:
        # a register without window stays zero: that is how software finds out
        window = self.windows.get(bar)
        self.values[f"bar{bar}"] = value & ~(window.size - 1) & 0xFFFF_FFFF if window else 0

    def _bar0(self) -> int:
        return self.bar0

    def _bar1(self) -> int:
        return self.bar1

    def _bar2(self) -> int:
        return self.bar2

    def _bar3(self) -> int:
        return self.bar3

    def _bar4(self) -> int:
        return self.bar4

    def _bar5(self) -> int:
        return self.bar5

    def _write_bar0(self, value: int) -> None:
        self._write_bar(0, value)

    def _write_bar1(self, value: int) -> None:
        self._write_bar(1, value)

    def _write_bar2(self, value: int) -> None:
        self._write_bar(2, value)

    def _write_bar3(self, value: int) -> None:
        self._write_bar(3, value)

    def _write_bar4(self, value: int) -> None:
        self._write_bar(4, value)

    def _write_bar5(self, value: int) -> None:
        self._write_bar(5, value)

    def check_loaded(self, version: int) -> None:
        """After a migration. Raises ValueError for a window where none can be."""
        for bar in range(BARS):
            window = self.windows.get(bar)
            base = self.values[f"bar{bar}"]
            if base & (window.size - 1 if window else 0xFFFF_FFFF):
                raise ValueError(f"base address register {bar} is {base:#x}")


FUNCTION_STATE = (PciFunction.command, PciFunction.line_size, PciFunction.latency, PciFunction.line_note)
"""What of every function travels."""

ENDPOINT_STATE = (
    *FUNCTION_STATE, PciEndpoint.bar0, PciEndpoint.bar1, PciEndpoint.bar2, PciEndpoint.bar3, PciEndpoint.bar4,
    PciEndpoint.bar5,
)  # fmt: skip
"""What of every function with windows travels, in the order of the wire."""


class PciBridge(PciFunction):
    """IOHUB virtual PCI-to-PCI bridge (type 1 header)"""

    name = "iohub-pci-bridge"
    device_number = 0x8017
    class_code = 0x060400

    primary = Reg("u8", 0x18, doc="primary bus")
    secondary = Reg("u8", 0x19, reset=1, doc="secondary bus")
    subordinate = Reg("u8", 0x1A, reset=1, doc="last bus behind the bridge")
    secondary_latency = Reg("u8", 0x1B, doc="latency timer of the secondary bus")
    memory_base = Reg("u16", 0x20, mask=0xFFF0, reset=0x8120, doc="15:4 first MiB of memory behind it")
    memory_limit = Reg("u16", 0x22, mask=0xFFF0, reset=0x8120, doc="15:4 last MiB of memory behind it")
    bridge_control = Reg("u16", 0x3E, mask=0x40, doc="6 reset of the secondary bus")

    vmstate: ClassVar[vm.VMState] = vm.VMState(
        "iohub-pci-bridge", 1,
        [
            *FUNCTION_STATE, primary, secondary, subordinate, secondary_latency, memory_base, memory_limit,
            bridge_control,
        ],
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.functions: dict[int, PciFunction] = {}
        """What is behind it, by device << 3 | function."""

    def _header_type(self) -> int:
        return super()._header_type() | 1

    def forwards(self, address: int) -> bool:
        """Whether an access of memory at ``address`` goes to the secondary bus."""
        first, last = self.memory_base << 16, self.memory_limit << 16 | 0xF_FFFF
        return bool(self.command & COMMAND_MEMORY) and first <= address <= last
