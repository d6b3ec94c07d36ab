"""SIC: the system registers (north bridge, NSR) of one node.

Only the routing registers exist, read-only and constant: they say that node 0 is the only one and
where its RAM lies (fields as in the public Linux headers for e2k):

* rt_lcfg0: 0x0b - node present, boot strap node, has I/O;
* rt_lcfg1..3: zero - no further nodes, and so have rt_mlo and rt_mhi 1..3 none of their RAM;
* rt_mlo0: low RAM, bits 15:11 first and 31:27 last 128 MiB unit;
* rt_mhi0: RAM above 4 GiB, bits 15:0 first and 31:16 last 4 GiB unit (0: there is none);
* rt_pcicfgb: where PCI configuration space lies, bits 20:3 its address in units of 1 GiB; zero without PCI;
* iol_csr: what is at the I/O link, bit 0 set for an IOHUB, bits 7:1 a 1 for nothing but it; zero without;
* io_csr: bit 31 set: the IOHUB is on; zero without.

Without the last two Linux looks for no IOHUB, and so for neither PCI nor a serial port.

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

IOL_CSR_IOHUB = 1 | 1 << 1
"""iol_csr: mode and abtype of an IOHUB alone."""

IO_CSR_ON = 1 << 31
"""io_csr: ch_on."""


class Sic(Device):
    """System registers of node 0: routing of RAM"""

    name = "e2k-sic"
    size = 0x100000

    rt_lcfg0 = Reg("u32", 0x10, read="_lcfg0", readonly=True, doc="link configuration of node 0")
    rt_lcfg1 = Reg("u32", 0x14, read="_none", readonly=True, doc="link configuration of node 1: absent")
    rt_lcfg2 = Reg("u32", 0x18, read="_none", readonly=True, doc="link configuration of node 2: absent")
    rt_lcfg3 = Reg("u32", 0x1C, read="_none", readonly=True, doc="link configuration of node 3: absent")
    rt_mhi0 = Reg("u32", 0x20, read="_mhi0", readonly=True, doc="RAM of node 0 above 4 GiB")
    rt_mhi1 = Reg("u32", 0x24, read="_none", readonly=True, doc="RAM of node 1 above 4 GiB: none")
    rt_mhi2 = Reg("u32", 0x28, read="_none", readonly=True, doc="RAM of node 2 above 4 GiB: none")
    rt_mhi3 = Reg("u32", 0x2C, read="_none", readonly=True, doc="RAM of node 3 above 4 GiB: none")
    rt_mlo0 = Reg("u32", 0x30, read="_mlo0", readonly=True, doc="RAM of node 0 below 4 GiB")
    rt_mlo1 = Reg("u32", 0x34, read="_none", readonly=True, doc="RAM of node 1 below 4 GiB: none")
    rt_mlo2 = Reg("u32", 0x38, read="_none", readonly=True, doc="RAM of node 2 below 4 GiB: none")
    rt_mlo3 = Reg("u32", 0x3C, read="_none", readonly=True, doc="RAM of node 3 below 4 GiB: none")
    rt_pcicfgb = Reg("u32", 0x90, read="_pcicfgb", readonly=True, doc="PCI configuration space")
    io_csr = Reg("u32", 0x704, read="_io", readonly=True, doc="state of the I/O link")
    iol_csr = Reg("u32", 0x900, read="_iol", readonly=True, doc="what is at the I/O link")

    def __init__(self, low_size: int, high_base: int, high_size: int, config_base: int = 0) -> None:
        """RAM: ``low_size`` bytes from 0, ``high_size`` bytes (or 0) from ``high_base``. PCI configuration
        space is at ``config_base`` (0: there is none)."""
        super().__init__()
        self._config_base = config_base
        self._low_size, self._high_base, self._high_size = low_size, high_base, high_size

    def _lcfg0(self) -> int:
        return LCFG_PRESENT_BOOT_IO

    def _none(self) -> int:
        return 0

    def _mlo0(self) -> int:
        return (self._low_size - 1) >> LOW_UNIT_BITS << 27

    def _mhi0(self) -> int:
        if not self._high_size:
            return 0
        last = (self._high_base + self._high_size - 1) >> HIGH_UNIT_BITS
        return last << 16 | self._high_base >> HIGH_UNIT_BITS

    def _pcicfgb(self) -> int:
        return self._config_base >> CONFIG_UNIT_BITS << 3

    def _io(self) -> int:
        return IO_CSR_ON if self._config_base else 0

    def _iol(self) -> int:
        return IOL_CSR_IOHUB if self._config_base else 0

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
