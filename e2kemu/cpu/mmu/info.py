"""What page tables map: the texts of ``info tlb`` and ``info mem``, in QEMU's formats.

Tables are the guest's and may be anything (a table may contain itself): the walk over all of them ends after
``ENTRIES_SHOWN`` entries.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from e2kemu.cpu.mmu.formats import Format

if TYPE_CHECKING:
    from e2kemu.cpu.mmu.unit import Mmu

ENTRIES_SHOWN = 100_000
"""Entries that are looked at; what comes behind is left out, and the text says so."""

OFF = "PG disabled"
LEFT_OUT = f"(more than {ENTRIES_SHOWN} entries: the rest is left out)"

_TABLE = 4096
_PWT = 1 << 3


def mappings(mmu: Mmu) -> Iterator[tuple[int, int, int, int]]:
    """(virtual address, bytes, physical address, entry) of every entry that maps something, by rising address. Raises
    OverflowError after ``ENTRIES_SHOWN`` entries."""
    budget = [ENTRIES_SHOWN]
    if mmu.low_root != mmu.high_root:
        yield from _below(mmu, mmu.low_root, 0, 0, budget, 0, mmu.boundary)
    yield from _below(mmu, mmu.high_root, 0, 0, budget, mmu.boundary, 1 << 48)


def _below(mmu: Mmu, table: int, depth: int, base: int, budget: list[int], start: int,
           end: int) -> Iterator[tuple[int, int, int, int]]:
    f, level = mmu.format, mmu.format.levels[depth]
    flat = mmu.space.find(table)
    if flat is None or flat.block is None or table + _TABLE > flat.end:
        return
    entries = np.frombuffer(mmu.space.read_bytes(table, _TABLE), dtype="<u8")
    needed = np.uint64(f.present | f.valid)
    last = depth + 1 == len(f.levels)
    for index in np.flatnonzero((entries & needed) == needed).tolist():
        virtual, entry = base | index << level.shift, int(entries[index])
        if not start <= virtual < end:
            continue
        budget[0] -= 1
        if budget[0] < 0:
            raise OverflowError
        if last or entry & f.huge:
            if level.page_shift:
                inside = (1 << level.page_shift) - 1
                yield virtual, 1 << level.shift, entry & f.frame & ~inside | virtual & inside, entry
        else:
            yield from _below(mmu, entry & f.frame, depth + 1, virtual, budget, start, end)


def _letters(f: Format, entry: int, size: int) -> str:
    shown = ((f.no_execute, "X"), (f.is_global, "G"), (f.dirty, "D"), (f.accessed, "A"), (f.uncached & ~_PWT, "C"),
             (f.uncached & _PWT, "T"), (f.write, "W"))
    text = {letter: letter if entry & bit else "-" for bit, letter in shown}
    text["P"] = "P" if size > _TABLE else "-"
    text["U"] = "-" if entry & f.privileged else "U"
    return "".join(text[letter] for letter in "XGPDACTUW")


def tlb_lines(mmu: Mmu) -> Iterator[str]:
    """``info tlb``: address, physical address and the bits of each mapping (a 4 MiB page is two entries).

    X not executable, G global, P large, D dirty, A accessed, C not cached, T written through, U for user code, W
    writable.
    """
    if not mmu.on:
        yield OFF
        return
    f = mmu.format
    try:
        for virtual, size, physical, entry in mappings(mmu):
            yield f"{virtual:016x}: {physical:016x} {_letters(f, entry, size)}"
    except OverflowError:
        yield LEFT_OUT


def mem_lines(mmu: Mmu) -> Iterator[str]:
    """``info mem``: ranges of addresses with equal rights: start-end size urw."""
    if not mmu.on:
        yield OFF
        return
    f, first, end, rights = mmu.format, 0, 0, ""
    try:
        for virtual, size, _, entry in mappings(mmu):
            found = f"{'-' if entry & f.privileged else 'u'}r{'w' if entry & f.write else '-'}"
            if virtual != end or found != rights:
                if end:
                    yield f"{first:016x}-{end:016x} {end - first:016x} {rights}"
                first, rights = virtual, found
            end = virtual + size
        if end:
            yield f"{first:016x}-{end:016x} {end - first:016x} {rights}"
    except OverflowError:
        yield LEFT_OUT
