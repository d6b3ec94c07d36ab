"""Special accesses: loads and stores of ALC2 and ALC5 whose memory access specifier has mod 7.

Bits 6:3 of the specifier are the code; the address says what of it.

| code | load | store | user code may |
|---|---|---|---|
| 0 | | caches: address 0 invalidate, 1 write back | |
| 1 | | a line of the data caches | store |
| 2 | | address 0, 2: a line of the instruction cache; 1, 3: a page of the TLB, named by the value | with address 0 |
| 3 | | memory locks | store |
| 4 | | address 0: instruction cache; 1: TLB | |
| 5 | physical address of an address | | |
| 6 | TLB entry of an address | | |
| 8 | MMU register | MMU register | |
| 9 | DTLB: nothing is kept there, every line reads as not valid | ignored | |
| a c e | L1, instruction cache, PCS: 0 | ignored | |
| b d | registers of L2; of CLW, debug, locks | the same | |

Caches of data are not modelled: their flushes have nothing to do. Those of instruction caches make every CPU drop what
it translated there (``Core.special_store``): what one CPU stores another notices by itself, but for sure only so. Code
7 (array access unit) never comes here.

Source: semantics reference, section 7.1; Linux for e2k (flush operations, probes).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from e2kemu import trace
from e2kemu.cpu.mmu.unit import M48, MMU_MAS

if TYPE_CHECKING:
    from e2kemu.cpu.mmu.unit import Mmu

CACHE_FLUSH, LINE_FLUSH, PAGE_FLUSH, LOCKS, TLB_FLUSH, ADDRESS_PROBE, ENTRY_PROBE = range(7)
MMU_REGISTER, DTLB, L1, L2, ICACHE, DEBUG, PCS = range(8, 15)

LOADS = frozenset((ADDRESS_PROBE, ENTRY_PROBE, MMU_REGISTER, DTLB, L1, L2, ICACHE, DEBUG, PCS))
STORES = LOADS - {ADDRESS_PROBE, ENTRY_PROBE} | {CACHE_FLUSH, LINE_FLUSH, PAGE_FLUSH, LOCKS, TLB_FLUSH}
USER_STORES = frozenset((LINE_FLUSH, PAGE_FLUSH, LOCKS))
"""Codes of stores that user code may do; of PAGE_FLUSH only address 0."""

NO_EFFECT = frozenset((CACHE_FLUSH, LINE_FLUSH, LOCKS))
"""Codes of stores that change nothing that is modelled."""

_TLB_PAGE, _TLB_PAGE_TLU = 1, 3
"""Addresses (bits 2:0) of PAGE_FLUSH that mean the TLB."""

_REGISTERS = (L2, DEBUG)


def _mas(opc: int) -> int:
    return opc << 3 | 7


def load(mmu: Mmu, opc: int, address: int) -> int:
    """The value of a special load of 8 bytes."""
    if opc == MMU_REGISTER:
        return mmu.read_special(MMU_MAS, address & 0xFF0)
    if opc == ENTRY_PROBE:
        return mmu.probe(address)
    if opc == ADDRESS_PROBE:
        return mmu.probe_address(address)
    if opc in _REGISTERS:
        return mmu.read_special(_mas(opc), address & 0x7FF)
    trace.unimp(f"special load of {address:#x} mas={_mas(opc):#x}: nothing is kept there")
    return 0


def store(mmu: Mmu, opc: int, address: int, value: int) -> None:
    """Do a special store of 8 bytes."""
    if opc == MMU_REGISTER:
        mmu.write_special(MMU_MAS, address & 0xFF0, value)
    elif opc == PAGE_FLUSH:
        if address & 7 in (_TLB_PAGE, _TLB_PAGE_TLU):
            mmu.flush_page(value & M48)
    elif opc == TLB_FLUSH:
        if address & 7 == 1:
            mmu.flush_all()
    elif opc in _REGISTERS:
        mmu.write_special(_mas(opc), address & 0x7FF, value)
    elif opc in (DTLB, L1, ICACHE, PCS):
        trace.unimp(f"special store of {value:#x} to {address:#x} mas={_mas(opc):#x}: nothing is kept there")
