"""Page tables made in a guest's RAM, for the tests: what a kernel would do."""

from __future__ import annotations

from e2kemu.cpu.mmu import Mmu
from tests.cpu.guest import Guest

TABLES = 0x200_0000
"""Where tables are made: 4 KiB each, upwards."""

MMU_CR, ROOT = 0, 4
PAGE = 4096


class Tables:
    """The page tables of one address space of ``guest``."""

    def __init__(self, guest: Guest, at: int = TABLES) -> None:
        self.guest, self.root, self.next = guest, at, at + PAGE
        self.format = guest.cpu.core.mmu.format

    def _table(self, place: int) -> int:
        """The table that the entry at ``place`` names; made when it names none."""
        f = self.format
        entry = int.from_bytes(self.guest.space.read_bytes(place, 8), "little")
        if not entry & f.present:
            entry = self.next | f.present | f.valid | f.privileged | f.no_execute
            self.guest.space.write_bytes(place, entry.to_bytes(8, "little"))
            self.next += PAGE
        return entry & f.frame

    def place(self, virtual: int, last: int = 12) -> int:
        """Physical address of the entry of a page; ``last``: the shift of its level."""
        table, shift = self.root, 39
        while shift > last:
            table = self._table(table + 8 * (virtual >> shift & 511))
            shift -= 9
        return table + 8 * (virtual >> last & 511)

    def map(self, virtual: int, physical: int, count: int = 1, *, user: bool = True, write: bool = True,
            execute: bool = True, large: bool = False) -> None:
        """Map ``count`` pages (of 2 MiB when ``large``)."""
        f, shift = self.format, 21 if large else 12
        flags = f.present | f.valid | f.write * write | f.privileged * (not user) | f.no_execute * (not execute)
        for number in range(count):
            entry = physical + (number << shift) | flags | f.huge * large
            self.guest.space.write_bytes(self.place(virtual + (number << shift), shift), entry.to_bytes(8, "little"))

    def unmap(self, virtual: int) -> None:
        """Take a page away; nobody is told."""
        self.guest.space.write_bytes(self.place(virtual), bytes(8))

    def use(self) -> None:
        """Let the MMU translate by these tables."""
        mmu: Mmu = self.guest.cpu.core.mmu
        mmu.write_register(ROOT, self.root)
        mmu.write_register(MMU_CR, 1)
