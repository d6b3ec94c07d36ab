"""The I/O port window: the 65536 ports of the x86-style I/O space, seen as memory.

Devices on ports are mapped over it at ``window + port``; this is what answers where there is none.
"""

from __future__ import annotations

from e2kemu import trace
from e2kemu.devices.core import Device


class IoPorts(Device):
    """I/O port window (ports without a device read as ones)"""

    name = "e2k-ioports"
    size = 0x10000

    def mmio_read(self, offset: int, size: int) -> int:
        """All ones, logged."""
        trace.guest_error(f"{self.name}: read of {size} bytes from port {offset:#x}: no device there")
        return (1 << 8 * size) - 1

    def mmio_write(self, offset: int, size: int, value: int) -> None:
        """Nothing, logged."""
        trace.guest_error(f"{self.name}: write of {value:#x} to port {offset:#x}: no device there")
