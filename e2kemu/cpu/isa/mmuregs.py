"""MMU registers: names for addresses of loads and stores with a special memory access specifier.

``mmurr %name, %dr1`` is ``ldd`` from ``address``, ``mmurw`` a ``std`` to it, with ``mas``: 0x47 the MMU
itself, 0x5f level-2 cache, 0x6f tables of locks and the data debugger. Names, addresses and versions: register tables
of the binutils port; bits that exist and what is in them after reset: headers of Linux for e2k.

``writable_since`` is what the assembler accepts; hardware has always let system software write %trap_count and
%us_cl_*, and Linux does.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MmuRegister:
    """``since`` is the first instruction set that has it, ``writable_since`` the first in which it can
    be written (0: never); ``read_channel`` is the ALC that reads it.

    ``bits`` are those that a write reaches (the others read as 0), ``reset`` the value after power-on. Of rows with the
    same address the newest one that the instruction set has counts."""

    name: str
    address: int
    mas: int = 0x47
    since: int = 1
    read_channel: int = 2
    writable_since: int = 1
    bits: int = (1 << 64) - 1
    reset: int = 0


_M = MmuRegister
_L2 = ("bist_sig1", "bist_sig2", "bisr_ctrl", "ctrl", "ecc_dbg", "err")

MMU_REGISTERS: tuple[MmuRegister, ...] = (
    _M("mmu_cr", 0x0, bits=0xFFFF),
    _M("cont", 0x10, bits=0xFFF),
    _M("pid", 0x10, since=6, bits=0xFFF),
    _M("cr3_rg", 0x20, bits=0xFF_FFFF_F018),
    _M("u2_pptb", 0x20, since=6, bits=0xFFFF_FFFF_F000),
    _M("elb_ptb", 0x30, bits=0xFF80_0000_0000),
    _M("u_vptb", 0x30, since=6, bits=0xFF80_0000_0000),
    _M("root_ptb", 0x40, bits=0xFF_FFFF_F000),
    _M("u_pptb", 0x40, since=6, bits=0xFFFF_FFFF_F000),
    _M("trap_point", 0x50, bits=0xFF_FFFF_FE00),
    _M("trap_point", 0x50, since=4, bits=0xFF_FFFF_FC00),
    _M("trap_point", 0x50, since=6, bits=0xFFFF_FFFF_FC00),
    _M("trap_count", 0x60, writable_since=6, bits=0x3F),
    _M("mpt_b", 0x70, bits=0xFF_FFFF_F000),
    _M("pci_l_b", 0x80, bits=0xFFC0_0000),
    _M("us_cl_d", 0x90, bits=1),
    _M("ph_h_b", 0xA0, bits=0xFFC0_0000),
    _M("used_4kb_dtlb", 0xB0, since=2),
    _M("used_dtlb_mpt_dw", 0xC0, since=2),
    _M("apic_base", 0xD0, reset=0xFEE0_0000),
    _M("mu_hw0", 0xE0, since=2),
    _M("cont_second", 0xF0, since=3, bits=0xFFF),
    _M("pid2", 0xF0, since=6, bits=0xFFF),
    _M("pat", 0x310, since=3),
    _M("ph_hi_l_b", 0x320, since=3),
    _M("ph_hi_h_b", 0x330, since=3),
    _M("os_vptb", 0x340, since=6, bits=0xFF80_0000_0000),
    _M("os_pptb", 0x350, since=6, bits=0xFFFF_FFFF_F000),
    _M("pdpte0", 0x380),
    _M("pdpte1", 0x390),
    _M("pdpte2", 0x3A0),
    _M("pdpte3", 0x3B0),
    _M("tlu_cache", 0x3C0, since=3),
    _M("tlu_cmd_mem", 0x3E0, since=3),
    _M("virt_ctrl_mu", 0x400, since=6),
    _M("gid", 0x410, since=6, bits=0xFFF),
    _M("gp_vptb", 0x420, since=6, bits=0xFF80_0000_0000),
    _M("gp_pptb", 0x430, since=6, bits=0xFFFF_FFFF_F000),
    _M("intc_info_mu", 0x440, since=6),
    _M("intc_ptr_mu", 0x450, since=6),
    _M("sh_os_vptb", 0x460, since=6, bits=0xFF80_0000_0000),
    _M("sh_os_pptb", 0x470, since=6, bits=0xFFFF_FFFF_F000),
    _M("g_w_imask_mmu_cr", 0x480, since=6),
    _M("sh_pid", 0x490, since=6, bits=0xFFF),
    _M("sh_mmu_cr", 0x4A0, since=6, bits=0xFFFF),
    _M("os_vab", 0x4C0, since=6, bits=0xF000_0000_0000),
    _M("sh_os_vab", 0x4D0, since=6, bits=0xF000_0000_0000),
    _M("us_cl_b", 0x24, mas=0x6F, read_channel=5, writable_since=6),
    _M("us_cl_up", 0x124, mas=0x6F, read_channel=5, writable_since=6),
    _M("us_cl_m0", 0x4, mas=0x6F, read_channel=5, writable_since=6),
    _M("us_cl_m1", 0x84, mas=0x6F, read_channel=5, writable_since=6),
    _M("us_cl_m2", 0x104, mas=0x6F, read_channel=5, writable_since=6),
    _M("us_cl_m3", 0x184, mas=0x6F, read_channel=5, writable_since=6),
    _M("ddbcr", 0x87, mas=0x6F, read_channel=5),
    _M("ddmcr", 0x107, mas=0x6F, read_channel=5),
    _M("ddbsr", 0xA7, mas=0x6F, read_channel=5),
    _M("ddbar0", 0x7, mas=0x6F, read_channel=5),
    _M("ddbar1", 0x27, mas=0x6F, read_channel=5),
    _M("ddbar2", 0x47, mas=0x6F, read_channel=5),
    _M("ddbar3", 0x67, mas=0x6F, read_channel=5),
    _M("ddmar0", 0xC7, mas=0x6F, read_channel=5),
    _M("ddmar1", 0xE7, mas=0x6F, read_channel=5),
    *(_M(f"mtrr{n}", 0x100 + 0x10 * n, reset=0x806 if n == 32 else 0) for n in range(33)),
    *(
        _M(f"mlt{letter}{n}", 0x05 + 0x20 * part + 0x80 * n, mas=0x6F, writable_since=0)
        for n in range(16)
        for part, letter in enumerate("abc")
    ),
    *(
        _M(f"l2_b{bank}_{name}", 0x100 * kind + 0x40 * bank, mas=0x5F, since=2, writable_since=int(kind > 0))
        for bank in range(4)
        for kind, name in enumerate(_L2)
    ),
)


def find(name: str, version: int) -> MmuRegister | None:
    """The register of that name (without the percent sign) in instruction set ``version``."""
    for register in MMU_REGISTERS:
        if register.name == name and register.since <= version:
            return register
    return None


def rows(version: int) -> dict[tuple[int, int], MmuRegister]:
    """The registers of instruction set ``version`` by (specifier, address)."""
    found: dict[tuple[int, int], MmuRegister] = {}
    for register in MMU_REGISTERS:
        place = register.mas, register.address
        if register.since <= version and (place not in found or found[place].since <= register.since):
            found[place] = register
    return found
