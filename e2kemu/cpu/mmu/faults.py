"""Page faults: why an address could not be translated, in the bits that the trap cellar's condition has.

The bits (47:35 of the condition): semantics reference, section 8.1, and Linux' description of the trap cellar.
"""

from __future__ import annotations

from e2kemu.cpu.isa.traps import EXC_DATA_PAGE, EXC_INSTR_PAGE_MISS, EXC_INSTR_PAGE_PROT
from e2kemu.cpu.rights import EXECUTE, WRITE

GLOBAL_SP, PAGE_BOUND, MEM_LOCK, PH_PR_PAGE, IO_PAGE, ISYS_PAGE, PROT_PAGE, PRIV_PAGE, ILLEGAL_PAGE, NWRITE_PAGE, \
    PAGE_MISS, PH_BOUND, INTL_RES = (1 << bit for bit in range(35, 48))
"""fault_type in the condition of a record of the trap cellar."""

NAMES = {GLOBAL_SP: "global_sp", PAGE_BOUND: "page_bound", MEM_LOCK: "mem_lock", PH_PR_PAGE: "ph_pr_page",
         IO_PAGE: "io_page", ISYS_PAGE: "isys_page", PROT_PAGE: "prot_page", PRIV_PAGE: "priv_page",
         ILLEGAL_PAGE: "illegal_page", NWRITE_PAGE: "nwrite_page", PAGE_MISS: "page_miss", PH_BOUND: "ph_bound",
         INTL_RES: "intl_res"}

MISS_LEVEL = 48
"""Where the condition has miss_lvl (2 bits)."""


class PageFault(Exception):
    """``access`` (READ, WRITE or EXECUTE) to ``virtual`` cannot be translated.

    ``fault_type`` are bits 47:35 of a cellar's condition, in place; ``level`` is the level the walk ended at: 3 PGD, 2
    PUD, 1 PMD, 0 PTE.
    """

    def __init__(self, virtual: int, access: int, fault_type: int, level: int) -> None:
        super().__init__(virtual, access, fault_type, level)
        self.virtual, self.access, self.fault_type, self.level = virtual, access, fault_type, level

    @property
    def condition(self) -> int:
        """What the fault contributes to the condition of its record."""
        return self.fault_type | self.level << MISS_LEVEL

    @property
    def is_missing(self) -> bool:
        """There is no page, whether the address is a valid one or not; False: there is one that forbids the access."""
        return bool(self.fault_type & (PAGE_MISS | ILLEGAL_PAGE))

    @property
    def is_deferred(self) -> bool:
        """A speculative load of it must trap, too: the address is a valid one, its page is only not there yet. At other
        faults such a load gives a diagnostic value."""
        return bool(self.fault_type & PAGE_MISS)

    @property
    def exc(self) -> int:
        """The exception that it is."""
        if self.access != EXECUTE:
            return EXC_DATA_PAGE
        return EXC_INSTR_PAGE_MISS if self.is_missing else EXC_INSTR_PAGE_PROT

    def __str__(self) -> str:
        what = {EXECUTE: "code at", WRITE: "store to"}.get(self.access, "load from")
        names = " ".join(name for bit, name in NAMES.items() if self.fault_type & bit)
        return f"{what} {self.virtual:#x}: {names}, level {self.level}"
