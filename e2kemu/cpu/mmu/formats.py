"""Entries of page tables, by instruction set.

Four levels of 512 entries of 8 bytes each: PGD (a root of 512 GiB entries), PUD, PMD, PTE. An entry of PMD or PUD with
the bit *huge* maps a page itself where its level can (``Level.page_shift``). What a directory entry needs is *present*
and *valid*; what may be done with a page is said by the entry that maps it alone: Linux marks all its directories
privileged and not executable, user code below them runs.

| | v2 | v3, v4 | v5 | v6 |
|---|---|---|---|---|
| entry | old | old | old | new, or old while %core_mode.pt_v6 is 0 |
| PMD page | 4 MiB, by two equal entries | 2 MiB | 2 MiB | 2 MiB |
| PUD page | - | - | 1 GiB | 1 GiB |

Source: semantics reference, section 10; headers of Linux for e2k (page table formats and level descriptions).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

PAGE_SHIFT = 12
VIRTUAL_BITS = 48
"""Bits of a virtual address that count; hardware ignores those above."""


@dataclass(frozen=True, slots=True)
class Level:
    """A level of the tables: the bit of the address where its index begins, and log2 of the page that its entries map
    (0: they only point to tables)."""

    name: str
    shift: int
    page_shift: int = 0


@dataclass(frozen=True, slots=True)
class Format:
    """Masks of the bits of an entry, and the levels from the root down. ``uncached`` are the bits of the memory type:
    0 there is ordinary, cached memory."""

    name: str
    present: int
    write: int
    privileged: int
    valid: int
    protected: int
    accessed: int
    dirty: int
    huge: int
    is_global: int
    no_write_address: int
    no_execute: int
    frame: int
    uncached: int
    levels: tuple[Level, ...]


def _levels(pmd: int, pud: int) -> tuple[Level, ...]:
    return Level("PGD", 39), Level("PUD", 30, pud), Level("PMD", 21, pmd), Level("PTE", 12, 12)


OLD = Format(
    name="v3", present=1 << 0, write=1 << 1, privileged=1 << 41, valid=1 << 40, protected=1 << 42, accessed=1 << 5,
    dirty=1 << 6, huge=1 << 7, is_global=1 << 8, no_write_address=1 << 10, no_execute=1 << 43, frame=0xFF_FFFF_F000,
    uncached=1 << 3 | 1 << 4 | 1 << 9, levels=_levels(21, 0))
"""v3 and v4."""

OLDEST = replace(OLD, name="v2", levels=_levels(22, 0))
"""v1 and v2: the large page is one of 4 MiB, and both PMD entries of it say so."""

LATE = replace(OLD, name="v5", levels=_levels(21, 30))
"""v5, and v6 in its old mode."""

NEW = Format(
    name="v6", present=1 << 0, write=1 << 1, privileged=1 << 2, valid=1 << 3, protected=1 << 4, accessed=1 << 5,
    dirty=1 << 6, huge=1 << 7, is_global=1 << 8, no_write_address=1 << 9, no_execute=1 << 63, frame=0xFFFF_FFFF_F000,
    uncached=7 << 60, levels=_levels(21, 30))
"""v6 with %core_mode.pt_v6."""


def choose(version: int, pt_v6: bool) -> Format:
    """The format of instruction set ``version``; ``pt_v6``: the bit of %core_mode, which only v6 looks at."""
    if version >= 6:
        return NEW if pt_v6 else LATE
    if version == 5:
        return LATE
    return OLD if version >= 3 else OLDEST
