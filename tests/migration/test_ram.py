"""The RAM section: whatever the pages hold and whenever they change, the other side ends up with the same."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2kemu.migration.qemufile import StreamReader, StreamWriter
from e2kemu.migration.ram import BATCH_PAGES, Flag, RamSaver
from e2kemu.migration.ram_load import RamLoader
from e2kemu.migration.statistics import RamCounters
from e2kemu.migration.stream_ram import RamWalker
from e2kemu.wire import BytesReader
from tests.migration.toy import PAGE, ToyMachine


class Memory:
    """Both ends of a stream in memory; reads come in pieces of ``chunk`` bytes."""

    def __init__(self, chunk: int = 1 << 20) -> None:
        self.data = bytearray()
        self._at, self._chunk = 0, chunk

    def writev(self, buffers: list[bytes]) -> None:
        for buffer in buffers:
            self.data += buffer

    def readinto(self, buffer: memoryview) -> int:
        size = min(len(buffer), self._chunk, len(self.data) - self._at)
        buffer[:size] = self.data[self._at : self._at + size]
        self._at += size
        return size


PAGES = 48


@pytest.fixture
def pair() -> Iterator[tuple[ToyMachine, ToyMachine]]:
    machines = ToyMachine(PAGES * PAGE), ToyMachine(PAGES * PAGE, incoming=True)
    yield machines
    for machine in machines:
        machine.close()


def section(saver: RamSaver, out: StreamWriter, limit: int) -> None:
    while saver.save_pages(out, limit):
        pass
    out.be64(Flag.EOS)
    out.flush()


# Per page and round: None leaves it alone, 0 clears it, anything else fills it.
ROUNDS = st.lists(
    st.lists(st.tuples(st.integers(0, PAGES - 1), st.integers(0, 255)), max_size=PAGES),
    min_size=1,
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(
    rounds=ROUNDS, limit=st.sampled_from([1, 3 * PAGE, 1 << 20]), chunk=st.sampled_from([997, 65536, 1 << 20])
)
def test_any_writes_in_any_round_arrive(rounds: list[list[tuple[int, int]]], limit: int, chunk: int) -> None:
    source, destination = ToyMachine(PAGES * PAGE), ToyMachine(PAGES * PAGE, incoming=True)
    destination.ram.view[:] = 0xAA  # what was there before must go
    wire = Memory(chunk)
    out, counters = StreamWriter(wire), RamCounters()
    saver = RamSaver(source, counters)
    saver.start_tracking()
    saver.save_setup(out)
    for writes in rounds:
        for page, value in writes:
            source.ram.write(page * PAGE, bytes([value]) * PAGE)
        saver.sync()
        section(saver, out, limit)
    reader, loader = StreamReader(wire, size=1 << 16), RamLoader(destination.ram_blocks)
    for _ in range(len(rounds) + 1):
        loader.load(reader)
    assert reader.at_end()
    assert (source.ram.view == destination.ram.view).all()
    assert counters.remaining == 0
    assert counters.dirty_sync_count == len(rounds) + 1
    # The independent walker sees the same memory and the same number of pages.
    memory: dict[str, bytearray] = {}
    walker, raw = RamWalker(memory=memory), BytesReader(bytes(wire.data))
    bodies = [walker.walk(raw) for _ in range(len(rounds) + 1)]
    assert bytes(memory["toy.ram"]) == source.ram.view.tobytes()
    assert sum(body.counts["PAGE"] for body in bodies) == counters.normal
    assert sum(body.counts["ZERO"] for body in bodies) == counters.duplicate
    for machine in (source, destination):
        machine.close()


def test_the_bytes_are_those_of_the_format(pair: tuple[ToyMachine, ToyMachine]) -> None:
    source, _ = pair
    source.ram.view[PAGE : 2 * PAGE] = 7
    wire = Memory()
    out = StreamWriter(wire)
    saver = RamSaver(source, RamCounters())
    saver.save_setup(out)
    section(saver, out, 1 << 20)
    total = PAGES * PAGE + 16 * PAGE
    expected = (total | 4).to_bytes(8, "big")
    expected += b"\x07toy.ram" + (PAGES * PAGE).to_bytes(8, "big")
    expected += b"\x07toy.rom" + (16 * PAGE).to_bytes(8, "big") + (0x10).to_bytes(8, "big")
    expected += (0x02).to_bytes(8, "big") + b"\x07toy.ram" + b"\0"
    for page in range(2, PAGES):
        expected += (page * PAGE | 0x22).to_bytes(8, "big") + b"\0"
    expected += (PAGE | 0x28).to_bytes(8, "big") + b"\x07" * PAGE
    expected += (0x02).to_bytes(8, "big") + b"\x07toy.rom" + b"\0"
    for page in range(1, 16):
        expected += (page * PAGE | 0x22).to_bytes(8, "big") + b"\0"
    expected += (0x10).to_bytes(8, "big")
    assert bytes(wire.data) == expected


def test_without_zero_page_detection_every_page_is_sent_whole(pair: tuple[ToyMachine, ToyMachine]) -> None:
    source, _ = pair
    counters = RamCounters()
    saver = RamSaver(source, counters, lambda: False)
    section(saver, StreamWriter(Memory()), 1 << 20)
    assert counters.duplicate == 0
    assert counters.normal == PAGES + 16


def test_zero_pages_do_not_touch_memory_that_is_zero(pair: tuple[ToyMachine, ToyMachine]) -> None:
    """A page that was never used must not become used by being told that it is zero."""
    source, destination = pair
    wire = Memory()
    out = StreamWriter(wire)
    saver = RamSaver(source, RamCounters())
    saver.save_setup(out)
    section(saver, out, 1 << 20)
    destination.ram.view.flags.writeable = False  # a store would raise
    loader, reader = RamLoader(destination.ram_blocks), StreamReader(wire)
    loader.load(reader)
    loader.load(reader)
    destination.ram.view.flags.writeable = True


def test_a_page_written_while_it_is_sent_is_sent_again() -> None:
    source = ToyMachine(4 * BATCH_PAGES * PAGE)
    source.ram.view[:] = 1
    wire = Memory()
    out, counters = StreamWriter(wire), RamCounters()
    saver = RamSaver(source, counters)
    saver.start_tracking()
    assert saver.save_pages(out, 1 << 30)
    source.ram.write(0, b"new")  # sent already
    source.ram.write(3 * BATCH_PAGES * PAGE, b"new")  # not sent yet
    section(saver, out, 1 << 30)
    assert counters.remaining == 0
    saver.sync()
    assert counters.remaining == 2 * PAGE
    source.close()


def test_records_that_overlap_in_one_run_are_taken_in_their_order(
    pair: tuple[ToyMachine, ToyMachine],
) -> None:
    _, destination = pair
    wire = Memory()
    out = StreamWriter(wire)
    out.be64(5 * PAGE | Flag.PAGE)
    out.string8("toy.ram")
    out.raw(b"\x01" * PAGE)
    for value in (2, 3, 4):
        out.be64(5 * PAGE | Flag.PAGE | Flag.CONTINUE)
        out.raw(bytes([value]) * PAGE)
    out.be64(Flag.EOS)
    out.flush()
    RamLoader(destination.ram_blocks).load(StreamReader(wire))
    assert np.unique(destination.ram.view[5 * PAGE : 6 * PAGE]).tolist() == [4]
