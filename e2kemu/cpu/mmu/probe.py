"""What probes of the TLB answer: software asks for the translation of an address.

Nothing is marked and no trap comes: the tables say what an access would find.

    entries in the old format (v1..v5)             in the new one (v6 with %core_mode.pt_v6)
    translated                                     translated: bit 7 is set
      WR1 NX2 PWT3 CD1 4 D6 G8 CD2 9 NWA10           W1 PV2 VVA3 INT_PR4 D6 G8 NWA9
      PHA39:12 VVA40 PV41 INT_PR42                   PHA47:12 MT62:60 NX63
    not translated                                 not translated: bit 7 is 0
      PH_BOUND63 ILLEGAL62 MISS61 level60:59         PH_BOUND63 ILLEGAL62 MISS61 RES60 level 2:0
      disabled58 RES57

Levels of the old format count as miss_lvl of the trap cellar does (3 PGD .. 0 PTE), of the new one as Linux numbers
them (4 PGD .. 1 PTE). While translation is off the old format answers "disabled", the new one with the address itself.
Source: semantics reference, section 10; Linux for e2k (probe formats).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from e2kemu.cpu.mmu import formats
from e2kemu.cpu.mmu.faults import ILLEGAL_PAGE, PAGE_MISS, PageFault
from e2kemu.cpu.rights import READ

if TYPE_CHECKING:
    from e2kemu.cpu.mmu.unit import Mmu

ILLEGAL, MISS = 1 << 62, 1 << 61
OLD_DISABLED, OLD_RES, OLD_LEVEL = 1 << 58, 1 << 57, 59
NEW_SUCCESS, NEW_RES = 1 << 7, 1 << 60

_M48 = (1 << 48) - 1
_OLD_KEPT = 1 << 1 | 1 << 3 | 1 << 4 | 1 << 6 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 40 | 1 << 41 | 1 << 42
_NEW_KEPT = 0x35E | 1 << 63 | 7 << 60


def _failed(mmu: Mmu, fault: PageFault) -> int:
    bits = (ILLEGAL if fault.fault_type & ILLEGAL_PAGE else 0) | (MISS if fault.fault_type & PAGE_MISS else 0)
    if mmu.format is formats.NEW:
        return (bits or NEW_RES) | fault.level + 1
    return (bits or OLD_RES) | fault.level << OLD_LEVEL


def entry(mmu: Mmu, virtual: int) -> int:
    """The answer to a probe of the entry."""
    new = mmu.format is formats.NEW
    if not mmu.on:
        return NEW_SUCCESS | 1 << 1 | 1 << 3 | 1 << 6 | virtual & mmu.format.frame if new else OLD_DISABLED
    try:
        located = mmu.locate(virtual, READ)
    except PageFault as fault:
        return _failed(mmu, fault)
    found, physical = located[0], mmu.physical(located, virtual) & mmu.format.frame
    if new:
        return found & _NEW_KEPT | physical | NEW_SUCCESS
    return found & _OLD_KEPT | physical | (4 if found & mmu.format.no_execute else 0)


def address(mmu: Mmu, virtual: int) -> int:
    """The answer to a probe of the physical address."""
    if not mmu.on:
        return virtual & _M48 if mmu.format is formats.NEW else OLD_DISABLED
    try:
        return mmu.physical(mmu.locate(virtual, READ), virtual)
    except PageFault as fault:
        return _failed(mmu, fault)
