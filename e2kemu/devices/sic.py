"""SIC: the system registers (north bridge, NSR) of one node.

Only the routing registers exist, read-only and constant: they say that node 0 is the only one and
where its RAM lies (fields as in the public Linux headers for e2k):

* rt_lcfg0: 0x0b - node present, boot strap node, has I/O;
* rt_mlo0: low RAM, bits 15:11 first and 31:27 last 128 MiB unit;
* rt_mhi0: RAM above 4 GiB, bits 15:0 first and 31:16 last 4 GiB unit (0: there is none).
* rt_pcicfgb: where PCI configuration space lies, bits 20:3 its address in units of 1 GiB; zero without PCI.

All others read as zero; -d guest_errors shows such reads, and all writes.
"""

from __future__ import annotations

from e2kemu import trace
from e2kemu.devices.core import Device, Reg

LCFG_PRESENT_BOOT_IO = 0x0B
"""rt_lcfg0: vp, vb and vio set."""

LOW_UNIT_BITS = 27
"""rt_mlo counts in units of 128 MiB."""

HIGH_UNIT_BITS = 32
"""rt_mhi counts in units of 4 GiB."""

CONFIG_UNIT_BITS = 30
"""rt_pcicfgb counts in units of 1 GiB."""


class Sic(Device):
    """System registers of node 0: routing of RAM"""

    name = "e2k-sic"
    size = 0x100000

    rt_lcfg0 = Reg("u32", 0x10, read="_lcfg0", readonly=True, doc="link configuration of node 0")
    rt_mhi0 = Reg("u32", 0x20, read="_mhi0", readonly=True, doc="RAM of node 0 above 4 GiB")
    rt_mlo0 = Reg("u32", 0x30, read="_mlo0", readonly=True, doc="RAM of node 0 below 4 GiB")

    rt_pcicfgb = Reg("u32", 0x90, read="_pcicfgb", readonly=True, doc="PCI configuration space")

    def __init__(self, low_size: int, high_base: int, high_size: int, config_base: int = 0) -> None:
        """RAM: ``low_size`` bytes from 0, ``high_size`` bytes (or 0) from ``high_base``. PCI configuration
        space is at ``config_base`` (0: there is none)."""
        super().__init__()
        self._config_base = config_base
        self._low_size, self._high_base, self._high_size = low_size, high_base, high_size

    def _lcfg0(self) -> int:
        return LCFG_PRESENT_BOOT_IO

    def _mlo0(self) -> int:
        return (self._low_size - 1) >> LOW_UNIT_BITS << 27

    def _mhi0(self) -> int:
        if not self._high_size:
            return 0
        last = (self._high_base + self._high_size - 1) >> HIGH_UNIT_BITS
        return last << 16 | self._high_base >> HIGH_UNIT_BITS

    def _pcicfgb(self) -> int:
        return self._config_base >> CONFIG_UNIT_BITS << 3

    def mmio_read(self, offset: int, size: int) -> int:
        """A register, or zero."""
        if offset not in self._at:
            trace.guest_error(f"{self.name}: read of register {offset:#x}, which is not modelled")
            return 0
        return super().mmio_read(offset, size)

    def mmio_write(self, offset: int, size: int, value: int) -> None:
        """Nothing: the routing of this machine is fixed."""
        trace.guest_error(f"{self.name}: write of {value:#x} to register {offset:#x} ignored")

    def properties(self) -> dict[str, str]:
        """What ``info qtree`` shows."""
        return {"node": "0", "low-ram": f"{self._low_size:#x}", "high-ram": f"{self._high_size:#x}"}
