"""RAM blocks and their dirty log."""

from __future__ import annotations

import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2kemu.memory.ram import RAMBlock


def test_a_block_larger_than_the_host_costs_nothing_until_it_is_touched() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    block = RAMBlock("big", 64 << 30)
    block.write(60 << 30, b"here")
    assert block.read((60 << 30) - 2, 8) == b"\0\0here\0\0"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10      # KiB
    assert block.harvest_dirty().nonzero()[0].tolist() == [(60 << 30) // 4096]


@pytest.mark.parametrize("size", [0, -4096, 100, 4097])
def test_a_size_that_is_not_whole_pages_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="RAM block x"):
        RAMBlock("x", size)


@given(st.lists(st.tuples(st.integers(0, 16383), st.binary(max_size=9000)), max_size=8))
def test_writes_mark_exactly_the_pages_they_touch(writes: list[tuple[int, bytes]]) -> None:
    block, shadow, pages = RAMBlock("x", 16384), bytearray(16384), set()
    for offset, data in writes:
        if offset + len(data) > 16384:
            with pytest.raises(ValueError, match="do not fit x"):
                block.write(offset, data)
            continue
        block.write(offset, data)
        shadow[offset : offset + len(data)] = data
        pages |= {at // 4096 for at in range(offset, offset + len(data))}
    assert block.read(0, 16384) == shadow == block.view.tobytes() == bytes(block.mem)
    assert set(block.harvest_dirty().nonzero()[0].tolist()) == pages
    assert not block.harvest_dirty().any()


def test_listeners_hear_what_changed() -> None:
    block, heard = RAMBlock("x", 8192), []
    block.listeners.append(lambda offset, size: heard.append((offset, size)))
    block.write(4095, b"ab")
    block.write(0, b"")
    block.view[:2] = 7
    block.changed(0, 2)
    assert heard == [(4095, 2), (0, 2)]
