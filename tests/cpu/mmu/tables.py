"""Page tables for tests, and what the documents say that an address in them means: written without the emulator's own
description of entries."""

from __future__ import annotations

from dataclasses import dataclass, field

from e2kemu.cpu.isa.models import MODELS
from e2kemu.cpu.mmu import Mmu
from e2kemu.memory.ram import RAMBlock
from e2kemu.memory.space import AddressSpace, RAMRegion

OLD = {"P": 0, "W": 1, "A": 5, "D": 6, "PS": 7, "G": 8, "NWA": 10, "VALID": 40, "PV": 41, "INT_PR": 42, "NX": 43}
NEW = {"P": 0, "W": 1, "PV": 2, "VALID": 3, "INT_PR": 4, "A": 5, "D": 6, "PS": 7, "G": 8, "NWA": 9, "NX": 63}
FAULTS = {"prot_page": 41, "priv_page": 42, "illegal_page": 43, "nwrite_page": 44, "page_miss": 45, "intl_res": 47}
MODEL = {2: "e2c+", 3: "e2s", 4: "e8c", 5: "e8c2", 6: "e16c"}
KINDS = [(2, False), (3, False), (4, False), (5, False), (6, False), (6, True)]
"""(version, %core_mode.pt_v6) of every kind of MMU."""

CORE_MODE_SEP, CORE_MODE_PT_V6 = 1 << 2, 1 << 5
RAM = 1 << 16
READ, WRITE, EXECUTE = 1, 2, 4


def bits(new: bool, *names: str) -> int:
    """An entry with these bits."""
    places = NEW if new else OLD
    return sum(1 << places[name] for name in names)


def page_sizes(version: int) -> dict[int, int]:
    """Level (0 PTE .. 3 PGD) -> size of the pages that its entries map."""
    sizes = {0: 4096, 1: 4 << 20 if version <= 2 else 2 << 20}
    if version >= 5:
        sizes[2] = 1 << 30
    return sizes


def frame(new: bool, entry: int) -> int:
    """The physical address in an entry."""
    return entry & ((1 << 48 if new else 1 << 40) - 1) & ~0xFFF


@dataclass
class Tables:
    """An MMU with translation on, its memory and tables in it; of their own, or those of a guest (``mmu`` given)."""

    version: int
    new: bool = False
    root: int = 0x1000
    next_table: int = 0x2000
    space: AddressSpace = field(default_factory=AddressSpace)
    ram: RAMBlock = field(default_factory=lambda: RAMBlock("ram", RAM))
    mmu: Mmu = None  # type: ignore[assignment]
    boundary: int = 1 << 48
    high_root: int = 0
    """Addresses from ``boundary`` on have this root (%os_vab, %os_pptb)."""

    def __post_init__(self) -> None:
        if self.mmu is not None:
            return
        self.space.map(0, RAMRegion(self.ram), "ram")
        self.mmu = Mmu(MODELS[MODEL[self.version]], self.space)
        self.mmu.set_core_mode(CORE_MODE_PT_V6 if self.new else 0)
        self.mmu.write_register(4, self.root)
        self.mmu.write_register(0, 1)

    def root_of(self, virtual: int) -> int:
        """The table that the walk begins with."""
        return self.high_root if virtual >= self.boundary else self.root

    def read(self, place: int) -> int:
        return int.from_bytes(self.ram.read(place, 8), "little")

    def put(self, place: int, entry: int) -> None:
        self.ram.write(place, entry.to_bytes(8, "little"))

    def place(self, virtual: int, level: int, directory: tuple[str, ...] = ("P", "VALID", "PV"),
              root: int | None = None) -> int:
        """Where the entry of ``virtual`` at ``level`` is; tables above it are made as they are missing."""
        table = self.root_of(virtual) if root is None else root
        for step in range(3, level, -1):
            at = table + 8 * (virtual >> 12 + 9 * step & 511)
            if not self.read(at):
                self.put(at, self.next_table | bits(self.new, *directory))
                self.next_table += 0x1000
            table = frame(self.new, self.read(at))
        return table + 8 * (virtual >> 12 + 9 * level & 511)

    def map(self, virtual: int, physical: int, *names: str, level: int = 0, root: int | None = None) -> int:
        """Map a page of that level with these bits besides P and VALID (and PS); the address of its entry."""
        at = self.place(virtual, level, root=root)
        self.put(at, physical | bits(self.new, "P", "VALID", *names, *(("PS",) if level else ())))
        return at

    def expected(self, virtual: int, access: int, privileged: bool) -> tuple[set[str], int, int, int]:
        """(faults, level, physical address of the 4 KiB page, size of the page): as the documents say."""
        places = NEW if self.new else OLD
        table, level = self.root_of(virtual), 3
        while True:
            entry = self.read(table + 8 * (virtual >> 12 + 9 * level & 511))

            def has(name: str, entry: int = entry) -> bool:
                return bool(entry >> places[name] & 1)

            if not has("VALID"):
                return {"illegal_page"}, level, 0, 0
            if not has("P"):
                return {"page_miss"}, level, 0, 0
            if level == 0 or has("PS"):
                break
            table, level = frame(self.new, entry), level - 1
        size = page_sizes(self.version).get(level, 0)
        if not size:
            return {"intl_res"}, level, 0, 0
        faults = set()
        if has("PV") and not privileged:
            faults.add("priv_page")
        if access == EXECUTE:
            if has("NX"):
                faults.add("prot_page")
        else:
            if has("INT_PR"):
                faults.add("prot_page")
            if access == WRITE and not has("W"):
                faults.add("nwrite_page")
        physical = frame(self.new, entry) // size * size + virtual % size
        return faults, level, physical // 4096 * 4096, size
