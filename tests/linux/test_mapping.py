"""Areas of memory against a model that has a dictionary of pages."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2kemu.linux.mapping import PAGE_SIZE, AddressMap, Area, Ram, SharedFile
from e2kemu.memory.ram import RAMBlock

PAGES = 64
START = 16

operations = st.lists(st.tuples(
    st.sampled_from(["map", "unmap", "protect", "store"]), st.integers(START, PAGES - 1), st.integers(1, 12),
    st.integers(0, 7)), max_size=40)


class Listener:
    """Remembers what was said to have changed."""

    def __init__(self) -> None:
        self.changed: set[int] = set()

    def protection_changed(self, first: int, last: int) -> None:
        self.changed |= set(range(first, last + 1))


@settings(max_examples=60, deadline=None)
@given(operations)
def test_pages_are_what_was_last_done_to_them(steps: list[tuple[str, int, int, int]]) -> None:
    listener = Listener()
    areas = AddressMap([Ram(0, RAMBlock("ram", PAGES * PAGE_SIZE))], listener)
    model: dict[int, tuple[int, int]] = {}         # page -> rights, first byte
    for what, first, count, prot in steps:
        last = min(first + count, PAGES)
        start, end = first * PAGE_SIZE, last * PAGE_SIZE
        before = {page: areas.of(page) for page in range(PAGES)}
        listener.changed.clear()
        if what == "map":
            areas.map(Area(start, end, prot))
            model |= dict.fromkeys(range(first, last), (prot, 0))
        elif what == "unmap":
            areas.unmap(start, end)
            for page in range(first, last):
                model.pop(page, None)
        elif what == "protect" and areas.covered(start, end):
            areas.protect(start, end, prot)
            model |= {page: (prot, model[page][1]) for page in range(first, last)}
        elif what == "store" and areas.writable(start, end - start):
            for page in range(first, last):
                areas.store(page * PAGE_SIZE, bytes([prot + 1]))
                model[page] = (model[page][0], prot + 1)
        assert {page for page in range(PAGES) if areas.of(page) != before[page]} <= listener.changed
    for page in range(PAGES):
        prot, byte = model.get(page, (0, 0))
        assert areas.of(page) & 6 == prot & 6
        assert bool(areas.of(page) & 1) == bool(prot)
        if page in model:
            assert areas.load(page * PAGE_SIZE, 1)[0] == byte
    assert all(one.end <= two.start for one, two in zip(areas.areas, areas.areas[1:], strict=False))
    mapped = [page for area in areas.areas for page in range(area.start // PAGE_SIZE, area.end // PAGE_SIZE)]
    assert mapped == sorted(model)


def test_free_places_are_found_from_above_and_do_not_overlap() -> None:
    areas = AddressMap([Ram(0, RAMBlock("ram", PAGES * PAGE_SIZE))])
    places = []
    while (place := areas.find_free(3 * PAGE_SIZE)) is not None:
        areas.map(Area(place, place + 3 * PAGE_SIZE, 3))
        places.append(place)
    assert places == sorted(places, reverse=True)
    assert len(places) == (PAGES - START) // 3


def test_a_shared_file_is_written_back_and_its_descriptor_goes_with_the_last_page(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(2 * PAGE_SIZE + 100))
    areas = AddressMap([Ram(0, RAMBlock("ram", PAGES * PAGE_SIZE))])
    fd, start = os.open(path, os.O_RDWR), START * PAGE_SIZE
    areas.map(Area(start, start + 3 * PAGE_SIZE, 3, str(path), 0, SharedFile(fd, str(path)), mark=True))
    areas.store(start + PAGE_SIZE - 2, b"seam")
    areas.store(start + 3 * PAGE_SIZE - 4, b"lost")
    areas.unmap(start + PAGE_SIZE, start + 3 * PAGE_SIZE)
    os.fstat(fd)
    areas.unmap(start, start + PAGE_SIZE)
    with pytest.raises(OSError):
        os.fstat(fd)
    data = path.read_bytes()
    assert data[PAGE_SIZE - 2 : PAGE_SIZE + 2] == b"seam"
    assert len(data) == 2 * PAGE_SIZE + 100


def test_pages_above_the_ram_belong_to_further_blocks() -> None:
    high = 1 << 40
    areas = AddressMap([Ram(0, RAMBlock("ram", PAGES * PAGE_SIZE)), Ram(high, RAMBlock("high", 4 * PAGE_SIZE))])
    assert areas.backed(high, high + 4 * PAGE_SIZE)
    assert not areas.backed(high, high + 5 * PAGE_SIZE)
    areas.map(Area(high, high + PAGE_SIZE, 5))
    assert (areas.of(high >> 12), areas.of((high >> 12) + 1)) == (5, 0)
    areas.store(high, b"code")
    assert areas.load(high, 4) == b"code"
    areas.unmap(high, high + PAGE_SIZE)
    assert areas.load(high, 4) == bytes(4)
