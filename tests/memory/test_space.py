"""Address spaces: overlap, lookup, pieces of accesses, unassigned addresses, the printed map."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2kemu import trace
from e2kemu.memory.ram import RAMBlock
from e2kemu.memory.space import AddressSpace, MmioRegion, RAMRegion


class Recorder:
    """Registers that are plain bytes and remember every access."""

    def __init__(self, size: int, lock: threading.RLock | None = None) -> None:
        self.bytes, self.log, self.lock = bytearray(size), [], lock

    def mmio_read(self, offset: int, size: int) -> int:
        self.log.append(("r", offset, size))
        return int.from_bytes(self.bytes[offset : offset + size], "little")

    def mmio_write(self, offset: int, size: int, value: int) -> None:
        self.log.append(("w", offset, size))
        self.bytes[offset : offset + size] = value.to_bytes(size, "little")


def small() -> tuple[AddressSpace, RAMBlock, RAMBlock, Recorder]:
    space, io = AddressSpace(), Recorder(64)
    ram, rom = RAMBlock("ram", 0x4000), RAMBlock("rom", 0x1000, readonly=True)
    space.map(0, RAMRegion(ram, 0, 0x2000), "low")
    space.map(0x10000, RAMRegion(ram, 0x2000), "high")
    space.map(0x20000, RAMRegion(rom), "rom")
    space.map(0x30000, MmioRegion(io, 64, max_access=4), "io")
    return space, ram, rom, io


def test_a_block_seen_at_two_places_is_one_memory() -> None:
    space, ram, _rom, _io = small()
    space.write(0x10008, 8, 0x1122334455667788)
    assert ram.read(0x2008, 8) == bytes.fromhex("8877665544332211")
    assert space.read(0x1000C, 4) == 0x11223344
    flat = space.find(0x10FFF)
    assert flat is not None
    assert (flat.block, flat.block_offset, flat.writable) == (ram, 0x2000, True)


def test_unassigned_addresses_read_as_ones_and_are_logged(capsys: pytest.CaptureFixture[str]) -> None:
    space = small()[0]
    trace.set_items("guest_errors")
    try:
        assert space.read(0x8000, 4) == 0xFFFF_FFFF
        space.write(0x8000, 2, 5)
        space.write(0x20010, 4, 7)
    finally:
        trace.set_items("none")
    assert capsys.readouterr().err.splitlines() == [
        "Invalid read at addr 0x8000, size 4, reason: rejected",
        "Invalid write at addr 0x8000, size 2, reason: rejected",
        "Invalid write at addr 0x20010, size 4, region 'rom', reason: read-only",
    ]


def test_the_guest_cannot_change_rom_and_the_host_can() -> None:
    space, _ram, rom, _io = small()
    rom.write(0, b"boot")
    space.write_bytes(0x20000, b"evil evil")
    assert space.read_bytes(0x20000, 6) == b"boot\0\0"


def test_mmio_accesses_are_cut_into_aligned_pieces_of_the_devices_size() -> None:
    space, _ram, _rom, io = small()
    space.write(0x30008, 8, 0x8877665544332211)
    space.write(0x30011, 4, 0xDDCCBBAA)
    assert io.log == [("w", 8, 4), ("w", 12, 4), ("w", 0x11, 1), ("w", 0x12, 2), ("w", 0x14, 1)]
    assert space.read(0x30008, 8) == 0x8877665544332211
    assert space.read(0x30011, 4) == 0xDDCCBBAA
    assert space.read(0x30009, 1) == 0x22


def test_mmio_is_made_with_the_lock_held() -> None:
    lock, held = threading.RLock(), []

    class Device:
        def mmio_read(self, offset: int, size: int) -> int:
            other = threading.Thread(target=lambda: held.append(lock.acquire(blocking=False)))
            other.start()
            other.join()
            return 0

        def mmio_write(self, offset: int, size: int, value: int) -> None:
            self.mmio_read(offset, size)

    space = AddressSpace(lock=lock)
    space.map(0, MmioRegion(Device(), 16), "dev")
    space.read(0, 4)
    space.write(0, 4, 1)
    assert held == [False, False]


def test_an_access_across_the_end_of_a_range_takes_each_byte_from_its_own_place() -> None:
    space, ram, _rom, _io = small()
    ram.write(0x1FFE, b"\x01\x02")
    assert space.read(0x1FFE, 4) == 0xFFFF0201
    space.write(0x1FFC, 8, 0x0807060504030201)
    assert ram.read(0x1FFC, 6) == b"\1\2\3\4\0\0"


def test_the_monitor_reads_and_writes_across_everything() -> None:
    space, ram, _rom, _io = small()
    space.write_bytes(0x30002, b"abcdefgh")
    assert space.read_bytes(0x30002, 8) == b"abcdefgh"
    space.write_bytes(0x1FFE, b"xyz")
    assert ram.read(0x1FFE, 2) == b"xy"
    assert ram.harvest_dirty().nonzero()[0].tolist() == [1]


def test_listeners_hear_addresses_of_every_view_of_a_changed_block() -> None:
    space, ram, _rom, _io = small()
    heard: list[tuple[int, int]] = []
    space.listeners.append(lambda address, size: heard.append((address, size)))
    ram.write(0x1FFF, b"ab")
    assert heard == [(0x1FFF, 1), (0x10000, 1)]


MAPS = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20), st.integers(-1, 2)), min_size=1, max_size=8)


@given(MAPS)
def test_the_flat_view_shows_the_highest_priority_and_of_equals_the_last(
    maps: list[tuple[int, int, int]],
) -> None:
    space = AddressSpace()
    expected: dict[int, tuple[int, int]] = {}
    for number, (base, size, priority) in enumerate(maps):
        space.map(base, MmioRegion(Recorder(32), size), str(number), priority)
        for address in range(base, base + size):
            if expected.get(address, (-9, 0))[0] <= priority:
                expected[address] = (priority, number)
    for address in range(100):
        flat = space.find(address)
        assert (None if flat is None else int(flat.name)) == expected.get(address, (0, None))[1]
        if flat is not None:
            assert flat.offset + address - flat.start == address - maps[int(flat.name)][0]
    assert all(a.end <= b.start for a, b in zip(space.ranges, space.ranges[1:], strict=False))


def test_the_map_is_printed_as_qemu_prints_it() -> None:
    space = small()[0]
    assert space.mtree().splitlines()[:3] == [
        "address-space: memory",
        "  0000000000000000-ffffffffffffffff (prio 0, i/o): system",
        "    0000000000000000-0000000000001fff (prio 0, ram): low",
    ]
    assert space.mtree(flat=True).splitlines()[3:] == [
        "  0000000000000000-0000000000001fff (prio 0, ram): low",
        "  0000000000010000-0000000000011fff (prio 0, ram): high @0000000000002000",
        "  0000000000020000-0000000000020fff (prio 0, rom): rom",
        "  0000000000030000-000000000003003f (prio 0, i/o): io",
    ]
