"""MMU registers, flushes, probes, the trap cellar and their place in a migration stream."""

from __future__ import annotations

import threading

import pytest

from e2kemu import trace
from e2kemu.cpu import atomic
from e2kemu.cpu.isa import mmuregs
from e2kemu.cpu.isa.models import MODELS
from e2kemu.cpu.mmu import Mmu, PageFault, special
from e2kemu.memory.space import AddressSpace
from e2kemu.wire import BytesReader, Writer
from tests.cpu.guest import Guest
from tests.cpu.mmu.tables import KINDS, MODEL, READ, WRITE, Tables, bits

WHOLE = (0, (1 << 52) - 1)
ONES = (1 << 64) - 1


@pytest.mark.parametrize("version", [2, 3, 4, 5, 6])
def test_every_register_keeps_the_bits_it_has(version: int) -> None:
    rows = mmuregs.rows(version)
    assert len(rows) >= 135
    for (mas, address), row in rows.items():
        mmu = Mmu(MODELS[MODEL[version]], AddressSpace())
        assert mmu.read_special(mas, address) == row.reset
        mmu.write_special(mas, address, ONES)
        if not row.writable_since:
            assert mmu.read_special(mas, address) == 0
            continue
        assert mmu.read_special(mas, address) == row.bits, row.name
        mmu.write_special(mas, address, 0)
        assert mmu.is_reset == (row.reset == 0), row.name
        mmu.reset()
        assert mmu.read_special(mas, address) == row.reset


def test_what_a_version_does_not_have_reads_as_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    mmu = Mmu(MODELS["e2c+"], AddressSpace())
    mmu.write_register(0x35, ONES)
    assert mmu.read_register(0x35) == 0
    assert mmu.read_register(0x7F) == 0


def test_the_layout_of_registers_that_the_documents_give() -> None:
    for version, mask in ((3, 0xFF_FFFF_FE00), (4, 0xFF_FFFF_FC00), (6, 0xFFFF_FFFF_FC00)):
        mmu = Mmu(MODELS[MODEL[version]], AddressSpace())
        mmu.write_register(5, ONES)
        assert mmu.read_register(5) == mask
        mmu.write_register(1, ONES)
        assert mmu.read_register(1) == 0xFFF
        mmu.write_register(3, ONES)
        assert mmu.read_register(3) == 0xFF80_0000_0000
        assert mmu.read_register(0xD) == 0xFEE0_0000


def test_a_change_of_what_is_translated_is_told_once() -> None:
    for number, value in ((0, 0), (1, 7), (4, 0x8000)):
        tables, told = Tables(5), []
        tables.mmu.on_change = lambda first, last, told=told: told.append((first, last))
        tables.mmu.write_register(number, value)
        assert told == [WHOLE], number
        tables.mmu.write_register(number, value)
        tables.mmu.write_register(5, 0x4000)
        assert told == [WHOLE], number


def test_a_flush_reaches_the_whole_of_the_largest_page_met() -> None:
    tables, told = Tables(5), []
    tables.mmu.on_change = lambda first, last: told.append((first, last))
    tables.mmu.flush_page(0xD000_1234_5678)
    tables.map(0x4000_0000, 0x20_0000, level=1)
    tables.mmu.walk(0x4000_0000, READ, True)
    tables.mmu.flush_page(0xD000_1234_5678)
    tables.map(0x8000_0000, 0x4000_0000, level=2)
    tables.mmu.walk(0x8000_0000, READ, True, mark=False)
    tables.mmu.flush_page(0xABCD_D000_1234_5678)
    tables.mmu.walk(0x8000_0000, READ, True)
    tables.mmu.flush_page(0xD000_1234_5678)
    tables.mmu.flush_all()
    tables.mmu.flush_page(0x1000)
    assert told == [
        (0xD00012345, 0xD00012345), (0xD00012200, 0xD000123FF), (0xD00012200, 0xD000123FF), (0xD00000000, 0xD0003FFFF),
        WHOLE, (1, 1)]


def test_special_stores_flush_as_linux_does() -> None:
    """The address is the operation, the value the page with its context."""
    tables, told = Tables(4), []
    tables.mmu.on_change = lambda first, last: told.append((first, last))
    flush = 0x5 << 50 | 0xD000_1234_5000
    for opc, address, value in ((2, 0, flush), (2, 2, flush), (4, 0, 0), (0, 1, 0), (1, 0x5000, 0)):
        special.store(tables.mmu, opc, address, value)
    assert not told
    special.store(tables.mmu, 2, 1, flush)
    special.store(tables.mmu, 2, 3, flush)
    special.store(tables.mmu, 4, 1, 0)
    assert told == [(0xD00012345, 0xD00012345)] * 2 + [WHOLE]


@pytest.mark.parametrize(("version", "new"), KINDS)
def test_probes_tell_the_entry_or_why_there_is_none(version: int, new: bool) -> None:
    tables = Tables(version, new)
    mmu = tables.mmu
    names = ("W", "D", "G", "NWA", "PV", "INT_PR", "NX", "A")
    at = tables.map(0x1234_5000, 0x7000, *names)
    got = special.load(mmu, 6, 0x1234_5678)
    if new:
        assert got == 0x7000 | 1 << 7 | bits(True, "W", "D", "G", "NWA", "PV", "INT_PR", "NX", "VALID")
    else:
        assert got == 0x7000 | 1 << 2 | bits(False, "W", "D", "G", "NWA", "PV", "INT_PR", "VALID")
    assert special.load(mmu, 5, 0x1234_5678) == 0x7678
    tables.put(at, bits(new, "VALID"))
    missing = special.load(mmu, 6, 0x1234_5678)
    assert missing == (1 << 61 | 1 if new else 1 << 61)
    assert special.load(mmu, 5, 0x1234_5678) == missing
    assert special.load(mmu, 6, 0x5234_5678_9000) == (1 << 62 | 4 if new else 1 << 62 | 3 << 59)
    assert tables.read(at) == bits(new, "VALID"), "a probe marks nothing"
    mmu.write_register(0, 0)
    off = special.load(mmu, 6, 0x1234_5678)
    assert off & ~0xFFF == 0x1234_5000 if new else off == 1 << 58


@pytest.mark.parametrize("version", [3, 4, 6])
def test_records_of_the_cellar_lie_in_memory_one_behind_the_other(version: int) -> None:
    tables = Tables(version)
    mmu = tables.mmu
    mmu.write_register(5, 0x3C00)
    records = [(0x1000 + i, i << 32, 1 << 63 | i) for i in range(21)]
    tables.ram.dirty[:] = 0
    for record in records:
        assert mmu.cellar.record(*record)
    assert tables.ram.dirty[3]
    assert mmu.read_register(6) == mmu.cellar.count == 63
    assert not mmu.cellar.record(1, 2, 3)
    assert mmu.cellar.records() == records
    assert [tables.read(0x3C00 + 8 * i) for i in range(63)] == [word for record in records for word in record]
    mmu.write_register(6, 0)
    assert not mmu.cellar.records()
    assert mmu.cellar.record(1, 2, 3)
    assert tables.read(0x3C00) == 1


@pytest.mark.parametrize("model", ["e8c", "e16c"])
def test_the_registers_travel_in_a_subsection_of_their_own(model: str) -> None:
    source, target = Guest(model=model), Guest(model=model)
    plain = Writer()
    source.cpu.section().save(plain)
    assert b"cpu/mmu" not in plain.getvalue()
    source.cpu.core.write_sreg(4, 1 << 5)
    for number, value in ((0, 1), (1, 5), (4, 0x1000), (5, 0x4000), (0x10, 0x1234)):
        source.cpu.mmu.write_register(number, value)
    source.cpu.mmu.write_special(0x6F, 0x24, 0x8000)
    told = []
    target.cpu.mmu.on_change = lambda first, last: told.append((first, last))
    full = Writer()
    source.cpu.section().save(full)
    assert b"cpu/mmu" in full.getvalue()
    section = target.cpu.section()
    section.load(BytesReader(full.getvalue()), section.version)
    assert target.cpu.mmu.values == source.cpu.mmu.values
    assert target.cpu.mmu.format is source.cpu.mmu.format
    assert target.cpu.mmu.on
    assert told == [WHOLE]
    section.load(BytesReader(plain.getvalue()), section.version)
    assert target.cpu.mmu.is_reset
    assert not target.cpu.mmu.on


def test_a_cpu_reset_switches_translation_off() -> None:
    guest = Guest()
    guest.cpu.mmu.write_register(0, 1)
    guest.cpu.reset()
    assert guest.cpu.mmu.is_reset
    assert guest.cpu.mmu.walk(0x5000, WRITE, False).physical == 0x5000


def test_a_page_taken_away_while_it_is_marked_is_walked_again() -> None:
    """Another CPU changes the entry between the look at it and the mark."""
    tables = Tables(4)
    at = tables.map(0x1000, 0x5000, "W")
    plain = tables.mmu.entry

    def late(place: int) -> int:
        found = plain(place)
        if place == at:
            tables.put(at, 0)
        return found

    tables.mmu.entry = late  # type: ignore[method-assign]
    with pytest.raises(PageFault):
        tables.mmu.walk(0x1000, WRITE, True)
    assert tables.read(at) == 0


def test_marks_of_threads_that_change_the_same_entry_are_not_lost() -> None:
    """One thread sets dirty bits, another one counts in the software bits of the same entry."""
    tables = Tables(4)
    at = tables.map(0x1000, 0x5000, "W")
    address = tables.ram.view.ctypes.data + at
    done = walks = 0

    def count() -> None:
        nonlocal done
        while done < 3000 or (walks < 100 and done < 60_000):
            old = tables.read(at)
            done += atomic.exchange_if(address, 8, old, (old & ~0x60) + (1 << 48))

    other = threading.Thread(target=count)
    other.start()
    while other.is_alive():
        assert tables.mmu.walk(0x1000, WRITE, True).physical == 0x5000
        walks += 1
    other.join()
    assert walks >= 100
    assert tables.read(at) >> 48 == done


def test_the_log_item_mmu_tells_what_happens(capsys: pytest.CaptureFixture[str]) -> None:
    tables = Tables(4)
    trace.set_items("mmu")
    try:
        tables.mmu.write_register(1, 7)
        tables.mmu.flush_page(0x5678)
        tables.mmu.flush_all()
        tables.mmu.write_register(5, 0x4000)
        tables.mmu.cellar.record(0x1000, 2, 3)
        with pytest.raises(PageFault):
            tables.mmu.walk(0x1234, WRITE, True)
    finally:
        trace.set_items("none")
    assert capsys.readouterr().err.splitlines() == [
        "MMU: %cont = 0x7", "MMU: flush of page 0x5678", "MMU: flush of the TLB", "MMU: %trap_point = 0x4000",
        "MMU: %trap_count = 0x3", "MMU: trap cellar: 0x1000 0x2 0x3", "MMU: store to 0x1234: illegal_page, level 3"]
