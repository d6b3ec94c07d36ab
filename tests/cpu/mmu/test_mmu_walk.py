"""Walks of page tables against the documents: every version, page size and protection."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2kemu.cpu.mmu import PageFault
from tests.cpu.mmu.tables import (
    CORE_MODE_PT_V6,
    CORE_MODE_SEP,
    EXECUTE,
    FAULTS,
    KINDS,
    NEW,
    OLD,
    READ,
    WRITE,
    Tables,
    bits,
    page_sizes,
)

ALL = READ | WRITE | EXECUTE
FLAGS = ("W", "A", "D", "G", "NWA", "PV", "INT_PR", "NX")


def names_of(fault: PageFault) -> set[str]:
    assert not fault.fault_type & ~sum(1 << bit for bit in FAULTS.values())
    return {name for name, bit in FAULTS.items() if fault.fault_type >> bit & 1}


def fill(tables: Tables, virtual: int, chain: list[tuple[set[str], int, int, int, int]]) -> None:
    """An entry of each level for an address."""
    table, kept = tables.root, (1 << 48 if tables.new else 1 << 40) - 1
    for level, (chosen, physical, present, valid, huge) in zip((3, 2, 1, 0), chain, strict=True):
        names = [*chosen, *(["P"] if present else []), *(["VALID"] if valid else []), *(["PS"] if not huge else [])]
        target = physical if level == 0 or not huge else table + 0x1000
        tables.put(table + 8 * (virtual >> 12 + 9 * level & 511), target & kept | bits(tables.new, *names))
        table += 0x1000


def compare(tables: Tables, virtual: int, access: int, privileged: bool) -> None:
    """One walk without marks, one with: what is found, what is in memory afterwards."""
    faults, level, physical, size = tables.expected(virtual, access, privileged)
    mmu, places = tables.mmu, NEW if tables.new else OLD
    image = bytes(tables.ram.mem)
    if faults:
        for mark in (False, True):
            with pytest.raises(PageFault) as caught:
                mmu.walk(virtual, access, privileged, mark=mark)
            found = caught.value
            assert (names_of(found), found.level) == (faults, level)
            assert (found.virtual, found.access) == (virtual, access)
            assert found.condition == sum(1 << FAULTS[name] for name in faults) | level << 48
            assert bytes(tables.ram.mem) == image
        return
    page = mmu.walk(virtual, access, privileged, mark=False)
    assert (page.physical, page.size) == (physical, size)
    assert bytes(tables.ram.mem) == image
    tables.ram.dirty[:] = 0
    marked = mmu.walk(virtual, access, privileged)
    assert (marked.physical, marked.size, marked.is_global) == (physical, size, bool(page.entry >> places["G"] & 1))
    wanted = page.entry | bits(tables.new, "A", *(("D",) if access == WRITE else ()))
    assert tables.read(marked.place) == wanted == marked.entry
    assert bool(tables.ram.dirty[marked.place >> 12]) == (wanted != page.entry)
    tables.put(marked.place, page.entry)
    assert bytes(tables.ram.mem) == image
    assert marked.rights & access
    for other in (READ, WRITE, EXECUTE):
        fine = not tables.expected(virtual, other, privileged)[0]
        if other == WRITE:
            fine = fine and bool(wanted >> places["D"] & 1)
        assert bool(marked.rights & other) == fine, other


@pytest.mark.parametrize(("version", "new"), KINDS)
def test_every_protection_of_every_page_size_is_what_the_documents_say(version: int, new: bool) -> None:
    tried = 0
    for level in page_sizes(version):
        tables, virtual = Tables(version, new), 0x1234_5678_9ABC
        for chosen in itertools.product((False, True), repeat=len(FLAGS)):
            tables.map(virtual, 0x1_4060_3000, *itertools.compress(FLAGS, chosen), level=level)
            for access, privileged in itertools.product((READ, WRITE, EXECUTE), (False, True)):
                compare(tables, virtual, access, privileged)
                tried += 1
    assert tried >= 2 * 256 * 6


entries = st.builds(
    lambda chosen, pfn, present, valid, huge: (chosen, pfn << 12, present, valid, huge),
    st.sets(st.sampled_from(FLAGS)), st.integers(0, (1 << 36) - 1), st.integers(0, 9), st.integers(0, 9),
    st.integers(0, 4))


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, (1 << 48) - 1), st.lists(entries, min_size=4, max_size=4),
       st.sampled_from((READ, WRITE, EXECUTE)), st.booleans())
def test_a_walk_through_any_entries_is_what_the_documents_say(
        kind: tuple[int, bool], virtual: int, chain: list[tuple[set[str], int, int, int, int]], access: int,
        privileged: bool) -> None:
    tables = Tables(*kind)
    fill(tables, virtual, chain)
    compare(tables, virtual, access, privileged)


@pytest.mark.parametrize(("version", "new"), KINDS)
def test_bits_above_the_48th_of_an_address_do_not_count(version: int, new: bool) -> None:
    tables = Tables(version, new)
    tables.map(0xD000_0000_0000, 0x5000)
    assert tables.mmu.walk(0xABCD_D000_0000_0123, READ, True).physical == 0x5000


@pytest.mark.parametrize("version", [2, 3, 4, 5, 6])
def test_translation_off_is_the_identity(version: int) -> None:
    tables = Tables(version)
    tables.mmu.write_register(0, 0)
    for privileged in (False, True):
        page = tables.mmu.walk(0x1_2345_6789, WRITE, privileged)
        assert (page.physical, page.rights) == (0x1_2345_6000, ALL)


def test_directories_forbid_nothing() -> None:
    """Linux marks all of them privileged and not executable, and user code runs below them."""
    for version, new in KINDS:
        tables = Tables(version, new)
        tables.place(0x40_0000, 0, ("P", "VALID", "PV", "NX"))
        tables.map(0x40_0000, 0x7000)
        assert tables.mmu.walk(0x40_0000, EXECUTE, False).physical == 0x7000


def test_the_table_of_tables_is_seen_at_its_linear_address() -> None:
    """A root entry that points to the root: at %u_vptb the tables themselves are pages."""
    for version, new in KINDS:
        tables = Tables(version, new)
        vptb = 0xFF80_0000_0000
        tables.put(tables.root + 8 * (vptb >> 39), tables.root | bits(new, "P", "VALID", "W", "PV", "NX"))
        virtual = 0x1234_5678_9000
        place = tables.map(virtual, 0x5000, "W")
        linear = vptb | virtual >> 12 << 3
        page = tables.mmu.walk(linear, READ, True, mark=False)
        assert page.physical | linear & 0xFFF == place
        pmd = vptb | vptb >> 9 & (1 << 39) - 1 | virtual >> 21 << 3
        assert tables.mmu.walk(pmd, READ, True, mark=False).physical | pmd & 0xFFF == tables.place(virtual, 1)
        root = vptb | vptb >> 9 | vptb >> 18 | vptb >> 27
        assert tables.mmu.walk(root & (1 << 48) - 1 & ~0xFFF, READ, True, mark=False).physical == tables.root
        with pytest.raises(PageFault):
            tables.mmu.walk(linear, READ, False)


def test_separate_spaces_have_their_roots_on_both_sides_of_os_vab() -> None:
    tables = Tables(6, True)
    mmu = tables.mmu
    mmu.set_core_mode(CORE_MODE_PT_V6 | CORE_MODE_SEP)
    mmu.write_register(0x35, 0x8000)
    mmu.write_register(0x4C, 0xD000_0000_0000)
    tables.map(0x1000, 0x5000)
    tables.map(0xD000_0000_1000, 0x6000, root=0x8000)
    assert mmu.walk(0x1000, READ, True).physical == 0x5000
    assert mmu.walk(0xD000_0000_1000, READ, True).physical == 0x6000
    with pytest.raises(PageFault):
        mmu.walk(0xD000_0000_0000 - 0x1000, READ, True)
    mmu.set_core_mode(CORE_MODE_PT_V6)
    with pytest.raises(PageFault):
        mmu.walk(0xD000_0000_1000, READ, True)


def test_a_speculative_load_traps_only_for_a_page_that_will_come() -> None:
    tables = Tables(4)
    at = tables.map(0x1000, 0x5000)
    tables.put(at, bits(False, "VALID"))
    with pytest.raises(PageFault) as missing:
        tables.mmu.walk(0x1000, READ, True)
    tables.put(at, 0)
    with pytest.raises(PageFault) as illegal:
        tables.mmu.walk(0x1000, READ, True)
    assert missing.value.is_deferred
    assert not illegal.value.is_deferred
    assert missing.value.is_missing
    assert illegal.value.is_missing


def test_exceptions_of_instruction_and_data_faults() -> None:
    tables = Tables(4)
    tables.map(0x1000, 0x5000, "NX", "PV")
    found = []
    tried = ((0x2000, READ, 1), (0x2000, EXECUTE, 1), (0x1000, EXECUTE, 1), (0x1000, READ, 0))
    for virtual, access, privileged in tried:
        with pytest.raises(PageFault) as caught:
            tables.mmu.walk(virtual, access, privileged)
        found.append(caught.value.exc)
    assert found == [29, 20, 21, 29]


def test_tables_outside_of_memory_are_empty_ones() -> None:
    tables = Tables(4)
    tables.mmu.write_register(4, 0x80_0000_0000)
    with pytest.raises(PageFault) as caught:
        tables.mmu.walk(0, READ, True)
    assert names_of(caught.value) == {"illegal_page"}


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, (1 << 48) - 1), st.lists(entries, min_size=4, max_size=4),
       st.sampled_from((READ, WRITE, EXECUTE)), st.integers(0, 1))
def test_the_description_for_native_code_finds_what_the_walk_finds(
        kind: tuple[int, bool], virtual: int, chain: list[tuple[set[str], int, int, int, int]], access: int,
        privileged: int) -> None:
    """The walk that ``NativeParameters`` describes, word by word: it may ask, but what it answers is right."""
    tables = Tables(*kind)
    mmu = tables.mmu
    fill(tables, virtual, chain)
    for attempt in range(2):
        p = mmu.native_parameters()
        assert p.on
        va = virtual & p.virtual_mask
        at = p.high_root if va >= p.boundary else p.low_root
        answer = None
        for shift, page_shift in p.levels:
            entry = tables.read(at + 8 * (va >> shift & 511))
            if entry & p.needed != p.needed:
                break
            if shift == p.levels[-1][0] or entry & p.huge:
                need, forbidden = p.checks[access][privileged]
                if page_shift and page_shift <= p.largest and entry & need == need and not entry & forbidden:
                    inside = (1 << page_shift) - 1
                    answer = entry & p.frame & ~inside | va & inside & ~0xFFF
                break
            at = entry & p.frame
        try:
            page = mmu.walk(virtual, access, privileged)
        except PageFault:
            assert answer is None
            return
        if answer is not None:
            assert answer == page.physical
        else:
            assert attempt == 0, "after a walk has marked the entry native code can do it"
