"""A guest may write anything into its MMU and its tables: nothing but page faults comes of it."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest

from e2kemu.cpu.isa import mmuregs
from e2kemu.cpu.mmu import PageFault, info, special
from e2kemu.memory.space import MmioRegion
from tests.cpu.mmu.tables import EXECUTE, KINDS, RAM, READ, WRITE, Tables
from tests.framework.seeds import chosen_seed

NUMBERS = (0, 1, 3, 7, 0xFFF, RAM - 8, RAM, 1 << 31, (1 << 40) - 1, 1 << 47, (1 << 48) - 1, 1 << 63, (1 << 64) - 1)


class Forbidden:
    """A device that page tables must not touch."""

    def mmio_read(self, offset: int, size: int) -> int:
        raise AssertionError(f"read of {offset:#x}")

    def mmio_write(self, offset: int, size: int, value: int) -> None:
        raise AssertionError(f"write of {offset:#x}")


def number(rng: random.Random) -> int:
    return rng.choice(NUMBERS) if rng.random() < 0.3 else rng.getrandbits(rng.choice((12, 16, 20, 40, 48, 64)))


@pytest.mark.parametrize(("version", "new"), KINDS)
def test_any_registers_tables_and_accesses(version: int, new: bool) -> None:
    rng, walks, pages = random.Random(chosen_seed() + version), 0, 0
    for _ in range(40):
        tables = Tables(version, new)
        mmu = tables.mmu
        tables.space.map(0x10_0000, MmioRegion(Forbidden(), 0x1000), "device")
        present = mmu.format.present | mmu.format.valid
        for place in range(0, RAM, 8):
            roll = rng.random()
            if roll < 0.5:
                tables.put(place, rng.getrandbits(16) & ~0x80 | present)        # mostly another table, or a page
            elif roll < 0.7:
                tables.put(place, number(rng) | (present if rng.random() < 0.7 else 0))
        for _ in range(20):
            (mas, address) = rng.choice(list(mmuregs.rows(version)))
            mmu.write_special(mas, address, number(rng))
            mmu.set_core_mode(rng.getrandbits(6))
            mmu.write_register(0, rng.choice((1, 1, 0xFFFF)))
            mmu.write_register(4, rng.choice((0x1000, 0x3000, 0x10_0000, number(rng))))
            for _ in range(6):
                virtual = number(rng)
                walks += 1
                with suppress(PageFault):
                    page = mmu.walk(virtual, rng.choice((READ, WRITE, EXECUTE)), rng.random() < 0.5)
                    pages += 1
                    assert page.physical >> 48 == 0
                    assert not page.physical & 0xFFF
                opc = rng.randrange(16)
                if opc in special.LOADS:
                    assert 0 <= special.load(mmu, opc, number(rng)) < 1 << 64
                if opc in special.STORES and opc != special.MMU_REGISTER:
                    special.store(mmu, opc, number(rng), number(rng))
        assert mmu.image()
        mmu.write_register(0, 1)
        for lines in (info.tlb_lines, info.mem_lines):
            count = 0
            for count, line in enumerate(lines(mmu)):
                assert line
                if count > 2000:
                    break
    assert walks == 4800
    assert pages > 50


def test_a_cellar_that_counts_anything_stays_inside_of_its_area() -> None:
    for count in range(64):
        tables = Tables(4)
        tables.mmu.write_register(5, 0x400)
        tables.mmu.write_register(6, count)
        image = bytes(tables.ram.mem)
        tables.mmu.cellar.record(1, 2, 3)
        changed = [at for at in range(RAM) if image[at] != tables.ram.mem[at]]
        assert all(0x400 <= at < 0x600 for at in changed)
        assert tables.mmu.read_register(6) <= 63
